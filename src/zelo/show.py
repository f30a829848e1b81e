"""`zelo show`: what lies behind a ranking and behind a score, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zelo.artifacts import Columns, read_table
from zelo.collections.beir import read_corpus, read_qrels, read_queries
from zelo.collections.trec import read_run
from zelo.errors import InputError, WorkspaceError
from zelo.types import Document
from zelo.workspace import Workspace

SHOWN = 10  # documents of a ranking
_WIDTH = 88


def explain_query(workspace: Workspace, query: str) -> Iterator[str]:
    """Yield the best documents of a query by the judges' scores, with error bars, beside the other rankings and the labels.

    Args:
        workspace: one whose stage `fit` has run.
        query: a query id, or words that exactly one question contains.

    Raises:
        InputError: no such query, or several.
        WorkspaceError: nothing was scored yet.
    """
    query_id, text = _find_query(workspace, query)
    scores = _scores(workspace, query_id)
    places = _places(workspace, query_id)
    labels = _labels(workspace, query_id)
    documents = _documents(workspace, {*scores, *(d for ranks in places.values() for d, r in ranks.items() if r <= SHOWN)})
    yield f"{query_id}: {text}"
    if scores:
        order = sorted(scores, key=lambda d: -scores[d][0])
        yield f"judges' scores, {len(order)} documents, {scores[order[0]][2]} comparisons each:"
    else:
        best = places.get("pointwise") or places.get("fused", {})
        order = sorted(best, key=best.__getitem__)
        yield "the judges did not compare this question's documents; by the best ranking there is:"
    ranked = [name for name in ("bm25", "dense", "fused", "pointwise") if name in places]
    yield f"{'score':>14}  {'  '.join(f'{name:>9}' for name in ranked)}  label  document"
    for doc_id in order[:SHOWN]:
        score = f"{scores[doc_id][0]:+.2f} ± {1.96 * scores[doc_id][1]:.2f}" if doc_id in scores else ""
        ranks = "  ".join(f"{'#' + str(places[name][doc_id]) if doc_id in places[name] else '-':>9}" for name in ranked)
        label = f"{labels[doc_id]:g}" if doc_id in labels else "-"
        yield f"{score:>14}  {ranks}  {label:>5}  {_short(documents.get(doc_id), doc_id)}"
    if scores:
        yield f"± is half a 95 % interval. The comparisons behind one score: zelo show {workspace.root} {query_id} DOCUMENT"


def explain_document(workspace: Workspace, query: str, doc_id: str) -> Iterator[str]:
    """Yield every comparison behind a document's score: the other document, who said what, what was made of it.

    Raises:
        InputError: no such query, or the document is not among its judged candidates.
        WorkspaceError: nothing was scored yet.
    """
    query_id, text = _find_query(workspace, query)
    scores = _scores(workspace, query_id)
    documents = _documents(workspace, {doc_id, *scores})
    if doc_id not in scores:
        raise InputError(
            f"{doc_id!r} was not compared for this question", where=query_id, remedy=f"see `zelo show {workspace.root} {query_id}`"
        )
    judgments = _of(read_table(workspace.path("judgments"), "judgments"), query_id, doc_id)
    preferences = _of(read_table(workspace.path("preferences"), "preferences"), query_id, doc_id)
    judges = read_table(workspace.path("judges"), "judges")
    weights = dict(zip(judges["judge"], judges["weight"], strict=True))
    score, stderr, degree = scores[doc_id]
    yield f"{query_id}: {text}"
    yield f"{_short(documents.get(doc_id), doc_id)}"
    judges_named = ", ".join(f"{judge} (weight {weight:.2f})" for judge, weight in weights.items())
    yield f"score {score:+.2f} ± {1.96 * stderr:.2f} (95 %), from {degree} comparisons of {judges_named}"
    yield "each judge: > 0 prefers this document, < 0 the other; the ensemble: probability that this one is better"
    pooled = _by_pair(preferences)
    for pair, row in sorted(pooled.items(), key=lambda item: _toward(item[1], doc_id)):
        other = pair[0] if pair[1] == doc_id else pair[1]
        said = []
        for j in judgments:
            if {j["doc_id_a"], j["doc_id_b"]} == {doc_id, other}:
                value = j["preference"]
                missing = value is None or value != value
                said.append(
                    f"{j['judge']} {'(' + j['status'] + ')' if missing else format(value if j['doc_id_a'] == doc_id else -value, '+.2f')}"
                )
        against = f"{scores[other][0]:+.2f}" if other in scores else "?"
        yield f"  {_toward(row, doc_id):.2f}  {', '.join(said)}  against {against}  {_short(documents.get(other), other)}"


def _by_pair(preferences: list[dict[str, Any]]) -> dict[tuple[str, ...], dict[str, Any]]:
    """One row per pair: a pair of several rows, say one per judge, has their weighted mean."""
    pairs: dict[tuple[str, ...], dict[str, Any]] = {}
    mass: dict[tuple[str, ...], float] = {}
    for row in preferences:
        pair = tuple(sorted((row["doc_id_a"], row["doc_id_b"])))
        before, weight = mass.get(pair, 0.0), float(row["weight"])
        mass[pair] = before + weight
        prob = (before * pairs[pair]["prob_a"] + weight * row["prob_a"]) / mass[pair] if before else row["prob_a"]
        pairs[pair] = {**row, "prob_a": prob}
    return pairs


def _toward(row: dict[str, Any], doc_id: str) -> float:
    prob_a = float(row["prob_a"])
    return prob_a if row["doc_id_a"] == doc_id else 1 - prob_a


def _find_query(workspace: Workspace, query: str) -> tuple[str, str]:
    if not workspace.path("queries").exists():
        raise WorkspaceError("has no questions yet", where=str(workspace.root), remedy=f"run `zelo run {workspace.root}`")
    texts = {q.query_id: q.text for q in read_queries(workspace.path("queries"))}
    if query in texts:
        return query, texts[query]
    words = query.casefold().split()
    found = [q for q, text in texts.items() if words and all(w in text.casefold() for w in words)]
    if len(found) != 1:
        some = "; ".join(f"{q}: {texts[q]}" for q in found[:5])
        what = (
            f"{len(found)} questions have these words ({some}{' ...' if len(found) > 5 else ''})"
            if found
            else "no question with this id or these words"
        )
        raise InputError(what, where=repr(query), remedy=f"take an id from {workspace.path('queries')}")
    return found[0], texts[found[0]]


def _scores(workspace: Workspace, query_id: str) -> dict[str, tuple[float, float, int]]:
    if not workspace.path("scores").exists():
        raise WorkspaceError("has no scores yet", where=str(workspace.root), remedy=f"run `zelo run {workspace.root}`")
    table = read_table(workspace.path("scores"), "scores")
    rows = [i for i, q in enumerate(table["query_id"]) if q == query_id]
    return {table["doc_id"][i]: (float(table["score"][i]), float(table["stderr"][i]), int(table["degree"][i])) for i in rows}


def _places(workspace: Workspace, query_id: str) -> dict[str, dict[str, int]]:
    files = [f for folder in ("candidates", "rankings") for f in sorted(workspace.path(folder).glob("*.trec"))]
    rankings = {f.stem: read_run(f).get(query_id, []) for f in files}
    return {name: {d.doc_id: rank for rank, d in enumerate(ranking, 1)} for name, ranking in rankings.items() if ranking}


def _labels(workspace: Workspace, query_id: str) -> dict[str, float]:
    files = sorted(workspace.path("qrels").glob("*.tsv"))
    return {row.doc_id: row.relevance for f in files for row in read_qrels(f) if row.query_id == query_id}


def _documents(workspace: Workspace, doc_ids: set[str]) -> dict[str, Document]:
    return {d.doc_id: d for d in read_corpus(workspace.path("corpus")) if d.doc_id in doc_ids}


def _of(table: Columns, query_id: str, doc_id: str) -> list[dict[str, Any]]:
    rows = [i for i, q in enumerate(table["query_id"]) if q == query_id and doc_id in (table["doc_id_a"][i], table["doc_id_b"][i])]
    return [{name: values[i] for name, values in table.items()} for i in rows]


def _short(document: Document | None, doc_id: str) -> str:
    if document is None:
        return doc_id
    text = f"{doc_id}: {' '.join(''.join(c if c.isprintable() else ' ' for c in document.text).split())}"
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."
