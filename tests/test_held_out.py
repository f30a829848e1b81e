"""Held-out likelihood and the prior that it chooses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from zelo.core.comparison_graph import hamiltonian_cycles
from zelo.core.held_out import choose_prior_sd, held_out
from zelo.core.links import LOGIT_PER_PROBIT
from zelo.core.paired_comparison import Batch, fit_query
from zelo.errors import InputError


def draw(queries: int, spread: float, seed: int = 0) -> tuple[np.ndarray, Batch]:
    rng = np.random.default_rng(seed)
    n = 40
    truth = rng.normal(0, spread, (queries, n))
    pairs = np.concatenate([hamiltonian_cycles(n, 8, rng) for _ in range(queries)])
    x = truth[np.repeat(np.arange(queries), n * 4)[:, None], pairs] @ [1, -1]
    vote = (rng.random(len(x)) < expit(x)).astype(float)
    return truth, Batch(np.full(queries, n), np.arange(queries + 1) * n * 4, pairs[:, 0], pairs[:, 1], vote)


def test_is_the_likelihood_of_pairs_that_the_fit_has_not_seen() -> None:
    _, batch = draw(1, 1.5)
    batch = replace(batch, offset=np.full(160, 0.3), weight=np.random.default_rng(1).uniform(0.5, 2, 160))
    found = held_out(batch, link="logit", prior_sd=1.2, rng=np.random.default_rng(7))
    first, second, vote = (np.asarray(c) for c in (batch.first, batch.second, batch.prob_first))
    low, high = np.minimum(first, second), np.maximum(first, second)
    names = np.unique(low * 40 + high)
    drawn = np.random.default_rng(7).random(len(names)) < 0.1
    out = np.isin(low * 40 + high, names[drawn])
    shift = np.full((~out).sum(), 0.3)
    fit = fit_query(40, first[~out], second[~out], vote[~out], np.asarray(batch.weight)[~out], offset=shift, link="logit", prior_sd=1.2)
    chance = expit(fit.score[first] - fit.score[second] + 0.3)
    terms = np.asarray(batch.weight) * np.log(np.where(vote == 1, chance, 1 - chance))
    # The offset moves the mean of the scores by nothing: the prior holds it at 0.
    assert found.by_query[0] == pytest.approx(terms[out].sum(), rel=1e-5)
    assert found.log_likelihood == pytest.approx(terms[out].sum() / np.asarray(batch.weight)[out].sum(), rel=1e-5)
    assert np.isnan(found.stderr)


def test_all_rows_of_a_pair_are_held_out_together() -> None:
    """Three rows of a pair, one naming it the other way round, hold out as one of weight 3 does."""
    _, batch = draw(6, 1.5)
    first, second, vote = (np.asarray(c) for c in (batch.first, batch.second, batch.prob_first))
    turned = np.tile([False, True, False], len(vote))
    f, s, v = (np.repeat(c, 3) for c in (first, second, vote))
    thrice = Batch(batch.documents, np.asarray(batch.rows) * 3, np.where(turned, s, f), np.where(turned, f, s), np.where(turned, 1 - v, v))
    one = held_out(replace(batch, weight=np.full(len(vote), 3.0)), rng=np.random.default_rng(2))
    assert held_out(thrice, rng=np.random.default_rng(2)).log_likelihood == pytest.approx(one.log_likelihood, rel=1e-6)


@pytest.mark.parametrize("spread", [0.6, 1.5, 3.0])
def test_chooses_the_spread_of_the_truth(spread: float) -> None:
    _, batch = draw(120, spread)
    grid = [0.15, 0.3, 0.6, 1.5, 3.0, 6.0]
    choice = choose_prior_sd(batch, grid, link="logit", rng=np.random.default_rng(0))
    assert abs(grid.index(choice.prior_sd) - grid.index(spread)) <= 1
    assert choice.prior_sd == grid[int(choice.log_likelihood.argmax())]
    assert choice.log_likelihood[0] < choice.log_likelihood[grid.index(spread)]
    by_default = choose_prior_sd(batch, link="probit", rng=np.random.default_rng(0))
    assert by_default.prior_sd == pytest.approx(spread / LOGIT_PER_PROBIT, rel=0.6)


def test_bad_input() -> None:
    _, batch = draw(1, 1.0)
    with pytest.raises(InputError, match="share"):
        held_out(batch, rng=np.random.default_rng(0), share=1.0)
    with pytest.raises(InputError, match="no prior"):
        choose_prior_sd(batch, [], rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="too few pairs"):
        held_out(Batch([2], [0, 0], np.zeros(0, int), np.zeros(0, int), []), rng=np.random.default_rng(0))
