"""compare: the student of this refine round beside those of the rounds before, on the same test questions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from zelo.artifacts import read_table
from zelo.core.comparison_graph import rng_for
from zelo.core.significance import bootstrap_interval, paired_randomization_test
from zelo.judges.known import dollars_spent
from zelo.pipeline import Context, Outcome
from zelo.stages.failures import student_values
from zelo.stages.judge import JOURNAL


def run(context: Context) -> Outcome:
    """Write report/refinement.jsonl; without labels of test questions it holds the costs alone."""
    rounds = [json.loads(line) for line in context.read("before").read_text("utf-8").splitlines()]
    failures = read_table(context.read("failures"), "failures")
    added = int((np.asarray(failures["round"]) == len(rounds)).sum())
    values = student_values(context.read("per_query"))
    rounds.append({"round": len(rounds), "added": added, "dollars": dollars_spent(context.workspace.root / JOURNAL), "values": values})
    settings, seed = context.recipe.evaluate, context.recipe.seed
    measures = [m for m in settings.measures if all(m in r["values"] for r in rounds) and not m.startswith("judged@")]
    rows = [_row(rounds, i, measure, settings.resamples, seed) for measure in measures for i in range(len(rounds))]
    rows = rows or [_cost(rounds, i) for i in range(len(rounds))]
    context.write("refinement").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return Outcome({"refinement": len(rows)}, notes=(_sides(context, failures, len(rounds) - 1),))


def _cost(rounds: Sequence[dict[str, Any]], i: int) -> dict[str, Any]:
    earlier = rounds[i - 1]["dollars"] if i else 0.0
    return {"round": rounds[i]["round"], "added": rounds[i]["added"], "dollars": round(rounds[i]["dollars"] - earlier, 9)}


def _row(rounds: Sequence[dict[str, Any]], i: int, measure: str, resamples: int, seed: int) -> dict[str, Any]:
    """One measure of one round, against the round before: the same questions in both."""
    now = rounds[i]["values"][measure]
    values = np.array(list(now.values()))
    low, high = bootstrap_interval(values, resamples=resamples, rng=rng_for(seed, f"round {i} {measure}", "bootstrap"))
    row = {"measure": measure, **_cost(rounds, i), "value": float(values.mean()), "low": low, "high": high, "queries": len(values)}
    before = rounds[i - 1]["values"][measure] if i else {}
    both = [q for q in now if q in before]
    if both:
        a, b = np.array([now[q] for q in both]), np.array([before[q] for q in both])
        low, high = bootstrap_interval(a - b, resamples=resamples, rng=rng_for(seed, f"round {i} {measure}", "difference"))
        p_value = paired_randomization_test(a, b, resamples, rng=rng_for(seed, f"round {i} {measure}", "randomization"))
        row |= {"difference": float((a - b).mean()), "difference_low": low, "difference_high": high, "p_value": p_value}
    return row


def _sides(context: Context, failures: dict[str, Any], number: int) -> str:
    """Say how often the judges hold with the reference against the document that was ranked above it."""
    name = "lessons" if context.recipe.line == "distilled" else "preferences"
    table = read_table(context.read(name), name, ("query_id", "doc_id_a", "doc_id_b", "prob_a"))
    keys = zip(table["query_id"], table["doc_id_a"], table["doc_id_b"], strict=True)
    prob = dict(zip(keys, table["prob_a"].tolist(), strict=True))
    found = []
    for query_id, doc_id, above, number_ in zip(*(failures[n] for n in ("query_id", "doc_id", "above", "round")), strict=True):
        a, b = sorted((doc_id, above))
        if number_ == number and (query_id, a, b) in prob:
            found.append(prob[query_id, a, b] if doc_id == a else 1 - prob[query_id, a, b])
    if not found:
        return "no pair was added in this round"
    mean = float(np.mean(found))
    return (
        f"of {len(found):,} pairs added, the judges prefer the reference in {sum(p > 0.5 for p in found):,} (mean probability {mean:.2f})"
    )
