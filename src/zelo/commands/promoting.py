"""Commands that say which model is in use."""

from __future__ import annotations

from pathlib import Path

import click

from zelo.commands.base import open_workspace
from zelo.errors import InputError

REFUSED = 3
"""The exit code of a model that does not pass the gate."""


@click.command()
@click.argument("child", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say whether it would be promoted; change nothing but the journal of answers.")
@click.option("--force", is_flag=True, help="Promote it whatever the gate says; the pointer keeps what it said.")
def promote(child: Path, dry_run: bool, force: bool) -> None:
    """Put the model of a refine round into use, if it is better on held-out live queries and not worse on a fixed set.

    CHILD is a workspace that zelo refine made. zelo serve and zelo rerank on the first workspace of its line then use its model: a
    running server after SIGHUP, others at their next start. Exit code 3: it did not pass, and nothing changed.
    """
    from zelo import progress, promotion
    from zelo.watching import gate

    opened = open_workspace(child)
    if not opened.recipe.refine.parent:
        raise InputError("is no refine round", where=str(child), remedy="`zelo refine WS CHILD` makes one")
    promotion.require_finished(opened)
    first = promotion.first_of(opened)
    old = promotion.in_use(first)
    if old.root.resolve() == opened.root.resolve():
        raise InputError("its model is in use already", where=str(child), remedy="nothing is to be done")
    with progress.for_stream() as shown:
        found = gate.check_gate(first, old, opened, shown)
    for line in gate.gate_lines(found):
        click.echo(line)
    if not found.passed and not force:
        click.echo(f"not promoted: {old.root.resolve().name} stays in use")
        raise click.exceptions.Exit(REFUSED)
    if dry_run:
        click.echo("it would be promoted")
        return
    promotion.promote(first, opened, gate.plain_gate(found), forced=not found.passed)
    click.echo(f"promoted: zelo serve {first.root} and zelo rerank {first.root} use {opened.root.resolve().name} now")


@click.command()
@click.argument("workspace", type=click.Path(path_type=Path))
def rollback(workspace: Path) -> None:
    """Take the last promotion back: the model before it is in use again, a running server's after SIGHUP."""
    from zelo import promotion

    first = promotion.first_of(open_workspace(workspace))
    gone = promotion.rollback(first)
    standing = promotion.history(first)
    now = standing[-1].workspace if standing else "."
    name = first.root.resolve().name if now == "." else Path(now).name
    click.echo(f"rolled back: {Path(gone.workspace).name} is out of use, {name} is in use")
