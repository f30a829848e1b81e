"""JSON over HTTP with one session per model: kept-alive connections, timeouts, a cap on what is read, no redirects.

The key is in the session's headers and nowhere else: not in the address, not in `repr`, not in a message.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from zelo import __version__
from zelo.encoders.extras import import_extra
from zelo.errors import JudgeError, RetryError, ZeloError
from zelo.language_models.failures import Refusal, failure, refusal, scrub
from zelo.language_models.protocol import BadRequest

MAX_BODY = 16 * 2**20
"""Bytes of one reply, unpacked; also of one line of a batch's results. More is a fault, or an attack with a packed bomb."""

CONNECT_SECONDS = 15.0


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode
_quoted: Callable[[str], str] = json.encoder.encode_basestring  # what `_encode` does with a text

_decode = json.JSONDecoder().decode  # of UTF-8, which json.loads would guess anew for every reply


class Deadlines:
    """Ends calls that take longer than `seconds`, by one timer for all of them: a timer for each is 4 % of what a judgment takes.

    `with deadlines: ...` raises TimeoutError in the task that is in it. As the time is the same for all, who came first is due first.
    """

    def __init__(self, seconds: float) -> None:
        """Prepare; must be made within the event loop."""
        self._seconds, self._loop = seconds, asyncio.get_running_loop()
        self._due: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None or task in self._due:
            raise RuntimeError("one call of a task at a time")
        self._due[task] = due = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._end)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("left outside of a task")
        self._due.pop(task, None)
        if self._late and task in self._late:
            self._late.discard(task)
            if task.uncancel() == 0 and kind is asyncio.CancelledError:  # else somebody else wants it to end as well
                raise TimeoutError from None

    def _end(self) -> None:
        now, self._timer = self._loop.time(), None
        for task, due in self._due.items():
            if due > now:
                self._timer = self._loop.call_at(due, self._end)
                break
            self._late.add(task)
            task.cancel()
        for task in self._late:
            self._due.pop(task, None)


class Fixed(dict[str, Any]):
    """A JSON object that nobody changes: `compact` writes it once. Instructions and schema are most of what a request says."""

    __slots__ = ("text",)

    text: str


def compact(value: object) -> bytes:
    """Return JSON as UTF-8 without spaces; lone surrogates, which UTF-8 cannot hold, become "?"."""
    return _written(value).encode("utf-8", "replace")


def _written(value: object) -> str:
    kind = type(value)
    if kind is dict:
        return "{" + ",".join([f"{_key(key)}:{_written(inner)}" for key, inner in value.items()]) + "}"  # type: ignore[attr-defined]
    if type(value) is str:
        return _quoted(value)
    if kind is list:
        return "[" + ",".join([_written(inner) for inner in value]) + "]"  # type: ignore[attr-defined]
    if kind is int or (kind is float and math.isfinite(value)):  # type: ignore[arg-type]
        return repr(value)
    if isinstance(value, Fixed):
        if not hasattr(value, "text"):
            value.text = _encode(value)
        return value.text
    return _encode(value)


@lru_cache(maxsize=1024)
def _key(key: object) -> str:
    """Return a key with its quotes; keys that are not texts are written as json writes them."""
    return _encode(key) if isinstance(key, str) else _encode({key: 0})[1:-3]


def _aiohttp() -> Any:
    return import_extra("aiohttp", "aiohttp", "llm")


def loopback(host: str) -> bool:
    """Whether a host is this machine, by its name or number alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_of(url: str) -> str | None:
    """Return the proxy that the environment names for an address (HTTPS_PROXY, NO_PROXY and so on); never one for this machine."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    if parts.hostname is None or loopback(parts.hostname) or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


@dataclass
class Transport:
    """Sends for one model.

    Attributes:
        name: of the model, for messages.
        headers: sent with every request; hold the key.
        secrets: what no message may show.
        timeout: seconds for a whole call.
        connect: seconds to connect.
        max_body: bytes of a reply.
        lists: whether a reply may be a JSON list; it comes as {"list": ...}.
    """

    name: str
    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    timeout: float = 120.0
    connect: float = CONNECT_SECONDS
    max_body: int = MAX_BODY
    lists: bool = False
    _session: Any = field(default=None, repr=False)
    _loop: Any = field(default=None, repr=False)
    _bytes: Any = field(default=None, repr=False)
    _deadlines: Any = field(default=None, repr=False)
    _ways: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    def _open(self) -> Any:
        """Return the session of the running loop."""
        loop = asyncio.get_running_loop()
        if self._session is not None and not self._session.closed and self._loop is loop:
            return self._session
        aiohttp, self._loop = _aiohttp(), loop
        self._bytes = aiohttp.BytesPayload
        # How many calls are under way is the caller's to limit; a second limit here would only make timeouts wrong. `trust_env`
        # would look up the proxy and ~/.netrc in a thread for every call, and send what ~/.netrc has: see `proxy_of` instead.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"zelo/{__version__}", "Accept": "application/json", **self.headers},
            timeout=aiohttp.ClientTimeout(sock_connect=self.connect),  # the whole call: `Deadlines`
            trust_env=False,
        )
        self._deadlines = Deadlines(self.timeout)
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(self, url: str, body: bytes | BinaryIO, *, patient: bool = False) -> tuple[dict[str, Any] | Refusal, float]:
        """Send JSON. With `patient` the timeout is for each piece, not for the whole.

        Returns:
            The JSON object of a reply with status 200 (or how the server refused), and the seconds it took.

        Raises:
            RetryError: no whole reply, or one that is not JSON.
            JudgeError: no secure connection, or the server sends elsewhere.
        """
        start = time.perf_counter()
        session = self._open()
        how, deadlines = (self._patiently(url), nullcontext()) if patient else (self._how(url), self._deadlines)
        # As headers of the body, which the session need not merge with its own.
        data = self._bytes(body, content_type="application/json") if isinstance(body, bytes) else body
        headers = None if data is not body else {"Content-Type": "application/json"}
        try:  # not `_call`: this is the path of every judgment
            with deadlines:
                async with session.post(url, allow_redirects=False, data=data, headers=headers, **how) as response:
                    answer = await self._read(response)
                    if response.status != 200:
                        return self._refused(response, answer), time.perf_counter() - start
        except Exception as error:
            raise self._trouble(error) from None
        return self._parse(answer), time.perf_counter() - start

    async def get(self, url: str) -> dict[str, Any]:
        """Ask for a JSON object; raises what `post` does, and what `failure` says of a status."""
        async with self._call("GET", url) as response:
            answer = await self._read(response)
            self._check(response, answer)
        return self._parse(answer)

    async def upload(self, url: str, fields: Mapping[str, str], file: BinaryIO, filename: str) -> dict[str, Any]:
        """Send a form with a file; raises what `get` does."""
        form = _aiohttp().FormData()
        for key, value in fields.items():
            form.add_field(key, value)
        form.add_field("file", file, filename=filename, content_type="application/jsonl")
        async with self._call("POST", url, data=form, patient=True) as response:
            answer = await self._read(response)
            self._check(response, answer)
        return self._parse(answer)

    async def lines(self, url: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the JSON objects of a reply with one per line, as they arrive; raises what `get` does, also midway."""
        async with self._call("GET", url, patient=True) as response:
            if response.status != 200:
                self._check(response, await self._read(response))
            rest = b""
            while chunk := await response.content.readany():
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    if line.strip():
                        yield self._parse(line)
                if len(rest) > self.max_body:
                    raise RetryError(f"{self.name}: a line of more than {self.max_body} bytes")
            if rest.strip():
                yield self._parse(rest)

    @asynccontextmanager
    async def _call(self, method: str, url: str, *, patient: bool = False, **arguments: Any) -> AsyncIterator[Any]:
        session = self._open()
        how, deadlines = (self._patiently(url), nullcontext()) if patient else (self._how(url), self._deadlines)
        try:
            with deadlines:
                async with session.request(method, url, allow_redirects=False, **how, **arguments) as response:
                    yield response
        except Exception as error:
            raise self._trouble(error) from None

    def _how(self, url: str) -> dict[str, Any]:
        """Return the arguments for an address: its proxy, if it has one."""
        if url not in self._ways:
            proxy = proxy_of(url)
            password = urlsplit(proxy or "").password
            self.secrets += (password,) if password else ()
            self._ways[url] = {"proxy": proxy} if proxy else {}
        return self._ways[url]

    def _patiently(self, url: str) -> dict[str, Any]:
        # A file of 200 MB takes its time: what counts is that it moves.
        return {**self._how(url), "timeout": _aiohttp().ClientTimeout(sock_connect=self.connect, sock_read=self.timeout)}

    def _trouble(self, error: Exception) -> Exception:
        """Return the error to raise for what went wrong on the way.

        To be raised `from None`: an aiohttp error can hold the headers of the request, and with them the key.
        """
        aiohttp = _aiohttp()
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return RetryError(f"{self.name}: no connection in {self.connect:g} s")
        if isinstance(error, TimeoutError):
            return RetryError(f"{self.name}: no whole reply in {self.timeout:g} s", sent=True)
        if isinstance(error, aiohttp.ClientSSLError):
            return JudgeError(f"no secure connection: {self._words(error)}", where=self.name)
        if isinstance(error, aiohttp.InvalidURL):
            return JudgeError("the address is not one", where=self.name)
        if isinstance(error, aiohttp.ClientError | OSError):
            sent = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientProxyConnectionError | ConnectionRefusedError)
            return RetryError(f"{self.name}: {type(error).__name__}: {self._words(error)}", sent=sent)
        return error

    def failure(self, said: Refusal) -> ZeloError:
        """Return the error to raise for a refusal of this model's server."""
        return failure(said, self.name)

    def _words(self, error: Exception) -> str:
        return scrub(" ".join(str(error).split()), self.secrets)[:200]

    async def _read(self, response: Any) -> bytes:
        """Return the whole body, unpacked."""
        content = response.content
        body: bytes = await content.readany()
        if content.at_eof():  # nearly always: one piece
            return body
        pieces, size = [body], len(body)
        while piece := await content.readany():
            pieces.append(piece)
            size += len(piece)
            if size > self.max_body:
                raise RetryError(f"{self.name}: a reply of more than {self.max_body} bytes")
        return b"".join(pieces)

    def _refused(self, response: Any, body: bytes) -> Refusal:
        said = refusal(response.status, response.headers, body, self.secrets)
        if 300 <= response.status < 400:
            to = urlsplit(response.headers.get("location", ""))
            return Refusal(response.status, scrub(f"{to.scheme}://{to.netloc}{to.path}", self.secrets), "", None)
        return said

    def _check(self, response: Any, body: bytes) -> None:
        if response.status == 404:  # of a batch or a file, not of the model
            raise BadRequest(f"404, {self._refused(response, body).words}", where=self.name)
        if response.status not in (200, 201):
            raise failure(self._refused(response, body), self.name)

    def _parse(self, body: bytes) -> dict[str, Any]:
        try:
            value = _decode(body.decode("utf-8", "surrogatepass")) if body[:1] == b"{" else json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RetryError(f"{self.name}: the reply is not JSON ({type(error).__name__}, {len(body)} bytes)") from None
        if self.lists and isinstance(value, list):
            return {"list": value}
        if not isinstance(value, dict):
            raise RetryError(f"{self.name}: the reply is not a JSON object")
        return value
