"""The page of `zelo watch`: charts and failures in one self-contained file, in the style of the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zelo.report import figures
from zelo.report.page import clean, dollars, number, snippet
from zelo.watching.drift import CHARTS, Chart
from zelo.watching.sorting import KINDS
from zelo.workspace import Workspace

if TYPE_CHECKING:
    from zelo.watching.running import Watched

_TEMPLATES = (Path(__file__).parent / "templates", Path(__file__).parents[1] / "report" / "templates")
SHOWN = 40
"""Failed searches on the page, the newest first; failures.jsonl has all."""


@dataclass(frozen=True)
class Drawn:
    """A chart in a plot of 1000 x 200 units: SVG paths, and the labels of its axes."""

    chart: Chart
    axis: figures.Axis
    values: str
    alarms: str
    ewma: str
    limit: str
    ordinary: float
    first: str
    last: str


def render(workspace: Workspace, found: Watched, summary: Mapping[str, Any]) -> str:
    """Return the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES, encoding="utf-8"),
        autoescape=True,  # queries and ids are strangers' texts
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({"f3": number, "dollars": dollars, "clean": clean, "snippet": snippet})
    page = environment.get_template("watch.html").render(
        name=workspace.root.resolve().name,
        drift=found.drift,
        sealed=found.sealed,
        summary=summary,
        kinds=KINDS,
        about=CHARTS,
        charts=[draw(chart) for chart in found.drift.charts.values()],
        failures=sorted(found.drift.failures, key=lambda f: f.day, reverse=True)[:SHOWN],
        settings=workspace.recipe.watch,
    )
    return page.rstrip() + "\n"


def draw(chart: Chart) -> Drawn:
    """Lay out a chart: a dot per day, the moving average and its limit after the baseline."""
    values = [*chart.before, *(p.value for p in chart.points)]
    scale = figures.axis([*values, chart.level.mean, *(p.limit for p in chart.points)], ticks=4)
    step, first = 1000.0 / max(len(values), 1), len(chart.before)

    def at(i: int, value: float) -> str:
        return f"{(i + 0.5) * step:.1f} {200.0 - 2.0 * scale.at(value):.1f}"

    dots = {
        alarm: "".join(f"M{at(i, v)}h0" for i, v in enumerate(values) if _alarmed(chart, i - first) == alarm) for alarm in (False, True)
    }
    lines = [
        "M" + "L".join(at(first + i, getattr(p, name)) for i, p in enumerate(chart.points)) if chart.points else ""
        for name in ("ewma", "limit")
    ]
    days = (*chart.baseline_days, *chart.days)
    ordinary = 200.0 - 2.0 * scale.at(chart.level.mean)
    return Drawn(chart, scale, dots[False], dots[True], lines[0], lines[1], ordinary, days[0], days[-1])


def _alarmed(chart: Chart, place: int) -> bool:
    return place >= 0 and chart.points[place].alarm
