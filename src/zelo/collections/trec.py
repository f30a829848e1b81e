"""TREC files: runs (rankings) and qrels (labels), as trec_eval, ir_measures and every search engine's tools know them.

    run    query_id Q0 doc_id rank score tag
    qrels  query_id 0 doc_id relevance

Columns are separated by white space. trec_eval itself ignores the rank and breaks ties of scores by document id;
here the rank breaks them, so that a ranking comes back in the order in which it was written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TextIO

from zelo.collections.labels import finite_number, numbered_qrels, qrel_line
from zelo.collections.lines import check_id, numbered_lines, shown, write_lines
from zelo.errors import InputError
from zelo.types import Qrel, ScoredDoc


def read_rankings(path: Path, query_ids: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield (query_id, doc_ids best first) of a run that `write_run` wrote, without holding it; an empty list for a query that it lacks.

    A query's lines must follow one another. What comes before its turn is held until then; in the order of the file nothing is.

    Args:
        path: the file; its lines are not checked again.
        query_ids: which queries, in which order.

    Raises:
        InputError: the file cannot be read.
    """
    there = {line.split(None, 1)[0] for _, line in numbered_lines(path)}
    lines = (line.split(None, 3) for _, line in numbered_lines(path))
    coming = ((query_id, [row[2] for row in rows]) for query_id, rows in groupby(lines, key=itemgetter(0)))
    held: dict[str, list[str]] = {}
    for query_id in query_ids:
        while query_id in there and query_id not in held:
            name, doc_ids = next(coming)
            held[name] = doc_ids
        yield query_id, held.pop(query_id, [])
        there.discard(query_id)


def read_run(path: Path) -> dict[str, list[ScoredDoc]]:
    """Return {query_id: ranking}, queries in the order of the file, documents best first.

    Documents are ordered by score (descending), then the rank given, then document id.

    Raises:
        InputError: a line does not have six columns, a rank or score is no finite number, or a query has a document
            twice; names file and line.
    """
    rows: dict[str, list[tuple[float, int, str]]] = {}
    lines_seen: dict[str, dict[str, int]] = {}
    for number, line in numbered_lines(path):
        where = f"{path}:{number}"
        columns = line.split()
        if len(columns) != 6:
            what = f"{len(columns)} columns where 6 are expected"
            raise InputError(what, where=where, remedy="write: query_id Q0 doc_id rank score tag")
        query_id, _, doc_id, rank_text, score_text, _ = columns
        score = finite_number(score_text)
        if score is None:
            raise InputError(f"score {shown(score_text)} is not a finite number", where=where, remedy="the score is column 5")
        rank = _rank(rank_text, where)
        first = lines_seen.setdefault(query_id, {}).setdefault(doc_id, number)
        if first != number:
            what = f"query {shown(query_id)} has document {shown(doc_id)} already on line {first}"
            raise InputError(what, where=where, remedy="keep one of the two lines")
        check_id(query_id, where, "query id")
        rows.setdefault(query_id, []).append((-score, rank, check_id(doc_id, where, "document id")))
    return {query_id: [ScoredDoc(query_id, doc_id, -negated) for negated, _, doc_id in sorted(found)] for query_id, found in rows.items()}


def upside_down(path: Path) -> tuple[int, int]:
    """Return in how many questions the document of the first rank has the lowest score, and how many have two scores and ranks.

    That is what a run looks like whose scores are distances; `read_run` and trec_eval go by the scores. The file was read by `read_run`.
    """
    first: dict[str, tuple[int, float]] = {}
    last: dict[str, tuple[int, float]] = {}
    for _, line in numbered_lines(path):
        query_id, _, _, rank, score, _ = line.split()
        here = int(rank), float(score)
        first[query_id], last[query_id] = min(first.get(query_id, here), here), max(last.get(query_id, here), here)
    asked = [(first[q], last[q]) for q in first if first[q][0] != last[q][0] and first[q][1] != last[q][1]]
    return sum(one[1] < other[1] for one, other in asked), len(asked)


def _rank(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"rank {shown(text)} is not a whole number", where=where, remedy="the rank is column 4") from None


def write_run(target: Path | TextIO, rankings: Mapping[str, Sequence[ScoredDoc]] | Iterable[Sequence[ScoredDoc]], tag: str) -> int:
    """Write rankings one after the other and return the number of lines; `read_run` gives back the same values.

    Args:
        target: a path, or an open text handle, which stays open.
        rankings: one ranking per query, best first (or a mapping to them); may be a generator, only one is held at a time.
        tag: the name of the system, without white space.

    Raises:
        InputError: a ranking mixes queries, repeats a document, is not sorted by score, or holds nan or an unfit id.
    """
    check_id(tag, "run to write", "tag")
    return write_lines(target, _run_lines(rankings.values() if isinstance(rankings, Mapping) else rankings, tag))


def _run_lines(rankings: Iterable[Sequence[ScoredDoc]], tag: str) -> Iterator[str]:
    for ranking in rankings:
        _check_ranking(ranking)
        for rank, hit in enumerate(ranking, start=1):
            # repr of a Python float is the shortest text that reads back as the same number
            yield f"{hit.query_id} Q0 {hit.doc_id} {rank} {float(hit.score)!r} {tag}\n"


def _check_ranking(ranking: Sequence[ScoredDoc]) -> None:
    if not ranking:
        return
    query_id = check_id(ranking[0].query_id, "run to write", "query id")
    where = f"ranking of query {query_id}"
    seen: set[str] = set()
    previous = math.inf
    for hit in ranking:
        if hit.query_id != query_id:
            raise InputError(f"it also holds query {shown(hit.query_id)}", where=where, remedy="give one ranking per query")
        if check_id(hit.doc_id, where, "document id") in seen:
            raise InputError(f"document {shown(hit.doc_id)} appears twice", where=where, remedy="remove one of the two")
        seen.add(hit.doc_id)
        if not math.isfinite(hit.score) or hit.score > previous:
            what = f"score {hit.score} of document {shown(hit.doc_id)} is not finite or greater than the one before it"
            raise InputError(what, where=where, remedy="sort by score, best first")
        previous = hit.score


def _split_columns(line: str, where: str, is_first: bool) -> tuple[str, str, str]:
    del is_first  # TREC files have no header
    columns = line.split()
    if len(columns) != 4:
        raise InputError(f"{len(columns)} columns where 4 are expected", where=where, remedy="write: query_id 0 doc_id relevance")
    return columns[0], columns[2], columns[3]


def read_qrels(path: Path) -> Iterator[Qrel]:
    """Yield the labels of a TREC qrels file; values below 0 (junk) are kept as they are.

    Raises:
        InputError: see `labels.numbered_qrels`.
    """
    for _, qrel in numbered_qrels(path, _split_columns):
        yield qrel


def write_qrels(target: Path | TextIO, qrels: Iterable[Qrel]) -> int:
    """Write labels as TREC qrels and return how many; trec_eval reads whole numbers only."""
    return write_lines(target, (qrel_line(q, "{} 0 {} {}\n") for q in qrels))
