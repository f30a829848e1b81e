"""align: comparisons across queries, and from them one offset per query, so that scores of different queries mean the same.

Off unless `align.comparisons` is above 0: the judges' time is most of the cost, and what was asked within queries says nothing about
their level. What was asked before is in the journal, as in stage `judge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zelo.artifacts import Columns, read_table, write_table
from zelo.core.comparison_graph import rng_for
from zelo.core.cross_query import Offsets, design_cross_pairs, fit_offsets
from zelo.core.groups import group_rows
from zelo.core.pooling import pool
from zelo.errors import JudgeError, RecipeError
from zelo.judges import JUDGES, Materials, make_judge
from zelo.judges.journal import STATUSES, Journal, Standing
from zelo.judges.parsing import clamped
from zelo.pipeline import Context, Outcome
from zelo.recipe import Recipe
from zelo.stages import inputs
from zelo.stages.judge import AnyJudge, ask_questions, open_journal
from zelo.stages.questions import Texts

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_READ = ("preference", "status", "input_tokens", "output_tokens", "cost", "seconds", "note", "flags", "reasoning")


def check(recipe: Recipe) -> None:
    """Find settings that do not go together.

    Raises:
        RecipeError: comparisons would be paid for and not used, or no judge of the ensemble can make them.
    """
    if not recipe.align.comparisons:
        return
    if recipe.calibrate.scale != "across":
        what = f"align.comparisons = {recipe.align.comparisons} would be paid for and not used"
        raise RecipeError(what, remedy='set calibrate.scale = "across", or align.comparisons = 0')
    if all(name in JUDGES for name in recipe.judge.ensemble):
        what = "no judge of the ensemble compares across queries: similarities of different queries do not compare"
        raise RecipeError(what, where="align.comparisons", remedy="add a language model to judge.ensemble, or set it to 0")


@dataclass(frozen=True)
class _Scored:
    """The fitted scores, query by query, as `core.cross_query` takes them."""

    query_ids: list[str]
    starts: IntArray
    doc_ids: list[str]
    score: FloatArray
    stderr: FloatArray
    link: str

    def query_of(self, documents: IntArray) -> IntArray:
        return np.asarray(np.searchsorted(self.starts, documents, side="right") - 1, np.int64)


def run(context: Context) -> Outcome:
    """Write judgments/across.parquet and offsets.parquet, both empty when it is off.

    Raises:
        RecipeError: no judge of the ensemble has a way to compare across queries.
        JudgeError: a judge cannot go on, the budget is spent, or too many answers are missing. What was answered is kept.
    """
    comparisons = context.recipe.align.comparisons
    scored = _scored(context)
    seed = context.recipe.seed
    pairs = design_cross_pairs(scored.score, scored.starts, comparisons, rng_for(seed, "", "across"))
    if not comparisons:
        _write(context, scored, None, [])
        return Outcome({"offsets": 0}, notes=("off: align.comparisons is 0",))
    judges = _judges(context)
    with open_journal(context) as journal:
        answers = _ask(judges, scored, pairs, journal, context)
    most = context.recipe.judge.max_missing
    for judge, columns in zip(judges, answers, strict=True):
        missing = sum(p is None for p in columns["preference"])
        if missing > most * len(pairs):
            what = f"judge {judge.name} gave no usable answer to {missing:,} of {len(pairs):,} comparisons across queries"
            raise JudgeError(what, remedy="run again to retry only those, or raise judge.max_missing")
    prob, n_judges = pool(np.array([c["preference"] for c in answers], np.float64).T, _weights(context, judges))
    fit = fit_offsets(
        scored.score,
        scored.starts,
        pairs,
        prob,
        n_judges.astype(np.float64),
        score_stderr=scored.stderr,
        link="logit" if scored.link == "logit" else "probit",
        prior_sd=context.recipe.align.prior_sd or None,
        seed=seed,
    )
    _write(context, scored, fit, answers)
    cost = float(sum(sum(c["cost"]) for c in answers))
    return Outcome({"comparisons": len(pairs), "judgments": len(pairs) * len(judges), "offsets": len(fit.offset)}, cost, _notes(fit))


def _scored(context: Context) -> _Scored:
    scores = read_table(context.read("scores"), "scores", ("query_id", "doc_id", "score", "stderr", "link"))
    groups = group_rows(scores["query_id"])
    order = [row for rows in groups.values() for row in rows]
    starts = np.concatenate([[0], np.cumsum([len(rows) for rows in groups.values()])]).astype(np.int64)
    doc_ids = [scores["doc_id"][row] for row in order]
    link = scores["link"][0] if order else "probit"
    return _Scored(list(groups), starts, doc_ids, scores["score"][order], scores["stderr"][order], link)


def _judges(context: Context) -> list[AnyJudge]:
    materials = inputs.CorpusSignals(context, {}, {})  # offline judges are left out, so nothing is made from it
    made = Materials(materials.lexical, materials.bank, materials.token_frequency, "")
    asked = [make_judge(name, made, context.recipe) for name in context.recipe.judge.ensemble if name not in JUDGES]
    able = [judge for judge in asked if getattr(judge, "across", False)]
    if not able:
        what = "no judge of the ensemble has a way to compare across queries"
        raise RecipeError(what, where="align.comparisons", remedy="give its prompt one (key `across`), or set align.comparisons = 0")
    return able


def _ask(judges: Sequence[AnyJudge], scored: _Scored, pairs: IntArray, journal: Journal, context: Context) -> list[Columns]:
    """Return each judge's rows of judgments/across.parquet, in the pairs' order."""
    query_texts, doc_texts = inputs.queries(context), inputs.documents(context)
    texts = [*(query_texts[q] for q in scored.query_ids), *(doc_texts[d] for d in scored.doc_ids)]
    registered = Texts(texts, journal.texts(texts, [*scored.query_ids, *scored.doc_ids]), len(scored.query_ids))
    query, document = scored.query_of(pairs), pairs + registered.queries
    orders, rows = [], []
    for judge in judges:
        a_first = rng_for(context.recipe.seed, judge.name, "order across").random(len(pairs)) < 0.5
        shown = np.column_stack([query[:, 0], document[:, 0], document[:, 1], query[:, 1]])
        orders.append(a_first)
        rows.append(np.where(a_first[:, None], shown, shown[:, [3, 2, 1, 0]]))
    found = ask_questions(judges, rows, registered, journal, context)
    return [
        _columns(judge, standing, order, scored, pairs, journal) for judge, order, (_, standing) in zip(judges, orders, found, strict=True)
    ]


def _columns(judge: AnyJudge, standing: Standing, a_first: BoolArray, scored: _Scored, pairs: IntArray, journal: Journal) -> Columns:
    read = journal.read(standing.attempt)
    columns: Columns = dict(zip(_READ, map(list, zip(*read, strict=True)), strict=True)) if read else {name: [] for name in _READ}
    shown = zip(columns["preference"], a_first.tolist(), strict=True)
    given = [None if p is None else (p if first else -p) or 0.0 for p, first in shown]
    columns["given"] = given
    columns["preference"] = [None if p is None else clamped(p) for p in given] if getattr(judge, "clamp", False) else given
    columns["status"] = ["failed" if STATUSES[s] == "error" else STATUSES[s] for s in columns["status"]]
    for side, name in enumerate("ab"):
        columns[f"query_id_{name}"] = [scored.query_ids[q] for q in scored.query_of(pairs[:, side]).tolist()]
        columns[f"doc_id_{name}"] = [scored.doc_ids[d] for d in pairs[:, side].tolist()]
    columns["judge"], columns["prompt_id"] = [judge.name] * len(pairs), [judge.prompt_id] * len(pairs)
    columns["shown_first"] = ["a" if first else "b" for first in a_first.tolist()]
    return columns


def _weights(context: Context, judges: Sequence[AnyJudge]) -> FloatArray:
    """The judges' weights from stage `pool`, equal ones where it found none of them of any use."""
    table = read_table(context.read("judges"), "judges", ("judge", "weight"))
    weight = dict(zip(table["judge"], table["weight"].tolist(), strict=True))
    found = np.array([weight.get(judge.name, 0.0) for judge in judges])
    return found if found.sum() > 0 else np.ones(len(judges))


def _write(context: Context, scored: _Scored, fit: Offsets | None, answers: Sequence[Columns]) -> None:
    names = ("query_id_a", "doc_id_a", "query_id_b", "doc_id_b", "judge", "shown_first", "prompt_id", "given", *_READ)
    write_table(context.write("across"), "across", {name: [v for c in answers for v in c[name]] for name in names})
    columns: Columns = {name: [] for name in ("query_id", "offset", "stderr", "degree", "component", "link")}
    if fit is not None:
        columns = {name: getattr(fit, name) for name in ("offset", "stderr", "degree", "component")}
        columns |= {"query_id": scored.query_ids, "link": [scored.link] * len(scored.query_ids)}
    write_table(context.write("offsets"), "offsets", columns)


def _notes(fit: Offsets) -> tuple[str, ...]:
    spread, error = float(fit.offset.std()), float(np.sqrt(np.mean(fit.stderr**2)))
    notes = [f"offsets: standard deviation {spread:.2f}, standard error {error:.2f}, prior {fit.prior_sd:.2f} ({fit.link})"]
    if fit.components > 1:
        notes.append(f"{fit.components:,} groups of queries that no comparison connects: their levels do not compare")
    return tuple(notes)
