"""What the batch APIs share: ids, sizes, and how to divide what is too much for one batch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, BinaryIO

from zelo.errors import InputError, RetryError, ZeloError
from zelo.language_models.failures import Refusal, failure
from zelo.language_models.protocol import BadRequest, Request, UnsupportedOutput

CUSTOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What both providers take."""

OUTPUT_WORDS = re.compile(r"response_?format|json_?schema|output_config|logprobs|json mode", re.I)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Most that a provider takes in one batch."""

    requests: int
    bytes: int


def split_requests(
    requests: Iterable[tuple[str, Request]], size: Callable[[str, Request], int], limits: BatchLimits
) -> Iterator[dict[str, Request]]:
    """Divide requests, in order, into batches within the limits.

    Args:
        requests: (custom id, request).
        size: bytes of one request as sent, its separator included.
        limits: of one batch.

    Raises:
        InputError: an id comes twice in one batch.
        BadRequest: one request alone is too large.
    """
    part: dict[str, Request] = {}
    filled = 0
    for custom_id, request in requests:
        needed = size(custom_id, request)
        if needed > limits.bytes:
            raise BadRequest(f"a request of {needed} bytes, more than a batch may have", where=custom_id)
        if part and (len(part) >= limits.requests or filled + needed > limits.bytes):
            yield part
            part, filled = {}, 0
        if custom_id in part:
            raise InputError("the id comes twice", where=custom_id)
        part[custom_id] = request
        filled += needed
    if part:
        yield part


def check_ids(requests: Mapping[str, Request], limits: BatchLimits, name: str) -> None:
    """Check a batch before anything is sent.

    Raises:
        BadRequest: empty, too many, or an id that providers do not take.
    """
    if not requests:
        raise BadRequest("an empty batch", where=name)
    if len(requests) > limits.requests:
        raise BadRequest(
            f"{len(requests)} requests in a batch; at most {limits.requests}", where=name, remedy="split_requests divides them"
        )
    for custom_id in requests:
        if not CUSTOM_ID.fullmatch(custom_id):
            raise BadRequest(f"{custom_id[:80]!r} is no id for a batch: 1 to 64 of A-Z a-z 0-9 _ -", where=name)


def again(file: IO[bytes]) -> BinaryIO:
    """Return a written file for reading from its start. A second handle: the transport closes what it sends, in a thread of its own."""
    file.flush()
    file.seek(0)
    return os.fdopen(os.dup(file.fileno()), "rb")


def outcome(said: Refusal, name: str) -> BadRequest | None:
    """Return what a refusal of one request within a batch is: None where another try may work.

    Nothing is raised, whatever it is: the other results of the batch are paid for and must be read.
    """
    error: ZeloError = failure(said, name)
    if isinstance(error, RetryError):
        return None
    unsupported = said.status in (400, 422) and OUTPUT_WORDS.search(said.words + said.code)
    refused = (UnsupportedOutput if unsupported else BadRequest)(f"{said.status}, {said.words}", where=name)
    refused.said = said
    return refused
