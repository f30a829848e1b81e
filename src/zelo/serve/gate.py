"""What a request passes before it is read as JSON: host, key, queue limit, size. Counts what comes out at the other end."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from zelo.serve.dialects import OTHER, ROUTES
from zelo.serve.metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]

KEYS = "ZELO_SERVE_KEYS"
OPEN = {"/", "/health"}
"""Paths that need no key: the page holds nothing of the workspace before it has a key."""

DRAINED = 4
"""A body that is too large is read on, up to so many times the limit: a client that is still sending would not see the answer."""


@dataclass(frozen=True)
class Settings:
    """What the server allows.

    Attributes:
        keys: bearer keys; none: no key is needed.
        hosts: names that the Host header may have; none: any. On a loopback address it keeps web pages of strangers, whose names
            are made to point here, from reading answers.
        max_body: bytes of a request.
        max_documents: documents of a request.
        queue: requests under way at once; more get 429.
        timeout: seconds for a request, reading and waiting included.
        batch_tokens: what a batch should hold.
        drain: seconds that requests under way have after SIGTERM.
    """

    keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    max_body: int = 8 * 2**20
    max_documents: int = 1000
    queue: int = 256
    timeout: float = 60.0
    batch_tokens: int = 4096
    drain: float = 30.0


def keys_from_environment() -> tuple[str, ...]:
    """Return the keys in ZELO_SERVE_KEYS, apart by commas or white space."""
    return tuple(os.environ.get(KEYS, "").replace(",", " ").split())


class _TooLarge(Exception):
    pass


class Gate:
    """The outermost layer of the application."""

    def __init__(self, app: Asgi, settings: Settings, metrics: Metrics, seconds_left: Callable[[], float]) -> None:
        """Wrap an ASGI application; `seconds_left` says how long the queue will take."""
        self._app, self._settings, self._metrics, self._seconds_left = app, settings, metrics, seconds_left
        self._keys = tuple(sha256(key.encode("utf-8", "surrogateescape")).digest() for key in settings.keys)
        self._under_way = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, path, seen = time.perf_counter(), scope["path"], {"status": 499}  # the client left before an answer

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
            await send(message)

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            status, words = self._refused(path, scope["method"], headers)
            if status:
                await self._say(noting, path, status, words)
            elif path in ROUTES and scope["method"] == "POST":
                await self._admit(scope, receive, noting, headers)
            elif path in OPEN and scope["method"] == "HEAD":  # load balancers probe so; the server leaves the body out
                await self._app({**scope, "method": "GET"}, receive, noting)
            else:
                await self._app(scope, receive, noting)
        finally:
            self._metrics.finished(path, seen["status"], time.perf_counter() - start)

    def _refused(self, path: str, method: str, headers: Mapping[str, str]) -> tuple[int, str]:
        """Return a status and words, 0 where nothing is wrong."""
        host = headers.get("host", "").rpartition("@")[2].lower()
        name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        if self._settings.hosts and name not in self._settings.hosts:
            return 421, "this server does not answer to that host name; start it with --allow-host NAME"
        if self._keys and path not in OPEN:
            kind, _, key = headers.get("authorization", "").partition(" ")
            given = sha256(key.strip().encode("latin-1", "replace")).digest()
            # Every key is compared, in constant time: how long it takes says nothing about how near a guess is.
            right = sum(hmac.compare_digest(given, known) for known in self._keys)
            if kind.lower() != "bearer" or not right:
                return 401, "no key, or not one of this server's: send Authorization: Bearer KEY"
        if path in ROUTES and method == "POST":
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
                return 415, "the body is not said to be JSON: send Content-Type: application/json"
            if headers.get("content-encoding", "identity").strip().lower() != "identity":
                return 415, "the body is packed: send it without Content-Encoding"
        return 0, ""

    async def _admit(self, scope: Message, receive: Receive, send: Send, headers: Mapping[str, str]) -> None:
        """Let a request in while there is room, with its whole body at hand."""
        if self._under_way >= self._settings.queue:
            after = max(1, min(60, round(self._seconds_left())))
            await self._say(send, scope["path"], 429, f"too many requests; try again in {after} s", after)
            return
        self._under_way += 1
        try:
            async with asyncio.timeout(self._settings.timeout):
                body = await self._read(receive, headers)
            if body is not None:
                await self._app(scope, _replay(body, receive), send)
        except _TooLarge:
            await self._say(send, scope["path"], 413, f"the body has more than {self._settings.max_body} bytes")
        except TimeoutError:
            await self._say(send, scope["path"], 408, f"no whole request within {self._settings.timeout:g} s")
        finally:
            self._under_way -= 1

    async def _read(self, receive: Receive, headers: Mapping[str, str]) -> bytes | None:
        """Return the body, None if the client left meanwhile."""
        pieces, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            piece = message.get("body", b"")
            size += len(piece)
            more = message.get("more_body", False)
            if size <= self._settings.max_body:
                pieces.append(piece)
            elif size > DRAINED * self._settings.max_body:
                break
        if size > self._settings.max_body:
            raise _TooLarge
        return b"".join(pieces)

    async def _say(self, send: Send, path: str, status: int, words: str, after: int | None = None) -> None:
        body = json.dumps(ROUTES.get(path, OTHER).error(status, words)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if after is not None:
            headers.append((b"retry-after", str(after).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()  # waits until the client leaves
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
