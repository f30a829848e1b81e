"""The three signals: against formulas written out, and against the retriever."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_models import WORDS, write_tiny_bert
from zelo.encoders.lexical import LexicalAnalyzer
from zelo.encoders.similarity import DenseSimilarity, LateInteraction, LexicalSimilarity, LexicalStatistics, VectorBank, token_frequency
from zelo.encoders.transformer import Encoder, TextVectors, load_encoder
from zelo.retrievers.bm25 import Bm25Retriever
from zelo.types import Document, Query


def sentences(number: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(WORDS) + 1)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 15), p=weights / weights.sum())) for _ in range(number)]


class Counting(Encoder):
    """An encoder that remembers what it was asked for."""

    def __init__(self, encoder: Encoder) -> None:
        self.__dict__.update(encoder.__dict__)
        self.calls: list[tuple[list[str], bool]] = []

    def encode(self, texts, *, tokens=False, progress=None, alone=False):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        self.calls.append((list(texts), tokens))
        return super().encode(texts, tokens=tokens, progress=progress, alone=alone)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(write_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert", WORDS), "torch", 1)


def hand_written_bm25(query: str, texts: list[str], corpus: list[str], k1: float, b: float) -> list[float]:
    """Lucene's BM25, sum of idf * tf / (tf + k1 (1 - b + b length / mean)), over the sum of idf: what infinite tf would give."""
    analyze = LexicalAnalyzer("en")
    documents = [analyze(text) for text in corpus]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for text in texts:
        terms, score, best = analyze(text), 0.0, 0.0
        for term in analyze(query):
            n = sum(term in document for document in documents)
            idf = math.log(1 + (len(documents) - n + 0.5) / (n + 0.5))
            tf = terms.count(term)
            score += idf * tf / (tf + k1 * (1 - b + b * len(terms) / mean)) if tf else 0.0
            best += idf
        scores.append(score / best if best else 0.0)
    return scores


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.0), (2.0, 1.0)])
@pytest.mark.parametrize("query", ["open a file", "sort sort list unheardof", "tree", "the of"])
def test_lexical_is_bm25_as_a_share_of_its_most(query: str, k1: float, b: float) -> None:
    corpus = sentences(30)
    texts = [*corpus[:10], "", "words that no one counted", "file " * 50]
    found = LexicalSimilarity(LexicalStatistics.count(corpus, "en"), k1=k1, b=b).score(query, texts)
    np.testing.assert_allclose(found, hand_written_bm25(query, texts, corpus, k1, b), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.sampled_from([*WORDS, "nowhere"]), min_size=1, max_size=5))
def test_lexical_orders_as_the_retriever_does(seed: int, query: list[str]) -> None:
    corpus = sentences(25, seed)
    scores = LexicalSimilarity(LexicalStatistics.count(corpus, "en")).score(" ".join(query), corpus)
    assert scores.min() >= 0
    assert scores.max() < 1
    documents = [Document(f"d{i:02d}", text) for i, text in enumerate(corpus)]
    ranking = Bm25Retriever(documents, language="en").search([Query("q", " ".join(query))], 25)["q"]
    assert {d.doc_id for d in ranking} == {f"d{i:02d}" for i in np.flatnonzero(scores)}
    mine = np.array([scores[int(d.doc_id[1:])] for d in ranking])
    assert (np.diff(mine) <= 1e-6).all()  # the retriever computes in float32, in which ties may fall either way
    theirs = np.array([d.score for d in ranking])
    if len(ranking):
        np.testing.assert_allclose(theirs / mine, theirs[0] / mine[0], rtol=1e-5)  # the same but for one factor per query


def test_statistics_count_documents_not_words() -> None:
    counted = LexicalStatistics.count(["file file path", "file", ""], "en")
    assert (counted.documents, counted.mean_length) == (3, 4 / 3)
    assert dict(counted.frequency) == {"file": 2, "path": 1}
    assert counted.inverse_frequency("file") == pytest.approx(math.log(1 + 1.5 / 2.5))
    assert counted.inverse_frequency("none") == pytest.approx(math.log(1 + 3.5 / 0.5))
    empty = LexicalStatistics.count([], "en")
    assert LexicalSimilarity(empty).score("file", ["file", ""]).tolist()[1] == 0


def test_dense_is_the_cosine(tiny: Encoder) -> None:
    texts = sentences(6, 1)
    vectors = tiny.encode(["open file", *texts]).pooled.astype(float)
    found = DenseSimilarity(VectorBank(tiny)).score("open file", texts)
    np.testing.assert_allclose(found, vectors[1:] @ vectors[0], atol=1e-6)
    assert DenseSimilarity(VectorBank(tiny)).score("open file", ["open file"])[0] == pytest.approx(1, abs=1e-6)


def naive_late_interaction(
    query: np.ndarray, ids: np.ndarray, texts: list[np.ndarray], frequency: np.ndarray, documents: int
) -> list[float]:
    scores = []
    for tokens in texts:
        total = weights = 0.0
        for place, (vector, i) in enumerate(zip(query, ids, strict=True)):
            inner = 0 < place < len(ids) - 1
            count = frequency[i] if i < len(frequency) else 0
            weight = max(0.0, math.log((documents + 1) / (count + 0.5))) if inner else 0.0
            total += weight * max(float(np.dot(vector, other)) for other in tokens)
            weights += weight
        scores.append(total / weights)
    return scores


def test_late_interaction_is_a_loop_over_tokens(tiny: Encoder) -> None:
    corpus = sentences(20)
    vectors = tiny.encode(corpus, tokens=True)
    frequency = token_frequency(vectors)[:20]  # the last ids look unseen
    frequency[2:4] = 0  # even then the special tokens do not count
    query, texts = "tree open file unknownword", [*sentences(7, 5), ""]
    found = LateInteraction(VectorBank(tiny), frequency, len(corpus)).score(query, texts)
    encoded = [tiny.encode([t], tokens=True) for t in (query, *texts)]
    tokens = [e.tokens_of(0).astype(float) for e in encoded]
    expected = naive_late_interaction(tokens[0], encoded[0].ids_of(0), tokens[1:], frequency, len(corpus))
    np.testing.assert_allclose(found, expected, atol=2e-3)  # batches round differently in float16


def test_late_interaction_of_a_query_without_rare_words(tiny: Encoder) -> None:
    bank = VectorBank(tiny)
    everywhere = np.full(100, 1000, np.int64)  # every token in every document: all weights would be 0
    found = LateInteraction(bank, everywhere, 1000 - 1).score("open file", ["open file", "tree"])
    assert found[0] == pytest.approx(1, abs=2e-3)
    assert found[1] < found[0]
    assert np.isfinite(LateInteraction(bank, everywhere, 10).score("", ["tree"])).all()


def test_token_frequency_counts_texts() -> None:
    ids = np.array([2, 5, 5, 3, 2, 7, 3, 2, 3], np.int32)
    vectors = TextVectors(np.zeros((3, 4), np.float32), None, np.array([0, 4, 7, 9]), ids)
    assert token_frequency(vectors).tolist() == [0, 0, 3, 3, 0, 1, 0, 1]
    none = TextVectors(np.zeros((0, 4), np.float32), None, np.zeros(1, np.int64), np.zeros(0, np.int32))
    assert token_frequency(none).sum() == 0


def test_token_frequency_of_real_ids(tiny: Encoder) -> None:
    corpus = [*sentences(15), ""]
    vectors = tiny.encode(corpus)
    lists = [set(vectors.ids_of(i).tolist()) for i in range(len(corpus))]
    expected = [sum(i in ids for ids in lists) for i in range(int(vectors.token_ids.max()) + 1)]
    assert token_frequency(vectors).tolist() == expected
    assert expected[2] == expected[3] == len(corpus)  # the special tokens


def test_the_bank_encodes_only_what_is_missing(tiny: Encoder) -> None:
    stored, pooled_only, new = sentences(4, 1), sentences(3, 2), sentences(5, 3)
    counting = Counting(tiny)
    bank = VectorBank(counting, [(stored, tiny.encode(stored, tokens=True)), (pooled_only, tiny.encode(pooled_only))])
    bank.prepare([*stored, *pooled_only], tokens=False)
    bank.prepare(stored, tokens=True)
    for text in stored:
        bank.pooled(text), bank.tokens(text), bank.token_ids(text)
    assert counting.calls == []
    bank.prepare([*stored, *new, *new], tokens=False)
    assert counting.calls == [(sorted(set(new)), False)]
    bank.pooled(new[0])
    assert len(counting.calls) == 1
    bank.prepare([*stored, *pooled_only], tokens=True)  # what has no token vectors yet
    assert counting.calls[1:] == [(sorted(set(pooled_only)), True)]
    assert bank.tokens(pooled_only[0]).shape[1] == tiny.dim
    assert len(counting.calls) == 2


def test_the_bank_forgets_what_was_not_needed_for_longest(tiny: Encoder) -> None:
    stored, first, second = sentences(2, 1), sentences(3, 5), sentences(3, 6)
    counting = Counting(tiny)
    bank = VectorBank(counting, [(stored, tiny.encode(stored, tokens=True))])
    bank.prepare([*stored, *first, *second], tokens=True)
    before = {text: bank.tokens(text).copy() for text in first}
    bank.prepare(first, tokens=True)  # needed again: now the others are the oldest
    bank.trim(sum(bank._encoded[text].size for text in first))
    assert set(bank._encoded) == set(first)
    counting.calls.clear()
    for text in (*stored, *first):
        bank.tokens(text)
    assert counting.calls == []
    bank.tokens(second[0])
    assert counting.calls == [([second[0]], True)]
    bank.trim(0)
    assert bank._bytes == 0
    for text in first:
        np.testing.assert_array_equal(bank.tokens(text), before[text])


def test_what_a_text_is_does_not_depend_on_the_order_of_asking(tiny: Encoder) -> None:
    """A store without token vectors: its pooled ones stay, also after the tokens were encoded."""
    texts = sentences(6, 7)
    marked = tiny.encode(texts)
    marked.pooled[:] = np.roll(marked.pooled, 1, axis=1)
    bank = VectorBank(tiny, [(texts, marked)])
    before = [bank.pooled(text).copy() for text in texts]
    bank.prepare(texts, tokens=True)
    np.testing.assert_array_equal(before, [bank.pooled(text) for text in texts])


def test_the_bank_gives_each_text_its_own_vectors(tiny: Encoder) -> None:
    texts = sentences(9, 4)
    bank = VectorBank(tiny, [(texts[:4], tiny.encode(texts[:4], tokens=True))])
    bank.prepare(texts[4:], tokens=True)
    for text in texts:
        alone = tiny.encode([text], tokens=True)
        np.testing.assert_allclose(bank.pooled(text), alone.pooled[0], atol=1e-5)
        np.testing.assert_allclose(bank.tokens(text).astype(float), alone.tokens_of(0).astype(float), atol=2e-3)
        np.testing.assert_array_equal(bank.token_ids(text), alone.ids_of(0))


def test_signals_know_nothing_of_the_other_texts(tiny: Encoder) -> None:
    corpus = sentences(12)
    vectors = tiny.encode(corpus, tokens=True)
    bank = VectorBank(tiny, [(corpus, vectors)])
    signals = (
        LexicalSimilarity(LexicalStatistics.count(corpus, "en")),
        DenseSimilarity(bank),
        LateInteraction(bank, token_frequency(vectors), 12),
    )
    for signal in signals:
        together = signal.score("open file list", corpus)
        alone = [signal.score("open file list", [text])[0] for text in corpus]
        np.testing.assert_allclose(together, alone, atol=1e-6)
