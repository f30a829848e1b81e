"""CPU time to choose pairs, per query and for all rounds together, beside the same choice in plain NumPy.

    python benchmarks/designs.py [--json] [--queries 40] [--threads 1]

100 documents, 400 comparisons of three votes with ties: 50 drawn, the rest in rounds; fits between the rounds are included. The baseline
is one rank-one update and one scoring of all 4,950 pairs per choice as NumPy expressions, the aim `top`, eight rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from zelo.core.active_pairs import DRAWS, Aim, default_cap, plan_round
from zelo.core.comparison_graph import rng_for
from zelo.core.designs import draw_pairs, next_pairs
from zelo.core.paired_comparison import Batch, fit_queries, fit_query, thread_count

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
DOCUMENTS, COMPARISONS, START = 100, 400, 50
DISCOUNT = 1.0 / np.log2(np.arange(2, DOCUMENTS + 2))


def answers(queries: int, n: int) -> list[FloatArray]:
    """Return what three judges say about every pair of each query [n, n]."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(queries):
        s = rng.normal(0.0, 1.5, n)
        x = (s[:, None] - s)[:, :, None] + rng.logistic(0.0, 1.0, (n, n, 3))
        upper = np.triu(np.where(abs(x) < 0.4, 0.5, x > 0).mean(axis=2), 1)
        made.append(upper + np.tril(1.0 - upper.T, -1))
    return made


def batch_of(prob: list[FloatArray], pairs: list[IntArray]) -> Batch:
    ends = np.concatenate(pairs)
    said = np.concatenate([p[e[:, 0], e[:, 1]] for p, e in zip(prob, pairs, strict=True)])
    return Batch([len(p) for p in prob], np.cumsum([0, *map(len, pairs)]), ends[:, 0], ends[:, 1], said, np.full(len(said), 3.0))


Choose = Callable[[list[IntArray], int, int], list[IntArray]]


def run(prob: list[FloatArray], rounds: list[int], choose: Choose) -> float:
    """Return the CPU seconds of all rounds and the last fit."""
    pairs = [draw_pairs(len(p), START * len(p) // DOCUMENTS, rng_for(0, str(q))) for q, p in enumerate(prob)]
    began = time.process_time()
    for number, count in enumerate(rounds):
        pairs = [np.concatenate([old, new]) for old, new in zip(pairs, choose(pairs, count, number), strict=True)]
    fit_queries(batch_of(prob, pairs), threads=1)
    return time.process_time() - began


def planned(prob: list[FloatArray], aim: Aim, threads: int) -> Choose:
    ids = [str(q) for q in range(len(prob))]

    def choose(pairs: list[IntArray], count: int, number: int) -> list[IntArray]:
        plan = plan_round(batch_of(prob, pairs), ids, aim=aim, count=count, round_number=number, threads=threads)
        return [plan.pairs(q).astype(np.int64) for q in range(len(ids))]

    return choose


def swiss(prob: list[FloatArray]) -> Choose:
    def choose(pairs: list[IntArray], count: int, number: int) -> list[IntArray]:
        fitted = fit_queries(batch_of(prob, pairs), threads=1, stderr=False)
        scores = np.split(fitted.score, fitted.starts[1:-1])
        return [next_pairs(s, p, count, rng_for(number, str(q)), "swiss") for q, (s, p) in enumerate(zip(scores, pairs, strict=True))]

    return choose


def in_numpy(prob: list[FloatArray]) -> Choose:
    """Return the aim `top` as NumPy expressions; its expected loss is left out."""

    def one(p: FloatArray, pairs: IntArray, count: int) -> IntArray:
        n, x = len(p), np.zeros(len(p))
        fit = fit_query(n, pairs[:, 0], pairs[:, 1], p[pairs[:, 0], pairs[:, 1]], np.full(len(pairs), 3.0), link="logit")
        c, gap = fit.covariance(), fit.score[:, None] - fit.score
        v = np.diag(c)[:, None] + np.diag(c) - 2 * c + np.eye(n)
        rank = np.argsort(np.argsort(-fit.score))
        cut = np.where(rank < 10, DISCOUNT[rank], 0.0)
        growth = abs(cut[:, None] - cut) * np.exp(0.5 * (fit.score[:, None] + fit.score) - 0.5 * gap**2 / v) / np.sqrt(v)
        loss = np.diag(growth.sum(axis=1)) - growth
        information = 3.0 / (2.0 + 2.0 * np.cosh(gap))
        information[pairs[:, 0], pairs[:, 1]] = information[pairs[:, 1], pairs[:, 0]] = 0.0
        np.fill_diagonal(information, 0.0)
        m, load, chosen = c @ loss @ c, np.zeros(n, int), []
        for _ in range(count):
            variance, fall = (np.diag(a)[:, None] + np.diag(a) - 2 * a for a in (c, m))
            i, j = divmod(int(np.argmax(information * fall / (1 + information * variance))), n)
            chosen.append((i, j))
            load[[i, j]] += 1
            x[:] = 0.0
            x[i], x[j] = 1.0, -1.0
            g = information[i, j] / (1 + information[i, j] * variance[i, j])
            u, t = c @ x, m @ x
            m = m - g * (np.outer(u, t) + np.outer(t, u)) + g**2 * fall[i, j] * np.outer(u, u)
            c = c - g * np.outer(u, u)
            information[i, j] = information[j, i] = 0.0
            full = load >= default_cap(n, count)
            information[full] = 0.0
            information[:, full] = 0.0
        return np.array(chosen)

    return lambda pairs, count, number: [one(p, e, count) for p, e in zip(prob, pairs, strict=True)]


def split(total: int, parts: int) -> list[int]:
    return [total // parts + (i < total % parts) for i in range(parts)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    prob, wide = answers(options.queries, DOCUMENTS), answers(2, 400)
    eight, rest = split(COMPARISONS - START, 8), COMPARISONS - START
    threads = thread_count(options.threads)
    planned(prob[:2], "top", 1)([draw_pairs(DOCUMENTS, START, rng_for(0, "x"))] * 2, 5, 0)  # compiles
    runs: dict[str, tuple[list[FloatArray], list[int], Choose]] = {
        "top, 8 rounds": (prob, eight, planned(prob, "top", threads)),
        "top, 14 rounds of 25": (prob, [25] * 14, planned(prob, "top", threads)),
        "balanced, 8 rounds": (prob, eight, planned(prob, "balanced", threads)),
        "information, 8 rounds": (prob, eight, planned(prob, "information", threads)),
        "one replan, balanced": (prob, [rest], planned(prob, "balanced", threads)),
        "swiss, 8 rounds": (prob, eight, swiss(prob)),
        "top in NumPy, 8 rounds": (prob[:8], eight, in_numpy(prob[:8])),
        "top, 400 documents, 1,600 comparisons, 8 rounds": (wide, split(1400, 8), planned(wide, "top", threads)),
    }
    times = {name: 1000.0 * run(data, rounds, choose) / len(data) for name, (data, rounds, choose) in runs.items()}
    baseline = "top in NumPy, 8 rounds"
    if not options.json:
        print(f"CPU ms per query, mean; {os.cpu_count()} cores, {threads} used; {DRAWS} draws per expected loss")
    for name, value in times.items():
        ratio = round(times[baseline] / value, 2)
        if options.json:
            row = {"name": name, "value": round(value, 3), "unit": "CPU ms per query", "baseline": baseline, "ratio": ratio}
            print(json.dumps(row | {"cores": os.cpu_count(), "threads": threads}))
        else:
            print(f"{name:<50}{value:>9.2f}   baseline / this {ratio:>7.2f}")


if __name__ == "__main__":
    main()
