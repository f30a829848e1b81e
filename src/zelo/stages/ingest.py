"""ingest: copy the collection into the workspace and choose which questions train and which are reported on."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from zelo.collections import BUILT_IN, Reading, open_collection
from zelo.collections.beir import write_corpus, write_qrels, write_queries
from zelo.collections.protocol import Collection
from zelo.collections.walking import find_files
from zelo.errors import InputError
from zelo.pipeline import Context, Outcome
from zelo.recipe import Ingest, Recipe
from zelo.stages import gather
from zelo.types import Document, Query


def external(recipe: Recipe) -> dict[str, str]:
    """Identify the collection: names, sizes and times of a folder's files; the interpreter and our files for built-in ones.

    "" if the folder is not there. In a benchmark also the systems' runs, whose questions are the ones that are asked.
    """
    found = {"collection": _identity(recipe.ingest.collection)}
    if recipe.ingest.queries:
        found["queries file"] = _identity(recipe.ingest.queries)
    return found | (gather.external(recipe) if recipe.line == "benchmark" else {})


def open_ingest(settings: Ingest) -> Collection:
    """Open what the recipe's section names.

    Raises:
        InputError: it is not there, or there are no queries.
    """
    reading = Reading(
        settings.queries,
        settings.query_column,
        settings.split,
        settings.passage_characters,
        settings.text_column,
        settings.id_column,
        round(settings.max_megabytes * 1e6),
        settings.unreadable == "skip",
    )
    return open_collection(settings.collection, reading)


def _identity(name: str) -> str:
    if name in BUILT_IN:
        package = Path(__file__).parent.parent / "collections"
        parts = [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(package.glob(f"*{name}*"))]
        parts += [platform.python_version(), hashlib.sha256((package / "_harvest.py").read_bytes()).hexdigest()]
    elif not Path(name).exists():
        return ""
    else:
        files = find_files(Path(name)).found
        parts = [f"{relative} {path.stat().st_size} {path.stat().st_mtime_ns}" for path, relative in files]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()  # names need not be UTF-8


def run(context: Context) -> Outcome:
    """Write corpus.jsonl, queries.jsonl, qrels/ and splits.tsv, everything checked."""
    settings = context.recipe.ingest
    collection = open_ingest(settings)
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
    benchmark = context.recipe.line == "benchmark"
    test_ids = set[str]() if benchmark else _labeled(collection, settings.test_split)
    texts = {q.query_id: _words(q.text) for q in queries.values()}
    split_of, note = _answered(queries, context.recipe) if benchmark else choose_questions(list(queries), test_ids, settings, texts)
    written = write_queries(context.write("queries"), (q for q in queries.values() if q.query_id in split_of))
    context.write("qrels").mkdir()
    labels = 0
    if test_ids:
        rows = (r for r in collection.qrels(settings.test_split) if split_of.get(r.query_id) == "test")
        labels = write_qrels(context.write("qrels") / f"{settings.test_split}.tsv", rows)
    lines = ["query-id\tsplit", *(f"{q}\t{split_of[q]}" for q in queries if q in split_of)]
    context.write("splits").write_text("\n".join(lines) + "\n", "utf-8")
    notes = [
        note,
        *(f"{name.replace('_', ' ')}: {count:,}" for name, count in collection.notes.items()),
        *getattr(collection, "remarks", ()),
    ]
    return Outcome({"corpus": documents, "queries": written, "qrels": labels}, notes=tuple(notes))


def _words(text: str) -> str:
    return " ".join(text.casefold().split())


def choose_questions(
    query_ids: Sequence[str], test_ids: set[str], settings: Ingest, texts: Mapping[str, str] | None = None
) -> tuple[dict[str, str], str]:
    """Decide which questions train and which are reported on.

    Questions labeled in the test split are reported on, all others train (their labels, if any, are not read). Where there
    are no others, half of the labeled ones train, without their labels, by a hash of their ids.

    Args:
        query_ids: all questions.
        test_ids: those that are labeled in the test split.
        settings: the recipe's section.
        texts: query_id -> its words. A question that asks the same as one that is reported on does not train.

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
    asked = {texts[q] for q in test} if texts else set()
    apart = [q for q in train if texts is None or texts[q] not in asked]
    left_out = len(train) - len(apart)
    if not apart:
        what = "every question that could train asks the same as one that is reported on"
        raise InputError(what, where=settings.collection, remedy="give further questions")
    train = apart[: settings.max_train_queries or None]
    test = test[: settings.max_test_queries or None]
    note = f"{len(train):,} questions train without labels, {len(test):,} labeled ones are reported on"
    if halved:
        note += f" (all are labeled in {settings.test_split!r}: half of them, by a hash of their ids, train without their labels)"
    if left_out:
        note += f"; {left_out:,} that ask the same as one of those do not train"
    return {**dict.fromkeys(train, "train"), **dict.fromkeys(test, "test")}, note


def _answered(queries: Mapping[str, Query], recipe: Recipe) -> tuple[dict[str, str], str]:
    """The questions of a benchmark: those that a system answered, at most so many; and a line that says so."""
    runs = gather.read_systems(recipe.benchmark.systems)
    asked = {query_id: None for rankings in runs.values() for query_id in rankings}
    known = [query_id for query_id in queries if query_id in asked]
    if not known:
        what = f"no system answers any of the {len(queries):,} questions: the runs have ids like {next(iter(asked), '')!r}"
        some = next(iter(queries), "")
        raise InputError(what, where=recipe.ingest.collection, remedy=f"the questions have ids like {some!r}; write those into the runs")
    chosen = set(sorted(known, key=_hash)[: recipe.ingest.max_train_queries or None])
    note = f"{len(chosen):,} of the {len(queries):,} questions are judged"
    if len(known) < len(queries):
        note += f"; {len(queries) - len(known):,} are in no run"
    if len(chosen) < len(known):
        note += f"; {len(known) - len(chosen):,} are beyond ingest.max_train_queries"
    unknown = len(asked) - len(known)
    return {q: "train" for q in known if q in chosen}, note + (f"; {unknown:,} that the runs answer are not among them" if unknown else "")


def _labeled(collection: Collection, split: str) -> set[str]:
    if not collection.splits():
        return set()
    return {row.query_id for row in collection.qrels(split)}


def _hash(query_id: str) -> str:
    return hashlib.blake2b(query_id.encode(), digest_size=16).hexdigest()
