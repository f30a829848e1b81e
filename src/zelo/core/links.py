"""Links: from a difference of two scores to the probability that the first document wins.

`probit` is the paper's Thurstone model, F(x) = (1 + erf x) / 2 (arXiv 2509.12541); `logit` is Bradley-Terry, F(x) = 1 / (1 + exp -x).
One more link is one more entry of `LINKS` and `PRIOR_SD`; F must be symmetric, F(-x) = 1 - F(x), and log-concave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from zelo.errors import InputError
from zelo.types import Link

FloatArray = NDArray[np.float64]

# The logistic function is closest to Phi(x / 1.702), and (1 + erf x) / 2 = Phi(sqrt(2) x): probit scores are logit scores / 2.41.
LOGIT_PER_PROBIT = 1.702 * float(np.sqrt(2.0))

# Standard deviation of a score's prior, in units of the link: one belief on both scales.
PRIOR_SD: dict[Link, float] = {"logit": 1.5, "probit": 1.5 / LOGIT_PER_PROBIT}


@dataclass(frozen=True, slots=True)
class LinkFunctions:
    """A link as functions of score differences x, exact far into both tails.

    Attributes:
        probability: F(x).
        log_probability: log F(x).
        slopes: first derivative of log F at x, and minus the second; both are >= 0.
    """

    probability: Callable[[FloatArray], FloatArray]
    log_probability: Callable[[FloatArray], FloatArray]
    slopes: Callable[[FloatArray], tuple[FloatArray, FloatArray]]


def _probit_slopes(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    first = (2.0 / np.sqrt(np.pi)) / special.erfcx(-x)  # F'/F as a Mills ratio: F itself underflows below -26.
    return first, first * (2.0 * x + first)


def _logit_slopes(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    first = special.expit(-x)
    return first, first * special.expit(x)


LINKS: dict[Link, LinkFunctions] = {
    "probit": LinkFunctions(lambda x: 0.5 * special.erfc(-x), lambda x: special.log_ndtr(np.sqrt(2.0) * x), _probit_slopes),
    "logit": LinkFunctions(special.expit, special.log_expit, _logit_slopes),
}


def link_functions(link: Link) -> LinkFunctions:
    """Look a link up by name.

    Raises:
        InputError: the link is unknown.
    """
    if link not in LINKS:
        raise InputError(f"unknown link {link!r}", remedy=f"use one of {', '.join(LINKS)}")
    return LINKS[link]


def win_probability(x: ArrayLike, link: Link = "probit") -> FloatArray:
    """Return P(first beats second), in [0, 1] and of the shape of x, for score differences x = s_first - s_second.

    Raises:
        InputError: the link is unknown.
    """
    return np.asarray(link_functions(link).probability(np.asarray(x, dtype=np.float64)))
