"""A collection for a month of live traffic, made from a BEIR collection: what is searched for is known, and some of it is not ingested.

Queries of one split (never a test split) are divided by a hash: `train` ones are the workspace's, `fixed` ones its labeled questions,
`live` ones the traffic. Beside them are "new" topics: every document that is labeled for them is taken out of the corpus, and written
to `source.jsonl` only.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from zelo.collections.beir import BeirFolder, write_corpus, write_qrels, write_queries

SHARES = {"train": 0.4, "fixed": 0.1, "live": 0.375, "new": 0.125}


@dataclass(frozen=True)
class Traffic:
    """Live queries by kind ("live", "new"): words -> ids of the documents that answer them."""

    folder: Path
    answers: dict[str, dict[str, set[str]]]


def make(collection: Path, split: str, folder: Path) -> Traffic:
    """Write the collection into a folder unless it is there, and return the traffic."""
    source = BeirFolder(collection)
    labels: dict[str, dict[str, float]] = {}
    for row in source.qrels(split):
        if row.relevance > 0:
            labels.setdefault(row.query_id, {})[row.doc_id] = row.relevance
    texts = {q.query_id: q for q in source.queries() if q.query_id in labels}
    kinds = {query_id: _kind(query_id) for query_id in texts}
    gone = {d for q, kind in kinds.items() if kind == "new" for d in labels[q]}
    # A query of another kind whose answer went away is of no kind: it would fail from the first day.
    kinds = {q: kind for q, kind in kinds.items() if kind == "new" or not gone & set(labels[q])}
    if not (folder / "source.jsonl").is_file():
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
        write_corpus(folder / "corpus.jsonl", (d for d in source.documents() if d.doc_id not in gone))
        write_queries(folder / "queries.jsonl", (texts[q] for q, kind in kinds.items() if kind in ("train", "fixed")))
        write_qrels(folder / "qrels" / "test.tsv", (r for r in source.qrels(split) if kinds.get(r.query_id) == "fixed"))
        write_corpus(folder / "source.jsonl", source.documents())
        (folder / "kinds.json").write_text(json.dumps(kinds), "utf-8")
    found = {kind: {texts[q].text: set(labels[q]) for q, k in kinds.items() if k == kind} for kind in ("live", "new")}
    return Traffic(folder, found)


def _kind(query_id: str) -> str:
    place = int.from_bytes(hashlib.blake2b(f"watch {query_id}".encode(), digest_size=8).digest(), "big") / 2**64
    for kind, share in SHARES.items():
        if place < share:
            return kind
        place -= share
    return "live"
