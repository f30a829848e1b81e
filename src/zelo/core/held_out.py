"""Held-out likelihood: which prior, link or terms predict comparisons that the fit has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zelo.core.links import PRIOR_SD, link_functions
from zelo.core.paired_comparison import Batch, fit_queries
from zelo.core.posterior import Observed, observed
from zelo.errors import InputError
from zelo.types import Link

__all__ = ["HeldOut", "PriorChoice", "choose_prior_sd", "held_out"]

FloatArray = NDArray[np.float64]

GRID = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
"""Priors that are tried, in units of the link's default."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Prediction of held-out pairs.

    Attributes:
        log_likelihood: per unit of weight, in nats, <= 0; the larger, the better.
        stderr: its standard error, from how queries differ; NaN for fewer than two.
        by_query: [Q], summed over a query's held-out rows; for comparing two models on the same rows.
        weight: [Q], held-out weight of each query.
    """

    log_likelihood: float
    stderr: float
    by_query: FloatArray
    weight: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class PriorChoice:
    """The prior with the best held-out likelihood, and the likelihood per unit of weight of each of the `grid` [k]."""

    prior_sd: float
    grid: FloatArray
    log_likelihood: FloatArray


def held_out(
    batch: Batch, *, link: Link = "probit", prior_sd: float | None = None, rng: np.random.Generator, share: float = 0.1
) -> HeldOut:
    """Hold some pairs of each query out, fit the others, and return how likely the fit finds what was held out.

    All rows of two documents are held out together: another judge's opinion of a pair would give it away.

    Args:
        batch: the rows; slopes and offsets count in prediction as in the fit.
        link: the link.
        prior_sd: standard deviation of the scores' prior; default `PRIOR_SD`.
        rng: draws the pairs. Generators in the same state hold out the same pairs, whatever link and prior.
        share: which part of the pairs is held out, in (0, 1).

    Raises:
        InputError: share is out of range, there is nothing to hold out, or the batch is faulty.
    """
    rows = observed(batch)
    chosen = _draw(rows, rng, share)
    return _predict(rows, chosen, link, PRIOR_SD[link] if prior_sd is None else prior_sd)


def choose_prior_sd(
    batch: Batch,
    grid: Sequence[float] | None = None,
    *,
    link: Link = "probit",
    rng: np.random.Generator,
    share: float = 0.1,
    max_queries: int = 2000,
) -> PriorChoice:
    """Choose one prior for all queries by the likelihood of held-out pairs, the same ones for each prior.

    Args:
        batch: the rows.
        grid: standard deviations to try, > 0; default a quarter to four times the link's default.
        link: the link.
        rng: draws the pairs.
        share: which part of the pairs is held out, in (0, 1).
        max_queries: so many queries are looked at, evenly spaced.

    Raises:
        InputError: as `held_out`, or the grid is empty.
    """
    tried = np.array([PRIOR_SD[link] * g for g in GRID] if grid is None else grid, np.float64)
    if not len(tried):
        raise InputError("there is no prior to try", where="grid")
    rows = observed(batch).every_few(max_queries)
    chosen = _draw(rows, rng, share)
    values = np.array([_predict(rows, chosen, link, prior_sd).log_likelihood for prior_sd in tried.tolist()])
    return PriorChoice(float(tried[int(values.argmax())]), tried, values)


def _draw(rows: Observed, rng: np.random.Generator, share: float) -> NDArray[np.bool_]:
    """Which rows are held out [m]; the same share of each query's pairs, up to chance."""
    if not 0 < share < 1:
        raise InputError(f"share must be between 0 and 1, got {share}")
    pair = rows.pairs()
    chosen = rng.random(int(pair.max(initial=-1)) + 1) < share
    if not chosen.any():
        raise InputError("there are too few pairs to hold some out")
    return np.asarray(chosen[pair])


def _predict(rows: Observed, chosen: NDArray[np.bool_], link: Link, prior_sd: float) -> HeldOut:
    fit = fit_queries(rows.take(np.flatnonzero(~chosen)).batch(), link=link, prior_sd=prior_sd, stderr=False)
    kept = rows.take(np.flatnonzero(chosen))
    query, log_f = kept.query(), link_functions(link).log_probability
    start = fit.starts[query]
    x = kept.slope * (fit.score[start + kept.first] - fit.score[start + kept.second]) + kept.offset
    terms = kept.weight * (kept.prob_first * log_f(x) + (1 - kept.prob_first) * log_f(-x))
    queries = len(rows.documents)
    by_query, weight = (np.asarray(np.bincount(query, column, queries), np.float64) for column in (terms, kept.weight))
    mean = float(by_query.sum() / weight.sum())
    used = int((weight > 0).sum())
    spread = np.sqrt(((by_query - mean * weight) ** 2).sum() * used / (used - 1)) / weight.sum() if used > 1 else np.nan
    return HeldOut(mean, float(spread), by_query, weight)
