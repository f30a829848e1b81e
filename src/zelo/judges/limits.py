"""How fast, how many at once and for how much a remote judge may be asked. Plain asyncio; one event loop, no threads.

`AdaptiveConcurrency` finds how many calls at once a server bears, `Bucket` keeps a provider's limit per minute, `Budget` sets money
and tokens aside before a call is sent, `backoff` says how long to wait before another try.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from zelo.errors import JudgeError

BACKOFF_SECONDS = 0.5
"""The longest first wait; it doubles with every attempt."""

LONGEST_BACKOFF = 60.0

DECREASE = 0.5
"""What is left of the calls at once when a server says that it is too much."""


class Random(Protocol):
    """A source of numbers in [0, 1): a NumPy Generator, or `random.Random`."""

    def random(self) -> float:
        """Return a number in [0, 1)."""
        ...


class AdaptiveConcurrency:
    """How many calls may be under way: additive increase, multiplicative decrease (Chiu and Jain 1989), as TCP does.

    Every success adds `1 / limit` (one more call per round), before the first refusal a whole one; a refusal halves the limit.
    Refusals of calls that were under way at the last decrease are of the same overload and change nothing.
    """

    def __init__(self, most: int, start: int = 8) -> None:
        if most < 1 or start < 1:
            raise ValueError("at least one call at once")
        self._most, self._limit = most, float(min(start, most))
        self._active = 0
        self._old = 0  # calls under way since before the last decrease
        self._refused = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._slot = _Slot(self)

    @property
    def limit(self) -> int:
        """How many calls may be under way now, in [1, most]."""
        return int(self._limit)

    @property
    def active(self) -> int:
        """How many are under way."""
        return self._active

    def slot(self) -> _Slot:
        """Return what to hold during a call: `async with concurrency.slot(): ...`. First come, first served."""
        return self._slot

    def succeeded(self) -> None:
        """Say that a call was answered."""
        if self._limit < self._most and 2 * self._active >= self.limit:  # a limit that is not reached proves nothing
            self._limit = min(self._limit + (1 / self._limit if self._refused else 1.0), float(self._most))
            self._wake()

    def limited(self) -> None:
        """Say that the server refused a call because of its limits; call it before the call's slot is left."""
        if self._old == 0:
            self._limit = max(self._limit * DECREASE, 1.0)
            self._refused = True
            self._old = max(self._active, 1)

    async def _enter(self) -> None:
        if self._active < self.limit and not self._waiting:
            self._active += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the turn came together with the cancellation: pass it on
                self._leave()
            raise

    def _leave(self) -> None:
        self._active -= 1
        if self._old:
            self._old -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._active < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._active += 1
                turn.set_result(None)


class _Slot:
    """Holds nothing of its own, so one serves all calls."""

    __slots__ = ("_of",)

    def __init__(self, of: AdaptiveConcurrency) -> None:
        self._of = of

    async def __aenter__(self) -> None:
        await self._of._enter()

    async def __aexit__(self, *_: object) -> None:
        self._of._leave()


class Bucket:
    """A limit per minute: a token bucket that holds one second's worth, first come, first served.

    In any 60 s at most `per_minute` is taken, or, where a single amount is more than a second's worth, less than that amount above it.
    An amount is taken at once and paid back by waiting, so even one above `per_minute` passes.
    """

    def __init__(
        self,
        per_minute: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if per_minute < 0:
            raise ValueError("a limit below 0")
        self._clock, self._sleep = clock, sleep
        self._capacity = per_minute / 60
        self._rate = (per_minute - self._capacity) / 60  # so that a full bucket and a minute's refill are `per_minute` together
        self._level, self._then = self._capacity, clock()

    @property
    def limits(self) -> bool:
        """Whether there is a limit."""
        return self._rate > 0

    async def take(self, amount: float) -> None:
        """Wait until `amount` may be taken; 0 per minute is no limit."""
        if self._rate <= 0 or amount <= 0:
            return
        now = self._clock()
        self._level = min(self._level + (now - self._then) * self._rate, self._capacity)
        self._then = now
        missing = min(amount, self._capacity) - self._level
        self._level -= amount
        if missing <= 0:
            return
        try:
            await self._sleep(missing / self._rate)
        except asyncio.CancelledError:
            self.give_back(amount)
            raise

    def give_back(self, amount: float) -> None:
        """Return what was taken and not used; a negative amount takes what was used above it."""
        self._level += amount  # `take` cuts it to the capacity


class BudgetSpent(JudgeError):
    """The budget does not allow another call. `pending`: calls under way may turn out cheaper and leave room."""

    def __init__(self, what: str, *, remedy: str, pending: bool) -> None:
        super().__init__(what, where="judge", remedy=remedy)
        self.pending = pending


NANO = 10**9
"""Dollars are counted in whole billionths: sums are exact, whatever the order."""


class Budget:
    """Most dollars and tokens to spend; None is no cap. What a call may cost at most is set aside before it is sent."""

    def __init__(self, dollars: float | None, tokens: int | None, spent_dollars: float = 0.0, spent_tokens: int = 0) -> None:
        self._most_dollars = None if dollars is None else round(dollars * NANO)
        self._most_tokens = tokens
        self._dollars, self._tokens = round(spent_dollars * NANO), spent_tokens
        self._aside_dollars, self._aside_tokens = 0, 0

    @property
    def spent_dollars(self) -> float:
        """US dollars spent, what is set aside not included."""
        return self._dollars / NANO

    @property
    def spent_tokens(self) -> int:
        """Tokens spent, what is set aside not included."""
        return self._tokens

    @property
    def reserved_dollars(self) -> float:
        """US dollars set aside for calls under way."""
        return self._aside_dollars / NANO

    @property
    def reserved_tokens(self) -> int:
        """Tokens set aside for calls under way."""
        return self._aside_tokens

    def reserve(self, dollars: float, tokens: int) -> Reservation:
        """Set aside the most that a call may take. Settle what comes back, exactly once, also when the call fails.

        Raises:
            BudgetSpent: with it, more than the budget might be spent.
        """
        nano = round(dollars * NANO)
        pending = self._aside_dollars > 0 or self._aside_tokens > 0
        if self._most_dollars is not None and self._dollars + self._aside_dollars + nano > self._most_dollars:
            most = self._most_dollars / NANO
            what = f"the budget of {most:g} dollars: {self.spent_dollars:.4g} spent, {self.reserved_dollars:.4g} set aside"
            raise BudgetSpent(f"{what}, {dollars:.4g} more needed", remedy="raise judge.budget_dollars and run again", pending=pending)
        if self._most_tokens is not None and self._tokens + self._aside_tokens + tokens > self._most_tokens:
            what = f"the budget of {self._most_tokens} tokens: {self._tokens} spent, {self._aside_tokens} set aside"
            raise BudgetSpent(f"{what}, {tokens} more needed", remedy="raise judge.budget_tokens and run again", pending=pending)
        self._aside_dollars += nano
        self._aside_tokens += tokens
        return Reservation(self, nano, tokens)

    def _settle(self, reservation: Reservation, dollars: float, tokens: int) -> None:
        self._aside_dollars -= reservation.nano
        self._aside_tokens -= reservation.tokens
        self._dollars += round(dollars * NANO)
        self._tokens += tokens


class Reservation:
    """What is set aside for one call."""

    __slots__ = ("_budget", "nano", "tokens")

    def __init__(self, budget: Budget, nano: int, tokens: int) -> None:
        self._budget: Budget | None = budget
        self.nano, self.tokens = nano, tokens

    def settle(self, dollars: float, tokens: int) -> None:
        """Replace what was set aside by what was spent (0 for a call that was not billed).

        Raises:
            ValueError: it was settled before: money would be counted twice.
        """
        budget, self._budget = self._budget, None
        if budget is None:
            raise ValueError("a reservation is settled once")
        budget._settle(self, dollars, tokens)


def backoff(attempt: int, after: float | None, rng: Random) -> float:
    """Return how many seconds to wait before another try: full jitter, and never less than the server asks.

    Full jitter draws from [0, bound], where the bound doubles with every attempt: calls that failed together do not come back
    together. What the server asks is the start of that range, since it told all of them the same.

    Args:
        attempt: how many attempts have failed, from 1.
        after: seconds that the server asks to wait, None if it does not say.
        rng: NumPy Generator or `random.Random`.
    """
    bound = min(BACKOFF_SECONDS * 2.0 ** min(max(attempt - 1, 0), 30), LONGEST_BACKOFF)
    return (after if after is not None and after > 0 else 0.0) + rng.random() * bound
