"""Commands that use what was made: explain a ranking, rerank documents, score a table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from zelo.commands.base import ENGINE, WORKSPACE, open_workspace
from zelo.errors import InputError


@click.command()
@WORKSPACE
@click.argument("query")
@click.argument("document", required=False)
def show(workspace: Path, query: str, document: str | None) -> None:
    """Explain a ranking: every comparison behind a score, who said what, the score with its error.

    QUERY is a query id, or words of a question; DOCUMENT a document id.
    """
    from zelo import runner
    from zelo.show import explain_document, explain_query

    opened = open_workspace(workspace)
    for line in explain_document(opened, query, document) if document else explain_query(opened, query):
        click.echo(line)
    old = next((state for state in runner.status(opened) if state.entry is not None and not state.done), None)
    if old is not None:
        click.echo(
            f"these results are from before a change ({old.stage.name}: {old.reason}); `zelo run {opened.root}` brings them up to date",
            err=True,
        )


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--query", required=True, help="The question.")
@ENGINE
@click.option("--top", type=click.IntRange(min=1), help="Print at most so many documents.")
@click.argument("documents", type=click.File("r", encoding="utf-8"), default="-")
def rerank(model: Path, query: str, engine: Any, top: int | None, documents: Any) -> None:
    """Score documents with a trained model, best first: one JSON object per line.

    MODEL is a model folder, or a workspace: its own texts then get exactly the scores of its rankings. DOCUMENTS is a file or
    standard input, one document per line: JSON with "text" (and "_id", "title"), or plain text.
    """
    from zelo.serve.loading import load_served

    if not query.strip():
        raise InputError("the query is empty", remedy="give --query a question")
    reranker = load_served(model, engine).reranker
    try:
        rows = [_document(line, f"{documents.name}:{number}") for number, line in enumerate(documents, 1) if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 ({error.reason})", where=documents.name, remedy="save it as UTF-8") from error
    if not rows:
        raise InputError("no documents", where=documents.name, remedy="give one per line")
    scores = reranker.score(query, [text for _, text in rows]).tolist()
    for i in sorted(range(len(rows)), key=lambda i: -scores[i])[:top]:
        click.echo(json.dumps({"_id": rows[i][0], "score": round(scores[i], 6), "text": rows[i][1]}, ensure_ascii=False))


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--first", metavar="COLUMN", help="The column of one item of each pair.")
@click.option("--second", metavar="COLUMN", help="The column of the other.")
@click.option("--result", metavar="COLUMN", help="The probability that the first is better: 1 won, 0 lost, 0.5 a draw.")
@click.option("--group", metavar="COLUMN", help="Groups that are scored apart, as queries are.")
@click.option("--link", type=click.Choice(["probit", "logit"]), default="probit", show_default=True, help="Thurstone or Bradley-Terry.")
@click.option(
    "--dispersion",
    type=click.Choice(["estimated", "none"]),
    default="estimated",
    show_default=True,
    help="How many independent comparisons a weight of 1 is worth: from the data (from 200 pairs on), or one.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write a .csv or .parquet file instead of printing CSV.")
def scores(table: Path, out: Path | None, **columns: Any) -> None:
    """Fit one score per item from a table of who was preferred to whom.

    TABLE is a .csv, .jsonl or .parquet file, a workspace is not needed. Columns that are not named are looked for: first, second
    and result or winner, winner and loser, or those of a workspace's preferences.parquet.
    """
    from zelo.frames import write_frame
    from zelo.tables import fit_scores

    write_frame(fit_scores(table, **columns), out, sys.stdout)


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
