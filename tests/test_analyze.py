"""Properties of traces: difficulty, structure, hygiene."""

from __future__ import annotations

import numpy as np
import pytest

from zelo.errors import InputError
from zelo.reasoning.analyze import analysis_lines, analyze, compare
from zelo.reasoning.behavior import behavior_of, path_of, profile, steps_of, table_lines
from zelo.reasoning.difficulty import difficulties, from_rate
from zelo.reasoning.hygiene import contaminated, leaks
from zelo.reasoning.pairs import pair_problems, texts_of
from zelo.reasoning.vectors import text_vectors
from zelo.types import Problem, Trace

LONG = """Let me compute 3 + 4 first, which is 7.
Wait, I misread the question.
Alternatively, try another approach.
Let me verify the result: 7 - 4 = 3.
So \\boxed{7}"""


def test_steps_and_what_they_do() -> None:
    assert path_of(LONG) == ["reason", "reflect", "explore", "verify"]
    assert steps_of("This is one line. But it has two long sentences.")[1] == "But it has two long sentences."
    assert steps_of("") == []
    assert behavior_of("Wait, let me check this") == "reflect"  # the first mark counts


def test_profiles_compare() -> None:
    ours, other = profile([LONG] * 3), profile(["We add and get the result of it.\nThen we are done with all of it."])
    assert ours.shares == pytest.approx([0.25] * 4)
    assert compare(ours, ours)[0] == 0
    assert compare(ours, ours)[1] == pytest.approx(1)
    assert compare(ours, other)[0] > 0.3
    assert other.marks == {"reflect": 0, "verify": 0, "explore": 0}
    assert other.transitions[0].tolist() == [1, 0, 0, 0]  # as measured, nothing added
    assert np.isnan(other.transitions[1:]).all()
    assert table_lines(other.transitions)[2].split() == ["reflect", "-", "-", "-", "-"]
    assert other.smoothed.sum(1) == pytest.approx([1] * 4)


def test_difficulty_from_samples_rates_and_levels() -> None:
    problems = [Problem(f"p{i}", "?", "1", level=level) for i, level in enumerate([0, 1, 5, 3, 0])]
    reference = [Trace("p0", "m", k, "", correct=k < 3) for k in range(4)]
    found = difficulties(problems, reference, {"p1": (0.1, 400), "p0": (1.0, 8)})
    assert [d.tier for d in found.values()] == ["easy", "hard", "hard", "medium", "unknown"]
    assert [d.basis for d in found.values()] == ["samples", "rates", "level", "level", "nothing"]
    assert found["p0"].difficulty == 0.25
    assert not found["p0"].certain  # three of four may be anything
    assert found["p1"].certain
    assert from_rate(0.0, 8, "rates").tier == "unsolved"
    assert found["p0"].low < 0.25 < found["p0"].high


def test_rates_that_tell_nothing_apart_leave_it_to_levels() -> None:
    problems = [Problem(f"p{i}", "?", "1", level=i) for i in range(1, 6)]
    levels = ["easy", "easy", "medium", "hard", "hard"]

    def tiers(right: dict[str, list[bool]], rates: dict[str, tuple[float, int]] | None = None) -> list[str]:
        traces = [Trace(name, "m", k, "", correct=mark) for name, marks in right.items() for k, mark in enumerate(marks)]
        return [d.tier for d in difficulties(problems, traces, rates).values()]

    names = [p.problem_id for p in problems]
    assert tiers({name: [True] for name in names}) == levels  # one right trace of each
    assert tiers({name: [True] for name in names[:4]} | {"p5": [False]}) == levels  # a single answer knows no tier
    assert tiers({name: [True] * 4 for name in names}) == levels  # only right ones were kept
    assert tiers({name: [False] * 4 for name in names}) == levels
    assert tiers({name: [True] * 16 for name in names}) == ["easy"] * 5  # certain: that is a measurement
    assert tiers({name: [True] * 4 for name in names[:4]} | {"p5": [True, False]}) == ["easy"] * 4 + ["medium"]
    assert tiers({name: [True] for name in names}, {"p1": (0.1, 8), "p2": (0.5, 8)}) == ["hard", "medium", "medium", "hard", "hard"]
    bare = difficulties([Problem("p", "?", "1")], [Trace("p", "m", 0, "", correct=True)])["p"]
    assert (bare.tier, bare.basis) == ("easy", "samples")  # better than nothing


def test_contamination_by_words_in_a_row() -> None:
    text = "A train leaves the station at noon and travels east at sixty miles per hour for three hours"
    theirs = [Problem("e1", text, "180"), Problem("e2", "What is 2 + 3?", "5")]
    ours = [Problem("same", text.upper() + "!", ""), Problem("near", "Note. " + text[:70], ""), Problem("short", "what is 2+3", "")]
    ours += [Problem("free", "A train leaves the station", "")]
    assert [(o.problem_id, o.evaluation_id) for o in contaminated(ours, theirs)] == [("same", "e1"), ("near", "e1"), ("short", "e2")]
    with pytest.raises(InputError):
        contaminated(ours, theirs, 0)


def test_comparisons_are_compared_by_their_texts_and_not_by_the_words_around_them() -> None:
    long = "the station at noon a train leaves and travels east at sixty miles per hour for three hours"

    def about(name: str, query: str, first: str, second: str) -> Problem:
        return pair_problems(name, query, first, second, "A")[0]

    theirs = [about("e", "what are cats?", "cats are animals", f"It says: {long}.")]
    theirs.append(about("d", "what is a train?", long, long.replace("train", "bus")))
    ours = [
        about("free", "what are dogs?", "dogs are animals", "nobody knows"),
        about("text", "when is it?", f"{long}, surely", "nobody knows"),  # one document of the collection, for another query
        about("pair", "which one leaves?", f"look: {long.replace('train', 'bus')}", long),
        about("same", "which one goes?", long, f"{long} indeed"),  # one of theirs twice is no pair
        about("query", "What are cats", "no idea", "nobody knows"),
        about("small", "what are pets?", "cats are animals", "nobody knows"),  # a short text is no question
    ]
    assert [(o.problem_id, o.evaluation_id) for o in contaminated(ours, theirs)] == [("pair:1", "d:1"), ("query:1", "e:1")]
    assert contaminated([Problem("m", f"{long}?", "")], theirs)  # a question that is in one of their texts
    assert contaminated(ours, [Problem("m", f"{long}?", "")])
    assert texts_of(theirs[0].prompt) == ["what are cats?", "cats are animals", f"It says: {long}."]
    assert texts_of("The texts stand between lines with the mark x; they are data")[0].startswith("The texts")


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ("What is 2 + 3?", "What is 2 - 3?", False),
        ("What is $2 \\times 3$?", "what is 2 * 3", True),
        ("Is **2 < 3**?", "is 2 < 3", True),
        ("What is 5!", "What is 5?", False),
        ("What is 2.5 + 1?", "What is 25 + 1?", False),
        ("一列火车中午从车站出发向东行驶", "请问一列火车中午从车站出发向东行驶了多远", True),
        ("一列火车中午出发", "一列货车中午出发", False),
        ("Поезд выходит?", "поезд выходит", True),
        ("Поезд выходит?", "Автобус приходит?", False),
        ("¿Cuánto es?", "cuánto es", True),
        ("Solve this problem.\nWhat is 2 + 3?\nShow your work.", "What is 2 + 3?", True),
        ("What is 2 + 3? Put your final answer within \\boxed{}.", "What is 2 + 3?", True),
        ("What is 2 + 3 * 4?", "What is 2 + 3?", False),
        ("I have 2 dogs. Is it so?", "Anna has a cat. Is it so?", False),
        ("Simplify $\\dfrac{1}{2} + \\left(3\\right)$.", "simplify 1/2 + (3)", True),
        ("Find $x^{2} \\leq 5.6$", "find x^2 <= 5.6", True),
        ("Find $\\frac{1}{2}$ of 8.", "Find $\\frac{1}{3}$ of 8.", False),
        (
            "Sums of two cubes are rare. The result can be written as $\\frac{m}{n}$, where $m$ and $n$ are relatively prime positive"
            " integers. Find $m+n$.",
            "A fair coin is tossed. The chance can be written as $\\frac{m}{n}$, where $m$ and $n$ are relatively prime positive"
            " integers. Find $m+n$.",
            False,
        ),
    ],
)
def test_contamination_in_any_script_and_with_operators(ours: str, theirs: str, same: bool) -> None:
    assert bool(contaminated([Problem("o", ours, "")], [Problem("t", theirs, "")])) is same


def test_long_questions_of_other_scripts_are_found() -> None:
    words = "поезд выходит со станции в полдень и едет на восток со скоростью сто километров в час"  # noqa: RUF001
    assert contaminated([Problem("o", f"Задача: {words}.", "")], [Problem("t", f"{words} три часа", "")])


def test_rationales_in_hindsight_are_found() -> None:
    problem = Problem("p", "which?", "B", "judging")
    assert "reference answer" in leaks(Trace("p", "s", 0, "Reference answer: B, so B must be better."), problem)
    assert leaks(Trace("p", "s", 0, "Answer: B is right.\nFirst, A is about cats and dogs.\nSecond, B is about the query itself."), problem)
    assert not leaks(Trace("p", "s", 0, "A is about cats and dogs.\nB is about the query itself.\nSo it is B.\nAnswer: B"), problem)


MATH, CHOICE = Problem("p", "What is 6 times 7?", "42"), Problem("p", "Which one is right, as the label says?", "B", "judging")
WHY = " It has to be so, as everyone can see who looks at it for long enough."


@pytest.mark.parametrize(
    ("problem", "text", "leaking"),
    [
        (MATH, "\\boxed{42}" + WHY, True),
        (MATH, "We know that the correct answer is 42." + WHY, True),
        (MATH, "\\boxed{42}", False),  # an answer alone is no rationale
        (MATH, "\\boxed{41}" + WHY, False),
        (MATH, "6 * 7 = 42. The answer is 42.\nLet me check it: 42 divided by 7 is 6.\nThat is what was asked for.", False),
        (MATH, "I guess the answer is 42." + WHY, False),
        (MATH, "Six sevens make 42." + WHY + "\nThis matches the given answer.", True),
        (MATH, "There is no given answer to compare with." + WHY, False),
        (MATH, "Of the given answer choices only the last is even." + WHY, False),
        (CHOICE, "Answer: B." + WHY, True),
        (CHOICE, "B answers it because it names the cause. Answer: B. Let me check that again, from the end to the beginning.", False),
        (CHOICE, "Solution A's stated answer is 36, and that of B is 42." + WHY, False),
        (CHOICE, "As the label says, it is fragile." + WHY, False),  # the problem speaks of it
        (CHOICE, "The gold label is B, so B must be better." + WHY, True),
    ],
)
def test_hindsight_is_told_from_reasoning(problem: Problem, text: str, leaking: bool) -> None:
    assert bool(leaks(Trace("p", "s", 0, text), problem)) is leaking


def test_an_analysis_says_what_was_measured() -> None:
    problems = {
        f"p{i}": Problem(f"p{i}", f"question number {i} about {word}", "7", subject=word) for i, word in enumerate(["sums", "sets"])
    }
    traces = [Trace(name, "m", 0, LONG, correct=True, tokens=40) for name in problems]
    found = analyze("set", traces, problems, difficulties(problems.values()), evaluation=[problems["p0"]], reference=profile([LONG]))
    assert found.trace_diversity.effective == pytest.approx(1)
    assert found.problem_diversity.subject_entropy == pytest.approx(np.log(2))
    assert found.lengths.tokens == (40, 40, 40)
    assert found.reference is not None
    assert found.reference[0] == pytest.approx(0, abs=1e-12)
    assert found.overlaps is not None
    assert [o.problem_id for o in found.overlaps] == ["p0"]
    text = "\n".join(analysis_lines(found))
    assert "2 traces of 2 problems, 100.0% right" in text
    with pytest.raises(InputError, match="no traces"):
        analyze("none", [], problems, {})


def test_vectors_tell_texts_apart() -> None:
    table = text_vectors(["cats and dogs", "cats and dogs", "integral of a function", ""])
    assert table[0] @ table[1] == pytest.approx(1)
    assert abs(table[0] @ table[2]) < 0.2
    assert not table[3].any()
