"""A BEIR folder with graded labels made from the scores: a test collection for every tool that knows the layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from zelo.collections.beir import read_corpus, write_corpus, write_qrels, write_queries
from zelo.collections.lines import json_line, write_lines
from zelo.exports.card import Written
from zelo.exports.material import Labeled, Material
from zelo.types import Qrel, Query


def write(material: Material, folder: Path) -> Written:
    """Write corpus.jsonl, queries.jsonl and qrels/<split>.tsv; grade 0 is a judged document that is not relevant.

    The same labels lie in qrels/<split>.jsonl: the library datasets reads all files of a folder as one kind.
    """
    (folder / "qrels").mkdir()
    rows = {"corpus.jsonl": write_corpus(folder / "corpus.jsonl", read_corpus(material.workspace.path("corpus")))}
    rows["queries.jsonl"] = write_queries(folder / "queries.jsonl", (Query(q.query_id, q.text) for q in material.questions))
    configs = {"corpus": {"corpus": "corpus.jsonl"}, "queries": {"queries": "queries.jsonl"}}
    counts = [0] * (material.choice.grades + 1)
    for split in material.splits:
        labels = [row for question in material.of(split) for row in _qrels(question, material.choice.grades)]
        for row in labels:
            counts[int(row.relevance)] += 1
        rows[f"qrels/{split}.tsv"] = write_qrels(folder / "qrels" / f"{split}.tsv", labels)
        rows[f"qrels/{split}.jsonl"] = write_lines(folder / "qrels" / f"{split}.jsonl", _json_rows(labels))
        configs.setdefault("qrels", {})[split] = f"qrels/{split}.jsonl"
    steps = ", ".join(f"{grade} from {grade / (material.choice.grades + 1):.2f}" for grade in range(1, material.choice.grades + 1))
    listed = ", ".join(f"{count:,} of grade {grade}" for grade, count in enumerate(counts))
    return Written(rows, configs, (f"Grades are steps of the targets: {steps}. There are {listed}.",))


def grade(target: float, grades: int) -> int:
    """Return the grade 0 .. grades of a target in [0, 1]: equal steps."""
    return min(int(target * (grades + 1)), grades)


def _json_rows(labels: Sequence[Qrel]) -> Iterator[str]:
    return (json_line({"query-id": q.query_id, "corpus-id": q.doc_id, "score": int(q.relevance)}) for q in labels)


def _qrels(question: Labeled, grades: int) -> Iterator[Qrel]:
    return (Qrel(question.query_id, d.document.doc_id, grade(d.target, grades)) for d in question.documents)
