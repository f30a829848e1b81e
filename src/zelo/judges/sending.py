"""Judging by shards: a judge that computes may be loaded by workers and asked there (`shards`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from zelo.judges import Answer, Comparison, Judge
from zelo.judges.checking import judged


@dataclass(frozen=True)
class Reply:
    """Answers to the comparisons of a call; how the call failed, "" if it did not; and what a sendable judge counted for it."""

    answers: list[Answer]
    fault: str
    counted: tuple[int, int] = (0, 0)


@runtime_checkable
class Sendable(Protocol):
    """A judge that another process can load and that answers the same there."""

    def loader(self) -> Callable[[], Judge]:
        """Return what makes the judge again: a small picklable object, without the weights."""
        ...

    def counters(self) -> tuple[int, int]:
        """Return what it has counted so far: tokens, and tokens computed."""
        ...

    def count(self, tokens: int, computed: int) -> None:
        """Add what was counted elsewhere."""
        ...


@dataclass(frozen=True)
class _Judging:
    """The work: here with the judge itself, elsewhere with one that is loaded there."""

    load: Callable[[], Judge]

    def open(self) -> Callable[[Sequence[Comparison]], Reply]:
        judge = self.load()

        def ask(comparisons: Sequence[Comparison]) -> Reply:
            before = judge.counters() if isinstance(judge, Sendable) else (0, 0)
            answers, fault = judged(judge, comparisons)
            after = judge.counters() if isinstance(judge, Sendable) else (0, 0)
            return Reply(answers, fault, (after[0] - before[0], after[1] - before[1]))

        return ask


def judge_work(judge: Judge, sent: bool) -> _Judging:
    """Return the work of asking a judge in one call per shard."""
    return _Judging(judge.loader() if sent and isinstance(judge, Sendable) else lambda: judge)
