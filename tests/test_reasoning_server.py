"""Sampling, editing and guidance with a real llama.cpp server over HTTP: both tasks by one command, a kill, budget forcing."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from conftest import zelo
from tiny_llm import TinyServer, tiny_server, write_gguf, write_tiny_llm
from zelo.progress import Silent
from zelo.reasoning.folder import Folder
from zelo.reasoning.pairs import pair_problems
from zelo.reasoning.prompt_files import load_prompt
from zelo.reasoning.rating import comparisons, read_ratings
from zelo.reasoning.sampling import asks_for, plain_ask
from zelo.reasoning.writing import Desk, Knobs, Writer
from zelo.types import Problem, Task, Trace

pytest.importorskip("xllamacpp")


@pytest.fixture(scope="module")
def server() -> Iterator[TinyServer]:
    with tiny_server() as running:
        yield running


def problems(task: Task, count: int) -> list[Problem]:
    if task == "math":
        return [Problem(f"m{i}", f"What is {i} + {i}?", str(2 * i)) for i in range(count)]
    return [p for i in range(count // 2) for p in pair_problems(f"q{i}", f"query {i}", f"text {i}", f"other {i}", "A", both_orders=True)]


def folder(path: Path, task: Task, count: int = 4) -> Folder:
    made = Folder.create(path)
    made.add_problems(problems(task, count))
    return made


def attempts(state: Folder) -> list[tuple[int, int]]:
    with closing(sqlite3.connect(state.journal)) as database:
        return database.execute("SELECT question, COUNT(*) FROM attempts WHERE status = 0 GROUP BY judge, question").fetchall()


@pytest.mark.parametrize("task", ["math", "judging"])
def test_one_command_serves_both_tasks(server: TinyServer, tmp_path: Path, task: Task) -> None:
    state = folder(tmp_path / "f", task)
    model = ["--model", f"{server.url}#tiny", "--max-tokens", "40"]
    dry = zelo("reasoning", "sample", state.root, *model, "-k", "3", "--dry-run")
    assert (dry.code, dry.out.startswith("12 of 12 texts to write")) == (0, True)
    ran = zelo("reasoning", "sample", state.root, *model, "-k", "3")
    assert ran.code == 0, ran.err
    assert "tiny/long: 12 of 12 traces" in ran.out
    traces = state.traces(1)
    assert len(traces) == 12
    assert all(t.tokens and t.correct is not None and t.prompt_id.startswith("long-") for t in traces)
    assert len({t.reasoning for t in traces if t.problem_id == traces[0].problem_id}) > 1  # temperature 0.7
    before = attempts(state)
    again = zelo("reasoning", "sample", state.root, *model, "-k", "3")
    assert "0 of 12 texts to write" in again.err
    assert attempts(state) == before
    assert state.traces(1) == traces
    more = zelo("reasoning", "sample", state.root, *model, "-k", "4")
    assert "4 of 16 texts to write" in more.err
    edited = zelo("reasoning", "edit", state.root, *model, "--passes", "reflect,clean", "--temperature", "0")
    assert edited.code == 0, edited.err
    assert state.stages() == [1, 2, 3]
    assert [t.key for t in state.traces(3)] == [t.key for t in state.traces(1)]
    assert all(t.stage == 3 and t.prompt_id.startswith("clean-") for t in state.traces(3))
    graded = zelo("reasoning", "grade", state.root, "--stage", "1", "--json")
    row = json.loads(graded.out)
    assert (row["samples"], row["least"], row["problems"]) == (16, 4, 4)
    assert (row["judging"] is None) or task == "judging"
    for command in (["analyze", state.root], ["verify", state.root]):
        assert zelo("reasoning", *command).code == 0


def test_a_killed_sampling_goes_on_where_it_was(server: TinyServer, tmp_path: Path) -> None:
    state = folder(tmp_path / "f", "math", 12)
    command = [sys.executable, "-m", "zelo", "reasoning", "sample", str(state.root), "--model", f"{server.url}#tiny"]
    command += ["-k", "4", "--max-tokens", "60", "--concurrency", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if len(attempts(state)) >= 5:
                break
        except sqlite3.Error:
            pass  # the journal is not there yet
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    known = len(attempts(state))
    assert 5 <= known < 48
    assert state.stages() == []  # no half file
    ran = zelo("reasoning", "sample", state.root, "--model", f"{server.url}#tiny", "-k", "4", "--max-tokens", "60")
    assert ran.code == 0, ran.err
    assert f"{48 - known} of 48 texts to write" in ran.err
    assert len(state.traces(1)) == 48
    assert all(count == 1 for _, count in attempts(state))  # nothing was paid for twice


def test_a_killed_edit_goes_on_where_it_was(server: TinyServer, tmp_path: Path) -> None:
    state = folder(tmp_path / "f", "math", 6)
    model = ["--model", f"{server.url}#tiny", "--max-tokens", "60"]
    assert zelo("reasoning", "sample", state.root, *model, "-k", "2").code == 0
    sampled = len(attempts(state))
    command = ["reasoning", "edit", str(state.root), *model, "--passes", "expand,reflect,clean"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-m", "zelo", *command, "--concurrency", "1"], env=environment, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 90
    while time.monotonic() < end and len(attempts(state)) < sampled + 15:  # within the second pass
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert state.stages() == [1, 2]
    ran = zelo(*command)
    assert ran.code == 0, ran.err
    assert "0 of 12 texts to write" in ran.err
    assert state.stages() == [1, 2, 3, 4]
    assert len(attempts(state)) == sampled + 36
    assert all(count == 1 for _, count in attempts(state))
    again = zelo(*command)
    assert (again.code, again.err.count("0 of 12 texts to write")) == (0, 3)
    other = zelo("reasoning", "edit", state.root, *model, "--passes", "complete", "--stage", "1")
    assert (other.code, "stage 2 was made by expand-" in other.err) == (2, True)


def test_guided_traces_follow_plans_of_reference_traces(server: TinyServer, tmp_path: Path) -> None:
    state = folder(tmp_path / "f", "math", 2)
    thought = "We add the two numbers up.\nWait, that is not what is asked here.\nLet me check the result again.\nSo it is \\boxed{4}"
    rows = [{"problem": f"{i} + 2?", "answer": "4", "response": thought} for i in range(3)]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert zelo("reasoning", "import", tmp_path / "ref", tmp_path / "long.jsonl").code == 0
    assert zelo("reasoning", "analyze", tmp_path / "ref", "--guide", tmp_path / "guide.json").code == 0
    model = ["--model", f"{server.url}#tiny", "--max-tokens", "20", "-k", "2"]
    ran = zelo("reasoning", "sample", state.root, *model, "--guide", tmp_path / "guide.json")
    assert ran.code == 0, ran.err
    assert {t.source for t in state.traces(1)} == {"tiny/step-guided"}
    assert all(t.tokens > 20 for t in state.traces(1))  # more than one step was written
    (tmp_path / "guide.json").write_text("{}", "utf-8")
    wrong = zelo("reasoning", "sample", state.root, *model, "--guide", tmp_path / "guide.json")
    assert wrong.code == 2
    assert "not a guide" in wrong.err


def test_budget_forcing_writes_on_from_the_same_thoughts(server: TinyServer, tmp_path: Path) -> None:
    from zelo.language_models.names import open_model

    state = folder(tmp_path / "f", "math", 1)
    asks = asks_for(state.problems().values(), 1, plain_ask(load_prompt("plain", "solve")))

    def written(name: str, knobs: Knobs) -> str:
        writer = Writer(open_model(f"{server.url}#tiny"), knobs, f"{name} {knobs.digest()}")
        found = Desk(state.journal, writer).write(asks, Silent(), "test")[0]
        assert found is not None
        return found.text

    short = written("p", Knobs(24, 0.0))
    forced = written("p", Knobs(24, 0.0, force=True))
    assert forced.startswith(short + "\n\nThe final answer is \\boxed{")
    assert len(forced) > len(short) + 30  # and the model went on


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TinyServer, Path]]:
    """The tiny model after it learned by heart which of four traces is better, and the folder with these; the longer is the better."""
    from zelo.reasoning.tune import Tuning, tune

    pytest.importorskip("accelerate")
    place = tmp_path_factory.mktemp("talking")
    state = Folder.create(place / "sums")
    state.add_problems([Problem(f"s{i}", f"{i} + {i}?", str(2 * i)) for i in range(4)])
    state.merge_traces(1, [Trace(f"s{i}", "m", 0, "Sum. " * i + f"Answer: {2 * i}", answer=str(2 * i), correct=True) for i in range(4)])
    asked, pairs = comparisons(state.traces(1), state.problems(), 2, 0)
    said = ["AB"[int(a < b)] for a, b in pairs.tolist()]
    learned = [Trace(p.problem_id, "me", 0, f"Because.\nAnswer: {s}") for p, s in zip(asked, said, strict=True)]
    known = {p.problem_id: p for p in asked}
    tune(learned, known, load_prompt("plain", "solve"), str(write_tiny_llm()), Tuning(1e-2, 30, 4), place / "judge", place / "work")
    write_gguf(place / "judge")
    with tiny_server(folder=place / "judge") as running:
        yield running, state.root


def test_traces_are_compared_rated_and_the_top_is_selected(talking: tuple[TinyServer, Path]) -> None:
    server, work = talking
    model = ["--model", f"{server.url}#judge", "--max-tokens", "40", "--temperature", "0", "--degree", "2"]
    ran = zelo("reasoning", "rate", work, *model)
    assert ran.code == 0, ran.err
    assert "4 traces rated by 4 comparisons; next" in ran.out
    ratings = read_ratings(work / "ratings.jsonl", Folder(work).traces())
    assert max(ratings, key=lambda key: ratings[key]) == ("s3", "m", 0)
    assert min(ratings, key=lambda key: ratings[key]) == ("s0", "m", 0)
    assert zelo("reasoning", "select", work, "-n", "1", "--rule", "top").code == 0
    assert [t.problem_id for t in Folder(work).selected()] == ["s3"]
    again = zelo("reasoning", "rate", work, *model)
    assert "0 of 4 texts to write" in again.err


def test_an_end_is_taken_back_and_the_model_goes_on(talking: tuple[TinyServer, Path], tmp_path: Path) -> None:
    server, work = talking
    asked, _ = comparisons(Folder(work).traces(1), Folder(work).problems(), 2, 0)
    state = Folder.create(tmp_path / "f")
    state.add_problems(asked[:2])
    model = ["--model", f"{server.url}#judge", "--max-tokens", "60", "--temperature", "0", "-k", "1", "--prompt", "plain"]
    assert zelo("reasoning", "sample", state.root, *model).code == 0
    assert zelo("reasoning", "sample", state.root, *model, "--waits", "1").code == 0
    assert zelo("reasoning", "sample", state.root, *model, "--max-tokens", "3", "--force").code == 0
    found = {t.source: t.reasoning for t in state.traces(1) if t.problem_id == asked[0].problem_id}
    plain, waited, forced = (found[f"judge/plain{end}"] for end in ("", "/wait1", "/forced"))
    assert re.fullmatch(r"Because\.\nAnswer: [AB]", plain)
    assert waited.startswith(f"{plain}\n\nWait")
    assert len(waited) > len(f"{plain}\n\nWait")
    assert re.match(r".{1,20}\n\nAnswer:.", forced, re.DOTALL)  # out of tokens, then made to answer


def test_examples_in_context_are_fitted_to_the_window(server: TinyServer, tmp_path: Path) -> None:
    state = folder(tmp_path / "f", "math", 2)
    taught = Folder.create(tmp_path / "taught")
    taught.add_problems([Problem(f"t{i}", f"What is {i} times {i}?", str(i * i)) for i in range(5)])
    rows = [{"problem_id": f"t{i}", "source": "me", "reasoning": "step. " * 200 + f"\\boxed{{{i * i}}}"} for i in range(5)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert zelo("reasoning", "import", taught.root, tmp_path / "t.jsonl").code == 0
    taught.write_selected(taught.traces(1))
    model = ["--model", f"{server.url}#tiny", "--max-tokens", "20", "-k", "1", "--examples", taught.root]
    ran = zelo("reasoning", "sample", state.root, *model, "--window", "2000")
    assert ran.code == 0, ran.err
    assert "3 of 5 examples fit" in ran.err
    assert {t.source for t in state.traces(1)} == {"tiny/3-shot"}
    small = zelo("reasoning", "sample", state.root, *model, "--window", "300")
    assert (small.code, "not one of 5 examples fits" in small.err) == (2, True)
    state.add_problems([Problem("same", "What is 3 times 3?", "9")])
    both = zelo("reasoning", "sample", state.root, *model, "--window", "4000")
    assert (both.code, "among the examples and among those to solve" in both.err) == (2, True)


def test_a_bill_needs_no_key_and_an_analysis_is_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    state = folder(tmp_path / "f", "math", 2)
    ran = zelo("reasoning", "sample", state.root, "--model", "openai:m", "--dry-run", "--input-price", "1", "--output-price", "10")
    assert (ran.code, "at most $0.33" in ran.out) == (0, True), ran.out + ran.err
    assert zelo("reasoning", "sample", state.root, "--model", "foo:m", "--dry-run").code == 2
    rows = [{"problem_id": "m1", "source": "me", "reasoning": "hm"}]
    (tmp_path / "t.jsonl").write_text(json.dumps(rows[0]), "utf-8")
    assert zelo("reasoning", "import", state.root, tmp_path / "t.jsonl").code == 0
    page = tmp_path / "a.html"
    found = json.loads(zelo("reasoning", "analyze", state.root, "--json", "--html", page).out)
    assert (found["traces"], found["right"], len(found["behaviors"]["transitions"])) == (1, 0.0, 4)
    assert "<h2>me</h2>" in page.read_text("utf-8")


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    state = folder(tmp_path / "f", "math", 2)
    ran = zelo("reasoning", "sample", state.root, "--model", "http://127.0.0.1:9/v1#none", "-k", "1", "--retries", "0", "--max-tokens", "5")
    assert ran.code == 2
    assert "not one text came" in ran.err.splitlines()[-1]
    assert state.stages() == []
