"""Structural guidance: a plan of step behaviors drawn from reference traces, and a model that is asked step by step to follow it.

The plan is a walk on the transition matrix of the reference (arXiv 2601.06002, there called Mole-Syn), as long as reference traces
are. The model decides what each step says, the plan what it does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zelo.core.comparison_graph import rng_for
from zelo.core.transitions import transition_counts, transition_matrix, walk
from zelo.errors import InputError
from zelo.reasoning.behavior import BEHAVIORS, path_of
from zelo.reasoning.prompt_files import Prompt
from zelo.reasoning.sampling import Ways
from zelo.reasoning.writing import Ask
from zelo.types import Problem, Trace

FloatArray = NDArray[np.float64]
MOST_STEPS = 40


@dataclass(frozen=True)
class Guide:
    """What plans are drawn from.

    Attributes:
        transitions: P [4, 4] between `BEHAVIORS`, row = from.
        start: number of traces that begin with each [4].
        lengths: steps of the reference traces [n].
    """

    transitions: FloatArray
    start: FloatArray
    lengths: NDArray[np.int64]

    def plan(self, rng: np.random.Generator, most: int = MOST_STEPS) -> list[str]:
        """Draw a plan: behaviors, as many as a drawn reference trace has steps, at most `most`; the last is "conclude"."""
        steps = min(int(rng.choice(self.lengths)), most)
        first = int(rng.choice(len(BEHAVIORS), p=self.start / self.start.sum()))
        path = walk(self.transitions, first, max(1, steps - 1), rng)
        return [*(BEHAVIORS[state] for state in path), "conclude"]

    def write(self, path: Path) -> None:
        """Write it as JSON.

        Raises:
            InputError: the file cannot be written.
        """
        body = {"behaviors": BEHAVIORS, "transitions": self.transitions.tolist()}
        body |= {"start": self.start.tolist(), "lengths": self.lengths.tolist()}
        try:
            path.write_text(json.dumps(body, indent=1) + "\n", "utf-8")
        except OSError as error:
            what = f"the guide cannot be written ({error.strerror})"
            raise InputError(what, where=str(path), remedy="name a file in a folder that can be written to") from error


def measure(traces: Sequence[Trace]) -> Guide:
    """Measure a guide on reference traces.

    Raises:
        InputError: there are none with at least two steps.
    """
    paths = [[BEHAVIORS.index(b) for b in path_of(trace.reasoning)] for trace in traces]
    paths = [path for path in paths if len(path) > 1]
    if not paths:
        raise InputError("there are no reference traces of two steps or more", remedy="import long traces, one thought per paragraph")
    start = np.bincount([path[0] for path in paths], minlength=len(BEHAVIORS)).astype(np.float64)
    counts = transition_counts(paths, len(BEHAVIORS))
    return Guide(transition_matrix(counts), start, np.array([len(path) for path in paths], np.int64))


def read_guide(path: Path) -> Guide:
    """Read what `Guide.write` wrote.

    Raises:
        InputError: it is something else.
    """
    try:
        body = json.loads(path.read_text("utf-8"))
        guide = Guide(*(np.array(body[name], kind) for name, kind in (("transitions", float), ("start", float), ("lengths", np.int64))))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"not a guide ({error!r})", where=str(path), remedy="measure one with `zelo reasoning analyze --guide`") from error
    n = len(BEHAVIORS)
    sound = guide.transitions.shape == (n, n) and guide.start.shape == (n,) and guide.start.sum() > 0 and len(guide.lengths)
    if not sound or not np.allclose(guide.transitions.sum(1), 1) or (guide.transitions < 0).any() or (guide.lengths < 1).any():
        raise InputError("not a guide: its numbers make no transition matrix", where=str(path), remedy="measure one again")
    return guide


def guided_ask(prompt: Prompt, guide: Guide, seed: int = 0, most: int = MOST_STEPS) -> Ways:
    """Return asks that are written step by step, each sample by a plan of its own.

    Args:
        prompt: of kind "guide".
        guide: what plans are drawn from.
        seed: of the draws; a problem's n-th plan does not depend on other problems.
        most: steps of a plan.
    """

    def ask(problem: Problem, sample: int) -> Ask:
        plan = guide.plan(rng_for(seed, f"{problem.problem_id}#{sample}", "guidance"), most)
        steps = []
        for behavior in plan:
            last = behavior == "conclude"
            instruction = prompt.behaviors.get(behavior, "Bring your thoughts to their end: say what the answer is.")
            # What was written so far is put in when it is known; braces of the problem must not be taken for that place.
            shown = problem.prompt.replace("{so_far}", "{so far}")
            messages = prompt.messages(problem.task, concluding=last, problem=shown, instruction=instruction, so_far="{so_far}")
            steps.append(messages)
        return Ask(problem.problem_id, sample, (), problem.task, tuple(steps))

    return ask
