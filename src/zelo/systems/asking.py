"""From the name of a system to its scores for questions, each paid answer kept the moment it comes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.errors import InputError, JudgeError, ZeloError
from zelo.judges.loops import in_a_loop, interrupts
from zelo.language_models.protocol import BadRequest
from zelo.progress import Progress
from zelo.recipe import System
from zelo.rerankers import Reranker, load_reranker
from zelo.rerankers.remote import FORMS, RemoteReranker, Scored, is_remote

Advance = Callable[[int, int], None]
LANGUAGE_MODELS = "pairwise:JUDGE, listwise:MODEL"
"""Forms of names of language models as rerankers, for `zelo evaluate` and `zelo bench`."""
ANSWERS = "systems.jsonl"
"""File of a workspace with what remote systems answered: one line per question. Delete it to ask again."""


@dataclass(frozen=True)
class Question:
    """A query with the candidates to score, in the order of the first stage."""

    query_id: str
    text: str
    doc_ids: Sequence[str]
    documents: Sequence[str]

    def key(self, system: str) -> str:
        """Return a digest of what a system is asked: answers are found again by it, and no others."""
        return hashlib.sha256(json.dumps([system, self.text, list(self.documents)]).encode()).hexdigest()


@dataclass(frozen=True)
class Answer:
    """What a system gave for a question, and took. `dollars` are those that it knows itself; None = by the price of the recipe.

    A `refused` question was not scored: its scores keep the order of the first stage.
    """

    scores: NDArray[np.float64]
    tokens: int
    searches: float
    seconds: float
    dollars: float | None = None
    refused: bool = False

    def cost(self, price: System) -> float:
        """Return US dollars, 0 where no price is known."""
        if self.dollars is not None:
            return self.dollars
        return self.tokens * price.token_price / 1e6 + self.searches * price.search_price / 1e3


def open_system(name: str, folder: Path | None = None, load: Callable[[Path], Reranker] = load_reranker) -> Reranker:
    """Return a system by name: a remote reranker, or a model folder; a relative one is also looked for in a workspace.

    Raises:
        InputError: it is neither.
        JudgeError: the key of a remote one is not in the environment.
    """
    return RemoteReranker(name) if is_remote(name) else load(model_folder(name, folder))


def model_folder(name: str, folder: Path | None = None) -> Path:
    """Return the folder of a model; a relative one is also looked for in a workspace.

    Raises:
        InputError: there is none.
    """
    places: list[Path] = [Path(name), *([folder / name] if folder else [])]
    for path in places:
        if path.is_dir():
            return path
    raise InputError(f"no system {name!r}", where="--system", remedy=f"give a model folder, or one of: {FORMS}, {LANGUAGE_MODELS}")


def stamp_of(model: Path) -> str:
    """Return what changes when a model does: names, sizes and times of its files."""
    files = sorted(path for path in model.rglob("*") if path.is_file())
    stats = [(path.relative_to(model).as_posix(), path.stat()) for path in files]
    return hashlib.sha256(json.dumps([(name, s.st_size, s.st_mtime_ns) for name, s in stats]).encode()).hexdigest()[:32]


def answers_of(
    name: str,
    system: Reranker,
    questions: Sequence[Question],
    kept: Path,
    price: System,
    progress: Progress,
    *,
    stamp: str = "",
    most_refused: float = 0.0,
) -> dict[str, Answer]:
    """Return query_id -> answer. Answers in the file are taken from there, and new ones added as they come.

    Of a local model this is so only with its stamp; without it, it is asked anew. A question that a remote system refuses (too long, for
    example) keeps the order of the first stage, as it would in use; `most_refused` is the share of questions that may be.

    Raises:
        JudgeError: it refuses more, or cannot go on.
        RetryError: calls fail, and repeating them did not help. What came before, and what was under way, is kept.
    """
    is_local = not isinstance(system, RemoteReranker)
    advance = progress.task(name)
    if is_local and not stamp:
        return _score_here(system, questions, advance)
    # A trial server or a proxy is not the service: what one answered is not the other's.
    apart = stamp if is_local else getattr(system, "elsewhere", "")
    asked_of = f"{name} {apart}" if apart else name
    known = _read(kept)
    found = {q.query_id: known[q.key(asked_of)] for q in questions if q.key(asked_of) in known}
    missing = [q for q in questions if q.query_id not in found]
    if found and not is_local:
        progress.note(f"{name}: {len(found):,} of {len(questions):,} answers are kept from before; delete {kept} to ask again")
    if missing:
        with kept.open("a", encoding="utf-8") as file:
            mend(kept)

            def keep(question: Question, answer: Answer) -> None:
                found[question.query_id] = answer
                line = {"system": name, "query_id": question.query_id, "key": question.key(asked_of), "scores": answer.scores.tolist()}
                file.write(json.dumps({**line, "tokens": answer.tokens, "searches": answer.searches, "seconds": answer.seconds}) + "\n")
                file.flush()
                os.fsync(file.fileno())
                advance(len(found), len(questions))

            if isinstance(system, RemoteReranker):
                calls = _Calls(name, system, keep, most_refused * len(questions))
                found |= in_a_loop(lambda: calls.all(missing, price.concurrency))
            else:
                _score_here(system, missing, advance, keep)
    return found


def _score_here(
    system: Reranker, questions: Sequence[Question], advance: Advance, keep: Callable[[Question, Answer], None] = lambda q, a: None
) -> dict[str, Answer]:
    found = {}
    for done, question in enumerate(questions, 1):
        start = time.perf_counter()
        scores = system.score(question.text, question.documents)
        found[question.query_id] = Answer(scores, 0, 0.0, time.perf_counter() - start)
        keep(question, found[question.query_id])
        advance(done, len(questions))
    return found


class _Calls:
    """Asks a remote system with several calls at once.

    When something stops it, an error that repeating did not mend or Ctrl-C, calls under way are waited for: they are paid.
    """

    def __init__(self, name: str, system: RemoteReranker, keep: Callable[[Question, Answer], None], may_refuse: float) -> None:
        """Hand answers to `keep` as they come; so many questions may be refused."""
        self._name, self._system, self._keep, self._may_refuse = name, system, keep, may_refuse
        self._stopped: list[BaseException] = []
        self._refused: dict[str, Answer] = {}
        self._halt = asyncio.Event()

    async def all(self, questions: Sequence[Question], most: int) -> dict[str, Answer]:
        """Ask with at most so many calls at once; return what stands for questions that were refused."""
        queue = iter(questions)
        try:
            with interrupts(lambda: self._stop(KeyboardInterrupt())):
                await asyncio.gather(*(self._some(queue) for _ in range(most)))
        finally:
            await self._system.close()
        if self._stopped:
            raise self._stopped[0]
        return self._refused

    async def _some(self, queue: Iterator[Question]) -> None:
        for question in queue:
            if self._halt.is_set():
                return
            try:
                said: Scored = await self._system.ask(question.text, question.documents, self._halt)
                self._keep(question, Answer(said.scores, said.tokens, said.searches, said.seconds))
            except BadRequest as error:
                self._refused[question.query_id] = _as_it_was(question)
                if len(self._refused) > self._may_refuse:
                    what = f"{len(self._refused)} questions refused (the last one, {question.query_id}: {error.what})"
                    remedy = "raise judge.max_missing to have more questions keep the order of the first stage"
                    self._stop(JudgeError(what, where=self._name, remedy=remedy))
            except ZeloError as error:
                self._stop(error)

    def _stop(self, error: BaseException) -> None:
        self._stopped.append(error)
        self._halt.set()


def _as_it_was(question: Question) -> Answer:
    return Answer(np.arange(len(question.doc_ids), 0, -1, dtype=np.float64), 0, 0.0, math.nan, refused=True)


def _read(kept: Path) -> dict[str, Answer]:
    """Read the file; a last line that a kill cut short does not count."""
    found: dict[str, Answer] = {}
    for line in kept.read_text("utf-8").splitlines() if kept.is_file() else ():
        try:
            row: Mapping[str, Any] = json.loads(line)
            scores = np.array(row["scores"], np.float64)
            found[row["key"]] = Answer(scores, int(row["tokens"]), float(row["searches"]), float(row["seconds"]))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def below(scores: NDArray[np.float64], others: int) -> NDArray[np.float64]:
    """Return scores with those of documents that were not asked about after them: below all, in their order."""
    least = float(scores.min(initial=0.0))
    return np.concatenate([scores, least - 1.0 - np.arange(others)])


def mend(kept: Path) -> None:
    """End a line that a kill cut short, so that the next one stands alone."""
    data = kept.read_bytes()
    if data and not data.endswith(b"\n"):
        with kept.open("ab") as file:
            file.write(b"\n")
