"""report: one page for people, a single file that needs no network."""

from __future__ import annotations

from zelo.pipeline import Context, Outcome
from zelo.report.benchmark import render_benchmark
from zelo.report.page import render


def run(context: Context) -> Outcome:
    """Write report/index.html: what came of the line."""
    page = render_benchmark(context) if context.recipe.line == "benchmark" else render(context)
    context.write("report").write_text(page, "utf-8")
    return Outcome({"bytes": len(page.encode())})
