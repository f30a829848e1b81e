"""The scores' posterior over many queries, as a Gaussian around its maximum: what is known about every compared difference.

`paired_comparison` finds the maximum. Here is what the estimates of whole ensembles need besides: the posterior variance of each
row's difference, and Laplace's approximation of the marginal likelihood, the scores integrated out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from zelo.core.links import PRIOR_SD, link_functions
from zelo.core.paired_comparison import Batch, fit_queries
from zelo.errors import ConvergenceError, InputError
from zelo.types import Link

__all__ = ["Observed", "Posterior", "observed", "posterior"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """What is known after the fit, for the rows of a batch.

    Attributes:
        score: [sum of documents], the maximum.
        difference: [m], score of first minus score of second.
        variance: [m], posterior variance of that difference, > 0.
        log_marginal: [Q], log of the likelihood integrated over the scores' prior, Laplace's approximation.
    """

    score: FloatArray
    difference: FloatArray
    variance: FloatArray
    log_marginal: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """The rows of a batch that say something, every column filled in; fields as in `Batch`, and `source` [m], their places there."""

    documents: IntArray
    rows: IntArray
    first: IntArray
    second: IntArray
    prob_first: FloatArray
    weight: FloatArray
    slope: FloatArray
    offset: FloatArray
    prior_mean: FloatArray
    source: IntArray

    def batch(self) -> Batch:
        """Return the rows as `fit_queries` takes them."""
        columns = (self.first, self.second, self.prob_first, self.weight, self.slope, self.offset, self.prior_mean)
        return Batch(self.documents, self.rows, *columns)

    def query(self) -> IntArray:
        """Return the query of each row."""
        return np.repeat(np.arange(len(self.documents)), np.diff(self.rows))

    def take(self, rows: IntArray) -> Observed:
        """Return some of the rows, ascending, of the same queries."""
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return replace(self, rows=np.searchsorted(rows, self.rows), **columns)

    def every_few(self, most: int) -> Observed:
        """Return at most so many queries that have rows, evenly spaced: what holds for all shows on some."""
        queries = np.flatnonzero(np.diff(self.rows) > 0)
        if len(queries) > most:
            queries = queries[np.linspace(0, len(queries) - 1, most).round().astype(np.int64)]
        chosen = np.zeros(len(self.documents), np.bool_)
        chosen[queries] = True
        few = self.take(np.flatnonzero(chosen[self.query()]))
        mean = self.prior_mean[np.repeat(chosen, self.documents)]
        return replace(
            few, documents=self.documents[chosen], rows=few.rows[np.append(np.flatnonzero(chosen), len(chosen))], prior_mean=mean
        )

    def pairs(self) -> IntArray:
        """Return the number of each row's unordered pair [m], the same for all rows of two documents of a query."""
        n = int(self.documents.max(initial=1))
        low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
        return np.unique((self.query() * n + low) * n + high, return_inverse=True)[1].reshape(-1)


_COLUMNS = ("first", "second", "prob_first", "weight", "slope", "offset", "source")


def observed(batch: Batch) -> Observed:
    """Return the rows of a batch that have a preference and a weight above 0.

    Raises:
        InputError: the columns do not fit together. Their values are checked by `fit_queries`.
    """
    prob = np.asarray(batch.prob_first, np.float64)
    rows, documents = np.asarray(batch.rows, np.int64), np.asarray(batch.documents, np.int64)
    filled = [
        np.full(prob.shape, default) if column is None else np.asarray(column, np.float64)
        for column, default in ((batch.weight, 1.0), (batch.slope, 1.0), (batch.offset, 0.0))
    ]
    ends = [np.asarray(batch.first, np.int64), np.asarray(batch.second, np.int64)]
    mean = np.zeros(int(documents.sum())) if batch.prior_mean is None else np.asarray(batch.prior_mean, np.float64)
    if any(column.shape != prob.shape for column in (*filled, *ends)) or rows.shape != (len(documents) + 1,) or rows[-1] != len(prob):
        raise InputError("the columns of a batch must be equally long, and its rows must end there")
    everything = Observed(documents, rows, ends[0], ends[1], prob, filled[0], filled[1], filled[2], mean, np.arange(len(prob)))
    return everything.take(np.flatnonzero(~np.isnan(prob) & (filled[0] > 0)))


def posterior(rows: Observed, *, link: Link = "probit", prior_sd: float | None = None) -> Posterior:
    """Fit the rows, and invert each query's curvature: cubic in its documents, about 1 ms for 100.

    Raises:
        InputError: as `fit_queries`.
        ConvergenceError: as `fit_queries`, or the curvature is singular to working precision.
    """
    prior_sd = PRIOR_SD[link] if prior_sd is None else prior_sd
    fit = fit_queries(rows.batch(), link=link, prior_sd=prior_sd, stderr=False)
    functions = link_functions(link)
    start = fit.starts[rows.query()]
    difference = fit.score[start + rows.first] - fit.score[start + rows.second]
    x, prob = rows.slope * difference + rows.offset, rows.prob_first
    curvature = rows.weight * rows.slope**2 * (prob * functions.slopes(x)[1] + (1 - prob) * functions.slopes(-x)[1])
    queries = np.repeat(np.arange(len(rows.documents)), rows.documents)
    penalty = np.bincount(queries, (fit.score - rows.prior_mean) ** 2, len(rows.documents)) / (2 * prior_sd**2)
    marginal = fit.log_likelihood - penalty
    variance = np.empty(len(difference))
    for q, n in enumerate(rows.documents.tolist()):
        here = slice(rows.rows[q], rows.rows[q + 1])
        i, j = np.maximum(rows.first[here], rows.second[here]), np.minimum(rows.first[here], rows.second[here])
        covariance, log_determinant = _inverse(n, i, j, curvature[here], prior_sd)
        variance[here] = covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
        marginal[q] -= log_determinant / 2 + n * np.log(prior_sd)
    return Posterior(fit.score, difference, variance, marginal)


def _inverse(n: int, i: IntArray, j: IntArray, curvature: FloatArray, prior_sd: float) -> tuple[FloatArray, float]:
    """The lower triangle of the posterior covariance [n, n], and the log determinant of its inverse; i > j."""
    if not n:
        return np.zeros((0, 0)), 0.0
    off = np.bincount(i * n + j, curvature, n * n).reshape(n, n)
    hessian = np.diag(off.sum(axis=0) + off.sum(axis=1) + 1 / prior_sd**2) - off
    factor, failed = lapack.dpotrf(hessian, lower=1)
    if not failed:
        covariance, failed = lapack.dpotri(factor, lower=1)
    if failed:
        raise ConvergenceError("the curvature is singular to working precision", remedy="use a smaller prior_sd")
    return covariance, 2 * float(np.log(np.diag(factor)).sum())
