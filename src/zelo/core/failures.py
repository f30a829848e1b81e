"""Failures of a ranking: reference documents below a threshold, and the threshold itself (paper section 5.6)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from zelo.errors import InputError

Name = TypeVar("Name", bound=Hashable)


def share_below(ranks: ArrayLike, threshold: int) -> float:
    """Return the share of reference documents whose rank (from 1) is greater than the threshold; 0 without any."""
    found = np.asarray(ranks, np.int64)
    return float((found > threshold).mean()) if found.size else 0.0


def choose_threshold(ranks: ArrayLike, share: float) -> int:
    """Return the smallest threshold, at least 1, below which at most `share` of the reference documents are ranked.

    On an easy collection that is rank 1, on a hard one a deep rank: what is picked are the worst cases of each, as many as asked for.

    Args:
        ranks: of the reference documents, from 1 [q].
        share: in [0, 1].

    Raises:
        InputError: a rank below 1, or a share out of range.
    """
    found = np.sort(np.asarray(ranks, np.int64))
    if not 0.0 <= share <= 1.0 or (found.size and found[0] < 1):
        raise InputError("ranks begin at 1, and a share is in [0, 1]")
    if not found.size:
        return 1
    kept = min(found.size, max(1, int(np.ceil(round((1.0 - share) * found.size, 9)))))  # so many may not fail
    return int(found[kept - 1])


def just_above(ranking: Sequence[Name], place: int, known: set[frozenset[Name]]) -> Name | None:
    """Return the nearest item above a place (from 0) that it does not make a known pair with; None if there is none."""
    for other in reversed(ranking[:place]):
        if frozenset((ranking[place], other)) not in known:
            return other
    return None
