"""The score fit: symmetries, derivatives, other libraries, simulation with known truth, and honest failure."""

import choix
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.core.comparison_graph import IntArray, hamiltonian_cycles
from zelo.core.paired_comparison import Fit, FloatArray, fit_query, negative_log_posterior, win_probability
from zelo.errors import ConvergenceError, InputError
from zelo.types import Link

LINKS: list[Link] = ["probit", "logit"]
links = st.sampled_from(LINKS)
seeds = st.integers(0, 2**32 - 1)


def comparisons(seed: int, n: int = 7, m: int = 18) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Any graph, repeated pairs, hard and soft preferences, uneven weights."""
    rng = np.random.default_rng(seed)
    first = rng.integers(n, size=m)
    second = (first + rng.integers(1, n, size=m)) % n
    prob = np.where(rng.random(m) < 0.5, rng.integers(2, size=m), rng.random(m)).astype(np.float64)
    return first, second, prob, rng.uniform(0.2, 4.0, size=m)


def fit(seed: int, link: Link, n: int = 7) -> Fit:
    first, second, prob, weight = comparisons(seed, n)
    return fit_query(n, first, second, prob, weight, link=link)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_gradient_and_hessian_are_finite_differences(link: Link, spread: float) -> None:
    first, second, prob, weight = comparisons(1)
    score = np.random.default_rng(2).normal(0.0, spread, 7)
    step = 1e-5

    def at(x: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        return negative_log_posterior(x, first, second, prob, weight, link=link, prior_sd=0.8)

    _, gradient, hessian = at(score)
    for i, direction in enumerate(np.eye(7) * step):
        up, down = at(score + direction), at(score - direction)
        assert gradient[i] == pytest.approx((up[0] - down[0]) / (2 * step), rel=1e-6, abs=1e-6)
        np.testing.assert_allclose(hessian[i], (up[1] - down[1]) / (2 * step), rtol=1e-6, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, link=links)
def test_the_result_is_the_maximum(seed: int, link: Link) -> None:
    first, second, prob, weight = comparisons(seed)
    result = fit_query(7, first, second, prob, weight, link=link)
    value, gradient, hessian = negative_log_posterior(result.score, first, second, prob, weight, link=link)
    assert np.abs(gradient).max() <= 1e-7
    assert result.score.mean() == pytest.approx(0.0, abs=1e-15)
    assert value == pytest.approx(result.score @ result.score / (2 * result.prior_sd**2) - result.log_likelihood)
    np.testing.assert_allclose(result.stderr, np.sqrt(np.diag(np.linalg.inv(hessian))), rtol=1e-6)
    np.testing.assert_allclose(result.covariance(), np.linalg.inv(hessian), rtol=1e-6, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, link=links, order=st.permutations(range(7)))
def test_renaming_documents_renames_scores(seed: int, link: Link, order: list[int]) -> None:
    first, second, prob, weight = comparisons(seed)
    new = np.array(order)
    renamed = fit_query(7, new[first], new[second], prob, weight, link=link)
    np.testing.assert_allclose(renamed.score[new], fit(seed, link).score, atol=1e-8)
    np.testing.assert_allclose(renamed.stderr[new], fit(seed, link).stderr, rtol=1e-7)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, link=links)
def test_what_was_shown_first_does_not_matter_and_reversing_negates(seed: int, link: Link) -> None:
    first, second, prob, weight = comparisons(seed)
    swapped = fit_query(7, second, first, 1.0 - prob, weight, link=link)
    np.testing.assert_allclose(swapped.score, fit(seed, link).score, atol=1e-8)
    reversed_ = fit_query(7, first, second, 1.0 - prob, weight, link=link)
    np.testing.assert_allclose(reversed_.score, -fit(seed, link).score, atol=1e-8)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, link=links)
def test_twice_the_data_is_twice_the_weight(seed: int, link: Link) -> None:
    first, second, prob, weight = comparisons(seed)
    twice = fit_query(7, np.tile(first, 2), np.tile(second, 2), np.tile(prob, 2), np.tile(weight, 2), link=link)
    heavy = fit_query(7, first, second, prob, 2.0 * weight, link=link)
    np.testing.assert_allclose(twice.score, heavy.score, atol=1e-8)
    np.testing.assert_allclose(twice.stderr, heavy.stderr, rtol=1e-7)
    assert (twice.degree == 2 * heavy.degree).all()


@settings(max_examples=30, deadline=None)
@given(seed=seeds, link=links, winner=st.integers(0, 6), gap=st.integers(1, 6))
def test_one_more_win_never_lowers_the_winner(seed: int, link: Link, winner: int, gap: int) -> None:
    first, second, prob, weight = comparisons(seed)
    loser = (winner + gap) % 7
    before = fit(seed, link)
    after = fit_query(7, np.append(first, winner), np.append(second, loser), np.append(prob, 1.0), np.append(weight, 1.0), link=link)
    assert after.score[winner] > before.score[winner]
    assert after.score[loser] < before.score[loser]


@settings(max_examples=20, deadline=None)
@given(seed=seeds, link=links)
def test_missing_is_missing(seed: int, link: Link) -> None:
    first, second, prob, weight = comparisons(seed)
    missing = np.random.default_rng(seed).random(len(prob)) < 0.4
    weightless = ~missing & (np.random.default_rng(seed + 1).random(len(prob)) < 0.2)
    with_gaps = fit_query(7, first, second, np.where(missing, np.nan, prob), np.where(weightless, 0.0, weight), link=link)
    kept = ~missing & ~weightless
    without = fit_query(7, first[kept], second[kept], prob[kept], weight[kept], link=link)
    np.testing.assert_array_equal(with_gaps.score, without.score)
    np.testing.assert_array_equal(with_gaps.degree, np.bincount(np.r_[first[kept], second[kept]], minlength=7))
    assert (with_gaps.components, with_gaps.separated) == (without.components, without.separated)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, link=links)
def test_the_stopping_rule_does_not_matter(seed: int, link: Link) -> None:
    first, second, prob, weight = comparisons(seed)
    loose = fit_query(7, first, second, prob, weight, link=link, tolerance=1e-6)
    tight = fit_query(7, first, second, prob, weight, link=link, tolerance=1e-11)
    np.testing.assert_allclose(loose.score, tight.score, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("prior_sd", [0.7, 1.5, 8.0])
def test_agrees_with_choix(seed: int, prior_sd: float) -> None:
    # choix adds alpha * sum of squares, which is this prior for alpha = 1 / (2 prior_sd^2). (Its documentation says variance 1 / alpha.)
    first, second, _, _ = comparisons(seed, n=8, m=40)
    data = list(zip(first.tolist(), second.tolist(), strict=True))  # (winner, loser)
    theirs = choix.opt_pairwise(8, data, alpha=1.0 / (2.0 * prior_sd**2), tol=1e-10)
    ours = fit_query(8, first, second, np.ones(40), link="logit", prior_sd=prior_sd)
    np.testing.assert_allclose(ours.score, theirs - theirs.mean(), atol=1e-4)


def test_a_vanishing_prior_gives_the_maximum_likelihood() -> None:
    rng = np.random.default_rng(3)
    pairs = hamiltonian_cycles(10, 8, rng).repeat(10, axis=0)
    wins = rng.random(len(pairs)) < 0.6
    data = [(i, j) if won else (j, i) for (i, j), won in zip(pairs.tolist(), wins, strict=True)]
    theirs = choix.ilsr_pairwise(10, data)
    ours = fit_query(10, pairs[:, 0], pairs[:, 1], wins, link="logit", prior_sd=1e4)
    assert not ours.separated
    np.testing.assert_allclose(ours.score, theirs - theirs.mean(), atol=1e-4)


@pytest.mark.parametrize("link", LINKS)
def test_agrees_with_scipy_on_an_independent_objective(link: Link) -> None:
    first, second, prob, weight = comparisons(11)
    log_cdf = {"probit": lambda x: scipy.stats.norm.logcdf(np.sqrt(2.0) * x), "logit": scipy.stats.logistic.logcdf}[link]

    def objective(score: FloatArray) -> float:
        total = score @ score / (2.0 * 0.9**2)
        for i, j, p, w in zip(first, second, prob, weight, strict=True):
            total -= w * (p * log_cdf(score[i] - score[j]) + (1.0 - p) * log_cdf(score[j] - score[i]))
        return float(total)

    theirs = scipy.optimize.minimize(objective, np.zeros(7), method="BFGS", options={"gtol": 1e-6})
    ours = fit_query(7, first, second, prob, weight, link=link, prior_sd=0.9)
    np.testing.assert_allclose(ours.score, theirs.x, atol=1e-4)


@pytest.mark.parametrize(("link", "sd"), [("probit", 0.3), ("logit", 0.7)])
def test_standard_errors_match_the_spread_around_a_known_truth(link: Link, sd: float) -> None:
    rng = np.random.default_rng(17)
    z, z_difference = [], []
    i, j = np.arange(12), np.arange(12, 24)
    for _ in range(120):
        truth = rng.normal(0.0, sd, 24)
        pairs = hamiltonian_cycles(24, 8, rng)
        p = win_probability(truth[pairs[:, 0]] - truth[pairs[:, 1]], link)
        result = fit_query(24, pairs[:, 0], pairs[:, 1], rng.random(len(p)) < p, link=link, prior_sd=sd)
        z.append((result.score - truth) / result.stderr)
        z_difference.append((result.score[i] - result.score[j] - truth[i] + truth[j]) / result.difference_stderr(i, j))
    assert np.mean(np.square(z)) == pytest.approx(1.0, abs=0.12)
    assert np.mean(np.square(z_difference)) == pytest.approx(1.0, abs=0.15)
    assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.015)


def test_comparing_two_documents_makes_their_difference_surer_than_their_scores() -> None:
    result = fit_query(3, [0] * 50, [1] * 50, [1.0, 0.0] * 25)
    assert result.difference_stderr(0, 1) < 0.5 * np.hypot(result.stderr[0], result.stderr[1])


@pytest.mark.parametrize("link", LINKS)
def test_a_document_that_never_loses_gets_a_finite_score(link: Link) -> None:
    # A chain of certain wins, heavy weights and a very weak prior drive the scores far apart.
    first, second = np.arange(9), np.arange(1, 10)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        result = fit_query(10, first, second, np.ones(9), np.full(9, 1e4), link=link, prior_sd=50.0)
    assert np.isfinite(result.score).all()
    assert (np.diff(result.score) < 0.0).all()
    assert result.separated
    assert result.gradient_norm <= 1e-4  # The tolerance is per unit of the largest weight.
    at_50 = negative_log_posterior([25.0, -25.0], [0], [1], [0.0], link=link, prior_sd=50.0)
    assert all(np.isfinite(part).all() for part in at_50)


def test_weak_priors_do_not_stop_newton() -> None:
    first, second, _, _ = comparisons(4)
    result = fit_query(7, first, second, np.ones(len(first)), link="logit", prior_sd=1e5)
    assert result.gradient_norm <= 1e-8


@pytest.mark.parametrize("link", LINKS)
def test_groups_that_never_met(link: Link) -> None:
    apart = fit_query(5, [0, 2], [1, 3], [0.9, 0.7], link=link)
    assert (apart.components, apart.separated) == (3, False)
    assert apart.degree.tolist() == [1, 1, 1, 1, 0]
    assert apart.score[4] == pytest.approx(0.0, abs=1e-12)
    assert apart.stderr[4] == pytest.approx(apart.prior_sd)
    assert apart.score[[0, 1]].sum() == pytest.approx(0.0, abs=1e-12)
    alone = fit_query(2, [0], [1], [0.9], link=link)
    np.testing.assert_allclose(apart.score[:2], alone.score, atol=1e-8)


@pytest.mark.parametrize(
    ("pairs", "prob", "separated"),
    [
        ([(0, 1), (1, 2), (2, 0)], [1.0, 1.0, 1.0], False),  # A cycle of wins: everyone was beaten.
        ([(0, 1), (1, 2), (0, 2)], [1.0, 1.0, 1.0], True),
        ([(0, 1), (1, 2), (0, 2)], [0.9, 0.9, 0.9], False),
        ([(0, 1), (1, 2), (0, 2)], [1.0, 0.9, 1.0], True),  # 0 never lost.
        ([(0, 1), (0, 1), (1, 2)], [1.0, 0.0, 0.5], False),
        ([], [], False),
    ],
)
def test_separation(pairs: list[tuple[int, int]], prob: list[float], separated: bool) -> None:
    first, second = [i for i, _ in pairs], [j for _, j in pairs]
    result = fit_query(3, first, second, prob)
    assert result.separated is separated
    # Without a maximum the scores run away as the prior is loosened; with one they settle.
    loose, looser = (fit_query(3, first, second, prob, link="logit", prior_sd=sd).score for sd in (100.0, 1000.0))
    assert bool(np.abs(looser - loose).max() > 0.5) is separated


@pytest.mark.parametrize("n", [0, 1, 4])
def test_no_comparisons_leave_the_prior(n: int) -> None:
    result = fit_query(n, [], [], [])
    assert result.score.tolist() == [0.0] * n
    assert result.stderr.tolist() == pytest.approx([result.prior_sd] * n)
    assert (result.components, result.log_likelihood, result.iterations) == (n, 0.0, 0)


def test_two_documents_in_closed_form() -> None:
    # With s = (d / 2, -d / 2) the gradient by d of the objective vanishes where F'(d) / F(d) = d / (2 prior_sd^2).
    result = fit_query(2, [0], [1], [1.0], link="logit", prior_sd=1.0)
    d = scipy.optimize.brentq(lambda x: 1.0 / (1.0 + np.exp(x)) - x / 2.0, 0.0, 5.0)
    assert result.score == pytest.approx([d / 2, -d / 2])


def test_not_converging_is_an_error() -> None:
    first, second, prob, weight = comparisons(5)
    with pytest.raises(ConvergenceError, match="after 1 iterations at gradient norm"):
        fit_query(7, first, second, prob, weight, max_iterations=1)
    with pytest.raises(ConvergenceError):
        fit_query(7, first, second, prob, weight, tolerance=0.0)
    with pytest.raises(ConvergenceError, match="smaller prior_sd"):
        fit_query(7, first, second, np.ones(len(first)), prior_sd=1e150)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prob_first": [0.5, 1.1]}, r"must be in \[0, 1\]"),
        ({"prob_first": [0.5]}, "equally long"),
        ({"first": [0]}, "equally long"),
        ({"first": [[0, 1]]}, "equally long"),
        ({"first": [0.5, 1.0]}, "integers"),
        ({"first": [0, 3]}, "different documents"),
        ({"first": [0, -1]}, "different documents"),
        ({"first": [1, 1]}, "different documents"),
        ({"weight": [1.0, -1.0]}, "weights"),
        ({"weight": [1.0, float("nan")]}, "weights"),
        ({"prior_sd": float("inf")}, "prior_sd"),
        ({"prior_sd": 0.0}, "prior_sd"),
        ({"link": "cauchit"}, "unknown link"),
    ],
)
def test_unusable_input_is_refused(changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"first": [0, 1], "second": [1, 2], "prob_first": [0.5, 1.0], **changes}
    with pytest.raises(InputError, match=message):
        fit_query(3, **arguments)  # type: ignore[arg-type]
