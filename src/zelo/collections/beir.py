"""Collections in the layout of BEIR: read line by line, checked, and written.

    corpus.jsonl       {"_id", "title" (optional), "text"}
    queries.jsonl      {"_id", "text"}
    qrels/<split>.tsv  query-id <TAB> corpus-id <TAB> score, with a header line; the folder may be absent

Each file may also be packed (`.gz`). Other keys and other files, such as meta.json, are ignored.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

from zelo.collections.labels import check_known, finite_number, numbered_qrels, qrel_line
from zelo.collections.lines import MAX_CHARACTERS, check_id, id_field, json_line, json_objects, text_field, write_lines
from zelo.collections.protocol import Collection
from zelo.errors import InputError
from zelo.types import Document, Qrel, Query

_HEADER = ("query-id", "corpus-id", "score")
_HEADER_STARTS = frozenset({"query-id", "query_id", "queryid", "qid"})


def read_corpus(path: Path, max_characters: int = MAX_CHARACTERS) -> Iterator[Document]:
    """Yield the documents of a `corpus.jsonl`.

    A document without any text is allowed: real corpora hold some (Cranfield has one), their labels refer to it,
    and a system that ranks it low does right.

    Args:
        path: the file, plain or `.gz`.
        max_characters: the longest title and text together; encoders read some hundred words, so more is a mistake.

    Raises:
        InputError: the file is absent, empty or has a bad line; names file and line.
    """
    first_lines: dict[str, int] = {}
    for number, row in json_objects(path):
        where = f"{path}:{number}"
        doc_id = id_field(row, where, first_lines, number)
        text = text_field(row, "text", where)
        title = text_field(row, "title", where, default="")
        _check_size("document", doc_id, len(title) + len(text), max_characters, where)
        yield Document(doc_id, text, title)
    if not first_lines:
        raise InputError("the corpus is empty", where=str(path), remedy='add lines {"_id": ..., "title": ..., "text": ...}')


def read_queries(path: Path, max_characters: int = MAX_CHARACTERS) -> Iterator[Query]:
    """Yield the queries of a `queries.jsonl`.

    Args:
        path: the file, plain or `.gz`.
        max_characters: the longest query.

    Raises:
        InputError: the file is absent, empty or has a bad line or a query without text; names file and line.
    """
    first_lines: dict[str, int] = {}
    for number, row in json_objects(path):
        where = f"{path}:{number}"
        query_id = id_field(row, where, first_lines, number)
        text = text_field(row, "text", where)
        if not text or text.isspace():
            raise InputError(f"query {query_id!r} has no text", where=where, remedy="remove the query, or write its text")
        _check_size("query", query_id, len(text), max_characters, where)
        yield Query(query_id, text)
    if not first_lines:
        raise InputError("there are no queries", where=str(path), remedy='add lines {"_id": ..., "text": ...}')


def _check_size(kind: str, row_id: str, size: int, limit: int, where: str) -> None:
    if size > limit:
        what = f"{kind} {row_id!r} has {size:,} characters, more than {limit:,}"
        raise InputError(what, where=where, remedy="split it into passages" if kind == "document" else "shorten it")


def _split_tsv(line: str, where: str, is_first: bool) -> tuple[str, str, str] | None:
    columns = line.split("\t")
    if len(columns) != 3:
        what = f"{len(columns)} columns where 3 are expected"
        raise InputError(what, where=where, remedy="write query-id, corpus-id and score, separated by tabs")
    query_id, doc_id, relevance = columns
    # Only a line that cannot be a label is a header; a file without one loses no line.
    if is_first and query_id.lower() in _HEADER_STARTS and finite_number(relevance) is None:
        return None
    return query_id, doc_id, relevance


def read_qrels(path: Path) -> Iterator[Qrel]:
    """Yield the labels of a `qrels/<split>.tsv`.

    Raises:
        InputError: see `labels.numbered_qrels`.
    """
    for _, qrel in numbered_qrels(path, _split_tsv):
        yield qrel


class BeirFolder:
    """A collection in a folder with the layout of BEIR."""

    def __init__(self, folder: Path, max_characters: int = MAX_CHARACTERS) -> None:
        """Look at what is in the folder; nothing is read yet.

        Args:
            folder: holds corpus.jsonl, queries.jsonl and perhaps qrels/.
            max_characters: the longest document or query that is accepted.

        Raises:
            InputError: the folder, its corpus or its queries are absent; names what is there.
        """
        self._folder = folder
        self._max_characters = max_characters
        self._notes: dict[str, int] = {}
        if not folder.is_dir():
            what = "this is a file, not a folder" if folder.exists() else "no such folder"
            raise InputError(what, where=str(folder), remedy="give a folder that holds corpus.jsonl and queries.jsonl")
        self._corpus = self._require("corpus.jsonl")
        self._queries = self._require("queries.jsonl")
        self._qrels: dict[str, Path] = {}
        for suffix in (".tsv.gz", ".tsv"):  # plain last: it wins where both exist, as for the corpus
            self._qrels |= {path.name.removesuffix(suffix): path for path in folder.glob(f"qrels/*{suffix}")}

    def _require(self, file_name: str) -> Path:
        for path in (self._folder / file_name, self._folder / f"{file_name}.gz"):
            if path.is_file():
                return path
        entries = sorted(p.name + "/" * p.is_dir() for p in self._folder.iterdir())
        listed = ", ".join(entries[:8]) + (f" and {len(entries) - 8} more" if len(entries) > 8 else "")
        remedy = f"the folder holds {listed}" if entries else "the folder is empty"
        raise InputError(f"no {file_name} in this folder", where=str(self._folder), remedy=remedy)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self._folder.resolve().name

    @property
    def notes(self) -> Mapping[str, int]:
        """`empty_documents`: documents with neither title nor text."""
        return self._notes

    def documents(self) -> Iterator[Document]:
        """Yield the corpus; see `read_corpus`."""
        empty = 0
        for document in read_corpus(self._corpus, self._max_characters):
            empty += not document.full_text.strip()
            yield document
        if empty:
            self._notes["empty_documents"] = empty

    def queries(self) -> Iterator[Query]:
        """Yield all queries; see `read_queries`."""
        return read_queries(self._queries, self._max_characters)

    def splits(self) -> tuple[str, ...]:
        """Return the sorted names of the files in `qrels/`."""
        return tuple(sorted(self._qrels))

    def qrels(self, split: str) -> Iterator[Qrel]:
        """Yield the labels of a split; see `read_qrels`."""
        if split not in self._qrels:
            remedy = f"there are: {', '.join(self.splits())}" if self._qrels else f"put labels into qrels/{split}.tsv"
            raise InputError(f"no labels for the split {split!r}", where=str(self._folder), remedy=remedy)
        return read_qrels(self._qrels[split])

    def check_qrels(self, query_ids: Container[str], doc_ids: Container[str]) -> None:
        """Check that all labels name known ids; see `labels.check_known`."""
        for split in self.splits():
            path = self._qrels[split]
            check_known(str(path), numbered_qrels(path, _split_tsv), query_ids, doc_ids)


def write_corpus(target: Path | TextIO, documents: Iterable[Document]) -> int:
    """Write documents as `corpus.jsonl` and return how many; the same documents always give the same bytes."""
    rows = ({"_id": check_id(d.doc_id, "document to write"), "title": d.title, "text": d.text} for d in documents)
    return write_lines(target, map(json_line, rows))


def write_queries(target: Path | TextIO, queries: Iterable[Query]) -> int:
    """Write queries as `queries.jsonl` and return how many; the same queries always give the same bytes."""
    rows = ({"_id": check_id(q.query_id, "query to write"), "text": q.text} for q in queries)
    return write_lines(target, map(json_line, rows))


def write_qrels(target: Path | TextIO, qrels: Iterable[Qrel]) -> int:
    """Write labels as `qrels/<split>.tsv` with a header and return how many; the same labels always give the same bytes."""
    return write_lines(target, (qrel_line(q, "{}\t{}\t{}\n") for q in qrels), header="\t".join(_HEADER) + "\n")


def write_beir(collection: Collection, folder: Path) -> None:
    """Write any collection as a new BEIR folder, all of it or nothing.

    Raises:
        InputError: the folder exists already or cannot be written, or the collection has a fault.
    """
    if folder.exists():
        raise InputError("this exists already", where=str(folder), remedy="remove it, or give another name")
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    try:
        (partial / "qrels").mkdir(parents=True)
        write_corpus(partial / "corpus.jsonl", collection.documents())
        write_queries(partial / "queries.jsonl", collection.queries())
        for split in collection.splits():
            write_qrels(partial / "qrels" / f"{split}.tsv", collection.qrels(split))
        partial.rename(folder)
    except OSError as error:
        what = f"cannot be written ({error.strerror or error})"
        raise InputError(what, where=str(folder), remedy="check free space and permissions") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
