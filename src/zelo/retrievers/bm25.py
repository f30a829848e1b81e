"""BM25 over stemmed words. The weights are those of bm25s, bit for bit, made from arrays instead of lists of lists (decision 0061).

Queries are scored by one sparse product of query counts and index, which is exact and faster than bm25s's own retrieval at this size
(500 queries, 5,183 documents, top 1,000: 0.07 CPU-s; bm25s with numpy 0.14 s, with numba 0.09 s after 7.5 s of compilation, which
a run of minutes does not win back).
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zelo.encoders.lexical import LexicalAnalyzer, detect_language
from zelo.errors import InputError
from zelo.types import Document, Query, ScoredDoc

Method = Literal["lucene", "atire", "robertson"]
_BLOCK = 256  # queries scored at a time
_ROWS = 4_000_000  # postings weighted at a time


class Bm25Retriever:
    """BM25 index of a corpus, kept in memory.

    Attributes:
        language: ISO code of the analyzer's language; None for an analyzer of the caller's.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        *,
        language: str = "auto",
        k1: float = 1.5,
        b: float = 0.75,
        method: Method = "lucene",
        analyzer: Callable[[str], list[str]] | None = None,
    ) -> None:
        """Analyze and index documents, title and text as one.

        Args:
            documents: the corpus, with distinct doc_ids.
            language: ISO code for stemming and stop words; "auto": detected from the texts.
            k1: saturation of term frequency, > 0.
            b: length normalization in [0, 1].
            method: the variant of the formula, as bm25s names it; the default is Lucene's.
            analyzer: text -> terms, instead of the language's `LexicalAnalyzer`; used for documents and queries.

        Raises:
            InputError: a parameter out of range, a repeated doc_id, or no stemmer for the language.
        """
        if method not in ("lucene", "atire", "robertson"):
            raise InputError(f"unknown BM25 method {method!r}", remedy="use 'lucene', 'atire' or 'robertson'")
        if not k1 > 0 or not 0 <= b <= 1:
            raise InputError(f"k1={k1}, b={b} is out of range", where="BM25", remedy="use k1 > 0 and 0 <= b <= 1")
        # In the order of the ids: a lower position then breaks ties.
        documents = sorted(documents, key=lambda document: document.doc_id)
        self._doc_ids = [document.doc_id for document in documents]
        if len(set(self._doc_ids)) < len(self._doc_ids):
            raise InputError("a doc_id occurs twice", where="BM25 index", remedy="remove one of the documents")
        texts = [document.full_text for document in documents]
        self.language: str | None = None
        if analyzer is None:
            self.language = detect_language(texts) if language == "auto" else language
            analyzer = LexicalAnalyzer(self.language)
        self._analyze = analyzer
        # Term numbers in order of appearance: a set's order, and with it the last bits of a float32 sum, changes from process to process.
        self._vocabulary: dict[str, int] = {}
        self._weights = _weights(self._counted(map(analyzer, texts)), k1, b, method)

    def _counted(self, analyzed: Iterable[list[str]]) -> Any:
        """Return how often each term is in each document, scipy CSR float32 [documents, terms]; numbers the terms."""
        from scipy.sparse import csr_matrix

        terms, counts, starts, number = array("i"), array("f"), array("q", [0]), self._vocabulary.setdefault
        for words in analyzed:
            found = Counter([number(word, len(self._vocabulary)) for word in words])
            terms.extend(found.keys())
            counts.extend(found.values())
            starts.append(len(terms))
        arrays = (np.frombuffer(counts, np.float32), np.frombuffer(terms, np.int32), np.frombuffer(starts, np.int64))
        return csr_matrix(arrays, shape=(len(starts) - 1, len(self._vocabulary)))

    def search(self, queries: Sequence[Query], k: int) -> dict[str, list[ScoredDoc]]:
        """Return the k best documents of each query; see `Retriever.search`.

        Only documents that share a term with the query and score above 0 are returned, so a query of stop words or
        unknown words has an empty ranking. A term that a query repeats counts as often.

        Raises:
            InputError: k < 1.
        """
        if k < 1:
            raise InputError(f"k={k}", where="BM25 search", remedy="ask for at least one document")
        rankings: dict[str, list[ScoredDoc]] = {}
        for start in range(0, len(queries), _BLOCK):
            block = queries[start : start + _BLOCK]
            for query, (positions, scores) in zip(block, self._score([query.text for query in block]), strict=True):
                best = _best(positions, scores, k)
                rankings[query.query_id] = [
                    ScoredDoc(query.query_id, self._doc_ids[i], s)
                    for i, s in zip(positions[best].tolist(), scores[best].tolist(), strict=True)
                ]
        return rankings

    def _score(self, texts: list[str]) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Return (positions, scores) of the matching documents of each text, unordered."""
        from scipy.sparse import csr_matrix

        # Sorted, so that equal bags of words sum their weights in one order.
        known = [sorted(self._vocabulary[term] for term in self._analyze(text) if term in self._vocabulary) for text in texts]
        columns = np.array([term for terms in known for term in terms], np.int32)
        if not len(columns):
            return [(np.zeros(0, np.int32), np.zeros(0, np.float32))] * len(texts)
        starts = np.zeros(len(texts) + 1, np.int32)
        np.cumsum([len(terms) for terms in known], out=starts[1:])
        counts = csr_matrix((np.ones(len(columns), np.float32), columns, starts), shape=(len(texts), len(self._vocabulary)))
        product = counts @ self._weights
        return [(product.indices[start:end], product.data[start:end]) for start, end in itertools.pairwise(product.indptr)]


def _weights(counted: Any, k1: float, b: float, method: str) -> Any:
    """Return the weights, scipy CSR float32 [terms, documents]; None for a corpus without terms. Computed in float64, in parts."""
    documents, terms = counted.shape
    if not terms:
        return None
    lengths = np.array(counted.sum(axis=1, dtype=np.float64)).ravel()
    frequency = np.bincount(counted.indices, minlength=terms)
    idf = np.array([_idf(int(df), documents, method) for df in frequency], np.float32)
    length = k1 * ((1 - b) + b * lengths / lengths.mean())
    index = counted.T.tocsr()  # terms x documents, a counting sort: linear, whatever the size
    for start in range(0, len(index.data), _ROWS):
        rows = slice(start, start + _ROWS)
        count, of_term = index.data[rows], np.searchsorted(index.indptr, np.arange(start, start + len(index.data[rows])), side="right") - 1
        top = count * np.float32(k1 + 1) if method == "atire" else count
        index.data[rows] = idf[of_term] * (top / (count + length[index.indices[rows]]))
    return index


def _idf(df: int, n: int, method: str) -> float:
    if method == "atire":
        return math.log(n / df)
    odds = (n - df + 0.5) / (df + 0.5)
    return math.log(1 + odds if method == "lucene" else max(1.0, odds))


def _best(positions: NDArray[np.int32], scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the places of the k best positive scores, best first, ties by position ascending."""
    kept = np.flatnonzero(scores > 0)
    if len(kept) > k:
        kth = np.partition(scores[kept], -k)[-k]
        kept = kept[scores[kept] >= kth]  # all that tie with the k-th, so that the position decides between them
    return kept[np.lexsort((positions[kept], -scores[kept]))[:k]]
