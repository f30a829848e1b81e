"""A built-in collection: the docstrings of the running interpreter's standard library, with questions of our own.

Nothing is downloaded: about 5,000 documents are harvested on the spot. Their ids are the names a programmer knows
(`str.split`, `os.path.join`). They differ a little between Python versions, so labels of documents that this one
lacks are dropped and counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from zelo.collections.labels import check_known
from zelo.collections.lines import id_field, json_objects, shown, text_field
from zelo.errors import InputError
from zelo.types import Document, Qrel, Query

QUESTIONS = Path(__file__).with_name("python_docs_questions.jsonl")
LABELED_SPLITS = ("dev", "test")
UNLABELED_SPLIT = "train"
_HARVEST = Path(__file__).with_name("_harvest.py")


@dataclass(frozen=True, slots=True)
class _Question:
    query_id: str
    split: str
    text: str
    labels: dict[str, int]  # doc_id -> grade 1 (related) to 3 (the answer)


def harvest(python: str = sys.executable, timeout: float = 120.0) -> list[Document]:
    """Return the docstrings of an interpreter's standard library, sorted by id.

    Args:
        python: path of the interpreter, 3.11 or later; it runs in isolated mode, in a process of its own.
        timeout: seconds to wait; a second or two is usual.

    Raises:
        InputError: the interpreter does not start, fails, takes too long, or finds nothing.
    """
    where, remedy = "python_docs", "run zelo with a complete CPython 3.11 or later, or use another collection"
    # -I and -S: no environment and no installed packages, some of which replace parts of the standard library
    command = [python, "-I", "-S", "-W", "ignore", str(_HARVEST)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        what = f"reading the docstrings took over {timeout:g} s"
        raise InputError(what, where=where, remedy="try again when the machine is less busy") from None
    except OSError as error:
        raise InputError(f"cannot start the interpreter {python!r} ({error.strerror})", where=where, remedy=remedy) from None
    if done.returncode != 0:
        last_words = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise InputError(f"reading the docstrings failed with code {done.returncode} ({last_words[0]})", where=where, remedy=remedy)
    rows = (json.loads(line) for line in done.stdout.splitlines())
    documents = [Document(row["_id"], row["text"], row["title"]) for row in rows]
    if not documents:
        raise InputError("the standard library has no docstrings", where=where, remedy="do not strip them (python -OO)")
    return documents


class PythonDocs:
    """Docstrings of the standard library; test and dev questions with graded labels, train questions without."""

    name = "python_docs"

    def __init__(self, questions: Path = QUESTIONS) -> None:
        """Name the questions; nothing is read or harvested yet.

        Args:
            questions: JSON Lines {"_id", "split", "text", "labels": {doc_id: grade 1 to 3}}; default: those that come with zelo.
        """
        self._questions_path = questions

    @cached_property
    def _documents(self) -> dict[str, Document]:
        return {document.doc_id: document for document in harvest()}

    @cached_property
    def _written(self) -> list[_Question]:
        first_lines: dict[str, int] = {}
        path = self._questions_path
        questions = [_question(row, f"{path}:{number}", first_lines, number) for number, row in json_objects(path)]
        if not questions:
            raise InputError("there are no questions", where=str(path), remedy="install zelo again")
        return questions

    @cached_property
    def _kept(self) -> list[_Question]:
        """The questions with the labels that this Python has documents for; a labeled one that loses all of them is left out."""
        kept = []
        for question in self._written:
            labels = {doc_id: grade for doc_id, grade in question.labels.items() if doc_id in self._documents}
            if labels or question.split == UNLABELED_SPLIT:
                kept.append(_Question(question.query_id, question.split, question.text, labels))
        return kept

    @property
    def notes(self) -> Mapping[str, int]:
        """`labels_dropped`: this Python lacks their document; `questions_dropped`: no label is left."""
        counts = {
            "labels_dropped": sum(len(q.labels) for q in self._written) - sum(len(q.labels) for q in self._kept),
            "questions_dropped": len(self._written) - len(self._kept),
        }
        return {key: count for key, count in counts.items() if count}

    def documents(self) -> Iterator[Document]:
        """Yield one document per distinct docstring, sorted by id."""
        yield from self._documents.values()

    def queries(self) -> Iterator[Query]:
        """Yield the questions in the order of the file."""
        for question in self._kept:
            yield Query(question.query_id, question.text)

    def splits(self) -> tuple[str, ...]:
        """Return the labeled splits; the train questions are the queries in none of them."""
        present = {question.split for question in self._kept}
        return tuple(split for split in LABELED_SPLITS if split in present)

    def qrels(self, split: str) -> Iterator[Qrel]:
        """Yield the labels of a split: 3 = the answer, 2 = also solves it, 1 = related."""
        if split not in self.splits():
            remedy = f"there are: {', '.join(self.splits())}"
            raise InputError(f"no labels for the split {split!r}", where=self.name, remedy=remedy)
        return (Qrel(q.query_id, doc_id, grade) for q in self._kept if q.split == split for doc_id, grade in q.labels.items())

    def check_qrels(self, query_ids: Container[str], doc_ids: Container[str]) -> None:
        """Check that all labels name known ids; see `labels.check_known`."""
        for split in self.splits():
            check_known(f"{self.name}/{split}", enumerate(self.qrels(split), start=1), query_ids, doc_ids)


def _question(row: dict[str, object], where: str, first_lines: dict[str, int], number: int) -> _Question:
    query_id = id_field(row, where, first_lines, number)
    text = text_field(row, "text", where)
    if not text.strip():
        raise InputError(f"question {query_id!r} has no text", where=where, remedy="write its text")
    split = row.get("split")
    if split != UNLABELED_SPLIT and split not in LABELED_SPLITS:
        raise InputError(f"unknown split {shown(split)}", where=where, remedy=f"use {', '.join(LABELED_SPLITS)} or {UNLABELED_SPLIT}")
    labels = row.get("labels", {})
    if not isinstance(labels, dict) or any(type(grade) is not int or not 1 <= grade <= 3 for grade in labels.values()):
        raise InputError("labels must map document ids to grades 1, 2 or 3", where=where, remedy='write {"str.split": 3}')
    if bool(labels) == (split == UNLABELED_SPLIT):
        what = f"a {split} question {'with' if labels else 'without'} labels"
        raise InputError(what, where=where, remedy="test and dev questions have labels, train questions have none")
    return _Question(query_id, str(split), text, labels)
