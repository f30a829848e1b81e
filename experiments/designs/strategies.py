"""Play designs against simulated queries: which pairs are compared, what is fitted from the answers, how good it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zelo.core.active_pairs import Aim, plan_round, top_change
from zelo.core.comparison_graph import rng_for
from zelo.core.designs import Design, Pairing, draw_pairs, next_pairs
from zelo.core.paired_comparison import Batch, fit_queries
from zelo.types import Link

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
DISCOUNT = 1.0 / np.log2(np.arange(2, 12))


@dataclass(frozen=True)
class Strategy:
    """How a query's comparisons are chosen: a design drawn beforehand, then rounds.

    A query gets no more pairs when its expected loss is within the tolerance, or when its head's change was in two rounds running.
    """

    name: str
    start: int
    rounds: tuple[int, ...] = ()
    method: Aim | Pairing | None = None
    design: Design = "cycles"
    tolerance: float = 0.0
    change: float = 0.0
    cap: int | None = None


@dataclass(frozen=True)
class World:
    """Simulated queries: true scores in logits, and what the judges together answer about every pair, once and for all."""

    name: str
    truth: list[FloatArray]
    prob: list[FloatArray]
    weight: float


@dataclass(frozen=True)
class Played:
    """What came of a strategy: scores and pairs per query, rounds and CPU seconds of choosing and fitting for all of them."""

    score: list[FloatArray]
    pairs: list[IntArray]
    loss: list[float]
    rounds: list[int]
    cpu: float


def votes(queries: int, seed: int, *, n: int = 100, noise: float = 1.0, band: float = 0.4, intransitive: float = 0.0) -> World:
    """Three votes of -1, 0, 1 per pair: s_i - s_j + Logistic(noise), a tie below the band; `intransitive` is shared by the three."""
    rng = np.random.default_rng(seed)
    truth = list(rng.normal(0.0, 1.5, (queries, n)))
    prob = []
    for s in truth:
        i, j = np.triu_indices(n, 1)
        shared = rng.normal(0.0, 1.0, len(i)) * intransitive
        x = (s[i] - s[j] + shared)[:, None] + noise * rng.logistic(0.0, 1.0, (len(i), 3))
        prob.append(_both_ways(n, np.where(np.abs(x) < band, 0.5, x > 0).mean(axis=1)))
    return World("votes", truth, prob, 3.0)


def soft(queries: int, seed: int, *, n: int = 100, wild: float = 0.0) -> World:
    """One probability per pair, as a trained pairwise model gives: .98 sigmoid(clipped difference + N(0, .2)) + .01.

    `wild` is the share of answers that are uniform in [0, 1] instead.
    """
    rng = np.random.default_rng(seed)
    truth = list(rng.normal(0.0, 1.5, (queries, n)))
    prob = []
    for s in truth:
        i, j = np.triu_indices(n, 1)
        p = 0.01 + 0.98 / (1.0 + np.exp(-np.clip(s[i] - s[j], -4.0, 4.0) - rng.normal(0.0, 0.2, len(i))))
        prob.append(_both_ways(n, np.where(rng.random(len(i)) < wild, rng.random(len(i)), p)))
    return World("soft", truth, prob, 1.0)


def _both_ways(n: int, prob: FloatArray) -> FloatArray:
    both = np.full((n, n), np.nan)
    i, j = np.triu_indices(n, 1)
    both[i, j], both[j, i] = prob, 1.0 - prob
    return both


def batch_of(world: World, pairs: Sequence[IntArray]) -> Batch:
    """Return the answers to these pairs."""
    ends = np.concatenate([np.zeros((0, 2), np.int64), *pairs])
    prob = np.concatenate([np.zeros(0), *(p[e[:, 0], e[:, 1]] for p, e in zip(world.prob, pairs, strict=True))])
    documents = [len(p) for p in world.prob]
    return Batch(documents, np.cumsum([0, *map(len, pairs)]), ends[:, 0], ends[:, 1], prob, np.full(len(ends), world.weight))


def play(world: World, strategy: Strategy, *, link: Link = "logit", prior_sd: float | None = None, seed: int = 0) -> Played:
    """Run a strategy on every query."""
    ids = [f"{world.name} {q}" for q in range(len(world.prob))]
    draws = [rng_for(seed, query_id, "start") for query_id in ids]
    pairs = [draw_pairs(len(p), strategy.start, rng, strategy.design) for p, rng in zip(world.prob, draws, strict=True)]
    calm, before = np.zeros(len(ids), int), None
    began, rounds, loss = time.process_time(), [0] * len(ids), [float("nan")] * len(ids)
    for number, count in enumerate(strategy.rounds, 1):
        batch = batch_of(world, pairs)
        if strategy.method in ("smallest_gap", "swiss"):
            fitted = fit_queries(batch, link=link, prior_sd=prior_sd, threads=1, stderr=False)
            scores = np.split(fitted.score, fitted.starts[1:-1])
            new = [
                next_pairs(s, p, count, rng_for(seed, q, f"round {number}"), strategy.method)
                for s, p, q in zip(scores, pairs, ids, strict=True)
            ]
        else:
            wanted = np.where(calm < 2, count, 0)
            plan = plan_round(
                batch, ids, aim=strategy.method or "top", count=wanted, cap=strategy.cap, tolerance=strategy.tolerance,  # type: ignore[arg-type]
                seed=seed, round_number=number, link=link, prior_sd=prior_sd, threads=1,
            )  # fmt: skip
            new = [plan.pairs(q).astype(np.int64) for q in range(len(ids))]
            loss, scores = plan.loss.tolist(), np.split(plan.score, np.cumsum([len(p) for p in world.prob])[:-1])
            if strategy.change:
                small = [
                    before is not None and top_change(b, s, link=link) <= strategy.change
                    for b, s in zip(before or scores, scores, strict=True)
                ]
                calm = np.where(calm >= 2, calm, np.where(small, calm + 1, 0))
                new = [e if c < 2 else e[:0] for e, c in zip(new, calm, strict=True)]
                before = scores
        rounds = [r + (len(e) > 0) for r, e in zip(rounds, new, strict=True)]
        pairs = [np.concatenate([old, more]) for old, more in zip(pairs, new, strict=True)]
    fitted = fit_queries(batch_of(world, pairs), link=link, prior_sd=prior_sd, threads=1, stderr=False)
    return Played(np.split(fitted.score, fitted.starts[1:-1]), pairs, loss, rounds, time.process_time() - began)


def ndcg(truth: FloatArray, score: FloatArray) -> float:
    """nDCG@10 with gain exp(truth)."""
    gain = np.exp(truth)
    k = min(10, len(gain))
    return float(gain[np.argsort(-score, kind="stable")[:k]] @ DISCOUNT[:k] / (np.sort(gain)[::-1][:k] @ DISCOUNT[:k]))


def quality(world: World, played: Played) -> dict[str, float]:
    """Mean nDCG@10 and root mean squared error after one scale for all queries, with standard errors over queries."""
    values = np.array([ndcg(t, s) for t, s in zip(world.truth, played.score, strict=True)])
    truth, score = np.stack([t - t.mean() for t in world.truth]), np.stack([s - s.mean() for s in played.score])  # no origin
    squared = ((float((truth * score).sum() / (score**2).sum()) * score - truth) ** 2).mean(axis=1)
    rmse, root = float(np.sqrt(squared.mean())), np.sqrt(len(values))
    pairs = np.array([len(p) for p in played.pairs])
    return {
        "pairs": round(float(pairs.mean()), 1),
        "ndcg": round(float(values.mean()), 4),
        "ndcg_se": round(float(values.std(ddof=1) / root), 4),
        "rmse": round(rmse, 4),
        "rmse_se": round(float(squared.std(ddof=1) / root / (2.0 * rmse)), 4),
        "cpu_ms": round(1000.0 * played.cpu / len(values), 2),
    }
