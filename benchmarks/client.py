"""What a judgment costs beside the same calls by the openai SDK and litellm: CPU and calls per second, one process, one local server.

    python benchmarks/client.py [--json] [--calls 2000] [--concurrency 64] [--rounds 3]      # or: make bench-judging

The server says the same at once to everyone, in a process of its own, so its CPU does not count. Every client sends the questions of
`benchmarks/judging.py`, with prompt and JSON schema (about 4 KB), and reads the text and the tokens of the reply. `zelo, all in` makes
judgments of them: it writes the prompt, flags the texts, reads the score and commits it to the journal; the others get their questions
ready-made and throw the reply away. Rounds alternate between the clients; the median round counts. A client whose package is not
installed is skipped and said so.
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
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # litellm fetches its prices from the network otherwise

import judging

from zelo.language_models.protocol import Request

SERVER = Path(__file__).resolve().parents[1] / "tests" / "fault_server.py"

Ask = Callable[[Request], Awaitable[int]]
"""Asks once; returns the tokens of the reply."""


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

    model = open_model(f"{url}#m", timeout=60)

    async def ask(request: Request) -> int:
        reply = await model.complete(request)
        return reply.output_tokens if reply.text else 0

    yield ask
    await model.close()


def chat(request: Request) -> dict[str, Any]:
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": request.schema}}
    system, *texts = (text for _, text in request.messages)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "\n\n".join(texts)}]
    return {"messages": messages, "max_tokens": request.max_output_tokens, "temperature": 0, "response_format": schema}


@asynccontextmanager
async def openai_sdk(url: str) -> Any:
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)

    async def ask(request: Request) -> int:
        reply = await client.chat.completions.create(model="m", **chat(request))
        return reply.usage.completion_tokens if reply.choices[0].message.content else 0

    yield ask
    await client.close()


@asynccontextmanager
async def litellm_sdk(url: str) -> Any:
    import litellm

    async def ask(request: Request) -> int:
        reply = await litellm.acompletion(model="openai/m", api_base=url, api_key="none", num_retries=0, **chat(request))
        return reply.usage.completion_tokens if reply.choices[0].message.content else 0

    yield ask


CLIENTS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "zelo, client alone": ("aiohttp", ours),
    "openai SDK": ("openai", openai_sdk),
    "litellm": ("litellm", litellm_sdk),
}


async def measure(client: Callable[[str], Any], url: str, requests: Sequence[Request], concurrency: int) -> tuple[float, float]:
    """Return (CPU ms per call, calls per second)."""
    async with client(url) as ask:

        async def work(left: Iterator[Request]) -> None:
            for request in left:
                if not await ask(request):
                    raise RuntimeError("an empty reply")

        async def all_of(some: Sequence[Request]) -> None:
            left = iter(some)
            await asyncio.gather(*(work(left) for _ in range(concurrency)))

        await all_of(requests[: 2 * concurrency])  # connections and caches
        wall, cpu = time.perf_counter(), time.process_time()
        await all_of(requests)
        return 1000 * (time.process_time() - cpu) / len(requests), len(requests) / (time.perf_counter() - wall)


def judge(url: str, calls: int) -> tuple[float, float]:
    """Return (CPU ms per judgment, judgments per second)."""
    with tempfile.TemporaryDirectory() as folder:
        found = judging.all_in_at(url, Path(folder), calls, "all", 0.0)
    return found["cpu_ms_per_judgment"], found["judgments"] / found["wall_s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    here = {name: client for name, (package, client) in CLIENTS.items() if importlib.util.find_spec(package)}
    for name in CLIENTS.keys() - here.keys():
        print(f"{name}: skipped, its package is not installed (make bench-judging installs it)", file=sys.stderr)
    requests = judging.requests_of(options.calls)
    found: dict[str, list[tuple[float, float]]] = {"zelo, all in": [], **{name: [] for name in here}}
    with server() as url:
        for _ in range(options.rounds):
            found["zelo, all in"].append(judge(url, options.calls))
            for name, client in here.items():
                found[name].append(asyncio.run(measure(client, url, requests, options.concurrency)))
    show(found, options)


def show(found: dict[str, list[tuple[float, float]]], options: argparse.Namespace) -> None:
    own = statistics.median(cpu for cpu, _ in found["zelo, all in"])
    if not options.json:
        print(f"{options.calls:,} calls, {options.concurrency} at once, median of {options.rounds} rounds, {os.cpu_count()} cores")
        print(f"{'client':<36}{'ms CPU per call':>16}{'lowest':>8}{'ratio':>8}{'calls per s':>13}")
    for name, rounds in found.items():
        cpu, rate = statistics.median(c for c, _ in rounds), statistics.median(r for _, r in rounds)
        package = CLIENTS[name][0] if name in CLIENTS else "aiohttp"
        label, lowest = f"{name} ({package} {importlib.metadata.version(package)})", min(c for c, _ in rounds)
        if options.json:
            row = {"name": label, "value": round(cpu, 3), "unit": "CPU ms per call", "calls_per_second": round(rate)}
            print(json.dumps(row | {"baseline": "zelo, all in", "ratio": round(cpu / own, 2), "lowest": round(lowest, 3)}))
        else:
            print(f"{label:<36}{cpu:>16.3f}{lowest:>8.3f}{cpu / own:>8.1f}{rate:>13.0f}")


if __name__ == "__main__":
    main()
