"""The stage `judge` against a model's server: faults, kills, budgets, batches, shards; what the command line says of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import REPO, SMALL, zelo
from fault_server import Call, FaultServer, text_of
from killed_judging import CONCURRENCY, answers, settings
from refusals import CLAUDE_TEMPERATURE, NEW_LIMIT, NO_FORMAT, NO_SCHEMA, NO_TEMPERATURE, OLD_LIMIT, refusing
from zelo import runner
from zelo.artifacts import Columns, read_table
from zelo.core.paired_comparison import fit_query
from zelo.errors import InputError, JudgeError, RecipeError
from zelo.judges.journal import Journal
from zelo.judges.merging import merge
from zelo.recipe import from_dict
from zelo.stages.inputs import number_documents
from zelo.stages.judge import JOURNAL
from zelo.workspace import Workspace


def says(call: Call) -> str:
    """An answer that depends on the texts alone."""
    score = int.from_bytes(hashlib.sha256(call.text.encode()).digest()[:4], "big") / 2**31 - 1
    return json.dumps({"reasoning": f"reason {score:.3f}", "score": round(score, 2)})


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zelo.judges.limits.BACKOFF_SECONDS", 0.002)
    monkeypatch.delenv("ZELO_API_KEY", raising=False)


def judged(root: Path, url: str, judges: int = 1, **more: str) -> Workspace:
    """Run the stage with the judges of a server."""
    opened = Workspace.open(root)
    opened.save_recipe(opened.recipe.with_settings({**settings(url, judges), **more}))
    runner.run(opened, start="judge", stop="judge", force=["judge"])
    return opened


def asked(server: FaultServer) -> Counter[tuple[str, str]]:
    """How often each model was asked each question."""
    return Counter((body["model"], text_of(body)) for body in server.bodies)


def asked_in_vain(root: Path) -> int:
    """How many attempts the journal has at questions that had a usable answer before."""
    with sqlite3.connect(root / JOURNAL) as database:
        query = """SELECT COUNT(*) FROM attempts a
            WHERE EXISTS (SELECT 1 FROM attempts b WHERE b.judge = a.judge AND b.question = a.question AND b.status = 0 AND b.id < a.id)"""
        database.execute("CREATE INDEX IF NOT EXISTS temporary ON attempts (judge, question, id)")
        return int(database.execute(query).fetchone()[0])


def table(workspace: Workspace, name: str = "judgments") -> Columns:
    return read_table(workspace.path(name), name)


@pytest.fixture(scope="module")
def judged_offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that the offline judges have judged; do not change it, take `workspace`."""
    root = tmp_path_factory.mktemp("judged") / "ws"
    runner.run(Workspace.create(root, from_dict(SMALL)), stop="judge")
    return root


@pytest.fixture
def workspace(judged_offline: Path, tmp_path: Path) -> Path:
    """A copy of it, times of files included."""
    return shutil.copytree(judged_offline, tmp_path / "ws")


@pytest.fixture(scope="module")
def clean(judged_offline: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Columns, Columns]:
    """The port of a server without faults, and what its judges say of a finished workspace's pairs: all of them, and the swapped ones."""
    root = shutil.copytree(judged_offline, tmp_path_factory.mktemp("clean") / "ws")
    with FaultServer(answer=says) as server:
        opened = judged(root, server.url, 2, **{"judge.swapped_share": "0.1", "judge.answers": "soft"})
        assert set(asked(server).values()) == {1}
    return server.port, table(opened), table(opened, "swapped")


def test_who_is_shown_what(clean: tuple[int, Columns, Columns], judged_offline: Path) -> None:
    _, found, swapped = clean
    pairs = read_table(judged_offline / "pairs" / "tournament.parquet", "pairs")
    count = len(pairs["query_id"])
    for name in ("query_id", "doc_id_a", "doc_id_b"):
        assert found[name] == pairs[name] * 2  # ordered by judge, then as the pairs
    assert not np.isnan(found["preference"]).any()
    first = np.array([side == "a" for side in found["shown_first"]]).reshape(2, count)
    assert 0.2 < (first[0] == first[1]).mean() < 0.8
    lead = Counter(
        (q, a if side == "a" else b)
        for q, a, b, side in zip(*(found[n][:count] for n in ("query_id", "doc_id_a", "doc_id_b", "shown_first")), strict=True)
    )
    assert set(lead.values()) == {2}  # of four comparisons
    assert {n.split("/")[0] for n in found["note"]} == {"schema"}
    assert (found["output_tokens"] > 0).all()
    assert found["reasoning"][0].startswith("reason ")
    shown = {
        (j, q, a, b): side
        for j, q, a, b, side in zip(*(found[n] for n in ("judge", "query_id", "doc_id_a", "doc_id_b", "shown_first")), strict=True)
    }
    assert 0.04 * 2 * count < len(swapped["judge"]) < 0.2 * 2 * count
    for j, q, a, b, side in zip(*(swapped[n] for n in ("judge", "query_id", "doc_id_a", "doc_id_b", "shown_first")), strict=True):
        assert shown[j, q, a, b] == ("b" if side == "a" else "a")


def test_at_30_percent_faults_nothing_is_lost_and_nothing_made_up(clean: tuple[int, Columns, Columns], workspace: Path) -> None:
    port, want, _ = clean
    with FaultServer(rate=0.3, seed=5, answer=says, hang=3.0, after=0.01, port=port) as server:
        opened = judged(workspace, server.url, 2, **{"judge.timeout": "0.4", "judge.answers": "soft", "judge.swapped_share": "0"})
        assert len(server.met) > 12
    assert asked_in_vain(workspace) == 0
    found = table(opened)
    lost = np.isnan(found["preference"])
    assert 0 < lost.sum() < 0.05 * len(lost)
    assert (found["preference"][~lost] == want["preference"][~lost]).all()  # no default, no vote out of a fault
    for i, missing in enumerate(lost):
        assert (found["status"][i] != "ok") == missing
        assert found["note"][i]
    reasons = Counter(found["status"][i] for i in np.flatnonzero(lost))
    assert set(reasons) <= {"refused", "truncated", "unparsable", "failed"}
    assert len(reasons) > 1
    with sqlite3.connect(workspace / JOURNAL) as database:
        (kept,) = database.execute("SELECT COUNT(*) FROM attempts").fetchone()
    # Every call is kept, also those that failed; some attempts timed out before they reached the server.
    assert 0 <= kept - 3 * 640 - sum(server.calls.values()) < 20
    for query_id in list(dict.fromkeys(found["query_id"]))[:4]:
        fits = []
        for preference in (found["preference"], want["preference"]):
            rows = [i for i, q in enumerate(found["query_id"]) if q == query_id and not lost[i]]
            doc_ids, first, second = number_documents(found, rows)
            fits.append(fit_query(len(doc_ids), first, second, (1 + preference[rows]) / 2).score)
        np.testing.assert_array_equal(*fits)


def test_clamped_answers_are_made_of_the_same_journal(clean: tuple[int, Columns, Columns], workspace: Path) -> None:
    port, want, _ = clean
    with FaultServer(answer=says, port=port) as server:
        soft = table(judged(workspace, server.url, 1, **{"judge.answers": "soft"}))
        calls = sum(server.calls.values())
        clamped = table(judged(workspace, server.url, 1, **{"judge.answers": "clamped"}))
        assert sum(server.calls.values()) == calls
    assert set(clamped["preference"]) == {-1.0, 0.0, 1.0}
    assert (np.sign(soft["preference"]) * clamped["preference"] >= 0).all()
    assert (soft["preference"] == want["preference"][: len(soft["preference"])]).all()


def test_killed_at_random_moments(workspace: Path) -> None:
    kills, before = 4, answers(workspace)
    with FaultServer(latency=0.02, answer=says) as server:
        opened = Workspace.open(workspace)
        opened.save_recipe(opened.recipe.with_settings(settings(server.url)))
        script = [sys.executable, str(REPO / "tests" / "killed_judging.py"), str(workspace), "--kills", str(kills), "--longest", "1.5"]
        ran = subprocess.run(script, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        found = json.loads(ran.stdout)
        assert found["kills"] >= 2
        assert found["kept"] == sorted(found["kept"])  # answers lost: 0
        under_way = found["kills"] * CONCURRENCY
        lost = sum(server.answered.values()) - (found["kept"][-1] - before)
        assert 0 <= lost == server.repeated() <= under_way  # answered, and killed before it was written down
    kept = table(Workspace.open(workspace))
    assert not np.isnan(kept["preference"]).any()


def command(root: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `zelo judge` on a workspace."""
    code = "from zelo.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "judge", str(root), *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_an_interrupt_keeps_what_was_answered_and_tells_what_is_left(workspace: Path) -> None:
    with FaultServer(latency=0.1, answer=says) as server:
        opened = Workspace.open(workspace)
        opened.save_recipe(opened.recipe.with_settings(settings(server.url)))
        before = answers(workspace)
        process = command(workspace)
        while sum(server.calls.values()) < 12 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "stopped; " in err
        assert f"{server.url}#m0: " in err
        assert err.splitlines()[-1] == "zelo: interrupted; the same command goes on from here"
        assert answers(workspace) - before == sum(server.answered.values())  # calls under way were waited for


def test_what_the_context_window_cuts_is_asked_twice_and_then_only_with_more_room(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = r"below the limit of \d+ output tokens.*larger context window"
    with FaultServer(answer=says, rate=1.0, faults=["length"]) as server:
        with pytest.raises(JudgeError, match=f"64 questions in a row.*{told}"):
            judged(workspace, server.url)
        monkeypatch.setattr("zelo.judges.running.LOST_IN_A_ROW", 10_000)
        for _ in range(2):
            with pytest.raises(JudgeError, match=told):
                judged(workspace, server.url)
            assert set(asked(server).values()) == {2}
        server.rate = 0.0
        done = judged(workspace, server.url, **{"judge.max_output_tokens": "6000"})
        assert set(asked(server).values()) == {3}
    assert set(table(done)["status"]) == {"ok"}


def test_a_wrong_key_stops_at_once(workspace: Path) -> None:
    with FaultServer(script=["401"] * 10_000) as server:
        with pytest.raises(JudgeError, match="401"):
            judged(workspace, server.url)
        assert sum(server.calls.values()) <= CONCURRENCY
    states = {state.stage.name: state.done for state in runner.status(Workspace.open(workspace))}
    assert states["pair"]
    assert not states["judge"]


def test_a_budget_stops_and_a_larger_one_goes_on(workspace: Path) -> None:
    with FaultServer(answer=says) as server:
        name = f"{server.url}#m0"
        models = f'{{"{name}" = {{input_price = 1.0, output_price = 4.0, concurrency = 4}}}}'
        with pytest.raises(JudgeError, match=r"budget of 0\.1 dollars.*raise judge\.budget_dollars"):
            judged(workspace, server.url, **{"judge.models": models, "judge.budget_dollars": "0.1", "judge.max_output_tokens": "100"})
        calls = sum(server.calls.values())
        assert 10 < calls < 640
        with Journal(workspace / JOURNAL) as journal:
            assert 0.09 < journal.spent()[0] <= 0.1
        opened = judged(workspace, server.url, **{"judge.models": models, "judge.budget_dollars": "100"})
        assert server.repeated() == 0
        assert opened.entry("judge").cost == pytest.approx(table(opened)["cost"].sum() + table(opened, "swapped")["cost"].sum())  # type: ignore[union-attr]


def test_shards_are_merged_and_found_answered(clean: tuple[int, Columns, Columns], workspace: Path, tmp_path: Path) -> None:
    port, want, _ = clean
    machines = [shutil.copytree(workspace, tmp_path / f"machine{n}") for n in range(3)]
    with FaultServer(answer=says, port=port) as server:
        for root in (workspace, *machines):
            opened = Workspace.open(root)
            opened.save_recipe(
                opened.recipe.with_settings({**settings(server.url, 2), "judge.answers": "soft", "judge.swapped_share": "0.1"})
            )
        sealed = (machines[0] / "judgments" / "ensemble.parquet").read_bytes()
        for n, root in enumerate(machines, 1):
            ran = zelo("judge", root, "--shard", f"{n}/3")
            assert ran.code == 0, ran.err
            assert f"shard {n}/3: " in ran.out
        assert (machines[0] / "judgments" / "ensemble.parquet").read_bytes() == sealed  # a shard seals nothing
        calls = sum(server.calls.values())
        for _ in range(2):
            ran = zelo("merge", workspace, *machines)
            assert ran.code == 0, ran.err
            added = [int(line.split(": ")[1].split()[0].replace(",", "")) for line in ran.out.splitlines()]
            if _ == 0:
                assert all(added)
            else:
                assert added == [0, 0, 0]
        runner.run(Workspace.open(workspace), start="judge", stop="judge")
        assert sum(server.calls.values()) == calls
        assert set(asked(server).values()) == {1}
    found = table(Workspace.open(workspace))
    assert (found["preference"] == want["preference"]).all()
    assert found["reasoning"] == want["reasoning"]
    for wrong in ("0/3", "4/3", "x", "1/0"):
        assert "is no shard" in zelo("judge", workspace, "--shard", wrong).err


def test_merging_what_overlaps(tmp_path: Path) -> None:
    from zelo.judges import Answer
    from zelo.judges.journal import Attempt

    def make(name: str, words: list[str], asked: list[tuple[int, int, float | None]], judge: str = "j") -> Path:
        with Journal(tmp_path / name) as journal:
            texts = journal.texts(words, words)
            shown = np.array([[texts[0], texts[1 + a], texts[1 + b], 0] for a, b, _ in asked])
            numbers = journal.questions(shown).tolist()
            number = journal.judge(judge, "p")
            journal.add(
                [
                    Attempt(number, q, Answer(p, "ok" if p is not None else "refused", f"{name} {p}", 3, 4, 0.5, 1.0, name))
                    for q, (_, _, p) in zip(numbers, asked, strict=True)
                ]
            )
        return tmp_path / name

    left = make("left", ["q", "x", "y", "z"], [(0, 1, 0.5), (1, 2, None)])
    right = make("right", ["q", "z", "new", "y", "x"], [(3, 2, -0.5), (2, 0, 0.25), (1, 0, 1.0)])  # x y, y z, new z
    other = make("other", ["q", "x", "y"], [(0, 1, 0.75)], judge="another")
    assert (merge(left, right), merge(left, other), merge(left, right)) == (3, 1, 0)
    with Journal(left) as journal:
        words = ["q", "x", "y", "z", "new"]
        texts = journal.texts(words, words)
        questions = journal.questions(np.array([[texts[0], texts[a], texts[b], 0] for a, b in ((1, 2), (2, 3), (4, 3))]))
        rows = journal.read(journal.standing(journal.judge("j", "p"), questions).attempt)
        assert [row[0] for row in rows] == [0.5, 0.25, 1.0]  # the first usable answer
        assert [row[6] for row in rows] == ["left", "right", "right"]
        assert [row[8] for row in rows] == ["left 0.5", "right 0.25", "right 1.0"]
        assert journal.spent() == (0.5 * 6, 7 * 6)  # both were paid
        assert len(journal.texts(words, words)) == 5
    with pytest.raises(InputError, match="with itself"):
        merge(left, left)
    with pytest.raises(InputError, match="no journal"):
        merge(left, tmp_path / "absent")
    (tmp_path / "bad").write_bytes(b"nothing " * 500)
    with pytest.raises(InputError, match="not a journal"):
        merge(left, tmp_path / "bad")


class TestSql:
    def test_it_answers_in_names(self, workspace: Path) -> None:
        ran = zelo("sql", workspace, "select judge, answered, missing from judges order by judge")
        assert ran.code == 0
        lines = [line.split() for line in ran.out.splitlines()]
        assert lines[0] == ["judge", "answered", "missing"]
        assert lines[2:] == [["dense", "640", "0"], ["late_interaction", "640", "0"], ["lexical", "640", "0"]]
        rows = [json.loads(line) for line in zelo("sql", workspace, "select * from attempts", "--json").out.splitlines()]
        sealed = table(Workspace.open(workspace))
        assert len(rows) == len(sealed["judge"])
        shown = {(r["judge"], r["query_id"], r["first"], r["second"]): r["preference"] for r in rows}
        for j, q, a, b, side, p in zip(
            *(sealed[n] for n in ("judge", "query_id", "doc_id_a", "doc_id_b", "shown_first", "preference")), strict=True
        ):
            assert (shown[j, q, a, b] if side == "a" else -shown[j, q, b, a]) == p
        assert zelo("sql", workspace, "select 1 as one, 'a,b' as two, null as three", "--csv").out == 'one,two,three\n1,"a,b",\n'
        assert "-\n" in zelo("sql", workspace, "select null as void").out
        assert zelo("sql", workspace, "select x'00ff' as b", "--csv").out == "b\n00ff\n"
        assert zelo("sql", workspace, "select 9e999 as big, x'00ff' as b", "--json").out == '{"big": null, "b": "00ff"}\n'
        for pragma in ("table_list", "table_info(texts)", "index_list(texts)"):
            assert "name" in zelo("sql", workspace, f"pragma {pragma}").out
        for empty in ("", " ; ", "/* nothing */"):
            ran = zelo("sql", workspace, empty)
            assert (ran.code, ran.out) == (2, "")
            assert "there is no question" in ran.err
            assert len(ran.err.strip().splitlines()) == 1

    def test_it_only_reads(self, workspace: Path) -> None:
        before = (workspace / JOURNAL).read_bytes()
        for statement in (
            "delete from main.attempts",
            "drop table main.texts",
            f"attach '{workspace / 'new'}' as x",
            "create temp table t (x)",
            "vacuum into 'x'",
            "pragma wal_checkpoint(TRUNCATE)",
            "pragma writable_schema=1",
            "pragma journal_mode=delete",
        ):
            ran = zelo("sql", workspace, statement)
            assert (ran.code, ran.out) == (2, "")
            assert "zelo sql only reads" in ran.err, statement
        assert (workspace / JOURNAL).read_bytes() == before
        assert not (workspace / "new").exists()
        assert "syntax error" in zelo("sql", workspace, "selec").err
        (workspace / JOURNAL).unlink()
        assert "no judgments yet" in zelo("sql", workspace, "select 1").err

    def test_it_reads_while_another_writes(self, workspace: Path) -> None:
        with Journal(workspace / JOURNAL) as journal:
            journal._database.execute("BEGIN IMMEDIATE")
            assert zelo("sql", workspace, "select count(*) n from attempts", "--csv").out == "n\n1920\n"


def body_of(row: dict[str, Any]) -> dict[str, Any]:
    """The body of a request in a batch."""
    body: dict[str, Any] = row.get("body") or row["params"]
    return body


class TestBatches:
    """By the batch service of a provider, over its real protocol."""

    def judge(self, workspace: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch, **more: str) -> Workspace:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setattr("zelo.judges.batching.POLL", (0.01, 0.05))
        opened = Workspace.open(workspace)
        models = '{"openai:m" = {batch = true, input_price = 1.0, output_price = 2.0}}'
        values = {"judge.ensemble": '["openai:m"]', "judge.models": models, "judge.answers": "soft", "judge.swapped_share": "0", **more}
        opened.save_recipe(opened.recipe.with_settings(values))
        runner.run(opened, start="judge", stop="judge", force=["judge"])
        return opened

    def test_all_come_back_and_are_asked_once(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("zelo.judges.batching.MOST", 200)
        with FaultServer(answer=says, polls=2) as server:
            opened = self.judge(workspace, server, monkeypatch)
            assert len(server.batches) == 4
            assert set(server.calls.values()) == {1}
        found = table(opened)
        assert not np.isnan(found["preference"]).any()
        tokens = found["input_tokens"].sum() * 1.0 + found["output_tokens"].sum() * 2.0
        assert opened.entry("judge").cost == pytest.approx(0.5 * tokens / 1e6)  # type: ignore[union-attr]
        told = zelo("sql", workspace, "select state, sum(questions) n from batches group by state", "--csv").out
        assert told == "state,n\ndone,640\n"

    def test_what_was_not_attempted_is_sent_again(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        faults = {"expired": 0.1, "canceled": 0.05, "overloaded": 0.05, "left-out": 0.05, "duplicate": 0.1, "error": 0.05}
        with FaultServer(answer=says, batch_faults=faults) as server:
            opened = self.judge(workspace, server, monkeypatch)
            assert server.repeated() == 0
            found = table(opened)
            lost = np.isnan(found["preference"])
            assert 0 < lost.sum() < 0.1 * len(lost)
            notes = Counter(found["note"][i] for i in np.flatnonzero(lost))
            assert all("400" in note or "before it was attempted" in note for note in notes)

    @pytest.mark.parametrize("provider", ["openai", "anthropic"])
    def test_a_refused_parameter_costs_one_batch_and_no_question(
        self, provider: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # OpenAI: the limit's name, temperature, lengths in the schema, the schema itself; Anthropic: temperature, the way to the schema.
        rules = [CLAUDE_TEMPERATURE, NO_FORMAT] if provider == "anthropic" else [NEW_LIMIT, NO_TEMPERATURE, NO_SCHEMA]
        with FaultServer(answer=says, check=refusing(*rules)) as server:
            monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
            monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
            models = f'{{"{provider}:m" = {{batch = true, input_price = 1.0, output_price = 2.0}}}}'
            more = {"judge.ensemble": f'["{provider}:m"]', "judge.models": models}
            found = table(self.judge(workspace, server, monkeypatch, **more))
            assert not np.isnan(found["preference"]).any()
            assert set(server.answered.values()) == {1}
            assert len(server.batches) == (3 if provider == "anthropic" else 5)
            assert set(Counter(text_of(body_of(row)) for b in server.batches.values() for row in b["rows"]).values()) == {
                len(server.batches)
            }

    def test_a_parameter_that_is_refused_in_every_form_ends(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with FaultServer(answer=says, check=refusing(OLD_LIMIT, NEW_LIMIT)) as server, pytest.raises(JudgeError, match="400"):
            self.judge(workspace, server, monkeypatch)
        assert len(server.batches) <= 5  # each name of the limit once, and as often as any question that is refused

    def test_a_run_that_ends_collects_them_next_time(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("zelo.judges.batching.MOST", 300)
        with FaultServer(answer=says, polls=3) as server:
            from zelo.language_models.batch_openai import OpenAIBatches

            inner, polls = OpenAIBatches.poll, []

            async def poll(self: OpenAIBatches, batch_id: str) -> Any:
                polls.append(batch_id)
                if len(polls) == 4:
                    os.kill(os.getpid(), signal.SIGINT)
                return await inner(self, batch_id)

            monkeypatch.setattr(OpenAIBatches, "poll", poll)
            with pytest.raises(KeyboardInterrupt):
                self.judge(workspace, server, monkeypatch)
            assert len(server.batches) == 3
            assert answers(workspace) == 1920  # of the judges before it: none of the batches is done
            opened = self.judge(workspace, server, monkeypatch)
            assert len(server.batches) == 3  # nothing was sent again
            assert set(server.calls.values()) == {1}
        assert not np.isnan(table(opened)["preference"]).any()

    def test_a_batch_that_the_provider_refuses_stops_the_run(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with FaultServer(answer=says, batch_status="failed") as server, pytest.raises(JudgeError, match="refuses the batch"):
            self.judge(workspace, server, monkeypatch)
        with FaultServer(answer=says) as server:  # and the next one sends it anew
            assert not np.isnan(table(self.judge(workspace, server, monkeypatch))["preference"]).any()

    def test_a_budget_is_kept(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("zelo.judges.batching.MOST", 100)
        with FaultServer(answer=says) as server:
            with pytest.raises(JudgeError, match=r"budget of 0\.05 dollars"):
                self.judge(workspace, server, monkeypatch, **{"judge.budget_dollars": "0.05"})
            assert 1 <= len(server.batches) < 7
        with Journal(workspace / JOURNAL) as journal:
            assert 0 < journal.spent()[0] <= 0.05

    def test_a_budget_shrinks_what_is_sent_at_once(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with FaultServer(answer=says) as server:  # the most that all 640 questions may cost is above the budget, what they cost is not
            opened = self.judge(workspace, server, monkeypatch, **{"judge.budget_dollars": "0.3"})
            sizes = [len(batch["rows"]) for batch in server.batches.values()]
            assert 1 <= sizes[0] < 640
            assert sum(sizes) == 640
            assert set(server.calls.values()) == {1}
        assert not np.isnan(table(opened)["preference"]).any()
        with Journal(workspace / JOURNAL) as journal:
            assert 0 < journal.spent()[0] <= 0.3

    def test_open_batches_are_not_asked_online(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from zelo.language_models.batch_openai import OpenAIBatches

        async def killed(self: OpenAIBatches, batch_id: str) -> Any:
            raise KeyboardInterrupt

        online = '{"openai:m" = {batch = false, input_price = 1.0, output_price = 2.0}}'
        with FaultServer(answer=says) as server:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(OpenAIBatches, "poll", killed)
                self.judge(workspace, server, monkeypatch)
            with pytest.raises(JudgeError, match=r"1 open batch of openai:m.*set batch = true"):
                self.judge(workspace, server, monkeypatch, **{"judge.models": online})
            assert set(server.calls.values()) == {1}
            assert not np.isnan(table(self.judge(workspace, server, monkeypatch))["preference"]).any()
            assert set(server.calls.values()) == {1}
            self.judge(workspace, server, monkeypatch, **{"judge.models": online})  # none is open any more

    @pytest.mark.parametrize("arrived", [True, False])
    def test_a_kill_while_it_is_sent(self, workspace: Path, monkeypatch: pytest.MonkeyPatch, arrived: bool) -> None:
        """Between the upload and the id of the batch; whether it had arrived or not, it is paid once."""
        from zelo.language_models.batch_openai import OpenAIBatches

        inner = OpenAIBatches._create

        async def killed(self: OpenAIBatches, file_id: str) -> str:
            if arrived:
                await inner(self, file_id)
            raise KeyboardInterrupt

        with FaultServer(answer=says) as server:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(OpenAIBatches, "_create", killed)
                self.judge(workspace, server, monkeypatch)
            assert len(server.batches) == arrived
            assert not np.isnan(table(self.judge(workspace, server, monkeypatch))["preference"]).any()
            assert len(server.batches) == 1
            assert set(server.calls.values()) == {1}

    @pytest.mark.parametrize("arrived", [True, False])
    def test_a_kill_while_it_is_sent_to_anthropic(self, workspace: Path, monkeypatch: pytest.MonkeyPatch, arrived: bool) -> None:
        """Its batches have no mark to find them by: the run asks instead of paying again."""
        from zelo.language_models.batch_anthropic import AnthropicBatches

        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
        models = '{"anthropic:m" = {batch = true, input_price = 1.0, output_price = 2.0}}'
        inner, more = AnthropicBatches.submit, {"judge.ensemble": '["anthropic:m"]', "judge.models": models}

        async def killed(self: AnthropicBatches, requests: Any) -> str:
            if arrived:
                await inner(self, requests)
            raise KeyboardInterrupt

        with FaultServer(answer=says) as server:
            monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(AnthropicBatches, "submit", killed)
                self.judge(workspace, server, monkeypatch, **more)
            with pytest.raises(JudgeError, match=r"may have been sent.*ZELO_LOST_BATCH_1 "):
                self.judge(workspace, server, monkeypatch, **more)
            assert len(server.batches) == arrived
            monkeypatch.setenv("ZELO_LOST_BATCH_1", next(iter(server.batches)) if arrived else "none")
            assert not np.isnan(table(self.judge(workspace, server, monkeypatch, **more))["preference"]).any()
            assert len(server.batches) == 1
            assert set(server.calls.values()) == {1}

    def test_a_lost_reply_of_anthropic_is_not_paid_twice(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from zelo.errors import RetryError
        from zelo.language_models.batch_anthropic import AnthropicBatches

        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
        models = '{"anthropic:m" = {batch = true, input_price = 1.0, output_price = 2.0}}'
        inner, more = AnthropicBatches.submit, {"judge.ensemble": '["anthropic:m"]', "judge.models": models}

        async def lost(self: AnthropicBatches, requests: Any) -> str:
            await inner(self, requests)
            raise RetryError("the connection was lost", sent=True)

        with FaultServer(answer=says) as server:
            monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
            with monkeypatch.context() as patch, pytest.raises(JudgeError, match="may have arrived"):
                patch.setattr(AnthropicBatches, "submit", lost)
                self.judge(workspace, server, monkeypatch, **more)
            assert len(server.batches) == 1
            with pytest.raises(JudgeError, match=r"may have been sent.*ZELO_LOST_BATCH_1 "):
                self.judge(workspace, server, monkeypatch, **more)
            monkeypatch.setenv("ZELO_LOST_BATCH_1", next(iter(server.batches)))
            assert not np.isnan(table(self.judge(workspace, server, monkeypatch, **more))["preference"]).any()
            assert len(server.batches) == 1


OWN = """
from zelo.errors import JudgeError
from zelo.judges import Answer


class Own:
    name, prompt_id = "own", "1"

    def __init__(self, answers):
        self.answers = answers

    def judge(self, comparisons):
        return self.answers(comparisons)


def two(a, b):
    pass


def nan(recipe):
    return Own(lambda shown: [Answer(float("nan")) for _ in shown])


def none(recipe):
    return Own(lambda shown: None)


def floats(recipe):
    return Own(lambda shown: [0.5 for _ in shown])


def raising(recipe):
    def answer(shown):
        raise ValueError("no more\\nof sk-abcdef123456")
    return Own(answer)


CALLS = []


def sometimes(recipe):
    def answer(shown):
        CALLS.append(len(shown))
        if len(CALLS) == 1:
            raise ConnectionError("gone")
        return [Answer(0.5) for _ in shown]
    return Own(answer)


def hopeless(recipe):
    def answer(shown):
        raise JudgeError("the license has ended")
    return Own(answer)


class Remote:
    name, prompt_id = "remote", "1"

    async def attempt(self, comparison):
        raise KeyError("token")


def remote(recipe):
    return Remote()


def good(recipe):
    return Own(lambda shown: [Answer(0.5) for _ in shown])


same = good
"""


@pytest.mark.parametrize(
    ("makers", "error", "said"),
    [
        (["two"], RecipeError, "cannot be made: TypeError"),
        (["nan"], JudgeError, "not an answer: the preference nan"),
        (["none"], JudgeError, "own: it answered with NoneType"),
        (["floats"], JudgeError, "own: it answered with float, not with an Answer"),
        (["raising"], JudgeError, r"own: .*failed.*ValueError: no more of \*\*\* \(own_wrong_judges.py, line \d+\)"),
        (["hopeless"], JudgeError, "the license has ended"),
        (["remote"], JudgeError, r"remote.*KeyError: 'token' \(own_wrong_judges.py, line \d+\)"),
        (["good", "same"], RecipeError, "2 judges are called 'own' with the prompt '1'"),
    ],
)
def test_own_judges_that_are_wrong(
    makers: list[str], error: type[Exception], said: str, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_wrong_judges.py").write_text(OWN, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    opened = Workspace.open(workspace)
    names = [f"python:own_wrong_judges:{maker}" for maker in makers]
    opened.save_recipe(opened.recipe.with_settings({"judge.ensemble": json.dumps(names)}))
    with pytest.raises(error, match=said):
        runner.run(opened, start="judge", stop="judge", force=["judge"])


def test_a_call_of_an_own_judge_that_fails_is_recorded_and_asked_again(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_wrong_judges.py").write_text(OWN, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    opened = Workspace.open(workspace)
    settings = {"judge.ensemble": '["python:own_wrong_judges:sometimes"]', "judge.max_missing": "1.0"}
    opened.save_recipe(opened.recipe.with_settings(settings))
    runner.run(opened, start="judge", stop="judge", force=["judge"])
    rows = read_table(opened.path("judgments"), "judgments", ["status", "note"])
    assert set(rows["status"]) == {"failed", "ok"}
    (note,) = {note for note, status in zip(rows["note"], rows["status"], strict=True) if status == "failed"}
    assert note.startswith("ConnectionError: gone (own_wrong_judges.py, line ")
    runner.run(opened, start="judge", stop="judge", force=["judge"])
    assert set(read_table(opened.path("judgments"), "judgments", ["status"])["status"]) == {"ok"}
