"""encode: vectors of documents and questions, once, for the dense leg, the judges and the student."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from zelo.collections.beir import read_corpus, read_queries
from zelo.collections.trec import read_run
from zelo.encoders.transformer import load_encoder
from zelo.encoders.vectors import TextVectors, load_vectors, save_vectors
from zelo.encoders.weights import model_digest, resolve_model
from zelo.errors import InputError, MissingExtraError
from zelo.pipeline import Context, Outcome, find
from zelo.recipe import Recipe, to_dict
from zelo.types import Document
from zelo.workspace import fingerprint, share

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
    """Write vectors/documents and vectors/queries. Documents are encoded once: new questions take no new vectors of them.

    In a benchmark only the pooled documents are encoded, and none that no judge reads.
    """
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
    note = f"{settings.model} on {encoder.engine}, {encoder.precision}"
    if _documents_stay(context):
        share(context.workspace.path("vectors") / "documents", folder / "documents")
        tokens = len(load_vectors(folder / "documents")[1].token_ids)
        note += "; the documents' vectors stay, only questions are new"
    else:
        vectors = encoder.encode(texts, tokens=keeps_tokens, progress=context.progress.task("encoding documents"))
        save_vectors(folder / "documents", [d.doc_id for d in documents], vectors)
        tokens = len(vectors.token_ids)
    queries = list(read_queries(context.read("queries")))
    encoded = encoder.encode([q.text for q in queries], tokens=True, progress=context.progress.task("encoding questions"))
    save_vectors(folder / "queries", [q.query_id for q in queries], encoded)
    if not keeps_tokens:
        note += f"; token vectors are made when needed, about {foreseen:,} are more than encode.max_token_vectors"
    return Outcome({"documents": len(documents), "queries": len(queries), "tokens": tokens}, notes=(note,))


def _documents_stay(context: Context) -> bool:
    """Whether only questions are new: the vectors are of the same documents, by the same encoder and settings, and nobody changed them."""
    workspace, recipe = context.workspace, context.recipe
    entry, stage = workspace.entry("encode"), find(recipe, "encode")
    if entry is None or entry.writes.get("vectors") != workspace.digest("vectors") or entry.reads["queries"] == workspace.digest("queries"):
        return False  # with the same questions the stage was forced
    parameters = {"encode": to_dict(recipe)["encode"]}
    same_way = entry.fingerprint == fingerprint(stage.name, stage.version, parameters, entry.reads)
    now = {"corpus": workspace.digest("corpus"), **external(recipe)}
    return same_way and all(entry.reads.get(name) == digest for name, digest in now.items())


def _documents(context: Context) -> Iterator[Document]:
    """The corpus, or what of it is pooled."""
    documents = read_corpus(context.read("corpus"))
    if context.recipe.line != "benchmark":
        return documents
    pooled = {hit.doc_id for ranking in read_run(context.read("candidates") / "fused.trec").values() for hit in ranking}
    return (document for document in documents if document.doc_id in pooled)
