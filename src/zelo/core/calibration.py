"""From scores to targets in [0, 1] (the paper says that y is in [0, 1], not how; docs/decisions/0004 and 0014)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit

from zelo.errors import ConvergenceError, InputError

FloatArray = NDArray[np.float64]

PRIOR = ((2.0, 0.0), (2.0, 4.0))
"""Of an anchor, on rated scores in standard units: means and standard deviations of slope and intercept, both Gaussian."""


def targets(scores: ArrayLike, *, spread: float = 3.0, threshold: float = 2.0) -> FloatArray:
    """Return a logistic of standardized scores that are on one scale: one query's, or scores + offsets of all queries.

    One query at a time, every query is taken to have as many relevant candidates as any other. All queries together, targets mean
    the same for every query as far as the offsets are right.

    Args:
        scores: [n], in any unit.
        spread: logits per standard deviation of the scores.
        threshold: standard deviations above the mean at which a target is 1/2.

    Returns:
        Targets [n] in [0, 1]. Scores that are all equal give every document the target of the mean.

    Raises:
        InputError: a score is not finite.
    """
    values = _finite(scores, "scores")
    deviation = values.std() if len(values) else 0.0
    standard = (values - values.mean()) / deviation if deviation > 1e-12 else np.zeros(len(values))
    return np.asarray(expit(spread * (standard - threshold)), np.float64)


@dataclass(frozen=True, slots=True)
class Anchor:
    """A rising logistic from score + offset to the rating that is to be expected, as a share of 10.

    Attributes:
        slope: logits per unit of score, > 0.
        level: the score at which a rating of 5 is expected.
        slope_stderr: standard error of the slope, with the scatter that the ratings show.
        level_stderr: standard error of the level.
        residual: root mean squared error of the ratings / 10.
    """

    slope: float
    level: float
    slope_stderr: float
    level_stderr: float
    residual: float

    def __call__(self, scores: ArrayLike) -> FloatArray:
        """Return targets [n] in [0, 1] = expected rating / 10 for scores + offsets [n]."""
        return np.asarray(expit(self.slope * (np.asarray(scores, np.float64) - self.level)), np.float64)


def fit_anchor(scores: ArrayLike, ratings: ArrayLike) -> Anchor:
    """Fit the anchor to a few ratings: a logistic regression on fractions (Papke and Wooldridge 1996), maximum a posteriori.

    Args:
        scores: [k], score + offset of the rated documents, k >= 2 and not all equal. Rate documents spread over the range of the
            scores: where all of them are bad nothing is learned about good ones.
        ratings: [k], from 0 (does not answer its query at all) to 10 (answers it fully).

    Raises:
        InputError: fewer than two different scores, a rating outside of 0 .. 10, or ratings that fall as scores rise.
        ConvergenceError: no maximum was found.
    """
    x, y = _finite(scores, "scores"), _finite(ratings, "ratings") / 10.0
    if x.shape != y.shape or len(x) < 2 or x.std() <= 1e-12:
        raise InputError("an anchor needs ratings of documents with at least two different scores", remedy="rate more documents")
    if y.min() < 0 or y.max() > 1:
        raise InputError("ratings must be between 0 and 10")
    center, unit = float(x.mean()), float(x.std())
    design = np.stack([(x - center) / unit, np.ones(len(x))], axis=1)
    (slope, intercept), information = _fractional_logistic(design, y)
    if slope <= 1e-3:
        raise InputError("the ratings do not rise with the scores", remedy="rate more documents, or do without an anchor")
    predicted = expit(design @ np.array([slope, intercept]))
    variance = predicted * (1 - predicted)
    scatter = ((y - predicted) ** 2).sum() / max(float(variance.sum()), 1e-12) * len(x) / max(len(x) - 2, 1)
    covariance = np.linalg.inv(information) * min(scatter, 1.0)  # a fraction scatters at most as a vote of 0 or 1 does
    gradient = np.array([intercept / slope**2, -1.0 / slope])  # of the level -intercept / slope, in standard units
    return Anchor(
        slope=slope / unit,
        level=center - unit * intercept / slope,
        slope_stderr=float(np.sqrt(covariance[0, 0])) / unit,
        level_stderr=float(np.sqrt(gradient @ covariance @ gradient)) * unit,
        residual=float(np.sqrt(np.mean((y - predicted) ** 2))),
    )


def negative_log_posterior(parameters: FloatArray, design: FloatArray, y: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """Return what the anchor minimizes: value, gradient [2] and Hessian [2, 2] at (slope, intercept), for design [k, 2] and y [k]."""
    (mean, deviation), logits = np.array(PRIOR), design @ parameters
    away, predicted = (parameters - mean) / deviation, expit(logits)
    value = 0.5 * away @ away - (y @ log_expit(logits) + (1 - y) @ log_expit(-logits))
    hessian = (design * (predicted * (1 - predicted))[:, None]).T @ design + np.diag(deviation**-2)
    return float(value), away / deviation + design.T @ (predicted - y), hessian


def _fractional_logistic(design: FloatArray, y: FloatArray) -> tuple[tuple[float, float], FloatArray]:
    """Slope and intercept at the maximum of the posterior, by damped Newton steps, and the information [2, 2] there."""
    at = np.array(PRIOR[0])
    value, gradient, hessian = negative_log_posterior(at, design, y)
    for _ in range(100):
        if np.abs(gradient).max() <= 1e-9 * len(y):
            return (float(at[0]), float(at[1])), hessian
        step, length = np.linalg.solve(hessian, gradient), 1.0
        while (new := negative_log_posterior(at - length * step, design, y))[0] > value + 1e-12 * (1 + abs(value)) and length > 1e-9:
            length /= 2
        at = at - length * step
        value, gradient, hessian = new
    raise ConvergenceError("the anchor did not converge", remedy="report this with the ratings")


def _finite(values: ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise InputError(f"{name} must be finite and one-dimensional")
    return array
