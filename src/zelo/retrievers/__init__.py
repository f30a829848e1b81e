"""First stage: from a corpus to a ranking per query. One more retriever is one more file with a `search` method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from zelo.types import Query, ScoredDoc


@runtime_checkable
class Retriever(Protocol):
    """What finds candidates."""

    def search(self, queries: Sequence[Query], k: int) -> dict[str, list[ScoredDoc]]:
        """Return a ranking for each query, best first.

        Args:
            queries: with distinct ids.
            k: at most so many documents each; more than the corpus holds is no error.

        Returns:
            query_id -> ranking of at most k documents without repetition, by score descending, equal scores by doc_id
            ascending (an imported run keeps the order of its own ranks). Every query has an entry; it is empty where
            nothing matches.
        """
        ...
