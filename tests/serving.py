"""A server in a thread, and rerankers whose scores are known, for the tests of serving and of remote rerankers."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.serve.app import make_app  # noqa: F401  # imported here once: the first import takes a second
from zelo.serve.batching import Batcher
from zelo.serve.gate import Settings
from zelo.serve.loading import Served
from zelo.serve.running import listen, make_server


def overlap(query: str, documents: Sequence[str]) -> NDArray[np.float64]:
    """Return the share of the query's words that a document has, a little less for long ones: a score that anyone can check."""
    words = set(query.lower().split())
    return np.array([len(words & set(d.lower().split())) / max(len(words), 1) / (1 + len(d) / 1e6) for d in documents])


@dataclass
class Overlap:
    """Scores by `overlap`. `pause` seconds per document; `poison` is a text that it fails for."""

    pause: float = 0.0
    poison: str = "\0"
    calls: list[tuple[str, int]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def score(self, query: str, documents: Sequence[str]) -> NDArray[np.float64]:
        self.calls.append((query, len(documents)))
        self.threads.add(threading.get_ident())
        time.sleep(self.pause * len(documents))
        if any(self.poison in d for d in documents):
            raise RuntimeError("poisoned")
        return overlap(query, documents)


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass
class Running:
    """A server that runs."""

    host: str
    port: int
    batcher: Batcher

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def call(self, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str = "") -> Reply:
        """Send JSON, or bytes as they are."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json", **(headers or {})}
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, data, given)
            reply = connection.getresponse()
            text = reply.read()
        finally:
            connection.close()
        kind = reply.headers.get("content-type", "")
        return Reply(
            reply.status,
            {k.lower(): v for k, v in reply.getheaders()},
            json.loads(text) if text and "json" in kind else text.decode() or None,
        )


@contextlib.contextmanager
def serving(served: Any, **settings: Any) -> Iterator[Running]:
    """Run a server for a reranker, or for what `load_served` returns, on a free port."""
    served = served if isinstance(served, Served) else Served("tested", served)
    server = make_server(served, Settings(**settings))
    sock = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        yield Running("127.0.0.1", sock.getsockname()[1], server.config.app.state.batcher)  # type: ignore[union-attr]
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


QUERY = "read a file line by line"
DOCUMENTS = ["json encodes values", "read a file", "open a file and read line by line", "a"]
SCORES = overlap(QUERY, DOCUMENTS).tolist()
ORDER = [2, 1, 3, 0]
SCORING = ["/v2/rerank", "/v1/rerank", "/voyage/v1/rerank", "/rerank", "/score", "/v1/score"]


def sample(path: str, documents: Any = None, query: Any = QUERY) -> dict[str, Any]:
    """A request that the route takes."""
    documents = DOCUMENTS if documents is None else documents
    fields = {"/rerank": ("query", "texts"), "/score": ("text_1", "text_2"), "/v1/score": ("queries", "documents")}
    first, second = fields.get(path, ("query", "documents"))
    return {"model": "any", first: query, second: documents}


def malformed(rng: random.Random, path: str) -> bytes:
    """A request with something wrong in it: cut, flipped, or with values of other kinds."""
    body = sample(path)
    odd = [None, True, -1, 0, 1e308, 10**400, "", "\0", [], [[]], {}, {"text": None}, ["a"] * 60, "\u202e", "x" * 5000]
    for key in rng.sample(sorted(body), rng.randint(0, len(body))):
        body[key] = rng.choice(odd)
    body |= {
        rng.choice(["top_n", "top_k", "return_documents", "truncate", "raw_scores"]): rng.choice(odd) for _ in range(rng.randint(0, 3))
    }
    data = bytearray(json.dumps(body).encode())
    for _ in range(rng.choice([0, 0, 1, 5])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[: rng.choice([len(data), len(data), rng.randrange(len(data))])])
