"""What judging will take, before a call is paid: arithmetic on what is known. `prospect` finds that out in a workspace.

Every figure says where it comes from: measured on answers that the journal has, estimated from the prompts, or assumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from zelo.judges.batching import SHARE as BATCH_SHARE
from zelo.judges.known import History
from zelo.recipe import Judging, Model, Recipe

READ_ERROR = 0.25
"""Relative error of tokens counted as bytes / 4: most English texts are within it; code, numbers and other scripts may not be."""
ASSUMED_WRITTEN = (200.0, 100.0, 300.0)
"""Tokens of one answer with reasons: value, low, high. No measurement of ours; published judges write 110 to 300."""
ASSUMED_SECONDS = (8.0, 3.0, 20.0)
"""Seconds from sending a question to its answer with reasons; one of a single token is assumed to take an eighth of it."""
ADAPTIVE_SHARE = 0.5
"""Of the pairs of a fixed graph of degree 8 over 100 documents, how many suffice for its nDCG@10 when they are chosen in rounds: this or
less in simulations (experiments/designs, docs/decisions/0013), not measured with language models."""
ENOUGH = 30
"""Answers from which the journal's own figures replace estimates."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A quantity with the range it is likely to be in: 95 % where it was measured, stated bounds where it was assumed."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Amount:
        """Return it so many times."""
        return Amount(self.value * factor, self.low * factor, self.high * factor)

    def plus(self, other: Amount) -> Amount:
        """Return the sum; the errors are taken to go the same way, which is the cautious thing for estimates of one kind."""
        return Amount(self.value + other.value, self.low + other.low, self.high + other.high)


NOTHING = Amount(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a judge's `estimate` says of a sample of real comparisons: tokens of one comparison, and how the sample varies.

    `written` is the most that it may write; `dollars` the most that it may cost, by the recipe's prices.
    """

    read: float
    read_error: float
    written: float
    dollars: float


@dataclass(frozen=True, slots=True)
class Workload:
    """What one judge has to do.

    Attributes:
        judge: its name in the recipe.
        kind: "offline" runs here and costs nothing; "model" is a language model; "own" is the user's.
        pairs: pairs of the tournament.
        swapped: how many of them it sees in the other order as well.
        left: all comparisons that are still to be sent, of all kinds.
        across: comparisons across queries that stage `align` has still to ask, all of them taken for open.
        calls: requests of one comparison.
        short: whether an answer is a single token.
        sample: None where the judge cannot estimate.
        history: of the journal.
        facts: prices and limits of the recipe.
        batches: whether its provider has a batch service that zelo uses.
        own_server: whether it runs on this machine.
        remark: what else is to be said; "" is nothing.
        thinks: whether it writes long traces.
        sent: comparisons in batches that were sent and not collected.
    """

    judge: str
    kind: str
    pairs: int
    swapped: int
    left: int
    across: int = 0
    calls: int = 1
    short: bool = False
    sample: Sample | None = None
    history: History = field(default_factory=History)
    facts: Model = field(default_factory=Model)
    batches: bool = False
    own_server: bool = False
    remark: str = ""
    thinks: bool = False
    sent: int = 0


@dataclass(frozen=True, slots=True)
class Bill:
    """What is left to do for one judge and what it will take.

    Attributes:
        work: what it has to do.
        read: tokens, all calls together; None = unknown.
        written: tokens.
        dollars: as the recipe says it is asked, online or by batch; None = unknown.
        by_batch: by the provider's batch service; None where there is none, or the price is unknown.
        most: dollars at most, every answer as long as it may be; None = unknown.
        seconds: of wall clock; None = unknown, and for offline judges not estimated.
        bound: what limits the speed.
        notes: where the figures come from, and what to do where one is missing.
    """

    work: Workload
    read: Amount | None
    written: Amount | None
    dollars: Amount | None
    by_batch: Amount | None
    most: float | None
    seconds: Amount | None
    bound: str
    notes: tuple[str, ...]


def pairs_of(documents: int, recipe: Recipe) -> int:
    """Return how many pairs of a query the ensemble judges, with an adaptive design at most: all where there are few documents."""
    if recipe.line == "distilled":
        wanted = recipe.pairwise.teaching_pairs
    else:
        wanted = documents * recipe.pair.degree // 2 if recipe.pair.design == "cycles" else recipe.pair.comparisons
    return min(documents * (documents - 1) // 2, wanted)


def bill(work: Workload) -> Bill:
    """Return what is left for one judge."""
    if work.kind == "offline":
        return Bill(work, NOTHING, NOTHING, NOTHING, None, 0.0, None, "", ("runs here: no cost",))
    notes = [work.remark] if work.remark else []
    calls = work.left * _attempts(work, notes)
    read, written = _tokens(work, notes)
    if read is None or written is None:
        notes.append("no estimate of its tokens, so none of its price")
    read, written = (None if amount is None else amount.times(calls) for amount in (read, written))
    dollars = _dollars(work, read, written, notes) if read and written else None
    most = work.sample.dollars * calls if work.sample and dollars else None
    by_batch = dollars.times(BATCH_SHARE) if dollars and work.batches else None
    if by_batch:
        notes.append(_about_batches(work))
        if work.facts.batch:
            dollars, most = by_batch, most * BATCH_SHARE if most else most
    seconds, bound = _seconds(work, calls, read, written, notes)
    return Bill(work, read, written, dollars, by_batch, most, seconds, bound, tuple(notes))


def _attempts(work: Workload, notes: list[str]) -> float:
    """Billed attempts per answer, as the journal has it so far."""
    history = work.history
    if history.answers < ENOUGH or history.attempts <= history.answers:
        return 1.0
    factor = history.attempts / history.answers
    notes.append(f"{factor:.2f} attempts per answer, as so far")
    return factor


def _tokens(work: Workload, notes: list[str]) -> tuple[Amount | None, Amount | None]:
    """Tokens read and written per comparison."""
    history, sample = work.history, work.sample
    if history.attempts >= ENOUGH and history.read:
        notes.append(f"tokens measured on {history.attempts:,} attempts of this judge")
        return _measured(history.read, history.read_error), _measured(history.written, history.written_error)
    if sample is None:
        return None, None
    spread = READ_ERROR + 1.96 * sample.read_error / max(sample.read, 1e-9)
    read = Amount(sample.read, sample.read * max(0.0, 1 - spread), sample.read * (1 + spread))
    if work.short:
        notes.append(f"tokens read: bytes / 4 of real prompts, ± {percent(spread)}; one token written per call")
        return read, Amount(sample.written, sample.written, sample.written)
    if work.thinks:
        about = f"tokens read: bytes / 4 of real prompts, ± {percent(spread)}"
        notes.append(f"{about}; written: assumed half of judge.max_output_tokens per trace")
        return read, Amount(sample.written / 2, sample.written / 10, sample.written)
    value, low, high = (min(tokens, sample.written) for tokens in ASSUMED_WRITTEN)
    notes.append(
        f"tokens read: bytes / 4 of real prompts, ± {percent(spread)}; written: assumed {value:g} per answer ({low:g} to {high:g}), "
        f"a model that thinks unseen may write up to {sample.written:,.0f}"
    )
    return read, Amount(value, low, high)


def _dollars(work: Workload, read: Amount, written: Amount, notes: list[str]) -> Amount | None:
    facts = work.facts
    if work.kind == "own":
        if not work.history.answers:
            notes.append("its price is its own affair: nothing is known before it has answered")
            return None
        notes.append(f"dollars as it reported for {work.history.answers:,} answers")
        return Amount(*[work.left * work.history.dollars / work.history.answers] * 3)
    if not facts.input_price or not facts.output_price:
        if work.own_server and not (facts.input_price or facts.output_price):
            notes.append("a server of your own: free unless you set its price")
            return NOTHING
        lacking = " and ".join(key for key in ("input_price", "output_price") if not getattr(facts, key))
        notes.append(f'price unknown: set {lacking} of [judge.models."{work.judge}"], US dollars per million tokens')
        return None
    return read.times(facts.input_price / 1e6).plus(written.times(facts.output_price / 1e6))


def _about_batches(work: Workload) -> str:
    if work.facts.batch:
        return "asked by batch: half the price, answers within a day"
    return f'half the price within a day: set batch = true of [judge.models."{work.judge}"]'


def _seconds(work: Workload, calls: float, read: Amount | None, written: Amount | None, notes: list[str]) -> tuple[Amount | None, str]:
    """Wall-clock time at the limits, and which of them decides."""
    if work.facts.batch and work.batches:
        return None, "batch"
    if not work.left:
        return NOTHING, ""
    if work.history.answers >= ENOUGH and work.history.seconds:
        latency = _measured(work.history.seconds, work.history.seconds_error)
    else:
        latency = Amount(*ASSUMED_SECONDS).times(0.125 * work.calls if work.short else 1.0)
        notes.append(f"time assumes {latency.value:g} s per answer ({latency.low:g} to {latency.high:g})")
    facts = work.facts
    rounds = max(1.0, calls / facts.concurrency)
    times = {f"{facts.concurrency} calls at once": latency.times(rounds)}
    if facts.requests_per_minute:
        needed = 60.0 * calls * work.calls / facts.requests_per_minute
        times[f"{facts.requests_per_minute:,} requests per minute"] = Amount(needed, needed, needed)
    if facts.tokens_per_minute and read and written:
        times[f"{facts.tokens_per_minute:,} tokens per minute"] = read.plus(written).times(60.0 / facts.tokens_per_minute)
    bound = max(times, key=lambda name: times[name].value)
    low, high = max(t.low for t in times.values()), max(t.high for t in times.values())
    return Amount(times[bound].value, low, high), bound


def _measured(mean: float, error: float) -> Amount:
    return Amount(mean, max(0.0, mean - 1.96 * error), mean + 1.96 * error)


def total(amounts: Iterable[Amount | None]) -> Amount | None:
    """Return the sum, None where one is unknown."""
    sum_ = NOTHING
    for amount in amounts:
        if amount is None:
            return None
        sum_ = sum_.plus(amount)
    return sum_


def budget_notes(bills: Sequence[Bill], judging: Judging, spent_dollars: float, spent_tokens: int) -> list[str]:
    """Return what the caps of the recipe will do: lines of text."""
    notes = []
    dollars = total(b.dollars for b in bills)
    tokens = total(a for b in bills for a in (b.read, b.written))
    for key, cap, needed, spent, unit in (
        ("budget_dollars", judging.budget_dollars, dollars, spent_dollars, "${:,.2f}"),
        ("budget_tokens", float(judging.budget_tokens), tokens, float(spent_tokens), "{:,.0f} tokens"),
    ):
        if not cap:
            continue
        rest = max(0.0, cap - spent)
        head = f"judge.{key} caps this workspace at {unit.format(cap)}, {unit.format(spent)} of it spent"
        if needed is None:
            notes.append(f"{head}; what is left to do has an unknown price, so it may stop at any point")
        elif not needed.high:
            notes.append(f"{head}; what is left needs none of it")
        elif rest >= needed.high:
            notes.append(f"{head}; enough for what is left")
        else:
            low, high = (min(1.0, rest / n) if n else 1.0 for n in (needed.high, needed.low))
            notes.append(
                f"{head}; it stops after about {percent(min(1.0, rest / needed.value))} of what is left ({percent(low)} to {percent(high)})"
            )
    if not judging.budget_dollars and any(b.dollars is None or b.dollars.high > 0 for b in bills):
        notes.append("no cap is set: judge.budget_dollars stops before more is spent")
    return notes


def adaptive_note(bills: Sequence[Bill], degree: int, documents: float) -> str:
    """Return what choosing pairs in rounds would save of what is left; "" where the simulations do not apply.

    Args:
        bills: of all judges.
        degree: of the comparison graphs.
        documents: per query; the simulations had 100.
    """
    open_ = [b for b in bills if b.work.kind != "offline" and b.work.left]
    if degree < 8 or documents < 50 or not open_:
        return ""
    saved, dollars = 0.0, 0.0
    for one in open_:
        spared = min(max(0, one.work.left - one.work.across), (1 - ADAPTIVE_SHARE) * (one.work.pairs + one.work.swapped))
        saved += spared
        dollars += one.dollars.value * spared / one.work.left if one.dollars else 0.0
    worth = f", {money(dollars)} less" if dollars else ""
    what = f"pairs chosen in rounds might do with {percent(ADAPTIVE_SHARE)} of the comparisons: {short(saved)} fewer{worth}"
    return f"{what}; the share is from simulations with 100 documents per query (docs/decisions/0013), not from language models"


def short(number: float) -> str:
    """Return a count as people read it: 950, 12,300, 1.2M."""
    for size, name in ((1e9, "B"), (1e6, "M")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{name}"
    return f"{number:,.0f}" if number < 1e4 else f"{float(f'{number:.3g}'):,.0f}"


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.0f} %"


def money(dollars: float) -> str:
    """Return a price: cents, fractions of one only where there is nothing else."""
    if dollars == 0:
        return "$0"
    return f"${dollars:,.2f}" if dollars >= 0.01 else f"${dollars:.1g}"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for size, name in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {name}" if seconds < 100 * size else f"{seconds / size:,.0f} {name}"
    return f"{math.ceil(seconds)} s"


def plus_minus(amount: Amount | None) -> str:
    """Return an amount with its relative error, for people."""
    if amount is None:
        return "unknown"
    if not amount.value:
        return "0"
    error = (amount.high - amount.low) / 2 / amount.value
    return f"{short(amount.value)} ± {percent(error)}" if error >= 0.005 else short(amount.value)


def spread(amount: Amount, show: Callable[[float], str]) -> str:
    """Return an amount with what it may be, for people."""
    low, value, high = (show(v) for v in (amount.low, amount.value, amount.high))
    return value if low == high else f"{value} ({low} to {high})"
