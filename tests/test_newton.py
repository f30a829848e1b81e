"""The compiled fit of many queries: an independent solver, its invariances, diagnostics, hard cases and honest failure."""

import subprocess
import sys
from typing import Any

import networkx as nx
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.core.paired_comparison import Batch, BatchFit, FloatArray, fit_queries, fit_query, negative_log_posterior, thread_count
from zelo.errors import ConvergenceError, InputError
from zelo.types import Link

LINKS: list[Link] = ["probit", "logit"]
links = st.sampled_from(LINKS)
seeds = st.integers(0, 2**32 - 1)
Rows = dict[str, Any]


def rows_of(rng: np.random.Generator, n: int, m: int, *, terms: bool = True) -> Rows:
    """Any graph, repeated pairs, hard, soft and missing preferences; weights, slopes of both signs and 0, offsets, prior means."""
    m = m if n > 1 else 0
    first = rng.integers(max(n, 1), size=m)
    second = (first + rng.integers(1, max(n, 2), size=m)) % max(n, 1)
    prob = np.where(rng.random(m) < 0.5, rng.integers(2, size=m), rng.random(m)).astype(np.float64)
    prob[rng.random(m) < 0.1] = np.nan
    plain = {"first": first, "second": second, "prob_first": prob, "weight": rng.uniform(0.0, 4.0, m)}
    if not terms:
        return plain
    slope = rng.normal(1.0, 1.0, m) * (rng.random(m) < 0.9)
    return plain | {"slope": slope, "offset": rng.normal(0.0, 0.7, m), "prior_mean": rng.normal(0.0, 1.0, n)}


def joined(queries: list[tuple[int, Rows]]) -> Batch:
    columns = {name: np.concatenate([rows[name] for _, rows in queries]) for name in queries[0][1]}
    sizes = [len(rows["first"]) for _, rows in queries]
    return Batch([n for n, _ in queries], np.concatenate([[0], np.cumsum(sizes)]), **columns)


def optimum(n: int, rows: Rows, link: Link, prior_sd: float) -> FloatArray:
    """The maximum as SciPy's trust-region method finds it on the objective that is stated in NumPy."""

    def part(k: int) -> Any:
        return lambda s: negative_log_posterior(s, **rows, link=link, prior_sd=prior_sd)[k]

    start = np.asarray(rows.get("prior_mean", np.zeros(n)))
    found = scipy.optimize.minimize(part(0), start, jac=part(1), hess=part(2), method="trust-exact", options={"gtol": 1e-9})
    return np.asarray(found.x)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, link=links, n=st.integers(2, 12), sd=st.floats(0.1, 10.0))
def test_the_optimum_is_that_of_an_independent_solver(seed: int, link: Link, n: int, sd: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rows_of(rng, n, int(rng.integers(0, 40)))
    ours = fit_query(n, **rows, link=link, prior_sd=sd)
    np.testing.assert_allclose(ours.score, optimum(n, rows, link, sd), atol=1e-6)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("offset", [30.0, -400.0, 1e4])
@pytest.mark.parametrize("weight", [1e-3, 1.0, 1e4])
def test_far_into_the_tails(link: Link, offset: float, weight: float) -> None:
    # Two documents, by symmetry at (d / 2, -d / 2): the objective's slope along d vanishes, found by bisection with SciPy's functions.
    rows: Rows = {"first": [0], "second": [1], "prob_first": [0.3], "weight": [weight], "offset": [offset]}

    def slope(d: float) -> float:
        return float(negative_log_posterior([d / 2, -d / 2], **rows, link=link, prior_sd=2.0)[1] @ [0.5, -0.5])

    d = scipy.optimize.brentq(slope, -2e4, 2e4, xtol=1e-11, rtol=1e-14)
    assert fit_query(2, **rows, link=link, prior_sd=2.0).score == pytest.approx([d / 2, -d / 2], rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("link", LINKS)
def test_hard_cases_converge_or_say_so(link: Link) -> None:
    """Weights over eight orders of magnitude, offsets to a thousand, priors from tight to almost none, one-sided votes."""
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(150):
        n, m, sd = int(rng.integers(2, 25)), int(rng.integers(1, 70)), float(10 ** rng.uniform(-2, 2.5))
        rows = rows_of(rng, n, m) | {"weight": 10 ** rng.uniform(-4, 4, m), "offset": rng.normal(0, 10 ** rng.uniform(-1, 3), m)}
        rows["prob_first"] = (rng.random(m) < 0.9).astype(np.float64)
        try:
            fit = fit_query(n, **rows, link=link, prior_sd=sd)
        except ConvergenceError:
            refused += 1
            continue
        _, gradient, hessian = negative_log_posterior(fit.score, **rows, link=link, prior_sd=sd)
        assert np.abs(np.linalg.solve(hessian, gradient)).max() <= 1e-6 * (1.0 + np.abs(fit.score).max())
    assert refused <= 3


def fields(fit: BatchFit) -> list[Any]:
    return [fit.score, fit.stderr, fit.degree, fit.log_likelihood, fit.gradient_norm, fit.iterations, fit.components, fit.separated]


@pytest.fixture(scope="module")
def mixed() -> list[tuple[int, Rows]]:
    """Queries of 0, 1, 2 and up to 1,000 documents, some without rows or with missing ones only."""
    rng = np.random.default_rng(8)
    sizes = [0, 1, 2, 2, 1000, 3, 100, 100, 0, 300, 7, 50, 2, 1]
    queries = [(n, rows_of(rng, n, 4 * n if k % 5 else 0)) for k, n in enumerate(sizes)]
    queries[6][1]["prob_first"][:] = np.nan
    return queries


@pytest.mark.parametrize("link", LINKS)
def test_a_query_is_fitted_the_same_in_any_company(mixed: list[tuple[int, Rows]], link: Link) -> None:
    together = fit_queries(joined(mixed), link=link, threads=1)
    backward = fit_queries(joined(mixed[::-1]), link=link, threads=1)
    for q, (n, rows) in enumerate(mixed):
        alone = fit_query(n, **rows, link=link)
        for fit, at in ((together, q), (backward, len(mixed) - 1 - q)):
            part = slice(fit.starts[at], fit.starts[at + 1])
            for name in ("score", "stderr", "degree"):
                np.testing.assert_array_equal(getattr(fit, name)[part], getattr(alone, name))
            for name in ("log_likelihood", "gradient_norm", "iterations", "components", "separated"):
                assert getattr(fit, name)[at] == getattr(alone, name)
        assert alone.gradient_norm <= 1e-8 * 4.0
        if n:
            _, gradient, hessian = negative_log_posterior(alone.score, **rows, link=link)
            assert np.abs(gradient).max() <= 1e-7
            np.testing.assert_allclose(alone.stderr, np.sqrt(np.diag(np.linalg.inv(hessian))), rtol=1e-8)


def test_threads_do_not_change_a_bit() -> None:
    rng = np.random.default_rng(3)
    batch = joined([(20, rows_of(rng, 20, 80)) for _ in range(4000)])
    one, three = fit_queries(batch, threads=1), fit_queries(batch, threads=3)
    for a, b in zip(fields(one), fields(three), strict=True):
        assert a.tobytes() == b.tobytes()


def test_without_standard_errors_all_else_is_the_same(mixed: list[tuple[int, Rows]]) -> None:
    full, fast = fit_queries(joined(mixed)), fit_queries(joined(mixed), stderr=False)
    assert fast.stderr.shape == (0,)
    np.testing.assert_array_equal(full.score, fast.score)
    assert np.isfinite(full.stderr).all()


def test_each_query_has_its_prior() -> None:
    rng = np.random.default_rng(4)
    queries = [(6, rows_of(rng, 6, 15)) for _ in range(3)]
    fit = fit_queries(joined(queries), prior_sd=[0.3, 1.0, 5.0], link="logit")
    assert fit.prior_sd.tolist() == [0.3, 1.0, 5.0]
    for q, (n, rows) in enumerate(queries):
        alone = fit_query(n, **rows, prior_sd=[0.3, 1.0, 5.0][q], link="logit")
        np.testing.assert_array_equal(fit.score[6 * q : 6 * q + 6], alone.score)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, link=links, by=st.floats(-5.0, 5.0))
def test_moving_the_prior_moves_the_scores(seed: int, link: Link, by: float) -> None:
    rows = rows_of(np.random.default_rng(seed), 7, 18)
    moved = rows | {"prior_mean": rows["prior_mean"] + by}
    still = fit_query(7, **rows, link=link)
    np.testing.assert_allclose(fit_query(7, **moved, link=link).score, still.score + by, atol=1e-7)
    assert still.score.mean() == pytest.approx(rows["prior_mean"].mean(), abs=1e-14)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, link=links)
def test_what_a_row_means_does_not_depend_on_how_it_is_written(seed: int, link: Link) -> None:
    rows = rows_of(np.random.default_rng(seed), 7, 18)
    fit = fit_query(7, **rows, link=link)
    swapped = rows | {"first": rows["second"], "second": rows["first"], "prob_first": 1 - rows["prob_first"], "offset": -rows["offset"]}
    np.testing.assert_allclose(fit_query(7, **swapped, link=link).score, fit.score, atol=1e-7)
    negated = rows | {"slope": -rows["slope"], "offset": -rows["offset"], "prob_first": 1 - rows["prob_first"]}
    np.testing.assert_allclose(fit_query(7, **negated, link=link).score, fit.score, atol=1e-7)
    mirrored = rows | {"prob_first": 1 - rows["prob_first"], "offset": -rows["offset"], "prior_mean": -rows["prior_mean"]}
    np.testing.assert_allclose(fit_query(7, **mirrored, link=link).score, -fit.score, atol=1e-7)
    twice = {name: column if name == "prior_mean" else np.tile(column, 2) for name, column in rows.items()}
    doubled = fit_query(7, **(rows | {"weight": 2 * rows["weight"]}), link=link)
    np.testing.assert_allclose(fit_query(7, **twice, link=link).score, doubled.score, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=st.integers(1, 9), m=st.integers(0, 14))
def test_components_and_separation_as_networkx_sees_them(seed: int, n: int, m: int) -> None:
    rows = rows_of(np.random.default_rng(seed), n, m)
    graph = nx.DiGraph()
    graph.add_nodes_from(range(n))
    for i, j, p, w, c in zip(rows["first"], rows["second"], rows["prob_first"], rows["weight"], rows["slope"], strict=True):
        if not np.isnan(p) and w > 0 and c != 0:
            i, j = (i, j) if c > 0 else (j, i)
            graph.add_edges_from(([(i, j)] if p > 0 else []) + ([(j, i)] if p < 1 else []))
    fit = fit_query(n, **rows)
    weak = nx.number_weakly_connected_components(graph)
    assert fit.components == weak
    assert fit.separated is (nx.number_strongly_connected_components(graph) > weak)


def test_no_queries_at_all() -> None:
    fit = fit_queries(Batch([], [0], [], [], []))
    assert fit.score.shape == fit.log_likelihood.shape == (0,)
    assert fit.starts.tolist() == [0]


def good() -> Rows:
    return {"documents": [2, 3], "rows": [0, 1, 3], "first": [0, 0, 1], "second": [1, 1, 2], "prob_first": [0.5, 1.0, 0.0]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": [0, 0, 3]}, "^query 1: a pair must join two different documents of 0 .. 2$"),
        ({"first": [0, 0, 2**40]}, "^query 1: a pair must join"),
        ({"first": [0.0, 0.0, 1.0]}, "integers"),
        ({"prob_first": [1.5, 1.0, 0.0]}, r"^query 0: prob_first must be in \[0, 1\]. mark a missing"),
        ({"weight": [1.0, 1.0, -1.0], "names": ["x", "y"]}, "^query y: weights must be finite and >= 0"),
        ({"weight": [1.0, 1.0]}, "equally long"),
        ({"slope": [1.0, np.inf, 1.0]}, "^query 1: slopes and offsets must be finite"),
        ({"offset": [np.nan, 0.0, 1.0]}, "^query 0: slopes and offsets must be finite"),
        ({"prior_mean": [0.0]}, r"one per document \(5\)"),
        ({"prior_mean": [0.0, 0.0, 0.0, 0.0, np.nan]}, "prior_mean must be finite"),
        ({"documents": [2, -1]}, "documents must be"),
        ({"documents": [2.0, 3.0]}, "documents must be"),
        ({"rows": [0, 1, 2]}, "rows must rise from 0 to 3"),
        ({"rows": [0, 3]}, "rows must rise"),
        ({"rows": [0, 4, 3]}, "rows must rise"),
    ],
)
def test_unusable_batches_are_refused(changes: Rows, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_queries(Batch(**(good() | changes)))


def test_failures_name_the_query() -> None:
    with pytest.raises(ConvergenceError, match=r"^query 1: the score fit stopped after 2 iterations at gradient norm"):
        fit_queries(Batch([2, 3], [0, 1, 3], [0, 0, 1], [1, 1, 2], [np.nan, 1.0, 0.9]), max_iterations=2)
    with pytest.raises(InputError, match=r"prior_sd must be finite and > 0, got 0.0"):
        fit_queries(Batch(**good()), prior_sd=[1.0, 0.0])


def test_weights_and_slopes_over_many_orders_of_magnitude() -> None:
    rng = np.random.default_rng(0)
    n, m = 300, 1800
    first = rng.integers(n, size=m)
    second = (first + rng.integers(1, n, size=m)) % n
    weight = np.exp(rng.normal(0, 3, m))
    batch = Batch(
        [2, n], [0, 1, m + 1], [0, *first], [1, *second], [1.0, *rng.integers(0, 2, m)], [1.0, *weight], [1.0, *rng.normal(1, 2, m)],
        [0.0, *rng.normal(0, 10, m)],
    )  # fmt: skip
    fit = fit_queries(batch, link="logit", prior_sd=10.0)
    assert fit.iterations[1] > 20
    assert fit.gradient_norm[1] <= 1e-8 * weight.max()
    with pytest.raises(ConvergenceError) as failed:
        fit_queries(batch, link="logit", prior_sd=10.0, max_iterations=15)
    assert f"above the tolerance {1e-8 * weight.max():.1e}" in str(failed.value)
    assert f"use smaller weights (the largest stands for {weight.max():.1e} comparisons) or a smaller prior_sd" in str(failed.value)


def test_empty_lists_are_no_rows() -> None:
    fit = fit_queries(Batch([0, 2, 0], [0, 0, 0, 0], [], [], []))
    np.testing.assert_array_equal(fit.score, [0.0, 0.0])
    assert len(fit_queries(Batch([], [0], [], [], [])).score) == 0
    with pytest.raises(InputError, match="rows must be integers"):
        fit_queries(Batch([2], [0.0, 0.0], [], [], []))


@pytest.mark.parametrize("threads", [0, -1])
def test_a_bad_number_of_threads_is_the_callers(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZELO_THREADS", "2")
    with pytest.raises(InputError, match=rf"^the number of threads must be a whole number >= 1, got '{threads}'"):
        thread_count(threads)


def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZELO_THREADS", "3")
    assert (thread_count(), thread_count(2)) == (3, 2)
    monkeypatch.setenv("ZELO_THREADS", "many")
    with pytest.raises(InputError, match="ZELO_THREADS: the number of threads must be a whole number >= 1, got 'many'"):
        thread_count()
    monkeypatch.delenv("ZELO_THREADS")
    assert thread_count() >= 1
    with pytest.raises(InputError, match="threads"):
        thread_count(0)


def test_numba_is_loaded_only_to_fit() -> None:
    code = "import sys, zelo, zelo.core.paired_comparison; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
