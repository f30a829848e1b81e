"""ingest: copy the collection into the workspace and choose which questions train and which are reported on."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from zelo.collections import BUILT_IN, open_collection
from zelo.collections.beir import write_corpus, write_qrels, write_queries
from zelo.collections.protocol import Collection
from zelo.errors import InputError
from zelo.pipeline import Context, Outcome
from zelo.recipe import Ingest, Recipe
from zelo.types import Document


def external(recipe: Recipe) -> dict[str, str]:
    """Identify the collection: names, sizes and times of a folder's files; the interpreter and our files for built-in ones.

    "" if the folder is not there.
    """
    name = recipe.ingest.collection
    if name in BUILT_IN:
        package = Path(__file__).parent.parent / "collections"
        parts = [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(package.glob(f"*{name}*"))]
        parts += [platform.python_version(), hashlib.sha256((package / "_harvest.py").read_bytes()).hexdigest()]
    elif not Path(name).is_dir():
        return {"collection": ""}
    else:
        files = sorted(p for p in Path(name).rglob("*") if p.is_file())
        parts = [f"{p.relative_to(name)} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files]
    return {"collection": hashlib.sha256("\n".join(parts).encode()).hexdigest()}


def run(context: Context) -> Outcome:
    """Write corpus.jsonl, queries.jsonl, qrels/ and splits.tsv, everything checked."""
    settings = context.recipe.ingest
    collection = open_collection(settings.collection)
    doc_ids: set[str] = set()

    def counted() -> Iterator[Document]:
        advance = context.progress.task("reading documents")
        for number, document in enumerate(collection.documents(), 1):
            doc_ids.add(document.doc_id)
            advance(number, max(number, 1))
            yield document

    documents = write_corpus(context.write("corpus"), counted())
    queries = {q.query_id: q for q in collection.queries()}
    collection.check_qrels(queries, doc_ids)
    test_ids = _labeled(collection, settings.test_split)
    split_of, note = choose_questions(list(queries), test_ids, settings)
    written = write_queries(context.write("queries"), (q for q in queries.values() if q.query_id in split_of))
    context.write("qrels").mkdir()
    labels = 0
    if test_ids:
        rows = (r for r in collection.qrels(settings.test_split) if split_of.get(r.query_id) == "test")
        labels = write_qrels(context.write("qrels") / f"{settings.test_split}.tsv", rows)
    lines = ["query-id\tsplit", *(f"{q}\t{split_of[q]}" for q in queries if q in split_of)]
    context.write("splits").write_text("\n".join(lines) + "\n", "utf-8")
    notes = [note, *(f"{name.replace('_', ' ')}: {count:,}" for name, count in collection.notes.items())]
    return Outcome({"corpus": documents, "queries": written, "qrels": labels}, notes=tuple(notes))


def choose_questions(query_ids: Sequence[str], test_ids: set[str], settings: Ingest) -> tuple[dict[str, str], str]:
    """Decide which questions train and which are reported on.

    Questions labeled in the test split are reported on, all others train (their labels, if any, are not read). Where there
    are no others, half of the labeled ones train, without their labels, by a hash of their ids.

    Returns:
        query_id -> "train" or "test", for the questions that are used; and a line that says so.

    Raises:
        InputError: nothing to train on.
    """
    test = sorted(test_ids, key=_hash)
    train = sorted((q for q in query_ids if q not in test_ids), key=_hash)
    halved = not train
    if halved:
        train, test = test[: len(test) // 2], test[len(test) // 2 :]
    if not train:
        raise InputError(f"{len(query_ids)} question(s) are too few to train on one and report on another", where=settings.collection)
    train = train[: settings.max_train_queries or None]
    test = test[: settings.max_test_queries or None]
    note = f"{len(train):,} questions train without labels, {len(test):,} labeled ones are reported on"
    if halved:
        note += f" (all are labeled in {settings.test_split!r}: half of them, by a hash of their ids, train without their labels)"
    return {**dict.fromkeys(train, "train"), **dict.fromkeys(test, "test")}, note


def _labeled(collection: Collection, split: str) -> set[str]:
    if not collection.splits():
        return set()
    return {row.query_id for row in collection.qrels(split)}


def _hash(query_id: str) -> str:
    return hashlib.blake2b(query_id.encode(), digest_size=16).hexdigest()
