"""The judge that thinks: the mean over traces and both orders, on scripted models and within the whole line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fault_server import Call, FaultServer
from zelo import recipe as recipes
from zelo import runner
from zelo.artifacts import read_table
from zelo.collections.beir import read_corpus
from zelo.errors import InputError, JudgeError, RecipeError, RetryError
from zelo.judges import Comparison, RemoteJudge, known_judge, lacks_price
from zelo.judges.journal import Attempt, Journal
from zelo.judges.llm import asked_with
from zelo.judges.running import Job, Limits, ask
from zelo.judges.thinking import ThinkingJudge, thinking_judge
from zelo.language_models.protocol import BadRequest, Finish, Reply, Request
from zelo.planning.prospect import plan_output
from zelo.reasoning.prompt_files import load_prompt
from zelo.reasoning.writing import Knobs
from zelo.recipe import Model, Recipe
from zelo.workspace import Workspace

PAIR = Comparison("which?", "alpha text", "beta text")


class Model_:
    """Answers by a function of whether alpha is shown first, and of the call's number."""

    name = "m"

    def __init__(self, say: Callable[[bool, int], str | Exception], finish: Finish = "stop") -> None:
        self.say, self.finish, self.calls = say, finish, 0

    async def complete(self, request: Request) -> Reply:
        text = request.messages[-1][1]
        self.calls += 1
        said = self.say(text.index("alpha") < text.index("beta"), self.calls - 1)
        if isinstance(said, Exception):
            raise said
        return Reply(said, self.finish, 10, 0, 5, 0.1)

    async def close(self) -> None: ...


def judge(model: Model_, traces: int = 2) -> ThinkingJudge:
    facts = Model(input_price=1.0, output_price=2.0)
    return ThinkingJudge(model, load_prompt("long", "solve"), Knobs(50, 0.7), traces, facts, 1000)


def test_a_judge_of_merit_keeps_its_preference_and_one_of_place_has_none() -> None:
    assert isinstance(judge(Model_(lambda first, n: "")), RemoteJudge)
    merit = asyncio.run(judge(Model_(lambda first, n: f"hm. Answer: {'A' if first else 'B'}")).attempt(PAIR))
    assert (merit.preference, merit.status, merit.note) == (1.0, "ok", "4 of 4 traces voted")
    assert (merit.input_tokens, merit.output_tokens) == (40, 20)
    assert merit.cost == pytest.approx((40 * 1 + 20 * 2) / 1e6)
    assert merit.reasoning.count("order]") == 4
    place = asyncio.run(judge(Model_(lambda first, n: "Answer: A")).attempt(PAIR))
    assert place.preference == 0
    other = asyncio.run(judge(Model_(lambda first, n: f"Answer: {'B' if first else 'A'}")).attempt(PAIR))
    assert other.preference == -1
    tie = asyncio.run(judge(Model_(lambda first, n: "Answer: tie")).attempt(PAIR))
    assert tie.preference == 0


def test_the_mean_says_how_sure_it_is() -> None:
    unsure = Model_(lambda first, n: f"Answer: {'AB'[(n % 4 == 0) ^ (not first)]}")  # one trace in four of each order votes for beta
    assert asyncio.run(judge(unsure, 4).attempt(PAIR)).preference == pytest.approx(0.5)
    silent = Model_(lambda first, n: ("Answer: A" if first else "Answer: B") if n % 2 else "no idea")
    answer = asyncio.run(judge(silent, 4).attempt(PAIR))
    assert (answer.preference, answer.note) == (1.0, "4 of 8 traces voted")  # who does not vote is no tie


def test_votes_in_one_order_only_are_no_preference() -> None:
    half = asyncio.run(judge(Model_(lambda first, n: "Answer: A" if first else "hm")).attempt(PAIR))
    assert (half.preference, half.status) == (None, "unparsable")
    cut = asyncio.run(judge(Model_(lambda first, n: "Answer: A", finish="length")).attempt(PAIR))
    assert (cut.preference, cut.status) == (None, "truncated")


def test_failures_keep_what_was_paid() -> None:
    failing = judge(Model_(lambda first, n: RetryError("busy", cost=0.5) if n == 3 else "Answer: A"))
    with pytest.raises(RetryError) as caught:
        asyncio.run(failing.attempt(PAIR))
    assert caught.value.cost == pytest.approx(0.5 + 3 * (10 * 1 + 5 * 2) / 1e6)
    bad = asyncio.run(judge(Model_(lambda first, n: BadRequest("too long"))).attempt(PAIR))
    assert (bad.preference, bad.status) == (None, "failed")
    with pytest.raises(JudgeError):
        asyncio.run(judge(Model_(lambda first, n: JudgeError("no right"))).attempt(PAIR))
    across = asyncio.run(judge(Model_(lambda first, n: "")).attempt(replace(PAIR, second_query="other?")))
    assert across.status == "failed"
    read, written, dollars = judge(Model_(lambda first, n: "")).estimate(PAIR)
    assert written == 200
    assert dollars > 400 / 1e6
    assert read > 100


def test_only_the_failed_traces_are_asked_again() -> None:
    model = Model_(lambda first, n: RetryError("busy") if n in (1, 6, 8) else f"Answer: {'A' if first else 'B'}")
    asked = judge(model, 4)
    took = []
    for calls in (8, 10):  # 2 of 8 fail, then 1 of those 2
        with pytest.raises(RetryError) as caught:
            asyncio.run(asked.attempt(PAIR))
        took.append((caught.value.input_tokens, caught.value.output_tokens, caught.value.cost))
        assert model.calls == calls
    answer = asyncio.run(asked.attempt(PAIR))
    assert model.calls == 11
    assert (answer.preference, answer.note) == (1.0, "8 of 8 traces voted")
    took.append((answer.input_tokens, answer.output_tokens, answer.cost))
    assert [t[:2] for t in took] == [(60, 30), (10, 5), (10, 5)]  # each trace is counted once
    assert sum(t[2] for t in took) == pytest.approx(8 * 20 / 1e6)
    asyncio.run(asked.attempt(PAIR))
    assert model.calls == 19  # what was answered is not kept: who asks again wants other traces


def test_each_order_keeps_its_own_traces() -> None:
    """Alpha's votes come from the first order only if a trace that was asked again went where it belongs."""
    model = Model_(lambda first, n: RetryError("busy") if n in (0, 5) else "Answer: A" if first else "Answer: tie")
    asked = judge(model, 3)
    with pytest.raises(RetryError):
        asyncio.run(asked.attempt(PAIR))
    assert asyncio.run(asked.attempt(PAIR)).preference == 0.5


def test_what_finished_traces_took_is_told_by_every_failure() -> None:
    for error in (JudgeError("no right"), OSError("odd")):
        failing = judge(Model_(lambda first, n, error=error: error if n == 3 else "Answer: A"))  # type: ignore[misc]
        with pytest.raises((RetryError, JudgeError)) as caught:
            asyncio.run(failing.attempt(PAIR))
        assert isinstance(caught.value, RetryError | JudgeError)
        assert (caught.value.input_tokens, caught.value.output_tokens) == (30, 15)
        assert caught.value.cost == pytest.approx(60 / 1e6)
    told = asyncio.run(judge(Model_(lambda first, n: BadRequest("too long") if n == 3 else "Answer: A")).attempt(PAIR))
    assert (told.input_tokens, told.output_tokens, told.status) == (30, 15, "failed")


def test_no_right_to_ask_is_said_before_a_busy_server() -> None:
    faults = {0: RetryError("busy", sent=True), 2: JudgeError("no right"), 3: BadRequest("too long")}
    with pytest.raises(JudgeError, match="no right"):
        asyncio.run(judge(Model_(lambda first, n: faults.get(n, "Answer: A"))).attempt(PAIR))
    del faults[2]
    with pytest.raises(RetryError) as caught:
        asyncio.run(judge(Model_(lambda first, n: faults.get(n, "Answer: A"))).attempt(PAIR))
    assert caught.value.sent


def test_a_run_counts_the_tokens_of_all_that_was_answered(tmp_path: Path) -> None:
    comparisons = [Comparison("which?", f"alpha {n}", f"beta {n}") for n in range(60)]
    model = Model_(lambda first, n: RetryError("busy") if n % 10 == 3 else f"Answer: {'A' if first else 'B'}")
    asked = judge(model, 4)
    with Journal(tmp_path / "journal") as journal:
        texts = [
            journal.texts(t, t) for t in ([c.query for c in comparisons], *zip(*((c.first, c.second) for c in comparisons), strict=True))
        ]
        questions = journal.questions(np.column_stack([*texts, np.zeros(60, np.int64)]))
        number = journal.judge(asked.name, asked.prompt_id)
        job = Job(asked, number, questions.tolist(), comparisons.__getitem__, [0] * 60)
        ask([job], journal, Limits(retries=5), lambda _: None)
        assert job.answered == 60
        assert journal.spent() == (pytest.approx(480 * 20 / 1e6), 480 * 15)
    assert model.calls - sum(n % 10 == 3 for n in range(model.calls)) == 480  # not one trace was thrown away


def test_more_room_keeps_answers_and_asks_those_again_that_were_cut(tmp_path: Path) -> None:
    facts, prompt = Model(), load_prompt("long", "solve")
    short, long, warm = (
        ThinkingJudge(Model_(lambda first, n: "Answer: A", finish="length"), prompt, Knobs(room, heat), 4, facts, 1000)
        for room, heat in ((50, 0.7), (90, 0.7), (90, 0.8))
    )
    assert short.prompt_id == long.prompt_id != warm.prompt_id
    cut = asyncio.run(short.attempt(PAIR))
    assert cut.status == "truncated"
    with Journal(tmp_path / "journal") as journal:
        texts = [journal.texts([t], [t]) for t in (PAIR.query, PAIR.first, PAIR.second)]
        questions = journal.questions(np.column_stack([*texts, [0]]))
        number = journal.judge(short.name, short.prompt_id)
        journal.add([Attempt(number, int(questions[0]), replace(cut, output_tokens=400))] * 2)  # all traces together
        assert journal.standing(number, questions, 50).unusable.tolist() == [2]
        assert journal.standing(number, questions, 90).unusable.tolist() == [0]


def test_it_goes_by_a_name_in_a_recipe() -> None:
    name = "thinking:http://127.0.0.1:9/v1#m"
    recipe = Recipe()
    assert known_judge(name, recipe) == name
    assert not lacks_price(name, recipe)
    assert lacks_price("thinking:openai:m", recipe)
    for faulty in ("thinking:", "thinking:nobody:m", "thinkin:openai:m"):
        with pytest.raises(RecipeError):
            known_judge(faulty)

    def with_model(model: Model, **changes: object) -> Recipe:
        return replace(recipe, judge=replace(recipe.judge, ensemble=(name,), models={name: model}, **changes))  # type: ignore[arg-type]

    with pytest.raises(RecipeError, match="times the same"):
        thinking_judge(name, with_model(Model(traces=4)))
    assert "4x2" in thinking_judge(name, with_model(Model(traces=4), temperature=0.7)).prompt_id
    for wrong in (with_model(Model(batch=True)), with_model(Model(), criterion="fit")):
        with pytest.raises(RecipeError):
            known_judge(name, wrong)
    with pytest.raises(InputError, match="no prompt 'lng'"):
        known_judge(name, with_model(Model(prompt="lng")))
    assert asked_with(with_model(Model())) == {f"prompt of {name}": load_prompt("long", "solve").name}


def longer(call: Call) -> str:
    """A trace of a judge that likes the text with more words, over a server's HTTP."""
    parts = [part.split("]")[1].split("[")[0] for part in call.text.split("document ")[1:] if "]" in part]
    a, b = len(parts[0].split()), len(parts[2].split())
    return f"Let me think about both.\nAnswer: {'A' if a > b else 'B' if b > a else 'tie'}"


def test_the_whole_line_runs_with_it(tmp_path: Path) -> None:
    settings = {
        "ingest.collection": "synthetic",
        "ingest.max_train_queries": "2",
        "ingest.max_test_queries": "4",
        "retrieve.candidates": "4",
    }
    settings |= {"pair.degree": "2", "judge.retries": "3", "judge.temperature": "0.7", "evaluate.resamples": "200", "report.examples": "1"}
    with FaultServer(rate=0.1, faults=["429", "500", "close"], seed=1, answer=longer) as server:
        name = f"thinking:{server.url}#m"
        recipe = recipes.load("demo").with_settings(settings)
        judging = replace(recipe.judge, ensemble=("lexical", name), models={name: Model(traces=2)})
        workspace = Workspace.create(tmp_path / "ws", replace(recipe, judge=judging))
        runner.run(workspace)
        assert runner.run(workspace) == []
        plan = list(plan_output(workspace, workspace.recipe, as_json=False))
    judged = read_table(workspace.path("judgments"), "judgments")
    rows = [i for i, j in enumerate(judged["judge"]) if j == name]
    documents = {d.doc_id: len(d.full_text.split()) for d in read_corpus(workspace.path("corpus"))}
    assert rows
    for i in rows:
        a, b = documents[judged["doc_id_a"][i]], documents[judged["doc_id_b"][i]]
        assert judged["preference"][i] == (a > b) - (a < b)
        assert judged["note"][i] == "4 of 4 traces voted"
    assert workspace.path("report").exists()
    assert any(name in line for line in plan)
