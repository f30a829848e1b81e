"""Scores drawn from their posterior: what the answers leave open, for statistics that are no linear function of the scores.

The posterior is taken as normal around its maximum (Laplace's approximation), with the curvature there as its precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from zelo.core.links import PRIOR_SD, link_functions
from zelo.core.paired_comparison import Batch, fit_queries
from zelo.core.posterior import observed
from zelo.errors import ConvergenceError
from zelo.types import Link

__all__ = ["Draws", "draw_scores"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Scores of many queries' documents, as fitted and as they may be.

    Attributes:
        score: per query the maximum of the posterior [n].
        drawn: per query draws from it [draws, n].
    """

    score: Sequence[FloatArray]
    drawn: Sequence[FloatArray]


def draw_scores(batch: Batch, normal: Sequence[FloatArray], *, link: Link = "probit", prior_sd: float | None = None) -> Draws:
    """Fit the scores of each query, and draw from what is known about them.

    Args:
        batch: the rows; weights are independent comparisons, so divide them by the dispersion first (`core.dispersion`).
        normal: per query standard normal deviates [draws, n], the same number of draws for all.
        link: the link.
        prior_sd: standard deviation of the scores' prior; default `PRIOR_SD`.

    Raises:
        InputError: as `fit_queries`.
        ConvergenceError: as `fit_queries`, or the curvature is singular to working precision.
    """
    prior_sd = PRIOR_SD[link] if prior_sd is None else prior_sd
    rows = observed(batch)
    fit = fit_queries(rows.batch(), link=link, prior_sd=prior_sd, stderr=False)
    functions = link_functions(link)
    start = fit.starts[rows.query()]
    x = rows.slope * (fit.score[start + rows.first] - fit.score[start + rows.second]) + rows.offset
    prob = rows.prob_first
    curvature = rows.weight * rows.slope**2 * (prob * functions.slopes(x)[1] + (1 - prob) * functions.slopes(-x)[1])
    score, drawn = [], []
    for q, n in enumerate(rows.documents.tolist()):
        here = slice(rows.rows[q], rows.rows[q + 1])
        i, j = rows.first[here], rows.second[here]
        one_way = np.bincount(i * n + j, curvature[here], n * n).astype(np.float64).reshape(n, n)
        off = one_way + one_way.T
        precision = np.asarray(np.diag(off.sum(axis=1) + 1 / prior_sd**2) - off, np.float64)
        score.append(fit.score[fit.starts[q] : fit.starts[q + 1]])
        drawn.append(score[-1] + _deviates(precision, normal[q]))
    return Draws(score, drawn)


def _deviates(precision: FloatArray, normal: FloatArray) -> FloatArray:
    """Normal deviates [draws, n] with this precision, from standard ones: with precision = L L', they are the rows of normal L^-1."""
    if not len(precision):
        return np.zeros((len(normal), 0))
    factor, failed = lapack.dpotrf(precision, lower=1)
    if not failed:
        solved, failed = lapack.dtrtrs(factor, np.asfortranarray(normal.T), lower=1, trans=1)
    if failed:
        raise ConvergenceError("the curvature is singular to working precision", remedy="use a smaller prior_sd")
    return np.asarray(solved.T, np.float64)
