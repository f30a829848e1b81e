"""Does the score step pay? Students that learn from fitted scores against students that learn from the same votes directly.

    python experiments/losses/run.py synthetic [--seeds 3]
    python experiments/losses/run.py real --collections FOLDER [--names tatqa mtragun] [--seeds 3]
    python experiments/losses/run.py table

`mse`, `bce`, `ranknet` and `listwise_kl` see targets made of Thurstone scores that were fitted to the votes; `pairs` (direct
pair distillation, arXiv 2507.04820) sees the votes. Votes of one pair are the mean of three judges. The axis is votes
per query; more pairs contain the fewer. Each run is a line of runs.jsonl in --work, and those that are there are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "laffer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit, ndtr
from scipy.stats import spearmanr
from summary import summarize

from zelo.core.calibration import targets
from zelo.core.comparison_graph import hamiltonian_cycles, rng_for
from zelo.core.paired_comparison import Batch, fit_queries
from zelo.training.losses import LOSSES, pair_targets

NAMES = ("mse", "bce", "ranknet", "listwise_kl", "pairs")
JUDGES = 3.0
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass
class Votes:
    """Comparisons of a query's n documents: numbers of two documents, P(first is better) by the judges' votes [m]."""

    n: int
    first: Ints
    second: Ints
    prob: Floats

    def head(self, count: int) -> Votes:
        """The first so many."""
        return Votes(self.n, self.first[:count], self.second[:count], self.prob[:count])

    def targets(self) -> Floats:
        """Targets of the fitted scores [n]."""
        rows, weight = [0, len(self.first)], np.full(len(self.first), JUDGES)
        fit = fit_queries(Batch([self.n], rows, self.first, self.second, self.prob, weight=weight), threads=1, stderr=False)
        return targets(fit.score)


def design(n: int, degree: int, seed: int, query_id: str) -> Ints:
    """Cycles of pairs [n degree / 2, 2]; the first cycle begins with n / 2 pairs that share no document."""
    pairs = hamiltonian_cycles(n, degree, rng_for(seed, query_id, "losses"))
    return np.concatenate([pairs[:n:2], pairs[1:n:2], pairs[n:]])


# Synthetic: a random encoder learns words' values (the task of experiments/it_trains) from noisy votes.

SYNTHETIC = (8, 16, 32, 64)  # votes per query of 16 documents


def synthetic_votes(wanted: Floats, seed: int, name: str) -> Votes:
    """Three judges who see the true log-odds through Thurstone noise: 82 % of the pairs' votes are right, on average."""
    pairs, rng = design(len(wanted), 8, seed, name), rng_for(seed, name, "votes")
    difference = logit(wanted)[pairs[:, 0]] - logit(wanted)[pairs[:, 1]]
    right = rng.random((int(JUDGES), len(pairs))) < ndtr(np.sqrt(2) * 0.44 * difference)
    return Votes(len(wanted), pairs[:, 0], pairs[:, 1], right.mean(0))


def synthetic(seeds: int, queries: int, done: set[tuple[object, ...]]) -> Iterator[dict[str, object]]:
    from test_pointwise_training import SETTINGS, base_of, lessons
    from zelo.training.pointwise import Lesson, train_pointwise

    for seed, count, loss in product(range(seeds), SYNTHETIC, NAMES):
        if ("synthetic", seed, count, loss) in done:
            continue
        start, made, right = time.process_time(), [], []
        for number, lesson in enumerate(lessons(seed, queries)):
            votes = synthetic_votes(lesson.targets, seed, str(number)).head(count)
            made.append(Lesson(lesson.query, lesson.documents, votes.targets(), votes.first, votes.second, votes.prob))
            right.append(spearmanr(votes.targets(), lesson.targets).statistic)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            base = str(base_of(folder, "cross_encoder"))
            settings = replace(SETTINGS, loss=loss, documents_per_query=0, held_out=0.0, epochs=4)  # type: ignore[arg-type]
            model, _ = train_pointwise(
                made, base, settings, seed, folder / "m", folder / "w", lambda *_: None, kind="cross_encoder", threads=1
            )
            found = [float(spearmanr(model.score(x.query, x.documents), x.targets).statistic) for x in lessons(1000 + seed, 40, 40)]
        cpu = round(time.process_time() - start, 1)
        yield {
            "task": "synthetic", "loss": loss, "votes": count, "seed": seed, "queries": queries, "value": round(float(np.mean(found)), 4),
            "scores": round(float(np.mean(right)), 4), "cpu_seconds": cpu, "values": np.round(found, 4).tolist(),
        }  # fmt: skip


# Real: a linear map on MiniLM's vectors learns to rank 50 candidates; simulated judges know all labels, with noise.

REAL = (25, 50, 100, 200, 400)  # votes per query of 50 candidates
EPOCHS, STEP, RATE = 3, 16, 3e-4


def real(source: str, seeds: int, work: Path, done: set[tuple[object, ...]]) -> Iterator[dict[str, object]]:
    from material import ACCURACY, DEPTH, open_material
    from student import evaluate, map_bench

    from zelo.judges import Comparison
    from zelo.judges.simulated import SimulatedJudge

    name = source.rstrip("/").rpartition("/")[2]
    found = open_material(source, 520, 1700, cache=work / f"{name}.npy")
    bench, test = map_bench(found), {q: found.gains[q] for q in found.test}
    labels: dict[str, dict[str, float]] = {}
    for query_id in found.train:
        labels.setdefault(found.queries[query_id], {}).update({found.texts[d]: g for d, g in found.gains[query_id].items()})
    common = {"task": name, "queries": len(found.train)}
    if (name, 0, 0, "untrained") not in done:
        values = evaluate(bench, bench.fresh().eval(), test)
        yield {
            **common,
            "loss": "untrained",
            "votes": 0,
            "seed": 0,
            "value": round(float(values.mean()), 4),
            "values": np.round(values, 4).tolist(),
        }
    for seed in range(seeds):
        if all((name, seed, count, loss) in done for count, loss in product(REAL, NAMES)):
            continue
        judges = [SimulatedJudge(f"simulated{a}", labels, accuracy=a, soft=False, correlation=0.3, seed=seed) for a in ACCURACY]
        lists = []
        for query_id in found.train:
            doc_ids = found.rankings[query_id]["fused"][:DEPTH]
            pairs, text = design(len(doc_ids), 16, seed, query_id), found.queries[query_id]
            asked = [Comparison(text, found.texts[doc_ids[i]], found.texts[doc_ids[j]]) for i, j in pairs.tolist()]
            votes = np.mean([[answer.preference for answer in judge.judge(asked)] for judge in judges], axis=0)
            lists.append((query_id, doc_ids, Votes(len(doc_ids), pairs[:, 0], pairs[:, 1], (1 + votes) / 2)))
        for count in REAL:
            wanted = [votes.head(count).targets() for _, _, votes in lists]
            direct = [(v.first[:count], v.second[:count], v.prob[:count]) for _, _, v in lists]
            for loss in NAMES:
                if (name, seed, count, loss) in done:
                    continue
                start = time.process_time()
                told = [pair_targets(len(t), *d) if loss == "pairs" else t for t, d in zip(wanted, direct, strict=True)]
                values = evaluate(bench, fit_map(bench, [(q, d) for q, d, _ in lists], told, loss, seed), test)
                cpu = round(time.process_time() - start, 1)
                row = {**common, "loss": loss, "votes": count, "seed": seed, "value": round(float(values.mean()), 4)}
                yield {**row, "cpu_seconds": cpu, "values": np.round(values, 4).tolist()}


def fit_map(bench, lists: list[tuple[str, list[str]]], told: list[Floats], loss: str, seed: int):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return a map that learned all candidates of every query; its logits are 10 (a cos + b), a and b learned too."""
    from zelo.training.loop import learning_rate_share

    torch.manual_seed(seed)
    student, rng, line = bench.fresh(), np.random.default_rng([seed, 0x1055]), torch.nn.Parameter(torch.tensor([2.0, -1.0]))
    optimizer = torch.optim.AdamW([{"params": list(student.parameters())}, {"params": [line]}], weight_decay=0.0)
    steps = [part for _ in range(EPOCHS) for part in np.array_split(rng.permutation(len(lists)), -(-len(lists) // STEP))]
    width = max(t.shape[1] if t.ndim > 1 else 0 for t in told)
    for number, part in enumerate(steps):
        for group, peak in zip(optimizer.param_groups, (RATE, 0.01), strict=True):
            group["lr"] = peak * learning_rate_share(number, len(steps), 0.1)
        chosen = [lists[i] for i in part.tolist()]
        queries = student([bench.queries[q] for q, _ in chosen])
        documents = student([bench.documents[d] for _, doc_ids in chosen for d in doc_ids])
        groups = torch.repeat_interleave(torch.arange(len(chosen)), torch.tensor([len(doc_ids) for _, doc_ids in chosen]))
        z = 10 * (line[0] * (queries[groups] * documents).sum(1) + line[1])
        rows = [_widened(told[i], width) if width else told[i] for i in part.tolist()]
        value = LOSSES[loss](z, torch.tensor(np.concatenate(rows), dtype=torch.float32), groups)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
    return student.eval()


def _widened(rows: Floats, width: int) -> Floats:
    """Targets of `pairs` with room for as many comparisons as any query's."""
    k, most = (rows.shape[1] - 1) // 2, (width - 1) // 2
    found = np.full((len(rows), width), -1.0)
    found[:, : 1 + k], found[:, 1 + most : 1 + most + k] = rows[:, : 1 + k], rows[:, 1 + k :]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=["synthetic", "real", "table"])
    parser.add_argument("--collections", type=Path, default=Path("../shared/collections"))
    parser.add_argument("--names", nargs="+", default=["tatqa", "mtragun"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=100, help="of the synthetic task")
    parser.add_argument("--work", type=Path, default=Path("workspaces/losses"))
    options = parser.parse_args()
    path = options.work / "runs.jsonl"
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if options.what == "table":
        return summarize(path, Path(__file__).parent / "results.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(r["task"], r["seed"], r["votes"], r["loss"]) for r in rows}
    if options.what == "synthetic":
        made = synthetic(options.seeds, options.queries, done)
    else:
        sources = [n if n == "python_docs" else str(options.collections / n) for n in options.names]
        made = (row for source in sources for row in real(source, options.seeds, options.work, done))
    for row in made:
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print({k: v for k, v in row.items() if k != "values"}, flush=True)


if __name__ == "__main__":
    main()
