"""Entropy, distances and effective numbers against their definitions; strata and farthest points by what must hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import entropy as scipy_entropy

from zelo.core.diversity import effective_number, entropy, farthest_points, mean_distance, shares
from zelo.errors import InputError


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any))
@settings(max_examples=25, deadline=None)
def test_entropy_is_scipys(counts: list[int]) -> None:
    assert entropy(counts) == pytest.approx(scipy_entropy(counts), abs=1e-12)


@pytest.mark.parametrize(("n", "d"), [(5, 9), (12, 4)])
def test_distance_and_effective_number_are_their_definitions(n: int, d: int) -> None:
    vectors = np.random.default_rng(n).normal(size=(n, d))
    assert mean_distance(vectors) == pytest.approx(pdist(vectors, "cosine").mean())
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    values = np.linalg.svd(unit / np.sqrt(n), compute_uv=False) ** 2
    assert effective_number(vectors) == pytest.approx(np.exp(scipy_entropy(values)))


def test_effective_numbers_of_the_extremes() -> None:
    assert effective_number(np.eye(7)) == pytest.approx(7)
    assert effective_number(np.ones((7, 3))) == pytest.approx(1)
    assert effective_number(np.zeros((4, 3))) == pytest.approx(4)
    assert effective_number(np.zeros((0, 3))) == 0
    assert mean_distance(np.ones((1, 3))) == 0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(0, 30))
@settings(max_examples=50, deadline=None)
def test_shares_take_all_they_can_and_no_more(available: list[int], total: int) -> None:
    found = shares(available, total)
    assert found.sum() == min(total, sum(available))
    assert (found <= available).all()
    open_ = found[np.array(available) > found]
    if len(open_):  # equal shares: nobody who still has some got two less than another
        assert found.max() - open_.min() <= 1


def test_shares_follow_what_is_wanted() -> None:
    assert shares([10, 10, 10], 8, [1, 2, 1]).tolist() == [2, 4, 2]
    assert shares([10, 1, 10], 8, [1, 2, 1]).tolist() == [4, 1, 3]
    assert shares([10, 10], 4, [0, 1]).tolist() == [0, 4]


def test_farthest_points_cover_every_cluster() -> None:
    rng = np.random.default_rng(1)
    centers = np.eye(4)
    points = np.concatenate([center + 0.01 * rng.normal(size=(6, 4)) for center in centers])
    chosen = farthest_points(points, 4)
    assert {int(i) // 6 for i in chosen} == {0, 1, 2, 3}
    more = farthest_points(points, 3, start=[0])
    assert {int(i) // 6 for i in more} == {1, 2, 3}
    assert sorted(farthest_points(points, 99).tolist()) == list(range(24))


def test_faults_are_named() -> None:
    with pytest.raises(InputError):
        entropy([1, -1])
    with pytest.raises(InputError):
        mean_distance([[np.nan, 1.0]])
