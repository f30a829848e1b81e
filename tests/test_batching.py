"""Requests to batches: who waits for whom, what is given up, and that nothing changes the scores."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving import Overlap, overlap
from zelo.serve.batching import CHARS_PER_TOKEN, Batcher, Overloaded, Pace, ScoringFailed, TooLate


def run(reranker: Any, work: Callable[[Batcher], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        batcher = Batcher(reranker, **options)
        batcher.start()
        try:
            return await work(batcher)
        finally:
            await batcher.close()
            assert batcher.waiting == 0
            assert batcher.waiting_tokens == 0

    return asyncio.run(main())


@settings(max_examples=50)
@given(st.integers(0, 40), st.integers(1, 60))
def test_small_batches_do_not_make_large_requests_look_slow(small: int, tokens: int) -> None:
    """A batch takes 20 ms whatever it holds, and .1 ms per token."""
    pace = Pace(4096)
    for n in [4096] + [tokens] * small:
        pace.add(0.02 + 1e-4 * n, n)
    assert pace.seconds_per_token < 1e-4
    for _ in range(4):
        pace.add(0.02 + 1e-4 * 4096, 4096)
    assert 0.7e-4 < pace.seconds_per_token < 1.1e-4


class Held(Overlap):
    """Does not finish its first batch before it is let go."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.go, self.busy = threading.Event(), threading.Event()

    def score(self, query: str, documents: Sequence[str]) -> NDArray[np.float64]:
        self.busy.set()
        assert self.go.wait(20)
        return super().score(query, documents)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("never")


class Prepared(Overlap):
    """Has to see every text of a request before it scores the request as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.prepared: list[int] = []

    def prepare(self, texts: Sequence[str]) -> None:
        self.prepared.append(len(texts))
        self.seen |= set(texts)

    def score(self, query: str, documents: Sequence[str]) -> NDArray[np.float64]:
        assert {query, *documents} <= self.seen
        return super().score(query, documents)


class Many(Overlap):
    """Scores several requests in one call."""

    def score_many(self, requests: Sequence[tuple[str, Sequence[str]]]) -> list[NDArray[np.float64]]:
        self.threads.add(threading.get_ident())
        return [overlap(query, documents) for query, documents in requests]


REQUESTS = st.lists(
    st.tuples(st.text("ab ", min_size=1, max_size=9), st.lists(st.text("ab ", max_size=60), max_size=12)), min_size=1, max_size=12
)


@settings(max_examples=40, deadline=None)
@given(REQUESTS, st.integers(1, 60), st.sampled_from([Overlap, Prepared, Many]))
def test_every_request_gets_its_own_scores(requests: list[tuple[str, list[str]]], batch_tokens: int, kind: type[Overlap]) -> None:
    reranker = kind()

    async def work(batcher: Batcher) -> list[NDArray[np.float64]]:
        return await asyncio.gather(*(batcher.score(q, d, 30) for q, d in requests))

    for (query, documents), found in zip(requests, run(reranker, work, batch_tokens=batch_tokens), strict=True):
        np.testing.assert_array_equal(found, overlap(query, documents))
    assert len(reranker.threads) <= 1
    if isinstance(reranker, Prepared):  # scored whole, each once
        assert sorted(n for _, n in reranker.calls) == sorted(len(d) for _, d in requests if d)


def test_what_comes_during_a_batch_is_the_next_batch() -> None:
    reranker, batches = Held(), []

    async def work(batcher: Batcher) -> None:
        batcher._watch.batch = lambda requests, documents, seconds: batches.append((requests, documents))
        calls = [asyncio.ensure_future(batcher.score("a", ["a b"] * 3, 30))]
        await until(reranker.busy.is_set)
        calls += [asyncio.ensure_future(batcher.score("a", ["a b"] * 3, 30)) for _ in range(9)]
        await until(lambda: batcher.waiting == 9)
        reranker.go.set()
        await asyncio.gather(*calls)

    run(reranker, work, batch_tokens=1000)
    assert batches == [(1, 3), (9, 27)]


def test_a_long_request_yields_after_its_turn() -> None:
    reranker, done = Held(), []

    async def one(batcher: Batcher, query: str, number: int) -> None:
        await batcher.score(query, ["x" * 10 * CHARS_PER_TOKEN] * number, 30)
        done.append(query)

    async def work(batcher: Batcher) -> None:
        first = asyncio.ensure_future(one(batcher, "long", 100))
        await until(reranker.busy.is_set)
        small = [asyncio.ensure_future(one(batcher, f"small{n}", 2)) for n in range(3)]
        await until(lambda: batcher.waiting == 4)
        reranker.go.set()
        await asyncio.gather(first, *small)

    run(reranker, work, batch_tokens=40)
    assert done[-1] == "long"
    turns = [query for query, _ in reranker.calls]
    assert turns.index("small0") <= 6  # a turn is 4 batches; a request shorter than that is not cut at all
    assert sum(n for query, n in reranker.calls if query == "long") == 100


def test_giving_up_frees_what_is_left() -> None:
    reranker = Held()

    async def work(batcher: Batcher) -> None:
        call = asyncio.ensure_future(batcher.score("long", ["x" * 40] * 500, 30))
        await until(reranker.busy.is_set)
        assert batcher.waiting_tokens > 4000
        call.cancel()
        await asyncio.wait([call])
        assert batcher.waiting == 0
        reranker.go.set()
        await until(lambda: batcher.waiting_tokens == 0)

    run(reranker, work, batch_tokens=40)
    assert sum(n for _, n in reranker.calls) <= 4


def test_deadline() -> None:
    reranker = Held()

    async def work(batcher: Batcher) -> None:
        with pytest.raises(TooLate, match=r"not scored within 0\.05 s"):
            await batcher.score("a", ["a"], 0.05)
        reranker.go.set()
        assert (await batcher.score("a", ["a"], 30)).tolist() == overlap("a", ["a"]).tolist()

    run(reranker, work)


def test_refuses_what_cannot_be_done_in_time() -> None:
    reranker = Overlap(pause=0.01)

    async def work(batcher: Batcher) -> None:
        for _ in range(2):  # now it knows how fast it is
            await batcher.score("a", ["x" * 40] * 10, 30)
        calls = [asyncio.ensure_future(batcher.score("a", ["x" * 40] * 50, 30)) for _ in range(3)]
        await asyncio.sleep(0)
        assert batcher.seconds_left() > 1
        with pytest.raises(Overloaded) as caught:
            await batcher.score("a", ["b"], 0.2)
        assert 1 <= caught.value.after <= 60
        await asyncio.gather(*calls)

    run(reranker, work, batch_tokens=100)


@pytest.mark.parametrize("kind", [Overlap, Prepared])
def test_one_bad_text_harms_its_own_request_only(kind: type[Overlap]) -> None:
    reranker = kind()

    async def work(batcher: Batcher) -> list[Any]:
        texts = [["a", "b"], ["a", "\0"], ["a"], ["b", "a", "c"]]
        return await asyncio.gather(*(batcher.score("a", t, 30) for t in texts), return_exceptions=True)

    good, bad, also, third = run(reranker, work, batch_tokens=1000)
    assert isinstance(bad, ScoringFailed)
    assert "poisoned" not in str(bad)
    assert "poisoned" in str(bad.__cause__)
    for found, texts in ((good, ["a", "b"]), (also, ["a"]), (third, ["b", "a", "c"])):
        np.testing.assert_array_equal(found, overlap("a", texts))


@pytest.mark.parametrize("wrong", [np.array([0.5]), np.array([0.5, np.nan]), np.array([[0.5, 0.5]])])
def test_what_is_not_a_number_per_document_is_an_error(wrong: NDArray[np.float64]) -> None:
    class Wrong:
        def score(self, query: str, documents: Sequence[str]) -> NDArray[np.float64]:
            return wrong

        def prepare(self, texts: Sequence[str]) -> None:
            pass

    async def work(batcher: Batcher) -> None:
        with pytest.raises(ScoringFailed):
            await batcher.score("a", ["a", "b"], 30)

    run(Wrong(), work)


def test_close_scores_what_is_waiting() -> None:
    async def main() -> None:
        batcher = Batcher(Overlap(pause=0.01))
        batcher.start()
        calls = [asyncio.ensure_future(batcher.score("a", ["a", "b"], 30)) for _ in range(5)]
        await asyncio.sleep(0)
        await batcher.close()
        assert [(await call).tolist() for call in calls] == [overlap("a", ["a", "b"]).tolist()] * 5
        assert not batcher.alive
        with pytest.raises(Overloaded):
            await batcher.score("a", ["a"], 30)

    asyncio.run(main())
