"""Chat completions in OpenAI's shape: OpenAI, Azure, OpenRouter, vLLM, SGLang, llama.cpp, Ollama and many more."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from zelo.errors import JudgeError, RetryError
from zelo.language_models.adapter import Adapter
from zelo.language_models.dialect import Dialect, count, likeliest, merged, whole, without_bounds, word
from zelo.language_models.failures import Refusal, failure
from zelo.language_models.protocol import Finish, Reply, Request, UnsupportedOutput

FINISH: dict[object, Finish] = {"length": "length", "max_tokens": "length", "content_filter": "filter", "refusal": "refusal"}
"""Of `finish_reason`; every other word is a whole answer, unless it is in `BROKEN`."""

BROKEN = {"error", "insufficient_system_resource", "abort"}
"""Reasons that mean that the server gave up."""


@dataclass
class OpenAIChat(Adapter):
    """One model of a server that speaks OpenAI's chat completions."""

    def path(self) -> str:
        """Return where requests go, behind `base`."""
        return "chat/completions"

    def payload(self, request: Request, dialect: Dialect | None = None) -> dict[str, Any]:
        """Return the body of a request.

        Raises:
            UnsupportedOutput: the server does not go on with a begun answer.
        """
        dialect = dialect or self.dialect
        messages = [
            self.fixed(text, partial(_message, role, text)) if role == "system" else _message(role, text)
            for role, text in merged(request.messages, system=dialect.system)
        ]
        body: dict[str, Any] = {"model": self.model, "messages": messages, dialect.token_limit: request.max_output_tokens}
        if request.prefix:
            body |= self._begun(request.prefix, dialect)
            body["messages"] = [*messages, {"role": "assistant", "content": request.prefix}]
        if request.temperature is not None and dialect.temperature:
            body["temperature"] = request.temperature
        if request.output == "schema" and request.schema is not None:
            body["response_format"] = self.fixed(request.schema, partial(_format, request.schema, dialect.bounds), dialect.bounds)
        elif request.output == "json":
            body["response_format"] = {"type": "json_object"}
        if request.top_logprobs:
            body["logprobs"] = True
            most = dialect.most_logprobs
            body["top_logprobs"] = request.top_logprobs if most is None else min(request.top_logprobs, most)
        return body

    def _begun(self, prefix: str, dialect: Dialect) -> dict[str, Any]:
        if not dialect.continues:
            raise UnsupportedOutput("the API does not go on with a begun answer", where=self.name)
        return {"continue_final_message": True, "add_generation_prompt": False} if dialect.continues == "flags" else {}

    def read(self, body: dict[str, Any], seconds: float = 0.0) -> Reply:
        """Read the body of a reply; see `read_completion`."""
        return read_completion(body, seconds, self.name)

    def filtered(self, said: Refusal) -> bool:
        """Whether a refusal is the provider's filter (Azure's)."""
        return said.status == 400 and "content_filter" in said.code


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def _format(schema: Any, bounds: bool) -> dict[str, Any]:
    plain = schema if bounds else without_bounds(schema)
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": plain}}


def read_completion(body: dict[str, Any], seconds: float, name: str) -> Reply:
    """Read a chat completion.

    Raises:
        RetryError: it is none, or the server gave up in the middle.
        ZeloError: it is an error in the dress of a reply (OpenRouter), as `failure` says.
    """
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    error = body.get("error") or (choice.get("error") if isinstance(choice, dict) else None)
    if error:
        raise _dressed(error, name)
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise RetryError(f"{name}: a reply without choices")
    reason = word(choice.get("finish_reason"))
    usage = body.get("usage")
    read, cached, written = read_usage(usage if isinstance(usage, dict) else {})
    if reason in BROKEN:
        raise RetryError(f"{name}: the server gave up ({reason})", input_tokens=read)
    finish = FINISH.get(reason, "stop")
    text = content_text(message.get("content"))
    refused = message.get("refusal")
    if isinstance(refused, str) and refused:
        text, finish = refused, "refusal"
    return Reply(whole(text), finish, read, cached, written, seconds, first_logprobs(choice.get("logprobs")))


def _dressed(error: object, name: str) -> Exception:
    told = error if isinstance(error, dict) else {"message": str(error)}
    code = told.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    # An error of one reply says little about the others: only what is plainly about the account stops the run.
    found = failure(Refusal(status, str(told.get("message", ""))[:300], str(code), None), name)
    return found if not isinstance(found, JudgeError) or status in (401, 402) else RetryError(str(found))


def content_text(content: object) -> str:
    """Return the text of a message's content: a string, or parts of which the texts count (thoughts do not)."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(p["text"] for p in parts if isinstance(p, dict) and p.get("type") == "text" and isinstance(p.get("text"), str))


def read_usage(usage: dict[str, Any]) -> tuple[int, int, int]:
    """Return tokens read, of these cached, and written: also hidden thoughts, which some servers count only in the total."""
    read = count(usage, "prompt_tokens", "input_tokens")
    cached = count(usage.get("prompt_tokens_details"), "cached_tokens") or count(usage, "prompt_cache_hit_tokens")
    written = max(count(usage, "completion_tokens", "output_tokens"), count(usage, "total_tokens") - read)
    return read, min(cached, read), written


def first_logprobs(logprobs: object) -> dict[str, float] | None:
    """Return the log probabilities of the first token: those at the top, and that of the token which was drawn."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    first = content[0] if isinstance(content, list) and content else None
    if not isinstance(first, dict):
        return None
    top = first.get("top_logprobs")
    if isinstance(top, dict):  # llama-cpp-python
        return likeliest([*top.items(), (first.get("token"), first.get("logprob"))])
    entries = [e for e in top if isinstance(e, dict)] if isinstance(top, list) else []
    return likeliest([(e.get("token"), e.get("logprob")) for e in [*entries, first]])
