"""encode: vectors of documents and questions, once, for the dense leg, the judges and the student."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zelo.collections.beir import read_corpus, read_queries
from zelo.collections.trec import read_run
from zelo.encoders.transformer import Encoder, load_encoder
from zelo.encoders.vectors import TextVectors, gather, load_vectors, save_vectors
from zelo.encoders.weights import model_digest, resolve_model
from zelo.errors import InputError, MissingExtraError, WorkspaceError
from zelo.pipeline import Context, Outcome, find
from zelo.recipe import Recipe, to_dict
from zelo.types import Document
from zelo.workspace import Workspace, fingerprint, share

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
    parent = _parent(context)
    same_corpus = parent is not None and parent.digest("corpus") == context.workspace.digest("corpus")
    if same_corpus or _documents_stay(context):
        owner = parent if parent is not None and same_corpus else context.workspace
        share(owner.path("vectors") / "documents", folder / "documents")
        tokens = len(load_vectors(folder / "documents")[1].token_ids)
        note += "; the documents' vectors stay, only questions are new"
    else:
        vectors = encoder.encode(texts, tokens=keeps_tokens, progress=context.progress.task("encoding documents"))
        save_vectors(folder / "documents", [d.doc_id for d in documents], vectors)
        tokens = len(vectors.token_ids)
    queries = list(read_queries(context.read("queries")))
    encoded = _encode_queries([q.text for q in queries], encoder, parent, context)
    save_vectors(folder / "queries", [q.query_id for q in queries], encoded)
    if not keeps_tokens:
        note += f"; token vectors are made when needed, about {foreseen:,} are more than encode.max_token_vectors"
    return Outcome({"documents": len(documents), "queries": len(queries), "tokens": tokens}, notes=(note,))


def _encode_queries(texts: list[str], encoder: Encoder, parent: Workspace | None, context: Context) -> TextVectors:
    """Encode queries; those of a parent keep its vectors.

    In low precision a vector depends in its last digits on the texts beside it in a batch. A parent's query encoded anew among
    others would have other candidates than the parent's model has ranked.
    """
    known: dict[str, int] = {}
    parts: list[TextVectors] = []
    if parent is not None:
        query_ids, vectors = load_vectors(parent.path("vectors") / "queries")
        text_of = {q.query_id: q.text for q in read_queries(parent.path("queries"))}
        known = {text_of[query_id]: i for i, query_id in enumerate(query_ids) if query_id in text_of}
        parts = [vectors] if vectors.tokens is not None else []
    if not parts:
        return encoder.encode(texts, tokens=True, progress=context.progress.task("encoding questions"))
    new = [text for text in texts if text not in known]
    parts.append(encoder.encode(new, tokens=True, progress=context.progress.task("encoding questions")))
    fresh = iter(range(len(new)))
    return gather(parts, [(0, known[text]) if text in known else (1, next(fresh)) for text in texts])


def _parent(context: Context) -> Workspace | None:
    """Return the workspace that this one is a refine round of, if its vectors are by the same encoder and settings; else None."""
    if not context.recipe.refine.parent:
        return None
    try:
        parent = Workspace.open(Path(context.recipe.refine.parent))
    except WorkspaceError:
        return None
    entry = parent.entry("encode")
    if entry is None or entry.writes.get("vectors") != parent.digest("vectors"):
        return None
    same_way = to_dict(parent.recipe)["encode"] == to_dict(context.recipe)["encode"]
    now = external(context.recipe)
    return parent if same_way and all(entry.reads.get(name) == digest for name, digest in now.items()) else None


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
