"""Fusion: several rankings of one query's documents become one.

Fused scores tie often (reciprocal rank fusion ties within its top 11 in 14 to 28 % of queries), so the order of equals is a rule, not an
accident: fused score descending, then best rank in any leg ascending, then doc_id ascending. Sums are correctly rounded, so the
order of the legs changes neither scores nor ties.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from zelo.errors import InputError

Ranking = Sequence[tuple[str, float]]
"""(doc_id, score) of one query, best first; no doc_id twice."""


def reciprocal_rank_fusion(rankings: Sequence[Ranking], k: float = 60.0, depth: int | None = None) -> list[tuple[str, float]]:
    """Fuse by ranks: a document's score is the sum of 1 / (k + rank) over the legs that returned it, ranks from 1.

    Args:
        rankings: one ranking per leg; a leg may be empty. Their scores are not read.
        k: >= 0; 60 as in Cormack, Clarke and Buettcher (SIGIR 2009), which the paper follows.
        depth: how many fused documents to return, best first; None = all.

    Returns:
        (doc_id, fused score), in the order that the module states.

    Raises:
        InputError: a leg has a document twice, or k or depth is negative.
    """
    if not k >= 0.0:
        raise InputError(f"k must be >= 0, got {k}")
    return _fuse(rankings, [[1.0 / (k + rank) for rank in range(1, len(ranking) + 1)] for ranking in rankings], depth)


def min_max_fusion(
    rankings: Sequence[Ranking], weights: Sequence[float] | None = None, depth: int | None = None
) -> list[tuple[str, float]]:
    """Fuse by scores: each leg's scores are scaled to [0, 1] over the documents that it returned, then averaged over the legs.

    A document that a leg did not return gets that leg's 0; a leg whose scores are all equal gives 1 to each of its documents.

    Args:
        rankings: one ranking per leg; a leg may be empty.
        weights: one per leg, >= 0, with a positive sum, by which they are divided; None = equal.
        depth: how many fused documents to return, best first; None = all.

    Returns:
        (doc_id, fused score in [0, 1]), in the order that the module states.

    Raises:
        InputError: a leg has a document twice or a score that is not finite, the weights do not fit, or depth is negative.
    """
    weights = [1.0] * len(rankings) if weights is None else weights
    if len(weights) != len(rankings):
        raise InputError(f"{len(weights)} fusion weights for {len(rankings)} rankings", remedy="give one weight per ranking")
    total = math.fsum(weights)
    if rankings and not (all(weight >= 0.0 for weight in weights) and 0.0 < total < math.inf):
        raise InputError("fusion weights must be >= 0 with a positive, finite sum")
    return _fuse(rankings, [_scaled(ranking, weight / total) for ranking, weight in zip(rankings, weights, strict=True)], depth)


def _scaled(ranking: Ranking, weight: float) -> list[float]:
    """A leg's scores scaled to [0, weight]."""
    scores = [score for _, score in ranking]
    if not all(map(math.isfinite, scores)):
        raise InputError("a ranking holds a score that is not finite", remedy="min-max fusion needs finite scores")
    if not scores:
        return []
    low, high = min(scores), max(scores)
    if low == high:
        return [weight] * len(scores)
    return [weight * ((score - low) / (high - low)) for score in scores]


def _fuse(rankings: Sequence[Ranking], contributions: Sequence[list[float]], depth: int | None) -> list[tuple[str, float]]:
    """Sum the legs' contributions per document and sort."""
    if depth is not None and depth < 0:
        raise InputError(f"depth must be >= 0, got {depth}")
    parts: dict[str, list[float]] = {}
    best_rank: dict[str, int] = {}
    for ranking, contribution in zip(rankings, contributions, strict=True):
        seen = set()
        for rank, ((doc_id, _), part) in enumerate(zip(ranking, contribution, strict=True)):
            seen.add(doc_id)
            if doc_id in parts:
                parts[doc_id].append(part)
                best_rank[doc_id] = min(rank, best_rank[doc_id])
            else:
                parts[doc_id] = [part]
                best_rank[doc_id] = rank
        if len(seen) != len(ranking):
            raise InputError("a ranking holds a document twice", remedy="keep each document once per query")
    fused = sorted((-math.fsum(part), best_rank[doc_id], doc_id) for doc_id, part in parts.items())
    return [(doc_id, -score) for score, _, doc_id in fused[:depth]]
