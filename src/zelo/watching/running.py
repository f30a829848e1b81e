"""`zelo watch`: read what is new in the logs, judge the days that are over, seal them, put all days on charts."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from zelo.core.control_charts import Point
from zelo.errors import InputError, JudgeError, WorkspaceError
from zelo.judges.journal import Journal
from zelo.pipeline import Context
from zelo.progress import Progress
from zelo.recipe import Recipe
from zelo.watching.asking import JournalPanel, read_anchors, recipe_told, told
from zelo.watching.days import Days, News, write_json
from zelo.watching.drift import Chart, Drift, assess
from zelo.watching.finding import HEAD, Prepared, WorkspaceFinder, prepare
from zelo.watching.judging import Anchor, judge_searches
from zelo.watching.sampling import Gathered
from zelo.watching.sorting import Failure
from zelo.workspace import Workspace

_MANY_UNKNOWN = 0.1
"""Share of returned documents without a text here above which it is said."""
_NEEDED = ("corpus", "queries", "splits", "vectors", "scores", "judges", "model")


@dataclass(frozen=True)
class Watched:
    """What a run of `zelo watch` did and found."""

    judged: tuple[str, ...]
    sealed: Mapping[str, Mapping[str, Any]]
    drift: Drift
    notes: tuple[str, ...]


def watch(workspace: Workspace, logs: Sequence[Path], until: str, source: Path | None, progress: Progress) -> Watched:
    """Judge the days up to `until` that are not judged yet; what an interruption left is gone on with.

    Args:
        workspace: one that has run up to `train`.
        logs: of live searches.
        until: the last day that is over, as 2026-03-01.
        source: what should be in the corpus, see `WorkspaceFinder`.
        progress: shows what happens.

    Raises:
        WorkspaceError: the workspace lacks what is needed.
        InputError: a log cannot be read, or too much of it.
        JudgeError: a judge cannot go on, or too many answers are missing. What was answered is kept.
    """
    missing = [name for name in _NEEDED if not workspace.path(name).exists()]
    if missing:
        what = f"has no {', '.join(missing)} yet: watching needs its first stages, scores and student"
        raise WorkspaceError(what, where=str(workspace.root), remedy=f"`zelo run {workspace.root}` makes them")
    days, settings = Days(workspace.root), workspace.recipe.watch
    days.folder.mkdir(exist_ok=True)
    with workspace.locked():
        news = days.read(list(logs), until, settings.baseline_from, workspace.recipe.seed)
        judged = tuple(_judge_all(workspace, days, news, source, progress))
        days.close(news)
        sealed = days.sealed()
        notes = (*_notes(news), *_notes_of_days({day: sealed[day] for day in judged}, workspace.recipe), *_silence(sealed, until))
        return Watched(judged, sealed, assess(sealed, settings), notes)


def look(workspace: Workspace) -> Watched:
    """Return what is known without reading a log or asking anybody."""
    days = Days(workspace.root)
    sealed = days.sealed()
    return Watched((), sealed, assess(sealed, workspace.recipe.watch), ())


def _judge_all(workspace: Workspace, days: Days, news: News, source: Path | None, progress: Progress) -> Iterator[str]:
    if not news.days:
        return
    context = Context(workspace, workspace.recipe, workspace.root, progress)
    finder = WorkspaceFinder(context, workspace.recipe.watch.pool, source)
    anchors = read_anchors(context)
    with Journal(days.journal, keep_reasoning=workspace.recipe.judge.keep_reasoning) as journal:
        for day in sorted(news.days):
            progress.note(f"{day}: {news.days[day].searches:,} searches ...")
            record = judge_day(day, news.days[day], _Judging(context, finder, journal, anchors, days))
            days.seal(day, record)
            yield day


@dataclass(frozen=True)
class _Judging:
    """What judging a day takes."""

    context: Context
    finder: WorkspaceFinder
    journal: Journal
    anchors: Sequence[Anchor]
    days: Days


def judge_day(day: str, gathered: Gathered, tools: _Judging) -> dict[str, Any]:
    """Sample a day's searches and have them judged within the day's budget; returns the record to seal."""
    recipe, journal = tools.context.recipe, tools.journal
    dollars, tokens = tools.days.begin(day, journal.spent())
    cap = dollars + recipe.watch.dollars if recipe.watch.dollars else 0.0
    capped = replace(recipe, judge=replace(recipe.judge, budget_dollars=cap, budget_tokens=0))
    sampled = gathered.sample(most_searches(recipe))
    all_prepared = [prepare(one.search, tools.finder, recipe.watch.challengers, recipe.watch.depth) for one in sampled]
    _check_known(all_prepared, day)
    groups: dict[tuple[str, str], list[int]] = {_plain(recipe): []}  # always there: its judges say whether days compare
    for i, one in enumerate(sampled):
        groups.setdefault(told(recipe, one.search), []).append(i)
    rows: list[dict[str, Any] | None] = [None] * len(sampled)
    answered, spent, names, setup = 0, False, list[str](), dict[str, Any]()
    for (criterion, about), members in groups.items():
        context = replace(tools.context, recipe=recipe_told(capped, criterion, about))
        panel = JournalPanel(context, journal, tools.finder.signals, tools.anchors)
        if (criterion, about) == _plain(recipe):
            names = [f"{name} {prompt}" for name, prompt in panel.names]
            setup = _setup(tools.context, panel)
        prepared = [all_prepared[i] for i in members]
        found = judge_searches(prepared, panel, tools.anchors, recipe.watch.anchors, recipe.seed)
        if not panel.spent:
            _check_missing(found, recipe, day)
        for i, row in zip(members, found, strict=True):
            rows[i] = row | {"stratum": sampled[i].stratum, "weight": sampled[i].weight}
        answered, spent = answered + panel.answered, spent or panel.spent
    kept = [row for row in rows if row is not None and not (row["quality"] is None and row["missing"])]
    return {
        "day": day,
        "searches": gathered.searches,
        "empty": gathered.empty,
        "clicked": gathered.clicked,
        "clicks_logged": gathered.logged_clicks,
        "candidates_logged": gathered.with_candidates,
        "sampled": len(sampled),
        "unjudged": len(sampled) - len(kept),
        "budget_spent": spent,
        "answers": answered,
        "dollars": round(journal.spent()[0] - dollars, 9),
        "tokens": journal.spent()[1] - tokens,
        "judges": names,
        "setup": setup,
        "returned": sum(len(p.search.returned) for p in all_prepared),
        "unknown": sum(p.unknown for p in all_prepared),
        "rows": kept,
    }


def _plain(recipe: Recipe) -> tuple[str, str]:
    return recipe.judge.criterion, recipe.judge.context


def most_searches(recipe: Recipe) -> int:
    """Return how many searches of a day may be judged: as many as are wished, within the day's questions."""
    settings, judges = recipe.watch, len(recipe.judge.ensemble)
    each = judges * (HEAD * settings.challengers + settings.anchors)
    return max(1, min(settings.per_day, settings.questions // each))


def _setup(context: Context, panel: JournalPanel) -> dict[str, Any]:
    """Return what, beside the judges, a day's figures depend on: days that differ in it do not compare."""
    settings = context.recipe.watch
    found: dict[str, Any] = {name: getattr(settings, name) for name in ("challengers", "depth", "pool", "anchors")}
    found["weights"] = [round(weight, 6) for weight in (panel.weights / panel.weights.sum()).tolist()]
    return found | {"student": (context.workspace.digest("model") or "")[:16]}


def _check_known(prepared: Sequence[Prepared], day: str) -> None:
    """Refuse a day of which nothing that was returned is known: it would be judged by nothing and look well."""
    ids = [doc.doc_id for p in prepared for doc in p.search.returned]
    if ids and not any(p.head for p in prepared):
        what = f"none of the documents that were returned on {day} is in the workspace, such as {ids[0]!r}"
        remedy = "make the workspace from the documents that the live system has, with their ids, or log their texts"
        raise InputError(what, where="zelo watch", remedy=remedy)


def _check_missing(rows: Sequence[Mapping[str, Any]], recipe: Recipe, day: str) -> None:
    judges = len(recipe.judge.ensemble)
    wanted = sum(len(row["head"]) * len(row["challengers"]) * judges for row in rows)
    missing = sum(row["missing"] for row in rows)
    if missing > recipe.judge.max_missing * wanted:
        what = f"{missing:,} of {wanted:,} answers about {day} are missing"
        raise JudgeError(what, where="zelo watch", remedy="run again to retry only those, or raise judge.max_missing")


def _notes(news: News) -> Iterator[str]:
    for name, reading in news.readings.items():
        short = Path(name).name
        if reading.faults:
            shown = "; ".join(reading.named)
            yield f"{count(reading.faults, 'line')} of {short} cannot be read and left out; the last: {shown}"
        if reading.late:
            yield f"{count(reading.late, 'search', 'searches')} of {short} came after their day had been judged, left out"
    for log in news.replaced:
        former = f"give the former one too, as in --log {log}.1 --log {log}"
        yield f"{log.name} is another file than at the last run (rotated?): what was not judged of the former one is missing; {former}"
    repeated = sum(gathered.repeated for gathered in news.days.values())
    if repeated:
        yield f"{count(repeated, 'line')} told of the same search again (same time, words and documents) and counted once"
    if news.waiting:
        yield f"{count(news.waiting, 'search', 'searches')} of days that are not over"


def _notes_of_days(judged: Mapping[str, Mapping[str, Any]], recipe: Recipe) -> Iterator[str]:
    for day, record in judged.items():
        if record["unknown"] > _MANY_UNKNOWN * record["returned"]:
            said = f"{record['unknown']:,} of {record['returned']:,} documents that the sample returned"
            yield f"{day}: {said} are not in the workspace and were not compared: are its documents those of the live system?"
    if judged and most_searches(recipe) < recipe.watch.per_day:
        said = f"watch.questions = {recipe.watch.questions:,} pays for {most_searches(recipe):,} searches a day"
        yield f"{said}, watch.per_day asks for {recipe.watch.per_day:,}"


def _silence(sealed: Mapping[str, object], until: str) -> Iterator[str]:
    """Say that the log has stopped: an old verdict looks like a new one."""
    last = max(sealed, default="")
    missing = (date.fromisoformat(until) - date.fromisoformat(last)).days if last else 0
    if missing > 0:
        yield f"no searches in the logs after {last}: {count(missing, 'day')} up to {until} without any"


def count(number: int, one: str, many: str = "") -> str:
    """Return "1 day" or "2 days"."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def write_reports(workspace: Workspace, found: Watched) -> dict[str, Any]:
    """Write watch/report.json, watch/failures.jsonl and watch/index.html; returns what the first one holds."""
    from zelo.watching.page import render

    days = Days(workspace.root)
    summary = summarized(workspace, found)
    write_json(days.folder / "report.json", summary)
    shown = ("query", "customer", "place", "head", "level", "candidates_logged")
    lines = [
        {"day": f.day, **vars_of(f.failure), **{key: f.row[key] for key in shown}, "better_words": f.better, "first_words": f.first}
        for f in found.drift.failures
    ]
    partial = days.folder / ".failures.partial"
    partial.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    partial.replace(days.folder / "failures.jsonl")
    partial.write_text(render(workspace, found, summary), "utf-8")
    partial.replace(days.folder / "index.html")
    return summary


def summarized(workspace: Workspace, found: Watched) -> dict[str, Any]:
    """Return what was found as plain values: the JSON that alerts are made from."""
    drift = found.drift
    last = found.sealed[drift.days[-1]] if drift.days else None
    counts = Counter(f.failure.kind for f in drift.failures if drift.days and f.day == drift.days[-1])
    day = None if last is None else {key: value for key, value in last.items() if key != "rows"} | {"failures": dict(counts)}
    ordinary = list(drift.days[: workspace.recipe.watch.baseline_days])
    return {
        "workspace": workspace.root.resolve().name,
        "days": len(drift.days),
        "last_day": drift.days[-1] if drift.days else None,
        "newly_judged": list(found.judged),
        "baseline": {"days": ordinary, "wanting": drift.wanting, "floor": drift.floor},
        "alarm": bool(drift.alarms),
        "kinds": drift.kinds,
        "likely": drift.likely,
        "alarms": [_alarm(chart) for chart in drift.alarms],
        "last": day,
        "charts": {name: _chart(chart) for name, chart in drift.charts.items()},
        "notes": list(found.notes),
    }


def _alarm(chart: Chart) -> dict[str, Any]:
    last = chart.points[-1]
    return {
        "chart": chart.name,
        "since": chart.since,
        "value": last.ewma,
        "ordinary": chart.level.mean,
        "limit": last.limit,
        "z": last.z,
    }


def _chart(chart: Chart) -> dict[str, Any]:
    return {
        "about": chart.about,
        "ordinary": chart.level.mean,
        "stderr": chart.level.stderr,
        "between_days": chart.level.between,
        "judge_error": chart.judge_error,
        "baseline": dict(zip(chart.baseline_days, chart.before, strict=True)),
        "days": {day: vars_of(point) for day, point in zip(chart.days, chart.points, strict=True)},
    }


def vars_of(item: Point | Failure) -> dict[str, Any]:
    """Return a point of a chart, or a failure, as plain values."""
    return dataclasses.asdict(item)
