"""What `zelo plan` counts for pairs that are chosen in rounds: how many may come, and how many came."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from zelo.artifacts import read_codes, read_table
from zelo.planning.bill import pairs_of
from zelo.recipe import Recipe
from zelo.stages.questions import Pairs
from zelo.workspace import Workspace


def later_pairs(pairs: Pairs, recipe: Recipe) -> NDArray[np.int64]:
    """Return how many more pairs the rounds may bring each query, if none settles early; `pairs` are those of the first round."""
    ends = np.concatenate([pairs.a, pairs.b]) + len(pairs.doc_ids) * np.tile(pairs.query, 2)
    documents = np.bincount(np.unique(ends) // max(1, len(pairs.doc_ids)), minlength=len(pairs.query_ids))
    most = np.array([pairs_of(int(n), recipe) for n in documents], np.int64)
    return most - np.bincount(pairs.query, minlength=len(most))


def judged_pairs(workspace: Workspace) -> tuple[int, dict[str, int]]:
    """Return how many pairs the finished judge stage had, and by judge how many of them were asked in the other order as well."""
    judge, names = read_codes(workspace.path("judgments"), "judgments", "judge")
    path = workspace.path("swapped")
    again = Counter(read_table(path, "swapped", ["judge"])["judge"]) if path.exists() else Counter[str]()
    return int(np.bincount(judge, minlength=1)[0]), {name: again[name] for name in names}
