"""How different the members of a set are: entropy of categories, distance and effective number of vectors."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zelo.errors import InputError

FloatArray = NDArray[np.float64]


def entropy(counts: ArrayLike) -> float:
    """Return the entropy, in nats, of categories with these counts or weights; 0 for none or one category.

    Raises:
        InputError: a count below 0 or not finite.
    """
    values = np.asarray(counts, np.float64).ravel()
    if not np.isfinite(values).all() or (values < 0).any():
        raise InputError("counts are finite and not below 0")
    total = values.sum()
    share = values[values > 0] / total if total > 0 else values[:0]
    return float(-(share * np.log(share)).sum()) + 0.0


def mean_distance(vectors: ArrayLike) -> float:
    """Return the mean cosine distance, 1 - cosine, over all pairs of the vectors [n, d]; 0 for less than two.

    A vector of zeros has the distance 1 to all others.
    """
    unit = _unit(vectors)
    n = len(unit)
    if n < 2:
        return 0.0
    total = unit.sum(0)
    pairs = (total @ total - (unit * unit).sum()) / (n * (n - 1))  # the mean cosine, without the n x n matrix
    return float(1 - pairs)


def effective_number(vectors: ArrayLike) -> float:
    """Return how many entirely different members a set is worth: exp(entropy of the eigenvalues of K / n), K the cosines.

    The Vendi score (Friedman and Dieng 2023, arXiv 2210.02410): n for orthogonal vectors [n, d], 1 for equal ones, 0 for none.
    """
    unit = _unit(vectors)
    n = len(unit)
    if not n:
        return 0.0
    gram = unit @ unit.T if n <= unit.shape[1] else unit.T @ unit  # the same eigenvalues but for zeros
    values = np.clip(np.linalg.eigvalsh(gram / n), 0.0, None)
    missing = max(0.0, 1.0 - float(values.sum()))  # vectors of zeros are different from everything: 1 / n each
    return float(np.exp(entropy(values) if missing < 1e-9 else entropy(np.append(values, np.full(round(missing * n), 1 / n)))))


def farthest_points(vectors: ArrayLike, count: int, start: Iterable[int] = (), weights: ArrayLike | None = None) -> NDArray[np.int64]:
    """Choose vectors far from each other, greedily (Gonzalez 1985): each the one farthest from its nearest chosen one.

    The first, if `start` has none, is the nearest to the middle of all. Equal distances go to the lower number.

    Args:
        vectors: [n, d].
        count: how many to choose, `start` not counted; fewer where there are fewer.
        start: rows that are chosen already.
        weights: of distances [n], above 0; larger ones are chosen rather.

    Returns:
        The rows chosen, in the order of their choice.
    """
    unit = _unit(vectors)
    weight = np.ones(len(unit)) if weights is None else np.asarray(weights, np.float64)
    chosen, nearest = list(start), np.full(len(unit), np.inf)
    taken = np.zeros(len(unit), np.bool_)
    found: list[int] = []
    for row in chosen:
        taken[row] = True
        nearest = np.minimum(nearest, 1 - unit @ unit[row])
    for _ in range(min(count, int((~taken).sum()))):
        value = weight * (unit @ unit.mean(0)) if np.isinf(nearest).all() else weight * nearest
        row = int(np.argmax(np.where(taken, -np.inf, np.round(value, 12))))
        taken[row] = True
        found.append(row)
        nearest = np.minimum(nearest, 1 - unit @ unit[row])
    return np.array(found, np.int64)


def shares(available: ArrayLike, total: int, wanted: ArrayLike | None = None) -> NDArray[np.int64]:
    """Divide a number among strata: as `wanted` says (equally if it says nothing), none above what it has.

    What one stratum lacks goes to the others. Remainders go to the largest ones, equal ones to the first.

    Args:
        available: members of each stratum [s].
        total: how many to take; all if there are fewer.
        wanted: weights of the strata [s], not below 0.
    """
    have = np.asarray(available, np.int64)
    weight = np.where(have > 0, np.ones(len(have)) if wanted is None else np.asarray(wanted, np.float64), 0.0)
    found = np.zeros(len(have), np.int64)
    left = min(total, int(have[weight > 0].sum()))
    while left > 0:
        open_ = (found < have) & (weight > 0)
        ideal = left * np.where(open_, weight, 0) / weight[open_].sum()
        step = np.minimum(np.floor(ideal).astype(np.int64), have - found)
        if not step.any():
            order = np.argsort(-np.where(open_, ideal, -1.0), kind="stable")[: min(left, int(open_.sum()))]
            step[order] = 1
        found += step
        left -= int(step.sum())
    return found


def _unit(vectors: ArrayLike) -> FloatArray:
    table = np.asarray(vectors, np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise InputError("vectors are a finite table [n, d]")
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    unit: FloatArray = table / np.where(norms > 0, norms, 1.0)
    return unit
