"""The command line: made from the pipeline. Data goes to standard output, progress to standard error.

Exit codes: 0 done; 2 something is wrong with what was given, said in one line; 130 interrupted (run again to go on).
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zelo import __version__
from zelo.errors import InputError, RecipeError, ZeloError

if TYPE_CHECKING:
    from zelo.pipeline import State
    from zelo.progress import Progress
    from zelo.recipe import Recipe
    from zelo.workspace import Entry, Workspace

_interrupted = threading.Event()
"""Whether Ctrl-C was pressed: the exception that says so can get lost or come out as another one."""

DEMO_WORKSPACE = "workspaces/demo"
_WORKSPACE = click.argument("workspace", type=click.Path(path_type=Path))
_SET = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a parameter of the recipe, e.g. pair.degree=6.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, package_name="zelo")
def cli() -> None:
    """Queries and documents without labels into a reranker you can trust.

    zelo demo shows all of it in a few minutes. For your own documents: zelo new, then zelo run.
    """


@cli.command()
@_WORKSPACE
@click.option("--collection", help="A BEIR folder, or python_docs or synthetic.")
@click.option("--recipe", "recipe_name", default="demo", show_default=True, help="The name of a recipe, or a TOML file.")
@_SET
def new(workspace: Path, collection: str | None, recipe_name: str, settings: tuple[str, ...]) -> None:
    """Make a workspace: a folder with a recipe."""
    from zelo import pipeline
    from zelo.collections import open_collection
    from zelo.workspace import Workspace

    recipe = _changed(_load_recipe(recipe_name), settings, collection)
    open_collection(recipe.ingest.collection)  # a typing error should not wait for the run
    pipeline.check(recipe)
    Workspace.create(workspace, recipe)
    click.echo(f"{workspace}: made, with every parameter in {workspace / 'recipe.toml'}. Next: zelo run {shlex.quote(str(workspace))}")


@cli.command()
@_WORKSPACE
@click.option("--from", "start", metavar="STAGE", help="First stage to consider.")
@click.option("--to", "stop", metavar="STAGE", help="Last stage to consider.")
@click.option("--force", multiple=True, metavar="STAGE", help="Run a stage even if it is done; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and why.")
@_SET
def run(workspace: Path, start: str | None, stop: str | None, force: tuple[str, ...], dry_run: bool, settings: tuple[str, ...]) -> None:
    """Run the stages that are not done."""
    _run(workspace, start=start, stop=stop, force=force, dry_run=dry_run, settings=settings)


@cli.command()
@_WORKSPACE
def status(workspace: Path) -> None:
    """Show every stage: done or why not, rows, seconds, cost."""
    from zelo import pipeline

    opened = _open(workspace)
    for state in pipeline.status(opened):
        click.echo(_line(state, state.entry if state.done else None))


@cli.command()
@_WORKSPACE
@click.argument("query")
@click.argument("document", required=False)
def show(workspace: Path, query: str, document: str | None) -> None:
    """Explain a ranking: every comparison behind a score, who said what, the score with its error.

    QUERY is a query id, or words of a question; DOCUMENT a document id.
    """
    from zelo.show import explain_document, explain_query

    opened = _open(workspace)
    for line in explain_document(opened, query, document) if document else explain_query(opened, query):
        click.echo(line)


@cli.command()
@click.option("--workspace", type=click.Path(path_type=Path), default=Path(DEMO_WORKSPACE), show_default=True, help="Where to work.")
@_SET
def demo(workspace: Path, settings: tuple[str, ...]) -> None:
    """From the standard library's docstrings to a reranker and a report, offline."""
    from zelo.workspace import Workspace

    if not (workspace / "recipe.toml").is_file():
        Workspace.create(workspace, _changed(_load_recipe("demo"), settings))
    _run(workspace, settings=settings)


@cli.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--query", required=True, help="The question.")
@click.option("--top", type=click.IntRange(min=1), help="Print at most so many documents.")
@click.argument("documents", type=click.File("r", encoding="utf-8"), default="-")
def rerank(model: Path, query: str, top: int | None, documents: Any) -> None:
    """Score documents with a trained model, best first: one JSON object per line.

    DOCUMENTS is a file or standard input, one document per line: JSON with "text" (and "_id", "title"), or plain text.
    """
    from zelo.rerankers import load_reranker

    if not query.strip():
        raise InputError("the query is empty", remedy="give --query a question")
    reranker = load_reranker(model)
    try:
        rows = [_document(line, f"{documents.name}:{number}") for number, line in enumerate(documents, 1) if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 ({error.reason})", where=documents.name, remedy="save it as UTF-8") from error
    if not rows:
        raise InputError("no documents", where=documents.name, remedy="give one per line")
    scores = reranker.score(query, [text for _, text in rows]).tolist()
    for i in sorted(range(len(rows)), key=lambda i: -scores[i])[:top]:
        click.echo(json.dumps({"_id": rows[i][0], "score": round(scores[i], 6), "text": rows[i][1]}, ensure_ascii=False))


@cli.command("export-model")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(["merged", "sequence-classification"]), default="sequence-classification", show_default=True,
    help="merged = one causal language model; sequence-classification = what servers such as vLLM take.",
)  # fmt: skip
def export_model(model: Path, out: Path, form: Any) -> None:
    """Write a pointwise language model in another form, with a card and a parity file.

    MODEL is a folder with a causal language model, or with low-rank adapters; OUT a new folder.
    """
    from zelo.rerankers.export import export_model as export

    export(model, out, form)
    click.echo(f"{out}: written. Next: zelo verify {shlex.quote(str(out))} --library sentence-transformers")


@cli.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--library", type=click.Choice(["zelo", "sentence-transformers", "transformers"]), default="zelo", show_default=True)
@click.option("--tolerance", type=click.FloatRange(min=0), default=1e-4, show_default=True, help="Largest difference that is no error.")
def verify(model: Path, library: Any, tolerance: float) -> None:
    """Score the pairs of a model's parity file again and compare."""
    from zelo.rerankers.parity import verify as compare

    found = compare(model, library)
    skipped = f", {found.skipped} too long for this library" if found.skipped else ""
    line = f"{found.compared} pairs compared{skipped}; largest difference {found.largest:.1e}, pair {found.pair}"
    if not found.largest <= tolerance:
        raise InputError(f"the scores are not those of the parity file: {line}", where=str(model), remedy="export or train it again")
    click.echo(line)


@cli.command()
def judges() -> None:
    """List the judges that an ensemble can be made of."""
    from zelo.judges import JUDGES

    for name, judge in JUDGES.items():
        click.echo(f"{name:<18} {judge.about}")


def _stage_command(name: str, summary: str) -> click.Command:
    @click.command(name, help=f"Stage: {summary}.")
    @_WORKSPACE
    @click.option("--force", is_flag=True, help="Run it even if it is done.")
    @_SET
    def command(workspace: Path, force: bool, settings: tuple[str, ...]) -> None:
        _run(workspace, start=name, stop=name, force=(name,) if force else (), settings=settings)

    return command


def _add_stages() -> None:
    from zelo.pipeline import LINES

    for line in LINES.values():
        for stage in line:
            if stage.name not in cli.commands and not stage.planned:
                cli.add_command(_stage_command(stage.name, stage.summary))


def _run(workspace: Path, *, dry_run: bool = False, settings: tuple[str, ...] = (), **choice: Any) -> None:
    from zelo import pipeline, progress

    opened = _open(workspace)
    recipe = _changed(opened.recipe, settings) if settings else opened.recipe
    chosen = pipeline.select(recipe, choice.get("start"), choice.get("stop"))
    forced_stages = [pipeline.find(recipe, name) for name in choice.get("force", ())]
    if dry_run:
        opened.recipe = recipe  # here only, not in its file
        for state in pipeline.status(opened):
            if state.stage in chosen:
                forced = state.done and state.stage in forced_stages
                click.echo(
                    f"{state.stage.name:<10} {'would run: forced' if forced else 'done' if state.done else f'would run: {state.reason}'}"
                )
        return
    if recipe != opened.recipe:
        pipeline.check(recipe)
        with opened.locked():
            opened.save_recipe(recipe)
    with progress.for_stream() as shown:
        finished = pipeline.run(opened, progress=shown, on_stage=_teller(shown), **choice)
    if not finished:
        click.echo("all is up to date", err=True)
    if opened.path("metrics").exists() and all(s.done for s in pipeline.status(opened)):
        _print_result(opened)


def _print_result(workspace: Workspace) -> None:
    from zelo.report.summary import print_summary

    print_summary(workspace)
    click.echo(f"report: {workspace.path('report')}")


def _teller(shown: Progress) -> Callable[[State, Entry | None], None]:
    def tell(state: State, entry: Entry | None) -> None:
        if _interrupted.is_set():  # Python swallowed it, in a callback of the import system for example
            raise KeyboardInterrupt
        if entry is None:
            shown.note(f"{state.stage.name}: {state.stage.summary} ...")
        elif not state.done:
            shown.note(_line(state, entry))

    return tell


def _line(state: State, entry: Entry | None) -> str:
    if entry is None:
        return f"{state.stage.name:<10} to do: {state.reason}"
    rows = ", ".join(f"{count:,} {name}" for name, count in entry.rows.items())
    notes = "".join(f"\n{'':<11}{note}" for note in entry.notes)
    cost = f", ${entry.cost:.2f}" if entry.cost else ""
    return f"{state.stage.name:<10} done in {entry.seconds:.1f} s{cost}: {rows}{notes}"


def _open(workspace: Path) -> Workspace:
    from zelo.workspace import Workspace

    return Workspace.open(workspace)


def _load_recipe(name: str) -> Recipe:
    from zelo import recipe

    return recipe.load(name)


def _changed(recipe: Recipe, settings: tuple[str, ...], collection: str | None = None) -> Recipe:
    from zelo.collections import BUILT_IN

    values: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise RecipeError(f"{setting!r} has no '='", where="--set", remedy="write section.key=value")
        values[key.strip()] = value.strip()
    recipe = recipe.with_settings(values)
    name = recipe.ingest.collection if collection is None else collection
    if not name:
        raise RecipeError("the collection has no name", remedy=f"give a BEIR folder, or one of: {', '.join(BUILT_IN)}")
    if name not in BUILT_IN:
        name = os.path.abspath(name)  # the workspace must work from any current folder
    ingest, encode, retrieve, train = (
        replace(recipe.ingest, collection=name),
        replace(recipe.encode, model=_absolute(recipe.encode.model)),
        replace(recipe.retrieve, run=os.path.abspath(recipe.retrieve.run) if recipe.retrieve.run else ""),
        replace(recipe.train, base=_absolute(recipe.train.base)),
    )
    return replace(recipe, ingest=ingest, encode=encode, retrieve=retrieve, train=train)


def _absolute(model: str) -> str:
    is_folder = model.startswith(".") or (os.sep in model and os.path.isdir(model))  # otherwise a name, maybe on a hub
    return os.path.abspath(model) if is_folder else model


def _document(line: str, where: str) -> tuple[str, str]:
    from zelo.collections.lines import text_field

    if not line.lstrip().startswith("{"):
        return where, line.strip()
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(
            f"not JSON ({error})", where=where, remedy='write {"_id": "...", "text": "..."}, or text without a leading {'
        ) from error
    title, text = text_field(row, "title", where, ""), text_field(row, "text", where)
    return text_field(row, "_id", where, where), f"{title} {text}".strip()


def main() -> None:
    """Run the command line and exit."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Our matrices are small: a second BLAS thread gains nothing, its waiting costs a factor of ten on a busy machine, and the
    # last bits of a sum depend on the number of threads.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    _interrupted.clear()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _on_interrupt)
    _add_stages()
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    except (Exception, KeyboardInterrupt) as error:
        if _is_interrupt(error):
            click.echo("zelo: interrupted; the same command goes on from here", err=True)
            sys.exit(130)
        if isinstance(error, ZeloError):
            click.echo(f"zelo: {error}", err=True)
            sys.exit(2)
        if isinstance(error, click.ClickException):
            error.show()
            sys.exit(2)
        raise


def _on_interrupt(number: int, frame: object) -> None:
    _interrupted.set()
    raise KeyboardInterrupt


def _is_interrupt(error: BaseException | None) -> bool:
    """Say whether Ctrl-C is behind it: while a compiled module starts, for example, it comes out as an ImportError."""
    while error is not None and not isinstance(error, click.Abort | KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None or _interrupted.is_set()
