"""calibrate: scores to targets in [0, 1], what a pointwise model learns."""

from __future__ import annotations

import numpy as np

from zelo.artifacts import read_table, write_table
from zelo.core.calibration import targets
from zelo.core.groups import group_rows
from zelo.pipeline import Context, Outcome


def run(context: Context) -> Outcome:
    """Write targets.parquet, in the order of scores.parquet."""
    settings = context.recipe.calibrate
    scores = read_table(context.read("scores"), "scores", ("query_id", "doc_id", "score"))
    target = np.empty(len(scores["score"]))
    for rows in group_rows(scores["query_id"]).values():
        target[rows] = targets(scores["score"][rows], spread=settings.spread, threshold=settings.threshold)
    columns = {"query_id": scores["query_id"], "doc_id": scores["doc_id"], "target": target}
    return Outcome({"targets": write_table(context.write("targets"), "targets", columns)})
