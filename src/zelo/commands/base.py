"""What the commands share: opening a workspace, changing its recipe, running its stages."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zelo.errors import RecipeError

if TYPE_CHECKING:
    from zelo.progress import Progress
    from zelo.recipe import Recipe
    from zelo.runner import State
    from zelo.workspace import Entry, Workspace

interrupted = threading.Event()
"""Whether Ctrl-C was pressed: the exception that says so can get lost or come out as another one."""

WORKSPACE = click.argument("workspace", type=click.Path(path_type=Path))
SET = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a parameter of the recipe, e.g. pair.degree=6.")


ENGINE = click.option(
    "--engine",
    type=click.Choice(["auto", "torch", "openvino", "optimized"]),
    help="What computes the model; as rank.engine in a recipe.  [default: the workspace's, else auto]",
)


def run_stages(workspace: Path, *, dry_run: bool = False, quiet: bool = False, settings: tuple[str, ...] = (), **choice: Any) -> None:
    """Run stages of a workspace, `choice` as for `runner.run`, with these settings saved first; or say what would run.

    What came of it is printed unless `quiet`.
    """
    from zelo import pipeline, progress, runner

    opened = open_workspace(workspace)
    recipe = changed(opened.recipe, settings) if settings else opened.recipe
    chosen = pipeline.select(recipe, choice.get("start"), choice.get("stop"))
    forced_stages = [pipeline.find(recipe, name) for name in choice.get("force", ())]
    if dry_run:
        opened.recipe = recipe  # here only, not in its file
        for state in runner.status(opened):
            if state.stage in chosen:
                forced = state.done and state.stage in forced_stages
                click.echo(
                    f"{state.stage.name:<10} {'would run: forced' if forced else 'done' if state.done else f'would run: {state.reason}'}"
                )
        return
    save(opened, recipe)
    with progress.for_stream() as shown:
        finished = runner.run(opened, progress=shown, on_stage=told(shown), **choice)
    if not finished:
        click.echo("all is up to date", err=True)
    result = "standings" if recipe.line == "benchmark" else "metrics"
    if not quiet and opened.path(result).exists() and all(s.done for s in runner.status(opened)):
        _print_result(opened)


def save(workspace: Workspace, recipe: Recipe) -> None:
    """Write a changed recipe into the workspace, if its stages can do what it says."""
    from zelo import runner

    if recipe != workspace.recipe:
        runner.check(recipe)
        with workspace.locked():
            workspace.save_recipe(recipe)


def _print_result(workspace: Workspace) -> None:
    if workspace.recipe.line == "benchmark":
        from zelo.report.standings import lines, read_standings

        for text in lines(read_standings(workspace.path("standings"))):
            click.echo(text)
        click.echo(f"report: {workspace.path('report')}")
        return
    from zelo.report.summary import print_summary

    print_summary(workspace)
    if workspace.recipe.refine.parent and workspace.path("refinement").exists():
        from zelo.report.rounds import round_lines

        for text in round_lines(workspace.path("refinement")):
            click.echo(text)
    click.echo(f"report: {workspace.path('report')}")


def told(shown: Progress) -> Callable[[State, Entry | None], None]:
    """Return what `runner.run` calls before and after a stage, to say so."""

    def tell(state: State, entry: Entry | None) -> None:
        if interrupted.is_set():  # Python swallowed it, in a callback of the import system for example
            raise KeyboardInterrupt
        if entry is None:
            shown.note(f"{state.stage.name}: {state.stage.summary} ...")
        elif entry is not state.entry:  # it ran now; a forced one was done before too
            shown.note(line(state, entry))

    return tell


def line(state: State, entry: Entry | None) -> str:
    """Return what `zelo status` and `zelo run` say of a stage."""
    if entry is None:
        return f"{state.stage.name:<10} to do: {state.reason}"
    rows = ", ".join(f"{count:,} {name}" for name, count in entry.rows.items())
    notes = "".join(f"\n{'':<11}{note}" for note in entry.notes)
    cost = f", ${entry.cost:.2f}" if entry.cost else ""
    return f"{state.stage.name:<10} done in {entry.seconds:.1f} s{cost}: {rows}{notes}"


def open_workspace(workspace: Path) -> Workspace:
    """Open a workspace that exists."""
    from zelo.workspace import Workspace

    return Workspace.open(workspace)


def load_recipe(name: str) -> Recipe:
    """Load a recipe by name or path."""
    from zelo import recipe

    return recipe.load(name)


def changed(recipe: Recipe, settings: tuple[str, ...], collection: str | None = None) -> Recipe:
    """Return the recipe with settings given as KEY=VALUE, and paths made absolute: a workspace must work from any folder.

    Raises:
        RecipeError: a setting without "=", or one that the recipe refuses.
    """
    from zelo.collections import BUILT_IN, HUB

    recipe = recipe.with_settings(dict_of(settings))
    name = recipe.ingest.collection if collection is None else collection
    if not name:
        raise RecipeError("the collection has no name", remedy=f"give a folder, or one of: {', '.join(BUILT_IN)}")
    if name not in BUILT_IN and not name.startswith(HUB):
        name = os.path.abspath(name)  # the workspace must work from any current folder
    ingest, encode, retrieve, train = (
        replace(recipe.ingest, collection=name, queries=os.path.abspath(recipe.ingest.queries) if recipe.ingest.queries else ""),
        replace(recipe.encode, model=_absolute(recipe.encode.model)),
        replace(recipe.retrieve, run=os.path.abspath(recipe.retrieve.run) if recipe.retrieve.run else ""),
        replace(recipe.train, base=_absolute(recipe.train.base)),
    )
    models = {name: replace(model, prompt=_absolute(model.prompt)) for name, model in recipe.judge.models.items()}
    judge = replace(recipe.judge, models=models)
    pairwise = replace(recipe.pairwise, base=_absolute(recipe.pairwise.base))
    refine = replace(
        recipe.refine,
        parent=os.path.abspath(recipe.refine.parent) if recipe.refine.parent else "",
        production=os.path.abspath(recipe.refine.production) if recipe.refine.production else "",
    )
    systems = {
        name: replace(system, run=os.path.abspath(system.run) if system.run else "") for name, system in recipe.benchmark.systems.items()
    }
    recipe = replace(recipe, benchmark=replace(recipe.benchmark, systems=systems))
    return replace(recipe, ingest=ingest, encode=encode, retrieve=retrieve, judge=judge, pairwise=pairwise, train=train, refine=refine)


def dict_of(settings: tuple[str, ...]) -> dict[str, str]:
    """Return settings given as KEY=VALUE.

    Raises:
        RecipeError: one without "=".
    """
    values: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise RecipeError(f"{setting!r} has no '='", where="--set", remedy="write section.key=value")
        values[key.strip()] = value.strip()
    return values


def _absolute(name: str) -> str:
    is_path = name.startswith(".") or (os.sep in name and os.path.exists(name))  # otherwise a name, maybe on a hub
    return os.path.abspath(name) if is_path else name
