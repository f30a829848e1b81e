"""Reliability of judges without labels: recovered where it is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.core.comparison_graph import hamiltonian_cycles
from zelo.core.paired_comparison import fit_query
from zelo.core.reliability import LEAST, MOST, reliabilities, top_agreement, vote_weights
from zelo.judges import Comparison
from zelo.judges.simulated import SimulatedJudge

Scores = list[list[np.ndarray]]


def one_coin(rng: np.random.Generator, chances: list[float], queries: int, documents: int) -> Scores:
    """Judges that put the best document first with a chance each, and else any other; the rest of a ranking is random."""
    best = rng.integers(documents, size=queries)
    scores: Scores = []
    for chance in chances:
        own = []
        for q in range(queries):
            s = rng.random(documents)
            top = int(best[q]) if rng.random() < chance else int(rng.integers(documents))
            s[top] = 2.0
            own.append(s)
        scores.append(own)
    return scores


@pytest.mark.parametrize("chances", [[0.8, 0.6, 0.4], [0.9, 0.9, 0.2, 0.6], [0.5, 0.7, 0.3, 0.9, 0.6]])
def test_known_reliabilities_are_recovered(chances: list[float]) -> None:
    scores = one_coin(np.random.default_rng(0), chances, 2000, 500)
    np.testing.assert_allclose(reliabilities(top_agreement(scores)), chances, atol=0.06)


def test_exact_products_give_exact_factors() -> None:
    r = np.array([0.9, 0.65, 0.3, 0.5])
    np.testing.assert_allclose(reliabilities(np.outer(r, r)), r, atol=1e-6)


def judged_scores(judges: list[SimulatedJudge], queries: int, documents: int) -> Scores:
    """Fit each judge's own judgments of a sparse graph, as the pool stage does."""
    scores: Scores = [[] for _ in judges]
    for q in range(queries):
        edges = hamiltonian_cycles(documents, 8, np.random.default_rng(q))
        shown = [Comparison(f"q{q}", f"d{i:02d}", f"d{j:02d}") for i, j in edges.tolist()]
        for own, judge in zip(scores, judges, strict=True):
            preference = np.array([a.preference for a in judge.judge(shown)], float)
            own.append(fit_query(documents, edges[:, 0], edges[:, 1], (1 + preference) / 2).score)
    return scores


def gain(query: str, document: str) -> float:
    return {"d07": 3.0, "d19": 2.0, "d31": 1.0}.get(document, 0.0)


def test_simulated_judges_are_ordered_by_their_accuracy_and_junk_gets_little() -> None:
    judges = [SimulatedJudge(f"j{a}", gain, accuracy=a, failure_rate=0.1) for a in (0.85, 0.62, 0.56, 0.5)]
    reliability = reliabilities(top_agreement(judged_scores(judges, 60, 40)))
    assert (np.diff(reliability) < 0).all()
    assert reliability[3] < 0.2
    weights = vote_weights(reliability)
    assert weights[3] < 0.05 * weights[0]


def test_equal_judges_get_equal_weights() -> None:
    judges = [SimulatedJudge(f"j{i}", gain, accuracy=0.8) for i in range(4)]
    weights = vote_weights(reliabilities(top_agreement(judged_scores(judges, 80, 30))))
    np.testing.assert_allclose(weights, 0.25, atol=0.06)
    exact = vote_weights(reliabilities(np.full((4, 4), 0.36)))
    np.testing.assert_allclose(exact, 0.25)


def test_a_junk_judge_among_good_ones_gets_the_least_weight_there_is() -> None:
    scores = one_coin(np.random.default_rng(1), [0.8, 0.8, 0.0], 500, 100)
    weights = vote_weights(reliabilities(top_agreement(scores)))
    assert weights[2] < 0.03  # how the two good ones share the rest is then hardly known: only their product is


def test_agreement_is_the_mean_reciprocal_rank_both_ways() -> None:
    one = [np.array([3.0, 2.0, 1.0]), np.array([0.0, 1.0])]
    other = [np.array([1.0, 3.0, 2.0]), np.array([0.0, 5.0])]
    found = top_agreement([one, other])
    assert found[0, 1] == found[1, 0] == pytest.approx(((1 / 3 + 1 / 2) / 2 + 1) / 2)
    assert found[0, 0] == found[1, 1] == 1


def test_of_equal_scores_the_middle_rank_counts() -> None:
    found = top_agreement([[np.array([1.0, 0.0, 0.0, 0.0])], [np.zeros(4)]])
    assert found[0, 1] == pytest.approx((1 / 2.5 + 1) / 2)  # the undecided judge "chooses" the first, which the other has first


def test_questions_that_one_judge_did_not_score_are_left_out() -> None:
    rng = np.random.default_rng(2)
    scores = one_coin(rng, [0.9, 0.7, 0.6], 50, 20)
    expected = top_agreement([own[:30] for own in scores])
    scores[1][30:] = [np.zeros(0)] * 20
    found = top_agreement(scores)
    np.testing.assert_allclose(found[1], expected[1])
    assert found[0, 2] != expected[0, 2]


def test_missing_agreement() -> None:
    r = np.array([0.9, 0.6, 0.4, 0.7])
    agreement = np.outer(r, r)
    agreement[0, 1] = agreement[1, 0] = np.nan  # no question in common: the rest still decides
    np.testing.assert_allclose(reliabilities(agreement), r, atol=1e-5)
    agreement = np.outer(r, r)
    agreement[3, :] = agreement[:, 3] = np.nan
    found = reliabilities(agreement)
    np.testing.assert_allclose(found[:3], r[:3], atol=1e-5)
    assert found[3] == pytest.approx(r[:3].mean(), abs=1e-5)
    assert reliabilities(np.full((3, 3), np.nan)).tolist() == [0.5] * 3
    assert np.isnan(top_agreement([[np.zeros(0)], [np.ones(3)]])[0, 1])


def test_one_judge_and_two() -> None:
    assert reliabilities(np.eye(1)).tolist() == [MOST]
    assert vote_weights(reliabilities(np.eye(1))).tolist() == [1.0]
    np.testing.assert_allclose(reliabilities(np.array([[1, 0.49], [0.49, 1]])), 0.7)
    assert reliabilities(np.array([[1, np.nan], [np.nan, 1]])).tolist() == [0.5, 0.5]
    assert reliabilities(np.ones((2, 2))).tolist() == [MOST, MOST]


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 6), st.integers(0, 2**32))
def test_the_order_of_the_judges_does_not_matter(judges: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # near a product, as agreements are; an arbitrary matrix can have several best factorizations
    r = rng.uniform(0.2, 0.9, judges)
    noise = rng.uniform(-0.03, 0.03, (judges, judges))
    agreement = np.clip(np.outer(r, r) + noise + noise.T, 0.01, 1)
    order = rng.permutation(judges)
    np.testing.assert_allclose(reliabilities(agreement[np.ix_(order, order)]), reliabilities(agreement)[order], atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**32))
def test_bounds_and_sums(judges: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    agreement = rng.uniform(0.001, 1, (judges, judges))
    agreement = (agreement + agreement.T) / 2
    agreement[rng.random((judges, judges)) < 0.2] = np.nan
    agreement = np.where(np.isnan(agreement.T), np.nan, agreement)
    r = reliabilities(agreement)
    assert r.shape == (judges,)
    assert ((r >= LEAST) & (r <= MOST)).all()
    weights = vote_weights(r)
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).all()
    order = np.argsort(r)
    assert (np.diff(weights[order]) >= 0).all()


def test_weights_are_log_odds() -> None:
    weights = vote_weights(np.array([0.9, 0.75, 0.3]))
    odds = np.array([np.log(9), np.log(3), 0.05])
    np.testing.assert_allclose(weights, odds / odds.sum())
