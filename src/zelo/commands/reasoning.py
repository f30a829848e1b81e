"""`zelo reasoning`: problems, traces, editing, selection, teaching and grading, for mathematics and for judging."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zelo.errors import InputError

if TYPE_CHECKING:
    from zelo.reasoning.folder import Folder
    from zelo.reasoning.importing import Kind

FOLDER = click.argument("folder", type=click.Path(path_type=Path))
STAGE = click.option("--stage", type=click.IntRange(1), help="The stage of the traces; the last one by default.")
SOURCE = click.option("--source", "sources", multiple=True, metavar="NAME", help="Only traces of this source; may be repeated.")


@click.group()
def reasoning() -> None:
    """Teach long reasoning with few examples, for mathematics and for judging.

    A FOLDER is the state: problems.jsonl, stage1.jsonl and so on (traces), selected.jsonl, journal.sqlite (what models wrote). A
    comparison is a problem whose answer is A, B or tie: every command serves both kinds.

    import, sample, edit, analyze, select, export or tune, grade: in this order, and any of them again.
    """


def opened(folder: Path) -> Folder:
    """Open a folder that exists."""
    from zelo.reasoning.folder import Folder

    return Folder(folder)


@click.command("import")
@FOLDER
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--as",
    "kind",
    type=click.Choice(["auto", "problems", "traces", "pairs", "evaluation", "rates"]),
    default="auto",
    show_default=True,
    help="What the files are.",
)
@click.option("--source", default="", metavar="NAME", help="Who wrote traces that do not say it; the file's name by default.")
@click.option(
    "--answers",
    type=click.Choice(["qrels", "ensemble"]),
    default="qrels",
    show_default=True,
    help="What is right about a workspace's pairs: labels, or what its judges agree on.",
)
@click.option("--both-orders/--one-order", default=True, show_default=True, help="Ask about each pair in both orders.")
@click.option("--per-rate", type=click.IntRange(1), default=1, show_default=True, help="Of rates: answers behind each.")
def import_command(folder: Path, paths: tuple[Path, ...], kind: Kind, source: str, **options: Any) -> None:
    """Bring problems or traces into FOLDER, which is made if it is not there.

    PATHS are JSON Lines or JSON files with questions and answers, with solutions (traces), or workspaces, whose pairs become problems of
    judging. --as pairs makes such problems from questions with right and wrong solutions; evaluation are problems that must not be
    taught; rates are pass rates of a reference model, added to those that are here. Traces are verified as they come.
    """
    from zelo.reasoning.folder import Folder
    from zelo.reasoning.importing import import_into

    with Folder.filled(folder) as target:
        for path in paths:
            found = import_into(target, path, kind, source=source, **options)
            remark = f"; {found.remark}" if found.remark else ""
            click.echo(f"{path}: {found.problems:,} new problems, {found.traces:,} traces{remark}")


@click.command()
@FOLDER
def verify(folder: Path) -> None:
    """Read the answers of all traces of all stages again, and mark them."""
    from zelo.reasoning.verify import verify as verified

    state = opened(folder)
    with state.locked():
        problems = state.problems()
        for stage in state.stages():
            rows = list(verified(state.traces(stage), problems))
            state.write_traces(stage, rows)
            right, marked = sum(t.correct is True for t in rows), sum(t.correct is not None for t in rows)
            none = sum(not t.answer for t in rows)
            click.echo(f"stage {stage}: {len(rows):,} traces, {right:,} right of {marked:,} verified, {none:,} without an answer")


@click.command()
@FOLDER
@STAGE
@SOURCE
@click.option("--reference", metavar="NAME", help="The source whose pass rates say how hard problems are; all by default.")
@click.option("--like", type=click.Path(path_type=Path), help="Another folder, whose traces' structure is the measure.")
@click.option("--guide", type=click.Path(path_type=Path), help="Write the steps' structure to this file, for `sample --guide`.")
@click.option("--vectors", type=click.Choice(["words", "model"]), default="words", show_default=True, help="What distances are of.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with plots.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per source.")
def analyze(folder: Path, stage: int | None, sources: tuple[str, ...], **options: Any) -> None:
    """Measure difficulty, diversity, length, structure and hygiene of traces. Nothing is called good or bad.

    Difficulty is 1 - pass rate with its interval, from traces of stage 1 or imported rates, else from stated levels. Problems of
    the evaluation set are looked for among those taught. What imported rates say is shown first; without traces, what is known
    of the problems.
    """
    from zelo.reasoning import analyze as analysis
    from zelo.reasoning import guidance
    from zelo.reasoning.behavior import table_lines
    from zelo.reasoning.rates import imported_rates

    state = opened(folder)
    bare = not state.stages() and stage is None and not sources and options["guide"] is None
    about = analysis.overview(state, options["reference"], options["vectors"]) if bare or imported_rates(state) else None
    names = [] if bare and about is not None and about.lines() else chosen(state, stage, sources)
    found = [analysis.of_folder(state, name, stage, options["reference"], options["like"], options["vectors"]) for name in names]
    if about is not None:
        for line in [json.dumps(analysis.as_json(about), allow_nan=False)] if options["as_json"] else about.lines():
            click.echo(line)
    if options["guide"] is not None:
        guidance.measure([t for t in state.traces(stage) if not sources or t.source in sources]).write(options["guide"])
    for one in found:
        if options["as_json"]:
            click.echo(json.dumps(analysis.as_json(one), allow_nan=False))
            continue
        for line in [*analysis.analysis_lines(one), *table_lines(one.behaviors.transitions)]:
            click.echo(line)
    if options["html"] is not None:
        from zelo.reasoning.page import write_page

        write_page(options["html"], found, about)


def chosen(state: Folder, stage: int | None, sources: tuple[str, ...]) -> list[str]:
    """Return the sources with traces in a stage, or those that are asked for.

    Raises:
        InputError: one that is not there.
    """
    known = list(dict.fromkeys(t.source for t in state.traces(stage)))
    for name in sources:
        if name not in known:
            elsewhere = [n for n in state.stages() if any(t.source == name for t in state.traces(n))]
            remedy = f"--stage {elsewhere[-1]} has some" if elsewhere else f"sources here: {', '.join(known) or 'none'}"
            raise InputError(f"no traces of {name!r} in this stage", where=str(state.root), remedy=remedy)
    return list(sources) or known


@click.command()
@FOLDER
@STAGE
@SOURCE
@click.option("--baseline", metavar="NAME", help="Say of every other source whether it is better than this one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per source.")
def grade(folder: Path, stage: int | None, sources: tuple[str, ...], baseline: str | None, as_json: bool) -> None:
    """Say how often each source is right: pass@1 over all samples, pass@k, majority, no answer, lengths, cost.

    Intervals resample problems. About pairs it also says: accuracy over all samples and both orders, how often both orders agree, how
    far the place sways, and log loss before and after one temperature (fitted on other pairs).
    """
    from zelo.plain import plain
    from zelo.reasoning import grade as grading
    from zelo.reasoning.lines import difference_line, grade_lines
    from zelo.reasoning.traces import by_source

    state = opened(folder)
    problems, traces = state.problems(), by_source(state.traces(stage))
    names = chosen(state, stage, (*sources, *([baseline] if baseline and sources and baseline not in sources else ())))
    grades = [grading.grade(name, traces[name], problems) for name in names]
    differences = []
    if baseline:
        chosen(state, stage, (baseline,))
        differences = [grading.compare(name, baseline, traces, problems) for name in names if name != baseline]
    if as_json:
        for row in [*map(asdict, grades), *map(asdict, differences)]:
            click.echo(json.dumps(plain(row)))
        return
    for line in grade_lines(grades):
        click.echo(line)
    for difference in differences:
        click.echo(difference_line(difference))


@click.command()
@FOLDER
@click.argument("directory", type=click.Path(path_type=Path))
@STAGE
@click.option("--selected", is_flag=True, help="Only the selected traces.")
def checkout(folder: Path, directory: Path, stage: int | None, selected: bool) -> None:
    """Write traces as Markdown files into DIRECTORY, to be edited by hand; then zelo reasoning checkin."""
    from zelo.reasoning.markdown import checkout as check_out

    state = opened(folder)
    rows = state.traces(stage)
    if selected:
        keys = {t.key for t in state.selected()}
        rows = [t for t in rows if t.key in keys]
    click.echo(f"{check_out(rows, state.problems(), directory):,} files in {directory}")


@click.command()
@FOLDER
@click.argument("directory", type=click.Path(path_type=Path))
@STAGE
@click.option("--editor", default="hand", show_default=True, help="Who edited, for the note.")
def checkin(folder: Path, directory: Path, stage: int | None, editor: str) -> None:
    """Read edited Markdown files back, as the next stage, and verify it. The stage before stays as it is."""
    from zelo.reasoning.edit import refuse_other_edits
    from zelo.reasoning.markdown import checkin as check_in
    from zelo.reasoning.verify import verify as verified

    state = opened(folder)
    with state.locked():
        stage = stage or state.last_stage()
        before = state.traces(stage)
        refuse_other_edits(state, stage + 1, before)
        found, changed = check_in(directory, before, editor)
        rows = list(verified(found, state.problems()))
        state.write_traces(stage + 1, rows)
    lost = sum(a.correct is True and b.correct is not True for a, b in zip(before, rows, strict=True))
    click.echo(f"stage {stage + 1}: {len(rows):,} traces, {changed:,} edited; {lost:,} that were right are not right any more")
