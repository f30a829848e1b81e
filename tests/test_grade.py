"""Grades of traces whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from zelo.errors import InputError
from zelo.reasoning.grade import compare, grade
from zelo.reasoning.lines import difference_line, grade_lines
from zelo.reasoning.pairs import pair_problems
from zelo.reasoning.preferences import preference
from zelo.reasoning.verify import verify
from zelo.types import Problem, Trace


def test_a_grade_of_mathematics() -> None:
    problems = {f"p{i}": Problem(f"p{i}", f"{i}?", str(i)) for i in range(4)}
    said = {"p0": [0, 0, 0, 1], "p1": [1, 7, 7, 7], "p2": [2, 9, 8, None]}
    traces = [
        Trace(
            name,
            "m",
            k,
            "" if a is None else f"\\boxed{{{a}}}",
            tokens=10 * (k + 1),
            cost=0.5,
            finish="stop" if a is not None else "length",
        )
        for name, answers in said.items()
        for k, a in enumerate(answers)
    ]
    found = grade("m", list(verify(traces, problems)), problems)
    assert (found.problems, found.missing, found.samples, found.least) == (3, 1, 12, 4)
    assert found.pass_1 == pytest.approx(np.mean([3 / 4, 1 / 4, 1 / 4]))
    assert found.pass_k[4] == 1
    assert found.pass_k[2] == pytest.approx(np.mean([1, 0.5, 0.5]))
    assert found.majority == pytest.approx((1 + 0 + 1 / 3) / 3)
    assert found.no_answer == found.cut == pytest.approx(1 / 12)
    assert found.tokens == (25, 25)
    assert found.dollars == 6
    assert found.interval[0] <= found.pass_1 <= found.interval[1]
    assert found.judging is None


def test_missing_traces_are_no_wrong_ones() -> None:
    problems = {"p": Problem("p", "?", "1"), "q": Problem("q", "?", "1")}
    found = grade("m", list(verify([Trace("p", "m", 0, "\\boxed{1}")], problems)), problems)
    assert (found.pass_1, found.missing) == (1, 1)
    with pytest.raises(InputError, match="verified"):
        grade("m", [Trace("p", "m", 0, "\\boxed{1}")], problems)


def test_a_judge_that_likes_the_first_is_found_out() -> None:
    problems = {p.problem_id: p for i in range(40) for p in pair_problems(f"g{i}", "q", f"x{i}", f"y{i}", "AB"[i % 2], both_orders=True)}
    first = [Trace(name, "m", 0, "Answer: A") for name in problems]
    found = grade("m", list(verify(first, problems)), problems)
    assert found.pass_1 == 0.5
    assert found.judging is not None
    assert (found.judging.consistency, found.judging.first_share, found.judging.accuracy) == (0, 1, 0.5)
    right = [Trace(name, "m", 0, f"Answer: {p.answer}") for name, p in problems.items()]
    found = grade("m", list(verify(right, problems)), problems)
    assert found.judging is not None
    assert (found.judging.consistency, found.judging.first_share, found.judging.accuracy) == (1, 0.5, 1)
    assert found.judging.calibrated_log_loss < found.judging.log_loss < np.log(2)
    assert "< 0.02" in "\n".join(grade_lines([found]))  # always right: no temperature is cold enough


def test_calibration_of_a_judge_is_over_traces_and_orders() -> None:
    rng = np.random.default_rng(0)
    problems = {p.problem_id: p for i in range(300) for p in pair_problems(f"g{i}", "q", f"x{i}", f"y{i}", "A", both_orders=True)}
    traces = []
    for name, p in problems.items():
        for k in range(4):
            right = rng.random() < 0.7
            traces.append(Trace(name, "m", k, f"Answer: {p.answer if right else 'AB'.replace(p.answer, '')}"))
    found = grade("m", list(verify(traces, problems)), problems).judging
    assert found is not None
    assert found.accuracy > 0.85  # 8 votes of 70 %
    assert abs(found.first_share - 0.5) < 0.05
    assert found.temperature < 1  # 300 pairs that all go one way: votes say less than is known


def test_both_orders_weigh_alike_however_many_traces_came_to_an_end() -> None:
    """Four votes for A in one order, one against it in the other: the mean of five votes would be .8, of two orders it is 1/2."""
    problems = {p.problem_id: p for p in pair_problems("g", "q", "x", "y", "A", both_orders=True)}
    said = {"g:1": ["A", "A", "A", "A"], "g:2": ["A", "hm", "hm", "hm"]}
    traces = [Trace(name, "m", k, f"Answer: {a}") for name, answers in said.items() for k, a in enumerate(answers)]
    found = grade("m", list(verify(traces, problems)), problems).judging
    assert found is not None
    assert (found.accuracy, found.consistency, found.first_share, found.unjudged) == (0.5, 0, 1, 0)
    assert found.brier == pytest.approx(0.25)  # of the preference as it is
    assert found.log_loss == pytest.approx(np.log(2))
    assert preference([(4, 4), (0, 1)]) == (0.5, pytest.approx(3.2))
    assert preference([(3, 4), (3, 4)]) == (0.75, 8)
    assert preference([(2, 3)]) == (pytest.approx(2 / 3), 3)


def test_votes_in_one_order_only_are_no_preference() -> None:
    pairs = [pair_problems(f"g{i}", "q", f"x{i}", f"y{i}", "A", both_orders=True) for i in range(3)]
    problems = {p.problem_id: p for pair in pairs for p in pair}
    said = {"g0:1": "A", "g0:2": "B", "g1:1": "A", "g1:2": "(none)", "g2:1": "A"}  # g2 was asked about in one order
    traces = list(verify([Trace(name, "m", 0, f"Answer: {a}") for name, a in said.items()], problems))
    found = grade("m", traces, problems)
    assert found.judging is not None
    assert (found.judging.pairs, found.judging.unjudged, found.judging.one_order) == (2, 1, 1)
    assert found.pass_1 == pytest.approx(4 / 5)  # where no answer is wrong, as always
    text = "\n".join(grade_lines([found]))
    assert "m: 1 of 3 pairs have no preference" in text
    assert "m: 1 pairs were asked about in one order only" in text
    assert "(votes + 1/2) / (n + 1)" in text
    assert preference([(1, 1), (0, 0)]) is None


def test_ties_are_right_only_where_a_tie_is_meant() -> None:
    problems = {p.problem_id: p for p in (*pair_problems("t", "q", "x", "y", "tie"), *pair_problems("a", "q", "x", "z", "A"))}
    traces = [Trace(name, "m", 0, "Answer: tie") for name in problems]
    found = grade("m", list(verify(traces, problems)), problems)
    assert found.pass_1 == 0.5
    assert found.judging is not None
    assert found.judging.accuracy == 0.75


@pytest.mark.parametrize(("gained", "word"), [(5, "not told apart from"), (8, "better than")])
def test_better_needs_the_paired_test_too(gained: int, word: str) -> None:
    """Five of five gained: the bootstrap's interval is above 0, but chance alone does so once in 16."""
    problems = {f"p{i}": Problem(f"p{i}", f"{i}?", "1") for i in range(gained)}
    traces = {
        source: list(verify([Trace(name, source, 0, f"\\boxed{{{said}}}") for name in problems], problems))
        for source, said in (("new", 1), ("old", 2))
    }
    found = compare("new", "old", traces, problems)
    assert found.interval[0] > 0
    assert difference_line(found).startswith(f"new is {word} old")
    back = compare("old", "new", traces, problems)
    assert difference_line(back).startswith(f"old is {word.replace('better', 'worse')} new")
