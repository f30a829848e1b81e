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
_MARK = re.compile(r"^[ \t]*(?:####|A:)[ \t]*(?P<said>\S[^\n]*)$", re.MULTILINE)
_REST = r"(?:(?:\\\[|\$\$)[ \t]*+\n\s*+)?(?P<said>(?!not\b)\S[^\n]*)"  # a formula may be set off on lines of its own
_SAID = re.compile(
    r"(?:final answer|(?<!check )(?<!verify )(?:the|my) answer|(?<!the )(?<!our )(?<!your )(?<!this )answer|verdict)"
    r"[*_ \t]{0,9}(?:is\b|:|=)(?:[ \t]?(?:is\b|:|=))?(?:(?<=:)[*_]{0,4}\s*+|[ \t]*+)(?:\*\*)?[ \t]*+" + _REST,
    re.I,
)
_HEADED = re.compile(
    r"^[#*_ \t]{0,9}(?:the |my )?(?:final answer|(?<=[#*_ ])answer|verdict)[*_ \t]{0,9}\n\s*+" + _REST, re.I | re.MULTILINE
)
_BOX = re.compile(r"\\f?boxed\s*\{|\\fbox\s*\{|\\f?boxed\s*(?P<bare>[-+]?\d[\d,]*(?:\.\d+)?|(?<=\s)[A-Zb-z](?![\w.-]))")

_PLAIN = r"[-+]?(?:\d+[ \t]+\d+/\d+|(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
_WORDS = r"[,;]?[ \t]+(?P<words>(?:[a-zA-Z]{2,}|a)(?:[ \t,;()'/-]+(?:[a-zA-Z]{2,}|[as]))*[)]?)"
_COUNTED = re.compile(rf"(?:\\?\$|[£€])?[ \t]*(?P<number>{_PLAIN})(?:{_WORDS})?")
_SENTENCE = re.compile(r"(?<=[\w)}%!*$])\.\**[ \t]+(?=[A-Z(])")
_LEAD = re.compile(
    r"(?:(?:so|thus|therefore|then|hence),? )?(?:(?:the|my) )?(?:final )?answer(?: is\b|:)[: ]*"
    r"|(?:about|approximately|exactly|just|simply) ",
    re.I,
)
# Words that change the number before them, or say that there is another one.
_CHANGING = re.compile(
    r"\b(?:percent|per cent|percentage|factorial|hundred|thousand|million|billion|trillion|dozen|squared|cubed|pi|times|plus|minus|over"
    r"|divided|mod|modulo|or|and|to|through|log|ln|sin|cos|tan|sqrt|choose|base|power|half|halves|thirds?|quarters?|tenths?|hundredths?)\b",
    re.I,
)
_NAMES = re.compile(r"(?<![\\a-zA-Z])(pi|log|ln|sin|cos|tan)(?![a-zA-Z])")
_MIXED = re.compile(r"(?<![\d./^_{}])(\d+)(?:\s|\\ )+(\d+)\s*/\s*(\d+)(?![\d./])")
_SCIENTIFIC = re.compile(r"(?<![\w.\\])(\d+(?:\.\d+)?|\.\d+)[eE]\+?(-?\d{1,3})(?![\w.])")
_BASE = re.compile(r"\(?([\da-fA-F]+)\)?_\{?(?:\\text\{)?(\d+)\}*")
_UNIT = re.compile(
    r"(?<=[\d}.)])(?:\\[,;: ]|[\s~])*(?:\\(?:text|mbox|mathrm|textrm|rm)\s*\{\s*(?P<set>[a-zA-Z][a-zA-Z ]*?)\s*\.?\}"
    r"|(?P<bare>(?:(?:square|sq|cubic) )?[a-zA-Z]{2,}|(?<=\s)[mg]))\s*(?:\^\s*\{?(?P<power>[23])\}?)?$"
)
_UNITS = (
    "mm millimeter millimetre", "cm centimeter centimetre", "m meter metre", "km kilometer kilometre", "in inch inches", "ft foot feet",
    "yd yard", "mi mile", "mg milligram", "g gram", "kg kilogram", "lb pound", "oz ounce", "ml milliliter millilitre", "l liter litre",
    "s sec second", "min minute", "h hr hour", "day", "week", "month", "year yr", "cent", "dollar", "degree deg", "radian rad",
    "mph", "kph", "hz", "gallon gal", "quart", "pint", "cup", "unit",
)  # fmt: skip
UNITS: Mapping[str, str] = {form: names.split()[0] for names in _UNITS for name in names.split() for form in (name, name + "s")}
"""Name of a unit -> its first name; "unit" stands for any."""

_SIDE = r"(?:(?:text|document|solution|option|choice|response|passage)\s*)?"
_OPEN = r"[\s(\[{*\"'`$]*(?:\\(?:text|mathrm|mathbf|textbf)\s*\{\s*)?"
_EVEN = re.compile(rf"^{_OPEN}(?:(?:an?|it'?s a|it is a)\s+)?(?:tie|neither|both|draw)\b", re.I)
# After "A", a word that is none of these makes it an article.
_GOES_ON = (
    r"(?:is|was|wins?|has|because|since|as|for|over|by|with|but|due|does|contains|answers|gives|better|which|though|although|or|and|vs)\b"
)
_LETTER = re.compile(rf"(?<![\w'\\])(?i:{_SIDE})(?:(A)(?!\s+(?!{_GOES_ON})[a-z])|(B))(?![\w'])")
_QUOTED = re.compile(r"(?:\(([ab])\)|\[([ab])\]|\{([ab])\}|\"([ab])\"|'([ab])'|`([ab])`|\*\*([ab])\*\*)")
_JOINED = re.compile(rf"[\s)\]}}*\"'`$]*(?:or|and|vs\.?|/|&|=|,(?=[^a-z]*$))[\s(\[{{*\"'`$]*(?i:{_SIDE})[AB]\b")


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
        """Return what is boxed, in answer tags, behind ####, or behind "the answer is": the last of these that reads as mathematics.

        An announcement in words ("the answer is clear") counts only where there is no box and no tag.
        """
        body = conclusion(text)
        shut, end = _enclosed(body, _trimmed)
        announced = [(start, _trimmed(said)) for start, said in _announced(body, (_SAID, _HEADED))]
        marked = [(start, _trimmed(said)) for start, said in _announced(body, (_MARK,))]
        readable = [(start, said) for start, said in announced + marked if _readable(said)]
        if end:
            later = [(start, said) for start, said in readable if start >= end]
            found = max(later)[1] if later else shut
        else:
            found = max(announced + [pair for pair in marked if pair in readable] or marked, default=(0, ""))[1]
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
        shut, end = _enclosed(body)
        said = [_choice(words) for start, words in sorted(_announced(body, (_SAID, _HEADED))) if start >= end]
        if not end:
            return said[-1] if said else ""
        clear = [choice for choice in said if choice]
        return clear[-1] if clear else _choice(f"({shut})" if shut in ("a", "b") else shut)

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
    """Return the content of the last box of LaTeX whose braces balance (or that holds a bare number or letter), "" where there is none."""
    return _last_box(text)[0]


def _last_box(text: str) -> tuple[str, int]:
    for match in reversed(list(_BOX.finditer(text))):
        if match["bare"]:
            return match["bare"].rstrip(","), match.end()
        depth, start = 1, match.end()
        for place in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if not depth:
                return text[start:place].strip(), place + 1
    return "", 0


def _enclosed(text: str, read: Callable[[str], str] = str) -> tuple[str, int]:
    """What the last box holds or `read` makes of the last answer tag, and where it ends; ("", 0) where there is none."""
    box = _last_box(text)
    tags = [(last_boxed(match[2]) or read(match[2]), match.end()) for match in _TAG.finditer(text)]
    found = max([box, *tags[-1:]], key=lambda pair: pair[1])
    return found if found[0] else ("", 0)


def _announced(text: str, patterns: Sequence[re.Pattern[str]]) -> list[tuple[int, str]]:
    return [(match.start("said"), match["said"]) for pattern in patterns for match in pattern.finditer(text)]


def _choice(said: str) -> str:
    """The one choice that words make; an article is none, and "A or B" is none."""
    if _EVEN.match(said):
        return "tie"
    letters = list(_LETTER.finditer(said))
    first = letters[0] if letters else None
    if first is None:
        quoted = {next(part for part in match if part) for match in _QUOTED.findall(said)}
        return quoted.pop().upper() if len(quoted) == 1 else ""
    if _JOINED.match(said, first.end()) or re.search(r"\b(?:not|nor|unclear|unsure)\b", said[: first.start()], re.I):
        return ""
    leads = re.fullmatch(_OPEN, said[: first.start()]) is not None
    one = len({match[1] or match[2] for match in letters}) == 1
    return (first[1] or first[2]) if leads or one else ""


def _readable(said: str) -> bool:
    """Whether it is mathematics rather than a sentence: no words but those of formulas."""
    bare = re.sub(r"\\(?:text|mbox|mathrm|textbf)\s*\{[^}]*\}|\\[a-zA-Z]+", "1", said)
    words = re.findall(r"[a-zA-Z]{2,}", _CHANGING.sub("", bare))
    return bool(re.search(r"\w", bare)) and all(word.lower() in UNITS or not bare.isascii() for word in words)


def _trimmed(said: str) -> str:
    """An announced answer without the sentence around it: its one formula, or a plain number that only words follow."""
    whole = _LEAD.sub("", said.strip().lstrip("*_ "), count=1) if _LEAD.match(said.strip().lstrip("*_ ")) else said.strip().lstrip("*_ ")
    whole = _SENTENCE.split(whole)[0].rstrip(" .*")
    inside = list(re.finditer(r"(?<!\\)\$\$?([^$]+)\$\$?(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]", whole))
    if len(inside) == 1:
        around = whole[: inside[0].start()] + " " + whole[inside[0].end() :]
        if not re.search(r"[-+=<>*/^\\!%\d]|\b(?:not|[b-zB-Z])\b", around) and not _CHANGING.search(around):
            return str(next(part for part in inside[0].groups() if part)).strip()
    match = _COUNTED.fullmatch(whole.replace("**", ""))
    if match and not _CHANGING.search(match["words"] or "") and (match["words"] or "").lower() not in UNITS:
        return match["number"]
    return re.sub(r"\\\]$|(?<!\\)\$\$?(?!\d)", "", whole).strip() if inside else whole.removesuffix("\\]").strip()


@lru_cache(maxsize=65_536)
def plain(answer: str) -> str:
    """Return an answer without what never changes its value: blanks, dollar signs, thousands' commas, sizes of brackets, a last point."""
    text = unicodedata.normalize("NFKC", answer).strip().strip("$").rstrip(".")
    text = re.sub(r"(?<=\d)(?:\s|\\[ ])+(?=\d)", "\0", text)  # digits apart are two numbers: 1 1/2 is not 11/2
    text = re.sub(r"\\(?:left|right|,|!|;|:|quad)(?![a-zA-Z])|\\[ ]|\s|\\\$|\$", "", text).replace("\0", " ")
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text) if not re.search(r"[()\[\]{}]", text) else text
    return re.sub(r"(\d)\.0+$", r"\1", text)


@lru_cache(maxsize=65_536)
def _equal(right: str, answer: str) -> bool:
    sides = [_read(text) for text in (right, answer)]
    bases, units, texts = zip(*sides, strict=True)
    if bases[0] != bases[1] or (all(units) and units[0] != units[1] and "unit" not in units):
        return False
    if bases[0] or any(re.search(r"\d\s+\d", text) for text in texts):  # the library drops bases, and adds up digits that stand apart
        return plain(texts[0]) == plain(texts[1])
    library = import_extra("math_verify", "math-verify", "reasoning")
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it says what it cannot parse; here that is an answer like others
    # Its time limit is an alarm, which only the main thread can set.
    limit = SECONDS if threading.current_thread() is threading.main_thread() else None
    # An answer alone is taken as an expression, with or without dollars around it.
    found = [_parsed(library, text, limit) for text in texts]
    return bool(all(found) and library.verify(*found, timeout_seconds=limit))


def _read(answer: str) -> tuple[str, str, str]:
    """(base of the number if not ten, unit if it is a known one, what the library can read) of an answer."""
    text = unicodedata.normalize("NFKC", _MIXED.sub(r"\1\\frac{\2}{\3}", answer.strip())).strip().strip("$").rstrip(".")
    based = _BASE.fullmatch(re.sub(r"\s", "", text))
    if based:
        return ("" if int(based[2][:9]) == 10 else based[2]), "", based[1]
    unit, match = "", _UNIT.search(text)
    if match:
        *kind, name = (match["set"] or match["bare"]).lower().split()
        power = match["power"] or {"square": "2", "sq": "2", "cubic": "3"}.get(kind[0] if kind else "", "")
        if name in UNITS and (not kind or (len(kind) == 1 and power)):
            unit, text = UNITS[name] + power, text[: match.start()]
    text = re.sub(r"(?<=\d) (?=\d{3}(?!\d))", "", text) if re.fullmatch(r"[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?", text) else text
    return "", unit, _NAMES.sub(r"\\\1 ", _SCIENTIFIC.sub(r"\1\\times 10^{\2}", text))


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
