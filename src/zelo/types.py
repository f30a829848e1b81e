"""What flows between stages: the row types of the files in a workspace.

Rows are frozen dataclasses with the field's names. Bulk mathematics takes columns (NumPy arrays), not rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Side = Literal["a", "b"]
Status = Literal["ok", "failed", "refused", "truncated", "unparsable"]
Link = Literal["probit", "logit"]
Task = Literal["math", "judging"]
Finish = Literal["stop", "length", "refusal", "filter"]


@dataclass(frozen=True, slots=True)
class Query:
    """A question. `query_id` is unique in its collection and holds no white space."""

    query_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A passage of a corpus. `doc_id` is unique in its corpus and holds no white space."""

    doc_id: str
    text: str
    title: str = ""

    @property
    def full_text(self) -> str:
        """Title and text as one string, as BEIR systems read them."""
        return f"{self.title} {self.text}".strip() if self.title else self.text


@dataclass(frozen=True, slots=True)
class Qrel:
    """A human label. `relevance` is a gain; 0, or less (junk in TREC), means judged and not relevant."""

    query_id: str
    doc_id: str
    relevance: float


@dataclass(frozen=True, slots=True)
class ScoredDoc:
    """One line of a ranking; a ranking is a list of these per query, best first."""

    query_id: str
    doc_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two documents of one query to compare. Unordered: `doc_id_a < doc_id_b`, so a pair has one name.

    `shown_first` says which of the two a judge reads first; it is drawn with the pair, so that each document
    leads in exactly half of its comparisons (paper: order is randomized against position bias).
    """

    query_id: str
    doc_id_a: str
    doc_id_b: str
    shown_first: Side = "a"

    def __post_init__(self) -> None:
        if not self.doc_id_a < self.doc_id_b:
            raise ValueError(f"a pair needs doc_id_a < doc_id_b, got {self.doc_id_a!r}, {self.doc_id_b!r}")


@dataclass(frozen=True, slots=True)
class Judgment:
    """One answer of one judge about one pair, or the record that there was none.

    `preference` is in [-1, 1], positive when document a is better **whatever order was shown**;
    None when there is no usable answer, and None never becomes a vote or a tie. Tokens and cost (US dollars) are of this answer;
    `seconds` it took; `note` says how it was read or what went wrong, `flags` what in the texts looks like an attempt to sway it.
    """

    query_id: str
    doc_id_a: str
    doc_id_b: str
    judge: str
    preference: float | None
    shown_first: Side = "a"
    status: Status = "ok"
    reasoning: str = ""
    prompt_id: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    note: str = ""
    flags: str = ""

    def __post_init__(self) -> None:
        if (self.preference is None) == (self.status == "ok"):
            raise ValueError(f"status {self.status!r} does not go with preference {self.preference!r}")
        if self.preference is not None and not -1.0 <= self.preference <= 1.0:
            raise ValueError(f"preference must be in [-1, 1], got {self.preference!r}")

    def swapped(self) -> Judgment:
        """Return the same judgment with the documents' names exchanged: pair, sign and order flip together."""
        return replace(
            self,
            doc_id_a=self.doc_id_b,
            doc_id_b=self.doc_id_a,
            preference=None if self.preference is None else -self.preference,
            shown_first="b" if self.shown_first == "a" else "a",
        )


@dataclass(frozen=True, slots=True)
class Preference:
    """What the ensemble says about a pair. `prob_a` in [0, 1] = P(a beats b); `n_judges` >= 1 had an answer."""

    query_id: str
    doc_id_a: str
    doc_id_b: str
    prob_a: float
    n_judges: int


@dataclass(frozen=True, slots=True)
class FittedScore:
    """A zELO score: strength in natural units of the named link, mean 0 per query, with its standard error.

    Probit scores, P = (1 + erf x) / 2, are about 0.42 times logit scores; never mix links.
    """

    query_id: str
    doc_id: str
    score: float
    stderr: float
    degree: int
    link: Link


@dataclass(frozen=True, slots=True)
class Target:
    """A calibrated score in [0, 1], what a pointwise reranker learns; comparable across queries with calibrate.scale = "across"."""

    query_id: str
    doc_id: str
    target: float


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with an answer that can be checked: of mathematics, or which of two texts is better.

    Attributes:
        problem_id: unique in its file, without white space.
        prompt: what is asked, without instructions on how to answer.
        answer: the right one: a number or expression (math), or "A", "B" or "tie" (judging, A being the text shown first); "" = not known.
        task: which verifier checks answers.
        subject: a topic, "" = not known.
        level: difficulty as its source states it, from 1; 0 = not stated.
        solution: a worked solution of its source; may be "".
        group: names what several problems are about: both orders of one pair. "" = the problem alone.
        swapped: whether it shows the group's pair in the other order.
    """

    problem_id: str
    prompt: str
    answer: str
    task: Task = "math"
    subject: str = ""
    level: int = 0
    solution: str = ""
    group: str = ""
    swapped: bool = False

    @property
    def group_id(self) -> str:
        """The group, or the problem where it has none."""
        return self.group or self.problem_id


@dataclass(frozen=True, slots=True)
class Trace:
    """One worked reasoning about a problem.

    Attributes:
        problem_id: what it is about.
        source: who wrote it: a model with its prompt, or people.
        sample: which of the source's traces about the problem, from 0.
        reasoning: all that was written, the conclusion included.
        stage: how often it was edited, from 1 = as it came.
        answer: what it concludes, as read from it; "" = nothing.
        correct: whether that is right; None = not verified, or the right answer is not known.
        finish: "stop", or why it is not whole: out of tokens, refused by the model or by the provider's filter.
        prompt_id: name and digest of the prompt; "" = none is known.
        tokens: written, as billed; 0 = not known.
        cost: US dollars.
        note: what is to be known about it: the remark of a verifier, or of an editor.
    """

    problem_id: str
    source: str
    sample: int
    reasoning: str
    stage: int = 1
    answer: str = ""
    correct: bool | None = None
    finish: Finish = "stop"
    prompt_id: str = ""
    tokens: int = 0
    cost: float = 0.0
    note: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """What names a trace in every stage: problem, source and number of the sample."""
        return self.problem_id, self.source, self.sample
