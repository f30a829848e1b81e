"""Twenty traces teach what their lookalikes do not: the tuning part of experiments/twenty, from its checkpoint."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conftest import REPO

FOLDER = REPO / "experiments" / "twenty"


@pytest.fixture(scope="module")
def twenty() -> Iterator[SimpleNamespace]:
    """The experiment's modules, its model and its tokenizer; one thread, so that results repeat."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sys.path.insert(0, str(FOLDER))
    names = ("running_sum", "learner", "run")
    task, learner, run = (importlib.import_module(name) for name in names)
    model, tokenizer = learner.load(FOLDER / "model")
    yield SimpleNamespace(task=task, learner=learner, run=run, model=model, tokenizer=tokenizer)
    sys.path.remove(str(FOLDER))
    for name in names:
        del sys.modules[name]
    torch.set_num_threads(threads)


def condition(twenty: SimpleNamespace, group: str, name: str) -> Any:
    return next(c for c in twenty.run.CONDITIONS if (c.group, c.name) == (group, name))


def after(twenty: SimpleNamespace, group: str, name: str, seed: int = 0) -> dict[str, Any]:
    """What the experiment measures after tuning on a condition."""
    found = condition(twenty, group, name)
    tuned = twenty.learner.tune(twenty.model, twenty.tokenizer, found.material(seed), steps=found.steps, seed=seed)
    return dict(twenty.run.MEASURE[found.register](tuned, twenty.tokenizer))


def test_the_skill_is_in_the_worked_register_alone(twenty: SimpleNamespace) -> None:
    """Chance is one in ten. Showing the model how to reason, in its prompt, does not make it reason."""
    assert twenty.run.solving(twenty.model, twenty.tokenizer, worked=True)["accuracy"] > 0.95
    asked = twenty.run.solving(twenty.model, twenty.tokenizer)
    assert asked["accuracy"] < 0.2
    assert asked["thinks"] == 0
    shown = twenty.run.Condition("", "", examples=3, lengths=(3, 4, 5)).material(0)
    prompted = twenty.run.solving(twenty.model, twenty.tokenizer, "".join(p.question + answer for p, answer in shown))
    assert prompted["accuracy"] < 0.2


def test_twenty_traces_lift_accuracy(twenty: SimpleNamespace) -> None:
    found = after(twenty, "sources", "20 full")
    assert found["accuracy"] >= 0.85
    assert found["thinks"] == 1


@pytest.mark.parametrize("source", ["direct", "conclusion only", "shuffled steps"])
def test_what_looks_like_a_trace_does_not(twenty: SimpleNamespace, source: str) -> None:
    found = after(twenty, "sources", f"20 {source}")
    assert found["accuracy"] <= 0.35
    assert found["thinks"] == (source != "direct")


def test_twenty_judging_traces_make_a_judge(twenty: SimpleNamespace) -> None:
    """Three verdicts: chance is a third."""
    reasoned, direct = after(twenty, "judging", "20 full"), after(twenty, "judging", "20 direct")
    assert reasoned["accuracy"] > direct["accuracy"] + 0.2
    assert reasoned["consistent"] > direct["consistent"]


def test_problems_and_traces(twenty: SimpleNamespace) -> None:
    task = twenty.task
    problem = task.Problem("J", (3, 7, 1), (4, 1))
    rng = np.random.default_rng(0)
    assert problem.question == "Ja3b7c1?4?1="
    assert task.response(problem, "full", rng) == "<think>a33b70c11?4N?1Y</think>B\n"
    assert task.response(problem, "direct", rng) == "B\n"
    assert problem.swapped().answer == "A"
    assert task.Problem("J", (3, 7, 1), (4, 2)).answer == "T"
    full = task.response(problem, "full", rng)
    for source in task.BODIES:
        reply = task.response(problem, source, rng)
        assert task.is_right(problem, reply)
        assert (len(reply) == len(full)) == (source in ("full", "shuffled steps", "wrong content", "filler"))
    assert not task.is_right(problem, "<think>a33b70c11?4N?1Y</think>A\n")
    assert not task.is_right(problem, "<think>a33b70c11B\n")


def test_the_tokenizer_reads_back_what_it_wrote(twenty: SimpleNamespace) -> None:
    text = twenty.task.response(twenty.task.draw(np.random.default_rng(1), "J"), "full", np.random.default_rng(1))
    ids = twenty.tokenizer(text)["input_ids"]
    assert twenty.tokenizer.decode(ids) == text
    assert len(ids) == len(text) - len("<think></think>") + 2
    assert ids == twenty.learner.make_tokenizer()(text)["input_ids"]
