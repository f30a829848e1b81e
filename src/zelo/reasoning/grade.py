"""How good a source's traces are: pass@1, pass@k, majority, no answer, lengths; for judging also consistency and calibration.

pass@1 is the mean over all samples of a problem, and its interval resamples problems (or pairs): samples of one problem say little
about others. A trace without an answer is wrong; one that is missing altogether is counted apart and is no sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from zelo.core import probabilities
from zelo.core.comparison_graph import rng_for
from zelo.core.pass_rates import majority, pass_at_k
from zelo.core.significance import bootstrap_interval, paired_randomization_test
from zelo.errors import InputError
from zelo.reasoning.traces import by_problem
from zelo.reasoning.verify import answer_classes
from zelo.types import Problem, Trace

FloatArray = NDArray[np.float64]
RESAMPLES = 2000
FOLDS = 5


@dataclass(frozen=True)
class Judging:
    """What is known of a source as a judge, over pairs.

    Attributes:
        pairs: with an answer that is known.
        accuracy: share of pairs where the mean of all traces in all orders prefers the better one; an even mean counts 1/2. Pairs that
            are ties count as right if the mean is even.
        interval: 95 % of the accuracy, pairs resampled.
        consistency: of pairs shown in both orders, the share where both orders prefer the same text, None where none was.
        first_share: mean preference for the text shown first, in [0, 1]; 1/2 is no order effect.
        temperature: that makes the probabilities fit best; above 1 = too sure.
        log_loss: nats, at temperature 1.
        calibrated_log_loss: nats, each fold of pairs at the temperature of the others.
        brier: of the probabilities as they are.
        calibration_error: expected, ten bins.
    """

    pairs: int
    accuracy: float
    interval: tuple[float, float]
    consistency: float | None
    first_share: float
    temperature: float
    log_loss: float
    calibrated_log_loss: float
    brier: float
    calibration_error: float


@dataclass(frozen=True)
class Grade:
    """What is known of a source.

    Attributes:
        source: who wrote the traces.
        problems: with at least one trace and a known answer.
        missing: problems of the folder without a trace of the source.
        samples: traces.
        least: fewest traces of a problem.
        pass_1: mean over problems of the share that is right.
        interval: 95 % of it, problems resampled.
        pass_k: k -> mean pass@k, for k = 1, 2, 4, ... and `least`.
        majority: mean over problems of the most frequent answer being right, ties shared, over `least` samples.
        no_answer: share of traces without an answer.
        cut: share of traces out of tokens.
        tokens: mean and median written (words where the tokens are not known).
        words: whether `tokens` are words.
        dollars: what all of them cost.
        judging: only for problems of judging.
    """

    source: str
    problems: int
    missing: int
    samples: int
    least: int
    pass_1: float
    interval: tuple[float, float]
    pass_k: Mapping[int, float]
    majority: float
    no_answer: float
    cut: float
    tokens: tuple[float, float]
    words: bool
    dollars: float
    judging: Judging | None = field(default=None)


def grade(source: str, traces: Sequence[Trace], problems: Mapping[str, Problem]) -> Grade:
    """Grade the verified traces of one source.

    Args:
        source: its name.
        traces: of that source; those about problems without a known answer are left out.
        problems: by id, all that could have been answered.

    Raises:
        InputError: no trace is verified.
    """
    marked = [trace for trace in traces if trace.correct is not None]
    if not marked:
        raise InputError(f"no trace of {source} is verified", remedy="run `zelo reasoning verify`; the problems need right answers")
    grouped = by_problem(marked)
    n = np.array([len(rows) for rows in grouped.values()])
    c = np.array([sum(bool(t.correct) for t in rows) for rows in grouped.values()])
    least = int(n.min())
    ks = sorted({k for k in (2**i for i in range(16)) if k <= least} | {least})
    votes = []
    for name, rows in grouped.items():
        first = sorted(rows, key=lambda t: t.sample)[:least]
        votes.append(majority(answer_classes([t.answer for t in first], problems[name].task), [bool(t.correct) for t in first]))
    sizes = _sizes(marked)
    rng = rng_for(0, source, "grade")
    known = sum(bool(problem.answer) for problem in problems.values())
    return Grade(
        source,
        len(grouped),
        known - len(grouped),
        len(marked),
        least,
        float((c / n).mean()),
        bootstrap_interval(list(shares(marked, problems).values()), resamples=RESAMPLES, rng=rng),
        {k: float(pass_at_k(n, c, k).mean()) for k in ks},
        float(np.mean(votes)),
        float(np.mean([not t.answer for t in marked])),
        float(np.mean([t.finish == "length" for t in marked])),
        (float(np.mean(sizes)), float(np.median(sizes))),
        not all(t.tokens for t in marked),
        sum(t.cost for t in traces),
        grade_judging(grouped, problems) if all(problems[name].task == "judging" for name in grouped) else None,
    )


def shares(traces: Sequence[Trace], problems: Mapping[str, Problem]) -> dict[str, float]:
    """Return problem or group -> the share of its verified traces that is right.

    Both orders of a pair are one draw: resampling them apart would claim twice the evidence.
    """
    units: dict[str, list[float]] = {}
    for name, rows in by_problem(t for t in traces if t.correct is not None).items():
        units.setdefault(problems[name].group_id, []).append(float(np.mean([bool(t.correct) for t in rows])))
    return {group: float(np.mean(values)) for group, values in units.items()}


@dataclass(frozen=True)
class Difference:
    """How much better a source is than another one, on the problems that both tried.

    Attributes:
        source: the one.
        baseline: the other.
        problems: that both tried (pairs in both orders count once).
        difference: of pass@1.
        interval: 95 %, problems resampled.
        p: of a paired randomization test that there is none.
    """

    source: str
    baseline: str
    problems: int
    difference: float
    interval: tuple[float, float]
    p: float


def compare(source: str, baseline: str, traces: Mapping[str, Sequence[Trace]], problems: Mapping[str, Problem]) -> Difference:
    """Compare two sources.

    Args:
        source: the one.
        baseline: the other.
        traces: of each source, verified.
        problems: by id.

    Raises:
        InputError: they tried no problem in common.
    """
    ours, theirs = shares(traces[source], problems), shares(traces[baseline], problems)
    common = [group for group in ours if group in theirs]
    if not common:
        raise InputError(f"{source} and {baseline} tried no problem in common", remedy="sample both on the same problems")
    a, b = np.array([ours[g] for g in common]), np.array([theirs[g] for g in common])
    interval = bootstrap_interval(a - b, resamples=RESAMPLES, rng=rng_for(0, f"{source}\0{baseline}", "compare"))
    p = paired_randomization_test(a, b, resamples=RESAMPLES, rng=rng_for(0, f"{source}\0{baseline}", "test"))
    return Difference(source, baseline, len(common), float((a - b).mean()), interval, p)


def _sizes(traces: Sequence[Trace]) -> list[int]:
    known = all(t.tokens for t in traces)
    return [t.tokens if known else len(t.reasoning.split()) for t in traces]


def votes_for_first(traces: Sequence[Trace]) -> tuple[float, int]:
    """Return the votes for the text shown first (A 1, tie 1/2, B 0) and how many traces vote at all."""
    values = [{"A": 1.0, "tie": 0.5, "B": 0.0}[t.answer] for t in traces if t.answer in ("A", "B", "tie")]
    return sum(values), len(values)


def grade_judging(grouped: Mapping[str, Sequence[Trace]], problems: Mapping[str, Problem]) -> Judging | None:
    """Grade traces about pairs; None where no trace votes.

    Args:
        grouped: problem -> its traces.
        problems: by id, of judging.
    """
    names = sorted((name for name in grouped), key=lambda name: (problems[name].group_id, problems[name].swapped))
    wins, trials, wanted, groups, agree, leads = [], [], [], [], [], []
    for group, members in groupby(names, key=lambda name: problems[name].group_id):
        won, asked, sides = 0.0, 0, []
        for name in members:
            first, count = votes_for_first(grouped[name])
            if not count:
                continue
            swapped = problems[name].swapped
            won, asked = won + (count - first if swapped else first), asked + count
            leads.append(first / count)
            sides.append(np.sign((count - first if swapped else first) / count - 0.5))
            outcome = {"A": 1.0, "tie": 0.5, "B": 0.0}[problems[name].answer]
            outcome = 1 - outcome if swapped else outcome
        if asked:
            wins.append(won)
            trials.append(asked)
            wanted.append(outcome)
            groups.append(group)
            agree += [float(sides[0] == sides[1])] if len(sides) == 2 else []
    if not groups:
        return None
    return _judging(np.array(wins), np.array(trials), np.array(wanted), groups, agree, leads)


def _judging(
    wins: FloatArray, trials: NDArray[np.int64], wanted: FloatArray, groups: Sequence[str], agree: Sequence[float], leads: Sequence[float]
) -> Judging:
    side, goal = np.sign(wins / trials - 0.5), np.sign(wanted - 0.5)
    right = np.where(side == goal, 1.0, np.where((side == 0) & (goal != 0), 0.5, 0.0))
    p = probabilities.smoothed(wins, trials)
    odds = probabilities.log_odds(p)
    folds = np.array([hashlib.sha256(group.encode()).digest()[0] % FOLDS for group in groups])
    return Judging(
        len(groups),
        float(right.mean()),
        bootstrap_interval(right, resamples=RESAMPLES, rng=rng_for(0, "pairs", "grade")),
        float(np.mean(agree)) if agree else None,
        float(np.mean(leads)),
        probabilities.fitted_temperature(odds, wanted),
        probabilities.log_loss(odds, wanted),
        probabilities.held_out_log_loss(odds, wanted, folds),
        probabilities.brier(p, wanted),
        probabilities.calibration_error(p, wanted),
    )
