"""The rounds of refinement side by side: as lines for a terminal, and as cells for the page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zelo.report.verdict import p_text, signed

_HEADER = ("round", "pairs added", "US dollars", "measure", "value", "95 % interval", "difference", "95 % interval", "p")


@dataclass(frozen=True)
class Round:
    """One round: the pairs that were added in it, what it cost in US dollars, and measure -> row of report/refinement.jsonl."""

    number: int
    added: int
    dollars: float
    measures: Mapping[str, Mapping[str, Any]]


def read_rounds(path: Path) -> list[Round]:
    """Read report/refinement.jsonl; the first round is number 0, and none has measures where no test question is labeled."""
    found: dict[int, Round] = {}
    for row in _rows(path):
        number = int(row["round"])
        earlier = found[number].measures if number in found else {}
        measures = {**earlier, str(row["measure"]): row} if "measure" in row else earlier
        found[number] = Round(number, int(row["added"]), float(row["dollars"]), measures)
    return [found[number] for number in sorted(found)]


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def round_lines(path: Path) -> Iterator[str]:
    """Yield report/refinement.jsonl as a table; differences and p values are against the round before."""
    rows = _rows(path)
    table = [_HEADER, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    yield ""
    for cells in table:
        yield "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
    yield ""
    yield "Rounds of refinement: the student on the test questions. p: paired randomization test against the round before."


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    cells = [str(row["round"]), f"{row['added']:,}" if row["round"] else "", f"{row['dollars']:.2f}"]
    if "measure" in row:
        cells += [row["measure"], f"{row['value']:.3f}", _interval(f"{row['low']:.3f}", f"{row['high']:.3f}")]
    if "difference" in row:
        cells += [signed(row["difference"]), _interval(signed(row["difference_low"]), signed(row["difference_high"]))]
        cells.append(p_text(row["p_value"]).removeprefix("p ").removeprefix("= "))
    return (*cells, *("" for _ in range(len(_HEADER) - len(cells))))


def _interval(low: str, high: str) -> str:
    return f"{low} to {high}"
