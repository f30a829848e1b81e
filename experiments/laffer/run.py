"""Does a smarter miner make a contrastive student worse (zELO, Figure 1), and is the zELO student free of it?

    python experiments/laffer/run.py --collections FOLDER [--student map layers] [--names tatqa mtragun python_docs cosqa] [--seeds 3]
    python experiments/laffer/run.py --table        # figures from runs.jsonl into results.jsonl, and the curve

Every run is one line of runs.jsonl in --work; those that are there are not repeated. See README.md for what is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from material import MINERS, Collection, examples, hidden_share, judged, open_material
from student import Bench, evaluate, layer_bench, map_bench, train
from table import write_table

SYSTEMS = {
    **dict.fromkeys(MINERS, "infonce"),
    **{"mixed": "infonce", "clean": "infonce", "filtered": "infonce"},
    **{"zelo-mse": "mse", "zelo-kl": "listwise_kl", "spread-mse": "mse", "spread-kl": "listwise_kl"},
}
JUDGED = {s for s in SYSTEMS if s in ("judges", "filtered") or SYSTEMS[s] != "infonce"}
RATES = {"map": (3e-4, 1e-3), "layers": (1e-4,)}  # all of them for every system and seed: nothing is chosen
EPOCHS = {"map": 5, "layers": 2}
LAYERS, TOKENS = 2, 64  # trained layers; tokens of a text that the students with trained layers read
MOST = {"map": (520, 1700), "layers": (200, 300)}  # training and test queries


def pool(found: Collection) -> list[str]:
    """Documents that students with trained layers rank: what any leg has among its 10 best, and the labeled ones."""
    kept = {d for q in found.test for leg in ("bm25", "dense") for d in found.rankings[q][leg][:10]}
    return [d for d in found.texts if d in kept | {d for g in found.gains.values() for d in g}]


def bench_of(found: Collection, kind: str, seeds: int) -> tuple[Bench, Bench]:
    """Return what students learn on, and what they are measured on."""
    if kind == "map":
        bench = map_bench(found)
        return bench, bench
    ranked = pool(found)
    needed = {d for q in found.train for leg in found.rankings[q].values() for d in leg[:50]}
    for seed in range(seeds):
        needed |= {d for e in examples(found, "random", {q: {} for q in found.train}, seed) for d in e.doc_ids}
    bench = layer_bench(found, [d for d in found.texts if d in needed | set(ranked)], LAYERS, TOKENS)
    return bench, Bench({d: bench.documents[d] for d in ranked}, bench.queries, bench.fresh)


def runs(found: Collection, kind: str, systems: list[str], seeds: int, path: Path) -> None:
    """Train and measure every system with every seed and rate."""
    lines = path.read_text().splitlines() if path.exists() else []
    done = {(r["student"], r["collection"], r["system"], r["seed"], r.get("rate")) for r in map(json.loads, lines)}
    learn, measure = bench_of(found, kind, seeds)
    test = {q: found.gains[q] for q in found.test}
    common = {"student": kind, "collection": found.name, "train": len(found.train), "documents": len(measure.documents)}

    def write(**row: object) -> None:
        with path.open("a") as file:
            file.write(json.dumps({**common, **row}) + "\n")

    if (kind, found.name, "untrained", 0, None) not in done:
        write(system="untrained", seed=0, ndcg=np.round(evaluate(measure, learn.fresh().eval(), test), 4).tolist())
    for seed in range(seeds):
        scores = judged(found, seed) if set(systems) & JUDGED else {q: {} for q in found.train}
        for system, rate in product(systems, RATES[kind]):
            if (kind, found.name, system, seed, rate) in done:
                continue
            start, made = time.process_time(), examples(found, system, scores, seed)
            values = evaluate(measure, train(learn, made, SYSTEMS[system], rate, EPOCHS[kind], seed), test)
            seconds, hidden = round(time.process_time() - start, 1), round(hidden_share(found, made), 4)
            numbers = {"hidden": hidden, "rows": sum(len(e.doc_ids) for e in made), "cpu_seconds": seconds}
            write(system=system, seed=seed, rate=rate, **numbers, ndcg=np.round(values, 4).tolist())
            print(
                kind, found.name, seed, f"{system:<9}", f"{values.mean():.4f}  hidden {hidden:.3f}  rate {rate:g}  {seconds} s", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--collections", type=Path, default=Path("../shared/collections"))
    parser.add_argument("--names", nargs="+", default=["tatqa", "mtragun", "python_docs", "cosqa"])
    parser.add_argument("--student", nargs="+", choices=["map", "layers"], default=["map", "layers"])
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("workspaces/laffer"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    path, here = options.work / "runs.jsonl", Path(__file__).parent
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if options.table:
        return write_table(path, here)
    for kind in options.student:
        for name in options.names:
            source = name if name == "python_docs" else str(options.collections / name)
            found = open_material(source, *MOST[kind], cache=options.work / f"{name}.npy")
            runs(found, kind, options.systems, options.seeds, path)


if __name__ == "__main__":
    main()
