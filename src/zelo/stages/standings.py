"""standings: systems compared by the judges' scores, with what questions, answers and the choice of judges leave open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from zelo.artifacts import Columns, read_table, write_table
from zelo.collections.trec import read_run
from zelo.core.comparison_graph import rng_for
from zelo.core.dispersion import estimate_dispersion
from zelo.core.groups import group_rows
from zelo.core.label_agreement import kendall_tau_b
from zelo.core.links import win_probability
from zelo.core.paired_comparison import Batch
from zelo.core.pooling import Rows, rows_by_judge, rows_by_pair
from zelo.core.score_draws import draw_scores
from zelo.core.significance import holm, paired_randomization_test
from zelo.core.system_comparison import FLOOR, Scored, bounded, corrected, gains_of, panels, replicate_means, siding, values_of
from zelo.errors import InputError
from zelo.pipeline import Context, Outcome
from zelo.recipe import Recipe
from zelo.report.standings import Difference, JudgeView, Side, Standing, Standings, headline, warnings, write_standings
from zelo.report.verdict import ALPHA
from zelo.stages.pool import Answers, read_answers, tie_threshold

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_LEVELS = (0.025, 0.975)
_Terms = tuple[FloatArray, FloatArray]


@dataclass(frozen=True)
class _Field:
    """Questions, their pooled documents and what each system shows of them.

    `doc_ids` are a question's compared documents; `copies` [pooled], the compared document that each pooled one equals; `places`
    [systems, depth] the pooled document at each rank, -1 = none or not judged. `query`, `a`, `b` number the pairs' ends.
    """

    systems: list[str]
    query_ids: list[str]
    doc_ids: list[list[str]]
    copies: list[IntArray]
    places: list[IntArray]
    query: IntArray
    a: IntArray
    b: IntArray

    def batch(self, rows: Rows) -> Batch:
        """The rows as the fit takes them."""
        query = self.query[rows.pair]
        order = np.argsort(query, kind="stable")
        pair = rows.pair[order]
        ends = np.searchsorted(query[order], np.arange(len(self.query_ids) + 1))
        documents = [len(found) for found in self.doc_ids]
        columns = (rows.prob_a[order], rows.weight[order], rows.slope[order], rows.offset[order])
        return Batch(documents, ends, self.a[pair], self.b[pair], *columns, names=self.query_ids)


class _Scoring:
    """Scores by any weighing of the judges, with the recipe's terms and the same deviates for all of them."""

    def __init__(self, field: _Field, answers: Answers, weights: FloatArray, terms: _Terms | None, recipe: Recipe) -> None:
        """Take the judges' weights [judges], and their order effects and slopes [judges] if they are used."""
        self.field, self.answers, self.weights, self._terms, self._recipe = field, answers, weights, terms, recipe
        self._threshold = tie_threshold(answers, weights, recipe)
        draws = recipe.benchmark.draws
        sizes = zip(field.query_ids, field.doc_ids, strict=True)
        self._normal = [rng_for(recipe.seed, q, "standings").standard_normal((draws, len(d))) for q, d in sizes]

    def score(self, times: Sequence[int]) -> Scored:
        """Count each judge so many times."""
        used = np.flatnonzero(np.asarray(times) > 0)
        preference, weights = self.answers.preference[:, used], (self.weights * np.asarray(times))[used]
        if self._terms is None:
            rows = rows_by_pair(preference, weights, self._threshold)
        else:
            effect, slope = (values[used] for values in self._terms)
            rows = rows_by_judge(preference, weights, self.answers.shown[:, used], effect, slope, self._threshold)
        batch, fit = self.field.batch(rows), self._recipe.fit
        prior_sd = fit.prior_sd or None
        if fit.dispersion == "estimated":
            value = estimate_dispersion(batch, link=fit.link, prior_sd=prior_sd).value
            batch = Batch(batch.documents, batch.rows, batch.first, batch.second, batch.prob_first, np.asarray(batch.weight) / value,
                          batch.slope, batch.offset, names=batch.names)  # fmt: skip
        found = draw_scores(batch, self._normal, link=fit.link, prior_sd=prior_sd)
        values = []
        for drawn, copies, places in zip(found.drawn, self.field.copies, self.field.places, strict=True):
            gains = gains_of(drawn[:, copies], fit.link)
            values.append(values_of(gains, places))
        return Scored(np.stack(values), found.score)


def run(context: Context) -> Outcome:
    """Write report/standings.json and report/per_query.parquet.

    Raises:
        InputError: no question has comparisons.
    """
    recipe = context.recipe
    answers = read_answers(context)
    field = _field(context, answers)
    scoring = _Scoring(field, answers, *_weights(context, answers), recipe)
    scored = scoring.score([1] * len(answers.judges))
    found = _standings(context, scoring, scored)
    write_standings(context.write("standings"), found)
    base = scored.by_question
    table: Columns = {"system": [], "measure": [], "query_id": [], "value": []}
    for s, system in enumerate(field.systems):
        table["system"] += [system] * len(base)
        table["measure"] += [found.measure] * len(base)
        table["query_id"] += field.query_ids
        table["value"] += base[:, s].tolist()
    count = write_table(context.write("per_query"), "per_query", table)
    notes = (headline(found), *warnings(found))
    return Outcome({"systems": len(field.systems), "questions": found.questions, "per_query": count}, notes=notes)


def _field(context: Context, answers: Answers) -> _Field:
    depth = context.recipe.benchmark.depth
    pool = read_run(context.read("candidates") / "fused.trec")
    runs = {name: read_run(context.read("runs") / f"{name}.trec") for name in context.recipe.benchmark.systems}
    same: dict[tuple[str, str], str] = {}
    table = read_table(context.read("duplicates"), "duplicates")
    for query_id, doc_id, first in zip(table["query_id"], table["doc_id"], table["same_as"], strict=True):
        same[query_id, doc_id] = first
    heard = np.asarray(~np.isnan(answers.preference).all(axis=1), np.bool_)
    groups = {q: rows for q, rows in group_rows(answers.pairs["query_id"]).items() if heard[rows].any()}
    if not groups:
        raise InputError(
            "no question has two documents that a judge compared", where=str(context.workspace.root), remedy="give more questions"
        )
    query, a, b = (np.full(len(answers.preference), -1, np.int64) for _ in range(3))
    doc_ids, copies, places = [], [], []
    for number, (query_id, rows) in enumerate(groups.items()):
        ends = [[answers.pairs[name][i] for i in rows] for name in ("doc_id_a", "doc_id_b")]
        compared = sorted({*ends[0], *ends[1]})
        place = {doc_id: n for n, doc_id in enumerate(compared)}
        query[rows] = number
        a[rows], b[rows] = ([place[doc_id] for doc_id in side] for side in ends)
        pooled = [hit.doc_id for hit in pool[query_id] if same.get((query_id, hit.doc_id), hit.doc_id) in place]
        at = {doc_id: n for n, doc_id in enumerate(pooled)}
        shown = np.full((len(runs), depth), -1, np.int64)
        for s, rankings in enumerate(runs.values()):
            for rank, hit in enumerate(rankings.get(query_id, ())[:depth]):
                shown[s, rank] = at.get(hit.doc_id, -1)
        doc_ids.append(compared)
        copies.append(np.array([place[same.get((query_id, doc_id), doc_id)] for doc_id in pooled], np.int64))
        places.append(shown)
    return _Field(list(runs), list(groups), doc_ids, copies, places, query, a, b)


def _weights(context: Context, answers: Answers) -> tuple[FloatArray, _Terms | None]:
    table = read_table(context.read("judges"), "judges", ("judge", "weight", "order_effect", "slope"))
    at = [table["judge"].index(judge) for judge in answers.judges]
    weight, effect, slope = (np.asarray(table[name], np.float64)[at] for name in ("weight", "order_effect", "slope"))
    settings = context.recipe.pool
    if not (settings.order_effect or settings.weighting == "slopes"):
        return weight, None
    return weight, (np.nan_to_num(effect), np.where(np.isnan(slope), 1.0, slope))


def _standings(context: Context, scoring: _Scoring, base: Scored) -> Standings:
    recipe, field, answers = context.recipe, scoring.field, scoring.answers
    judges, seed, resamples = len(answers.judges), recipe.seed, recipe.evaluate.resamples
    means = base.level
    sets = panels(judges, recipe.benchmark.panels, rng_for(seed, "", "panels"))
    drawn, centers = _replicates(scoring, base, [s.times for s in sets], [s.chance for s in sets], context)
    order = sorted(range(len(field.systems)), key=lambda s: (-means[s], field.systems[s]))
    alone, without = _by_judge(scoring, base, judges)
    sources = _sources(base, centers, np.array([s.chance for s in sets]), recipe)
    shares = _shares(field, base, recipe)
    systems = tuple(_standing(field.systems[s], float(means[s]), drawn[:, s], sources[s], shares[s]) for s in order)
    views = _views(context, scoring, means, alone, without)
    pool_sizes = [len(copies) for copies in field.copies]
    random, true = base.means[:, -2:].mean(axis=0).tolist()
    return Standings(
        measure=f"nDCG@{recipe.benchmark.depth}",
        questions=len(field.query_ids),
        skipped=len(read_run(context.read("candidates") / "fused.trec")) - len(field.query_ids),
        pairs=len(answers.preference),
        pool=float(np.mean(pool_sizes)),
        random=random,
        resolution=max((true - random) / (1 - random), FLOOR) if random < 1 else 1.0,
        systems=systems,
        differences=tuple(_differences(field, base, drawn, means, order, without, answers.judges, recipe)),
        judges=views,
        agreement=_agreement(context),
        dollars=sum(view.dollars for view in views),
        resamples=resamples,
        panels=len(sets),
    )


def _standing(
    system: str,
    value: float,
    drawn: FloatArray,
    sources: tuple[float, float, float | None],
    shares: tuple[int, float, float | None, float],
) -> Standing:
    low, high = _interval(bounded(drawn))
    (queries, votes, judges), (answered, alone, alone_wins, wins) = sources, shares
    return Standing(system, min(max(value, 0.0), 1.0), low, high, queries, votes, judges, answered, alone, alone_wins, wins)


def _replicates(
    scoring: _Scoring, base: Scored, sets: Sequence[tuple[int, ...]], chances: Sequence[float], context: Context
) -> tuple[FloatArray, FloatArray]:
    """Means of replicates of the whole comparison [resamples, systems], and the mean by each set of judges [sets, systems]."""
    seed = context.recipe.seed
    resamples = context.recipe.evaluate.resamples
    counts = rng_for(seed, "", "sets of judges").multinomial(resamples, np.array(chances) / sum(chances))
    advance = context.progress.task("other judges")
    drawn, centers = [], []
    for number, (times, count) in enumerate(zip(sets, counts.tolist(), strict=True)):
        scored = base if len(set(times)) == 1 else scoring.score(times)
        centers.append(bounded(scored.level))
        drawn.append(corrected(replicate_means(scored.values, count, rng_for(seed, str(times), "replicates"))))
        advance(number + 1, len(sets))
    return np.concatenate(drawn), np.stack(centers)


def _sources(base: Scored, centers: FloatArray, chance: FloatArray, recipe: Recipe) -> list[tuple[float, float, float | None]]:
    """Per system half of the 95 % interval that the choice of questions, the votes and the choice of judges alone make."""
    means = bounded(corrected(replicate_means(base.means[:, None, :], recipe.evaluate.resamples, rng_for(recipe.seed, "", "one source"))))
    votes = bounded(corrected(base.values.mean(axis=0))).std(
        axis=0
    )  # draws of different questions are independent: their means already are draws
    judges = np.sqrt(chance @ (centers - chance @ centers) ** 2).tolist() if len(centers) > 1 else [None] * len(votes)
    rows = zip(means.std(axis=0).tolist(), votes.tolist(), judges, strict=True)
    return [(1.96 * a, 1.96 * b, None if c is None else 1.96 * c) for a, b, c in rows]


def _by_judge(scoring: _Scoring, base: Scored, judges: int) -> tuple[FloatArray, FloatArray]:
    """Values by each judge alone, and by all others [judges, systems]; without any for a single judge."""
    if judges == 1:
        return base.level[None], np.zeros((0, len(base.level)))
    one = np.eye(judges, dtype=int)
    alone = np.stack([scoring.score(times).level for times in one.tolist()])
    return alone, np.stack([scoring.score(times).level for times in (1 - one).tolist()])


def _interval(drawn: FloatArray) -> tuple[float, float]:
    low, high = np.quantile(drawn, _LEVELS)
    return float(low), float(high)


def _differences(
    field: _Field,
    base: Scored,
    drawn: FloatArray,
    means: FloatArray,
    order: list[int],
    without: FloatArray,
    judges: list[str],
    recipe: Recipe,
) -> list[Difference]:
    pairs = list(combinations(order, 2))
    values, p_values = base.by_question, []
    for s, t in pairs:
        rng = rng_for(recipe.seed, f"{field.systems[s]} {field.systems[t]}", "randomization")
        p_values.append(paired_randomization_test(values[:, s], values[:, t], recipe.evaluate.resamples, rng=rng))
    found = []
    for (s, t), p_value in zip(pairs, holm(p_values).tolist(), strict=True):
        # Of values that are not bounded, so that two systems beyond the bound still differ.
        low, high = _interval(np.clip(drawn[:, s] - drawn[:, t], -1.0, 1.0))
        turned = tuple(judge for judge, values in zip(judges, without, strict=False) if values[s] < values[t])
        shown = p_value < ALPHA and low > 0 and not turned
        found.append(
            Difference(field.systems[s], field.systems[t], min(1.0, float(means[s] - means[t])), low, high, p_value, turned, shown)
        )
    return found


def _shares(field: _Field, base: Scored, recipe: Recipe) -> list[tuple[int, float, float | None, float]]:
    """Per system: questions answered, share of documents that it alone shows, and how often those and all of its documents win."""
    systems = len(field.systems)
    answered, shown, alone = np.zeros(systems, np.int64), np.zeros(systems), np.zeros(systems)
    wins, alone_wins = np.zeros(systems), np.zeros(systems)
    for score, copies, places in zip(base.score, field.copies, field.places, strict=True):
        pooled = score[copies]
        chance = win_probability(pooled[:, None] - pooled, recipe.fit.link)
        win = (chance.sum(axis=1) - 0.5) / max(1, len(pooled) - 1)
        has = np.zeros((systems, len(pooled)), np.bool_)
        for s in range(systems):
            has[s, places[s][places[s] >= 0]] = True
        lonely = has & (has.sum(axis=0) == 1)
        answered += has.any(axis=1)
        shown, alone = shown + has.sum(axis=1), alone + lonely.sum(axis=1)
        wins, alone_wins = wins + has @ win, alone_wins + lonely @ win
    rows = zip(answered.tolist(), shown.tolist(), alone.tolist(), wins.tolist(), alone_wins.tolist(), strict=True)
    return [(a, lone / max(n, 1), won / lone if lone else None, win / max(n, 1)) for a, n, lone, win, won in rows]


def _views(context: Context, scoring: _Scoring, means: FloatArray, alone: FloatArray, without: FloatArray) -> tuple[JudgeView, ...]:
    field, answers, systems = scoring.field, scoring.answers, scoring.field.systems
    sides = _sides(field, answers, context.recipe) if len(answers.judges) > 1 else [()] * len(answers.judges)
    names = ("judge", "cost", "input_tokens", "output_tokens", "seconds")
    table = read_table(context.read("judgments"), "judgments", names)
    rows = group_rows(table["judge"])
    found = []
    for j, judge in enumerate(answers.judges):
        cost, read, written, seconds = (np.asarray(table[name])[rows[judge]] for name in names[1:])
        others = dict(zip(systems, bounded(without[j]).tolist(), strict=True)) if len(without) else {}
        found.append(
            JudgeView(
                judge=judge,
                weight=float(scoring.weights[j]),
                alone=dict(zip(systems, bounded(alone[j]).tolist(), strict=True)),
                without=others,
                tau_alone=kendall_tau_b(alone[j], means),
                tau_without=kendall_tau_b(without[j], means) if others else None,
                sides=tuple(sides[j]),
                judgments=len(answers.preference),
                missing=int(np.isnan(answers.preference[:, j]).sum()),
                dollars=float(cost.sum()),
                tokens=int(read.sum() + written.sum()),
                seconds=float(seconds.sum()),
            )
        )
    return tuple(found)


def _sides(field: _Field, answers: Answers, recipe: Recipe) -> list[tuple[Side, ...]]:
    """Per judge, how far it sides with each system's documents; p values are corrected over all judges and systems."""
    shows = np.zeros((len(answers.preference), len(field.systems)))
    for q, (copies, places) in enumerate(zip(field.copies, field.places, strict=True)):
        has = np.zeros((len(field.doc_ids[q]), len(field.systems)))
        for s in range(len(field.systems)):
            has[copies[places[s][places[s] >= 0]], s] = 1
        rows = field.query == q
        shows[rows] = has[field.a[rows]] - has[field.b[rows]]
    used = field.query >= 0
    wins = (1 + np.sign(answers.preference[used])) / 2
    found = siding(wins, shows[used], field.query[used], rng=rng_for(recipe.seed, "", "siding"))
    adjusted = holm(found.p_value).reshape(found.p_value.shape)
    numbers = [getattr(found, name).tolist() for name in ("own", "others", "excess", "low", "high")]
    sides = []
    for j in range(len(answers.judges)):
        row = []
        for s, system in enumerate(field.systems):
            own, others, excess, low, high = (table[j][s] for table in numbers)
            p_value, comparisons = float(adjusted[j, s]), int(found.comparisons[s])
            row.append(Side(system, own, others, excess, low, high, p_value, comparisons, p_value < ALPHA))
        sides.append(tuple(row))
    return sides


def _agreement(context: Context) -> tuple[tuple[str, str, float], ...]:
    table = read_table(context.read("agreement"), "agreement", ("judge_a", "judge_b", "pairwise_agreement"))
    rows = zip(table["judge_a"], table["judge_b"], np.asarray(table["pairwise_agreement"]).tolist(), strict=True)
    return tuple((a, b, value) for a, b, value in rows if a < b and value == value)
