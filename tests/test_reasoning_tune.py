"""Light tuning: the loss against transformers' own, a tiny model that learns its traces, and the plan."""

from __future__ import annotations

import asyncio
import json
import re
import time
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import zelo
from tiny_llm import write_tiny_llm
from zelo.errors import InputError
from zelo.language_models.protocol import Request
from zelo.reasoning.folder import Folder
from zelo.reasoning.prompt_files import load_prompt
from zelo.reasoning.tune import Tuning, rows_of, tune
from zelo.reasoning.tune_recipes import load_recipe
from zelo.types import Problem, Trace

pytest.importorskip("peft")

PROBLEMS = {f"p{i}": Problem(f"p{i}", f"What is {i} + 1?", str(i + 1)) for i in range(3)}
TRACES = [Trace(f"p{i}", "me", 0, f"One more than {i} is {i + 1}.\n\\boxed{{{i + 1}}}") for i in range(3)]


def test_rows_are_masked_and_never_cut() -> None:
    from zelo.rerankers.templates import load_tokenizer

    tokenizer = load_tokenizer(write_tiny_llm())
    rows = rows_of(TRACES, PROBLEMS, load_prompt("plain", "solve"), tokenizer, 1000)
    for row, trace in zip(rows, TRACES, strict=True):
        learned = row[row >= 0]
        assert tokenizer.decode(learned.tolist()) == trace.reasoning + tokenizer.eos_token
        assert PROBLEMS[trace.problem_id].prompt in tokenizer.decode((-1 - row[row < 0]).tolist())
        assert (np.diff((row >= 0).astype(int)) >= 0).all()  # the prompt first
    with pytest.raises(InputError, match=r"p0: a trace of \d+ tokens"):
        rows_of(TRACES, PROBLEMS, load_prompt("plain", "solve"), tokenizer, 50)


@pytest.mark.parametrize("rank", [0, 4])
def test_the_loss_and_its_gradient_are_those_of_transformers(rank: int) -> None:
    import torch

    from zelo.rerankers.templates import load_tokenizer
    from zelo.training.causal import CausalLearner, source_of, token_loss

    learner = CausalLearner.load(write_tiny_llm(), precision="float32")
    if rank:
        learner.add_lora(rank, seed=1)
        assert 0 < sum(p.numel() for p in learner.module.parameters() if p.requires_grad) < 50_000
    tokenizer = load_tokenizer(write_tiny_llm())
    rows = rows_of(TRACES, PROBLEMS, load_prompt("plain", "solve"), tokenizer, 1000)
    source = source_of(rows)
    _, weights = source.items(np.arange(3), 0)
    learner.module.train()
    ours = token_loss(learner.module(*learner.collate(rows)), torch.tensor(weights, dtype=torch.float32), None)
    ours.backward()
    learn = {name: p for name, p in learner.model.named_parameters() if p.requires_grad}
    gradients = {name: p.grad.clone() for name, p in learn.items() if p.grad is not None}
    assert gradients.keys() == learn.keys()
    learner.model.zero_grad()
    total: Any = 0
    for row in rows:
        ids = torch.tensor(np.where(row < 0, -1 - row, row)[None].astype(np.int64))
        labels = torch.tensor(np.where(row < 0, -100, row)[None].astype(np.int64))
        count = int((row >= 0).sum())
        total = total + learner.model(input_ids=ids, labels=labels).loss * count
    theirs = total / sum(int((row >= 0).sum()) for row in rows)
    theirs.backward()
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    for name, parameter in learn.items():
        assert torch.allclose(gradients[name], parameter.grad, atol=1e-5), name


def test_adapters_learn_and_are_merged(tmp_path: Path) -> None:
    import torch

    from zelo.rerankers.templates import load_tokenizer
    from zelo.training.causal import CausalLearner, source_of, token_loss

    def loss_of(folder: Path) -> float:
        learner = CausalLearner.load(folder, precision="float32")
        rows = rows_of(TRACES, PROBLEMS, load_prompt("plain", "solve"), load_tokenizer(folder), 1000)
        _, weights = source_of(rows).items(np.arange(3), 0)
        with torch.no_grad():
            return float(token_loss(learner.module(*learner.collate(rows)), torch.tensor(weights), None))

    tuning = Tuning(2e-2, 30, 3, 8, 1000, threads=1)
    report = tune(TRACES, PROBLEMS, load_prompt("plain", "solve"), str(write_tiny_llm()), tuning, tmp_path / "m", tmp_path / "work")
    assert report.loss < 0.5 * loss_of(write_tiny_llm())
    assert loss_of(tmp_path / "m") == pytest.approx(report.loss, abs=0.3)  # a step later


def test_a_tiny_model_learns_its_traces_by_heart(tmp_path: Path) -> None:
    from zelo.reasoning.local import LocalModel

    tuning = Tuning(1e-2, 40, 3, 0, 1000, threads=1)
    report = tune(TRACES, PROBLEMS, load_prompt("plain", "solve"), str(write_tiny_llm()), tuning, tmp_path / "m", tmp_path / "work")
    assert (report.steps, report.loss < 0.1) == (40, True)
    about = json.loads((tmp_path / "m" / "zelo.json").read_text())
    assert (about["kind"], about["prompt"]) == ("reasoner", load_prompt("plain", "solve").name)
    assert "for `zelo reasoning grade` to say" in (tmp_path / "m" / "README.md").read_text()
    model = LocalModel(tmp_path / "m", "cpu")

    async def write() -> list[str]:
        requests = [Request(load_prompt("plain", "solve").messages("math", problem=p.prompt), 60, 0.0) for p in PROBLEMS.values()]
        replies = await asyncio.gather(*(model.complete(r) for r in requests))
        assert all(r.finish == "stop" and r.output_tokens < 60 for r in replies)
        return [r.text for r in replies]

    assert asyncio.run(write()) == [t.reasoning for t in TRACES]


def test_from_the_command_line_tuned_sampled_and_graded(tmp_path: Path) -> None:
    state = Folder.create(tmp_path / "f")
    state.add_problems(PROBLEMS.values())
    state.merge_traces(1, TRACES)
    assert zelo("reasoning", "verify", state.root).code == 0
    assert zelo("reasoning", "select", state.root, "-n", "3", "--rule", "random").code == 0
    base = ["--base", write_tiny_llm(), "--out", tmp_path / "m"]
    planned = zelo("reasoning", "tune", state.root, *base, "--plan", "--dollars-per-hour", "3")
    assert planned.out.startswith("3 traces, at most")
    assert not (tmp_path / "m").exists()
    ran = zelo(
        "reasoning", "tune", state.root, *base, "--epochs", "40", "--learning-rate", "1e-2", "--batch-size", "3", "--max-tokens", "500"
    )
    assert ran.code == 0, ran.err
    assert "3 traces, 40 steps" in ran.out
    again = zelo("reasoning", "tune", state.root, *base)
    assert (again.code, "not empty" in again.err) == (2, True)
    ask = ["-k", "1", "--temperature", "0", "--max-tokens", "60", "--prompt", "plain"]
    for model in (tmp_path / "m", write_tiny_llm()):
        sampled = zelo(
            "reasoning", "sample", state.root, "--model", f"local:{model}", *ask, "--source", "tuned" if model.name == "m" else "base"
        )
        assert sampled.code == 0, sampled.err
    graded = zelo("reasoning", "grade", state.root, "--source", "tuned", "--baseline", "base")
    assert "tuned" in graded.out
    assert "pass@1 +1.000" in graded.out


def test_the_plan_of_the_papers_own_setting(tmp_path: Path) -> None:
    from zelo.reasoning.tune_plan import plan, shape_of

    sizes = {"hidden_size": 5120, "num_hidden_layers": 64, "intermediate_size": 27648, "num_attention_heads": 40, "num_key_value_heads": 8}
    (tmp_path / "config.json").write_text(json.dumps({**sizes, "vocab_size": 152064, "tie_word_embeddings": False}))
    shape = shape_of(tmp_path)
    assert shape.parameters == pytest.approx(32.76e9, rel=0.001)  # as its card says
    full = plan(shape, [8000] * 20, Tuning(gradient_checkpointing=True), peak=989e12, budget=8000)
    assert full.memory["weights"] == pytest.approx(4 * 32.76e9 / 2**30, rel=0.001)
    assert full.total > 480  # several devices
    light = plan(shape, [8000] * 20, Tuning(lora_rank=16, gradient_checkpointing=True), peak=989e12, budget=8000)
    assert 61 < light.total < 100  # one of 141 GB
    assert light.seconds < full.seconds
    assert full.tokens == 5 * 160_000
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="configuration"):
        shape_of(tmp_path)


CONFIGS = {
    "Qwen2.5-32B": (5120, 64, 27648, 40, 8, 128, 152064, False),
    "Qwen3-1.7B": (2048, 28, 6144, 16, 8, 128, 151936, True),
    "Qwen2.5-1.5B": (1536, 28, 8960, 12, 2, 128, 151936, True),
    "Qwen2.5-0.5B": (896, 24, 4864, 14, 2, 64, 151936, True),
}
KEYS = ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size")


def twenty(tmp_path: Path) -> Folder:
    """Twenty selected traces of 8,000 tokens as the plan counts them."""
    prompt = load_prompt("plain", "solve")
    state = Folder.create(tmp_path / "work")
    state.add_problems([Problem(f"p{i}", f"What is {i + 10}?", "1") for i in range(20)])
    around = len("What is 10?" + prompt.system + prompt.user)
    state.write_selected([Trace(f"p{i}", "me", 0, "a" * (19_998 - around), correct=True) for i in range(20)])
    return state


def base_of(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    body = dict(zip((*KEYS, "tie_word_embeddings"), CONFIGS[name], strict=True))
    (folder / "config.json").write_text(json.dumps(body), "utf-8")
    return folder


def test_the_manuals_table_is_what_the_command_prints(tmp_path: Path) -> None:
    state = twenty(tmp_path)
    manual = (Path(__file__).parents[1] / "docs" / "reasoning.md").read_text("utf-8")
    rows = re.findall(r"^\| (Qwen\S+) \([^|]*\| ([^|]+) \| (\d+) \| (\d+) s \|$", manual, re.MULTILINE)
    assert {name for name, *_ in rows} == set(CONFIGS)
    for name, weights, memory, seconds in rows:
        rank = ["--lora-rank", "16"] if "rank 16" in weights else []
        base = ["--base", base_of(tmp_path, name), "--gradient-checkpointing", "--token-budget", "8000", *rank]
        ran = zelo("reasoning", "tune", state.root, "--plan", *base)
        assert ran.code == 0, ran.err
        assert "at most 8,000 tokens each" in ran.out
        found = re.search(r"memory: about ([\d.]+) GiB.*\ntime: about (\d+) s", ran.out)
        assert found is not None, ran.out
        assert (f"{float(found[1]):.0f}", found[2]) == (memory, seconds), (name, ran.out)


@pytest.mark.parametrize(("recipe", "row"), [("twenty-32b", "Qwen2.5-32B"), ("twenty-1.7b", "Qwen3-1.7B"), ("twenty-0.5b", "Qwen2.5-0.5B")])
def test_recipes_say_what_their_plan_says(tmp_path: Path, recipe: str, row: str) -> None:
    """Before anything is selected or downloaded; then by the selection, and options of the command come before."""
    assert CONFIGS[row] == tuple(load_recipe(recipe).config[key] for key in (*KEYS, "tie_word_embeddings"))
    state = Folder.create(tmp_path / "work")
    ran = zelo("reasoning", "tune", state.root, "--recipe", recipe, "--plan")
    assert ran.out.startswith("20 traces, at most 8,000 tokens each (the recipe's, since nothing is selected), 5 passes"), ran.err
    found = re.search(r"memory: about ([\d.]+) GiB.*\ntime: about (\d+) s", ran.out)
    assert found is not None
    text = resources.files("zelo").joinpath("reasoning", "recipes", f"{recipe}.toml").read_text("utf-8")
    assert f"{float(found[1]):.0f} GiB, {found[2]} s on an H100 or H200" in text
    manual = (Path(__file__).parents[1] / "docs" / "reasoning.md").read_text("utf-8")
    weights = "adapters of rank 16" if load_recipe(recipe).options["lora_rank"] else "all"
    assert re.search(rf"^\| {row} \([^|]*\| {weights} \| {float(found[1]):.0f} \| {found[2]} s \|$", manual, re.MULTILINE)
    more = zelo("reasoning", "tune", state.root, "--recipe", recipe, "--plan", "--epochs", "10")
    assert "10 passes" in more.out


def test_recipes_of_ones_own(tmp_path: Path) -> None:
    path, state = tmp_path / "r.toml", twenty(tmp_path)
    path.write_text(f'[tune]\nbase = "{base_of(tmp_path, "Qwen2.5-0.5B")}"\nlora_rank = 4\n', "utf-8")
    ran = zelo("reasoning", "tune", state.root, "--recipe", path, "--plan")
    assert "adapters" in ran.out
    assert "(bytes / 2.5)" in ran.out
    for faulty, said in (
        ('[tune]\nepoch = 3\n', "unknown key 'epoch'"), ("[tune]\nepochs = true\n", "epochs is True"),
        ("[plan]\ntraces = -1\n", "whole numbers"), ("[teach]\n", "unknown key 'teach'"), ("tune = 3\n", "not a recipe"),
    ):  # fmt: skip
        path.write_text(faulty, "utf-8")
        ran = zelo("reasoning", "tune", state.root, "--recipe", path, "--plan")
        assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
        assert said in ran.err
    assert "twenty-32b" in zelo("reasoning", "tune", state.root, "--recipe", "thirty", "--plan").err
    assert "no model to teach" in zelo("reasoning", "tune", state.root, "--plan").err


def test_a_plan_is_of_what_a_step_holds_and_needs_no_network(tmp_path: Path) -> None:
    state, base = twenty(tmp_path), base_of(tmp_path, "Qwen2.5-0.5B")

    def memory(*options: str) -> float:
        ran = zelo("reasoning", "tune", state.root, "--plan", "--base", base, *options)
        assert ran.code == 0, ran.err
        return float(ran.out.split("activations ")[1].split(",")[0])

    one = memory("--batch-size", "1")
    assert memory("--batch-size", "4") == pytest.approx(4 * one, rel=0.01)
    assert memory("--batch-size", "4", "--token-budget", "16000") == pytest.approx(2 * one, rel=0.01)
    assert memory("--batch-size", "4", "--token-budget", "10") == one  # a single row passes
    for options, said in (
        (["--base", "Qwen/Qwen2.5-32B"], "a folder with the model's config.json"),
        (["--base", base, "--peak", "0"], "--peak"),
        (["--base", base, "--peak", "-5"], "--peak"),
    ):
        ran = zelo("reasoning", "tune", state.root, "--plan", *options)
        assert (ran.code, said in ran.err) == (2, True), ran.err
    ran = zelo("reasoning", "tune", state.root, "--base", base, "--out", tmp_path / "m")
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    assert "no tokenizer" in ran.err
    assert "--out" in zelo("reasoning", "tune", state.root, "--base", base).err


def test_a_short_tuning_that_is_stopped_goes_on(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        time.sleep(0.8)
        if done == 5:
            raise KeyboardInterrupt

    tuning = Tuning(1e-2, 20, 3, 0, 1000, threads=1)
    where = (load_prompt("plain", "solve"), str(write_tiny_llm()), tuning, tmp_path / "m", tmp_path / "work")
    with pytest.raises(KeyboardInterrupt):
        tune(TRACES, PROBLEMS, *where, stop)
    report = tune(TRACES, PROBLEMS, *where)
    assert 3 <= report.resumed_at <= 5
    assert report.steps == 20
