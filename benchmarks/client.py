"""What a call costs: CPU and calls per second of our client beside the openai SDK and litellm, same calls, same local server.

    python benchmarks/client.py [--json] [--calls 2000] [--concurrency 64] [--rounds 3]

The server says the same at once to everyone, in a process of its own, so its CPU does not count. Every client sends the same messages
(about 4 KB) and reads the text and the tokens of the reply. Rounds alternate between the clients; the median round counts. A client whose
package is not installed is skipped and said so.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # litellm fetches its prices from the network otherwise

SERVER = Path(__file__).resolve().parents[1] / "tests" / "fault_server.py"
SYSTEM = "You compare two documents. " * 20
TEXT = "The quick brown fox jumps over the lazy dog; what it finds there is another matter. " * 42
MOST_TOKENS = 256

Ask = Callable[[int], Awaitable[int]]
"""Asks once, with a number that makes the text its own; returns the tokens of the reply."""


@contextmanager
def server() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None:
            raise RuntimeError("no pipe")
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def ours(url: str) -> Any:
    from zelo.language_models.names import open_model
    from zelo.language_models.protocol import Request

    model = open_model(f"{url}#m", timeout=60)

    async def ask(number: int) -> int:
        reply = await model.complete(Request((("system", SYSTEM), ("user", f"{number} {TEXT}")), MOST_TOKENS))
        return reply.output_tokens if reply.text else 0

    yield ask
    await model.close()


def chat(number: int) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"{number} {TEXT}"}]


@asynccontextmanager
async def openai_sdk(url: str) -> Any:
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)

    async def ask(number: int) -> int:
        reply = await client.chat.completions.create(model="m", messages=chat(number), max_tokens=MOST_TOKENS, temperature=0)
        return reply.usage.completion_tokens if reply.choices[0].message.content else 0

    yield ask
    await client.close()


@asynccontextmanager
async def litellm_sdk(url: str) -> Any:
    import litellm

    async def ask(number: int) -> int:
        reply = await litellm.acompletion(
            model="openai/m", api_base=url, api_key="none", messages=chat(number), max_tokens=MOST_TOKENS, temperature=0, num_retries=0
        )
        return reply.usage.completion_tokens if reply.choices[0].message.content else 0

    yield ask


CLIENTS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "zelo": ("aiohttp", ours),
    "openai SDK": ("openai", openai_sdk),
    "litellm": ("litellm", litellm_sdk),
}


async def measure(client: Callable[[str], Any], url: str, calls: int, concurrency: int) -> tuple[float, float]:
    """Return (CPU ms per call, calls per second)."""
    async with client(url) as ask:
        numbers = iter(range(calls + concurrency))

        async def work(until: int) -> None:
            for number in numbers:
                if not await ask(number):
                    raise RuntimeError("an empty reply")
                if number >= until:
                    return

        await asyncio.gather(*(work(0) for _ in range(concurrency)))  # connections and caches
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work(calls) for _ in range(concurrency)))
        return 1000 * (time.process_time() - cpu) / calls, calls / (time.perf_counter() - wall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    here = {name: client for name, (package, client) in CLIENTS.items() if importlib.util.find_spec(package)}
    for name in CLIENTS.keys() - here.keys():
        print(f"{name}: skipped, its package is not installed", file=sys.stderr)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in here}
    with server() as url:
        for _ in range(options.rounds):
            for name, client in here.items():
                found[name].append(asyncio.run(measure(client, url, options.calls, options.concurrency)))
    ours_cpu = statistics.median(cpu for cpu, _ in found["zelo"])
    if not options.json:
        print(f"{options.calls} calls, {options.concurrency} at once, median of {options.rounds} rounds; {os.cpu_count()} cores")
    for name, rounds in found.items():
        cpu, rate = statistics.median(c for c, _ in rounds), statistics.median(r for _, r in rounds)
        package = CLIENTS[name][0]
        label = name if name != "zelo" else "zelo client"
        label = f"{label} ({package} {importlib.metadata.version(package)})"
        if options.json:
            row = {
                "name": label,
                "value": round(cpu, 3),
                "unit": "CPU ms per call",
                "calls_per_second": round(rate),
                "baseline": "zelo client",
            }
            print(json.dumps(row | {"ratio": round(cpu / ours_cpu, 2), "lowest": round(min(c for c, _ in rounds), 3)}))
        else:
            print(
                f"{label:<32}{cpu:>8.3f} CPU ms{rate:>8.0f} calls/s{cpu / ours_cpu:>8.1f} x zelo   (lowest {min(c for c, _ in rounds):.3f})"
            )


if __name__ == "__main__":
    main()
