"""Order effects and slopes: known truth, a witness by SciPy, invariances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import approx_fprime, minimize
from scipy.special import expit, log_expit, logsumexp

from zelo.core.comparison_graph import hamiltonian_cycles
from zelo.core.judge_terms import LEVEL_SD, ORDER_SD, SLOPE_SD, JudgeTerms, _Model, estimate_terms, with_terms
from zelo.core.links import LOGIT_PER_PROBIT, PRIOR_SD
from zelo.core.paired_comparison import Batch, fit_queries
from zelo.core.posterior import observed, posterior
from zelo.errors import InputError
from zelo.types import Link

FloatArray = NDArray[np.float64]
Drawn = tuple[FloatArray, Batch, NDArray[np.int64], FloatArray]


def draw(queries: int, n: int, degree: int, order: tuple[float, ...], slope: tuple[float, ...], seed: int = 0) -> Drawn:
    """Truth, votes one row each, who gave them, which was shown first. Order effects and slopes in logits."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.5, (queries, n))
    pairs = np.stack([hamiltonian_cycles(n, degree, rng) for _ in range(queries)])
    k, m = len(order), pairs.shape[1]
    first, second = (np.repeat(pairs[..., side], k, axis=1).ravel() for side in (0, 1))
    judge, shown = np.tile(np.arange(k), queries * m), rng.choice([-1.0, 1.0], queries * m * k)
    of = np.repeat(np.arange(queries), m * k)
    x = np.array(slope)[judge] * (truth[of, first] - truth[of, second]) + shown * np.array(order)[judge]
    vote = (rng.random(len(x)) < expit(x)).astype(float)
    return truth, Batch(np.full(queries, n), np.arange(queries + 1) * m * k, first, second, vote), judge, shown


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_known_terms_are_recovered(link: Link) -> None:
    slope = np.array([1.6, 1.0, 0.4])
    truth, batch, judge, shown = draw(30, 24, 8, (0.0, 0.8, -0.4), tuple(slope))
    terms = estimate_terms(batch, judge, shown, 3, link=link)
    unit = 1.0 if link == "logit" else LOGIT_PER_PROBIT
    true = slope / np.sqrt((slope**2).mean())
    assert np.abs(terms.order_effect * unit - [0.0, 0.8, -0.4]).max() < 0.1
    assert (np.abs(terms.order_effect * unit - [0.0, 0.8, -0.4]) < 3.5 * terms.order_stderr * unit).all()
    assert np.abs(terms.slope - true).max() < 0.1
    assert (np.abs(terms.slope - true) < 3.5 * terms.slope_stderr + 0.04).all()
    assert (terms.slope**2).mean() == pytest.approx(1)
    assert terms.order_ratio > 50 < terms.slope_ratio
    plain = fit_queries(batch, link=link, stderr=False).score
    better = fit_queries(with_terms(batch, judge, shown, terms), link=link, stderr=False).score
    centered = (truth - truth.mean(1, keepdims=True)).ravel()
    assert np.corrcoef(better, centered)[0, 1] > np.corrcoef(plain, centered)[0, 1] + 0.005


def test_standard_errors_are_how_far_estimates_scatter() -> None:
    found = [estimate_terms(*draw(14, 10, 4, (0.5, 0.0), (1.2, 0.7), seed)[1:], 2, link="logit") for seed in range(14)]
    for name, stderr in (("order_effect", "order_stderr"), ("slope", "slope_stderr")):
        scatter = np.std([getattr(t, name) for t in found], axis=0, ddof=1)
        claimed = np.mean([getattr(t, stderr) for t in found], axis=0)
        assert (scatter / claimed < 1.8).all(), name
        assert (scatter / claimed > 0.5).all(), name


def test_without_terms_the_likelihood_ratio_is_small() -> None:
    """About chi-squared with 3 and 2 degrees of freedom: the bounds are passed by chance once in ten thousand times or less."""
    _, batch, judge, shown = draw(30, 30, 6, (0.0,) * 3, (1.0,) * 3, 4)
    terms = estimate_terms(batch, judge, shown, 3)
    assert terms.order_ratio < 21
    assert terms.slope_ratio < 18.5


def test_the_marginal_likelihood_is_that_of_an_integral() -> None:
    """A query of two documents: Laplace's approximation against quadrature over the scores' difference."""
    vote = np.array([1.0, 1.0, 0.0, 1.0])
    batch = Batch([2], [0, 4], np.zeros(4, int), np.ones(4, int), vote)
    found = float(posterior(observed(batch), link="logit").log_marginal[0])
    grid = np.linspace(-25, 25, 20001)
    sd = PRIOR_SD["logit"] * np.sqrt(2)
    log_density = -0.5 * (grid / sd) ** 2 - np.log(sd * np.sqrt(2 * np.pi))
    log_votes = 3 * log_expit(grid) + log_expit(-grid)
    assert found == pytest.approx(float(logsumexp(log_density + log_votes) + np.log(grid[1] - grid[0])), abs=0.05)


def test_the_gradient_points_up_the_marginal_likelihood() -> None:
    """The expectation's gradient is that of Laplace's marginal likelihood up to the errors of both, the common level apart."""
    _, batch, judge, shown = draw(20, 30, 8, (0.6, 0.0), (1.0, 1.0), 2)
    model = _Model(observed(batch), judge, shown, 2, "logit", 1.5, True, True)
    at = np.array([[0.2, 0.1], [0.1, -0.2]])
    numeric = approx_fprime(at.ravel(), lambda t: model.at(t.reshape(2, 2))[2], 1e-4).reshape(2, 2)
    gradient = model.at(at)[0].sum(0)
    np.testing.assert_allclose(gradient[:, 0], numeric[:, 0], atol=6)
    assert gradient[0, 1] - gradient[1, 1] == pytest.approx(numeric[0, 1] - numeric[1, 1], rel=0.15)


def test_the_terms_maximize_the_marginal_likelihood_and_their_prior() -> None:
    """SciPy, which knows only the value, comes to the same order effects and slopes."""
    _, batch, judge, shown = draw(10, 14, 6, (0.7, -0.2), (1.3, 0.6), 3)
    model = _Model(observed(batch), judge, shown, 2, "logit", 1.5, True, True)

    def loss(flat: FloatArray) -> float:
        t = flat.reshape(2, 2)
        level = t[:, 1].mean()
        prior = (t[:, 0] ** 2).sum() / (2 * (ORDER_SD * 1.5) ** 2) + ((t[:, 1] - level) ** 2).sum() / (2 * SLOPE_SD**2)
        return prior + level**2 / (2 * LEVEL_SD**2) - model.at(t)[2]

    best = minimize(loss, np.zeros(4), method="Nelder-Mead", options={"xatol": 3e-3, "fatol": 3e-3, "maxfev": 300}).x.reshape(2, 2)
    terms = estimate_terms(batch, judge, shown, 2, link="logit")
    assert np.abs(terms.order_effect - best[:, 0]).max() < 0.5 * terms.order_stderr.max()
    slope = np.exp(best[:, 1])
    assert np.abs(terms.slope - slope / np.sqrt((slope**2).mean())).max() < 0.5 * terms.slope_stderr.max()


def test_symmetries() -> None:
    _, batch, judge, shown = draw(12, 12, 6, (0.5, -0.3, 0.0), (1.4, 1.0, 0.5), 5)
    terms = estimate_terms(batch, judge, shown, 3)
    flipped = estimate_terms(batch, judge, -shown, 3)  # what was shown first was shown second
    np.testing.assert_allclose(flipped.order_effect, -terms.order_effect, atol=2e-3)
    np.testing.assert_allclose(flipped.slope, terms.slope, atol=2e-3)
    names = np.array([2, 0, 1])
    renamed = estimate_terms(batch, names[judge], shown, 3)
    np.testing.assert_allclose(renamed.order_effect[names], terms.order_effect, atol=2e-3)
    np.testing.assert_allclose(renamed.slope[names], terms.slope, atol=2e-3)
    turned = replace(batch, first=batch.second, second=batch.first, prob_first=1 - np.asarray(batch.prob_first))
    same = estimate_terms(turned, judge, -shown, 3)  # the rows name the pair the other way round
    np.testing.assert_allclose(same.order_effect, terms.order_effect, atol=1e-6)
    np.testing.assert_allclose(same.slope, terms.slope, atol=1e-6)


def test_a_useless_judge_gets_a_small_slope_and_an_absent_one_none() -> None:
    _, batch, judge, shown = draw(20, 24, 6, (0.0,) * 3, (1.2, 1.2, 0.0), 6)
    terms = estimate_terms(batch, np.where(judge == 2, 3, judge), shown, 4, link="logit")  # judge 2 is absent
    assert terms.judgments.tolist() == [1440, 1440, 0, 1440]
    assert terms.slope[3] < 0.15
    assert (terms.slope[2], terms.order_effect[2]) == (1.0, 0.0)
    assert np.isnan(terms.slope_stderr[2])


def test_missing_answers_are_left_out() -> None:
    _, batch, judge, shown = draw(12, 16, 6, (0.5, 0.0), (1.0, 1.0), 7)
    prob = np.array(batch.prob_first)
    lost = np.random.default_rng(0).random(len(prob)) < 0.2
    prob[lost] = np.nan
    terms = estimate_terms(replace(batch, prob_first=prob), judge, shown, 2)
    assert terms.judgments.sum() == (~lost).sum()
    weighed = estimate_terms(replace(batch, weight=np.where(lost, 0.0, 1.0)), judge, shown, 2)
    np.testing.assert_allclose(weighed.order_effect, terms.order_effect, atol=1e-12)


def test_terms_that_are_not_asked_for() -> None:
    _, batch, judge, shown = draw(6, 10, 4, (0.5,), (1.0,), 8)
    one = estimate_terms(batch, judge, shown, 1)
    assert one.slope.tolist() == [1.0]
    assert one.order_effect[0] > 0.1 * PRIOR_SD["probit"]
    off: JudgeTerms = estimate_terms(batch, judge, shown, 1, order_effect=False)
    assert off.order_effect.tolist() == [0.0]
    assert np.isnan(off.order_ratio)
    empty = estimate_terms(Batch([3], [0, 0], np.zeros(0, int), np.zeros(0, int), []), [], [], 2)
    assert empty.slope.tolist() == [1.0, 1.0]
    for judges, first in ((np.zeros(2, int), shown), (judge + 1, shown), (judge, shown * 2)):
        with pytest.raises(InputError):
            estimate_terms(batch, judges, first, 1)
