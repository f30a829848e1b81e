"""What every collection offers. One more collection is one more file with this shape and one line in `__init__`."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Protocol

from zelo.types import Document, Qrel, Query


class Collection(Protocol):
    """Documents, queries, and human labels of some of the queries.

    Each call of a method starts from the beginning and streams, so a corpus need not fit in memory.
    Faults in what was given raise `InputError` while streaming, naming file and line.
    """

    @property
    def name(self) -> str:
        """Short name for reports and folders."""
        ...

    @property
    def notes(self) -> Mapping[str, int]:
        """Counts (>= 1) of what was set aside or stands out, such as `labels_dropped`; complete once everything was read."""
        ...

    def documents(self) -> Iterator[Document]:
        """Yield the corpus, at least one document, ids unique."""
        ...

    def queries(self) -> Iterator[Query]:
        """Yield all queries, at least one, ids unique. Those that no split labels are the unlabeled ones."""
        ...

    def splits(self) -> tuple[str, ...]:
        """Return the sorted names of the labeled splits; empty when nothing is labeled."""
        ...

    def qrels(self, split: str) -> Iterator[Qrel]:
        """Yield the labels of a split, each (query, document) once. Values below 0 (junk in TREC) count as gain 0.

        Raises:
            InputError: there is no such split.
        """
        ...

    def check_qrels(self, query_ids: Container[str], doc_ids: Container[str]) -> None:
        """Check that the labels of all splits name known queries and documents only.

        Raises:
            InputError: some do not; names the first one and how many there are.
        """
        ...
