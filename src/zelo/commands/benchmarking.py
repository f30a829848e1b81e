"""The command that compares systems without labels."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zelo.commands.base import SET, changed, load_recipe, open_workspace, run_stages, save
from zelo.errors import InputError

if TYPE_CHECKING:
    from zelo.recipe import Recipe

WORKSPACE = "workspaces/benchmark"


@click.command()
@click.option("--workspace", type=click.Path(path_type=Path), default=Path(WORKSPACE), show_default=True, help="Where to work.")
@click.option("--corpus", help="The documents that the systems search, as for zelo new.")
@click.option("--queries", help="The questions that they answered; not needed where the corpus is a BEIR folder.")
@click.option("--run", "runs", multiple=True, metavar="[NAME=]FILE", help="A system's rankings, a TREC run; two or more.")
@click.option("--judge", "judges", multiple=True, metavar="NAME", help="Who judges, instead of the recipe's ensemble; see zelo judges.")
@click.option("--recipe", "recipe_name", default="benchmark", show_default=True, help="The name of a recipe, or a TOML file.")
@click.option("--plan", is_flag=True, help="Stop before anything is asked, and say what judging will take.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@SET
def benchmark(
    workspace: Path,
    corpus: str | None,
    queries: str | None,
    runs: tuple[str, ...],
    judges: tuple[str, ...],
    recipe_name: str,
    plan: bool,
    as_json: bool,
    settings: tuple[str, ...],
) -> None:
    """Compare search systems without labels: their rankings are pooled, judged pair by pair, scored, and measured by the scores.

    The same command goes on after an interruption, and may name one more --run; what was answered is kept and not asked again.
    Intervals include the judges' uncertainty, and the report shows whether a judge favors a system.
    """
    from zelo import runner
    from zelo.workspace import Workspace

    there = (workspace / "recipe.toml").is_file()
    before = open_workspace(workspace).recipe if there else load_recipe(recipe_name)
    if there and before.line != "benchmark":
        raise InputError("is a workspace of another kind", where=str(workspace), remedy="give a new folder with --workspace")
    if not there and (corpus is None or not runs):
        raise InputError(
            "a new benchmark needs --corpus and --run",
            where=str(workspace),
            remedy="zelo benchmark --corpus docs/ --queries log.jsonl --run a.trec --run b.trec",
        )
    recipe = _recipe(before, corpus, queries, runs, judges, settings)
    if there:
        save(open_workspace(workspace), recipe)
    else:
        from zelo.stages.ingest import open_ingest

        open_ingest(recipe.ingest)
        runner.check(recipe)
        Workspace.create(workspace, recipe)
    if plan:
        from zelo.planning.prospect import plan_output

        run_stages(workspace, stop="pair")
        for line in plan_output(open_workspace(workspace), recipe, as_json=as_json):
            click.echo(line)
        return
    run_stages(workspace, quiet=as_json)
    if as_json:
        click.echo(open_workspace(workspace).path("standings").read_text("utf-8"), nl=False)


def _recipe(
    recipe: Recipe, corpus: str | None, queries: str | None, runs: tuple[str, ...], judges: tuple[str, ...], settings: tuple[str, ...]
) -> Recipe:
    from zelo.recipe import Rankings

    recipe = replace(recipe, line="benchmark")
    if queries is not None:
        recipe = replace(recipe, ingest=replace(recipe.ingest, queries=queries))
    systems = dict(recipe.benchmark.systems)
    for given in runs:
        name, equals, path = given.partition("=")
        name, path = (name, path) if equals else (Path(given).name.removesuffix(".gz").removesuffix(".trec").removesuffix(".run"), given)
        if not Path(path).is_file():
            raise InputError("no such file", where=path, remedy=f"give a TREC run: --run {shlex.quote(name)}=FILE")
        if name in systems and Path(systems[name].run).resolve() != Path(path).resolve():
            raise InputError(f"there is a system {name!r} already", where=path, remedy="name it: --run NAME=FILE")
        systems[name] = Rankings(path)
    recipe = replace(recipe, benchmark=replace(recipe.benchmark, systems=systems))
    if judges:
        recipe = replace(recipe, judge=replace(recipe.judge, ensemble=judges))
    return changed(recipe, settings, corpus)
