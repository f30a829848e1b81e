"""The distilled line: the ensemble teaches a pairwise model, which plays the tournament; killed and resumed, the same files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import SMALL
from tiny_models import WORDS, write_tiny_bert, write_tiny_qwen
from zelo import pipeline, runner
from zelo.artifacts import read_table
from zelo.errors import InputError, RecipeError
from zelo.judges.pairwise_model import PairwiseModel
from zelo.progress import Silent
from zelo.recipe import from_dict
from zelo.stages import inputs
from zelo.workspace import Workspace

PAIRWISE = {"epochs": 2, "batch_size": 4, "max_tokens": 160, "teaching_pairs": 3, "held_out": 0.25, "precision": "float32"}


def recipe(base: Path, **changed: Any) -> Any:
    small = {**SMALL, "line": "distilled", "retrieve": {"candidates": 8}}
    return from_dict({**small, "pairwise": {**PAIRWISE, "base": str(base), **changed}})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_qwen(tmp_path_factory.mktemp("base") / "qwen", [" ".join(WORDS)])


@pytest.fixture(scope="module")
def first_stage(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished workspace of the direct line; what `ingest` and `encode` made is the same in this one."""
    return shutil.copytree(finished, tmp_path_factory.mktemp("first") / "ws")


def opened(first_stage: Path, root: Path, made: Any) -> Workspace:
    shutil.copytree(first_stage, root)
    workspace = Workspace.open(root)
    workspace.save_recipe(made)
    return workspace


@pytest.fixture(scope="module")
def done(first_stage: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = opened(first_stage, tmp_path_factory.mktemp("done") / "ws", recipe(base))
    entries = runner.run(workspace)
    assert [e.stage for e in entries] == [s.name for s in pipeline.DISTILLED[2:]]
    return workspace


def test_the_ensemble_judges_the_teaching_pairs_alone(done: Workspace) -> None:
    split_of = inputs.splits(done.path("splits"))
    teaching = read_table(done.path("teaching_pairs"), "teaching_pairs")
    pairs = list(zip(teaching["query_id"], teaching["doc_id_a"], teaching["doc_id_b"], strict=True))
    train = [q for q, split in split_of.items() if split == "train"]
    assert sorted(teaching["query_id"]) == sorted(train * 3)
    assert len(set(pairs)) == len(pairs)
    assert all(a < b for _, a, b in pairs)
    assert set(teaching["shown_first"]) == {"a", "b"}
    judgments = read_table(done.path("judgments"), "judgments", ("query_id", "doc_id_a", "doc_id_b"))
    assert set(zip(*judgments.values(), strict=True)) == set(pairs)
    lessons = read_table(done.path("lessons"), "lessons")
    assert list(zip(lessons["query_id"], lessons["doc_id_a"], lessons["doc_id_b"], strict=True)) == pairs


def test_the_model_judges_every_tournament_pair(done: Workspace) -> None:
    pairs, found = (read_table(done.path(a), a) for a in ("pairs", "preferences"))
    for name in ("query_id", "doc_id_a", "doc_id_b"):
        assert found[name] == pairs[name]
    assert set(found["n_judges"].tolist()) == {1}
    assert found["prob_a"].std() > 0
    from zelo.judges import Comparison
    from zelo.stages.inputs import documents, queries

    context = pipeline.Context(done, done.recipe, done.root, Silent())
    texts, query_texts = documents(context), queries(context)
    row = 7
    shown = Comparison(query_texts[pairs["query_id"][row]], texts[pairs["doc_id_a"][row]], texts[pairs["doc_id_b"][row]])
    (answer,) = PairwiseModel(done.path("pairwise_model"), device="cpu").judge([shown])
    assert answer.preference is not None
    assert found["prob_a"][row] == pytest.approx((1 + answer.preference) / 2, abs=1e-5)


def test_killed_in_training_and_in_judging(done: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(done.root, tmp_path / "ws")
    workspace = Workspace.open(tmp_path / "ws")
    before = {a: done.digest(a) for s in pipeline.DISTILLED for a in s.writes if a != "report"}

    class Killed(BaseException):  # an exception of a judge is a failed call, and the run goes on
        pass

    from zelo.training import checkpoints
    from zelo.training.loop import Settings

    write, judged = checkpoints.write, PairwiseModel.judge
    calls = [0]

    def dies_after(*arguments: Any) -> None:
        write(*arguments)
        raise Killed

    def dies_later(self: PairwiseModel, comparisons: Any) -> Any:
        calls[0] += 1
        if calls[0] == 5:
            raise Killed
        return judged(self, comparisons)

    # Start over, and be killed after the first checkpoint; then judging is killed after four queries.
    (workspace.root / "judgments.sqlite").unlink()
    workspace.path("preferences").unlink()
    shutil.rmtree(workspace.path("pairwise_model"))
    shutil.rmtree(workspace.root / "training")
    monkeypatch.setattr(Settings.__init__, "__defaults__", tuple(0.0 if d == 300.0 else d for d in Settings.__init__.__defaults__ or ()))
    monkeypatch.setattr(checkpoints, "write", dies_after)
    with pytest.raises(Killed):
        runner.run(workspace)
    assert list((workspace.root / "training" / "pairwise").glob("step-*"))
    monkeypatch.setattr(checkpoints, "write", write)
    monkeypatch.setattr(PairwiseModel, "judge", dies_later)
    with pytest.raises(Killed):
        runner.run(workspace)
    assert not list((workspace.root / "training" / "pairwise").glob("step-*"))
    runner.run(workspace)
    assert calls[0] == 5 + 12  # 16 questions; the four that were judged are not judged again
    assert {a: workspace.digest(a) for a in before} == before


def test_what_is_stale(done: Workspace, tmp_path: Path) -> None:
    shutil.copytree(done.root, tmp_path / "ws")
    workspace = Workspace.open(tmp_path / "ws")
    for settings, first in (
        ({"pairwise.teaching_pairs": "2"}, "pair"),
        ({"pairwise.epochs": "1"}, "train-pairwise"),
        ({"pairwise.precision": "bfloat16"}, "train-pairwise"),
    ):
        workspace.recipe = done.recipe.with_settings(settings)
        stale = [s.stage.name for s in runner.status(workspace) if not s.done]
        assert stale[0] == first, settings


def test_faults_are_found_before_anything_runs(tmp_path: Path) -> None:
    encoder = write_tiny_bert(tmp_path / "bert", WORDS)
    for made, error, message in (
        (recipe(encoder, lora_rank=4), RecipeError, "lora_rank is for language models"),
        (recipe(tmp_path / "nothing"), InputError, "no such model folder"),
    ):
        with pytest.raises(error, match=message):
            runner.check(made)


def test_an_encoder_plays_too(first_stage: Path, tmp_path: Path) -> None:
    encoder = write_tiny_bert(tmp_path / "bert", WORDS)
    workspace = opened(first_stage, tmp_path / "ws", recipe(encoder, max_tokens=60, epochs=1))
    runner.run(workspace, stop="judge-pairwise")
    assert np.isfinite(read_table(workspace.path("preferences"), "preferences")["prob_a"]).all()
