"""Simulated judges have the accuracy, bias, failures and correlation that they were given: within binomial bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom

from zelo.errors import InputError
from zelo.judges import JUDGES, Comparison
from zelo.judges.simulated import SimulatedJudge, accuracy_of, labels_by_text
from zelo.types import Document, Qrel, Query

N = 4000


def pairs(gap: float = 1.0) -> tuple[list[Comparison], dict[str, dict[str, float]], np.ndarray]:
    """N questions with a good and a bad document; the good one is shown first in half of them. Also +1 where it is, else -1."""
    labels = {f"q{i}": {f"good {i}": gap, f"bad {i}": 0.0} for i in range(N)}
    shown = [Comparison(f"q{i}", f"good {i}", f"bad {i}") if i % 2 else Comparison(f"q{i}", f"bad {i}", f"good {i}") for i in range(N)]
    return shown, labels, np.where(np.arange(N) % 2, 1.0, -1.0)


def answered(judge: SimulatedJudge, shown: list[Comparison]) -> np.ndarray:
    return np.array([np.nan if a.preference is None else a.preference for a in judge.judge(shown)])


def within(count: float, total: int, share: float) -> bool:
    """Whether a count is as likely as 1 in 10,000 under a binomial: seeds are fixed, so a test passes always or never."""
    return bool(binom.ppf(5e-5, total, share) <= count <= binom.ppf(1 - 5e-5, total, share))


@pytest.mark.parametrize("accuracy", [0.5, 0.6, 0.75, 0.95])
@pytest.mark.parametrize(("order_bias", "tie_band"), [(0.0, 0.0), (0.8, 0.0), (-0.5, 0.7)])
def test_accuracy_is_the_one_asked_for(accuracy: float, order_bias: float, tie_band: float) -> None:
    shown, labels, sign = pairs()
    judge = SimulatedJudge("j", labels, accuracy=accuracy, order_bias=order_bias, tie_band=tie_band)
    preference = answered(judge, shown)
    decided = preference != 0
    assert within(((preference * sign) > 0).sum(), int(decided.sum()), accuracy)
    assert accuracy_of(judge.logits_per_gain, order_bias, tie_band) == pytest.approx(accuracy, abs=1e-9)
    assert decided.all() == (tie_band == 0)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 0.999), st.floats(-4, 4), st.floats(0, 5))
def test_noise_is_solved_for(accuracy: float, order_bias: float, tie_band: float) -> None:
    judge = SimulatedJudge("j", {}, accuracy=accuracy, order_bias=order_bias, tie_band=tie_band)
    assert accuracy_of(judge.logits_per_gain, order_bias, tie_band) == pytest.approx(accuracy, abs=1e-7)


@pytest.mark.parametrize(("noise", "gap"), [(1.0, 1.0), (1.0, 3.0), (0.5, 1.0), (float("inf"), 2.0)])
def test_noise_is_logistic_in_units_of_gain(noise: float, gap: float) -> None:
    shown, labels, sign = pairs(gap)
    right = (answered(SimulatedJudge("j", labels, noise=noise), shown) * sign > 0).sum()
    assert within(right, N, float(expit(gap / noise)))


@pytest.mark.parametrize("order_bias", [-1.0, 0.4, 1.5])
def test_order_bias_in_logits(order_bias: float) -> None:
    shown, labels, _ = pairs(0.0)
    first = (answered(SimulatedJudge("j", labels, noise=1.0, order_bias=order_bias), shown) > 0).sum()
    assert within(first, N, float(expit(order_bias)))


@pytest.mark.parametrize("tie_band", [0.2, 1.0])
def test_tie_band(tie_band: float) -> None:
    shown, labels, _ = pairs(0.0)
    ties = (answered(SimulatedJudge("j", labels, noise=1.0, tie_band=tie_band), shown) == 0).sum()
    assert within(ties, N, float(expit(tie_band) - expit(-tie_band)))


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.6, 1.0])
def test_failures_are_of_all_kinds_and_have_no_preference(rate: float) -> None:
    shown, labels, _ = pairs()
    answers = SimulatedJudge("j", labels, accuracy=0.8, failure_rate=rate).judge(shown)
    assert within(sum(a.preference is None for a in answers), N, rate)
    assert all((a.preference is None) == (a.status != "ok") for a in answers)
    for status in ("failed", "refused", "truncated", "unparsable"):
        assert within(sum(a.status == status for a in answers), N, rate / 4)


def test_failures_do_not_depend_on_who_is_right() -> None:
    shown, labels, sign = pairs()
    judge = SimulatedJudge("j", labels, accuracy=0.75, failure_rate=0.5)
    preference = answered(judge, shown)
    given_ = ~np.isnan(preference)
    assert within((preference[given_] * sign[given_] > 0).sum(), int(given_.sum()), 0.75)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_correlation_of_two_judges(correlation: float) -> None:
    shown, labels, _ = pairs(0.0)
    one, other = (answered(SimulatedJudge(n, labels, noise=1.0, correlation=correlation), shown) for n in ("a", "b"))
    # the sign agreement of two normals of correlation r is 1/2 + asin(r) / pi
    assert within((np.sign(one) == np.sign(other)).sum(), N, 0.5 + np.arcsin(correlation) / np.pi)
    if correlation == 1:
        np.testing.assert_allclose(one, other)


def test_soft_preference_says_how_sure_and_clamped_only_which() -> None:
    shown, labels, _ = pairs()
    soft = answered(SimulatedJudge("j", labels, noise=0.5, tie_band=0.1), shown)
    hard = answered(SimulatedJudge("j", labels, noise=0.5, tie_band=0.1, soft=False), shown)
    assert set(hard) == {-1.0, 0.0, 1.0}
    np.testing.assert_array_equal(np.sign(soft), hard)
    assert len(set(soft.round(6))) > N / 2
    assert np.abs(soft).max() < 1


def test_answers_depend_on_seed_judge_and_texts_only() -> None:
    shown, labels, _ = pairs()
    shown = shown[:300]

    def make(name: str = "j", seed: int = 0) -> SimulatedJudge:
        return SimulatedJudge(name, labels, accuracy=0.7, order_bias=0.3, failure_rate=0.2, correlation=0.4, seed=seed)

    together = make().judge(shown)
    assert [make().judge([c])[0] for c in shown] == together
    assert make().judge(shown[::-1]) == together[::-1]
    assert make("k").judge(shown) != together
    assert make(seed=1).judge(shown) != together
    assert make().prompt_id != make(seed=1).prompt_id


def test_the_other_order_has_the_same_noise() -> None:
    shown, labels, _ = pairs()
    swapped = [Comparison(c.query, c.second, c.first) for c in shown]
    judge = SimulatedJudge("j", labels, accuracy=0.7)
    np.testing.assert_allclose(answered(judge, shown), -answered(judge, swapped), atol=1e-12)
    biased = SimulatedJudge("j", labels, noise=1.0, order_bias=0.6)
    logits = [2 * np.arctanh(answered(biased, c)) for c in (shown, swapped)]
    np.testing.assert_allclose(logits[0] + logits[1], 1.2, atol=1e-6)


def test_labels_by_text() -> None:
    documents = [Document("a", "same text"), Document("b", "same text"), Document("c", "other", "titled")]
    qrels = [Qrel("q", "a", 1.0), Qrel("q", "b", 3.0), Qrel("q", "c", 2.0)]
    labels = labels_by_text([Query("q", "what?"), Query("r", "who?")], documents, qrels)
    assert labels == {"what?": {"same text": 3.0, "titled other": 2.0}, "who?": {}}
    with pytest.raises(InputError, match="unknown query or document"):
        labels_by_text([Query("q", "what?")], documents, [Qrel("q", "z", 1.0)])


def test_gains_from_a_function_and_documents_without_a_label() -> None:
    sure = SimulatedJudge("j", lambda query, text: float(len(text)), noise=1e-6)
    assert [a.preference for a in sure.judge([Comparison("q", "longer", "short"), Comparison("q", "x", "xyz")])] == [1.0, -1.0]
    labeled = SimulatedJudge("j", {"q": {"good": 1.0}}, noise=1e-6)
    assert labeled.judge([Comparison("q", "unlabeled", "good")])[0].preference == -1.0
    with pytest.raises(InputError, match="no labels for the query 'another'"):
        labeled.judge([Comparison("another", "a", "b")])


@pytest.mark.parametrize(
    "bad",
    [
        {}, {"accuracy": 0.7, "noise": 1.0}, {"accuracy": 1.0}, {"accuracy": 0.4}, {"noise": 0.0}, {"noise": float("nan")},
        {"noise": 1.0, "failure_rate": 1.1}, {"noise": 1.0, "correlation": -0.1}, {"noise": 1.0, "tie_band": -1.0},
        {"noise": 1.0, "order_bias": float("inf")},
    ],
)  # fmt: skip
def test_parameters_out_of_range(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match="judge j"):
        SimulatedJudge("j", {}, **bad)  # type: ignore[arg-type]


def test_no_recipe_can_name_one() -> None:
    assert "simulated" not in JUDGES


def test_across_queries_each_document_counts_for_its_own_query() -> None:
    gains = {("q", "x"): 1.0, ("r", "x"): 0.0, ("q", "y"): 0.0, ("r", "y"): 2.0}
    judge = SimulatedJudge("j", lambda query, document: gains[query, document], noise=1e-3)
    assert judge.across

    def preference(*comparison: str) -> float | None:
        return judge.judge([Comparison(*comparison)])[0].preference

    assert preference("q", "x", "y", "r") == pytest.approx(-1)  # x is worth 1 for q, y is worth 2 for r
    assert preference("r", "y", "x", "q") == pytest.approx(1)  # the same, shown the other way round
    assert preference("q", "x", "x", "r") == pytest.approx(1)  # one text, two queries: no tie
    assert preference("q", "x", "x", "q") == 0  # one text for one query


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["x", "y"]), st.sampled_from(["x", "y"]))
def test_across_queries_only_the_bias_tells_the_orders_apart(seed: int, first: str, second: str) -> None:
    judge = SimulatedJudge("j", lambda query, document: 0.3 * len(query + document), noise=1.0, seed=seed)
    shown, swapped = judge.judge([Comparison("q", first, second, "rr"), Comparison("rr", second, first, "q")])
    assert shown.preference is not None
    assert swapped.preference == pytest.approx(-shown.preference)
    within = judge.judge([Comparison("q", first, second)])[0].preference
    assert within != shown.preference  # another question, another draw
