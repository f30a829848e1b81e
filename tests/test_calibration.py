"""Scores to targets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit

from zelo.core.calibration import fit_anchor, negative_log_posterior, targets
from zelo.errors import InputError

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
    np.testing.assert_allclose(logit(targets(values, spread=2.0, threshold=0.5)), 2.0 * (standard - 0.5))


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


def rated(count: int, seed: int, slope: float = 1.2, level: float = 2.0, noise: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(scale=2, size=count)
    return scores, np.round(10 * expit(slope * (scores - level) + noise * rng.normal(size=count)))


def test_an_anchor_is_found_again() -> None:
    scores, _ = rated(4000, 0)
    found = fit_anchor(scores, 10 * expit(1.2 * (scores - 2.0)))
    np.testing.assert_allclose([found.slope, found.level], [1.2, 2.0], rtol=0.01)
    assert found.residual < 0.01
    np.testing.assert_allclose(found([2.0, 3.0]), expit(found.slope * (np.array([2.0, 3.0]) - found.level)))


@pytest.mark.parametrize("count", [20, 100])
def test_standard_errors_of_an_anchor(count: int) -> None:
    """They are about as large as the scatter of anchors from other ratings."""
    found = [fit_anchor(*rated(count, seed)) for seed in range(60)]
    for figure, tolerance in (("slope", 0.4), ("level", 0.4)):
        scatter = np.std([getattr(a, figure) for a in found])
        np.testing.assert_allclose(np.median([getattr(a, f"{figure}_stderr") for a in found]), scatter, rtol=tolerance)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 10), st.floats(-50, 50))
def test_anchors_rise_and_do_not_depend_on_the_unit(seed: int, unit: float, zero: float) -> None:
    scores, ratings = rated(12, seed)
    try:
        found = fit_anchor(scores, ratings)
    except InputError:  # a dozen noisy ratings may fall
        with pytest.raises(InputError, match="do not rise"):
            fit_anchor(unit * scores + zero, ratings)
        return
    grid = np.linspace(-30, 30, 200)
    assert found.slope > 0
    assert (np.diff(found(grid)) >= 0).all()
    assert found(grid).min() >= 0
    assert found(grid).max() <= 1
    np.testing.assert_allclose(fit_anchor(unit * scores + zero, ratings)(unit * grid + zero), found(grid), atol=1e-6)


@pytest.mark.parametrize("ratings", [[0, 0, 10, 10], [0, 0, 0, 10], [5, 5, 5, 6]])
def test_an_anchor_is_finite_where_ratings_are_extreme(ratings: list[float]) -> None:
    scores = np.array([0.0, 1.0, 2.0, 3.0])
    found = fit_anchor(scores, ratings)
    assert 0 < found.slope < 10
    center, unit = scores.mean(), scores.std()
    design = np.stack([(scores - center) / unit, np.ones(4)], axis=1)
    best = minimize(lambda p: negative_log_posterior(p, design, np.array(ratings) / 10)[0], [1.0, 0.0], options={"gtol": 1e-9}).x
    np.testing.assert_allclose([found.slope * unit, found.slope * (center - found.level)], best, atol=1e-5)


def test_derivatives_of_the_anchor() -> None:
    scores, ratings = rated(9, 3)
    design = np.stack([scores, np.ones(9)], axis=1)
    at = np.array([0.8, -0.4])

    def moved(side: int, step: float) -> tuple[float, np.ndarray, np.ndarray]:
        return negative_log_posterior(at + step * np.eye(2)[side], design, ratings / 10)

    _, gradient, hessian = negative_log_posterior(at, design, ratings / 10)
    np.testing.assert_allclose(gradient, [(moved(i, 1e-6)[0] - moved(i, -1e-6)[0]) / 2e-6 for i in range(2)], atol=1e-6)
    np.testing.assert_allclose(hessian, [(moved(i, 1e-6)[1] - moved(i, -1e-6)[1]) / 2e-6 for i in range(2)], atol=1e-6)


@pytest.mark.parametrize(
    ("scores", "ratings", "message"),
    [
        ([1.0], [5.0], "two different"),
        ([1.0, 1.0], [5.0, 6.0], "two different"),
        ([1.0, 2.0], [5.0], "two different"),
        ([1.0, 2.0], [5.0, 11.0], "between 0 and 10"),
        ([1.0, 2.0], [5.0, -1.0], "between 0 and 10"),
        ([1.0, np.nan], [5.0, 1.0], "finite"),
        (list(range(40)), [10.0] * 20 + [0.0] * 20, "do not rise"),
    ],
)
def test_ratings_that_anchor_nothing(scores: list[float], ratings: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_anchor(scores, ratings)
