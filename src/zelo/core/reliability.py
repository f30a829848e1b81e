"""How good each judge is, found without labels, from how judges agree.

A judge's own judgments give it a ranking per query. Two good judges tend to choose the same best document; a weak one's
choices agree with nobody's. With n candidates, two judges hardly ever agree on a wrong one, so the chance that i and j
agree is about r_i r_j, the product of their reliabilities (the one-coin model of Dawid and Skene, 1979, with many answers).
The reliabilities that explain all agreements best are found by least squares.

Agreement on *all* pairs misleads here: candidates were chosen because lexical or dense search liked them, and among those
chosen the two oppose each other, as any two criteria of a selection do (Berkson's paradox). The top of the rankings is
what survives the selection (experiments/judges has both).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

LEAST, MOST = 0.05, 0.97  # bounds of a reliability: no judge is believed to be useless or perfect
_SWEEPS = 2000


def top_agreement(scores: Sequence[Sequence[FloatArray]]) -> FloatArray:
    """Return how much judges agree on the best document.

    Args:
        scores: per judge, per query, the judge's own scores [documents]; a query that a judge did not score has length 0.

    Returns:
        [judges, judges] symmetric, in (0, 1]: the mean reciprocal rank of one judge's best document in the other's ranking,
        both ways, over the queries that both scored; 1 on the diagonal, NaN where no query was scored by both. Of equal
        scores the middle of their ranks counts.
    """
    judges = len(scores)
    agreement = np.eye(judges)
    for i in range(judges):
        for j in range(i):
            both = [(a, b) for a, b in zip(scores[i], scores[j], strict=True) if len(a) and len(b)]
            values = [(_reciprocal_rank(a, b) + _reciprocal_rank(b, a)) / 2 for a, b in both]
            agreement[i, j] = agreement[j, i] = np.mean(values) if values else np.nan
    return agreement


def _reciprocal_rank(chosen_by: FloatArray, ranked_by: FloatArray) -> float:
    best = ranked_by[int(np.argmax(chosen_by))]
    ahead, level = int((ranked_by > best).sum()), int((ranked_by == best).sum())
    return 1.0 / (ahead + (level + 1) / 2)


def reliabilities(agreement: FloatArray) -> FloatArray:
    """Return each judge's reliability r [judges] such that agreement[i, j] is nearest to r_i r_j, in [0.05, 0.97].

    With two judges only the product can be known: both get its root. One judge gets 0.97. Judges without any agreement
    (NaN) get the mean of the others, or 0.5.
    """
    judges = len(agreement)
    if judges == 1:
        return np.array([MOST])
    known = ~np.isnan(agreement) & ~np.eye(judges, dtype=bool)
    target = np.where(known, agreement, 0.0)
    r = np.full(judges, 0.6)
    for _ in range(_SWEEPS):
        before = r.copy()
        for j in range(judges):
            others = known[j]
            if others.any():
                r[j] = np.clip(target[j, others] @ r[others] / (r[others] @ r[others]), LEAST, MOST)
        if np.abs(r - before).max() < 1e-12:
            break
    if judges == 2 and known[0, 1]:
        r[:] = np.clip(np.sqrt(agreement[0, 1]), LEAST, MOST)
    alone = ~known.any(axis=1)
    r[alone] = r[~alone].mean() if (~alone).any() else 0.5
    return r


def vote_weights(reliability: FloatArray) -> FloatArray:
    """Return the weight of each judge's vote [judges], summing to 1: the log odds of its being right, as independent votes add.

    A judge that is right less than every other time keeps a small weight: its log odds count as 0.05.
    """
    odds = np.log(reliability / (1 - reliability)).clip(0.05)
    return np.asarray(odds / odds.sum(), np.float64)
