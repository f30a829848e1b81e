"""Ten first stages, good and deliberately poor ones, as TREC runs: what the experiment compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zelo.collections import open_collection
from zelo.collections.trec import write_run
from zelo.core.fusion import min_max_fusion, reciprocal_rank_fusion
from zelo.encoders.similarity import LateInteraction, VectorBank, token_frequency
from zelo.encoders.transformer import load_encoder
from zelo.encoders.vectors import TextVectors, load_vectors, save_vectors
from zelo.retrievers.bm25 import Bm25Retriever
from zelo.retrievers.dense import DenseRetriever
from zelo.types import Document, Query, ScoredDoc

DEPTH = 100
SYSTEMS = (
    "bm25",
    "bm25_flat",
    "bm25_30_words",
    "bm25_title",
    "dense",
    "dense_96_dims",
    "dense_24_dims",
    "rrf",
    "min_max",
    "late_interaction",
)
Rankings = Mapping[str, Sequence[ScoredDoc]]


def _vectors(folder: Path, ids: list[str], texts: list[str]) -> TextVectors:
    if (folder / "ids.json").is_file():
        kept, found = load_vectors(folder)
        if kept == ids:
            return found
    found = load_encoder("all-MiniLM-L6-v2", "auto").encode(texts, tokens=True)
    save_vectors(folder, ids, found)
    return found


def _cut(vectors: NDArray[np.float32], dims: int) -> NDArray[np.float32]:
    few = np.asarray(vectors[:, :dims], np.float32)
    return few / np.maximum(np.linalg.norm(few, axis=1, keepdims=True), 1e-9)


def make_runs(source: Path, queries: list[Query], cache: Path, out: Path) -> None:
    """Write a run of every system about the queries into a folder."""
    documents = list(open_collection(source).documents())
    texts = {d.doc_id: d.full_text for d in documents}
    ids = [q.query_id for q in queries]
    of_documents = _vectors(cache / "documents", list(texts), list(texts.values()))
    of_queries = _vectors(cache / "queries", ids, [q.text for q in queries])
    runs: dict[str, Rankings] = {
        "bm25": Bm25Retriever(documents).search(queries, 1000),
        "bm25_flat": Bm25Retriever(documents, k1=0.4, b=0.1).search(queries, DEPTH),
        "bm25_30_words": Bm25Retriever(_shortened(documents, 30)).search(queries, DEPTH),
        "bm25_title": Bm25Retriever(_shortened(documents, 8)).search(queries, DEPTH),
    }
    for name, dims in (("dense", 384), ("dense_96_dims", 96), ("dense_24_dims", 24)):
        retriever = DenseRetriever(list(texts), _cut(of_documents.pooled, dims))
        runs[name] = retriever.search_vectors(ids, _cut(of_queries.pooled, dims), 1000)
    bank = VectorBank(
        load_encoder("all-MiniLM-L6-v2", "auto"), [(list(texts.values()), of_documents), ([q.text for q in queries], of_queries)]
    )
    late = LateInteraction(bank, token_frequency(of_documents), len(documents))
    fused: dict[str, dict[str, list[ScoredDoc]]] = {"rrf": {}, "min_max": {}, "late_interaction": {}}
    for query in queries:
        legs = [[(hit.doc_id, hit.score) for hit in runs[leg].get(query.query_id, ())] for leg in ("bm25", "dense")]
        by_scores = min_max_fusion(legs, depth=DEPTH)
        for name, found in (("rrf", reciprocal_rank_fusion(legs, 60, DEPTH)), ("min_max", by_scores)):
            fused[name][query.query_id] = [ScoredDoc(query.query_id, doc_id, 1 / rank) for rank, (doc_id, _) in enumerate(found, 1)]
        scores = late.score(query.text, [texts[doc_id] for doc_id, _ in by_scores])
        order = np.argsort(-scores, kind="stable")
        fused["late_interaction"][query.query_id] = [ScoredDoc(query.query_id, by_scores[i][0], float(scores[i])) for i in order]
    runs.update(fused)
    out.mkdir(parents=True, exist_ok=True)
    for name in SYSTEMS:
        write_run(out / f"{name}.trec", {q: list(r)[:DEPTH] for q, r in runs[name].items()}, tag=name)


def _shortened(documents: list[Document], words: int) -> list[Document]:
    return [Document(d.doc_id, " ".join(d.full_text.split()[:words])) for d in documents]
