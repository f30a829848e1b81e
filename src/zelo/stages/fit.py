"""fit: one score per document from the preferences of its query (paper section 3; the prior and its reasons are in core)."""

from __future__ import annotations

from zelo.artifacts import read_table
from zelo.core.dispersion import LEAST, MOST
from zelo.fitting import dispersion_of, fit_parquet
from zelo.pipeline import Context, Outcome


def run(context: Context) -> Outcome:
    """Write scores.parquet and fits.parquet."""
    settings = context.recipe.fit
    prior_sd = settings.prior_sd or None
    estimated = settings.dispersion == "estimated"
    found = dispersion_of(context.read("preferences"), link=settings.link, prior_sd=prior_sd) if estimated else None
    totals = fit_parquet(
        context.read("preferences"),
        context.write("scores"),
        context.write("fits"),
        link=settings.link,
        prior_sd=prior_sd,
        copies=_copies(context),
        dispersion=found.value if found else None,
        advance=context.progress.task("fitting"),
        executor=context.executor,
    )
    notes = [_dispersion_note(found.value)] if found else []
    if totals.separated:
        notes.append(f"{totals.separated:,} of {totals.queries:,} queries are separated: without the prior their scores would be infinite")
    if totals.disconnected:
        what = "some of their documents were never compared, directly or through others: scores of different groups do not compare"
        notes.append(f"{totals.disconnected:,} of {totals.queries:,} queries are disconnected, {what}")
    return Outcome({"scores": totals.scores, "queries": totals.queries}, notes=tuple(notes))


def _dispersion_note(value: float) -> str:
    """What the estimate means for the standard errors."""
    if value <= LEAST:
        return f"dispersion {value:.2f} (the least that is believed): answers scatter far less than votes would"
    if value >= MOST:
        return f"dispersion {value:.0f} (the most that is believed): answers scatter far more than votes would"
    return f"dispersion {value:.2f}: a weight of 1 counts as {1 / value:.2f} independent comparisons"


def _copies(context: Context) -> dict[str, dict[str, list[str]]]:
    """Return query_id -> judged doc_id -> candidates with the same text, which share its score."""
    rows = read_table(context.read("duplicates"), "duplicates")
    copies: dict[str, dict[str, list[str]]] = {}
    for query_id, doc_id, same_as in zip(rows["query_id"], rows["doc_id"], rows["same_as"], strict=True):
        copies.setdefault(query_id, {}).setdefault(same_as, []).append(doc_id)
    return copies
