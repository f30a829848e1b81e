"""Choose few traces to teach with: verified, spread over tiers, lengths and topics; and rules to compare that with.

No rule knows what teaches best. `diverse` covers, the others are baselines; grade what each of them taught.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zelo.core.comparison_graph import rng_for
from zelo.core.diversity import farthest_points, shares
from zelo.errors import InputError
from zelo.reasoning.difficulty import TIERS, Difficulty
from zelo.reasoning.vectors import Kind, text_vectors
from zelo.types import Problem, Trace

FloatArray = NDArray[np.float64]
Rule = Literal["diverse", "random", "longest", "s1", "top"]
BANDS = 3
"""Of length, from which `diverse` takes alike: short, middle, long within their tier."""


@dataclass(frozen=True)
class Choice:
    """How to choose.

    Attributes:
        count: how many traces, of as many problems.
        rule: "diverse": equal shares of tiers and, within each, of length bands, then farthest points of question and trace. "random".
            "longest". "s1": s1's rule (arXiv 2501.19393) as far as it applies: no problem whose tier is easy (one whose tier is not
            known stays), then subjects drawn alike, within one a trace drawn by 2^-rank of its length, longest first. "top": the
            highest ratings.
        tiers: tier -> weight; empty = those that are there, alike.
        least: fewest words of a trace.
        most: most words; 0 = no limit.
        unverified: take traces that are not known to be right too.
        seed: of all draws.
        vectors: what distances are measured on.
    """

    count: int = 20
    rule: Rule = "diverse"
    tiers: Mapping[str, float] = field(default_factory=dict)
    least: int = 0
    most: int = 0
    unverified: bool = False
    seed: int = 0
    vectors: Kind = "words"

    def __post_init__(self) -> None:
        if self.count < 1 or self.least < 0 or self.most < 0:
            raise InputError(f"{self.count} traces of {self.least} to {self.most} words", remedy="choose at least 1; words are not below 0")
        for name, weight in self.tiers.items():
            if name not in TIERS or not 0 <= weight < math.inf:
                raise InputError(f"{weight:g} of tier {name!r}", remedy=f"tiers: {', '.join(TIERS)}; weights from 0")


@dataclass(frozen=True)
class Candidate:
    """A trace that may be chosen, with its words, tier and rating (None = not rated)."""

    trace: Trace
    problem: Problem
    words: int
    tier: str
    rating: float | None


def candidates(
    traces: Sequence[Trace],
    problems: Mapping[str, Problem],
    difficulties: Mapping[str, Difficulty],
    choice: Choice,
    ratings: Mapping[tuple[str, str, int], float] | None = None,
    evaluated: Collection[str] = (),
) -> list[Candidate]:
    """Return the traces that may be chosen: whole, right, of a length that is wanted, of problems that are not `evaluated`.

    Raises:
        InputError: there are none; it says whether the evaluation set is why.
    """
    found = []
    asked: dict[tuple[str, str], str] = {}  # one question may be there under two ids, from two files: it is taught once
    for trace in traces:
        problem = problems[trace.problem_id]
        if asked.setdefault((problem.task, problem.prompt), trace.problem_id) != trace.problem_id:
            continue
        words = len(trace.reasoning.split())
        fits = words >= max(1, choice.least) and (not choice.most or words <= choice.most) and trace.finish == "stop"
        tier = difficulties[trace.problem_id].tier
        if fits and (trace.correct or choice.unverified) and (not choice.tiers or choice.tiers.get(tier, 0) > 0):
            rating = None if ratings is None else ratings.get(trace.key)
            found.append(Candidate(trace, problem, words, tier, rating))
    if not found:
        right = sum(t.correct is True for t in traces)
        what = f"none of {len(traces):,} traces can be chosen; {right:,} of them are right"
        raise InputError(what, remedy="allow other lengths or tiers, sample more, or --unverified")
    kept = [c for c in found if c.problem.problem_id not in evaluated]
    if not kept:
        count = len({c.problem.problem_id for c in found})
        what = f"nothing is left: {count:,} problem{'s share' if count > 1 else ' shares'} text with the evaluation set"
        raise InputError(what, remedy="`zelo reasoning analyze` says which; sample other problems")
    return kept


def select(
    traces: Sequence[Trace],
    problems: Mapping[str, Problem],
    difficulties: Mapping[str, Difficulty],
    choice: Choice,
    ratings: Mapping[tuple[str, str, int], float] | None = None,
    evaluated: Collection[str] = (),
) -> list[Trace]:
    """Choose traces, at most one per problem.

    Args:
        traces: verified.
        problems: by id.
        difficulties: by problem.
        choice: how.
        ratings: trace -> rating, for the rule "top".
        evaluated: problems that share text with the evaluation set; none of theirs is chosen.

    Returns:
        At most `choice.count` traces (fewer where fewer problems have one), in the order of their choice.

    Raises:
        InputError: nothing can be chosen, or the rule needs ratings that are not there.
    """
    usable = candidates(traces, problems, difficulties, choice, ratings, evaluated)
    return [c.trace for c in RULES[choice.rule](usable, choice)]


def _one_each(usable: Sequence[Candidate], better: Callable[[Candidate], tuple[float, ...]]) -> list[Candidate]:
    """One candidate per problem, the best by a key; of equal ones the first."""
    best: dict[str, Candidate] = {}
    for c in usable:
        name = c.problem.problem_id
        if name not in best or better(c) > better(best[name]):
            best[name] = c
    return list(best.values())


def _drawn(usable: Sequence[Candidate], choice: Choice) -> list[Candidate]:
    """One candidate per problem, drawn."""
    draws = {c.trace.key: float(rng_for(choice.seed, repr(c.trace.key), "select").random()) for c in usable}
    return _one_each(usable, lambda c: (draws[c.trace.key],))


def _random(usable: Sequence[Candidate], choice: Choice) -> list[Candidate]:
    each = _drawn(usable, choice)
    order = rng_for(choice.seed, "all", "select").permutation(len(each))
    return [each[i] for i in order[: choice.count].tolist()]


def _longest(usable: Sequence[Candidate], choice: Choice) -> list[Candidate]:
    return sorted(_one_each(usable, lambda c: (c.words,)), key=lambda c: -c.words)[: choice.count]


def _top(usable: Sequence[Candidate], choice: Choice) -> list[Candidate]:
    rated = [c for c in usable if c.rating is not None]
    if not rated:
        raise InputError("no trace is rated", where="--rule top", remedy="run `zelo reasoning rate` first")
    return sorted(_one_each(rated, lambda c: (c.rating or 0.0,)), key=lambda c: -(c.rating or 0.0))[: choice.count]


def _s1(usable: Sequence[Candidate], choice: Choice) -> list[Candidate]:
    hard = [c for c in usable if c.tier != "easy"]
    if not hard:
        remedy = "name a weaker --reference, import --as rates, or use another rule"
        raise InputError(f"all {len({c.problem.problem_id for c in usable}):,} problems are easy", where="--rule s1", remedy=remedy)
    pool = _one_each(hard, lambda c: (c.words,))
    rng = rng_for(choice.seed, "all", "s1")
    found: list[Candidate] = []
    while pool and len(found) < choice.count:
        subjects = sorted({c.problem.subject for c in pool})
        subject = subjects[int(rng.integers(len(subjects)))]
        members = sorted((c for c in pool if c.problem.subject == subject), key=lambda c: -c.words)
        weight = 0.5 ** np.arange(1, len(members) + 1, dtype=np.float64)
        taken = members[int(rng.choice(len(members), p=weight / weight.sum()))]
        found.append(taken)
        pool.remove(taken)
    return found


def _diverse(usable: Sequence[Candidate], choice: Choice) -> list[Candidate]:
    each = _drawn(usable, choice)
    table = _placed(each, choice.vectors)
    tiers = [tier for tier in TIERS if any(c.tier == tier for c in each)]
    weight = [choice.tiers.get(tier, 0.0) if choice.tiers else 1.0 for tier in tiers]
    found: list[int] = []
    for tier, quota in zip(tiers, shares([sum(c.tier == t for c in each) for t in tiers], choice.count, weight).tolist(), strict=True):
        rows = sorted((i for i, c in enumerate(each) if c.tier == tier), key=lambda i: each[i].words)
        bands = [part.tolist() for part in np.array_split(np.array(rows, np.int64), BANDS)]
        for band, size in zip(bands, shares([len(b) for b in bands], quota).tolist(), strict=True):
            places = [*found, *band]
            chosen = farthest_points(table[places], size, start=range(len(found)))
            found += [places[i] for i in chosen.tolist()]
    return [each[i] for i in found]


def _placed(each: Sequence[Candidate], kind: Kind) -> FloatArray:
    questions = text_vectors([c.problem.prompt for c in each], kind)
    return np.concatenate([questions, text_vectors([c.trace.reasoning for c in each], kind)], axis=1)


RULES: Mapping[Rule, Callable[[Sequence[Candidate], Choice], list[Candidate]]] = {
    "diverse": _diverse,
    "random": _random,
    "longest": _longest,
    "s1": _s1,
    "top": _top,
}
"""By name."""
