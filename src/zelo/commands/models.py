"""Commands for a trained model's files: write it in another form, compare its scores with those it was written with, read its log."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from zelo.errors import InputError


@click.command("export-model")
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


@click.command()
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


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--workspace", type=click.Path(path_type=Path), help="Whose texts and targets to measure on; a model's own is found.")
@click.option("--most-loss", type=click.FloatRange(0, 1), default=0.005, show_default=True, help="Share of nDCG@10 that may be lost.")
@click.option("--queries", type=click.IntRange(min=1), default=100, show_default=True, help="Held-out queries to measure on, at most.")
@click.option("--pairs", type=click.IntRange(min=1), default=200, show_default=True, help="Pairs that ranges of bytes are read off.")
@click.option("--form", metavar="NAME", help="Try this form only, by its name in the table.")
def optimize(model: Path, workspace: Path | None, most_loss: float, **sizes: Any) -> None:
    """Find the fastest form of a reranker on this machine's processor that loses next to nothing.

    MODEL is a workspace or a model folder, of a cross_encoder or language_model. It is tried in float32, bfloat16 and (an encoder) bytes,
    as far as the processor computes them by itself, an encoder also with token pruning; the fastest that loses no more than --most-loss
    of nDCG@10 is written into the model's folder. There zelo rerank, serve, latency, evaluate and the stage rank find it. A model that is
    trained anew has to be optimized anew. Nothing is written before all is measured: after Ctrl-C the model is as it was, and the command
    begins anew.
    """
    from zelo import progress
    from zelo.optimizing import find_model, lines, optimize
    from zelo.workspace import DERIVED

    folder, opened = find_model(model, workspace)
    with progress.for_stream() as shown, opened.locked():
        found = optimize(folder, opened, shown, most_loss=most_loss, **sizes)
    click.echo("\n".join(lines(found, most_loss)))
    if found.kept is None:
        form, kept = sizes["form"], f"{100 * (1 - most_loss):g} % of nDCG@10"
        what = f"no form is faster than float32 and keeps {kept}"
        if form is not None:
            slow = found.trials[-1].per_second <= found.trials[0].per_second
            what = f"{form} is not faster than float32" if slow else f"{form} keeps less than {kept}"
        remedy = "use it as it is: the engine auto computes in float32"
        if (folder / DERIVED).is_dir():
            remedy = f"the form made before stays in use; to be rid of it, delete {folder / DERIVED}"
        raise InputError(what, where=str(folder), remedy=remedy)
    click.echo(f"kept: {found.kept}. The engine auto uses it from now on.")


@click.command()
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Draw it: loss, held-out queries, tokens per second.")
@click.option("--tensorboard", type=click.Path(path_type=Path, file_okay=False), help="Write event files for TensorBoard into this folder.")
def log(log: Path, svg: Path | None, tensorboard: Path | None) -> None:
    """Say what a training's log says; draw it, or hand it to TensorBoard.

    LOG is the file, or a folder with it: a model's, or `training/...` of a workspace, also while training goes on.
    """
    from zelo.report.run_log import find_log, read_log, summary, to_svg, to_tensorboard

    file = find_log(log)
    found = read_log(file)
    click.echo("\n".join(summary(found)))
    if svg is not None:
        svg.write_text(to_svg(found, f"{file.parent.name}/{file.name}"), "utf-8")
        click.echo(f"{svg}: written")
    if tensorboard is not None:
        click.echo(
            f"{tensorboard}: {to_tensorboard(found, tensorboard):,} values. Next: tensorboard --logdir {shlex.quote(str(tensorboard))}"
        )
