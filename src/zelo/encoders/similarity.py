"""How well a text answers a query, by three signals of different kinds: words, meaning, and tokens in context.

The offline judges compare documents by one signal each; the blend student learns how to weigh them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zelo.encoders.lexical import LexicalAnalyzer
from zelo.encoders.transformer import Encoder
from zelo.encoders.vectors import TextVectors

FloatArray = NDArray[np.float64]


class Similarity(Protocol):
    """A signal."""

    def score(self, query: str, texts: Sequence[str]) -> FloatArray:
        """Return one number per text, higher = better; not comparable between signals."""
        ...


class LexicalStatistics:
    """Document frequencies of a corpus's terms: what BM25 knows of a corpus.

    Attributes:
        language: ISO code of the analyzer.
        documents: number of documents counted.
        mean_length: terms per document.
        frequency: term -> number of documents that have it.
    """

    def __init__(self, language: str, documents: int, mean_length: float, frequency: Mapping[str, int]) -> None:
        """Take the counts as they are; see `count`."""
        self.language = language
        self.documents = documents
        self.mean_length = mean_length
        self.frequency = frequency

    @classmethod
    def count(cls, texts: Iterable[str], language: str) -> LexicalStatistics:
        """Count a corpus, term by term."""
        analyze = LexicalAnalyzer(language)
        frequency: Counter[str] = Counter()
        documents = length = 0
        for text in texts:
            terms = analyze(text)
            frequency.update(set(terms))
            length += len(terms)
            documents += 1
        return cls(language, documents, length / max(documents, 1), dict(sorted(frequency.items())))

    def inverse_frequency(self, term: str) -> float:
        """Return Lucene's idf, ln(1 + (N - n + 1/2) / (n + 1/2)) > 0."""
        n = self.frequency.get(term, 0)
        return math.log(1 + (max(self.documents, n) - n + 0.5) / (n + 0.5))


class LexicalSimilarity:
    """BM25 over any texts, with the corpus's statistics, as a share of what the query's terms could give at most."""

    def __init__(self, statistics: LexicalStatistics, *, k1: float = 1.5, b: float = 0.75) -> None:
        """Use the statistics; k1 > 0 saturates term frequency, b in [0, 1] normalizes length."""
        self.statistics = statistics
        self._k1, self._b = k1, b
        self._analyze = LexicalAnalyzer(statistics.language)
        self._counts: dict[str, tuple[Counter[str], float]] = {}

    def score(self, query: str, texts: Sequence[str]) -> FloatArray:
        """Return BM25 divided by its supremum for this query, in [0, 1); 0 for all if the query has no terms."""
        terms = Counter(self._analyze(query))
        weights = {term: count * self.statistics.inverse_frequency(term) for term, count in terms.items()}
        total = math.fsum(weights.values())
        scores = np.zeros(len(texts))
        if total == 0:
            return scores
        for i, text in enumerate(texts):
            counts, norm = self._document(text)
            scores[i] = math.fsum(w * counts[t] / (counts[t] + norm) for t, w in weights.items() if t in counts) / total
        return scores

    def _document(self, text: str) -> tuple[Counter[str], float]:
        if text not in self._counts:
            terms = self._analyze(text)
            norm = self._k1 * (1 - self._b + self._b * len(terms) / max(self.statistics.mean_length, 1e-9))
            self._counts[text] = Counter(terms), norm
        return self._counts[text]


class VectorBank:
    """Vectors by text: stored ones where there are any, the encoder's otherwise.

    Texts that no store holds are encoded when `prepare` or a similarity first sees them, and kept.
    """

    def __init__(self, encoder: Encoder, stores: Sequence[tuple[Sequence[str], TextVectors]] = ()) -> None:
        """Use an encoder and stores, each the texts of its rows and their vectors (made by the same encoder)."""
        self.encoder = encoder
        self._places: dict[str, tuple[TextVectors, int]] = {}
        for texts, vectors in stores:
            self._add(texts, vectors)

    def prepare(self, texts: Iterable[str], *, tokens: bool) -> None:
        """Encode the texts that no store holds, in one go."""
        missing = sorted({t for t in texts if t not in self._places or (tokens and self._places[t][0].tokens is None)})
        if missing:
            self._add(missing, self.encoder.encode(missing, tokens=tokens))

    def pooled(self, text: str) -> NDArray[np.float32]:
        """Return the text's vector, float32 [dim], of unit length."""
        self.prepare([text], tokens=False)
        vectors, i = self._places[text]
        row: NDArray[np.float32] = vectors.pooled[i]
        return row

    def token_ids(self, text: str) -> NDArray[np.int32]:
        """Return the text's token ids, special tokens included."""
        self.prepare([text], tokens=False)
        vectors, i = self._places[text]
        return vectors.ids_of(i)

    def tokens(self, text: str) -> NDArray[np.float16]:
        """Return the text's token vectors, float16 [tokens, dim], rows of unit length."""
        self.prepare([text], tokens=True)
        vectors, i = self._places[text]
        return vectors.tokens_of(i)

    def _add(self, texts: Sequence[str], vectors: TextVectors) -> None:
        for i, text in enumerate(texts):
            if text not in self._places or (self._places[text][0].tokens is None and vectors.tokens is not None):
                self._places[text] = (vectors, i)


class DenseSimilarity:
    """Cosine of the pooled vectors of query and text, in [-1, 1]."""

    def __init__(self, bank: VectorBank) -> None:
        """Use the bank's vectors."""
        self._bank = bank

    def score(self, query: str, texts: Sequence[str]) -> FloatArray:
        """Return the cosines."""
        self._bank.prepare([query, *texts], tokens=False)
        vectors = np.stack([self._bank.pooled(text) for text in texts])
        return (vectors @ self._bank.pooled(query)).astype(np.float64)


class LateInteraction:
    """Sum over the query's tokens of the best cosine with any token of the text (ColBERT's max-sim), rare tokens weighing more.

    The weight of a token is its inverse document frequency in the corpus. A small encoder that was not trained for it
    gains from that on four of six collections tried (experiments/judges).
    """

    def __init__(self, bank: VectorBank, token_frequency: NDArray[np.int64], documents: int) -> None:
        """Use the bank's token vectors; `token_frequency` [ids seen] counts documents, of `documents`, that have a token."""
        self._bank = bank
        self._frequency, self._documents = token_frequency, documents

    def score(self, query: str, texts: Sequence[str]) -> FloatArray:
        """Return the weighted mean of best cosines, in [-1, 1]."""
        self._bank.prepare([query, *texts], tokens=True)
        weight = self._weights(self._bank.token_ids(query))
        documents = [self._bank.tokens(text) for text in texts]
        starts = np.cumsum([0, *(len(d) for d in documents[:-1])])
        tokens = np.concatenate(documents).astype(np.float32)
        cosines = self._bank.tokens(query).astype(np.float32) @ tokens.T
        best = np.maximum.reduceat(cosines, starts, axis=1)
        return np.asarray(weight @ best / weight.sum(), np.float64)

    def _weights(self, ids: NDArray[np.int32]) -> FloatArray:
        seen = ids < len(self._frequency)
        frequency = np.where(seen, self._frequency[np.where(seen, ids, 0)], 0)
        weight = np.log((self._documents + 1) / (frequency + 0.5)).clip(0.0)
        weight[[0, -1]] = 0.0  # the special tokens
        return weight if weight.any() else np.ones(len(ids))  # a query of the most frequent words only


def token_frequency(vectors: TextVectors) -> NDArray[np.int64]:
    """Return for every vocabulary id up to the largest seen the number of texts that have it, int64 [ids]."""
    vocabulary = int(vectors.token_ids.max(initial=0)) + 1
    text_of = np.repeat(np.arange(len(vectors)), np.diff(vectors.offsets))
    pairs = np.unique(text_of.astype(np.int64) * vocabulary + vectors.token_ids)
    return np.bincount(pairs % vocabulary, minlength=vocabulary)
