"""From what was found to the files of a bench."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from zelo.bench.collections_file import Bench
from zelo.bench.domains import make_table, mean_over_domains
from zelo.bench.page import render
from zelo.bench.running import Ran
from zelo.bench.writing import Result, to_json, to_markdown, took
from zelo.workspace import writable


def summarize(ran: Sequence[Ran], bench: Bench) -> Result:
    """Make the table of the first measure, and the means of the others.

    Raises:
        InputError: the baseline was not measured everywhere.
    """
    recipe = bench.entries[0].recipe
    domains = {one.name: one.domain for one in ran}
    measures = [m for m in ran[0].values if all(m in one.values for one in ran)]
    first = measures[0]
    table = make_table({r.name: r.values[first] for r in ran}, domains, bench.baseline, recipe.evaluate.resamples, recipe.seed)
    others = {m: {s: mean_over_domains({r.name: r.values[m][s] for r in ran}, domains) for s in table.systems} for m in measures[1:]}
    return Result(first, table, others, ran, took(ran, table.systems))


def write_results(result: Result, folder: Path) -> None:
    """Write bench.json, bench.md and index.html; each is there whole, or as it was."""
    files = {"bench.json": to_json(result), "bench.md": to_markdown(result), "index.html": render(result)}
    with writable(folder):
        for name, text in files.items():
            partial = folder / f".{name}.partial"
            partial.write_text(text, "utf-8")
            os.replace(partial, folder / name)
