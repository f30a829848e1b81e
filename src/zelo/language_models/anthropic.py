"""Anthropic's messages API."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from zelo.errors import RetryError
from zelo.language_models.adapter import Adapter
from zelo.language_models.dialect import Dialect, count, whole, without_bounds, word
from zelo.language_models.protocol import Finish, Reply, Request, UnsupportedOutput
from zelo.language_models.transport import Fixed, compact

VERSION = "2023-06-01"
"""Of the API, sent as `anthropic-version`."""

FINISH: dict[object, Finish] = {"max_tokens": "length", "model_context_window_exceeded": "length", "refusal": "refusal"}

CACHE = {"type": "ephemeral"}
TOOL = "answer"


def start() -> Dialect:
    """Return what the API documents: two ways to a schema, `output_config.format` (newer models) and a forced tool; no bounds."""
    return Dialect(bounds=False, schemas=2)


@dataclass
class AnthropicMessages(Adapter):
    """One model of Anthropic's API."""

    dialect: Dialect = field(default_factory=start)

    def path(self) -> str:
        """Return where requests go, behind `base`."""
        return "messages"

    def payload(self, request: Request, dialect: Dialect | None = None) -> dict[str, Any]:
        """Return the body of a request. All but the last text is marked for the prompt cache: system, and the leading user texts.

        Raises:
            UnsupportedOutput: JSON without a schema, or log probabilities: the API has neither.
        """
        dialect = dialect or self.dialect
        if request.output == "json" or request.top_logprobs:
            raise UnsupportedOutput("the API has no JSON mode" if request.output == "json" else "no log probabilities", where=self.name)
        system = [text for role, text in request.messages if role == "system"]
        texts = [text for role, text in request.messages if role == "user"]
        body: dict[str, Any] = {"model": self.model, "max_tokens": request.max_output_tokens}
        body["messages"] = [{"role": "user", "content": [_block(text, place == len(texts) - 2) for place, text in enumerate(texts)]}]
        if request.prefix.rstrip():  # blanks at its end are an error
            body["messages"].append({"role": "assistant", "content": request.prefix.rstrip()})
        if system:
            body["system"] = [self.fixed(text, partial(_block, text, text is system[-1]), text is system[-1]) for text in system]
        if request.temperature is not None and dialect.temperature:
            body["temperature"] = request.temperature
        if request.output == "schema" and request.schema is not None:
            body |= self.fixed(request.schema, partial(_structured, request.schema, dialect.schema), dialect.schema)
        return body

    def read(self, body: dict[str, Any], seconds: float = 0.0) -> Reply:
        """Read the body of a reply; see `read_message`."""
        return read_message(body, seconds, self.name)


def _block(text: str, cached: bool) -> dict[str, Any]:
    return {"type": "text", "text": text} | ({"cache_control": CACHE} if cached else {})


def _structured(schema: Any, way: int) -> dict[str, Any]:
    if way == 0:
        return {"output_config": Fixed(format={"type": "json_schema", "schema": closed(schema)})}
    tool = Fixed(name=TOOL, description="Give the answer.", input_schema=closed(schema))
    return {"tools": [tool], "tool_choice": {"type": "tool", "name": TOOL}}


def closed(schema: Any) -> Any:
    """Return a schema as the API takes it: no bounds, and no object with more properties than it lists."""

    def close(part: Any) -> Any:
        if isinstance(part, dict):
            part = {key: close(value) for key, value in part.items()}
            if part.get("type") == "object" and isinstance(part.get("properties"), dict):
                part["additionalProperties"] = False
            return part
        return [close(inner) for inner in part] if isinstance(part, list) else part

    return close(without_bounds(schema))


def read_message(body: dict[str, Any], seconds: float, name: str) -> Reply:
    """Read a message.

    Raises:
        RetryError: it is none.
    """
    content = body.get("content")
    if not isinstance(content, list):
        raise RetryError(f"{name}: a reply without content")
    blocks = [block for block in content if isinstance(block, dict)]
    text = "".join(b["text"] for b in blocks if b.get("type") == "text" and isinstance(b.get("text"), str))
    for block in blocks:
        if block.get("type") == "tool_use" and block.get("name") == TOOL:
            text = compact(block.get("input")).decode("utf-8")
    usage = body.get("usage")
    cached = count(usage, "cache_read_input_tokens")
    read = count(usage, "input_tokens") + count(usage, "cache_creation_input_tokens") + cached
    finish = FINISH.get(word(body.get("stop_reason")), "stop")
    return Reply(whole(text), finish, read, cached, count(usage, "output_tokens"), seconds)
