"""Simulated judges for this experiment (`python:judges_of_labels:right_85_2`): they know a collection's labels, and err.

Three of each quality. Each is right about so many percent of the pairs whose labels differ by one, says -1 or 1 about every pair, also of
two irrelevant documents, and shares some of its errors with the others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from zelo.collections import open_collection
from zelo.judges.simulated import SimulatedJudge, labels_by_text
from zelo.recipe import Recipe

QUALITIES = (65, 80, 95)
CORRELATION = 0.3


@cache
def _labels(name: str) -> dict[str, dict[str, float]]:
    collection = open_collection(name)
    rows = [row for split in collection.splits() for row in collection.qrels(split)]
    return labels_by_text(list(collection.queries()), list(collection.documents()), rows)


def _maker(quality: int, number: int) -> Callable[[Recipe], SimulatedJudge]:
    def judge(recipe: Recipe) -> SimulatedJudge:
        name = f"right_{quality}_{number}"
        labels = _labels(recipe.ingest.collection)
        return SimulatedJudge(name, labels, accuracy=quality / 100, soft=False, correlation=CORRELATION, seed=recipe.seed)

    return judge


for _quality in QUALITIES:
    for _number in (1, 2, 3):
        globals()[f"right_{_quality}_{_number}"] = _maker(_quality, _number)


def ensemble(quality: int) -> tuple[str, ...]:
    """Return the names of the three judges of a quality."""
    return tuple(f"python:judges_of_labels:right_{quality}_{number}" for number in (1, 2, 3))
