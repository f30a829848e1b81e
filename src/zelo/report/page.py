"""The page: facts and examples through a template into one self-contained file."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zelo.artifacts import read_table
from zelo.core.audit import OUTLIER
from zelo.judges import JUDGES
from zelo.pipeline import Context
from zelo.recipe import to_toml
from zelo.report import figures
from zelo.report.examples import Example, choose, load
from zelo.report.facts import Facts
from zelo.report.measured import KENDALL, PAIRWISE
from zelo.report.verdict import ALPHA, name_of, p_text, signed

if TYPE_CHECKING:
    from jinja2 import Environment

SNIPPET = 260  # characters of a document
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

MEASURE_NAMES = {
    KENDALL: "Kendall \N{GREEK SMALL LETTER TAU}-b",
    PAIRWISE: "Pairs in order",
}


def render(context: Context) -> str:
    """Return the page. The same artifacts and manifest give the same page."""
    facts = Facts(context)
    examples = load(facts, choose(facts, context.recipe.report.examples))
    page = (
        environment()
        .get_template("page.html")
        .render(
            facts=facts,
            verdict=facts.verdict,
            examples=examples,
            figures=figures,
            alpha=ALPHA,
            judged_measure=next((m for m in facts.measures if m.startswith("judged@")), None),
            agreement_measures=(KENDALL, PAIRWISE),
            offline_judges=tuple(JUDGES),
            outlier_bound=OUTLIER,
            systems_axis=_systems_axis(facts),
            gain_bars=figures.gain_bars(facts.gains, {q: clean(t) for q, t in facts.query_texts.items()}) if facts.gains else None,
            strip=_strip(facts, examples),
            bins=facts.target_bins(),
            reliability=figures.chances(facts.reliability) if facts.reliability else None,
            health=_health(facts),
            recipe=to_toml(context.recipe),
        )
    )
    return page.rstrip() + "\n"


def environment(*folders: Path) -> Environment:
    """Return what fills templates, those of these folders before the report's own; every text is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent / "templates"], encoding="utf-8"),
        autoescape=True,  # in every file: documents hold markup
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        {"f3": number, "signed": signed, "p": p_text, "seconds": seconds, "dollars": dollars, "snippet": snippet, "clean": clean,
         "name": name_of, "measure": lambda m: MEASURE_NAMES.get(m, m), "grade": grade}
    )  # fmt: skip
    return found


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with a true minus, a dash for none."""
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def seconds(value: float) -> str:
    """Return a duration as people say it."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def dollars(value: float) -> str:
    """Return a price: cents, and fractions of a cent only where there is nothing else."""
    return "$0" if value == 0 else f"${value:,.2f}" if value >= 0.01 else f"${value:.4f}"


def grade(value: float) -> str:
    """Return a label: whole numbers without a point."""
    return f"{value:g}"


def clean(text: str) -> str:
    """Return text on one line, without control characters, which HTML cannot hold."""
    return " ".join(_CONTROL.sub(" ", text).split())


def snippet(text: str, limit: int = SNIPPET) -> str:
    """Return the beginning of a text, cut between words where it has any."""
    line = clean(text[: 4 * limit])
    if len(line) <= limit:
        return line
    cut = line[:limit].rsplit(" ", 1)[0]
    return (cut if len(cut) > limit // 2 else line[:limit]).rstrip(" ,.;:") + "\N{HORIZONTAL ELLIPSIS}"


def _systems_axis(facts: Facts) -> figures.Axis | None:
    rows = [row for row in facts.rows if row.measure == facts.measure]
    return figures.axis([v for row in rows for v in (row.low, row.high)]) if rows else None


def _strip(facts: Facts, examples: list[Example]) -> tuple[str, figures.Strip, int] | None:
    """The scores of the first typical question (or else any other one) that the judges scored: its text, the plot, how many."""
    table = read_table(facts.context.read("scores"), "scores", ("query_id", "doc_id", "score", "stderr"))
    scored = set(table["query_id"])
    wanted = [e.query_id for e in sorted(examples, key=lambda e: e.kind != "typical")] + table["query_id"][:1]
    query_id = next((q for q in wanted if q in scored), None)
    if query_id is None:
        return None
    labels = facts.qrels.get(query_id, {})
    rows = [i for i, q in enumerate(table["query_id"]) if q == query_id]
    points = [(float(table["score"][i]), float(table["stderr"][i]), labels.get(table["doc_id"][i], 0.0) > 0) for i in rows]
    return facts.query_texts.get(query_id, query_id), figures.score_strip(points), len(points)


def _health(facts: Facts) -> dict[str, float]:
    """Comparison graphs and fits in a few numbers."""
    graphs, fits = facts.graphs, facts.fits
    health: dict[str, float] = {"graphs": len(graphs["query_id"]), "fits": len(fits["query_id"])}
    if health["graphs"]:
        resistance = np.asarray(graphs["mean_resistance"], np.float64)
        health |= {
            "documents": float(np.mean(graphs["documents"])),
            "pairs": int(np.sum(graphs["pairs"])),
            "min_degree": int(np.min(graphs["min_degree"])),
            "max_degree": int(np.max(graphs["max_degree"])),
            "diameter": int(np.max(graphs["diameter"])),
            "resistance": float(resistance[np.isfinite(resistance)].mean()) if np.isfinite(resistance).any() else math.nan,
            "split": int(np.sum(np.asarray(graphs["components"]) > 1)),
        }
    if health["fits"]:
        health |= {
            "iterations": float(np.median(fits["iterations"])),
            "most_iterations": int(np.max(fits["iterations"])),
            "gradient": float(np.max(fits["gradient_norm"])),
            "separated": int(np.sum(fits["separated"])),
        }
    return health
