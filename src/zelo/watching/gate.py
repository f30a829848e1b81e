"""The gate of `zelo promote`: a new model must be better on held-out live queries, and not worse on a fixed set.

Better: the judges prefer the documents that only the new model puts on top to those that only the old one does, on queries that neither
learned from; paired randomization test over queries. Not worse: non-inferiority, the lower end of a one-sided 95 % interval of the mean
difference must be above minus a margin that is stated beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.collections.beir import read_queries
from zelo.core.comparison_graph import rng_for
from zelo.core.significance import bootstrap_interval, paired_randomization_test
from zelo.errors import InputError, JudgeError
from zelo.judges import Comparison
from zelo.judges.journal import Journal
from zelo.pipeline import Context
from zelo.progress import Progress
from zelo.rerankers import Reranker, load_reranker
from zelo.stages import inputs
from zelo.stages.failures import student_values
from zelo.watching.asking import JournalPanel
from zelo.watching.days import Days
from zelo.watching.finding import HEAD, WorkspaceFinder
from zelo.watching.judging import Panel
from zelo.watching.live_round import held_out
from zelo.workspace import Workspace

FloatArray = NDArray[np.float64]
ALPHA = 0.05
FEWEST = 20
"""Held-out live queries below which nothing is decided."""


@dataclass(frozen=True)
class Compared:
    """The new model against the old one on some queries.

    Attributes:
        on: what was compared, in words.
        queries: how many.
        changed: on how many the first documents differ, or the measure's value.
        mean: of the differences, positive for the new model: of a measure, or of the judges' preference in [-1, 1].
        low: lower end of the one-sided 95 % interval.
        p_value: of "no difference", two-sided.
    """

    on: str
    queries: int
    changed: int
    mean: float
    low: float
    p_value: float


@dataclass(frozen=True)
class Gate:
    """Both comparisons and what follows. `margin` is that of the fixed set."""

    live: Compared
    fixed: Compared
    margin: float
    better: bool
    not_worse: bool

    @property
    def passed(self) -> bool:
        """Whether the new model may replace the old one."""
        return self.better and self.not_worse


@dataclass(frozen=True)
class Sides:
    """The documents that only one of two rankings has on top, by text."""

    query: str
    new: tuple[str, ...]
    old: tuple[str, ...]
    size: int


def check_gate(first: Workspace, old: Workspace, new: Workspace, progress: Progress) -> Gate:
    """Compare two workspaces' models; answers go into the journal of `zelo watch`, so that none is asked twice.

    Args:
        first: the first workspace of the line, in which `zelo watch` runs.
        old: whose model is in use.
        new: whose model may replace it.
        progress: shows what happens.

    Raises:
        InputError: too few held-out live queries were judged so far.
        JudgeError: a judge cannot go on, or the budget ended. What was answered is kept.
    """
    settings, seed = first.recipe.watch, first.recipe.seed
    taught = {q.text for q in read_queries(new.path("queries"))} | {q.text for q in read_queries(old.path("queries"))}
    rows = [row for record in Days(first.root).sealed().values() for row in record["rows"]]
    live = [q for q in dict.fromkeys(str(row["query"]) for row in rows) if held_out(q) and q not in taught][-settings.gate_queries :]
    if len(live) < FEWEST:
        what = f"{len(live)} held-out live queries were watched, {FEWEST} are the fewest to decide on"
        raise InputError(what, where=str(first.root), remedy="let `zelo watch` judge some more days")
    judging = first.recipe.judge
    days = Days(first.root)
    with first.locked(), Journal(days.journal, keep_reasoning=judging.keep_reasoning) as journal:
        cap = journal.spent()[0] + settings.dollars if settings.dollars else 0.0
        recipe = replace(first.recipe, judge=replace(judging, budget_dollars=cap, budget_tokens=0))
        context = Context(first, recipe, first.root, progress)
        finder = WorkspaceFinder(context, first.recipe.rank.depth)
        models = [_model(workspace, progress) for workspace in (new, old)]
        panel = JournalPanel(context, journal, finder.signals, ())
        on_live = judged_difference(_sides(live, finder, models), panel, "held-out live queries, by the judges", seed, judging.max_missing)
        fixed = _by_labels(old, new, recipe.evaluate.measures[0], recipe.evaluate.resamples, seed)
        if fixed is None:
            own = [q.text for q in read_queries(first.path("queries"))][: settings.gate_queries]
            on_own = "the first workspace's own queries, by the judges"
            fixed = judged_difference(_sides(own, finder, models), panel, on_own, seed, judging.max_missing)
    better = on_live.mean > 0 and on_live.p_value < ALPHA
    return Gate(on_live, fixed, settings.margin, better, fixed.low > -settings.margin)


def _model(workspace: Workspace, progress: Progress) -> Reranker:
    context = Context(workspace, workspace.recipe, workspace.root, progress)
    bank = inputs.CorpusSignals(context, inputs.documents(context), inputs.queries(context)).bank
    return load_reranker(context.read("model"), bank, context.recipe.rank.engine)


def _sides(queries: Sequence[str], finder: WorkspaceFinder, models: Sequence[Reranker]) -> list[Sides]:
    """Have both models rerank the first stage's candidates of each query."""
    found = []
    for query in queries:
        texts = list(dict.fromkeys(finder.text(d) or "" for d in finder.candidates(query)))
        heads = [[texts[i] for i in np.argsort(-model.score(query, texts), kind="stable")[:HEAD]] if texts else [] for model in models]
        new, old = heads
        found.append(Sides(query, tuple(t for t in new if t not in old), tuple(t for t in old if t not in new), max(len(new), 1)))
    return found


def judged_difference(sides: Sequence[Sides], panel: Panel, on: str, seed: int, most_missing: float = 0.0) -> Compared:
    """Return how far the judges prefer the new tops: 0 for a query whose tops are the same.

    A query's difference in [-1, 1] is the mean side of all comparisons of a new with an old document, times the share of the top that
    changed.

    Raises:
        JudgeError: about more than a share `most_missing` of the queries an answer is missing, by the budget or by failures.
    """
    pairs = [(i, n, o) for i, side in enumerate(sides) for n in side.new for o in side.old]
    turned = [rng_for(seed, f"{sides[i].query}\0{n}\0{o}", "gate order").random() < 0.5 for i, n, o in pairs]
    shown = [Comparison(sides[i].query, o if turn else n, n if turn else o) for (i, n, o), turn in zip(pairs, turned, strict=True)]
    difference = np.zeros(len(sides))
    if shown:
        said = np.sign(panel.ask(shown))
        lacking = len({i for (i, _, _), row in zip(pairs, said, strict=True) if np.isnan(row).all()})
        if lacking > most_missing * len(sides):
            what = f"{on}: {lacking:,} of {len(sides):,} were not answered in full, and no answer is no equality"
            raise JudgeError(
                what, where="zelo promote", remedy="raise watch.dollars or judge.max_missing, or run it again: answers are kept"
            )
        side = said * np.where(turned, -1.0, 1.0)[:, None]
        mass = panel.weights * ~np.isnan(side)
        total = mass.sum(axis=1)
        value = np.divide((mass * np.nan_to_num(side)).sum(axis=1), total, out=np.zeros(len(side)), where=total > 0)
        known = total > 0
        for i in dict.fromkeys(i for i, _, _ in pairs):
            of_query = np.array([known[k] and p[0] == i for k, p in enumerate(pairs)])
            if of_query.any():
                difference[i] = value[of_query].mean() * len(sides[i].new) / sides[i].size
    return _compared(on, difference, 10_000, seed)


def _by_labels(old: Workspace, new: Workspace, measure: str, resamples: int, seed: int) -> Compared | None:
    """Compare on the test questions, by labels; None without any."""
    values = [student_values(workspace.path("per_query")).get(measure, {}) for workspace in (new, old)]
    both = sorted(set(values[0]) & set(values[1]))
    if not both:
        return None
    difference = np.array([values[0][q] - values[1][q] for q in both])
    return _compared(f"test questions, {measure} by labels", difference, resamples, seed)


def _compared(on: str, difference: FloatArray, resamples: int, seed: int) -> Compared:
    low, _ = bootstrap_interval(difference, 0.90, resamples, rng=rng_for(seed, on, "gate bootstrap"))  # one-sided 95 %
    p_value = paired_randomization_test(difference, np.zeros(len(difference)), resamples, rng=rng_for(seed, on, "gate randomization"))
    return Compared(on, len(difference), int((difference != 0).sum()), float(difference.mean()), low, p_value)


def gate_lines(gate: Gate) -> list[str]:
    """Return what is to be read on a terminal."""
    lines = []
    for name, found, need in (
        ("live", gate.live, f"better: p < {ALPHA:g} and a difference above 0"),
        ("fixed", gate.fixed, f"not worse: low above -{gate.margin:g}"),
    ):
        ok = gate.better if name == "live" else gate.not_worse
        figures = f"difference {found.mean:+.4f}, low {found.low:+.4f}, p {found.p_value:.4f}"
        lines.append(f"{name:<6}{found.queries:,} {found.on}, {found.changed:,} changed: {figures}. {need}: {'yes' if ok else 'no'}")
    return lines


def plain_gate(gate: Gate) -> Mapping[str, Any]:
    """Return the gate as plain values."""
    return {"live": vars_of(gate.live), "fixed": vars_of(gate.fixed), "margin": gate.margin, "passed": gate.passed}


def vars_of(found: Compared) -> dict[str, Any]:
    """Return a comparison as plain values."""
    return {name: getattr(found, name) for name in ("on", "queries", "changed", "mean", "low", "p_value")}
