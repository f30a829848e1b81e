"""How hard problems are: 1 - pass rate of a reference model with its interval, in tiers; from stated levels where rates tell nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from zelo.core.pass_rates import wilson_interval
from zelo.reasoning.traces import by_problem
from zelo.types import Problem, Trace

Tier = Literal["easy", "medium", "hard", "unsolved", "unknown"]
TIERS: tuple[Tier, ...] = get_args(Tier)
EASY, HARD = 0.75, 0.25
"""Pass rates from which a problem is easy, and below which it is hard; unsolved is a rate of 0."""
LEAST = 2
"""Answers from which a pass rate places a problem. One answer is right or wrong: it knows easy and unsolved and nothing between."""
BASES: Mapping[str, str] = {"samples": "pass rates of traces", "rates": "imported rates", "level": "stated levels", "nothing": "nothing"}
"""What a tier is from -> in words."""


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
        basis: a key of `BASES`.
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
    ends = {tier_of(low), tier_of(high)} - {"unsolved"}  # what was never solved is hard for certain, if it is
    certain = ends <= {"hard" if tier == "unsolved" else tier}
    return Difficulty(1 - rate, 1 - high, 1 - low, tier, trials, certain, basis)


def difficulties(
    problems: Iterable[Problem], reference: Iterable[Trace] = (), rates: Mapping[str, tuple[float, int]] | None = None
) -> dict[str, Difficulty]:
    """Return the difficulty of every problem, from the first of these that there is.

    1. Samples: traces of the reference model, at least `LEAST` of the problem.
    2. Rates that were imported.
    3. The stated level: of five levels 1 and 2 are easy, 3 is medium, 4 and 5 are hard. This is ours, and rough.
    4. A single sample.

    Rates that put all problems into one tier, none of them with its whole interval in there, have told nothing apart: then stated
    levels count too. So it is where only right traces were kept, or one trace of every problem.

    Args:
        problems: to be placed.
        reference: verified traces of the reference model.
        rates: problem -> (pass rate, answers behind it).
    """
    grouped = by_problem(trace for trace in reference if trace.correct is not None)
    problems = list(problems)
    found = {p.problem_id: _measured(p, grouped.get(p.problem_id, ()), (rates or {}).get(p.problem_id)) for p in problems}
    measured = [d for d in found.values() if d.basis in ("samples", "rates")]
    if len({d.tier for d in measured}) == 1 and not any(d.certain for d in measured):
        found.update({p.problem_id: from_level(p.level) for p in problems if p.level})
    return found


def _measured(problem: Problem, rows: Sequence[Trace], rate: tuple[float, int] | None) -> Difficulty:
    sampled = from_rate(sum(bool(t.correct) for t in rows) / len(rows), len(rows), "samples") if rows else None
    if sampled is not None and len(rows) >= LEAST:
        return sampled
    if rate is not None:
        return from_rate(*rate, "rates")
    return from_level(problem.level) if problem.level or sampled is None else sampled


def from_level(level: int) -> Difficulty:
    """Return the difficulty that a stated level of 1 to 5 stands for; 0 = none is stated."""
    tier: Tier = "unknown" if not level else "easy" if level <= 2 else "medium" if level == 3 else "hard"
    return Difficulty(float("nan"), 0.0, 1.0, tier, 0, False, "level" if level else "nothing")


def counts_of(known: Sequence[Difficulty]) -> tuple[dict[str, int], dict[str, int], int]:
    """Return tier -> problems, what the tiers are from -> problems, and how many problems are certain of their tier."""
    tiers: dict[str, int] = {tier: count for tier in TIERS if (count := sum(d.tier == tier for d in known))}
    bases = {basis: count for basis in BASES if (count := sum(d.basis == basis for d in known))}
    return tiers, bases, sum(d.certain for d in known)


def tiers_line(tiers: Mapping[str, int], bases: Mapping[str, int], certain: int) -> str:
    """Return what `counts_of` found for people."""
    said = ", ".join(f"{count:,} {tier}" for tier, count in tiers.items()) or "not known"
    from_ = {basis: count for basis, count in bases.items() if basis != "nothing"}
    by = " and ".join(f"{BASES[basis]} ({count:,})" if len(bases) > 1 else BASES[basis] for basis, count in from_.items())
    sure = f"; {certain:,} with their whole interval in the tier" if {"samples", "rates"} & bases.keys() else ""
    return f"{said}{f', by {by}' if by else ''}{sure}"
