"""Asks a judge by its provider's batch service: cheaper, with answers within a day. A batch is paid work, so it is written down.

Before a batch is sent, the journal knows its questions; before it is first asked for, its id. A run that ends in between leaves it
to the next one, which collects it. One that was on its way out when the process died is looked up by its uploaded file; where the
provider has no such name for it (Anthropic), the run stops and asks, for a second one would be paid as well.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from zelo.errors import JudgeError, RetryError, ZeloError
from zelo.judges import Answer, Comparison
from zelo.judges.injection import flags_of
from zelo.judges.journal import Attempt, Journal
from zelo.judges.learning import Learner, Manner
from zelo.judges.limits import BudgetSpent, Reservation, backoff

if TYPE_CHECKING:
    from zelo.judges.lines import Line
    from zelo.judges.running import Job, Run
    from zelo.language_models.protocol import BatchModel, Reply, Request

T = TypeVar("T")

SHARE = 0.5
"""What batch services of OpenAI and Anthropic charge of the usual price."""
MOST = 5_000
"""Questions per batch, unless the provider takes fewer: what dies on its way out is sent again, and a big file is slow to come back."""
POLL = (5.0, 300.0)
"""Seconds between two looks at a batch: at first, and at most."""
ROUNDS = 3
"""How often a question is sent that the provider did not attempt."""
FILE = "file:"
"""Begins, in the journal, the name of a batch of which only the uploaded file is known."""
LOST = "ZELO_LOST_BATCH_"
"""With a batch's number: a variable of the environment that says what became of it, its id or "none"."""
WORTH = 10
"""After the first batch, a part that the budget cuts below one in so many is not worth another day."""


class BatchJudge(Protocol):
    """A judge that can be asked in batches: it writes requests and reads replies, `batch` carries them."""

    name: str
    batch: BatchModel

    def request(self, comparison: Comparison) -> Request:
        """Return what is sent."""
        ...

    def read(self, reply: Reply, *, flags: str = "") -> Answer:
        """Return what the reply says."""
        ...


@dataclass
class Sent:
    """A batch under way: its number in the journal, the provider's name for it, its questions, and how they are written."""

    number: int
    name: str
    questions: list[int]
    reservation: Reservation | None
    manner: Manner


class _Asker:
    def __init__(self, run: Run, line: Line) -> None:
        self.run, self.line, self.job = run, line, line.job
        self.judge: Any = line.job.judge  # a BatchJudge
        self.place = {question: place for place, question in enumerate(self.job.questions)}
        self.unusable = dict(zip(self.job.questions, self.job.unusable, strict=True))
        self.rounds = dict.fromkeys(self.job.questions, 0)
        self.open = dict.fromkeys(self.job.questions)  # an ordered set: to be sent
        self.sent: list[Sent] = []
        self.full: BudgetSpent | None = None
        self.hold = 0.0  # nothing is sent before
        self.learner = Learner(self.judge)
        self.refused = set[int]()  # questions whose refusal has taught how to ask them

    async def ask(self) -> None:
        await self._find_sent()
        pause = POLL[0]
        while self.open or self.sent:
            if self.full is None and time.monotonic() >= self.hold:
                await self._send()
            if not self.sent and self.full is not None:
                raise self.full
            done = [batch for batch in self.sent if (await self._again(partial(self.judge.batch.poll, batch.name))).done]
            for batch in done:
                await self._collect(batch)
            if done and all(batch.reservation is not None for batch in self.sent):
                self.full = None  # they were cheaper than what was set aside
            pause = POLL[0] if done else min(pause * 1.5, POLL[1])
            if not done:
                await asyncio.sleep(pause)

    async def _find_sent(self) -> None:
        """Take over what earlier runs sent."""
        do, journal = self.run.committer.do, self.run.journal
        for number, name, questions in await do(journal.batches, self.job.number):
            if name is None or name.startswith(FILE):
                name = await self._look_up(number, name, len(questions))
                await do(journal.set_batch, number, "open" if name else "unsent", name or "")
            if not name:
                continue
            try:
                reservation = self._reserve(questions)
            except BudgetSpent as error:  # it is paid whatever the budget says
                reservation, self.full = None, error
            for question in questions:
                self.open.pop(question, None)
            self.sent.append(Sent(number, name, questions, reservation, self.learner.manner))

    async def _look_up(self, number: int, name: str | None, count: int) -> str | None:
        """Return the provider's name of a batch that was on its way out when a run ended; None: it never arrived."""
        find = getattr(self.judge.batch, "find", None)
        if find is not None:  # no batch is made before its file is written down
            return await self._again(partial(find, name.removeprefix(FILE))) if name else None
        told = os.environ.get(f"{LOST}{number}", "")
        if not told:
            what = f"a batch of {count} questions may have been sent when the last run ended; its id is not known"
            remedy = f"look it up in the provider's console, then set {LOST}{number} to its id, or to none if it is not there"
            raise JudgeError(what, where=self.judge.name, remedy=remedy)
        return None if told == "none" else told

    async def _submit(self, number: int, requests: Mapping[str, Request]) -> str:
        """Send a batch and return the provider's name for it; an uploaded file is written down before its batch is made."""
        do, journal, batch = self.run.committer.do, self.run.journal, self.judge.batch
        if not hasattr(batch, "find"):
            try:
                return await self._again(partial(self._submit_once, requests))
            except _Lost:  # it stays as it is: the next run says what to do about it
                raise
            except ZeloError:
                await do(journal.set_batch, number, "unsent")
                raise
        files: list[str] = []

        async def uploaded(file_id: str) -> None:
            files.append(file_id)
            await do(journal.set_batch, number, "sending", FILE + file_id)

        async def work() -> str:
            found = await batch.find(files[-1]) if files else None  # an earlier try may have arrived
            return str(found or await batch.submit(requests, uploaded))

        return await self._again(work)  # where it fails, the next run looks it up

    async def _submit_once(self, requests: Mapping[str, Request]) -> str:
        """Send to a service that cannot be asked what arrived: after a lost reply a second time might be paid twice."""
        try:
            return str(await self.judge.batch.submit(requests))
        except RetryError as error:
            if not error.sent:
                raise
            what = f"the reply to a batch of {len(requests):,} questions was lost ({error}); it may have arrived"
            raise _Lost(what, where=self.job.judge.name, remedy="run again: the line that comes then says how to go on") from error

    async def _send(self) -> None:
        do, journal = self.run.committer.do, self.run.journal
        if not self.open:
            return
        manner = self.learner.begin(self._comparison(next(iter(self.open))))
        for part in self._parts():
            try:
                reservation, questions = self._fitting(list(part))
            except BudgetSpent as error:
                self.full = error
                return
            requests = {_id(question): part[question] for question in questions}
            with self.run.calling():  # not to be given up between sending and writing down
                number = await do(journal.begin_batch, self.job.number, questions)
                try:
                    name = await self._submit(number, requests)
                except ZeloError:
                    reservation.settle(0.0, 0)
                    raise
                await do(journal.set_batch, number, "open", name)
            for question in questions:
                del self.open[question]
                self.rounds[question] += 1
            self.sent.append(Sent(number, name, questions, reservation, manner))
            if self.run.stopped is not None or self.full is not None:
                return

    def _parts(self) -> Iterator[Mapping[int, Request]]:
        from zelo.language_models.batch import BatchLimits, split_requests

        batch = self.judge.batch
        limits = BatchLimits(min(MOST, batch.limits.requests), batch.limits.bytes)
        requests = ((_id(question), self.judge.request(self._comparison(question))) for question in list(self.open))
        for part in split_requests(requests, batch.size, limits):
            yield {_question(custom_id): request for custom_id, request in part.items()}

    async def _collect(self, batch: Sent) -> None:
        """Read a finished batch; its answers and that it is done go into the journal together."""
        attempts: list[Attempt] = []
        failed: ZeloError | None = None
        try:
            answers = await self._again(partial(_gathered, self.judge.batch, batch.name, partial(self._answer, batch.manner)))
            attempts = [self._attempt(question, answers.get(_id(question))) for question in batch.questions]
        except _NoRoom:  # the provider did not take it: it has too much of ours already
            self.hold = time.monotonic() + POLL[1]
            self.open |= dict.fromkeys(question for question in batch.questions if question in self.place)
        except JudgeError as error:  # the provider found all of it wrong: it is done, and the run is
            failed = error
        with self.run.calling():
            await self.run.committer.do(self.run.journal.set_batch, batch.number, "done", "", attempts)
        self.sent.remove(batch)
        if batch.reservation is not None:
            batch.reservation.settle(sum(a.answer.cost for a in attempts), sum(a.answer.tokens for a in attempts))
        if failed is not None:
            raise failed
        self.job.dollars += sum(a.answer.cost for a in attempts)
        for attempt in attempts:
            if attempt.question in self.place:  # else it was wanted by an earlier run alone
                self._count(attempt)

    def _attempt(self, question: int, answer: Answer | None) -> Attempt:
        lost = Answer(None, "failed", note="the batch ended before it was attempted")
        return Attempt(self.job.number, question, answer or lost, error=answer is None or question in self.refused)

    def _count(self, attempt: Attempt) -> None:
        question, answer = attempt.question, attempt.answer
        if answer.preference is not None:
            self.run.gain(self.line)
            return
        if question in self.refused:
            self.refused.discard(question)
            self.rounds[question] -= 1
            self.open[question] = None
            return
        self.unusable[question] += not attempt.error
        if self.unusable[question] >= 2 or (attempt.error and self.rounds[question] >= ROUNDS):
            self.run.lose(self.line, answer.note or answer.status)
        else:
            self.open[question] = None

    def _answer(self, manner: Manner, custom_id: str, reply: Reply | Exception | None) -> Answer | None:
        question = _question(custom_id)
        if reply is None:
            return None
        if isinstance(reply, Exception):
            if question in self.place and self.learner.learn(self._comparison(question), reply, manner):
                self.refused.add(question)
            return Answer(None, "failed", note=str(reply))
        flags = flags_of(self._comparison(question)) if question in self.place else ""
        answer: Answer = self.judge.read(reply, flags=flags)
        return replace(answer, cost=SHARE * answer.cost)

    def _reserve(self, questions: list[int]) -> Reservation:
        estimates = [self.line.estimate(self._comparison(q)) for q in questions if q in self.place]
        return self.run.budget.reserve(SHARE * sum(dollars for _, dollars in estimates), sum(tokens for tokens, _ in estimates))

    def _fitting(self, questions: list[int]) -> tuple[Reservation, list[int]]:
        """Set aside the most that the first of the questions may take, as many as the budget has room for; `full` says if not all.

        Raises:
            BudgetSpent: there is no room for one, or, after the first batch, for too few.
        """
        least = max(1, len(questions) // WORTH) if any(self.rounds.values()) else 1
        estimates = [self.line.estimate(self._comparison(q)) for q in questions]
        dollars, tokens = list(accumulate(d for _, d in estimates)), list(accumulate(t for t, _ in estimates))

        def first(count: int) -> Reservation:
            return self.run.budget.reserve(SHARE * dollars[count - 1], tokens[count - 1])

        try:
            return first(len(questions)), questions
        except BudgetSpent as error:
            whole = error
        fits, too_many = 0, len(questions)
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            try:
                first(middle).settle(0.0, 0)
                fits = middle
            except BudgetSpent:
                too_many = middle
        if fits < least:
            raise whole
        self.full = whole
        return first(fits), questions[:fits]

    def _comparison(self, question: int) -> Comparison:
        return self.job.comparison(self.place[question])

    async def _again(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it again while it may work."""
        failures = 0
        while True:
            try:
                return await work()
            except RetryError as error:
                failures += 1
                if failures > self.run.limits.retries:
                    remedy = "the same command goes on where it stopped"
                    raise JudgeError(f"its batch service does not answer ({error})", where=self.job.judge.name, remedy=remedy) from error
                await asyncio.sleep(backoff(failures, error.after, self.run.rng))


class _Lost(JudgeError):
    """Nobody knows whether a batch arrived."""


class _NoRoom(ZeloError):
    """A batch that the provider took and then left alone, for its limits."""


def refuse_open(jobs: Sequence[Job], journal: Journal) -> None:
    """Refuse to ask online while batches are open: what they hold would be paid twice.

    Raises:
        JudgeError: a judge that is not asked in batches has open ones.
    """
    for job in jobs:
        count = 0 if getattr(job.judge, "batch", None) is not None else len(journal.batches(job.number))
        if count:
            batches = "1 open batch" if count == 1 else f"{count} open batches"
            raise JudgeError(f"{batches} of {job.judge.name}", where="judge", remedy="set batch = true to collect them")


async def ask_in_batches(run: Run, line: Line) -> None:
    """Ask all questions of a job in batches, those of earlier runs first; see `running.Run`.

    Raises:
        BudgetSpent: a batch would cost more than is left; those under way have been collected.
        JudgeError: the service does not answer, or refuses.
    """
    await _Asker(run, line).ask()


async def _gathered(
    batch: BatchModel, name: str, read: Callable[[str, Reply | Exception | None], Answer | None]
) -> dict[str, Answer | None]:
    try:
        return {custom_id: read(custom_id, reply) async for custom_id, reply in batch.results(name)}
    except RetryError as error:
        if error.limited and error.after is None:  # not this call was limited: the batch was
            raise _NoRoom(str(error)) from error
        raise


def _id(question: int) -> str:
    return f"q{question}"


def _question(custom_id: str) -> int:
    return int(custom_id[1:])
