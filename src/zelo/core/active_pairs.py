"""Which pairs to compare next: chosen in rounds, by what they are expected to tell (paper section "graph", arXiv 2509.12541).

After some comparisons the scores of a query's documents have a posterior that is nearly normal (Laplace's approximation): the fit and
the inverse of the curvature there. One more comparison of i and j, with information h = votes * F'^2 / (F (1 - F)) at the fitted
difference, takes h / (1 + h v) u u' from the covariance C, where u = C (e_i - e_j) and v = u_i - u_j, whatever the answer will be. So a
whole batch can be chosen before its first answer: greedily, each pair the best given those before it. What is best is the aim:

`top`          the ranking's head. Least expected loss of DCG by documents in the wrong order, to first order in the variances, with
               gain exp(score in logits) and discounts of the first `top` ranks. Documents far below are left alone.
`balanced`     every score, the upper ones more. Least variance of the DCG-weighted scores, sum of Var(score) / log2(1 + rank)^2.
`information`  every score alike. Most information about the vector of scores (D-optimal): largest h v.

A query is settled, and gets no more pairs, when its loss is within the tolerance. The loss of `top` is the expected 1 - nDCG of the
present order, over draws of the scores from the posterior. That of the other aims is the share of the scores' variance that is
still unknown, mean Var(score) / (mean Var(score) + variance of the fitted scores), 1 before the first comparison.
Documents are numbered 0 .. n - 1 within a query here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zelo.core.comparison_graph import rng_for
from zelo.core.links import PRIOR_SD, link_functions
from zelo.core.paired_comparison import Batch, BatchFit, fit_queries, thread_count, whole_numbers
from zelo.errors import InputError
from zelo.types import Link

__all__ = ["Aim", "Plan", "default_cap", "plan_round", "top_change"]

Aim = Literal["top", "balanced", "information"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
SmallIntArray = NDArray[np.int32]
T = TypeVar("T")

DRAWS = 64
"""Draws from the posterior behind an expected loss: its standard error is about .005 where the loss is .05."""


LEAST = 1e-30
"""Information of a pair whose answer is certain; 0 would mean that it must not be compared."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The next round: for each query the pairs to compare, best first, and how far from settled it is.

    Attributes:
        rows: [Q + 1], range of rows of each query.
        first: [m], document number within the query, to be shown first.
        second: [m], the other.
        loss: [Q], expected loss before this round, >= 0; what it means depends on the aim, see the module.
        settled: [Q], no more pairs: the loss is within the tolerance, or every pair has been compared.
        score: [documents of all queries], fitted before this round, in units of the link.
    """

    rows: IntArray
    first: SmallIntArray
    second: SmallIntArray
    loss: FloatArray
    settled: NDArray[np.bool_]
    score: FloatArray

    def pairs(self, query: int) -> SmallIntArray:
        """Return the pairs [k, 2] of one query, the first column shown first."""
        rows = slice(self.rows[query], self.rows[query + 1])
        return np.stack([self.first[rows], self.second[rows]], axis=1)


def top_change(before: ArrayLike, after: ArrayLike, *, top: int = 10, link: Link = "probit") -> float:
    """Return how much the head of one query's ranking moved: 1 - nDCG of the order by `before`, gains exp(logits) by `after`.

    In [0, 1]; 0 when the first `top` are the same or have equal scores. A query whose change is small in two rounds running has
    converged, also where many documents are alike and the expected loss stays high (experiments/designs).

    Args:
        before: [n], scores of the round before.
        after: [n], scores now.
        top: ranks that count, >= 1.
        link: of the scores.
    """
    new = np.asarray(after, np.float64)
    discount = 1.0 / np.log2(2.0 + np.arange(min(top, len(new))))
    gain = np.exp((new - new.max(initial=-np.inf)) * PRIOR_SD["logit"] / PRIOR_SD[link])
    old = np.argsort(-np.asarray(before, np.float64), kind="stable")[: len(discount)]
    best = float(np.sort(gain)[::-1][: len(discount)] @ discount)
    return 1.0 - float(gain[old] @ discount) / best if best > 0.0 else 0.0


def default_cap(n: int, count: int) -> int:
    """Return the most pairs of one document in a round: 4, or three times a document's share of the round where that is more."""
    return max(4, -(-6 * count // max(n, 1)))


def plan_round(
    batch: Batch, query_ids: Sequence[str], *, aim: Aim = "top", count: ArrayLike = 25, cap: int | None = None, top: int = 10,
    tolerance: float = 0.0, lead: ArrayLike | None = None, seed: int = 0, round_number: int = 1, link: Link = "probit",
    prior_sd: ArrayLike | None = None, threads: int | None = None,
) -> Plan:  # fmt: skip
    """Choose the next pairs of many queries.

    What a query gets depends on its own comparisons, the seed, its id and the round's number, not on other queries or threads.

    Args:
        batch: the comparisons so far, as `fit_queries` takes them. Missing ones (NaN) count as asked: no pair is chosen twice.
        query_ids: [Q], the seed of each query's draws.
        aim: `top` for rankings and labels, `balanced` for targets of all documents, `information` for all scores alike.
        count: pairs per query, >= 0; one number or [Q]. Fewer are chosen where the cap or the unseen pairs run out.
        cap: most pairs of one document in this round, >= 1; default `default_cap`.
        top: ranks that count for `top`, >= 1.
        tolerance: loss at which a query is settled, >= 0; 0 = never.
        lead: [documents of all queries], how often each document was shown first so far minus how often second; default: as `first`
            of the batch's rows says.
        seed: of the order in which equally good pairs are taken, and of the draws behind the loss.
        round_number: of this round.
        link: `probit` or `logit`.
        prior_sd: standard deviation of the scores' prior, one number or [Q]; default `PRIOR_SD`.
        threads: as in `fit_queries`; the result is the same with any number.

    Raises:
        InputError: a number is out of range or a length does not fit.
        ConvergenceError: a fit did not reach its tolerance.
    """
    batch = replace(batch, rows=whole_numbers(batch.rows), first=whole_numbers(batch.first), second=whole_numbers(batch.second))
    documents, queries = whole_numbers(batch.documents), len(query_ids)
    counts = _counts(count, queries)
    _check(documents, counts, queries, aim, cap, top, tolerance)
    fitted = fit_queries(batch, link=link, prior_sd=prior_sd, threads=threads, stderr=False)
    leads = _leads(batch, fitted.starts, lead)
    normal = rng_for(seed, "", "posterior draws").standard_normal((DRAWS, int(documents.max(initial=0))))

    def plan(query: int) -> tuple[SmallIntArray, float, bool]:
        order = rng_for(seed, query_ids[query], f"active pairs {round_number}").permutation(documents[query])
        state = _state(batch, fitted, query, order)
        limit = default_cap(len(order), int(counts[query])) if cap is None else cap
        pairs, loss, left = _plan(state, aim, int(counts[query]), limit, top, tolerance, normal)
        chosen = np.ascontiguousarray(order[pairs], np.int32)  # back from the shuffled numbers
        _kernels().orient(chosen, leads[fitted.starts[query] : fitted.starts[query + 1]])
        return chosen, loss, not left or loss <= tolerance

    return _together(_in_threads(plan, queries, threads), fitted.score)


def _together(planned: Sequence[tuple[SmallIntArray, float, bool]], score: FloatArray) -> Plan:
    pairs = np.concatenate([np.empty((0, 2), np.int32), *(p for p, _, _ in planned)])
    loss, settled = np.array([loss for _, loss, _ in planned], np.float64), np.array([s for _, _, s in planned], np.bool_)
    return Plan(np.cumsum([0, *(len(p) for p, _, _ in planned)]), pairs[:, 0].copy(), pairs[:, 1].copy(), loss, settled, score)


@dataclass(frozen=True, slots=True)
class _State:
    """What is known of one query, documents renumbered in random order, so that equally good pairs are taken in random order."""

    score: FloatArray
    covariance: FloatArray
    information: FloatArray
    link: Link


def _state(batch: Batch, fitted: BatchFit, query: int, order: IntArray) -> _State:
    n, link = len(order), fitted.link
    rows = slice(*np.asarray(batch.rows)[query : query + 2])
    place = np.empty(n, np.int32)
    place[order] = np.arange(n, dtype=np.int32)
    score = np.ascontiguousarray(fitted.score[fitted.starts[query] + order])
    ends = [place[np.asarray(column)[rows]] for column in (batch.first, batch.second)]
    prob = np.asarray(batch.prob_first, np.float64)[rows]
    weight, slope, offset = (
        np.full(len(prob), default) if column is None else np.asarray(column, np.float64)[rows]
        for column, default in ((batch.weight, 1.0), (batch.slope, 1.0), (batch.offset, 0.0))
    )
    slopes = link_functions(link).slopes
    seen = ~np.isnan(prob) & (weight * slope != 0.0)
    first, second, prob, precision, slope, offset = (a[seen] for a in (*ends, prob, weight * slope**2, slope, offset))
    x = slope * (score[first] - score[second]) + offset
    curvature = precision * (prob * slopes(x)[1] + (1.0 - prob) * slopes(-x)[1])
    covariance = _kernels().covariance(n, first, second, curvature, 1.0 / float(fitted.prior_sd[query]) ** 2)
    compared = np.zeros((n, n), np.bool_)
    compared[first, second] = compared[second, first] = True
    votes = 2.0 * float(precision.sum()) / int(compared.sum()) if len(prob) else 1.0  # of a pair so far, and so of one more
    compared[ends[0], ends[1]] = compared[ends[1], ends[0]] = True
    hazard = slopes(score[:, None] - score)[0]  # F' / F; transposed it is that of the opposite answer
    information = np.maximum(votes * hazard * hazard.T, LEAST)
    information[compared] = 0.0
    np.fill_diagonal(information, 0.0)
    return _State(score, covariance, information, link)


def _plan(
    state: _State, aim: Aim, count: int, cap: int, top: int, tolerance: float, normal: FloatArray
) -> tuple[SmallIntArray, float, bool]:
    """Return the pairs [k, 2], the loss, and whether any pair is left to compare."""
    n, kernels = len(state.score), _kernels()
    nothing = np.empty((0, 2), np.int32)
    left = bool(state.information.any())
    if n < 2:
        return nothing, 0.0, left
    rank = np.empty(n, np.int64)
    rank[np.argsort(-state.score, kind="stable")] = np.arange(n)
    discount = 1.0 / np.log2(2.0 + np.arange(n))
    rate = PRIOR_SD["logit"] / PRIOR_SD[state.link]
    if aim == "top":
        loss = kernels.expected_ndcg_loss(state.score, state.covariance, normal[:, :n].copy(), discount[:top].copy(), rate)
    else:
        unknown = float(np.trace(state.covariance)) / n
        loss = unknown / (unknown + float(state.score.var()))
    if loss <= tolerance or count == 0 or not left:
        return nothing, loss, left
    weighted = np.empty((0, 0))
    if aim == "top":
        cut = np.where(rank < top, discount[rank], 0.0)
        weighted = kernels.sandwich(state.covariance, kernels.misorder_loss(state.score, state.covariance, cut, rate))
    elif aim == "balanced":
        weighted = kernels.sandwich(state.covariance, np.diag(discount[rank] ** 2))
    return kernels.choose(state.covariance, weighted, state.information, count, cap), loss, left


def _leads(batch: Batch, starts: IntArray, lead: ArrayLike | None) -> IntArray:
    """How often each document [D] was shown first so far minus how often second."""
    total = int(starts[-1])
    if lead is None:
        offset = np.repeat(starts[:-1], np.diff(np.asarray(batch.rows)))
        first, second = (np.bincount(np.asarray(column) + offset, minlength=total) for column in (batch.first, batch.second))
        return first - second
    given = np.array(lead, np.int64)
    if given.shape != (total,):
        raise InputError(f"lead has {given.size} entries for {total} documents")
    return given


def _in_threads(task: Callable[[int], T], count: int, threads: int | None) -> list[T]:
    """Return task(0) .. task(count - 1); the kernels release the interpreter's lock."""
    threads = thread_count(threads)
    if threads == 1 or count < 2:
        return [task(i) for i in range(count)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(task, range(count), chunksize=1))


def _kernels() -> ModuleType:
    from zelo.core import _information  # compiles, or reads what was compiled

    return _information


def _counts(count: ArrayLike, queries: int) -> IntArray:
    """Pairs to choose per query [Q]."""
    given = whole_numbers(count)
    if not np.issubdtype(given.dtype, np.integer):
        raise InputError(f"count must be a whole number or one per query, got {np.asarray(count).tolist()!r:.40}")
    return np.full(queries, given, np.int64) if given.ndim == 0 else given.astype(np.int64)


def _check(documents: IntArray, counts: IntArray, queries: int, aim: Aim, cap: int | None, top: int, tolerance: float) -> None:
    if aim not in get_args(Aim):
        raise InputError(f"unknown aim {aim!r}", remedy=f"use one of {', '.join(get_args(Aim))}")
    if len(documents) != queries or len(counts) != queries:
        raise InputError(f"{queries} query ids and {len(counts)} counts for {len(documents)} queries")
    if (counts < 0).any() or (cap is not None and cap < 1) or top < 1 or not tolerance >= 0.0:
        raise InputError("a round needs count >= 0, cap >= 1, top >= 1 and tolerance >= 0")
