"""What a live system showed or its users clicked: one document per query, from a TREC run or JSON Lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zelo.collections.labels import finite_number
from zelo.collections.lines import json_objects
from zelo.collections.trec import read_run
from zelo.errors import InputError


def read_production(path: Path, query_ids: Mapping[str, str]) -> tuple[dict[str, str], int]:
    """Read the file: of each query the document with the most.

    A name that ends in .jsonl or .json means JSON Lines: {"query_id": ..., "doc_id": ...}, or "query" with the words of a query instead
    of its id; "score" may say how much a line counts (default 1, one line per click). Scores of a document add up. Anything else is a TREC
    run, whose first document of each query is taken.

    Args:
        path: the file.
        query_ids: text -> query_id of the known queries.

    Returns:
        query_id -> doc_id; and how many lines of JSON have words that no known query has.

    Raises:
        InputError: not readable; names file and line.
    """
    if not path.is_file():
        raise InputError("no such file", where=str(path), remedy="give a TREC run or JSON Lines")
    if path.suffix not in (".jsonl", ".json"):
        return {query_id: ranking[0].doc_id for query_id, ranking in read_run(path).items()}, 0
    totals: dict[str, dict[str, float]] = {}
    unknown = 0
    for number, row in json_objects(path):
        where = f"{path}:{number}"
        if ("query_id" in row) == ("query" in row):
            raise InputError("needs one of query_id and query", where=where, remedy='write {"query_id": "7", "doc_id": "d12"}')
        name = row["query_id"] if "query_id" in row else query_ids.get(str(row["query"]))
        doc_id, score = row.get("doc_id"), row.get("score", 1)
        if name is None and "query" in row:
            unknown += 1
            continue
        if not isinstance(name, str) or not isinstance(doc_id, str):
            raise InputError("query_id and doc_id must be strings", where=where, remedy='write {"query_id": "7", "doc_id": "d12"}')
        if isinstance(score, bool) or not isinstance(score, int | float) or finite_number(str(score)) is None:
            raise InputError("score is not a finite number", where=where, remedy="leave it out, or write a number")
        of_query = totals.setdefault(name, {})
        of_query[doc_id] = of_query.get(doc_id, 0.0) + score
    return {query_id: max(found, key=lambda doc_id: found[doc_id]) for query_id, found in totals.items()}, unknown
