"""OpenAI's batch API: a file of requests, a batch, a file of results and one of errors. Azure and others have it too."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from zelo.errors import JudgeError, RetryError
from zelo.language_models.adapter import endpoint
from zelo.language_models.batch import BatchLimits, again, check_ids, outcome
from zelo.language_models.dialect import count, word
from zelo.language_models.failures import Refusal, scrub
from zelo.language_models.openai import OpenAIChat
from zelo.language_models.protocol import BadRequest, BatchState, Reply, Request
from zelo.language_models.transport import Transport, compact

LIMITS = BatchLimits(requests=50_000, bytes=200 * 10**6)
"""As documented: 50,000 requests and 200 MB."""

DONE = {"completed", "failed", "expired", "cancelled"}
FULL = ("token_limit", "limit_exceeded", "rate_limit", "quota")
"""Parts of the codes of a failed batch that another time may succeed."""

NOT_ATTEMPTED = {"batch_expired", "batch_cancelled", "request_timeout", "server_error", "rate_limit_exceeded"}


@dataclass
class OpenAIBatches:
    """A `BatchModel` over the chat completions of one model."""

    chat: OpenAIChat
    limits: BatchLimits = LIMITS
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.chat.name
        version = urlsplit(self.chat.base).path.rpartition("/")[2]
        self._target = f"/{version}/chat/completions" if version.startswith("v") else "/chat/completions"

    @property
    def adapter(self) -> OpenAIChat:
        """What writes the requests, in a dialect that can be learned from refusals."""
        return self.chat

    @property
    def transport(self) -> Transport:
        """What sends; has the key."""
        return self.chat.transport

    def line(self, custom_id: str, request: Request) -> bytes:
        """Return the line of one request in the file."""
        body = self.chat.payload(request)
        return compact({"custom_id": custom_id, "method": "POST", "url": self._target, "body": body}) + b"\n"

    def size(self, custom_id: str, request: Request) -> int:
        """Return the bytes of one request, for `split_requests`."""
        return len(self.line(custom_id, request))

    async def submit(self, requests: Mapping[str, Request], uploaded: Callable[[str], Awaitable[None]] | None = None) -> str:
        """Upload the requests, create the batch, return its id; see `BatchModel.submit`.

        `uploaded` is told the id of the file before the batch is created: `find` knows the batch by it.
        """
        check_ids(requests, self.limits, self.name)
        with tempfile.TemporaryFile() as file:
            size = 0
            for custom_id, request in requests.items():
                size += file.write(self.line(custom_id, request))
                if size > self.limits.bytes:
                    raise BadRequest(
                        f"more than {self.limits.bytes} bytes in a batch", where=self.name, remedy="split_requests divides them"
                    )
            told = await self.transport.upload(endpoint(self.chat.base, "files"), {"purpose": "batch"}, again(file), "requests.jsonl")
        file_id = _id(told, self.name)
        if uploaded is not None:
            await uploaded(file_id)
        return await self._create(file_id)

    async def _create(self, file_id: str) -> str:
        url = endpoint(self.chat.base, "batches")
        body = {"input_file_id": file_id, "endpoint": self._target, "completion_window": "24h"}
        try:
            answer, _ = await self.transport.post(url, compact(body))
        except RetryError:
            # The reply is lost, the batch may be there, and a second one would be paid as well: look for it.
            try:
                found = await self.find(file_id)
            except (RetryError, BadRequest):
                found = None
            if found is None:
                raise
            return found
        if isinstance(answer, Refusal):
            raise self.transport.failure(answer)
        return _id(answer, self.name)

    async def find(self, file_id: str) -> str | None:
        """Return the batch of an uploaded file, None if there is none; the file's id is of one submission alone.

        Raises:
            RetryError, JudgeError, BadRequest: the provider does not list its batches.
        """
        after = ""
        while True:  # the newest come first, some 20 at a time
            listed = await self.transport.get(endpoint(self.chat.base, "batches") + after)
            data = listed.get("data")
            batches = [b for b in data if isinstance(b, dict)] if isinstance(data, list) else []
            for batch in batches:
                if batch.get("input_file_id") == file_id:
                    return _id(batch, self.name)
            if not listed.get("has_more") or not batches:
                return None
            after = "?" + urlencode({"after": _id(batches[-1], self.name)})

    async def _state(self, batch_id: str) -> dict[str, Any]:
        return await self.transport.get(endpoint(self.chat.base, f"batches/{quote(batch_id, safe='')}"))

    async def poll(self, batch_id: str) -> BatchState:
        """Ask how far a batch is; see `BatchModel.poll`."""
        told = await self._state(batch_id)
        counts = told.get("request_counts")
        status = str(told.get("status", ""))
        return BatchState(status, status in DONE, count(counts, "total"), count(counts, "completed") + count(counts, "failed"))

    async def results(self, batch_id: str) -> AsyncIterator[tuple[str, Reply | BadRequest | None]]:
        """Yield the results; see `BatchModel.results`.

        Raises:
            JudgeError: the provider found the whole file wrong.
        """
        told = await self._state(batch_id)
        if told.get("status") == "failed":
            raise self._failed(told)
        seen: set[str] = set()
        replies = 0
        for kind in ("output_file_id", "error_file_id"):
            file_id = told.get(kind)
            if not isinstance(file_id, str) or not file_id:
                continue
            async for row in self.transport.lines(endpoint(self.chat.base, f"files/{quote(file_id, safe='')}/content")):
                custom_id = row.get("custom_id")
                if isinstance(custom_id, str) and custom_id not in seen:
                    seen.add(custom_id)
                    replies += kind == "output_file_id"
                    yield custom_id, self._result(row)
        if replies < count(told.get("request_counts"), "completed"):
            raise RetryError(f"{self.name}: the results of batch {batch_id} are cut short: {replies}")

    def _result(self, row: dict[str, Any]) -> Reply | BadRequest | None:
        error, response = row.get("error"), row.get("response")
        if isinstance(error, dict) and word(error.get("code")) in NOT_ATTEMPTED:
            return None
        body = response.get("body") if isinstance(response, dict) else None
        status = response.get("status_code") if isinstance(response, dict) else None
        if status == 200 and isinstance(body, dict):
            try:
                return self.chat.read(body)
            except (RetryError, JudgeError):
                return None  # it is no reply: as good as not attempted
            except BadRequest as bad:
                return bad
        said = body.get("error", body) if isinstance(body, dict) else error
        said = said if isinstance(said, dict) else {}
        words = scrub(str(said.get("message", "")), self.transport.secrets)[:300]
        refused = Refusal(status if isinstance(status, int) else 400, words, str(said.get("code") or said.get("param") or ""), None)
        return Reply("", "filter", 0, 0, 0, 0.0) if self.chat.filtered(refused) else outcome(refused, self.name)

    def _failed(self, told: dict[str, Any]) -> JudgeError | RetryError:
        errors = told.get("errors")
        data = errors.get("data") if isinstance(errors, dict) else None
        first = data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else {}
        code, words = str(first.get("code", "")), scrub(str(first.get("message", "")), self.transport.secrets)[:300]
        if any(part in code for part in FULL):
            return RetryError(f"{self.name}: the batch does not fit now: {words}", limited=True)
        return JudgeError(f"the provider refuses the batch: {code} {words}", where=self.name)

    async def close(self) -> None:
        """Close the connections."""
        await self.chat.close()


def _id(told: dict[str, Any], name: str) -> str:
    found = told.get("id")
    if not isinstance(found, str) or not found:
        raise RetryError(f"{name}: a reply without id")
    return found
