"""How good a source's traces are: pass@1, pass@k, majority, no answer, lengths; for judging also consistency and calibration.

pass@1 is the mean over all samples of a problem, and its interval resamples problems (or pairs): samples of one problem say little
about others. A trace without an answer is wrong; one that is missing altogether is counted apart and is no sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from zelo.core.comparison_graph import rng_for
from zelo.core.pass_rates import majority, pass_at_k
from zelo.core.significance import bootstrap_interval, paired_randomization_test
from zelo.errors import InputError
from zelo.reasoning.preferences import RESAMPLES, Judging, grade_judging
from zelo.reasoning.traces import by_problem
from zelo.reasoning.verify import answer_classes
from zelo.types import Problem, Trace


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
