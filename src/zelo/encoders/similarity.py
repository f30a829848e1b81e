"""How well a text answers a query, by three signals of different kinds: words, meaning, and tokens in context.

The offline judges compare documents by one signal each; the blend student learns how to weigh them.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zelo.encoders.lexical import LexicalAnalyzer
from zelo.encoders.transformer import Encoder
from zelo.encoders.vectors import TextVectors

FloatArray = NDArray[np.float64]

KEPT_BYTES = 2**26
"""Of the vectors of texts that came with requests: 64 MB, some hundred passages; what a server trims a bank to."""

_KEPT_CHARS = 2**24  # of the texts whose term counts are kept: some 200 MB


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
        self._held = 0  # characters of the texts in it

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
            if self._held > _KEPT_CHARS:  # a server sees new texts for ever
                self._counts.clear()
                self._held = 0
            self._counts[text] = Counter(terms), norm
            self._held += len(text)
        return self._counts[text]


@dataclass(frozen=True, slots=True)
class _Encoded:
    """The vectors of one text that no store has."""

    vectors: TextVectors
    size: int  # bytes


class VectorBank:
    """Vectors by text: stored ones where there are any, the encoder's otherwise.

    Texts that no store holds are encoded when `prepare` or a similarity first sees them, each as if it were alone, and kept:
    what a text's vectors are depends on neither other texts nor the order in which they come.
    """

    def __init__(self, encoder: Encoder, stores: Sequence[tuple[Sequence[str], TextVectors]] = ()) -> None:
        """Use an encoder and stores, each the texts of its rows and their vectors (made by the same encoder)."""
        self.encoder = encoder
        self._pooled: dict[str, tuple[TextVectors, int]] = {}
        self._tokens: dict[str, tuple[TextVectors, int]] = {}
        for texts, vectors in stores:
            for i, text in enumerate(texts):
                self._pooled.setdefault(text, (vectors, i))
                if vectors.tokens is not None:
                    self._tokens.setdefault(text, (vectors, i))
        self._encoded: OrderedDict[str, _Encoded] = OrderedDict()  # the one that was needed last is last
        self._bytes = 0

    def prepare(self, texts: Iterable[str], *, tokens: bool) -> None:
        """Encode the texts that no store holds, in one go."""
        missing = set()
        for text in set(texts):
            if text in (self._tokens if tokens else self._pooled):
                continue
            found = self._encoded.get(text)
            if found is None or (tokens and found.vectors.tokens is None):
                missing.add(text)
            else:
                self._encoded.move_to_end(text)
        if missing:
            order = sorted(missing)
            vectors = self.encoder.encode(order, tokens=tokens, alone=True)
            for i, text in enumerate(order):
                self._keep(text, _only(vectors, i))

    def trim(self, most: int) -> None:
        """Forget what was encoded and not needed for longest, until at most so many bytes are held; stores are not counted."""
        while self._bytes > most and self._encoded:
            _, dropped = self._encoded.popitem(last=False)
            self._bytes -= dropped.size

    def pooled(self, text: str) -> NDArray[np.float32]:
        """Return the text's vector, float32 [dim], of unit length."""
        vectors, i = self._place(text, self._pooled, tokens=False)
        row: NDArray[np.float32] = vectors.pooled[i]
        return row

    def token_ids(self, text: str) -> NDArray[np.int32]:
        """Return the text's token ids, special tokens included."""
        vectors, i = self._place(text, self._pooled, tokens=False)
        return vectors.ids_of(i)

    def tokens(self, text: str) -> NDArray[np.float16]:
        """Return the text's token vectors, float16 [tokens, dim], rows of unit length."""
        vectors, i = self._place(text, self._tokens, tokens=True)
        return vectors.tokens_of(i)

    def _place(self, text: str, stored: Mapping[str, tuple[TextVectors, int]], *, tokens: bool) -> tuple[TextVectors, int]:
        if text not in stored:
            self.prepare([text], tokens=tokens)
            return self._encoded[text].vectors, 0
        return stored[text]

    def _keep(self, text: str, vectors: TextVectors) -> None:
        before = self._encoded.pop(text, None)
        arrays = (vectors.pooled, vectors.tokens, vectors.offsets, vectors.token_ids)
        self._encoded[text] = found = _Encoded(vectors, len(text) + sum(a.nbytes for a in arrays if a is not None))
        self._bytes += found.size - (before.size if before else 0)


def _only(vectors: TextVectors, i: int) -> TextVectors:
    """Return a copy of one text's vectors: a view would keep all the others in memory."""
    tokens = None if vectors.tokens is None else vectors.tokens_of(i).copy()
    ids = vectors.ids_of(i).copy()
    return TextVectors(vectors.pooled[i : i + 1].copy(), tokens, np.array([0, len(ids)], np.int64), ids)


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


@dataclass(frozen=True, slots=True)
class VectorMap:
    """A bilinear form on pooled vectors, which was learned: (query - its center)' weights (document - its center).

    Attributes:
        weights: float32 [dim, dim], queries by documents.
        query_center: float32 [dim].
        document_center: float32 [dim].
    """

    weights: NDArray[np.float32]
    query_center: NDArray[np.float32]
    document_center: NDArray[np.float32]


class MappedSimilarity:
    """What a learned map says of the pooled vectors of query and text: any number, 0 where it has nothing to say."""

    def __init__(self, bank: VectorBank, learned: VectorMap) -> None:
        """Use the bank's vectors and the map, which belongs to the bank's encoder."""
        self._bank, self._map = bank, learned

    def score(self, query: str, texts: Sequence[str]) -> FloatArray:
        """Return the values of the form."""
        self._bank.prepare([query, *texts], tokens=False)
        vectors = np.stack([self._bank.pooled(text) for text in texts]) - self._map.document_center
        return (vectors @ ((self._bank.pooled(query) - self._map.query_center) @ self._map.weights)).astype(np.float64)


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
