"""Which failure of a call is which: what may be repeated, what stops the run, what concerns one request only.

A message names the model and what the server said; whatever looks like a part of the key is struck out first.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from zelo.errors import JudgeError, RetryError, ZeloError
from zelo.language_models.protocol import BadRequest

REPEATABLE = {408, 409, 423, 425, 429}
"""Besides 5xx: timeout, conflict, locked, too early, too many."""

NOTHING_WORKS = {
    401: "no right to ask",
    402: "not paid for",
    403: "no right to ask",
    404: "no such model or address",
    405: "no such address",
    410: "this model is gone",
    501: "the server cannot do this",
}
"""Status -> what is wrong for every request: the run stops."""

OUT_OF_MONEY = re.compile(
    r"insufficient_quota|exceeded your current quota|billing_hard_limit|credit balance is too low|insufficient credits", re.I
)
BAD_KEY = re.compile(r"API_KEY_INVALID|API key not valid|invalid[ _]api[ _]key|incorrect api key", re.I)
OVERLOADED = re.compile(r"overload|capacity|too many|rate limit", re.I)

SHOWN = 300
"""Characters of a server's words that a message shows."""

KEY_PART = 6
"""A run of this many characters that are also in the key is struck out."""

KEY_END = 3
"""So many of its first or last characters are, next to asterisks or dots."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reply with a status other than 200: `words` is what the server said (scrubbed), `code` its own word for it."""

    status: int
    words: str
    code: str
    after: float | None


def scrub(text: str, secrets: tuple[str, ...]) -> str:
    """Strike out every run of `KEY_PART` or more characters that some secret holds too: servers echo keys, also shortened ones."""
    for secret in secrets:
        size = min(KEY_PART, len(secret))
        parts = {secret[i : i + size] for i in range(len(secret) - size + 1)} if size else set()
        struck = [False] * len(text)
        for i in range(len(text) - size + 1):
            if text[i : i + size] in parts:
                struck[i : i + size] = [True] * size
        text = re.sub("\0+", "***", "".join("\0" if hide else c for c, hide in zip(text, struck, strict=True)))
        text = _without_ends(text, secret)
    return text


def _without_ends(text: str, secret: str) -> str:
    """Strike out `KEY_END` or more characters of a secret's start or end where they stand next to `*` or `...`: a shortened key."""
    ends = sorted({part for i in range(KEY_END, len(secret)) for part in (secret[:i], secret[-i:])}, key=len, reverse=True)
    if not ends:
        return text
    either = "|".join(map(re.escape, ends))
    return re.sub(rf"(?:{either})(?=\*|\.\.\.|\u2026)|(?:(?<=\*)|(?<=\.\.\.)|(?<=\u2026))(?:{either})", "***", text)


def refusal(status: int, headers: Mapping[str, str], body: bytes, secrets: tuple[str, ...]) -> Refusal:
    """Read what a server says when it does not answer; any body will do."""
    text = body.decode("utf-8", "replace")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    words, code = _words(told)
    if not words:
        words = re.sub(r"<[^>]*>", " ", text)  # a gateway's page
    words = scrub(" ".join(words.split()), secrets)[:SHOWN]
    return Refusal(status, words, scrub(code, secrets), retry_after(headers, told))


def _words(told: Any) -> tuple[str, str]:
    """Return (message, code) of an error object in any of the dialects: OpenAI, Anthropic, Gemini, FastAPI."""
    if isinstance(told, list) and told:
        told = told[0]
    if not isinstance(told, dict):
        return (told, "") if isinstance(told, str) else ("", "")
    error = told.get("error", told)
    if isinstance(error, str):
        return error, ""
    if not isinstance(error, dict):
        return "", ""
    words = error.get("message") or error.get("detail") or error.get("msg") or ""
    details = error.get("details")
    reasons = [d.get("reason", "") for d in details if isinstance(d, dict)] if isinstance(details, list) else []
    codes = [error.get("code"), error.get("type"), error.get("status"), error.get("param"), *reasons]
    return words if isinstance(words, str) else json.dumps(words), " ".join(str(c) for c in codes if c)


def failure(said: Refusal, name: str) -> ZeloError:
    """Return the error to raise for a refusal."""
    what = f"{said.status}" + (f", {said.words}" if said.words else "")
    everything = f"{said.code} {said.words}"
    if OUT_OF_MONEY.search(everything):
        return JudgeError(
            f"nothing is left to pay with: {what}", where=name, remedy="see the provider's billing page; the run resumes from here"
        )
    if said.status == 429 or said.status >= 500 or said.status in REPEATABLE:
        if said.status == 501:
            return JudgeError(f"{NOTHING_WORKS[501]}: {what}", where=name)
        limited = said.status in (429, 529) or (said.status == 503 and OVERLOADED.search(everything) is not None)
        return RetryError(f"{name}: {what}", after=said.after, limited=limited)
    if said.status in NOTHING_WORKS or (said.status == 400 and BAD_KEY.search(everything)):
        return JudgeError(
            f"{NOTHING_WORKS.get(said.status, 'no right to ask')}: {what}", where=name, remedy="check the key and the name of the model"
        )
    if said.status < 400:
        return JudgeError(f"the server sends elsewhere: {what}", where=name, remedy="redirects are not followed; use the final address")
    return BadRequest(what, where=name)


UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
EPOCH = 1e9
"""A reset above this is a time, not a span."""


def retry_after(headers: Mapping[str, str], told: Any = None) -> float | None:
    """Return how many seconds a server asks to wait, None where it does not say.

    Read in this order: `retry-after-ms`; `retry-after` in seconds or as a date (RFC 9110 10.2.3); the delay in a Gemini error; the
    reset headers of the limits that are used up (`x-ratelimit-remaining-*` is 0 or absent), of which the longest counts.

    Args:
        headers: of the reply, names in lower case or case-insensitive.
        told: the parsed body.
    """
    found = _number(headers.get("retry-after-ms"), 0.001)
    if found is None:
        found = _span(headers.get("retry-after"))
    if found is None:
        found = _gemini_delay(told)
    if found is None:
        resets = [_span(value) for key, value in headers.items() if _is_reset(key.lower(), headers)]
        found = max((r for r in resets if r is not None), default=None)
    return found


def _is_reset(key: str, headers: Mapping[str, str]) -> bool:
    if "ratelimit" not in key or "reset" not in key:
        return False
    return (_number(headers.get(key.replace("reset", "remaining"))) or 0.0) <= 0


def _number(text: str | None, scale: float = 1.0) -> float | None:
    try:
        value = float(text) * scale if text else None
    except ValueError:
        return None
    return max(value, 0.0) if value is not None and math.isfinite(value) else None


def _span(text: str | None) -> float | None:
    """Seconds from "1.5", "6m0s", "120ms", a time in seconds or ms since 1970, an ISO time, or a date of HTTP."""
    if not text:
        return None
    value = _number(text)
    if value is not None:
        if value < EPOCH:
            return value
        return max((value / 1000 if value > 1000 * EPOCH else value) - time.time(), 0.0)
    parts = re.findall(r"([\d.]+)(ms|s|m|h|d)", text)
    if parts and "".join(n + u for n, u in parts) == text.strip():
        numbers = [_number(n, UNITS[u]) for n, u in parts]
        return sum(n for n in numbers if n is not None)
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text.strip())
        except (ValueError, IndexError, OverflowError):
            continue
        return max(moment.timestamp() - time.time(), 0.0)
    return None


def _gemini_delay(told: Any) -> float | None:
    error = told.get("error") if isinstance(told, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            return _span(detail["retryDelay"])
    return None
