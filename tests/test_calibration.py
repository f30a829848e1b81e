"""Scores to targets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from zelo.core.calibration import targets

scores = st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=2, max_size=30)


@settings(max_examples=60, deadline=None)
@given(scores, st.floats(0.1, 10), st.floats(-100, 100))
def test_unit_and_zero_of_the_scores_do_not_matter(values: list[float], unit: float, zero: float) -> None:
    np.testing.assert_allclose(targets(unit * np.array(values) + zero), targets(values), atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(scores)
def test_order_is_kept_and_targets_are_in_0_1(values: list[float]) -> None:
    found = targets(values)
    assert found.min() >= 0
    assert found.max() <= 1
    order = np.argsort(values)
    assert (np.diff(found[order]) >= 0).all()
    for i in range(len(values)):
        for j in range(i):
            assert (values[i] == values[j]) == (found[i] == found[j])


def test_logits_are_spread_times_standard_scores_above_the_threshold() -> None:
    values = np.array([0.0, 1.0, 2.0, 5.0])
    standard = (values - 2.0) / np.sqrt(3.5)
    np.testing.assert_allclose(logit(targets(values)), 3.0 * (standard - 2.0))
    np.testing.assert_allclose(logit(targets(values, spread=3.0, threshold=0.5, offset=0.7)), 3.0 * (standard - 0.5) + 0.7)


def test_a_score_at_the_threshold_has_target_one_half() -> None:
    values = np.array([-1.0, 1.0, -1.0, 1.0])
    assert targets(values, threshold=1.0)[1] == 0.5


def test_equal_scores_and_few_documents() -> None:
    np.testing.assert_allclose(targets([3.0] * 4), expit(-6.0))
    np.testing.assert_allclose(targets([7.0]), expit(-6.0))
    assert targets([]).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_must_be_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        targets([1.0, bad])
