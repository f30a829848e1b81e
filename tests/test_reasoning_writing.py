"""The writer alone, with models that are scripted: budget forcing, cut and refused texts, costs; prompts as files; guidance; edits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from zelo.core.comparison_graph import rng_for
from zelo.errors import InputError, JudgeError, RetryError
from zelo.language_models.names import open_model
from zelo.language_models.openai import OpenAIChat
from zelo.language_models.protocol import Finish, Reply, Request, UnsupportedOutput
from zelo.progress import Silent
from zelo.reasoning import guidance
from zelo.reasoning.edit import taken_over
from zelo.reasoning.prompt_files import load_prompt, prompt_names
from zelo.reasoning.sampling import asks_for, plain_ask
from zelo.reasoning.writing import Ask, Desk, Knobs, Writer, Written, thoughts
from zelo.recipe import Model
from zelo.types import Problem, Trace


class Scripted:
    """Says what it is told, one reply after the other; remembers what it was asked."""

    name = "scripted"

    def __init__(self, replies: Sequence[tuple[str, Finish]]) -> None:
        self.replies, self.asked = list(replies), list[Request]()

    async def complete(self, request: Request) -> Reply:
        self.asked.append(request)
        text, finish = self.replies[(len(self.asked) - 1) % len(self.replies)]
        return Reply(text, finish, 100, 0, 10, 0.1)

    async def close(self) -> None: ...


ASK = Ask("p", 0, (("user", "1 + 1?"),))


def test_waits_take_back_the_end_of_thoughts() -> None:
    model = Scripted([("<think>first</think>\\boxed{1}", "stop"), (", second</think>\\boxed{2}", "stop"), (" third", "stop")])
    writer = Writer(model, Knobs(100, waits=2), "p")
    answer = asyncio.run(writer.attempt(ASK.comparison()))
    assert [r.prefix for r in model.asked] == ["", "<think>first\n\nWait", "<think>first\n\nWait, second\n\nWait"]
    assert answer.reasoning == "<think>first\n\nWait, second\n\nWait third"
    assert (answer.input_tokens, answer.output_tokens, answer.note) == (300, 30, "stop")
    assert [r.max_output_tokens for r in model.asked] == [100, 90, 80]


def test_an_echoed_prefix_counts_once() -> None:
    model = Scripted([("a", "stop"), ("a\n\nWait b", "stop")])
    assert asyncio.run(Writer(model, Knobs(100, waits=1), "p").attempt(ASK.comparison())).reasoning == "a\n\nWait b"


def test_thoughts_without_tokens_left_are_made_to_answer() -> None:
    model = Scripted([("thinking", "length"), ("7}", "stop")])
    answer = asyncio.run(Writer(model, Knobs(100, force=True), "p").attempt(ASK.comparison()))
    assert answer.reasoning == "thinking\n\nThe final answer is \\boxed{7}"
    assert thoughts("a\n</think> b") == "a"


def test_cut_and_refused_texts_are_texts_and_failures_are_not(tmp_path: Path) -> None:
    model = Scripted([("half", "length")])
    asks = [Ask("p", k, (("user", "1 + 1?"),)) for k in range(2)]
    desk = Desk(tmp_path / "j.sqlite", Writer(model, Knobs(100), "p"))
    assert desk.write(asks, Silent(), "t") == [Written("half", "length", 10, 0.0)] * 2
    assert len(model.asked) == 2
    assert desk.write(asks, Silent(), "t") == [Written("half", "length", 10, 0.0)] * 2
    assert len(model.asked) == 2  # not asked again
    other = Desk(tmp_path / "j.sqlite", Writer(model, Knobs(101), "p2"))
    assert other.bill(asks).left == 2


def test_what_no_file_of_text_can_hold_is_replaced(tmp_path: Path) -> None:
    found = Desk(tmp_path / "j.sqlite", Writer(Scripted([("a\x00b", "stop")]), Knobs(9), "p")).write([ASK], Silent(), "t")
    assert found == [Written("a\N{REPLACEMENT CHARACTER}b", "stop", 10, 0.0)]


def test_costs_are_counted_and_bounded(tmp_path: Path) -> None:
    from zelo.judges.running import Limits

    facts = Model(input_price=1.0, output_price=10.0)
    model = Scripted([("text", "stop")])
    asks = [Ask("p", k, (("user", "x" * 250),)) for k in range(40)]
    desk = Desk(tmp_path / "j.sqlite", Writer(model, Knobs(100), "p", facts))
    bill = desk.bill(asks)
    assert bill.dollars == pytest.approx(40 * (100 * 1 + 100 * 10) / 1e6)
    assert bill.written == 4000
    capped = Desk(tmp_path / "j.sqlite", Writer(model, Knobs(100), "p", facts), Limits(dollars=0.005))
    with pytest.raises(JudgeError, match="budget"):
        capped.write(asks, Silent(), "t")
    assert len(model.asked) * 200 / 1e6 <= 0.005
    assert desk.write(asks, Silent(), "t")[0] == Written("text", "stop", 10, pytest.approx(200 / 1e6))


class Down(Scripted):
    async def complete(self, request: Request) -> Reply:
        raise RetryError("down")


def test_a_model_that_is_down_stops_with_its_reason(tmp_path: Path) -> None:
    from zelo.judges.running import Limits

    with pytest.raises(JudgeError, match="not one text came: down"):
        Desk(tmp_path / "j.sqlite", Writer(Down([]), Knobs(9), "p"), Limits(retries=0)).write([ASK], Silent(), "t")


def test_faulty_knobs_and_asks() -> None:
    for faulty in ({"max_tokens": 0}, {"waits": -1}, {"temperature": 3.0}):
        with pytest.raises(InputError):
            Knobs(**faulty)  # type: ignore[arg-type]
    way = plain_ask(load_prompt("plain", "solve"))
    with pytest.raises(InputError, match="times the same"):
        asks_for([Problem("p", "?", "1")], 2, way, temperature=0.0)
    with pytest.raises(InputError, match="takes examples"):
        plain_ask(load_prompt("examples", "solve"))


def test_who_goes_on_with_a_begun_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request((("user", "x"),), 10, prefix="so far ")
    here = open_model("http://127.0.0.1:9/v1#m")
    assert isinstance(here, OpenAIChat)
    body = here.payload(request)
    assert body["messages"][-1] == {"role": "assistant", "content": "so far "}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert "continue_final_message" not in here.payload(Request((("user", "x"),), 10))
    for name in ("openai:m", "gemini:m", "anthropic:m"):
        monkeypatch.setenv(f"{name.partition(':')[0].upper()}_API_KEY", "k" * 20)
    for name in ("openai:m", "gemini:m"):
        with pytest.raises(UnsupportedOutput, match="begun answer"):
            open_model(name).payload(request)  # type: ignore[attr-defined]
    assert open_model("anthropic:m").payload(request)["messages"][-1]["content"] == "so far"  # type: ignore[attr-defined]


def test_every_prompt_that_comes_with_zelo_is_sound() -> None:
    kinds = {"examples": "solve", "direct": "solve", "long": "solve", "plain": "solve", "step": "guide"}
    values = {"problem": "1 + {x}?", "trace": "t", "so_far": "s", "instruction": "i", "examples": "e"}
    assert len(prompt_names()) == 9
    for name in prompt_names():
        prompt = load_prompt(name, kinds.get(name, "edit"))  # type: ignore[arg-type]
        assert prompt.id == name
        for task, ending in (("math", "boxed"), ("judging", "Answer: ")):
            text = prompt.messages(task, **values)[-1][1]  # type: ignore[arg-type]
            assert "1 + {x}?" in text
            assert ending in text


def test_faulty_prompts_are_named(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    good = 'id = "p"\nkind = "solve"\nuser = "{problem}"\n[endings]\nmath = ""\njudging = ""\n'
    path.write_text(good, "utf-8")
    assert load_prompt(str(path), "solve").messages("math", problem="?") == (("user", "?"),)
    for change, message in (
        (("{problem}", "{problm}"), "placeholders"), (('kind = "solve"', 'kind = "sove"'), "kind = 'sove'"),
        (("user", "usr"), "unknown key"),
        (('math = ""', ""), "endings"), (('"p"', "3"), "not a text"), (("id =", "id"), "not TOML"),
    ):  # fmt: skip
        path.write_text(good.replace(*change), "utf-8")
        with pytest.raises(InputError, match=message):
            load_prompt(str(path), "solve")
    with pytest.raises(InputError, match="did you mean 'long'"):
        load_prompt("lon", "solve")
    with pytest.raises(InputError, match="is to edit, not to solve"):
        load_prompt("clean", "solve")


def test_plans_have_the_structure_of_their_reference(tmp_path: Path) -> None:
    steps = ["Let us add the two numbers up.", "Wait, I misread that number here.", "Let me check the result of this."]
    traces = [Trace("p", "s", k, "\n".join(steps)) for k in range(50)]
    guide = guidance.measure(traces)
    guide.write(tmp_path / "g.json")
    again = guidance.read_guide(tmp_path / "g.json")
    assert np.allclose(again.transitions, guide.transitions)
    plans = [again.plan(rng_for(0, str(i))) for i in range(200)]
    assert all(len(plan) == 3 and plan[-1] == "conclude" for plan in plans)
    assert sum(plan[:2] == ["reason", "reflect"] for plan in plans) > 180
    with pytest.raises(InputError, match="two steps"):
        guidance.measure([Trace("p", "s", 0, "short")])


def test_an_edit_may_not_make_a_right_trace_wrong() -> None:
    problems = {"p": Problem("p", "1 + 1?", "2")}
    texts = ["\\boxed{2}", "\\boxed{2}", "\\boxed{3}", "\\boxed{2}", "\\boxed{2}"]
    before = [Trace("p", "s", k, text, correct=text == "\\boxed{2}", answer=text[7]) for k, text in enumerate(texts)]
    new = [
        Written("longer \\boxed{2}", "stop", 5, 1.0),
        Written("oh \\boxed{5}", "stop", 5, 1.0),
        Written("fixed \\boxed{2}", "stop", 5, 1.0),
    ]
    after = taken_over(before, [*new, Written("cut \\boxed{2}", "length", 5, 1.0), None], problems, "clean")
    assert [t.reasoning for t in after] == ["longer \\boxed{2}", "\\boxed{2}", "fixed \\boxed{2}", "\\boxed{2}", "\\boxed{2}"]
    assert [t.correct for t in after] == [True] * 5
    assert ["left as it was" in t.note for t in after] == [False, True, False, True, True]
    assert all(t.stage == 2 for t in after)
    assert [t.cost for t in after] == [1, 1, 1, 1, 0]
