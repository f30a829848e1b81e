"""Scores from rankings of several documents: Plackett-Luce, maximum a posteriori (Luce 1959, Plackett 1975).

A judge that orders k documents at once chooses the best of them, then the best of the rest, and so on: document i is chosen from
the set C with probability exp(s_i) / sum over C of exp(s_j). Two documents are a Bradley-Terry comparison, so scores are in logits
and on one scale with those of `paired_comparison` with the logit link. Every score has a prior N(0, prior_sd^2), for the same
reason as there; Newton's method finds the one maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from zelo.core.links import PRIOR_SD
from zelo.core.paired_comparison import remedy_for
from zelo.errors import ConvergenceError, InputError

__all__ = ["RankingFit", "fit_rankings", "negative_log_posterior"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_HALVINGS, _ARMIJO = 40, 1e-4
_ERROR = 1e-7  # of a score, wanted where the gradient alone does not bound it


@dataclass(frozen=True, slots=True, eq=False)
class RankingFit:
    """Scores of one query's documents.

    Attributes:
        score: [n], mean 0, in logits.
        stderr: [n], posterior standard deviation from the curvature at the maximum; prior_sd where nothing is known.
        degree: [n], rankings a document took part in.
        log_likelihood: weighted log likelihood at the maximum, prior left out, <= 0.
        gradient_norm: largest absolute component of the gradient, <= the tolerance.
        iterations: Newton steps taken.
        covariance: [n, n], posterior covariance.
    """

    score: FloatArray
    stderr: FloatArray
    degree: IntArray
    log_likelihood: float
    gradient_norm: float
    iterations: int
    covariance: FloatArray


@dataclass(frozen=True, slots=True)
class _Choices:
    """Rankings in rectangles: all of one length together, `places` of their leading places known."""

    items: IntArray  # [rankings, length]
    places: int
    weight: FloatArray  # [rankings]


def fit_rankings(
    n: int,
    rankings: Sequence[ArrayLike],
    *,
    top: int | Sequence[int] | None = None,
    weight: ArrayLike | None = None,
    prior_sd: float | None = None,
    tolerance: float = 1e-8,
    max_iterations: int = 1_000,
) -> RankingFit:
    """Fit the scores of one query's documents to rankings of some of them.

    Args:
        n: number of documents, >= 0.
        rankings: each the numbers of the documents that were shown, best first, no document twice; any may be left out.
        top: how many leading places are known, of all rankings or of each; the documents after them are in no order, only not
            chosen before. Default: all places.
        weight: [rankings], >= 0, default 1.
        prior_sd: standard deviation of the scores' prior, logits; default 1.5.
        tolerance: as in `paired_comparison.fit_query`.
        max_iterations: Newton steps allowed.

    Raises:
        InputError: a document number, weight or prior is out of range, or a ranking names a document twice.
        ConvergenceError: the tolerance was not reached, or prior_sd or a weight is so large that rounding drowns the prior.
    """
    prior_sd, choices, degree = _checked(n, rankings, top, weight, prior_sd)
    score = np.zeros(n)
    heaviest = max((float(c.weight.max(initial=0.0)) for c in choices), default=1.0)
    tolerance, before = tolerance * max(1.0, heaviest), np.inf
    for iteration in range(max_iterations + 1):
        value, gradient, hessian = _objective(score, choices, prior_sd)
        norm = float(np.abs(gradient).max(initial=0.0))
        if norm <= tolerance:
            # norm * prior_sd^2 bounds the error of the scores. Where the prior is weak, go on as long as it helps.
            if norm * prior_sd**2 <= _ERROR or norm > 0.95 * before or iteration == max_iterations:
                break
            before = norm
        elif iteration == max_iterations or not np.isfinite(norm):
            what = f"the ranking fit stopped after {iteration} iterations at gradient norm {norm:.1e}, above the tolerance {tolerance:.1e}"
            raise ConvergenceError(what, remedy=f"{remedy_for(heaviest)}, or allow more iterations")
        score = _stepped(score, value, gradient, -_solved(hessian, gradient, heaviest), choices, prior_sd)
    covariance = _solved(hessian, np.eye(n), heaviest) if n else np.zeros((0, 0))
    likelihood = 0.5 * float(score @ score) / prior_sd**2 - value
    centered = score - score.mean() if n else score  # The prior makes the mean 0 already, up to rounding.
    return RankingFit(centered, np.sqrt(np.diag(covariance)), degree, likelihood, norm, iteration, covariance)


def _solved(hessian: FloatArray, right: FloatArray, heaviest: float) -> FloatArray:
    """The inverse Hessian times the right side."""
    try:
        return np.asarray(cho_solve(cho_factor(hessian), right))
    except (LinAlgError, ValueError) as error:  # not positive definite, or not finite
        raise ConvergenceError("the curvature is singular to working precision", remedy=remedy_for(heaviest)) from error


def _stepped(
    score: FloatArray, value: float, gradient: FloatArray, step: FloatArray, choices: list[_Choices], prior_sd: float
) -> FloatArray:
    """The scores after the step, or the largest part of it (halved and halved) that lowers the value enough."""
    length, slope, rounding = 1.0, float(gradient @ step), 1e-14 * (1.0 + abs(value))
    for _ in range(_HALVINGS):
        if _objective(score + length * step, choices, prior_sd)[0] <= value + _ARMIJO * length * slope + rounding:
            break
        length /= 2.0
    return score + length * step


def negative_log_posterior(
    score: ArrayLike,
    rankings: Sequence[ArrayLike],
    *,
    top: int | Sequence[int] | None = None,
    weight: ArrayLike | None = None,
    prior_sd: float | None = None,
) -> tuple[float, FloatArray, FloatArray]:
    """Return what `fit_rankings` minimizes, at any scores [n]: value, gradient [n], Hessian [n, n]; arguments and errors are its."""
    at = np.asarray(score, np.float64)
    prior_sd, choices, _ = _checked(len(at), rankings, top, weight, prior_sd)
    return _objective(at, choices, prior_sd)


def _checked(
    n: int, rankings: Sequence[ArrayLike], top: int | Sequence[int] | None, weight: ArrayLike | None, prior_sd: float | None
) -> tuple[float, list[_Choices], IntArray]:
    """The prior, the rankings sorted by shape, and how often each document was shown [n]."""
    prior_sd = PRIOR_SD["logit"] if prior_sd is None else float(prior_sd)
    if not (np.isfinite(prior_sd) and prior_sd > 0):
        raise InputError(f"prior_sd must be finite and > 0, got {prior_sd}", remedy="without a prior there is usually no maximum")
    lists = [np.asarray(ranking) for ranking in rankings]
    weights = np.ones(len(lists)) if weight is None else np.asarray(weight, np.float64)
    tops = list(top) if isinstance(top, Sequence | np.ndarray) else [top] * len(lists)
    if weights.shape != (len(lists),) or len(tops) != len(lists):
        raise InputError("weight and top must have one entry per ranking")
    if not (np.isfinite(weights) & (weights >= 0)).all() or not all(_is_place(t) for t in tops):
        raise InputError("weights must be finite and >= 0, top a whole number >= 1")
    shapes: dict[tuple[int, int], list[int]] = {}
    for r, items in enumerate(lists):
        if items.ndim != 1 or (items.size and not np.issubdtype(items.dtype, np.integer)):
            raise InputError("a ranking must be a list of document numbers", where=f"ranking {r}")
        if items.size and (items.min() < 0 or items.max() >= n or len(np.unique(items)) < items.size):
            raise InputError(f"a ranking must name different documents of 0 .. {n - 1}", where=f"ranking {r}")
        last = max(items.size - 1, 0)  # the last document is no choice
        shapes.setdefault((items.size, min(int(tops[r] or last), last)), []).append(r)
    choices = [_Choices(np.stack([lists[r] for r in of]).astype(np.int64), k, weights[of]) for (_, k), of in shapes.items() if k]
    degree = np.bincount(np.concatenate([np.zeros(0, np.int64), *(x for x in lists if x.size)]).astype(np.int64), minlength=n)
    return prior_sd, choices, degree


def _is_place(top: object) -> bool:
    return top is None or (isinstance(top, int | np.integer) and not isinstance(top, bool) and int(top) >= 1)


def _objective(score: FloatArray, choices: list[_Choices], prior_sd: float) -> tuple[float, FloatArray, FloatArray]:
    """Value, gradient [n] and Hessian [n, n], from ratios alone and without differences of nearly equal numbers, at any scores."""
    n = len(score)
    value, gradient, off = 0.5 * float(score @ score) / prior_sd**2, score / prior_sd**2, np.zeros((n, n))
    for group in choices:
        s, w, k = score[group.items], group.weight[:, None], group.places
        below = np.logaddexp.accumulate(s[:, ::-1], axis=1)[:, ::-1]  # log sum of exp of a place and all after it
        place, length = np.arange(k), s.shape[1]
        value += float((w * np.logaddexp(0.0, below[:, 1 : k + 1] - s[:, :k])).sum())
        # chance[r, p, j] of document j to be chosen for place p; those before p are gone
        gone = np.arange(length) < place[:, None]
        chance = np.exp(np.where(gone, -np.inf, np.minimum(s[:, None, :] - below[:, :k, None], 0.0)))
        outer = np.matmul((w[:, :, None] * chance).transpose(0, 2, 1), chance)
        cells = group.items[:, :, None] * n + group.items[:, None, :]
        off += np.bincount(cells.ravel(), outer.ravel(), n * n).reshape(n, n)
        chance[:, place, place] = 0.0
        chance[:, place, place] = -chance.sum(axis=2)  # the chosen one's: its chance less 1
        gradient = gradient + np.bincount(group.items.ravel(), (w * chance.sum(axis=1)).ravel(), n)
    np.fill_diagonal(off, 0.0)  # chances add up to 1, so the rest of a row says what the diagonal is
    return value, gradient, np.diag(off.sum(axis=1) + 1.0 / prior_sd**2) - off
