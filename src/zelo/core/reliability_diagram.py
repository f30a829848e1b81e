"""Can a score be read as a chance? The reliability diagram (Murphy and Winkler 1977): of what is scored about .8, is .8 relevant?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zelo.core.pass_rates import wilson_interval
from zelo.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Diagram:
    """Scores in bins of equal width on [0, 1].

    Attributes:
        count: scores of each bin [b].
        mean_score: of each bin [b], NaN in an empty one.
        share: of them that is relevant [b], NaN in an empty one.
        low: lower end of its 95 % Wilson interval [b]; the interval takes scores for independent, and those of one query are not quite.
        high: upper end [b].
        error: expected calibration error: the mean over all scores of |share - mean score| of their bins (Naeini et al. 2015).
    """

    count: IntArray
    mean_score: FloatArray
    share: FloatArray
    low: FloatArray
    high: FloatArray
    error: float


def reliability_diagram(scores: ArrayLike, relevant: ArrayLike, bins: int = 10) -> Diagram:
    """Put scores into bins.

    Args:
        scores: in [0, 1], [n], n >= 1; 1 itself is in the last bin.
        relevant: whether each is, [n].
        bins: at least 1.

    Raises:
        InputError: no scores, or one outside [0, 1], or lengths differ.
    """
    score, good = np.asarray(scores, np.float64), np.asarray(relevant, np.bool_)
    if score.ndim != 1 or not score.size or score.shape != good.shape or not ((score >= 0) & (score <= 1)).all() or bins < 1:
        raise InputError("a reliability diagram needs scores in [0, 1], and for each whether it is relevant")
    place = np.minimum((score * bins).astype(np.int64), bins - 1)
    count, hits = np.bincount(place, minlength=bins), np.bincount(place[good], minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    mean_score, share = np.bincount(place, score, bins) / filled, hits / filled
    low, high = wilson_interval(hits, count)
    error = float(np.nansum(count * np.abs(share - mean_score)) / score.size)
    return Diagram(count, mean_score, share, low, high, error)
