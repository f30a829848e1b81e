"""The batch APIs of OpenAI and Anthropic over real loopback HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fault_server import FaultServer
from zelo.errors import InputError, JudgeError, RecipeError, RetryError
from zelo.language_models.batch import BatchLimits, outcome, split_requests
from zelo.language_models.batch_anthropic import LIMITS as ANTHROPIC
from zelo.language_models.batch_openai import LIMITS as OPENAI
from zelo.language_models.failures import Refusal
from zelo.language_models.names import open_batches
from zelo.language_models.protocol import BadRequest, BatchModel, BatchState, Reply, Request, UnsupportedOutput

KEY = "sk-ant-batch-5f9GQ2wPzL0t"
APIS = ("openai", "anthropic")


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY", "ZELO_API_KEY"):
        monkeypatch.setenv(variable, KEY)


def asked(n: int) -> dict[str, Request]:
    return {f"pair-{i}": Request((("system", "Compare."), ("user", f"question {i}: é \U0001f600")), 50) for i in range(n)}


def opened(api: str, server: FaultServer) -> Any:
    return open_batches(f"{api}:m", timeout=30, base=server.url)


async def read(model: BatchModel, batch_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async for custom_id, result in model.results(batch_id):
        assert custom_id not in found
        found[custom_id] = result
    return found


def run(api: str, server: FaultServer, requests: Mapping[str, Request]) -> tuple[dict[str, Any], BatchState]:
    async def go() -> tuple[dict[str, Any], BatchState]:
        model = opened(api, server)
        assert isinstance(model, BatchModel)
        try:
            batch_id = await model.submit(requests)
            state = await model.poll(batch_id)
            while not state.done:
                state = await model.poll(batch_id)
            return await read(model, batch_id), state
        finally:
            await model.close()

    return asyncio.run(go())


@pytest.mark.parametrize("api", APIS)
def test_a_batch_is_answered(api: str) -> None:
    with FaultServer(polls=3, answer=lambda call: f"about {call.text[-14:]}") as server:
        results, state = run(api, server, asked(40))
        assert state == BatchState("completed" if api == "openai" else "ended", True, 40, 40)
        assert len(results) == 40
        for custom_id, reply in results.items():
            assert f"question {custom_id.removeprefix('pair-')}"[-10:].split()[-1] in reply.text
            assert (reply.finish, reply.seconds) == ("stop", 0.0)
            assert reply.output_tokens > 0
        assert len(server.calls) == 40
        assert KEY not in json.dumps(next(iter(server.batches.values()))["rows"])


@pytest.mark.parametrize("api", APIS)
def test_the_id_is_known_before_anything_is_asked_about(api: str) -> None:
    """Whoever is killed after `submit` can go on: another process polls the id, and nothing is sent again."""

    async def first(server: FaultServer) -> str:
        model = opened(api, server)
        batch_id: str = await model.submit(asked(5))
        await model.close()
        return batch_id

    async def second(server: FaultServer, batch_id: str) -> dict[str, Any]:
        model = opened(api, server)
        assert not (await model.poll(batch_id)).done
        assert (await model.poll(batch_id)).done
        found = await read(model, batch_id)
        assert await read(model, batch_id) == found  # may be read again
        await model.close()
        return found

    with FaultServer(polls=2) as server:
        batch_id = asyncio.run(first(server))
        assert not any(b"GET" in head for head in server.heads)
        assert len(asyncio.run(second(server, batch_id))) == 5
        assert set(server.calls.values()) == {1}


@pytest.mark.parametrize("api", APIS)
def test_what_went_wrong_is_told_request_by_request(api: str) -> None:
    shares = {"expired": 0.2, "canceled": 0.1, "error": 0.2, "overloaded": 0.1, "duplicate": 0.2}
    with FaultServer(batch_faults=shares, seed=4) as server:
        results, _ = run(api, server, asked(200))
        met = {server._batch_fault(text, 0): 0 for text in server.calls}
        expected = {f"pair-{i}": server._batch_fault(f"Compare.\n\nquestion {i}: é \U0001f600", 0) for i in range(200)}
    assert set(met) == {"", *shares}
    assert results.keys() == expected.keys()
    for custom_id, fault in expected.items():
        if fault in ("", "duplicate"):
            assert isinstance(results[custom_id], Reply)
        elif fault == "error":
            assert isinstance(results[custom_id], BadRequest)
        else:
            assert results[custom_id] is None, fault


def test_openai_may_leave_requests_out() -> None:
    with FaultServer(batch_faults={"left-out": 0.3}, seed=1) as server:
        results, _ = run("openai", server, asked(50))
    assert 20 < len(results) < 50
    assert all(isinstance(result, Reply) for result in results.values())


def test_a_batch_that_expires_halfway_keeps_what_was_answered() -> None:
    with FaultServer(batch_faults={"expired": 0.5}, batch_status="expired") as server:
        results, state = run("openai", server, asked(50))
    assert (state.status, state.done) == ("expired", True)
    assert 10 < sum(isinstance(result, Reply) for result in results.values()) < 40
    assert sum(result is None for result in results.values()) == 50 - sum(isinstance(result, Reply) for result in results.values())


def test_a_batch_that_the_provider_rejects() -> None:
    with FaultServer(batch_status="failed") as server, pytest.raises(JudgeError, match="line 1 is not JSON"):
        run("openai", server, asked(3))


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("status", "error"), [("401", JudgeError), ("400", BadRequest), ("429", RetryError), ("500", RetryError), ("413", BadRequest)]
)
def test_submitting_fails_as_asking_does(api: str, status: str, error: type[Exception]) -> None:
    with FaultServer(script=[status, status]) as server, pytest.raises(error, match=status):
        run(api, server, asked(2))


@pytest.mark.parametrize("fault", ["close", "disconnect"])
def test_a_batch_whose_creation_was_not_heard_is_not_paid_twice(fault: str) -> None:
    with FaultServer(script=[fault]) as server:
        results, _ = run("openai", server, asked(6))
        assert len(server.batches) == 1
        assert len(results) == 6


@pytest.mark.parametrize("api", APIS)
def test_results_that_are_cut_are_asked_for_again(api: str) -> None:
    async def go(server: FaultServer, damage: Any) -> None:
        model = opened(api, server)
        batch_id = await model.submit(asked(10))
        await model.poll(batch_id)
        if api == "openai":
            server.files[f"{batch_id}-lines"] = damage(server.files[f"{batch_id}-lines"])
        else:
            server.batches[batch_id]["lines"] = [damage(b"".join(server.batches[batch_id]["lines"]))]
        try:
            with pytest.raises(RetryError):
                await read(model, batch_id)
        finally:
            await model.close()

    for damage in (lambda text: text[:-40], lambda text: b"".join(text.splitlines(keepends=True)[:7]), lambda text: b""):
        with FaultServer() as server:
            asyncio.run(go(server, damage))


@pytest.mark.parametrize("api", APIS)
def test_results_are_read_when_they_are_there(api: str) -> None:
    async def go(server: FaultServer) -> None:
        model = opened(api, server)
        batch_id = await model.submit(asked(3))
        if api == "anthropic":
            with pytest.raises(RetryError, match="not done"):
                await read(model, batch_id)
        with pytest.raises(BadRequest, match="404"):
            await model.poll("batch_of/another?account")
        await model.close()

    with FaultServer(polls=5) as server:
        asyncio.run(go(server))


@pytest.mark.parametrize("api", APIS)
def test_what_is_too_much_is_refused_before_it_is_sent(api: str) -> None:
    async def go(server: FaultServer) -> None:
        model = opened(api, server)
        for limits, requests in (
            (BatchLimits(3, 10**9), asked(4)),
            (BatchLimits(10, 600), asked(4)),
            (BatchLimits(10, 10**9), {}),
            (BatchLimits(10, 10**9), {"x" * 65: asked(1)["pair-0"]}),
            (BatchLimits(10, 10**9), {"a b": asked(1)["pair-0"]}),
        ):
            model.limits = limits
            with pytest.raises(BadRequest):
                await model.submit(requests)
        await model.close()

    with FaultServer() as server:
        asyncio.run(go(server))
        assert server.heads == []


@pytest.mark.parametrize("api", APIS)
def test_what_split_requests_makes_is_taken(api: str) -> None:
    async def go(server: FaultServer) -> list[int]:
        model = opened(api, server)
        model.limits = BatchLimits(7, 2000)
        parts = list(split_requests(asked(30).items(), model.size, model.limits))
        for part in parts:
            await model.submit(part)
        await model.close()
        return [len(part) for part in parts]

    with FaultServer() as server:
        sizes = asyncio.run(go(server))
        assert sum(sizes) == len(server.calls) == 30
        assert max(sizes) <= 7


def test_the_documented_limits() -> None:
    assert (BatchLimits(50_000, 200_000_000), BatchLimits(100_000, 256_000_000)) == (OPENAI, ANTHROPIC)
    request = Request((("user", "x"),), 1)
    parts = list(split_requests(((str(i), request) for i in range(120_000)), lambda i, r: 6000, OPENAI))
    assert [len(part) for part in parts] == [33_333, 33_333, 33_333, 20_001]  # 200 MB are reached first
    parts = list(split_requests(((str(i), request) for i in range(120_000)), lambda i, r: 600, OPENAI))
    assert [len(part) for part in parts] == [50_000, 50_000, 20_000]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 9), st.integers(50, 120))
def test_splitting_keeps_order_and_limits(sizes: list[int], most: int, space: int) -> None:
    requests = [(f"{i}", Request((("user", "x" * size),), 1)) for i, size in enumerate(sizes)]
    parts = list(split_requests(requests, lambda _, r: len(r.messages[0][1]), BatchLimits(most, space)))
    assert [item for part in parts for item in part.items()] == requests
    for part, after in zip(parts, [*parts[1:], None], strict=True):
        filled = sum(len(r.messages[0][1]) for r in part.values())
        assert 0 < len(part) <= most
        assert filled <= space
        if after:  # no part is closed early
            assert len(part) == most or filled + len(next(iter(after.values())).messages[0][1]) > space


def test_splitting_refuses_what_cannot_be_sent() -> None:
    request = Request((("user", "x"),), 1)
    with pytest.raises(BadRequest, match="more than a batch may have"):
        list(split_requests([("a", request)], lambda i, r: 101, BatchLimits(5, 100)))
    with pytest.raises(InputError, match="twice"):
        list(split_requests([("a", request), ("a", request)], lambda i, r: 1, BatchLimits(5, 100)))


def test_outcomes_within_a_batch() -> None:
    assert outcome(Refusal(429, "slow down", "", None), "m") is None
    assert outcome(Refusal(500, "oops", "", None), "m") is None
    assert isinstance(outcome(Refusal(404, "no model", "", None), "m"), BadRequest)  # told, not raised: the others are paid for
    assert isinstance(outcome(Refusal(400, "'response_format' is not supported", "", None), "m"), UnsupportedOutput)


def test_providers_without_batches() -> None:
    for name in ("gemini:m", "openrouter:m"):
        with pytest.raises(RecipeError, match="no batch API"):
            open_batches(name)
    assert KEY not in repr(open_batches("openai:m")) + repr(open_batches("anthropic:m"))


def test_azure_and_others_name_their_own_target() -> None:
    batches: Any = open_batches("https://host.example.com/openai/v1#m")
    assert json.loads(batches.line("a", asked(1)["pair-0"]))["url"] == "/v1/chat/completions"
