"""Train the blend's head: mean squared error to the targets (paper section 5.5), by L-BFGS, to its optimum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from zelo.errors import ConvergenceError
from zelo.rerankers.blend import Head

FloatArray = NDArray[np.float64]

RIDGE = 1e-4
"""Penalty on the squared weights: two features that say the same share the weight instead of cancelling."""


def loss(parameters: FloatArray, features: FloatArray, targets: FloatArray) -> tuple[float, FloatArray]:
    """Return mean (sigmoid(X w + b) - y)^2 + RIDGE |w|^2 and its gradient; parameters [f + 1] are w, then b."""
    weights, bias = parameters[:-1], parameters[-1]
    predicted = expit(features @ weights + bias)
    error = predicted - targets
    slope = 2 * error * predicted * (1 - predicted) / len(targets)
    value = float(np.mean(error**2) + RIDGE * weights @ weights)
    return value, np.append(features.T @ slope + 2 * RIDGE * weights, slope.sum())


def train_head(features: FloatArray, targets: FloatArray) -> tuple[Head, float]:
    """Fit the head.

    Args:
        features: [n, f].
        targets: [n] in [0, 1].

    Returns:
        The head, and its root mean squared error on the data.

    Raises:
        ConvergenceError: no optimum was found.
    """
    center, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    standard = (features - center) / scale
    share = float(np.clip(targets.mean(), 1e-6, 1 - 1e-6))
    start = np.append(np.ones(features.shape[1]), np.log(share / (1 - share)))
    result = minimize(
        loss, start, args=(standard, targets), jac=True, method="L-BFGS-B", options={"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9}
    )
    _, gradient = loss(result.x, standard, targets)
    if np.abs(gradient).max() > 1e-5:
        raise ConvergenceError(
            f"the head did not converge (gradient {np.abs(gradient).max():.1e})", remedy="report this with the workspace"
        )
    head = Head(tuple(result.x[:-1].tolist()), float(result.x[-1]), tuple(center.tolist()), tuple(scale.tolist()))
    return head, float(np.sqrt(np.mean((head(features) - targets) ** 2)))
