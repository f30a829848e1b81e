"""How far scores agree with human labels over one query's documents. No cutoff: unlike nDCG@10, the whole order counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zelo.errors import InputError

FloatArray = NDArray[np.float64]


def kendall_tau_b(scores: ArrayLike, gains: ArrayLike) -> float | None:
    """Return Kendall's tau-b (1945) between scores and gains: in [-1, 1], ties on either side accounted for.

    Gains tie a lot (most documents have none), so even a perfect order of distinct scores stays below 1.

    Args:
        scores: one per document [n].
        gains: one per document [n].

    Returns:
        The coefficient, or None where it is undefined: all scores or all gains are equal.

    Raises:
        InputError: lengths differ or a value is not finite.
    """
    score_sign, gain_sign = _signs(scores, gains)
    pairs = np.sqrt(float(np.count_nonzero(score_sign)) * float(np.count_nonzero(gain_sign)))
    return float((score_sign * gain_sign).sum() / pairs) if pairs else None


def pairwise_accuracy(scores: ArrayLike, gains: ArrayLike) -> float | None:
    """Return the share of the pairs of documents with different gains that the scores order as the gains do.

    A pair of equal scores counts one half, so scores that know nothing are at 0.5. With two grades it is the area under the ROC curve.

    Args:
        scores: one per document [n].
        gains: one per document [n].

    Returns:
        A value in [0, 1], or None where all gains are equal.

    Raises:
        InputError: lengths differ or a value is not finite.
    """
    score_sign, gain_sign = _signs(scores, gains)
    different = np.count_nonzero(gain_sign)
    return float(0.5 + 0.5 * (score_sign * gain_sign).sum() / different) if different else None


def _signs(scores: ArrayLike, gains: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Signs of the differences of all pairs of documents, [n (n - 1) / 2] each."""
    first, second = np.asarray(scores, dtype=np.float64).reshape(-1), np.asarray(gains, dtype=np.float64).reshape(-1)
    if first.size != second.size or not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError(f"scores and gains must be finite and of one length, got {first.size} and {second.size}")
    i, j = np.triu_indices(first.size, 1)
    return np.sign(first[i] - first[j]), np.sign(second[i] - second[j])
