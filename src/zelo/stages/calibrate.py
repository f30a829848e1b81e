"""calibrate: scores to targets in [0, 1], what a pointwise model learns."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zelo.artifacts import Columns, read_table, write_table
from zelo.collections.beir import read_qrels
from zelo.core.calibration import fit_anchor, targets
from zelo.core.groups import group_rows
from zelo.errors import InputError, RecipeError
from zelo.pipeline import Context, Outcome
from zelo.recipe import Recipe

FloatArray = NDArray[np.float64]


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
    scores = read_table(context.read("scores"), "scores", ("query_id", "doc_id", "score"))
    groups = group_rows(scores["query_id"])
    total = np.array(scores["score"], np.float64)
    notes: tuple[str, ...] = ()
    if settings.scale == "across":
        offset = read_table(context.read("offsets"), "offsets", ("query_id", "offset"))
        for query_id, value in zip(offset["query_id"], offset["offset"].tolist(), strict=True):
            total[groups[query_id]] += value
        target, notes = _across(total, scores, context)
    else:
        target = np.empty(len(total))
        for rows in groups.values():
            target[rows] = targets(total[rows], spread=settings.spread, threshold=settings.threshold)
    columns = {"query_id": scores["query_id"], "doc_id": scores["doc_id"], "target": target}
    return Outcome({"targets": write_table(context.write("targets"), "targets", columns)}, notes=notes)


def _across(total: FloatArray, scores: Columns, context: Context) -> tuple[FloatArray, tuple[str, ...]]:
    settings = context.recipe.calibrate
    if not settings.ratings:
        return targets(total, spread=settings.spread, threshold=settings.threshold), ()
    path = Path(settings.ratings)
    if not path.is_file():
        raise InputError(
            "no such file", where=f"calibrate.ratings = {settings.ratings}", remedy="make it, or set calibrate.ratings to nothing"
        )
    row_of = {key: row for row, key in enumerate(zip(scores["query_id"], scores["doc_id"], strict=True))}
    rated = [(row_of[key], rating.relevance) for rating in read_qrels(path) if (key := (rating.query_id, rating.doc_id)) in row_of]
    try:
        anchor = fit_anchor(total[[row for row, _ in rated]], [rating for _, rating in rated])
    except InputError as error:
        raise InputError(error.what, where=str(path), remedy=error.remedy) from error
    note = (
        f"anchor: {len(rated):,} ratings, half at score {anchor.level:.2f} (standard error {anchor.level_stderr:.2f}), "
        f"root mean squared error {anchor.residual:.2f}"
    )
    return anchor(total), (note,)
