"""Ties as an outcome of their own, by the model of Rao and Kupper (1967), with one threshold for all queries.

A judge names the better document only where it sees more than a threshold t of difference: P(first) = F(x - t), P(second) =
F(-x - t), and the rest is a tie. With the logit link, a tie's probability factors,

    P(tie) = (1 - exp(-2 t)) F(x + t) F(-x + t),

so that a tie is worth one win of the first document at offset t and one of the second, and a win counts at offset -t. Rows with
offsets are what `paired_comparison` fits: the exact likelihood needs no fit of its own. (The model of Davidson, 1970, has no such
form, and with the probit link neither has this one.)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from zelo.core.paired_comparison import Batch
from zelo.core.posterior import Observed, observed, posterior
from zelo.errors import InputError

__all__ = ["estimate_threshold", "tie_rows"]

FloatArray = NDArray[np.float64]

LEAST, MOST = 1e-4, 5.0
"""Bounds of the threshold, logits."""


def tie_rows(win: ArrayLike, tie: ArrayLike, loss: ArrayLike, threshold: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Turn counted outcomes into rows of the logit fit, two for each.

    Args:
        win: [m], >= 0, how often (or with which weight) the first document was preferred.
        tie: [m], >= 0.
        loss: [m], >= 0.
        threshold: t in logits, >= 0.

    Returns:
        prob_first [m, 2] (NaN where the weight is 0), weight [m, 2], and what to add to the offset [2].
    """
    w, t, lost = (np.asarray(c, np.float64) for c in (win, tie, loss))
    weight = np.stack([w + t, t + lost], -1)
    with np.errstate(invalid="ignore"):
        prob = np.stack([w, t], -1) / weight
    return prob, weight, np.array([-threshold, threshold])


def estimate_threshold(
    batch: Batch, win: ArrayLike, tie: ArrayLike, loss: ArrayLike, *, prior_sd: float | None = None, max_queries: int = 100
) -> float:
    """Estimate the threshold by maximum marginal likelihood, the scores integrated out; the link is logit.

    Args:
        batch: a row per entry of win, tie and loss, with slopes and offsets if there are any; prob_first and weight are not read.
        win: as for `tie_rows`.
        tie: likewise.
        loss: likewise.
        prior_sd: standard deviation of the scores' prior; default `PRIOR_SD`.
        max_queries: so many queries are looked at, evenly spaced.

    Returns:
        The threshold in logits; the lowest one allowed, 0.0001, where there is no tie.

    Raises:
        InputError: the columns do not fit together, or a count is negative.
    """
    counts = np.stack([np.asarray(c, np.float64) for c in (win, tie, loss)], -1)
    if not (counts >= 0).all():
        raise InputError("wins, ties and losses must be >= 0")
    used = observed(replace(batch, prob_first=np.full(len(counts), 0.5), weight=counts.sum(-1))).every_few(max_queries)
    counts = counts[used.source]
    ties = float(counts[:, 1].sum())
    if not ties:
        return LEAST

    def loss_of(threshold: float) -> float:
        both = _with_ties(used, counts, threshold)
        return -float(posterior(both, link="logit", prior_sd=prior_sd).log_marginal.sum()) - ties * float(np.log(-np.expm1(-2 * threshold)))

    return float(minimize_scalar(loss_of, bounds=(LEAST, MOST), method="bounded", options={"xatol": 1e-4}).x)


def _with_ties(rows: Observed, counts: FloatArray, threshold: float) -> Observed:
    """Two rows for each of the rows."""
    prob, weight, offset = tie_rows(counts[:, 0], counts[:, 1], counts[:, 2], threshold)
    both = replace(rows.take(np.repeat(np.arange(len(counts)), 2)), rows=2 * rows.rows)
    both = replace(both, prob_first=prob.ravel(), weight=weight.ravel(), offset=(rows.offset[:, None] + offset).ravel())
    return both.take(np.flatnonzero(both.weight > 0))
