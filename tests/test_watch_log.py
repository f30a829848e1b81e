"""The log of live searches: lines of ours, OpenTelemetry's spans, bad lines named, reading on where one stopped."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from zelo.errors import InputError
from zelo.watching.days import Days, News
from zelo.watching.log import Returned, Search, read_log
from zelo.watching.sampling import Gathered

OURS = {
    "time": "2026-03-01T23:30:00-02:00",
    "query": "how to list files",
    "results": [{"doc_id": "d1", "score": 0.9}, "d2", {"doc_id": "d1"}],
    "candidates": ["d1", "d2", "d3"],
    "clicks": [],
    "customer": "acme",
}


def searches(path: Path, *rows: Any) -> list[Search]:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return [search for line in read_log(path) for search in line.searches]


def test_a_line_of_ours(tmp_path: Path) -> None:
    (found,) = searches(tmp_path / "log.jsonl", OURS)
    assert found.day == "2026-03-02"
    assert found.place == "log.jsonl:1"
    assert found.returned == (Returned("d1", 0.9), Returned("d2"))
    assert found.candidates == ("d1", "d2", "d3")
    assert found.clicks == ()
    assert found.expected == ()
    assert found.customer == "acme"
    assert found.margin is None


def attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def test_spans_in_three_forms_say_the_same(tmp_path: Path) -> None:
    documents = json.dumps([{"id": "d1", "score": 0.5}, {"id": "d2", "score": 0.25}])
    generic = {
        "name": "retrieval",
        "start_time": "2026-03-01T10:00:00Z",
        "attributes": {"gen_ai.retrieval.query.text": "words", "gen_ai.retrieval.documents": documents},
    }
    indexed = {
        "start_time": "2026-03-01T10:00:00Z",
        "attributes": {
            "input.value": "words",
            **{f"reranker.output_documents.{i}.document.id": d for i, d in enumerate(("d1", "d2"))},
            **{f"reranker.output_documents.{i}.document.score": s for i, s in enumerate((0.5, 0.25))},
            **{f"reranker.input_documents.{i}.document.id": d for i, d in enumerate(("d2", "d9", "d1"))},
        },
    }
    span = {
        "startTimeUnixNano": "1772359200000000000",
        "attributes": [
            attribute("gen_ai.retrieval.query.text", "words"),
            attribute("gen_ai.retrieval.documents", documents),
            attribute("zelo.customer", "acme"),
        ],
    }
    other = {"startTimeUnixNano": "1772359200000000000", "attributes": [attribute("gen_ai.request.model", "m")]}
    exported = {"resourceSpans": [{"scopeSpans": [{"spans": [span, other]}]}]}
    first, second, third = searches(tmp_path / "spans.jsonl", generic, indexed, exported)
    assert first.returned == second.returned == third.returned == (Returned("d1", 0.5), Returned("d2", 0.25))
    assert first.time == second.time == third.time
    assert first.query == second.query == third.query == "words"
    assert second.candidates == ("d2", "d9", "d1")
    assert third.customer == "acme"
    assert first.candidates is None


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "not JSON"),
        ("[]", "no JSON object"),
        ('{"query": "a"}', 'needs "results"'),
        ('{"query": " ", "results": [], "time": 0}', "query is empty"),
        ('{"query": "a", "results": [], "time": "yesterday"}', 'needs "time"'),
        ('{"query": "a", "results": [], "time": true}', 'needs "time"'),
        ('{"query": "a", "results": [{}], "time": 0}', "no doc_id"),
        ('{"query": "a", "results": [{"doc_id": "d", "score": "high"}], "time": 0}', "no finite number"),
        ('{"query": "\\ud800", "results": [], "time": 0}', "surrogate"),
        ('{"query": "a", "results": ["\\ud800"], "time": 0}', "surrogate"),
        ('{"query": "a", "results": [], "clicks": [{"doc_id": "\\ud800"}], "time": 0}', "surrogate"),
        ('{"query": "a", "results": [{"doc_id": "d", "score": 1' + "0" * 400 + '}], "time": 0}', "no finite number"),
        ('{"name": "other"}', 'needs "query"'),
        ('{"resourceSpans": [1]}', "unknown form"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_read(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(f"{json.dumps(OURS)}\n{line}\n{json.dumps(OURS)}\n")
    lines = list(read_log(path))
    assert [bool(each.searches) for each in lines] == [True, False, True]
    assert lines[1].number == 2
    assert fault in lines[1].fault


def test_a_line_that_is_being_written_waits_and_a_packed_log_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress(f"{json.dumps(OURS)}\n{json.dumps(OURS)[:40]}".encode()))
    assert len(list(read_log(path))) == 1
    with pytest.raises(InputError, match="no such file"):
        list(read_log(tmp_path / "none.jsonl"))


def line(day: int, name: str) -> str:
    return json.dumps({"time": f"2026-03-{day:02}T12:00:00Z", "query": name, "results": []}) + "\n"


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    log, days = tmp_path / "log.jsonl", Days(tmp_path)
    log.write_text(line(1, "a") + line(2, "b") + line(1, "c") + line(3, "d"))
    news = days.read([log], "2026-03-02", "", 0)
    assert {day: g.searches for day, g in news.days.items()} == {"2026-03-01": 2, "2026-03-02": 1}
    assert news.waiting == 1
    for day in news.days:
        days.seal(day, {"rows": []})
    days.close(news)
    with log.open("a") as handle:
        handle.write(line(2, "late") + "nonsense\n" + "".join(line(3, str(i)) for i in range(9)))
    news = days.read([log], "2026-03-03", "", 0)
    (reading,) = news.readings.values()
    assert {day: g.searches for day, g in news.days.items()} == {"2026-03-03": 10}
    assert reading.late == 1
    assert reading.faults == 1
    assert reading.named == ["log.jsonl:6: not JSON (Expecting value)"]


def test_a_run_that_was_killed_reads_the_same_again(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("".join(line(1 + i % 2, str(i)) for i in range(50)))
    first = Days(tmp_path).read([log], "2026-03-02", "", 0)
    again = Days(tmp_path).read([log], "2026-03-02", "", 0)  # nothing was sealed or closed
    assert [s.query for s in first.days["2026-03-01"].reservoir] == [s.query for s in again.days["2026-03-01"].reservoir]
    assert next(iter(again.readings.values())).late == 0


def test_a_log_that_is_mostly_unreadable_stops_the_run(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(line(1, "a") + "x\n" * 3)
    with pytest.raises(InputError, match=r"3 of 4 new lines cannot be read; the last: log\.jsonl:4"):
        Days(tmp_path).read([log], "2026-03-01", "", 0)


def test_the_sample_of_a_day_is_the_same_in_any_order_and_covers_the_strata(tmp_path: Path) -> None:
    rows = []
    for i in range(400):
        results = [{"doc_id": "a", "score": 1.0}, {"doc_id": "b", "score": i / 400}]
        rows.append(OURS | {"query": f"q{i}", "results": results, "clicks": ["a"] if i % 10 == 0 else []})
    found = searches(tmp_path / "log.jsonl", *rows)
    samples = []
    for order in (found, found[::-1]):
        gathered = Gathered(0)
        for search in order:
            gathered.add(search)
        samples.append(gathered.sample(40))
    assert samples[0] == samples[1]
    assert len(samples[0]) == 40
    assert {one.stratum for one in samples[0]} == {"clicked, clear", "clicked, close", "no click, clear", "no click, close"}
    clicked = sum(one.weight for one in samples[0] if one.search.clicks)
    assert clicked == pytest.approx(0.1)
    assert sum(one.weight for one in samples[0]) == pytest.approx(1)


def test_two_logs_of_one_name_are_both_read(tmp_path: Path) -> None:
    logs = []
    for name in "ab":
        (tmp_path / name).mkdir()
        logs.append(tmp_path / name / "log.jsonl")
        logs[-1].write_text(line(1, name))
    news = Days(tmp_path).read(logs, "2026-03-01", "", 0)
    assert sorted(search.query for search in news.days["2026-03-01"].reservoir) == ["a", "b"]


def watched(folder: Path, logs: list[Path], until: str) -> tuple[News, list[str]]:
    """Read as a run does that judges everything that is over."""
    days = Days(folder)
    news = days.read(logs, until, "", 0)
    for day in news.days:
        days.seal(day, {"rows": []})
    days.close(news)
    return news, sorted(search.query for gathered in news.days.values() for search in gathered.reservoir)


def test_a_rotated_log_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    log, packed = tmp_path / "log.jsonl", tmp_path / "log.jsonl.1.gz"
    log.write_text(line(1, "a") + line(2, "b"))
    assert watched(tmp_path, [log], "2026-03-01")[1] == ["a"]
    log.write_text(log.read_text() + line(2, "c"))
    packed.write_bytes(gzip.compress(log.read_bytes()))
    log.write_text(line(2, "d"))
    news, queries = watched(tmp_path, [packed, log], "2026-03-02")
    assert queries == ["b", "c", "d"]  # of the former file what had not been judged, and nothing late
    assert (sum(r.late for r in news.readings.values()), news.replaced) == (0, [])
    packed.write_bytes(gzip.compress((line(3, "e") + line(3, "f")).encode()))  # the next night, under the same name
    log.write_text(line(3, "g"))
    news, queries = watched(tmp_path, [packed, log], "2026-03-03")
    assert queries == ["e", "f", "g"]
    assert [path.name for path in news.replaced] == ["log.jsonl"]  # whose "d" had been judged, but nobody knows whether it had grown


def test_a_file_given_twice_and_a_search_logged_twice_count_once(tmp_path: Path) -> None:
    log, link, copy = tmp_path / "log.jsonl", tmp_path / "link.jsonl", tmp_path / "copy.jsonl"
    log.write_text(line(1, "a") + line(1, "b") + line(1, "a"))
    link.symlink_to(log)
    copy.write_text(line(1, "b"))
    news, queries = watched(tmp_path, [log, link, copy, log], "2026-03-01")
    assert queries == ["a", "b"]
    assert (news.days["2026-03-01"].searches, news.days["2026-03-01"].repeated) == (2, 2)


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, 1_000_000_000])
def test_time_in_any_unit(tmp_path: Path, unit: int) -> None:
    (found,) = searches(tmp_path / "log.jsonl", OURS | {"time": 1_772_323_200 * unit})
    assert found.day == "2026-03-01"
