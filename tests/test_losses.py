"""Losses: each against loops in plain Python, and its gradient against finite differences."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from zelo.errors import InputError
from zelo.training.losses import LOSSES, OVER_LISTS, make_loss, pair_targets

torch = pytest.importorskip("torch")
Floats = NDArray[np.float64]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def cross_entropy(p: float, wanted: float) -> float:
    return -wanted * math.log(p) - (1 - wanted) * math.log(1 - p)


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def witness(name: str, z: list[float], t: list[float], groups: list[int], comparisons: list[tuple[int, int, float]]) -> float:
    """The loss from its definition, without any matrix."""
    n = range(len(z))
    lists = [[i for i in n if groups[i] == g] for g in sorted(set(groups))]
    if name == "mse":
        return mean([(sigmoid(z[i]) - t[i]) ** 2 for i in n])
    if name == "bce":
        return mean([cross_entropy(sigmoid(z[i]), t[i]) for i in n])
    if name == "ranknet":
        return mean([-math.log(sigmoid(z[i] - z[j])) for rows in lists for i, j in product(rows, rows) if t[i] > t[j]])
    if name == "pairs":
        return mean([cross_entropy(sigmoid(z[i] - z[j]), p) for i, j, p in comparisons])
    if name == "infonce":
        losses = []
        for rows in lists:
            for i in rows:
                if t[i] > 0.5:
                    others = sum(math.exp(z[j]) for j in rows if t[j] <= 0.5)
                    losses.append(-math.log(math.exp(z[i]) / (math.exp(z[i]) + others)))
        return mean(losses)
    total = 0.0
    for rows in lists:
        odds = {i: min(max(t[i], 1e-4), 1 - 1e-4) / (1 - min(max(t[i], 1e-4), 1 - 1e-4)) for i in rows}
        for i in rows:
            q, p = odds[i] / sum(odds.values()), math.exp(z[i]) / sum(math.exp(z[j]) for j in rows)
            total += q * math.log(q / p)
    return total / len(lists)


def drawn(seed: int, queries: int) -> tuple[Floats, Floats, list[int], list[tuple[int, int, float]], Floats]:
    """Logits, targets, groups; comparisons by row with their probabilities, and the same as targets of `pairs`. Rows are mixed."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, queries)
    groups = np.repeat(np.arange(queries), sizes)
    z, t = rng.normal(0, 3, len(groups)), rng.choice([0.0, 0.2, 0.5, 0.7, 0.9, 1.0], len(groups))
    comparisons, blocks = [], []
    for size in sizes.tolist():
        start = sum(len(b) for b in blocks)
        chosen = [(a, b, float(rng.uniform(0.05, 0.95))) for a in range(size) for b in range(a) if rng.random() < 0.7]
        comparisons += [(start + a, start + b, p) for a, b, p in chosen]
        columns = [np.array([c[x] for c in chosen]) for x in range(3)]
        blocks.append(pair_targets(size, columns[0].astype(int), columns[1].astype(int), columns[2].astype(float)))
    k = max((b.shape[1] - 1) // 2 for b in blocks)
    wide = [np.full((len(b), 1 + 2 * k), -1.0) for b in blocks]
    for w, b in zip(wide, blocks, strict=True):
        own = (b.shape[1] - 1) // 2
        w[:, : 1 + own], w[:, 1 + k : 1 + k + own] = b[:, : 1 + own], b[:, 1 + own :]
    order = rng.permutation(len(groups))
    place = np.argsort(order)
    moved = [(int(place[a]), int(place[b]), p) for a, b, p in comparisons]
    return z[order], t[order], groups[order].tolist(), moved, np.concatenate(wide)[order]


@pytest.mark.parametrize("name", LOSSES)
@given(st.integers(0, 2**32), st.integers(1, 4), st.sampled_from([1.0, 5.0]))
@settings(max_examples=20, deadline=None)
def test_value_and_gradient(name: str, seed: int, queries: int, scale: float) -> None:
    z, t, groups, comparisons, observed = drawn(seed, queries)
    loss = make_loss(name, scale)
    logits = torch.tensor(z * scale, requires_grad=True)
    targets, numbers = torch.tensor(observed if name == "pairs" else t), torch.tensor(groups)
    value = loss(logits, targets, numbers)
    assert float(value.detach()) == pytest.approx(witness(name, z.tolist(), t.tolist(), groups, comparisons), abs=1e-9)
    assert torch.autograd.gradcheck(lambda x: loss(x, targets, numbers), (logits,), atol=1e-6)


@pytest.mark.parametrize("name", sorted(OVER_LISTS))
def test_lists_know_no_other_query_and_no_offset(name: str) -> None:
    z, t, groups, _, observed = drawn(5, 3)
    targets, numbers = torch.tensor(observed if name == "pairs" else t), torch.tensor(groups)
    moved = torch.tensor(z) + 3 * numbers  # a constant per query
    assert float(LOSSES[name](moved, targets, numbers)) == pytest.approx(float(LOSSES[name](torch.tensor(z), targets, numbers)))


@pytest.mark.parametrize("name", ["mse", "bce", "listwise_kl", "pairs"])
def test_the_truth_is_the_minimum(name: str) -> None:
    truth = torch.tensor([-2.0, -0.5, 0.3, 1.5], dtype=torch.float64)
    groups = torch.zeros(4, dtype=torch.int64)
    targets = truth.sigmoid()
    if name == "pairs":
        first, second = np.array([0, 1, 2, 3]), np.array([1, 2, 3, 0])
        targets = torch.tensor(pair_targets(4, first, second, (truth[first] - truth[second]).sigmoid().numpy()))
    logits = truth.clone().requires_grad_()
    LOSSES[name](logits, targets, groups).backward()
    np.testing.assert_allclose(logits.grad.numpy(), 0, atol=1e-12)


@pytest.mark.parametrize("name", sorted(OVER_LISTS))
def test_nothing_to_compare_costs_nothing(name: str) -> None:
    logits = torch.zeros(2, requires_grad=True)
    targets = torch.tensor(pair_targets(1, *np.zeros((3, 0)).astype(int)))[[0, 0]] if name == "pairs" else torch.tensor([0.3, 0.3])
    value = LOSSES[name](logits, targets.float(), torch.tensor([0, 1]))
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-6)
    assert float(logits.grad.abs().max()) == pytest.approx(0, abs=1e-6)


def test_extreme_logits_stay_finite() -> None:
    z, t = torch.tensor([-1e4, 1e4, 0.0], requires_grad=True), torch.tensor([1.0, 0.0, 0.6])
    observed = torch.tensor(pair_targets(3, np.array([0, 1]), np.array([1, 2]), np.array([1.0, 0.0]))).float()
    for name, loss in LOSSES.items():
        z.grad = None
        loss(z, observed if name == "pairs" else t, torch.zeros(3)).backward()
        assert bool(z.grad.isfinite().all()), name


def test_bad_names_and_scales() -> None:
    with pytest.raises(InputError, match="use one of: mse, bce"):
        make_loss("hinge")
    with pytest.raises(InputError, match="not above 0"):
        make_loss("mse", 0)
    assert make_loss("mse", 5).__qualname__ != make_loss("mse", 1).__qualname__ != make_loss("bce", 1).__qualname__
