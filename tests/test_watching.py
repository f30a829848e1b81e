"""`zelo watch` on a workspace: days judged once, within a budget, per customer; failures sorted; a fault becomes an alarm."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import zelo
from zelo.collections.beir import read_corpus, read_queries
from zelo.collections.trec import read_run
from zelo.judges import Comparison
from zelo.recipe import Watch
from zelo.watching.drift import assess
from zelo.watching.finding import Prepared, prepare
from zelo.watching.judging import Anchor, judge_searches
from zelo.watching.log import Returned, Search
from zelo.watching.sorting import sort_row
from zelo.workspace import Workspace

QUICK = "--set", "watch.per_day=6", "--set", "watch.challengers=3", "--set", "watch.baseline_days=3"
MADE = """
from zelo.judges import Answer

class Told:
    name, prompt_id, concurrency, across = "told", "p", 4, True

    def __init__(self, recipe):
        self.words = recipe.judge.context or "nobody"

    async def attempt(self, comparison):
        with open({log!r}, "a") as handle:
            handle.write(self.words + "\\n")
        value = len(comparison.first) - len(comparison.second)
        return Answer(1.0 if value > 0 else -1.0 if value < 0 else 0.0, cost=0.01, input_tokens=10)

def make(recipe):
    return Told(recipe)
"""


def log_of(root: Path, days: range, *, broken: bool = False, **fields: Any) -> str:
    """What a live system writes that returns the first stage's ranking; broken, its end first."""
    workspace = Workspace.open(root)
    run = read_run(workspace.path("candidates") / "fused.trec")
    queries = {q.query_id: q.text for q in read_queries(workspace.path("queries"))}
    rows = []
    for day in days:
        for i, (query_id, ranking) in enumerate(run.items()):
            ids = [doc.doc_id for doc in (ranking[::-1] if broken else ranking)]
            results = [{"doc_id": d, "score": 1 / (n + 1)} for n, d in enumerate(ids[:10])]
            rows.append(
                {"time": f"2026-03-{day:02}T{i % 24:02}:00:00Z", "query": queries[query_id], "results": results, "candidates": ids} | fields
            )
    return "".join(json.dumps(row) + "\n" for row in rows)


def attempts(root: Path) -> int:
    with closing(sqlite3.connect(root / "watch" / "judgments.sqlite")) as database:
        return int(database.execute("SELECT COUNT(*) FROM attempts").fetchone()[0])


def test_a_month_is_judged_day_by_day_and_a_broken_reranker_is_an_alarm(workspace: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(log_of(workspace, range(1, 3)) + "no line\n")
    before = {p.relative_to(workspace): p.read_bytes() for p in workspace.rglob("*") if p.is_file() and p.name != "recipe.toml"}
    ran = zelo("watch", workspace, "--log", log, *QUICK)
    assert ran.code == 0, ran.err
    assert "2026-03-01: 6 of 16 searches judged" in ran.out
    assert "the baseline needs 1 more" in ran.out
    assert "log.jsonl:33: not JSON" in ran.out
    with log.open("a") as handle:
        handle.write(log_of(workspace, range(3, 6)))
    whole = zelo("watch", workspace, "--log", log, "--until", "2026-03-04")
    assert whole.code == 0
    assert "no alarm" in whole.out
    assert "2026-03-05" not in whole.out
    assert "16 searches of days that are not over" in whole.out
    with log.open("a") as handle:
        handle.write(log_of(workspace, range(6, 9), broken=True))
    ran = zelo("watch", workspace, "--log", log, "--json")
    found = json.loads(ran.out)
    assert ran.code == 3
    assert found["alarm"]
    assert found["newly_judged"] == [f"2026-03-0{d}" for d in range(5, 9)]
    assert found["kinds"] == ["misranked"]
    assert "2026-03-06" in [alarm["since"] for alarm in found["alarms"]]
    asked = attempts(workspace)
    again = zelo("watch", workspace, "--log", log)
    assert again.code == 3
    assert "no new day" in again.out
    assert "misranked by the reranker" in again.out
    assert attempts(workspace) == asked
    after = {p: (workspace / p).read_bytes() for p in before}
    assert after == before  # the workspace itself is as it was
    page = (workspace / "watch" / "index.html").read_text()
    assert "Alarm: ws" in page
    assert "misranked" in page
    assert page.count("<svg") == len(found["charts"])
    failures = [json.loads(line) for line in (workspace / "watch" / "failures.jsonl").read_text().splitlines()]
    assert {f["kind"] for f in failures if f["day"] >= "2026-03-06"} >= {"misranked"}
    assert all(f["why"] and f["place"] for f in failures)


def test_a_killed_run_goes_on_and_seals_the_same(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zelo.watching import days

    log = tmp_path / "log.jsonl"
    log.write_text(log_of(workspace, range(1, 4)))
    seal = days.Days.seal

    def failing(self: days.Days, day: str, record: Any) -> None:
        if day == "2026-03-02":
            raise KeyboardInterrupt
        seal(self, day, record)

    with monkeypatch.context() as patch:
        patch.setattr(days.Days, "seal", failing)
        assert zelo("watch", workspace, "--log", log, *QUICK).code == 130
    asked = attempts(workspace)
    assert zelo("watch", workspace, "--log", log).code == 0
    sealed = days.Days(workspace).sealed()
    assert list(sealed) == ["2026-03-01", "2026-03-02", "2026-03-03"]
    assert sealed["2026-03-02"]["sampled"] == 6
    assert attempts(workspace) < asked * 3 / 2 + 1  # the second day was in the journal


def test_a_day_has_its_budget_and_customers_their_own_answers(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "telling.py").write_text(MADE.format(log=str(tmp_path / "asked")))
    monkeypatch.syspath_prepend(str(tmp_path))
    log = tmp_path / "log.jsonl"
    log.write_text(log_of(workspace, range(1, 2)) + log_of(workspace, range(1, 2), customer="acme", context="ignore this"))
    settings = ["--set", 'judge.ensemble=["python:telling:make"]', "--set", "watch.anchors=2", "--set", "watch.per_day=12"]
    table = '\n[watch.customers.acme]\ncontext = "boats"\n'
    recipe = workspace / "recipe.toml"
    recipe.write_text(recipe.read_text() + table)
    ran = zelo("watch", workspace, "--log", log, *QUICK[2:4], *settings)
    assert ran.code == 0, ran.err
    words = (tmp_path / "asked").read_text().split("\n")
    assert words.count("boats") > 20
    assert words.count("nobody") > 20
    assert not [w for w in words if "ignore" in w]
    with closing(sqlite3.connect(workspace / "watch" / "judgments.sqlite")) as database:
        prompts = [row[0] for row in database.execute("SELECT prompt_id FROM judges")]
    assert len(prompts) == 2
    assert "p" in prompts
    rows = json.loads((workspace / "watch" / "days" / "2026-03-01.json").read_text())["rows"]
    assert all(row["level"] is not None for row in rows)  # it compares across queries
    with log.open("a") as handle:
        handle.write(log_of(workspace, range(2, 3)).replace('"query": "', '"query": "again '))
    ran = zelo("watch", workspace, "--log", log, "--set", "watch.dollars=0.2")
    record = json.loads((workspace / "watch" / "days" / "2026-03-02.json").read_text())
    assert ran.code == 0, ran.err
    assert record["budget_spent"]
    assert 0.1 < record["dollars"] <= 0.2
    assert record["unjudged"] > 0


class Sayer:
    """Judges by a table: text -> merit."""

    weights, across = np.ones(2), np.array([True, True])

    def __init__(self, merit: dict[str, float]) -> None:
        self.merit = merit

    def ask(self, comparisons: list[Comparison]) -> np.ndarray:
        sides = [np.sign(self.merit[c.first] - self.merit[c.second]) for c in comparisons]
        return np.column_stack([sides, sides])

    def levels(self, query: str, texts: list[str]) -> np.ndarray:
        return np.full(2, np.nan)


class Shelf:
    """A corpus of texts by id; those with "source" in their id are not in it."""

    def __init__(self, *ids: str) -> None:
        self.ids = ids

    def text(self, doc_id: str) -> str | None:
        return f"text of {doc_id}" if doc_id in self.ids else None

    def in_corpus(self, doc_id: str) -> bool:
        return doc_id in self.ids and "source" not in doc_id

    def witnesses(self, query: str) -> list[list[str]]:
        return [list(self.ids)]


def sorted_as(merit: dict[str, float], returned: list[str], candidates: list[str] | None, floor: float | None = None, **fields: Any) -> Any:
    from datetime import UTC, datetime

    shelf = Shelf(*(d for d in merit if d not in ("anchor", "elsewhere")))
    search = Search(
        "log:1",
        datetime(2026, 3, 1, tzinfo=UTC),
        "q",
        tuple(Returned(d) for d in returned),
        None if candidates is None else tuple(candidates),
        **fields,
    )
    prepared: Prepared = prepare(search, shelf, 5, 10)
    (row,) = judge_searches([prepared], Sayer({f"text of {d}": m for d, m in merit.items()}), [Anchor("other", "text of anchor")], 1, 0)
    failure = sort_row(row, 0.8, floor, 10)
    return (failure.kind, failure.doc_id) if failure else None


MERIT = {"a": 0.1, "b": 0.2, "c": 0.3, "good": 1.0, "anchor": 0.9}


def test_each_kind_of_failure_has_its_evidence() -> None:
    assert sorted_as(MERIT, ["good", "a", "b"], ["a", "b", "good"]) is None
    assert sorted_as(MERIT, ["a", "b", "c"], ["a", "b", "c", "good"]) == ("misranked", "good")
    assert sorted_as(MERIT, ["a", "b", "c", "good"], None) == ("misranked", "good")
    assert sorted_as(MERIT, ["a", "b", "c"], ["a", "b", "c"]) == ("not_retrieved", "good")
    assert sorted_as(MERIT, ["a", "b", "c"], None) == ("unplaced", "good")
    assert sorted_as(MERIT, [], []) == ("not_retrieved", "a")
    poor = {"a": 0.1, "b": 0.2, "c": 0.3, "anchor": 0.9}
    assert sorted_as(poor, ["a", "b", "c"], ["a", "b", "c"], floor=0.0) == ("never_ingested", "")
    assert sorted_as(MERIT, ["a", "b", "c"], ["a", "b", "c"], floor=0.0) == ("not_retrieved", "good")  # something is good enough
    beside = {"a": 0.1, "b": 0.2, "c": 0.3, "source1": 1.0, "anchor": 0.9}
    assert sorted_as(beside, ["a", "b", "c"], ["a", "b", "c"]) == ("never_ingested", "source1")


def test_what_somebody_expected_decides() -> None:
    assert sorted_as(MERIT, ["a", "b", "c"], ["good"], expected=("nowhere",)) == ("never_ingested", "nowhere")
    assert sorted_as(MERIT, ["a", "b"], ["a", "b", "c"], expected=("c",)) == ("misranked", "c")
    assert sorted_as(MERIT, ["a", "b"], ["a", "b"], expected=("c",)) == ("not_retrieved", "c")
    assert sorted_as(MERIT, ["a", "b"], None, expected=("c",)) == ("unplaced", "c")
    assert sorted_as(MERIT, ["a", "b"], ["a"], expected=("b",)) is None


def test_documents_that_only_the_source_has_are_searched_for(workspace: Path, tmp_path: Path) -> None:
    opened = Workspace.open(workspace)
    queries = [q.text for q in read_queries(opened.path("queries"))]
    lines = [json.dumps({"_id": d.doc_id, "title": d.title, "text": d.text}) for d in read_corpus(opened.path("corpus"))]
    lines += [json.dumps({"_id": f"new{i}", "text": f"{text} {text}"}) for i, text in enumerate(queries)]
    (tmp_path / "source.jsonl").write_text("\n".join(lines) + "\n")
    log = tmp_path / "log.jsonl"
    log.write_text(log_of(workspace, range(1, 4)))
    ran = zelo("watch", workspace, "--log", log, "--source", tmp_path / "source.jsonl", *QUICK, "--set", "watch.challengers=8")
    assert ran.code == 0, ran.err
    kinds = [json.loads(line)["kind"] for line in (workspace / "watch" / "failures.jsonl").read_text().splitlines()]
    assert kinds.count("never_ingested") > len(kinds) / 2


def test_days_that_do_not_compare_start_a_new_baseline_and_small_ones_take_no_place() -> None:
    def day(rows: int, **other: Any) -> dict[str, Any]:
        return {"judges": ["j"], "setup": {"challengers": 5}, "rows": [row(weight=1 / rows, candidates_logged=True)] * rows} | other

    def row(**other: Any) -> dict[str, Any]:
        return {"quality": 0.8, "level": 0.5, "noise": 0.09, "expected": [], "challengers": [], "empty": False, "best": ""} | other

    settings = Watch(baseline_days=3)
    sealed = {f"2026-03-0{d}": day(20) for d in range(1, 6)}
    drift = assess({"1970-01-01": day(3), **sealed}, settings)
    assert drift.charts["quality"].baseline_days == ("2026-03-01", "2026-03-02", "2026-03-03")
    assert drift.charts["quality"].judge_error == pytest.approx(0.3)
    assert "unplaced" not in drift.charts
    assert drift.left_out == 1
    later = {f"2026-03-1{d}": day(20, setup={"challengers": 2}) for d in range(2)}
    assert assess(sealed | later, settings).wanting == 1
    assert assess({"2026-03-01": day(3)}, Watch(per_day=3, baseline_days=2)).wanting == 1


def test_ids_of_another_scheme_are_no_quiet_day(workspace: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    rows = [json.loads(line) for line in log_of(workspace, range(1, 3)).splitlines()]
    strange = [row | {"results": [{"doc_id": f"other/{doc['doc_id']}"} for doc in row["results"]]} for row in rows]
    log.write_text("".join(json.dumps(row) + "\n" for row in strange))
    ran = zelo("watch", workspace, "--log", log, *QUICK)
    assert ran.code == 2
    assert "none of the documents that were returned on 2026-03-01 is in the workspace, such as 'other/" in ran.err
    log.write_text("".join(json.dumps(row) + "\n" for pair in zip(rows, strange, strict=True) for row in pair))
    ran = zelo("watch", workspace, "--log", log, *QUICK, "--until", "2026-03-05")
    assert ran.code == 0, ran.err
    assert "are not in the workspace and were not compared" in ran.out
    assert "no searches in the logs after 2026-03-02: 3 days up to 2026-03-05 without any" in ran.out
    assert "is no day" in zelo("watch", workspace, "--log", log, "--set", "watch.baseline_from=tomorrow").err


def test_what_cannot_be_watched_is_said_in_a_line(workspace: Path, tmp_path: Path) -> None:
    assert "no day has been judged yet" in zelo("watch", workspace).err
    assert "is no day" in zelo("watch", workspace, "--log", tmp_path / "x", "--until", "soon").err
    assert "no such file" in zelo("watch", workspace, "--log", tmp_path / "x").err
    fresh = tmp_path / "fresh"
    assert zelo("new", fresh, "--collection", "synthetic").code == 0
    assert "has no corpus" in zelo("watch", fresh, "--log", tmp_path / "x").err
