"""Commands that hold systems against each other: by labels, and by the time they take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zelo.commands.base import ENGINE, SET, WORKSPACE, open_workspace, run_stages
from zelo.errors import InputError

SYSTEM = click.option(
    "--system",
    "systems",
    multiple=True,
    metavar="NAME",
    help="cohere:MODEL, jina:MODEL, voyage:MODEL, tei:ADDRESS, vllm:ADDRESS#MODEL, zelo:ADDRESS, a model folder; a language model as "
    "pairwise:JUDGE or listwise:MODEL (not for latency); repeat it for more.",
)


@click.command()
@WORKSPACE
@click.option("--force", is_flag=True, help="Run it even if it is done.")
@SYSTEM
@SET
def evaluate(workspace: Path, force: bool, systems: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Stage: every ranking against labels. Or, with --system, other rerankers in the same table.

    Each system scores the candidates of the labeled test questions. Keys come from the environment (COHERE_API_KEY, JINA_API_KEY,
    VOYAGE_API_KEY, ZELO_API_KEY). What a remote one answered is kept in the workspace and not paid again; prices are in the recipe.
    """
    if not systems:
        run_stages(workspace, start="evaluate", stop="evaluate", force=("evaluate",) if force else (), settings=settings)
        return
    from zelo import progress
    from zelo.commands.base import changed, save
    from zelo.pipeline import Context
    from zelo.systems.comparing import compare_systems, print_comparison

    opened = open_workspace(workspace)
    if settings:
        save(opened, changed(opened.recipe, settings))
    with progress.for_stream() as shown, opened.locked():
        found = compare_systems(Context(opened, opened.recipe, opened.root, shown), list(dict.fromkeys(systems)), shown)
    print_comparison(found, lambda text: click.echo(text, nl=False))


@click.command()
@WORKSPACE
@SYSTEM
@ENGINE
@click.option("--http", is_flag=True, help="Put a server in front of model folders, in a process of its own.")
@click.option("--payload", "sizes", multiple=True, type=click.FloatRange(0.1, 10_000), default=(12.0, 150.0), show_default=True, help="KB.")
@click.option("--rate", "rates", multiple=True, type=click.FloatRange(0.01, 10_000), default=(1.0,), show_default=True, help="Per second.")
@click.option("--seconds", type=click.FloatRange(0.1), default=60.0, show_default=True, help="Time in which requests arrive.")
@click.option("--warm-up", type=click.FloatRange(0.0), default=5.0, show_default=True, help="Seconds before that are not counted.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of texts, arrivals and intervals.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per measurement.")
def latency(workspace: Path, systems: tuple[str, ...], engine: Any, http: bool, as_json: bool, **protocol: Any) -> None:
    """Measure how long rerankers take: payloads of the workspace's texts, random arrivals, median, p95, p99 with error bars.

    Without --system it is the workspace's student, without the vectors of its corpus.
    """
    import numpy as np

    from zelo.collections.beir import read_corpus, read_queries
    from zelo.systems.latency import KILOBYTE, Payloads, asking, heading, line, measure

    opened = open_workspace(workspace)
    if not opened.path("corpus").is_file():
        raise InputError("has no corpus yet", where=str(workspace), remedy=f"run `zelo run {workspace}`")
    rng = np.random.default_rng(protocol["seed"])
    queries = [q.text for q in read_queries(opened.path("queries"))]
    payloads = Payloads(queries, [d.full_text for d in read_corpus(opened.path("corpus"))], rng)
    sizes = [round(size * KILOBYTE) for size in protocol["sizes"]]
    if not as_json:
        click.echo(heading())
    for name in systems or (str(opened.path("model")),):
        with asking(name, opened.root, http=http, engine=engine or opened.recipe.rank.engine) as asker:
            found = measure(name, asker, payloads, sizes, protocol["rates"], protocol["seconds"], protocol["warm_up"], rng)
            for measurement in found:
                click.echo(line(measurement, as_json=as_json))
