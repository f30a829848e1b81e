"""`zelo serve` under load: errors, latency, memory, throughput against scoring in process, malformed bodies.

    python benchmarks/serving.py workspaces/demo
    python benchmarks/serving.py workspaces/demo --clients 64 --seconds 60 --documents 10 --malformed 10000

Clients ask one after the other, each the next request when it has its answer; every document is new to the server, so nothing comes from
its cache. Throughput is documents per second of processor time of the process that scores (the clients' own is not counted: on a small
machine they take from the same cores) and per second of the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import aiohttp
import numpy as np

from zelo.collections.beir import read_corpus
from zelo.serve.loading import load_served

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from serving import SCORING, malformed


def texts_of(model: Path) -> list[str]:
    """Passages to take words from: the workspace's, or made up."""
    if (model / "corpus.jsonl").is_file():
        return [d.full_text for d in read_corpus(model / "corpus.jsonl")]
    return [" ".join(f"word{i * j % 997}" for i in range(40 + j % 100)) for j in range(500)]


def request(rng: random.Random, texts: list[str], documents: int) -> dict[str, object]:
    """A request that nobody has made: real passages with their words in another order."""
    chosen = [text.split() for text in rng.sample(texts, documents + 1)]
    for words in chosen:
        rng.shuffle(words)
    return {"model": "any", "query": " ".join(chosen[0][:8]) or "a", "documents": [" ".join(words) for words in chosen[1:]]}


class Process:
    """`zelo serve` in a process of its own."""

    def __init__(self, model: Path, *options: str) -> None:
        command = [sys.executable, "-m", "zelo", "serve", str(model), "--port", "0", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert line.startswith("serving"), line + self.process.stderr.read()
        self.url = line.rpartition(" ")[2].strip().rstrip("/")

    async def metrics(self, session: aiohttp.ClientSession) -> dict[str, float]:
        """What it counts, by name."""
        async with session.get(f"{self.url}/metrics") as reply:
            return {name: float(value) for name, value in re.findall(r"^(\w+) ([\d.e+]+)$", await reply.text(), re.MULTILINE)}

    def stop(self) -> int:
        """End it as an operator would, and return its exit code."""
        self.process.terminate()
        return self.process.wait(60)


async def load(server: Process, texts: list[str], clients: int, seconds: float, documents: int) -> dict[str, object]:
    """Run the clients and say what they saw."""
    statuses: Counter[int] = Counter()
    took: list[float] = []
    memory: list[float] = []
    end = time.perf_counter() + seconds

    async def client(session: aiohttp.ClientSession, number: int) -> None:
        rng = random.Random(number)
        while time.perf_counter() < end:
            body = request(rng, texts, documents)
            start = time.perf_counter()
            async with session.post(f"{server.url}/v2/rerank", json=body) as reply:
                await reply.read()
            statuses[reply.status] += 1
            if reply.status == 200:
                took.append(time.perf_counter() - start)
            else:
                await asyncio.sleep(0.2)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        before, start = await server.metrics(session), time.perf_counter()

        async def watch() -> None:
            while time.perf_counter() < end:
                await asyncio.sleep(min(seconds / 12, 5))
                memory.append((await server.metrics(session))["process_resident_memory_bytes"] / 2**20)

        await asyncio.gather(watch(), *(client(session, n) for n in range(clients)))
        clock, after = time.perf_counter() - start, await server.metrics(session)
    scored = after["zelo_documents_scored_total"] - before["zelo_documents_scored_total"]
    batches = after["zelo_batch_seconds_count"] - before["zelo_batch_seconds_count"]
    milliseconds = 1000 * np.array(took or [np.nan])
    return {
        "clients": clients,
        "seconds": round(clock, 1),
        "statuses": dict(statuses),
        "requests": len(took),
        "median_ms": round(float(np.median(milliseconds))),
        "p95_ms": round(float(np.quantile(milliseconds, 0.95))),
        "p99_ms": round(float(np.quantile(milliseconds, 0.99))),
        "documents_per_s": round(scored / clock, 1),
        "documents_per_cpu_s": round(scored / (after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]), 1),
        "requests_per_batch": round((after["zelo_batch_requests_sum"] - before["zelo_batch_requests_sum"]) / max(batches, 1), 1),
        "memory_mib": [round(m) for m in memory],
    }


def in_process(model: Path, texts: list[str], seconds: float, documents: int) -> dict[str, object]:
    """Score requests one after the other, without a server."""
    reranker, rng = load_served(model).reranker, random.Random(-1)
    prepare = getattr(reranker, "prepare", lambda texts: None)
    requests = [request(rng, texts, documents) for _ in range(5000)]
    done, start, cpu = 0, time.perf_counter(), time.process_time()
    for body in requests[:3]:
        reranker.score(str(body["query"]), list(body["documents"]))  # type: ignore[call-overload]
    start, cpu = time.perf_counter(), time.process_time()
    for body in requests[3:]:
        prepare([])  # lets go of old vectors, as the server does
        done += len(reranker.score(str(body["query"]), list(body["documents"])))  # type: ignore[call-overload]
        if time.perf_counter() - start > seconds:
            break
    clock, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"documents_per_s": round(done / clock, 1), "documents_per_cpu_s": round(done / cpu, 1)}


async def malformed_bodies(server: Process, number: int) -> dict[int, int]:
    """Send bodies that are wrong in many ways; no status may be 5xx."""
    rng, statuses = random.Random(0), Counter[int]()
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession() as session:
        for n in range(number):
            path = SCORING[n % len(SCORING)]
            async with session.post(f"{server.url}{path}", data=malformed(rng, path), headers=headers) as reply:
                await reply.read()
                statuses[reply.status] += 1
        async with session.get(f"{server.url}/health") as reply:
            assert reply.status == 200
    return dict(statuses)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--documents", type=int, default=10)
    parser.add_argument("--malformed", type=int, default=10_000)
    parser.add_argument("--json", action="store_true", help="one object per line")
    options = parser.parse_args()

    def tell(what: str, found: object) -> None:
        print(json.dumps({what: found}) if options.json else f"{what}: {found}", flush=True)

    texts = texts_of(options.model)
    alone = in_process(options.model, texts, min(options.seconds, 20), options.documents)
    tell("in process", alone)
    server = Process(options.model)
    found = asyncio.run(load(server, texts, options.clients, options.seconds, options.documents))
    tell("served", found)
    for unit in ("documents_per_cpu_s", "documents_per_s"):
        tell(f"served / in process, {unit}", round(float(str(found[unit])) / float(str(alone[unit])), 3))
    tell("malformed bodies, by status", asyncio.run(malformed_bodies(server, options.malformed)))
    tell("exit code after SIGTERM", server.stop())
    small = Process(options.model, "--queue", str(max(1, options.clients // 4)))
    tell("above the limit", asyncio.run(load(small, texts, options.clients, options.seconds / 6, options.documents))["statuses"])
    small.stop()


if __name__ == "__main__":
    main()
