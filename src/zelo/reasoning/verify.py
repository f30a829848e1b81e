"""What a trace concludes, and whether that is right. One verifier per task; an answer is text, "" is none.

Mathematics goes by the library math-verify (extra `reasoning`). Its comparison is not symmetric: the right answer comes first.
"""

from __future__ import annotations

import logging
import re
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol

from zelo.core.pass_rates import equivalence_classes
from zelo.encoders.extras import import_extra
from zelo.errors import InputError
from zelo.types import Problem, Task, Trace

SECONDS = 5
"""For one comparison: what a model writes may be an expression that no computer evaluates."""
LONGEST = 1000  # characters; a longer "answer" is none
CHOICES = ("A", "B", "tie")

_THOUGHTS_END = re.compile(r"</think(?:ing)?>|</thought>", re.I)
_TAG = re.compile(r"<(answer|output)>\s*(.*?)\s*</\1>", re.DOTALL | re.I)
_MARK = re.compile(r"^[ \t]*(?:####|A:)[ \t]*(\S[^\n]*)$", re.MULTILINE)
_SAID = re.compile(r"(?:final answer|the answer|my answer|answer|verdict)[ \t]*(?:is|:|=)+[ \t]*(?:\*\*)?[ \t]*(\S[^\n]*)", re.I)
_CHOICE = re.compile(
    r"^[\s(\[{*\"'`$]*(?:\\(?:text|mathrm|mathbf)\{)?\s*(?:text|document|solution|option|choice)?\s*(A|B|TIE|tie|Tie|neither|both)\b", re.I
)
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:/\d+)?")


class Verifier(Protocol):
    """Reads answers and compares them."""

    def extract(self, text: str) -> str:
        """Return what a text concludes; "" where nothing."""
        ...

    def same(self, right: str, answer: str) -> bool:
        """Say whether an answer is as good as the right one."""
        ...


class MathVerifier:
    """Numbers and expressions: the last boxed one, else the one that is announced as the answer."""

    def extract(self, text: str) -> str:
        """Return what is boxed last, or stands in answer tags, behind ####, or behind "the answer is"."""
        body = conclusion(text)
        found = last_boxed(body)
        for pattern, place in ((_TAG, 2), (_MARK, 1), (_SAID, 1)):
            if found:
                break
            said = [match[place] for match in pattern.finditer(body)]
            found = _trimmed(said[-1]) if said else ""
        return found if len(found) <= LONGEST else ""

    def same(self, right: str, answer: str) -> bool:
        """Compare as text, else as mathematics.

        Raises:
            MissingExtraError: math-verify is not installed, and the texts differ.
        """
        if not right or not answer:
            return False
        return plain(right) == plain(answer) or _equal(right, answer)


class ChoiceVerifier:
    """One of A, B and tie."""

    def extract(self, text: str) -> str:
        """Return the choice that is boxed, in tags, or announced last; "" where there is none or the last one is not clear."""
        body = conclusion(text)
        said = last_boxed(body)
        if not said:
            found = [match[2] for match in _TAG.finditer(body)] or [match[1] for match in _SAID.finditer(body)]
            said = found[-1] if found else ""
        match = _CHOICE.match(said)
        return {"a": "A", "b": "B"}.get(match[1].lower(), "tie") if match else ""

    def same(self, right: str, answer: str) -> bool:
        """Say whether it is the same choice."""
        return bool(answer) and right == answer


VERIFIERS: Mapping[Task, Callable[[], Verifier]] = {"math": MathVerifier, "judging": ChoiceVerifier}
"""By task."""


def conclusion(text: str) -> str:
    """Return what comes after the last end of thoughts; all of it where nothing does."""
    rest = _THOUGHTS_END.split(text)[-1]
    return rest if rest.strip() else text


def last_boxed(text: str) -> str:
    """Return the content of the last box of LaTeX whose braces balance, "" where there is none."""
    for match in reversed(list(re.finditer(r"\\f?boxed\s*\{|\\fbox\s*\{", text))):
        depth, start = 1, match.end()
        for place in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if not depth:
                return text[start:place].strip()
    return ""


def _trimmed(said: str) -> str:
    """An announced answer without the sentence around it: its formula, or its number, where there is exactly one."""
    inside = re.findall(r"\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", said)
    if len(inside) == 1:
        return str(next(part for part in inside[0] if part)).strip()
    numbers = _NUMBER.findall(said)
    whole = said.strip().strip("*").rstrip(".")
    return numbers[0] if len(numbers) == 1 and not re.search(r"[\\^_{}]", said) else whole.strip()


@lru_cache(maxsize=65_536)
def plain(answer: str) -> str:
    """Return an answer without what never changes its value: blanks, dollar signs, thousands' commas, sizes of brackets, a last point."""
    text = unicodedata.normalize("NFKC", answer).strip().strip("$").rstrip(".")
    text = re.sub(r"\\(?:left|right|,|!|;|:|quad)(?![a-zA-Z])|\\[ ]|\s|\\\$|\$", "", text)
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text) if not re.search(r"[()\[\]{}]", text) else text
    return re.sub(r"(\d)\.0+$", r"\1", text)


@lru_cache(maxsize=65_536)
def _equal(right: str, answer: str) -> bool:
    library = import_extra("math_verify", "math-verify", "reasoning")
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it says what it cannot parse; here that is an answer like others
    # Its time limit is an alarm, which only the main thread can set.
    limit = SECONDS if threading.current_thread() is threading.main_thread() else None
    # An answer alone is taken as an expression, with or without dollars around it.
    found = [_parsed(library, text, limit) for text in (right, answer)]
    return bool(all(found) and library.verify(*found, timeout_seconds=limit))


def _parsed(library: Any, text: str, limit: int | None) -> list[Any]:
    bare = text.strip().strip("$")
    return list(library.parse(f"$\\boxed{{{bare}}}$", parsing_timeout=limit) or library.parse(bare, parsing_timeout=limit))


def verify(traces: Iterable[Trace], problems: Mapping[str, Problem]) -> Iterator[Trace]:
    """Yield the traces with answer and mark.

    A trace that was cut or refused keeps what it concludes before, if anything: a final answer is one wherever the text ends.

    Args:
        traces: about these problems.
        problems: by id.

    Raises:
        InputError: a trace is about no known problem.
    """
    verifiers = {task: make() for task, make in VERIFIERS.items()}
    for trace in traces:
        problem = problems.get(trace.problem_id)
        if problem is None:
            remedy = "import the problem, or remove the trace"
            raise InputError(f"a trace of {trace.source} is about no known problem", where=trace.problem_id, remedy=remedy)
        verifier = verifiers[problem.task]
        answer = verifier.extract(trace.reasoning)
        correct = verifier.same(problem.answer, answer) if problem.answer else None
        yield replace(trace, answer=answer, correct=correct)


def answer_classes(answers: Sequence[str], task: Task) -> list[int | None]:
    """Return which answers to one problem are the same: the number of the first equal one; None for no answer."""
    verifier = VERIFIERS[task]()
    texts = list(dict.fromkeys(plain(answer) if task == "math" else answer for answer in answers if answer))
    shown = {(plain(answer) if task == "math" else answer): answer for answer in reversed(answers) if answer}
    pairs = [(i, j) for j in range(len(texts)) for i in range(j) if verifier.same(shown[texts[i]], shown[texts[j]])]
    classes = equivalence_classes(len(texts), pairs).tolist()
    place = dict(zip(texts, classes, strict=True))
    return [place[plain(answer) if task == "math" else answer] if answer else None for answer in answers]
