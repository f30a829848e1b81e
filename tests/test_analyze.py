"""Properties of traces: difficulty, structure, hygiene."""

from __future__ import annotations

import numpy as np
import pytest

from zelo.errors import InputError
from zelo.reasoning.analyze import analysis_lines, analyze, compare
from zelo.reasoning.behavior import behavior_of, path_of, profile, steps_of
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
    ours = [
        about("free", "what are dogs?", "dogs are animals", "nobody knows"),
        about("text", "when is it?", f"{long}, surely", "nobody knows"),
        about("query", "What are cats", "no idea", "nobody knows"),
        about("small", "what are pets?", "cats are animals", "nobody knows"),  # a short text is no question
    ]
    assert [o.problem_id for o in contaminated(ours, theirs)] == ["text:1", "query:1"]
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
