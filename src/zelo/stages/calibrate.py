"""calibrate: scores to targets in [0, 1], what a pointwise model learns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zelo.artifacts import Columns, read_codes, read_table, table_writer
from zelo.collections.beir import read_qrels
from zelo.core.calibration import fit_anchor, targets
from zelo.errors import InputError, RecipeError
from zelo.pipeline import Context, Outcome
from zelo.recipe import Recipe

FloatArray = NDArray[np.float64]
_PART = 1_000_000  # rows named at once


def check(recipe: Recipe) -> None:
    """Raise RecipeError for ratings without a scale that they could anchor."""
    if recipe.calibrate.ratings and recipe.calibrate.scale != "across":
        raise RecipeError("calibrate.ratings anchor scores that are on one scale", remedy='set calibrate.scale = "across", or no ratings')


def external(recipe: Recipe) -> dict[str, str]:
    """Identify the ratings by their contents; "" if they are not there."""
    path = Path(recipe.calibrate.ratings)
    if not recipe.calibrate.ratings:
        return {}
    return {"ratings": hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""}


def run(context: Context) -> Outcome:
    """Write targets.parquet, in the order of scores.parquet.

    Raises:
        InputError: the ratings are not there, or anchor nothing.
    """
    settings = context.recipe.calibrate
    scores = context.read("scores")
    query, query_ids = read_codes(scores, "scores", "query_id")
    total = np.array(read_table(scores, "scores", ("score",))["score"], np.float64)
    order = np.argsort(query, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(query[order])) + 1) if len(order) else []
    notes: tuple[str, ...] = ()
    if settings.scale == "across":
        offset = read_table(context.read("offsets"), "offsets", ("query_id", "offset"))
        of = dict(zip(offset["query_id"], offset["offset"].tolist(), strict=True))
        total += np.array([of.get(name, 0.0) for name in query_ids])[query] if query_ids else 0.0
        target, notes = _across(total, context)
    else:
        target = np.empty(len(total))
        for rows in groups:
            target[rows] = targets(total[rows], spread=settings.spread, threshold=settings.threshold)
    with table_writer(context.write("targets"), "targets") as write:
        written = sum(write({**names, "target": target[rows]}) for rows, names in _names(scores))
    return Outcome({"targets": written}, notes=notes)


def _names(scores: Path) -> Iterator[tuple[slice, Columns]]:
    """Yield the names of a file of scores, some rows at a time: as objects all of them would take gigabytes."""
    import pyarrow.parquet as pq

    start = 0
    with pq.ParquetFile(scores) as file:
        for batch in file.iter_batches(_PART, columns=["query_id", "doc_id"]):
            yield slice(start, start + batch.num_rows), {"query_id": batch["query_id"], "doc_id": batch["doc_id"]}
            start += batch.num_rows


def _across(total: FloatArray, context: Context) -> tuple[FloatArray, tuple[str, ...]]:
    settings = context.recipe.calibrate
    if not settings.ratings:
        return targets(total, spread=settings.spread, threshold=settings.threshold), ()
    path = Path(settings.ratings)
    if not path.is_file():
        raise InputError(
            "no such file", where=f"calibrate.ratings = {settings.ratings}", remedy="make it, or set calibrate.ratings to nothing"
        )
    ratings = list(read_qrels(path))
    row_of, wanted = dict[tuple[str, str], int](), {(r.query_id, r.doc_id) for r in ratings}
    for rows, names in _names(context.read("scores")):
        keys = zip(names["query_id"].to_pylist(), names["doc_id"].to_pylist(), strict=True)
        row_of |= {key: rows.start + i for i, key in enumerate(keys) if key in wanted}
    rated = [(row_of[key], rating.relevance) for rating in ratings if (key := (rating.query_id, rating.doc_id)) in row_of]
    try:
        anchor = fit_anchor(total[[row for row, _ in rated]], [rating for _, rating in rated])
    except InputError as error:
        raise InputError(error.what, where=str(path), remedy=error.remedy) from error
    note = (
        f"anchor: {len(rated):,} ratings, half at score {anchor.level:.2f} (standard error {anchor.level_stderr:.2f}), "
        f"root mean squared error {anchor.residual:.2f}"
    )
    return anchor(total), (note,)
