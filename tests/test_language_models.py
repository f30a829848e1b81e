"""The client of language models over real loopback HTTP: what it sends, what it reads, and which failure is which."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import gzip
import http.server
import json
import logging
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fault_server import FAULTS, Call, FaultServer
from refusals import (
    CLAUDE_TEMPERATURE,
    NEW_LIMIT,
    NO_BOUNDS,
    NO_FORMAT,
    NO_SYSTEM,
    NO_TEMPERATURE,
    OLD_LIMIT,
    refusing,
)
from zelo.errors import JudgeError, MissingExtraError, RecipeError, RetryError, ZeloError
from zelo.language_models import transport
from zelo.language_models.anthropic import closed
from zelo.language_models.dialect import likeliest, merged, without_bounds
from zelo.language_models.failures import retry_after, scrub
from zelo.language_models.names import is_model_name, open_model, parse_name
from zelo.language_models.openai import read_completion
from zelo.language_models.protocol import BadRequest, LanguageModel, Reply, Request, Role, UnsupportedOutput
from zelo.language_models.transport import Deadlines, Fixed, compact

KEY = "sk-proj-Zq83hVd0pLmX71nBt5Yw"
SCHEMA = {
    "type": "object",
    "properties": {"reasoning": {"type": "string", "maxLength": 600}, "score": {"type": "number", "minimum": -1, "maximum": 1}},
    "required": ["reasoning", "score"],
    "additionalProperties": False,
}
ASK = Request((("system", "Compare."), ("user", "query: q"), ("user", "A: a\nB: b")), 200)
APIS = ("openai", "anthropic", "gemini", "compatible")


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY", "AZURE_OPENAI_API_KEY", "ZELO_API_KEY"):
        monkeypatch.setenv(variable, KEY)
    for variable in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "OPENAI_BASE_URL",
        "ANTHROPIC_BASE_URL",
        "GEMINI_BASE_URL",
        "ZELO_ALLOW_HTTP",
    ):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)


def model_at(api: str, server: FaultServer, timeout: float = 30.0) -> LanguageModel:
    if api == "compatible":
        return open_model(f"{server.url}#m", timeout=timeout)
    return open_model(f"{api}:m", timeout=timeout, base=server.gemini if api == "gemini" else server.url)


def ask(server: FaultServer, api: str = "openai", request: Request = ASK, times: int = 1, timeout: float = 30.0) -> Reply:
    async def go() -> Reply:
        model = model_at(api, server, timeout)
        assert isinstance(model, LanguageModel)
        try:
            for _ in range(times):
                reply = await model.complete(request)
            return reply
        finally:
            await model.close()

    return asyncio.run(go())


def with_output(output: Any, **more: Any) -> Request:
    return Request(ASK.messages, 200, schema=SCHEMA if output == "schema" else None, output=output, **more)


# what is sent and read


@pytest.mark.parametrize("api", APIS)
def test_a_reply_is_read_with_its_tokens(api: str) -> None:
    with FaultServer() as server:
        reply = ask(server, api)
        assert reply.text == '{"reasoning": "both were read", "score": 0.5}'
        assert (reply.finish, reply.cached_tokens, reply.top_logprobs) == ("stop", 0, None)
        assert reply.input_tokens == len("Compare.\n\nquery: q\n\nA: a\nB: b") // 4
        assert reply.output_tokens == 11 + 3 * (api == "gemini")  # hidden thoughts count
        assert 0 < reply.seconds < 5
        assert list(server.calls.values()) == [1]


@pytest.mark.parametrize("api", APIS)
def test_the_key_is_in_one_header_and_nowhere_else(api: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with FaultServer() as server:
        ask(server, api)
        head = server.heads[0].decode()
    name = {"anthropic": "x-api-key: ", "gemini": "x-goog-api-key: "}.get(api, "Authorization: Bearer ")
    assert head.count(KEY) == 1
    assert name + KEY in head
    assert KEY not in head.splitlines()[0]
    assert "User-Agent: zelo/" in head
    assert ("anthropic-version: 2023-06-01" in head) == (api == "anthropic")
    assert KEY not in caplog.text


def test_bodies_follow_each_api() -> None:
    request = with_output("schema")
    with FaultServer() as server:
        for api in APIS:
            ask(server, api, request)
        openai, anthropic, gemini, compatible = server.bodies
    assert openai["max_completion_tokens"] == compatible["max_tokens"] == anthropic["max_tokens"] == 200
    assert "max_tokens" not in openai
    joined = {"role": "user", "content": "query: q\n\nA: a\nB: b"}
    assert openai["messages"] == [{"role": "system", "content": "Compare."}, joined]
    assert openai["response_format"] == {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
    mark = {"cache_control": {"type": "ephemeral"}}
    assert anthropic["system"] == [{"type": "text", "text": "Compare.", **mark}]
    parts = [{"type": "text", "text": "query: q", **mark}, {"type": "text", "text": "A: a\nB: b"}]
    assert anthropic["messages"] == [{"role": "user", "content": parts}]
    assert anthropic["output_config"] == {"format": {"type": "json_schema", "schema": without_bounds(SCHEMA)}}
    assert gemini["generationConfig"] == {
        "maxOutputTokens": 200,
        "temperature": 0.0,
        "responseMimeType": "application/json",
        "responseJsonSchema": SCHEMA,
    }
    assert gemini["systemInstruction"] == {"parts": [{"text": "Compare."}]}
    assert gemini["contents"] == [{"role": "user", "parts": [{"text": "query: q"}, {"text": "A: a\nB: b"}]}]
    assert KEY not in json.dumps([openai, anthropic, gemini, compatible])


def test_temperature_none_is_left_to_the_server() -> None:
    with FaultServer() as server:
        for api in APIS:
            ask(server, api, Request(ASK.messages, 10, temperature=None))
        assert all("temperature" not in json.dumps(body) for body in server.bodies)


def test_json_mode() -> None:
    with FaultServer() as server:
        ask(server, "openai", with_output("json"))
        ask(server, "gemini", with_output("json"))
        assert server.bodies[0]["response_format"] == {"type": "json_object"}
        assert server.bodies[1]["generationConfig"]["responseMimeType"] == "application/json"
        with pytest.raises(UnsupportedOutput, match="no JSON mode"):
            ask(server, "anthropic", with_output("json"))
        assert server.total == 2  # known without asking


@pytest.mark.parametrize("api", ["openai", "gemini"])
def test_logprobs_of_the_first_token(api: str) -> None:
    with FaultServer(logprobs=lambda call: {"A": -0.2, "B": -1.9, "\ud800": -4.0, "A ": -9.0}) as server:
        reply = ask(server, api, Request(ASK.messages, 1, top_logprobs=20))
    assert reply.top_logprobs == {"A": -0.2, "B": -1.9, "?": -4.0, "A ": -9.0}


def test_azure_addresses() -> None:
    old = parse_name("https://res.openai.azure.com/openai/deployments/judge?api-version=2024-10-21#judge")
    new = parse_name("https://res.openai.azure.com/openai/v1#judge")
    assert (old.provider, new.provider, old.key) == ("azure", "azure", "AZURE_OPENAI_API_KEY")
    model = open_model("https://res.openai.azure.com/openai/deployments/judge?api-version=2024-10-21#judge")
    assert model.url == "https://res.openai.azure.com/openai/deployments/judge/chat/completions?api-version=2024-10-21"  # type: ignore[attr-defined]
    assert model.transport.headers == {"api-key": KEY}  # type: ignore[attr-defined]


# finishes


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("finish", ["length", "refusal", "filter"])
def test_what_is_no_whole_answer_is_said(api: str, finish: str) -> None:
    with FaultServer(script=[finish]) as server:
        reply = ask(server, api)
    expected = {("gemini", "refusal"): "filter", ("anthropic", "filter"): "refusal"}.get((api, finish), finish)
    assert reply.finish == expected
    assert reply.input_tokens > 0
    if finish == "refusal" and api in ("openai", "compatible"):
        assert reply.text == "I cannot help with that."


def test_azures_filter_of_the_prompt_is_an_answer_about_the_texts() -> None:
    error = {"error": {"message": "The response was filtered", "type": None, "param": "prompt", "code": "content_filter", "status": 400}}
    with FaultServer(check=lambda body: (400, error)) as server:
        assert ask(server).finish == "filter"


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", ["wrong-schema", "no-json"])
def test_what_the_model_says_is_not_this_layers_concern(api: str, fault: str) -> None:
    with FaultServer(script=[fault]) as server:
        assert "score" not in ask(server, api).text


# failures


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("fault", "limited"),
    [("429", True), ("429-after", True), ("529", True), ("500", False), ("503", False), ("408", False), ("409", False), ("425", False)]
    + [(kind, False) for kind in ("cut", "utf8", "empty", "disconnect", "close", "huge")],
)  # fmt: skip
def test_what_may_be_repeated(api: str, fault: str, limited: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer(script=[fault]) as server:
        with pytest.raises(RetryError) as caught:
            ask(server, api)
        assert caught.value.limited == limited
        assert caught.value.after == (0.05 if fault == "429-after" else None)
        assert ask(server, api).finish == "stop"  # the next one works


@pytest.mark.parametrize("api", APIS)
def test_a_server_that_hangs(api: str) -> None:
    with FaultServer(script=["hang"], hang=20) as server:
        start = time.monotonic()
        with pytest.raises(RetryError, match=r"no whole reply in 0\.2 s"):
            ask(server, api, timeout=0.2)
        assert time.monotonic() - start < 5


def test_what_takes_too_long_is_ended_and_nothing_else() -> None:
    ended: dict[str, str] = {}

    async def call(deadlines: Deadlines, name: str, seconds: float) -> None:
        try:
            with deadlines:
                await asyncio.sleep(seconds)
            ended[name] = "in time"
        except TimeoutError:
            ended[name] = "too late"
            await asyncio.sleep(0)  # it can go on: nothing of the cancellation is left
        except asyncio.CancelledError:
            ended[name] = "canceled"
            raise

    async def main() -> None:
        deadlines = Deadlines(0.2)
        slow, canceled = (asyncio.create_task(call(deadlines, name, 60.0)) for name in ("slow", "canceled"))
        await asyncio.sleep(0.1)
        later = asyncio.create_task(call(deadlines, "later", 0.15))  # due after the timer's first look
        canceled.cancel()
        await asyncio.gather(slow, canceled, later, return_exceptions=True)
        again = asyncio.create_task(call(deadlines, "again", 60.0))  # the timer had run out
        await again
        both = asyncio.create_task(call(deadlines, "both", 60.0))
        await asyncio.sleep(0.01)
        time.sleep(0.25)  # both come in one turn of the loop
        deadlines._end()
        both.cancel()
        with pytest.raises(asyncio.CancelledError):
            await both

    asyncio.run(main())
    assert ended == {"slow": "too late", "canceled": "canceled", "later": "in time", "again": "too late", "both": "canceled"}


def test_a_server_that_is_not_there() -> None:
    with FaultServer() as server:
        url = server.url
    with pytest.raises(RetryError, match="Connect"):
        asyncio.run(open_model(f"{url}#m").complete(ASK))


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("status", ["401", "402", "403", "404", "405", "410", "501"])
def test_what_stops_the_run(api: str, status: str) -> None:
    with FaultServer(script=[status]) as server, pytest.raises(JudgeError, match=status):
        ask(server, api)


@pytest.mark.parametrize("status", [400, 413, 414, 422])
def test_what_concerns_one_request(status: int) -> None:
    error = {
        "error": {"message": "This model's maximum context length is 8192 tokens, you asked for 9001", "type": "invalid_request_error"}
    }
    with FaultServer(check=lambda body: (status, error)) as server:
        with pytest.raises(BadRequest, match="maximum context length") as caught:
            ask(server)
        assert not isinstance(caught.value, UnsupportedOutput)
        assert server.total == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (429, {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}),
        (400, {"type": "invalid_request_error", "message": "Your credit balance is too low to access the API."}),
        (400, {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"}),
    ],
)
def test_money_and_keys_in_other_dress(status: int, words: Mapping[str, Any]) -> None:
    with FaultServer(check=lambda body: (status, {"error": words})) as server, pytest.raises(JudgeError):
        ask(server)


def test_an_error_in_the_dress_of_a_reply() -> None:
    with pytest.raises(RetryError, match="Provider returned error"):
        read_completion({"error": {"code": 502, "message": "Provider returned error"}}, 0, "m")
    with pytest.raises(JudgeError, match="credits"):
        read_completion({"error": {"code": 402, "message": "Insufficient credits"}}, 0, "m")
    with pytest.raises(RetryError, match="gave up"):
        read_completion({"choices": [{"message": {"content": "x"}, "finish_reason": "error"}]}, 0, "m")


# keys and addresses


@pytest.mark.parametrize("api", APIS)
def test_a_key_that_the_server_echoes_is_struck_out(api: str) -> None:
    with FaultServer(script=["echo-key"]) as server:
        with pytest.raises(JudgeError, match="Incorrect API key provided") as caught:
            ask(server, api)
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + str(vars(caught.value))
    assert not any(KEY[i : i + 6] in shown for i in range(len(KEY) - 5))


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="abcdef0-", min_size=8, max_size=30), st.text(alphabet="abcdef0- ", max_size=40), st.data())
def test_no_part_of_a_key_survives(key: str, text: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(text)))
    shown = scrub(text[:cut] + key + text[cut:], (key,))
    assert not any(key[i : i + 6] in shown for i in range(len(key) - 5))


@pytest.mark.parametrize("shown", ["sk-p****wxyz", "sk-proj...xyz", "key ***wxyz.", "sk-\u20269-wxyz"])
def test_the_ends_of_a_shortened_key_are_struck_out(shown: str) -> None:
    found = scrub(f"Incorrect API key: {shown}", ("sk-proj-0123456789-wxyz",))
    assert found.startswith("Incorrect API key: ")
    assert not any(part in found for part in ("xyz", "sk-"))
    assert scrub("the wxyz of it", ("sk-proj-0123456789-wxyz",)) == "the wxyz of it"


def test_nothing_shows_a_key() -> None:
    for name in ("openai:m", "anthropic:m", "gemini:m", "openrouter:m", "https://host/v1#m"):
        model = open_model(name)
        assert KEY not in repr(model) + repr(vars(model)) + str(model)
        assert model.name == name


def test_redirects_do_not_carry_the_key_away() -> None:
    with FaultServer() as thief, FaultServer(script=["redirect"], elsewhere=thief.url + "/chat/completions") as server:
        with pytest.raises(JudgeError, match="sends elsewhere"):
            ask(server)
        assert thief.heads == []


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("openai:m", "OPENAI_API_KEY"),
        ("anthropic:m", "ANTHROPIC_API_KEY"),
        ("gemini:m", "GEMINI_API_KEY"),
        ("openrouter:m", "OPENROUTER_API_KEY"),
        ("https://r.openai.azure.com/openai/v1#m", "AZURE_OPENAI_API_KEY"),
    ],
)
def test_a_missing_key_is_named(name: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parse_name(name)  # needs none
    for value in (None, "", "  "):
        monkeypatch.setenv(variable, value) if value is not None else monkeypatch.delenv(variable)
        with pytest.raises(JudgeError, match=f"{variable} is not set"):
            open_model(name)
    monkeypatch.setenv(variable, "line\nbreak")
    with pytest.raises(JudgeError, match="characters that no key has") as caught:
        open_model(name)
    assert "break" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("http://10.0.0.5:8000/v1#m", "encryption"),
        ("http://localhost.example.com/v1#m", "encryption"),
        ("https://user:secret@host/v1#m", "a key in an address"),
        ("https://host/v1?key=abc#m", "a key in an address"),
        ("https://host/v1", "names no model"),
        ("openai:", "names no model"),
        ("https:///v1#m", "no address"),
        ("mistral:m", "no language model"),
        ("gpt-5", "no language model"),
    ],
)
def test_names_that_are_refused(name: str, fault: str) -> None:
    with pytest.raises(RecipeError, match=fault) as caught:
        parse_name(name)
    assert "secret" not in str(caught.value)


def test_names_that_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http://localhost:8080/v1#a/b:c", "http://127.0.0.1/v1#m", "http://[::1]:80/v1#m", "https://api.example.com/v1#m"):
        assert is_model_name(name)
        assert parse_name(name).model in ("a/b:c", "m")
    assert parse_name("openrouter:meta/llama:free").model == "meta/llama:free"
    assert not is_model_name("lexical")
    monkeypatch.setenv("ZELO_ALLOW_HTTP", "1")
    assert parse_name("http://10.0.0.5:8000/v1#m").base == "http://10.0.0.5:8000/v1"
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://gateway.example.com/v1/")
    assert parse_name("anthropic:m").base == "https://gateway.example.com/v1"


def test_local_servers_need_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZELO_API_KEY")
    with FaultServer() as server:
        ask(server, "compatible")
        assert b"authorization" not in server.heads[0].lower()


def test_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer() as proxy:
        monkeypatch.setenv("http_proxy", proxy.root)
        monkeypatch.setenv("no_proxy", "inside.example.com,localhost")
        assert transport.proxy_of("http://outside.example.com/v1") == proxy.root
        assert transport.proxy_of("https://outside.example.com/v1") is None
        assert transport.proxy_of("http://inside.example.com/v1") is None
        monkeypatch.setenv("ZELO_ALLOW_HTTP", "1")
        assert transport.proxy_of("http://127.0.0.1:8080/v1") is None  # a proxy's own 127.0.0.1 is another machine
        assert asyncio.run(complete_and_close("http://outside.example.com/v1#m")).finish == "stop"
        assert b"POST http://outside.example.com/v1/chat/completions" in proxy.heads[0]


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = subprocess.run(
        [sys.executable, "-c", "import zelo.language_models.names, sys; print('aiohttp' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout.strip() == "False"
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(MissingExtraError, match=r"zelo\[llm\]"):
        asyncio.run(open_model("openai:m").complete(ASK))


def test_a_proxys_password_is_struck_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer(check=lambda body: (403, {"error": "wrong password hunter2-hunter2 for proxy"})) as proxy:
        monkeypatch.setenv("http_proxy", proxy.root.replace("//", "//me:hunter2-hunter2@"))
        monkeypatch.setenv("ZELO_ALLOW_HTTP", "1")
        with pytest.raises(JudgeError, match=r"wrong password \*\*\* for proxy"):
            asyncio.run(complete_and_close("http://outside.example.com/v1#m"))


async def complete_and_close(name: str) -> Reply:
    model = open_model(name, timeout=5)
    try:
        return await model.complete(ASK)
    finally:
        await model.close()


# learning what a server understands


@pytest.mark.parametrize(
    ("api", "rules"),
    [
        ("compatible", [OLD_LIMIT, NO_TEMPERATURE]),
        ("openai", [NEW_LIMIT]),
        ("openai", [NO_TEMPERATURE, NO_BOUNDS]),
        ("compatible", [NO_SYSTEM, NO_BOUNDS, OLD_LIMIT, NO_TEMPERATURE]),
        ("anthropic", [CLAUDE_TEMPERATURE]),
        ("anthropic", [NO_FORMAT, CLAUDE_TEMPERATURE]),
    ],
)
def test_a_parameter_that_is_refused_is_learned_once(api: str, rules: list[Any]) -> None:
    with FaultServer(check=refusing(*rules)) as server:
        reply = ask(server, api, with_output("schema"), times=3)
        assert json.loads(reply.text)["score"] == 0.5
        assert server.total == len(rules) + 3
        assert set(server.met) == {""}


def test_many_calls_at_once_learn_together() -> None:
    async def go(server: FaultServer) -> None:
        model = model_at("compatible", server)
        replies = await asyncio.gather(*(model.complete(with_output("schema")) for _ in range(20)))
        assert {r.finish for r in replies} == {"stop"}
        await model.close()

    with FaultServer(check=refusing(OLD_LIMIT, NO_TEMPERATURE, NO_BOUNDS), latency=0.01) as server:
        asyncio.run(go(server))
        assert server.total <= 20 * 4


def test_a_limit_that_is_too_high_is_not_another_parameter() -> None:
    words = "max_tokens is too large: 200. This model supports at most 100 completion tokens"
    with FaultServer(check=refusing((lambda b: True, words))) as server:
        with pytest.raises(BadRequest, match="too large"):
            ask(server, "compatible")
        assert server.total <= 2


@pytest.mark.parametrize(
    ("api", "words"),
    [
        ("compatible", "This response_format type is unavailable now"),
        ("openai", "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."),
        ("gemini", 'Unknown name "responseJsonSchema": Cannot find field.'),
        ("anthropic", "'m' does not support output format / json_schema"),
    ],
)
def test_no_schemas_at_all(api: str, words: str) -> None:
    with FaultServer(check=refusing((lambda b: "chema" in json.dumps(b), words))) as server:
        with pytest.raises(UnsupportedOutput, match="no JSON schemas"):
            ask(server, api, with_output("schema"))
        assert server.total <= 3
        assert ask(server, api).finish == "stop"


def test_gemini_falls_back_to_the_older_schema() -> None:
    old = (
        lambda b: "responseJsonSchema" in b["generationConfig"],
        'Unknown name "responseJsonSchema" at generation_config: Cannot find field.',
    )
    with FaultServer(check=refusing(old)) as server:
        ask(server, "gemini", with_output("schema"), times=2)
        assert server.total == 4
        sent = server.bodies[-1]["generationConfig"]["responseSchema"]
        assert sent["properties"]["score"] == {"type": "number"}
        assert "additionalProperties" not in sent


def test_no_json_mode_at_all() -> None:
    with (
        FaultServer(check=refusing((lambda b: "response_format" in b, "response_format is not supported"))) as server,
        pytest.raises(UnsupportedOutput),
    ):
        ask(server, "compatible", with_output("json"))


@pytest.mark.parametrize(
    "words", ["Requested sample logprobs of 50, which is greater than max allowed: 20", "top_logprobs must be less than or equal to 20"]
)
def test_fewer_logprobs_when_the_server_says_how_many(words: str) -> None:
    def check(body: Mapping[str, Any]) -> tuple[int, Any] | None:
        return (400, {"error": {"message": words}}) if body["top_logprobs"] > 20 else None

    with FaultServer(check=check, logprobs=lambda call: {"A": -0.1, "B": -3.0}) as server:
        reply = ask(server, "compatible", Request(ASK.messages, 1, top_logprobs=50), times=2)
        assert reply.top_logprobs == {"A": -0.1, "B": -3.0}
        assert [body["top_logprobs"] for body in server.bodies] == [50, 20, 20]


def test_no_logprobs_at_all() -> None:
    with FaultServer(check=refusing((lambda b: "logprobs" in b, "logprobs are not supported with reasoning models like o3"))) as server:
        with pytest.raises(UnsupportedOutput, match="no log probabilities"):
            ask(server, "openai", Request(ASK.messages, 1, top_logprobs=20))
        with pytest.raises(UnsupportedOutput, match="no log probabilities"):
            ask(server, "anthropic", Request(ASK.messages, 1, top_logprobs=20))


# small parts


NOW = datetime.datetime.now(datetime.UTC)


def at(seconds: float) -> str:
    return email.utils.format_datetime(NOW + datetime.timedelta(seconds=seconds), usegmt=True)


REQUESTS, TOKENS = "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"
LEFT_REQUESTS, LEFT_TOKENS = "x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens"
CLAUDE = "anthropic-ratelimit-requests-"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": at(900)}, 900),
        ({"retry-after": at(-90)}, 0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({REQUESTS: "1s", TOKENS: "6m0s"}, 360),
        ({REQUESTS: "120ms", LEFT_REQUESTS: "0", TOKENS: "9s", LEFT_TOKENS: "5"}, 0.12),
        ({CLAUDE + "reset": (NOW + datetime.timedelta(seconds=400)).isoformat(), CLAUDE + "remaining": "0"}, 400),
        ({"x-ratelimit-reset": str(int((NOW.timestamp() + 800) * 1000))}, 800),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: Mapping[str, str], seconds: float | None) -> None:
    found = retry_after(headers)
    if seconds is None:
        assert found is None
    else:  # moments are counted from when this file was read
        since = (datetime.datetime.now(datetime.UTC) - NOW).total_seconds() if seconds >= 400 else 0.0
        assert found == pytest.approx(seconds - since, abs=1.5 if seconds >= 400 else 0.01)


def test_the_delay_in_a_gemini_error() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}]
    error = {"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": details}}
    with FaultServer(check=lambda body: (429, error)) as server, pytest.raises(RetryError) as caught:
        ask(server, "gemini")
    assert caught.value.after == pytest.approx(34.07)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-reset-tokens"]), st.text(max_size=20)
    )
)
def test_waiting_times_of_hostile_servers_are_numbers(headers: dict[str, str]) -> None:
    found = retry_after(headers)
    assert found is None or 0 <= found < float("inf")


WORDS = "choices message content error usage code logprobs top_logprobs candidates parts text type usageMetadata finishReason"
WORDS += " promptTokenCount prompt_tokens delta tool_use input stop_reason"
JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS.split()), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=250, deadline=None)
@given(st.dictionaries(st.sampled_from(["choices", "error", "usage", "content", "candidates", "usageMetadata", "promptFeedback"]), JUNK))
def test_replies_of_any_shape_are_read_or_refused(body: dict[str, Any]) -> None:
    for name in ("openai:m", "anthropic:m", "gemini:m"):
        model: Any = open_model(name)
        try:
            reply = model.read(body)
        except ZeloError:
            continue
        assert isinstance(reply.text, str)
        assert reply.input_tokens >= 0
        assert 0 <= reply.cached_tokens <= max(reply.input_tokens, 0)


def test_usage_in_its_dialects() -> None:
    def usage(**counts: Any) -> tuple[int, int, int]:
        reply = read_completion({"choices": [{"message": {"content": "x"}}], "usage": counts}, 0, "m")
        return reply.input_tokens, reply.cached_tokens, reply.output_tokens

    assert usage(prompt_tokens=100, completion_tokens=7, total_tokens=107, prompt_tokens_details={"cached_tokens": 64}) == (100, 64, 7)
    assert usage(prompt_tokens=100, completion_tokens=7, total_tokens=150) == (100, 0, 50)  # hidden thoughts only in the total
    assert usage(prompt_tokens=100, completion_tokens=7, prompt_cache_hit_tokens=30) == (100, 30, 7)
    assert usage() == (0, 0, 0)
    model: Any = open_model("anthropic:m")
    counts = {"input_tokens": 10, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 80, "output_tokens": 3}
    reply = model.read({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "x"}], "usage": counts})
    assert (reply.text, reply.input_tokens, reply.cached_tokens, reply.output_tokens) == ("x", 95, 80, 3)


def test_texts_that_utf8_cannot_hold() -> None:
    with FaultServer(answer=lambda call: "lone \ud800 surrogate") as server:
        reply = ask(server, request=Request((("user", "also \udfff here"),), 10))
        assert reply.text == "lone ? surrogate"
        assert server.bodies[0]["messages"][0]["content"] == "also ? here"


def test_messages_of_one_role_are_joined() -> None:
    given_ = (("system", "a"), ("user", "b"), ("user", "c"))
    assert merged(given_) == [("system", "a"), ("user", "b\n\nc")]
    assert merged(given_, system=False) == [("user", "a\n\nb\n\nc")]


def test_of_two_tokens_with_one_text_the_likelier_counts() -> None:
    assert likeliest([("A", -2.0), ("A", -1.0), ("B", 0.0), (None, -1), ("C", float("nan"))]) == {"A": -1.0, "B": 0.0}
    assert likeliest([("A", -1.0), ("A", -2.0)]) == {"A": -1.0}
    assert likeliest([]) is None


def test_schemas_lose_what_servers_refuse_and_nothing_else() -> None:
    nested = {
        "type": "object",
        "properties": {"format": {"type": "string", "format": "date"}, "x": {"anyOf": [{"type": "number", "minimum": 0}]}},
    }
    assert without_bounds(nested) == {"type": "object", "properties": {"format": {"type": "string"}, "x": {"anyOf": [{"type": "number"}]}}}
    assert closed(nested)["additionalProperties"] is False


@contextmanager
def raw_server(respond: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            respond(self)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1#m"
    finally:
        server.shutdown()
        server.server_close()


def packed(body: bytes) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-encoding", "gzip")
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return respond


def test_packed_replies_and_packed_bombs() -> None:
    good = json.dumps({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}).encode()
    with raw_server(packed(gzip.compress(good))) as name:
        assert asyncio.run(complete_and_close(name)).text == "x"
    with raw_server(packed(gzip.compress(b'{"a": "' + b"x" * 2**26))) as name, pytest.raises(RetryError, match="more than"):
        asyncio.run(complete_and_close(name))
    with raw_server(packed(b"not gzip at all")) as name, pytest.raises(RetryError):
        asyncio.run(complete_and_close(name))


def test_a_model_lives_through_several_loops() -> None:
    with FaultServer() as server:
        model = model_at("openai", server)
        for _ in range(2):
            assert asyncio.run(model.complete(ASK)).finish == "stop"


@pytest.mark.parametrize("seed", [0, 1])
def test_a_third_of_faults_and_every_call_ends(seed: int) -> None:
    """Asked again when that may help, all calls end answered, refused or cut short; nothing hangs and nothing is lost."""

    async def go(server: FaultServer) -> list[Reply]:
        model = model_at("compatible", server, timeout=60)

        async def call(number: int) -> Reply:
            request = Request((("user", f"call {number}"),), 50)
            for _ in range(30):
                try:
                    return await model.complete(request)
                except RetryError:
                    await asyncio.sleep(0)
            raise AssertionError("never answered")

        replies = await asyncio.gather(*(call(number) for number in range(200)))
        await model.close()
        return replies

    without_hang = [fault for fault in FAULTS if fault != "hang"]  # a short timeout would also hit answers on a busy machine
    with FaultServer(rate=0.33, seed=seed, faults=without_hang) as server:
        replies = asyncio.run(go(server))
        assert len(replies) == len(server.calls) == 200
        assert server.repeated() == 0
        assert sum(server.met.values()) == server.total > 230
        assert set(server.met) == {"", *without_hang}


def test_the_fault_server_is_deterministic() -> None:
    def met(order: list[int]) -> dict[int, str]:
        server = FaultServer(rate=0.5, seed=3)
        server.total = 1
        return {n: server.fault(f"text {n}", 0) for n in order}

    assert met(list(range(50))) == met(list(range(49, -1, -1)))
    assert 10 < sum(1 for fault in met(list(range(50))).values() if fault) < 40
    assert Call("t", {}, 0).number == 0


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=12,
)


@settings(max_examples=60)
@given(_VALUES, st.dictionaries(st.text(max_size=4), _VALUES, max_size=3))
def test_json_is_written_as_json_writes_it(value: Any, kept: dict[str, Any]) -> None:
    kept_part = Fixed(kept)
    for _ in range(2):  # the second time it is not written anew
        written = compact({"value": value, "list": [kept_part, {"in": kept_part}]})
        usual = json.dumps({"value": value, "list": [kept, {"in": kept}]}, ensure_ascii=False, separators=(",", ":"))
        assert written == usual.encode("utf-8", "replace")


@pytest.mark.parametrize("api", APIS)
def test_parts_that_are_written_once_follow_schema_and_dialect(api: str) -> None:
    asked: list[Any] = []

    def check(body: Mapping[str, Any]) -> tuple[int, Any] | None:
        asked.append(body)
        return None

    schemas = [{"type": "object", "properties": {"x": {"type": "string", "maxLength": n}}, "required": ["x"]} for n in (7, 8)]
    with FaultServer(check=check) as server:
        model: Any = model_at(api, server)

        async def ask() -> None:
            for turn in range(4):
                messages: tuple[tuple[Role, str], ...] = (("system", f"s{turn % 2}"), ("user", f"u{turn}"))
                await model.complete(Request(messages, 10, 0.0, schemas[turn // 2], "schema"))
            model.dialect = replace(model.dialect, bounds=False, temperature=False)
            await model.complete(Request((("system", "s0"), ("user", "last")), 10, 0.0, schemas[0], "schema"))
            await model.close()

        asyncio.run(ask())
    texts = [json.dumps(body) for body in asked]
    assert [[f"s{n}" in text for n in (0, 1)] for text in texts] == [[True, False], [False, True]] * 2 + [[True, False]]
    assert all(f'"u{n}"' in text for n, text in enumerate(texts[:4]))
    bounds = [[f'"maxLength": {n}' in text for n in (7, 8)] for text in texts]
    assert bounds == ([[False, False]] * 5 if api == "anthropic" else [[True, False]] * 2 + [[False, True]] * 2 + [[False, False]])
