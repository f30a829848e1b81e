"""evaluate: every ranking against the human labels of the test questions, which no earlier stage has read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zelo.artifacts import Columns, write_table
from zelo.collections.trec import read_run
from zelo.core.comparison_graph import rng_for
from zelo.core.label_agreement import kendall_tau_b, pairwise_accuracy
from zelo.core.metrics import evaluate_ranking
from zelo.core.significance import bootstrap_interval, holm, paired_randomization_test
from zelo.pipeline import Context, Outcome
from zelo.recipe import Recipe
from zelo.report.measured import FIRST_STAGE, KENDALL, PAIRWISE, Measured, in_order, read_labels, write_measured
from zelo.stages import inputs
from zelo.types import ScoredDoc

Runs = Mapping[str, Mapping[str, Sequence[ScoredDoc]]]
"""system -> query_id -> ranking, best first."""
Qrels = Mapping[str, Mapping[str, float]]
"""query_id -> doc_id -> gain."""
Values = dict[str, dict[str, dict[str, float]]]
"""measure -> system -> query_id -> value; every system of a measure has the same queries."""


def check(recipe: Recipe) -> None:
    """Raise InputError for an unknown measure."""
    evaluate_ranking({}, {}, recipe.evaluate.measures)


def run(context: Context) -> Outcome:
    """Write report/metrics.jsonl and report/per_query.parquet; without labels both are empty, and a note says so."""
    settings, seed = context.recipe.evaluate, context.recipe.seed
    split = context.recipe.ingest.test_split
    qrels = read_labels(context.read("qrels") / f"{split}.tsv", inputs.splits(context.read("splits")))
    runs = read_runs((context.read("candidates"), context.read("rankings")), qrels)
    values = measure_systems(runs, qrels, settings.measures) if qrels else {}
    first = next(iter(values), "")
    parts = ({m: values[m] for m in {first: 0, measure: 0}} for measure in values)  # the first one decides on the baseline
    rows = [row for part in context.executor.map(Comparing(split, settings.resamples, seed), parts) for row in part]
    agreement = agree_with_labels(runs, qrels)
    rows += [_mean(agreement[m][s], s, m, split, settings.resamples, seed) for m in agreement for s in agreement[m]]
    notes = [] if qrels else [f"no test question has labels in qrels/{split}.tsv: nothing was measured"]
    empty = sum(not runs["fused"].get(q) for q in qrels) if "fused" in runs else 0
    if empty:
        notes.append(f"{empty:,} of {len(qrels):,} test queries without candidates: they count 0 for every system")
    table: Columns = {"system": [], "measure": [], "query_id": [], "value": []}
    for line in _per_query({**values, **agreement}):
        for name, value in zip(table, line, strict=True):
            table[name].append(value)
    count = write_table(context.write("per_query"), "per_query", table)
    return Outcome(
        {"metrics": write_measured(context.write("metrics"), rows), "per_query": count, "queries": len(qrels)}, notes=tuple(notes)
    )


@dataclass(frozen=True)
class Comparing:
    """The rows of one measure, the last of those given, as a work."""

    split: str
    resamples: int
    seed: int

    def open(self) -> Callable[[Values], list[Measured]]:
        """Return `compare` for one measure."""
        return lambda values: compare(values, list(values)[-1], self.split, self.resamples, self.seed)


def read_runs(folders: Sequence[Path], query_ids: Mapping[str, object]) -> Runs:
    """Return the rankings of these questions by every run in the folders, each run named after its file."""
    paths = {path.stem: path for folder in folders for path in sorted(folder.glob("*.trec"))}
    return {name: {q: r for q, r in read_run(paths[name]).items() if q in query_ids} for name in in_order(paths)}


def measure_systems(runs: Runs, qrels: Qrels, measures: Sequence[str]) -> Values:
    """Evaluate each system on every labeled question; one that it does not answer counts 0."""
    values: Values = {measure: {} for measure in measures}
    for system, rankings in runs.items():
        # By rank, not by score: the order of the file is the ranking, also where scores tie.
        ranked = {q: [(doc.doc_id, -float(rank)) for rank, doc in enumerate(ranking)] for q, ranking in rankings.items()}
        for measure, found in evaluate_ranking(ranked, qrels, measures).items():
            values[measure][system] = found
    return values


def best_first_stage(values: Values, measure: str) -> str | None:
    """Return the baseline: the first-stage system with the highest mean of a measure, the earlier one of equals."""
    means = {s: float(np.mean(list(values[measure][s].values()))) for s in values[measure] if s in FIRST_STAGE}
    return max(means, key=lambda system: means[system]) if means else None


def compare(values: Values, measure: str, split: str, resamples: int, seed: int) -> list[Measured]:
    """Return a row per system for one measure. The baseline is the same for all measures: the best by the first one.

    `judged@k` says how far the labels reach, not how good a ranking is; it is not tested.
    """
    baseline = best_first_stage(values, next(iter(values)))
    rows = {s: _mean(found, s, measure, split, resamples, seed) for s, found in values[measure].items()}
    if baseline is None or measure.startswith("judged@"):
        return list(rows.values())
    reference = values[measure][baseline]
    others = [s for s in rows if s != baseline]
    p_values = []
    for system in others:
        found = values[measure][system]
        a, b = np.array([found[q] for q in reference]), np.array(list(reference.values()))
        p_values.append(paired_randomization_test(a, b, resamples, rng=rng_for(seed, f"{system} {measure}", "randomization")))
        low, high = bootstrap_interval(a - b, resamples=resamples, rng=rng_for(seed, f"{system} {measure}", "difference"))
        rows[system] = replace(rows[system], baseline=baseline, difference=float(np.mean(a - b)), difference_low=low, difference_high=high)
    for system, p_value in zip(others, holm(p_values).tolist(), strict=True):
        rows[system] = replace(rows[system], p_value=p_value)
    rows[baseline] = replace(rows[baseline], baseline=baseline)
    return list(rows.values())


def agree_with_labels(runs: Runs, qrels: Qrels) -> Values:
    """Return how far the scores of the reranked lists, and of the list they rerank, agree with the labels.

    Per question, over the candidates that all these systems rank, an unlabeled one having gain 0: Kendall's tau-b, and the share
    of candidate pairs of different gains in the right order. Questions whose candidates all have the same gain are left out.
    """
    names = [name for name in runs if name not in FIRST_STAGE]
    names = ["fused"] * ("fused" in runs) + names if names else []
    values: Values = {measure: {name: {} for name in names} for measure in (KENDALL, PAIRWISE)} if names else {}
    for query_id, labels in qrels.items():
        scores = {name: {doc.doc_id: doc.score for doc in runs[name].get(query_id, ())} for name in names}
        common = sorted(set.intersection(*(set(found) for found in scores.values()))) if scores else []
        gains = [max(labels.get(doc_id, 0.0), 0.0) for doc_id in common]
        for name in names:
            found = [scores[name][doc_id] for doc_id in common]
            for measure, value in ((KENDALL, kendall_tau_b(found, gains)), (PAIRWISE, pairwise_accuracy(found, gains))):
                if value is not None:
                    values[measure][name][query_id] = value
    return {measure: {name: found for name, found in by_system.items() if found} for measure, by_system in values.items()}


def _mean(found: Mapping[str, float], system: str, measure: str, split: str, resamples: int, seed: int) -> Measured:
    values = np.array(list(found.values()))
    # Each row draws from a generator of its own, so that one more system or measure changes no other interval.
    low, high = bootstrap_interval(values, resamples=resamples, rng=rng_for(seed, f"{system} {measure}", "bootstrap"))
    return Measured(system, measure, split, float(values.mean()), low, high, len(values))


def _per_query(values: Values) -> Iterator[tuple[str, str, str, float]]:
    for measure, by_system in values.items():
        for system, found in by_system.items():
            for query_id, value in found.items():
                yield system, measure, query_id, value
