"""Samples drawn stratum by stratum: how many of each, and what a weighted mean of them says (Cochran 1977, chapter 5)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zelo.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def allocate(sizes: ArrayLike, total: int, least: int = 2) -> IntArray:
    """Share a sample out over strata: in proportion to the square roots of their sizes (power allocation, Bankier 1988).

    Small strata, where failures may hide, then get more than their share, and large ones, which decide the mean, most of it.

    Args:
        sizes: of the strata [s], >= 0.
        total: of the sample; where it is as large as the population, everything is taken.
        least: of each stratum that has so many, if `total` allows it.

    Returns:
        Numbers [s], none above its stratum's size; they add up to min(total, sum of sizes).

    Raises:
        InputError: a size or the total is negative.
    """
    population = np.asarray(sizes, np.int64)
    if (population < 0).any() or total < 0:
        raise InputError("sizes of strata and samples cannot be negative")
    left = min(total, int(population.sum()))
    taken = np.minimum(population, least) if left >= np.minimum(population, least).sum() else np.zeros_like(population)
    left -= int(taken.sum())
    while left:
        room = population - taken
        wish = np.sqrt(population.astype(np.float64)) * (room > 0)
        # One at a time to whoever is farthest below its share: exact, and samples are small.
        behind = np.where(room > 0, (taken + 1) / np.where(wish > 0, wish, 1.0), np.inf)
        taken[int(behind.argmin())] += 1
        left -= 1
    return taken


def sample_weights(strata: ArrayLike, sizes: ArrayLike) -> FloatArray:
    """Return the weight [n] of each sampled item, which add up to 1: its stratum's share of the population over the stratum's sample.

    A stratum of which nothing was sampled is left out; the mean is then one of the others.

    Args:
        strata: of the items, places in `sizes` [n].
        sizes: of the strata [s].
    """
    place = np.asarray(strata, np.int64)
    population = np.asarray(sizes, np.float64)
    sampled = np.bincount(place, minlength=len(population)).astype(np.float64)
    if not place.size:
        return np.zeros(0)
    weight = np.divide(population, sampled, out=np.zeros_like(population), where=sampled > 0)[place]
    return np.asarray(weight / weight.sum(), np.float64)
