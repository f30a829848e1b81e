"""Queries as people have them: a text with one per line, JSON Lines, CSV or Parquet with a column of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from zelo.collections.decoding import read_text
from zelo.collections.lines import check_id, shown
from zelo.collections.tables import cell_text, choose_column, rows_of, suffix_of
from zelo.errors import InputError
from zelo.types import Query

TEXT = ("query", "text", "question", "q", "search", "search_term", "query_text", "utterance", "prompt")
ID = ("_id", "query_id", "qid", "id", "question_id")
_NAMES = frozenset((*TEXT, *ID))
_LINE_ENDS = re.compile(r"\r\n|\r|\n")
_PLAIN = (".txt", ".log", "")
_MOST_CHARACTERS = 20_000


def query_id_of(text: str) -> str:
    """Return the id of a query that has none: it follows from its words, so that the same query always has the same one."""
    return f"q-{hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=6).hexdigest()}"


class QueryLog:
    """The queries of a file, each once."""

    def __init__(self, path: Path, column: str = "", *, skip: bool = False) -> None:
        """Look whether the file is there.

        Args:
            path: `.txt` has one query per line; tables see `tables.SUFFIXES`. A `.tsv` of ids and queries needs no header.
            column: of a table, the one with the queries; "" = the first known name (`TEXT`).
            skip: leave out, count and name lines that cannot be read, instead of stopping there: logs are cut off while they are written.

        Raises:
            InputError: it is not there, or of no known kind.
        """
        self._path, self._column, self._skip = path, column, skip
        self.notes: dict[str, int] = {}
        self.remarks: tuple[str, ...] = ()
        self._faults: list[InputError] = []
        if not path.is_file():
            raise InputError("no such file", where=str(path), remedy="give the queries: a text with one per line, JSON Lines or CSV")

    def queries(self) -> Iterator[Query]:
        """Yield the queries in order, a repeated one once. One without an id gets one that follows from its words.

        Raises:
            InputError: a damaged file, two queries of one id, or no query at all; a line that cannot be read, if none is to be skipped.
        """
        self._faults = []
        repeated = empty = 0
        seen: dict[str, tuple[str, str]] = {}  # id -> text, place
        texts: dict[str, str] = {}  # text -> id
        for where, given, text in self._lines():
            text = " ".join(text.split())
            if not text:
                empty += 1
                continue
            if len(text) > _MOST_CHARACTERS:
                what = f"a query of {len(text):,} characters"
                self._fault(InputError(what, where=where, remedy="give queries, one per line; documents go to --corpus"))
                continue
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
        counts = (("repeated_queries", repeated), ("empty_queries", empty), ("unreadable_lines_of_queries", len(self._faults)))
        self.notes = {name: count for name, count in counts if count}
        self.remarks = tuple(f"skipped {fault}" for fault in self._faults[:3])
        if not seen:
            if self._faults:
                raise self._faults[0]
            raise InputError("there are no queries", where=str(self._path), remedy="write one per line")

    def _fault(self, fault: InputError) -> None:
        if not self._skip:
            raise fault
        self._faults.append(fault)

    def _lines(self) -> Iterator[tuple[str, str, str]]:
        """(place, id or "", text)."""
        if suffix_of(self._path) in _PLAIN:
            for number, line in enumerate(_LINE_ENDS.split(read_text(self._path)[0]), 1):
                if "\0" in line:
                    where = f"{self._path}:{number}"
                    self._fault(InputError("a NUL character", where=where, remedy="the file is damaged or binary; save it as text"))
                    continue
                yield f"{self._path}:{number}", "", line
            return
        for where, row in rows_of(self._path, self._fault, () if self._column else _NAMES):
            names = list(row)
            column = choose_column(names, TEXT, self._column, "queries", where) or (names[0] if len(names) == 1 else None)
            if column is None:
                remedy = f"name it one of {', '.join(TEXT[:4])}, or set ingest.query_column to one of: {', '.join(names)}"
                self._fault(InputError("no column of queries is known", where=where, remedy=remedy))
                continue
            text = cell_text(row[column])
            if text is None and row[column] is not None:
                what = f"{column} holds {shown(row[column])}, no text"
                self._fault(InputError(what, where=where, remedy="set ingest.query_column to a column of texts"))
                continue
            yield where, _id(row, choose_column(names, ID, "", "ids", where)), text or ""


def _id(row: Mapping[str, object], column: str | None) -> str:
    return "" if column is None else (cell_text(row[column]) or "").strip()
