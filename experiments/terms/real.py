"""The terms on real candidates: the offline judges' judgments, and simulated judges over labels. `run.py` runs them.

Reads workspaces whose stage `judge` has run, and the labels of their *training* questions from the collection (`SPLIT`), for
measuring and for the simulated judges only. No test question is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.artifacts import read_table
from zelo.collections import open_collection
from zelo.collections.trec import read_run
from zelo.core.dispersion import estimate_dispersion
from zelo.core.groups import group_rows
from zelo.core.judge_terms import estimate_terms
from zelo.core.metrics import evaluate_ranking
from zelo.core.paired_comparison import Batch, fit_queries
from zelo.core.pooling import Rows, rows_by_judge, rows_by_pair
from zelo.core.reliability import reliabilities, top_agreement, vote_weights
from zelo.core.significance import paired_randomization_test
from zelo.judges import Comparison
from zelo.judges.simulated import SimulatedJudge
from zelo.types import Link
from zelo.workspace import Workspace

FloatArray = NDArray[np.float64]
Row = dict[str, Any]
SPLIT = {"scifact": "train", "cosqa": "dev", "tatqa": "dev", "python_docs": "dev", "legalsum": "test", "mtragun": "test"}
SIMULATED: dict[str, list[Row]] = {
    "noise .15 .3 1": [{"noise": 0.15}, {"noise": 0.3}, {"noise": 1.0}],
    "lean 1": [{"noise": 0.3, "order_bias": 1.0}] * 3,
    "lean 0 1 2": [{"noise": 0.3, "order_bias": b} for b in (0.0, 1.0, 2.0)],
    "alike": [{"noise": 0.3}] * 3,
}
"""Noise in units of gain; a vote is -1, 0 or 1."""


class Case:
    """A workspace's training questions with labels: their pairs, judgments, candidates."""

    def __init__(self, root: Path) -> None:
        """Read what is needed."""
        workspace = Workspace.open(root)
        self.name = Path(workspace.recipe.ingest.collection).name
        lines = (root / "splits.tsv").read_text("utf-8").splitlines()[1:]
        training = {q for q, split in (line.split("\t") for line in lines) if split == "train"}
        self.qrels: dict[str, dict[str, float]] = {}
        for row in open_collection(workspace.recipe.ingest.collection).qrels(SPLIT[self.name]):
            if row.query_id in training:
                self.qrels.setdefault(row.query_id, {})[row.doc_id] = row.relevance
        names = ("query_id", "doc_id_a", "doc_id_b", "judge", "preference", "shown_first")
        table = read_table(workspace.path("judgments"), "judgments", names)
        self.judges = list(dict.fromkeys(table["judge"]))
        size = len(table["judge"]) // len(self.judges)
        rows = [i for i in range(size) if table["query_id"][i] in self.qrels]
        self.query, self.a, self.b = ([table[name][i] for i in rows] for name in names[:3])
        self.preference = np.asarray(table["preference"], np.float64).reshape(len(self.judges), -1).T[rows]
        self.shown = np.where(np.array(table["shown_first"][:size]) == "a", 1.0, -1.0)[rows][:, None] * np.ones(len(self.judges))
        duplicates = read_table(workspace.path("duplicates"), "duplicates")
        pairs = zip(duplicates["query_id"], duplicates["doc_id"], strict=True)
        self.same = dict(zip(pairs, duplicates["same_as"], strict=True))
        self.candidates = {q: [d.doc_id for d in ranking] for q, ranking in read_run(root / "candidates" / "fused.trec").items()}
        groups = group_rows(self.query)
        self.queries, self.documents = list(groups), []
        order, first, second = [], [], []
        for of in groups.values():
            names_of = sorted({self.a[i] for i in of} | {self.b[i] for i in of})
            place = {d: n for n, d in enumerate(names_of)}
            self.documents.append(names_of)
            order += of
            first += [place[self.a[i]] for i in of]
            second += [place[self.b[i]] for i in of]
        self.order, self.first, self.second = np.array(order), np.array(first), np.array(second)
        self.ends = np.cumsum([0, *(len(of) for of in groups.values())])

    def simulate(self, settings: list[Row]) -> None:
        """Replace the judgments by those of simulated judges, which go through the pairs in an order of their own."""
        gains = self.qrels
        rng = np.random.default_rng(5)
        self.judges = [f"simulated {k}" for k in range(len(settings))]
        columns, shown = [], []
        for k, of in enumerate(settings):
            judge = SimulatedJudge(f"{k}", lambda q, d: gains[q].get(d, 0.0), soft=False, **of)
            first = rng.random(len(self.query)) < 0.5
            asked = [Comparison(q, *((a, b) if f else (b, a))) for q, a, b, f in zip(self.query, self.a, self.b, first, strict=True)]
            said = np.array([answer.preference for answer in judge.judge(asked)], np.float64)
            columns.append(np.where(first, said, -said))
            shown.append(np.where(first, 1.0, -1.0))
        self.preference, self.shown = np.stack(columns, 1), np.stack(shown, 1)

    def batch(self, rows: Rows) -> Batch:
        """Rows of the fit; pairs may have several."""
        position = np.empty(len(self.order), np.int64)
        position[self.order] = np.arange(len(self.order))
        at = position[rows.pair]
        by_query = np.argsort(at, kind="stable")
        at = at[by_query]
        columns = [getattr(rows, name)[by_query] for name in ("prob_a", "weight", "slope", "offset")]
        ends = np.searchsorted(at, self.ends)
        return Batch(np.array([len(d) for d in self.documents]), ends, self.first[at], self.second[at], *columns)

    def ndcg(self, score: FloatArray, starts: NDArray[np.int64]) -> dict[str, float]:
        """nDCG@10 of every question's candidates; equal texts share a score, equal scores keep the first stage's order."""
        rankings = {}
        for q, (query, documents) in enumerate(zip(self.queries, self.documents, strict=True)):
            of = dict(zip(documents, score[starts[q] : starts[q + 1]].tolist(), strict=True))
            ranked = sorted(self.candidates[query], key=lambda d: -of.get(self.same.get((query, d), d), -np.inf))
            rankings[query] = [(d, -float(rank)) for rank, d in enumerate(ranked)]
        return evaluate_ranking(rankings, {q: self.qrels[q] for q in self.queries}, ["nDCG@10"])["nDCG@10"]


def compare(root: Path, judges: str) -> Iterator[Row]:
    """nDCG@10 of the labels for each way of making scores of the votes; differences are to what zelo does by default."""
    case = Case(root)
    link: Link = "probit"
    if judges != "offline":
        case.simulate(SIMULATED[judges])
    n = len(case.judges)
    equal, one = np.full(n, 1 / n), np.ones(n)
    own = []
    for k in range(n):
        fit = fit_queries(case.batch(rows_by_pair(case.preference[:, [k]], [1.0])), threads=1, stderr=False)
        own.append(np.split(fit.score, fit.starts[1:-1]))
    weights = vote_weights(reliabilities(top_agreement(own)))
    by_judge = rows_by_judge(case.preference, equal, case.shown, 0 * one, one)
    judge = np.nonzero(~np.isnan(case.preference))[1]
    where = _row_order(case, by_judge)
    batch, judge = case.batch(by_judge), judge[where]
    shown = case.shown[by_judge.pair, np.nonzero(~np.isnan(case.preference))[1]][where]
    terms = estimate_terms(batch, judge, shown, n, link=link, max_queries=50)
    plain = rows_by_pair(case.preference, weights)
    systems = {
        "agreement": plain,
        "equal": rows_by_pair(case.preference, equal),
        "agreement, order": rows_by_judge(case.preference, weights, case.shown, terms.order_effect, one),
        "equal, order": rows_by_judge(case.preference, equal, case.shown, terms.order_effect, one),
        "slopes": rows_by_judge(case.preference, equal, case.shown, 0 * one, terms.slope),
        "slopes, order": rows_by_judge(case.preference, equal, case.shown, terms.order_effect, terms.slope),
    }
    found: dict[str, dict[str, float]] = {}
    dispersions: dict[str, float] = {}
    for name, rows in systems.items():
        batch = case.batch(rows)
        for weighed in (False, True):
            value = estimate_dispersion(batch, link=link, max_queries=50).value if weighed else 1.0
            fit = fit_queries(replace(batch, weight=np.asarray(batch.weight) / value), link=link, threads=1, stderr=False)
            named = name + (", dispersion" if weighed else "")
            found[named], dispersions[named] = case.ndcg(fit.score, fit.starts), value
    facts = {"order_effect": terms.order_effect.tolist(), "slope": terms.slope.tolist(), "agreement": weights.tolist()}
    for name, values in found.items():
        gap = np.array([values[q] - found["agreement"][q] for q in case.queries])
        test = paired_randomization_test(
            [values[q] for q in case.queries], [found["agreement"][q] for q in case.queries], rng=np.random.default_rng(0)
        )
        yield {
            "part": "real", "collection": case.name, "judges": judges, "system": name, "ndcg10": float(np.mean(list(values.values()))),
            "difference": float(gap.mean()), "stderr": float(gap.std(ddof=1) / np.sqrt(len(gap))), "p": float(test),
            "queries": len(gap), "dispersion": dispersions[name], **facts,
        }  # fmt: skip


def _row_order(case: Case, rows: Rows) -> NDArray[np.int64]:
    position = np.empty(len(case.order), np.int64)
    position[case.order] = np.arange(len(case.order))
    return np.argsort(position[rows.pair], kind="stable")
