"""The table at the end of `zelo run` and `zelo demo`: systems and measures, and the verdict in one sentence. It fits in 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zelo.report.measured import KENDALL, PAIRWISE, Measured, find, in_order, read_measured
from zelo.report.verdict import ALPHA, Verdict, decide, p_text, signed

if TYPE_CHECKING:
    from rich.console import RenderableType

    from zelo.workspace import Workspace


def summary_table(workspace: Workspace) -> RenderableType:
    """Return what was measured, to print with rich; plain and narrow enough for a log file.

    Raises:
        InputError: metrics.jsonl is damaged.
        FileNotFoundError: `evaluate` has not run.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = read_measured(workspace.path("metrics"))
    verdict = decide(rows)
    sentence = Text(f"{verdict.headline} {verdict.sentence}")
    measures = [m for m in dict.fromkeys(row.measure for row in rows) if m not in (KENDALL, PAIRWISE) and not m.startswith("judged@")]
    if not measures:
        return sentence
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("system")
    for i, measure in enumerate(measures):
        table.add_column(measure, justify="right")
        if i == 0:
            table.add_column("95 % interval", justify="right")
            table.add_column("difference", justify="right")
            table.add_column("p", justify="right")
    for system in in_order(row.system for row in rows):
        cells = [_cells(find(rows, system, measure), is_first=i == 0) for i, measure in enumerate(measures)]
        best = verdict.row is not None and system == verdict.row.system
        table.add_row(system, *(text for cell in cells for text in cell), style="bold" if best else "")
    return Group(table, Text(""), sentence, Text(footnote(verdict), style="dim"))


def print_summary(workspace: Workspace) -> None:
    """Write `summary_table` to standard output."""
    import sys

    from rich.console import Console

    if sys.stdout.isatty():
        Console(highlight=False).print(summary_table(workspace))
    else:
        sys.stdout.write(summary_text(workspace) + "\n")


def summary_text(workspace: Workspace, width: int = 100) -> str:
    """Return `summary_table` as plain text."""
    from io import StringIO

    from rich.console import Console

    console = Console(file=StringIO(), width=width, color_system=None, force_terminal=False)
    console.print(summary_table(workspace))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in lines)


def footnote(verdict: Verdict) -> str:
    """Return how to read the marks of the table."""
    if verdict.baseline is None:
        return ""
    return (
        f"p: paired randomization test against {verdict.baseline.system}, the best first stage, corrected for the number of systems; "
        f"* = below {ALPHA:g}."
    )


def _cells(row: Measured | None, *, is_first: bool) -> list[str]:
    if row is None:
        return ["", "", "", ""] if is_first else [""]
    mark = "*" if row.p_value is not None and row.p_value < ALPHA else " "
    if not is_first:
        return [f"{row.value:.3f}{mark}"]
    difference = "baseline" if row.baseline == row.system else "" if row.difference is None else signed(row.difference)
    p_value = "" if row.p_value is None else f"{p_text(row.p_value).removeprefix('p ').removeprefix('= ')}{mark}"
    return [f"{row.value:.3f}", f"{row.low:.3f}\N{EN DASH}{row.high:.3f}", difference, p_value]
