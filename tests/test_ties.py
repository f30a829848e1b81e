"""Ties as an outcome: the likelihood of Rao and Kupper, the threshold, the limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from zelo.core.comparison_graph import hamiltonian_cycles
from zelo.core.paired_comparison import Batch, fit_query
from zelo.core.ties import LEAST, estimate_threshold, tie_rows
from zelo.errors import InputError


@settings(max_examples=40, deadline=None)
@given(st.floats(-6, 6), st.floats(0.01, 4), st.sampled_from([(1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 3, 1)]))
def test_rows_have_the_likelihood_of_rao_and_kupper(x: float, threshold: float, counts: tuple[int, int, int]) -> None:
    win, tie, loss = counts
    chance = expit(x - threshold), expit(x + threshold) - expit(x - threshold), expit(-x - threshold)
    expected = sum(n * np.log(p) for n, p in zip(counts, chance, strict=True) if n)
    prob, weight, offset = tie_rows([win], [tie], [loss], threshold)
    at = x + offset
    used = weight[0] > 0
    terms = weight[0] * (prob[0] * np.log(expit(at)) + (1 - prob[0]) * np.log(expit(-at)))
    constant = tie * np.log(-np.expm1(-2 * threshold))
    assert terms[used].sum() + constant == pytest.approx(expected, abs=1e-7)


def draw(queries: int, threshold: float, seed: int = 0) -> tuple[Batch, np.ndarray]:
    """One vote for each row; win, tie and loss [m, 3] by the model with logistic noise."""
    rng = np.random.default_rng(seed)
    n = 40
    pairs = np.concatenate([hamiltonian_cycles(n, 8, rng) for _ in range(queries)])
    truth, of = rng.normal(0, 1.5, (queries, n)), np.repeat(np.arange(queries), n * 4)
    total = truth[of, pairs[:, 0]] - truth[of, pairs[:, 1]] + rng.logistic(size=len(pairs))
    counts = np.stack([total >= threshold, np.abs(total) < threshold, total <= -threshold], -1).astype(float)
    return Batch(np.full(queries, n), np.arange(queries + 1) * n * 4, pairs[:, 0], pairs[:, 1], np.full(len(pairs), np.nan)), counts


@pytest.mark.parametrize("threshold", [0.4, 1.0])
def test_the_threshold_is_recovered(threshold: float) -> None:
    batch, counts = draw(60, threshold)
    assert estimate_threshold(batch, *counts.T) == pytest.approx(threshold, rel=0.06)


def test_documents_names_do_not_matter() -> None:
    batch, counts = draw(10, 0.6)
    turned = Batch(batch.documents, batch.rows, batch.second, batch.first, batch.prob_first)
    assert estimate_threshold(turned, *counts[:, ::-1].T) == pytest.approx(estimate_threshold(batch, *counts.T), abs=1e-3)


def test_without_ties_it_is_bradley_terry() -> None:
    batch, counts = draw(3, 1e-9)
    assert estimate_threshold(batch, *counts.T) == LEAST
    prob, weight, offset = tie_rows(*counts.T, LEAST)
    first, second = (np.repeat(np.asarray(end)[:160], 2) for end in (batch.first, batch.second))
    fit = fit_query(40, first, second, prob[:160].ravel(), weight[:160].ravel(), offset=np.tile(offset, 160), link="logit")
    plain = fit_query(40, np.asarray(batch.first)[:160], np.asarray(batch.second)[:160], counts[:160, 0], link="logit")
    np.testing.assert_allclose(fit.score, plain.score, atol=1e-3)


def test_a_negative_count_is_refused() -> None:
    batch, counts = draw(1, 0.5)
    with pytest.raises(InputError, match=">= 0"):
        estimate_threshold(batch, -counts[:, 0], counts[:, 1], counts[:, 2])
