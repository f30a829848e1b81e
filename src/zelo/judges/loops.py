"""An event loop for many calls: beside one that runs already, with Ctrl-C as a call, and with Python's collector looking less often."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

COLLECT_AFTER = 20_000
"""New objects until Python looks for cycles among them: calls make many objects and hardly a cycle, and looking every 700 of them is
5 % of what a judgment takes."""
LOOK = 0.2  # seconds: while it waits for another thread, Windows lets no Ctrl-C through


class _Relay:
    """Takes Ctrl-C from the thread that gets it to the loop in the thread that it is meant for. One before anybody listens is kept."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_interrupt: Callable[[], object] | None = None
        self._pressed = self._told = 0

    @property
    def left(self) -> bool:
        """Whether there is one that nobody was told of."""
        return self._pressed > self._told

    def press(self, *_: object) -> None:
        """Pass one on; a handler of a signal."""
        self._pressed += 1
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._tell)

    @contextlib.contextmanager
    def listening(self, on_interrupt: Callable[[], object]) -> Iterator[None]:
        """Call back in the loop that runs here."""
        before, self._on_interrupt, self._loop = self._on_interrupt, on_interrupt, asyncio.get_running_loop()
        self._loop.call_soon(self._tell)
        try:
            yield
        finally:
            self._on_interrupt = before

    def _tell(self) -> None:
        while self.left and self._on_interrupt is not None:
            self._told += 1
            self._on_interrupt()


_RELAY: ContextVar[_Relay | None] = ContextVar("_RELAY", default=None)


def in_a_loop(make: Callable[[], Coroutine[None, None, T]]) -> T:
    """Run it in an event loop of its own, in a thread where one is running already, as in a notebook.

    Ctrl-C goes to who asked for it by `interrupts`, in a notebook too.

    Raises:
        KeyboardInterrupt: Ctrl-C that nobody asked for, or later.
    """
    collected = gc.get_threshold()
    if collected[0]:  # else it is switched off
        gc.set_threshold(max(COLLECT_AFTER, collected[0]), *collected[1:])
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(make)
    else:
        return _beside(make)
    finally:
        gc.set_threshold(*collected)


def _beside(make: Callable[[], Coroutine[None, None, T]]) -> T:
    """Run it in a thread; this one waits, and passes Ctrl-C on, be it a signal or raised here."""
    relay, done = _Relay(), Future[T]()

    async def listening() -> T:
        task = asyncio.current_task()
        with relay.listening(task.cancel if task is not None else lambda: None):
            return await make()

    def work() -> None:
        _RELAY.set(relay)
        try:
            done.set_result(_run(listening))
        except BaseException as error:  # it is raised in the thread that waits
            done.set_exception(error)

    threading.Thread(target=work, name="zelo judges").start()
    with _handling(relay.press):
        while not done.done():
            try:
                wait([done], LOOK)
            except KeyboardInterrupt:
                relay.press()
    if relay.left or isinstance(done.exception(), asyncio.CancelledError):
        raise KeyboardInterrupt
    return done.result()


@contextlib.contextmanager
def _handling(on_signal: Callable[..., None]) -> Iterator[None]:
    """Have Ctrl-C handled so, where this thread gets it and it is handled at all."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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
        relay = _RELAY.get()  # the main thread gets it
        with relay.listening(on_interrupt) if relay is not None else contextlib.nullcontext():
            yield
        return
    loop, before = asyncio.get_running_loop(), signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)
