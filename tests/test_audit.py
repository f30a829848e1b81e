"""What the audit says of judges, against SciPy, brute force, and simulated judges whose faults are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from zelo.core import audit
from zelo.core.comparison_graph import hamiltonian_cycles
from zelo.errors import InputError
from zelo.judges import Comparison
from zelo.judges.simulated import SimulatedJudge

FLOATS = st.floats(-1, 1, allow_nan=False)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_proportions_have_wilsons_interval(counts: tuple[int, int]) -> None:
    hits, n = counts
    found = audit.proportion([1.0] * hits + [0.0] * (n - hits))
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert found.value == pytest.approx(hits / n)
    # Independent answers: the design effect is n / (n - 1) at least, in favor of caution.
    assert found.low <= expected.low + 1e-9
    assert found.high >= expected.high - 1e-9
    if n > 20:
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_answers_of_one_query_are_not_independent() -> None:
    """The interval of shares that differ between queries holds their mean; one that counts answers does not."""
    rng, held, plain, rounds = np.random.default_rng(1), 0, 0, 1500
    for _ in range(rounds):
        rates = rng.beta(3, 3, size=40)
        hits = rng.random((40, 50)) < rates[:, None]
        clustered = audit.proportion(hits.ravel(), np.repeat(np.arange(40), 50))
        naive = audit.proportion(hits.ravel())
        held += clustered.low <= 0.5 <= clustered.high
        plain += naive.low <= 0.5 <= naive.high
    assert 0.92 <= held / rounds <= 0.97
    assert plain / rounds < 0.7


def test_missing_is_left_out() -> None:
    assert audit.proportion([1, np.nan, 0, np.nan]).n == 2
    assert audit.proportion([np.nan]).n == 0
    assert np.isnan(audit.mean([]).value)
    assert audit.mean([0.5, np.nan, -0.5]).value == 0
    assert audit.distribution([np.nan, 0.0]).sum() == 1
    assert np.isnan(audit.evenness(audit.distribution([np.nan])))
    with pytest.raises(InputError):
        audit.proportion([1.0, 0.0], [1])


def test_evenness_of_known_distributions() -> None:
    assert audit.evenness(audit.distribution(np.linspace(-1, 1, 100_001))) == pytest.approx(1, abs=1e-6)
    assert audit.evenness(audit.distribution([0.3] * 9)) == 0
    assert audit.evenness(audit.distribution([-1, 1] * 50)) == pytest.approx(np.log(2) / np.log(11))
    assert audit.evenness(audit.distribution([-1, 0, 1] * 50)) == pytest.approx(np.log(3) / np.log(11))
    assert audit.distribution([-1.0, 0.0, 1.0]).tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


def comparisons(queries: int = 60, documents: int = 30, degree: int = 8) -> tuple[list[Comparison], np.ndarray, np.ndarray]:
    """Comparisons along directed cycles; the query of each; the two documents of each."""
    rng = np.random.default_rng(0)
    shown, groups, edges = [], [], []
    for q in range(queries):
        for i, j in hamiltonian_cycles(documents, degree, rng).tolist():
            shown.append(Comparison(f"query {q}", f"text {i}", f"text {j}"))
            groups.append(q)
            edges.append((i, j))
    return shown, np.array(groups), np.array(edges)


def gain(query: str, text: str) -> float:
    return int(text.split()[1]) / 10


def ask(judge: SimulatedJudge, shown: list[Comparison]) -> np.ndarray:
    return np.array([np.nan if a.preference is None else a.preference for a in judge.judge(shown)])


def swapped(shown: list[Comparison]) -> list[Comparison]:
    return [Comparison(c.query, c.second, c.first) for c in shown]


@pytest.mark.parametrize("bias", [-0.8, 0.0, 0.8])
def test_order_effect_and_flips_of_a_judge_of_known_bias(bias: float) -> None:
    shown, groups, _ = comparisons()
    judge = SimulatedJudge("biased", gain, noise=0.7, order_bias=bias, failure_rate=0.05, soft=False)
    one, two = ask(judge, shown), ask(judge, swapped(shown))
    effect, flips = audit.order_effect(one, groups), audit.flips(one, two, groups)
    # The judge's draw belongs to the pair, so its answers in both orders differ by twice the bias, and by nothing else.
    both = ~np.isnan(one + two)
    assert flips.rate.n == both.sum()
    assert flips.rate.value == pytest.approx(np.mean(one[both] == two[both]))
    assert flips.first == ((flips.rate.value * flips.rate.n) if bias > 0 else 0)
    assert effect.preference.low <= flips.shift.value <= effect.preference.high
    assert (effect.first.low > 0.5, effect.first.high < 0.5) == (bias > 0, bias < 0)
    if bias == 0:
        assert flips.rate.value == 0
        assert effect.preference.low <= 0 <= effect.preference.high
    else:
        assert 0.05 < flips.rate.value < 0.3
        assert np.sign(flips.shift.value) == np.sign(bias)


def test_flips_tell_ties_from_contradictions() -> None:
    one = np.array([0.5, 0.5, -0.5, 0.0, 0.0, 0.5, np.nan])
    two = np.array([-0.5, 0.5, -0.2, 0.0, 0.3, np.nan, 0.5])
    found = audit.flips(one, two)
    assert (found.rate.n, found.rate.value, found.first, found.half) == (5, 0.4, 1, 1)
    with pytest.raises(InputError):
        audit.flips(one, two[1:])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=2, max_size=60))
def test_kappa_by_its_definition(pairs: list[tuple[float, float]]) -> None:
    x, y = np.sign(np.array(pairs)).T
    found = audit.agreement(x, y)
    observed = np.mean(x == y)
    expected = sum(np.mean(x == k) * np.mean(y == k) for k in (-1, 0, 1))
    assert found.raw.value == pytest.approx(observed)
    if expected < 1:
        assert found.kappa == pytest.approx((observed - expected) / (1 - expected))
    else:
        assert np.isnan(found.kappa)


def test_agreement_leaves_missing_answers_out() -> None:
    nothing = audit.agreement([np.nan, 1.0], [1.0, np.nan])
    assert nothing.raw.n == 0
    assert np.isnan(nothing.kappa)


def test_label_accuracy_recovers_the_judges() -> None:
    shown, groups, edges = comparisons()
    judge = SimulatedJudge("known", lambda q, d: float(int(d.split()[1]) % 2), accuracy=0.8, soft=False)
    gains = (edges % 2).astype(float)
    found = audit.label_accuracy(ask(judge, shown), gains[:, 0], gains[:, 1], groups)
    assert found.n == (gains[:, 0] != gains[:, 1]).sum()
    assert found.low <= 0.8 <= found.high
    assert found.high - found.low < 0.04
    assert audit.label_accuracy([0.0], [1.0], [0.0]).value == 0.5
    assert audit.label_accuracy([1.0], [1.0], [1.0]).n == 0


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 9), st.integers(0, 10_000))
def test_triads_by_counting(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = np.array([p for p in itertools.combinations(range(n), 2) if rng.random() < 0.8] or [(0, 1)])
    preference = rng.choice([-1.0, 0.0, 1.0, np.nan], len(pairs), p=[0.45, 0.05, 0.45, 0.05])
    wins = {(i, j) if p > 0 else (j, i) for (i, j), p in zip(pairs.tolist(), preference, strict=True) if p != 0 and p == p}
    met = {frozenset(w) for w in wins}
    whole = [t for t in itertools.combinations(range(n), 3) if all(frozenset(s) in met for s in itertools.combinations(t, 2))]
    cyclic = sum({(a, b), (b, c), (c, a)} <= wins or {(b, a), (c, b), (a, c)} <= wins for a, b, c in whole)
    assert audit.triads(n, pairs[:, 0], pairs[:, 1], preference) == (cyclic, len(whole))


def test_coins_make_one_triad_in_four_cyclic_and_an_order_none() -> None:
    i, j = np.triu_indices(80, 1)
    coins = np.random.default_rng(3).choice([-1.0, 1.0], i.size)
    cyclic, whole = audit.triads(80, i, j, coins)
    assert whole == 80 * 79 * 78 // 6
    assert cyclic / whole == pytest.approx(0.25, abs=0.02)
    assert audit.triads(80, i, j, np.ones(i.size))[0] == 0


def test_the_attacked_document_stands_out_and_others_seldom_do() -> None:
    rng = np.random.default_rng(5)
    truth = rng.normal(size=(50, 40))
    own, others = truth + 0.5 * rng.normal(size=truth.shape), 3 * truth + rng.normal(size=truth.shape)
    attacked = [int(np.argsort(row)[5]) for row in truth]  # bad documents that one judge puts first
    own[np.arange(5), attacked[:5]] = 4.0
    found = np.array(audit.outlier_scores(list(own), list(others)))
    assert all(found[q, attacked[q]] > audit.OUTLIER for q in range(5))
    found[np.arange(5), attacked[:5]] = 0
    assert np.mean(np.abs(found) > audit.OUTLIER) < 0.002


def test_outliers_where_there_is_nothing_to_compare() -> None:
    flat, some = np.zeros(4), np.arange(4.0)
    assert not np.concatenate(audit.outlier_scores([flat, some, np.zeros(0)], [some, flat, np.zeros(0)])).any()
    same = audit.outlier_scores([some, some[::-1].copy()], [some, some[::-1].copy()])
    assert np.abs(np.concatenate(same)).max() < audit.OUTLIER
