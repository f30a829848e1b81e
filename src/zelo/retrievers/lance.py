"""Search in a LanceDB table (extra `lancedb`): full text by BM25, and vectors, exactly or by an index. `lance_table` fills the table.

Scores of vectors are computed again in float64 from the vectors that come back, and more is asked for while the last one found might tie
with the k-th. So where every vector is looked at, rankings are those of `DenseRetriever`, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.errors import InputError
from zelo.retrievers.lance_table import Place, open_table, told
from zelo.types import Query, ScoredDoc

_MORE = 16  # asked for beyond k, to see where the ties end
_SLACK = 1e-5  # more than the rounding of a float32 inner product of unit vectors
_QUERIES = 32  # searched at once: 1,000 vectors of 384 numbers each are then 50 MB


class LanceText:
    """Full-text search. k1 and b are the engine's: 1.2 and 0.75."""

    def __init__(self, place: Place) -> None:
        """Open the table; see `lance_table.open_table`."""
        self._place, self._table = place, open_table(place.uri)

    def search(self, queries: Sequence[Query], k: int) -> dict[str, list[ScoredDoc]]:
        """Return the k best documents of each query that share a word with it; see `Retriever.search`.

        Raises:
            InputError: k < 1, or the table cannot be read.
        """
        _check(k)
        with told(self._place.uri):
            return {query.query_id: self._ranking(query, k) for query in queries}

    def _ranking(self, query: Query, k: int) -> list[ScoredDoc]:
        from lancedb.query import MatchQuery

        wanted = k + _MORE
        while True:
            asked = self._table.search(MatchQuery(query.text, "text"), query_type="fts").select(["doc_id", "_score"])
            found = asked.limit(wanted).to_arrow()
            rows = sorted(zip((-found["_score"].to_numpy()).tolist(), found["doc_id"].to_pylist(), strict=True))
            if len(rows) < wanted or rows[-1][0] > rows[k - 1][0]:
                return [ScoredDoc(query.query_id, doc_id, -negated) for negated, doc_id in rows[:k]]
            wanted *= 2


class LanceDense:
    """Search by vectors."""

    def __init__(self, place: Place, encode: Callable[[Sequence[str]], NDArray[np.float32]] | None = None) -> None:
        """Open the table.

        Args:
            place: where it is; with `approximate`, `probes` partitions of the index are looked at.
            encode: query texts -> float32 [queries, dim], with the model of the documents; None if only vectors will be searched.

        Raises:
            MissingExtraError: LanceDB is not installed.
            InputError: the table is not there.
        """
        self._place, self._table, self._encode = place, open_table(place.uri), encode

    def search(self, queries: Sequence[Query], k: int) -> dict[str, list[ScoredDoc]]:
        """Return the k best documents of each query; see `Retriever.search`.

        Raises:
            InputError: k < 1, no encoder was given, or the table cannot be read.
        """
        if self._encode is None:
            raise InputError("this retriever has no encoder", remedy="pass encode=, or call search_vectors")
        return self.search_vectors([query.query_id for query in queries], self._encode([query.text for query in queries]), k)

    def search_vectors(self, query_ids: Sequence[str], vectors: NDArray[np.float32], k: int) -> dict[str, list[ScoredDoc]]:
        """Return the k documents with the largest inner product for each query.

        Args:
            query_ids: distinct ids.
            vectors: float32 [queries, dim].
            k: at most so many documents each.

        Raises:
            InputError: k < 1, or the table cannot be read.
        """
        _check(k)
        rankings: dict[str, list[ScoredDoc]] = {}
        with told(self._place.uri):
            for start in range(0, len(vectors), _QUERIES):
                own = vectors[start : start + _QUERIES]
                found = self._found(own, k + _MORE)
                for query_id, vector, rows in zip(query_ids[start : start + _QUERIES], own, found, strict=True):
                    rankings[query_id] = self._ranking(query_id, vector, rows, k)
        return rankings

    def _found(self, vectors: NDArray[np.float32], wanted: int) -> list[Any]:
        """Return a table of rows per vector."""
        import pyarrow.compute as pc

        asked = (
            self._table.search(list(vectors), vector_column_name="vector").distance_type("dot").select(["doc_id", "vector", "_distance"])
        )
        if self._place.approximate:
            asked = asked.nprobes(self._place.probes).refine_factor(_REFINED)
        found = asked.limit(wanted).to_arrow()
        if "query_index" not in found.schema.names:
            return [found]
        return [found.filter(pc.equal(found["query_index"], i)) for i in range(len(vectors))]

    def _ranking(self, query_id: str, vector: NDArray[np.float32], rows: Any, k: int) -> list[ScoredDoc]:
        wanted = k + _MORE
        while True:
            matrix = rows["vector"].combine_chunks().flatten().to_numpy().reshape(-1, len(vector))
            scores = (matrix.astype(np.float64) * vector).sum(axis=1)
            order = sorted(zip((-scores).tolist(), rows["doc_id"].to_pylist(), strict=True))
            if len(order) < wanted or order[-1][0] > order[k - 1][0] + _SLACK:
                return [ScoredDoc(query_id, doc_id, -negated) for negated, doc_id in order[:k]]
            wanted *= 2
            rows = self._found(vector[None], wanted)[0]


_REFINED = 2
"""How many times k candidates of an index are measured by their vectors."""


def _check(k: int) -> None:
    if k < 1:
        raise InputError(f"k={k}", where="LanceDB search", remedy="ask for at least one document")
