"""A bench as JSON, as Markdown, and as lines for a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import Any

import numpy as np

from zelo.bench.domains import MEAN, Cell, Table
from zelo.bench.running import Ran
from zelo.report.measured import JUDGES
from zelo.report.verdict import ALPHA, p_text, signed


@dataclass(frozen=True)
class Took:
    """What a system takes: US dollars per thousand questions (None: not known), milliseconds of a question (None: not measured)."""

    dollars: float | None
    median: float | None
    p95: float | None


@dataclass(frozen=True)
class Result:
    """A whole bench.

    Attributes:
        measure: the first of the recipe's.
        table: of that measure.
        others: measure -> system -> mean over domains, of the other measures.
        ran: the collections.
        took: by system.
    """

    measure: str
    table: Table
    others: Mapping[str, Mapping[str, float]]
    ran: Sequence[Ran]
    took: Mapping[str, Took]


def took(ran: Sequence[Ran], systems: Sequence[str]) -> dict[str, Took]:
    """Return what each system takes: the mean over collections of dollars, the median over them of medians and 95th percentiles."""
    found = {}
    for system in systems:
        taken = [one.taken[system] for one in ran if system in one.taken]
        dollars = [1000 * t.dollars / one.counts["test"] for one in ran if (t := one.taken.get(system)) and t.dollars is not None]
        median, p95 = ([1000 * getattr(t, name) for t in taken] for name in ("median", "p95"))
        asked = len(taken) == len(ran)
        found[system] = Took(
            float(np.mean(dollars)) if dollars and len(dollars) == len(ran) else None,
            float(np.median(median)) if asked else None,
            float(np.median(p95)) if asked else None,
        )
    if JUDGES in found and any(one.dollars for one in ran):
        # They judged the training questions too, in the same number of pairs each.
        each = [1000 * one.dollars / (one.counts["train"] + one.counts["test"]) for one in ran]
        found[JUDGES] = Took(float(np.mean(each)), None, None)
    return found


def to_json(result: Result) -> str:
    """Return everything but single questions."""
    data: dict[str, Any] = {
        "measure": result.measure,
        "baseline": result.table.baseline,
        "collections": [
            {"name": r.name, "domain": r.domain, **r.counts, "judges_dollars": r.dollars, "seconds": round(r.seconds, 1)}
            for r in result.ran
        ],
        "cells": [asdict(cell) for cell in result.table.cells.values()],
        "other_measures": result.others,
        "took": {system: asdict(what) for system, what in result.took.items()},
    }
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def to_markdown(result: Result) -> str:
    """Return the tables, and how to read them."""
    table = result.table
    lines = [f"# {result.measure} per domain", "", _row(["", "questions", *map(_escaped, table.systems)]), _rule(2, len(table.systems))]
    for place in table.places:
        cells = [table.cell(system, place) for system in table.systems]
        lines.append(_row([_escaped(label(table, place)), f"{cells[0].queries:,}", *(_cell_text(cell, place == MEAN) for cell in cells)]))
    lines += [_row(["$ per 1,000 questions", "", *(_dollars(result.took[s]) for s in table.systems)])]
    lines += [_row(["ms of a question, median (95 %)", "", *(_times(result.took[s]) for s in table.systems)])]
    lines += ["", *legend(result), ""]
    if result.others:
        lines += [_row(["mean over domains", *map(_escaped, table.systems)]), _rule(1, len(table.systems))]
        lines += [_row([m, *(f"{of[s]:.3f}" for s in table.systems)]) for m, of in result.others.items()]
        lines.append("")
    lines += [_row(["collection", "domain", "documents", "training questions", "test questions"]), "|---|---|---:|---:|---:|"]
    counts = ("documents", "train", "test")
    lines += [_row([_escaped(r.name), _escaped(r.domain), *(f"{r.counts[n]:,}" for n in counts)]) for r in result.ran]
    return "\n".join(lines) + "\n"


def to_terminal(result: Result) -> str:
    """Return the table for a terminal: values with their marks, then the differences of the means."""
    table = result.table
    rows = [["", "questions", *table.systems]]
    for place in table.places:
        cells = [table.cell(system, place) for system in table.systems]
        rows.append([label(table, place), f"{cells[0].queries:,}", *(f"{cell.value:.3f}{_mark(cell)}" for cell in cells)])
    rows.append(["$ per 1,000 questions", "", *(_dollars(result.took[s]) for s in table.systems)])
    rows.append(["ms of a question", "", *(_times(result.took[s]) for s in table.systems)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{result.measure}", ""]
    for row in rows:
        texts = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(texts).rstrip())
    lines.append("")
    for system in table.systems:
        cell = table.cell(system, MEAN)
        if cell.p_value is not None:
            lines.append(f"{system}, {MEAN}: {_difference(cell)} against {table.baseline}")
    return "\n".join([*lines, "", *(line for sentence in legend(result) for line in wrap(sentence, 100))]) + "\n"


def legend(result: Result) -> list[str]:
    """Return how to read the table, in sentences."""
    against = result.table.baseline
    refusals = [f"{s} refused {t.refused} questions of {r.name}" for r in result.ran for s, t in r.taken.items() if t.refused]
    refused = [f"{'; '.join(refusals)}: these keep the order of the first stage."] if refusals else []
    if not against:
        return ["Intervals: 95 % bootstrap over questions, within each collection.", *refused]
    return [
        f"Compared with {against}: paired randomization test, corrected (Holm) for the systems in the mean, for systems and collections "
        f"in the rows; * = p below {ALPHA:g}. Intervals: 95 % bootstrap over questions, within each collection; they say nothing about "
        "other collections.",
        "Milliseconds: one question after the other on this machine, of systems that were asked here; vectors of the corpus are stored. "
        "Dollars: by the recipe's prices.",
        *refused,
    ]


def label(table: Table, place: str) -> str:
    """Return how a row is called: its domain, and its collection if that is another word."""
    domain = table.domains.get(place, place)
    return place if domain == place else f"{domain} ({place})"


def _cell_text(cell: Cell, is_mean: bool) -> str:
    value = f"**{cell.value:.3f}**" if is_mean else f"{cell.value:.3f}"
    text = f"{value}{_mark(cell)} [{cell.low:.3f}, {cell.high:.3f}]"
    return text if cell.p_value is None else f"{text}<br>{_difference(cell)}"


def _difference(cell: Cell) -> str:
    low, high = signed(cell.difference_low or 0.0), signed(cell.difference_high or 0.0)
    return f"{signed(cell.difference or 0.0)} [{low}, {high}], {p_text(cell.p_value or 0.0)}"


def _mark(cell: Cell) -> str:
    return "*" if cell.p_value is not None and cell.p_value < ALPHA else ""


def _dollars(what: Took) -> str:
    return "" if what.dollars is None else f"{what.dollars:.2f}"


def _times(what: Took) -> str:
    return "" if what.median is None or what.p95 is None else f"{what.median:.0f} ({what.p95:.0f})"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(words: int, numbers: int) -> str:
    return f"|{'---|' * words}{'---:|' * numbers}"
