"""How long work shows that it lives: a bar on a terminal, one plain line per 10 seconds otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO


class Advance(Protocol):
    """Reports how far a piece of work is; may be called as often as one likes."""

    def __call__(self, done: int, total: int, detail: str = "") -> None:
        """Show `done` of `total`, with a few words more."""
        ...


PLAIN_INTERVAL = 10.0  # seconds between plain lines


class Progress(Protocol):
    """What a stage reports to."""

    def task(self, name: str) -> Advance:
        """Begin a piece of work and return the function that reports its progress."""
        ...

    def note(self, text: str) -> None:
        """Show one line that stays."""
        ...


class Silent:
    """Shows nothing: for libraries and tests."""

    def task(self, name: str) -> Advance:
        """Begin a piece of work."""
        return lambda done, total, detail="": None

    def note(self, text: str) -> None:
        """Show nothing."""


class Plain:
    """Lines on a stream that is not a terminal."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to `stream` (standard error if None); `clock` gives seconds."""
        self._stream, self._clock = stream, clock

    def task(self, name: str) -> Advance:
        """Begin a piece of work; the first line comes after 10 seconds."""
        start = last = self._clock()

        def advance(done: int, total: int, detail: str = "") -> None:
            nonlocal last
            now = self._clock()
            if now - last >= PLAIN_INTERVAL:
                last = now
                self.note(f"  {name}: {done:,} of {total:,} ({now - start:.0f} s{f', {detail}' if detail else ''})")

        return advance

    def note(self, text: str) -> None:
        """Write one line."""
        print(text, file=self._stream or sys.stderr, flush=True)


class _Bars:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        detail = TextColumn("{task.fields[detail]}", markup=False)
        self.bars = RichProgress(*columns, detail, console=Console(stderr=True), transient=True, refresh_per_second=4)

    def task(self, name: str) -> Advance:
        from rich.markup import escape

        handle = self.bars.add_task(escape(name), total=None, detail="")

        def advance(done: int, total: int, detail: str = "") -> None:
            self.bars.update(handle, completed=done, total=total, visible=done < total, detail=detail)

        return advance

    def note(self, text: str) -> None:
        self.bars.console.print(text, markup=False, highlight=False)


@contextmanager
def for_stream() -> Iterator[Progress]:
    """Yield bars when standard error is a terminal, plain lines otherwise."""
    if not sys.stderr.isatty():
        yield Plain()
        return
    bars = _Bars()
    with bars.bars:
        yield bars
