"""Which pairs to compare when no model chooses them: designs drawn beforehand, and those that look at the ranking so far.

`active_pairs` chooses by expected information; these are simpler, and what it is measured against in experiments/designs.
Documents are numbered 0 .. n - 1 here; in every pair the first is shown first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zelo.core.comparison_graph import hamiltonian_cycles
from zelo.errors import InputError

__all__ = ["Design", "Pairing", "draw_pairs", "next_pairs"]

Design = Literal["cycles", "random", "bipartite", "all"]
Pairing = Literal["smallest_gap", "swiss"]

IntArray = NDArray[np.int64]


def draw_pairs(n: int, count: int, rng: np.random.Generator, design: Design = "cycles") -> IntArray:
    """Draw pairs of n documents, none twice.

    Args:
        n: number of documents, >= 0.
        count: pairs wanted, >= 0; fewer are drawn where the design has fewer, and `all` takes no notice of it.
        rng: source of randomness.
        design: `cycles`, edge-disjoint Hamiltonian cycles, the last one cut short; with at most n / 2 pairs, steps of a cycle that share
            no document, the rest of the cycle after them. `random`, pairs drawn uniformly. `bipartite`, two random halves,
            each document against documents of the other half only, all equally often up to one. `all`, every pair.

    Returns:
        [m, 2]; a document is first in about half of its pairs.

    Raises:
        InputError: the design is unknown, or a number is negative.
    """
    if design not in DESIGNS:
        raise InputError(f"unknown design {design!r}", remedy=f"use one of {', '.join(get_args(Design))}")
    if n < 0 or count < 0:
        raise InputError(f"the numbers of documents and pairs must be >= 0, got {n} and {count}")
    if n < 2 or count == 0:
        return np.empty((0, 2), np.int64)
    return DESIGNS[design](n, count, rng)


def _cycles(n: int, count: int, rng: np.random.Generator) -> IntArray:
    degree = 2 * max(-(-count // n), 1)
    if n <= degree + 1:
        return rng.permutation(hamiltonian_cycles(n, degree, rng))[:count]
    pairs = hamiltonian_cycles(n, degree, rng)
    if count < n:
        pairs = np.concatenate([pairs[::2], pairs[1::2]])  # every other step first: each document as early as possible
    return pairs[:count]


def _random(n: int, count: int, rng: np.random.Generator) -> IntArray:
    pairs = np.stack(np.triu_indices(n, 1), axis=1)
    drawn = pairs[rng.choice(len(pairs), min(count, len(pairs)), replace=False)]
    return _either_way(drawn, rng)


def _bipartite(n: int, count: int, rng: np.random.Generator) -> IntArray:
    order = rng.permutation(n)
    left, right = order[: n // 2], order[n // 2 :]
    shifts = rng.permutation(len(right))
    place = np.arange(len(left))
    rounds = [np.stack([left, right[(place + shift) % len(right)]], axis=1) for shift in shifts]
    # Every other round shows the other half first.
    pairs = np.concatenate([r if k % 2 == 0 else r[:, ::-1] for k, r in enumerate(rounds)])
    return pairs[:count]


def _all(n: int, count: int, rng: np.random.Generator) -> IntArray:
    del count
    return hamiltonian_cycles(n, n + n % 2, rng)


DESIGNS: Mapping[Design, Callable[[int, int, np.random.Generator], IntArray]] = {
    "cycles": _cycles,
    "random": _random,
    "bipartite": _bipartite,
    "all": _all,
}


def next_pairs(score: ArrayLike, compared: ArrayLike, count: int, rng: np.random.Generator, pairing: Pairing, *, cap: int = 4) -> IntArray:
    """Choose pairs by the ranking so far, none that was compared before.

    Args:
        score: [n], fitted so far.
        compared: [m, 2], pairs compared before, in either order.
        count: pairs wanted, >= 0.
        rng: source of randomness, for equal scores and for which document is first.
        pairing: `smallest_gap`, the pairs whose scores are closest. `swiss`, as in tournaments: from the top, each document against the
            next one in the ranking that it has not met and that is not yet paired, again from the top when the ranking is used up.
        cap: most pairs of one document, >= 1.

    Returns:
        [k, 2], k <= count.

    Raises:
        InputError: the pairing is unknown.
    """
    if pairing not in get_args(Pairing):
        raise InputError(f"unknown pairing {pairing!r}", remedy=f"use one of {', '.join(get_args(Pairing))}")
    values = np.asarray(score, np.float64)
    n = len(values)
    done = np.eye(n, dtype=np.bool_)
    for i, j in np.asarray(compared, np.int64).reshape(-1, 2).tolist():
        done[i, j] = done[j, i] = True
    shuffled = rng.permutation(n)
    order = shuffled[np.argsort(-values[shuffled], kind="stable")]
    chosen = _by_gap(values, order, done, count, cap) if pairing == "smallest_gap" else _swiss(order, done, count, cap)
    return _either_way(np.array(chosen, np.int64).reshape(-1, 2), rng)


def _by_gap(values: NDArray[np.float64], order: IntArray, done: NDArray[np.bool_], count: int, cap: int) -> list[tuple[int, int]]:
    i, j = np.triu_indices(len(order), 1)
    load = np.zeros(len(order), np.int64)
    chosen: list[tuple[int, int]] = []
    for at in np.argsort(values[order[i]] - values[order[j]], kind="stable").tolist():
        if len(chosen) == count:
            break
        a, b = int(order[i[at]]), int(order[j[at]])
        if not done[a, b] and load[a] < cap and load[b] < cap:
            chosen.append((a, b))
            load[[a, b]] += 1
    return chosen


def _swiss(order: IntArray, done: NDArray[np.bool_], count: int, cap: int) -> list[tuple[int, int]]:
    chosen: list[tuple[int, int]] = []
    for _ in range(cap):
        waiting = order.tolist()
        before = len(chosen)
        while waiting and len(chosen) < count:
            a = waiting.pop(0)
            b = next((b for b in waiting if not done[a, b]), None)
            if b is not None:
                waiting.remove(b)
                done[a, b] = done[b, a] = True
                chosen.append((a, b))
        if len(chosen) in (before, count):
            break
    return chosen


def _either_way(pairs: IntArray, rng: np.random.Generator) -> IntArray:
    """Show a random document of each pair first."""
    turned = rng.random(len(pairs)) < 0.5
    return np.where(turned[:, None], pairs[:, ::-1], pairs)
