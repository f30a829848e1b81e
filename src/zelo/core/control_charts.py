"""Control charts: has a daily figure left its ordinary level? One-sided EWMA with limits that know how little the days tell.

EWMA: E_t = (1 - r) E_{t-1} + r x_t (Roberts 1959). The variance of E_t is carried along day by day, so that days of different
sample sizes each get the limits they deserve, and limits are narrow enough in the first days (Lucas and Saccucci 1990). Two
sources of error are added that a textbook chart leaves out: days differ by more than sampling explains (Laney 2002, here as the
variance between days of a random-effects mean, DerSimonian and Laird 1986), and the ordinary level is itself an estimate from few
days, which makes false alarms frequent if it is taken for the truth (Jones, Champ and Rigdon 2001).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zelo.errors import InputError

FloatArray = NDArray[np.float64]
Side = Literal["below", "above"]


@dataclass(frozen=True, slots=True)
class Day:
    """One day's sample.

    Attributes:
        mean: weighted mean of the searches' values.
        variance: of single searches' values around it, weighted the same way; judge noise is in it.
        effective: searches that a simple random sample of the same precision would have: 1 / sum of squared weights.
        searches: how many were judged.
    """

    mean: float
    variance: float
    effective: float
    searches: int


@dataclass(frozen=True, slots=True)
class Baseline:
    """The ordinary level: mean with its standard error, variance of one search, and variance between days beyond sampling."""

    mean: float
    stderr: float
    variance: float
    between: float
    days: int


@dataclass(frozen=True, slots=True)
class Point:
    """A day on the chart. `z` is how many standard errors the EWMA lies on the bad side; `limit` is the value of the alarm."""

    value: float
    stderr: float
    ewma: float
    limit: float
    z: float
    alarm: bool


def summarize(values: Sequence[float], weights: FloatArray) -> Day:
    """Return the day of some searches' values [n], n >= 1, whose weights [n] add up to 1.

    Raises:
        InputError: no values, or other weights.
    """
    x = np.asarray(values, np.float64)
    if not x.size or x.shape != weights.shape:
        raise InputError(f"{x.size} values and {weights.size} weights: a day needs at least one search, and a weight for each")
    mean, squares = float(weights @ x), float(weights @ weights)
    unbiased = 1.0 - squares
    variance = float(weights @ (x - mean) ** 2) / unbiased if unbiased > 1e-12 else 0.0
    return Day(mean, variance, 1.0 / squares, x.size)


def baseline(days: Sequence[Day], *, share: bool) -> Baseline:
    """Return the ordinary level of some days, at least two.

    Args:
        days: in which all was well.
        share: whether the values are 0 or 1: then the variance of one search is p (1 - p), with p drawn toward 1/2 by one failure and
            one success more than were seen (Laplace), so that a spotless week does not make the first failure an alarm.

    Raises:
        InputError: fewer than two days.
    """
    if len(days) < 2:
        raise InputError(f"{len(days)} day(s) are no baseline", remedy="wait for more days, or set watch.baseline_days to 2 or more")
    mean = np.array([day.mean for day in days])
    size = np.array([day.effective for day in days])
    if share:
        p = (float(mean @ size) + 1.0) / (float(size.sum()) + 2.0)
        variance = p * (1.0 - p)
    else:
        freedom = np.maximum(size - 1.0, 0.0)
        total = float(freedom.sum())
        variance = float(freedom @ np.array([day.variance for day in days])) / total if total > 0 else 0.0
    sampling = variance / size
    between = _between(mean, sampling)
    weight = 1.0 / np.maximum(sampling + between, 1e-12)
    return Baseline(float(weight @ mean / weight.sum()), float(math.sqrt(1.0 / weight.sum())), variance, between, len(days))


def _between(mean: FloatArray, sampling: FloatArray) -> float:
    """Variance between days beyond sampling, by moments; 0 where days differ by no more than their sampling errors."""
    weight = 1.0 / np.maximum(sampling, 1e-12)
    center = weight @ mean / weight.sum()
    excess = float(weight @ (mean - center) ** 2) - (len(mean) - 1)
    scale = float(weight.sum() - (weight @ weight) / weight.sum())
    return max(0.0, excess / scale) if scale > 0 else 0.0


def ewma_chart(days: Sequence[Day], level: Baseline, *, side: Side, memory: float, width: float) -> list[Point]:
    """Return the chart of the days after the baseline.

    The EWMA starts at the baseline's mean and does not go beyond it to the good side: a good week must not hide the bad one
    after it (the reset of Champ, Woodall and Mohsen 1991).

    Args:
        days: after the baseline, in order.
        level: the ordinary level.
        side: where trouble lies.
        memory: r in (0, 1], the weight of the newest day.
        width: standard errors from the ordinary level to the limit, > 0.

    Raises:
        InputError: a parameter out of range.
    """
    if not 0.0 < memory <= 1.0 or not width > 0.0:
        raise InputError(f"memory {memory} must be in (0, 1], width {width} above 0")
    sign = 1.0 if side == "above" else -1.0
    ewma, variance, weight, points = level.mean, 0.0, 0.0, []
    for day in days:
        single = level.variance / day.effective + level.between
        moved = (1.0 - memory) * ewma + memory * day.mean
        variance = memory**2 * single + (1.0 - memory) ** 2 * variance
        weight = memory + (1.0 - memory) * weight  # how much of it is made of new days
        ewma = max(moved, level.mean) if sign > 0 else min(moved, level.mean)
        error = math.sqrt(variance + (weight * level.stderr) ** 2)
        z = sign * (ewma - level.mean) / error if error > 0 else 0.0
        points.append(Point(day.mean, math.sqrt(single), ewma, level.mean + sign * width * error, z, z > width))
    return points


def changed_since(points: Sequence[Point], level: Baseline, side: Side) -> int | None:
    """Return the place of the day with which the present alarm's shift most likely began.

    The maximum likelihood estimate of a step (Samuel, Pignatiello and Calvin 1998): the start that maximizes the days' summed excess over
    the ordinary level, squared, divided by its variance. None where the last point is no alarm.
    """
    if not points or not points[-1].alarm:
        return None
    sign = 1.0 if side == "above" else -1.0
    excess = np.array([sign * (p.value - level.mean) for p in points])
    variance = np.array([max(p.stderr, 1e-12) ** 2 for p in points])
    total, spread = (np.cumsum(x[::-1])[::-1] for x in (excess / variance, 1.0 / variance))
    return int(np.argmax(np.sign(total) * total**2 / spread))
