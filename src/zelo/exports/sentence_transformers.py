"""Parquet files that trainers of sentence-transformers take as they are: columns in the order in which its losses read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zelo.errors import InputError
from zelo.exports.card import Written
from zelo.exports.material import Labeled, Material

_LOSSES = {"list": "LambdaLoss, ListNetLoss, RankNetLoss", "pair": "BinaryCrossEntropyLoss, MSELoss", "triplet": "MarginMSELoss"}


def write(material: Material, folder: Path) -> Written:
    """Write list/, pair/ and triplet/, a file per split.

    `list` has query, docs, labels; `pair` query, document, label; both with targets in [0, 1]. `triplet` has query, positive, negative
    and label, the difference of their scores in logits.

    Raises:
        InputError: there is nothing to write.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.float64()
    schemas = {
        "list": pa.schema([("query", text), ("docs", pa.list_(text)), ("labels", pa.list_(number))]),
        "pair": pa.schema([("query", text), ("document", text), ("label", number)]),
        "triplet": pa.schema([("query", text), ("positive", text), ("negative", text), ("label", number)]),
    }
    rows: dict[str, int] = {}
    configs: dict[str, dict[str, str]] = {}
    for name, schema in schemas.items():
        (folder / name).mkdir()
        for split in material.splits:
            found = [row for question in material.of(split) for row in _ROWS[name](material, question)]
            if found:
                pq.write_table(pa.Table.from_pylist(found, schema), folder / name / f"{split}.parquet", compression="zstd")
                rows[f"{name}/{split}.parquet"] = len(found)
                configs.setdefault(name, {})[split] = f"{name}/{split}.parquet"
        if name not in configs:
            (folder / name).rmdir()
    if not configs:
        raise InputError(
            "no question has two scored documents", where=str(material.workspace.root), remedy="run the workspace on more documents"
        )
    about = tuple(f"`{name}`: for {_LOSSES[name]}" for name in configs)
    return Written(rows, configs, about)


def _list(material: Material, question: Labeled) -> Iterator[dict[str, Any]]:
    docs = [d.document.full_text for d in question.documents]
    yield {"query": question.text, "docs": docs, "labels": [d.target for d in question.documents]}


def _pair(material: Material, question: Labeled) -> Iterator[dict[str, Any]]:
    for found in question.documents:
        yield {"query": question.text, "document": found.document.full_text, "label": found.target}


def _triplet(material: Material, question: Labeled) -> Iterator[dict[str, Any]]:
    for good in question.positives(material.choice):
        for bad in question.hard_negatives(material.choice):
            texts = {"positive": good.document.full_text, "negative": bad.document.full_text}
            yield {"query": question.text, **texts, "label": good.logit - bad.logit}


_ROWS = {"list": _list, "pair": _pair, "triplet": _triplet}
