"""fit: one score per document from the preferences of its query (paper section 3; the prior and its reasons are in core)."""

from __future__ import annotations

import numpy as np

from zelo.artifacts import Columns, read_table, write_table
from zelo.core.groups import group_rows
from zelo.core.paired_comparison import fit_scores
from zelo.pipeline import Context, Outcome
from zelo.stages.inputs import number_documents


def run(context: Context) -> Outcome:
    """Write scores.parquet and fits.parquet."""
    settings = context.recipe.fit
    preferences = read_table(context.read("preferences"), "preferences")
    copies = _copies(context)
    scores: Columns = {name: [] for name in ("query_id", "doc_id", "score", "stderr", "degree", "link")}
    fits: Columns = {name: [] for name in ("query_id", "iterations", "gradient_norm", "log_likelihood", "components", "separated")}
    groups = group_rows(preferences["query_id"])
    advance = context.progress.task("fitting")
    for done, (query_id, rows) in enumerate(groups.items(), 1):
        doc_ids, first, second = number_documents(preferences, rows)
        fit = fit_scores(
            len(doc_ids),
            first,
            second,
            preferences["prob_a"][rows],
            preferences["n_judges"][rows].astype(np.float64),
            link=settings.link,
            prior_sd=settings.prior_sd or None,
        )
        for name in ("iterations", "gradient_norm", "log_likelihood", "components", "separated"):
            fits[name].append(getattr(fit, name))
        fits["query_id"].append(query_id)
        for n, doc_id in enumerate(doc_ids):
            for named in (doc_id, *copies.get((query_id, doc_id), ())):
                row = (query_id, named, fit.score[n], fit.stderr[n], fit.degree[n], fit.link)
                for column, value in zip(scores.values(), row, strict=True):
                    column.append(value)
        advance(done, len(groups))
    total = write_table(context.write("scores"), "scores", scores)
    write_table(context.write("fits"), "fits", fits)
    notes = (f"{sum(fits['separated']):,} of {len(groups):,} queries are separated: without the prior their scores would be infinite",)
    return Outcome({"scores": total, "queries": len(groups)}, notes=notes if any(fits["separated"]) else ())


def _copies(context: Context) -> dict[tuple[str, str], list[str]]:
    """Return (query_id, judged doc_id) -> candidates with the same text, which share its score."""
    rows = read_table(context.read("duplicates"), "duplicates")
    copies: dict[tuple[str, str], list[str]] = {}
    for query_id, doc_id, same_as in zip(rows["query_id"], rows["doc_id"], rows["same_as"], strict=True):
        copies.setdefault((query_id, same_as), []).append(doc_id)
    return copies
