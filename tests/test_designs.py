"""Designs draw what they say, for every number of documents."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.core.comparison_graph import graph_stats
from zelo.core.designs import DESIGNS, Design, IntArray, draw_pairs, next_pairs
from zelo.errors import InputError

seeds = st.integers(0, 2**32 - 1)


def unordered(pairs: IntArray) -> set[frozenset[int]]:
    return {frozenset(pair) for pair in pairs.tolist()}


@settings(max_examples=80, deadline=None)
@given(n=st.integers(0, 30), count=st.integers(0, 200), design=st.sampled_from(list(DESIGNS)), seed=seeds)
def test_no_pair_twice_and_as_many_as_there_are(n: int, count: int, design: Design, seed: int) -> None:
    pairs = draw_pairs(n, count, np.random.default_rng(seed), design)
    assert pairs.shape[1:] == (2,)
    assert len(unordered(pairs)) == len(pairs)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert ((pairs >= 0) & (pairs < n)).all()
    most = (n // 2) * (n - n // 2) if design == "bipartite" else n * (n - 1) // 2
    assert len(pairs) == (most if design == "all" and count else min(count, most))
    assert (pairs == draw_pairs(n, count, np.random.default_rng(seed), design)).all()


@pytest.mark.parametrize(("n", "count"), [(20, 10), (20, 20), (20, 60), (21, 11), (21, 63)])
def test_cycles_use_documents_alike(n: int, count: int) -> None:
    pairs = draw_pairs(n, count, np.random.default_rng(1))
    degree = np.bincount(pairs.ravel(), minlength=n)
    assert degree.min() >= 1, "half a cycle reaches every document"
    assert np.ptp(degree) <= 1
    if count % n == 0:
        assert graph_stats(n, pairs).components == 1
        assert np.ptp(np.bincount(pairs[:, 0], minlength=n)) == 0


def test_bipartite_has_two_sides_and_is_regular() -> None:
    pairs = draw_pairs(20, 40, np.random.default_rng(2), "bipartite")
    side = np.full(20, -1)
    start = pairs[0, 0]
    side[start] = 0
    for _ in range(20):
        for i, j in pairs.tolist():
            if side[i] >= 0:
                side[j] = 1 - side[i]
            elif side[j] >= 0:
                side[i] = 1 - side[j]
    assert (side[pairs[:, 0]] != side[pairs[:, 1]]).all()
    assert (np.bincount(pairs.ravel()) == 4).all()
    assert (np.bincount(pairs[:, 0]) == 2).all()


def test_random_shows_either_first() -> None:
    pairs = draw_pairs(60, 1000, np.random.default_rng(3), "random")
    assert 400 < (pairs[:, 0] < pairs[:, 1]).sum() < 600


def test_swiss_pairs_neighbors_that_have_not_met() -> None:
    score = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0])
    rng = np.random.default_rng(4)
    assert unordered(next_pairs(score, [], 3, rng, "swiss")) == {frozenset(p) for p in ((0, 1), (2, 3), (4, 5))}
    met = [(0, 1), (3, 2)]
    assert unordered(next_pairs(score, met, 2, rng, "swiss")) == {frozenset(p) for p in ((0, 2), (1, 3))}
    everything = [(i, j) for i in range(6) for j in range(i)]
    assert len(next_pairs(score, everything, 3, rng, "swiss")) == 0
    assert len(next_pairs(score, [], 100, rng, "swiss", cap=2)) == 5, "the last two have met"


def test_smallest_gap_takes_the_closest_first() -> None:
    score = np.array([0.0, 10.0, 10.1, 3.0, 3.3, 20.0])
    rng = np.random.default_rng(5)
    assert unordered(next_pairs(score, [], 2, rng, "smallest_gap")) == {frozenset((1, 2)), frozenset((3, 4))}
    assert unordered(next_pairs(score, [(2, 1)], 1, rng, "smallest_gap")) == {frozenset((3, 4))}
    capped = next_pairs(score, [], 100, rng, "smallest_gap", cap=1)
    assert np.bincount(capped.ravel()).max() == 1
    assert len(capped) == 3


def test_what_is_unknown_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="cycles"):
        draw_pairs(5, 4, rng, "star")  # type: ignore[arg-type]
    with pytest.raises(InputError):
        draw_pairs(-1, 4, rng)
    with pytest.raises(InputError, match="swiss"):
        next_pairs(np.zeros(3), [], 1, rng, "knockout")  # type: ignore[arg-type]
