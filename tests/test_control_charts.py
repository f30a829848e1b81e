"""Control charts: limits that hold, shifts that are found, and samples stratum by stratum that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.core.control_charts import Day, baseline, changed_since, ewma_chart, summarize
from zelo.core.stratified import allocate, sample_weights
from zelo.errors import InputError

EVEN = np.full(40, 1 / 40)


def month(rng: np.random.Generator, days: int, level: float, shift: float = 0.0, after: int = 10**9, between: float = 0.0) -> list[Day]:
    means = level + shift * (np.arange(days) >= after) + rng.normal(0, between, days)
    return [summarize(rng.normal(mean, 0.3, 40).tolist(), EVEN) for mean in means]


def test_a_shift_is_found_within_days_and_dated() -> None:
    days = month(np.random.default_rng(1), 30, 0.7, shift=-0.15, after=20)
    level = baseline(days[:7], share=False)
    points = ewma_chart(days[7:], level, side="below", memory=0.3, width=3.5)
    first = next(i for i, p in enumerate(points) if p.alarm) + 7
    assert 20 <= first <= 23
    assert 18 <= (changed_since(points, level, "below") or 0) + 7 <= 21


def test_false_alarms_are_rare_although_the_level_is_estimated_and_days_differ() -> None:
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(200):
        days = month(rng, 30, 0.7, between=0.03)
        points = ewma_chart(days[7:], baseline(days[:7], share=False), side="below", memory=0.3, width=3.5)
        alarms += any(p.alarm for p in points)
    assert alarms <= 12  # of 200 months; with a width of 3 and no allowance for the estimate it is one in five


def test_a_good_week_hides_nothing() -> None:
    good = [Day(0.95, 0.09, 40, 40)] * 10
    bad = [Day(0.5, 0.09, 40, 40)] * 2
    level = baseline([Day(0.7, 0.09, 40, 40)] * 7, share=False)
    alone = ewma_chart(bad, level, side="below", memory=0.3, width=3)
    after = ewma_chart(good + bad, level, side="below", memory=0.3, width=3)
    assert after[-1].ewma == pytest.approx(alone[-1].ewma)


def test_a_spotless_baseline_does_not_make_one_failure_an_alarm() -> None:
    level = baseline([summarize([0.0] * 40, EVEN)] * 7, share=True)
    one = summarize([1.0] + [0.0] * 39, EVEN)
    assert level.variance > 0
    assert not ewma_chart([one], level, side="above", memory=0.3, width=3)[0].alarm
    many = summarize([1.0] * 8 + [0.0] * 32, EVEN)
    assert ewma_chart([many], level, side="above", memory=0.3, width=3)[0].alarm


def test_the_variance_of_a_day_is_that_of_its_searches() -> None:
    values = np.random.default_rng(3).normal(0, 1, 40)
    day = summarize(values.tolist(), EVEN)
    assert day.mean == pytest.approx(values.mean())
    assert day.variance == pytest.approx(values.var(ddof=1))
    assert day.effective == pytest.approx(40)


def test_what_is_no_baseline_and_no_chart_is_refused() -> None:
    with pytest.raises(InputError):
        baseline([Day(0.5, 0.1, 10, 10)], share=False)
    with pytest.raises(InputError):
        ewma_chart([], baseline([Day(0.5, 0.1, 10, 10)] * 2, share=False), side="below", memory=0, width=3)
    with pytest.raises(InputError):
        summarize([], np.zeros(0))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=6), st.integers(0, 80))
def test_a_sample_is_shared_out_whole_and_within_the_strata(sizes: list[int], total: int) -> None:
    taken = allocate(sizes, total)
    assert taken.sum() == min(total, sum(sizes))
    assert (taken <= sizes).all()
    assert (taken >= 0).all()


def test_the_weighted_mean_of_a_stratified_sample_is_the_population_mean() -> None:
    rng = np.random.default_rng(4)
    sizes = np.array([800, 100, 20])
    population = [rng.normal(m, 1, n) for m, n in zip((0.0, 2.0, 5.0), sizes, strict=True)]
    truth = np.concatenate(population).mean()
    means = []
    for _ in range(300):
        taken = allocate(sizes, 30)
        place = np.repeat(np.arange(3), taken)
        drawn = np.concatenate([rng.choice(p, n, replace=False) for p, n in zip(population, taken, strict=True)])
        means.append(sample_weights(place, sizes) @ drawn)
    assert np.mean(means) == pytest.approx(truth, abs=4 * np.std(means) / np.sqrt(300))
