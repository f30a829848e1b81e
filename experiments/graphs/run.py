"""Sparse graphs against all pairs, and what decides the variance of a score difference: path length or resistance?

    python experiments/graphs/run.py [--queries 100] [--out FILE]

Prints the tables of README.md and writes results.jsonl beside this file; with another number of queries
it writes to --out alone. Simulated judges with known truth, as in experiments/designs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path
from scipy.stats import kendalltau

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "designs"))
from strategies import Strategy, World, ndcg, play, quality, soft, votes

from zelo.core.comparison_graph import graph_stats, hamiltonian_cycles
from zelo.core.designs import Design, draw_pairs
from zelo.core.paired_comparison import Batch, fit_queries

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
HERE = Path(__file__).parent


def against_dense(world: World, designs: Sequence[Strategy]) -> list[dict[str, Any]]:
    """Return how near the scores of a design are to those of all pairs: after one scale, in order, and in nDCG@10."""
    dense = play(world, Strategy("all pairs", 4950, design="all")).score
    rows = []
    for design in designs:
        score = play(world, design).score
        a, b = np.stack(score), np.stack(dense)
        a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
        squared = ((float((a * b).sum() / (a * a).sum()) * a - b) ** 2).mean(axis=1)
        tau = [kendalltau(x, y).statistic for x, y in zip(score, dense, strict=True)]
        value = [ndcg(truth, found) for truth, found in zip(dense, score, strict=True)]
        root = np.sqrt(len(value))
        row = {"part": "against all pairs", "regime": world.name, "design": design.name, "pairs": design.start + sum(design.rounds)}
        row |= {"rmse": round(float(np.sqrt(squared.mean())), 4), "tau": round(float(np.mean(tau)), 4)}
        rows.append(row | {"ndcg": round(float(np.mean(value)), 4), "ndcg_se": round(float(np.std(value, ddof=1) / root), 4)})
        shown = f"{row['rmse']:.3f} | {row['tau']:.3f} | {rows[-1]['ndcg']:.3f} ({rows[-1]['ndcg_se']:.3f})"
        print(f"| {design.name} | {row['pairs']} | {shown} |")
    return rows


def resistances(n: int, edges: IntArray, conductance: float = 1.0, ground: float = 0.0) -> FloatArray:
    """Effective resistance [n, n] of the graph, every document also joined to a common ground by a conductance."""
    both = np.bincount(edges[:, 0] * n + edges[:, 1], minlength=n * n).reshape(n, n) * conductance
    both = both + both.T
    # Without a ground, 1 / n fills the only null direction and cancels in differences.
    inverse = np.linalg.inv(np.diag(both.sum(axis=1)) - both + (np.eye(n) * ground if ground else 1.0 / n))
    diagonal = np.diag(inverse)
    return np.asarray(diagonal[:, None] + diagonal - 2.0 * inverse)


def variance(n: int, edges: IntArray, repeats: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return how the mean squared error of fitted differences on one graph goes with distance and resistance.

    Truth, N(0, 1.5^2), and votes are drawn anew in every repeat, so the error is that of the posterior.
    """
    m = len(edges)
    truth = rng.normal(0.0, 1.5, (repeats, n))
    difference = truth[:, edges[:, 0]] - truth[:, edges[:, 1]]
    x = difference[:, :, None] + rng.logistic(0.0, 1.0, (repeats, m, 3))
    prob = np.where(np.abs(x) < 0.4, 0.5, x > 0).mean(axis=2).ravel()
    ends = np.tile(edges, (repeats, 1))
    batch = Batch([n] * repeats, m * np.arange(repeats + 1), ends[:, 0], ends[:, 1], prob, np.full(len(ends), 3.0))
    error = fit_queries(batch, link="logit", threads=1, stderr=False).score.reshape(repeats, n) - truth
    i, j = np.triu_indices(n, 1)
    squared = (error[:, i] - error[:, j]) ** 2
    observed = squared.mean(axis=0)
    adjacency = csr_array((np.ones(m), (edges[:, 0], edges[:, 1])), shape=(n, n))
    distance = shortest_path(adjacency, directed=False, unweighted=True)[i, j].astype(int)
    information = 3.0 * float((1.0 / (2.0 + 2.0 * np.cosh(difference))).mean())
    plain, grounded = resistances(n, edges)[i, j], resistances(n, edges, information, 1.0 / 1.5**2)[i, j]

    def correlation(predictor: FloatArray) -> float:
        return float(np.corrcoef(predictor, observed)[0, 1])

    hops = {
        int(d): [float(a[distance == d].mean()) for a in (plain, grounded, observed)] + [float((distance == d).mean())]
        for d in np.unique(distance)
    }
    found = {"hops": hops, "distance": correlation(distance), "resistance": correlation(plain), "with_prior": correlation(grounded)}
    half = float(np.corrcoef(squared[::2].mean(axis=0), squared[1::2].mean(axis=0))[0, 1])
    return found | {"ceiling": float(np.sqrt(max(2.0 * half / (1.0 + half), 0.0)))}  # what a perfect predictor would reach


def variances(graphs: int, repeats: int) -> list[dict[str, Any]]:
    """Return the mean of `variance` over graphs of each kind."""
    rows = []
    kinds: tuple[tuple[str, Design | None, int], ...] = (
        ("cycles, k = 4", "cycles", 200),
        ("cycles, k = 8", "cycles", 400),
        ("random", "random", 400),
        ("ring and chords", None, 150),
    )
    for name, design, count in kinds:
        rng = np.random.default_rng(count)
        found: list[dict[str, Any]] = []
        while len(found) < graphs:
            if design is None:  # one cycle with chords: long ways exist
                cycle = np.stack([np.arange(100), (np.arange(100) + 1) % 100], axis=1)
                edges = np.concatenate([cycle, rng.permutation(100).reshape(-1, 2)])
            else:
                edges = draw_pairs(100, count, rng, design)
            if graph_stats(100, edges).components == 1:
                found.append(variance(100, edges, repeats, rng))
        hops = sorted({d for f in found for d in f["hops"]})
        table = {d: [round(float(np.mean([f["hops"][d][k] for f in found if d in f["hops"]])), 4) for k in range(4)] for d in hops}
        row: dict[str, Any] = {"part": "variance", "graph": name, "graphs": graphs, "repeats": repeats, "by_distance": table}
        for key in ("distance", "resistance", "with_prior", "ceiling"):
            row[key] = round(float(np.mean([f[key] for f in found])), 3)
        rows.append(row)
        shown = " | ".join(f"{row[key]:.2f}" for key in ("distance", "resistance", "with_prior", "ceiling"))
        print(f"| {name} | {shown} | {'; '.join(f'{d}: ' + ', '.join(f'{x:.3f}' for x in v[:3]) for d, v in table.items())} |")
    return rows


def sizes(queries: int) -> list[dict[str, Any]]:
    """Return the quality of k comparisons per document at several n."""
    rows = []
    for n in (25, 50, 100, 200):
        world = votes(queries, n, n=n)
        for k in (4, 8, 16):
            edges = hamiltonian_cycles(n, k, np.random.default_rng(k))
            stats = graph_stats(n, edges)
            found = quality(world, play(world, Strategy("cycles", n * k // 2)))
            row: dict[str, Any] = {"part": "k and N", "n": n, "k": k, "pairs": n * k // 2, "diameter": stats.diameter}
            row |= {"resistance": round(stats.mean_resistance, 4)} | {key: found[key] for key in ("ndcg", "ndcg_se", "rmse", "rmse_se")}
            rows.append(row)
            values = f"{row['rmse']:.3f} ({row['rmse_se']:.3f}) | {row['ndcg']:.3f} ({row['ndcg_se']:.3f})"
            print(f"| {n} | {k} | {row['pairs']} | {stats.diameter} | {stats.mean_resistance:.3f} | {values} |")
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--out", type=Path, help="default results.jsonl beside this file, or nothing with another number of queries")
    options = parser.parse_args(arguments)
    designs = [Strategy(d, n, design=d) for d in ("cycles", "random", "bipartite") for n in (100, 200, 400, 800, 1600)]
    designs += [
        Strategy(f"{aim}, 50", 100, (50,) * ((n - 100) // 50), aim) for aim in ("top", "balanced", "information") for n in (200, 400)
    ]
    rows = []
    for world in (votes(options.queries, 11), soft(options.queries, 12)):
        print(f"\n{world.name}, against the fit of all 4,950 pairs\n\n| design | N | RMSE | tau | nDCG@10 |\n|---|---|---|---|---|")
        rows += against_dense(world, designs)
    print("\n| graph | r, distance | r, resistance | r, resistance with prior | ceiling | by distance: both resistances, squared error |")
    print("|---|---|---|---|---|---|")
    rows += variances(6, 2000)
    print("\n| n | k | N | diameter | mean resistance | RMSE | nDCG@10 |\n|---|---|---|---|---|---|---|")
    rows += sizes(options.queries)
    if out := options.out or (HERE / "results.jsonl" if options.queries == parser.get_default("queries") else None):
        out.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
