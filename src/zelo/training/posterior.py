"""Targets as posteriors: the judges' scores are evidence, what the student's own signals say is the prior.

Fitted scores err: of a hundred documents some are lucky in their few comparisons. If those errors have nothing to do with the
signals, then P(relevant | score, signals) is a better teacher than the score, and needs no labels. The model is a mixture, fitted by
expectation and maximization (Dempster, Laird and Rubin 1977): a document is relevant with probability sigmoid(w . signals + b), and
its evidence is normal with one mean and deviation if it is, and others if it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import norm

from zelo.errors import InputError
from zelo.rerankers.blend import Head

FloatArray = NDArray[np.float64]

EDGE = 1e-6  # targets are moved so far away from 0 and 1 before their log-odds are taken
RIDGE = 1e-4  # on the squared weights: two signals that say the same share the weight
NARROWEST = 0.3  # least deviation of the relevant documents' evidence, in deviations of all: a mixture must not shrink onto a point
ROUNDS = 100
SETTLED = 1e-4  # mean change of a posterior at which the rounds end


@dataclass(frozen=True)
class Posterior:
    """What the mixture found.

    Attributes:
        targets: P(relevant | evidence, signals) [n].
        head: P(relevant | signals), for documents that nobody compared.
        relevant: mean and deviation of the evidence of relevant documents.
        other: those of the others.
        rounds: until it settled.
    """

    targets: FloatArray
    head: Head
    relevant: tuple[float, float]
    other: tuple[float, float]
    rounds: int


def posterior_targets(targets: FloatArray, features: FloatArray) -> Posterior:
    """Fit the mixture.

    Args:
        targets: of the calibrate stage [n] in [0, 1], all queries together; their log-odds, standardized, are the evidence.
        features: the student's signals [n, f].

    Raises:
        InputError: the numbers of rows differ, or all targets are equal.
    """
    if len(targets) != len(features) or not len(targets):
        raise InputError(f"{len(targets)} targets for {len(features)} rows of signals")
    evidence = logit(np.clip(targets, EDGE, 1 - EDGE))
    if not np.ptp(evidence) > 0:
        raise InputError("all targets are equal: they are no evidence", remedy='set train.prior = "none"')
    evidence = (evidence - evidence.mean()) / evidence.std()
    design, center, scale = _design(features)
    weights = np.zeros(design.shape[1])
    found = np.clip(targets, EDGE, 1 - EDGE)
    relevant = other = (0.0, 1.0)
    rounds = 0
    settled = False
    while rounds < ROUNDS and not settled:
        relevant, other = _normal(evidence, found, NARROWEST), _normal(evidence, 1 - found, EDGE)
        weights = _logistic(design, found, weights)
        prior = design @ weights
        odds = prior + norm.logpdf(evidence, *relevant) - norm.logpdf(evidence, *other)
        # A normal with the wider tail wins on both sides; evidence below the others' mean never speaks for relevance.
        odds = np.where(evidence < other[0], np.minimum(odds, prior), odds)
        before, found = found, expit(odds)
        settled = bool(np.abs(found - before).mean() < SETTLED)
        rounds += 1
    return Posterior(found, _as_head(weights, center, scale), relevant, other, rounds)


def logistic_head(features: FloatArray, shares: FloatArray) -> Head:
    """Fit a head to probabilities by their likelihood (cross-entropy).

    Args:
        features: [n, f].
        shares: [n] in [0, 1].
    """
    design, center, scale = _design(features)
    return _as_head(_logistic(design, shares, np.zeros(design.shape[1])), center, scale)


def _design(features: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Standardized features with a column of ones, and their centers and scales."""
    center, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    return np.column_stack([(features - center) / scale, np.ones(len(features))]), center, scale


def _as_head(weights: FloatArray, center: FloatArray, scale: FloatArray) -> Head:
    return Head(tuple(weights[:-1].tolist()), float(weights[-1]), tuple(center.tolist()), tuple(scale.tolist()))


def _normal(evidence: FloatArray, share: FloatArray, least: float) -> tuple[float, float]:
    """Mean and deviation of a component, documents weighed by their share in it."""
    mean = float(np.average(evidence, weights=share))
    return mean, max(least, float(np.sqrt(np.average((evidence - mean) ** 2, weights=share))))


def _logistic(design: FloatArray, share: FloatArray, start: FloatArray) -> FloatArray:
    """Logistic regression on shares in [0, 1]."""
    penalty = np.append(np.full(design.shape[1] - 1, RIDGE), 0.0)

    def loss(weights: FloatArray) -> tuple[float, FloatArray]:
        z = design @ weights
        value = float(np.mean(np.logaddexp(0, z) - share * z) + penalty @ weights**2)
        return value, design.T @ (expit(z) - share) / len(z) + 2 * penalty * weights

    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200, "gtol": 1e-8}).x, np.float64)
