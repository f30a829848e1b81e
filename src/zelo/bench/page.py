"""The page of a bench: bars per domain, latency against quality, the table, and the questions that moved most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zelo.bench.domains import MEAN, Cell, Table
from zelo.bench.moved import movement
from zelo.bench.writing import Result, Took, label, legend
from zelo.pipeline import Context
from zelo.progress import Silent
from zelo.report.figures import Axis, axis
from zelo.report.measured import FIRST_STAGE, STUDENT
from zelo.report.page import environment
from zelo.report.verdict import ALPHA
from zelo.workspace import Workspace

LINE = 9.0
"""Height of a name, in percent of the plot's."""
NEAR = 40.0
"""Points that are nearer than so many percent of the width may have names that meet."""


@dataclass(frozen=True)
class Point:
    """A system in the plot of latency against quality; places in percent, from the left and from the bottom; `tag` is its name's height."""

    system: str
    x: float
    y: float
    low: float
    high: float
    milliseconds: float
    value: float
    tag: float = 0.0

    @property
    def leftwards(self) -> bool:
        """Whether its name stands left of it."""
        return self.x > 55


@dataclass(frozen=True)
class Plot:
    """Milliseconds of a question (logarithmic) against the mean over domains; the baseline is a line, as its time is not known."""

    points: tuple[Point, ...]
    across: tuple[tuple[float, str], ...]
    down: Axis
    line: float | None


def render(result: Result) -> str:
    """Return the page, one file that loads nothing."""
    table = result.table
    page = environment(Path(__file__).parent / "templates").get_template("bench.html").render(
        result=result,
        table=table,
        mean=MEAN,
        alpha=ALPHA,
        label=label,
        legend=legend(result),
        kind={system: _kind(system, table) for system in table.systems},
        plot=latency_plot({s: table.cell(s, MEAN) for s in table.systems}, result.took, table.baseline),
        movements=_movements(result),
        student=STUDENT,
    )  # fmt: skip
    return page.rstrip() + "\n"


def _kind(system: str, table: Table) -> str:
    return "final" if system == STUDENT else "baseline" if system == table.baseline else "first" if system in FIRST_STAGE else "other"


def _movements(result: Result) -> list[tuple[str, object]]:
    """Per collection, what the student did to its questions."""
    baseline = result.table.baseline
    if STUDENT not in result.table.systems or not baseline:
        return []
    found: list[tuple[str, object]] = []
    for ran in result.ran:
        workspace, values = Workspace.open(ran.root), ran.values[result.measure]
        context = Context(workspace, workspace.recipe, workspace.root, Silent())
        found.append((label(result.table, ran.name), movement(context, values[baseline], values[STUDENT], baseline)))
    return found


def latency_plot(means: Mapping[str, Cell], took: Mapping[str, Took], baseline: str) -> Plot | None:
    """Lay out the systems whose time is known; None if there is none."""
    timed = [(s, max(float(t.median), 0.01)) for s, t in took.items() if t.median is not None]
    if not timed:
        return None
    shown = [means[s] for s, _ in timed] + ([means[baseline]] if baseline else [])
    down = axis([v for cell in shown for v in (cell.low, cell.high)])
    low = math.floor(math.log10(min(ms for _, ms in timed)) - 0.15)
    high = max(math.ceil(math.log10(max(ms for _, ms in timed)) + 0.15), low + 1)
    points = []
    for system, ms in timed:
        cell = means[system]
        x = 100.0 * (math.log10(ms) - low) / (high - low)
        points.append(Point(system, round(x, 2), down.at(cell.value), down.at(cell.low), down.at(cell.high), ms, cell.value))
    ticks = [(round(100.0 * (power - low) / (high - low), 2), _milliseconds(10.0**power)) for power in range(low, high + 1)]
    return Plot(_tagged(points), tuple(ticks), down, down.at(means[baseline].value) if baseline else None)


def _tagged(points: Sequence[Point]) -> tuple[Point, ...]:
    """Move names apart that would lie on each other, in the order of the points' heights."""
    placed: list[Point] = []
    for point in sorted(points, key=lambda p: p.y):
        near = [p.tag for p in placed if p.leftwards == point.leftwards and abs(p.x - point.x) < NEAR]
        placed.append(replace(point, tag=round(max([point.y, *(tag + LINE for tag in near)]), 3)))
    return tuple(placed)


def _milliseconds(value: float) -> str:
    return f"{value:g} ms" if value < 1000 else f"{value / 1000:g} s"
