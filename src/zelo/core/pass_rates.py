"""What k answers to each problem say: pass@k, majority, and how sure a rate is.

A problem has n samples, c of them right. Samples without an answer count as wrong.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, ndtri

from zelo.errors import InputError

FloatArray = NDArray[np.float64]


def pass_at_k(samples: ArrayLike, right: ArrayLike, k: int) -> FloatArray:
    """Return for each problem the probability that k of its samples hold a right one, drawn without putting back.

    1 - C(n - c, k) / C(n, k), the unbiased estimate of Chen et al. 2021 (arXiv 2107.03374, section 2.1).

    Args:
        samples: n of each problem [p], at least k.
        right: c of each problem [p], in 0 .. n.
        k: at least 1.

    Raises:
        InputError: a count out of range.
    """
    n, c = np.asarray(samples, np.int64), np.asarray(right, np.int64)
    if n.shape != c.shape or k < 1 or (n < k).any() or (c < 0).any() or (c > n).any():
        raise InputError(f"pass@{k} needs at least {max(k, 1)} samples of every problem, of which 0 to all are right")
    wrong = n - c
    with np.errstate(invalid="ignore"):
        log_share = gammaln(wrong + 1) - gammaln(wrong - k + 1) - gammaln(n + 1) + gammaln(n - k + 1)
    return np.where(wrong < k, 1.0, -np.expm1(np.where(wrong < k, 0.0, log_share)))


def majority(answers: Sequence[Hashable | None], right: Sequence[bool]) -> float:
    """Return whether the most frequent answer of one problem is right; answers that tie share: their mean correctness.

    Args:
        answers: one per sample; equal values are one answer, None is no answer and has no vote.
        right: whether each sample's answer is right.

    Returns:
        In [0, 1]; 0 where nobody answers.

    Raises:
        InputError: the lengths differ.
    """
    if len(answers) != len(right):
        raise InputError(f"{len(answers)} answers and {len(right)} marks")
    votes: dict[Hashable, int] = {}
    marks: dict[Hashable, list[bool]] = {}
    for answer, mark in zip(answers, right, strict=True):
        if answer is not None:
            votes[answer] = votes.get(answer, 0) + 1
            marks.setdefault(answer, []).append(mark)
    most = max(votes.values(), default=0)
    tied = [float(np.mean(marks[answer])) for answer, count in votes.items() if count == most]
    return float(np.mean(tied)) if tied else 0.0


def wilson_interval(successes: ArrayLike, trials: ArrayLike, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Return the score interval of a rate (Wilson 1927): sound for few trials and for rates of 0 and 1.

    Args:
        successes: [...] in 0 .. trials; need not be whole.
        trials: [...]; without any, the interval is [0, 1].
        level: in (0, 1).

    Raises:
        InputError: a count or the level out of range.
    """
    c, n = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    if not 0 < level < 1 or not ((c >= 0) & (c <= n)).all():
        raise InputError("an interval needs 0 <= successes <= trials and a level in (0, 1)")
    z = float(ndtri(0.5 + level / 2))
    safe = np.where(n > 0, n, 1.0)
    rate, spread = c / safe, z * z / safe
    center = (rate + spread / 2) / (1 + spread)
    half = np.sqrt(rate * (1 - rate) * spread + spread * spread / 4) / (1 + spread)
    low, high = np.where(n > 0, center - half, 0.0), np.where(n > 0, center + half, 1.0)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def equivalence_classes(count: int, same: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Return the class [count] of each of so many things, given pairs that are the same; classes are named by their first member."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in same:
        a, b = sorted((root(i), root(j)))
        parent[b] = a
    return np.array([root(i) for i in range(count)], np.int64)
