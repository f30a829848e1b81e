"""A ranking that another engine made: Lucene, Vespa, a hosted search, last year's system."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from zelo.collections.trec import read_run
from zelo.errors import InputError
from zelo.types import Query, ScoredDoc


class ImportedRetriever:
    """Serves the rankings of a TREC run file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read a run.

        Raises:
            InputError: the file is missing or not a TREC run.
        """
        self._path = Path(path)
        self._rankings = read_run(self._path)

    def search(self, queries: Sequence[Query], k: int) -> dict[str, list[ScoredDoc]]:
        """Return the first k documents of each query's ranking, empty for a query that the run lacks.

        Raises:
            InputError: k < 1, or the run has none of the queries, so it belongs to another collection.
        """
        if k < 1:
            raise InputError(f"k={k}", where=str(self._path), remedy="ask for at least one document")
        if queries and not any(query.query_id in self._rankings for query in queries):
            raise InputError(
                f"the run has none of the {len(queries)} queries (the first is {queries[0].query_id!r})",
                where=str(self._path),
                remedy="import a run for this collection",
            )
        return {query.query_id: self._rankings.get(query.query_id, [])[:k] for query in queries}
