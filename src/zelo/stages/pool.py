"""pool: how reliable each judge is, found without labels; then one preference per pair."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zelo.artifacts import Columns, read_table, write_table
from zelo.core.groups import group_rows
from zelo.core.paired_comparison import fit_scores
from zelo.core.pooling import pool
from zelo.core.reliability import reliabilities, top_agreement, vote_weights
from zelo.pipeline import Context, Outcome
from zelo.stages import inputs

FloatArray = NDArray[np.float64]


def run(context: Context) -> Outcome:
    """Write preferences.parquet (in the distilled line lessons.parquet), judgments/judges.parquet and judgments/agreement.parquet."""
    asked, opinion = inputs.judged(context), "lessons" if context.recipe.line == "distilled" else "preferences"
    pairs = read_table(context.read(asked), asked, ("query_id", "doc_id_a", "doc_id_b"))
    judgments = read_table(context.read("judgments"), "judgments", ("judge", "preference"))
    judges = list(dict.fromkeys(judgments["judge"]))
    table = np.asarray(judgments["preference"], np.float64).reshape(len(judges), -1).T  # the file is ordered by judge, then as the pairs
    split_of = inputs.splits(context.read("splits"))
    own = _own_scores(pairs, table, split_of, context)
    top = top_agreement(own)
    reliability = reliabilities(top)
    weights = vote_weights(reliability) if context.recipe.pool.weighting == "agreement" else np.full(len(judges), 1 / len(judges))
    prob_a, n_judges = pool(table, weights)
    answered = n_judges > 0
    kept = {name: [v for v, ok in zip(values, answered, strict=True) if ok] for name, values in pairs.items()}
    rows = write_table(context.write(opinion), opinion, kept | {"prob_a": prob_a[answered], "n_judges": n_judges[answered]})
    counts = {"judgments": len(table), "missing": np.isnan(table).sum(0), "ties": (table == 0).sum(0)}
    columns = {name: np.broadcast_to(value, len(judges)) for name, value in counts.items()}
    write_table(context.write("judges"), "judges", {"judge": judges, "reliability": reliability, "weight": weights, **columns})
    write_table(context.write("agreement"), "agreement", _agreement(judges, table, top))
    notes = tuple(f"{j}: reliability {r:.2f}, weight {w:.2f}" for j, r, w in zip(judges, reliability, weights, strict=True))
    return Outcome({opinion: rows}, notes=notes)


def _own_scores(pairs: Columns, table: FloatArray, split_of: dict[str, str], context: Context) -> list[list[FloatArray]]:
    """Fit every judge's own judgments of the training questions: [judge][query] -> scores of the query's documents."""
    scores: list[list[FloatArray]] = [[] for _ in range(table.shape[1])]
    groups = {q: rows for q, rows in group_rows(pairs["query_id"]).items() if split_of[q] == "train"}
    advance = context.progress.task("reliability of judges")
    for done, rows in enumerate(groups.values(), 1):
        doc_ids, first, second = inputs.number_documents(pairs, rows)
        for judge, values in enumerate(table[rows].T):
            answered = not np.isnan(values).all()
            fit = fit_scores(len(doc_ids), first, second, (1 + values) / 2) if answered else None
            scores[judge].append(fit.score if fit else np.zeros(0))
        advance(done, len(groups))
    return scores


def _agreement(judges: list[str], table: FloatArray, top: FloatArray) -> Columns:
    rows: Columns = {"judge_a": [], "judge_b": [], "pairwise_agreement": [], "top_agreement": []}
    for i, a in enumerate(judges):
        for j, b in enumerate(judges):
            x, y = np.sign(table[:, i]), np.sign(table[:, j])
            decided = (x * y != 0) & ~np.isnan(x * y)
            rows["judge_a"].append(a)
            rows["judge_b"].append(b)
            rows["pairwise_agreement"].append(float((x == y)[decided].mean()) if decided.any() else np.nan)
            rows["top_agreement"].append(float(top[i, j]))
    return rows
