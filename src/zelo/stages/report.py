"""report: one page for people, a single file that needs no network."""

from __future__ import annotations

from zelo.pipeline import Context, Outcome
from zelo.report.page import render


def run(context: Context) -> Outcome:
    """Write report/index.html."""
    page = render(context)
    context.write("report").write_text(page, "utf-8")
    return Outcome({"bytes": len(page.encode())})
