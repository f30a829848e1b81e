"""JSON Lines as Tevatron's retriever and reranker read them ("relevancy judged"), and the corpus to encode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from zelo.collections.beir import read_corpus
from zelo.collections.lines import json_line, write_lines
from zelo.exports.card import Written
from zelo.exports.material import Material, Scored, write_splits


def write(material: Material, folder: Path) -> Written:
    """Write <split>.jsonl: query_id, query, positive_passages, negative_passages; and corpus.jsonl: docid, title, text.

    Raises:
        InputError: no question has a positive and a negative.
    """
    rows, left_out = write_splits(material, folder, _lines)
    written = Written.of_jsonl(rows, left_out, material)
    corpus = read_corpus(material.workspace.path("corpus"))
    rows["corpus.jsonl"] = write_lines(
        folder / "corpus.jsonl", (json_line({"docid": d.doc_id, "title": d.title, "text": d.text}) for d in corpus)
    )
    return Written(rows, {**written.configs, "corpus": {"train": "corpus.jsonl"}}, written.about, written.notes)


def _lines(material: Material, split: str) -> Iterator[str]:
    for question in material.of(split):
        good, bad = question.positives(material.choice), question.hard_negatives(material.choice)
        if good and bad:
            passages = {"positive_passages": _passages(good), "negative_passages": _passages(bad)}
            yield json_line({"query_id": question.query_id, "query": question.text, **passages})


def _passages(found: Sequence[Scored]) -> list[dict[str, str]]:
    return [{"docid": d.document.doc_id, "title": d.document.title, "text": d.document.text} for d in found]
