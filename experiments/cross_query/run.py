"""Are targets better when scores of different queries are put on one scale by comparisons across queries?

    python experiments/cross_query/run.py [--only PART ...] [--out FILE] [WORKSPACE,SPLIT ...]

Parts designs, curve, student, anchor and scale have known truth and need no workspace. `real` and `similarity` take workspaces that
were run up to `retrieve` and a split of their collection whose labels may be looked at: a train or dev split, never one that is
reported on. Labels are what simulated judges go by, and what measures. Writes results.jsonl beside this file, one object per line;
the parts that were not run keep their lines.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import rankdata

from zelo.collections import open_collection
from zelo.collections.trec import read_run
from zelo.core.calibration import Anchor, fit_anchor, targets
from zelo.core.comparison_graph import hamiltonian_cycles, rng_for
from zelo.core.cross_query import Offsets, design_cross_pairs, fit_offsets
from zelo.core.metrics import ndcg_at
from zelo.core.paired_comparison import fit_query, win_probability
from zelo.judges import Comparison
from zelo.judges.simulated import SimulatedJudge
from zelo.pipeline import Context
from zelo.progress import Silent
from zelo.rerankers.blend import Head, Signals
from zelo.stages import inputs
from zelo.training.head import train_head
from zelo.workspace import Workspace

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Row = dict[str, Any]

HERE = Path(__file__).parent
DOCUMENTS, DEGREE, VOTES, SD = 100, 8, 3, 1.5  # of a simulated query; SD in logits, of scores within it
LEVELS = (0.0, 0.75, 1.5)  # standard deviations of the queries' levels, logits
COSTS = (1, 2, 4, 8, 16)  # comparisons across queries, per query
SPREAD, THRESHOLD = 3.0, 2.0  # of targets: the product's


@dataclass(frozen=True)
class World:
    """Simulated queries [Q, n]: utilities in logits, and what the fit of three votes on four cycles found of them."""

    utility: FloatArray
    score: FloatArray
    stderr: FloatArray

    @property
    def starts(self) -> IntArray:
        """Where each query's documents begin."""
        return np.asarray(np.arange(len(self.utility) + 1) * self.utility.shape[1], np.int64)

    @property
    def level(self) -> FloatArray:
        """The true offsets [Q], mean 0."""
        mean = self.utility.mean(axis=1)
        return np.asarray(mean - mean.mean())

    def votes(self, pairs: IntArray, rng: np.random.Generator) -> FloatArray:
        """Share [m] of three votes for the first document."""
        flat = self.utility.ravel()
        return np.asarray(rng.binomial(VOTES, win_probability(flat[pairs[:, 0]] - flat[pairs[:, 1]], "logit")) / VOTES)

    def offsets(self, pairs: IntArray, rng: np.random.Generator, *, errors: bool = True, prior_sd: float | None = None) -> Offsets:
        """Ask and fit."""
        weight = np.full(len(pairs), float(VOTES))
        stderr = self.stderr.ravel() if errors else None
        prob = self.votes(pairs, rng)
        return fit_offsets(self.score.ravel(), self.starts, pairs, prob, weight, score_stderr=stderr, link="logit", prior_sd=prior_sd)

    def cross_pairs(self, cost: int, rng: np.random.Generator, depth: int = 30) -> IntArray:
        """The product's design."""
        return design_cross_pairs(self.score.ravel(), self.starts, cost, rng, depth=depth)


def make_world(queries: int, level_sd: float, rng: np.random.Generator) -> World:
    """Draw utilities: N(level, SD^2), level N(0, level_sd^2); judge and fit every query as the product does."""
    utility = SD * rng.normal(size=(queries, DOCUMENTS)) + level_sd * rng.normal(size=(queries, 1))
    score, stderr = np.empty_like(utility), np.empty_like(utility)
    for q, u in enumerate(utility):
        edges = hamiltonian_cycles(DOCUMENTS, DEGREE, rng)
        prob = rng.binomial(VOTES, win_probability(u[edges[:, 0]] - u[edges[:, 1]], "logit")) / VOTES
        fit = fit_query(DOCUMENTS, edges[:, 0], edges[:, 1], prob, np.full(len(edges), float(VOTES)), link="logit")
        score[q], stderr[q] = fit.score, fit.stderr
    return World(utility, score, stderr)


def other_designs(world: World, cost: int, rng: np.random.Generator) -> Mapping[str, IntArray]:
    """Pairs of other designs with as many comparisons: more documents per edge of fewer cycles, and hubs."""
    queries, rank = len(world.score), np.argsort(-world.score, axis=1)[:, :30]
    flat, best = world.score.ravel(), rank + world.starts[:-1, None]

    def nearest(one: IntArray, other: IntArray) -> IntArray:
        document = best[one, rng.integers(best.shape[1], size=len(one))]
        place = np.abs(flat[best[other]] - flat[document][:, None]).argmin(axis=1)
        return np.stack([document, best[other, place]], axis=1)

    found: dict[str, IntArray] = {}
    if cost >= 4:
        cycles = [rng.permutation(queries) for _ in range(2)]
        found["2 cycles, more documents per edge"] = np.concatenate([nearest(c, np.roll(c, -1)) for c in cycles for _ in range(cost // 2)])
    hubs = rng.choice(queries, cost, replace=False)
    spokes = [np.delete(np.arange(queries), h) for h in hubs]
    found["as many hubs as comparisons"] = np.concatenate([nearest(s, np.full(len(s), h)) for s, h in zip(spokes, hubs, strict=True)])
    return found


def summary(part: str, found: Mapping[tuple[Any, ...], Sequence[Mapping[str, float]]], names: Sequence[str]) -> Iterator[Row]:
    """Yield a row per setting: the mean of every figure over the repetitions, and its standard error."""
    for key, repetitions in found.items():
        row: Row = {"part": part, **dict(zip(names, key, strict=True)), "repetitions": len(repetitions)}
        for figure in repetitions[0]:
            values = np.array([r[figure] for r in repetitions])
            row[figure] = round(float(values.mean()), 4)
            row[f"{figure}_se"] = round(float(values.std(ddof=1) / np.sqrt(len(values))), 4)
        yield row


def errors_of(world: World, fit: Offsets) -> dict[str, float]:
    """How far offsets and totals are from the truth, in logits, and how often 95 % intervals hold it."""
    total, truth = world.score + fit.offset[:, None], world.utility - world.utility.mean()
    top = np.argsort(-world.score, axis=1)[:, :10]
    wrong = total - truth
    return {
        "offset_rmse": _rms(fit.offset - world.level),
        "total_rmse": _rms(wrong),
        "top10_rmse": _rms(np.take_along_axis(wrong, top, axis=1)),
        "covered": float(np.mean(np.abs(fit.offset - world.level) < 1.96 * fit.stderr)),
    }


def designs(repetitions: int = 6) -> Iterator[Row]:
    """Which pairs to draw, whether to count the scores' errors, and the prior, at 4 and 8 comparisons per query."""
    found: dict[tuple[Any, ...], list[dict[str, float]]] = {}
    for r in range(repetitions):
        rng = rng_for(r, "", "designs")
        world = make_world(150, SD, rng)
        for cost in (1, 4, 8):
            variants = {f"cycles, best {d}": world.cross_pairs(cost, rng, d) for d in (1, 3, 10, 30, 100)}
            for name, pairs in {**variants, **other_designs(world, cost, rng)}.items():
                found.setdefault((cost, name, "estimated"), []).append(errors_of(world, world.offsets(pairs, rng)))
            pairs = world.cross_pairs(cost, rng)
            found.setdefault((cost, "cycles, best 30, scores taken for exact", "estimated"), []).append(
                errors_of(world, world.offsets(pairs, rng, errors=False))
            )
            for prior in (0.75, 1.5, 3.0, 6.0):
                found.setdefault((cost, "cycles, best 30", prior), []).append(errors_of(world, world.offsets(pairs, rng, prior_sd=prior)))
    return summary("designs", found, ("cost", "design", "prior_sd"))


def curve(repetitions: int = 6) -> Iterator[Row]:
    """Comparisons per query against the error, for levels that differ much, less and not at all."""
    found: dict[tuple[Any, ...], list[dict[str, float]]] = {}
    for r in range(repetitions):
        for level_sd in LEVELS:
            rng = rng_for(r, str(level_sd), "curve")
            world = make_world(150, level_sd, rng)
            nothing = world.offsets(np.empty((0, 2), np.int64), rng)
            found.setdefault((level_sd, 0, "none"), []).append(errors_of(world, nothing))
            for cost in COSTS:
                pairs = world.cross_pairs(cost, rng)
                for name, prior in (("estimated", None), ("1.5", 1.5)):
                    fit = world.offsets(pairs, rng, prior_sd=prior)
                    found.setdefault((level_sd, cost, name), []).append(errors_of(world, fit) | {"prior_sd_found": fit.prior_sd})
    return summary("curve", found, ("level_sd", "cost", "prior_sd"))


def features(world: World, rng: np.random.Generator) -> FloatArray:
    """What a pointwise student sees [Q n, 3]: utility with noise, order within the query with noise, level with noise."""
    within, level = world.utility - world.utility.mean(axis=1, keepdims=True), np.repeat(world.level, DOCUMENTS)
    noise = [sd * rng.normal(size=world.utility.size) for sd in (1.5, 1.0)] + [np.repeat(rng.normal(size=len(world.utility)), DOCUMENTS)]
    return np.stack([world.utility.ravel(), within.ravel(), level], axis=1) + np.stack(noise, axis=1)


def per_query(scores: FloatArray, starts: IntArray) -> FloatArray:
    """Today's targets."""
    parts = [targets(scores[a:b], spread=SPREAD, threshold=THRESHOLD) for a, b in pairwise(starts)]
    return np.concatenate(parts)


def across(scores: FloatArray, starts: IntArray, offset: FloatArray | None = None) -> FloatArray:
    """Targets of scores that are taken to be on one scale, after adding the offsets."""
    level = 0.0 if offset is None else np.repeat(offset, np.diff(starts))
    return targets(scores + level, spread=SPREAD, threshold=THRESHOLD)


def student(repetitions: int = 6) -> Iterator[Row]:
    """A pointwise head that learned each kind of target, on queries that it has not seen."""
    found: dict[tuple[Any, ...], list[dict[str, float]]] = {}
    for r in range(repetitions):
        for level_sd in LEVELS:
            rng = rng_for(r, str(level_sd), "student")
            world, unseen = make_world(150, level_sd, rng), make_world(150, level_sd, rng)
            seen_x, unseen_x, starts = features(world, rng), features(unseen, rng), world.starts
            flat = world.score.ravel()
            truth = targets(world.utility.ravel(), spread=SPREAD, threshold=THRESHOLD)
            kinds = {"per query": per_query(flat, starts), "one scale, no offsets": across(flat, starts), "truth": truth}
            for cost in COSTS:
                fit = world.offsets(world.cross_pairs(cost, rng), rng)
                kinds[f"one scale, {cost} per query"] = across(flat, starts, fit.offset)
            kinds["one scale, true offsets"] = across(flat, starts, world.level)
            for name, target in kinds.items():
                head, _ = train_head(seen_x, target)
                figures = {"target_rmse": _rms(target - truth)} | ranking(head(unseen_x), unseen)
                today = found.get((level_sd, "per query"), [figures])[-1] if name != "per query" else figures
                figures |= {f"{f}_gain": figures[f] - today[f] for f in ("ap", "best_f1", "ndcg10")}  # paired: the same world
                found.setdefault((level_sd, name), []).append(figures)
    return summary("student", found, ("level_sd", "targets"))


def ranking(score: FloatArray, world: World) -> dict[str, float]:
    """Figures of a student: relevant is what lies two standard deviations above the mean of all queries' utilities."""
    utility = world.utility.ravel()
    relevant = utility > utility.mean() + THRESHOLD * utility.std()
    gain = targets(utility, spread=SPREAD, threshold=THRESHOLD).reshape(world.utility.shape)
    order = np.argsort(-score.reshape(gain.shape), axis=1)
    ndcg = [ndcg_at(g[o].tolist(), g.tolist(), 10) for g, o in zip(gain, order, strict=True)]
    return {**single_threshold(score, relevant), "ndcg10": float(np.mean(ndcg))}


def single_threshold(score: FloatArray, relevant: NDArray[np.bool_]) -> dict[str, float]:
    """AUC, average precision and the best F1 of one threshold over all queries."""
    ranks, positives = rankdata(score), relevant.sum()
    auc = (ranks[relevant].sum() - positives * (positives + 1) / 2) / (positives * (len(score) - positives))
    hits = relevant[np.argsort(-score, kind="stable")]
    found, place = np.cumsum(hits), np.arange(1, len(score) + 1)
    return {"auc": float(auc), "ap": float((found / place)[hits].mean()), "best_f1": float((2 * found / (place + positives)).max())}


def anchor(repetitions: int = 20) -> Iterator[Row]:
    """Ratings of a noisy rubric on 8 comparisons per query: error of the targets against the expected rating / 10.

    The rater gives 10 sigmoid(utility - level + noise), rounded, noise N(0, 1) logits; level is two deviations above the mean.
    """
    found: dict[tuple[Any, ...], list[dict[str, float]]] = {}
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    for r in range(repetitions):
        rng = rng_for(r, "", "anchor")
        world = make_world(100, SD, rng)
        total = (world.score + world.offsets(world.cross_pairs(8, rng), rng).offset[:, None]).ravel()
        utility = world.utility.ravel()
        logits = utility - utility.mean() - THRESHOLD * utility.std()
        expected = expit(logits[:, None] + nodes) @ weights / weights.sum()
        unanchored = targets(total, spread=SPREAD, threshold=THRESHOLD)
        found.setdefault((0, "no ratings, 3 logits per deviation from 2"), []).append({"target_rmse": _rms(unanchored - expected)})
        for count in (20, 50, 100):
            for how, chosen in (("spread over the scores", spread_out(total, count, rng)), ("at random", rng.choice(len(total), count))):
                rating = np.round(10 * expit(logits[chosen] + rng.normal(size=count)))
                fitted: Anchor = fit_anchor(total[chosen], rating)
                found.setdefault((count, how), []).append({"target_rmse": _rms(fitted(total) - expected)})
        best = fit_anchor(total, 10 * expected)
        found.setdefault((len(total), "every document, no noise"), []).append({"target_rmse": _rms(best(total) - expected)})
    return summary("anchor", found, ("ratings", "documents"))


def spread_out(total: FloatArray, count: int, rng: np.random.Generator) -> IntArray:
    """Documents [count] nearest to as many points spread evenly from the median to the highest score."""
    points = np.linspace(np.median(total), total.max(), count) + 0.01 * rng.normal(size=count)
    return np.asarray(np.abs(total[:, None] - points).argmin(axis=0), np.int64)


def scale(queries: int = 112_000) -> Iterator[Row]:
    """CPU seconds and memory for as many queries as the paper has, 100 documents each; levels N(0, .62^2) on the probit scale."""
    rng = np.random.default_rng(0)
    score, starts = 0.62 * rng.normal(size=queries * DOCUMENTS), np.arange(queries + 1) * DOCUMENTS
    level = 0.62 * rng.normal(size=queries)
    level -= level.mean()
    design_cross_pairs(score[:2000], starts[:21], 1, rng)  # compiled before it is measured
    fit_offsets(score[:2000], starts[:21], np.array([[0, 100]]), [0.5])
    for cost in (4, 8):
        begun = time.process_time()
        pairs = design_cross_pairs(score, starts, cost, rng)
        drawn = time.process_time()
        lead = score[pairs[:, 0]] - score[pairs[:, 1]] + level[pairs[:, 0] // DOCUMENTS] - level[pairs[:, 1] // DOCUMENTS]
        prob = rng.binomial(VOTES, win_probability(lead, "probit")) / VOTES
        weight = np.full(len(pairs), float(VOTES))
        for prior in (0.62, None):
            start = time.process_time()
            fit = fit_offsets(score, starts, pairs, prob, weight, prior_sd=prior)
            row: Row = {"part": "scale", "queries": queries, "cost": cost, "prior_sd": prior or "estimated", "prior_sd_found": fit.prior_sd}
            row |= {"design_seconds": round(drawn - begun, 2), "fit_seconds": round(time.process_time() - start, 2)}
            row |= {
                "gradient_norm": fit.gradient_norm,
                "offset_rmse": round(_rms(fit.offset - level), 4),
                "mean_stderr": round(_rms(fit.stderr), 4),
            }
            row["covered"] = round(float(np.mean(np.abs(fit.offset - level) < 1.96 * fit.stderr)), 4)
            yield row | {"peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)}


@dataclass(frozen=True)
class Case:
    """A real query: its text, its candidates' distinct texts, the student's features [n, 3] of them, their labels [n]."""

    query: str
    texts: list[str]
    features: FloatArray
    gain: FloatArray

    def without_answers(self) -> Case:
        """The same without the documents that answer it."""
        kept = np.flatnonzero(self.gain <= 0)
        return Case(self.query, [self.texts[i] for i in kept], self.features[kept], self.gain[kept])


def cases(workspace: Workspace, split: str) -> list[Case]:
    """Read the training queries that the split labels, some of whose labeled documents are candidates."""
    context = Context(workspace, workspace.recipe, workspace.root, Silent())
    texts, query_texts = inputs.documents(context), inputs.queries(context)
    split_of = inputs.splits(context.read("splits"))
    materials = inputs.CorpusSignals(context, texts, query_texts)
    signals = Signals(materials.lexical(), materials.bank(), *materials.token_frequency())
    candidates = read_run(context.read("candidates") / "fused.trec")
    labels: dict[str, dict[str, float]] = {}
    for row in open_collection(workspace.recipe.ingest.collection).qrels(split):
        labels.setdefault(row.query_id, {})[texts[row.doc_id]] = row.relevance
    found = []
    for query_id, of_query in labels.items():
        if split_of.get(query_id) == "train":
            shown = list(dict.fromkeys(texts[d.doc_id] for d in candidates.get(query_id, [])))
            gain = np.array([of_query.get(text, 0.0) for text in shown])
            if (gain > 0).any() and (gain <= 0).sum() > 10:
                found.append(Case(query_texts[query_id], shown, signals(query_texts[query_id], shown), gain))
    return found[:300]


def half_without_answers(found: Sequence[Case]) -> list[Case]:
    """Take the answers away from every second query."""
    return [c.without_answers() if i % 2 else c for i, c in enumerate(found)]


def real(name: str, found: Sequence[Case]) -> Iterator[Row]:
    """A simulated judge (accuracy .9) goes by the labels; the blend's head learns the targets and is measured in two folds."""
    for answers, used in (("as found", list(found)), ("half of the queries without", half_without_answers(found))):
        gains = {(c.query, t): float(g > 0) for c in used for t, g in zip(c.texts, c.gain, strict=True)}
        judge = SimulatedJudge("labels", lambda q, d, gains=gains: gains[q, d], accuracy=0.9)  # type: ignore[misc]
        rng = rng_for(0, name, answers)
        score, stderr = judged_scores(used, judge, rng)
        starts = np.concatenate([[0], np.cumsum([len(c.texts) for c in used])])
        kinds = {"per query": per_query(score, starts), "one scale, no offsets": across(score, starts)}
        for cost in (4, 16):
            pairs = design_cross_pairs(score, starts, cost, rng)
            fit = fit_offsets(score, starts, pairs, cross_votes(used, starts, pairs, judge), score_stderr=stderr, link="logit")
            kinds[f"one scale, {cost} per query"] = across(score, starts, fit.offset)
        x, relevant = np.concatenate([c.features for c in used]), np.concatenate([c.gain for c in used]) > 0
        fold = np.repeat(np.arange(len(used)) // 2 % 2, np.diff(starts))
        gained = np.concatenate([c.gain for c in used])
        for kind, target in kinds.items():
            predicted = np.empty(len(x))
            for test in (0, 1):
                head, _ = train_head(x[fold != test], target[fold != test])
                predicted[fold == test] = _logit(head, x[fold == test])
            for system, values in (("targets", target), ("student", predicted)):
                draws = resampled(values, relevant, gained, starts)
                row = {"part": "real", "collection": name, "queries": len(used), "answers": answers, "targets": kind, "system": system}
                yield row | interval(draws)


def judged_scores(used: Sequence[Case], judge: SimulatedJudge, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Scores and standard errors of all queries' documents, from four cycles."""
    scores, errors = [], []
    for c in used:
        edges = hamiltonian_cycles(len(c.texts), DEGREE, rng)
        answers = judge.judge([Comparison(c.query, c.texts[i], c.texts[j]) for i, j in edges.tolist()])
        prob = np.array([(1 + (a.preference or 0.0)) / 2 for a in answers])
        fit = fit_query(len(c.texts), edges[:, 0], edges[:, 1], prob, link="logit")
        scores.append(fit.score)
        errors.append(fit.stderr)
    return np.concatenate(scores), np.concatenate(errors)


def cross_votes(used: Sequence[Case], starts: IntArray, pairs: IntArray, judge: SimulatedJudge) -> FloatArray:
    """The judge's answers across queries as probabilities [m]."""
    query = np.searchsorted(starts, pairs, side="right") - 1
    place = pairs - starts[query]
    shown = [
        Comparison(used[q].query, used[q].texts[i], used[r].texts[j], used[r].query)
        for (q, r), (i, j) in zip(query.tolist(), place.tolist(), strict=True)
    ]
    return np.array([(1 + (a.preference or 0.0)) / 2 for a in judge.judge(shown)])


def resampled(
    score: FloatArray, relevant: NDArray[np.bool_], gain: FloatArray, starts: IntArray, draws: int = 60
) -> list[dict[str, float]]:
    """Figures of all queries, and of bootstrap samples of queries."""
    rng = np.random.default_rng(0)
    rows = [np.arange(a, b) for a, b in pairwise(starts)]
    ndcg = np.array([ndcg_at(gain[r][np.argsort(-score[r], kind="stable")].tolist(), gain[r].tolist(), 10) for r in rows])
    answered = np.array([relevant[r].any() for r in rows])
    found = []
    for draw in range(draws + 1):
        chosen = rng.integers(len(rows), size=len(rows)) if draw else np.arange(len(rows))
        picked = np.concatenate([rows[q] for q in chosen])
        figures = single_threshold(score[picked], relevant[picked])
        found.append(figures | {"ndcg10": float(ndcg[chosen][answered[chosen]].mean())})
    return found


def interval(draws: Sequence[Mapping[str, float]]) -> Row:
    """The figures of all queries, with bootstrap standard errors."""
    row: Row = {}
    for figure, value in draws[0].items():
        row[figure] = round(value, 4)
        row[f"{figure}_se"] = round(float(np.std([d[figure] for d in draws[1:]], ddof=1)), 4)
    return row


def similarity(name: str, found: Sequence[Case]) -> Iterator[Row]:
    """Do raw similarities compare across queries? One threshold on them, against one on standard scores per query."""
    for answers, used in (("as found", list(found)), ("half of the queries without", half_without_answers(found))):
        starts = np.concatenate([[0], np.cumsum([len(c.texts) for c in used])])
        gain = np.concatenate([c.gain for c in used])
        number = np.array([(c.gain > 0).sum() for c in used], np.float64)
        for place, signal in ((1, "dense"), (2, "late_interaction")):
            raw = [c.features[:, place] for c in used]
            level = np.array([v.mean() for v in raw])
            systems = {"standardized per query": [(v - v.mean()) / max(float(v.std()), 1e-12) for v in raw], "raw": raw}
            for system, values in systems.items():
                row: Row = {"part": "similarity", "collection": name, "queries": len(used), "answers": answers, "signal": signal}
                row |= {"system": system, **interval(resampled(np.concatenate(values), gain > 0, gain, starts))}
                if system == "raw" and number.std() > 0:
                    row["level_and_relevant_candidates"] = round(float(np.corrcoef(rankdata(level), rankdata(number))[0, 1]), 3)
                if answers != "as found":
                    best = np.array([v.max() for v in values])
                    row["auc_query_has_answers"] = round(single_threshold(best, number > 0)["auc"], 4)
                yield row


def _logit(head: Head, x: FloatArray) -> FloatArray:
    return np.asarray(((x - np.array(head.center)) / np.array(head.scale)) @ np.array(head.weights) + head.bias)


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2)))


SIMULATED = {"designs": designs, "curve": curve, "student": student, "anchor": anchor, "scale": scale}
REAL = {"real": real, "similarity": similarity}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workspaces", nargs="*", metavar="WORKSPACE,SPLIT")
    parser.add_argument("--only", nargs="+", default=[*SIMULATED, *REAL], choices=[*SIMULATED, *REAL])
    parser.add_argument("--out", type=Path, default=HERE / "results.jsonl")
    options = parser.parse_args(arguments)
    rows = [row for part in options.only if part in SIMULATED for row in SIMULATED[part]()]
    for argument in options.workspaces:
        folder, _, split = argument.rpartition(",")
        workspace = Workspace.open(Path(folder))
        found = cases(workspace, split)
        name = Path(workspace.recipe.ingest.collection).name
        rows += [row for part in options.only if part in REAL for row in REAL[part](name, found)]
    out = options.out
    kept = [json.loads(line) for line in out.read_text("utf-8").splitlines()] if out.exists() else []
    made = {(row["part"], row.get("collection")) for row in rows}
    rows = [row for row in kept if (row["part"], row.get("collection")) not in made] + rows
    out.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
