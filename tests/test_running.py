"""The runner: every question ends answered or missing with its reason, within all limits, whatever the judge does."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from zelo.errors import JudgeError, RetryError, WorkspaceError, ZeloError
from zelo.judges import Answer, Comparison, loops, running
from zelo.judges.committing import Committer
from zelo.judges.journal import STATUSES, Journal, Standing
from zelo.judges.limits import BudgetSpent
from zelo.judges.running import Job, Limits, ask

Reply = Answer | Exception | Callable[[], Answer]


class Remote:
    """Answers by script: what the n-th attempt at a text gets; then a good answer."""

    name, prompt_id, concurrency = "remote", "v1", 8

    def __init__(self, script: dict[str, Sequence[Reply]] | None = None, *, latency: float = 0.0, cost: float = 0.0) -> None:
        self.script, self.latency, self.cost = script or {}, latency, cost
        self.asked: list[str] = []
        self.times: Counter[str] = Counter()
        self.under_way = self.most = 0
        self.closed = 0

    async def attempt(self, comparison: Comparison) -> Answer:
        text = comparison.first
        self.asked.append(text)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self.latency)
        finally:
            self.under_way -= 1
        replies = self.script.get(text, self.script.get("*", ()))
        number = self.times[text]
        self.times[text] += 1
        reply = replies[min(number, len(replies) - 1)] if replies else Answer(0.5, "ok", "why", 10, 2, self.cost, 0.1, "schema")
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, Answer) else reply()

    async def close(self) -> None:
        self.closed += 1


class Priced(Remote):
    """One that says what an attempt may cost."""

    def estimate(self, comparison: Comparison) -> tuple[int, int, float]:
        return 10, 10, 2 * self.cost


BAD = Answer(None, "truncated", input_tokens=10, output_tokens=100, cost=0.01, note="cut")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "j.sqlite") as opened:
        yield opened


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zelo.judges.limits.BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr("zelo.judges.running.REDRAW", 0.01)


def job(judge: Remote, journal: Journal, count: int = 20) -> Job:
    number = journal.judge(judge.name, judge.prompt_id)
    standing = journal.standing(number, np.arange(1, count + 1))
    rows = np.flatnonzero(~standing.answered)
    questions = (rows + 1).tolist()
    return Job(judge, number, questions, lambda place: Comparison("q", f"t{questions[place]}", "other"), standing.unusable[rows].tolist())


def standing(judge: Remote, journal: Journal, count: int = 20) -> Standing:
    return journal.standing(journal.judge(judge.name, judge.prompt_id), np.arange(1, count + 1))


def attempts(journal: Journal) -> list[tuple[str, int, str]]:
    """(judge, question, status) of all attempts, in order."""
    rows = journal._database.execute("SELECT j.judge, a.question, a.status FROM attempts a JOIN judges j ON j.id = a.judge ORDER BY a.id")
    return [(judge, question, STATUSES[status]) for judge, question, status in rows]


def test_all_are_asked_once_and_in_order(journal: Journal) -> None:
    judge = Remote()
    ask([job(judge, journal, 50)], journal, Limits())
    assert judge.asked == [f"t{n}" for n in range(1, 51)]
    assert standing(judge, journal, 50).answered.all()
    assert journal.read(np.array([1]))[0] == (0.5, 0, 10, 2, 0.0, 0.1, "schema", "", "why")
    assert judge.closed == 1
    ask([job(judge, journal, 50)], journal, Limits())
    assert len(judge.asked) == 50


def test_judges_work_at_the_same_time_and_within_their_own_bounds(journal: Journal) -> None:
    judges = [Remote(latency=0.03), Remote(latency=0.03)]
    judges[1].name, judges[1].concurrency = "second", 2
    start = time.monotonic()
    ask([job(judge, journal, 60) for judge in judges], journal, Limits())
    assert time.monotonic() - start < 60 * 0.03  # the second alone takes half of that
    assert [judge.most for judge in judges] == [8, 2]
    names = [name for name, _, _ in attempts(journal)]
    assert {"remote", "second"} <= set(names[: len(names) // 2])


def test_tasks_are_few_whatever_the_number_of_questions(journal: Journal) -> None:
    seen = []

    class Watching(Remote):
        async def attempt(self, comparison: Comparison) -> Answer:
            seen.append(len(asyncio.all_tasks()))
            return await super().attempt(comparison)

    ask([job(Watching(), journal, 500)], journal, Limits())
    assert max(seen) <= 8 + 4


def test_what_fails_is_asked_again_and_every_attempt_is_kept(journal: Journal) -> None:
    failure = RetryError("500 it is broken", input_tokens=7, cost=0.25)
    judge = Remote({"t3": [failure, failure, Answer(0.25)], "t5": [failure]})
    ask([job(judge, journal, 6)], journal, Limits(retries=3))
    found = standing(judge, journal, 6)
    assert found.answered.tolist() == [True, True, True, True, False, True]
    assert Counter(question for _, question, _ in attempts(journal)) == {1: 1, 2: 1, 3: 3, 4: 1, 5: 4, 6: 1}
    lost = journal.read(found.attempt[4:5])[0]
    assert (lost[0], STATUSES[lost[1]], lost[2], lost[4], lost[6]) == (None, "error", 7, 0.25, "500 it is broken")
    assert journal.spent()[0] == pytest.approx(6 * 0.25)
    again = Remote()
    ask([job(again, journal, 6)], journal, Limits())  # the next run asks only for it
    assert again.asked == ["t5"]


@pytest.mark.parametrize("status", ["refused", "truncated", "unparsable", "failed"])
def test_an_unusable_answer_is_asked_for_once_more_and_then_stays_missing(status: str, journal: Journal) -> None:
    bad = Answer(None, status, cost=0.01, note="no good")  # type: ignore[arg-type]
    judge = Remote({"t1": [bad], "t2": [bad, Answer(-1)]})
    ask([job(judge, journal, 3)], journal, Limits())
    assert judge.times == {"t1": 2, "t2": 2, "t3": 1}
    found = standing(judge, journal, 3)
    assert found.answered.tolist() == [False, True, True]
    assert found.unusable.tolist() == [2, 1, 0]
    assert journal.read(found.attempt)[0][6] == "no good"


def test_limits_are_waited_for_and_are_no_failures(journal: Journal) -> None:
    limited = RetryError("429", limited=True, after=0.001)
    judge = Remote({"t1": [limited] * 12 + [Answer(1)]})
    ask([job(judge, journal, 3)], journal, Limits(retries=1))
    assert standing(judge, journal, 3).answered.all()
    assert judge.times["t1"] == 13


def test_nothing_but_limits_stops_the_run(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zelo.judges.running.PATIENCE", 0.05)
    judge = Remote({"*": [RetryError("429 slow down", limited=True)]})
    with pytest.raises(JudgeError, match=r"nothing but refusals because of limits \(429 slow down"):
        ask([job(judge, journal)], journal, Limits())
    with pytest.raises(JudgeError, match="nothing but refusals"):
        ask([job(Remote({"*": [RetryError("429", limited=True, after=3600.0)]}), journal)], journal, Limits())


def test_errors_of_a_library_are_retried(journal: Journal) -> None:
    judge = Remote({"t1": [ConnectionResetError("peer"), ValueError("no JSON"), TimeoutError(), Answer(1)], "t2": [KeyError("choices")]})
    ask([job(judge, journal, 3)], journal, Limits(retries=4))
    found = standing(judge, journal, 3)
    assert found.answered.tolist() == [True, False, True]
    assert journal.read(found.attempt)[1][6].startswith("KeyError: 'choices' (test_running.py, line ")


def test_a_question_that_cannot_be_asked_is_missing(journal: Journal) -> None:
    judge = Remote({"t1": [ZeloError("too long for the model")]})
    ask([job(judge, journal, 2)], journal, Limits())
    found = standing(judge, journal, 2)
    assert found.answered.tolist() == [False, True]
    assert journal.read(found.attempt)[0][6] == "too long for the model"


def test_a_judge_that_hangs_is_not_waited_for(journal: Journal) -> None:
    class Hanging(Remote):
        async def attempt(self, comparison: Comparison) -> Answer:
            if comparison.first == "t1" and not self.times["t1"]:
                self.times["t1"] += 1
                await asyncio.sleep(60)
            return await super().attempt(comparison)

    judge = Hanging()
    ask([job(judge, journal, 2)], journal, Limits(timeout=0.02))
    assert attempts(journal)[1] == ("remote", 1, "error")
    assert standing(judge, journal, 2).answered.all()


def test_no_right_to_ask_stops_at_once_and_keeps_what_is_under_way(journal: Journal) -> None:
    judge = Remote({"t10": [JudgeError("no right to ask", where="remote")]}, latency=0.01)
    other = Remote(latency=0.05)
    other.name = "other"
    left: list[str] = []
    with pytest.raises(JudgeError, match="no right to ask"):
        ask([job(judge, journal, 200), job(other, journal, 200)], journal, Limits(), note=left.append)
    assert 10 <= len(judge.asked) <= 10 + 2 * judge.concurrency
    kept = attempts(journal)
    assert len(kept) == len(judge.asked) + len(other.asked)  # what was under way has been waited for
    assert Counter(status for _, _, status in kept)["error"] == 1
    assert "remote: 1" in left[0]
    assert "of 200 left" in left[0]


def test_a_dead_server_stops_the_run(journal: Journal) -> None:
    judge = Remote({"*": [RetryError("connection refused")]})
    with pytest.raises(JudgeError, match="no usable answer to 64 questions in a row, the last one: connection refused"):
        ask([job(judge, journal, 500)], journal, Limits(retries=1))
    assert len(judge.asked) < 2 * (64 + 2 * judge.concurrency)


class TestBudget:
    def test_it_is_never_exceeded_and_used_up(self, journal: Journal) -> None:
        judge = Priced(cost=0.01, latency=0.001)
        left: list[str] = []
        with pytest.raises(BudgetSpent, match=r"budget of 0.5 dollars.*raise judge.budget_dollars"):
            ask([job(judge, journal, 200)], journal, Limits(dollars=0.5), note=left.append)
        spent = journal.spent()[0]
        assert 0.48 <= spent <= 0.5 + 1e-9  # an attempt costs at most 0.02
        assert left == ["stopped; remote: 151 of 200 left, about $1.51"]
        with pytest.raises(BudgetSpent):  # what earlier runs spent counts
            ask([job(judge, journal, 200)], journal, Limits(dollars=0.5))
        assert journal.spent()[0] == spent
        ask([job(judge, journal, 200)], journal, Limits(dollars=5.0))
        assert len(judge.asked) == 200

    def test_failed_attempts_count(self, journal: Journal) -> None:
        judge = Priced({"*": [RetryError("500", cost=0.01)]}, cost=0.01)
        with pytest.raises(BudgetSpent):
            ask([job(judge, journal)], journal, Limits(dollars=0.1, retries=50))
        assert 0.08 <= journal.spent()[0] <= 0.1

    def test_tokens(self, journal: Journal) -> None:
        judge = Priced()
        with pytest.raises(BudgetSpent, match="budget_tokens"):
            ask([job(judge, journal, 50)], journal, Limits(tokens=100))
        assert 80 < journal.spent()[1] <= 100


class TestStopping:
    def interrupted(self, judge: Remote, journal: Journal, times: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        pauses = [0.1, *[0.05] * (times - 1)]

        def press() -> None:
            for pause in pauses:
                time.sleep(pause)
                os.kill(os.getpid(), signal.SIGINT)

        before = signal.getsignal(signal.SIGINT)
        left: list[str] = []
        presser = threading.Thread(target=press)
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            ask([job(judge, journal, 5000)], journal, Limits(), note=left.append)
        presser.join()
        assert signal.getsignal(signal.SIGINT) is before
        return left

    def test_an_interrupt_waits_for_what_is_under_way(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        judge = Remote(latency=0.04)
        left = self.interrupted(judge, journal, 1, monkeypatch)
        assert 0 < len(judge.asked) < 500
        assert len(attempts(journal)) == len(judge.asked)
        assert left == [f"stopped; remote: {5000 - len(judge.asked):,} of 5,000 left"]

    def test_a_second_one_does_not_wait(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        judge = Remote(latency=20)
        start = time.monotonic()
        self.interrupted(judge, journal, 2, monkeypatch)
        assert time.monotonic() - start < 5
        assert attempts(journal) == []

    def test_the_wait_has_an_end(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(running, "DRAIN", 0.1)
        start = time.monotonic()
        self.interrupted(Remote(latency=20), journal, 1, monkeypatch)
        assert time.monotonic() - start < 5

    def test_a_full_disk_stops_and_keeps_what_was_acknowledged(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        add, calls = journal.add, []

        def full(rows: Sequence[object]) -> None:
            calls.append(len(rows))
            if len(calls) > 3:
                raise WorkspaceError("the journal cannot be written (database or disk is full)")
            add(rows)  # type: ignore[arg-type]

        monkeypatch.setattr(journal, "add", full)
        judge = Remote(latency=0.005)
        with pytest.raises(WorkspaceError, match="disk is full"):
            ask([job(judge, journal, 500)], journal, Limits())
        monkeypatch.setattr(journal, "add", add)
        kept = standing(judge, journal, 500).answered.sum()
        assert kept == sum(calls[:3])
        assert len(judge.asked) - kept <= 2 * judge.concurrency
        ask([job(judge, journal, 500)], journal, Limits())
        assert standing(judge, journal, 500).answered.all()


def test_what_is_shown(journal: Journal) -> None:
    seen: list[tuple[int, int, int]] = []
    judge = Remote({"t4": [BAD]}, latency=0.02, cost=0.5)
    ask([job(judge, journal, 40)], journal, Limits(), shown=lambda job: seen.append((job.answered, job.missing, job.left)))
    assert seen[-1] == (39, 1, 0)
    assert all(sum(counts) == 40 for counts in seen)
    assert len(seen) > 3
    shown = job(judge, journal, 80)
    shown.answered, shown.missing, shown.left, shown.dollars = 20, 2, 18, 3.5
    shown.begun = time.monotonic() - 10
    assert shown.detail.startswith("2 missing, $3.50, 2.2/s, 9 s left")


def test_in_a_notebook_that_runs_a_loop_already(journal: Journal) -> None:
    judge = Remote()

    async def cell() -> None:
        ask([job(judge, journal, 5)], journal, Limits())

    asyncio.run(cell())
    assert standing(judge, journal, 5).answered.all()


def test_requests_per_minute(journal: Journal) -> None:
    judge = Remote()
    judge.requests_per_minute = 1200  # type: ignore[attr-defined]
    start = time.monotonic()
    ask([job(judge, journal, 30)], journal, Limits())
    assert time.monotonic() - start >= 0.4  # a second's worth, 20, at once, the other 10 at 20 per second


def test_under_random_faults_everything_ends_in_one_of_two_ways(journal: Journal) -> None:
    rng = random.Random(0)

    class Faulty(Remote):
        async def attempt(self, comparison: Comparison) -> Answer:
            self.asked.append(comparison.first)
            await asyncio.sleep(rng.random() * 0.002)
            draw = rng.random()
            if draw < 0.2:
                raise RetryError("500", limited=draw < 0.1)
            return BAD if draw < 0.3 else Answer(0.5)

    judge = Faulty()
    ask([job(judge, journal, 400)], journal, Limits(retries=2))
    found = standing(judge, journal, 400)
    notes = [row[6] for row in journal.read(found.attempt)]
    assert len(attempts(journal)) == len(judge.asked)
    assert 0 < (~found.answered).sum() < 30
    assert {note for note, ok in zip(notes, found.answered, strict=True) if not ok} <= {"cut", "500"}
    assert (found.unusable[~found.answered & (found.status == STATUSES.index("truncated"))] == 2).all()


@pytest.mark.parametrize(
    "answer",
    [Answer(float("nan")), Answer(2.0), Answer(None), Answer(0.5, "refused"), Answer(0.5, cost=float("nan")), Answer(0.5, input_tokens=-1)],
)
def test_what_is_no_answer_is_missing(answer: Answer, journal: Journal) -> None:
    judge = Remote({"t1": [answer]})
    ask([job(judge, journal, 2)], journal, Limits())
    found = standing(judge, journal, 2)
    assert found.answered.tolist() == [False, True]
    assert journal.read(found.attempt)[0][6].startswith("not an answer: ")
    assert attempts(journal).count(("remote", 1, "failed")) == 2


@pytest.mark.parametrize("reply", [None, 0.5])
def test_a_judge_that_returns_no_answers_stops_the_run(reply: object, journal: Journal) -> None:
    judge = Remote({"*": [lambda: reply]})  # type: ignore[list-item,return-value]
    with pytest.raises(JudgeError, match=f"remote: it answered with {type(reply).__name__}"):
        ask([job(judge, journal, 100)], journal, Limits())
    assert len(judge.asked) <= 2 * judge.concurrency


def test_an_attempt_that_is_not_async_stops_the_run(journal: Journal) -> None:
    judge = Remote()
    judge.attempt = lambda comparison: Answer(0.5)  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(JudgeError, match="remote: its `attempt` is not async"):
        ask([job(judge, journal, 100)], journal, Limits())


def test_numpy_numbers_are_answers(journal: Journal) -> None:
    judge = Remote({"t1": [Answer(np.float32(0.5), input_tokens=np.int64(3))]})  # type: ignore[arg-type]
    ask([job(judge, journal, 1)], journal, Limits())
    assert journal.read(np.array([1]))[0][:3] == (0.5, 0, 3)


@pytest.mark.parametrize("error", [RetryError("no whole reply", sent=True), ConnectionResetError("peer"), TimeoutError()])
def test_what_was_sent_and_not_answered_counts_as_spent(error: Exception, journal: Journal) -> None:
    judge = Priced({"*": [error]}, cost=0.01)
    with pytest.raises(BudgetSpent):
        ask([job(judge, journal, 40)], journal, Limits(dollars=0.1, retries=50))
    assert len(judge.asked) == 5  # 0.02 each
    assert journal.spent() == (0.0, 0)


def test_what_was_not_sent_costs_nothing(journal: Journal) -> None:
    judge = Priced({"t1": [ConnectionRefusedError()] * 6 + [Answer(0.5)]}, cost=0.01)
    ask([job(judge, journal, 2)], journal, Limits(dollars=0.05, retries=50))
    assert standing(judge, journal, 2).answered.all()


def test_a_judge_without_estimate_keeps_the_budget_but_for_what_is_under_way(journal: Journal) -> None:
    judge = Remote(cost=0.01, latency=0.001)
    with pytest.raises(BudgetSpent):
        ask([job(judge, journal, 200)], journal, Limits(dollars=0.5))
    assert 0.48 <= journal.spent()[0] <= 0.5 + 1e-9
    assert len(judge.asked) == 50


def test_keys_in_errors_of_a_library_are_struck_out(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_OWN_API_KEY", "abcd-1234-efgh")
    text = "denied for abcd-1234-efgh and sk-live99887766"
    judge = Remote({"t1": [ValueError(text)], "t2": [ZeloError(text)], "t3": [JudgeError(text)]})
    judge.concurrency = 1
    with pytest.raises(JudgeError) as caught:
        ask([job(judge, journal, 3)], journal, Limits(retries=0))
    notes = [row[6] for row in journal.read(np.array([1, 2, 3]))]
    assert all("denied for *** and ***" in note for note in [*notes, str(caught.value)])


def test_a_full_disk_is_told_once(journal: Journal) -> None:
    told: list[object] = []

    def full(rows: Sequence[object]) -> None:
        time.sleep(0.05)
        raise WorkspaceError("disk is full")

    async def given_up() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        committer = Committer(journal)
        task = asyncio.create_task(committer.do(full, []))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.1)
        del task
        gc.collect()

    asyncio.run(given_up())
    assert told == []


def test_the_collector_is_as_it_was_after_a_run(journal: Journal) -> None:
    before, during = gc.get_threshold(), []

    def look() -> Answer:
        during.append(gc.get_threshold())
        return Answer(0.5)

    ask([job(Remote({"*": [look]}), journal, 2)], journal, Limits())
    assert gc.get_threshold() == before
    assert set(during) == {(loops.COLLECT_AFTER, *before[1:])}
