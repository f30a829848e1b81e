"""Queries as people have them: a text with one per line, JSON Lines, CSV or Parquet with a column of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from zelo.collections.decoding import read_text
from zelo.collections.lines import check_id, shown
from zelo.collections.tables import cell_text, choose_column, rows_of, suffix_of
from zelo.errors import InputError
from zelo.types import Query

TEXT = ("query", "text", "question", "q", "search", "search_term", "query_text", "utterance", "prompt")
ID = ("_id", "query_id", "qid", "id", "question_id")
_PLAIN = (".txt", ".log", "")
_MOST_CHARACTERS = 20_000


def query_id_of(text: str) -> str:
    """Return the id of a query that has none: it follows from its words, so that the same query always has the same one."""
    return f"q-{hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=6).hexdigest()}"


class QueryLog:
    """The queries of a file, each once."""

    def __init__(self, path: Path, column: str = "") -> None:
        """Look whether the file is there.

        Args:
            path: `.txt` has one query per line; tables see `tables.SUFFIXES`.
            column: of a table, the one with the queries; "" = the first known name (`TEXT`).

        Raises:
            InputError: it is not there, or of no known kind.
        """
        self._path, self._column = path, column
        self.notes: dict[str, int] = {}
        if not path.is_file():
            raise InputError("no such file", where=str(path), remedy="give the queries: a text with one per line, JSON Lines or CSV")

    def queries(self) -> Iterator[Query]:
        """Yield the queries in order, a repeated one once. One without an id gets one that follows from its words.

        Raises:
            InputError: a damaged file, two queries of one id, or no query at all.
        """
        repeated = empty = 0
        seen: dict[str, tuple[str, str]] = {}  # id -> text, place
        texts: dict[str, str] = {}  # text -> id
        for where, given, text in self._lines():
            text = " ".join(text.split())
            if not text:
                empty += 1
                continue
            if len(text) > _MOST_CHARACTERS:
                raise InputError(
                    f"a query of {len(text):,} characters", where=where, remedy="give queries, one per line; documents go to --corpus"
                )
            query_id = check_id(given, where, "query id") if given else query_id_of(text)
            other = seen.get(query_id)
            if other is not None and other[0] != text:
                raise InputError(
                    f"two queries have the id {shown(query_id)}; the first: {other[1]}", where=where, remedy="give each its own id"
                )
            if other is not None or (not given and text in texts):
                repeated += 1
                continue
            seen[query_id], texts[text] = (text, where), query_id
            yield Query(query_id, text)
        self.notes = {name: count for name, count in (("repeated_queries", repeated), ("empty_queries", empty)) if count}
        if not seen:
            raise InputError("there are no queries", where=str(self._path), remedy="write one per line")

    def _lines(self) -> Iterator[tuple[str, str, str]]:
        """(place, id or "", text)."""
        if suffix_of(self._path) in _PLAIN:
            for number, line in enumerate(read_text(self._path)[0].splitlines(), 1):
                if "\0" in line:
                    raise InputError(
                        "a NUL character", where=f"{self._path}:{number}", remedy="the file is damaged or binary; save it as text"
                    )
                yield f"{self._path}:{number}", "", line
            return
        for where, row in rows_of(self._path):
            names = list(row)
            column = choose_column(names, TEXT, self._column, "queries", where) or (names[0] if len(names) == 1 else None)
            if column is None:
                remedy = f"name it one of {', '.join(TEXT[:4])}, or set ingest.query_column to one of: {', '.join(names)}"
                raise InputError("no column of queries is known", where=where, remedy=remedy)
            id_column = choose_column(names, ID, "", "ids", where)
            yield where, _id(row, id_column), cell_text(row[column]) or ""


def _id(row: Mapping[str, object], column: str | None) -> str:
    return "" if column is None else (cell_text(row[column]) or "").strip()
