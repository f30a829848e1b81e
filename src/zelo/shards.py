"""Work by shards: the seam between a stage and where its work is done, in this process or by workers (`cluster` has those).

A stage cuts its work into shards, parts that need nothing of each other, such as the queries of a block. What it does with one of them
is a `Work`, which can be sent elsewhere. Results come back in the order of the shards, so a stage writes the same files wherever the
work was done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")
Kept = TypeVar("Kept")
Shard = TypeVar("Shard", contravariant=True)
Result = TypeVar("Result", covariant=True)


class Work(Protocol[Shard, Result]):
    """What is done with every shard: a picklable object without side effects, so that a shard may be done again after a failure."""

    def open(self) -> Callable[[Shard], Result]:
        """Prepare, once per worker (load a model, for example), and return the function of one shard."""
        ...


class Executor(Protocol):
    """Does work on shards."""

    @property
    def elsewhere(self) -> bool:
        """Whether shards and results travel between processes."""
        ...

    def map(self, work: Work[In, Out], shards: Iterable[In]) -> Iterator[Out]:
        """Yield the results in the order of the shards, which are taken only a few ahead.

        Raises:
            ZeloError: what the work raised, or workers that were lost again and again.
        """
        ...


class Here:
    """Does it in this process, one shard after the other."""

    elsewhere = False

    def map(self, work: Work[In, Out], shards: Iterable[In]) -> Iterator[Out]:
        """Yield the results; the work is opened when the first shard is there."""
        do: Callable[[In], Out] | None = None
        for shard in shards:
            do = do or work.open()
            yield do(shard)


def keeping(executor: Executor, work: Work[In, Out], shards: Iterable[tuple[Kept, In]]) -> Iterator[tuple[Kept, Out]]:
    """Map over the second of each two, and yield the result with the first, which stays here."""
    kept: deque[Kept] = deque()

    def sent() -> Iterator[In]:
        for own, shard in shards:
            kept.append(own)
            yield shard

    for result in executor.map(work, sent()):
        yield kept.popleft(), result
