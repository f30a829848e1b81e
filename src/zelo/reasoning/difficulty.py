"""How hard problems are: 1 - pass rate of a reference model with its interval, in tiers; from stated levels where there are no rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from zelo.core.pass_rates import wilson_interval
from zelo.reasoning.traces import by_problem
from zelo.types import Problem, Trace

Tier = Literal["easy", "medium", "hard", "unsolved", "unknown"]
TIERS: tuple[Tier, ...] = get_args(Tier)
EASY, HARD = 0.75, 0.25
"""Pass rates from which a problem is easy, and below which it is hard; unsolved is a rate of 0."""


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard a problem is.

    Attributes:
        difficulty: 1 - pass rate in [0, 1], NaN where it is not known.
        low: of its 95 % interval (Wilson).
        high: of its 95 % interval.
        tier: by the rate, or by the stated level.
        trials: answers behind the rate, 0 = none.
        certain: whether the whole interval lies in the tier.
        basis: "samples", "rates", "level" or "nothing".
    """

    difficulty: float
    low: float
    high: float
    tier: Tier
    trials: int
    certain: bool
    basis: str


def tier_of(rate: float) -> Tier:
    """Return the tier of a pass rate in [0, 1]."""
    return "easy" if rate >= EASY else "medium" if rate >= HARD else "hard" if rate > 0 else "unsolved"


def from_rate(rate: float, trials: int, basis: str) -> Difficulty:
    """Return the difficulty of a pass rate over so many answers."""
    low, high = (float(x) for x in wilson_interval(rate * trials, trials))
    tier = tier_of(rate)
    ends = {tier_of(low), tier_of(high)} - {"unsolved"}  # that it was never solved does not make it another tier than hard
    certain = len(ends) <= 1 and (tier == "unsolved" or tier in ends)
    return Difficulty(1 - rate, 1 - high, 1 - low, tier, trials, certain, basis)


def difficulties(
    problems: Iterable[Problem], reference: Iterable[Trace] = (), rates: Mapping[str, tuple[float, int]] | None = None
) -> dict[str, Difficulty]:
    """Return the difficulty of every problem.

    Args:
        problems: to be placed.
        reference: verified traces of the reference model; they count first.
        rates: problem -> (pass rate, answers behind it); they count where there are no traces. Else the stated level: of five levels
            1 and 2 are easy, 3 is medium, 4 and 5 are hard. This is ours, and rough.
    """
    grouped = by_problem(trace for trace in reference if trace.correct is not None)
    found = {}
    for problem in problems:
        rows = grouped.get(problem.problem_id)
        if rows:
            found[problem.problem_id] = from_rate(sum(bool(t.correct) for t in rows) / len(rows), len(rows), "samples")
        elif rates and problem.problem_id in rates:
            found[problem.problem_id] = from_rate(*rates[problem.problem_id], "rates")
        else:
            tier: Tier = "unknown" if not problem.level else "easy" if problem.level <= 2 else "medium" if problem.level == 3 else "hard"
            basis = "level" if problem.level else "nothing"
            found[problem.problem_id] = Difficulty(float("nan"), 0.0, 1.0, tier, 0, False, basis)
    return found
