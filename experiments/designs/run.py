"""Which design gives the best scores for a number of comparisons? Simulated judges, known truth.

    python experiments/designs/run.py [--queries 300] [--only REGIME ...] [--out FILE]

Prints the tables of README.md and writes simulated.jsonl beside this file; with another number of queries
it writes to --out alone. `real.py` does the same over real candidates.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from strategies import Strategy, World, batch_of, ndcg, play, quality, soft, votes

from zelo.core.active_pairs import plan_round
from zelo.core.comparison_graph import rng_for
from zelo.core.designs import draw_pairs
from zelo.core.dispersion import estimate_dispersion

RESULTS = Path(__file__).parent / "simulated.jsonl"
ALL = 4950


def rounds(total: int, start: int, size: int) -> tuple[int, ...]:
    """Split what is left after the start into rounds of a size."""
    full, rest = divmod(total - start, size)
    return (size,) * full + ((rest,) if rest else ())


def strategies() -> list[Strategy]:
    """Return what is compared at N = 150 .. 800."""
    fixed = [Strategy("cycles", n) for n in (150, 200, 250, 300, 400, 800)]
    fixed += [Strategy(design, n, design=design) for design in ("random", "bipartite") for n in (200, 400, 800)]
    fixed.append(Strategy("all pairs", ALL, design="all"))
    looking = [
        Strategy(name.replace("_", " "), 100, rounds(n, 100, 50), name) for name in ("smallest_gap", "swiss") for n in (200, 300, 400)
    ]
    chosen = [Strategy("top, 25", 50, rounds(n, 50, 25), "top") for n in (150, 200, 250, 300, 400)]
    chosen += [Strategy(f"top, {size}", 50, rounds(n, 50, size), "top") for size in (50, 100) for n in (200, 400)]
    chosen += [Strategy("top, 25, from a cycle", 100, rounds(n, 100, 25), "top") for n in (150, 200)]
    for aim in ("balanced", "information"):
        chosen += [Strategy(f"{aim}, 50", 100, rounds(n, 100, 50), aim) for n in (200, 300, 400)]
        chosen += [Strategy(f"{aim}, {size}", 100, rounds(400, 100, size), aim) for size in (25, 100)]
    chosen += [Strategy(f"one replan, {aim}", n // 2, (n // 2,), aim) for aim in ("top", "balanced", "information") for n in (200, 400)]
    return fixed + looking + chosen


def few() -> list[Strategy]:
    """Return what is compared in the other regimes."""
    chosen = [Strategy("cycles", n) for n in (200, 400, 800)]
    chosen += [Strategy("top, 25", 50, rounds(n, 50, 25), "top") for n in (150, 200, 300, 400)]
    for aim in ("balanced", "information"):
        chosen += [Strategy(f"{aim}, 50", 100, rounds(n, 100, 50), aim) for n in (200, 300, 400)]
    chosen += [Strategy("one replan, balanced", n // 2, (n // 2,), "balanced") for n in (200, 400)]
    return chosen


def stopping() -> list[Strategy]:
    """Return what is compared with and without a tolerance; at most 400 pairs."""
    chosen = [Strategy("top, 25", 50, rounds(400, 50, 25), "top", tolerance=t) for t in (0.0, 0.03, 0.05, 0.1)]
    chosen += [Strategy("top, 25", 50, rounds(400, 50, 25), "top", change=c) for c in (0.01, 0.03)]
    return chosen + [Strategy("balanced, 50", 100, rounds(400, 100, 50), "balanced", tolerance=t) for t in (0.0, 0.15, 0.2)]


def weighed(world: World) -> World:
    """Return the world with its answers weighed by their dispersion, estimated on two cycles per query as a user could."""
    pairs = [draw_pairs(len(p), 2 * len(p), rng_for(0, str(q), "dispersion")) for q, p in enumerate(world.prob)]
    found = estimate_dispersion(batch_of(world, pairs), link="logit")
    return replace(world, name=f"{world.name}, weighed", weight=world.weight / found.value)


def worlds(queries: int) -> dict[str, tuple[World, Callable[[], list[Strategy]]]]:
    """Return the regimes: the simulated queries and what to compare on them."""
    half = max(queries // 2, 2)
    continuous = soft(half, 2)
    made: dict[str, tuple[World, Callable[[], list[Strategy]]]] = {
        "votes": (votes(queries, 0), strategies),
        "stopping": (votes(half, 1), stopping),
        "intransitive": (votes(half, 3, intransitive=1.5), few),
        "sharp": (votes(half, 4, noise=0.4), few),
        "soft": (continuous, few),
        "soft, weighed": (weighed(continuous), few),
        "soft, weighed, stopping": (weighed(continuous), stopping),
        "soft, 2 % wild, weighed": (weighed(soft(half, 6, wild=0.02)), few),
    }
    return made


def calibration(world: World) -> list[dict[str, Any]]:
    """Return expected and true loss of nDCG@10 after 200 pairs, by fifths of the expected one."""
    played = play(world, Strategy("top, 25", 50, rounds(200, 50, 25), "top"))
    ids = [str(q) for q in range(len(world.truth))]
    plan = plan_round(batch_of(world, played.pairs), ids, aim="top", count=0, link="logit", threads=1)
    true = np.array([1.0 - ndcg(t, s) for t, s in zip(world.truth, played.score, strict=True)])
    parts = np.array_split(np.argsort(plan.loss), 5)
    return [
        {"regime": "expected loss", "fifth": k, "expected": round(float(plan.loss[p].mean()), 4), "true": round(float(true[p].mean()), 4)}
        for k, p in enumerate(parts, 1)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--queries", type=int, default=300, help="of the main table; the others have half")
    parser.add_argument("--only", nargs="+", choices=list(worlds(2)), help="regimes to do again; the others' results are kept")
    parser.add_argument("--out", type=Path, help="default simulated.jsonl beside this file, or nothing with another number of queries")
    options = parser.parse_args(arguments)
    out = options.out or (RESULTS if options.queries == parser.get_default("queries") else None)
    kept = [json.loads(line) for line in out.read_text("utf-8").splitlines()] if options.only and out and out.is_file() else []
    rows: list[dict[str, Any]] = [row for row in kept if row["regime"] not in options.only]
    if not options.only:
        rows += calibration(votes(options.queries, 5))
    for regime, (world, chosen) in worlds(options.queries).items():
        if options.only and regime not in options.only:
            continue
        sys.stdout.write(f"\n{regime}, {len(world.truth)} queries, weight {world.weight:.3g}\n\n")
        sys.stdout.write("| design | N | nDCG@10 | RMSE | CPU ms |\n|---|---|---|---|---|\n")
        for strategy in chosen():
            played = play(world, strategy)
            row = quality(world, played)
            shown = strategy.name + (f", tolerance {strategy.tolerance:g}" if strategy.tolerance else "")
            shown += f", change {strategy.change:g}" if strategy.change else ""
            rows.append({"regime": regime, "design": shown, "rounds": len(strategy.rounds), "start": strategy.start, **row})
            values = f"{row['ndcg']:.3f} ({row['ndcg_se']:.3f}) | {row['rmse']:.3f} ({row['rmse_se']:.3f})"
            sys.stdout.write(f"| {shown} | {row['pairs']:g} | {values} | {row['cpu_ms']:.1f} |\n")
            sys.stdout.flush()
        if out:
            out.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
