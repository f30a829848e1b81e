"""JSON Lines as FlagEmbedding's trainers of rerankers and embedders read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zelo.collections.lines import json_line
from zelo.exports.card import Written
from zelo.exports.material import Material, write_splits


def write(material: Material, folder: Path) -> Written:
    """Write <split>.jsonl: query, pos, neg, pos_scores, neg_scores. Questions without a positive or a negative are left out.

    The scores are for `--knowledge_distillation True`, whose loss takes a softmax of them: they are in logits, not in [0, 1].

    Raises:
        InputError: no question has both.
    """
    rows, left_out = write_splits(material, folder, _lines)
    return Written.of_jsonl(rows, left_out, material)


def _lines(material: Material, split: str) -> Iterator[str]:
    for question in material.of(split):
        good, bad = question.positives(material.choice), question.hard_negatives(material.choice)
        if good and bad:
            row = {"query": question.text, "pos": [d.document.full_text for d in good], "neg": [d.document.full_text for d in bad]}
            scores = {"pos_scores": [round(d.logit, 6) for d in good], "neg_scores": [round(d.logit, 6) for d in bad]}
            yield json_line({**row, **scores})
