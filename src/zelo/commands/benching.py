"""The command that runs one recipe over several collections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from zelo.commands.base import SET, changed, told
from zelo.commands.comparing import SYSTEM


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the workspaces and the results.  [default: workspaces/NAME of FILE]"
)
@click.option(
    "--only", multiple=True, metavar="COLLECTION", help="A collection of the file; repeat it for more. The table has these alone."
)
@SYSTEM
@SET
def bench(file: Path, out: Path | None, only: tuple[str, ...], systems: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Run one recipe over the collections of FILE and put all systems into one table per domain.

    FILE is TOML: recipe, systems, and [collections.NAME] with path and domain. Each collection has a workspace of its own, each stage
    runs once, each answer of a system is kept: the same command goes on after an interruption, and asks only what a change needs. It
    writes bench.json, bench.md and index.html into the folder.
    """
    from zelo import progress
    from zelo.bench.collections_file import read_bench
    from zelo.bench.results import summarize, write_results
    from zelo.bench.running import run_bench
    from zelo.bench.writing import to_terminal
    from zelo.workspace import locked, writable

    wanted = read_bench(file)
    entries = []
    for entry in wanted.entries:
        recipe, *students = (changed(r, settings, r.ingest.collection) for r in (entry.recipe, *entry.students.values()))
        entries.append(replace(entry, recipe=recipe, students=dict(zip(entry.students, students, strict=True))))
    wanted = replace(wanted, entries=tuple(entries), systems=tuple(dict.fromkeys((*wanted.systems, *systems))))
    folder = out or Path("workspaces") / file.stem
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder), progress.for_stream() as shown:
        ran = run_bench(wanted, folder, only, shown, told(shown))
        result = summarize(ran, wanted)
        write_results(result, folder)
    click.echo(to_terminal(result))
    click.echo(f"written: {folder / 'bench.md'}, {folder / 'bench.json'}, {folder / 'index.html'}")
