"""The command that hands scores to other libraries."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from zelo.commands.base import WORKSPACE, open_workspace

_FORMATS = ("sentence-transformers", "flagembedding", "tevatron", "beir")


@click.command("export")
@WORKSPACE
@click.option("--format", "form", type=click.Choice(_FORMATS), required=True, help="Whose files to write.")
@click.option("--out", type=click.Path(path_type=Path), help="A new folder; WORKSPACE-FORMAT if not given.")
@click.option("--split", type=click.Choice(["train", "test", "all"]), default="train", show_default=True, help="Which questions.")
@click.option("--positive", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Least target of a positive.")
@click.option("--negative", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="Negatives have a target below.")
@click.option("--negatives", type=click.IntRange(1), default=15, show_default=True, help="Most negatives per question, the hardest.")
@click.option("--grades", type=click.IntRange(1, 100), default=3, show_default=True, help="The highest grade (beir).")
def export_command(workspace: Path, form: str, out: Path | None, **choice: Any) -> None:
    """Write scored questions and documents as training data or labels, with a data set card for the Hugging Face hub.

    Questions that are reported on stay out of training data unless --split says otherwise.
    """
    from zelo.exports import Choice, export

    opened = open_workspace(workspace)
    found = export(opened, form, out or workspace.with_name(f"{workspace.name}-{form}"), Choice(**choice))
    for name, count in found.rows.items():
        click.echo(f"{found.folder / name}: {count:,} rows")
    for note in found.notes:
        click.echo(note)
    click.echo(
        f"{found.folder / 'README.md'}: the data set card; look at its license before you publish ({shlex.quote(str(found.folder))})"
    )
