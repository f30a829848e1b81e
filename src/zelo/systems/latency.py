"""How long a system takes under load: payloads of a stated size, arrivals as they come in life, quantiles with error bars.

The protocol: a payload is a query of the workspace with documents of its corpus, drawn at random, up to so many bytes of text (the paper's
table 1 has 12 KB and 150 KB). Requests arrive at random times at a given rate (a Poisson process), whether or not earlier ones are
answered. Latency is counted from the moment of arrival, so a queue counts. The first seconds warm up and are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zelo.core.significance import block_bootstrap_quantiles
from zelo.errors import InputError, ZeloError
from zelo.rerankers import Reranker, load_reranker
from zelo.rerankers.remote import RemoteReranker, is_remote
from zelo.systems.asking import model_folder, open_system

if TYPE_CHECKING:
    from zelo.rerankers.engines import EngineName

LEVELS = (0.5, 0.95, 0.99)
KILOBYTE = 1000
ENOUGH = 5
"""Answers that must lie above a quantile for it to be shown: p99 takes 500 requests."""

Ask = Callable[[str, Sequence[str]], Awaitable[object]]


async def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Asker:
    """How a system is reached (a word for the table), what asks it, and what closes its connections."""

    way: str
    ask: Ask
    close: Callable[[], Awaitable[None]] = _nothing


@dataclass(frozen=True)
class Quantile:
    """One quantile of the latencies in ms, with its 95 % interval."""

    level: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measurement:
    """One system, one payload, one rate. `quantiles` leaves out those that too few answers say anything about.

    A failed request counts as one that took longer than any other: what was answered in time would make a server that refuses look fast.
    """

    system: str
    way: str
    payload: int
    rate: float
    answered: int
    failed: int
    documents: float
    quantiles: tuple[Quantile, ...]
    behind: bool  # the queue grew all the time: the rate is above what the system can do


class Payloads:
    """Requests of a stated size. Each document begins at a random word and ends where it began: no cache has seen it."""

    def __init__(self, queries: Sequence[str], documents: Sequence[str], rng: np.random.Generator) -> None:
        """Draw from these texts.

        Raises:
            InputError: there are no texts.
        """
        self._queries, self._documents, self._rng = list(queries), [d for d in documents if d.strip()], rng
        if not self._queries or not self._documents:
            raise InputError("no texts to make requests of", remedy="run the stage ingest first")

    def draw(self, size: int) -> tuple[str, list[str]]:
        """Return a query and documents with `size` bytes of text in all (UTF-8); the last document is cut."""
        query = self._queries[int(self._rng.integers(len(self._queries)))]
        documents: list[str] = []
        left = size - len(query.encode())
        while left > 0:
            words = self._documents[int(self._rng.integers(len(self._documents)))].split()
            start = int(self._rng.integers(len(words)))
            text = " ".join(words[start:] + words[:start]).encode()[:left].decode("utf-8", "ignore")
            documents.append(text or "a")
            left -= max(len(text.encode()), 1)
        return query, documents


def measure(name: str, asker: Asker, payloads: Payloads, sizes: Sequence[int], rates: Sequence[float], seconds: float, warm_up: float,
            rng: np.random.Generator) -> Iterator[Measurement]:  # fmt: skip
    """Yield a measurement per size and rate.

    Args:
        name: of the system.
        asker: scores documents for a query; an error that zelo raises on purpose counts as a failed request.
        payloads: draws requests.
        sizes: bytes of text per request.
        rates: requests per second, > 0.
        seconds: time in which requests arrive, the warm-up not included.
        warm_up: seconds of arrivals that are left out.
        rng: of arrivals and intervals.
    """
    with asyncio.Runner() as runner:
        try:
            for size in sizes:
                for rate in rates:
                    gaps = rng.exponential(1 / rate, int(2 * rate * (seconds + warm_up)) + 50)
                    arrivals = np.cumsum(gaps)
                    arrivals = arrivals[arrivals < seconds + warm_up]
                    requests = [payloads.draw(size) for _ in arrivals]
                    yield runner.run(_run(name, asker, arrivals, requests, size, rate, warm_up, rng))
        finally:
            runner.run(_close(asker))


async def _close(asker: Asker) -> None:
    await asker.close()


async def _run(name: str, asker: Asker, arrivals: NDArray[np.float64], requests: Sequence[tuple[str, list[str]]], size: int,
               rate: float, warm_up: float, rng: np.random.Generator) -> Measurement:  # fmt: skip
    took = np.full(len(arrivals), np.nan)
    if requests:
        await asker.ask(*requests[0])  # connections, compiled shapes; what is wrong altogether is raised here
    start = time.perf_counter()

    async def one(i: int) -> None:
        with contextlib.suppress(ZeloError):
            await asker.ask(*requests[i])
            took[i] = time.perf_counter() - start - arrivals[i]

    tasks = []
    for i, moment in enumerate(arrivals):
        await asyncio.sleep(max(0.0, start + moment - time.perf_counter()))
        tasks.append(asyncio.create_task(one(i)))
    await asyncio.gather(*tasks)
    counted = took[arrivals >= warm_up]
    answered = 1000 * counted[np.isfinite(counted)]
    documents = float(np.mean([len(d) for _, d in requests])) if requests else 0.0
    quantiles = _quantiles(answered, len(counted), rng)
    return Measurement(name, asker.way, size, rate, len(answered), len(counted) - len(answered), documents, quantiles, _behind(answered))


def _quantiles(answered: NDArray[np.float64], sent: int, rng: np.random.Generator) -> tuple[Quantile, ...]:
    """The quantiles of all requests that were sent, those without an answer above all others, as far as `ENOUGH` answers lie above them."""
    within = {level: level * sent / len(answered) for level in LEVELS} if len(answered) else {}
    shown = [level for level, share in within.items() if (1 - share) * len(answered) >= ENOUGH]
    if not shown:
        return ()
    shares = [within[level] for level in shown]
    low, high = block_bootstrap_quantiles(answered, shares, rng=rng)
    rows = zip(np.quantile(answered, shares), low, high, strict=True)
    return tuple(Quantile(level, *map(float, row)) for level, row in zip(shown, rows, strict=True))


def _behind(took: NDArray[np.float64]) -> bool:
    """Whether the last third waited more than twice as long as the first: then the quantiles are those of the time measured, no more."""
    third = len(took) // 3
    return third >= 5 and bool(np.median(took[-third:]) > 2 * np.median(took[:third]) + 50)


@contextlib.contextmanager
def asking(name: str, folder: Path | None, *, http: bool, engine: EngineName = "auto") -> Iterator[Asker]:
    """Yield what asks a system: a hosted one, one in this process, or one behind a server that is started here.

    `engine` is what computes a model that is here, see `load_reranker`.
    """
    if name.partition(":")[0] in ("pairwise", "listwise"):
        raise InputError(f"{name} is no single call", where="--system", remedy="`zelo evaluate --system` says how long its calls take")
    if is_remote(name):
        remote = RemoteReranker(name, retries=0)
        yield Asker("remote", remote.ask, remote.close)
    elif http:
        with _unwinding_at_sigterm(), _served(model_folder(name, folder), engine) as url:
            remote = RemoteReranker(f"zelo:{url}", retries=0)
            yield Asker("HTTP", remote.ask, remote.close)
    else:
        system: Reranker = open_system(name, folder, lambda path: load_reranker(path, engine=engine))
        with ThreadPoolExecutor(1) as thread:  # one after the other, as a library is used

            async def ask(query: str, documents: Sequence[str]) -> object:
                return await asyncio.get_running_loop().run_in_executor(thread, system.score, query, documents)

            yield Asker("in process", ask)


@contextlib.contextmanager
def _unwinding_at_sigterm() -> Iterator[None]:
    """End at SIGTERM as at Ctrl-C, by way of every `finally`: a server of ours must not outlive us."""
    if threading.current_thread() is not threading.main_thread():  # only there can it be done
        yield
        return

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _served(model: Path, engine: EngineName) -> Iterator[str]:
    """Run `zelo serve` in a process of its own and yield its address."""
    command = [sys.executable, "-m", "zelo", "serve", str(model), "--port", "0", "--max-documents", "100000", "--engine", engine]
    # Keys that the user's own server wants are none of this one's.
    environment = {name: value for name, value in os.environ.items() if name != "ZELO_SERVE_KEYS"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        said: list[str] = []
        for line in process.stderr or ():
            said.append(line.strip())
            if line.startswith("serving "):
                break
        else:
            raise InputError(f"the server did not start ({' '.join(said)})", where=str(model), remedy="try `zelo serve` with it")
        # Whatever it says later is read: a full pipe would stop it.
        threading.Thread(target=lambda: [None for _ in process.stderr or ()], daemon=True).start()
        yield said[-1].rpartition(" ")[2].rstrip("/")
    finally:
        process.terminate()
        process.wait(60)


def heading() -> str:
    """Return the first line of the table."""
    columns = f"{'median':>20} {'p95':>20} {'p99':>20}  ms (95 %)"
    return f"{'system':<24} {'way':<10} {'KB':>6} {'docs':>5} {'per s':>6} {'n':>5} {'failed':>6}  {columns}"


def line(found: Measurement, *, as_json: bool = False) -> str:
    """Return a measurement as a line of the table, or as JSON."""
    if as_json:
        return json.dumps(asdict(found))
    shown = {q.level: f"{q.value:.0f} ({q.low:.0f}\N{EN DASH}{q.high:.0f})" for q in found.quantiles}
    sent = found.answered + found.failed
    # Below the share that failed there is no time to show, however many were sent.
    lacking = {level: "failed" if found.failed > (1 - level) * sent else "too few" for level in LEVELS}
    cells = " ".join(f"{shown.get(level, lacking[level]):>20}" for level in LEVELS)
    counts = f"{found.payload / KILOBYTE:>6g} {found.documents:>5.0f} {found.rate:>6g} {found.answered:>5} {found.failed:>6}"
    remark = "  the queue grows: more than it can do" if found.behind else ""
    if found.failed:
        remark += f"  {found.failed / sent:.0%} failed: these count as slower than all others"
    return f"{found.system[-24:]:<24} {found.way:<10} {counts}  {cells}{remark}"
