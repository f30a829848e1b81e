"""Grades as lines for people: is it better, how is that known, what did it cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from zelo.core.probabilities import RANGE
from zelo.reasoning.grade import Difference, Grade
from zelo.reasoning.preferences import Judging

LEVEL = 0.05
"""Of the paired test. With few problems the bootstrap's interval is too narrow: six of six gained is p = .03, five of five .06."""


def grade_lines(grades: Sequence[Grade]) -> Iterator[str]:
    """Yield a table of grades, best first, with what judging adds below."""
    rows = [("source", "problems", "k", "pass@1", "95 %", "pass@k", "maj@k", "no answer", "cut", "length", "cost")]
    ordered = sorted(grades, key=lambda g: -g.pass_1)
    for g in ordered:
        length = f"{g.tokens[1]:,.0f} {'words' if g.words else 'tokens'}"
        rows.append(
            (
                g.source,
                f"{g.problems:,}",
                str(g.least),
                f"{g.pass_1:.3f}",
                f"{g.interval[0]:.3f}-{g.interval[1]:.3f}",
                f"{g.pass_k[g.least]:.3f}",
                f"{g.majority:.3f}",
                f"{g.no_answer:.1%}",
                f"{g.cut:.1%}",
                length,
                f"${g.dollars:,.2f}" if g.dollars else "-",
            )
        )
    yield from table(rows)
    for g in ordered:
        if g.missing:
            yield f"{g.source}: {g.missing:,} problems have no trace; they are not in its figures"
    yield from _judging_lines([(g.source, g.judging) for g in ordered if g.judging is not None])


def _judging_lines(judging: Sequence[tuple[str, Judging]]) -> Iterator[str]:
    if not judging:
        return
    yield ""
    rows = [("as a judge", "pairs", "accuracy", "95 %", "consistent", "first", "log loss*", "calibrated*", "T", "ECE")]
    for source, j in judging:
        rows.append(
            (
                source,
                f"{j.pairs:,}",
                f"{j.accuracy:.3f}",
                f"{j.interval[0]:.3f}-{j.interval[1]:.3f}",
                "-" if j.consistency is None else f"{j.consistency:.1%}",
                f"{j.first_share:.3f}",
                f"{j.log_loss:.3f}",
                f"{j.calibrated_log_loss:.3f}",
                _temperature(j.temperature),
                f"{j.calibration_error:.3f}",
            )
        )
    yield from table(rows)
    yield "* of (votes + 1/2) / (n + 1): the log loss of votes that are unanimous and wrong would be infinite"
    for source, j in judging:
        if j.unjudged:
            why = "no vote in an order in which they were asked"
            yield f"{source}: {j.unjudged:,} of {j.pairs + j.unjudged:,} pairs have no preference, for {why}; they are not in here"
        if j.one_order:
            yield f"{source}: {j.one_order:,} pairs were asked about in one order only, so what place adds does not cancel in them"


def _temperature(value: float) -> str:
    """A temperature; at the ends of what is looked at it is no estimate."""
    low, high = (math.exp(x) for x in RANGE)
    return "< 0.02" if value < 1.01 * low else "> 400" if value > 0.99 * high else f"{value:.2f}"


def difference_line(found: Difference) -> str:
    """Return a comparison with a baseline in a line; a difference is one where both the interval and the paired test say so."""
    low, high = found.interval
    told = found.p < LEVEL
    word = "better than" if told and low > 0 else "worse than" if told and high < 0 else "not told apart from"
    figures = f"pass@1 {found.difference:+.3f} (95 % {low:+.3f} to {high:+.3f}, p = {found.p:.3g})"
    return f"{found.source} is {word} {found.baseline}: {figures} on {found.problems:,} problems"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with columns of equal width, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]
