"""Qrels as rows with line numbers: what BEIR and TREC files of labels have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path

from zelo.collections.lines import check_id, format_number, numbered_lines, shown
from zelo.errors import InputError
from zelo.types import Qrel

# From a line and its place to (query id, document id, relevance); None for a header.
SplitLine = Callable[[str, str, bool], tuple[str, str, str] | None]


def finite_number(text: str) -> float | None:
    """Return the number that a column holds, or None where it holds none, nan or an infinity."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def numbered_qrels(path: Path, split_line: SplitLine) -> Iterator[tuple[int, Qrel]]:
    """Yield (line number, label), each (query, document) once: a line that only repeats an earlier one is passed over.

    Args:
        path: the file.
        split_line: called with a line, its `file:line`, and whether it is the first; returns the three fields or None for a header.

    Raises:
        InputError: a line does not have the columns, a relevance is not a finite number, two lines contradict each other,
            or there is no label at all.
    """
    lines_seen: dict[tuple[str, str], tuple[int, float]] = {}
    is_first = True
    for number, line in numbered_lines(path):
        where = f"{path}:{number}"
        fields = split_line(line, where, is_first)
        is_first = False
        if fields is None:
            continue
        query_id, doc_id, relevance_text = fields
        relevance = finite_number(relevance_text)
        if relevance is None:
            raise InputError(f"relevance {shown(relevance_text)} is not a finite number", where=where, remedy="write 0, 1, 2, ...")
        earlier = lines_seen.get((query_id, doc_id))
        if earlier is None:
            check_id(query_id, where, "query id")
            check_id(doc_id, where, "document id")
            lines_seen[query_id, doc_id] = (number, relevance)
            yield number, Qrel(query_id, doc_id, relevance)
        elif earlier[1] != relevance:
            what = f"query {shown(query_id)} and document {shown(doc_id)} have another relevance on line {earlier[0]}"
            raise InputError(what, where=where, remedy="remove one of the two lines")
    if not lines_seen:
        raise InputError("no labels", where=str(path), remedy="remove the file, or add lines to it")


def qrel_line(qrel: Qrel, layout: str) -> str:
    """Return a label as a line of a file; `layout` has three places: query id, document id, relevance.

    Raises:
        InputError: an id is unfit, see `lines.check_id`.
    """
    query_id = check_id(qrel.query_id, "label to write", "query id")
    return layout.format(query_id, check_id(qrel.doc_id, "label to write", "document id"), format_number(qrel.relevance))


def check_known(place: str, rows: Iterable[tuple[int, Qrel]], query_ids: Container[str], doc_ids: Container[str]) -> None:
    """Check that labels name known queries and documents only.

    Args:
        place: the file (or other origin) of the rows, for the message.
        rows: (line number, label).
        query_ids: the known queries.
        doc_ids: the known documents.

    Raises:
        InputError: some labels name unknown ids; gives the first one's line and how many there are.
    """
    first = ""
    where = ""
    unknown = 0
    for number, qrel in rows:
        if qrel.query_id in query_ids and qrel.doc_id in doc_ids:
            continue
        unknown += 1
        if unknown == 1:
            where = f"{place}:{number}"
            missing_query = qrel.query_id not in query_ids
            first = f"query {shown(qrel.query_id)}" if missing_query else f"document {shown(qrel.doc_id)}"
    if unknown:
        what = f"label for the unknown {first} ({unknown} such {'line' if unknown == 1 else 'lines'} in all)"
        raise InputError(what, where=where, remedy="use the labels of this version of the collection, with ids spelled alike")
