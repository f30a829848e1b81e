"""SIGHUP: load what is in use now, after `zelo promote` or `zelo rollback`, and go on without a pause."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator

from zelo.errors import ZeloError
from zelo.serve.batching import Batcher
from zelo.serve.loading import Served, load_served

log = logging.getLogger(__name__)


@contextlib.contextmanager
def reloads(served: Served, batcher: Batcher) -> Iterator[None]:
    """Reload at SIGHUP while this is open, in a running loop of the main thread; elsewhere, and without a path, do nothing."""
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Task[None]] = set()

    def begin() -> None:
        task = loop.create_task(reload(served, batcher))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    handled = False
    if served.path is not None:
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):  # another thread, or a system without the signal
            loop.add_signal_handler(signal.SIGHUP, begin)
            handled = True
    try:
        yield
    finally:
        for task in under_way:
            task.cancel()
        if handled:
            loop.remove_signal_handler(signal.SIGHUP)


async def reload(served: Served, batcher: Batcher) -> None:
    """Load beside the running model and change over between two batches; where that fails, the running one stays."""
    if served.path is None:
        return
    try:
        fresh = await asyncio.to_thread(load_served, served.path, served.engine)
    except (ZeloError, OSError) as error:
        log.error("not reloaded, the running model stays: %s", error)
        return
    batcher.replace(fresh.reranker)
    log.warning("reloaded: the model of %s is in use", fresh.source)
