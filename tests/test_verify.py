"""What traces conclude, and when two answers are the same."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from zelo.errors import InputError
from zelo.reasoning.problems import read_problems
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


@pytest.mark.parametrize(
    ("right", "text", "correct"),
    [
        ("5", "The answer is x+5", False), ("5", "The answer is sqrt(5).", False), ("5", "The answer is not 5", False),
        ("3", "The answer is 3pi", False), ("x+5", "The answer is x+5", True), ("3\\pi", "The answer is 3pi.", True),
        ("x > 3", "The answer is x > 3", True), ("3", "The answer is x > 3", False), ("0.5", "The answer is .5", True),
        ("5", "The answer is .5", False), ("42", "The answer is:\n\n42", True), ("42", "**Final Answer**\n\n42", True),
        ("42", "### Final Answer\n$$\n42\n$$", True), ("42", "The final answer is:\n\\[\n42\n\\]", True), ("42", "**Answer:**\n42", True),
        ("2x", "The answer is 2x", True), ("2", "The answer is 2x", False), ("2/x", "The answer is 2/x.", True),
        ("2", "The answer is 2/x", False), ("\\log 3", "The answer is log 3", True), ("3", "The answer is log 3", False),
        ("n=5k", "The answer is n = 5k", True), ("5", "The answer is n = 5k", False), ("5!", "The answer is 5!", True),
        ("120", "The answer is 5!", True), ("5", "The answer is 5!", False), ("50\\%", "The answer is 50%.", True),
        ("10\\%", "The answer is 10 percent.", True), ("7", "so \\boxed 7.", True), ("12", "so \\boxed 12", True),
        ("5", "The answer is 5 apples.", True), ("18", "The answer is $18 per day.", True), ("18", "The answer is $18 or $20.", False),
        ("5", "The answer is 5. We check that 2 + 3 = 5.", True), ("5", "The answer is 5, because the rest is even.", True),
        ("5", "The answer is 5 or x", False), ("5", "The answer is 5 million.", False), ("5", "The answer is 5 times x", False),
        ("x", "The answer is $x$ + 5", False), ("5", "The answer is not $5$.", False), ("5", "The answer isn't 5", False),
        ("4", "The answer is 4. The answer is not 5.", True), ("1.5", "The answer is 1 1/2 cups.", True),
        ("4", "\\boxed{3}? No.\nFinal answer: 4", True), ("4", "\\boxed{4} The answer is clear.", True),
        ("4", "The answer is 3, no: \\boxed{4}", True), ("4", "<answer>3</answer> Wait. \\boxed{4}", True),
        ("4", "\\boxed{3} Wait. <answer>4</answer>", True), ("5", "#### Answer: 5", True),
        ("5", "<answer>The answer is 5</answer>", True),
        ("44", "\\boxed{44}. Check our answer: $17 \\cdot 44 = 748$.", True),
    ],
)  # fmt: skip
def test_what_is_announced_is_marked_as_it_is_said(right: str, text: str, correct: bool) -> None:
    pytest.importorskip("math_verify")
    verifier = MathVerifier()
    assert verifier.same(right, verifier.extract(text)) is correct, verifier.extract(text)


@pytest.mark.parametrize(
    ("right", "answer", "equal"),
    [
        ("11/2", "1 1/2", False), ("3/2", "1 1/2", True), ("1 1/2", "\\frac{3}{2}", True), ("-\\frac32", "-1 1/2", True),
        ("21/3", "2 1/3", False), ("7/3", "2 1/3", True), ("1\\frac{4}{5}", "1 4/5", True), ("12", "1 2", False), ("3", "1 2", False),
        ("12000", "12 000", True), ("5\\text{ cm}", "5\\text{ m}", False), ("5\\text{ cm}", "5 m", False), ("5\\text{ cm}", "5 mm", False),
        ("5\\text{ cm}", "5 centimeters", True), ("5\\text{ cm}", "5", True), ("5", "5\\text{ m}", True),
        ("15\\mbox{ cm}^2", "15 square centimeters", True), ("15\\mbox{ cm}^2", "15 cm", False), ("1010_2", "1010", False),
        ("1010_2", "1010_{2}", True), ("1010_2", "1010_3", False), ("10", "10_{10}", True), ("100", "1e2", True), ("0.015", "1.5e-2", True),
        ("100", "1e3", False), ("\\pi", "pi", True), ("2\\pi", "2 pi", True),
    ],
)  # fmt: skip
def test_digits_units_and_bases_are_not_lost(right: str, answer: str, equal: bool) -> None:
    pytest.importorskip("math_verify")
    assert MathVerifier().same(right, answer) is equal


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("The answer is a tie", "tie"), ("The answer is A tie.", "tie"), ("Verdict: a tie between A and B", "tie"),
        ("The answer is a close call, I say B", "B"), ("Answer: a hard one: B", "B"), ("Answer: A close call, I say B", "B"),
        ("Answer: A or B", ""), ("Answer: A and B", ""), ("Answer: A/B", ""), ("\\boxed{A or B}", ""), ("Answer: not A", ""),
        ("Answer: a", ""), ("Answer: \"b\"", "B"), ("Answer: (a)", "A"), ("\\boxed{b}", "B"), ("\\boxed{\\text{B}}", "B"),
        ("Answer: A, because B is off topic", "A"), ("Answer: A is better than B", "A"), ("The answer is document B.", "B"),
        ("\\boxed{A} Wait.\nFinal answer: B", "B"), ("\\boxed{A} The answer is clear.", "A"), ("Answer:\nB", "B"), ("\\boxed A", "A"),
    ],
)  # fmt: skip
def test_articles_are_no_choices(text: str, choice: str) -> None:
    assert ChoiceVerifier().extract(text) == choice


@pytest.mark.parametrize("value", ["NaN", "true", "Infinity", "false"])
def test_an_answer_that_is_no_answer_is_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(f'[{{"question": "1+1?", "answer": 2}}, {{"question": "2+2?", "answer": {value}}}]')
    with pytest.raises(InputError, match=r"p\.json: entry 2.*answer is"):
        read_problems(path)
    lines = tmp_path / "p.jsonl"
    lines.write_text(f'{{"question": "1+1?", "answer": 2}}\n{{"question": "2+2?", "answer": {value}}}\n')
    with pytest.raises(InputError, match=r"p\.jsonl:2"):
        read_problems(lines)


@pytest.mark.parametrize("text", ["the answer is" + " " * 50_000, "the answer is:" + "\n" * 50_000, "answer is 5" + " aa" * 20_000 + "!"])
def test_long_texts_are_read_in_linear_time(text: str) -> None:
    start = time.process_time()
    MathVerifier().extract(text)
    assert time.process_time() - start < 2


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
