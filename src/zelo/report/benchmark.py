"""The page of a benchmark: standings through a template into one self-contained file."""

from __future__ import annotations

from pathlib import Path

from zelo.pipeline import Context
from zelo.recipe import to_toml
from zelo.report import figures
from zelo.report.page import clean, dollars, number, seconds
from zelo.report.standings import Standings, headline, money, read_standings, warnings
from zelo.report.verdict import ALPHA, p_text, signed


def render_benchmark(context: Context) -> str:
    """Return the page. The same standings and recipe give the same page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        {
            "f3": number,
            "signed": signed,
            "p": p_text,
            "clean": clean,
            "seconds": seconds,
            "dollars": dollars,
            "money": money,
            "percent": _percent,
        }
    )
    found = read_standings(context.read("standings"))
    return environment.get_template("benchmark.html").render(
        found=found,
        headline=headline(found),
        warnings=list(warnings(found)),
        axis=figures.axis([v for row in found.systems for v in (row.low, row.high)]),
        collection=Path(context.recipe.ingest.collection).name,
        alpha=ALPHA,
        names=[row.system for row in found.systems],
        sides=_sides(found),
        recipe=to_toml(context.recipe),
    )


def _percent(share: float | None) -> str:
    return "\N{EN DASH}" if share is None else f"{100 * share:.0f} %"


def _sides(found: Standings) -> dict[tuple[str, str], object]:
    return {(view.judge, side.system): side for view in found.judges for side in view.sides}
