"""retrieve: BM25, dense search and another engine's run, fused and cut to the candidates that everything after works on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from zelo.collections.beir import read_corpus, read_queries
from zelo.collections.trec import write_run
from zelo.core.fusion import min_max_fusion, reciprocal_rank_fusion
from zelo.encoders.lexical import supported_languages
from zelo.encoders.vectors import load_vectors
from zelo.errors import InputError, RecipeError
from zelo.pipeline import Context, Outcome
from zelo.recipe import Recipe, Retrieve
from zelo.retrievers import Retriever
from zelo.retrievers.bm25 import Bm25Retriever
from zelo.retrievers.dense import DenseRetriever
from zelo.retrievers.imported import ImportedRetriever
from zelo.types import Document, Query, ScoredDoc

_BLOCK = 200  # queries searched at a time: two legs 1,000 deep are 400,000 rows


def check(recipe: Recipe) -> None:
    """Raise RecipeError for a language without a stemmer."""
    language = recipe.retrieve.language
    if language != "auto" and language not in supported_languages():
        raise RecipeError(
            f"retrieve.language = {language!r} has no stemmer", remedy=f"use auto or one of: {', '.join(supported_languages())}"
        )


def external(recipe: Recipe) -> dict[str, str]:
    """Identify the imported run by its contents; "" if it is not there."""
    path = Path(recipe.retrieve.run)
    if not recipe.retrieve.run:
        return {}
    return {"run": hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""}


def run(context: Context) -> Outcome:
    """Write candidates/<leg>.trec of every leg, and fused.trec.

    Raises:
        InputError: no document was found for any question.
    """
    settings = context.recipe.retrieve
    documents = list(read_corpus(context.read("corpus")))
    queries = list(read_queries(context.read("queries")))
    retrievers, notes = _retrievers(context, documents, queries)
    advance = context.progress.task("searching")
    runs: dict[str, dict[str, list[ScoredDoc]]] = {name: {} for name in (*retrievers, "fused")}
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        found = {name: retriever.search(block, settings.depth) for name, retriever in retrievers.items()}
        for query_id in (query.query_id for query in block):
            runs["fused"][query_id] = _fuse(query_id, [rankings[query_id] for rankings in found.values()], settings)
            for name, rankings in found.items():
                runs[name][query_id] = rankings[query_id][: settings.candidates]
        advance(min(start + _BLOCK, len(queries)), len(queries))
    empty = sum(not ranking for ranking in runs["fused"].values())
    if empty == len(queries):
        raise InputError("no document was found for any question", where=context.recipe.ingest.collection, remedy="add a leg")
    if empty:
        notes.append(f"{empty:,} of {len(queries):,} queries without candidates: skipped")
    folder = context.write("candidates")
    folder.mkdir()
    for name, rankings in runs.items():
        write_run(folder / f"{name}.trec", rankings, tag=name)
    rows = {name: sum(map(len, rankings.values())) for name, rankings in runs.items()}
    if not rows.get("bm25", 1):  # Chinese and Japanese, for example, are written without spaces: a sentence is one word
        notes.append("BM25 found nothing: no question shares a word with a document")
    return Outcome(rows, notes=tuple(notes))


def _retrievers(context: Context, documents: list[Document], queries: list[Query]) -> tuple[dict[str, Retriever], list[str]]:
    settings = context.recipe.retrieve
    made: dict[str, Retriever] = {}
    notes: list[str] = []
    if "bm25" in settings.legs:
        made["bm25"] = bm25 = Bm25Retriever(documents, language=settings.language, k1=settings.k1, b=settings.b)
        notes.append(f"language {bm25.language}")
    if "dense" in settings.legs:
        doc_ids, vectors = load_vectors(context.read("vectors") / "documents")
        _, stored = load_vectors(context.read("vectors") / "queries")
        place = {query.text: i for i, query in enumerate(queries)}
        made["dense"] = DenseRetriever(doc_ids, vectors.pooled, lambda texts: stored.pooled[[place[text] for text in texts]])
    if "imported" in settings.legs:
        made["imported"] = imported = ImportedRetriever(settings.run)
        known = {document.doc_id for document in documents}
        rankings = imported.search(queries, settings.depth)
        lacking = sum(not ranking for ranking in rankings.values())
        if lacking:
            notes.append(f"the imported run lacks {lacking:,} of {len(queries):,} questions")
        unknown = [row for ranking in rankings.values() for row in ranking if row.doc_id not in known]
        if unknown:
            what = f"{len(unknown):,} line(s) name documents that the corpus lacks; the first is {unknown[0].doc_id!r}"
            raise InputError(what, where=settings.run, remedy="import a run for this corpus")
    return made, notes


def _fuse(query_id: str, legs: Sequence[Sequence[ScoredDoc]], settings: Retrieve) -> list[ScoredDoc]:
    rankings = [[(d.doc_id, d.score) for d in leg] for leg in legs]
    if settings.fusion == "rrf":
        fused = reciprocal_rank_fusion(rankings, settings.rrf_k, settings.candidates)
    else:
        fused = min_max_fusion(rankings, depth=settings.candidates)
    # By rank: fused scores tie, and a reader of the file would break the ties by another rule than ours.
    return [ScoredDoc(query_id, doc_id, 1.0 / rank) for rank, (doc_id, _) in enumerate(fused, 1)]
