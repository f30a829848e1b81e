"""Intervals and tests against enumeration, SciPy and their own promises."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.core import significance
from zelo.core.significance import bootstrap_interval, holm, paired_randomization_test
from zelo.errors import InputError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_bootstrap_agrees_with_scipy() -> None:
    values = rng(1).beta(0.5, 0.5, size=80)
    theirs = scipy.stats.bootstrap((values,), np.mean, method="percentile", confidence_level=0.9, n_resamples=20_000, rng=rng(2))
    ours = bootstrap_interval(values, level=0.9, resamples=20_000, rng=rng(3))
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.003)
    assert ours[0] < values.mean() < ours[1]


def test_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    generator = rng(4)
    inside = 0
    for _ in range(300):
        low, high = bootstrap_interval(generator.exponential(size=60), level=0.8, resamples=300, rng=generator)
        inside += low <= 1.0 <= high
    assert inside / 300 == pytest.approx(0.78, abs=0.07)


def test_bootstrap_of_equal_values_has_no_width() -> None:
    assert bootstrap_interval([0.25] * 5, resamples=50, rng=rng()) == (0.25, 0.25)


def test_chunks_hold_every_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    values = rng(5).random(30)
    whole = bootstrap_interval(values, resamples=1000, rng=rng(6))
    monkeypatch.setattr(significance, "CHUNK", 70)  # Two rows a round; the draws are the same stream.
    assert bootstrap_interval(values, resamples=1000, rng=rng(6)) == whole


@pytest.mark.parametrize("seed", range(3))
def test_randomization_agrees_with_full_enumeration(seed: int) -> None:
    difference = rng(seed).integers(-3, 6, size=9) / 7.0  # Few distinct values: ties with the observed sum abound.
    sums = [abs(sum(sign * value for sign, value in zip(signs, difference, strict=True))) for signs in itertools.product((1, -1), repeat=9)]
    exact = np.mean(np.array(sums) >= abs(difference.sum()) - 1e-9)
    b = rng(seed + 10).random(9)
    assert paired_randomization_test(b + difference, b, resamples=40_000, rng=rng(seed)) == pytest.approx(exact, abs=0.01)


def test_randomization_agrees_with_scipy() -> None:
    a = rng(7).normal(0.1, 1.0, 200)
    b = a * 0.3 + rng(8).normal(0.0, 1.0, 200)
    theirs = scipy.stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=4_000, rng=rng(9), vectorized=False
    )
    assert paired_randomization_test(a, b, resamples=20_000, rng=rng(10)) == pytest.approx(theirs.pvalue, abs=0.03)


def test_randomization_holds_its_level() -> None:
    generator = rng(11)
    p = [paired_randomization_test(generator.random(20), generator.random(20), resamples=199, rng=generator) for _ in range(600)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(p) == pytest.approx(0.5, abs=0.05)


def test_randomization_at_its_ends() -> None:
    b = rng(12).random(40)
    assert paired_randomization_test(b, b, resamples=99, rng=rng()) == 1.0
    assert paired_randomization_test(b + 1.0, b, resamples=99, rng=rng()) == pytest.approx(0.01)
    forward = paired_randomization_test(b, b[::-1] + 0.05, resamples=500, rng=rng(13))
    assert paired_randomization_test(b[::-1] + 0.05, b, resamples=500, rng=rng(13)) == forward


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8))
def test_holm_lies_between_none_and_bonferroni_and_keeps_the_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(np.array(p) * len(p), 1.0) + 1e-15).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0.0).all()
    assert adjusted[np.argmin(p)] == pytest.approx(min(1.0, min(p) * len(p)))


def test_unusable_input_is_refused() -> None:
    with pytest.raises(InputError, match="non-empty"):
        bootstrap_interval([], rng=rng())
    with pytest.raises(InputError, match="finite"):
        bootstrap_interval([0.5, float("nan")], rng=rng())
    with pytest.raises(InputError, match="level"):
        bootstrap_interval([0.5], level=95, rng=rng())
    with pytest.raises(InputError, match="resamples"):
        bootstrap_interval([0.5], resamples=0, rng=rng())
    with pytest.raises(InputError, match="same queries, got 2 and 1"):
        paired_randomization_test([0.5, 0.1], [0.5], rng=rng())
    with pytest.raises(InputError, match="p values"):
        holm([1.2])
