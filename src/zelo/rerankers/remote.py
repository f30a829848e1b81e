"""Rerankers behind an API: Cohere, Jina, Voyage, text-embeddings-inference, vLLM, and zelo's own server.

Written from the public schemas. Keys come from the environment and go into the session's headers only. A call that fails is repeated; a
reply that does not score every document once is a failure too, never a ranking with holes.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from zelo.errors import InputError, JudgeError, RecipeError, RetryError
from zelo.language_models.failures import Refusal
from zelo.language_models.names import ANY_KEY, check_address
from zelo.language_models.transport import Transport, compact

T = TypeVar("T")

FORMS = "cohere:MODEL, jina:MODEL, voyage:MODEL, tei:https://HOST, vllm:https://HOST#MODEL, zelo:http://localhost:8000"
RETRIES = 5
LONGEST_WAIT = 60.0


@dataclass(frozen=True)
class Service:
    """An API: where it is, how it asks, how it answers.

    Attributes:
        base: address; "" where the name holds it.
        path: behind the address.
        key: variable with the key; "" where none is needed (ZELO_API_KEY is then used if set).
        other_base: variable with another address.
        texts: field of the documents.
        results: field of the list of results.
        score: field of a result's score.
        most: documents of a request.
        extra: further fields of a request.
    """

    base: str
    path: str
    key: str
    other_base: str
    texts: str = "documents"
    results: str = "results"
    score: str = "relevance_score"
    most: int = 1000
    extra: tuple[tuple[str, Any], ...] = ()


SERVICES = {
    "cohere": Service("https://api.cohere.com", "/v2/rerank", "COHERE_API_KEY", "COHERE_BASE_URL"),
    "jina": Service("https://api.jina.ai", "/v1/rerank", "JINA_API_KEY", "JINA_BASE_URL", extra=(("return_documents", False),)),
    "voyage": Service("https://api.voyageai.com/v1", "/rerank", "VOYAGE_API_KEY", "VOYAGE_BASE_URL", results="data"),
    # TEI takes 32 texts at a time unless its --max-client-batch-size says otherwise; its reply is a bare list.
    "tei": Service("", "/rerank", "", "", "texts", "list", "score", 32, (("truncate", True),)),
    "vllm": Service("", "/v1/rerank", "", ""),
    "zelo": Service("", "/v1/rerank", "", "", extra=(("return_documents", False),)),
}
"""By the word before the colon."""


@dataclass(frozen=True)
class Scored:
    """What one query took and gave.

    Attributes:
        scores: float64 [documents].
        tokens: as the service counts them, those of replies that were of no use and asked again included; 0 if it does not say.
        searches: billed units of Cohere's kind, in the same way.
        seconds: from sending to the last byte, over all requests of the query one after the other, repeated calls not counted.
    """

    scores: NDArray[np.float64]
    tokens: int
    searches: float
    seconds: float


def is_remote(name: str) -> bool:
    """Whether a name has the form of a remote reranker's."""
    return name.partition(":")[0] in SERVICES


class RemoteReranker:
    """A `Reranker` over HTTP. `score` blocks; `ask` is for many queries at once, in a loop of the caller's.

    Attributes:
        name: as given; it never holds a key.
        elsewhere: the address, if a variable names another one than the service's own; otherwise "".
    """

    def __init__(self, name: str, *, timeout: float = 60.0, retries: int = RETRIES) -> None:
        """Take a name of `FORMS`. Connects when it is first asked.

        Raises:
            InputError: no such form, or an address that would show a key.
            JudgeError: the key is not in the environment.
            MissingExtraError: aiohttp is not installed (when first asked).
        """
        word, _, rest = name.partition(":")
        if word not in SERVICES or not rest:
            raise InputError(f"no remote reranker {name!r}", remedy=f"forms: {FORMS}")
        self.name, self._service, self._retries = name, SERVICES[word], retries
        service = self._service
        if service.base:
            base, self._model = (os.environ.get(service.other_base) or service.base), rest
        else:
            parts = urlsplit(rest)
            base, self._model = urlunsplit(parts._replace(fragment="")), parts.fragment
        _check(base, name)
        self.elsewhere = base if service.base and base != service.base else ""
        self._url = base.rstrip("/") + service.path
        key = _key(service, name)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._transport = Transport(name, headers, (key,) if key else (), timeout, lists=True)
        self._own: _Loop | None = None

    def score(self, query: str, documents: Sequence[str]) -> NDArray[np.float64]:
        """Return the service's score per document, in its own units; errors as `ask` has them."""
        return self.ask_now(query, documents).scores

    def ask_now(self, query: str, documents: Sequence[str]) -> Scored:
        """Do what `ask` does, and wait for it."""
        self._own = self._own or _Loop()
        return self._own.run(self.ask(query, documents))

    async def ask(self, query: str, documents: Sequence[str], halt: asyncio.Event | None = None) -> Scored:
        """Score documents, `most` at a time. After `halt` is set a failed call is not repeated.

        Raises:
            RetryError: it failed again and again.
            JudgeError: no request will work (no right to ask, no such model).
            BadRequest: the service refuses this request.
        """
        found = np.zeros(len(documents))
        tokens, searches, seconds = 0, 0.0, 0.0
        for start in range(0, len(documents), self._service.most):
            part = documents[start : start + self._service.most]
            said = await self._post(query, part, halt or asyncio.Event())
            found[start : start + len(part)] = said.scores
            tokens, searches, seconds = tokens + said.tokens, searches + said.searches, seconds + said.seconds
        return Scored(found, tokens, searches, seconds)

    async def close(self) -> None:
        """Close the connections of the running loop."""
        await self._transport.close()

    def stop(self) -> None:
        """Close what `score` opened."""
        if self._own is not None:
            self._own.run(self.close())
            self._own.stop()
            self._own = None

    async def _post(self, query: str, documents: Sequence[str], halt: asyncio.Event) -> Scored:
        body: dict[str, Any] = {"query": query, self._service.texts: list(documents), **dict(self._service.extra)}
        if self._model:
            body["model"] = self._model
        payload = compact(body)
        attempt, tokens, searches = 0, 0, 0.0
        while True:
            attempt += 1
            try:
                reply, seconds = await self._transport.post(self._url, payload)
                if isinstance(reply, Refusal):
                    raise self._transport.failure(reply)
                more, billed = _used(reply)
                tokens, searches = tokens + more, searches + billed  # also of a reply with holes: it is paid
                return Scored(self._read(reply, len(documents)), tokens, searches, seconds)
            except RetryError as error:
                if attempt > self._retries:
                    raise
                wait = random.random() * min(0.5 * 2.0**attempt, LONGEST_WAIT) + (error.after or 0.0)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(halt.wait(), min(wait, 10 * LONGEST_WAIT))
                if halt.is_set():
                    raise

    def _read(self, reply: Mapping[str, Any], number: int) -> NDArray[np.float64]:
        """Return scores in the order of the documents."""
        scores: dict[int, float] = {}
        rows = reply.get(self._service.results)
        for row in rows if isinstance(rows, list) else ():
            index, score = (row.get("index"), row.get(self._service.score)) if isinstance(row, dict) else (None, None)
            sound = isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)
            if isinstance(index, int) and sound and index not in scores:
                scores[index] = float(score)  # type: ignore[arg-type]
        if len(scores) != number or set(scores) != set(range(number)):
            raise RetryError(f"{self.name}: the reply scores {len(scores)} of {number} documents")
        return np.array([scores[i] for i in range(number)])


def _check(base: str, name: str) -> None:
    """Refuse what is no address, in the words of rerankers."""
    try:
        check_address(base)
    except RecipeError as error:
        if urlsplit(base).scheme in ("http", "https"):
            raise
        raise InputError(f"{base!r} is no address of a server", where=name, remedy=f"begin it with https://, forms: {FORMS}") from error


def _used(reply: Mapping[str, Any]) -> tuple[int, float]:
    """Return (tokens, searches) that a reply says were used."""
    usage, meta = reply.get("usage"), reply.get("meta")
    tokens = usage.get("total_tokens", 0) if isinstance(usage, dict) else 0
    billed = meta.get("billed_units") if isinstance(meta, dict) else None
    searches = billed.get("search_units", 0) if isinstance(billed, dict) else 0
    return (tokens if isinstance(tokens, int) else 0), (float(searches) if isinstance(searches, int | float) else 0.0)


def _key(service: Service, name: str) -> str:
    variable = service.key or ANY_KEY
    key = os.environ.get(variable, "").strip()
    if not key and service.key:
        raise JudgeError(f"no key: {variable} is not set", where=name, remedy=f"export {variable}=...")
    if not key.isascii() or not (key.isprintable() or not key):
        raise JudgeError(f"{variable} holds characters that no key has", where=name)
    return key


class _Loop:
    """An event loop in a thread, so that a blocking call can be made from anywhere, also from within another loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="remote reranker", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
