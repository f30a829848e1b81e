"""What traces conclude, and when two answers are the same."""

from __future__ import annotations

import pytest

from zelo.errors import InputError
from zelo.reasoning.verify import ChoiceVerifier, MathVerifier, answer_classes, last_boxed, verify
from zelo.types import Problem, Trace


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so \\boxed{1}, no, \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("nested \\boxed{\\left\\{ {1} \\right\\}}", "\\left\\{ {1} \\right\\}"),
        ("<think>\\boxed{3}</think> It is \\boxed{4}.", "4"),
        ("<think>maybe \\boxed{3}</think>", "3"),  # nothing follows the thoughts
        ("<think>still \\boxed{7} thinking", "7"),
        ("It makes 4 + 4 = 8.\n#### 8", "8"),
        ("It makes 8.\nA: 1,800", "1,800"),
        ("<answer> 12 </answer>", "12"),
        ("The final answer is $x^2$.", "x^2"),
        ("Therefore the answer is: **42**.", "42"),
        ("The answer is 5 apples.", "5"),
        ("The answer is (2, 3).", "(2, 3)"),
        ("cut in the middle \\boxed{12", ""),
        ("nothing at all", ""),
        ("", ""),
        ("\\boxed{" + "9" * 2000 + "}", ""),
    ],
)
def test_what_a_solution_concludes(text: str, answer: str) -> None:
    assert MathVerifier().extract(text) == answer


@pytest.mark.parametrize(
    ("right", "answer"),
    [
        ("\\frac12", "0.5"), ("\\dfrac{1}{2}", "\\frac{1}{2}"), ("10{,}000", "10000"), ("1,234", "1234"), ("\\$5", "5"), ("x+1", "1 + x"),
        ("2\\sqrt{3}", "\\sqrt{12}"), ("(1,2)", "(1, 2)"), ("18", "18.00"), ("90^\\circ", "90"), ("\\text{Evelyn}", "\\text{Evelyn}"),
    ],
)  # fmt: skip
def test_equal_answers(right: str, answer: str) -> None:
    pytest.importorskip("math_verify")
    assert MathVerifier().same(right, answer)


@pytest.mark.parametrize(
    ("right", "answer"),
    [("12", "123"), ("(1,2)", "12"), ("(1,2)", "(2,1)"), ("\\frac12", "2"), ("x", "y"), ("5", ""), ("", "5"), ("3", "9**9**9**9")],
)
def test_different_answers(right: str, answer: str) -> None:
    pytest.importorskip("math_verify")
    assert not MathVerifier().same(right, answer)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("I prefer \\boxed{A}", "A"), ("A is good, B better. \\boxed{\\text{B}}", "B"), ("<answer>tie</answer>", "tie"),
        ("Verdict: B", "B"),
        ("Answer: A.\nWait.\nAnswer: B.", "B"), ("The answer is **A**", "A"), ("\\boxed{Document B}", "B"), ("Answer: TIE", "tie"),
        ("\\boxed{AB}", ""), ("A is better", ""), ("answer: Banana", ""), ("", ""), ("<think>Answer: A</think> Answer: B", "B"),
    ],
)  # fmt: skip
def test_what_a_judgment_concludes(text: str, choice: str) -> None:
    assert ChoiceVerifier().extract(text) == choice


def test_last_boxed_takes_the_last_that_is_whole() -> None:
    assert last_boxed("\\boxed{1} and \\boxed {2} and \\boxed{3") == "2"
    assert last_boxed("\\fbox{a}") == "a"


def test_traces_get_answer_and_mark() -> None:
    problems = {p.problem_id: p for p in (Problem("m", "1+1?", "2"), Problem("j", "which?", "B", "judging"), Problem("u", "open?", ""))}
    given = [Trace("m", "s", 0, "\\boxed{2}"), Trace("j", "s", 0, "Answer: A"), Trace("u", "s", 0, "\\boxed{5}"), Trace("m", "s", 1, "hm")]
    marked = list(verify(given, problems))
    assert [(t.answer, t.correct) for t in marked] == [("2", True), ("A", False), ("5", None), ("", False)]
    with pytest.raises(InputError, match="no known problem"):
        list(verify([Trace("x", "s", 0, "?")], problems))


def test_answers_that_are_the_same_are_one_class() -> None:
    pytest.importorskip("math_verify")
    assert answer_classes(["1/2", "", "0.5", "\\frac{1}{2}", "3"], "math") == [0, None, 0, 0, 3]
    assert answer_classes(["A", "B", "", "A"], "judging") == [0, 1, None, 0]
