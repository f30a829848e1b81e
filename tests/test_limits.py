"""Limits of remote judges: concurrency that adapts, buckets per minute, a budget that is never exceeded, waits with jitter."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.judges.limits import AdaptiveConcurrency, Bucket, Budget, BudgetSpent, backoff


class Time:
    """A clock that moves when everybody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self.numbers = itertools.count()

    async def sleep(self, seconds: float) -> None:
        wake = asyncio.get_running_loop().create_future()
        heapq.heappush(self.sleepers, (self.now + seconds, next(self.numbers), wake))
        await wake

    async def run(self, *work: Awaitable[None]) -> None:
        tasks = [asyncio.ensure_future(w) for w in work]
        while not all(task.done() for task in tasks):
            for _ in range(20):
                await asyncio.sleep(0)
            if self.sleepers:
                self.now, _, wake = heapq.heappop(self.sleepers)
                if not wake.done():
                    wake.set_result(None)
        await asyncio.gather(*tasks)


def serve(capacity: Callable[[int], int], rounds: int, most: int = 64) -> list[int]:
    """Workers call a server that refuses what is above its capacity; returns the limit after each round of calls."""
    clock, concurrency, seen = Time(), AdaptiveConcurrency(most), []
    under_way = served = 0

    async def worker() -> None:
        nonlocal under_way, served
        while served < rounds * 40:
            async with concurrency.slot():
                under_way += 1
                assert under_way <= concurrency.active <= most  # a turn that was just given counts as active
                refused = under_way > capacity(served)
                await clock.sleep(1.0)
                under_way -= 1
                served += 1
                concurrency.limited() if refused else concurrency.succeeded()
                seen.append(concurrency.limit)

    asyncio.run(clock.run(*(worker() for _ in range(most))))
    return seen


@pytest.mark.parametrize("capacity", [3, 10, 40])
def test_concurrency_settles_around_what_the_server_bears(capacity: int) -> None:
    later = serve(lambda served: capacity, 40)[400:]
    assert capacity / 2 - 1 <= np.mean(later) <= capacity + 1
    assert max(later) <= capacity + 2


def test_concurrency_follows_a_server_that_slows_down_and_recovers() -> None:
    limits = serve(lambda served: 5 if 1000 < served < 2500 else 1000, 120)
    assert max(limits[:900]) == 64
    assert np.mean(limits[1400:2400]) <= 6
    assert limits[-1] >= 20  # and comes back


def test_one_overload_counts_once() -> None:
    async def go() -> None:
        concurrency = AdaptiveConcurrency(64, start=32)

        async def call(refused: bool, gate: asyncio.Event) -> None:
            async with concurrency.slot():
                await gate.wait()
                if refused:
                    concurrency.limited()

        gate = asyncio.Event()
        calls = [asyncio.create_task(call(True, gate)) for _ in range(32)]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*calls)
        assert concurrency.limit == 16
        assert concurrency.active == 0
        await call(True, gate)
        assert concurrency.limit == 8

    asyncio.run(go())


def test_slots_pass_on_whoever_is_canceled() -> None:
    async def go() -> None:
        concurrency = AdaptiveConcurrency(2, start=2)

        async def call(n: int) -> int:
            async with concurrency.slot():
                await asyncio.sleep(0.001 * (n % 3))
                return n

        tasks = [asyncio.create_task(call(n)) for n in range(60)]
        for n in range(5, 60, 4):
            asyncio.get_running_loop().call_later(0.0007 * n, tasks[n].cancel)
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert concurrency.active == 0
        async with concurrency.slot():
            assert concurrency.active == 1

    asyncio.run(go())


def test_a_turn_that_comes_with_the_cancellation_is_passed_on() -> None:
    async def go() -> None:
        concurrency = AdaptiveConcurrency(1)

        async def call() -> None:
            async with concurrency.slot():
                pass

        async with concurrency.slot():
            waiting, after = asyncio.create_task(call()), asyncio.create_task(call())
            await asyncio.sleep(0)
        waiting.cancel()  # it has its turn and has not run yet
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(after, 5)
        assert concurrency.active == 0

    asyncio.run(go())


def test_slots_are_given_in_the_order_of_asking() -> None:
    async def go() -> None:
        concurrency, order = AdaptiveConcurrency(1), []

        async def call(n: int) -> None:
            async with concurrency.slot():
                order.append(n)
                await asyncio.sleep(0)

        await asyncio.gather(*(call(n) for n in range(20)))
        assert order == list(range(20))

    asyncio.run(go())


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 20_000), st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 2)), min_size=5, max_size=60))
def test_bucket_keeps_the_limit_in_every_minute(per_minute: float, calls: list[tuple[float, float]]) -> None:
    clock = Time()
    bucket = Bucket(per_minute, lambda: clock.now, clock.sleep)
    taken: list[tuple[float, float]] = []

    async def work() -> None:
        for pause, share in calls:
            await clock.sleep(pause)
            amount = share * per_minute / 30  # up to four seconds' worth
            await bucket.take(amount)
            taken.append((clock.now, amount))

    asyncio.run(clock.run(work()))
    largest = max(amount for _, amount in taken)
    slack = max(largest - per_minute / 60, 0)
    for start, _ in taken:
        assert sum(amount for now, amount in taken if start <= now < start + 60) <= per_minute + slack + 1e-6 * per_minute


def test_bucket_uses_the_limit_and_serves_in_order() -> None:
    clock = Time()
    bucket, order = Bucket(6000, lambda: clock.now, clock.sleep), []

    async def take(n: int) -> None:
        await bucket.take(50)
        order.append(n)

    asyncio.run(clock.run(*(take(n) for n in range(1000))))
    assert order == list(range(1000))
    assert 0.95 * 6000 <= 60 * 50_000 / (clock.now - 100) <= 6000


def test_bucket_gives_back_and_lets_too_large_amounts_pass() -> None:
    clock = Time()
    bucket = Bucket(600, lambda: clock.now, clock.sleep)

    async def work() -> None:
        await bucket.take(5000)  # more than a minute's worth: at once, since nothing is owed
        assert clock.now == 100
        bucket.give_back(4990)
        await bucket.take(10)
        assert clock.now == pytest.approx(101, abs=0.1)
        await bucket.take(10)
        assert clock.now == pytest.approx(102, abs=0.1)

    asyncio.run(clock.run(work()))


def test_canceled_takers_owe_nothing() -> None:
    async def go() -> None:
        clock = Time()
        bucket = Bucket(60, lambda: clock.now, clock.sleep)
        await bucket.take(1)
        waiting = asyncio.create_task(bucket.take(1000))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await clock.run(bucket.take(1))
        assert clock.now < 110

    asyncio.run(go())


def test_no_limit_is_free() -> None:
    async def refuse(seconds: float) -> None:
        raise AssertionError("slept")

    async def go() -> None:
        for _ in range(1000):
            await Bucket(0, sleep=refuse).take(1e9)

    asyncio.run(go())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.001, 5), st.integers(100, 100_000))
def test_budget_is_never_exceeded_under_concurrency(seed: int, dollars: float, tokens: int) -> None:
    rng = random.Random(seed)
    budget = Budget(dollars, tokens)
    spent: list[tuple[float, int]] = []

    async def call() -> None:
        most_dollars, most_tokens = rng.uniform(0, dollars / 7), rng.randint(0, tokens // 7)
        try:
            reservation = budget.reserve(most_dollars, most_tokens)
        except BudgetSpent:
            return
        for _ in range(rng.randint(0, 5)):
            await asyncio.sleep(0)
        took = (0.0, 0) if rng.random() < 0.2 else (most_dollars * rng.random(), rng.randint(0, most_tokens))
        spent.append(took)
        reservation.settle(*took)
        assert budget.spent_dollars + budget.reserved_dollars <= dollars + 1e-9
        assert budget.spent_tokens + budget.reserved_tokens <= tokens

    async def go() -> None:
        await asyncio.gather(*(call() for _ in range(100)))

    asyncio.run(go())
    assert budget.reserved_dollars == 0
    assert budget.reserved_tokens == 0
    assert budget.spent_dollars == pytest.approx(sum(d for d, _ in spent), abs=1e-6)
    assert budget.spent_tokens == sum(t for _, t in spent)


def test_budget_says_what_is_left_and_whether_waiting_helps() -> None:
    budget = Budget(1.0, None, spent_dollars=0.5)
    reserved = budget.reserve(0.5, 10)
    with pytest.raises(BudgetSpent, match=r"budget of 1 dollars: 0\.5 spent, 0\.5 set aside") as caught:
        budget.reserve(0.1, 10)
    assert caught.value.pending
    reserved.settle(0.45, 9)
    budget.reserve(0.05, 1).settle(0.05, 1)
    with pytest.raises(BudgetSpent) as caught:
        budget.reserve(0.01, 1)
    assert not caught.value.pending
    with pytest.raises(ValueError, match="once"):
        reserved.settle(0.1, 1)


def test_ten_dimes_are_a_dollar() -> None:
    budget = Budget(1.0, None)
    for _ in range(10):
        budget.reserve(0.1, 0).settle(0.1, 0)
    assert budget.spent_dollars == 1.0
    with pytest.raises(BudgetSpent):
        budget.reserve(1e-9, 0)
    Budget(None, None).reserve(1e9, 10**12)


def test_backoff_is_full_jitter_and_obeys_the_server() -> None:
    rng = np.random.default_rng(0)
    for attempt, bound in ((1, 0.5), (2, 1.0), (4, 4.0), (50, 60.0)):
        waits = np.array([backoff(attempt, None, rng) for _ in range(2000)])
        assert waits.min() >= 0
        assert waits.max() <= bound
        assert waits.mean() == pytest.approx(bound / 2, rel=0.05)
    waits = np.array([backoff(1, 7.0, random.Random(n)) for n in range(100)])
    assert waits.min() >= 7
    assert np.ptp(waits) > 0.3
    assert backoff(1, -5.0, rng) <= 0.5


def test_limits_cost_next_to_nothing() -> None:
    concurrency, bucket, budget, rng = AdaptiveConcurrency(32), Bucket(1e12), Budget(1e9, 10**15), np.random.default_rng(0)

    async def go() -> float:
        start = time.process_time()
        for _ in range(5000):
            async with concurrency.slot():
                await bucket.take(1000)
                reservation = budget.reserve(0.01, 1000)
                reservation.settle(0.005, 900)
                concurrency.succeeded()
                backoff(2, None, rng)
        return (time.process_time() - start) / 5000

    assert min(asyncio.run(go()) for _ in range(5)) < 30e-6  # about 5 on an idle machine
