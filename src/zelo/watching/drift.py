"""Judged days on control charts: what is ordinary, what has left it, since when, and which kind of failure explains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zelo.core.control_charts import Baseline, Day, Point, Side, baseline, changed_since, ewma_chart, summarize
from zelo.recipe import Watch
from zelo.watching.sorting import KINDS, Failure, sort_row

CHARTS: dict[str, tuple[str, Side]] = {
    "quality": ("share of comparisons that what was returned wins against what else was found", "below"),
    "level": ("share of good answers elsewhere that the best document is better than", "below"),
    **{kind: (f"share of searches that failed: {text}", "above") for kind, text in KINDS.items()},
}
_EXPLAINS = {"level": "never_ingested"}


@dataclass(frozen=True)
class Chart:
    """One figure over the days. `days` are those of `points`, after the baseline; `before` are the baseline's daily means.

    `judge_error` is the standard error of one search's figure by the disagreement of its judges, averaged over the baseline.
    """

    name: str
    about: str
    level: Baseline
    baseline_days: tuple[str, ...]
    before: tuple[float, ...]
    days: tuple[str, ...]
    points: tuple[Point, ...]
    since: str | None
    judge_error: float | None

    @property
    def alarm(self) -> bool:
        """Whether the last day is one."""
        return bool(self.points) and self.points[-1].alarm


@dataclass(frozen=True)
class Failed:
    """A failed search of a day, with its row."""

    day: str
    failure: Failure
    row: Mapping[str, Any]

    @property
    def better(self) -> str:
        """The first words of the document that should have been on top, or of the best there is; "" where nobody here has its text."""
        return self._words(self.failure.doc_id or str(self.row["best"]))

    @property
    def first(self) -> str:
        """The first words of what was returned first, as far as known."""
        return self._words(self.row["head"][0]) if self.row["head"] else ""

    def _words(self, doc_id: str) -> str:
        return str(self.row.get("words", {}).get(doc_id, ""))


@dataclass(frozen=True)
class Drift:
    """What the days say.

    Attributes:
        days: all that count, in order.
        left_out: days judged by other judges or in another way, before `watch.baseline_from`, or with too few searches.
        wanting: days that the baseline still needs; then there are no charts.
        charts: by name.
        failures: all failed searches.
        floor: the level at or below which nothing is good enough.
    """

    days: tuple[str, ...]
    left_out: int
    wanting: int
    charts: Mapping[str, Chart]
    failures: tuple[Failed, ...]
    floor: float | None

    @property
    def alarms(self) -> list[Chart]:
        """Charts in alarm on the last day, farthest beyond their limits first."""
        return sorted((c for c in self.charts.values() if c.alarm), key=lambda c: -c.points[-1].z)

    @property
    def kinds(self) -> list[str]:
        """The kinds of failure that explain the alarms, the surest first."""
        names = (_EXPLAINS.get(chart.name, chart.name) for chart in self.alarms)
        return list(dict.fromkeys(name for name in names if name in KINDS))

    @property
    def likely(self) -> str | None:
        """The kind that explains the alarms best; where only the quality is in alarm, the kind that moved most, if one did at all."""
        if self.kinds or not self.alarms:
            return self.kinds[0] if self.kinds else None
        moved = [(c.points[-1].z, _EXPLAINS.get(c.name, c.name)) for c in self.charts.values() if c.name != "quality" and c.points]
        z, kind = max(moved, default=(0.0, ""))
        return kind if z > 1.0 else None


def assess(sealed: Mapping[str, Mapping[str, Any]], settings: Watch) -> Drift:
    """Put judged days on charts.

    Only days that were judged in the same way compare: those since the judges, their prompts or weights, the student, or what is
    compared (`setup` of a record) last changed. Days with fewer than `settings.fewest` judged searches are left out.

    Args:
        sealed: day -> record, in order.
        settings: of the recipe.
    """
    chosen = [day for day in sealed if day >= settings.baseline_from]
    fewest = min(settings.fewest, settings.per_day)
    chosen = [day for day in chosen if len(sealed[day]["rows"]) >= fewest]
    ways = [(sealed[day]["judges"], sealed[day].get("setup")) for day in chosen]
    start = next((i + 1 for i in range(len(ways) - 1, -1, -1) if ways[i] != ways[-1]), 0)
    days = chosen[start:]
    left_out = len(sealed) - len(days)
    ordinary = days[: settings.baseline_days]
    wanting = max(0, settings.baseline_days - len(ordinary))
    floor = None if wanting else _floor([row for day in ordinary for row in sealed[day]["rows"]], settings.poor)
    failures = {day: [(row, sort_row(row, settings.win, floor, settings.depth)) for row in sealed[day]["rows"]] for day in days}
    listed = tuple(Failed(day, failure, row) for day in days for row, failure in failures[day] if failure is not None)
    charts = {} if wanting else {n: c for n in CHARTS if (c := _chart(n, days, failures, settings)) is not None}
    return Drift(tuple(days), left_out, wanting, charts, listed, floor)


def _floor(rows: Sequence[Mapping[str, Any]], poor: float) -> float | None:
    """Return the level that a share of the baseline's searches do not exceed."""
    levels = [row["level"] for row in rows if row["level"] is not None]
    return float(np.quantile(levels, poor, method="lower")) if levels and poor > 0 else None


def _chart(
    name: str, days: Sequence[str], failures: Mapping[str, Sequence[tuple[Mapping[str, Any], Failure | None]]], settings: Watch
) -> Chart | None:
    about, side = CHARTS[name]
    if name == "unplaced" and all(row["candidates_logged"] for day in days for row, _ in failures[day]):
        return None
    found: list[tuple[str, Day, float | None]] = []
    for day in days:
        values, weights, noise = [], [], []
        for row, failure in failures[day]:
            value = row[name] if name in row else float(failure is not None and failure.kind == name)
            if value is not None:
                values.append(value)
                weights.append(row["weight"])
                noise.append(row["noise"] if name == "quality" else None)
        if values and sum(weights) > 0:
            known = [n for n in noise if n is not None]
            found.append((day, summarize(values, np.array(weights) / sum(weights)), float(np.mean(known)) if known else None))
    ordinary = [item for item in found if item[0] in days[: settings.baseline_days]]
    after = found[len(ordinary) :]
    if len(ordinary) < 2:
        return None
    level = baseline([day for _, day, _ in ordinary], share=name in KINDS)
    points = ewma_chart([day for _, day, _ in after], level, side=side, memory=settings.memory, width=settings.width)
    since = changed_since(points, level, side)
    noises = [noise for *_, noise in ordinary if noise is not None]
    return Chart(
        name,
        about,
        level,
        tuple(day for day, *_ in ordinary),
        tuple(day.mean for _, day, _ in ordinary),
        tuple(day for day, *_ in after),
        tuple(points),
        None if since is None else after[since][0],
        float(np.mean(noises)) ** 0.5 if noises else None,
    )
