"""Dense retrieval: exact inner products of precomputed vectors, block by block.

No approximate index, and no faiss: candidates are found offline, once per query, where exact search costs 37 CPU-s for 1,000
queries over a million 384-dimensional vectors (faiss flat: 20 s), while an HNSW graph takes minutes to build and loses 1 to
6% of the top 100. An index pays when somebody waits for each single answer, or from some ten million vectors on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from zelo.errors import InputError
from zelo.types import Query, ScoredDoc

_QUERIES, _DOCUMENTS = 256, 32_768  # a block of scores is then 32 MB
_SLACK = 1e-5  # more than the rounding of a float32 inner product of unit vectors


class DenseRetriever:
    """Exact search over one vector per document."""

    def __init__(
        self,
        doc_ids: Sequence[str],
        vectors: NDArray[np.float32],
        encode: Callable[[Sequence[str]], NDArray[np.float32]] | None = None,
    ) -> None:
        """Take precomputed vectors.

        Args:
            doc_ids: n distinct ids.
            vectors: float32 [n, dim], unit rows; may be a memory map.
            encode: query texts -> float32 [queries, dim], with the same model; None if only vectors will be searched.

        Raises:
            InputError: shapes that do not match, or a repeated id.
        """
        if vectors.ndim != 2 or len(doc_ids) != len(vectors):
            raise InputError(f"{len(doc_ids)} ids for vectors of shape {vectors.shape}", where="dense index", remedy="encode again")
        if len(set(doc_ids)) < len(doc_ids):
            raise InputError("a doc_id occurs twice", where="dense index", remedy="remove one of the documents")
        self._doc_ids, self._vectors, self._encode = list(doc_ids), vectors, encode
        self._place = np.empty(len(doc_ids), np.int64)  # of each document in the order of the ids, which breaks ties
        self._place[np.array(sorted(range(len(doc_ids)), key=self._doc_ids.__getitem__), np.int64)] = np.arange(len(doc_ids))

    def search(self, queries: Sequence[Query], k: int) -> dict[str, list[ScoredDoc]]:
        """Return the k best documents of each query; see `Retriever.search`.

        Raises:
            InputError: k < 1, or no encoder was given.
        """
        if self._encode is None:
            raise InputError("this retriever has no encoder", remedy="pass encode=, or call search_vectors")
        return self.search_vectors([query.query_id for query in queries], self._encode([query.text for query in queries]), k)

    def search_vectors(self, query_ids: Sequence[str], vectors: NDArray[np.float32], k: int) -> dict[str, list[ScoredDoc]]:
        """Return the k documents with the largest inner product for each query.

        The product is recomputed in float64 for the documents in question, so that scores depend neither on blocks nor
        on the matrix library, and documents of equal vectors tie exactly.

        Args:
            query_ids: distinct ids.
            vectors: float32 [queries, dim].
            k: at most so many documents each.

        Raises:
            InputError: k < 1, or the dimensions do not match.
        """
        if k < 1:
            raise InputError(f"k={k}", where="dense search", remedy="ask for at least one document")
        if vectors.ndim != 2 or len(query_ids) != len(vectors) or (len(vectors) and vectors.shape[1] != self._vectors.shape[1]):
            raise InputError(
                f"{len(query_ids)} queries, vectors of shape {vectors.shape}, documents of shape {self._vectors.shape}",
                where="dense search",
                remedy="encode queries and documents with the same model",
            )
        rankings: dict[str, list[ScoredDoc]] = {}
        for start in range(0, len(vectors), _QUERIES):
            block = vectors[start : start + _QUERIES]
            for query_id, vector, near in zip(query_ids[start : start + _QUERIES], block, self._candidates(block, k), strict=True):
                exact = (self._vectors[near].astype(np.float64) * vector).sum(axis=1)
                order = np.lexsort((self._place[near], -exact))[:k]
                rankings[query_id] = [
                    ScoredDoc(query_id, self._doc_ids[i], s) for i, s in zip(near[order].tolist(), exact[order].tolist(), strict=True)
                ]
        return rankings

    def _candidates(self, queries: NDArray[np.float32], k: int) -> list[NDArray[np.int64]]:
        """Return for each query the positions that may be among its k best: all within rounding of the k-th and better."""
        found = [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in queries]
        for start in range(0, len(self._vectors), _DOCUMENTS):
            block = queries @ self._vectors[start : start + _DOCUMENTS].T
            for row, scores in enumerate(block):
                near = np.flatnonzero(scores >= _threshold(scores, k))
                positions = np.concatenate([found[row][0], near + start])
                merged = np.concatenate([found[row][1], scores[near]])
                kept = merged >= _threshold(merged, k)
                found[row] = positions[kept], merged[kept]
        return [positions for positions, _ in found]


def _threshold(scores: NDArray[np.float32], k: int) -> np.float32:
    """Return the k-th largest score less the slack, or minus infinity if there are not more than k."""
    return np.float32(-np.inf) if len(scores) <= k else np.float32(np.partition(scores, -k)[-k] - _SLACK)
