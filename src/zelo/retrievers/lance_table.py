"""A corpus in a LanceDB table, on disk or in an object store (extra `lancedb`): brought up to date, its indexes built.

Every row has a number made of the document's id, text and vector. Rows whose number the corpus lacks are deleted, documents whose number
the table lacks are added, some thousands in one atomic commit: what a killed process had added is there for the next one, and a
document that changed is one row deleted and one added.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.encoders.extras import import_extra
from zelo.encoders.lexical import SNOWBALL, stop_words
from zelo.errors import InputError, ZeloError
from zelo.types import Document

TABLE = "documents"
_ROWS, _CHARACTERS = 50_000, 64_000_000  # of a commit: at most so many rows, about so much text
_DELETED = 10_000  # rows named in one condition
_STEMMED = ("ar", "da", "nl", "en", "fi", "fr", "de", "el", "hu", "it", "no", "pt", "ro", "ru", "es", "sv", "ta", "tr")  # by Lance
_LEAST = 10_000  # documents from which on an approximate index is built


@dataclass(frozen=True)
class Place:
    """Where a table is and what it is searched by; small, so that workers can open it.

    Attributes:
        uri: a folder, or s3://, gs:// or az:// and a path.
        language: ISO code of the text index; "" = none.
        vectors: whether documents have vectors.
        approximate: whether vectors have an index; otherwise every vector is looked at.
        probes: partitions of that index that a search looks at.
    """

    uri: str
    language: str
    vectors: bool
    approximate: bool = False
    probes: int = 20


@dataclass(frozen=True, slots=True)
class Change:
    """What bringing a table up to date took: documents that were there already, that were added, rows that were deleted."""

    kept: int
    added: int
    deleted: int


def library() -> Any:
    """Import LanceDB.

    Raises:
        MissingExtraError: it is not installed.
    """
    return import_extra("lancedb", "lancedb", "lancedb")


@contextmanager
def told(uri: str) -> Iterator[None]:
    """Turn what LanceDB raises into an InputError of one line that names the database."""
    try:
        yield
    except ZeloError:
        raise
    except Exception as error:  # plain ones of several kinds, with the text of another language's library
        what = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(
            f"LanceDB: {what}", where=uri, remedy="see that the place can be reached and written; delete it to begin anew"
        ) from error


def connect(uri: str) -> Any:
    """Open the database.

    Raises:
        MissingExtraError: LanceDB is not installed.
        InputError: the place cannot be reached.
    """
    lancedb = library()
    with told(uri):
        return lancedb.connect(uri)


def open_table(uri: str) -> Any:
    """Open the table of documents.

    Raises:
        MissingExtraError: LanceDB is not installed.
        InputError: it is not there, or cannot be reached.
    """
    database = connect(uri)
    with told(uri):
        return database.open_table(TABLE)


def bring_up_to_date(
    place: Place,
    documents: Iterable[Document],
    vectors: NDArray[np.float32] | None,
    advance: Callable[[int], object] = lambda done: None,
) -> Change:
    """Make the table hold these documents and no others, and its indexes all of them.

    Args:
        place: where, and which indexes.
        documents: with distinct ids; read once, some thousands held at a time.
        vectors: float32 [n, dim] in their order; None if `place` has no vectors.
        advance: is told how many documents were looked at.

    Raises:
        MissingExtraError: LanceDB is not installed.
        InputError: the place cannot be reached or written.
    """
    database = connect(place.uri)
    with told(place.uri):
        table = _fitting(database, 0 if vectors is None else vectors.shape[1])
        there = np.sort(_numbers(table))
        seen, added = np.zeros(len(there), np.bool_), 0
        for part in _parts(documents, vectors):
            known = _find(there, part.numbers)
            seen[known[known >= 0]] = True
            added += part.add_to(table, np.flatnonzero(known < 0))
            advance(part.end)
        gone = there[~seen]
        for start in range(0, len(gone), _DELETED):
            table.delete(f"number IN ({', '.join(map(str, gone[start : start + _DELETED].tolist()))})")
        _index(table, place, rebuild=len(gone) > 0)
    return Change(int(seen.sum()), added, len(gone))


def _schema(dimension: int) -> Any:
    import pyarrow as pa

    columns = [("doc_id", pa.string()), ("text", pa.string()), ("number", pa.int64())]
    return pa.schema(columns + ([("vector", pa.list_(pa.float32(), dimension))] if dimension else []))


def _fitting(database: Any, dimension: int) -> Any:
    """The table, made anew where there is none or its columns are others."""
    wanted = _schema(dimension)
    if TABLE in database.list_tables().tables:
        table = database.open_table(TABLE)
        if table.schema.remove_metadata() == wanted:
            return table
        database.drop_table(TABLE)
    return database.create_table(TABLE, schema=wanted)


def _numbers(table: Any) -> NDArray[np.int64]:
    parts = [batch["number"].to_numpy() for batch in table.search().select(["number"]).limit(None).to_batches()]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _find(there: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of each number in a sorted array, -1 for one that is not there."""
    place = np.searchsorted(there, numbers)
    found = np.zeros(len(numbers), np.bool_)
    inside = place < len(there)
    found[inside] = there[place[inside]] == numbers[inside]
    return np.where(found, place, -1)


@dataclass(frozen=True)
class _Part:
    """Documents in a row, with the number of each; `end` counts the documents up to here."""

    documents: list[Document]
    numbers: NDArray[np.int64]
    vectors: NDArray[np.float32] | None
    end: int

    def add_to(self, table: Any, rows: NDArray[np.int64]) -> int:
        """Add some of the documents in one commit."""
        import pyarrow as pa

        if not len(rows):
            return 0
        chosen = [self.documents[i] for i in rows.tolist()]
        columns: dict[str, Any] = {
            "doc_id": [d.doc_id for d in chosen],
            "text": [d.full_text for d in chosen],
            "number": self.numbers[rows],
        }
        if self.vectors is not None:
            columns["vector"] = pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(self.vectors[rows]).ravel(), self.vectors.shape[1])
        table.add(pa.table(columns, schema=table.schema))
        return len(rows)


def _parts(documents: Iterable[Document], vectors: NDArray[np.float32] | None) -> Iterator[_Part]:
    held: list[Document] = []
    characters = end = 0

    def part() -> _Part:
        own = None if vectors is None else np.asarray(vectors[end - len(held) : end])
        numbers = np.array([_number(d, None if own is None else own[i]) for i, d in enumerate(held)], np.int64)
        return _Part(held, numbers, own, end)

    for document in documents:
        held.append(document)
        characters, end = characters + len(document.text), end + 1
        if len(held) >= _ROWS or characters >= _CHARACTERS:
            yield part()
            held, characters = [], 0
    if held:
        yield part()


def _number(document: Document, vector: NDArray[np.float32] | None) -> int:
    """64 bits of a digest: among a hundred million documents two are alike with a chance of 1 in 4,000."""
    digest = hashlib.blake2b(digest_size=8)
    for text in (document.doc_id, document.full_text):
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    if vector is not None:
        digest.update(vector.tobytes())
    return int.from_bytes(digest.digest(), "little", signed=True)


def _index(table: Any, place: Place, rebuild: bool) -> None:
    """Build what is missing and take up what is new. The text index counts deleted rows until it is built again."""
    from lancedb.index import FTS, IvfPq

    table.optimize()
    there = {index.name: index for index in table.list_indices()}
    name = f"text_{place.language}"
    if place.language and (rebuild or name not in there):
        for other in [n for n in there if n.startswith("text_")]:
            table.drop_index(other)
        words = stop_words(place.language)
        stemmed = place.language in _STEMMED
        config = FTS(
            language=SNOWBALL[place.language].capitalize() if stemmed else "English",
            stem=stemmed,
            remove_stop_words=bool(words),
            custom_stop_words=sorted(words) or None,
        )
        table.create_index("text", config=config, name=name)
    if place.vectors and place.approximate and "vector_ivf" not in there and table.count_rows() >= _LEAST:
        rows = table.count_rows()
        config = IvfPq(distance_type="dot", num_partitions=max(1, round(rows**0.5)), num_sub_vectors=_sub_vectors(table))
        table.create_index("vector", config=config, name="vector_ivf")


def _sub_vectors(table: Any) -> int:
    dimension = int(table.schema.field("vector").type.list_size)
    return next(dimension // size for size in (8, 16, 4, 2, 1) if dimension % size == 0)


def default_uri(workspace: os.PathLike[str]) -> str:
    """Return where the table of a workspace is when its recipe names no database."""
    return os.path.join(workspace, "search")
