"""An event loop for many calls: beside one that runs already, with Ctrl-C as a call, and with Python's collector looking less often."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

COLLECT_AFTER = 20_000
"""New objects until Python looks for cycles among them: calls make many objects and hardly a cycle, and looking every 700 of them is
5 % of what a judgment takes."""


def in_a_loop(make: Callable[[], Coroutine[None, None, T]]) -> T:
    """Run it in an event loop of its own, in a thread where one is running already, as in a notebook."""
    collected = gc.get_threshold()
    if collected[0]:  # else it is switched off
        gc.set_threshold(max(COLLECT_AFTER, collected[0]), *collected[1:])
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(make)
    else:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(_run, make).result()
    finally:
        gc.set_threshold(*collected)


def _run(make: Callable[[], Coroutine[None, None, T]]) -> T:
    try:
        import uvloop

        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop  # 6 % less per judgment
    except ImportError:  # it does not exist for Windows
        loop_factory = None
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(make())


@contextlib.contextmanager
def interrupts(on_interrupt: Callable[[], None]) -> Iterator[None]:
    """Call back at Ctrl-C instead of raising wherever the program happens to be."""
    if threading.current_thread() is not threading.main_thread():
        yield  # the main thread gets it
        return
    loop, before = asyncio.get_running_loop(), signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)
