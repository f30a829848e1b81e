"""Anthropic's message batches."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from zelo.errors import RetryError
from zelo.language_models.adapter import endpoint
from zelo.language_models.anthropic import AnthropicMessages
from zelo.language_models.batch import BatchLimits, again, check_ids, outcome
from zelo.language_models.dialect import count
from zelo.language_models.failures import Refusal, scrub
from zelo.language_models.protocol import BadRequest, BatchState, Reply, Request
from zelo.language_models.transport import Transport, compact

LIMITS = BatchLimits(requests=100_000, bytes=256 * 10**6)
"""As documented: 100,000 requests and 256 MB."""

STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Of an error's type; every other one is the server's own."""


@dataclass
class AnthropicBatches:
    """A `BatchModel` over the messages of one model."""

    messages: AnthropicMessages
    limits: BatchLimits = LIMITS
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.messages.name

    @property
    def adapter(self) -> AnthropicMessages:
        """What writes the requests, in a dialect that can be learned from refusals."""
        return self.messages

    @property
    def transport(self) -> Transport:
        """What sends; has the key."""
        return self.messages.transport

    def _url(self, tail: str = "") -> str:
        return endpoint(self.messages.base, f"messages/batches{tail}")

    def line(self, custom_id: str, request: Request) -> bytes:
        """Return one request as it is sent."""
        return compact({"custom_id": custom_id, "params": self.messages.payload(request)})

    def size(self, custom_id: str, request: Request) -> int:
        """Return the bytes of one request with its comma, for `split_requests`."""
        return len(self.line(custom_id, request)) + 1

    async def submit(self, requests: Mapping[str, Request]) -> str:
        """Create the batch and return its id; see `BatchModel.submit`."""
        check_ids(requests, self.limits, self.name)
        with tempfile.TemporaryFile() as file:  # not in memory: 256 MB
            size = file.write(b'{"requests":[')
            for number, (custom_id, request) in enumerate(requests.items()):
                size += file.write((b"," if number else b"") + self.line(custom_id, request))
                if size + 2 > self.limits.bytes:
                    raise BadRequest(
                        f"more than {self.limits.bytes} bytes in a batch", where=self.name, remedy="split_requests divides them"
                    )
            file.write(b"]}")
            answer, _ = await self.transport.post(self._url(), again(file), patient=True)
        if isinstance(answer, Refusal):
            raise self.transport.failure(answer)
        found = answer.get("id")
        if not isinstance(found, str) or not found:
            raise RetryError(f"{self.name}: a reply without id")
        return found

    async def poll(self, batch_id: str) -> BatchState:
        """Ask how far a batch is; see `BatchModel.poll`."""
        told = await self.transport.get(self._url(f"/{quote(batch_id, safe='')}"))
        counts = told.get("request_counts")
        finished = sum(count(counts, kind) for kind in ("succeeded", "errored", "canceled", "expired"))
        status = str(told.get("processing_status", ""))
        return BatchState(status, status == "ended", finished + count(counts, "processing"), finished)

    async def results(self, batch_id: str) -> AsyncIterator[tuple[str, Reply | BadRequest | None]]:
        """Yield the results; see `BatchModel.results`. The address is built here: the key goes nowhere that a reply names."""
        state = await self.poll(batch_id)
        if not state.done:
            raise RetryError(f"{self.name}: batch {batch_id} is not done ({state.status})")
        seen: set[str] = set()
        async for row in self.transport.lines(self._url(f"/{quote(batch_id, safe='')}/results")):
            custom_id, result = row.get("custom_id"), row.get("result")
            if isinstance(custom_id, str) and custom_id not in seen:
                seen.add(custom_id)
                yield custom_id, self._result(result if isinstance(result, dict) else {})
        if len(seen) < state.finished:
            raise RetryError(f"{self.name}: the results of batch {batch_id} are cut short: {len(seen)} of {state.finished}")

    def _result(self, result: dict[str, Any]) -> Reply | BadRequest | None:
        message, error = result.get("message"), result.get("error")
        if result.get("type") == "succeeded" and isinstance(message, dict):
            try:
                return self.messages.read(message)
            except RetryError:
                return None
        if result.get("type") != "errored" or not isinstance(error, dict):
            return None  # canceled, expired
        inner = error["error"] if isinstance(error.get("error"), dict) else error
        kind = str(inner.get("type", ""))
        words = scrub(str(inner.get("message", "")), self.transport.secrets)[:300]
        return outcome(Refusal(STATUS.get(kind, 500), words, kind, None), self.name)

    async def close(self) -> None:
        """Close the connections."""
        await self.messages.close()
