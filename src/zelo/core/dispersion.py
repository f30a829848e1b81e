"""How many independent comparisons a preference is worth, from the data.

Judges that share their mistakes repeat each other: three of them say less than three independent ones. Soft preferences say more
than a vote does, and ties scatter less. The dispersion phi is how much more than the model says preferences scatter around their
probability: 1 where each unit of weight is one independent comparison, above 1 for correlated judges, below 1 for soft
preferences and ties. Weights divided by phi make the fit believe the data as far as they deserve, and then its standard errors are
right (quasi-likelihood; Wedderburn 1974, McCullagh and Nelder 1989, chapter 9).

The usual estimate, Pearson's sum of squared residuals by degrees of freedom, is about 20 % too small here: with few comparisons per
document, the fit follows the noise, and what it predicts is no longer the truth's variance. So each pair is predicted from all
other pairs, with the variance of that prediction (experiments/terms has both).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zelo.core.links import PRIOR_SD, LinkFunctions, link_functions
from zelo.core.paired_comparison import Batch
from zelo.core.posterior import Observed, Posterior, observed, posterior
from zelo.errors import InputError
from zelo.types import Link

__all__ = ["Dispersion", "centered_stderr", "estimate_dispersion"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LEAST, MOST = 0.02, 100.0
"""Bounds of the dispersion. Offline judges scatter less than the lower one: what is left then is the model's error, not chance."""

BELIEF = 50.0
"""Few pairs say little: so many more are counted that scatter just as the model says."""

_ROUNDS, _CLOSE = 30, 2e-3
_NODES, _SHARES = np.polynomial.hermite_e.hermegauss(9)
_SHARES = _SHARES / _SHARES.sum()


@dataclass(frozen=True, slots=True)
class Dispersion:
    """The estimate. `value` in [0.02, 100]; `stderr` from how queries differ, NaN for one; `pairs` and `queries` were used."""

    value: float
    stderr: float
    pairs: int
    queries: int


def estimate_dispersion(batch: Batch, *, link: Link = "probit", prior_sd: float | None = None, max_queries: int = 200) -> Dispersion:
    """Estimate the dispersion of a batch's preferences around the model.

    All rows of two documents count as one observation, so that judges who share a mistake about a pair are seen to; one row of
    pooled preferences or one row per judge give about the same.

    Args:
        batch: the preferences, with the weights that the fit would use.
        link: the link.
        prior_sd: standard deviation of the scores' prior; default `PRIOR_SD`.
        max_queries: so many queries are enough, evenly spaced ones are taken: with 400 pairs each, 200 give it to about 0.5 %.

    Returns:
        1 where nothing is observed.

    Raises:
        InputError: a column is out of range or does not fit.
        ConvergenceError: a fit failed.
    """
    if max_queries < 1:
        raise InputError(f"max_queries must be >= 1, got {max_queries}")
    prior_sd = PRIOR_SD[link] if prior_sd is None else prior_sd
    used = observed(batch).every_few(max_queries)
    pair = used.pairs()
    query = np.zeros(int(pair.max(initial=-1)) + 1, np.int64)
    query[pair] = used.query()
    if not len(pair):
        return Dispersion(1.0, float("nan"), 0, 0)
    value, seen, expected = 1.0, np.ones(0), np.ones(0)
    for _ in range(_ROUNDS):
        # The posterior that goes with the dispersion assumed: when that is right, prediction errors are as large as expected.
        state = posterior(replace(used, weight=used.weight / value), link=link, prior_sd=prior_sd)
        seen, expected = _prediction_errors(used, state, pair, value, link_functions(link))
        ratio = seen.sum() / expected.sum()
        before, value = value, float(np.clip((BELIEF + len(seen) * value * ratio) / (BELIEF + len(seen)), LEAST, MOST))
        if abs(value / before - 1) < _CLOSE:
            break
    by_query = np.bincount(query, seen - ratio * expected)
    queries = len(np.unique(query))
    spread = float(np.sqrt((by_query**2).sum() * queries / (queries - 1))) if queries > 1 else float("nan")
    return Dispersion(value, value * spread / float(expected.sum()), len(seen), queries)


def _prediction_errors(
    rows: Observed, state: Posterior, pair: IntArray, value: float, functions: LinkFunctions
) -> tuple[FloatArray, FloatArray]:
    """Of each pair: the squared error of its prediction from all others, and what it should be under this dispersion.

    The error is in units of the pair's pull on the difference of its documents, summed over its rows.
    """
    sign = np.where(rows.first < rows.second, 1.0, -1.0)  # rows of a pair may name it in either order
    weight, slope, prob, offset = rows.weight, rows.slope, rows.prob_first, rows.offset

    def summed(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(pair, values), np.float64)

    x = slope * state.difference + offset
    (up, up_curvature), (down, down_curvature) = functions.slopes(x), functions.slopes(-x)
    pull = summed(sign * weight * slope * (prob * up - (1 - prob) * down)) / value
    curvature = summed(weight * slope**2 * (prob * up_curvature + (1 - prob) * down_curvature)) / value
    full = np.empty(len(pull))
    full[pair] = state.variance
    # Without the pair, the precision is lower by its curvature, and the maximum lies where it is no longer pulled.
    without = 1 / np.maximum(1 / full - curvature, 1e-9 / full)
    moved = state.difference - sign * (without * pull)[pair]
    x = slope * moved + offset
    probability = functions.probability(x)
    gain = weight * slope * functions.slopes(-np.abs(x))[0] / functions.probability(np.abs(x))  # F' / F (1 - F): pull of a unit of residual
    error = summed(sign * gain * (prob - probability))
    # Each node is one true difference of the two documents, seen by all rows of the pair alike, whichever they name first.
    at = functions.probability(x[:, None] + (sign * slope * np.sqrt(without)[pair])[:, None] * _NODES)
    scatter = summed(gain**2 / weight * ((at * (1 - at)) @ _SHARES))
    drift = np.stack([summed(sign * gain * (at[:, k] - probability)) for k in range(len(_NODES))], axis=1)
    return error**2, value * scatter + (drift**2) @ _SHARES


def centered_stderr(stderr: FloatArray, documents: IntArray, prior_sd: float) -> FloatArray:
    """Return the standard errors [sum of documents] of scores around their query's mean, 0 for a document that is alone.

    The posterior also leaves open where the query as a whole lies, by prior_sd^2 / n of the variance; scores of mean 0 do not ask.
    """
    n = np.repeat(np.asarray(documents, np.float64), documents)
    return np.asarray(np.sqrt(np.maximum(np.asarray(stderr, np.float64) ** 2 - prior_sd**2 / n, 0.0)))
