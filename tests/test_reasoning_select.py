"""Choosing traces, rating them by comparisons, and the controls: what must hold, on made-up traces."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import zelo
from zelo.errors import InputError
from zelo.reasoning import rating
from zelo.reasoning.controls import CONTROLS, control, stated
from zelo.reasoning.difficulty import difficulties
from zelo.reasoning.folder import Folder
from zelo.reasoning.select import Choice, Rule, select
from zelo.reasoning.verify import verify
from zelo.types import Problem, Task, Trace

TOPICS = ["sums of fractions", "prime numbers", "angles of triangles", "coins in a purse"]


def made() -> tuple[dict[str, Problem], list[Trace], list[Trace]]:
    """40 problems of 4 topics; a reference that solves 0, 1, 2, 3 or 4 of 4; two right traces of different length each, one wrong."""
    problems = {f"p{i}": Problem(f"p{i}", f"{TOPICS[i % 4]} number {i}", str(i), subject=TOPICS[i % 4]) for i in range(40)}
    reference = [Trace(f"p{i}", "ref", k, "", correct=k < i // 8) for i in range(40) for k in range(4)]
    traces = []
    for i in range(40):
        for k, words in enumerate((20 + i, 60 + 2 * i, 10)):
            body = " ".join((TOPICS[i % 4].split() * words)[:words]) + f"\n\\boxed{{{i if k < 2 else i + 1}}}"
            traces.append(Trace(f"p{i}", "m", k, body))
    return problems, reference, list(verify(traces, problems))


@pytest.mark.parametrize("rule", ["diverse", "random", "longest", "s1", "top"])
def test_every_rule_takes_right_traces_of_different_problems(rule: Rule) -> None:
    problems, reference, traces = made()
    hard = difficulties(problems.values(), reference)
    ratings = {t.key: float(n) for n, t in enumerate(traces)}
    chosen = select(traces, problems, hard, Choice(20, rule), ratings)
    assert len(chosen) == len({t.problem_id for t in chosen}) == 20
    assert all(t.correct for t in chosen)
    assert chosen == select(list(reversed(traces))[::-1], problems, hard, Choice(20, rule), ratings)
    assert len(select(traces, problems, hard, Choice(99, rule), ratings)) == (24 if rule == "s1" else 40)


def test_diverse_spreads_over_tiers_lengths_and_topics() -> None:
    problems, reference, traces = made()
    hard = difficulties(problems.values(), reference)
    chosen = select(traces, problems, hard, Choice(12), None)
    tiers = Counter(hard[t.problem_id].tier for t in chosen)
    assert tiers == {"easy": 4, "medium": 4, "unsolved": 4}
    assert set(Counter(problems[t.problem_id].subject for t in chosen)) == set(TOPICS)
    weighted = select(traces, problems, hard, Choice(12, tiers={"medium": 3, "easy": 1}), None)
    assert Counter(hard[t.problem_id].tier for t in weighted) == {"medium": 9, "easy": 3}
    seeds = {tuple(t.key for t in select(traces, problems, hard, Choice(12, seed=s), None)) for s in range(4)}
    assert len(seeds) > 1


def test_baselines_do_what_they_are_called() -> None:
    problems, reference, traces = made()
    hard = difficulties(problems.values(), reference)
    longest = select(traces, problems, hard, Choice(5, "longest"))
    assert [t.problem_id for t in longest] == ["p39", "p38", "p37", "p36", "p35"]
    assert all(t.sample == 1 for t in longest)
    s1 = [t for seed in range(10) for t in select(traces, problems, hard, Choice(8, "s1", seed=seed))]
    assert not [t for t in s1 if hard[t.problem_id].tier == "easy"]
    subjects = Counter(problems[t.problem_id].subject for t in s1)
    assert min(subjects.values()) > 10  # drawn alike
    mean = np.mean([len(t.reasoning) for t in s1])
    assert mean > np.mean([len(t.reasoning) for t in traces if t.sample == 1 and hard[t.problem_id].tier != "easy"])  # longer first
    top = select(traces, problems, hard, Choice(3, "top"), {t.key: -i for i, t in enumerate(traces)})
    assert [t.key for t in top] == [("p0", "m", 0), ("p1", "m", 0), ("p2", "m", 0)]


def test_what_cannot_be_chosen_is_said() -> None:
    problems, reference, traces = made()
    hard = difficulties(problems.values(), reference)
    with pytest.raises(InputError, match="80 of them are right"):
        select(traces, problems, hard, Choice(3, least=5000))
    with pytest.raises(InputError, match="all 16 problems are easy"):
        easy = [t for t in traces if hard[t.problem_id].tier == "easy"]
        select(easy, problems, hard, Choice(3, "s1"))
    with pytest.raises(InputError, match="no trace is rated"):
        select(traces, problems, hard, Choice(3, "top"))
    for faulty in ({"count": 0}, {"tiers": {"heavy": 1.0}}):
        with pytest.raises(InputError):
            Choice(**faulty)  # type: ignore[arg-type]
    wrong = select([t for t in traces if not t.correct], problems, hard, Choice(3, unverified=True))
    assert len(wrong) == 3
    cut = [Trace("p0", "m", 0, "\\boxed{0}", correct=True, finish="length")]
    with pytest.raises(InputError):
        select(cut, problems, hard, Choice(1))


def test_ratings_find_the_order_that_a_judge_has() -> None:
    problems, _, traces = made()
    right = [t for t in traces if t.correct and t.sample == 1][:20]
    asked, pairs = rating.comparisons(right, problems, 8, 0)
    assert len(asked) == 80
    first = Counter(pairs[:, 0].tolist())
    assert set(first.values()) == {4}  # each leads in half of its comparisons
    strength = np.arange(20.0)
    answers = [
        Trace(p.problem_id, "judge", 0, f"Answer: {'A' if strength[a] > strength[b] else 'B'}")
        for p, (a, b) in zip(asked, pairs.tolist(), strict=True)
    ]
    found = rating.rate(right, pairs, answers[:-3], asked)  # missing ones are no ties
    order = np.argsort([r.score for r in found])
    assert np.abs(order - np.arange(20)).mean() < 1.5
    assert all(r.stderr > 0 for r in found)
    with pytest.raises(InputError, match="usable answer"):
        rating.rate(right, pairs, [Trace(p.problem_id, "judge", 0, "hm") for p in asked], asked)
    with pytest.raises(InputError, match="at least two"):
        rating.comparisons(right[:1], problems, 2, 0)


def test_ratings_come_back(tmp_path: Path) -> None:
    traces = [Trace("p", "s", 1, "one"), Trace("q", "s", 0, "two")]
    rated = [rating.Rating(("p", "s", 1), -0.5, 0.1, 8), rating.Rating(("q", "s", 0), 0.5, 0.1, 8)]
    rating.write_ratings(tmp_path / "r.jsonl", rated, traces)
    assert rating.read_ratings(tmp_path / "r.jsonl", traces) == {("q", "s", 0): 0.5, ("p", "s", 1): -0.5}
    edited = [traces[0], replace(traces[1], reasoning="another text", stage=2)]
    assert rating.read_ratings(tmp_path / "r.jsonl", edited) == {("p", "s", 1): -0.5}
    assert rating.read_ratings(tmp_path / "none.jsonl", traces) == {}
    (tmp_path / "r.jsonl").write_text('{"score": 1}\n', "utf-8")
    with pytest.raises(InputError, match=r"r\.jsonl:1: not a rating"):
        rating.read_ratings(tmp_path / "r.jsonl", traces)


STEPS = [f"Step {i} of this calculation gives us {i * 7 + 3}." for i in range(1, 7)]
TRACE = Trace("p", "m", 0, "\n".join([*STEPS, "So the answer is \\boxed{45} as it should be."]), answer="45", correct=True)


def test_controls_take_one_thing_away() -> None:
    other = Trace("q", "m", 0, "We look at triangles and at squares.\nThey have sides and corners.\nIt is \\boxed{3} then, we are done.")
    problems = {"p": Problem("p", "?", "45"), "q": Problem("q", "?", "3")}
    made = {name: control(name, [TRACE, other], problems)[0].reasoning for name in CONTROLS}
    assert made["direct"] == "\\boxed{45}"
    assert made["conclusion"] == "So the answer is \\boxed{45} as it should be."
    kept = made["skipped"].splitlines()
    assert len(kept) == 4
    assert kept == [line for line in TRACE.reasoning.splitlines() if line in kept]  # in order
    shuffled = made["shuffled"].splitlines()
    assert sorted(shuffled) == sorted(TRACE.reasoning.splitlines())
    assert shuffled[-1] == kept[-1] == made["conclusion"]
    assert shuffled != TRACE.reasoning.splitlines()
    assert len(made["filler"].split()) == len(TRACE.reasoning.split())
    assert made["filler"].endswith("\\boxed{45}")
    assert made["wrong"].splitlines() == [*other.reasoning.splitlines()[:-1], made["conclusion"]]


def test_controls_of_judging_and_other_steps() -> None:
    problems = {"p": Problem("p", "?", "A", "judging"), "q": Problem("q", "?", "B", "judging")}
    traces = [Trace(name, "m", 0, f"about {name};first;second;Answer: {p.answer}") for name, p in problems.items()]
    wrong = control("wrong", traces, problems, separator=";")
    assert wrong[0].reasoning == "about q;first;second;Answer: A"  # the label stays right: the reasons are another pair's
    assert control("skipped", traces, problems, separator=";")[0].reasoning.count(";") == 2
    assert control("direct", traces, problems)[1].reasoning == "Answer: B"
    assert {t.source for t in wrong} == {"control-wrong"}
    with pytest.raises(InputError, match="not known"):
        control("direct", [TRACE], {"p": Problem("p", "?", "")})
    with pytest.raises(InputError, match="2 of 2 traces of judging are of one problem"):
        control("wrong", traces, {name: replace(p, group="g") for name, p in problems.items()})


@pytest.mark.parametrize("task", ["math", "judging"])
def test_wrong_content_lends_every_body_once_and_keeps_what_is_right(task: Task) -> None:
    """The same texts under other problems: form, length and answers are those of the good traces, for both kinds alike."""
    answers = ["A", "B", "tie"] if task == "judging" else ["1", "2", "3"]
    problems = {f"p{i}": Problem(f"p{i}", f"{i}?", answers[i % 3], task, group=f"g{i // 2}") for i in range(10)}
    traces = [
        Trace(
            name,
            "m",
            0,
            f"first thought about {name} here\nsecond thought about {name} here\nthis is how it ends for {name}. {stated(p.answer, task)}",
        )
        for name, p in problems.items()
    ]
    made = control("wrong", traces, problems)
    assert all(t.correct for t in verify(made, problems))
    lent = [re.findall(r"about (p\d)", t.reasoning)[0] for t in made]
    assert sorted(lent) == sorted(problems)
    assert all(problems[a].group_id != problems[b].group_id for a, b in zip(lent, problems, strict=True))
    assert [t.reasoning.splitlines()[-1] for t in made] == [t.reasoning.splitlines()[-1] for t in traces]
    assert [t.reasoning for t in control("wrong", traces, problems, seed=1)] != [t.reasoning for t in made]


def test_select_and_export_from_the_command_line(tmp_path: Path) -> None:
    problems, reference, traces = made()
    state = Folder.create(tmp_path / "f")
    state.add_problems(problems.values())
    state.merge_traces(1, [*reference, *traces])
    state.add_problems([Problem("e", problems["p39"].prompt, "39")], evaluation=True)
    ran = zelo("reasoning", "select", state.root, "-n", "6", "--rule", "longest", "--source", "m", "--reference", "ref", "--words", "10-")
    assert ran.code == 0, ran.err
    assert "selected by longest: 6 traces of 6 problems, 100.0% right" in ran.out
    assert "left out: 1 problems that share text" in ran.err
    assert [t.problem_id for t in state.selected()][:2] == ["p38", "p37"]
    for form, key in (("messages", "messages"), ("prompt-completion", "completion"), ("sharegpt", "conversations"), ("alpaca", "output")):
        assert zelo("reasoning", "export", state.root, tmp_path / "out" / f"{form}.jsonl", "--form", form).out.startswith("6 rows")
        rows = [json.loads(line) for line in (tmp_path / "out" / f"{form}.jsonl").read_text().splitlines()]
        assert len(rows) == 6
        assert state.selected()[0].reasoning in json.dumps(rows[0][key]).encode().decode("unicode_escape").replace("\\\\", "\\")
    assert json.loads((tmp_path / "out" / "dataset_info.json").read_text())["sharegpt"]["file_name"] == "sharegpt.jsonl"
    assert zelo("reasoning", "export", state.root, tmp_path / "all.jsonl", "--form", "stages").out.startswith("280 rows")
    again = zelo("reasoning", "import", tmp_path / "g", tmp_path / "all.jsonl")
    assert (again.code, "280 traces" in again.out) == (0, True), again.err
    assert zelo("reasoning", "export", state.root, tmp_path / "c.jsonl", "--control", "direct").code == 0
    assert "\\\\boxed{38}" in (tmp_path / "c.jsonl").read_text().splitlines()[0]
    for faulty in (["--words", "ten"], ["--tiers", "easy=x"], ["--tiers", "heavy=1"]):
        ran = zelo("reasoning", "select", state.root, *faulty)
        assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err


def test_an_empty_choice_says_when_the_evaluation_set_is_why(tmp_path: Path) -> None:
    problems, _, traces = made()
    state = Folder.create(tmp_path / "f")
    state.add_problems(list(problems.values())[:12])
    state.merge_traces(1, [t for t in traces if t.problem_id in state.problems()])
    state.add_problems([Problem(f"e{p.problem_id}", p.prompt, "") for p in state.problems().values()], evaluation=True)
    ran = zelo("reasoning", "select", state.root)
    assert ran.code == 2
    assert "12 problems share text with the evaluation set" in ran.err
    assert "other lengths" not in ran.err
    narrow = zelo("reasoning", "select", state.root, "--words", "9000-")
    assert "allow other lengths" in narrow.err


def test_a_guide_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    problems, _, _ = made()
    state = Folder.create(tmp_path / "f")
    state.add_problems(problems.values())
    state.merge_traces(1, [TRACE.__class__("p1", "m", 0, TRACE.reasoning, correct=True)])
    (tmp_path / "file").touch()
    ran = zelo("reasoning", "analyze", state.root, "--guide", tmp_path / "file" / "guide.json")
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    assert "the guide cannot be written" in ran.err
