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
from scipy.linalg import cho_factor, cho_solve

from zelo.core.links import PRIOR_SD
from zelo.errors import ConvergenceError, InputError

__all__ = ["RankingFit", "fit_rankings", "negative_log_posterior"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_HALVINGS, _ARMIJO = 40, 1e-4


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
    max_iterations: int = 100,
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
        ConvergenceError: the tolerance was not reached.
    """
    prior_sd, choices, degree = _checked(n, rankings, top, weight, prior_sd)
    score = np.zeros(n)
    tolerance = tolerance * max(1.0, max((float(c.weight.max(initial=0.0)) for c in choices), default=1.0))
    for iteration in range(max_iterations + 1):
        value, gradient, hessian = _objective(score, choices, prior_sd)
        norm = float(np.abs(gradient).max(initial=0.0))
        if norm <= tolerance:
            break
        if iteration == max_iterations:
            what = f"the ranking fit stopped after {max_iterations} iterations at gradient norm {norm:.1e}, above {tolerance:.1e}"
            raise ConvergenceError(what, remedy="allow more iterations, a larger tolerance or a smaller prior_sd")
        step = -np.asarray(cho_solve(cho_factor(hessian), gradient))
        length, slope, rounding = 1.0, float(gradient @ step), 1e-14 * (1.0 + abs(value))
        for _ in range(_HALVINGS):
            if _objective(score + length * step, choices, prior_sd)[0] <= value + _ARMIJO * length * slope + rounding:
                break
            length /= 2.0
        score = score + length * step
    covariance = np.asarray(cho_solve(cho_factor(hessian), np.eye(n))) if n else np.zeros((0, 0))
    likelihood = 0.5 * float(score @ score) / prior_sd**2 - value
    centered = score - score.mean() if n else score  # The prior makes the mean 0 already, up to rounding.
    return RankingFit(centered, np.sqrt(np.diag(covariance)), degree, likelihood, norm, iteration, covariance)


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
    tops = [top] * len(lists) if top is None or isinstance(top, int) else list(top)
    if weights.shape != (len(lists),) or len(tops) != len(lists):
        raise InputError("weight and top must have one entry per ranking")
    if not (np.isfinite(weights) & (weights >= 0)).all() or any(t is not None and t < 1 for t in tops):
        raise InputError("weights must be finite and >= 0, top at least 1")
    shapes: dict[tuple[int, int], list[int]] = {}
    for r, items in enumerate(lists):
        if items.ndim != 1 or (items.size and not np.issubdtype(items.dtype, np.integer)):
            raise InputError("a ranking must be a list of document numbers", where=f"ranking {r}")
        if items.size and (items.min() < 0 or items.max() >= n or len(np.unique(items)) < items.size):
            raise InputError(f"a ranking must name different documents of 0 .. {n - 1}", where=f"ranking {r}")
        last = max(items.size - 1, 0)  # the last document is no choice
        shapes.setdefault((items.size, min(tops[r] or last, last)), []).append(r)
    choices = [_Choices(np.stack([lists[r] for r in of]).astype(np.int64), k, weights[of]) for (_, k), of in shapes.items() if k]
    degree = np.bincount(np.concatenate([np.zeros(0, np.int64), *(x for x in lists if x.size)]).astype(np.int64), minlength=n)
    return prior_sd, choices, degree


def _objective(score: FloatArray, choices: list[_Choices], prior_sd: float) -> tuple[float, FloatArray, FloatArray]:
    n = len(score)
    value, gradient = 0.5 * float(score @ score) / prior_sd**2, score / prior_sd**2
    hessian = np.eye(n) / prior_sd**2
    for group in choices:
        s = score[group.items]
        shift = s.max(axis=1, keepdims=True)
        e = np.exp(s - shift)
        left = np.cumsum(e[:, ::-1], axis=1)[:, ::-1][:, : group.places]  # [rankings, places]: of what each place was chosen from
        left = np.maximum(left, np.finfo(np.float64).tiny)
        w = group.weight[:, None]
        value += float((w * (np.log(left) + shift - s[:, : group.places])).sum())
        # A document is in the choice of place r up to its own place, or of all places if it comes after the known ones.
        member = np.minimum(np.arange(group.items.shape[1]), group.places - 1)
        chance = e * np.cumsum(1 / left, axis=1)[:, member]  # summed chance of being chosen
        pull = w * chance
        pull[:, : group.places] -= w
        gradient = gradient + np.bincount(group.items.ravel(), pull.ravel(), n)
        hessian[np.arange(n), np.arange(n)] += np.bincount(group.items.ravel(), (w * chance).ravel(), n)
        # Sum over places of the product of two documents' chances: both are in the choice up to the earlier one's place.
        both = np.cumsum(1 / left**2, axis=1)[:, np.minimum(member[:, None], member[None, :])]
        outer = w[:, :, None] * both * e[:, :, None] * e[:, None, :]
        cells = group.items[:, :, None] * n + group.items[:, None, :]
        hessian -= np.bincount(cells.ravel(), outer.ravel(), n * n).reshape(n, n)
    return value, gradient, hessian
