"""What the steps of a trace do: reason, reflect, explore or verify, by the words that begin and mark them.

Four behaviors as in arXiv 2601.06002, there labeled by a model; here by rules, which are repeatable and cost nothing. They see
words, not thoughts: compare corpora with them, do not read a single trace's label as truth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from zelo.core.transitions import transition_counts, transition_matrix

FloatArray = NDArray[np.float64]
Behavior = Literal["reason", "reflect", "explore", "verify"]
BEHAVIORS: tuple[Behavior, ...] = get_args(Behavior)
SHORT = 25
"""Characters; a shorter line belongs to the step before it, as a formula on a line of its own does."""

_WORDS: tuple[tuple[Behavior, re.Pattern[str]], ...] = (
    (
        "reflect",
        re.compile(
            r"\b(wait|hmm+|hold on|on second thought|i made (a|an) (mistake|error)|that('s| is) (wrong|not right|incorrect)"
            r"|let me re(think|consider|read|visit)|am i (sure|missing)|did i"
            r"|i (overlooked|forgot|misread|missed)|oops|reconsider|contradict)",
            re.I,
        ),
    ),
    (
        "verify",
        re.compile(
            r"\b(check(s|ing|ed)?\b|verif(y|ies|ied|ying)|double[- ]check|confirm(s|ed|ing)?\b|sanity"
            r"|plug(ging)? (it |this |them |that )?(back )?in|substitut\w+ back|make sure|to be sure"
            r"|test (it|this|with)|does (this|it|that) (make sense|work|hold|satisfy))",
            re.I,
        ),
    ),
    (
        "explore",
        re.compile(
            r"\b(alternativ\w+|another (way|approach|angle|method|possibility|idea)|what if|maybe|perhaps|suppose"
            r"|let('s| us| me) (try|think about|explore|see if)|on the other hand|other(wise)? (option|possib)"
            r"|one (option|possibility|way|approach)|instead,|could (also|we|i|it be)\b|consider(ing)? (the case|whether|an?other))",
            re.I,
        ),
    ),
)  # fmt: skip
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\\$])")


def steps_of(text: str) -> list[str]:
    """Cut a trace into steps: lines, short ones joined to the one before; where there is one line only, its sentences."""
    body = re.sub(r"</?(?:think(?:ing)?|thought|output|answer)>", "\n", text, flags=re.I)
    lines = [line.strip() for line in body.splitlines() if line.strip()]
    if len(lines) == 1:
        lines = [part.strip() for part in _SENTENCE.split(lines[0]) if part.strip()]
    found: list[str] = []
    for line in lines:
        if found and len(line) < SHORT:
            found[-1] = f"{found[-1]}\n{line}"
        else:
            found.append(line)
    return found


def behavior_of(step: str) -> Behavior:
    """Return what a step does; the behavior whose mark comes first counts, without one it reasons."""
    first = [(match.start(), name) for name, pattern in _WORDS if (match := pattern.search(step))]
    return min(first)[1] if first else "reason"


def path_of(text: str) -> list[Behavior]:
    """Return the behavior of every step of a trace."""
    return [behavior_of(step) for step in steps_of(text)]


@dataclass(frozen=True)
class Profile:
    """What the steps of some traces do.

    Attributes:
        traces: how many.
        steps: how many in all.
        shares: of each behavior [4], in the order of `BEHAVIORS`.
        counts: how often each follows each other one [4, 4], row = from.
        transitions: the shares of each row of `counts`, as measured; NaN where nothing follows.
        marks: marks of reflecting, exploring and verifying steps per 1,000 words.
    """

    traces: int
    steps: int
    shares: FloatArray
    counts: FloatArray
    transitions: FloatArray
    marks: dict[str, float]

    @property
    def smoothed(self) -> FloatArray:
        """The transitions with half a count added everywhere: to compare, and to walk on."""
        return transition_matrix(self.counts)


def profile(texts: Iterable[str]) -> Profile:
    """Return the profile of traces."""
    texts = list(texts)
    paths = [[BEHAVIORS.index(b) for b in path_of(text)] for text in texts]
    counts = np.bincount([b for path in paths for b in path], minlength=len(BEHAVIORS)).astype(np.float64)
    words = sum(len(text.split()) for text in texts)
    marks: dict[str, float] = {name: 1000 * sum(len(pattern.findall(text)) for text in texts) / max(1, words) for name, pattern in _WORDS}
    shares = counts / max(1.0, counts.sum())
    follows = transition_counts(paths, len(BEHAVIORS))
    total = follows.sum(1, keepdims=True)
    transitions = np.divide(follows, total, out=np.full(follows.shape, np.nan), where=total > 0)
    return Profile(len(texts), int(counts.sum()), shares, follows, transitions, marks)


def table_lines(matrix: FloatArray, names: Sequence[str] = BEHAVIORS) -> list[str]:
    """Return a transition matrix as lines of text; a row of NaN, of what nothing follows, as dashes."""
    head = " " * 10 + "".join(f"{name:>9}" for name in names)
    rows = [[f"{value:9.2f}" if value == value else f"{'-':>9}" for value in row] for row in matrix.tolist()]
    return [head, *(f"  {name:<8}" + "".join(row) for name, row in zip(names, rows, strict=True))]
