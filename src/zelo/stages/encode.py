"""encode: vectors of documents and questions, once, for the dense leg, the judges and the student."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from zelo.collections.beir import read_corpus, read_queries
from zelo.collections.trec import read_run
from zelo.encoders.transformer import load_encoder
from zelo.encoders.vectors import TextVectors, save_vectors
from zelo.encoders.weights import model_digest, resolve_model
from zelo.errors import InputError, MissingExtraError
from zelo.pipeline import Context, Outcome
from zelo.recipe import Recipe
from zelo.types import Document

_BY_VECTORS = ("dense", "late_interaction")  # judges
_CHARACTERS_PER_TOKEN = 4  # of English; only to foresee the size of the token vectors


_NOTHING = TextVectors(np.zeros((0, 1), np.float32), None, np.zeros(1, np.int64), np.zeros(0, np.int32))


def external(recipe: Recipe) -> dict[str, str]:
    """Identify the encoder by its weights; "" if it is not there."""
    try:
        return {"encoder": model_digest(resolve_model(recipe.encode.model))}
    except (InputError, MissingExtraError):
        return {"encoder": ""}  # a stage that needs it will say so


def run(context: Context) -> Outcome:
    """Write vectors/documents and vectors/queries; in a benchmark of the pooled documents only, and none that no judge reads."""
    settings = context.recipe.encode
    if context.recipe.line == "benchmark" and not set(_BY_VECTORS) & set(context.recipe.judge.ensemble):
        for kind in ("documents", "queries"):
            save_vectors(context.write("vectors") / kind, [], _NOTHING)
        return Outcome({"documents": 0, "queries": 0}, notes=("no judge of the ensemble reads vectors",))
    encoder = load_encoder(settings.model, settings.engine)
    folder = context.write("vectors")
    documents = list(_documents(context))
    texts = [d.full_text for d in documents]
    foreseen = sum(min(len(t) // _CHARACTERS_PER_TOKEN + 2, encoder.max_tokens) for t in texts)
    keeps_tokens = foreseen <= settings.max_token_vectors
    vectors = encoder.encode(texts, tokens=keeps_tokens, progress=context.progress.task("encoding documents"))
    save_vectors(folder / "documents", [d.doc_id for d in documents], vectors)
    queries = list(read_queries(context.read("queries")))
    encoded = encoder.encode([q.text for q in queries], tokens=True, progress=context.progress.task("encoding questions"))
    save_vectors(folder / "queries", [q.query_id for q in queries], encoded)
    note = f"{settings.model} on {encoder.engine}, {encoder.precision}"
    if not keeps_tokens:
        note += f"; token vectors are made when needed, about {foreseen:,} are more than encode.max_token_vectors"
    return Outcome({"documents": len(documents), "queries": len(queries), "tokens": len(vectors.token_ids)}, notes=(note,))


def _documents(context: Context) -> Iterator[Document]:
    """The corpus, or what of it is pooled."""
    documents = read_corpus(context.read("corpus"))
    if context.recipe.line != "benchmark":
        return documents
    pooled = {hit.doc_id for ranking in read_run(context.read("candidates") / "fused.trec").values() for hit in ranking}
    return (document for document in documents if document.doc_id in pooled)
