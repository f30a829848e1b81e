"""What the page shows of a workspace: its questions, their candidates, and what the judges said about each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from zelo.collections.beir import read_corpus
from zelo.collections.trec import read_run
from zelo.pipeline import Context
from zelo.report.measured import read_labels
from zelo.stages import inputs
from zelo.types import Document

SHOWN = 20
"""Questions that a search returns."""


class WorkspaceView:
    """Reads a workspace whose line ran at least up to `retrieve`; what later stages left is shown where it is there."""

    def __init__(self, context: Context) -> None:
        """Read questions, texts and candidates."""
        self._context = context
        self._queries = inputs.queries(context)
        self._split = inputs.splits(context.read("splits"))
        self._documents = {d.doc_id: d for d in read_corpus(context.read("corpus"))}
        depth = context.recipe.rank.depth
        run = read_run(context.read("candidates") / "fused.trec")
        self._candidates = {q: [d.doc_id for d in ranking[:depth]] for q, ranking in run.items()}

    @cached_property
    def _labels(self) -> Mapping[str, Mapping[str, float]]:
        split = self._context.recipe.ingest.test_split
        return read_labels(self._context.read("qrels") / f"{split}.tsv", self._split)

    def queries(self, words: str = "") -> dict[str, Any]:
        """Return how many questions hold all the words, and the first of them, test questions first."""
        wanted = words.casefold().split()
        found = [q for q, text in self._queries.items() if q in self._candidates and all(w in text.casefold() for w in wanted)]
        found.sort(key=lambda q: self._split.get(q) != "test")
        rows = [{"query_id": q, "text": self._queries[q], "split": self._split.get(q, "")} for q in found[:SHOWN]]
        return {"total": len(found), "queries": rows}

    def query(self, query_id: str) -> dict[str, Any] | None:
        """Return a question with its candidates in the order of the first stage; None if there is no such question."""
        if query_id not in self._candidates:
            return None
        scores, judges, said = self._scores(query_id), *self._records(query_id)
        labels = self._labels.get(query_id, {})
        documents = []
        for doc_id in self._candidates[query_id]:
            document = self._documents.get(doc_id) or Document(doc_id, "")
            score, stderr = scores.get(doc_id, (None, None))
            documents.append(
                {"doc_id": doc_id, "title": document.title, "text": document.text, "full_text": document.full_text}
                | {"label": labels.get(doc_id), "score": score, "stderr": stderr, "records": said.get(doc_id, [])}
            )
        return {
            "query_id": query_id,
            "text": self._queries[query_id],
            "split": self._split.get(query_id, ""),
            "labeled": query_id in self._labels,
            "judges": judges,
            "documents": documents,
        }

    def comparisons(self, query_id: str, doc_id: str) -> dict[str, Any]:
        """Return every comparison of a document: the other one, each judge's preference (> 0 for this document) and its reasons."""
        found: dict[str, dict[str, Any]] = {}
        for row in self._judgments(query_id):
            if doc_id not in (row["doc_id_a"], row["doc_id_b"]):
                continue
            first = row["doc_id_a"] == doc_id
            other = row["doc_id_b"] if first else row["doc_id_a"]
            value = row["preference"]
            signed = None if value is None else value if first else -value
            document = self._documents.get(other) or Document(other, "")
            against = found.setdefault(other, {"doc_id": other, "title": document.title or document.text[:120], "said": []})
            against["said"].append({"judge": row["judge"], "preference": signed, "reasoning": row["reasoning"] or ""})
        return {"doc_id": doc_id, "comparisons": list(found.values())}

    def _scores(self, query_id: str) -> dict[str, tuple[float, float]]:
        rows = _rows(self._context.read("scores"), query_id, ("doc_id", "score", "stderr"))
        return {row["doc_id"]: (float(row["score"]), float(row["stderr"])) for row in rows}

    def _records(self, query_id: str) -> tuple[list[str], dict[str, list[list[int]]]]:
        """Return the judges, and per document how many comparisons each of them let it win, tie and lose."""
        judgments = self._judgments(query_id)
        judges = list(dict.fromkeys(row["judge"] for row in judgments))
        said: dict[str, list[list[int]]] = {}
        for row in judgments:
            if row["preference"] is not None:
                outcome = (row["preference"] <= 0) + (row["preference"] < 0)  # 0 won, 1 tied, 2 lost, for document a
                for doc_id, column in ((row["doc_id_a"], outcome), (row["doc_id_b"], 2 - outcome)):
                    records = said.setdefault(doc_id, [[0, 0, 0] for _ in judges])
                    records[judges.index(row["judge"])][column] += 1
        return judges, said

    def _judgments(self, query_id: str) -> list[dict[str, Any]]:
        return _rows(self._context.read("judgments"), query_id, ("judge", "doc_id_a", "doc_id_b", "preference", "reasoning"))


def _rows(path: Path, query_id: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of one question; the others stay on disk."""
    import pyarrow.parquet as pq

    if not path.exists():
        return []
    found: list[dict[str, Any]] = pq.read_table(path, columns=list(columns), filters=[("query_id", "==", query_id)]).to_pylist()
    return found
