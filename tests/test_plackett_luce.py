"""Plackett-Luce against choix, Bradley-Terry and finite differences."""

from __future__ import annotations

import choix
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from zelo.core.paired_comparison import fit_query
from zelo.core.plackett_luce import fit_rankings, negative_log_posterior
from zelo.errors import ConvergenceError, InputError


def draw(rng: np.random.Generator, score: np.ndarray, rankings: int, length: int) -> list[list[int]]:
    """Rankings by the model: order by score plus Gumbel noise."""
    found = []
    for _ in range(rankings):
        shown = rng.permutation(len(score))[:length]
        found.append(shown[np.argsort(-(score[shown] + rng.gumbel(size=length)))].tolist())
    return found


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_derivatives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 7
    rankings = [rng.permutation(n)[:k].tolist() for k in rng.integers(1, n + 1, 9)]
    top = [None if k == 0 else int(k) for k in rng.integers(0, 5, 9)]
    weight, at = rng.uniform(0, 2, 9), rng.normal(size=n)
    tops = [len(r) if t is None else t for r, t in zip(rankings, top, strict=True)]
    value, gradient, hessian = negative_log_posterior(at, rankings, top=tops, weight=weight, prior_sd=1.3)
    numeric = approx_fprime(at, lambda s: negative_log_posterior(s, rankings, top=tops, weight=weight, prior_sd=1.3)[0], 1e-6)
    np.testing.assert_allclose(gradient, numeric, atol=1e-4)
    columns = [
        approx_fprime(at, lambda s, i=i: negative_log_posterior(s, rankings, top=tops, weight=weight, prior_sd=1.3)[1][i], 1e-6)
        for i in range(n)
    ]
    np.testing.assert_allclose(hessian, columns, atol=1e-4)
    by_hand = 0.5 * float(at @ at) / 1.3**2
    for ranking, known, w in zip(rankings, tops, weight, strict=True):
        for place in range(min(known, len(ranking))):
            left = at[ranking[place:]]
            by_hand -= w * (left[0] - np.log(np.exp(left).sum()))
    assert value == pytest.approx(by_hand)


def test_two_documents_are_bradley_terry() -> None:
    rng = np.random.default_rng(1)
    rankings = [rng.permutation(12)[:2] for _ in range(80)]
    weight = rng.uniform(0.2, 3, 80)
    fit = fit_rankings(12, rankings, weight=weight)
    pairs = np.array(rankings)
    other = fit_query(12, pairs[:, 0], pairs[:, 1], np.ones(80), weight, link="logit")
    np.testing.assert_allclose(fit.score, other.score, atol=1e-7)
    np.testing.assert_allclose(fit.stderr, other.stderr, atol=1e-7)
    np.testing.assert_array_equal(fit.degree, other.degree)
    assert fit.log_likelihood == pytest.approx(other.log_likelihood)


def test_the_maximum_is_that_of_choix() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(size=15)
    rankings = draw(rng, truth, 120, 6)
    fit = fit_rankings(15, rankings, prior_sd=1.0)
    np.testing.assert_allclose(fit.score, choix.opt_rankings(15, rankings, alpha=0.5, tol=1e-10), atol=1e-4)  # its penalty: alpha |s|^2
    free = fit_rankings(15, rankings, prior_sd=1e3)
    np.testing.assert_allclose(free.score, choix.ilsr_rankings(15, rankings), atol=1e-3)


def test_top_places_are_choix_top1_lists() -> None:
    rng = np.random.default_rng(3)
    rankings = draw(rng, rng.normal(size=10), 60, 5)
    fit = fit_rankings(10, rankings, top=1, prior_sd=1.0)
    lists = [(ranking[0], ranking[1:]) for ranking in rankings]
    np.testing.assert_allclose(fit.score, choix.opt_top1(10, lists, alpha=0.5, tol=1e-10), atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_symmetries(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rankings = [rng.permutation(9)[:k].tolist() for k in rng.integers(2, 10, 12)]
    fit = fit_rankings(9, rankings, top=3)
    tails = [r[:3] + rng.permutation(r[3:]).astype(int).tolist() for r in rankings]
    np.testing.assert_allclose(fit_rankings(9, tails, top=3).score, fit.score, atol=1e-8)  # what is not known does not count
    names = rng.permutation(9)
    renamed = fit_rankings(9, [names[r] for r in rankings], top=3)
    np.testing.assert_allclose(renamed.score[names], fit.score, atol=1e-8)
    np.testing.assert_allclose(renamed.stderr[names], fit.stderr, atol=1e-8)
    twice = fit_rankings(9, rankings * 2, top=3)
    np.testing.assert_allclose(twice.score, fit_rankings(9, rankings, top=3, weight=np.full(12, 2.0)).score, atol=1e-8)
    assert abs(fit.score.sum()) < 1e-9


def test_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(4)
    inside, error = [], []
    for _ in range(60):
        truth = rng.normal(0, 1.5, 20)
        fit = fit_rankings(20, draw(rng, truth, 12, 10))
        inside.append(np.abs(fit.score - truth) < 1.96 * fit.stderr)
        error.append(fit.score - truth)
    assert 0.92 < np.mean(inside) < 0.98
    assert np.mean(np.square(error)) < 0.5 * 1.5**2


def test_nothing_known() -> None:
    fit = fit_rankings(3, [[1], []], prior_sd=2.0)
    np.testing.assert_array_equal(fit.score, np.zeros(3))
    np.testing.assert_allclose(fit.stderr, 2.0)
    assert fit.degree.tolist() == [0, 1, 0]
    assert fit_rankings(0, []).score.size == 0


@pytest.mark.parametrize(
    ("rankings", "settings", "match"),
    [
        ([[0, 0]], {}, "different documents"),
        ([[0, 3]], {}, "different documents"),
        ([[0.5, 1.5]], {}, "document numbers"),
        ([[0, 1]], {"weight": [-1.0]}, "weights"),
        ([[0, 1]], {"weight": [1.0, 1.0]}, "one entry per ranking"),
        ([[0, 1]], {"top": 0}, "top a whole number >= 1"),
        ([[0, 1]], {"prior_sd": 0.0}, "prior_sd"),
    ],
)
def test_bad_input(rankings: list[list[int]], settings: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        fit_rankings(3, rankings, **settings)


def test_says_when_it_did_not_converge() -> None:
    with pytest.raises(ConvergenceError, match="stopped after 1"):
        fit_rankings(3, [[0, 1, 2]] * 5, max_iterations=1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("n", "repeats", "weight", "prior_sd"), [(50, 3, 1.0, 1e3), (50, 1, 1e6, 1.5), (100, 20, 1.0, 20.0), (10, 100, 1.0, 100.0)]
)
def test_rankings_that_agree_under_a_weak_prior(n: int, repeats: int, weight: float, prior_sd: float) -> None:
    """The scores are far apart, so that exp of them cannot be held; the maximum is found all the same."""
    rankings = [list(range(n))] * repeats
    fit = fit_rankings(n, rankings, weight=[weight] * repeats, prior_sd=prior_sd)
    assert (np.diff(fit.score) < 0).all()
    assert np.isfinite(fit.stderr).all()
    assert fit.log_likelihood <= 0
    _, gradient, hessian = negative_log_posterior(fit.score, rankings, weight=[weight] * repeats, prior_sd=prior_sd)
    assert np.abs(gradient).max() * prior_sd**2 < 1e-5  # bounds the error of the scores
    np.testing.assert_allclose(hessian @ fit.covariance, np.eye(n), atol=1e-4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("weight", "prior_sd", "remedy"), [(1.0, 1e9, "use a smaller prior_sd"), (1e300, 1.5, "smaller weights")])
def test_a_drowned_prior_is_an_error(weight: float, prior_sd: float, remedy: str) -> None:
    with pytest.raises(ConvergenceError, match=remedy):
        fit_rankings(10, [list(range(10))] * 100, weight=[weight] * 100, prior_sd=prior_sd)


def test_top_takes_numpy_integers() -> None:
    rankings = [[0, 1, 2], [3, 4, 2]]
    np.testing.assert_array_equal(fit_rankings(5, rankings, top=np.int64(1)).score, fit_rankings(5, rankings, top=1).score)
    np.testing.assert_array_equal(fit_rankings(5, rankings, top=np.array([1, 2])).score, fit_rankings(5, rankings, top=[1, 2]).score)
    for wrong in (0, 1.5, [1, 0], [1], True):
        with pytest.raises(InputError, match="top"):
            fit_rankings(5, rankings, top=wrong)
