"""A made-up workspace as the stages before `evaluate` leave it, in a fraction of a second: for tests of `evaluate` and `report`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from zelo.artifacts import write_table
from zelo.collections.beir import write_corpus, write_qrels, write_queries
from zelo.collections.trec import write_run
from zelo.core.comparison_graph import graph_stats, hamiltonian_cycles
from zelo.pipeline import Context
from zelo.progress import Silent
from zelo.recipe import from_dict
from zelo.types import Document, Qrel, Query, ScoredDoc
from zelo.workspace import Workspace

JUDGES = {"lexical": 1.6, "dense": 1.0, "late_interaction": 0.6}
"""Name -> noise: the larger, the worse."""

_WORDS = ("open", "read", "write", "file", "path", "list", "sort", "merge", "count", "parse", "zone", "socket", "lock", "queue", "tree")


class Fabricated:
    """A workspace with known truth. `truth[query, candidate]` is what labels and judges follow."""

    def __init__(
        self,
        root: Path,
        *,
        train: int = 6,
        test: int = 12,
        candidates: int = 24,
        labels: bool = True,
        judges_ranking: bool = True,
        hostile: str = "",
        student_noise: float = 0.5,
        settings: dict[str, object] | None = None,
        seed: int = 0,
    ) -> None:
        """Write every artifact that `evaluate` and `report` read, except what they write themselves."""
        self.rng = np.random.default_rng(seed)
        recipe = from_dict({"ingest": {"collection": "made_up"}, "evaluate": {"resamples": 300}, **(settings or {})}, where="test")
        self.workspace = Workspace.create(root, recipe)
        self.queries = [f"q{i:03d}" for i in range(train + test)]
        self.test = self.queries[train:]
        self.documents = [Document(f"d{i:04d}", f"{self._words(40)} {hostile}".strip(), self._words(3)) for i in range(candidates * 3)]
        self.candidates = {
            q: [f"d{i:04d}" for i in sorted(self.rng.permutation(candidates * 3)[:candidates].tolist())] for q in self.queries
        }
        self.truth = {q: self.rng.normal(size=candidates) for q in self.queries}
        self._collection(labels, hostile)
        self._rankings(judges_ranking, student_noise)
        self._judgments()

    def context(self, out: Path | None = None) -> Context:
        """Return a context whose output is the workspace itself, or another folder."""
        return Context(self.workspace, self.workspace.recipe, out or self.workspace.root, Silent())

    def _words(self, number: int) -> str:
        return " ".join(self.rng.choice(_WORDS, number).tolist())

    def _collection(self, labels: bool, hostile: str) -> None:
        root = self.workspace.root
        write_corpus(root / "corpus.jsonl", self.documents)
        write_queries(root / "queries.jsonl", [Query(q, f"how do I {self._words(4)} {hostile}".strip()) for q in self.queries])
        lines = [f"{q}\t{'test' if q in self.test else 'train'}" for q in self.queries]
        (root / "splits.tsv").write_text("\n".join(["query-id\tsplit", *lines]) + "\n", "utf-8")
        (root / "qrels").mkdir()
        if labels:
            rows = []
            for q in self.test:
                best = np.argsort(-self.truth[q])[:6]
                rows += [Qrel(q, self.candidates[q][i], (3, 2, 1, 1, 0, 0)[n]) for n, i in enumerate(best.tolist())]
            write_qrels(root / "qrels" / "test.tsv", rows)

    def _rankings(self, judges_ranking: bool, student_noise: float) -> None:
        noises = {"candidates/bm25": 2.0, "candidates/dense": 1.0, "candidates/fused": 1.2, "rankings/pointwise": student_noise}
        if judges_ranking:
            noises["rankings/judges"] = 0.4
        for name, noise in noises.items():
            path = self.workspace.root / f"{name}.trec"
            path.parent.mkdir(exist_ok=True)
            queries = self.queries if name.startswith("candidates") else self.test
            write_run(path, [self._ranking(q, noise) for q in queries], tag=path.stem)

    def _ranking(self, query_id: str, noise: float) -> list[ScoredDoc]:
        scores = self.truth[query_id] + noise * self.rng.normal(size=len(self.truth[query_id]))
        return [ScoredDoc(query_id, self.candidates[query_id][i], float(scores[i])) for i in np.argsort(-scores)]

    def _judgments(self) -> None:
        root = self.workspace.root
        graphs: dict[str, list[object]] = {}
        rows: list[tuple[object, ...]] = []
        scores: list[tuple[object, ...]] = []
        for q in self.queries:
            edges = hamiltonian_cycles(len(self.candidates[q]), 8, self.rng)
            stats = graph_stats(len(self.candidates[q]), edges)
            for name in ("query_id", *stats.__dataclass_fields__):
                graphs.setdefault(name, []).append(q if name == "query_id" else getattr(stats, name))
            for judge, noise in JUDGES.items():
                rows += [self._judgment(q, judge, noise, *sorted(edge)) for edge in edges.tolist()]
            noisy = self.truth[q] + 0.3 * self.rng.normal(size=len(self.truth[q]))
            noisy -= noisy.mean()
            scores += [(q, d, s, 0.2 + 0.1 * self.rng.random(), 8, "probit") for d, s in zip(self.candidates[q], noisy, strict=True)]
        write_table(root / "pairs/graphs.parquet", "graphs", graphs)
        names = ("query_id", "doc_id_a", "doc_id_b", "judge", "preference", "shown_first", "status", "reasoning", "prompt_id")
        judgments = dict(zip(names, zip(*rows, strict=True), strict=True))
        rest: dict[str, list[object]] = {name: [0] * len(rows) for name in ("input_tokens", "output_tokens", "cost", "seconds")}
        rest |= {name: [""] * len(rows) for name in ("note", "flags")} | {"given": list(judgments["preference"])}
        write_table(root / "judgments/ensemble.parquet", "judgments", {**judgments, **rest})
        columns = dict(zip(("query_id", "doc_id", "score", "stderr", "degree", "link"), zip(*scores, strict=True), strict=True))
        write_table(root / "scores.parquet", "scores", columns)
        target = 1 / (1 + np.exp(3 - 2 * np.array(columns["score"], dtype=float)))
        write_table(root / "targets.parquet", "targets", {"query_id": columns["query_id"], "doc_id": columns["doc_id"], "target": target})
        self._about_judges(len(rows) // len(JUDGES))

    def _judgment(self, q: str, judge: str, noise: float, i: int, j: int) -> tuple[object, ...]:
        value = float(np.tanh(self.truth[q][i] - self.truth[q][j] + noise * self.rng.normal()))
        preference: float | None = 0.0 if abs(value) < 0.05 else value
        if self.rng.random() < 0.01:
            preference = None
        status = "failed" if preference is None else "ok"
        return q, self.candidates[q][i], self.candidates[q][j], judge, preference, "a", status, "", "made-up"

    def _about_judges(self, judgments: int) -> None:
        root, names, n = self.workspace.root, list(JUDGES), len(JUDGES)
        fits = {
            "query_id": self.queries, "iterations": [5] * len(self.queries), "gradient_norm": [1e-11] * len(self.queries),
            "log_likelihood": [-50.0] * len(self.queries), "components": [1] * len(self.queries), "separated": [False] * len(self.queries),
            "dispersion": [1.0] * len(self.queries),
        }  # fmt: skip
        write_table(root / "fits.parquet", "fits", fits)
        counts = {"judgments": [judgments] * n, "missing": [3] * n, "ties": [judgments // 20] * n}
        beliefs = {"reliability": [0.45, 0.62, 0.71], "weight": [0.2, 0.35, 0.45]}
        beliefs |= {name: [float("nan")] * n for name in ("order_effect", "order_stderr", "slope", "slope_stderr")}
        write_table(root / "judgments/judges.parquet", "judges", {"judge": names, **counts, **beliefs})
        pairs = [(a, b) for a in names for b in names]
        rates = [1.0 if a == b else 0.6 + 0.05 * (i % 4) for i, (a, b) in enumerate(pairs)]
        first, second = ([pair[side] for pair in pairs] for side in (0, 1))
        agreement = {"judge_a": first, "judge_b": second, "pairwise_agreement": rates, "top_agreement": rates}
        write_table(root / "judgments/agreement.parquet", "agreement", agreement)
        (root / "models/pointwise").mkdir(parents=True)
        about = {"kind": "blend", "features": names, "weights": [-0.12, 0.62, 1.1]}
        (root / "models/pointwise/zelo.json").write_text(json.dumps(about), "utf-8")
