"""How sure we are of a measured value: bootstrap intervals, paired randomization tests, and Holm's correction for several tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zelo.errors import InputError

FloatArray = NDArray[np.float64]

CHUNK = 1 << 21  # Random numbers held at once: 16 MiB.


def bootstrap_interval(values: ArrayLike, level: float = 0.95, resamples: int = 10_000, *, rng: np.random.Generator) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean (Efron 1979), queries resampled with replacement.

    Args:
        values: one value per query [q], q >= 1.
        level: share of the resampled means inside, in (0, 1).
        resamples: >= 1.
        rng: source of randomness.

    Raises:
        InputError: no values, values that are not finite, or a level or number of resamples out of range.
    """
    sample = _finite(values, "values")
    if not 0.0 < level < 1.0:
        raise InputError(f"level must be in (0, 1), got {level}")
    means = [sample[rng.integers(sample.size, size=(rows, sample.size))].mean(axis=1) for rows in _chunks(resamples, sample.size)]
    low, high = np.quantile(np.concatenate(means), [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def stratified_bootstrap_interval(
    strata: Sequence[ArrayLike], weights: ArrayLike | None = None, level: float = 0.95, resamples: int = 10_000, *, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a weighted mean of means, as of a mean over collections.

    Queries are resampled with replacement within each stratum; the strata stay as they are. So the interval is about other queries of
    these collections, not about other collections.

    Args:
        strata: one value per query of each stratum, [s] lists, none empty.
        weights: of the strata's means [s], >= 0; default: equal. They are scaled to sum to 1.
        level: share of the resampled means inside, in (0, 1).
        resamples: >= 1.
        rng: source of randomness.

    Raises:
        InputError: an empty stratum, values that are not finite, or a weight, level or number of resamples out of range.
    """
    samples = [_finite(values, "values") for values in strata]
    shares = np.ones(len(samples)) if weights is None else _finite(weights, "weights")
    if not samples or shares.size != len(samples) or (shares < 0).any() or not shares.sum() > 0:
        raise InputError("every stratum needs a weight >= 0, and one of them more than 0")
    if not 0.0 < level < 1.0:
        raise InputError(f"level must be in (0, 1), got {level}")
    total = np.zeros(resamples)
    for sample, share in zip(samples, shares / shares.sum(), strict=True):
        means = [sample[rng.integers(sample.size, size=(rows, sample.size))].mean(axis=1) for rows in _chunks(resamples, sample.size)]
        total += share * np.concatenate(means)
    low, high = np.quantile(total, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def block_bootstrap_quantiles(
    values: ArrayLike, levels: ArrayLike, confidence: float = 0.95, resamples: int = 2000, *, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return percentile bootstrap intervals of quantiles of a series whose neighbors are alike, such as waiting times in a queue.

    Blocks of about the cube root of n neighbors are resampled (moving blocks on a circle, Politis and Romano 1992): single values
    would make a series of dependent ones look surer than it is.

    Args:
        values: the series in its order [n], n >= 1.
        levels: quantiles in [0, 1], [k].
        confidence: share of the resampled quantiles inside, in (0, 1).
        resamples: >= 1.
        rng: source of randomness.

    Returns:
        Lower and upper ends, [k] each.

    Raises:
        InputError: no values, or values that are not finite.
    """
    series = _finite(values, "values")
    length = max(1, round(series.size ** (1 / 3)))
    blocks = -(-series.size // length)
    found = []
    for rows in _chunks(resamples, blocks * length):
        starts = rng.integers(series.size, size=(rows, blocks, 1))
        places = (starts + np.arange(length)) % series.size
        found.append(np.quantile(series[places.reshape(rows, -1)[:, : series.size]], np.asarray(levels, np.float64), axis=1))
    low, high = np.quantile(np.concatenate(found, axis=1), [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)
    return low, high


def paired_randomization_test(a: ArrayLike, b: ArrayLike, resamples: int = 10_000, *, rng: np.random.Generator) -> float:
    """Return the two-sided p value of "systems a and b have the same mean" (Fisher's test; Smucker, Allan and Carterette, CIKM 2007).

    Under the null hypothesis the two values of a query could as well be exchanged: the signs of the differences are flipped at random,
    and p = (1 + how often |mean| is at least the observed one) / (1 + resamples), which is never 0 and never too small.

    Args:
        a: values of one system, one per query [q], q >= 1.
        b: values of the other on the same queries [q].
        resamples: >= 1; the smallest possible p is 1 / (1 + resamples).
        rng: source of randomness.

    Raises:
        InputError: lengths differ, no values, or values that are not finite.
    """
    first, second = _finite(a, "a"), _finite(b, "b")
    if first.size != second.size:
        raise InputError(f"paired values must be of the same queries, got {first.size} and {second.size}")
    difference = first - second
    # Measures take few distinct values, so exact ties with the observed sum are common and rounding must not break them.
    observed = abs(difference.sum()) - 1e-12 * np.abs(difference).sum()
    extreme = 0
    for rows in _chunks(resamples, difference.size):
        kept = rng.integers(2, size=(rows, difference.size), dtype=np.int8)
        extreme += int((np.abs((2.0 * kept - 1.0) @ difference) >= observed).sum())
    return (1 + extreme) / (1 + resamples)


def holm(p_values: ArrayLike) -> FloatArray:
    """Return p values [t] adjusted for t tests, in the order given (Holm 1979): reject where the result is <= alpha.

    Raises:
        InputError: a p value is outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64).reshape(-1)
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise InputError("p values must be in [0, 1]")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    return adjusted


def _finite(values: ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise InputError(f"{name} must be a non-empty list of finite numbers, one per query")
    return array


def _chunks(resamples: int, size: int) -> list[int]:
    """Numbers of resamples per round, so that memory stays bounded."""
    if resamples < 1:
        raise InputError(f"resamples must be >= 1, got {resamples}")
    rows = max(1, CHUNK // size)
    return [min(rows, resamples - start) for start in range(0, resamples, rows)]
