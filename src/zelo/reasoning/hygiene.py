"""What must not be in teaching data: questions of an evaluation set, and rationales written with the answer in view."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from zelo.errors import InputError
from zelo.reasoning.pairs import texts_of
from zelo.reasoning.verify import VERIFIERS, Verifier
from zelo.types import Problem, Task, Trace

EARLY = 12
"""Words within which a conclusion comes before any reasoning."""
RATIONALE = 8
"""Words that must follow it: an answer alone is no rationale."""
WORDS = 13
"""An n-gram of so many words in common is taken for the same text; shorter questions must be equal."""
LEAST, MANY = 3, 8
"""Words, numbers and operators of a short question that is looked for within longer ones: so many, or the least with a number."""

_BLANKLESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Scripts without blanks between words (Thai, Lao, Burmese, Khmer, Japanese, Chinese): a character is a word there."""
_TOKEN = re.compile(rf"[{_BLANKLESS}]|\d+|[^\W\d_{_BLANKLESS}]+")
_SIGN = re.compile(
    rf"\d+(?:[.,]\d+)*|{_TOKEN.pattern}|(?<=[\d)])!|(?<![^\W\d_]{{2}})-|-(?![^\W\d_]{{2}})|[-+*/=<>^%()\[\]|&~]|[^\w\s\x00-\xa0]"
)
_EMPHASIS = re.compile(r"(?<!\w)(\*{1,3})(?=\S)([^*\n]+)(?<=\S)\1(?!\w)")
_SAME = str.maketrans(
    {"\u2212": "-", "\u2013": "-", "\u00d7": "*", "\u22c5": "*", "\u00b7": "*", "\u00f7": "/", "\u2264": "<=", "\u2265": ">="}
)
_COMMANDS = (
    (re.compile(r"\\(?:left|right|displaystyle|limits|bigl?|bigr)(?![a-zA-Z])|\\[,;:! ]|~"), " "),
    (re.compile(r"\\(?:text|mbox|mathrm|textbf|mathbf|operatorname)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\[dtc]?frac\s*\{((?:[^{}]|\{[^{}]*\})*)\}\s*\{((?:[^{}]|\{[^{}]*\})*)\}"), r" (\1)/(\2) "),
    (re.compile(r"\\[dtc]?frac\s*(\d)\s*(\d)"), r" \1/\2 "),
    (re.compile(r"\\(?:times|cdot)(?![a-zA-Z])"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])"), "/"),
    (re.compile(r"\\leq?(?![a-zA-Z])"), "<="),
    (re.compile(r"\\geq?(?![a-zA-Z])"), ">="),
    (re.compile(r"\$+|\\\[|\\\]|\\\(|\\\)"), " "),
    (re.compile(r"\{\s*(\w+)\s*\}"), r"\1 "),
    (re.compile(r"\(\s*(\w+)\s*\)\s*/"), r"\1/"),
    (re.compile(r"/\s*\(\s*(\w+)\s*\)"), r"/\1"),
)
"""What is the same in another notation of LaTeX, or none -> one of them."""
_STOCK = re.compile(
    r"(?:\b(?:which |that )?can be (?:written|expressed|represented) (?:uniquely )?(?:as|in the form) .{0,40}?)?"
    r"\b(?:where|for) .{1,30}? are (?:relatively prime|coprime) (?:positive )?integers[^.?]*[.?]?"
    r"(?:\s*(?:find|compute|what is) [^.?]{1,30}[.?])?"
    r"|\b(?:please |and )*(?:express|enter|give|write|state|put|round|box) (?:your|the|all) (?:final )?(?:answers?|solutions?)\b"
    r"[^.?\n]*[.?]?"
    r"|\b(?:please )?(?:reason|think|work|explain) (?:this |it |the problem )?(?:through )?step[ -]by[ -]step\b"
    r"|\bshow (?:all )?(?:your |the )?(?:work|steps)\b"
)
"""What many questions say and none is known by: how the answer is to be written."""
_PARTS = re.compile(r"(?<=[.?!:\u3002\uff1f])\s+|\n+")

_KNOWN = (
    r"reference (?:answer|solution|label)|ground[- ]truth|answer key|gold (?:answer|label)|target (?:answer|label)"
    r"|(?:given|provided|stated|expected|correct) label|correct answer is (?:given|known|said)"
    r"|as (?:the )?(?:label|key) (?:says|shows|states)|the (?:label|annotation) (?:is|says)"
    r"|(?:according to|consistent with|agrees with|match(?:es|ing)?|given) the (?:label|key|annotation)"
    r"|(?:we|i) (?:already |are told |know that |know )+the (?:correct |final |right )*answer|knowing (?:that )?the (?:correct )?answer"
)
_STATED = r"(?:given|provided|stated|expected|official) (?:final )?answer(?! (?:choices|options|form|sheet|space|blank))"
_KEY: Mapping[Task, re.Pattern[str]] = {
    "math": re.compile(rf"\b(?:{_KNOWN}|{_STATED})\b", re.I),
    "judging": re.compile(rf"\b(?:{_KNOWN})\b", re.I),  # solutions to be compared have stated answers of their own
}
_DENIED = re.compile(
    r"\b(?:no|not|never|without|lack(?:s|ing)?|have|had|if|were|is there)\b(?:\W+(?:an?|any|the|have|of|known))*\W+$", re.I
)
_HEDGED = re.compile(
    r"\b(?:guess\w*|suppose|maybe|might|may|could|assum\w+|if|perhaps|probably|suspect\w*|conjecture|whether|hope)\b", re.I
)
_REASONED = re.compile(r"[\d=]|\b(?:because|since|so|therefore|thus|hence|while|but|whereas|as|both|only)\b", re.I)


Key = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Overlap:
    """A problem that shares text with one of an evaluation set."""

    problem_id: str
    evaluation_id: str
    shared: str


def contaminated(problems: Iterable[Problem], evaluation: Iterable[Problem], words: int = WORDS) -> list[Overlap]:
    """Return the problems that share `words` words in a row with a problem of an evaluation set.

    A shorter question must be equal: words, numbers and operators; or be whole sentences of a longer one. Case, punctuation,
    formatting and the notation of LaTeX do not count, nor how the answer is to be written. A character is a word in scripts without
    blanks. Of a comparison, the query and the two texts are looked at, not the words around them: the query counts as a question
    does, texts of two comparisons count where both are shared, since documents of one collection are shown to many queries. Each
    problem is named once, with the first it overlaps with.

    Raises:
        InputError: words below 1.
    """
    if words < 1:
        raise InputError(f"an overlap of {words} words", remedy="use at least 1")
    known: dict[Key, list[tuple[str, int]]] = {}
    for other in evaluation:
        for place, key in _keys(other.prompt, words):
            known.setdefault(key, []).append((other.problem_id, place))
    found = []
    for problem in problems:
        overlap = _overlap(problem, known, words)
        if overlap is not None:
            found.append(overlap)
    return found


def _overlap(problem: Problem, known: Mapping[Key, Sequence[tuple[str, int]]], words: int) -> Overlap | None:
    texts: dict[str, dict[int, int]] = {}  # evaluation problem -> our text -> theirs
    for place, key in _keys(problem.prompt, words):
        kind, shared = key
        for theirs, other in known.get(key if kind != "part" else ("all", shared), ()):
            if not (place and other):  # a question is in it
                return Overlap(problem.problem_id, theirs, " ".join(shared))
            both = texts.setdefault(theirs, {})
            both.setdefault(place, other)
            if len(set(both.values())) == 2:
                return Overlap(problem.problem_id, theirs, " ".join(shared))
        if kind == "all" and ("part", shared) in known:
            return Overlap(problem.problem_id, known["part", shared][0][0], " ".join(shared))
    return None


def _keys(prompt: str, words: int) -> Iterator[tuple[int, Key]]:
    """Yield (place, key) of what two problems must not have in common; places are 0 for the question, 1 and 2 for texts.

    Keys are ("words", so many in a row), ("all", a short question), ("part", sentences of it that are as short as a question).
    """
    for place, text in enumerate(texts_of(prompt)):
        for segment in _STOCK.split(_noted(text)):
            tokens = _TOKEN.findall("".join(c for c in unicodedata.normalize("NFKD", segment) if unicodedata.category(c)[0] != "M"))
            for i in range(len(tokens) - words + 1):
                yield place, ("words", tuple(tokens[i : i + words]))
        if place == 0:
            yield from ((place, key) for key in _questions(text, words))


def _questions(text: str, words: int) -> Iterator[Key]:
    """Yield keys of a question, if it is short, and of its parts that are."""
    parts = [signs for part in _PARTS.split(_noted(text)) if (signs := _signs(_STOCK.sub(" ", part)))]
    whole = tuple(sign for part in parts for sign in part)
    if whole and _count(whole) < words:
        yield "all", whole
    for first in range(len(parts)):
        run: tuple[str, ...] = ()
        for part in parts[first:]:
            run += part
            if _count(run) >= words:
                break
            if run != whole and (len(run) >= MANY or (len(run) >= LEAST and any(sign[0].isdigit() for sign in run))):
                yield "part", run


def _count(signs: Sequence[str]) -> int:
    return sum(_TOKEN.match(sign) is not None for sign in signs)


def _noted(text: str) -> str:
    """Return a text in one notation and small letters."""
    text = _EMPHASIS.sub(r"\2", unicodedata.normalize("NFKC", text).casefold().translate(_SAME))
    for _ in range(2):  # fractions within fractions
        for pattern, same in _COMMANDS:
            text = pattern.sub(same, text)
    return text


def _signs(noted: str) -> tuple[str, ...]:
    """Return words, numbers and operators."""
    marks = "\u3002\u3001\u2026\u2018\u2019\u201c\u201d\u00bf\u00a1\u300c\u300d"
    return tuple(sign for sign in _SIGN.findall(noted) if sign not in marks)


def leaks(trace: Trace, problem: Problem) -> str:
    """Return how a trace shows that its writer knew the answer, "" if it does not.

    Either it speaks of a given answer or label, in words that the problem does not use itself and without denying it; or it concludes
    within its first `EARLY` words, right, without a reason or a guess before, and a rationale follows.
    """
    for match in _KEY[problem.task].finditer(trace.reasoning):
        if match[0].lower() not in problem.prompt.lower() and not _DENIED.search(trace.reasoning[: match.start()][-60:]):
            return f"speaks of {match[0].lower()!r}"
    return "concludes before it reasons" if problem.answer and _hasty(trace.reasoning, problem, VERIFIERS[problem.task]()) else ""


def _hasty(text: str, problem: Problem, verifier: Verifier) -> bool:
    body = re.sub(r"</?(?:think(?:ing)?|thought)>", " ", text, flags=re.I)
    ends = [match.end() for match in re.finditer(r"\S+", body)]
    if len(ends) < RATIONALE:
        return False
    for n, end in enumerate(ends[:EARLY], 1):
        said = verifier.extract(body[:end])
        if said and verifier.same(problem.answer, said):
            before = body[:end].replace(said, " ")
            return len(ends) - n >= RATIONALE and not _HEDGED.search(before) and not _REASONED.search(before)
    return False


def all_leaks(traces: Sequence[Trace], problems: Mapping[str, Problem]) -> list[tuple[Trace, str]]:
    """Return the traces that leak, with how."""
    found = ((trace, leaks(trace, problems[trace.problem_id])) for trace in traces)
    return [(trace, how) for trace, how in found if how]
