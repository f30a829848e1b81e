"""Geometry of the plots. The template draws them as HTML and SVG that follow the page's width, font and colors, light or dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zelo.core.reliability_diagram import Diagram
from zelo.report.facts import TIE

MAX_BARS = 600
"""More questions than this are thinned out evenly: the eye sees no more, and the page stays small."""


@dataclass(frozen=True)
class Axis:
    """A linear scale with round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]
    digits: int

    def at(self, value: float) -> float:
        """Return the place of a value in percent of the axis, kept inside."""
        return round(100.0 * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0), 3)

    def label(self, tick: float) -> str:
        """Return a tick's text."""
        return f"{tick:.{self.digits}f}".replace("-", "\N{MINUS SIGN}")


def axis(values: Sequence[float], *, ticks: int = 5, pad: float = 0.06) -> Axis:
    """Return a scale that holds all values with some room, and about so many ticks."""
    finite = [v for v in values if math.isfinite(v)] or [0.0]
    low, high = min(finite), max(finite)
    spread = (high - low) or max(abs(high), 1.0) * 0.1
    low, high = low - pad * spread, high + pad * spread
    step = _round_step((high - low) / max(ticks, 1))
    first = math.ceil(low / step - 1e-9)
    places = [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]
    return Axis(low, high, tuple(round(p, 10) + 0.0 for p in places), max(0, -math.floor(math.log10(step) + 1e-9)))


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= rough * 0.999)


@dataclass(frozen=True)
class Bar:
    """A rectangle in a plot of 1000 x 200 units. `kind` is "gain", "loss" or "tie"."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str = ""


@dataclass(frozen=True)
class Bars:
    """Per-question gains, largest first, around a zero line at `zero` (in the units of the plot)."""

    bars: tuple[Bar, ...]
    axis: Axis
    zero: float


def gain_bars(gains: Mapping[str, float], titles: Mapping[str, str]) -> Bars:
    """Lay out the gains as bars; a tooltip names the question."""
    items = list(gains.items())
    if len(items) > MAX_BARS:
        items = [items[round(i * (len(items) - 1) / (MAX_BARS - 1))] for i in range(MAX_BARS)]
    scale = axis([0.0, *(v for _, v in items)], ticks=8, pad=0.04)
    zero = _down(scale, 0.0)
    step = 1000.0 / max(len(items), 1)
    bars = []
    for i, (query_id, value) in enumerate(items):
        kind = "gain" if value > TIE else "loss" if value < -TIE else "tie"
        top, bottom = sorted((_down(scale, value), zero)) if kind != "tie" else (zero - 1.0, zero + 1.0)
        title = f"{titles.get(query_id, query_id)[:120]}: {value:+.3f}".replace("-0", "\N{MINUS SIGN}0")
        bars.append(Bar(round(i * step + 0.1 * step, 2), round(top, 2), round(0.8 * step, 2), round(bottom - top, 2), kind, title))
    return Bars(tuple(bars), scale, round(zero, 2))


def _down(scale: Axis, value: float) -> float:
    return 200.0 - 2.0 * scale.at(value)


@dataclass(frozen=True)
class Strip:
    """Scores of one query, best first: SVG path data for error bars, for dots of relevant documents and for all other dots."""

    error_bars: str
    relevant: str
    other: str
    axis: Axis


def score_strip(scores: Sequence[tuple[float, float, bool]]) -> Strip:
    """Lay out (score, standard error, relevant) of a query's documents, with 95 % error bars."""
    ordered = sorted(scores, key=lambda s: -s[0])
    scale = axis([v for s, e, _ in ordered for v in (s - 1.96 * e, s + 1.96 * e)], ticks=4, pad=0.03)
    step = 1000.0 / max(len(ordered), 1)
    bars, dots = [], {True: "", False: ""}
    for i, (score, stderr, relevant) in enumerate(ordered):
        x = round((i + 0.5) * step, 2)
        bars.append(f"M{x} {_down(scale, score + 1.96 * stderr):.2f}V{_down(scale, score - 1.96 * stderr):.2f}")
        dots[relevant] += f"M{x} {_down(scale, score):.2f}h0"
    return Strip("".join(bars), dots[True], dots[False], scale)


@dataclass(frozen=True)
class ChancePoint:
    """A bin of a reliability diagram, in percent: mean score across, share relevant up, with its interval."""

    x: float
    y: float
    low: float
    high: float
    count: int
    range: str


@dataclass(frozen=True)
class Chances:
    """A reliability diagram without its empty bins, and its expected calibration error."""

    points: tuple[ChancePoint, ...]
    error: float


def chances(diagram: Diagram) -> Chances:
    """Lay out a reliability diagram."""
    bins = len(diagram.count)
    points = []
    for b in range(bins):
        if diagram.count[b]:
            x, y, low, high = (round(100 * float(of[b]), 2) for of in (diagram.mean_score, diagram.share, diagram.low, diagram.high))
            points.append(ChancePoint(x, y, low, high, int(diagram.count[b]), f"{b / bins:g}\N{EN DASH}{(b + 1) / bins:g}"))
    return Chances(tuple(points), diagram.error)


def histogram(counts: Sequence[float | None]) -> list[float | None]:
    """Return heights in percent of the highest one, None where there is nothing to show."""
    top = max((c for c in counts if c is not None), default=0.0) or 1.0
    return [None if c is None else round(100.0 * c / top, 2) for c in counts]


def shade(value: float, low: float, high: float = 1.0) -> int:
    """Return how strongly to color a cell of a heat map, in percent; at most 60, so that its number stays readable."""
    if not math.isfinite(value) or high <= low:
        return 0
    return round(60 * min(max((value - low) / (high - low), 0.0), 1.0))
