"""What a source's traces say about pairs, as a judge: one preference per pair, and how good these are.

A preference is the mean over the orders of the mean over the traces that vote, as the thinking judge's is: both orders weigh alike
however many traces of each came to an end. A pair that was asked about in both orders and has votes in one only has none: that
would hold the whole effect of place. It is missing, not a tie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from zelo.core import probabilities
from zelo.core.comparison_graph import rng_for
from zelo.core.significance import bootstrap_interval
from zelo.types import Problem, Trace

FloatArray = NDArray[np.float64]
RESAMPLES = 2000
FOLDS = 5
VOTES: Mapping[str, float] = {"A": 1.0, "tie": 0.5, "B": 0.0}
"""Answer -> vote for the text shown first."""


@dataclass(frozen=True)
class Judging:
    """What is known of a source as a judge, over pairs.

    Attributes:
        pairs: with a preference and an answer that is known; all other figures are of them.
        unjudged: pairs that were asked about and have no preference, for lack of votes in an order in which they were asked.
        one_order: those of `pairs` that were asked about in one order only; what place adds does not cancel in them.
        accuracy: share of pairs where the preference is for the better one; an even one counts 1/2. Pairs that are ties count as
            right if it is even.
        interval: 95 % of the accuracy, pairs resampled.
        consistency: of pairs shown in both orders, the share where both orders prefer the same text, None where none was.
        first_share: mean preference for the text shown first, in [0, 1], orders and pairs weighing alike; 1/2 is no order effect.
        temperature: that makes the smoothed preferences fit best; above 1 = too sure.
        log_loss: nats, of the smoothed preferences at temperature 1. Smoothed is (p n + 1/2) / (n + 1), n votes: what few votes say
            unanimously is 0 or 1, whose log loss is infinite.
        calibrated_log_loss: nats, each fold of pairs at the temperature of the others.
        brier: of the preferences as they are.
        calibration_error: expected, ten bins, of the preferences as they are.
    """

    pairs: int
    unjudged: int
    one_order: int
    accuracy: float
    interval: tuple[float, float]
    consistency: float | None
    first_share: float
    temperature: float
    log_loss: float
    calibrated_log_loss: float
    brier: float
    calibration_error: float


def votes_for_first(traces: Sequence[Trace]) -> tuple[float, int]:
    """Return the votes for the text shown first (A 1, tie 1/2, B 0) and how many traces vote at all."""
    values = [VOTES[t.answer] for t in traces if t.answer in VOTES]
    return sum(values), len(values)


def preference(orders: Sequence[tuple[float, int]]) -> tuple[float, float] | None:
    """Return the preference in [0, 1] of a pair and how many votes it is worth.

    Args:
        orders: of each order in which it was asked about, the votes for one and the same text and how many traces voted.

    Returns:
        The mean over orders of the mean over votes, and the number of votes whose plain mean would be as sure: m^2 / sum(1 / n_i)
        for m orders of n_i votes, which is their sum where they are equal. None where an order has no vote.
    """
    if not orders or not all(count for _, count in orders):
        return None
    return float(np.mean([votes / count for votes, count in orders])), len(orders) ** 2 / sum(1 / count for _, count in orders)


@dataclass
class _Pairs:
    """What is gathered of pairs: preference, votes it is worth, the right one, name; of orders: agreement, votes for the first."""

    preferences: list[float]
    worth: list[float]
    wanted: list[float]
    groups: list[str]
    agree: list[float]
    leads: list[float]
    unjudged: int = 0
    one_order: int = 0


def grade_judging(grouped: Mapping[str, Sequence[Trace]], problems: Mapping[str, Problem]) -> Judging | None:
    """Grade traces about pairs; None where no pair has a preference.

    Args:
        grouped: problem -> its traces.
        problems: by id, of judging, with answers.
    """
    found = _Pairs([], [], [], [], [], [])
    names = sorted(grouped, key=lambda name: (problems[name].group_id, problems[name].swapped))
    for group, members in groupby(names, key=lambda name: problems[name].group_id):
        asked = [problems[name] for name in members]
        votes = [votes_for_first(grouped[p.problem_id]) for p in asked]
        orders = [(count - first if p.swapped else first, count) for p, (first, count) in zip(asked, votes, strict=True)]
        known = preference(orders)
        if known is None:
            found.unjudged += 1
            continue
        outcome = VOTES[asked[0].answer]
        found.preferences.append(known[0])
        found.worth.append(known[1])
        found.wanted.append(1 - outcome if asked[0].swapped else outcome)
        found.groups.append(group)
        found.leads.append(float(np.mean([first / count for first, count in votes])))
        found.one_order += len(orders) == 1
        if len(orders) == 2:
            one, other = (_side(first / count) for first, count in orders)
            found.agree.append(float(one == other))
    return _judging(found) if found.groups else None


def _side(share: float) -> float:
    """Which text a preference is for: 1, -1, or 0 where it is even but for rounding."""
    return float(np.sign(round(share - 0.5, 12)))


def _judging(found: _Pairs) -> Judging:
    p, worth, wanted = np.array(found.preferences), np.array(found.worth), np.array(found.wanted)
    side, goal = np.array([_side(x) for x in found.preferences]), np.sign(wanted - 0.5)
    right = np.where(side == goal, 1.0, np.where((side == 0) & (goal != 0), 0.5, 0.0))
    odds = probabilities.log_odds(probabilities.smoothed(p * worth, worth))
    folds = np.array([hashlib.sha256(group.encode()).digest()[0] % FOLDS for group in found.groups])
    return Judging(
        len(found.groups),
        found.unjudged,
        found.one_order,
        float(right.mean()),
        bootstrap_interval(right, resamples=RESAMPLES, rng=rng_for(0, "pairs", "grade")),
        float(np.mean(found.agree)) if found.agree else None,
        float(np.mean(found.leads)),
        probabilities.fitted_temperature(odds, wanted),
        probabilities.log_loss(odds, wanted),
        probabilities.held_out_log_loss(odds, wanted, folds),
        probabilities.brier(p, wanted),
        probabilities.calibration_error(p, wanted),
    )
