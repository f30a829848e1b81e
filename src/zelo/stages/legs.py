"""The legs of the first stage: which retriever searches each, in this process or by shards of queries over a table that workers open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from zelo.collections.beir import read_corpus
from zelo.core.fusion import min_max_fusion, reciprocal_rank_fusion
from zelo.encoders.lexical import detect_language
from zelo.encoders.vectors import load_vectors
from zelo.pipeline import Context
from zelo.recipe import Recipe, Retrieve
from zelo.retrievers import Retriever
from zelo.retrievers.bm25 import Bm25Retriever
from zelo.retrievers.dense import DenseRetriever
from zelo.retrievers.lance import LanceDense, LanceText
from zelo.retrievers.lance_table import Change, Place, bring_up_to_date, default_uri
from zelo.types import Document, Query, ScoredDoc

Rankings = Mapping[str, Sequence[ScoredDoc]]
Encode = Callable[[Sequence[str]], NDArray[np.float32]]
_SAMPLE = 256  # texts that say the language


@dataclass(frozen=True)
class Asked:
    """A block of queries, with their vectors if the dense leg is searched elsewhere, and rankings that were found here, by leg."""

    queries: Sequence[Query]
    vectors: NDArray[np.float32] | None
    found: Mapping[str, Rankings]


@dataclass(frozen=True)
class Searching:
    """Searches the legs that are elsewhere, and fuses all of them; the work of a block of queries."""

    settings: Retrieve
    place: Place | None

    def open(self) -> Callable[[Asked], dict[str, list[list[ScoredDoc]]]]:
        """Open the table, if there is one."""
        text = LanceText(self.place) if self.place and self.place.language else None
        dense = LanceDense(self.place) if self.place and self.place.vectors else None

        def search(asked: Asked) -> dict[str, list[list[ScoredDoc]]]:
            found, ids = dict(asked.found), [query.query_id for query in asked.queries]
            if text:
                found["bm25"] = text.search(asked.queries, self.settings.depth)
            if dense and asked.vectors is not None:
                found["dense"] = dense.search_vectors(ids, asked.vectors, self.settings.depth)
            legs = [found[leg] for leg in ("bm25", "dense", "imported") if leg in found]
            cut = {name: [list(r[q][: self.settings.candidates]) for q in ids] for name, r in found.items()}
            return cut | {"fused": [_fuse(q, [leg[q] for leg in legs], self.settings) for q in ids]}

        return search


def _fuse(query_id: str, legs: Sequence[Sequence[ScoredDoc]], settings: Retrieve) -> list[ScoredDoc]:
    rankings = [[(d.doc_id, d.score) for d in leg] for leg in legs]
    if settings.fusion == "rrf":
        fused = reciprocal_rank_fusion(rankings, settings.rrf_k, settings.candidates)
    else:
        fused = min_max_fusion(rankings, depth=settings.candidates)
    # By rank: fused scores tie, and a reader of the file would break the ties by another rule than ours.
    return [ScoredDoc(query_id, doc_id, 1.0 / rank) for rank, (doc_id, _) in enumerate(fused, 1)]


def in_memory(context: Context, documents: Sequence[Document], encode: Encode) -> dict[str, Retriever]:
    """Return the retrievers of the legs bm25 and dense that hold the corpus in this process."""
    settings, made = context.recipe.retrieve, dict[str, Retriever]()
    if "bm25" in settings.legs:
        made["bm25"] = Bm25Retriever(documents, language=settings.language, k1=settings.k1, b=settings.b)
    if "dense" in settings.legs:
        doc_ids, vectors = load_vectors(context.read("vectors") / "documents")
        made["dense"] = DenseRetriever(doc_ids, vectors.pooled, encode)
    return made


def in_table(context: Context, encode: Encode) -> dict[str, Retriever]:
    """Return the retrievers of the legs bm25 and dense that search the workspace's table; see `place_of`."""
    place, made = place_of(context), dict[str, Retriever]()
    if place.language:
        made["bm25"] = LanceText(place)
    if place.vectors:
        made["dense"] = LanceDense(place, encode)
    return made


def place_of(context: Context) -> Place:
    """Return where the table is and what it is searched by. Detecting the language reads the corpus."""
    settings, legs = context.recipe.retrieve, context.recipe.retrieve.legs
    language = (settings.language if settings.language != "auto" else _language(context)) if "bm25" in legs else ""
    uri = settings.database or default_uri(context.workspace.root)
    return Place(uri, language, "dense" in legs, settings.index == "ivf", settings.probes)


def fill(context: Context, place: Place) -> Change:
    """Bring the table up to the corpus; what a killed run had added is not added again."""
    advance, total = context.progress.task("bringing the table up to date"), 0
    vectors = None
    if place.vectors:
        _, stored = load_vectors(context.read("vectors") / "documents")
        vectors, total = stored.pooled, len(stored)
    return bring_up_to_date(place, read_corpus(context.read("corpus")), vectors, lambda done: advance(done, max(done, total)))


def is_searchable(recipe: Recipe) -> bool:
    """Whether a new query can be searched for: not if the first stage is an imported run only."""
    return bool({"bm25", "dense"} & set(recipe.retrieve.legs))


def _language(context: Context) -> str:
    """Detect the language from texts at even distance, without holding the corpus."""
    with context.read("corpus").open("rb") as lines:
        count = sum(1 for _ in lines)
    documents = islice(read_corpus(context.read("corpus")), 0, None, max(1, count // _SAMPLE))
    return detect_language([document.full_text for document in documents])
