"""Is the order of systems by zELO scores the order by human labels?

`python experiments/benchmark/run.py --collections ../shared/collections`

Ten first stages (systems.py) on scifact, mtragun and cosqa are compared by `zelo benchmark`'s stages with simulated judges of three
qualities (judges_of_labels.py) and with the offline judges; labels are read by the simulated judges, and to measure. One line of JSON per
collection and judges; workspaces are kept and resumed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))

from judges_of_labels import QUALITIES, ensemble
from systems import SYSTEMS, make_runs

from zelo import runner
from zelo.artifacts import read_table
from zelo.collections import open_collection
from zelo.collections.trec import read_run
from zelo.core.comparison_graph import rng_for
from zelo.core.label_agreement import kendall_tau_b
from zelo.core.metrics import evaluate_ranking
from zelo.recipe import Benchmark, Ingest, Rankings, load
from zelo.report.standings import Standings, read_standings
from zelo.stages.ingest import choose_questions
from zelo.types import Query
from zelo.workspace import Workspace

COLLECTIONS = {"mtragun": "test", "scifact": "test", "cosqa": "test"}
DEV = {"mtragun": "test", "scifact": "train", "cosqa": "dev"}
"""Splits for choosing; of mtragun, which has one only, the half of the questions that does not report."""
FloatArray = NDArray[np.float64]
Qrels = dict[str, dict[str, float]]


def questions(source: Path, name: str, split: str, dev: bool, most: int) -> tuple[list[Query], Qrels]:
    """Return the questions to compare on, at most so many by a hash of their ids, and their labels."""
    collection, qrels = open_collection(source), Qrels()
    for row in collection.qrels(split):
        qrels.setdefault(row.query_id, {})[row.doc_id] = row.relevance
    asked = list(qrels)
    if DEV[name] == COLLECTIONS[name]:
        halves, _ = choose_questions(asked, set(asked), Ingest(max_train_queries=0))
        asked = [q for q in asked if halves[q] == ("train" if dev else "test")]
    chosen, _ = choose_questions(asked, set(), Ingest(max_train_queries=most))
    return [q for q in collection.queries() if q.query_id in chosen], {q: qrels[q] for q in chosen}


def human_values(runs: Path, qrels: Qrels) -> FloatArray:
    """Return nDCG@10 by the labels [questions, systems], questions in the order of the labels."""
    columns = []
    for system in SYSTEMS:
        ranking = {q: [(hit.doc_id, -float(n)) for n, hit in enumerate(r)] for q, r in read_run(runs / f"{system}.trec").items()}
        columns.append(list(evaluate_ranking(ranking, qrels, ["nDCG@10"])["nDCG@10"].values()))
    return np.array(columns).T


def benchmark(
    root: Path, source: Path, runs: Path, judges: tuple[str, ...], settings: dict[str, str]
) -> tuple[Standings, FloatArray, list[str], float]:
    """Run the stages; returns the standings, values [questions, systems] by the scores, the questions, and CPU seconds."""
    recipe = load("benchmark")
    systems = {name: Rankings(str((runs / f"{name}.trec").resolve())) for name in SYSTEMS}
    recipe = replace(
        recipe,
        ingest=replace(recipe.ingest, collection=str(source.resolve()), max_train_queries=0),
        judge=replace(recipe.judge, ensemble=judges),
        benchmark=replace(Benchmark(), systems=systems),
    ).with_settings(settings)
    workspace = Workspace.open(root) if (root / "recipe.toml").is_file() else Workspace.create(root, recipe)
    with workspace.locked():
        workspace.save_recipe(recipe)
    start = time.process_time()
    runner.run(workspace, stop="standings")
    seconds = time.process_time() - start
    table = read_table(workspace.path("per_query"), "per_query")
    by_system = {name: {} for name in SYSTEMS}  # type: dict[str, dict[str, float]]
    for system, query_id, value in zip(table["system"], table["query_id"], table["value"], strict=True):
        by_system[system][query_id] = float(value)
    query_ids = list(by_system[SYSTEMS[0]])
    return (
        read_standings(workspace.path("standings")),
        np.array([[by_system[s][q] for s in SYSTEMS] for q in query_ids]),
        query_ids,
        seconds,
    )


def taus(human: FloatArray, ours: FloatArray, resamples: int = 2000) -> dict[str, float]:
    """Return Kendall's tau of the systems' orders, its bootstrap interval, and what two halves of the labeled questions reach."""
    rng = rng_for(0, "", "tau")
    found, halves = [], []
    for _ in range(resamples):
        rows = rng.integers(len(human), size=len(human))
        found.append(kendall_tau_b(human[rows].mean(axis=0), ours[rows].mean(axis=0)))
        order = rng.permutation(len(human))
        one, other = order[: len(order) // 2], order[len(order) // 2 :]
        halves.append(kendall_tau_b(human[one].mean(axis=0), human[other].mean(axis=0)))
    low, high = np.quantile(np.array(found, np.float64), (0.025, 0.975))
    tau = kendall_tau_b(human.mean(axis=0), ours.mean(axis=0))
    return {
        "tau": float(tau or 0.0),
        "low": float(low),
        "high": float(high),
        "tau_of_human_halves": float(np.mean(np.array(halves, np.float64))),
    }


def sure_pairs(human: FloatArray, ours: FloatArray, standings: Standings) -> dict[str, object]:
    """Count pairs of systems that the labels tell apart (bootstrap, 95 %), those in our order, and what `shown` says of them."""
    rng = rng_for(0, "", "sure")
    means = np.stack([human[rng.integers(len(human), size=len(human))].mean(axis=0) for _ in range(2000)])
    sure = agree = shown = shown_right = shown_wrong = 0
    for i, one in enumerate(SYSTEMS):
        for j, other in enumerate(SYSTEMS[:i]):
            low, high = np.quantile(means[:, i] - means[:, j], (0.025, 0.975))
            side = 1 if low > 0 else -1 if high < 0 else 0
            mine = float(np.sign(ours[:, i].mean() - ours[:, j].mean()))
            difference = standings.find(one, other)
            said = difference is not None and difference.shown
            sure, agree = sure + (side != 0), agree + (side != 0 and mine == side)
            shown += said
            shown_right += said and side == mine
            shown_wrong += said and side == -mine
    return {"pairs": len(SYSTEMS) * (len(SYSTEMS) - 1) // 2, "sure_by_labels": sure, "in_our_order": agree, "shown": shown,
            "shown_and_sure": shown_right, "shown_against_labels": shown_wrong}  # fmt: skip


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collections", type=Path, required=True, help="a folder of BEIR folders")
    parser.add_argument("--workspaces", type=Path, default=Path("workspaces/benchmarks"))
    parser.add_argument("--only", nargs="*", default=list(COLLECTIONS))
    parser.add_argument("--judges", nargs="*", default=[*(f"right_{q}" for q in QUALITIES), "offline"])
    parser.add_argument("--questions", type=int, default=300, help="at most so many")
    parser.add_argument("--dev", action="store_true", help="on questions that are for choosing")
    parser.add_argument("--set", nargs="*", default=[], help="settings of the recipe, KEY=VALUE")
    chosen = parser.parse_args()
    for name in chosen.only:
        source, split = chosen.collections / name, (DEV if chosen.dev else COLLECTIONS)[name]
        work = chosen.workspaces / ("dev" if chosen.dev else "test") / name
        queries, qrels = questions(source, name, split, chosen.dev, chosen.questions)
        runs = work / "runs"
        if not all((runs / f"{system}.trec").is_file() for system in SYSTEMS):
            make_runs(source, queries, work / "vectors", runs)
        human = human_values(runs, qrels)
        for judges in chosen.judges:
            names = ("lexical", "dense", "late_interaction") if judges == "offline" else ensemble(int(judges.removeprefix("right_")))
            found, ours, query_ids, seconds = benchmark(work / judges, source, runs, names, dict(s.split("=", 1) for s in chosen.set))
            rows = [list(qrels).index(q) for q in query_ids]
            values = {s.system: [round(s.value, 4), round(s.low, 4), round(s.high, 4)] for s in found.systems}
            line = {
                "collection": name,
                "judges": judges,
                "questions": len(rows),
                **taus(human[rows], ours),
                **sure_pairs(human[rows], ours, found),
                "judgments": sum(v.judgments for v in found.judges),
                "per_question": round(found.pairs / len(rows), 1),
                "pool": round(found.pool, 1),
                "random": round(found.random, 3),
                "resolution": round(found.resolution, 3),
                "cpu_seconds": round(seconds, 1),
                "sides": {v.judge: [s.system for s in v.sides if s.favors and s.excess > 0] for v in found.judges},
                "alone": {v.judge: v.tau_alone for v in found.judges},
                "ours": values,
                "human": dict(zip(SYSTEMS, human[rows].mean(axis=0).round(4).tolist(), strict=True)),
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
