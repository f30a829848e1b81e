"""The questions that a system helped and hurt most, with the texts: what an average hides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zelo.collections.beir import read_corpus
from zelo.collections.trec import read_run
from zelo.pipeline import Context
from zelo.report.facts import TIE
from zelo.report.measured import STUDENT, read_labels
from zelo.stages import inputs

EACH = 3
"""Gains and losses shown per collection."""


@dataclass(frozen=True)
class Top:
    """The first document of a ranking: its text, its label (None: it has none), and the rank of the first relevant document."""

    text: str
    label: float | None
    first_relevant: int | None


@dataclass(frozen=True)
class Moved:
    """One question: its value before and after, the two rankings' heads, and the best labeled document."""

    query_id: str
    text: str
    before: float
    after: float
    head_before: Top
    head_after: Top
    wanted: str


@dataclass(frozen=True)
class Movement:
    """What happened to the questions of one collection: how many got better, stayed and got worse; the biggest gains and losses."""

    better: int
    same: int
    worse: int
    gains: tuple[Moved, ...]
    losses: tuple[Moved, ...]


def movement(context: Context, before: Mapping[str, float], after: Mapping[str, float], baseline: str) -> Movement:
    """Compare the student with the baseline question by question.

    Args:
        context: of the workspace.
        before: query_id -> the baseline's value.
        after: query_id -> the student's.
        baseline: its name; the texts are shown only where the workspace has its ranking.
    """
    change = {q: after[q] - before[q] for q in after}
    order = sorted(change, key=lambda q: (-change[q], q))
    gains = [q for q in order if change[q] > TIE]
    losses = [q for q in reversed(order) if change[q] < -TIE]
    counts = len(gains), len(order) - len(gains) - len(losses), len(losses)
    old, new = _run_of(context, baseline), context.read("rankings") / f"{STUDENT}.trec"
    if old is None or not new.is_file():
        return Movement(*counts, (), ())
    shown = _Shown(context, old, new, [*gains[:EACH], *losses[:EACH]])
    made = {q: shown.moved(q, before[q], after[q]) for q in shown.query_ids}
    return Movement(*counts, tuple(made[q] for q in gains[:EACH]), tuple(made[q] for q in losses[:EACH]))


def _run_of(context: Context, system: str) -> Path | None:
    paths = (context.read(folder) / f"{system}.trec" for folder in ("candidates", "rankings"))
    return next((path for path in paths if path.is_file()), None)


class _Shown:
    """Texts and rankings of some questions."""

    def __init__(self, context: Context, old: Path, new: Path, query_ids: Sequence[str]) -> None:
        self.query_ids = list(query_ids)
        split = inputs.splits(context.read("splits"))
        qrels = read_labels(context.read("qrels") / f"{context.recipe.ingest.test_split}.tsv", split)
        self._labels = {q: qrels.get(q, {}) for q in query_ids}
        self._runs = [{q: [d.doc_id for d in r] for q, r in read_run(path).items() if q in self._labels} for path in (old, new)]
        self._wanted = {q: max(found, key=lambda d: (found[d], d), default="") for q, found in self._labels.items()}
        needed = {*self._wanted.values(), *(run[q][0] for run in self._runs for q in run if run[q])}
        self._texts = {d.doc_id: d.full_text for d in read_corpus(context.read("corpus")) if d.doc_id in needed}
        self._queries = inputs.queries(context)

    def moved(self, query_id: str, before: float, after: float) -> Moved:
        """Return one question."""
        heads = [self._top(query_id, run.get(query_id, [])) for run in self._runs]
        wanted = self._texts.get(self._wanted[query_id], "")
        return Moved(query_id, self._queries[query_id], before, after, heads[0], heads[1], wanted)

    def _top(self, query_id: str, ranking: Sequence[str]) -> Top:
        labels = self._labels[query_id]
        first = next((n for n, doc_id in enumerate(ranking, 1) if labels.get(doc_id, 0.0) > 0), None)
        doc_id = ranking[0] if ranking else ""
        return Top(self._texts.get(doc_id, ""), labels.get(doc_id), first)
