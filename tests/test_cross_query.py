"""Offsets of queries from comparisons across queries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse.csgraph import connected_components

from zelo.core import cross_query
from zelo.core.cross_query import design_cross_pairs, fit_offsets
from zelo.core.links import LINKS, PRIOR_SD, win_probability
from zelo.errors import InputError
from zelo.types import Link

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def world(queries: int, documents: int, seed: int, level_sd: float = 0.6) -> tuple[FloatArray, IntArray, FloatArray]:
    """Scores [D], starts [Q + 1] and the queries' levels [Q], probit scale."""
    rng = np.random.default_rng(seed)
    level = level_sd * rng.normal(size=queries)
    return 0.6 * rng.normal(size=queries * documents), np.arange(queries + 1) * documents, level - level.mean()


def votes(score: FloatArray, level: FloatArray, pairs: IntArray, documents: int, rng: np.random.Generator, link: Link) -> FloatArray:
    total = score + np.repeat(level, documents)
    return rng.binomial(3, win_probability(total[pairs[:, 0]] - total[pairs[:, 1]], link)) / 3


def query_of(pairs: IntArray, starts: IntArray) -> IntArray:
    return np.searchsorted(starts, pairs, side="right") - 1


@pytest.mark.parametrize("link", LINKS)
def test_levels_are_recovered(link: Link) -> None:
    score, starts, level = world(200, 20, 1)
    pairs = design_cross_pairs(score, starts, 12, rng := np.random.default_rng(2))
    fit = fit_offsets(score, starts, pairs, votes(score, level, pairs, 20, rng, link), np.full(len(pairs), 3.0), link=link)
    error = fit.offset - level
    np.testing.assert_allclose(np.sqrt(np.mean(error**2)), np.sqrt(np.mean(fit.stderr**2)), rtol=0.2)
    assert np.sqrt(np.mean(error**2)) < (0.15 if link == "probit" else 0.3)
    assert 0.9 < np.mean(np.abs(error) < 1.96 * fit.stderr) < 0.99
    np.testing.assert_allclose(fit.prior_sd, 0.6, rtol=0.2)
    assert (fit.components, fit.separated, abs(fit.offset.mean()) < 1e-9) == (1, False, True)
    assert set(fit.degree.tolist()) <= {22, 23, 24}  # a pair may be drawn twice, and is asked once


def dense_solution(
    query: IntArray, lead: FloatArray, prob: FloatArray, weight: FloatArray, slope: FloatArray, queries: int, link: Link, prior_sd: float
) -> tuple[FloatArray, FloatArray]:
    """Offsets by L-BFGS on the plain objective, and standard errors from a Hessian of finite differences."""
    log_f = LINKS[link].log_probability

    def gradient(o: FloatArray) -> FloatArray:
        x = slope * (o[query[:, 0]] - o[query[:, 1]] + lead)
        pull = weight * slope * ((1 - prob) * LINKS[link].slopes(-x)[0] - prob * LINKS[link].slopes(x)[0])
        return o / prior_sd**2 + np.bincount(query[:, 0], pull, queries) - np.bincount(query[:, 1], pull, queries)

    def value(o: FloatArray) -> float:
        x = slope * (o[query[:, 0]] - o[query[:, 1]] + lead)
        return float(0.5 * o @ o / prior_sd**2 - weight @ (prob * log_f(x) + (1 - prob) * log_f(-x)))

    start = np.random.default_rng(0).normal(size=queries)
    eye = np.eye(queries)
    numeric = np.array([(value(start + 1e-6 * e) - value(start - 1e-6 * e)) / 2e-6 for e in eye])
    np.testing.assert_allclose(gradient(start), numeric, atol=1e-5)
    found = minimize(value, start, jac=gradient, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-16, "gtol": 1e-10}).x
    hessian = np.array([(gradient(found + 1e-5 * e) - gradient(found - 1e-5 * e)) / 2e-5 for e in eye])
    return found, np.sqrt(np.diag(np.linalg.inv(hessian)))


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("errors", [False, True])
def test_an_independent_solver_finds_the_same(link: Link, errors: bool) -> None:
    score, starts, level = world(25, 6, 3)
    rng = np.random.default_rng(4)
    pairs = design_cross_pairs(score, starts, 3, rng)
    prob = votes(score, level, pairs, 6, rng, link)
    weight = rng.uniform(0.5, 4, len(pairs))
    stderr = rng.uniform(0.1, 0.8, len(score)) if errors else np.zeros(len(score))
    fit = fit_offsets(score, starts, pairs, prob, weight, score_stderr=stderr if errors else None, link=link, prior_sd=0.9)
    variance = stderr[pairs[:, 0]] ** 2 + stderr[pairs[:, 1]] ** 2
    slope = 1 / np.sqrt(1 + (2 if link == "probit" else np.pi / 8) * variance)
    lead = score[pairs[:, 0]] - score[pairs[:, 1]]
    offset, error = dense_solution(query_of(pairs, starts), lead, prob, weight, slope, 25, link, 0.9)
    np.testing.assert_allclose(fit.offset, offset, atol=1e-6)
    np.testing.assert_allclose(fit.stderr, error, rtol=1e-5)


def test_the_error_of_a_score_is_averaged_over() -> None:
    x, w = np.polynomial.hermite_e.hermegauss(80)
    for link, tolerance in (("probit", 1e-12), ("logit", 0.02)):
        for mean, variance in ((0.7, 0.5), (-2.0, 1.5)):
            exact = win_probability(mean + np.sqrt(variance) * x, link) @ w / w.sum()  # type: ignore[arg-type]
            factor = cross_query._attenuation(np.array([variance]), link)[0]  # type: ignore[arg-type]
            np.testing.assert_allclose(win_probability(factor * mean, link), exact, atol=tolerance)  # type: ignore[arg-type]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(list(LINKS)))
def test_invariances(seed: int, link: Link) -> None:
    score, starts, level = world(12, 5, seed)
    rng = np.random.default_rng(seed)
    pairs = design_cross_pairs(score, starts, 3, rng)
    prob = votes(score, level, pairs, 5, rng, link)
    fit = fit_offsets(score, starts, pairs, prob, link=link, prior_sd=0.8)

    def same(other: cross_query.Offsets, sign: float = 1.0) -> None:
        np.testing.assert_allclose(other.offset, sign * fit.offset, atol=1e-6)
        np.testing.assert_allclose(other.stderr, fit.stderr, atol=1e-6)

    same(fit_offsets(score + 7.5, starts, pairs, prob, link=link, prior_sd=0.8))  # one shift for all
    same(fit_offsets(score, starts, pairs[:, ::-1], 1 - prob, link=link, prior_sd=0.8))  # who is named first
    same(fit_offsets(-score, starts, pairs, 1 - prob, link=link, prior_sd=0.8), -1.0)  # better becomes worse
    order = rng.permutation(len(pairs))
    same(fit_offsets(score, starts, pairs[order], prob[order], link=link, prior_sd=0.8))
    twice = fit_offsets(score, starts, np.concatenate([pairs, pairs]), np.concatenate([prob, prob]), link=link, prior_sd=0.8)
    np.testing.assert_allclose(
        twice.offset, fit_offsets(score, starts, pairs, prob, np.full(len(pairs), 2.0), link=link, prior_sd=0.8).offset, atol=1e-6
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 11))
def test_one_more_win_never_lowers_an_offset(seed: int, query: int) -> None:
    score, starts, level = world(12, 5, seed)
    pairs = design_cross_pairs(score, starts, 2, rng := np.random.default_rng(seed))
    prob = votes(score, level, pairs, 5, rng, "probit")
    before = fit_offsets(score, starts, pairs, prob, prior_sd=0.8)
    more = np.concatenate([pairs, [[starts[query], starts[(query + 3) % 12]]]])
    after = fit_offsets(score, starts, more, np.append(prob, 1.0), prior_sd=0.8)
    assert after.offset[query] > before.offset[query] - 1e-9


def test_more_at_a_query_shifts_its_offset_back() -> None:
    """Without a prior to speak of, scores a query was given more of are taken back by its offset: the totals stay."""
    score, starts, level = world(30, 8, 5)
    pairs = design_cross_pairs(score, starts, 8, rng := np.random.default_rng(5))
    prob = np.clip(votes(score, level, pairs, 8, rng, "logit"), 0.05, 0.95)
    shift = np.repeat(rng.normal(size=30), 8)
    plain = fit_offsets(score, starts, pairs, prob, link="logit", prior_sd=1e3).offset
    moved = fit_offsets(score + shift, starts, pairs, prob, link="logit", prior_sd=1e3).offset
    total = plain + 0 * shift[::8]
    np.testing.assert_allclose(moved + shift[::8] - (moved + shift[::8]).mean(), total - total.mean(), atol=1e-3)


def test_disconnected_queries() -> None:
    """Two groups of queries and one query alone: each group has mean 0, and what is alone has the prior."""
    score, starts, _ = world(7, 3, 6)
    pairs = np.array([[0, 3], [3, 6], [9, 12], [12, 15], [15, 9]])  # queries 0-1-2, 3-4-5, and 6
    fit = fit_offsets(score, starts, pairs, np.array([1.0, 0.5, 0.8, 0.1, np.nan]), prior_sd=0.7)
    assert fit.components == 3
    assert [len(set(fit.component[group])) for group in (slice(0, 3), slice(3, 6))] == [1, 1]
    np.testing.assert_allclose([fit.offset[:3].mean(), fit.offset[3:6].mean(), fit.offset[6]], 0, atol=1e-8)
    np.testing.assert_allclose(fit.stderr[6], 0.7)
    assert (fit.stderr[:6] < 0.7).all()
    np.testing.assert_array_equal(fit.degree, [1, 2, 1, 1, 2, 1, 0])
    assert fit.separated


def test_nothing_to_go_by() -> None:
    score, starts, _ = world(4, 3, 7)
    for pairs, prob in ((np.empty((0, 2), np.int64), np.empty(0)), (np.array([[0, 3]]), np.array([np.nan]))):
        fit = fit_offsets(score, starts, pairs, prob)
        np.testing.assert_array_equal(fit.offset, 0)
        np.testing.assert_allclose(fit.stderr, PRIOR_SD["probit"])
        assert (fit.components, fit.separated, fit.prior_sd) == (4, False, PRIOR_SD["probit"])
    assert fit_offsets([], [0], np.empty((0, 2), np.int64), []).offset.shape == (0,)


def test_the_prior_is_found() -> None:
    """Estimated where levels do not differ, differ little, and much; and better than a wrong one."""
    for level_sd in (0.0, 0.3, 1.2):
        score, starts, level = world(150, 10, 8, level_sd)
        pairs = design_cross_pairs(score, starts, 4, rng := np.random.default_rng(9))
        prob = votes(score, level, pairs, 10, rng, "probit")
        found = fit_offsets(score, starts, pairs, prob, np.full(len(pairs), 3.0))
        stated = fit_offsets(score, starts, pairs, prob, np.full(len(pairs), 3.0), prior_sd=PRIOR_SD["probit"])
        assert abs(found.prior_sd - level_sd) < 0.2 + 0.1 * level_sd
        assert np.mean((found.offset - level) ** 2) < np.mean((stated.offset - level) ** 2)


@pytest.mark.parametrize("prior_sd", [0.6, 5.0])
@pytest.mark.parametrize("cycles", [1, 4])
def test_standard_errors_of_many_queries(cycles: int, prior_sd: float, monkeypatch: pytest.MonkeyPatch) -> None:
    score, starts, level = world(600, 4, 10)
    pairs = design_cross_pairs(score, starts, cycles, rng := np.random.default_rng(11))
    prob = votes(score, level, pairs, 4, rng, "probit")
    exact = fit_offsets(score, starts, pairs, prob, prior_sd=prior_sd)
    monkeypatch.setattr(cross_query, "EXACT", 10)
    drawn = fit_offsets(score, starts, pairs, prob, prior_sd=prior_sd)
    ratio = drawn.stderr / exact.stderr
    np.testing.assert_array_equal(drawn.offset, exact.offset)
    assert np.abs(ratio - 1).max() < (0.15 if cycles > 1 else 0.45)
    assert ratio.std() < (0.04 if cycles > 1 else 0.12)
    again = fit_offsets(score, starts, pairs, prob, prior_sd=prior_sd)
    np.testing.assert_array_equal(drawn.stderr, again.stderr)


@pytest.mark.parametrize("cycles", [1, 3])
def test_pairs_follow_cycles_through_all_queries(cycles: int) -> None:
    score, starts, _ = world(40, 50, 12)
    pairs = design_cross_pairs(score, starts, cycles, np.random.default_rng(13), depth=10)
    query = query_of(pairs, starts)
    assert pairs.shape == (40 * cycles, 2)
    for rows in np.split(query, cycles):
        np.testing.assert_array_equal(np.sort(rows[:, 0]), np.arange(40))
        np.testing.assert_array_equal(np.sort(rows[:, 1]), np.arange(40))
        graph = np.zeros((40, 40))
        graph[rows[:, 0], rows[:, 1]] = 1
        assert connected_components(graph, connection="strong")[0] == 1
    rank = np.argsort(np.argsort(-score.reshape(40, 50), axis=1), axis=1).ravel()
    assert rank[pairs].max() < 10
    for q in range(40):
        shown = pairs[query[:, 0] == q, 0]
        assert len(set(shown.tolist())) == cycles  # another document every time
    for first, second in pairs:
        others = [d for d in range(starts[second // 50], starts[second // 50 + 1]) if rank[d] < 10]
        assert abs(score[first] - score[second]) == min(abs(score[first] - score[d]) for d in others)


def test_designs_of_few_queries_and_documents() -> None:
    rng = np.random.default_rng(14)
    assert design_cross_pairs([1.0, 2.0], [0, 2], 4, rng).shape == (0, 2)  # one query
    assert design_cross_pairs([1.0, 2.0, 3.0], [0, 2, 3], 0, rng).shape == (0, 2)
    assert design_cross_pairs([], [0], 2, rng).shape == (0, 2)
    few = design_cross_pairs([1.0, 2.0], [0, 1, 1, 2], 4, rng)  # two queries with a document each, one without: one pair in all
    assert sorted(few[0].tolist()) == [0, 1]
    assert len(few) == 1
    unequal = design_cross_pairs(np.arange(7.0), [0, 1, 3, 3, 7], 6, rng)
    assert len({tuple(sorted(p)) for p in unequal.tolist()}) == len(unequal)
    assert (query_of(unequal, np.array([0, 1, 3, 3, 7])) != 2).all()
    again = design_cross_pairs(np.arange(7.0), [0, 1, 3, 3, 7], 6, np.random.default_rng(1))
    np.testing.assert_array_equal(again, design_cross_pairs(np.arange(7.0), [0, 1, 3, 3, 7], 6, np.random.default_rng(1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": [[0, 1]]}, "two different queries"),
        ({"pairs": [[0, 9]]}, "document numbers"),
        ({"pairs": [[0.0, 2.0]]}, "document numbers"),
        ({"prob_first": [0.5, 0.5]}, "one number per pair"),
        ({"prob_first": [1.5]}, "prob_first"),
        ({"weight": [-1.0]}, "weight"),
        ({"score": [0.0, np.nan, 1.0, 1.0]}, "finite"),
        ({"starts": [0, 2, 3]}, "starts"),
        ({"starts": [0, 3, 2, 4]}, "starts"),
        ({"score_stderr": [0.1, 0.1, 0.1]}, "score_stderr"),
        ({"prior_sd": 0.0}, "prior_sd"),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"score": [0.0, 1.0, 0.0, 1.0], "starts": [0, 2, 4], "pairs": [[0, 2]], "prob_first": [0.7]}
    with pytest.raises(InputError, match=message):
        fit_offsets(**(arguments | change))  # type: ignore[arg-type]


def test_bad_designs() -> None:
    with pytest.raises(InputError, match="cycles"):
        design_cross_pairs([0.0, 1.0], [0, 1, 2], -1, np.random.default_rng(0))
    with pytest.raises(InputError, match="depth"):
        design_cross_pairs([0.0, 1.0], [0, 1, 2], 1, np.random.default_rng(0), depth=0)
