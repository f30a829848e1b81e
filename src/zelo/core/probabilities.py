"""How good stated probabilities are: log loss, Brier score, calibration error, and one temperature to mend overconfidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit

from zelo.errors import InputError

FloatArray = NDArray[np.float64]

RANGE = (-4.0, 6.0)
"""Natural logarithms of the temperatures that are looked at."""


def smoothed(successes: ArrayLike, trials: ArrayLike) -> FloatArray:
    """Return (c + 1/2) / (n + 1), the rate of c of n that is never 0 or 1 (Krichevsky and Trofimov 1981)."""
    return (np.asarray(successes, np.float64) + 0.5) / (np.asarray(trials, np.float64) + 1.0)


def log_odds(probabilities: ArrayLike) -> FloatArray:
    """Return log(p / (1 - p)); p in (0, 1).

    Raises:
        InputError: a probability outside.
    """
    p = np.asarray(probabilities, np.float64)
    if not ((p > 0) & (p < 1)).all():
        raise InputError("log-odds need probabilities above 0 and below 1")
    return np.asarray(np.log(p) - np.log1p(-p), np.float64)


def log_loss(odds: ArrayLike, outcomes: ArrayLike, temperature: float = 1.0) -> float:
    """Return the mean cross-entropy, nats, of sigmoid(odds / temperature) to outcomes in [0, 1] (1/2 is a tie).

    Raises:
        InputError: none, of different lengths, or out of range.
    """
    x, y = _checked(odds, outcomes)
    z = x / temperature
    return float(-np.mean(y * log_expit(z) + (1 - y) * log_expit(-z)))


def fitted_temperature(odds: ArrayLike, outcomes: ArrayLike) -> float:
    """Return the temperature with the least log loss, in exp(RANGE) (Guo et al. 2017, arXiv 1706.04599). Above 1: too sure.

    Raises:
        InputError: as `log_loss`.
    """
    x, y = _checked(odds, outcomes)
    found = minimize_scalar(lambda t: log_loss(x, y, float(np.exp(t))), bounds=RANGE, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def held_out_log_loss(odds: ArrayLike, outcomes: ArrayLike, folds: ArrayLike) -> float:
    """Return the mean log loss where each fold's temperature comes from the other folds.

    Args:
        odds: [n].
        outcomes: [n] in [0, 1].
        folds: [n]; what belongs together (both orders of a pair) must share one. With a single fold, T = 1.
    """
    x, y = _checked(odds, outcomes)
    fold = np.asarray(folds)
    losses = np.zeros(len(x))
    for one in np.unique(fold):
        here = fold == one
        temperature = fitted_temperature(x[~here], y[~here]) if (~here).any() else 1.0
        losses[here] = log_loss(x[here], y[here], temperature)
    return float(losses.mean())


def brier(probabilities: ArrayLike, outcomes: ArrayLike) -> float:
    """Return the mean squared error of probabilities."""
    p, y = np.asarray(probabilities, np.float64), np.asarray(outcomes, np.float64)
    return float(np.mean((p - y) ** 2))


def calibration_error(probabilities: ArrayLike, outcomes: ArrayLike, bins: int = 10) -> float:
    """Return the expected calibration error: |mean probability - mean outcome| of equal-width bins, weighted by their size."""
    p, y = np.asarray(probabilities, np.float64), np.asarray(outcomes, np.float64)
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    size = np.bincount(place, minlength=bins)
    gap = np.abs(np.bincount(place, p - y, minlength=bins))
    return float(gap.sum() / max(1, size.sum()))


def sigmoid(odds: ArrayLike, temperature: float = 1.0) -> FloatArray:
    """Return the probabilities of log-odds at a temperature."""
    return np.asarray(expit(np.asarray(odds, np.float64) / temperature), np.float64)


def _checked(odds: ArrayLike, outcomes: ArrayLike) -> tuple[FloatArray, FloatArray]:
    x, y = np.asarray(odds, np.float64), np.asarray(outcomes, np.float64)
    if x.shape != y.shape or x.ndim != 1 or not len(x) or not np.isfinite(x).all() or not ((y >= 0) & (y <= 1)).all():
        raise InputError("log-odds [n] and outcomes [n] in [0, 1] are needed, at least one")
    return x, y
