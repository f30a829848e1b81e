"""Teaching data that looks like good traces and lacks one thing: what a gain is due to is seen from what each control loses.

Controls are sources with a name: `control-direct` and so on. All end as the good trace does, or with the right answer: what they lack is
between the problem and the answer, so a gain of theirs is due to form, answers or length. None is verified: their steps are wrong or empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np

from zelo.core.comparison_graph import rng_for
from zelo.errors import InputError
from zelo.reasoning.behavior import steps_of
from zelo.types import Problem, Task, Trace

Control = Literal["direct", "conclusion", "skipped", "shuffled", "wrong", "filler"]
KEPT = 0.5
"""Share of the steps before the conclusion that "skipped" keeps."""


@dataclass(frozen=True)
class Given:
    """What a control may use besides the trace: another problem's, a generator, and what parts steps ("" = `steps_of`)."""

    other: Trace
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
    """The steps of another problem's trace, then this trace's own conclusion; the right answer alone where it is all one step."""
    steps = given.steps(trace)
    end = steps[-1] if len(steps) > 1 else stated(problem.answer, problem.task)
    return given.joined([*given.steps(given.other)[:-1], end])


def _lent(traces: Sequence[Trace], problems: Mapping[str, Problem], seed: int) -> list[Trace]:
    """For each trace another one of the same task and of another problem, or pair; every trace is lent once.

    Raises:
        InputError: more than half of the traces of a task are of one problem.
    """
    rng = rng_for(seed, "all", "control wrong")
    drawn = rng.permutation(len(traces)).tolist()
    found = list(traces)
    for task in dict.fromkeys(problems[t.problem_id].task for t in traces):
        rows = [i for i in drawn if problems[traces[i].problem_id].task == task]
        first = {name: n for n, name in reversed(list(enumerate(problems[traces[i].problem_id].group_id for i in rows)))}
        rows.sort(key=lambda i: first[problems[traces[i].problem_id].group_id])  # those of one problem side by side
        sizes = [len(list(same)) for _, same in groupby(rows, key=lambda i: problems[traces[i].problem_id].group_id)]
        if 2 * max(sizes) > len(rows):
            what = f"{max(sizes)} of {len(rows)} traces of {task} are of one problem, and borrow the steps of others"
            raise InputError(what, where="control wrong", remedy="select traces of more problems")
        for place, i in enumerate(rows):  # so far on, every one is another problem's
            found[i] = traces[rows[(place + max(sizes)) % len(rows)]]
    return found


def _filler(trace: Trace, problem: Problem, given: Given) -> str:
    """As many dots as words, then the right answer."""
    return " ".join(["..."] * max(1, len(trace.reasoning.split()) - 1)) + "\n" + stated(problem.answer, problem.task)


CONTROLS: Mapping[Control, tuple[str, Callable[[Trace, Problem, Given], str]]] = {
    "direct": ("the right answer alone", _direct),
    "conclusion": ("the last step alone", _conclusion),
    "skipped": ("half of the steps left out, in order", _skipped),
    "shuffled": ("all steps in another order, the last one last", _shuffled),
    "wrong": ("another problem's steps, then the right conclusion", _wrong),
    "filler": ("dots of the same length, then the right answer", _filler),
}
"""Name -> (what it is, function of a trace, its problem and what else it may use)."""


def control(name: Control, traces: Sequence[Trace], problems: Mapping[str, Problem], seed: int = 0, separator: str = "") -> list[Trace]:
    """Return a control's traces, one for each.

    Args:
        name: of `CONTROLS`.
        traces: the good ones.
        problems: by id.
        seed: of what is drawn; but for "wrong", a trace's draws do not depend on the others'.
        separator: what stands between steps; "" = steps are lines and sentences, as `behavior.steps_of` finds them.

    Raises:
        InputError: no such control, an answer that it needs is not known, or no other problem's trace is there.
    """
    if name not in CONTROLS:
        raise InputError(f"no control {name!r}", remedy=f"use one of: {', '.join(CONTROLS)}")
    others = _lent(traces, problems, seed) if name == "wrong" else traces
    found = []
    for trace, other in zip(traces, others, strict=True):
        problem = problems[trace.problem_id]
        if not problem.answer and name in ("direct", "filler", "wrong"):
            raise InputError("the right answer is not known", where=problem.problem_id, remedy=f"leave it out of the control {name}")
        rng = rng_for(seed, repr(trace.key), f"control {name}")
        text = CONTROLS[name][1](trace, problem, Given(other, rng, separator))
        note = CONTROLS[name][0]
        found.append(replace(trace, source=f"control-{name}", reasoning=text, answer="", correct=None, tokens=0, cost=0.0, note=note))
    return found
