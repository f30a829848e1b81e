"""The arithmetic of a plan: every figure worked out by hand, and nothing made up where something is unknown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.core.comparison_graph import hamiltonian_cycles
from zelo.judges.known import History
from zelo.planning.bill import Amount, Bill, Sample, Workload, adaptive_note, bill, budget_notes, duration, money, pairs_of, short, total
from zelo.recipe import Judging, Model, Pairs, Pairwise, Recipe

PRICED = Model(input_price=0.4, output_price=1.6)
WORK = Workload("openai:m", "model", 1000, 20, 1020, sample=Sample(800.0, 0.0, 1024.0, 0.01), facts=PRICED, batches=True)


def known(found: Amount | None) -> Amount:
    assert found is not None
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.integers(1, 6))
def test_pairs_are_those_that_will_be_drawn(documents: int, cycles: int) -> None:
    drawn = hamiltonian_cycles(documents, 2 * cycles, np.random.default_rng(0))
    assert pairs_of(documents, Recipe(pair=Pairs(degree=2 * cycles))) == len(drawn)


def test_the_ensemble_judges_only_the_teaching_pairs_of_the_distilled_line() -> None:
    recipe = Recipe(line="distilled", pairwise=Pairwise(teaching_pairs=3))
    assert [pairs_of(n, recipe) for n in (1, 2, 3, 50)] == [0, 1, 3, 3]


def test_an_offline_judge_costs_nothing() -> None:
    found = bill(Workload("lexical", "offline", 1000, 0, 1000))
    assert (known(found.dollars).value, known(found.read).value, found.notes) == (0, 0, ("runs here: no cost",))


def test_the_price_of_tokens() -> None:
    found = bill(WORK)
    assert known(found.read).value == 1020 * 800
    assert (known(found.read).low, known(found.read).high) == pytest.approx((1020 * 600, 1020 * 1000))
    assert (known(found.written).low, known(found.written).value, known(found.written).high) == (102_000, 204_000, 306_000)
    assert known(found.dollars).value == pytest.approx((1020 * 800 * 0.4 + 1020 * 200 * 1.6) / 1e6)
    assert known(found.dollars).high == pytest.approx((1020 * 1000 * 0.4 + 1020 * 300 * 1.6) / 1e6)
    assert known(found.by_batch).value == pytest.approx(known(found.dollars).value / 2)
    assert found.most == pytest.approx(10.2)
    assert any("assumed 200 per answer" in note for note in found.notes)
    assert any("set batch = true" in note for note in found.notes)


def test_answers_that_may_not_be_that_long_are_not_assumed_to_be() -> None:
    found = bill(replace(WORK, sample=Sample(800.0, 0.0, 150.0, 0.01)))
    assert known(found.written) == Amount(1020 * 150.0, 1020 * 100.0, 1020 * 150.0)
    label = bill(replace(WORK, short=True, calls=2, sample=Sample(1600.0, 0.0, 2.0, 0.01)))
    assert known(label.written) == Amount(2040.0, 2040.0, 2040.0)


@pytest.mark.parametrize(
    ("facts", "lacking"),
    [(Model(), "input_price and output_price"), (Model(input_price=1.0), "output_price"), (Model(output_price=1.0), "input_price")],
)
def test_an_unknown_price_is_said_with_its_remedy(facts: Model, lacking: str) -> None:
    found = bill(replace(WORK, facts=facts))
    assert (found.dollars, found.by_batch, found.most) == (None, None, None)
    assert f'price unknown: set {lacking} of [judge.models."openai:m"], US dollars per million tokens' in found.notes
    assert known(found.read).value > 0  # tokens are known all the same


def test_a_server_of_ones_own_is_free_unless_priced() -> None:
    name = "http://localhost:8080/v1#m"
    free = bill(replace(WORK, judge=name, facts=Model(), batches=False, own_server=True))
    assert known(free.dollars).high == 0
    assert any("free unless" in note for note in free.notes)
    assert known(bill(replace(WORK, judge=name, batches=False, own_server=True)).dollars).value > 0
    rented = bill(replace(WORK, judge="https://acme.example/v1#m", facts=Model(), batches=False))
    assert rented.dollars is None  # somebody else's: it has a price, nobody said which


def test_a_judge_of_the_users_own() -> None:
    new = bill(Workload("python:a:b", "own", 100, 0, 100))
    assert (new.dollars, new.read) == (None, None)
    old = bill(Workload("python:a:b", "own", 100, 0, 60, sample=WORK.sample, history=History(answers=40, attempts=40, dollars=2.0)))
    assert known(old.dollars).value == pytest.approx(3.0)


def test_measured_figures_replace_estimates() -> None:
    history = History(100, 110, read=900.0, read_error=10.0, written=400.0, written_error=5.0, seconds=2.0, seconds_error=0.1, dollars=1.0)
    found = bill(replace(WORK, left=500, history=history))
    calls = 500 * 1.1
    assert known(found.read).value == pytest.approx(calls * 900)
    assert known(found.read).high == pytest.approx(calls * (900 + 1.96 * 10))
    assert known(found.written).value == pytest.approx(calls * 400)
    assert known(found.seconds).value == pytest.approx(calls / 32 * 2)
    assert not any("assume" in note for note in found.notes)
    assert any("1.10 attempts per answer" in note for note in found.notes)
    few = bill(replace(WORK, left=500, history=replace(history, answers=10, attempts=12)))
    assert known(few.read).value == 500 * 800


@pytest.mark.parametrize(
    ("limits", "bound", "seconds"),
    [
        ({"concurrency": 10}, "10 calls at once", 1020 / 10 * 8),
        ({"requests_per_minute": 60}, "60 requests per minute", 1020),
        ({"tokens_per_minute": 10_000}, "10,000 tokens per minute", 1020 * 1000 / 10_000 * 60),
        ({"requests_per_minute": 10_000, "concurrency": 1}, "1 calls at once", 1020 * 8),
    ],
)
def test_time_is_that_of_the_narrowest_limit(limits: dict[str, int], bound: str, seconds: float) -> None:
    found = bill(replace(WORK, facts=replace(PRICED, **limits)))  # type: ignore[arg-type]
    assert found.bound == bound
    assert known(found.seconds).value == pytest.approx(seconds)
    assert known(found.seconds).low <= known(found.seconds).value <= known(found.seconds).high


def test_nothing_left() -> None:
    found = bill(replace(WORK, left=0))
    assert known(found.dollars).high == known(found.read).high == known(found.seconds).high == 0


def test_batches_take_up_to_a_day() -> None:
    found = bill(replace(WORK, facts=replace(PRICED, batch=True)))
    assert (found.seconds, found.bound) == (None, "batch")
    assert any("within a day" in note for note in found.notes)
    online = bill(WORK)
    assert known(found.dollars) == known(found.by_batch) == known(online.by_batch)
    assert found.most == pytest.approx(5.1)


def bills(*works: Workload) -> list[Bill]:
    return [bill(work) for work in works]


def test_what_the_caps_do() -> None:
    assert budget_notes(bills(WORK), Judging(), 0.0, 0) == ["no cap is set: judge.budget_dollars stops before more is spent"]
    assert budget_notes(bills(Workload("lexical", "offline", 9, 0, 9)), Judging(), 0.0, 0) == []
    (enough,) = budget_notes(bills(WORK), Judging(budget_dollars=100.0), 1.5, 0)
    assert enough == "judge.budget_dollars caps this workspace at $100.00, $1.50 of it spent; enough for what is left"
    cost = known(bill(WORK).dollars)
    (half,) = budget_notes(bills(WORK), Judging(budget_dollars=1.0 + cost.value / 2), 1.0, 0)
    assert "stops after about 50 % of what is left" in half
    (unknown,) = budget_notes(bills(replace(WORK, facts=Model())), Judging(budget_dollars=5.0), 0.0, 0)
    assert "unknown price" in unknown
    (tokens, _) = budget_notes(bills(WORK), Judging(budget_tokens=102_000), 0.0, 0)
    assert "stops after about 10 % of what is left" in tokens
    spent = budget_notes(bills(WORK), Judging(budget_dollars=1.0), 2.0, 0)[0]
    assert "about 0 %" in spent


def test_what_pairs_chosen_in_rounds_would_save() -> None:
    cost = known(bill(WORK).dollars).value
    note = adaptive_note(bills(WORK), 8, 100)
    assert f"50 % of the comparisons: 510 fewer, {money(cost / 2)} less" in note
    assert "simulations" in note
    assert "300 fewer" in adaptive_note(bills(replace(WORK, left=300)), 8, 100)  # all of the rest: more than half is done
    assert "less" not in adaptive_note(bills(replace(WORK, facts=Model())), 8, 100)
    assert adaptive_note(bills(WORK), 4, 100) == ""
    assert adaptive_note(bills(replace(WORK, left=0)), 8, 100) == ""
    assert adaptive_note(bills(WORK), 8, 20) == ""
    assert adaptive_note(bills(Workload("lexical", "offline", 9, 0, 9)), 8, 100) == ""


def test_sums_are_unknown_where_a_part_is() -> None:
    assert total([Amount(1, 0, 2), Amount(1, 1, 1)]) == Amount(2, 1, 3)
    assert total([Amount(1, 0, 2), None]) is None
    assert total([]) == Amount(0, 0, 0)


def test_figures_for_people() -> None:
    assert [short(n) for n in (0, 950, 12_345, 999_600, 1_234_000, 2.5e9)] == ["0", "950", "12,300", "1M", "1.23M", "2.5B"]
    assert [money(n) for n in (0, 0.004, 0.5, 1234.5)] == ["$0", "$0.004", "$0.50", "$1,234.50"]
    assert [duration(n) for n in (0.2, 61, 600, 7200, 900_000)] == ["1 s", "61 s", "10 min", "2 h", "10 d"]
