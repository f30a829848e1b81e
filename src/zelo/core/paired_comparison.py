"""Scores from paired comparisons: Thurstone and Bradley-Terry, maximum a posteriori (paper section "fit", arXiv 2509.12541).

Document i has a score s_i and P(i beats j) = F(s_i - s_j). The link F is `probit`, (1 + erf x) / 2, the paper's Thurstone model, or
`logit`, 1 / (1 + exp -x), Bradley-Terry. Every score has an independent Gaussian prior N(0, prior_sd^2), and the fit minimizes

    sum over pairs of -weight * [p log F(x) + (1 - p) log F(-x)]  +  sum over documents of s^2 / (2 prior_sd^2),

x = s_first - s_second, p = P(first beats second). Without a prior the maximum is usually infinite (a document that never loses),
and the result of an iterative fit is decided by where it stops; with it there is exactly one, which Newton's method finds.
Documents are numbered 0 .. n - 1 here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from zelo.core.links import PRIOR_SD, LinkFunctions, link_functions, win_probability
from zelo.errors import ConvergenceError, InputError
from zelo.types import Link

__all__ = ["Fit", "fit_scores", "negative_log_posterior", "win_probability"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MAX_HALVINGS = 40
ARMIJO = 1e-4  # Fraction of the promised decrease that a step must deliver.


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Scores of one query's documents with what is known about their quality.

    Attributes:
        score: [n], mean 0, in units of the link; probit scores are about 1 / 2.41 of logit scores, never mix them.
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
        return _inverse(_hessian(len(self.score), self.pairs, self.curvature, self.prior_sd))

    def difference_stderr(self, first: ArrayLike, second: ArrayLike) -> FloatArray:
        """Return the standard errors [k] of score[first] - score[second] for document numbers [k].

        Smaller than the two `stderr` suggest when the documents were compared with each other or with the same ones.
        """
        covariance = self.covariance()
        i, j = np.asarray(first), np.asarray(second)
        variance = covariance[i, i] + covariance[j, j] - 2.0 * covariance[i, j]
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


@dataclass(frozen=True, slots=True)
class _Problem:
    """The observed pairs of one query and the model: what the objective depends on besides the scores."""

    n: int
    pairs: IntArray
    prob: FloatArray
    weight: FloatArray
    functions: LinkFunctions
    prior_sd: float

    def difference(self, score: FloatArray) -> FloatArray:
        difference: FloatArray = score[self.pairs[:, 0]] - score[self.pairs[:, 1]]
        return difference

    def log_likelihood(self, score: FloatArray) -> float:
        x = self.difference(score)
        log_f = self.functions.log_probability
        return float(self.weight @ (self.prob * log_f(x) + (1.0 - self.prob) * log_f(-x)))

    def value(self, score: FloatArray) -> float:
        return 0.5 * float(score @ score) / self.prior_sd**2 - self.log_likelihood(score)

    def gradient_and_curvature(self, score: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gradient [n] of the value, and second derivative [m] of each pair's term by its difference, >= 0."""
        x = self.difference(score)
        (up, up_curvature), (down, down_curvature) = self.functions.slopes(x), self.functions.slopes(-x)
        pull = self.weight * ((1.0 - self.prob) * down - self.prob * up)
        gradient = score / self.prior_sd**2
        gradient += np.bincount(self.pairs[:, 0], pull, self.n) - np.bincount(self.pairs[:, 1], pull, self.n)
        return gradient, self.weight * (self.prob * up_curvature + (1.0 - self.prob) * down_curvature)


def _hessian(n: int, pairs: IntArray, curvature: FloatArray, prior_sd: float) -> FloatArray:
    """The Laplacian [n, n] of the graph weighted by curvature, plus the prior's precision on the diagonal."""
    off = np.bincount(pairs[:, 0] * n + pairs[:, 1], curvature, n * n).reshape(n, n)
    off = off + off.T
    return np.diag(off.sum(axis=1) + 1.0 / prior_sd**2) - off


def _solve(hessian: FloatArray, right: FloatArray) -> FloatArray:
    """hessian^-1 right, the Hessian [n, n] being positive definite unless data and prior differ by 15 orders of magnitude."""
    try:
        return np.asarray(cho_solve(cho_factor(hessian), right)) if len(hessian) else right
    except np.linalg.LinAlgError as error:
        raise ConvergenceError("the curvature is singular to working precision", remedy="use a smaller prior_sd") from error


def _inverse(hessian: FloatArray) -> FloatArray:
    return _solve(hessian, np.eye(len(hessian)))


def _problem(
    n: int, first: ArrayLike, second: ArrayLike, prob_first: ArrayLike, weight: ArrayLike | None, link: Link, prior_sd: float | None
) -> _Problem:
    """Check the input and drop the missing pairs."""
    functions = link_functions(link)
    prior_sd = PRIOR_SD[link] if prior_sd is None else float(prior_sd)
    prob = np.asarray(prob_first, dtype=np.float64)
    weights = np.ones(prob.shape) if weight is None else np.asarray(weight, dtype=np.float64)
    ends = [np.asarray(first), np.asarray(second)]
    if any(column.ndim != 1 or len(column) != prob.size for column in (prob, weights, *ends)):
        raise InputError("first, second, prob_first and weight must be one-dimensional and equally long")
    if prob.size and not all(np.issubdtype(end.dtype, np.integer) for end in ends):
        raise InputError("first and second must be integers, the numbers of documents")
    pairs = np.stack(ends, axis=1).astype(np.int64)
    if pairs.size and (pairs.min() < 0 or pairs.max() >= n or (pairs[:, 0] == pairs[:, 1]).any()):
        raise InputError(f"a pair must join two different documents of 0 .. {n - 1}")
    if ((prob < 0.0) | (prob > 1.0)).any():
        raise InputError("prob_first must be in [0, 1]", remedy="mark a missing preference by NaN")
    if not (np.isfinite(weights) & (weights >= 0.0)).all():
        raise InputError("weights must be finite and >= 0")
    if not (np.isfinite(prior_sd) and prior_sd > 0.0):
        raise InputError(f"prior_sd must be finite and > 0, got {prior_sd}", remedy="without a prior there is usually no maximum")
    observed = ~np.isnan(prob) & (weights > 0.0)
    return _Problem(n, pairs[observed], prob[observed], weights[observed], functions, prior_sd)


def negative_log_posterior(
    score: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    prob_first: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    link: Link = "probit",
    prior_sd: float | None = None,
) -> tuple[float, FloatArray, FloatArray]:
    """Return what `fit_scores` minimizes, at any scores [n]: value, gradient [n], Hessian [n, n].

    Arguments and errors are those of `fit_scores`.
    """
    at = np.asarray(score, dtype=np.float64)
    problem = _problem(len(at), first, second, prob_first, weight, link, prior_sd)
    gradient, curvature = problem.gradient_and_curvature(at)
    return problem.value(at), gradient, _hessian(problem.n, problem.pairs, curvature, problem.prior_sd)


def fit_scores(
    n: int,
    first: ArrayLike,
    second: ArrayLike,
    prob_first: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    link: Link = "probit",
    prior_sd: float | None = None,
    tolerance: float = 1e-8,
    max_iterations: int = 100,
) -> Fit:
    """Fit the scores of one query's documents by damped Newton steps.

    Args:
        n: number of documents, >= 0.
        first: document numbers [m] in 0 .. n - 1. Any graph will do, repeated pairs are evidence twice.
        second: document numbers [m], different from `first` in each row.
        prob_first: P(first beats second) [m], in [0, 1]; NaN = missing, which is left out.
        weight: [m], >= 0, default 1: how many independent comparisons a row counts for (say, the number of judges). It sets the
            data against the prior; weight 0 is left out.
        link: `probit` or `logit`.
        prior_sd: standard deviation of the scores' Gaussian prior in the link's units. Default `PRIOR_SD`: 1.5 for logit and the
            same belief on the probit scale, 1.5 / 2.41 = 0.62.
        tolerance: largest absolute component of the gradient allowed at the result, > 0; multiplied by the largest weight where
            that is above 1, so that it bounds the error of the scores whatever the weights' unit.
        max_iterations: Newton steps allowed.

    Raises:
        InputError: a document number, probability, weight, link or prior is out of range, or lengths differ.
        ConvergenceError: the tolerance was not reached, or prior_sd is so large that rounding drowns it.
    """
    problem = _problem(n, first, second, prob_first, weight, link, prior_sd)
    score, gradient_norm, curvature, iterations = _newton(problem, tolerance, max_iterations)
    components, separated = _connectivity(problem)
    return Fit(
        score=score - score.mean() if n else score,  # The prior makes the mean 0 already, up to rounding.
        stderr=np.sqrt(np.diag(_inverse(_hessian(n, problem.pairs, curvature, problem.prior_sd)))),
        degree=np.bincount(problem.pairs.ravel(), minlength=n),
        log_likelihood=problem.log_likelihood(score),
        gradient_norm=gradient_norm,
        iterations=iterations,
        components=components,
        separated=separated,
        link=link,
        prior_sd=problem.prior_sd,
        pairs=problem.pairs,
        curvature=curvature,
    )


def _newton(problem: _Problem, tolerance: float, max_iterations: int) -> tuple[FloatArray, float, FloatArray, int]:
    """Score [n] at the maximum, gradient norm, curvature [m] of the pairs, steps taken."""
    score = np.zeros(problem.n)
    tolerance = tolerance * max(1.0, problem.weight.max(initial=0.0))
    for iteration in range(max_iterations + 1):
        gradient, curvature = problem.gradient_and_curvature(score)
        norm = float(np.abs(gradient).max(initial=0.0))
        if norm <= tolerance:
            return score, norm, curvature, iteration
        if iteration == max_iterations:
            break
        hessian = _hessian(problem.n, problem.pairs, curvature, problem.prior_sd)
        step = -_solve(hessian, gradient)
        score = _line_search(problem, score, step, float(gradient @ step))
    raise ConvergenceError(
        f"the score fit stopped after {max_iterations} iterations at gradient norm {norm:.1e}, above the tolerance {tolerance:.1e}",
        remedy="allow more iterations, a larger tolerance or a smaller prior_sd",
    )


def _line_search(problem: _Problem, score: FloatArray, step: FloatArray, slope: float) -> FloatArray:
    """Halve the step until the objective falls by a fair part of what the slope promises."""
    value = problem.value(score)
    rounding = 1e-14 * (1.0 + abs(value))  # Next to the maximum the promised fall is less than the value can show.
    length = 1.0
    for _ in range(MAX_HALVINGS):
        if problem.value(score + length * step) <= value + ARMIJO * length * slope + rounding:
            break
        length /= 2.0
    return score + length * step


def _connectivity(problem: _Problem) -> tuple[int, bool]:
    """Number of components, and whether the likelihood alone has no maximum.

    It has one exactly when every component is strongly connected by "was sometimes preferred to" (Ford 1957): otherwise moving the
    documents that always won away from those that always lost to them raises it forever.
    """
    n, pairs = problem.n, problem.pairs
    if n == 0:
        return 0, False
    winner = np.concatenate([pairs[problem.prob > 0.0, 0], pairs[problem.prob < 1.0, 1]])
    loser = np.concatenate([pairs[problem.prob > 0.0, 1], pairs[problem.prob < 1.0, 0]])
    graph = csr_array((np.ones(len(winner)), (winner, loser)), shape=(n, n))
    weak = int(connected_components(graph, directed=True, connection="weak", return_labels=False))
    strong = int(connected_components(graph, directed=True, connection="strong", return_labels=False))
    return weak, strong > weak
