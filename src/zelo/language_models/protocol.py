"""What a language model is asked, what it answers, and how it fails: shared by every provider and by batches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from zelo.errors import ZeloError

Role = Literal["system", "user"]
Output = Literal["schema", "json", "text"]
Finish = Literal["stop", "length", "refusal", "filter"]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a language model.

    Attributes:
        messages: (role, text) in order; the stable part first, so that the provider's prompt cache hits.
        max_output_tokens: most tokens it may write, its hidden thoughts included where the provider counts them so.
        temperature: None leaves it to the server, which is what some reasoning models insist on.
        schema: JSON schema that the answer must have; used with output "schema".
        output: "schema" asks the server to enforce `schema`, "json" any JSON object, "text" nothing.
        top_logprobs: how many log probabilities of the first token to return; 0 is none.
        prefix: how the answer begins: the model goes on from there. Some servers repeat it in their reply, some do not.
    """

    messages: tuple[tuple[Role, str], ...]
    max_output_tokens: int
    temperature: float | None = 0.0
    schema: Mapping[str, object] | None = None
    output: Output = "text"
    top_logprobs: int = 0
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model wrote, and what it took.

    Attributes:
        text: may be empty or cut short unless `finish` is "stop"; of a refusal, its words.
        finish: "stop", or why the text is no whole answer: "length" (out of tokens), "refusal" (of the model), "filter" (of the
            provider).
        input_tokens: tokens read, those from a cache included.
        cached_tokens: of these, how many were read from the provider's cache.
        output_tokens: tokens written as billed, hidden thoughts included.
        seconds: from sending to the last byte; 0 in a batch.
        top_logprobs: natural log of the probability of the likeliest first tokens; None if not asked or not given. Where two
            tokens have the same text, the likelier one counts.
    """

    text: str
    finish: Finish
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    seconds: float
    top_logprobs: Mapping[str, float] | None = None


class BadRequest(ZeloError):
    """The server refuses this request as malformed or too long: repeating it is useless, other requests may work.

    Attributes:
        said: what the server said, a `failures.Refusal`, where it is of one request within a batch.
    """

    said: Any = None


class UnsupportedOutput(BadRequest):
    """The server cannot give the output that was asked for (a JSON schema, JSON, log probabilities): ask for less."""


@runtime_checkable
class LanguageModel(Protocol):
    """A model behind a network. `name` never holds a key."""

    name: str

    async def complete(self, request: Request) -> Reply:
        """Ask once.

        Raises:
            RetryError: it may work when asked again.
            JudgeError: no request will work (no right to ask, no such model).
            BadRequest: this request will never work; UnsupportedOutput: it may with less structured output.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


@dataclass(frozen=True, slots=True)
class BatchState:
    """How far a batch is.

    Attributes:
        status: the provider's word.
        done: no request will be answered any more; results can be read (there may be none).
        total: requests; 0 while the provider has not counted them.
        finished: requests with a result, good or bad.
    """

    status: str
    done: bool
    total: int
    finished: int


@runtime_checkable
class BatchModel(Protocol):
    """A model that answers many requests within a day, cheaper. Write the id down before polling: it is paid work.

    All three raise RetryError and JudgeError as `LanguageModel.complete` does; an unknown batch raises BadRequest.
    """

    name: str

    async def submit(self, requests: Mapping[str, Request]) -> str:
        """Send requests by custom id (1 to 64 of `A-Z a-z 0-9 _ -`) and return the batch's id.

        Raises:
            BadRequest: more than the provider takes at once (`split_requests` divides), a custom id it does not take, or refused.
        """
        ...

    async def poll(self, batch_id: str) -> BatchState:
        """Ask how far a batch is."""
        ...

    def results(self, batch_id: str) -> AsyncIterator[tuple[str, Reply | BadRequest | None]]:
        """Yield (custom id, result) once each, in any order; None is not attempted (expired, canceled, failed at the provider).

        Ids that the provider left out do not come: what is missing at the end was not attempted either.

        Raises:
            RetryError: the stream broke; asking again yields everything again.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
