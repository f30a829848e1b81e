"""Pooling judges' preferences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.core.pooling import pool


def table(rng: np.random.Generator, pairs: int, judges: int) -> np.ndarray:
    values = rng.uniform(-1, 1, (pairs, judges))
    values[rng.random((pairs, judges)) < 0.3] = np.nan
    return values


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 12), st.integers(1, 5), st.integers(0, 2**32))
def test_is_the_weighted_mean_of_those_who_answered(pairs: int, judges: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, weights = table(rng, pairs, judges), rng.uniform(0.1, 2, judges)
    prob, count = pool(values, weights)
    assert prob.shape == count.shape == (pairs,)
    for row, p, n in zip(values, prob, count, strict=True):
        answered = [(v, w) for v, w in zip(row, weights, strict=True) if not np.isnan(v)]
        assert n == len(answered)
        if answered:
            assert p == pytest.approx((1 + sum(v * w for v, w in answered) / sum(w for _, w in answered)) / 2)
            assert 0 <= p <= 1
        else:
            assert np.isnan(p)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_symmetries(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, weights = table(rng, 9, 4), rng.uniform(0.1, 2, 4)
    prob, count = pool(values, weights)
    np.testing.assert_allclose(pool(-values, weights)[0], 1 - prob)  # the other document's point of view
    np.testing.assert_allclose(pool(values, 7 * weights)[0], prob)
    order = rng.permutation(4)
    shuffled, counted = pool(values[:, order], weights[order])
    np.testing.assert_allclose(shuffled, prob)
    np.testing.assert_array_equal(counted, count)


def test_a_missing_judgment_is_no_tie() -> None:
    prob, count = pool([[1.0, np.nan], [1.0, 0.0], [np.nan, np.nan]], [1.0, 1.0])
    assert prob[:2].tolist() == [1.0, 0.75]
    assert np.isnan(prob[2])
    assert count.tolist() == [1, 2, 0]


def test_a_judge_of_weight_zero_is_not_heard() -> None:
    prob, count = pool([[1.0, -1.0], [np.nan, -1.0]], [1.0, 0.0])
    assert prob[0] == 1.0
    assert np.isnan(prob[1])  # only the one that does not count has answered
    assert count.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("values", "weights", "match"),
    [
        ([[1.1, 0.0]], [1, 1], r"must be in \[-1, 1\]"),
        ([[1.0, 0.0]], [1, 1, 1], "do not fit"),
        ([1.0, 0.0], [1, 1], "do not fit"),
        ([[1.0, 0.0]], [1, -1], "do not fit"),
    ],
)
def test_bad_input(values: list[object], weights: list[float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        pool(values, weights)
