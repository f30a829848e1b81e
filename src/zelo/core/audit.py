"""What can be said about a judge's answers without believing them: spread, order effect, flips, agreement, cycles, outliers.

Preferences are in [-1, 1] and positive for document a, NaN where there is no answer; "as shown" means positive for the text that
the judge read first. Answers about one query resemble each other, so intervals take queries, not answers, as the unit that was
drawn: proportions get Wilson's interval (1927) with the number of answers divided by the design effect (Kish, 1965).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zelo.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BINS = 11
"""Bins of a distribution over [-1, 1]; odd, so that 0 is the middle of one."""
Z95 = 1.959963984540054
MAD_TO_SD = 1.4826022185056018
"""Standard deviation of a normal distribution over its median absolute deviation."""
OUTLIER = 3.5
"""Robust z value from which a document counts as an outlier (Iglewicz and Hoaglin, 1993)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval, over `n` answers; NaN where there is none. One query alone has no interval: NaN."""

    value: float
    low: float
    high: float
    n: int


def proportion(hits: ArrayLike, groups: ArrayLike | None = None) -> Estimate:
    """Return the share of hits.

    Args:
        hits: [n] in [0, 1]; 1/2 is half a hit; NaN is left out.
        groups: [n] the query of each; None = all independent.
    """
    values, clusters = _given(hits, groups)
    n = values.size
    if not n:
        return Estimate(np.nan, np.nan, np.nan, 0)
    share = float(values.mean())
    plain = share * (1 - share) / n
    variance = _variance(values, clusters)
    # Where all answers are alike their variance says nothing about the design; the plain interval is then too narrow, if anything.
    effective = n / max(1.0, variance / plain) if plain > 0 and np.isfinite(variance) else float(n)
    z2 = Z95**2 / effective
    center, half = (share + z2 / 2) / (1 + z2), np.sqrt(z2 * share * (1 - share) + z2**2 / 4) / (1 + z2)
    return Estimate(share, max(0.0, float(center - half)), min(1.0, float(center + half)), n)


def mean(values: ArrayLike, groups: ArrayLike | None = None) -> Estimate:
    """Return the mean with a normal interval whose error is robust against likeness within groups; NaN values are left out."""
    given, clusters = _given(values, groups)
    if not given.size:
        return Estimate(np.nan, np.nan, np.nan, 0)
    value, half = float(given.mean()), Z95 * float(np.sqrt(_variance(given, clusters)))
    return Estimate(value, value - half, value + half, given.size)


def distribution(preference: ArrayLike) -> IntArray:
    """Return how many preferences fall into each of `BINS` equal bins of [-1, 1]; NaN is left out."""
    values = np.asarray(preference, np.float64)
    place = (values[~np.isnan(values)] + 1) / 2 * BINS
    return np.bincount(np.clip(place.astype(np.int64), 0, BINS - 1), minlength=BINS)


def evenness(counts: ArrayLike) -> float:
    """Return the entropy of a distribution over that of the uniform one, in [0, 1]; NaN without counts.

    The paper tunes prompts until the answers are roughly uniform (1). Answers of -1 and 1 alone have 0.29, with 0 at most 0.46.
    """
    numbers = np.asarray(counts, np.float64)
    if not numbers.sum():
        return float("nan")
    share = numbers[numbers > 0] / numbers.sum()
    return float(np.abs(share @ np.log(share)) / np.log(numbers.size))


@dataclass(frozen=True, slots=True)
class OrderEffect:
    """How much the place helps.

    Attributes:
        preference: mean preference for the text shown first, in [-1, 1]; 0 is no effect.
        first: share of the decided answers that prefer it, in [0, 1]; 1/2 is no effect.
    """

    preference: Estimate
    first: Estimate


def order_effect(as_shown: ArrayLike, groups: ArrayLike | None = None) -> OrderEffect:
    """Estimate the order effect from all answers.

    Every document is first in half of its comparisons, so the column "first" is orthogonal to all documents' strengths: in a model
    preference = strength of the first - strength of the second + order effect, the plain mean is the least-squares estimate of the
    order effect. Missing answers disturb this a little.

    Args:
        as_shown: [n] preferences, positive for the text shown first; NaN = missing.
        groups: [n] queries.
    """
    values = np.asarray(as_shown, np.float64)
    decided = np.where((values == 0) | np.isnan(values), np.nan, (values > 0).astype(np.float64))
    return OrderEffect(mean(values, groups), proportion(decided, groups))


@dataclass(frozen=True, slots=True)
class Flips:
    """What became of the answer when the same pair was shown in the other order.

    Attributes:
        rate: share of the pairs answered twice whose answers contradict each other: a in one order, b in the other.
        first: how many of the contradictions prefer what is shown first both times; the others prefer the second.
        half: pairs that are a tie in exactly one order.
        shift: mean of the two preferences as shown, in [-1, 1]: the order effect on these very pairs.
    """

    rate: Estimate
    first: int
    half: int
    shift: Estimate


def flips(as_shown: ArrayLike, swapped_as_shown: ArrayLike, groups: ArrayLike | None = None) -> Flips:
    """Compare answers to the same pairs in both orders.

    Args:
        as_shown: [n] positive for the text shown first; NaN = missing.
        swapped_as_shown: [n] likewise, in the other order, so a consistent judge answers with the other sign.
        groups: [n] queries.

    Raises:
        InputError: lengths differ.
    """
    one, two = np.asarray(as_shown, np.float64), np.asarray(swapped_as_shown, np.float64)
    if one.shape != two.shape:
        raise InputError(f"answers in both orders must be of the same pairs, got {one.size} and {two.size}")
    both = ~np.isnan(one + two)
    contradicts = (np.sign(one) == np.sign(two)) & (one != 0)
    rate = proportion(np.where(both, contradicts.astype(np.float64), np.nan), groups)
    return Flips(rate, int((contradicts & (one > 0)).sum()), int((both & ((one == 0) != (two == 0))).sum()), mean((one + two) / 2, groups))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two judges agree: on a better, b better or a tie, over the pairs that both answered.

    Attributes:
        raw: share of the pairs with the same answer.
        kappa: Cohen's kappa (1960): what of the agreement beyond chance is reached, 1 at most; NaN where chance alone is all.
    """

    raw: Estimate
    kappa: float


def agreement(preference: ArrayLike, other: ArrayLike, groups: ArrayLike | None = None) -> Agreement:
    """Compare two judges' answers to the same pairs [n]; NaN = missing."""
    x, y = np.sign(np.asarray(preference, np.float64)), np.sign(np.asarray(other, np.float64))
    both = ~np.isnan(x + y)
    same = np.where(both, (x == y).astype(np.float64), np.nan)
    chance = sum(float((x[both] == kind).mean() * (y[both] == kind).mean()) for kind in (-1, 0, 1)) if both.any() else np.nan
    raw = proportion(same, groups)
    return Agreement(raw, (raw.value - chance) / (1 - chance) if chance < 1 else float("nan"))


def label_accuracy(preference: ArrayLike, gain_a: ArrayLike, gain_b: ArrayLike, groups: ArrayLike | None = None) -> Estimate:
    """Return the share of the pairs with different labels [n] that the preferences order as the labels do; a tie is half a hit."""
    sign, truth = np.sign(np.asarray(preference, np.float64)), np.sign(np.asarray(gain_a, np.float64) - np.asarray(gain_b, np.float64))
    return proportion(np.where(truth == 0, np.nan, (1 + sign * truth) / 2), groups)


def triads(n: int, first: ArrayLike, second: ArrayLike, preference: ArrayLike) -> tuple[int, int]:
    """Count the triads of documents whose three pairs were all decided, and the cyclic ones (a over b over c over a).

    Kendall and Babington Smith (1940). A judge that tosses coins has one in four cyclic.

    Args:
        n: number of documents.
        first: document numbers [m].
        second: document numbers [m].
        preference: [m] positive when the first is better; 0 and NaN are no decision.

    Returns:
        Cyclic triads and all triads.
    """
    i, j, sign = np.asarray(first, np.int64), np.asarray(second, np.int64), np.sign(np.asarray(preference, np.float64))
    net = np.bincount(i * n + j, np.nan_to_num(sign), n * n).reshape(n, n)
    beats = (net - net.T > 0).astype(np.float64)  # of a pair that was asked more than once, the majority counts
    met = np.maximum(beats, beats.T)
    return round(float(((beats @ beats) * beats.T).sum()) / 3), round(float(((met @ met) * met).sum()) / 6)


def outlier_scores(own: Sequence[FloatArray], others: Sequence[FloatArray]) -> list[FloatArray]:
    """Return how far one judge's opinion of each document is from what the other judges' opinion lets one expect.

    Both sides' scores are standardized per query, the judge's are regressed on the others' over all documents, and the residual
    is divided by its robust standard deviation (from the median absolute deviation). A document that speaks to one judge, and to
    that judge alone, stands out; a text that sways all judges does not.

    Args:
        own: per query, scores [documents] fitted to the judge's answers alone.
        others: per query, scores [documents] fitted to the answers of all other judges.

    Returns:
        Per query, robust z values [documents], positive where the judge likes the document more than the others do; zeros where
        one side has no opinion of the query.
    """
    pairs = [(_standardized(a), _standardized(b)) for a, b in zip(own, others, strict=True)]
    known = [(a, b) for a, b in pairs if a.any() and b.any()]
    if not known:
        return [np.zeros(len(a)) for a, _ in pairs]
    x, y = np.concatenate([b for _, b in known]), np.concatenate([a for a, _ in known])
    slope = float(x @ y) / float(x @ x)
    residual = y - slope * x
    middle = float(np.median(residual))
    spread = MAD_TO_SD * float(np.median(np.abs(residual - middle)))
    # A judge that says what the others say has no spread; rounding is then no outlier.
    scale = max(spread, 1e-6)
    return [(a - slope * b - middle) / scale if a.any() and b.any() else np.zeros(len(a)) for a, b in pairs]


def _standardized(scores: FloatArray) -> FloatArray:
    values = np.asarray(scores, np.float64)
    spread = float(values.std()) if values.size else 0.0
    return (values - values.mean()) / spread if spread > 1e-12 else np.zeros(values.size)


def _given(values: ArrayLike, groups: ArrayLike | None) -> tuple[FloatArray, IntArray]:
    """The values that are there [n], and the number of the group of each [n]."""
    array = np.asarray(values, np.float64).reshape(-1)
    names = np.arange(array.size) if groups is None else np.asarray(groups).reshape(-1)
    if names.size != array.size:
        raise InputError(f"{array.size} values and {names.size} groups do not fit")
    there = ~np.isnan(array)
    return array[there], np.unique(names[there], return_inverse=True)[1].astype(np.int64).reshape(-1)


def _variance(values: FloatArray, clusters: IntArray) -> float:
    """Variance of the mean when whole clusters are drawn (linearized ratio estimator); NaN for fewer than two clusters."""
    sums = np.bincount(clusters, values - values.mean())
    if sums.size < 2:
        return float("nan")
    return float(sums @ sums) / values.size**2 * sums.size / (sums.size - 1)
