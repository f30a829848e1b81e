"""Several judges' answers about a pair become one preference."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pool(preferences: ArrayLike, weights: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Average the judges' preferences of each pair; missing ones are left out, never counted as ties.

    Args:
        preferences: [pairs, judges] in [-1, 1], positive for document a; NaN = missing.
        weights: [judges], >= 0.

    Returns:
        prob_a [pairs] in [0, 1], (1 + weighted mean) / 2 (paper section 3: p = (1 - s) / 2 with the other sign), NaN where all
        are missing; and the number of judges that answered [pairs].

    Raises:
        ValueError: a preference out of range, or shapes that do not fit.
    """
    values, w = np.asarray(preferences, np.float64), np.asarray(weights, np.float64)
    if values.ndim != 2 or w.shape != values.shape[1:] or (w < 0).any():
        raise ValueError(f"preferences {values.shape} and weights {w.shape} do not fit")
    given = ~np.isnan(values)
    if (np.abs(values[given]) > 1).any():
        raise ValueError("preferences must be in [-1, 1]")
    mass = given @ w
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(given, values, 0.0) @ w / mass
    return np.where(mass > 0, (1 + mean) / 2, np.nan), given.sum(axis=1).astype(np.int32)
