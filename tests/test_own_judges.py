"""Judges of the user's own that raise, set or say what they must not: one line that names them, no key in it, nothing unpaid forgotten."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from zelo import recipe as recipes
from zelo.errors import JudgeError, RecipeError
from zelo.judges import Answer, Comparison, Materials, make_judge
from zelo.judges.checking import judged
from zelo.judges.journal import Journal
from zelo.judges.limits import BudgetSpent
from zelo.judges.llm import language_model
from zelo.judges.running import Job, Limits, ask
from zelo.judges.thinking import thinking_judge

KEY = "sk-live99887766"


class Own:
    name, prompt_id, concurrency = "python:mine:make", "v1", 4

    def __init__(self, answer: Callable[[int], object] = lambda call: Answer(0.5), latency: float = 0.0) -> None:
        self.answer, self.latency, self.calls = answer, latency, 0

    async def attempt(self, comparison: Comparison) -> Answer:
        self.calls += 1
        call = self.calls
        await asyncio.sleep(self.latency)
        found = self.answer(call)
        if isinstance(found, BaseException):
            raise found
        assert isinstance(found, Answer)
        return found


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "j.sqlite") as opened:
        yield opened


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zelo.judges.limits.BACKOFF_SECONDS", 0.001)


def job(judge: Own, journal: Journal, count: int = 40) -> Job:
    number = journal.judge(judge.name, judge.prompt_id)
    return Job(judge, number, [*range(1, count + 1)], lambda place: Comparison("q", f"t{place}", "other"), [0] * count)


def notes(journal: Journal) -> list[str]:
    ids = [number for (number,) in journal._database.execute("SELECT id FROM attempts WHERE status > 0 ORDER BY id")]
    return [row[6] for row in journal.read(np.array(ids))]


def test_canceled_by_itself_is_a_failed_call(journal: Journal) -> None:
    judge = Own(lambda call: asyncio.CancelledError("gave up") if call % 10 == 0 else Answer(0.5))
    asked = job(judge, journal)
    ask([asked], journal, Limits())
    assert (asked.answered, asked.left) == (40, 0)
    assert notes(journal)[0].startswith("CancelledError: gave up (test_own_judges.py, line ")
    always = job(Own(lambda call: asyncio.CancelledError()), journal)
    ask([always], journal, Limits(retries=1))
    assert (always.missing, always.left) == (40, 0)


def test_a_task_that_the_judge_cancels_stops_the_run(journal: Journal) -> None:
    def cancel(call: int) -> Answer:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return Answer(0.5)

    with pytest.raises(JudgeError, match="a task was canceled"):
        ask([job(Own(cancel), journal)], journal, Limits())


def test_a_whole_query_canceled_is_a_failed_call() -> None:
    class Whole:
        name, prompt_id = "whole", "v1"

        def judge(self, comparisons: object) -> list[Answer]:
            raise asyncio.CancelledError

    assert judged(Whole(), [Comparison("q", "a", "b")])[1].startswith("CancelledError")


def test_an_attempt_of_several_calls_takes_as_many_of_the_limit(journal: Journal) -> None:
    judge = Own()
    judge.requests_per_minute, judge.calls_per_attempt = 1200, 2  # type: ignore[attr-defined]
    start = time.monotonic()
    ask([job(judge, journal, 20)], journal, Limits())
    assert time.monotonic() - start >= 0.8  # 40 calls: a second's worth, 20, at once, the other 20 at 20 per second


def test_judges_say_how_many_calls_an_attempt_is() -> None:
    name = "http://127.0.0.1:9/v1#m"
    for mode, calls in (("logprobs", 2), ("reason", 1)):
        recipe = recipes.from_dict({"judge": {"ensemble": [name], "mode": mode, "answers": "soft"}})
        assert language_model(name, recipe).calls_per_attempt == calls
    name = f"thinking:{name}"
    model = {"traces": 4, "prompt": "plain", "requests_per_minute": 6}
    judge = thinking_judge(name, recipes.from_dict({"judge": {"ensemble": [name], "temperature": 0.7, "models": {name: model}}}))
    assert (judge.calls_per_attempt, judge.requests_per_minute) == (8, 6)


class TestInALoop:
    @pytest.mark.parametrize("handler", [signal.default_int_handler, None])
    def test_an_interrupt_drains(self, handler: Callable[..., object] | None, journal: Journal) -> None:
        """`handler`: as a notebook sets it; None is the one of asyncio.run, which waits for the loop."""

        def press(call: int) -> Answer:
            if call == 20:  # not by the clock: what it interrupts must be under way, also on a busy machine
                os.kill(os.getpid(), signal.SIGINT)
            return Answer(0.5)

        judge, left = Own(press, latency=0.05), list[str]()
        asked = job(judge, journal, 300)
        before = signal.getsignal(signal.SIGINT)
        handlers = []

        async def cell() -> None:
            if handler is not None:
                signal.signal(signal.SIGINT, handler)
            handlers.append(signal.getsignal(signal.SIGINT))
            try:
                ask([asked], journal, Limits(), note=left.append)
            finally:
                handlers.append(signal.getsignal(signal.SIGINT))

        with pytest.raises(KeyboardInterrupt):
            asyncio.run(cell())
        signal.signal(signal.SIGINT, before)
        assert handlers[0] is handlers[1] or handlers[0] == handlers[1]
        assert 0 < judge.calls < 150
        assert asked.answered == judge.calls  # what was under way is kept
        assert left == [f"stopped; python:mine:make: {300 - judge.calls} of 300 left"]

    def test_a_second_one_leaves_at_once(self, journal: Journal) -> None:
        class Pressing(Own):
            async def attempt(self, comparison: Comparison) -> Answer:
                if not self.calls:
                    for pause in (0.1, 0.4):
                        pressers.append(threading.Timer(pause, os.kill, (os.getpid(), signal.SIGINT)))
                        pressers[-1].start()
                return await super().attempt(comparison)

        pressers: list[threading.Timer] = []
        judge, start = Pressing(latency=20), time.monotonic()

        async def cell() -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            ask([job(judge, journal)], journal, Limits())

        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(cell())
        for presser in pressers:
            presser.join()
        signal.signal(signal.SIGINT, before)
        assert time.monotonic() - start < 5

    def test_one_while_it_closes_is_not_lost(self, journal: Journal) -> None:
        class Slow(Own):
            async def close(self) -> None:
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
                await asyncio.sleep(20)

        async def cell() -> None:
            ask([asked], journal, Limits())

        asked, start = job(Slow(), journal), time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(cell())
        assert time.monotonic() - start < 5
        assert asked.answered == 40


MAKERS = f"""
import asyncio, os
from zelo.errors import JudgeError

def raises(recipe): raise ValueError("denied for {KEY} and " + os.environ["MY_OWN_API_KEY"])
def attribute(recipe): raise AttributeError("{KEY}")
def ours(recipe): raise JudgeError("no right with {KEY}")
def canceled(recipe): raise asyncio.CancelledError("{KEY}")
def exits(recipe): raise SystemExit("{KEY}")

class Negative:
    name, prompt_id, concurrency = "negative", "v1", -3
    async def attempt(self, comparison): ...

def negative(recipe): return Negative()
"""


@pytest.mark.parametrize("function", ["raises", "attribute", "ours", "canceled", "exits"])
def test_keys_in_what_make_raises_are_struck_out(function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_OWN_API_KEY", "abcd-1234-efgh")
    module = "makers_of_a_test"
    (tmp_path / f"{module}.py").write_text(MAKERS, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    nothing = Materials(lambda: None, lambda: None, lambda: None, "")  # type: ignore[arg-type,return-value]
    with pytest.raises((RecipeError, JudgeError)) as caught:
        make_judge(f"python:{module}:{function}", nothing)
    with pytest.raises(JudgeError, match="negative: its concurrency is -3"):
        make_judge(f"python:{module}:negative", nothing)
    sys.modules.pop(module)
    said = str(caught.value)
    assert f"python:{module}:{function}" in said
    assert "***" in said
    assert not re.search(f"{KEY}|abcd-1234", said + caught.value.what + caught.value.where)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("estimate", [ValueError(f"tokenizer {KEY}"), (1, 2), (0, 0, float("nan")), (1, -1, 0.1), (1, 1, "0.1"), None, 0.1])
def test_an_estimate_that_is_none_stops_before_anything_is_paid(estimate: object, journal: Journal) -> None:
    class Estimating(Own):
        def estimate(self, comparison: Comparison) -> object:
            if isinstance(estimate, Exception):
                raise estimate
            return estimate

    judge = Estimating()
    with pytest.raises(JudgeError, match=r"python:mine:make: its `estimate` (failed|returned)") as caught:
        ask([job(judge, journal)], journal, Limits(dollars=1.0))
    assert judge.calls == 0
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("concurrency", -3), ("concurrency", "many"), ("concurrency", 2.5), ("requests_per_minute", -1), ("tokens_per_minute", float("nan"))],
)
def test_settings_that_cannot_be_stop_before_anything_is_paid(attribute: str, value: object, journal: Journal) -> None:
    judge = Own()
    setattr(judge, attribute, value)
    with pytest.raises(JudgeError, match=f"python:mine:make: its {attribute} is {value!r}"):
        ask([job(judge, journal)], journal, Limits())
    assert judge.calls == 0


def test_close_may_be_plain_and_may_fail(journal: Journal) -> None:
    class Plain(Own):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    class Failing(Own):
        name = "failing"

        async def close(self) -> None:
            raise RuntimeError(f"close failed {KEY}")

    plain, failing = Plain(), Failing()
    jobs = [job(failing, journal), job(plain, journal)]
    with pytest.raises(JudgeError, match=r"failing: its `close` failed \(RuntimeError: close failed \*\*\*"):
        ask(jobs, journal, Limits())
    assert [one.answered for one in jobs] == [40, 40]
    assert plain.closed == 1


def test_a_time_limit_of_its_own_keeps_its_words(journal: Journal) -> None:
    ask([job(Own(lambda call: TimeoutError("read timed out after 5 s")), journal, 1)], journal, Limits(retries=0))
    ask([job(Own(latency=5), journal, 1)], journal, Limits(retries=0, timeout=0.01))
    own, ours = notes(journal)
    assert own.startswith("TimeoutError: read timed out after 5 s (test_own_judges.py, line ")
    assert ours == "no answer within 0.03 s"


def test_an_exception_that_cannot_be_printed(journal: Journal) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    ask([job(Own(lambda call: Mute()), journal, 1)], journal, Limits(retries=0))
    assert notes(journal)[0].startswith("Mute: it cannot be printed")


@pytest.mark.parametrize("error", [KeyError("choices"), asyncio.CancelledError(), TimeoutError("slow")])
def test_what_fails_after_it_may_be_paid_counts(error: BaseException, journal: Journal) -> None:
    class Priced(Own):
        def estimate(self, comparison: Comparison) -> tuple[np.int64, float, float]:
            return np.int64(10), 2.5, 0.1

    judge = Priced(lambda call: error)
    with pytest.raises(BudgetSpent):
        ask([job(judge, journal, 200)], journal, Limits(dollars=1.0))
    assert judge.calls == 10
