"""What a judge adds to the documents' scores: a leaning toward the text shown first, and how sharply it tells documents apart.

Judge k sees documents i and j, the text of i first, and prefers i with probability F(a_k (s_i - s_j) + b_k); with j first, b_k counts
against i. The *order effect* b_k is in units of the link; the *slope* a_k is 1 in the quadratic mean over judges, so that together
they say as much as judges of slope 1. (Paired comparisons with an order effect: Davidson and Beaver 1977. Slopes: the
two-parameter model of item response theory, Birnbaum 1968, with judges for items.)

Both are found by maximum marginal likelihood, the scores integrated out (Bock and Aitkin 1981): a round fits the scores at the
terms, then takes a Newton step of the terms, averaged over the posterior of every difference. The joint maximum over scores and
terms, which has no such average, takes the noise in the scores for spread and the slopes off their course, however much is judged.
Beliefs before: b_k ~ N(0, 1 logit), log a_k ~ N(their mean, 0.7), their mean ~ N(0, 0.5), which matter with few judgments only. The
mean is estimated too, as the spread of the scores is not known, and taken out of the slopes at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zelo.core.links import PRIOR_SD, link_functions
from zelo.core.paired_comparison import Batch
from zelo.core.posterior import Observed, observed, posterior
from zelo.errors import ConvergenceError, InputError
from zelo.types import Link

__all__ = ["JudgeTerms", "estimate_terms", "with_terms"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ORDER_SD = 1.0 / 1.5
"""Standard deviation of the order effects' prior, in units of the default prior of scores: 1 logit."""

SLOPE_SD = 0.7
"""Standard deviation of log slopes' prior, around what all share."""

LEVEL_SD = 0.5
"""Standard deviation of the prior of what they share: judges as a whole are sharper or less sharp than the prior of scores says."""

_ROUNDS, _CLOSE, _STEP = 200, 2e-4, 1e-3
_NODES, _SHARES = np.polynomial.hermite_e.hermegauss(5)
_SHARES = _SHARES / _SHARES.sum()


@dataclass(frozen=True, slots=True, eq=False)
class JudgeTerms:
    """Estimates for [judges]; 0 and 1 for terms that were not asked for, or judges without judgments.

    Attributes:
        order_effect: b, in units of the link, positive toward the text shown first.
        order_stderr: its standard error, from how queries differ; NaN where it was not estimated.
        slope: a > 0, quadratic mean 1 over the judges that judged.
        slope_stderr: likewise.
        order_ratio: likelihood ratio, twice what the order effects add to the log marginal likelihood: about chi-squared with a
            degree of freedom per judge where no judge has one. With correlated judges or soft preferences divide it by the
            dispersion. NaN where not estimated.
        slope_ratio: the same of slopes against one common slope, one degree of freedom less.
        judgments: how many each judge contributed.
        rounds: fits of the scores in the final model.
    """

    order_effect: FloatArray
    order_stderr: FloatArray
    slope: FloatArray
    slope_stderr: FloatArray
    order_ratio: float
    slope_ratio: float
    judgments: IntArray
    rounds: int


@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    """The judgments, and which terms are free. Parameters are [judges, 2]: order effects, log slopes."""

    rows: Observed
    judge: IntArray
    shown: FloatArray
    judges: int
    link: Link
    prior_sd: float
    order: bool
    slopes: bool

    def at(self, terms: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        """Gradient [Q, judges, 2] of the log marginal likelihood, curvature [judges, 2] of its expectation step, and its value."""
        slope = np.exp(terms[self.judge, 1])
        offset = self.shown * terms[self.judge, 0]
        state = posterior(replace(self.rows, slope=slope, offset=offset), link=self.link, prior_sd=self.prior_sd)
        functions, prob = link_functions(self.link), self.rows.prob_first[:, None]
        stretched = slope[:, None] * (state.difference[:, None] + np.sqrt(state.variance)[:, None] * _NODES)
        x = stretched + offset[:, None]
        (up, up_curvature), (down, down_curvature) = functions.slopes(x), functions.slopes(-x)
        weight = self.rows.weight[:, None] * _SHARES
        pull = weight * (prob * up - (1 - prob) * down)
        bend = weight * (prob * up_curvature + (1 - prob) * down_curvature)
        queries, cells = len(self.rows.documents), self.rows.query() * self.judges + self.judge
        gradient = [np.bincount(cells, of_row, queries * self.judges) for of_row in (self.shown * pull.sum(1), (stretched * pull).sum(1))]
        curvature = [np.bincount(self.judge, of_row, self.judges) for of_row in (bend.sum(1), (stretched**2 * bend).sum(1))]
        by_query: FloatArray = np.stack(gradient, -1).astype(np.float64).reshape(queries, self.judges, 2)
        return by_query, np.stack(curvature, -1), float(state.log_marginal.sum())

    def directions(self) -> FloatArray:
        """What is free, as orthonormal directions [free, 2 judges]: slopes one by one or all together, order effects or none."""
        unit = np.eye(2 * self.judges)
        together = unit[1::2].sum(0, keepdims=True) / np.sqrt(self.judges)
        return np.concatenate([unit[:0] if not self.order else unit[::2], unit[1::2] if self.slopes else together])

    def prior(self, terms: FloatArray) -> FloatArray:
        """Gradient [judges, 2] of the log prior of the terms."""
        slopes, level = terms[:, 1], terms[:, 1].mean()
        pull = (level - slopes) / SLOPE_SD**2 - level / LEVEL_SD**2 / self.judges
        return np.stack([-terms[:, 0] / _order_sd(self.link) ** 2, pull], -1)

    def maximize(self, terms: FloatArray) -> tuple[FloatArray, float, int]:
        """The best terms from these on, the log marginal likelihood there, and rounds taken (Broyden's method)."""
        free, at, inverse, step, last = self.directions(), terms, np.zeros((0, 0)), np.zeros(0), np.zeros(0)
        start, best, last_best = inverse, np.inf, last
        for done in range(1, _ROUNDS + 1):
            gradients, curvature, value = self.at(at)
            uphill = free @ (gradients.sum(0) + self.prior(at)).ravel()
            if done == 1:
                start = np.diag(1 / (free**2 @ (curvature + np.array([1 / _order_sd(self.link) ** 2, 1 / SLOPE_SD**2])).ravel()))
                inverse = start
            elif abs(step @ inverse @ (last - uphill)) > 1e-12:
                lost = inverse @ (last - uphill)
                inverse = inverse + np.outer(step - lost, step @ inverse) / (step @ lost)
            slack = float(uphill @ start @ uphill)
            if slack > 2 * best:  # Broyden's step led astray: the expectation's own, from where it was best, does not
                at, uphill, inverse = terms, last_best, start
            if slack < best:
                best, terms, last_best = slack, at, uphill
            step, last = np.clip(inverse @ uphill, -0.7, 0.7), uphill
            move = (step @ free).reshape(-1, 2)
            at = at + move
            level = move[:, 1].mean()  # is taken out at the end, and need not be known so well
            change = np.abs((move - [0, level]) * np.stack([np.ones(self.judges), np.exp(at[:, 1] - at[:, 1].mean())], -1)).max()
            if change < _CLOSE and abs(level) < 20 * _CLOSE:
                return at, value, done
        raise ConvergenceError(f"the judges' terms did not settle in {_ROUNDS} rounds", remedy="leave the order effect or the slopes out")

    def covariance(self, terms: FloatArray) -> FloatArray:
        """Covariance of the terms [2 judges, 2 judges], from how queries differ (sandwich), or from curvature if they are few."""
        free, base = self.directions(), self.at(terms)[0]
        queries = len(base)
        changes = []
        for direction in free:
            moved = terms + _STEP * direction.reshape(-1, 2)
            changes.append((base.sum(0) + self.prior(terms) - self.at(moved)[0].sum(0) - self.prior(moved)).ravel() / _STEP)
        information = np.array(changes) @ free.T
        inverse = np.linalg.inv((information + information.T) / 2)
        if queries >= 2 * self.judges + 10:
            scores = base.reshape(queries, -1) @ free.T
            scores = scores - scores.mean(0)
            inverse = inverse @ (scores.T @ scores * queries / (queries - 1)) @ inverse
        return np.asarray(free.T @ inverse @ free)


def _order_sd(link: Link) -> float:
    return ORDER_SD * PRIOR_SD[link]


def estimate_terms(
    batch: Batch,
    judge: ArrayLike,
    shown_first: ArrayLike,
    judges: int,
    *,
    order_effect: bool = True,
    slopes: bool = True,
    link: Link = "probit",
    prior_sd: float | None = None,
    max_queries: int = 100,
) -> JudgeTerms:
    """Estimate judges' order effects and slopes from single judgments, without labels.

    Args:
        batch: one row per judgment: `prob_first` = (1 + preference) / 2, NaN = missing. Its slope and offset are not read.
        judge: number [m] of the judge in 0 .. judges - 1.
        shown_first: [m], 1 where the row's first document was shown first, -1 where the second was; 0 = not known.
        judges: how many there are. With one judge a slope means nothing, and it gets 1.
        order_effect: whether to estimate order effects.
        slopes: whether to estimate slopes.
        link: the link.
        prior_sd: standard deviation of the scores' prior; default `PRIOR_SD`.
        max_queries: so many queries are looked at, evenly spaced: the terms are few and belong to all queries.

    Raises:
        InputError: a column is out of range or does not fit.
        ConvergenceError: a fit failed, or the terms did not settle.
    """
    number, shown = np.asarray(judge, np.int64), np.asarray(shown_first, np.float64)
    if not number.shape == shown.shape == np.shape(batch.prob_first):
        raise InputError("judge and shown_first must have an entry for each row of the batch")
    if len(number) and not (number.min() >= 0 and number.max() < judges and np.isin(shown, (-1, 0, 1)).all()):
        raise InputError(f"judge must be in 0 .. {judges - 1} and shown_first one of -1, 0, 1")
    used = observed(replace(batch, slope=None, offset=None)).every_few(max_queries)
    number, shown = number[used.source], shown[used.source]
    counts = np.bincount(number, minlength=judges)
    present, number = np.flatnonzero(counts), np.searchsorted(np.flatnonzero(counts), number)
    prior_sd = PRIOR_SD[link] if prior_sd is None else prior_sd
    slopes = slopes and len(present) > 1
    model = _Model(used, number, shown, len(present), link, prior_sd, order_effect, slopes)
    if not len(present) or not (order_effect or slopes):
        return _without(judges, counts)
    return _estimate(model, present, counts)


def _without(judges: int, counts: IntArray) -> JudgeTerms:
    unknown = np.full(judges, np.nan)
    return JudgeTerms(np.zeros(judges), unknown, np.ones(judges), unknown.copy(), np.nan, np.nan, counts, 0)


def _estimate(model: _Model, present: IntArray, counts: IntArray) -> JudgeTerms:
    terms, value, rounds = model.maximize(np.zeros((model.judges, 2)))
    found = _without(len(counts), counts)
    covariance = model.covariance(terms)
    order_ratio = slope_ratio = np.nan
    if model.order:
        order_ratio = 2 * (value - replace(model, order=False).maximize(terms * [0, 1])[1])
        found.order_effect[present], found.order_stderr[present] = terms[:, 0], np.sqrt(np.diag(covariance)[::2])
    if model.slopes:
        common = terms.copy()
        common[:, 1] = terms[:, 1].mean()
        slope_ratio = 2 * (value - replace(model, slopes=False).maximize(common)[1])
        squares = np.exp(2 * terms[:, 1])
        slope = np.sqrt(squares / squares.mean())
        turn = np.eye(model.judges) - squares / squares.sum()  # dividing by the quadratic mean takes out what all share
        found.slope[present], found.slope_stderr[present] = slope, slope * np.sqrt(np.diag(turn @ covariance[1::2, 1::2] @ turn.T))
    return replace(found, order_ratio=order_ratio, slope_ratio=slope_ratio, rounds=rounds)


def with_terms(batch: Batch, judge: ArrayLike, shown_first: ArrayLike, terms: JudgeTerms) -> Batch:
    """Return the batch with the terms as its slopes and offsets, ready for `fit_queries`; arguments as for `estimate_terms`."""
    number = np.asarray(judge, np.int64)
    offset = np.asarray(shown_first, np.float64) * terms.order_effect[number]
    return replace(batch, slope=terms.slope[number], offset=offset)
