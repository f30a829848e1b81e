"""Dispersion: known scatter, both forms of the same votes, and intervals that cover the truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr

from zelo.core.comparison_graph import hamiltonian_cycles
from zelo.core.dispersion import LEAST, centered_stderr, estimate_dispersion
from zelo.core.links import PRIOR_SD
from zelo.core.paired_comparison import Batch, fit_queries
from zelo.errors import InputError
from zelo.types import Link

FloatArray = NDArray[np.float64]
N = 50


def draw(queries: int, correlation: float = 0.0, tie: float = 0.0, judges: int = 3, seed: int = 0) -> tuple[FloatArray, Any, FloatArray]:
    """Truth [Q, N], pairs [Q, m, 2], votes as P(first) [judges, Q, m], in logits with logistic noise."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.5, (queries, N))
    pairs = np.stack([hamiltonian_cycles(N, 8, rng) for _ in range(queries)])
    shape = (judges, *pairs.shape[:2])
    normal = np.sqrt(1 - correlation) * rng.normal(size=shape) + np.sqrt(correlation) * rng.normal(size=shape[1:])
    uniform, q = ndtr(normal), np.arange(queries)[:, None]
    total = truth[q, pairs[..., 0]] - truth[q, pairs[..., 1]] + np.log(uniform / (1 - uniform))
    return truth, pairs, (1 + np.sign(total) * (np.abs(total) >= tie)) / 2


def pooled(pairs: NDArray[np.int64], votes: FloatArray) -> Batch:
    queries, m = pairs.shape[:2]
    prob = votes.mean(0).ravel()
    return Batch(
        np.full(queries, N), np.arange(queries + 1) * m, pairs[..., 0].ravel(), pairs[..., 1].ravel(), prob, np.full(len(prob), 3.0)
    )


def by_judge(pairs: NDArray[np.int64], votes: FloatArray, rng: np.random.Generator) -> Batch:
    """A row per vote, half of them naming the pair the other way round."""
    judges, queries, m = votes.shape
    ends = [np.repeat(pairs[..., side], judges, axis=1).ravel() for side in (0, 1)]
    prob = votes.transpose(1, 2, 0).ravel()
    turned = rng.random(len(prob)) < 0.5
    first, second = np.where(turned, ends[1], ends[0]), np.where(turned, ends[0], ends[1])
    return Batch(np.full(queries, N), np.arange(queries + 1) * m * judges, first, second, np.where(turned, 1 - prob, prob))


def coverage(correlation: float, tie: float, link: Link) -> tuple[float, float]:
    """Share of true scores in their interval with and without the dispersion; ties shrink the unit, by a factor found by regression."""
    truth, pairs, votes = draw(60, correlation, tie, seed=3)
    batch, sd = pooled(pairs, votes), PRIOR_SD[link]
    value = estimate_dispersion(batch, link=link).value
    shares = []
    for scale in (value, 1.0):
        fit = fit_queries(replace(batch, weight=np.asarray(batch.weight) / scale), link=link)
        stderr = centered_stderr(fit.stderr, np.full(60, N), sd).reshape(truth.shape)
        centered = truth - truth.mean(1, keepdims=True)
        found = fit.score.reshape(truth.shape)
        unit = float((found * centered).sum() / (found**2).sum())
        shares.append(float((np.abs(unit * found - centered) < 1.96 * unit * stderr).mean()))
    return shares[0], shares[1]


@pytest.mark.parametrize(("correlation", "tie"), [(0.0, 0.0), (0.3, 0.0), (0.6, 0.0), (0.0, 1.0)])
def test_intervals_cover_the_truth(correlation: float, tie: float) -> None:
    with_dispersion, without = coverage(correlation, tie, "probit")
    assert 0.93 <= with_dispersion <= 0.97
    if correlation == 0.6:
        assert without < 0.92
    if tie:
        assert without > 0.975


@pytest.mark.parametrize("link", ["probit", "logit"])
def test_is_one_for_independent_votes_and_rises_with_correlation(link: Link) -> None:
    """With logistic noise the votes' own correlation is known from the truth; Pearson's estimate is .8 in the first case."""
    for correlation, true in ((0.0, 1.0), (0.6, 1.72)):
        _, pairs, votes = draw(60, correlation, seed=1)
        found = estimate_dispersion(pooled(pairs, votes), link=link)
        assert found.value == pytest.approx(true, rel=0.08)
        assert found.stderr < 0.05 * found.value
        assert (found.pairs, found.queries) == (60 * N * 4, 60)


def test_one_row_per_pair_or_per_judge_is_the_same() -> None:
    _, pairs, votes = draw(12, 0.5, 0.5)
    one = estimate_dispersion(pooled(pairs, votes))
    three = estimate_dispersion(by_judge(pairs, votes, np.random.default_rng(0)))
    assert three.value == pytest.approx(one.value, rel=1e-6)
    assert three.pairs == one.pairs


def test_slopes_and_offsets_count() -> None:
    """Slopes and offsets that the votes had leave the scatter where it is; left out, they show as scatter."""
    rng = np.random.default_rng(5)
    truth, pairs, _ = draw(40)
    q = np.arange(40)[:, None]
    slope, offset = rng.uniform(0.5, 1.5, pairs.shape[:2]), rng.normal(0, 1, pairs.shape[:2])
    x = slope * (truth[q, pairs[..., 0]] - truth[q, pairs[..., 1]]) + offset
    votes = (rng.random((3, *x.shape)) < 1 / (1 + np.exp(-x))).astype(float)
    batch = replace(pooled(pairs, votes), slope=slope.ravel(), offset=offset.ravel())
    assert estimate_dispersion(batch, link="logit").value == pytest.approx(1, rel=0.08)
    assert estimate_dispersion(replace(batch, offset=None), link="logit").value > 1.1


def test_scaling_the_weights_scales_it() -> None:
    _, pairs, votes = draw(20)
    batch = pooled(pairs, votes)
    one = estimate_dispersion(batch).value
    assert estimate_dispersion(replace(batch, weight=np.asarray(batch.weight) * 2)).value == pytest.approx(2 * one, rel=0.02)


def test_few_pairs_say_little() -> None:
    alone = estimate_dispersion(Batch([2], [0, 1], [0], [1], [0.5]))
    assert 0.9 < alone.value < 1.1
    assert np.isnan(alone.stderr)
    assert estimate_dispersion(Batch([2], [0, 1], [0], [1], [np.nan])).value == 1.0
    assert estimate_dispersion(Batch([], [0], np.zeros(0, int), np.zeros(0, int), [])).value == 1.0
    with pytest.raises(InputError, match="max_queries"):
        estimate_dispersion(Batch([2], [0, 1], [0], [1], [0.5]), max_queries=0)


def test_preferences_without_noise_come_near_the_bound() -> None:
    truth, pairs, _ = draw(10)
    q = np.arange(10)[:, None]
    exact = ndtr(0.1 * (truth[q, pairs[..., 0]] - truth[q, pairs[..., 1]]) * np.sqrt(2))
    assert LEAST <= estimate_dispersion(pooled(pairs, exact[None])).value < 0.03


def test_around_the_mean() -> None:
    """Against the covariance of scores less their mean."""
    _, pairs, votes = draw(1)
    from zelo.core.paired_comparison import fit_query

    fit = fit_query(N, pairs[0, :, 0], pairs[0, :, 1], votes.mean(0)[0], link="logit")
    center = np.eye(N) - 1 / N
    expected = np.sqrt(np.diag(center @ fit.covariance() @ center))
    np.testing.assert_allclose(centered_stderr(fit.stderr, np.array([N]), fit.prior_sd), expected, rtol=1e-6)
    assert centered_stderr(np.array([0.6]), np.array([1]), 0.6).tolist() == [0.0]
