"""Pooling judges' preferences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.core.paired_comparison import fit_query
from zelo.core.pooling import pool, rows_by_judge, rows_by_pair


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


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([None, 0.3]))
def test_rows_by_judge_without_terms_are_the_same_fit(seed: int, threshold: float | None) -> None:
    rng = np.random.default_rng(seed)
    values, weights = table(rng, 40, 3), rng.uniform(0.1, 2, 3)
    if threshold:
        values = np.sign(np.where(np.abs(values) < 0.3, 0, values))
    first, second = rng.integers(0, 6, 40), rng.integers(6, 12, 40)
    shown = rng.choice([-1.0, 1.0], (40, 3))
    one, several = rows_by_pair(values, weights, threshold), rows_by_judge(values, weights, shown, np.zeros(3), np.ones(3), threshold)
    scores = [
        fit_query(12, first[rows.pair], second[rows.pair], rows.prob_a, rows.weight, offset=rows.offset, link="logit").score
        for rows in (one, several)
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-7)
    assert one.weight.sum() == pytest.approx(several.weight.sum())
    if threshold is None:
        np.testing.assert_allclose(one.weight, one.n_judges)
        assert one.weight.sum() == pytest.approx((~np.isnan(values)).sum())


def test_rows_by_judge_have_the_judges_terms() -> None:
    rows = rows_by_judge([[1.0, np.nan], [-0.5, 0.0]], [1.0, 3.0], [[1, 1], [-1, 1]], [0.25, -1.0], [1.5, 0.5])
    assert rows.pair.tolist() == [0, 1, 1]
    assert rows.prob_a.tolist() == [1.0, 0.25, 0.5]
    assert rows.weight.tolist() == [1.0, 0.5, 1.5]
    assert rows.slope.tolist() == [1.5, 1.5, 0.5]
    assert rows.offset.tolist() == [0.25, -0.25, -1.0]
    assert rows.n_judges.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="do not fit"):
        rows_by_judge([[1.0]], [1.0], [[1, 1]], [0.0], [1.0])


def test_only_the_unheard_have_answered() -> None:
    """A pair whose only answer is by a judge of weight 0 has no row."""
    for rows in (
        rows_by_pair([[np.nan, 1.0], [1.0, 1.0]], [1.0, 0.0]),
        rows_by_pair([[np.nan, 1.0], [1.0, 1.0]], [1.0, 0.0], 0.5),
        rows_by_judge([[np.nan, 1.0], [1.0, 1.0]], [1.0, 0.0], np.ones((2, 2)), [0.0, 0.0], [1.0, 1.0]),
    ):
        assert set(rows.pair.tolist()) == {1}
