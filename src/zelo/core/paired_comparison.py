"""Scores from paired comparisons: Thurstone and Bradley-Terry, maximum a posteriori (paper section "fit", arXiv 2509.12541).

Document i has a score s_i, and the first document of a row wins with probability F(x), x = slope * (s_first - s_second) + offset.
The link F is `probit`, (1 + erf x) / 2, the paper's Thurstone model, or `logit`, 1 / (1 + exp -x), Bradley-Terry. Scores have
independent Gaussian priors N(prior_mean, prior_sd^2), and the fit minimizes

    sum over rows of -weight * [p log F(x) + (1 - p) log F(-x)]  +  sum over documents of (s - prior_mean)^2 / (2 prior_sd^2),

p = P(first beats second). Slope 1 and offset 0 are the plain model; a judge's reliability can be a slope, its liking for the
document that it sees first an offset. Without a prior the maximum is usually infinite (a document that never loses), and the
result of an iterative fit is decided by where it stops; with it there is exactly one, which Newton's method finds.
Documents are numbered 0 .. n - 1 within their query. `_newton` has the compiled fit of many queries; `negative_log_posterior`
states the same objective in NumPy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve

from zelo.core.links import PRIOR_SD, LinkFunctions, link_functions, win_probability
from zelo.errors import ConvergenceError, InputError
from zelo.types import Link

__all__ = ["Batch", "BatchFit", "Fit", "fit_queries", "fit_query", "negative_log_posterior", "win_probability"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_HEAVY = 1e3  # comparisons that one row hardly stands for
_ROWS_PER_TASK = 100_000  # a thread's share of work: some milliseconds


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows of many queries, those of a query together. Queries may have any number of documents and rows, also none.

    Attributes:
        documents: [Q] integers >= 0, documents of each query.
        rows: [Q + 1] integers, query q has the rows rows[q] .. rows[q + 1] - 1; rows[0] is 0 and rows[Q] is m.
        first: [m] integers, a document's number within its query. Any graph will do; repeated pairs are evidence twice.
        second: [m] integers, different from `first` in each row.
        prob_first: [m], P(first beats second) in [0, 1]; NaN = missing, which is left out.
        weight: [m], >= 0, how many independent comparisons a row counts for. Default 1; weight 0 is left out.
        slope: [m], finite, default 1. A row of slope 0 says nothing and is left out.
        offset: [m], finite, default 0; positive favors the first document.
        prior_mean: [sum of documents], default 0, documents in the order of their queries.
        names: [Q], what errors call the queries; default their places.
    """

    documents: ArrayLike
    rows: ArrayLike
    first: ArrayLike
    second: ArrayLike
    prob_first: ArrayLike
    weight: ArrayLike | None = None
    slope: ArrayLike | None = None
    offset: ArrayLike | None = None
    prior_mean: ArrayLike | None = None
    names: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class BatchFit:
    """Scores of many queries' documents with what is known about their quality. D is the number of all documents.

    Attributes:
        score: [D], see `Fit`; query q has the documents starts[q] .. starts[q + 1] - 1.
        stderr: [D], see `Fit`; [0] where it was not asked for.
        degree: [D], rows a document took part in; 0 means that its score says nothing.
        starts: [Q + 1], where each query's documents begin.
        log_likelihood: [Q], see `Fit`.
        gradient_norm: [Q], see `Fit`.
        iterations: [Q], Newton steps taken.
        components: [Q], see `Fit`.
        separated: [Q], see `Fit`.
        link: the link fitted.
        prior_sd: [Q], the priors' standard deviation.
    """

    score: FloatArray
    stderr: FloatArray
    degree: NDArray[np.int32]
    starts: IntArray
    log_likelihood: FloatArray
    gradient_norm: FloatArray
    iterations: NDArray[np.int32]
    components: NDArray[np.int32]
    separated: NDArray[np.bool_]
    link: Link
    prior_sd: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Scores of one query's documents with what is known about their quality.

    Attributes:
        score: [n], mean that of the prior (0), in units of the link; probit scores are about 1 / 2.41 of logit scores, never mix them.
        stderr: [n], posterior standard deviation from the curvature at the maximum; prior_sd where nothing is known. It counts a
            weight of 1 as one independent comparison. Where the model holds, 95 % intervals cover the truth in 93 to 95 % of cases.
        degree: [n], comparisons a document took part in; 0 means that its score says nothing.
        log_likelihood: weighted log likelihood of the observed preferences at the maximum, prior left out, <= 0.
        gradient_norm: largest absolute component of the gradient at the maximum, <= the tolerance.
        iterations: Newton steps taken.
        components: groups of documents with no comparison between groups; above 1, scores of different groups do not compare.
        separated: without the prior there would be no maximum: some documents always lost to others they met.
        link: the link fitted.
        prior_sd: the prior's standard deviation.
        pairs: [m, 2], the observed pairs (first, second).
        curvature: [m], how much each observed pair adds to the information about its difference.
    """

    score: FloatArray
    stderr: FloatArray
    degree: IntArray
    log_likelihood: float
    gradient_norm: float
    iterations: int
    components: int
    separated: bool
    link: Link
    prior_sd: float
    pairs: IntArray
    curvature: FloatArray

    def covariance(self) -> FloatArray:
        """Return the posterior covariance [n, n] of the scores, the inverse of the Hessian at the maximum."""
        n = len(self.score)
        return np.asarray(cho_solve(cho_factor(_hessian(n, self.pairs, self.curvature, self.prior_sd)), np.eye(n))) if n else np.eye(0)

    def difference_stderr(self, first: ArrayLike, second: ArrayLike) -> FloatArray:
        """Return the standard errors [k] of score[first] - score[second] for document numbers [k].

        Smaller than the two `stderr` suggest when the documents were compared with each other or with the same ones.
        """
        covariance = self.covariance()
        i, j = np.asarray(first), np.asarray(second)
        variance = covariance[i, i] + covariance[j, j] - 2.0 * covariance[i, j]
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def fit_query(
    n: int,
    first: ArrayLike,
    second: ArrayLike,
    prob_first: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    slope: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    prior_mean: ArrayLike | None = None,
    link: Link = "probit",
    prior_sd: float | None = None,
    tolerance: float = 1e-8,
    max_iterations: int = 1_000,
) -> Fit:
    """Fit the scores of one query's documents.

    Args:
        n: number of documents, >= 0.
        first: document numbers [m] in 0 .. n - 1; this and the next five as in `Batch`.
        second: document numbers [m].
        prob_first: P(first beats second) [m]; NaN = missing.
        weight: [m], default 1. It sets the data against the prior: how many independent comparisons a row counts for.
        slope: [m], default 1.
        offset: [m], default 0.
        prior_mean: [n], default 0.
        link: `probit` or `logit`.
        prior_sd: standard deviation of the scores' Gaussian prior in the link's units. Default `PRIOR_SD`: 1.5 for logit and the
            same belief on the probit scale, 1.5 / 2.41 = 0.62.
        tolerance: largest absolute component of the gradient allowed at the result, > 0; multiplied by the largest weight where
            that is above 1, so that it bounds the error of the scores whatever the weights' unit.
        max_iterations: Newton steps allowed. Usual queries take 5 to 7, weights and slopes over many orders of magnitude hundreds.

    Raises:
        InputError: a document number, probability, weight, slope, link or prior is out of range, or lengths differ.
        ConvergenceError: the tolerance was not reached, or prior_sd is so large that rounding drowns it.
    """
    batch = Batch([n], [0, np.size(prob_first)], first, second, prob_first, weight, slope, offset, prior_mean)
    return _single(_fit(batch, link, prior_sd, tolerance, max_iterations, 1, True, named=False), _observed(batch, link))


def fit_queries(
    batch: Batch,
    *,
    link: Link = "probit",
    prior_sd: ArrayLike | None = None,
    tolerance: float = 1e-8,
    max_iterations: int = 1_000,
    threads: int | None = None,
    stderr: bool = True,
) -> BatchFit:
    """Fit the scores of many queries. A query's result depends on nothing but its own rows and prior.

    Args:
        batch: the rows.
        link: `probit` or `logit`.
        prior_sd: one for all queries, or [Q]; default as in `fit_query`.
        tolerance: as in `fit_query`.
        max_iterations: as in `fit_query`.
        threads: how many to use, >= 1; default the environment's ZELO_THREADS, else the cores this process may use.
        stderr: whether to compute standard errors, which take longer than the scores.

    Raises:
        InputError: as `fit_query`; names the query by its place.
        ConvergenceError: as `fit_query`; names the query by its place.
    """
    return _fit(batch, link, prior_sd, tolerance, max_iterations, thread_count(threads), stderr, named=True)


def thread_count(threads: int | None = None) -> int:
    """Return how many threads to use: the given number, else the environment's ZELO_THREADS, else the cores this process may use.

    Raises:
        InputError: the number is not a whole number >= 1.
    """
    asked = os.environ.get("ZELO_THREADS", "") if threads is None else str(threads)
    if not asked:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not asked.isdecimal() or int(asked) < 1:
        where = "ZELO_THREADS" if threads is None else ""
        raise InputError(f"the number of threads must be a whole number >= 1, got {asked!r}", where=where)
    return int(asked)


def negative_log_posterior(
    score: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    prob_first: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    slope: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    prior_mean: ArrayLike | None = None,
    link: Link = "probit",
    prior_sd: float | None = None,
) -> tuple[float, FloatArray, FloatArray]:
    """Return what `fit_query` minimizes, at any scores [n]: value, gradient [n], Hessian [n, n].

    Arguments are those of `fit_query`; they are not checked, except for the link.

    Raises:
        InputError: the link is unknown.
    """
    s = np.asarray(score, dtype=np.float64)
    rows = _observed(Batch([len(s)], [0, np.size(prob_first)], first, second, prob_first, weight, slope, offset, prior_mean), link)
    sd = PRIOR_SD[link] if prior_sd is None else prior_sd
    x, deviation = rows.difference(s), s - (0.0 if prior_mean is None else np.asarray(prior_mean, np.float64))
    pull, curvature = rows.slopes(x)
    gradient = deviation / sd**2
    gradient += np.bincount(rows.pairs[:, 0], pull, len(s)) - np.bincount(rows.pairs[:, 1], pull, len(s))
    return 0.5 * float(deviation @ deviation) / sd**2 - rows.log_likelihood(x), gradient, _hessian(len(s), rows.pairs, curvature, sd)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The observed rows [m] of one query."""

    pairs: IntArray
    prob: FloatArray
    weight: FloatArray
    slope: FloatArray
    offset: FloatArray
    functions: LinkFunctions

    def difference(self, score: FloatArray) -> FloatArray:
        return np.asarray(self.slope * (score[self.pairs[:, 0]] - score[self.pairs[:, 1]]) + self.offset)

    def log_likelihood(self, x: FloatArray) -> float:
        log_f = self.functions.log_probability
        return float(self.weight @ (self.prob * log_f(x) + (1.0 - self.prob) * log_f(-x)))

    def slopes(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """First and second derivative of each row's term of the objective by the difference of its scores [m]."""
        (up, up_curvature), (down, down_curvature) = self.functions.slopes(x), self.functions.slopes(-x)
        pull = self.weight * self.slope * ((1.0 - self.prob) * down - self.prob * up)
        return pull, self.weight * self.slope**2 * (self.prob * up_curvature + (1.0 - self.prob) * down_curvature)


def whole_numbers(column: ArrayLike) -> NDArray[Any]:
    """Return the column as an array, of integers if it is empty: NumPy takes an empty list for floats."""
    given = np.asarray(column)
    return given if given.size else given.astype(np.int64)


def remedy_for(heaviest: float) -> str:
    """Return what helps a fit that the data drown the prior of, by its largest weight."""
    heavy = f"smaller weights (the largest stands for {heaviest:.1e} comparisons) or " if heaviest > _HEAVY else ""
    return f"use {heavy}a smaller prior_sd"


def _observed(batch: Batch, link: Link) -> _Rows:
    prob = np.asarray(batch.prob_first, np.float64)
    weight, slope, offset = (
        np.full(prob.shape, default) if column is None else np.asarray(column, np.float64)
        for column, default in ((batch.weight, 1.0), (batch.slope, 1.0), (batch.offset, 0.0))
    )
    kept = ~np.isnan(prob) & (weight > 0.0) & (slope != 0.0)
    pairs = np.stack([np.asarray(batch.first), np.asarray(batch.second)], axis=1).astype(np.int64)
    return _Rows(pairs[kept], prob[kept], weight[kept], slope[kept], offset[kept], link_functions(link))


def _single(fit: BatchFit, rows: _Rows) -> Fit:
    """The fit of a batch of one query."""
    return Fit(
        score=fit.score,
        stderr=fit.stderr,
        degree=fit.degree.astype(np.int64),
        log_likelihood=float(fit.log_likelihood[0]),
        gradient_norm=float(fit.gradient_norm[0]),
        iterations=int(fit.iterations[0]),
        components=int(fit.components[0]),
        separated=bool(fit.separated[0]),
        link=fit.link,
        prior_sd=float(fit.prior_sd[0]),
        pairs=rows.pairs,
        curvature=rows.slopes(rows.difference(fit.score))[1],
    )


def _hessian(n: int, pairs: IntArray, curvature: FloatArray, prior_sd: float) -> FloatArray:
    """The Laplacian [n, n] of the graph weighted by curvature, plus the prior's precision on the diagonal."""
    off = np.bincount(pairs[:, 0] * n + pairs[:, 1], curvature, n * n).reshape(n, n)
    off = off + off.T
    return np.diag(off.sum(axis=1) + 1.0 / prior_sd**2) - off


def _checked(batch: Batch, link: Link, prior_sd: ArrayLike | None) -> tuple[list[NDArray[Any]], FloatArray]:
    """Check lengths, types and priors; returns starts, rows and the columns for the compiled fit, and the prior's sd [Q].

    What needs a look at every row is checked where the rows are read.
    """
    link_functions(link)
    documents, rows, *ends = (whole_numbers(column) for column in (batch.documents, batch.rows, batch.first, batch.second))
    values = [np.zeros(0) if column is None else np.asarray(column, np.float64) for column in (batch.weight, batch.slope, batch.offset)]
    prob = np.asarray(batch.prob_first, np.float64)
    given = [prob, *ends, *(v for v, column in zip(values, (batch.weight, batch.slope, batch.offset), strict=True) if column is not None)]
    if any(column.ndim != 1 or column.size != prob.size for column in given):
        raise InputError("first, second, prob_first, weight, slope and offset must be one-dimensional and equally long")
    if prob.size and not all(np.issubdtype(end.dtype, np.integer) for end in ends):
        raise InputError("first and second must be integers, the numbers of documents")
    if documents.ndim != 1 or (documents.size and not np.issubdtype(documents.dtype, np.integer)) or (documents < 0).any():
        raise InputError("documents must be integers >= 0, one per query")
    if not np.issubdtype(rows.dtype, np.integer):
        raise InputError("rows must be integers")
    if rows.shape != (documents.size + 1,) or rows[0] != 0 or rows[-1] != prob.size or (np.diff(rows) < 0).any():
        raise InputError(f"rows must rise from 0 to {prob.size}, one more than there are queries")
    starts = np.concatenate([[0], np.cumsum(documents, dtype=np.int64)]).astype(np.int64)
    mean = np.zeros(0) if batch.prior_mean is None else np.asarray(batch.prior_mean, np.float64)
    if batch.prior_mean is not None and not (mean.shape == (starts[-1],) and np.isfinite(mean).all()):
        raise InputError(f"prior_mean must be finite, one per document ({starts[-1]})")
    sd = np.broadcast_to(np.asarray(PRIOR_SD[link] if prior_sd is None else prior_sd, np.float64), documents.shape)
    if not (np.isfinite(sd) & (sd > 0.0)).all():
        wrong = sd[~(np.isfinite(sd) & (sd > 0.0))][0]
        raise InputError(f"prior_sd must be finite and > 0, got {wrong}", remedy="without a prior there is usually no maximum")
    narrow = [np.clip(end, -1, 2**31 - 1).astype(np.int32) if end.dtype != np.int32 else end for end in ends]
    columns = [starts, rows.astype(np.int64), *narrow, prob, *values, mean]
    return [np.ascontiguousarray(column) for column in columns], sd


def _fit(
    batch: Batch, link: Link, prior_sd: ArrayLike | None, tolerance: float, max_iterations: int, threads: int, stderr: bool, *, named: bool
) -> BatchFit:
    from zelo.core import _newton  # numba is not loaded before something is fitted

    columns, sd = _checked(batch, link, prior_sd)
    starts, rows = columns[:2]
    queries, total = len(sd), int(starts[-1])
    fit = BatchFit(
        np.zeros(total), np.zeros(total if stderr else 0), np.zeros(total, np.int32), starts, np.zeros(queries), np.zeros(queries),
        np.zeros(queries, np.int32), np.zeros(queries, np.int32), np.zeros(queries, np.bool_), link, np.array(sd),
    )  # fmt: skip
    status = np.zeros(queries, np.int8)
    into = (fit.score, fit.stderr, fit.degree, fit.log_likelihood, fit.gradient_norm, fit.iterations, fit.components, fit.separated)
    code, precision = (_newton.LOGIT if link == "logit" else _newton.PROBIT), 1.0 / np.array(sd) ** 2

    def work(part: tuple[int, int]) -> None:
        _newton.fit_range(code, *part, *columns, precision, tolerance, max_iterations, stderr, *into, status)

    parts = _parts(starts, rows)
    if threads == 1 or len(parts) <= 1:
        for part in parts:
            work(part)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, parts))
    if status.any():
        first = int(np.flatnonzero(status)[0])
        _raise(
            int(status[first]),
            fit,
            first,
            tolerance,
            _heaviest(batch, rows[first : first + 2]),
            f"query {batch.names[first] if batch.names else first}" if named else "",
        )
    return fit


def _parts(starts: IntArray, rows: IntArray) -> list[tuple[int, int]]:
    """Split the queries into ranges of about equal work, at least a few milliseconds each."""
    work = rows[1:] + starts[1:]
    parts = int(work[-1]) // _ROWS_PER_TASK + 1 if len(work) else 0
    cuts = [0, *np.searchsorted(work, np.arange(1, parts) * _ROWS_PER_TASK).tolist(), len(work)] if parts else [0]
    return [(a, b) for a, b in pairwise(cuts) if a < b]


def _heaviest(batch: Batch, rows: IntArray) -> float:
    """The largest weight of a query's observed rows, 0 without any."""
    rows_of = slice(*rows.tolist())
    prob = np.asarray(batch.prob_first, np.float64)[rows_of]
    weight, slope = (np.ones(len(prob)) if c is None else np.asarray(c, np.float64)[rows_of] for c in (batch.weight, batch.slope))
    return float(weight[~np.isnan(prob) & (slope != 0.0)].max(initial=0.0))


def _raise(status: int, fit: BatchFit, q: int, tolerance: float, heaviest: float, where: str) -> NoReturn:
    """Raise what a faulty query's status says."""
    from zelo.core import _newton

    if status == _newton.SINGULAR:
        raise ConvergenceError("the curvature is singular to working precision", where=where, remedy=remedy_for(heaviest))
    if status == _newton.NOT_CONVERGED:
        allowed = f"{tolerance * max(1.0, heaviest):.1e}"  # see `fit_query`
        reached = f"after {fit.iterations[q]} iterations at gradient norm {fit.gradient_norm[q]:.1e}, above the tolerance {allowed}"
        raise ConvergenceError(f"the score fit stopped {reached}", where=where, remedy=f"{remedy_for(heaviest)}, or allow more iterations")
    what, remedy = {
        _newton.BAD_DOCUMENT: (f"a pair must join two different documents of 0 .. {fit.starts[q + 1] - fit.starts[q] - 1}", ""),
        _newton.BAD_PROBABILITY: ("prob_first must be in [0, 1]", "mark a missing preference by NaN"),
        _newton.BAD_WEIGHT: ("weights must be finite and >= 0", ""),
        _newton.BAD_SLOPE: ("slopes and offsets must be finite", ""),
    }[status]
    raise InputError(what, where=where, remedy=remedy)
