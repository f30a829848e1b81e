"""Systems compared by scores: the mathematics. A second witness for nDCG, the posterior and the panels; known truth for the rest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.core.metrics import ndcg_at
from zelo.core.paired_comparison import Batch, fit_query, win_probability
from zelo.core.score_draws import draw_scores
from zelo.core.system_comparison import anchors, gains_of, panels, random_values, ranking_values, replicate_means, rescaled, siding
from zelo.errors import InputError


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 8), st.integers(1, 6), st.integers(0, 1000))
def test_values_are_those_of_the_measure(documents: int, depth: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    gains = rng.exponential(size=(3, documents))
    places = np.full((2, depth), -1)
    shown = rng.permutation(documents)[:depth]
    places[0, : len(shown)] = shown
    values = ranking_values(gains, places)
    for draw in range(3):
        assert values[draw, 0] == pytest.approx(ndcg_at(gains[draw, shown].tolist(), gains[draw].tolist(), depth))
    assert (values[:, 1] == 0).all()


def test_gains_are_odds_and_do_not_depend_on_a_constant() -> None:
    gains = gains_of(np.array([[np.log(3.0), 0.0]]), "logit")
    assert gains[0, 0] / gains[0, 1] == pytest.approx(3.0)
    scores, places = np.array([[0.3, -0.2, 1.1]]), np.array([[2, 0, 1], [1, 0, -1]])
    assert ranking_values(gains_of(scores, "probit"), places) == pytest.approx(ranking_values(gains_of(scores + 40, "probit"), places))


def test_draws_have_the_posterior_of_the_fit() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.integers(4, size=60), rng.integers(4, size=60)
    kept = first != second
    first, second, prob = first[kept], second[kept], rng.random(kept.sum())
    normal = rng.standard_normal((40_000, 4))
    batch = Batch([4, 0, 4], [0, len(first), len(first), 2 * len(first)], *(np.tile(c, 2) for c in (first, second, prob)))
    found = draw_scores(batch, [normal, np.zeros((2, 0)), normal])
    fit = fit_query(4, first, second, prob)
    assert found.score[0] == pytest.approx(fit.score)
    assert np.cov(found.drawn[0].T) == pytest.approx(fit.covariance(), abs=0.03 * fit.covariance().max())
    assert np.array_equal(found.drawn[0], found.drawn[2])
    assert found.drawn[1].shape == (2, 0)


def test_panels_are_all_sets_with_their_chances() -> None:
    found = panels(3, 40, np.random.default_rng(0))
    assert len(found) == 10
    assert sum(panel.chance for panel in found) == pytest.approx(1.0)
    assert {panel.times: panel.chance for panel in found}[1, 1, 1] == pytest.approx(6 / 27)
    few = panels(8, 5, np.random.default_rng(0))
    assert len(few) == 5
    assert all(sum(panel.times) == 8 for panel in few)
    with pytest.raises(InputError, match="no judge"):
        panels(0, 5, np.random.default_rng(0))


def test_replicates_spread_as_questions_and_draws_do() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(200, 1, 1)) * 3 + rng.normal(size=(200, 50, 1)) * 4
    means = replicate_means(values, 4000, rng)
    assert means.std() == pytest.approx(np.sqrt((3**2 + 4**2) / 200), rel=0.15)
    assert replicate_means(values, 0, rng).shape == (0, 1)


def _votes(bias: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two sound judges, a dull one, and one that likes the third system's documents by so many logits."""
    count = 6000
    query = np.sort(rng.integers(100, size=count))
    quality = rng.normal(size=count)  # of a, less that of b
    shows = np.stack([np.where(rng.random(count) < 0.5, np.sign(quality + s * rng.normal(size=count)), 0) for s in (0.5, 1.5, 3.0)], axis=1)
    logits = quality[:, None] * np.array([2.0, 2.0, 0.7, 2.0]) + bias * shows[:, 2:] * np.array([0, 0, 0, 1.0])
    return (rng.random((count, 4)) < 1 / (1 + np.exp(-logits))).astype(np.float64), shows, query


def test_a_judge_that_favors_a_system_is_found_and_a_dull_one_is_not_blamed() -> None:
    wins, shows, query = _votes(0.8, np.random.default_rng(2))
    found = siding(wins, shows, query, resamples=500, rng=np.random.default_rng(3))
    assert found.excess[3, 2] == found.excess.max()
    assert found.low[3, 2] > 0.02
    assert found.p_value[3, 2] < 0.01
    assert np.abs(found.excess[2]).max() < 0.03  # it sides less with good systems, and favors none
    assert found.own[2, 0] < found.others[2, 0] - 0.05
    unbiased = siding(*_votes(0.0, np.random.default_rng(4)), resamples=500, rng=np.random.default_rng(3))
    assert (unbiased.p_value > 0.05 / 12).all()


def test_questions_without_an_answer_count_nothing_however_little_is_known() -> None:
    """Half of the questions answered is half of the value; the plain line through the anchors made it less than that, even negative."""
    rng = np.random.default_rng(9)
    gains = [gains_of(rng.normal(size=8) + 1.2 * rng.normal(size=(400, 8)), "probit") for _ in range(40)]
    places = np.stack([np.arange(5), np.full(5, -1), np.array([0, 1, -1, -1, -1])])
    values = np.stack([np.concatenate([ranking_values(g, places), random_values(g, places), anchors(g, 5)], axis=1) for g in gains])
    values[::2, :, 1], values[::2, :, 4] = values[::2, :, 0], values[::2, :, 3]  # the second answers every other question as the first does
    means = values.mean(axis=(0, 1))
    whole, half, _ = rescaled(means[[0, 1, 2, 6, 7]], means[3:6])
    resolution = (means[7] - means[6]) / (1 - means[6])
    assert resolution < 0.6
    answered = values[::2].mean(axis=(0, 1))
    assert half == pytest.approx((answered[3] + (answered[0] - answered[3]) / resolution) / 2)
    assert abs(half - whole / 2) < 0.06
    assert rescaled(means[[0, 1, 2, 6, 7]])[1] < half - 0.1
    none = random_values(gains[0], places)
    assert (none[:, 1] == 0).all()
    assert (none[:, 2] < none[:, 0]).all()
    assert none[:, 0] == pytest.approx(anchors(gains[0], 5)[:, 0])


def test_siding_of_one_question_shows_nothing() -> None:
    """One question resampled is always the same: without a bound its p value was the least there is."""
    rng = np.random.default_rng(5)
    wins, shows = np.stack([np.ones(40), rng.integers(0, 2, 40)], axis=1).astype(float), rng.choice([-1.0, 0.0, 1.0], (40, 3))
    assert (siding(wins, shows, np.zeros(40, np.int64), resamples=200, rng=rng).p_value == 1).all()
    several = siding(wins, shows, np.arange(40) % 5, resamples=200, rng=rng)
    assert several.p_value.min() >= 2.0**-4


def test_siding_counts_ties_as_halves_and_leaves_holes_out() -> None:
    wins = np.array([[1.0, 0.5], [0.0, np.nan], [1.0, 1.0]])
    found = siding(wins, np.array([[1.0, 0.0], [1.0, 0.0], [0.0, -1.0]]), np.array([0, 0, 1]), resamples=10, rng=np.random.default_rng(0))
    assert found.own[:, 0].tolist() == [1.0, 0.5]
    assert found.others[:, 0].tolist() == [0.5, 1.0]
    assert found.own[:, 1].tolist() == [0.0, 0.0]
    assert found.comparisons.tolist() == [2, 1]
    with pytest.raises(InputError, match="one judge"):
        siding(wins[:, :1], np.ones((3, 2)), np.zeros(3, np.int64), rng=np.random.default_rng(0))


def test_anchors_are_a_random_order_and_the_true_one_as_far_as_the_draws_know() -> None:
    rng = np.random.default_rng(6)
    gains = gains_of(rng.normal(size=(1, 6)) + 0.5 * rng.normal(size=(4000, 6)), "probit")
    found = anchors(gains, 3).mean(axis=0)
    orders = [rng.permutation(6)[:3] for _ in range(4000)]
    assert found[0] == pytest.approx(
        np.mean([ranking_values(g[None], o[None])[0, 0] for g, o in zip(gains, orders, strict=True)]), abs=0.02
    )
    others = gains[rng.permutation(4000)]
    true = [ranking_values(g[None], np.argsort(-o)[None, :3])[0, 0] for g, o in zip(gains, others, strict=True)]
    assert found[1] == pytest.approx(np.mean(true), abs=0.02)
    certain = anchors(np.repeat(gains[:1], 3, axis=0), 3)
    assert certain[:, 1] == pytest.approx(1.0)


def test_the_correction_takes_back_what_uncertain_scores_take_away() -> None:
    assert rescaled(np.array([0.4, 0.8, 0.4, 0.8])).tolist() == pytest.approx([0.4, 1.0])
    assert rescaled(np.array([[0.7, 0.3, 1.0]])).tolist() == [pytest.approx([0.7])]
    assert np.isfinite(rescaled(np.array([0.5, 0.5, 0.5]))).all()
    # Systems that know the truth with noise, judged by votes of which little is known: the corrected values are near the true ones.
    rng, noise = np.random.default_rng(7), np.array([0.3, 0.8, 2.0])
    true, found = [], []
    for _ in range(150):
        scores = rng.normal(scale=0.62, size=15)
        places = np.stack([np.argsort(-(scores + e * 0.62 * rng.normal(size=15)))[:5] for e in noise])
        first, second = np.triu_indices(15, 1)
        kept = rng.permutation(len(first))[:40]
        chance = win_probability(scores[first[kept]] - scores[second[kept]])
        batch = Batch([15], [0, 40], first[kept], second[kept], (rng.random(40) < chance).astype(float))
        gains = gains_of(draw_scores(batch, [rng.standard_normal((30, 15))]).drawn[0], "probit")
        true.append(ranking_values(gains_of(scores[None], "probit"), places)[0])
        found.append(np.concatenate([ranking_values(gains, places), anchors(gains, 5)], axis=1).mean(axis=0))
    plain, expected = np.mean(found, axis=0), np.mean(true, axis=0)
    assert (expected - plain[:3])[0] > 0.25
    assert np.abs(rescaled(plain) - expected).max() < 0.1
