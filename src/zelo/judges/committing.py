"""One writer for the journal while many calls are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from zelo.errors import ZeloError
from zelo.judges.journal import Attempt, Journal

T = TypeVar("T")


class Committer:
    """Adds attempts to the journal in groups: what arrives while a commit is under way goes into the next one.

    One thread writes: a transaction of SQLite belongs to the connection, not to who began it.
    """

    def __init__(self, journal: Journal) -> None:
        """Write to a journal, from a thread, so that a slow disk does not hold up the network."""
        self._journal, self._rows, self._wake = journal, list[Attempt](), asyncio.Event()
        self._group: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pool = ThreadPoolExecutor(1)

    async def keep(self, attempt: Attempt) -> None:
        """Return when the attempt is committed.

        Raises:
            WorkspaceError: the journal cannot be written.
        """
        self._rows.append(attempt)
        self._wake.set()
        await self._group  # shared: who waits is only ever canceled together with all others

    async def commit(self) -> None:
        """Commit group after group, until canceled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            await asyncio.sleep(0)  # answers that arrived in the same turn of the loop
            self._wake.clear()
            rows, group = self._rows, self._group
            self._rows, self._group = [], loop.create_future()
            try:
                await self._kept(self._journal.add, rows)
                if not group.done():
                    group.set_result(None)
            except ZeloError as error:
                if not group.done():
                    group.set_exception(error)
                    group.exception()  # looked at, even where nobody waits any more

    async def do(self, work: Callable[..., T], *arguments: object) -> T:
        """Run something else on the journal, between commits; it is not given up halfway."""
        return await self._kept(work, *arguments)

    def _kept(self, work: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Start it in the thread. A waiter that is canceled meanwhile leaves an error to nobody, which asyncio would print."""
        done = asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
        return asyncio.shield(done)

    def close(self) -> None:
        """Commit what is left: answers that came after the last Ctrl-C."""
        self._pool.shutdown()
        if self._rows:
            self._journal.add(self._rows)
