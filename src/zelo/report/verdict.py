"""The verdict in plain words: one place, so that the page and the terminal say the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zelo.report.measured import JUDGES, STUDENT, Measured, find, first_measure

ALPHA = 0.05
"""A difference counts as shown when its corrected p value is below this."""

FEW = 20
"""With fewer test questions an unproven difference says nothing about the reranker."""

NAMES = {
    "bm25": "BM25",
    "dense": "dense search",
    "imported": "the imported run",
    "fused": "the fused first stage",
    "judges": "the judges' own ranking",
    "pointwise": "the reranker",
}
"""System -> how a sentence calls it."""

Answer = Literal["yes", "no", "unproven", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """The answer to "is it better?".

    `headline` is a few words, `sentence` has the figures. `row` is what was measured of the system that is judged and
    `baseline` what it is held against; None where nothing was measured.
    """

    answer: Answer
    headline: str
    sentence: str
    row: Measured | None = None
    baseline: Measured | None = None


def decide(rows: Sequence[Measured]) -> Verdict:
    """Judge the final ranking (the reranker's, or else the judges') by the first measure."""
    measure = first_measure(rows)
    if measure is None:
        sentence = "The test questions of this collection have no labels, so nothing could be measured; what follows shows what changed."
        return Verdict("unknown", "Nobody knows yet: there are no labels to measure with.", sentence)
    row = find(rows, STUDENT, measure) or find(rows, JUDGES, measure)
    if row is None or row.difference is None or row.p_value is None:
        return Verdict("unknown", "There is no reranked list to judge.", "Only the first stage was measured.", row)
    baseline = find(rows, row.baseline or "", measure)
    if baseline is None:
        return Verdict("unknown", "There is no first stage to compare with.", "Only the reranked list was measured.", row)
    if not row.value and not baseline.value:
        sentence = f"None of the {row.queries:,} test questions has a relevant document among its labels, or no list holds one in its top."
        return Verdict("unknown", "Nobody knows: there is nothing relevant to find.", sentence, row, baseline)
    answer, headline = _answer(row, name_of(row.system))
    return Verdict(answer, headline, _sentence(row, baseline, answer), row, baseline)


def name_of(system: str) -> str:
    """Return how a sentence calls a system."""
    return NAMES.get(system, system)


def p_text(p_value: float) -> str:
    """Return "p = .034" with as many digits as matter, or "p < .001"."""
    if p_value < 0.001:
        return "p < 0.001"
    return f"p = {p_value:.3f}" if p_value < 0.1 else f"p = {p_value:.2f}"


def signed(value: float, digits: int = 3) -> str:
    """Return a difference with its sign, a true minus; what rounds to nothing has none."""
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0.0 else ("+" if value > 0 else "\N{MINUS SIGN}") + text


def _answer(row: Measured, name: str) -> tuple[Answer, str]:
    difference, p_value = row.difference or 0.0, row.p_value or 0.0
    if p_value < ALPHA:
        return ("yes", f"Yes, {name} is better.") if difference > 0 else ("no", f"No, {name} is worse.")
    if row.queries < FEW:
        return "unproven", f"Too few test questions to tell: {row.queries}."
    if difference >= 5e-4:
        return "unproven", "Perhaps: better on these questions, but not proven."
    return ("no", "No: not better, and not clearly worse.") if difference <= -5e-4 else ("no", "No difference was shown.")


def _sentence(row: Measured, baseline: Measured, answer: Answer) -> str:
    name, questions = name_of(row.system), f"{row.queries:,} test question{'s' * (row.queries != 1)} nobody trained on"
    interval = (
        f"95 % interval {signed(row.difference_low or 0.0)} to {signed(row.difference_high or 0.0)}, corrected {p_text(row.p_value or 0.0)}"
    )
    text = (
        f"On {questions}, {name} has {row.measure} {row.value:.3f} where the best first stage, {name_of(baseline.system)}, "
        f"has {baseline.value:.3f}: a difference of {signed(row.difference or 0.0)} ({interval})"
    )
    if answer != "yes" and (row.p_value or 0.0) >= ALPHA:
        text += "; chance alone could explain it"
    return text + "."
