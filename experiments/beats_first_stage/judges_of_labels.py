"""Simulated judges that recipes can name here (`python:judges_of_labels:...`): they know a collection's labels, and err.

Each is right about 85, 89 or 93 % of the pairs whose labels differ by one, says -1 or 1 about every pair, also of two irrelevant
documents, and shares some of its errors with the others.
"""

from __future__ import annotations

from functools import cache

from zelo.collections import open_collection
from zelo.judges.simulated import SimulatedJudge, labels_by_text
from zelo.recipe import Recipe

CORRELATION = 0.3


@cache
def _labels(name: str) -> dict[str, dict[str, float]]:
    collection = open_collection(name)
    rows = [row for split in collection.splits() for row in collection.qrels(split)]
    return labels_by_text(list(collection.queries()), list(collection.documents()), rows)


def _judge(recipe: Recipe, accuracy: float) -> SimulatedJudge:
    labels = _labels(recipe.ingest.collection)
    name = f"right_{accuracy:.0%}"
    return SimulatedJudge(name, labels, accuracy=accuracy, soft=False, correlation=CORRELATION, seed=recipe.seed)


def right_85(recipe: Recipe) -> SimulatedJudge:
    """Right about 85 %."""
    return _judge(recipe, 0.85)


def right_89(recipe: Recipe) -> SimulatedJudge:
    """Right about 89 %."""
    return _judge(recipe, 0.89)


def right_93(recipe: Recipe) -> SimulatedJudge:
    """Right about 93 %."""
    return _judge(recipe, 0.93)
