"""Several judges' answers about a pair become one preference, or one row of the fit per judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zelo.core.ties import tie_rows

__all__ = ["Rows", "pool", "rows_by_judge", "rows_by_pair"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What the fit reads, [rows] each: the pair's number, P(a wins) and its weight, how many judges speak in it, slope and offset."""

    pair: IntArray
    prob_a: FloatArray
    n_judges: NDArray[np.int32]
    weight: FloatArray
    slope: FloatArray
    offset: FloatArray


def pool(preferences: ArrayLike, weights: ArrayLike) -> tuple[FloatArray, NDArray[np.int32]]:
    """Average the judges' preferences of each pair; missing ones are left out, never counted as ties.

    Args:
        preferences: [pairs, judges] in [-1, 1], positive for document a; NaN = missing.
        weights: [judges], >= 0.

    Returns:
        prob_a [pairs] in [0, 1], (1 + weighted mean) / 2 (paper section 3: p = (1 - s) / 2 with the other sign), NaN where all
        are missing; and the number of judges that answered [pairs].

    Raises:
        ValueError: a preference out of range, or shapes that do not fit.
    """
    values, w = _checked(preferences, weights)
    given = ~np.isnan(values)
    mass = given @ w
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(given, values, 0.0) @ w / mass
    return np.where(mass > 0, (1 + mean) / 2, np.nan), given.sum(axis=1).astype(np.int32)


def rows_by_pair(preferences: ArrayLike, weights: ArrayLike, tie_threshold: float | None = None) -> Rows:
    """Return one row per pair that has an answer, weighing as much as judges answered; arguments and errors as for `pool`.

    With a threshold (logits), ties are an outcome of their own (`core.ties`), and a pair has up to two rows.
    """
    values, w = _checked(preferences, weights)
    if tie_threshold is None:
        prob, judges = pool(values, w)
        pair = np.flatnonzero(~np.isnan(prob))
        one = np.ones(len(pair))
        return Rows(pair, prob[pair], judges[pair], judges[pair].astype(np.float64), one, 0 * one)
    judges = (~np.isnan(values)).sum(axis=1)
    outcomes = [share.sum(axis=1) for share in _outcomes(values, _shares(values, w))]
    return _two_rows(np.arange(len(values)), outcomes, judges, np.ones(len(values)), np.zeros(len(values)), tie_threshold)


def rows_by_judge(
    preferences: ArrayLike,
    weights: ArrayLike,
    shown_first: ArrayLike,
    order_effect: ArrayLike,
    slope: ArrayLike,
    tie_threshold: float | None = None,
) -> Rows:
    """Return one row per answer, pair by pair, with the judges' terms (`core.judge_terms`).

    The weights of a pair's rows add up to the judges that answered it, so that without terms the fit is that of `rows_by_pair`.

    Args:
        preferences: as for `pool`.
        weights: likewise.
        shown_first: [pairs, judges], 1 where document a was shown first, -1 where b was, 0 = not known.
        order_effect: [judges], units of the link.
        slope: [judges].
        tie_threshold: as for `rows_by_pair`.

    Raises:
        ValueError: as for `pool`.
    """
    values, w = _checked(preferences, weights)
    shown, effect, slopes = np.asarray(shown_first, np.float64), np.asarray(order_effect, np.float64), np.asarray(slope, np.float64)
    if shown.shape != values.shape or effect.shape != w.shape or slopes.shape != w.shape:
        raise ValueError(f"preferences {values.shape}, shown_first {shown.shape} and the terms of {effect.shape} judges do not fit")
    shares = _shares(values, w)
    pair, judge = np.nonzero(shares > 0)
    offset = (shown * effect)[pair, judge]
    one = np.ones(len(pair), np.int32)
    if tie_threshold is None:
        return Rows(pair, (1 + values[pair, judge]) / 2, one, shares[pair, judge], slopes[judge], offset)
    outcomes = [share[pair, judge] for share in _outcomes(values, shares)]
    return _two_rows(pair, outcomes, one, slopes[judge], offset, tie_threshold)


def _checked(preferences: ArrayLike, weights: ArrayLike) -> tuple[FloatArray, FloatArray]:
    values, w = np.asarray(preferences, np.float64), np.asarray(weights, np.float64)
    if values.ndim != 2 or w.shape != values.shape[1:] or (w < 0).any():
        raise ValueError(f"preferences {values.shape} and weights {w.shape} do not fit")
    if (np.abs(values[~np.isnan(values)]) > 1).any():
        raise ValueError("preferences must be in [-1, 1]")
    return values, w


def _shares(values: FloatArray, weights: FloatArray) -> FloatArray:
    """What each answer counts for [pairs, judges]: in proportion to its judge's weight, a pair's together one per answer."""
    given = ~np.isnan(values)
    mass = (given @ weights)[:, None]
    return np.where(given & (mass > 0), weights * given.sum(axis=1, keepdims=True) / np.where(mass > 0, mass, 1.0), 0.0)


def _outcomes(values: FloatArray, shares: FloatArray) -> list[FloatArray]:
    """Weight of a's wins, of ties, and of b's wins [pairs, judges]; a soft preference is part of a win of each."""
    tie = values == 0
    known = np.where(np.isnan(values), 0.0, values)
    return [np.where(tie, 0.0, shares * (1 + known) / 2), np.where(tie, shares, 0.0), np.where(tie, 0.0, shares * (1 - known) / 2)]


def _two_rows(
    pair: IntArray, outcomes: list[FloatArray], judges: NDArray[np.integer], slope: FloatArray, offset: FloatArray, threshold: float
) -> Rows:
    prob, weight, shift = tie_rows(outcomes[0], outcomes[1], outcomes[2], threshold)
    kept = weight > 0
    columns = (np.broadcast_to(np.asarray(c)[:, None], weight.shape)[kept] for c in (pair, judges.astype(np.int32), slope))
    numbers, speaking, slopes = columns
    return Rows(numbers, prob[kept], speaking, weight[kept], slopes, (offset[:, None] + shift)[kept])
