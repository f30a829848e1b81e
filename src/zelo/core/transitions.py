"""How the steps of traces follow each other: transition matrices between behaviors, their distances, and walks on them.

A trace is a path over s states; a corpus of traces is a transition matrix P [s, s] and the share of each state [s]
(arXiv 2601.06002 describes traces so).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zelo.core.diversity import entropy
from zelo.errors import InputError

FloatArray = NDArray[np.float64]


def transition_counts(paths: Sequence[Sequence[int]], states: int) -> FloatArray:
    """Return how often each state follows each other one [states, states], row = from.

    Raises:
        InputError: a state out of range.
    """
    counts = np.zeros((states, states))
    for path in paths:
        steps = np.asarray(path, np.int64)
        if len(steps) and (steps.min() < 0 or steps.max() >= states):
            raise InputError(f"a state that is not in 0 .. {states - 1}")
        np.add.at(counts, (steps[:-1], steps[1:]), 1)
    return counts


def transition_matrix(counts: ArrayLike, prior: float = 0.5) -> FloatArray:
    """Return the probabilities [s, s] behind counts, rows summing to 1, with `prior` added to every count.

    Raises:
        InputError: not a square table of finite counts, or a row without counts and no prior.
    """
    table = np.asarray(counts, np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not np.isfinite(table).all() or (table < 0).any() or prior < 0:
        raise InputError("transition counts are a square table of numbers not below 0")
    table = table + prior
    totals = table.sum(1, keepdims=True)
    if not (totals > 0).all():
        raise InputError("a state that nothing follows", remedy="use a prior above 0")
    found: FloatArray = table / totals
    return found


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> float:
    """Return the Jensen-Shannon divergence of two distributions over the same states, in bits: 0 equal, 1 disjoint.

    Raises:
        InputError: the shapes differ, or one sums to 0.
    """
    a, b = np.asarray(p, np.float64).ravel(), np.asarray(q, np.float64).ravel()
    if a.shape != b.shape or not a.sum() > 0 or not b.sum() > 0:
        raise InputError("two distributions over the same states are needed")
    a, b = a / a.sum(), b / b.sum()
    return max(0.0, (entropy((a + b) / 2) - (entropy(a) + entropy(b)) / 2) / float(np.log(2)))


def matrix_correlation(p: ArrayLike, q: ArrayLike) -> float:
    """Return Pearson's correlation between the entries of two transition matrices; NaN where one has equal entries only."""
    a, b = np.asarray(p, np.float64).ravel(), np.asarray(q, np.float64).ravel()
    if a.shape != b.shape or not a.std() > 0 or not b.std() > 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def walk(matrix: ArrayLike, start: int, steps: int, rng: np.random.Generator) -> list[int]:
    """Draw a path of so many states from `start` on, which is its first.

    Raises:
        InputError: not a transition matrix, or a start or number of steps out of range.
    """
    table = np.asarray(matrix, np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or (table < 0).any() or not np.allclose(table.sum(1), 1):
        raise InputError("not a transition matrix", remedy="rows must be probabilities")
    if not 0 <= start < len(table) or steps < 1:
        raise InputError(f"a walk of {steps} steps from state {start}", remedy=f"use at least 1 step, from 0 .. {len(table) - 1}")
    path = [start]
    while len(path) < steps:
        path.append(int(rng.choice(len(table), p=table[path[-1]] / table[path[-1]].sum())))
    return path
