"""From a model's name in a recipe to something that answers. Keys come from the environment and go into the session's headers only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from zelo.errors import JudgeError, RecipeError
from zelo.language_models.adapter import Adapter
from zelo.language_models.anthropic import VERSION, AnthropicMessages
from zelo.language_models.batch_anthropic import AnthropicBatches
from zelo.language_models.batch_openai import OpenAIBatches
from zelo.language_models.dialect import Dialect
from zelo.language_models.gemini import GeminiContent
from zelo.language_models.openai import OpenAIChat
from zelo.language_models.protocol import BatchModel, LanguageModel, Reply, Request
from zelo.language_models.transport import Transport, loopback

ALLOW_HTTP = "ZELO_ALLOW_HTTP"
FORMS = "openai:MODEL, anthropic:MODEL, gemini:MODEL, openrouter:MODEL, https://HOST/v1#MODEL, http://localhost:PORT/v1#MODEL"


@dataclass(frozen=True)
class Provider:
    """Where a provider is, and the variables that hold its key and, if set, another address for it."""

    base: str
    key: str
    other_base: str


PROVIDERS = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "anthropic": Provider("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    "gemini": Provider("https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY", "GEMINI_BASE_URL"),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "OPENROUTER_BASE_URL"),
}
"""By the word before the colon."""

ANY_KEY, AZURE_KEY = "ZELO_API_KEY", "AZURE_OPENAI_API_KEY"
SECRET_PARAMETERS = {"key", "api_key", "api-key", "apikey", "token", "access_token", "subscription-key"}


@dataclass(frozen=True)
class Address:
    """A name taken apart: which API, where, which model, and the variable of its key ("" where none is needed)."""

    provider: str
    base: str
    model: str
    key: str


def is_model_name(name: str) -> bool:
    """Whether a name has the form of a language model's: a provider and a colon, or an address."""
    return name.partition(":")[0] in {*PROVIDERS, "http", "https"}


def parse_name(name: str, base: str | None = None) -> Address:
    """Take a name apart. Reads no key and opens nothing.

    Args:
        name: one of `FORMS`.
        base: another address for the provider; its variable, if set, otherwise.

    Raises:
        RecipeError: no such form, a key in the name, or an address without encryption that is not this machine.
    """
    word, _, model = name.partition(":")
    if word in PROVIDERS:
        provider = PROVIDERS[word]
        base = base or os.environ.get(provider.other_base) or provider.base
        address = Address(word, base.rstrip("/"), model, provider.key)
    elif word in ("http", "https"):
        parts = urlsplit(name)
        base, model = urlunsplit(parts._replace(fragment="")).rstrip("/"), parts.fragment
        azure = (parts.hostname or "").endswith((".azure.com", ".azure.us", ".azure.cn"))
        address = Address("azure" if azure else "compatible", base, model, AZURE_KEY if azure else "")
    else:
        raise RecipeError(f"no language model {name!r}", where="judge", remedy=f"forms: {FORMS}")
    if not address.model.strip():
        raise RecipeError(f"{name!r} names no model", where="judge", remedy=f"forms: {FORMS}")
    check_address(address.base)
    return address


def check_address(base: str) -> None:
    """Refuse addresses that would show a key."""
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RecipeError(f"{parts.scheme}://{parts.hostname or ''} is no address of a server", where="judge", remedy=f"forms: {FORMS}")
    if parts.username or parts.password or SECRET_PARAMETERS & {key.lower() for key, _ in parse_qsl(parts.query, keep_blank_values=True)}:
        raise RecipeError("a key in an address", where=parts.hostname, remedy=f"set {ANY_KEY} in the environment instead")
    if parts.scheme == "http" and not loopback(parts.hostname) and os.environ.get(ALLOW_HTTP) != "1":
        raise RecipeError(
            "without encryption anyone on the way reads texts and keys", where=parts.hostname, remedy=f"use https, or set {ALLOW_HTTP}=1"
        )


def _key(address: Address) -> str:
    if not address.key:
        return os.environ.get(ANY_KEY, "").strip()
    key = os.environ.get(address.key, "").strip()
    if not key:
        raise JudgeError(
            f"no key: {address.key} is not set", where=f"{address.provider}:{address.model}", remedy=f"export {address.key}=..."
        )
    if not key.isascii() or not key.isprintable():
        raise JudgeError(f"{address.key} holds characters that no key has", where=f"{address.provider}:{address.model}")
    return key


def _open(name: str, timeout: float, base: str | None) -> Adapter:
    address = parse_name(name, base)
    key = _key(address)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if address.provider == "anthropic":
        headers = {"x-api-key": key, "anthropic-version": VERSION}
    elif address.provider == "gemini":
        headers = {"x-goog-api-key": key}
    elif address.provider == "azure":
        headers = {"api-key": key}
    transport = Transport(name, headers, (key,) if key else (), timeout)
    if address.provider == "anthropic":
        return AnthropicMessages(name, address.model, address.base, transport)
    if address.provider == "gemini":
        return GeminiContent(name, address.model, address.base, transport)
    # OpenAI's own models take `max_completion_tokens`, the reasoning ones nothing else; most other servers know only the older name.
    limit = "max_completion_tokens" if address.provider in ("openai", "azure") else "max_tokens"
    continues: Literal["flags", "message", ""] = ""  # OpenAI takes an answer that was begun for one that is finished
    if address.provider in ("compatible", "openrouter"):
        continues = "flags" if address.provider == "compatible" else "message"
    return OpenAIChat(name, address.model, address.base, transport, Dialect(token_limit=limit, continues=continues))


def open_model(name: str, *, timeout: float = 120.0, base: str | None = None) -> LanguageModel:
    """Return the model of a name. Connects when it is first asked.

    Args:
        name: `openai:MODEL`, `anthropic:MODEL`, `gemini:MODEL`, `openrouter:MODEL`, or the address of a server that speaks OpenAI's chat
            completions with `#MODEL` behind it (Azure's too).
        timeout: seconds for one call.
        base: another address for the provider, up to and with the API's version.

    Raises:
        RecipeError: the name has none of these forms, or its address would show a key.
        JudgeError: the key is not in the environment.
        MissingExtraError: aiohttp is not installed (when first asked).
    """
    return _open(name, timeout, base)


@dataclass
class Unopened:
    """Stands for a model that nobody asks: estimates and prompt ids need neither a key nor a connection."""

    name: str

    async def complete(self, request: Request) -> Reply:
        """Refuse."""
        raise JudgeError("a plan asks nothing", where=self.name)

    async def close(self) -> None:
        """There is nothing to close."""


def open_batches(name: str, *, timeout: float = 120.0, base: str | None = None) -> BatchModel:
    """Return the batch API of a model; arguments and errors as `open_model` has them.

    Raises:
        RecipeError: also where the provider has no batch API that zelo knows (gemini, openrouter).
    """
    model = _open(name, timeout, base)
    if isinstance(model, OpenAIChat) and parse_name(name, base).provider != "openrouter":
        return OpenAIBatches(model)
    if isinstance(model, AnthropicMessages):
        return AnthropicBatches(model)
    raise RecipeError(
        "no batch API", where=name, remedy="openai, anthropic, azure, and servers with OpenAI's batch API have one; set batch = false"
    )
