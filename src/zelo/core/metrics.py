"""Retrieval measures, per query, with graded gains that may be fractions.

trec_eval and its wrappers take integer labels: pytrec_eval and ir_measures refuse fractions, and other tools cut them off silently. Pooled
judgments and targets are fractions, so these are our own; on integer labels they equal trec_eval's.

Conventions: gains are linear and a gain <= 0 counts as 0; relevant = gain > 0. Rankings are sorted by score descending, then doc_id
descending, as trec_eval does (which, however, compares scores in single precision only). A query of the qrels that the ranking
lacks counts 0; a query that the qrels lack is ignored. A query without any relevant document counts 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from zelo.errors import InputError

_NAME = re.compile(r"(?P<measure>[A-Za-z]+)@(?P<k>[1-9][0-9]*)")


def ndcg_at(gains_in_rank_order: Sequence[float], all_gains: Iterable[float], k: int) -> float:
    """Normalized discounted cumulative gain of one query (Jarvelin and Kekalainen 2002; linear gains, discount log2(rank + 1)).

    Args:
        gains_in_rank_order: gain of the document at each rank, best first; 0 for an unjudged one.
        all_gains: gains of all judged documents of the query, in any order: the ideal ranking is made from them.
        k: cutoff, >= 1.

    Returns:
        A value in [0, 1] when the ranked documents are among the judged ones; 0 when no gain is positive.

    Raises:
        InputError: k < 1.
    """
    if k < 1:
        raise InputError(f"the cutoff k must be >= 1, got {k}")
    ideal = _dcg(sorted(all_gains, reverse=True)[:k])
    return _dcg(gains_in_rank_order[:k]) / ideal if ideal > 0.0 else 0.0


def evaluate_ranking(
    ranking: Mapping[str, Sequence[tuple[str, float]]], qrels: Mapping[str, Mapping[str, float]], measures: Iterable[str]
) -> dict[str, dict[str, float]]:
    """Evaluate one system. The module says how ties, missing queries and gains <= 0 are treated.

    Args:
        ranking: query_id -> (doc_id, score) in any order.
        qrels: query_id -> doc_id -> gain.
        measures: names with any cutoff k >= 1:
            `nDCG@k`; `Recall@k`, the share of the relevant documents within the top k; `MRR@k`, 1 / rank of the first
            relevant document, 0 if it is not within the top k; `judged@k`, the share of the top k documents that the
            qrels name, whatever their gain (of those returned, where fewer than k are).

    Returns:
        measure -> query_id -> value in [0, 1], for every query of the qrels, in their order.

    Raises:
        InputError: a measure is unknown, a gain is not finite, a score is NaN, or a query's ranking has a document twice.
    """
    parsed = {name: _parse(name) for name in measures}
    values: dict[str, dict[str, float]] = {name: {} for name in parsed}
    deepest = max((k for _, k in parsed.values()), default=0)
    for query_id, gains in qrels.items():
        if not all(map(math.isfinite, gains.values())):
            raise InputError("a gain is not finite", where=f"qrels of query {query_id!r}")
        found = [gains.get(doc_id) for doc_id in _top(ranking.get(query_id, ()), deepest, query_id)]
        for name, (function, k) in parsed.items():
            values[name][query_id] = function(found[:k], gains, k)
    return values


_Found = Sequence[float | None]  # Gain at each rank, None = unjudged.
_Gains = Mapping[str, float]


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains) if gain > 0.0)


def _ndcg(found: _Found, gains: _Gains, k: int) -> float:
    return ndcg_at([gain or 0.0 for gain in found], gains.values(), k)


def _recall(found: _Found, gains: _Gains, k: int) -> float:
    relevant = sum(gain > 0.0 for gain in gains.values())
    return sum(gain is not None and gain > 0.0 for gain in found) / relevant if relevant else 0.0


def _mrr(found: _Found, gains: _Gains, k: int) -> float:
    return next((1.0 / rank for rank, gain in enumerate(found, 1) if gain is not None and gain > 0.0), 0.0)


def _judged(found: _Found, gains: _Gains, k: int) -> float:
    return sum(gain is not None for gain in found) / len(found) if found else 0.0


_MEASURES: dict[str, Callable[[_Found, _Gains, int], float]] = {"nDCG": _ndcg, "Recall": _recall, "MRR": _mrr, "judged": _judged}


def _parse(name: str) -> tuple[Callable[[_Found, _Gains, int], float], int]:
    match = _NAME.fullmatch(name)
    if match is None or match["measure"] not in _MEASURES:
        raise InputError(f"unknown measure {name!r}", remedy=f"use {', '.join(f'{m}@k' for m in _MEASURES)} with k >= 1")
    return _MEASURES[match["measure"]], int(match["k"])


def _top(documents: Sequence[tuple[str, float]], depth: int, query_id: str) -> list[str]:
    """The first `depth` doc_ids in trec_eval's order."""
    if len({doc_id for doc_id, _ in documents}) != len(documents):
        raise InputError("a document is ranked twice", where=f"query {query_id!r}", remedy="keep each document once per query")
    if any(math.isnan(score) for _, score in documents):
        raise InputError("a score is NaN", where=f"query {query_id!r}")
    return [doc_id for doc_id, _ in sorted(documents, key=lambda row: (row[1], row[0]), reverse=True)[:depth]]
