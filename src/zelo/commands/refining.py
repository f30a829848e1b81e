"""The command for a further round."""

from __future__ import annotations

from pathlib import Path

import click

from zelo.commands.base import SET, WORKSPACE, changed, open_workspace, run_stages, save
from zelo.errors import InputError


@click.command()
@WORKSPACE
@click.argument("child", type=click.Path(path_type=Path))
@click.option("--production", type=click.Path(path_type=Path), help="What was shown or clicked: a TREC run, or JSON Lines.")
@click.option("--live", is_flag=True, help="Learn from the failed searches that zelo watch found; half of the live queries stay held out.")
@click.option("--threshold", type=click.IntRange(0), help="Failures are ranked below this place; 0 = chosen.")
@click.option("--to", "stop", metavar="STAGE", help="Last stage to run, e.g. pair: then zelo plan CHILD.")
@click.option("--dry-run", is_flag=True, help="Say how many failures there are and what judging them takes; change nothing.")
@SET
def refine(
    workspace: Path,
    child: Path,
    production: Path | None,
    live: bool,
    threshold: int | None,
    stop: str | None,
    dry_run: bool,
    settings: tuple[str, ...],
) -> None:
    """Make a further round in the new workspace CHILD: have judged what the model of WORKSPACE ranks too low, and train again.

    Of training questions, the best labeled document, or the one that a live system's users chose (--production), or without both
    the one with the highest score, is a failure where the model ranks it below a threshold. The judges compare it with the document
    just above it. WORKSPACE must be finished and stays as it is; its answers are not asked again. The same command goes on after an
    interruption, and a CHILD can have a child.

    --production: a TREC run, or lines {"query_id": ..., "doc_id": ...}, with "query" (its words) instead of "query_id" and
    "score" if you like; the document with the most per query counts.

    --live: the queries of failed live searches become training queries, and the better document that the judges found is their
    reference. Only they are encoded; the rest keeps its vectors. zelo promote then asks whether the new model is better.
    """
    from zelo import progress, refining

    parent = open_workspace(workspace)
    if live and production is not None:
        raise InputError("--live brings its own production file", where="--production", remedy="give one of the two")
    given = [f'refine.production="{production}"'] if production else []
    given += [] if threshold is None else [f"refine.threshold={threshold}"]
    recipe = changed(refining.recipe_for(parent, child, live=live), (*given, *settings))
    if dry_run:
        with progress.for_stream() as shown:
            lines = list(refining.dry_run(parent, child, recipe, shown))
        for line in lines:
            click.echo(line)
        return
    save(refining.open_child(parent, child, recipe), recipe)
    run_stages(child, stop=stop)
