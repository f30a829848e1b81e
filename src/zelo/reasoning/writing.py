"""Asks a language model to write, through the judges' runner and journal: limits, retries, budget, Ctrl-C and going on are theirs.

To the journal a piece of writing is a question like any other: its query is what is sent, its texts are the problem and the number
of the sample. A text that came is an answer with the preference 0, which here means nothing; how it ended is its note. A text that
was cut or refused is a text: asking until a whole one comes would grade a model by its luck.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from zelo.errors import InputError, JudgeError, RetryError
from zelo.judges import Answer, Comparison
from zelo.judges.journal import STATUSES, Journal
from zelo.judges.running import MOST_UNUSABLE, Job, Limits, ask
from zelo.language_models.protocol import BadRequest, LanguageModel, Reply, Request, Role
from zelo.progress import Progress
from zelo.recipe import Model
from zelo.types import Finish

Messages = tuple[tuple[Role, str], ...]
WAIT = "\n\nWait"
FORCED = {"math": "\n\nThe final answer is \\boxed{", "judging": "\n\nAnswer:"}
"""What is put behind thoughts that ran out of tokens, so that they end in an answer."""
ANSWER_TOKENS = 64
_VERSION = 1


@dataclass(frozen=True)
class Knobs:
    """How to let a model write.

    Attributes:
        max_tokens: of one text; with `waits` or `force` of its thoughts.
        temperature: None = the server's.
        waits: how often an end of thoughts is taken back and "Wait" put in its place (budget forcing, arXiv 2501.19393).
        force: put the beginning of an answer behind thoughts that ran out of tokens, and let the model finish it.
    """

    max_tokens: int = 4096
    temperature: float | None = 0.7
    waits: int = 0
    force: bool = False

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.waits < 0 or not (self.temperature is None or 0 <= self.temperature <= 2):
            raise InputError(f"{self} cannot be", remedy="tokens from 1, waits from 0, a temperature in [0, 2]")

    def digest(self) -> str:
        """A hash of all of it, 8 hexadecimal digits."""
        return sha256(json.dumps([_VERSION, asdict(self)], sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Ask:
    """One text to be written.

    Attributes:
        problem_id: what it is about.
        sample: its number, so that equal questions are asked so many times.
        messages: what is sent.
        task: how a forced answer begins.
        steps: for a text that is written step by step: instead of `messages`, one request per step, where {so_far} in the last
            message is what was written before.
    """

    problem_id: str
    sample: int
    messages: Messages
    task: str = "math"
    steps: tuple[Messages, ...] = ()

    def comparison(self) -> Comparison:
        """Return it as the journal's question."""
        body = json.dumps({"messages": self.messages, "task": self.task, "steps": self.steps}, ensure_ascii=False)
        return Comparison(body, self.problem_id, f"sample {self.sample}")


@dataclass(frozen=True)
class Written:
    """A text that came: what it says, how it ended, what it took."""

    text: str
    finish: Finish
    tokens: int
    cost: float


@dataclass
class Writer:
    """A language model as the runner's judge. A `RemoteJudge`."""

    model: LanguageModel
    knobs: Knobs
    prompt_id: str
    facts: Model = field(default_factory=Model)

    def __post_init__(self) -> None:
        self.name = self.model.name
        self.concurrency = self.facts.concurrency
        self.requests_per_minute, self.tokens_per_minute = self.facts.requests_per_minute, self.facts.tokens_per_minute

    async def attempt(self, comparison: Comparison) -> Answer:
        """Write once; see `RemoteJudge.attempt`."""
        body = json.loads(comparison.query)
        replies: list[Reply] = []
        try:
            if body["steps"]:
                text, finish = await self._stepwise(body["steps"], replies)
            else:
                text, finish = await self._whole(_messages(body["messages"]), body["task"], replies)
        except RetryError as error:
            error.input_tokens += sum(r.input_tokens for r in replies)
            error.output_tokens += sum(r.output_tokens for r in replies)
            error.cost += sum(map(self.cost, replies))
            raise
        except BadRequest as error:
            return self._answer(replies, None, "", str(error))
        return self._answer(replies, 0.0, text, finish)

    async def _whole(self, messages: Messages, task: str, replies: list[Reply]) -> tuple[str, Finish]:
        text, reply = await self._go_on(messages, "", self.knobs.max_tokens, replies)
        for _ in range(self.knobs.waits):
            left = self.knobs.max_tokens - sum(r.output_tokens for r in replies)
            if reply.finish != "stop" or left <= 0:
                break
            text, reply = await self._go_on(messages, thoughts(text) + WAIT, left, replies)
        if self.knobs.force and reply.finish == "length":
            text, reply = await self._go_on(messages, text + FORCED[task], ANSWER_TOKENS, replies)
        return text, reply.finish

    async def _stepwise(self, steps: Sequence[Any], replies: list[Reply]) -> tuple[str, Finish]:
        so_far: list[str] = []
        for step in steps:
            messages = tuple((role, text.replace("{so_far}", "\n\n".join(so_far) or "(nothing yet)")) for role, text in _messages(step))
            text, reply = await self._go_on(messages, "", self.knobs.max_tokens, replies)
            if reply.finish in ("refusal", "filter"):
                return "\n\n".join(so_far), reply.finish
            so_far += [text.strip()] if text.strip() else []
        return "\n\n".join(so_far), replies[-1].finish

    async def _go_on(self, messages: Messages, prefix: str, most: int, replies: list[Reply]) -> tuple[str, Reply]:
        """Have the model write on from a prefix; return the whole text, and the reply."""
        reply = await self.model.complete(Request(messages, most, self.knobs.temperature, prefix=prefix))
        replies.append(reply)
        return prefix + reply.text.removeprefix(prefix), reply

    def _answer(self, replies: list[Reply], preference: float | None, text: str, note: str) -> Answer:
        read, written = sum(r.input_tokens for r in replies), sum(r.output_tokens for r in replies)
        cost, seconds = sum(map(self.cost, replies)), sum(r.seconds for r in replies)
        return Answer(preference, "failed" if preference is None else "ok", text, read, written, cost, seconds, note)

    def cost(self, reply: Reply) -> float:
        """Return what a reply costs, in US dollars, by the prices given; 0 where they are not known."""
        cached = self.facts.cached_price or self.facts.input_price
        fresh = reply.input_tokens - reply.cached_tokens
        return (fresh * self.facts.input_price + reply.cached_tokens * cached + reply.output_tokens * self.facts.output_price) / 1e6

    def estimate(self, comparison: Comparison) -> tuple[int, int, float]:
        """Return input tokens, most output tokens and most US dollars of one text. Tokens are bytes / 4, the dollars use bytes / 2.5."""
        body = json.loads(comparison.query)
        parts = [_messages(step) for step in body["steps"]] or [_messages(body["messages"])] * (1 + self.knobs.waits + self.knobs.force)
        size = sum(len(text.encode("utf-8")) for messages in parts for _, text in messages)
        again = self.knobs.max_tokens * (len(parts) * (len(parts) - 1) // 2)  # what was written is read again
        written = self.knobs.max_tokens * (len(parts) if body["steps"] else 1) + ANSWER_TOKENS * self.knobs.force
        dollars = ((size / 2.5 + again) * self.facts.input_price + written * self.facts.output_price) / 1e6
        return math.ceil(size / 4) + again, written, dollars

    async def close(self) -> None:
        """Close the connections."""
        await self.model.close()


def thoughts(text: str) -> str:
    """Return a text without the end of its thoughts and what follows it, to write on from there."""
    for end in ("</think>", "</thinking>", "</Thought>"):
        text = text.partition(end)[0]
    return text.rstrip()


def _messages(rows: Sequence[Sequence[str]]) -> Messages:
    return tuple((cast("Role", role), text) for role, text in rows)


@dataclass(frozen=True)
class Bill:
    """What asking would take: texts in all, those to be asked, tokens to read, most to write, most US dollars."""

    texts: int
    left: int
    read: int
    written: int
    dollars: float

    def line(self) -> str:
        """Return it for people."""
        cost = f", at most ${self.dollars:,.2f}" if self.dollars else "; no price was given"
        return (
            f"{self.left:,} of {self.texts:,} texts to write: about {self.read:,} tokens to read, at most {self.written:,} to write{cost}"
        )


class Desk:
    """Writes texts of one model and keeps them in a journal."""

    def __init__(self, journal: Path, writer: Writer, limits: Limits | None = None) -> None:
        """Use this journal; `limits` are of every call of `write`."""
        self._path, self._writer, self._limits = journal, writer, limits or Limits()

    def bill(self, asks: Sequence[Ask]) -> Bill:
        """Say what writing them would take. Asks nothing."""
        with Journal(self._path) as journal:
            _, standing = self._standing(asks, journal)
            done = standing.answered
        left = [a for a, known in zip(asks, done.tolist(), strict=True) if not known]
        sizes = [self._writer.estimate(a.comparison()) for a in left]
        return Bill(len(asks), len(left), sum(s[0] for s in sizes), sum(s[1] for s in sizes), sum(s[2] for s in sizes))

    def write(self, asks: Sequence[Ask], progress: Progress, what: str) -> list[Written | None]:
        """Have all texts written that the journal does not have.

        Args:
            asks: different ones.
            progress: shows how far it is.
            what: a word for it.

        Returns:
            One per ask; None where none came (`MOST_UNUSABLE` attempts failed, or a call did again and again).

        Raises:
            JudgeError: the model cannot be asked any more; what came is kept, and the same call goes on.
            KeyboardInterrupt: Ctrl-C; calls under way have been waited for.
        """
        with Journal(self._path) as journal:
            questions, standing = self._standing(asks, journal)
            left = np.flatnonzero(~standing.answered & (standing.unusable < MOST_UNUSABLE))
            number = journal.judge(self._writer.name, self._writer.prompt_id)
            job = Job(
                self._writer,
                number,
                questions[left].tolist(),
                lambda i: asks[int(left[i])].comparison(),
                standing.unusable[left].tolist(),
                total=len(asks),
            )
            advance = progress.task(what)
            ask([job], journal, self._limits, _shower(advance, job), progress.note)
            _, standing = self._standing(asks, journal)
            rows = journal.read(standing.attempt)
        found: list[Written | None] = []
        for preference, status, _, tokens, cost, _, note, _, text in rows:
            ended = cast("Finish", note) if note in get_args(Finish) else "stop"
            text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")  # models write it, files of text cannot hold it
            found.append(Written(text, ended, tokens, cost) if preference is not None and STATUSES[status] == "ok" else None)
        if asks and not any(found):
            why = next((row[6] for row in rows if row[6]), "no reply")
            raise JudgeError(f"not one text came: {why}", where=self._writer.name, remedy="mend that, and run the same command again")
        return found

    def _standing(self, asks: Sequence[Ask], journal: Journal) -> tuple[Any, Any]:
        comparisons = [a.comparison() for a in asks]
        queries = journal.texts([c.query for c in comparisons], [a.problem_id for a in asks])
        firsts, seconds = (journal.texts(t, t) for t in ([c.first for c in comparisons], [c.second for c in comparisons]))
        questions = journal.questions(np.column_stack([queries, firsts, seconds, np.zeros(len(asks), np.int64)]))
        return questions, journal.standing(journal.judge(self._writer.name, self._writer.prompt_id), questions)


def _shower(advance: Callable[..., None], job: Job) -> Callable[[Job], None]:
    def show(now: Job) -> None:
        done = now.total - now.left
        advance(done, now.total, now.detail)

    return show
