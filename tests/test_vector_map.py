"""The learned map: its gradient, what it finds, that it says no where there is nothing to find, and a student's folder with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import softmax

from tiny_models import WORDS, write_tiny_bert
from zelo.encoders.similarity import LexicalStatistics, VectorBank, VectorMap
from zelo.encoders.transformer import load_encoder
from zelo.errors import InputError
from zelo.rerankers import load_reranker
from zelo.rerankers.blend import FEATURES, MAP, MAPPED, BlendReranker, Head, Signals
from zelo.training.vector_map import FOLDS, RIDGE, Lists, _Problem, learn_map

DIM = 6


def made(queries: int, strength: float, seed: int = 0, documents: int = 40, each: int = 12) -> tuple[Lists, np.ndarray]:
    """Shares that follow one signal and, by `strength`, a map of the vectors; and that map."""
    rng = np.random.default_rng(seed)
    q, d = (rng.normal(size=(n, DIM)).astype(np.float32) / np.sqrt(DIM) for n in (queries, documents))
    weights = rng.normal(size=(DIM, DIM)) * strength
    rows = [rng.permutation(documents)[:each] for _ in range(queries)]
    features = [rng.normal(size=(each, 2)) for _ in rows]
    targets = [softmax(f[:, 0] + d[r] @ (q[i] @ weights)) for i, (r, f) in enumerate(zip(rows, features, strict=True))]
    return Lists(q, d, rows, features, targets), weights


def folds_of(lists: Lists) -> np.ndarray:
    return np.arange(len(lists.queries)) % FOLDS


def test_gradient_is_that_of_the_loss() -> None:
    lists, _ = made(7, 2.0)
    problem, rng = _Problem(lists), np.random.default_rng(1)
    rows = np.array([0, 2, 3, 6])
    for size in (2, 2 + DIM**2):  # without and with a map
        at = rng.normal(size=size)
        value, gradient = problem.loss(rows, at)
        assert value > 0
        np.testing.assert_allclose(gradient, approx_fprime(at, lambda p: problem.loss(rows, p)[0], 1e-3), atol=2e-3)


def test_the_optimum_is_one_from_every_start() -> None:
    problem, rng = _Problem(made(60, 2.0)[0]), np.random.default_rng(2)
    rows = np.arange(60)
    one, other = (problem.fit(rows, 1e-2, start) for start in (problem.start(), rng.normal(size=2 + DIM**2)))
    np.testing.assert_allclose(one, other, atol=0.02)
    best = problem.loss(rows, one)[0] + np.r_[[RIDGE] * 2, [1e-2] * DIM**2] @ one**2
    for _ in range(20):
        near = one + 0.05 * rng.normal(size=len(one))
        assert problem.loss(rows, near)[0] + np.r_[[RIDGE] * 2, [1e-2] * DIM**2] @ near**2 > best


def test_a_map_that_made_the_targets_is_found() -> None:
    lists, weights = made(360, 6.0)
    found = learn_map(lists, folds_of(lists))
    assert found.map is not None
    assert found.losses[found.penalty] < found.losses[np.inf] - 0.05
    # A ridge shrinks, and a softmax cannot see what all documents of a query have in common.
    assert np.corrcoef(found.map.weights.ravel(), weights.ravel())[0, 1] > 0.95
    truth = [lists.documents[r] @ (lists.queries[i] @ weights) for i, r in enumerate(lists.rows)]
    unseen = [np.corrcoef(t, s)[0, 1] for t, s in zip(truth, found.signal, strict=True)]
    assert np.mean(unseen) > 0.9
    assert [len(s) for s in found.signal] == [len(r) for r in lists.rows]


@pytest.mark.parametrize("seed", [0, 1])
def test_where_there_is_nothing_to_find_there_is_no_map(seed: int) -> None:
    lists, _ = made(60, 0.0, seed)
    rng = np.random.default_rng(seed)
    targets = [rng.multinomial(1, t).astype(float) for t in lists.targets]  # one relevant document, by the signal alone
    found = learn_map(Lists(lists.queries, lists.documents, lists.rows, lists.features, targets), folds_of(lists))
    assert found.map is None
    assert len(found.signal) == 0
    assert np.isinf(found.penalty)


def test_queries_without_a_relevant_document_teach_nothing() -> None:
    lists, _ = made(30, 3.0)
    emptied = [t * (i % 2) for i, t in enumerate(lists.targets)]
    some = _Problem(Lists(lists.queries, lists.documents, lists.rows, lists.features, emptied))
    at = np.random.default_rng(3).normal(size=2 + DIM**2)
    for one, other in zip(some.loss(np.arange(30), at), some.loss(np.arange(1, 30, 2), at), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    nothing = learn_map(Lists(lists.queries, lists.documents, lists.rows, lists.features, [t * 0 for t in lists.targets]), folds_of(lists))
    assert nothing.map is None


def test_the_folder_with_a_map(tmp_path: Path) -> None:
    base = write_tiny_bert(tmp_path / "base", WORDS)
    bank = VectorBank(load_encoder(base, "torch"))
    texts = ["open file", "read write", "open read"]
    rng = np.random.default_rng(4)
    dim = bank.encoder.dim
    learned = VectorMap(rng.normal(size=(dim, dim)).astype(np.float32), *rng.normal(size=(2, dim)).astype(np.float32))
    signals = Signals(LexicalStatistics.count(texts, "en"), bank, np.ones(10, np.int64), 3, learned)
    features = signals("open", texts)
    wanted = [(bank.pooled("open") - learned.query_center) @ learned.weights @ (bank.pooled(t) - learned.document_center) for t in texts]
    np.testing.assert_allclose(features[:, 3], wanted, rtol=1e-4)
    head = Head((0.1, 0.2, 0.3, 0.4), -1.0, (0.0,) * 4, (1.0,) * 4)
    BlendReranker(signals, head, str(base)).save(tmp_path / "model")
    loaded = load_reranker(tmp_path / "model", lambda: bank)
    np.testing.assert_allclose(loaded.score("open", texts), head(features), atol=1e-6)
    assert signals.names == (*FEATURES, MAPPED)
    (tmp_path / "model" / MAP).write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match="not a complete blend"):
        load_reranker(tmp_path / "model", lambda: bank)
