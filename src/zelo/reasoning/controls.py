"""Teaching data that looks like good traces and lacks one thing: what a gain is due to is seen from what each control loses.

Controls are sources with a name: `control-direct` and so on. None is verified: they are made to be wrong or empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from zelo.core.comparison_graph import rng_for
from zelo.errors import InputError
from zelo.reasoning.behavior import steps_of
from zelo.types import Problem, Task, Trace

Control = Literal["direct", "conclusion", "skipped", "shuffled", "wrong", "filler"]
KEPT = 0.5
"""Share of the steps before the conclusion that "skipped" keeps."""

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Given:
    """What a control may use besides the trace: the traces of other problems, a generator, and what parts steps ("" = `steps_of`)."""

    others: Sequence[Trace]
    rng: np.random.Generator
    separator: str

    def steps(self, trace: Trace) -> list[str]:
        """Return a trace's steps, at least one."""
        steps = trace.reasoning.split(self.separator) if self.separator else steps_of(trace.reasoning)
        return steps or [""]

    def joined(self, steps: Sequence[str]) -> str:
        """Return steps as a text."""
        return (self.separator or "\n").join(steps)


def stated(answer: str, task: Task) -> str:
    """Return an answer as the prompts ask for it."""
    return f"\\boxed{{{answer}}}" if task == "math" else f"Answer: {answer}"


def _direct(trace: Trace, problem: Problem, given: Given) -> str:
    return stated(problem.answer, problem.task)


def _conclusion(trace: Trace, problem: Problem, given: Given) -> str:
    return given.steps(trace)[-1]


def _skipped(trace: Trace, problem: Problem, given: Given) -> str:
    steps = given.steps(trace)
    body = len(steps) - 1
    kept = sorted(given.rng.permutation(body)[: int(np.ceil(KEPT * body))].tolist())
    return given.joined([*(steps[i] for i in kept), steps[-1]])


def _shuffled(trace: Trace, problem: Problem, given: Given) -> str:
    steps = given.steps(trace)
    return given.joined([*(steps[i] for i in given.rng.permutation(len(steps) - 1).tolist()), steps[-1]])


def _wrong(trace: Trace, problem: Problem, given: Given) -> str:
    """Judging: another pair's reasoning with this pair's opposite answer; mathematics: every number drawn anew, of as many digits."""
    if problem.task == "judging":
        opposite = {"A": "B", "B": "A", "tie": "A"}.get(problem.answer, "A")
        other = given.others[int(given.rng.integers(len(given.others)))] if given.others else trace
        return given.joined([*given.steps(other)[:-1], stated(opposite, "judging")])

    def drawn(match: re.Match[str]) -> str:
        low = 10 ** (len(match[0]) - 1) if len(match[0]) > 1 else 0
        number = int(given.rng.integers(low, 10 ** min(len(match[0]), 15)))
        return str(number if str(number) != match[0] else low)

    return _NUMBER.sub(drawn, trace.reasoning)


def _filler(trace: Trace, problem: Problem, given: Given) -> str:
    """As many dots as words, then the right answer."""
    return " ".join(["..."] * max(1, len(trace.reasoning.split()) - 1)) + "\n" + stated(problem.answer, problem.task)


CONTROLS: Mapping[Control, tuple[str, Callable[[Trace, Problem, Given], str]]] = {
    "direct": ("the right answer alone", _direct),
    "conclusion": ("the last step alone", _conclusion),
    "skipped": ("half of the steps left out, in order", _skipped),
    "shuffled": ("all steps in another order, the last one last", _shuffled),
    "wrong": ("the form without the content: other numbers, or another pair's reasons", _wrong),
    "filler": ("dots of the same length, then the right answer", _filler),
}
"""Name -> (what it is, function of a trace, its problem and what else it may use)."""


def control(name: Control, traces: Sequence[Trace], problems: Mapping[str, Problem], seed: int = 0, separator: str = "") -> list[Trace]:
    """Return a control's traces, one for each.

    Args:
        name: of `CONTROLS`.
        traces: the good ones.
        problems: by id.
        seed: of what is drawn; a trace's draws do not depend on the others'.
        separator: what stands between steps; "" = steps are lines and sentences, as `behavior.steps_of` finds them.

    Raises:
        InputError: no such control, or an answer that it needs is not known.
    """
    if name not in CONTROLS:
        raise InputError(f"no control {name!r}", remedy=f"use one of: {', '.join(CONTROLS)}")
    found = []
    for trace in traces:
        problem = problems[trace.problem_id]
        if not problem.answer and name in ("direct", "filler", "wrong"):
            raise InputError("the right answer is not known", where=problem.problem_id, remedy=f"leave it out of the control {name}")
        rng = rng_for(seed, repr(trace.key), f"control {name}")
        others = [t for t in traces if t.problem_id != trace.problem_id]
        text = CONTROLS[name][1](trace, problem, Given(others, rng, separator))
        note = CONTROLS[name][0]
        found.append(replace(trace, source=f"control-{name}", reasoning=text, answer="", correct=None, tokens=0, cost=0.0, note=note))
    return found
