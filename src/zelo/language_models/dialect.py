"""What a server understands, learned from its refusals: a parameter that one server demands is an error at the next.

The start is what the provider documents; each refusal that names a parameter changes one thing, once for all later calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from zelo.language_models.failures import Refusal
from zelo.language_models.protocol import Request, Role, UnsupportedOutput

UNKNOWN = re.compile(
    r"unsupported|not support|n't support|unrecognized|unknown|unexpected|extra (inputs|fields)|not permitted|not allowed|deprecated"
    r"|only the default|cannot find field|invalid (parameter|argument|schema)|no such (field|parameter)|use '?max",
    re.I,
)
SCHEMA = re.compile(r"response_?format|json_?schema|response_?json_?schema|response_?schema|output_config|schema|structured|grammar", re.I)
JSON_MODE = re.compile(r"response_?format|json_object|json mode|response_?mime_?type", re.I)
MOST = re.compile(r"(?:max\w*(?: allowed)?|equal to|<=|at most|up to|between \d+ and|exceed\w*|[\[(]\s*\d+\s*,)\D{0,12}(\d+)", re.I)
TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")

BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern", "format"}
BOUNDS |= {"minItems", "maxItems", "uniqueItems", "default", "title", "$schema"}
"""Keywords of JSON Schema that some servers refuse."""

TURNS = 6
"""Most sendings of one request with another dialect each."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to ask one server.

    Attributes:
        token_limit: name of the parameter that bounds the output.
        temperature: whether it takes a temperature.
        bounds: whether its schemas take lengths and ranges.
        schema: which way of asking for a schema, counted from the preferred one.
        schemas: how many ways there are.
        system: whether it takes a system message.
        most_logprobs: most log probabilities it gives, None if it did not say.
        continues: how it goes on with a begun answer: "flags" (vLLM's parameters, which llama.cpp and SGLang know too), "message" (by
            itself), "" = it cannot.
    """

    token_limit: str = "max_tokens"
    temperature: bool = True
    bounds: bool = True
    schema: int = 0
    schemas: int = 1
    system: bool = True
    most_logprobs: int | None = None
    continues: Literal["flags", "message", ""] = "message"


def adapted(dialect: Dialect, request: Request, said: Refusal) -> Dialect | None:
    """Return what to try after a refusal of `request` asked in `dialect`; None if it is not about a parameter that can be changed.

    Raises:
        UnsupportedOutput: the server does not know the structured output or the log probabilities.
    """
    if said.status not in (400, 404, 422, 500, 501):
        return None
    words = f"{said.words} {said.code}"
    unknown = UNKNOWN.search(words) is not None
    if request.top_logprobs and "logprob" in words.lower():
        return _fewer_logprobs(dialect, request, said)
    if said.status == 404:
        return None
    if unknown and re.search(rf"\b{dialect.token_limit}\b", words):
        other = TOKEN_LIMITS[dialect.token_limit == TOKEN_LIMITS[0]]
        return replace(dialect, token_limit=other) if dialect.token_limit in TOKEN_LIMITS else None
    if unknown and dialect.temperature and request.temperature is not None and "temperature" in words.lower():
        return replace(dialect, temperature=False)
    if dialect.system and re.search(r"system (role|message|instruction|prompt)|developer instruction", words, re.I) and unknown:
        return replace(dialect, system=False)
    if said.status in (400, 422) and request.output == "schema" and SCHEMA.search(words):
        return _simpler_schema(dialect, request, said)
    if said.status in (400, 422) and request.output == "json" and unknown and JSON_MODE.search(words):
        raise UnsupportedOutput(f"no JSON mode: {said.status}, {said.words}")
    return None


def _simpler_schema(dialect: Dialect, request: Request, said: Refusal) -> Dialect:
    if dialect.bounds and without_bounds(request.schema) != request.schema:
        return replace(dialect, bounds=False)
    if dialect.schema + 1 < dialect.schemas:
        return replace(dialect, schema=dialect.schema + 1)
    raise UnsupportedOutput(f"no JSON schemas: {said.status}, {said.words}")


def _fewer_logprobs(dialect: Dialect, request: Request, said: Refusal) -> Dialect:
    asked = request.top_logprobs if dialect.most_logprobs is None else min(request.top_logprobs, dialect.most_logprobs)
    fewer = [int(n) for n in MOST.findall(said.words) if 0 < int(n) < asked]
    if not fewer:
        raise UnsupportedOutput(f"no log probabilities: {said.status}, {said.words}")
    return replace(dialect, most_logprobs=max(fewer))


def without_bounds(schema: Any) -> Any:
    """Return a JSON schema without lengths, ranges and decoration: what every server takes. Names of properties stay."""
    if isinstance(schema, Mapping):
        plain = {}
        for key, value in schema.items():
            if key == "properties" and isinstance(value, Mapping):
                plain[key] = {name: without_bounds(inner) for name, inner in value.items()}
            elif key not in BOUNDS:
                plain[key] = without_bounds(value)
        return plain
    return [without_bounds(inner) for inner in schema] if isinstance(schema, list | tuple) else schema


def merged(messages: Sequence[tuple[Role, str]], *, system: bool = True) -> list[tuple[Role, str]]:
    """Join neighbors of one role: many chat templates insist on turns. Without `system`, its text leads the user's."""
    joined: list[tuple[Role, str]] = []
    for role, text in messages:
        role = role if system else "user"
        if joined and joined[-1][0] == role:
            joined[-1] = (role, f"{joined[-1][1]}\n\n{text}")
        else:
            joined.append((role, text))
    return joined


def whole(text: str) -> str:
    """Return a text that UTF-8 can hold: JSON can spell lone surrogates, files and databases cannot keep them."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def count(counts: object, *names: str) -> int:
    """Return the first of the named counts that is a number, 0 if none is."""
    if isinstance(counts, dict):
        for name in names:
            value = counts.get(name)
            if isinstance(value, int | float) and 0 < value < 2**53:
                return int(value)
    return 0


def word(value: object) -> str | None:
    """Return a value where it is a string; what a server sends instead is nothing."""
    return value if isinstance(value, str) else None


def likeliest(pairs: Sequence[tuple[object, object]]) -> dict[str, float] | None:
    """Collect (token, log probability), keeping the likelier of two with one text; None if there is none."""
    found: dict[str, float] = {}
    for token, logprob in pairs:
        if isinstance(token, str) and isinstance(logprob, int | float) and logprob <= 1e-6:
            token, value = whole(token), min(float(logprob), 0.0)
            found[token] = max(found.get(token, value), value)
    return found or None
