"""Figures of real data that are known from elsewhere. The files are not in the repository; the tests skip without them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from conftest import shared_reasoning, zelo
from zelo.core.pass_rates import wilson_interval
from zelo.reasoning.behavior import profile
from zelo.reasoning.difficulty import from_rate
from zelo.reasoning.grade import grade
from zelo.reasoning.problems import read_problems, read_solution_pairs
from zelo.reasoning.rates import read_pass_rates
from zelo.reasoning.traces import by_source, import_traces
from zelo.reasoning.verify import MathVerifier, _equal, verify

pytest.importorskip("math_verify")


def test_math_500_is_extracted_and_verified_against_itself() -> None:
    problems = read_problems(shared_reasoning("math500/math500.jsonl"))
    verifier = MathVerifier()
    assert len(problems) == 500
    assert sum(verifier.extract(p.solution) == p.answer for p in problems) == 500
    assert sum(_equal(p.answer, p.answer) for p in problems) == 500  # as mathematics, not as text
    shifted = [verifier.same(p.answer, q.answer) for p, q in pairwise(problems)]
    assert sum(shifted) <= 3


def test_eight_samples_of_a_model_have_their_known_grade() -> None:
    problems, traces = import_traces(shared_reasoning("qwen25-math/math_cot_100.jsonl"), "qwen")
    known = {p.problem_id: p for p in problems}
    marked = list(verify(traces, known))
    theirs = grade("qwen", [replace(m, correct=t.correct) for m, t in zip(marked, traces, strict=True)], known)
    assert theirs.pass_1 == pytest.approx(0.91)
    assert theirs.pass_k[4] == pytest.approx(0.951)
    assert theirs.pass_k[8] == pytest.approx(0.96)
    assert theirs.majority == pytest.approx(0.93, abs=0.006)
    different = [(t.answer, known[t.problem_id].answer) for t, old in zip(marked, traces, strict=True) if t.correct != old.correct]
    assert different == [("10000", "10{,}000")]  # of 800; theirs takes it for wrong


def test_four_solvers_have_their_known_accuracy_and_make_2429_pairs() -> None:
    path = shared_reasoning("gsm8k/example_model_solutions.jsonl")
    problems, traces = import_traces(path, "?")
    known = {p.problem_id: p for p in problems}
    found = {source: list(verify(rows, known)) for source, rows in by_source(traces).items()}
    assert {source: round(sum(bool(t.correct) for t in rows) / len(rows), 3) for source, rows in found.items()} == {
        "6b_finetuning": 0.217, "6b_verification": 0.390, "175b_finetuning": 0.347, "175b_verification": 0.563,
    }  # fmt: skip
    assert all(a.correct == b.correct for source, rows in by_source(traces).items() for a, b in zip(rows, found[source], strict=True))
    pairs = read_solution_pairs(path)
    assert len(pairs) == len({p.problem_id for p in pairs}) == 2429
    sides = Counter(p.answer for p in pairs)
    low, high = wilson_interval(sides["A"], 2429, 0.999)
    assert low < 0.5 < high  # the right one is first as often as not


def test_tiers_of_real_pass_rates(tmp_path: Path) -> None:
    path = shared_reasoning("pass-rates/acc_step_500.json")
    assert zelo("reasoning", "import", tmp_path / "f", path, "--as", "rates", "--per-rate", "8").code == 0
    shown = zelo("reasoning", "analyze", tmp_path / "f").out
    assert "1,209 problems, 0 of them here; 398 below 0.1, 222 from 0.9" in shown
    assert "336 easy, 337 medium, 437 hard, 99 unsolved, by imported rates; 1,077 with their whole interval" in shown
    rates = read_pass_rates(shared_reasoning("pass-rates/acc_step_500.json"))
    assert len(rates) == 1209
    assert sum(rate < 0.1 for rate, _ in rates.values()) == 398
    assert sum(rate >= 0.9 for rate, _ in rates.values()) == 222
    tiers = Counter(from_rate(rate, 8 * steps, "rates").tier for rate, steps in rates.values())
    assert tiers == {"hard": 437, "medium": 337, "easy": 336, "unsolved": 99}


def test_long_thoughts_and_short_solutions_have_different_profiles() -> None:
    _, long = import_traces(shared_reasoning("marco-o1/CoT_demo.json"), "marco")
    short = read_problems(shared_reasoning("math500/math500.jsonl"))
    ours, theirs = profile(t.reasoning for t in long), profile(p.solution for p in short)
    assert len(long) == 125
    assert ours.shares[1:].sum() > 0.15 > 0.05 > theirs.shares[1:].sum()
