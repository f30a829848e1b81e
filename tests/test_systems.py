"""Systems in one table, and how long they take."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import zelo
from serving import Overlap, overlap, serving
from zelo.collections.beir import read_corpus, read_queries
from zelo.collections.trec import read_run
from zelo.core.significance import block_bootstrap_quantiles
from zelo.errors import InputError, JudgeError, RetryError, ZeloError
from zelo.language_models.protocol import BadRequest
from zelo.pipeline import Context
from zelo.progress import Silent
from zelo.recipe import System
from zelo.report.measured import find, read_measured
from zelo.rerankers.remote import RemoteReranker, Scored
from zelo.systems import latency
from zelo.systems.asking import ANSWERS, Answer, Question, answers_of
from zelo.systems.comparing import Comparison, _taken, compare_systems
from zelo.systems.latency import Asker, Measurement, Payloads, _quantiles, asking, measure
from zelo.workspace import Workspace


def compare(root: Path, *names: str) -> Comparison:
    opened = Workspace.open(root)
    return compare_systems(Context(opened, opened.recipe, root, Silent()), names, Silent())


class Counted(Overlap):
    """Answers so many different questions, and fails for all others."""

    def __init__(self, most: int = 10**9) -> None:
        super().__init__()
        self.most = most
        self.queries: set[str] = set()

    def score(self, query: str, documents: Sequence[str]) -> Any:
        if query not in self.queries and len(self.queries) >= self.most:
            raise RuntimeError("the service is down")
        self.queries.add(query)
        return super().score(query, documents)


class TestTable:
    def test_the_student_measures_as_the_stage_measured_it(self, workspace: Path) -> None:
        found = compare(workspace, "models/pointwise")
        before = read_measured(workspace / "report/metrics.jsonl")
        for row in before:
            if "labels" in row.measure or row.system == "judges":
                continue
            again = find(found.rows, row.system, row.measure)
            assert again is not None
            assert (again.value, again.low, again.high) == (row.value, row.low, row.high)
        student, again = (find(found.rows, name, "nDCG@10") for name in ("pointwise", "models/pointwise"))
        assert student is not None
        assert again is not None
        assert (student.value, student.difference, student.baseline) == (again.value, again.difference, again.baseline)
        taken = found.taken["models/pointwise"]
        assert taken.dollars is None
        assert 0 < taken.median <= taken.p95

    def test_a_remote_system_is_asked_once(self, workspace: Path) -> None:
        reranker = Counted()
        with serving(reranker) as running:
            name = f"zelo:{running.url}"
            first = compare(workspace, name)
            assert len(reranker.queries) == 8
            reranker.most, reranker.queries = 0, set()
            second = compare(workspace, name)
            assert second == first
        run = read_run(workspace / "candidates/fused.trec")
        texts = {d.doc_id: d.full_text for d in read_corpus(workspace / "corpus.jsonl")}
        queries = {q.query_id: q.text for q in read_queries(workspace / "queries.jsonl")}
        lines = [json.loads(line) for line in (workspace / ANSWERS).read_text().splitlines()]
        for line in lines:
            documents = [texts[d.doc_id] for d in run[line["query_id"]]]
            assert line["scores"] == overlap(queries[line["query_id"]], documents).tolist()

    def test_what_was_paid_is_kept_when_it_fails(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("random.random", lambda: 0.0)
        reranker = Counted(most=3)
        with serving(reranker) as running:
            name = f"zelo:{running.url}"
            with pytest.raises(RetryError, match="500"):
                compare(workspace, name)
            kept = (workspace / ANSWERS).read_text().splitlines()
            assert len(kept) <= 3
            with (workspace / ANSWERS).open("a") as file:
                file.write('{"system": "cut short')  # a kill in the middle of a line
            reranker.most, reranker.queries = 10**9, set()
            compare(workspace, name)
            assert len(reranker.queries) == 8 - len(kept)
            reranker.queries = set()
            compare(workspace, name)
            assert reranker.queries == set()

    def test_another_address_is_another_service(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JINA_API_KEY", "any")
        counts = []
        for _ in range(2):
            reranker = Counted()
            with serving(reranker) as running:
                monkeypatch.setenv("JINA_BASE_URL", running.url)
                compare(workspace, "jina:m")
                again = reranker.queries
                reranker.queries = set()
                compare(workspace, "jina:m")
            counts.append((len(again), len(reranker.queries)))
        assert counts == [(8, 0), (8, 0)]

    def test_the_command_says_what_was_kept(self, workspace: Path) -> None:
        with serving(Overlap()) as running:
            name = f"zelo:{running.url}"
            ran = [zelo("evaluate", workspace, "--system", name, "--set", "evaluate.resamples=100") for _ in range(2)]
        assert "kept from before" not in ran[0].err
        assert f"{name}: 8 of 8 answers are kept from before" in ran[1].err
        assert ran[0].out == ran[1].out

    def test_prices(self) -> None:
        assert Answer(np.zeros(1), 2_000_000, 3.0, 1.0).cost(System(token_price=0.05, search_price=2.0)) == pytest.approx(0.106)

    def test_the_command(self, workspace: Path) -> None:
        with serving(Overlap()) as running:
            name = f"zelo:{running.url}"
            table = f'[evaluate.systems."{name}"]\ntoken_price = 50.0\n'
            with (workspace / "recipe.toml").open("a") as file:
                file.write(table)
            ran = zelo("evaluate", workspace, "--system", name, "--system", "models/pointwise")
        assert ran.code == 0, ran.err
        lines = ran.out.splitlines()
        row = next(line for line in lines if line.startswith(name))
        dollars = float(row.split()[-3])
        said = [json.loads(line) for line in (workspace / ANSWERS).read_text().splitlines()]
        assert dollars == pytest.approx(sum(answer["tokens"] for answer in said) * 50e-6, abs=1e-4)
        assert any(line.startswith("models/pointwise ") for line in lines)
        assert any(line.startswith("bm25 ") for line in lines)
        assert "paired randomization test" in lines[-1]

    @pytest.mark.parametrize("name", ["cohere:rerank-v3.5", "no/such/folder", "qrels"])
    def test_faults(self, workspace: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("COHERE_API_KEY", raising=False)
        ran = zelo("evaluate", workspace, "--system", "models/pointwise", "--system", name)
        assert ran.code == 2
        assert ran.out == ""
        assert "zelo: " in ran.err

    def test_without_labels(self, workspace: Path) -> None:
        for path in (workspace / "qrels").iterdir():
            path.unlink()
        with pytest.raises(InputError, match="no test question has labels"):
            compare(workspace, "models/pointwise")


class Scripted:
    """A service that does as it is told for each question."""

    def __init__(self, does: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        self.does, self.asked = does, list[str]()

    def open(self) -> RemoteReranker:
        made = RemoteReranker("zelo:http://localhost:1")

        async def ask(query: str, documents: Sequence[str], halt: asyncio.Event | None = None) -> Scored:
            self.asked.append(query)
            await self.does.get(query, _nothing)()
            return Scored(np.arange(len(documents), dtype=np.float64), 1, 0.0, 0.25)

        made.ask = ask  # type: ignore[method-assign]
        return made


async def _nothing() -> None:
    pass


class TestAsking:
    QUESTIONS = tuple(Question(q, q, ["a", "b", "c"], ["one", "two", "three"]) for q in "ABCDEF")

    def ask(self, path: Path, service: Scripted, most_refused: float = 0.0) -> dict[str, Answer]:
        price = System(concurrency=3)
        return answers_of("s", service.open(), self.QUESTIONS, path, price, Silent(), most_refused=most_refused)

    def test_refused_questions_keep_their_order(self, tmp_path: Path) -> None:
        async def refuse() -> None:
            raise BadRequest("400, too long")

        path = tmp_path / ANSWERS
        service = Scripted({"B": refuse})
        with pytest.raises(JudgeError, match=r"1 questions refused \(the last one, B: 400, too long\)"):
            self.ask(path, service)
        found = self.ask(path, service, most_refused=0.2)
        assert {q: answer.refused for q, answer in found.items()} == {q: q == "B" for q in "ABCDEF"}
        assert found["B"].scores.tolist() == [3.0, 2.0, 1.0]
        taken = _taken(list(found.values()), None)
        assert (taken.refused, taken.median, taken.p95) == (1, 0.25, 0.25)
        assert self.ask(path, service, most_refused=0.2).keys() == found.keys()
        assert sorted(service.asked) == ["A", "B", "B", "B", "C", "D", "E", "F"]  # answers are kept, refusals are not
        with pytest.raises(JudgeError, match="2 questions refused"):
            self.ask(tmp_path / "2", Scripted({"B": refuse, "E": refuse}), most_refused=0.2)

    @pytest.mark.parametrize("by_hand", [False, True])
    def test_calls_under_way_are_waited_for(self, tmp_path: Path, by_hand: bool) -> None:
        async def fail() -> None:
            await asyncio.sleep(0.05)
            if by_hand:
                signal.raise_signal(signal.SIGINT)
                await asyncio.sleep(0.05)  # the loop sees it at its next turn
                return
            raise RetryError("500")

        async def slow() -> None:
            await asyncio.sleep(0.3)

        service = Scripted({"A": slow, "B": fail, "C": slow})
        with pytest.raises(KeyboardInterrupt if by_hand else RetryError):
            self.ask(tmp_path / ANSWERS, service)
        assert service.asked == ["A", "B", "C"]
        kept = [json.loads(line)["query_id"] for line in (tmp_path / ANSWERS).read_text().splitlines()]
        assert sorted(kept) == (["A", "B", "C"] if by_hand else ["A", "C"])


TEXTS = ["one two three four five six", "naïve café 東京 " * 20, "", "word " * 400]


@settings(max_examples=50, deadline=None)
@given(st.integers(200, 20_000), st.integers(0, 2**32))
def test_payloads_have_the_size_that_was_asked_for(size: int, seed: int) -> None:
    query, documents = Payloads(["a question"], TEXTS, np.random.default_rng(seed)).draw(size)
    total = len(query.encode()) + sum(len(d.encode()) for d in documents)
    assert size - 3 <= total <= size + 1  # a character of several bytes is not cut
    assert all(documents)


def test_payloads_need_texts() -> None:
    with pytest.raises(InputError):
        Payloads(["q"], ["", " "], np.random.default_rng(0))


def measured(ask: Any, rate: float, seconds: float, warm_up: float = 0.0) -> Measurement:
    rng = np.random.default_rng(0)
    payloads = Payloads(["q"], ["a b c"], rng)
    (found,) = measure("tested", Asker("here", ask), payloads, [50], [rate], seconds, warm_up, rng)
    return found


class TestLatency:
    def test_a_known_time(self) -> None:
        async def ask(query: str, documents: Sequence[str]) -> None:
            await asyncio.sleep(0.02)

        found = measured(ask, 150, 1.5, 0.3)
        assert 150 < found.answered < 300
        assert found.failed == 0
        median = found.quantiles[0]
        assert median.level == 0.5
        assert 20 <= median.low <= median.value <= median.high < 250
        assert [q.level for q in found.quantiles] == [0.5, 0.95]  # p99 takes 500
        assert not found.behind

    def test_the_queue_counts(self) -> None:
        """One at a time, 20 ms each, 100 arrivals a second: the last one waits about as long as half of the time measured."""
        turn = asyncio.Lock()

        async def ask(query: str, documents: Sequence[str]) -> None:
            async with turn:
                await asyncio.sleep(0.02)

        found = measured(ask, 100, 1.0)
        assert found.behind
        assert found.quantiles[0].value > 200

    def test_failures_are_counted_apart(self) -> None:
        calls = []

        async def ask(query: str, documents: Sequence[str]) -> None:
            calls.append(1)
            if len(calls) % 2 == 0:
                raise ZeloError("no")

        found = measured(ask, 100, 0.5)
        assert found.answered + found.failed == len(calls) - 1
        assert abs(found.answered - found.failed) <= 1

    def test_failures_are_slower_than_answers(self) -> None:
        """Answers in 0 to 99 ms: the median of 150 requests of which 50 fail is the 75th answer; no time is the 95th percentile's."""
        answered = np.arange(100.0)
        rng = np.random.default_rng(0)
        (median,) = _quantiles(answered, 150, rng)
        assert (median.level, median.value) == (0.5, np.quantile(answered, 0.75))
        assert median.low <= median.value <= median.high
        assert [q.level for q in _quantiles(answered, 100, rng)] == [0.5, 0.95]
        for few in (answered[:0], answered[:9]):
            assert _quantiles(few, 1000, rng) == ()
        shown = latency.line(Measurement("s", "HTTP", 1000, 9.0, 100, 50, 5.0, (median,), behind=False))
        assert "33% failed" in shown
        assert shown.split().count("failed") == 2
        assert "failed" not in latency.line(Measurement("s", "HTTP", 1000, 9.0, 8, 0, 5.0, (), behind=False))

    def test_requests_arrive_at_the_rate(self) -> None:
        async def ask(query: str, documents: Sequence[str]) -> None:
            pass

        found = measured(ask, 400, 1.5)
        assert found.answered == pytest.approx(600, abs=5 * 600**0.5)

    def test_ways(self, finished: Path) -> None:
        with serving(Overlap()) as running, asking(f"zelo:{running.url}", None, http=False) as asker:
            assert asker.way == "remote"
            asyncio.run(self.once(asker))
        with asking("models/pointwise", finished, http=False) as asker:
            assert asker.way == "in process"
            asyncio.run(self.once(asker))
        with pytest.raises(InputError), asking("no/such", finished, http=True):
            pass

    async def once(self, asker: Asker) -> None:
        await asker.ask("a", ["a", "b"])
        await asker.close()

    def test_the_command(self, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ZELO_SERVE_KEYS", "of another server")
        protocol = ("--payload", "1", "--rate", "20", "--seconds", "1", "--warm-up", "0")
        ran = zelo("latency", finished, "--http", *protocol)
        assert ran.code == 0, ran.err
        heading, row = ran.out.splitlines()
        assert "median" in heading
        assert "HTTP" in row
        ran = zelo("latency", finished, "--system", "models/pointwise", *protocol, "--json")
        found = json.loads(ran.out)
        assert (found["way"], found["payload"], found["failed"]) == ("in process", 1000, 0)

    def test_sigterm_takes_the_server_along(self, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        started: list[subprocess.Popen[str]] = []
        begin = subprocess.Popen

        def remembered(*given: Any, **named: Any) -> subprocess.Popen[str]:
            started.append(begin(*given, **named))
            return started[-1]

        async def killed(*_: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)

        monkeypatch.setattr(subprocess, "Popen", remembered)
        monkeypatch.setattr(latency, "_run", killed)

        def outside(*_: object) -> None:
            raise AssertionError("SIGTERM came where it would have ended the process")

        whole = signal.signal(signal.SIGTERM, outside)
        before = signal.getsignal(signal.SIGTERM)
        assert zelo("latency", finished, "--http").code == 128 + signal.SIGTERM
        (server,) = started
        assert server.poll() is not None
        assert signal.signal(signal.SIGTERM, whole) is before


def test_blocks_make_intervals_of_dependent_values_wide_enough() -> None:
    """A series whose neighbors are alike: single values resampled would cover its true median far less often than 95 %."""
    rng = np.random.default_rng(0)
    covered = alone = 0
    for _ in range(60):
        noise = rng.normal(size=700)
        series = np.zeros(700)
        for i in range(1, 700):
            series[i] = 0.7 * series[i - 1] + noise[i]
        low, high = block_bootstrap_quantiles(series[200:], [0.5], resamples=200, rng=rng)
        covered += int(low[0] <= 0 <= high[0])
        draws = np.median(series[200:][rng.integers(500, size=(200, 500))], axis=1)
        alone += int(np.quantile(draws, 0.025) <= 0 <= np.quantile(draws, 0.975))
    assert covered >= 45
    assert covered > alone + 5


def test_intervals_of_independent_values() -> None:
    rng = np.random.default_rng(1)
    covered = np.zeros(2)
    truth = np.array([np.log(2), -np.log(0.1)])
    for _ in range(80):
        low, high = block_bootstrap_quantiles(rng.exponential(size=400), [0.5, 0.9], resamples=200, rng=rng)
        covered += (low <= truth) & (truth <= high)
    assert (covered >= 68).all()
    with pytest.raises(InputError):
        block_bootstrap_quantiles([], [0.5], rng=rng)
