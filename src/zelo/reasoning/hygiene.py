"""What must not be in teaching data: questions of an evaluation set, and rationales written with the answer in view."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from zelo.errors import InputError
from zelo.reasoning.behavior import steps_of
from zelo.reasoning.pairs import texts_of
from zelo.reasoning.verify import VERIFIERS
from zelo.types import Problem, Trace

FIRST_STEP = 40
"""Words; a longer first step may have reasoned before it concludes."""
WORDS = 13
"""An n-gram of so many words in common is taken for the same text; shorter questions must be equal."""

_BLANKLESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Scripts without blanks between words (Thai, Lao, Burmese, Khmer, Japanese, Chinese): a character is a word there."""
_TOKEN = re.compile(rf"[{_BLANKLESS}]|\d+|[^\W\d_{_BLANKLESS}]+")
_SIGN = re.compile(
    rf"\d+(?:[.,]\d+)*|{_TOKEN.pattern}|(?<=[\d)])!|(?<![^\W\d_]{{2}})-|-(?![^\W\d_]{{2}})|[-+*/=<>^%()\[\]|&~]|[^\w\s\x00-\xa0]"
)
_EMPHASIS = re.compile(r"(?<!\w)(\*{1,3})(?=\S)([^*\n]+)(?<=\S)\1(?!\w)")
_SAME = str.maketrans({"\u2212": "-", "\u2013": "-", "\u00d7": "*", "\u22c5": "*", "\u00b7": "*", "\u00f7": "/"})
_COMMANDS = {r"\\(?:times|cdot)(?![a-zA-Z])": "*", r"\\div(?![a-zA-Z])": "/"}
_KEY = re.compile(
    r"\b(reference (answer|solution)|ground[- ]truth|(given|provided|stated|expected|gold) (answer|label)|answer key"
    r"|correct answer is given|as (the )?(label|key) says|according to the (answer|label|key)|the (label|annotation) (is|says))",
    re.I,
)  # fmt: skip


Key = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Overlap:
    """A problem that shares text with one of an evaluation set."""

    problem_id: str
    evaluation_id: str
    shared: str


def contaminated(problems: Iterable[Problem], evaluation: Iterable[Problem], words: int = WORDS) -> list[Overlap]:
    """Return the problems that share `words` words in a row with a problem of an evaluation set.

    A shorter question must be equal: words, numbers and operators. Case, punctuation and formatting do not count. A character is a
    word in scripts without blanks. Of a comparison, the query and the two texts are looked at, not the words around them, and a
    short text is not: "The answer is 5." is no question. Each problem is named once, with the first it overlaps with.

    Raises:
        InputError: words below 1.
    """
    if words < 1:
        raise InputError(f"an overlap of {words} words", remedy="use at least 1")
    known: dict[Key, str] = {}
    for other in evaluation:
        for key in _keys(other.prompt, words):
            known.setdefault(key, other.problem_id)
    found = []
    for problem in problems:
        shared = next((key for key in _keys(problem.prompt, words) if key in known), None)
        if shared is not None:
            found.append(Overlap(problem.problem_id, known[shared], " ".join(shared[1])))
    return found


def _keys(prompt: str, words: int) -> Iterator[Key]:
    """Yield what two problems must not have in common: ("words", so many in a row) and ("all", a short question)."""
    for place, text in enumerate(texts_of(prompt)):
        plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if unicodedata.category(c)[0] != "M")
        tokens = _TOKEN.findall(plain)
        if len(tokens) < words:
            signs = _signs(text) if place == 0 else ()
            if signs:
                yield "all", signs
        for i in range(len(tokens) - words + 1):
            yield "words", tuple(tokens[i : i + words])


def _signs(text: str) -> tuple[str, ...]:
    """Return words, numbers and operators of a question."""
    for command, sign in _COMMANDS.items():
        text = re.sub(command, sign, text)
    text = _EMPHASIS.sub(r"\2", unicodedata.normalize("NFKC", text).casefold().translate(_SAME))
    marks = "\u3002\u3001\u2026\u2018\u2019\u201c\u201d\u00bf\u00a1\u300c\u300d"
    return tuple(sign for sign in _SIGN.findall(text) if sign not in marks)


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
