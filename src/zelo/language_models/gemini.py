"""Google's Gemini API, `generateContent`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote

from zelo.errors import RetryError
from zelo.language_models.adapter import Adapter
from zelo.language_models.dialect import Dialect, count, likeliest, whole, without_bounds, word
from zelo.language_models.protocol import Finish, Reply, Request, UnsupportedOutput

FINISH: dict[object, Finish] = {"STOP": "stop", "FINISH_REASON_UNSPECIFIED": "stop", None: "stop", "MAX_TOKENS": "length"}
"""Every other reason is a filter: SAFETY, RECITATION, BLOCKLIST, PROHIBITED_CONTENT, SPII, LANGUAGE, OTHER, ..."""

OUT_OF_TURN = {"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE", "NO_CANDIDATE"}
"""Reasons that another try may not meet."""


def start() -> Dialect:
    """Return what the API documents: `responseJsonSchema`, and before it `responseSchema` with fewer keywords."""
    return Dialect(token_limit="maxOutputTokens", schemas=2)


@dataclass
class GeminiContent(Adapter):
    """One model of the Gemini API."""

    dialect: Dialect = field(default_factory=start)

    def path(self) -> str:
        """Return where requests go, behind `base`."""
        return f"models/{quote(self.model.removeprefix('models/'), safe='')}:generateContent"

    def payload(self, request: Request, dialect: Dialect | None = None) -> dict[str, Any]:
        """Return the body of a request.

        Raises:
            UnsupportedOutput: the answer is to begin with something: the API does not go on from there.
        """
        if request.prefix:
            raise UnsupportedOutput("the API does not go on with a begun answer", where=self.name)
        dialect = dialect or self.dialect
        system: list[dict[str, Any]] = [self.fixed(text, partial(_part, text)) for role, text in request.messages if role == "system"]
        texts = [_part(text) for role, text in request.messages if role == "user"]
        if not dialect.system:
            system, texts = [], system + texts
        config: dict[str, Any] = {"maxOutputTokens": request.max_output_tokens}
        if request.temperature is not None and dialect.temperature:
            config["temperature"] = request.temperature
        if request.output != "text":
            config["responseMimeType"] = "application/json"
        if request.output == "schema" and request.schema is not None:
            schema = self.fixed(request.schema, partial(_schema, request.schema, dialect), (dialect.bounds, dialect.schema))
            config["responseJsonSchema" if dialect.schema == 0 else "responseSchema"] = schema
        if request.top_logprobs:
            most = dialect.most_logprobs
            config |= {"responseLogprobs": True, "logprobs": request.top_logprobs if most is None else min(request.top_logprobs, most)}
        body: dict[str, Any] = {"contents": [{"role": "user", "parts": texts}], "generationConfig": config}
        if system:
            body["systemInstruction"] = {"parts": system}
        return body

    def read(self, body: dict[str, Any], seconds: float = 0.0) -> Reply:
        """Read the body of a reply; see `read_content`."""
        return read_content(body, seconds, self.name)


def _part(text: str) -> dict[str, Any]:
    return {"text": text}


def _schema(schema: Any, dialect: Dialect) -> dict[str, Any]:
    plain = schema if dialect.bounds else without_bounds(schema)
    return dict(plain if dialect.schema == 0 else _open(plain))


def _open(schema: Any) -> Any:
    """Return a schema without `additionalProperties`, which `responseSchema` does not know."""
    if isinstance(schema, dict):
        return {key: _open(value) for key, value in schema.items() if key != "additionalProperties"}
    return [_open(inner) for inner in schema] if isinstance(schema, list | tuple) else schema


def read_content(body: dict[str, Any], seconds: float, name: str) -> Reply:
    """Read generated content.

    Raises:
        RetryError: it is none, or the model ran off in the middle.
    """
    usage = body.get("usageMetadata")
    read, cached = count(usage, "promptTokenCount"), count(usage, "cachedContentTokenCount")
    written = count(usage, "candidatesTokenCount") + count(usage, "thoughtsTokenCount")
    candidates = body.get("candidates")
    first = candidates[0] if isinstance(candidates, list) and candidates else None
    if not isinstance(first, dict):
        feedback = body.get("promptFeedback")
        if isinstance(feedback, dict) and feedback.get("blockReason"):
            return Reply("", "filter", read, cached, written, seconds)
        raise RetryError(f"{name}: a reply without candidates", input_tokens=read)
    reason = word(first.get("finishReason"))
    if reason in OUT_OF_TURN:
        raise RetryError(f"{name}: the model gave up ({reason})", input_tokens=read)
    content = first.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    texts = [p for p in parts if isinstance(p, dict) and not p.get("thought")] if isinstance(parts, list) else []
    text = "".join(p["text"] for p in texts if isinstance(p.get("text"), str))
    return Reply(
        whole(text), FINISH.get(reason, "filter"), read, min(cached, read), written, seconds, _logprobs(first.get("logprobsResult"))
    )


def _logprobs(result: object) -> dict[str, float] | None:
    if not isinstance(result, dict):
        return None
    top, chosen = result.get("topCandidates"), result.get("chosenCandidates")
    entries: list[Any] = []
    if isinstance(top, list) and top and isinstance(top[0], dict) and isinstance(top[0].get("candidates"), list):
        entries += top[0]["candidates"]
    if isinstance(chosen, list) and chosen:
        entries.append(chosen[0])
    return likeliest([(e.get("token"), e.get("logProbability")) for e in entries if isinstance(e, dict)])
