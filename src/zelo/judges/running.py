"""Asks judges behind a network: all of them at once, few calls under way, every attempt in the journal before the next.

A call holds its slot until its answer is committed. So what a kill can make us ask again is what is under way, and no more.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from zelo.errors import JudgeError, RetryError, WorkspaceError, ZeloError
from zelo.judges import Answer, Comparison, RemoteJudge
from zelo.judges.batching import ask_in_batches, refuse_open
from zelo.judges.checking import attempted, scrub_error, scrubbed, told
from zelo.judges.committing import Committer
from zelo.judges.journal import Attempt, Journal
from zelo.judges.limits import Budget, BudgetSpent, Reservation, backoff
from zelo.judges.lines import Line
from zelo.judges.loops import in_a_loop, interrupts
from zelo.judges.own import being_canceled, closed
from zelo.judges.parsing import cut_remedy

MOST_UNUSABLE = 2
"""A question that got so many unusable answers from one judge with one prompt stays missing: the same question gets the same."""
DRAIN = 30.0
"""Seconds that calls under way have to end after Ctrl-C or an error that stops the run; a second Ctrl-C leaves at once."""
PATIENCE = 600.0
"""Seconds without any answer, only refusals because of limits, after which the run stops."""
LOST_IN_A_ROW = 64
"""Questions without an answer, one after the other, after which the run stops: the server is down, or the judge broken."""
REDRAW = 0.25  # seconds


@dataclass(frozen=True)
class Limits:
    """How far a run may go; `dollars` and `tokens` None = no cap. They count what the journal has spent before."""

    retries: int = 5
    timeout: float = 120.0
    dollars: float | None = None
    tokens: int | None = None


@dataclass
class Job:
    """What one judge is asked: `questions` are numbers of the journal, in the order to ask; `comparison` shows the i-th of them.

    `total` counts what it has answered before as well; `unusable` is how many unusable answers each question has got before.
    """

    judge: RemoteJudge
    number: int
    questions: Sequence[int]
    comparison: Callable[[int], Comparison]
    unusable: Sequence[int]
    total: int = 0
    left: int = field(init=False)
    missing: int = field(init=False, default=0)
    answered: int = field(init=False, default=0)
    dollars: float = field(init=False, default=0.0)
    begun: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.left = len(self.questions)
        self.total = max(self.total, self.left)

    @property
    def detail(self) -> str:
        """Missing, dollars, rate and time left, as far as they are known."""
        seconds = time.monotonic() - self.begun
        rate = (self.answered + self.missing) / seconds if seconds > 0 else 0.0
        parts = [f"{self.missing:,} missing"] if self.missing else []
        parts += [f"${self.dollars:.2f}"] if self.dollars else []
        if rate > 0:
            parts += [f"{rate:.3g}/s", f"{_duration(self.left / rate)} left"]
        return ", ".join(parts)


class _Calling:
    """Keeps the task that is in here from being canceled when the run stops."""

    __slots__ = ("_calling", "_settled", "_task")

    def __init__(self, calling: set[asyncio.Task[None]], settled: asyncio.Event) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("asked outside of a task")
        self._calling, self._settled, self._task = calling, settled, task

    def __enter__(self) -> None:
        self._calling.add(self._task)

    def __exit__(self, *_: object) -> None:
        self._calling.discard(self._task)
        self._settled.set()


class Run:
    """One run over some jobs. `stopped` is why it ended early."""

    def __init__(self, jobs: Sequence[Job], limits: Limits, journal: Journal, shown: Callable[[Job], None]) -> None:
        """Prepare; must be made within an event loop."""
        capped = limits.dollars is not None or limits.tokens is not None
        self.lines, self.limits, self.shown = [Line(job, capped) for job in jobs], limits, shown
        self.budget = Budget(limits.dollars, limits.tokens, *journal.spent())
        self.journal, self.committer = journal, Committer(journal)
        self.stopped: BaseException | None = None
        self.rng = np.random.default_rng()  # of waiting times only
        self._tasks: set[asyncio.Task[None]] = set()
        self._calling: set[asyncio.Task[None]] = set()
        self._settled = asyncio.Event()

    async def run(self) -> None:
        """Ask until all is answered or lost, or something stops it. Afterwards all that came is in the journal."""
        loop = asyncio.get_running_loop()
        helpers = [loop.create_task(self.committer.commit()), loop.create_task(self._show())]
        works = [work for line in self.lines for work in ([self._batch(line)] if line.batched else self._workers(line))]
        self._tasks = {loop.create_task(self._guarded(work)) for work in works}
        with interrupts(self.interrupt):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        try:
            self.committer.close()
        except WorkspaceError as error:
            self.stopped = self.stopped or error
        for line in self.lines:
            self.shown(line.job)

    def interrupt(self) -> None:
        """Stop asking and wait for what is under way; the second time, leave at once."""
        if isinstance(self.stopped, KeyboardInterrupt):
            self._leave()
        self.halt(KeyboardInterrupt())

    def halt(self, reason: BaseException) -> None:
        """Ask nothing more; calls under way have `DRAIN` seconds to end."""
        if self.stopped is None:
            self.stopped = reason
            for task in self._tasks - self._calling:
                task.cancel()
            if isinstance(reason, WorkspaceError):  # no answer could be kept
                self._leave()
            else:
                asyncio.get_running_loop().call_later(DRAIN, self._leave)

    def _leave(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(REDRAW)
            for line in self.lines:
                self.shown(line.job)

    def _workers(self, line: Line) -> list[Callable[[], Coroutine[None, None, None]]]:
        places = iter(range(len(line.job.questions)))

        async def work() -> None:
            for place in places:
                await self._answer(line, place)
                if self.stopped is not None:
                    return

        return [work] * min(line.most, len(line.job.questions))

    def _batch(self, line: Line) -> Callable[[], Coroutine[None, None, None]]:
        return partial(ask_in_batches, self, line)

    async def _guarded(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            if self.stopped is None:  # nobody here did it: its questions must not stay behind without a word
                self.halt(JudgeError("a task was canceled while it asked", where="judge", remedy="the same command goes on"))
            raise
        except BaseException as error:  # whatever it is, the other workers must not go on without it
            self.halt(error)

    def calling(self) -> _Calling:
        """Return what to hold while something is under way that is waited for when the run stops."""
        return _Calling(self._calling, self._settled)

    async def _answer(self, line: Line, place: int) -> None:
        """Ask one question until it is answered or lost."""
        job, question = line.job, line.job.questions[place]
        comparison, unusable, failures, refusals = job.comparison(place), job.unusable[place], 0, 0
        while self.stopped is None:
            try:
                answer = await self._call(line, comparison, question)
            except RetryError as error:
                failures, refusals = failures + (not error.limited), refusals + error.limited  # a limit is waited for
                self._check(line, error)
                if failures > self.limits.retries:
                    self.lose(line, str(error))
                    return
                if self.stopped is None:
                    await asyncio.sleep(backoff(failures + refusals, error.after, self.rng))
                continue
            unusable += answer.preference is None
            if answer.preference is not None:
                self.gain(line)
                return
            if unusable >= MOST_UNUSABLE:
                self.lose(line, answer.note or answer.status)
                return

    def gain(self, line: Line) -> None:
        """Count an answer."""
        line.job.answered, line.job.left, line.lost = line.job.answered + 1, line.job.left - 1, 0

    def lose(self, line: Line, why: str) -> None:
        """Count a question that stays without an answer in this run."""
        line.job.missing, line.job.left, line.lost = line.job.missing + 1, line.job.left - 1, line.lost + 1
        if line.lost >= LOST_IN_A_ROW:
            what = f"no usable answer to {line.lost} questions in a row, the last one: {why}"
            self.halt(
                JudgeError(what, where=line.job.judge.name, remedy=cut_remedy(why) or "when it answers again, the same command goes on")
            )

    def _check(self, line: Line, error: RetryError) -> None:
        """Stop where waiting has no end."""
        now = time.monotonic()
        line.limited_since = (line.limited_since or now) if error.limited else line.limited_since
        if (error.after or 0) > PATIENCE or (line.limited_since is not None and now - line.limited_since > PATIENCE):
            remedy = "lower its concurrency or set its limits in judge.models; later the same command goes on"
            self.halt(JudgeError(f"nothing but refusals because of limits ({error})", where=line.job.judge.name, remedy=remedy))

    async def _call(self, line: Line, comparison: Comparison, question: int) -> Answer:
        """Make one attempt within all limits and commit it."""
        tokens, dollars = line.estimate(comparison) if line.bounded else (0, 0.0)
        if line.paced:
            await line.requests.take(line.calls)
            await line.tokens.take(tokens)
        async with line.slots.slot():
            reservation = await self._reserve(dollars, tokens) if line.bounded else self.budget.reserve(dollars, tokens)
            spent = (0.0, 0)
            with self.calling():
                try:
                    answer, error = await self._attempt(line, comparison)
                    spent = (answer.cost, answer.tokens)
                    if isinstance(error, RetryError) and error.sent:  # it may be billed: what was set aside counts, as far as it is more
                        spent = (max(answer.cost, dollars), max(answer.tokens, tokens))
                    elif error is None:
                        line.took(answer)
                    line.job.dollars += answer.cost
                    await self.committer.keep(Attempt(line.job.number, question, answer, error is not None))
                finally:
                    reservation.settle(*spent)
                    line.tokens.give_back(tokens - spent[1])
            if error is None:
                line.limited_since = None
                line.slots.succeeded()
                return answer
            if isinstance(error, RetryError) and error.limited:
                line.slots.limited()
        raise error

    async def _attempt(self, line: Line, comparison: Comparison) -> tuple[Answer, ZeloError | None]:
        start = time.perf_counter()
        error: RetryError | JudgeError
        clock = None
        try:
            if not line.waits:  # its client has a limit
                return await attempted(line.job.judge, comparison), None
            async with asyncio.timeout(3 * self.limits.timeout) as clock:  # it may need several calls, each with a limit of its own
                return await attempted(line.job.judge, comparison), None
        except (RetryError, JudgeError) as known:
            scrub_error(known)
            error = known
        except ZeloError as refused:  # this one cannot be asked
            return Answer(None, "failed", note=scrubbed(str(refused))), None
        except (Exception, asyncio.CancelledError) as unknown:  # of a judge of the user's own: its library's errors are not ours
            if isinstance(unknown, asyncio.CancelledError) and being_canceled():
                raise
            late = isinstance(unknown, TimeoutError) and clock is not None and clock.expired()
            why = f"no answer within {3 * self.limits.timeout:g} s" if late else told(unknown)
            error = RetryError(why, sent=not isinstance(unknown, ConnectionRefusedError))  # nobody knows whether it is billed
        seconds, note = time.perf_counter() - start, str(error)
        return Answer(None, "failed", "", error.input_tokens, error.output_tokens, error.cost, seconds, note), error

    async def _reserve(self, dollars: float, tokens: int) -> Reservation:
        while True:
            try:
                return self.budget.reserve(dollars, tokens)
            except BudgetSpent as error:
                if not error.pending:
                    raise
            self._settled.clear()
            await self._settled.wait()  # what is under way may turn out cheaper than what was set aside


def ask(
    jobs: Sequence[Job],
    journal: Journal,
    limits: Limits,
    shown: Callable[[Job], None] = lambda job: None,
    note: Callable[[str], None] = lambda text: None,
) -> None:
    """Ask judges what is in their jobs; every attempt goes into the journal.

    Args:
        jobs: one per judge.
        journal: gets every attempt; `durable` while this runs.
        limits: of the whole run.
        shown: called about four times a second with each job, whose counts it may show.
        note: told in one line what is left when the run ends early.

    Raises:
        JudgeError: a judge cannot go on, or the budget is spent. What came before is kept.
        WorkspaceError: the journal cannot be written. What it had acknowledged is kept.
        KeyboardInterrupt: Ctrl-C; calls under way have been waited for.
    """
    jobs = [job for job in jobs if len(job.questions)]
    if not jobs:
        return
    refuse_open(jobs, journal)
    journal.durable(True)
    try:
        stopped = in_a_loop(lambda: _ask(jobs, journal, limits, shown))
    finally:
        journal.durable(False)
    if stopped is not None:
        note(f"stopped; {'; '.join(rest(job) for job in jobs)}")
        raise stopped


async def _ask(jobs: Sequence[Job], journal: Journal, limits: Limits, shown: Callable[[Job], None]) -> BaseException | None:
    run = Run(jobs, limits, journal, shown)
    try:
        await run.run()
    finally:
        failed = [await closed(job.judge) for job in jobs]
    return run.stopped or next(filter(None, failed), None)


def rest(job: Job) -> str:
    """Return what a job has left, and about what it will cost by what it has cost so far."""
    text = f"{job.judge.name}: {job.left:,} of {len(job.questions):,} left"
    return f"{text}, about ${job.left * job.dollars / job.answered:.2f}" if job.dollars and job.answered else text


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
