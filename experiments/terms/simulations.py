"""Simulations with known truth: what each term of the votes is worth. `run.py` runs them.

Scores are drawn from N(0, 1.5^2) logits for 100 documents per query, which meet in zelo's eight-regular graphs of directed cycles
(400 pairs); three judges add logistic noise of scale 1 and say which is better. A judge goes through a cycle in either direction,
by a coin of its own. Errors are in logits after one global factor is taken out ("RMSE"), as the unit of scores is a convention;
nDCG@10 has gains exp(score). Standard errors are over queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import erf, expit

from zelo.core.comparison_graph import hamiltonian_cycles
from zelo.core.dispersion import centered_stderr, estimate_dispersion
from zelo.core.held_out import choose_prior_sd, held_out
from zelo.core.judge_terms import estimate_terms, with_terms
from zelo.core.links import PRIOR_SD, link_functions
from zelo.core.paired_comparison import Batch, BatchFit, fit_queries
from zelo.core.reliability import reliabilities, top_agreement, vote_weights
from zelo.core.ties import estimate_threshold, tie_rows
from zelo.types import Link

FloatArray = NDArray[np.float64]
Row = dict[str, Any]
N, DEGREE, SD = 100, 8, 1.5


@dataclass(frozen=True)
class World:
    """Truth [Q, N], pairs [Q, m, 2], preferences in [-1, 1] and order shown (1 = the first of the pair) [judges, Q, m]."""

    truth: FloatArray
    pairs: NDArray[np.int64]
    preference: FloatArray
    shown: FloatArray

    def pooled(self, weights: FloatArray | None = None) -> Batch:
        """One row per pair."""
        weights = np.full(len(self.preference), 1 / len(self.preference)) if weights is None else weights
        prob = (1 + np.tensordot(weights, self.preference, 1)) / 2
        return self._batch(prob[None], float(len(weights)))

    def by_judge(self) -> tuple[Batch, NDArray[np.int64], FloatArray]:
        """One row per judgment, with the judge and the order of each."""
        judges, queries, m = self.preference.shape
        return self._batch((1 + self.preference) / 2, 1.0), np.tile(np.arange(judges), queries * m), _rows(self.shown)

    def _batch(self, prob: FloatArray, weight: float) -> Batch:
        k, queries, m = prob.shape
        first, second = (np.repeat(self.pairs[..., side], k, axis=1).ravel() for side in (0, 1))
        return Batch(np.full(queries, N), np.arange(queries + 1) * m * k, first, second, _rows(prob), np.full(prob.size, weight))


def _rows(values: FloatArray) -> FloatArray:
    """[judges, Q, m] in the order of the rows: query, pair, judge."""
    return np.asarray(values.transpose(1, 2, 0).reshape(-1))


def world(
    queries: int,
    *,
    order: tuple[float, ...] = (0.0, 0.0, 0.0),
    noise: tuple[float, ...] = (1.0, 1.0, 1.0),
    tie: float = 0.0,
    soft: float = 0.0,
    correlation: float = 0.0,
    directions: str = "coin",
    seed: int = 0,
) -> World:
    """Draw queries; `order` in units of the judge's noise, `soft` > 0 gives tanh(soft * evidence / 2) instead of a vote."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, SD, (queries, N))
    pairs = np.stack([hamiltonian_cycles(N, DEGREE, rng) for _ in range(queries)])
    judges, m = len(noise), pairs.shape[1]
    q = np.arange(queries)[:, None]
    if directions == "coin":
        shown = np.repeat(rng.choice([-1.0, 1.0], (judges, queries, DEGREE // 2)), N, axis=2)
    elif directions == "random":
        shown = rng.choice([-1.0, 1.0], (judges, queries, m))
    else:  # by the documents' numbers: the worst that can be done
        shown = np.broadcast_to(np.where(pairs[..., 0] < pairs[..., 1], 1.0, -1.0), (judges, queries, m))
    own, common = rng.normal(size=(judges, queries, m)), rng.normal(size=(queries, m))
    uniform = 0.5 * (1 + erf((np.sqrt(1 - correlation) * own + np.sqrt(correlation) * common) / np.sqrt(2)))
    scale, lean = (np.array(values)[:, None, None] for values in (noise, order))
    total = truth[q, pairs[..., 0]] - truth[q, pairs[..., 1]] + scale * (np.log(uniform / (1 - uniform)) + shown * lean)
    vote = np.tanh(soft * total / 2) if soft else np.sign(total) * (np.abs(total) >= tie)
    return World(truth, pairs, vote, shown)


def quality(truth: FloatArray, score: FloatArray) -> Row:
    """RMSE with one global factor taken out, raw RMSE and nDCG@10, with standard errors over queries."""
    found = score.reshape(truth.shape)
    centered = truth - truth.mean(1, keepdims=True)
    factor = float((found * centered).sum() / (found**2).sum())
    squared = ((factor * found - centered) ** 2).mean(1)
    gains = np.exp(truth)
    top = np.argsort(-found, axis=1)[:, :10]
    discount = 1 / np.log2(np.arange(2, 12))
    ndcg = (np.take_along_axis(gains, top, 1) @ discount) / (-np.sort(-gains, axis=1)[:, :10] @ discount)
    rmse = float(np.sqrt(squared.mean()))
    return {
        "rmse": rmse,
        "rmse_stderr": float(squared.std(ddof=1) / np.sqrt(len(squared)) / (2 * rmse)),
        "raw_rmse": float(np.sqrt(((found - centered) ** 2).mean())),
        "ndcg10": float(ndcg.mean()),
        "ndcg10_stderr": float(ndcg.std(ddof=1) / np.sqrt(len(ndcg))),
        "queries": len(truth),
    }


def fit(batch: Batch, link: Link = "logit", prior_sd: float | None = None) -> BatchFit:
    """Fit on one thread."""
    return fit_queries(batch, link=link, prior_sd=prior_sd, threads=1)


def order_effects(queries: int) -> Iterator[Row]:
    """With and without the order term, for each leaning and way of showing."""
    for directions in ("coin", "random", "number"):
        for lean in (0.0, 0.5, 1.0, 2.0):
            w = world(queries, order=(lean,) * 3, directions=directions)
            batch, judge, shown = w.by_judge()
            at = {"part": "order", "directions": directions, "lean": lean}
            yield {**at, "term": False, **quality(w.truth, fit(batch).score)}
            terms = estimate_terms(batch, judge, shown, 3, slopes=False, link="logit")
            found = {
                "effect": terms.order_effect.mean(), "effect_stderr": terms.order_stderr.max(), "likelihood_ratio": terms.order_ratio
            }  # fmt: skip
            yield {**at, "term": True, **found, **quality(w.truth, fit(with_terms(batch, judge, shown, terms)).score)}


def unequal_judges(queries: int) -> Iterator[Row]:
    """Ways of weighing judges of unlike noise; "none" is three alike judges, where weighing can only do harm."""
    for name, noise in (("unequal", (0.5, 1.0, 3.0)), ("none", (1.0, 1.0, 1.0)), ("junk", (1.0, 1.0, 1e6))):
        w = world(queries, noise=noise)
        batch, judge, shown = w.by_judge()
        at = {"part": "judges", "noise": name}
        yield {**at, "weighting": "equal", **quality(w.truth, fit(w.pooled()).score)}
        weights = vote_weights(reliabilities(top_agreement([_own(w, k) for k in range(3)])))
        yield {**at, "weighting": "agreement", "found": weights.tolist(), **quality(w.truth, fit(w.pooled(weights)).score)}
        terms = estimate_terms(batch, judge, shown, 3, order_effect=False, link="logit")
        row = {"found": terms.slope.tolist(), "stderr": terms.slope_stderr.tolist(), "likelihood_ratio": terms.slope_ratio}
        yield {**at, "weighting": "slopes", **row, **quality(w.truth, fit(with_terms(batch, judge, shown, terms)).score)}
        true = 1 / np.array(noise)
        oracle = replace(terms, slope=true / np.sqrt((true**2).mean()))
        yield {
            **at,
            "weighting": "true slopes",
            "found": oracle.slope.tolist(),
            **quality(w.truth, fit(with_terms(batch, judge, shown, oracle)).score),
        }


def _own(w: World, judge: int) -> list[FloatArray]:
    one = World(w.truth, w.pairs, w.preference[judge : judge + 1], w.shown[judge : judge + 1])
    return list(fit(one.pooled(), "probit").score.reshape(w.truth.shape))


def ties(queries: int) -> Iterator[Row]:
    """Half a win for each against ties as an outcome of their own."""
    for band in (0.4, 1.0):
        w = world(queries, tie=band)
        at = {"part": "ties", "band": band, "share": float((w.preference == 0).mean())}
        half = w.pooled()
        yield {**at, "ties": "half", **quality(w.truth, fit(half).score)}
        win, tie, loss = (np.asarray((w.preference == v).sum(0).ravel(), np.float64) for v in (1, 0, -1))
        threshold = estimate_threshold(half, win, tie, loss)
        prob, weight, offset = tie_rows(win, tie, loss, threshold)
        twice = Batch(
            half.documents, 2 * np.asarray(half.rows), np.repeat(half.first, 2), np.repeat(half.second, 2), prob.ravel(), weight.ravel(),
            offset=np.tile(offset, len(win)),
        )  # fmt: skip
        yield {**at, "ties": "outcome", "threshold": threshold, **quality(w.truth, fit(twice).score)}
        value = estimate_dispersion(half, link="logit").value
        yield {**at, "ties": "half, weights by dispersion", **quality(w.truth, fit(replace(half, weight=half.weight / value)).score)}


REGIMES: dict[str, Row] = {
    "votes": {},
    "votes, noise .5": {"noise": (0.5,) * 3},
    "votes, noise 2": {"noise": (2.0,) * 3},
    "votes, correlation .6": {"correlation": 0.6},
    "soft, noise 1": {"soft": 1.0},
    "soft, noise .3": {"soft": 1.0, "noise": (0.3,) * 3},
}


def priors(queries: int) -> Iterator[Row]:
    """One global prior chosen by held-out pairs against the default and the best there is; links by held-out pairs."""
    grid = PRIOR_SD["logit"] * 2.0 ** np.arange(-3, 4.5, 0.5)
    for name, settings in REGIMES.items():
        w = world(queries, **settings)
        batch = w.pooled()
        choice = choose_prior_sd(batch, grid.tolist(), link="logit", rng=np.random.default_rng(1))
        found = {sd: quality(w.truth, fit(batch, prior_sd=sd).score) for sd in grid.tolist()}
        best = min(found, key=lambda sd: float(found[sd]["rmse"]))
        default = PRIOR_SD["logit"]
        value = estimate_dispersion(batch, link="logit").value
        weighed = quality(w.truth, fit(replace(batch, weight=batch.weight / value)).score)
        for how, sd, row in (
            ("default", default, found[default]), ("held out", choice.prior_sd, found[choice.prior_sd]), ("best", best, found[best]),
            ("default, weights by dispersion", default, weighed),
        ):  # fmt: skip
            yield {"part": "prior", "regime": name, "prior": how, "prior_sd": sd, **row}
        links = {link: held_out(batch, link=link, rng=np.random.default_rng(1)) for link in ("probit", "logit")}
        difference = links["probit"].by_query - links["logit"].by_query
        weight = links["probit"].weight
        yield {
            "part": "link", "regime": name, "probit": links["probit"].log_likelihood, "logit": links["logit"].log_likelihood,
            "difference": float(difference.sum() / weight.sum()),
            "stderr": float(difference.std(ddof=1) * np.sqrt(len(weight)) / weight.sum()),
        }  # fmt: skip


COVERED: dict[str, Row] = {
    "independent": {},
    "correlation .3": {"correlation": 0.3},
    "correlation .6": {"correlation": 0.6},
    "12 % ties": {"tie": 0.4},
    "28 % ties": {"tie": 1.0},
    "12 % ties, correlation .6": {"tie": 0.4, "correlation": 0.6},
    "soft": {"soft": 1.0},
    "soft, correlation .6": {"soft": 1.0, "correlation": 0.6},
    "soft, small (.25)": {"soft": 0.25},
    "soft, sharp (noise .3)": {"soft": 1.0, "noise": (0.3,) * 3},
}


def coverage(queries: int) -> Iterator[Row]:
    """Share of true scores in their 95 % interval, in the unit that the fit's scores tend to with ever more data."""
    for link in ("probit", "logit"):
        for name, settings in COVERED.items():
            w = world(queries, seed=7, **settings)
            unit = _unit(link, settings)
            truth = unit * (w.truth - w.truth.mean(1, keepdims=True))
            batch, sd = w.pooled(), PRIOR_SD[link]
            plain = fit(batch, link)
            pearson, loo = _pearson(batch, plain, link), estimate_dispersion(batch, link=link)
            judge_rows = estimate_dispersion(w.by_judge()[0], link=link).value
            weighed = fit(replace(batch, weight=batch.weight / loo.value), link)
            narrow = centered_stderr(plain.stderr, batch.documents, sd)
            recipes: dict[str, tuple[FloatArray, FloatArray]] = {
                "curvature": (plain.score, plain.stderr),
                "x Pearson": (plain.score, narrow * np.sqrt(pearson)),
                "x predicted": (plain.score, narrow * np.sqrt(loo.value)),
                "weights": (weighed.score, centered_stderr(weighed.stderr, batch.documents, sd)),
                "sandwich": (plain.score, _sandwich(batch, plain, link)),
            }
            for recipe, (score, stderr) in recipes.items():
                inside = (np.abs(score.reshape(truth.shape) - truth) < 1.96 * stderr.reshape(truth.shape)).mean(1)
                row = {"coverage": float(inside.mean()), "stderr": float(inside.std(ddof=1) / np.sqrt(queries)), "queries": queries}
                found = {"pearson": pearson, "dispersion": loo.value, "dispersion_by_judge": judge_rows}
                yield {"part": "coverage", "link": link, "votes": name, "recipe": recipe, **row, **found, **quality(w.truth, score)}


def _unit(link: Link, settings: Row) -> float:
    """Units of the fit per logit of the truth: the factor for which the link is nearest to what the votes do, by likelihood."""
    rng = np.random.default_rng(3)
    x, noise = rng.normal(0, SD * np.sqrt(2), 400_000), settings.get("noise", (1.0,))[0]
    total = x + noise * rng.logistic(size=len(x))
    soft, tie = settings.get("soft", 0.0), settings.get("tie", 0.0)
    prob = expit(soft * total) if soft else (1 + np.sign(total) * (np.abs(total) >= tie)) / 2
    log_f = link_functions(link).log_probability
    loss: Callable[[float], float] = lambda c: -float(np.mean(prob * log_f(c * x) + (1 - prob) * log_f(-c * x)))  # noqa: E731
    return float(minimize_scalar(loss, bounds=(1e-3, 10), method="bounded").x)


def _residuals(batch: Batch, found: BatchFit, link: Link) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Residual of the preference, its variance by the model, and the derivative of the probability [m]."""
    start = np.repeat(found.starts[:-1], np.diff(np.asarray(batch.rows)))
    x = found.score[start + batch.first] - found.score[start + batch.second]
    functions = link_functions(link)
    f = functions.probability(x)
    return np.asarray(batch.prob_first) - f, f * (1 - f), f * functions.slopes(x)[0]


def _pearson(batch: Batch, found: BatchFit, link: Link) -> float:
    """Pearson's dispersion with effective degrees of freedom: documents less what the prior holds, sum of variance / prior variance."""
    residual, variance, _ = _residuals(batch, found, link)
    freedom = len(residual) - (len(found.score) - float((found.stderr**2).sum()) / PRIOR_SD[link] ** 2)
    return float((np.asarray(batch.weight) * residual**2 / variance).sum() / freedom)


def _sandwich(batch: Batch, found: BatchFit, link: Link) -> FloatArray:
    """Standard errors from squared residuals pair by pair, H^-1 (sum of u u' + prior) H^-1."""
    residual, variance, slope = _residuals(batch, found, link)
    weight = np.asarray(batch.weight)
    pull, curvature = weight * residual * slope / variance, weight * slope**2 / variance
    out = []
    for q in range(len(found.starts) - 1):
        here = slice(int(batch.rows[q]), int(batch.rows[q + 1]))
        incidence = np.zeros((N, here.stop - here.start))
        incidence[batch.first[here], np.arange(incidence.shape[1])] = 1
        incidence[batch.second[here], np.arange(incidence.shape[1])] = -1
        prior = np.eye(N) / PRIOR_SD[link] ** 2
        inverse = np.linalg.inv(incidence * curvature[here] @ incidence.T + prior)
        out.append(np.sqrt(np.diag(inverse @ (incidence * pull[here] ** 2 @ incidence.T + prior) @ inverse)))
    return np.concatenate(out)


def joint(queries: int) -> Iterator[Row]:
    """Slopes by the joint maximum over scores and terms; it runs away from the truth, and does not always settle."""
    from zelo.core import judge_terms

    w = world(min(queries, 30), noise=(0.5, 1.0, 3.0))
    batch, judge, shown = w.by_judge()
    marginal = estimate_terms(batch, judge, shown, 3, order_effect=False, link="logit").slope
    nodes, level = judge_terms._NODES, judge_terms.LEVEL_SD
    judge_terms._NODES, judge_terms.LEVEL_SD = 0 * nodes, 1e-3  # no average over the posterior; without it the level has no maximum
    try:
        found = estimate_terms(batch, judge, shown, 3, order_effect=False, link="logit").slope
    finally:
        judge_terms._NODES, judge_terms.LEVEL_SD = nodes, level
    true = 1 / np.array([0.5, 1.0, 3.0])
    yield {"part": "joint", "true": (true / np.sqrt((true**2).mean())).tolist(), "marginal": marginal.tolist(), "joint": found.tolist()}


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "order": order_effects,
    "judges": unequal_judges,
    "ties": ties,
    "prior": priors,
    "coverage": coverage,
    "joint": joint,
}
