"""From the scores of one query to targets in [0, 1] (the paper says that y is in [0, 1], not how; docs/decisions/0004)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit


def targets(scores: ArrayLike, *, spread: float = 3.0, threshold: float = 2.0, offset: float = 0.0) -> NDArray[np.float64]:
    """Return a logistic of the standardized scores of one query.

    Args:
        scores: [n], one query's scores in any unit.
        spread: logits per standard deviation of the scores.
        threshold: standard deviations above the mean at which a target is 1/2.
        offset: logits to add to all documents of this query; 0 unless comparisons across queries say otherwise.

    Returns:
        Targets [n] in [0, 1]. Scores that are all equal give every document the target of the mean.

    Raises:
        ValueError: a score that is not finite.
    """
    values = np.asarray(scores, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite")
    deviation = values.std() if len(values) else 0.0
    standard = (values - values.mean()) / deviation if deviation > 1e-12 else np.zeros(len(values))
    return np.asarray(expit(spread * (standard - threshold) + offset), np.float64)
