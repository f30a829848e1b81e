"""A language model that orders several documents in a call, over a long list by a sliding window (Sun et al. 2023, "RankGPT").

The window begins at the end of the list and moves up by half its length, so the best of each call meet the next ones. What a call
answered is kept as it comes, in `systems.jsonl`; a call that is known is not made again, and a changed prompt is another call.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from zelo.errors import JudgeError, RetryError, ZeloError
from zelo.judges.known import Known
from zelo.judges.limits import Bucket, Budget, BudgetSpent, Reservation, backoff
from zelo.judges.listwise import ListwiseJudge, Ranking
from zelo.judges.loops import in_a_loop, interrupts
from zelo.judges.prompt_files import load_prompt
from zelo.judges.prompting import Prompter
from zelo.judges.running import MOST_UNUSABLE
from zelo.language_models.names import open_model
from zelo.language_models.protocol import Reply
from zelo.pipeline import Context
from zelo.progress import Advance
from zelo.recipe import Model, System
from zelo.stages.judge import JOURNAL
from zelo.systems.asking import ANSWERS, Answer, Question, below, mend
from zelo.systems.pairwise import require_price


@dataclass(frozen=True)
class Call:
    """What one call gave: the order, or none, and what it took."""

    order: tuple[int, ...] | None
    tokens: int
    dollars: float
    seconds: float
    note: str = ""


def open_listwise(name: str, context: Context) -> ListwiseJudge:
    """Return the model of a name such as listwise:openai:MODEL, asked with the recipe's criterion and context.

    Raises:
        RecipeError: no such model, or a budget in dollars without a price.
        JudgeError: it cannot be asked, for lack of a key for example.
    """
    _, _, model = name.partition(":")
    judging = context.recipe.judge
    require_price(model, context.recipe)
    size = judging.document_characters
    prompter = Prompter(load_prompt("rank"), criterion=judging.criterion, context=judging.context, document_characters=size)
    return ListwiseJudge(open_model(model, timeout=judging.timeout), prompter, max_output_tokens=judging.max_output_tokens)


def windows(length: int, size: int) -> Iterator[slice]:
    """Yield the windows over a list, from its end to its start; each has half of the one before, and the last begins at 0."""
    start = max(length - size, 0)
    while True:
        yield slice(start, min(start + size, length))
        if start == 0:
            return
        start = max(start - max(size // 2, 1), 0)


def order_lists(
    name: str, judge: ListwiseJudge, questions: Sequence[Question], settings: System, context: Context, advance: Advance
) -> dict[str, Answer]:
    """Have a model order the candidates of all questions; return query_id -> scores that fall with the rank, and what the calls took.

    A call without a usable answer, asked twice, leaves its window as it is.

    Raises:
        JudgeError: the model cannot go on, the budget is spent, or more answers are missing than judge.max_missing allows.
        RetryError: calls fail, and repeating them did not help. What came before is kept.
    """
    with (context.workspace.root / ANSWERS).open("a", encoding="utf-8") as file:
        mend(context.workspace.root / ANSWERS)
        asking = _Asking(name, judge, context, file)
        return in_a_loop(lambda: asking.all(questions, settings, advance))


class _Asking:
    """Makes calls within the recipe's limits."""

    def __init__(self, name: str, judge: ListwiseJudge, context: Context, file: IO[str]) -> None:
        _, _, model = name.partition(":")
        self._name, self._judge, self._file, self._judging = name, judge, file, context.recipe.judge
        self._facts = self._judging.models.get(model, Model())
        self._known, spent_dollars, spent_tokens = _read(context.workspace.root / ANSWERS)
        with Known(context.workspace.root / JOURNAL) as journal:
            dollars, tokens = journal.spent()
        most = self._judging.budget_dollars or None, self._judging.budget_tokens or None
        self._budget = Budget(*most, dollars + spent_dollars, tokens + spent_tokens)
        self._requests, self._tokens = Bucket(self._facts.requests_per_minute), Bucket(self._facts.tokens_per_minute)
        self._slots = asyncio.Semaphore(self._facts.concurrency)
        self._rng = np.random.default_rng()  # of waiting times only
        self._depth = context.recipe.rank.depth
        self._settled = asyncio.Event()
        self._stopped: BaseException | None = None
        self.calls, self.missing, self._last = 0, 0, ""

    async def all(self, questions: Sequence[Question], settings: System, advance: Advance) -> dict[str, Answer]:
        """Order all lists. When something stops it, calls under way are waited for: they are paid."""
        found: dict[str, Answer] = {}

        async def one(question: Question) -> None:
            try:
                found[question.query_id] = await self._question(question, settings)
            except (ZeloError, KeyboardInterrupt) as error:
                self._stopped = self._stopped or error
            advance(len(found), len(questions), f"{self.missing:,} of {self.calls:,} calls without an order" if self.missing else "")

        try:
            with interrupts(self._interrupt):
                await asyncio.gather(*map(one, questions))
        finally:
            await self._judge.close()
        if self._stopped is not None:
            raise self._stopped
        if self.missing > self._judging.max_missing * self.calls:
            what = f"no usable order from {self.missing:,} of {self.calls:,} calls (the last one: {self._last})"
            raise JudgeError(what, where=self._name, remedy="raise judge.max_output_tokens if answers were cut, or judge.max_missing")
        return found

    def _interrupt(self) -> None:
        self._stopped = self._stopped or KeyboardInterrupt()
        self._settled.set()

    async def _question(self, question: Question, settings: System) -> Answer:
        """Move the window over the list; its calls wait for each other."""
        depth = min(settings.depth or self._depth, len(question.doc_ids))
        order, calls = list(range(depth)), []
        for part in windows(depth, settings.window) if depth > 1 else ():
            shown = order[part]
            call = await self._call(question.text, [question.documents[i] for i in shown])
            calls.append(call)
            if call.order is not None:
                order[part] = [shown[i] for i in call.order]
        scores = np.empty(depth)
        scores[order] = np.arange(depth, 0, -1, dtype=np.float64)
        tokens, dollars, seconds = (sum(getattr(c, n) for c in calls) for n in ("tokens", "dollars", "seconds"))
        return Answer(below(scores, len(question.doc_ids) - depth), tokens, 0.0, seconds, dollars)

    async def _call(self, query: str, texts: Sequence[str]) -> Call:
        key = hashlib.sha256(json.dumps([self._name, self._judge.prompt_id, query, list(texts)]).encode()).hexdigest()
        self.calls += 1
        unusable = [call for call in self._known.get(key, []) if call.order is None]
        usable = next((call for call in self._known.get(key, []) if call.order is not None), None)
        while usable is None and len(unusable) < MOST_UNUSABLE:
            call = await self._ask(query, texts, key)
            usable, unusable = (call, unusable) if call.order is not None else (None, [*unusable, call])
        if usable is None:
            self.missing, self._last = self.missing + 1, unusable[-1].note
        every = [*unusable, usable] if usable is not None else unusable
        total = (sum(c.tokens for c in every), sum(c.dollars for c in every), sum(c.seconds for c in every))
        return Call(usable.order if usable is not None else None, *total)

    async def _ask(self, query: str, texts: Sequence[str], key: str) -> Call:
        """Ask until there is an answer, usable or not, and keep it before it counts."""
        read, written = self._judge.estimate(query, texts)
        dollars = (read * self._facts.input_price + written * self._facts.output_price) / 1e6
        failures = 0
        while True:
            await self._requests.take(1)
            await self._tokens.take(read + written)
            async with self._slots:
                reservation = await self._reserve(dollars, read + written)
                call = Call(None, 0, 0.0, 0.0)
                try:
                    call = self._read(await self._judge.rank(query, texts))
                    self._keep(key, call)
                    return call
                except RetryError as error:
                    failures += not error.limited
                    if error.sent:  # it may be billed
                        call = Call(None, read + written, dollars, 0.0)
                    if failures > self._judging.retries:
                        raise
                    pause = backoff(max(failures, 1), error.after, self._rng)
                finally:
                    reservation.settle(call.dollars, call.tokens)
                    self._settled.set()
            await asyncio.sleep(pause)

    async def _reserve(self, dollars: float, tokens: int) -> Reservation:
        """Set aside what a call may take; where that is too much, wait for what is under way, which may turn out cheaper."""
        while True:
            if self._stopped is not None:
                raise self._stopped
            try:
                return self._budget.reserve(dollars, tokens)
            except BudgetSpent as error:
                if not error.pending:
                    raise
            self._settled.clear()
            await self._settled.wait()

    def _read(self, said: Ranking) -> Call:
        reply = said.reply
        if reply is None:
            return Call(None, 0, 0.0, 0.0, said.note)
        return Call(said.order, reply.input_tokens + reply.output_tokens, _dollars(reply, self._facts), reply.seconds, said.note)

    def _keep(self, key: str, call: Call) -> None:
        line = {"system": self._name, "key": key, "order": call.order, "tokens": call.tokens, "dollars": call.dollars}
        self._file.write(json.dumps({**line, "seconds": call.seconds, "note": call.note}) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _dollars(reply: Reply, facts: Model) -> float:
    fresh = reply.input_tokens - reply.cached_tokens
    cached = facts.cached_price or facts.input_price
    return (fresh * facts.input_price + reply.cached_tokens * cached + reply.output_tokens * facts.output_price) / 1e6


def _read(kept: Path) -> tuple[dict[str, list[Call]], float, int]:
    """Return key -> calls, and the dollars and tokens of all of them; a line that a kill cut short does not count."""
    found: dict[str, list[Call]] = {}
    for line in kept.read_text("utf-8").splitlines() if kept.is_file() else ():
        try:
            row = json.loads(line)
            order = row["order"] if row["order"] is None else tuple(int(i) for i in row["order"])
            call = Call(order, int(row["tokens"]), float(row["dollars"]), float(row["seconds"]), str(row["note"]))
            found.setdefault(row["key"], []).append(call)
        except (ValueError, KeyError, TypeError):
            continue
    every = [call for calls in found.values() for call in calls]
    return found, sum(call.dollars for call in every), sum(call.tokens for call in every)
