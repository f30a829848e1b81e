"""Pairs are chosen as the formulas say, once each, for every query by itself, and they are worth it."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from zelo.core import _information as kernels
from zelo.core.active_pairs import Aim, Plan, default_cap, plan_round, top_change
from zelo.core.comparison_graph import hamiltonian_cycles, rng_for
from zelo.core.designs import draw_pairs
from zelo.core.links import win_probability
from zelo.core.paired_comparison import Batch, fit_queries, fit_query
from zelo.errors import InputError
from zelo.types import Link

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
AIMS: tuple[Aim, ...] = get_args(Aim)
seeds = st.integers(0, 2**32 - 1)


def spd(n: int, rng: np.random.Generator) -> FloatArray:
    a = rng.normal(size=(n, 2 * n))
    return np.ascontiguousarray(a @ a.T / n)


def laplacian(n: int, rng: np.random.Generator) -> FloatArray:
    weight = np.triu(rng.random((n, n)), 1)
    weight += weight.T
    return np.diag(weight.sum(axis=1)) - weight


def a_batch(rng: np.random.Generator, sizes: list[int], pairs: int, answer: bool = True) -> Batch:
    """Random pairs of every query, none twice, with three votes."""
    ends = [draw_pairs(n, pairs, rng, "random") for n in sizes]
    all_ends = np.concatenate([np.zeros((0, 2), np.int64), *ends])
    prob = rng.integers(0, 7, len(all_ends)) / 6 if answer else np.full(len(all_ends), np.nan)
    return Batch(sizes, np.cumsum([0, *map(len, ends)]), all_ends[:, 0], all_ends[:, 1], prob, np.full(len(all_ends), 3.0))


def add(batch: Batch, plan: Plan, prob: list[FloatArray]) -> Batch:
    """The batch with the plan's pairs answered from `prob` [n, n] per query."""
    rows, first, second, said = [0], [], [], []
    for q in range(len(prob)):
        old = slice(np.asarray(batch.rows)[q], np.asarray(batch.rows)[q + 1])
        new = plan.pairs(q)
        first.append(np.concatenate([np.asarray(batch.first)[old], new[:, 0]]))
        second.append(np.concatenate([np.asarray(batch.second)[old], new[:, 1]]))
        said.append(prob[q][first[-1], second[-1]])
        rows.append(rows[-1] + len(first[-1]))
    ends = np.concatenate(first), np.concatenate(second)
    return Batch(batch.documents, rows, *ends, np.concatenate(said), np.full(rows[-1], 3.0))


def unordered(pairs: NDArray[np.int32]) -> list[tuple[int, int]]:
    return [(min(p), max(p)) for p in pairs.tolist()]


@pytest.mark.parametrize("link", ["probit", "logit"])
def test_the_covariance_is_that_of_the_fit(link: Link) -> None:
    rng = np.random.default_rng(1)
    first, second = hamiltonian_cycles(12, 4, rng).T
    prob = rng.integers(0, 7, len(first)) / 6
    fit = fit_query(12, first, second, prob, np.full(len(first), 3.0), link=link)
    ours = kernels.covariance(12, first.astype(np.int32), second.astype(np.int32), fit.curvature, 1 / fit.prior_sd**2)
    assert ours == pytest.approx(fit.covariance(), rel=1e-10, abs=1e-13)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 12), information=st.floats(1e-3, 20), seed=seeds)
def test_the_update_is_the_recomputed_inverse(n: int, information: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    c, loss = spd(n, rng), laplacian(n, rng)
    i, j = rng.choice(n, 2, replace=False)
    x = np.zeros(n)
    x[i], x[j] = 1, -1
    after = np.linalg.inv(np.linalg.inv(c) + information * np.outer(x, x))
    m = kernels.sandwich(c, loss)
    assert m == pytest.approx(c @ loss @ c, rel=1e-10, abs=1e-12)
    kernels.observe(c, m, information, i, j)
    assert c == pytest.approx(after, rel=1e-6, abs=1e-8)
    assert m == pytest.approx(after @ loss @ after, rel=1e-6, abs=1e-8)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(3, 8), aim=st.sampled_from(["loss", "information"]), seed=seeds)
def test_every_choice_is_the_best_of_all_recomputed_ones(n: int, aim: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    c, loss = spd(n, rng), laplacian(n, rng)
    information = np.triu(rng.random((n, n)), 1)
    information += information.T
    precision = np.linalg.inv(c)
    m = kernels.sandwich(c, loss) if aim == "loss" else np.empty((0, 0))
    chosen = kernels.choose(c.copy(), m, information.copy(), 5, 3)

    def gain(i: int, j: int) -> float:
        x = np.zeros(n)
        x[i], x[j] = 1, -1
        after = precision + information[i, j] * np.outer(x, x)
        if aim == "information":
            return float(np.linalg.slogdet(after)[1] - np.linalg.slogdet(precision)[1]) / 2
        return float(np.trace(loss @ (np.linalg.inv(precision) - np.linalg.inv(after))))

    load, seen = np.zeros(n, int), set()
    for i, j in chosen.tolist():
        allowed = [(a, b) for a in range(n) for b in range(a + 1, n) if (a, b) not in seen and load[a] < 3 and load[b] < 3]
        assert (i, j) in allowed
        assert gain(i, j) == pytest.approx(max(gain(a, b) for a, b in allowed), rel=1e-8)
        seen.add((i, j))
        load[[i, j]] += 1
        precision[i, i] += information[i, j]
        precision[j, j] += information[i, j]
        precision[i, j] -= information[i, j]
        precision[j, i] -= information[i, j]


def test_the_loss_of_a_wrong_order_grows_as_stated() -> None:
    """Two documents whose difference is N(m, v): the expected loss is E max(-difference, 0), times stake and slope of the gain."""
    score, c, discount = np.array([0.7, 0.2]), np.array([[0.5, 0.1], [0.1, 0.6]]), np.array([1.0, 0.6])

    def expected(v: float) -> float:
        z = 0.5 / np.sqrt(v)
        return float(np.sqrt(v) * (norm.pdf(z) - z * norm.cdf(-z)))

    v, step = 0.9, 1e-5
    rate = (expected(v + step) - expected(v - step)) / (2 * step)
    found = kernels.misorder_loss(score, c, discount, 1.3)
    slope = 0.4 * np.exp(1.3 * (0.45 - 0.7))  # gains relative to that of the best document
    expectation = 2 * np.sqrt(2 * np.pi) * rate * slope * np.array([[1, -1], [-1, 1]])
    assert found == pytest.approx(expectation, rel=1e-6)


def test_the_expected_loss_is_the_mean_over_draws() -> None:
    rng = np.random.default_rng(3)
    n, discount = 14, 1 / np.log2(np.arange(2, 12))
    score, c, normal = rng.normal(size=n), spd(n, rng) / 4, rng.standard_normal((50, n))
    losses = []
    for truth in score + normal @ np.linalg.cholesky(c).T:
        gain = np.exp(0.8 * truth)
        losses.append(1 - gain[np.argsort(-score)[:10]] @ discount / (np.sort(gain)[::-1][:10] @ discount))
    found = kernels.expected_ndcg_loss(score, c, normal, discount, 0.8)
    assert found == pytest.approx(np.mean(losses), rel=1e-10)
    assert kernels.expected_ndcg_loss(score, c * 1e-12, normal, discount, 0.8) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("aim", AIMS)
def test_a_plan_depends_on_nothing_but_the_query(aim: Aim) -> None:
    sizes = [30, 12, 2, 1, 0, 25]
    batch = a_batch(np.random.default_rng(5), sizes, 20)
    ids = [f"q{i}" for i in range(len(sizes))]

    def planned(b: Batch, names: list[str], **more: object) -> list[list[list[int]]]:
        plan = plan_round(b, names, aim=aim, count=9, **more)  # type: ignore[arg-type]
        return [plan.pairs(q).tolist() for q in range(len(names))]

    together = planned(batch, ids, threads=1)
    assert together == planned(batch, ids, threads=3) == planned(batch, ids, threads=1)
    rows = np.asarray(batch.rows)
    for q, n in enumerate(sizes):
        own = slice(rows[q], rows[q + 1])
        first, second, prob, weight = (np.asarray(c)[own] for c in (batch.first, batch.second, batch.prob_first, batch.weight))
        alone = Batch([n], [0, len(first)], first, second, prob, weight)
        assert planned(alone, [ids[q]]) == [together[q]]
    assert [len(p) for p in together] == [9, 9, 0, 0, 0, 9]
    empty = Batch([8], [0, 0], np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    drawn = {str(planned(empty, [name], seed=seed)) for name in ("a", "b") for seed in (0, 1)}
    assert len(drawn) == 4, "before the first answer all pairs are equally good, and the draw decides"


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 11), aim=st.sampled_from(AIMS), count=st.integers(1, 12), seed=seeds)
def test_every_pair_is_reached_and_none_twice(n: int, aim: Aim, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.integers(0, 7, (n, n)) / 6, 1)
    prob = upper + np.tril(1 - upper.T, -1)
    batch = Batch([n], [0, 0], np.zeros(0, int), np.zeros(0, int), np.zeros(0), np.zeros(0))
    seen: list[tuple[int, int]] = []
    for number in range(n * n):
        plan = plan_round(batch, ["q"], aim=aim, count=count, seed=seed, round_number=number, threads=1)
        new = plan.pairs(0)
        assert (np.bincount(new.ravel(), minlength=n) <= default_cap(n, count)).all()
        assert new.min(initial=0) >= 0
        assert new.max(initial=0) < n
        if plan.settled[0]:
            assert len(new) == 0
            break
        assert 0 < len(new) <= count
        seen += unordered(new)
        batch = add(batch, plan, [prob])
    assert sorted(seen) == [(i, j) for i in range(n) for j in range(i + 1, n)]


def test_counts_and_caps_are_kept() -> None:
    batch = a_batch(np.random.default_rng(6), [40, 40, 40], 40)
    plan = plan_round(batch, ["a", "b", "c"], count=[30, 0, 7], cap=2, threads=1)
    assert [len(plan.pairs(q)) for q in range(3)] == [30, 0, 7]
    assert np.bincount(plan.pairs(0).ravel()).max() == 2
    assert plan.rows.tolist() == [0, 30, 30, 37]
    assert plan.first.dtype == plan.second.dtype == np.int32
    assert (default_cap(100, 25), default_cap(100, 200), default_cap(0, 5)) == (4, 12, 30)


def test_pairs_without_an_answer_are_not_asked_again() -> None:
    batch = a_batch(np.random.default_rng(7), [6], 14, answer=False)
    plan = plan_round(batch, ["q"], count=10, threads=1)
    asked = set(unordered(np.stack([np.asarray(batch.first), np.asarray(batch.second)], axis=1)))
    assert len(plan.pairs(0)) == 1
    assert not asked & set(unordered(plan.pairs(0)))


def simulated(queries: int, n: int, seed: int) -> tuple[list[FloatArray], list[FloatArray]]:
    rng = np.random.default_rng(seed)
    truth, prob = [], []
    for _ in range(queries):
        s = rng.normal(0, 1.5, n)
        x = (s[:, None] - s)[:, :, None] + rng.logistic(size=(n, n, 3))
        upper = np.triu(np.where(abs(x) < 0.4, 0.5, x > 0).mean(axis=2), 1)
        truth.append(s)
        prob.append(upper + np.tril(1 - upper.T, -1))
    return truth, prob


def started(prob: list[FloatArray], pairs: int) -> Batch:
    ends = [draw_pairs(len(p), pairs, rng_for(0, str(q))) for q, p in enumerate(prob)]
    first, second = np.concatenate(ends).T
    said = np.concatenate([p[e[:, 0], e[:, 1]] for p, e in zip(prob, ends, strict=True)])
    return Batch([len(p) for p in prob], np.cumsum([0, *map(len, ends)]), first, second, said, np.full(len(said), 3.0))


def ndcg(truth: list[FloatArray], batch: Batch) -> tuple[float, float]:
    """Mean nDCG@10 of the fitted order, gain exp(truth), and mean squared error."""
    fitted = fit_queries(batch, link="logit", threads=1, stderr=False)
    discount, found, errors = 1 / np.log2(np.arange(2, 12)), [], []
    for s, score in zip(truth, np.split(fitted.score, fitted.starts[1:-1]), strict=True):
        gain = np.exp(s)
        found.append(gain[np.argsort(-score)[:10]] @ discount / (np.sort(gain)[::-1][:10] @ discount))
        errors.append(np.mean((score - s + s.mean()) ** 2))
    return float(np.mean(found)), float(np.mean(errors))


@pytest.fixture(scope="module")
def played() -> tuple[list[FloatArray], dict[str, tuple[Batch, list[Plan]]]]:
    truth, prob = simulated(40, 60, 8)
    ids = [str(q) for q in range(len(prob))]
    found: dict[str, tuple[Batch, list[Plan]]] = {"cycles": (started(prob, 180), [])}
    for aim in AIMS:
        batch, plans = started(prob, 60), []
        for number in range(1, 5):
            plans.append(plan_round(batch, ids, aim=aim, count=30, link="logit", round_number=number, threads=1))
            batch = add(batch, plans[-1], prob)
        found[aim] = batch, plans
    return truth, found


def test_chosen_pairs_beat_cycles_at_the_same_number(played: tuple[list[FloatArray], dict[str, tuple[Batch, list[Plan]]]]) -> None:
    truth, found = played
    assert {len(np.asarray(batch.first)) for batch, _ in found.values()} == {40 * 180}
    value, error = {}, {}
    for name, (batch, _) in found.items():
        value[name], error[name] = ndcg(truth, batch)
    assert value["top"] > value["cycles"] + 0.07
    assert value["balanced"] > value["cycles"] + 0.05
    assert value["information"] > value["cycles"] + 0.02
    assert error["information"] < 0.85 * error["cycles"]
    assert error["balanced"] < 0.95 * error["cycles"]


def test_documents_lead_in_about_half_of_their_comparisons(played: tuple[list[FloatArray], dict[str, tuple[Batch, list[Plan]]]]) -> None:
    for name, (batch, _) in played[1].items():
        offset = np.repeat(60 * np.arange(40), np.diff(batch.rows))
        lead = np.bincount(np.asarray(batch.first) + offset) - np.bincount(np.asarray(batch.second) + offset)
        assert abs(lead).max() <= 3, name


def test_given_leads_are_evened_out() -> None:
    batch = a_batch(np.random.default_rng(9), [10], 5)
    lead = np.array([9, 0, 0, 0, 0, 0, 0, 0, 0, -9])
    pairs = plan_round(batch, ["q"], aim="information", count=30, cap=9, lead=lead, threads=1).pairs(0)
    assert not (pairs[:, 0] == 0).any()
    assert not (pairs[:, 1] == 9).any()


@pytest.mark.parametrize("aim", AIMS)
def test_settled_queries_get_no_more_pairs(aim: Aim, played: tuple[list[FloatArray], dict[str, tuple[Batch, list[Plan]]]]) -> None:
    batch, plans = played[1][aim]
    ids = [str(q) for q in range(40)]
    losses = [float(plan.loss.mean()) for plan in plans]
    assert losses == sorted(losses, reverse=True)
    last = plan_round(batch, ids, aim=aim, count=10, link="logit", threads=1)
    tolerance = float(np.median(last.loss))
    stopped = plan_round(batch, ids, aim=aim, count=10, link="logit", tolerance=tolerance, threads=1)
    assert (stopped.loss == last.loss).all()
    assert 10 < stopped.settled.sum() < 30
    for q in range(40):
        assert stopped.settled[q] == (last.loss[q] <= tolerance)
        assert len(stopped.pairs(q)) == (0 if stopped.settled[q] else 10)


def test_the_change_is_that_of_the_head() -> None:
    before, discount = np.linspace(3.0, -3.0, 30), 1 / np.log2(np.arange(2, 12))
    below = before.copy()
    below[[20, 25]] = below[[25, 20]]
    assert top_change(before, below) == 0
    assert top_change(before, before + 5) == 0
    swapped = before.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    gain = np.exp(before)
    lost = (gain[0] - gain[1]) * (discount[0] - discount[1]) / (gain[:10] @ discount)
    assert top_change(before, swapped, link="logit") == pytest.approx(lost)
    assert top_change(before / 2.407, swapped / 2.407) == pytest.approx(lost, rel=0.01)
    assert top_change([], []) == 0
    plan = plan_round(a_batch(np.random.default_rng(1), [7], 9), ["q"], count=2, threads=1)
    assert top_change(plan.score, plan.score) == 0


def test_the_expected_loss_is_near_the_true_one(played: tuple[list[FloatArray], dict[str, tuple[Batch, list[Plan]]]]) -> None:
    truth, found = played
    batch, _ = found["top"]
    expected = plan_round(batch, [str(q) for q in range(40)], count=0, link="logit", threads=1).loss.mean()
    true = 1 - ndcg(truth, batch)[0]
    assert 0.8 * true < expected < 2.5 * true, "it overstates: a tie tells more than a vote's weight says"


def test_links_mean_the_same() -> None:
    """The scale of the scores is the link's; the choice hardly depends on it."""
    _, prob = simulated(6, 30, 10)
    batch, ids = started(prob, 60), list("abcdef")
    shares = []
    for q in range(6):
        chosen = [set(unordered(plan_round(batch, ids, count=15, link=link, threads=1).pairs(q))) for link in ("probit", "logit")]
        shares.append(len(chosen[0] & chosen[1]) / 15)
    assert np.mean(shares) > 0.4, "by chance .03"
    losses = [plan_round(batch, ids, count=0, link=link, threads=1).loss for link in ("probit", "logit")]
    assert losses[0] == pytest.approx(losses[1], rel=0.25)
    assert win_probability(1 / 2.407, "probit") == pytest.approx(win_probability(1.0, "logit"), abs=0.02)


@pytest.mark.parametrize(
    "bad",
    [
        {"aim": "best"},
        {"count": -1},
        {"count": [1]},
        {"cap": 0},
        {"top": 0},
        {"tolerance": -0.1},
        {"tolerance": float("nan")},
        {"lead": [0]},
    ],
)
def test_what_is_out_of_range_is_refused(bad: dict[str, object]) -> None:
    batch = a_batch(np.random.default_rng(0), [5, 5], 4)
    with pytest.raises(InputError):
        plan_round(batch, ["a", "b"], **bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="query ids"):
        plan_round(batch, ["a"])


def test_importing_it_compiles_nothing() -> None:
    code = "import sys, zelo.core.active_pairs, zelo.core.designs; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_queries_without_documents_or_rows() -> None:
    plan = plan_round(Batch([0, 3, 1], [0, 0, 0, 0], [], [], []), ["a", "b", "c"], count=[2, 2, 2])
    assert plan.rows.tolist() == [0, 0, 2, 2]
    assert plan.settled.tolist() == [True, False, True]
    assert plan_round(Batch([], [0], [], [], []), [], count=[]).rows.tolist() == [0]


@pytest.mark.parametrize("count", [1.7, [1.7], ["2"], None])
def test_a_count_is_a_whole_number(count: object) -> None:
    with pytest.raises(InputError, match="count must be a whole number"):
        plan_round(Batch([3], [0, 0], [], [], []), ["a"], count=count)  # type: ignore[arg-type]
