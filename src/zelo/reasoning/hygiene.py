"""What must not be in teaching data: questions of an evaluation set, and rationales written with the answer in view."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from zelo.errors import InputError
from zelo.reasoning.behavior import steps_of
from zelo.reasoning.verify import VERIFIERS
from zelo.types import Problem, Trace

FIRST_STEP = 40
"""Words; a longer first step may have reasoned before it concludes."""
WORDS = 13
"""An n-gram of so many words in common is taken for the same text; shorter questions must be equal."""

_TOKEN = re.compile(r"[a-z]+|\d+")
_KEY = re.compile(
    r"\b(reference (answer|solution)|ground[- ]truth|(given|provided|stated|expected|gold) (answer|label)|answer key"
    r"|correct answer is given|as (the )?(label|key) says|according to the (answer|label|key)|the (label|annotation) (is|says))",
    re.I,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Overlap:
    """A problem that shares text with one of an evaluation set."""

    problem_id: str
    evaluation_id: str
    shared: str


def contaminated(problems: Iterable[Problem], evaluation: Iterable[Problem], words: int = WORDS) -> list[Overlap]:
    """Return the problems that share `words` words in a row with a problem of an evaluation set, or all of theirs if they have fewer.

    Case, punctuation and formatting do not count; numbers do. Each problem is named once, with the first it overlaps with.

    Raises:
        InputError: words below 1.
    """
    if words < 1:
        raise InputError(f"an overlap of {words} words", remedy="use at least 1")
    known: dict[tuple[str, ...], str] = {}
    for other in evaluation:
        for gram in _grams(other.prompt, words):
            known.setdefault(gram, other.problem_id)
    found = []
    for problem in problems:
        shared = next((gram for gram in _grams(problem.prompt, words) if gram in known), None)
        if shared is not None:
            found.append(Overlap(problem.problem_id, known[shared], " ".join(shared)))
    return found


def _grams(text: str, words: int) -> list[tuple[str, ...]]:
    tokens = _TOKEN.findall(text.lower())
    if len(tokens) <= words:
        return [tuple(tokens)] if tokens else []
    return [tuple(tokens[i : i + words]) for i in range(len(tokens) - words + 1)]


def leaks(trace: Trace, problem: Problem) -> str:
    """Return how a trace shows that its writer knew the answer, "" if it does not.

    Either it speaks of a given answer or label, or its first step, a short one, concludes already though more steps follow.
    """
    match = _KEY.search(trace.reasoning)
    if match:
        return f"speaks of {match[0].lower()!r}"
    steps = steps_of(trace.reasoning)
    verifier = VERIFIERS[problem.task]()
    if len(steps) > 2 and problem.answer and len(steps[0].split()) < FIRST_STEP:
        said = verifier.extract(steps[0])
        if said and verifier.same(problem.answer, said):
            return "concludes in its first step"
    return ""


def all_leaks(traces: Sequence[Trace], problems: Mapping[str, Problem]) -> list[tuple[Trace, str]]:
    """Return the traces that leak, with how."""
    found = ((trace, leaks(trace, problems[trace.problem_id])) for trace in traces)
    return [(trace, how) for trace, how in found if how]
