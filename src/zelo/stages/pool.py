"""pool: how reliable each judge is, found without labels; then the preferences that scores are fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zelo.artifacts import Columns, read_table, write_table
from zelo.core.groups import group_rows
from zelo.core.judge_terms import JudgeTerms, estimate_terms
from zelo.core.paired_comparison import Batch, fit_queries
from zelo.core.pooling import Rows, rows_by_judge, rows_by_pair
from zelo.core.reliability import reliabilities, top_agreement, vote_weights
from zelo.core.ties import estimate_threshold
from zelo.errors import RecipeError
from zelo.pipeline import Context, Outcome
from zelo.recipe import Recipe
from zelo.stages import inputs

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_LESSON = ("prob_a", "n_judges")


def check(recipe: Recipe) -> None:
    """Refuse what the fit cannot do.

    Raises:
        RecipeError: ties as an outcome of their own with a link that has no such rows.
    """
    if recipe.pool.ties == "outcome" and recipe.fit.link != "logit":
        raise RecipeError('pool.ties = "outcome" needs the logit link', remedy='set fit.link = "logit", or pool.ties = "half"')


def run(context: Context) -> Outcome:
    """Write preferences.parquet, judgments/judges.parquet and judgments/agreement.parquet; in the distilled line lessons.parquet.

    Lessons are plain means: order effects average out over the random orders of teaching pairs, and a model learns no thresholds.
    """
    answers = read_answers(context)
    training = answers.training(inputs.splits(context.read("splits")))
    own = _own_scores(training)
    top = top_agreement(own)
    reliability = reliabilities(top)
    judges = len(answers.judges)
    weighting = context.recipe.pool.weighting
    weights = vote_weights(reliability) if weighting == "agreement" else np.full(judges, 1 / judges)
    terms = _terms(training, weights, context.recipe)
    threshold = tie_threshold(training, weights, context.recipe)
    distilled = context.recipe.line == "distilled"
    if terms is None or distilled:
        rows = rows_by_pair(answers.preference, weights, None if distilled else threshold)
    else:
        rows = rows_by_judge(answers.preference, weights, answers.shown, terms.order_effect, terms.slope, threshold)
    opinion, names = ("lessons", _LESSON) if distilled else ("preferences", (*_LESSON, "weight", "slope", "offset"))
    numbers = {name: getattr(rows, name) for name in names}
    written = write_table(context.write(opinion), opinion, {**answers.pair_columns(rows.pair), **numbers})
    _write_judges(context, answers, reliability, weights, terms)
    write_table(context.write("agreement"), "agreement", _agreement(answers, top))
    notes = [f"{j}: reliability {r:.2f}, weight {w:.2f}" for j, r, w in zip(answers.judges, reliability, weights, strict=True)]
    notes += _term_notes(answers.judges, terms, threshold) + _missing_notes(answers, rows)
    return Outcome({opinion: written}, notes=tuple(notes))


@dataclass(frozen=True)
class Answers:
    """The judgments as tables: `preference` and `shown` [pairs, judges], the second 1 where document a was shown first, else -1."""

    judges: list[str]
    pairs: Columns
    preference: FloatArray
    shown: FloatArray

    def pair_columns(self, rows: IntArray) -> Columns:
        """The names of some pairs."""
        places = rows.tolist()
        return {name: [values[i] for i in places] for name, values in self.pairs.items()}

    def training(self, split_of: dict[str, str]) -> Answers:
        """The pairs of training questions only."""
        rows = np.array([i for i, q in enumerate(self.pairs["query_id"]) if split_of[q] == "train"], np.int64)
        return Answers(self.judges, self.pair_columns(rows), self.preference[rows], self.shown[rows])

    def numbered(self) -> tuple[Batch, IntArray]:
        """A batch of the pairs, without preferences yet, and the pair of each of its rows: those of a query together."""
        groups = group_rows(self.pairs["query_id"])
        parts = [inputs.number_documents(self.pairs, rows) for rows in groups.values()]
        order = np.array([i for rows in groups.values() for i in rows], np.int64)
        first, second = (np.concatenate([np.zeros(0, np.int64), *(part[side] for part in parts)]) for side in (1, 2))
        ends = np.cumsum([0, *(len(rows) for rows in groups.values())])
        documents = np.array([len(part[0]) for part in parts], np.int64)
        return Batch(documents, ends, first, second, np.full(len(order), np.nan)), order

    def by_judgment(self) -> tuple[Batch, IntArray, IntArray]:
        """A batch with a row per answer or lack of one, and the pair and judge of each."""
        batch, order = self.numbered()
        n = len(self.judges)
        pair, judge = np.repeat(order, n), np.tile(np.arange(n), len(order))
        prob = (1 + self.preference[pair, judge]) / 2
        return Batch(batch.documents, np.asarray(batch.rows) * n, np.repeat(batch.first, n), np.repeat(batch.second, n), prob), pair, judge


def read_answers(context: Context) -> Answers:
    """Return the ensemble's answers about its pairs."""
    names = ("query_id", "doc_id_a", "doc_id_b", "judge", "preference", "shown_first")
    table = read_table(context.read("judgments"), "judgments", names)
    judges = list(dict.fromkeys(table["judge"]))
    size = len(table["judge"]) // max(len(judges), 1)  # ordered by judge; all have the same pairs in the same order
    pairs = {name: table[name][:size] for name in names[:3]}
    preference = np.asarray(table["preference"], np.float64).reshape(len(judges), -1).T
    shown = np.where(np.array(table["shown_first"]) == "a", 1.0, -1.0).reshape(len(judges), -1).T
    return Answers(judges, pairs, preference, shown)


def _own_scores(answers: Answers) -> list[list[FloatArray]]:
    """Fit every judge's own judgments: [judge][query] -> scores of the query's documents, none where it answered nothing."""
    batch, order = answers.numbered()
    scores = []
    for values in answers.preference.T:
        fit = fit_queries(Batch(batch.documents, batch.rows, batch.first, batch.second, (1 + values[order]) / 2), stderr=False)
        of_queries = np.split(fit.score, fit.starts[1:-1])
        known = np.diff(np.concatenate([[0], np.cumsum(~np.isnan(values[order]))])[np.asarray(batch.rows)]) > 0
        scores.append([s if k else np.zeros(0) for s, k in zip(of_queries, known.tolist(), strict=False)])
    return scores


def _terms(answers: Answers, weights: FloatArray, recipe: Recipe) -> JudgeTerms | None:
    settings = recipe.pool
    slopes = settings.weighting == "slopes"
    if not (slopes or settings.order_effect):
        return None
    batch, pair, judge = answers.by_judgment()
    shown = answers.shown[pair, judge]
    weighed = Batch(batch.documents, batch.rows, batch.first, batch.second, batch.prob_first, (weights * len(weights))[judge])
    link, prior_sd = recipe.fit.link, recipe.fit.prior_sd or None
    return estimate_terms(
        weighed, judge, shown, len(answers.judges), order_effect=settings.order_effect, slopes=slopes, link=link, prior_sd=prior_sd
    )


def tie_threshold(answers: Answers, weights: FloatArray, recipe: Recipe) -> float | None:
    """Return how near two scores are, in logits, where judges call it a tie; None where ties count as half a win for each."""
    if recipe.pool.ties != "outcome":
        return None
    batch, pair, judge = answers.by_judgment()
    values = answers.preference[pair, judge]
    weight = np.where(np.isnan(values), 0.0, (weights * len(weights))[judge])
    known = np.nan_to_num(values)
    counts = [weight * share for share in ((known != 0) * (1 + known) / 2, known == 0, (known != 0) * (1 - known) / 2)]
    return estimate_threshold(batch, *counts, prior_sd=recipe.fit.prior_sd or None)


def _write_judges(context: Context, answers: Answers, reliability: FloatArray, weights: FloatArray, terms: JudgeTerms | None) -> None:
    table, n = answers.preference, len(answers.judges)
    counts = {"judgments": len(table), "missing": np.isnan(table).sum(0), "ties": (table == 0).sum(0)}
    columns = {name: np.broadcast_to(value, n) for name, value in counts.items()}
    unknown = np.full(n, np.nan)
    settings = context.recipe.pool
    for name, asked in (("order_effect", settings.order_effect), ("slope", settings.weighting == "slopes")):
        columns[name] = getattr(terms, name) if terms is not None and asked else unknown
        stderr = f"{name.split('_')[0]}_stderr"
        columns[stderr] = getattr(terms, stderr) if terms is not None and asked else unknown
    write_table(context.write("judges"), "judges", {"judge": answers.judges, "reliability": reliability, "weight": weights, **columns})


def _term_notes(judges: list[str], terms: JudgeTerms | None, threshold: float | None) -> list[str]:
    notes = [] if threshold is None else [f"ties are an outcome of their own: threshold {threshold:.2f} logits"]
    if terms is None:
        return notes
    for k, judge in enumerate(judges):
        if not np.isnan(terms.order_stderr[k]):
            notes.append(f"{judge}: favors the text shown first by {terms.order_effect[k]:+.2f} ± {1.96 * terms.order_stderr[k]:.2f}")
        if not np.isnan(terms.slope_stderr[k]):
            notes.append(f"{judge}: slope {terms.slope[k]:.2f} ± {1.96 * terms.slope_stderr[k]:.2f}")
    ratios = (("order effects", terms.order_ratio), ("slopes", terms.slope_ratio))
    return notes + [f"likelihood ratio of {name}: {ratio:,.1f}" for name, ratio in ratios if not np.isnan(ratio)]


def _missing_notes(answers: Answers, rows: Rows) -> list[str]:
    """What no judge answered has no preference, and so no score; say so."""
    spoken = np.zeros(len(answers.preference), np.bool_)
    spoken[rows.pair] = True
    if spoken.all():
        return []
    queries = np.array(answers.pairs["query_id"])
    silent = sorted(set(queries.tolist()) - set(queries[spoken].tolist()))
    notes = [f"{int((~spoken).sum()):,} of {len(spoken):,} pairs have no usable judgment and are left out"]
    if silent:
        named = ", ".join(silent[:5]) + (", ..." if len(silent) > 5 else "")
        notes.append(f"{len(silent):,} questions have no usable judgment at all and get no scores: {named}")
    return notes


def _agreement(answers: Answers, top: FloatArray) -> Columns:
    rows: Columns = {"judge_a": [], "judge_b": [], "pairwise_agreement": [], "top_agreement": []}
    for i, a in enumerate(answers.judges):
        for j, b in enumerate(answers.judges):
            x, y = np.sign(answers.preference[:, i]), np.sign(answers.preference[:, j])
            decided = (x * y != 0) & ~np.isnan(x * y)
            rows["judge_a"].append(a)
            rows["judge_b"].append(b)
            rows["pairwise_agreement"].append(float((x == y)[decided].mean()) if decided.any() else np.nan)
            rows["top_agreement"].append(float(top[i, j]))
    return rows
