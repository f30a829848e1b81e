"""Everything the page shows about the workspace as a whole, read from its artifacts. Single questions are in `examples`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from zelo.artifacts import Columns, read_table
from zelo.collections.beir import read_queries
from zelo.collections.trec import read_run
from zelo.core.reliability_diagram import Diagram, reliability_diagram
from zelo.pipeline import Context, stages
from zelo.report.judging import Audit, audit_judges
from zelo.report.measured import JUDGES, STUDENT, Measured, find, first_measure, in_order, read_labels, read_measured
from zelo.report.rounds import Round, read_rounds
from zelo.report.verdict import Verdict, decide

TIE = 1e-9
"""Two values of a measure that differ by less are equal."""


@dataclass(frozen=True)
class StageCost:
    """What one stage took: seconds of wall clock, US dollars."""

    name: str
    summary: str
    seconds: float
    cost: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class JudgeFacts:
    """One judge: what it answered, what it is believed to be worth, what it cost."""

    name: str
    judgments: int
    missing: int
    ties: int
    reliability: float
    weight: float
    tokens: int
    cost: float


class Facts:
    """The workspace's numbers; heavy ones are read when first asked for."""

    def __init__(self, context: Context) -> None:
        """Read the small artifacts."""
        self.context, self.recipe = context, context.recipe
        self.rows: list[Measured] = read_measured(context.read("metrics"))
        self.verdict: Verdict = decide(self.rows)
        self.measure: str | None = first_measure(self.rows)
        lines = context.read("splits").read_text("utf-8").splitlines()[1:]
        self.split_of: dict[str, str] = dict(line.split("\t") for line in lines)
        self.query_texts: dict[str, str] = {q.query_id: q.text for q in read_queries(context.read("queries"))}
        self.qrels = read_labels(context.read("qrels") / f"{self.recipe.ingest.test_split}.tsv", self.split_of)

    @property
    def collection(self) -> str:
        """The collection's name, without its folder."""
        return Path(self.recipe.ingest.collection).name or self.recipe.ingest.collection

    @property
    def before(self) -> str:
        """The system that the reranked list is held against; the fused list where nothing was measured."""
        return self.verdict.baseline.system if self.verdict.baseline else "fused"

    @cached_property
    def after(self) -> str:
        """The final system: the student, or the judges where it ranked no test question."""
        folder = self.context.read("rankings")
        has_lines = [name for name in (STUDENT, JUDGES) if (p := folder / f"{name}.trec").is_file() and p.stat().st_size]
        return self.verdict.row.system if self.verdict.row else next(iter(has_lines), JUDGES)

    def count(self, split: str) -> int:
        """Return how many questions a split has."""
        return sum(value == split for value in self.split_of.values())

    @cached_property
    def systems(self) -> list[str]:
        """The systems that were measured, first stage first."""
        return in_order(row.system for row in self.rows)

    @cached_property
    def measures(self) -> list[str]:
        """The measures of whole rankings, the deciding one first, and those of agreement with labels after them."""
        return list(dict.fromkeys(row.measure for row in self.rows))

    def find(self, system: str, measure: str | None) -> Measured | None:
        """Return a measured row."""
        return find(self.rows, system, measure)

    @cached_property
    def values(self) -> dict[str, dict[str, float]]:
        """The deciding measure: system -> query_id -> value."""
        table = read_table(self.context.read("per_query"), "per_query")
        values: dict[str, dict[str, float]] = {}
        for system, measure, query_id, value in zip(*table.values(), strict=True):
            if measure == self.measure:
                values.setdefault(system, {})[query_id] = float(value)
        return values

    @cached_property
    def gains(self) -> dict[str, float]:
        """query_id -> the deciding measure of the final system minus the baseline's, largest first."""
        before, after = self.values.get(self.before, {}), self.values.get(self.after, {})
        gains = {q: after[q] - before[q] for q in after if q in before} if self.before != self.after else {}
        return dict(sorted(gains.items(), key=lambda item: (-item[1], item[0])))

    @cached_property
    def wins_ties_losses(self) -> tuple[int, int, int]:
        """Questions that got better, stayed, got worse."""
        values = list(self.gains.values())
        wins, losses = sum(v > TIE for v in values), sum(v < -TIE for v in values)
        return wins, len(values) - wins - losses, losses

    @cached_property
    def costs(self) -> list[StageCost]:
        """What every stage before this one took, by the manifest."""
        found = []
        for stage in stages(self.recipe):
            entry = self.context.workspace.entry(stage.name)
            if entry is not None and stage.name != "report":
                found.append(StageCost(stage.name, stage.summary, entry.seconds, entry.cost, tuple(entry.notes)))
        return found

    @cached_property
    def rounds(self) -> list[Round]:
        """The rounds of refinement up to this one; none in a first round."""
        return read_rounds(self.context.read("refinement")) if self.recipe.refine.parent else []

    @cached_property
    def refined(self) -> tuple[str, ...]:
        """What the stages of a refine round say of it: the failures that were found, and whom the judges side with."""
        entries = (self.context.workspace.entry(stage) for stage in ("failures", "compare"))
        return tuple(note for entry in entries if entry is not None for note in entry.notes)

    @property
    def measured_on(self) -> str:
        """The day of the evaluation, "" if the manifest does not know."""
        entry = self.context.workspace.entry("evaluate")
        return entry.finished[:10] if entry else ""

    @property
    def cores(self) -> int:
        """How many processor cores this process may use."""
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @cached_property
    def judges(self) -> list[JudgeFacts]:
        """The judges, the most reliable one first."""
        table = read_table(self.context.read("judges"), "judges")
        spent = _spent(self.context.read("judgments"))
        judges = []
        for i, judge in enumerate(table["judge"]):
            judgments, missing, ties = (int(table[name][i]) for name in ("judgments", "missing", "ties"))
            tokens, cost = spent.get(judge, (0, 0.0))
            reliability, weight = float(table["reliability"][i]), float(table["weight"][i])
            judges.append(JudgeFacts(judge, judgments, missing, ties, reliability, weight, tokens, cost))
        return sorted(judges, key=lambda judge: (-np.nan_to_num(judge.reliability), judge.name))

    def agreement(self, kind: str) -> list[list[float]]:
        """Return the judges' agreement matrix, in the order of `judges`; `kind` is "pairwise_agreement" or "top_agreement"."""
        table = read_table(self.context.read("agreement"), "agreement")
        found = {(a, b): float(v) for a, b, v in zip(table["judge_a"], table["judge_b"], table[kind], strict=True)}
        names = [judge.name for judge in self.judges]
        return [[found.get((a, b), found.get((b, a), float("nan"))) for b in names] for a in names]

    @cached_property
    def audit(self) -> Audit:
        """What the judges' answers say about them."""
        return audit_judges(self.context.read, self.recipe.ingest.test_split)

    @cached_property
    def graphs(self) -> Columns:
        """Health of the comparison graphs."""
        return read_table(self.context.read("graphs"), "graphs")

    @cached_property
    def fits(self) -> Columns:
        """Diagnostics of the fits."""
        return read_table(self.context.read("fits"), "fits")

    @cached_property
    def model(self) -> Mapping[str, Any]:
        """What the student says of itself in zelo.json; {} if it says nothing."""
        path = self.context.read("model") / "zelo.json"
        try:
            about = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        except ValueError:
            return {}
        return about if isinstance(about, dict) else {}

    @cached_property
    def reliability(self) -> Diagram | None:
        """The student's scores of the labeled test questions' candidates, as chances; None where they are none.

        Unlabeled documents count as not relevant.
        """
        path = self.context.read("rankings") / f"{STUDENT}.trec"
        run = read_run(path) if self.qrels and path.is_file() else {}
        scored = [(d.score, self.qrels[q].get(d.doc_id, 0.0) > 0) for q, ranking in run.items() if q in self.qrels for d in ranking]
        if not scored or not all(0.0 <= score <= 1.0 for score, _ in scored):
            return None
        return reliability_diagram([score for score, _ in scored], [relevant for _, relevant in scored])

    def target_bins(self, bins: int = 20) -> tuple[Sequence[int], Sequence[float | None]]:
        """Return how many targets fall into each bin of [0, 1], and which share of those of labeled questions is relevant.

        The share is None for a bin without labeled questions' targets. Unlabeled documents count as not relevant.
        """
        table = read_table(self.context.read("targets"), "targets")
        place = np.clip((np.asarray(table["target"], np.float64) * bins).astype(int), 0, bins - 1)
        labeled = np.array([q in self.qrels for q in table["query_id"]], dtype=np.bool_)
        gains = (self.qrels.get(q, {}).get(d, 0.0) for q, d in zip(table["query_id"], table["doc_id"], strict=True))
        relevant = np.array([gain > 0 for gain in gains], dtype=np.bool_)
        counts = np.bincount(place, minlength=bins)
        known = np.bincount(place[labeled], minlength=bins)
        good = np.bincount(place[labeled & relevant], minlength=bins)
        return counts.tolist(), [float(g / n) if n else None for g, n in zip(good, known, strict=True)]


def _spent(path: Path) -> dict[str, tuple[int, float]]:
    """Tokens and dollars per judge; only these columns are read, a big run has millions of judgments."""
    import pyarrow.parquet as pq

    names = ("input_tokens", "output_tokens", "cost")
    table = pq.read_table(path, columns=["judge", *names])
    sums = table.group_by("judge").aggregate([(name, "sum") for name in names]).to_pydict()
    rows = zip(sums["judge"], *(sums[f"{name}_sum"] for name in names), strict=True)
    return {judge: (int(read or 0) + int(written or 0), float(cost or 0.0)) for judge, read, written, cost in rows}
