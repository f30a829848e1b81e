"""Commands that make a workspace and run its stages."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from zelo.commands.base import SET, WORKSPACE, changed, line, load_recipe, open_workspace, run_stages

DEMO_WORKSPACE = "workspaces/demo"


@click.command()
@WORKSPACE
@click.option(
    "--collection", "--corpus", "collection", help="A BEIR folder, or python_docs or synthetic; or your documents, with --queries."
)
@click.option("--queries", help="What people asked: one per line, or JSON Lines, CSV, Parquet.")
@click.option("--recipe", "recipe_name", default="demo", show_default=True, help="The name of a recipe, or a TOML file.")
@SET
def new(workspace: Path, collection: str | None, queries: str | None, recipe_name: str, settings: tuple[str, ...]) -> None:
    """Make a workspace: a folder with a recipe.

    Documents may be a folder of Markdown, HTML, PDF and text files, a table (JSON Lines, CSV, Parquet), a data set that the library
    datasets saved, or hf:OWNER/NAME of the Hugging Face hub. Files are cut into passages whose ids stay when other files change.
    """
    from zelo import runner
    from zelo.stages.ingest import open_ingest
    from zelo.workspace import Workspace

    given = (f'ingest.queries="{queries}"',) if queries else ()
    recipe = changed(load_recipe(recipe_name), (*given, *settings), collection)
    open_ingest(recipe.ingest)  # a typing error should not wait for the run
    runner.check(recipe)
    Workspace.create(workspace, recipe)
    click.echo(f"{workspace}: made, with every parameter in {workspace / 'recipe.toml'}. Next: zelo run {shlex.quote(str(workspace))}")


@click.command()
@WORKSPACE
@click.option("--from", "start", metavar="STAGE", help="First stage to consider.")
@click.option("--to", "stop", metavar="STAGE", help="Last stage to consider.")
@click.option("--force", multiple=True, metavar="STAGE", help="Run a stage even if it is done; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and why.")
@click.option("--on", "cluster", metavar="CLUSTER", help="Workers on Ray: ray (this machine, or RAY_ADDRESS) or ray://HOST:PORT.")
@click.option("--workers", type=click.IntRange(0), default=0, help="Of --on; 0 = one per GPU where --worker-gpus is set, else per CPU.")
@click.option("--worker-gpus", type=click.FloatRange(0), default=0.0, help="GPUs of each worker; may be a fraction.")
@SET
def run(workspace: Path, start: str | None, stop: str | None, dry_run: bool, **given: Any) -> None:
    """Run the stages that are not done.

    --on gives what stages do query by query to workers (extra ray): pair, judge-pairwise, fit, rank, evaluate. The files are the same
    as without; a worker that is lost is started again, and does its shard again. See docs/scale.md.
    """
    force, settings = given["force"], given["settings"]
    choice: dict[str, Any] = {"start": start, "stop": stop}
    if given["cluster"] and not dry_run:
        from zelo.cluster.ray_workers import RayWorkers

        with RayWorkers(given["cluster"], given["workers"], gpus=given["worker_gpus"]) as executor:
            run_stages(workspace, **choice, force=force, settings=settings, executor=executor)
        return
    run_stages(workspace, **choice, force=force, dry_run=dry_run, settings=settings)


@click.command()
@WORKSPACE
def status(workspace: Path) -> None:
    """Show every stage: done or why not, rows, seconds, cost."""
    from zelo import runner

    opened = open_workspace(workspace)
    for state in runner.status(opened):
        click.echo(line(state, state.entry if state.done else None))


@click.command()
@click.option("--workspace", type=click.Path(path_type=Path), default=Path(DEMO_WORKSPACE), show_default=True, help="Where to work.")
@SET
def demo(workspace: Path, settings: tuple[str, ...]) -> None:
    """From the standard library's docstrings to a reranker and a report, offline."""
    from zelo.workspace import Workspace

    if not (workspace / "recipe.toml").is_file():
        Workspace.create(workspace, changed(load_recipe("demo"), settings))
    run_stages(workspace, settings=settings)


def stage_command(name: str, summary: str) -> click.Command:
    """Make the command that runs one stage."""

    @click.command(name, help=f"Stage: {summary}.")
    @WORKSPACE
    @click.option("--force", is_flag=True, help="Run it even if it is done.")
    @SET
    def command(workspace: Path, force: bool, settings: tuple[str, ...]) -> None:
        run_stages(workspace, start=name, stop=name, force=(name,) if force else (), settings=settings)

    return command
