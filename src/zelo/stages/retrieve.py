"""retrieve: BM25, dense search and another engine's run, fused and cut to the candidates that everything after works on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zelo.collections.beir import read_corpus, read_queries
from zelo.collections.trec import write_run
from zelo.encoders.lexical import supported_languages
from zelo.encoders.vectors import load_vectors
from zelo.errors import InputError, RecipeError
from zelo.pipeline import Context, Outcome
from zelo.recipe import Recipe
from zelo.retrievers import Retriever
from zelo.retrievers.bm25 import Bm25Retriever
from zelo.retrievers.imported import ImportedRetriever
from zelo.retrievers.lance_table import library
from zelo.shards import Here, keeping
from zelo.stages.legs import Asked, Encode, Searching, fill, in_memory, place_of
from zelo.types import Document, Query

_BLOCK = 200  # queries searched at a time: two legs 1,000 deep are 400,000 rows
_FIXED = {"k1": 1.2, "b": 0.75}  # of LanceDB


def check(recipe: Recipe) -> None:
    """Raise RecipeError for a language without a stemmer or what the engine cannot do, MissingExtraError for an engine not installed."""
    settings = recipe.retrieve
    if settings.language != "auto" and settings.language not in supported_languages():
        raise RecipeError(
            f"retrieve.language = {settings.language!r} has no stemmer", remedy=f"use auto or one of: {', '.join(supported_languages())}"
        )
    own = [name for name in _FIXED if getattr(settings, name) not in (getattr(type(settings)(), name), _FIXED[name])]
    if settings.engine == "lancedb":
        if own:
            what = f"retrieve.{own[0]} = {getattr(settings, own[0]):g} cannot be set: LanceDB's BM25 has k1 = 1.2 and b = 0.75"
            raise RecipeError(what, remedy='leave it out, or set retrieve.engine = "memory"')
        library()
    elif settings.database or settings.index != "exact":
        name = "database" if settings.database else "index"
        raise RecipeError(f"retrieve.{name} is for an engine with a database", remedy='set retrieve.engine = "lancedb", or leave it out')


def external(recipe: Recipe) -> dict[str, str]:
    """Identify the imported run by its contents; "" if it is not there."""
    path = Path(recipe.retrieve.run)
    if not recipe.retrieve.run:
        return {}
    return {"run": hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""}


def run(context: Context) -> Outcome:
    """Write candidates/<leg>.trec of every leg, and fused.trec, block by block: memory does not grow with the queries.

    Raises:
        InputError: no document was found for any question.
    """
    queries = list(read_queries(context.read("queries")))
    encode = _stored_vectors(context, queries)
    own, work, notes = _legs(context, queries, encode)
    advance = context.progress.task("searching")
    folder, rows, empty = context.write("candidates"), Counter[str](), 0
    folder.mkdir()
    executor = context.executor if work.place else Here()
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.trec").open("w", encoding="utf-8", newline="\n")) for name in _names(context)}
        for done, found in keeping(executor, work, _blocks(context, queries, own, encode)):
            for name, rankings in found.items():
                rows[name] += write_run(files[name], rankings, tag=name)
            empty += sum(not ranking for ranking in found["fused"])
            advance(done, len(queries))
    if empty == len(queries):
        raise InputError("no document was found for any question", where=context.recipe.ingest.collection, remedy="add a leg")
    if empty:
        notes.append(f"{empty:,} of {len(queries):,} queries without candidates: skipped")
    if "bm25" in files and not rows["bm25"]:  # Chinese and Japanese, for example, are written without spaces: a sentence is one word
        notes.append("BM25 found nothing: no question shares a word with a document")
    return Outcome({name: rows[name] for name in files}, notes=tuple(notes))


def _names(context: Context) -> list[str]:
    return [*(leg for leg in ("bm25", "dense", "imported") if leg in context.recipe.retrieve.legs), "fused"]


def _blocks(context: Context, queries: Sequence[Query], own: dict[str, Retriever], encode: Encode | None) -> Iterator[tuple[int, Asked]]:
    """Yield blocks of queries with what is found here, and how many queries there are up to each."""
    depth = context.recipe.retrieve.depth
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        vectors = encode([query.text for query in block]) if encode and "dense" not in own else None
        yield start + len(block), Asked(block, vectors, {name: retriever.search(block, depth) for name, retriever in own.items()})


def _stored_vectors(context: Context, queries: Sequence[Query]) -> Encode | None:
    """Return what gives the questions' vectors, which the stage encode made; None without a dense leg."""
    if "dense" not in context.recipe.retrieve.legs:
        return None
    _, stored = load_vectors(context.read("vectors") / "queries")
    place = {query.text: i for i, query in enumerate(queries)}
    return lambda texts: stored.pooled[[place[text] for text in texts]]


def _legs(context: Context, queries: Sequence[Query], encode: Encode | None) -> tuple[dict[str, Retriever], Searching, list[str]]:
    """The retrievers of this process, what is done with a block, and remarks."""
    settings, notes = context.recipe.retrieve, list[str]()
    made: dict[str, Retriever] = {}
    place = None
    if settings.engine == "lancedb":
        place = place_of(context)
        change = fill(context, place)
        notes += [f"language {place.language}"] if place.language else []
        notes.append(f"LanceDB: {change.added:,} documents added, {change.deleted:,} rows deleted, {change.kept:,} were there")
    else:
        documents: list[Document] = list(read_corpus(context.read("corpus"))) if "bm25" in settings.legs else []
        made = in_memory(context, documents, encode or _no_vectors)
        notes += [f"language {leg.language}" for leg in made.values() if isinstance(leg, Bm25Retriever)]
    if "imported" in settings.legs:
        made["imported"], remark = _imported(context, queries)
        notes += remark
    return made, Searching(settings, place), notes


def _no_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    raise InputError("there are no vectors of questions", remedy="run encode again")


def _imported(context: Context, queries: Sequence[Query]) -> tuple[Retriever, list[str]]:
    settings = context.recipe.retrieve
    imported = ImportedRetriever(settings.run)
    rankings = imported.search(queries, settings.depth)
    lacking = sum(not ranking for ranking in rankings.values())
    wanted = {row.doc_id for ranking in rankings.values() for row in ranking}
    wanted.difference_update(document.doc_id for document in read_corpus(context.read("corpus")))
    if wanted:
        unknown = [row for ranking in rankings.values() for row in ranking if row.doc_id in wanted]
        what = f"{len(unknown):,} line(s) name documents that the corpus lacks; the first is {unknown[0].doc_id!r}"
        raise InputError(what, where=settings.run, remedy="import a run for this corpus")
    return imported, [f"the imported run lacks {lacking:,} of {len(queries):,} questions"] if lacking else []
