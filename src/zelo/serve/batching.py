"""Requests to batches: a queue of requests, one thread that scores, parts of several requests at a time.

Nothing waits for a batch to fill up: while one is scored, the next one gathers. A request of many documents is scored in parts, and
yields its place after a turn, so that it does not hold up small ones; a request whose client has gone loses the parts that are left.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zelo.rerankers import Reranker

FloatArray = NDArray[np.float64]

CHARS_PER_TOKEN = 4
"""What a token is counted as before a tokenizer has seen the text; English prose has a little more."""
MOST_TOKENS = 8192
"""What a document counts at most, for a model that does not say where it cuts."""
TURN = 4
"""Batches that a request may fill before others have their turn."""

FADING = 0.8
"""What a batch counts beside the one after it, in the estimate of the pace."""


class Overloaded(Exception):
    """More is waiting than can be done in time. `after` is how many seconds to wait before another try."""

    def __init__(self, after: int) -> None:
        super().__init__(f"too many requests are waiting; try again in {after} s")
        self.after = after


class TooLate(Exception):
    """The request was not scored within its time."""


class ScoringFailed(Exception):
    """The reranker failed; the cause has the details, which are for the log and not for the client."""


@dataclass(eq=False)
class _Job:
    """A request. Its documents from `at` on are still to be handed out."""

    query: str
    documents: Sequence[str]
    tokens: NDArray[np.int64]
    future: asyncio.Future[FloatArray]
    scores: FloatArray
    at: int = 0
    turn: int = 0
    gone: bool = False  # set by the loop, read by the scoring thread


@dataclass
class _Part:
    job: _Job
    start: int
    stop: int
    tokens: int

    @property
    def documents(self) -> Sequence[str]:
        return self.job.documents[self.start : self.stop]

    @property
    def last(self) -> bool:
        return self.stop == len(self.job.documents)


@dataclass
class Watch:
    """What the batcher tells whoever counts: documents and seconds of each batch."""

    batch: Callable[[int, int, float], None] = field(default=lambda requests, documents, seconds: None)


class Pace:
    """Seconds per token, of the last batches; those that held more count more.

    What a batch costs however small it is would make tokens of small batches look dear, and a server refuse large requests that it could
    answer in time: a batch counts as at least a quarter full.
    """

    def __init__(self, batch_tokens: int) -> None:
        """Take the size of a full batch."""
        self._least = max(batch_tokens // 4, 1)
        self._batches, self._seconds, self._tokens = 0, 0.0, 0.0

    def add(self, seconds: float, tokens: int) -> None:
        """Note a batch."""
        self._batches += 1
        if self._batches > 1:  # the first one is slow: models compile for the shapes that they meet
            self._seconds = FADING * self._seconds + seconds
            self._tokens = FADING * self._tokens + max(tokens, self._least)

    @property
    def seconds_per_token(self) -> float:
        """The pace; 0 before the second batch."""
        return self._seconds / self._tokens if self._tokens else 0.0


class Batcher:
    """Scores requests of many clients with one reranker.

    A reranker with `prepare(texts)` (what is expensive depends on single texts) is asked to prepare parts of requests, and then
    scores each request as a whole: the same numbers as alone. One without it scores parts, which differ from the whole by the
    rounding of the model's own batches.
    """

    def __init__(self, reranker: Reranker, *, batch_tokens: int = 4096, watch: Watch | None = None) -> None:
        """Use the reranker from one thread; `batch_tokens` >= 1 is what a batch should hold, padding not counted."""
        self._use(reranker)
        self._next: Reranker | None = None
        self._batch_tokens = batch_tokens
        self._watch = watch or Watch()
        self._waiting: deque[_Job] = deque()
        self._tokens = 0  # of waiting parts, and of those being scored
        self._pace = Pace(batch_tokens)
        self._wake = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scoring")
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Requests with parts that are not yet handed to the scoring thread."""
        return len(self._waiting)

    @property
    def waiting_tokens(self) -> int:
        """Tokens (estimated) that are waiting or being scored."""
        return self._tokens

    @property
    def alive(self) -> bool:
        """Whether requests are being scored."""
        return self._task is not None and not self._task.done() and not self._closing

    def seconds_left(self) -> float:
        """Return how long what is here now will take, by the speed so far; 0 before the second batch."""
        return self._tokens * self._pace.seconds_per_token

    def count_tokens(self, query: str, documents: Sequence[str]) -> NDArray[np.int64]:
        """Return an estimate of the tokens per document, the query's included, int64 [documents]."""
        lengths = (np.array([len(d) for d in documents], np.int64) + len(query)) // CHARS_PER_TOKEN + 1
        return np.minimum(lengths, self._most_tokens)

    def replace(self, reranker: Reranker) -> None:
        """Score with another reranker from the next batch on; called in the loop.

        A request of which parts are scored already begins again: its scores are all of one model.
        """
        self._next = reranker
        self._wake.set()

    def _use(self, reranker: Reranker) -> None:
        self._reranker = reranker
        self._prepare: Callable[[Sequence[str]], None] | None = getattr(reranker, "prepare", None)
        self._score_many = getattr(reranker, "score_many", None)
        self._most_tokens = int(getattr(reranker, "max_tokens", None) or MOST_TOKENS)

    def _take_over(self) -> None:
        """Change to the next reranker; nothing is being scored now."""
        if self._next is not None:
            self._use(self._next)
            self._next = None
            for job in self._waiting:
                self._tokens += int(job.tokens[: job.at].sum())
                job.at = job.turn = 0

    def start(self) -> None:
        """Begin to score, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Score what is waiting, then stop."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def score(self, query: str, documents: Sequence[str], timeout: float) -> FloatArray:
        """Return a score per document. Cancelling it takes the request out of the queue.

        Raises:
            Overloaded: what is waiting already takes longer than `timeout` seconds.
            TooLate: it was not scored in that time.
            ScoringFailed: the reranker raised, or did not return a number per document.
        """
        if not documents:
            return np.zeros(0)
        left = self.seconds_left()
        if self._closing or left > timeout:
            raise Overloaded(max(1, min(60, math.ceil(left))))
        tokens = self.count_tokens(query, documents)
        job = _Job(query, documents, tokens, asyncio.get_running_loop().create_future(), np.zeros(len(documents)))
        self._waiting.append(job)
        self._tokens += int(tokens.sum())
        self._wake.set()
        try:
            async with asyncio.timeout(timeout):
                return await job.future
        except TimeoutError:
            raise TooLate(f"not scored within {timeout:g} s") from None
        finally:
            self._forget(job)

    def _forget(self, job: _Job) -> None:
        """Drop what is left of a request that was answered or given up."""
        job.gone = True
        if job.at < len(job.documents):
            self._tokens -= int(job.tokens[job.at :].sum())
            job.at = len(job.documents)
            self._waiting.remove(job)

    def _take(self) -> list[_Part]:
        """Return the next batch: parts from the head of the queue."""
        parts: list[_Part] = []
        room = self._batch_tokens
        while self._waiting and (room > 0 or not parts):
            job = self._waiting[0]
            ends = np.cumsum(job.tokens[job.at :])
            size = int(np.searchsorted(ends, room, side="right"))
            if size == 0 and parts:
                break  # the next document is too long for what is left of this batch
            part = _Part(job, job.at, job.at + max(size, 1), int(ends[max(size, 1) - 1]))
            parts.append(part)
            room -= part.tokens
            job.at, job.turn = part.stop, job.turn + part.tokens
            if part.last:
                self._waiting.popleft()
            elif job.turn >= TURN * self._batch_tokens:
                job.turn = 0
                self._waiting.rotate(-1)
        return parts

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._take_over()
            parts = self._take()
            if not parts:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            start = time.perf_counter()
            found = await loop.run_in_executor(self._thread, self._work, parts)
            seconds, tokens = time.perf_counter() - start, sum(part.tokens for part in parts)
            self._tokens -= tokens
            self._pace.add(seconds, tokens)
            self._watch.batch(len({id(part.job) for part in parts}), sum(part.stop - part.start for part in parts), seconds)
            for part, result in zip(parts, found, strict=True):
                _deliver(part, result)

    def _work(self, parts: Sequence[_Part]) -> list[FloatArray | Exception | None]:
        """Score parts in the scoring thread. None: nobody waits for it, or the rest of the request is still to come."""
        live = [part for part in parts if not part.job.gone]
        found: dict[int, FloatArray | Exception | None] = {}
        try:
            found = self._score(live)
        except Exception:  # one text may be at fault: the others' requests are scored without it
            for part in live:
                try:
                    found |= self._score([part])
                except Exception as error:  # whatever the reranker raises concerns this request alone
                    found[id(part)] = error
        return [found.get(id(part)) for part in parts]

    def _score(self, parts: Sequence[_Part]) -> dict[int, FloatArray | Exception | None]:
        if self._prepare is not None:
            self._prepare([text for part in parts for text in (part.job.query, *part.documents)])
            whole = [part for part in parts if part.last]
            return {id(part): self._reranker.score(part.job.query, part.job.documents) for part in whole}
        if self._score_many is not None:
            scores = self._score_many([(part.job.query, part.documents) for part in parts])
        else:
            scores = [self._reranker.score(part.job.query, part.documents) for part in parts]
        for part, result in zip(parts, scores, strict=True):
            part.job.scores[part.start : part.stop] = result
        return {id(part): part.job.scores if part.last else None for part in parts}


def _deliver(part: _Part, result: FloatArray | Exception | None) -> None:
    future = part.job.future
    if result is None or future.done():
        return
    if isinstance(result, Exception):
        failed = ScoringFailed(f"the reranker failed ({type(result).__name__})")
        failed.__cause__ = result
        future.set_exception(failed)
    elif result.shape != (len(part.job.documents),) or not np.isfinite(result).all():
        future.set_exception(ScoringFailed("the reranker did not return a number per document"))
    else:
        future.set_result(result)
