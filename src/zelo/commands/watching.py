"""The command that watches live retrieval."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zelo.commands.base import SET, WORKSPACE, changed, open_workspace, save
from zelo.errors import InputError

if TYPE_CHECKING:
    from zelo.watching.running import Watched

ALARM = 3
"""The exit code of an alarm."""


@click.command()
@WORKSPACE
@click.option("--log", "logs", multiple=True, type=click.Path(path_type=Path), help="Live searches, JSON Lines; repeat it for more files.")
@click.option("--until", metavar="DAY", help="The last day to judge, as 2026-03-01; without it yesterday (UTC).")
@click.option(
    "--source", type=click.Path(path_type=Path), help="What should be in the corpus: a corpus.jsonl; what is not is searched too."
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one JSON object.")
@SET
def watch(
    workspace: Path, logs: tuple[Path, ...], until: str | None, source: Path | None, as_json: bool, settings: tuple[str, ...]
) -> None:
    """Watch live retrieval: judge a sample of every day's searches, chart it, sort what fails; exit code 3 is an alarm.

    Days that are over and not judged yet are judged, each within its own budget (section watch of the recipe); then all days go on
    control charts. A failed search is one whose document was never ingested, not retrieved by the first stage, or misranked by the
    reranker. Run it once a day with the same log, to which the day was appended. Without --log it shows what is known.

    The page is watch/index.html in the workspace, failed searches are in watch/failures.jsonl, the findings in watch/report.json.
    """
    from zelo import progress
    from zelo.watching import running

    opened = open_workspace(workspace)
    save(opened, changed(opened.recipe, settings) if settings else opened.recipe)
    if not logs:
        found = running.look(opened)
        if not found.drift.days:
            raise InputError("no day has been judged yet", where=str(workspace), remedy="give --log FILE")
        summary = running.write_reports(opened, found) if settings else running.summarized(opened, found)
    else:
        with progress.for_stream() as shown:
            found = running.watch(opened, logs, _last_day(until), source, shown)
        summary = running.write_reports(opened, found)
    if as_json:
        click.echo(json.dumps(summary, ensure_ascii=False))
    else:
        for line in lines(found, summary, workspace):
            click.echo(line)
    if found.drift.alarms:
        raise click.exceptions.Exit(ALARM)


def _last_day(until: str | None) -> str:
    if until is None:
        return (datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=1)).isoformat()
    try:
        return datetime.date.fromisoformat(until).isoformat()
    except ValueError:
        raise InputError(f"{until!r} is no day", where="--until", remedy="write it as 2026-03-01") from None


def lines(found: Watched, summary: dict[str, Any], workspace: Path) -> Iterator[str]:
    """Yield what is to be read on a terminal."""
    from zelo.watching.running import count
    from zelo.watching.sorting import KINDS

    drift = found.drift
    yield from summary["notes"]
    for day in found.judged:
        record = found.sealed[day]
        judged = record["sampled"] - record["unjudged"]
        cost = f", ${record['dollars']:.4g}" if record["dollars"] else ""
        short = ", the day's budget is spent" if record["budget_spent"] else ""
        yield f"{day}: {judged:,} of {record['searches']:,} searches judged, {record['answers']:,} answers{cost}{short}"
    if not found.judged:
        yield "no new day that is over"
    if drift.left_out:
        why = "judged in another way, before watch.baseline_from, or fewer than watch.fewest searches"
        yield f"{count(drift.left_out, 'judged day')} left out: {why}"
    if drift.wanting:
        yield f"{count(len(drift.days), 'day')} judged; the baseline needs {drift.wanting} more before there are charts"
        return
    yield f"charts up to {drift.days[-1]}:"
    yield f"{'':<16}{'ordinarily':>11}{'now':>8}{'limit':>8}"
    for chart in drift.charts.values():
        if chart.points:
            last = chart.points[-1]
            mark = f"  ALARM, since about {chart.since}" if last.alarm else ""
            yield f"{chart.name.replace('_', ' '):<16}{chart.level.mean:>11.3f}{last.ewma:>8.3f}{last.limit:>8.3f}{mark}"
    if drift.alarms:
        kinds = ", then ".join(KINDS[kind] for kind in drift.kinds)  # type: ignore[index]
        likely = f"most likely {KINDS[drift.likely]}" if drift.likely else "no kind of failure stands out"  # type: ignore[index]
        kinds = kinds or f"quality; {likely}"
        yield f"ALARM: {kinds}. Failed searches with the evidence: {workspace / 'watch' / 'failures.jsonl'}"
    else:
        yield "no alarm"
    yield f"page: {workspace / 'watch' / 'index.html'}"
