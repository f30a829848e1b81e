"""The training loop: what a step learns does not depend on memory, and a killed run ends where an undisturbed one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_models import tiny_language_model
from zelo.errors import ConvergenceError, InputError
from zelo.rerankers.language_model import LanguageModel
from zelo.training import batches, checkpoints
from zelo.training.batches import Listed
from zelo.training.loop import LOG, Report, Settings, learning_rate_share, train
from zelo.training.losses import make_loss

PLAIN = Settings(learning_rate=3e-3, epochs=2, batch_size=8, precision="float32", threads=1)


def made_up(rows: int = 60, seed: int = 0) -> Listed:
    """Sequences of 3 to 30 tokens; the target says whether the last one is even."""
    rng = np.random.default_rng(seed)
    sequences = [rng.integers(1, 64, rng.integers(3, 30)) for _ in range(rows)]
    return Listed(sequences, np.array([0.9 if s[-1] % 2 else 0.1 for s in sequences]), np.arange(rows) // 6)


def trained(folder: Path, how: Settings = PLAIN, *, dropout: float = 0.0, **more: Any) -> tuple[Report, dict[str, np.ndarray]]:
    scorer = LanguageModel(tiny_language_model(dropout=dropout), (5, 6))
    report = train(scorer, made_up(), make_loss("bce"), how, folder, 3, lambda done, total: None, **more)
    return report, {name: p.numpy() for name, p in checkpoints.copy_of(checkpoints.trainable(scorer.module)).items()}


def assert_same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name, weights in one.items():
        np.testing.assert_allclose(weights, other[name], rtol=0, atol=tolerance, err_msg=name)


def test_learns(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    scorer, source = LanguageModel(tiny_language_model(), (5, 6)), made_up(200)
    how = Settings(learning_rate=5e-3, epochs=3, batch_size=16, precision="float32", threads=1)
    report = train(scorer, source, make_loss("bce"), how, tmp_path, 0, lambda done, total: seen.append((done, total)))
    assert report.steps == report.planned == 3 * 13
    assert [done for done, _ in seen] == list(range(1, report.steps + 1))
    sequences, targets = made_up(60, seed=1).items(np.arange(60), 0)
    assert np.corrcoef(scorer.score(sequences), targets)[0, 1] > 0.9
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, report.steps + 1))
    assert sum(line["tokens"] for line in lines) == report.tokens == 3 * int(source.lengths.sum())
    assert lines[-1]["loss"] < lines[0]["loss"]


@pytest.mark.parametrize("changed", [{"token_budget": 40}, {"token_budget": 10_000}, {"gradient_checkpointing": True}])
def test_memory_changes_nothing(changed: dict[str, Any], tmp_path: Path) -> None:
    _, one = trained(tmp_path / "one")
    _, other = trained(tmp_path / "other", Settings(**{**asdict(PLAIN), **changed}))
    assert_same(one, other, 1e-5)


def asdict(how: Settings) -> dict[str, Any]:
    return {name: getattr(how, name) for name in how.__dataclass_fields__}


class Killed(Exception):
    pass


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("at", [1, 7, 16])
def test_resumed_equals_undisturbed(at: int, dropout: float, tmp_path: Path) -> None:
    how = Settings(**{**asdict(PLAIN), "checkpoint_seconds": 0.0})
    whole, undisturbed = trained(tmp_path / "whole", how, dropout=dropout)

    def kill(done: int, total: int) -> None:
        if done == at:
            raise Killed

    scorer = LanguageModel(tiny_language_model(dropout=dropout), (5, 6))
    with pytest.raises(Killed):
        train(scorer, made_up(), make_loss("bce"), how, tmp_path / "run", 3, kill)
    report, weights = trained(tmp_path / "run", how, dropout=dropout)
    assert report.resumed_at == at
    assert (report.steps, report.tokens) == (whole.steps, whole.tokens)
    assert_same(weights, undisturbed, 0)
    one, other = ([json.loads(line) for line in (tmp_path / n / LOG).read_text().splitlines()] for n in ("whole", "run"))
    for lines in (one, other):
        for line in lines:
            line.pop("tokens_per_second")
    assert one == other


SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_loop import PLAIN, Settings, asdict, make_loss, made_up, tiny_language_model, train
from zelo.rerankers.language_model import LanguageModel
def step(done, total):
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
how = Settings(**{{**asdict(PLAIN), "checkpoint_seconds": 0.0}})
train(LanguageModel(tiny_language_model(), (5, 6)), made_up(), make_loss("bce"), how, Path(sys.argv[1]), 3, step)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_process(tmp_path: Path) -> None:
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    paths = os.pathsep.join(p for p in sys.path if p)
    run = subprocess.run([sys.executable, "-c", script, tmp_path / "run", "5"], env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert run.returncode == -signal.SIGKILL
    (tmp_path / "run" / ".partial").mkdir(exist_ok=True)  # what a kill within a checkpoint leaves
    (tmp_path / "run" / LOG).open("a").write('{"step": 6, "lo')
    report, weights = trained(tmp_path / "run")
    assert report.resumed_at == 5
    _, undisturbed = trained(tmp_path / "whole")
    assert_same(weights, undisturbed, 1e-6)


def test_a_finished_training_is_not_repeated_and_another_one_not_resumed(tmp_path: Path) -> None:
    first, weights = trained(tmp_path)
    again, same = trained(tmp_path)
    assert (first.resumed_at, again.resumed_at) == (0, again.steps)
    assert_same(weights, same, 0)
    other, _ = trained(tmp_path, Settings(**{**asdict(PLAIN), "learning_rate": 1e-3}))
    assert other.resumed_at == 0


def test_a_damaged_checkpoint_says_so(tmp_path: Path) -> None:
    trained(tmp_path)
    (path,) = tmp_path.glob("step-*")
    (path / "optimizer.pt").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"step-.*cannot be read.*delete it"):
        trained(tmp_path)


def test_patience_keeps_the_best_weights(tmp_path: Path) -> None:
    values = iter([0.5, 0.3, 0.4, 0.6, 0.1])
    kept: list[dict[str, np.ndarray]] = []
    scorer = LanguageModel(tiny_language_model(), (5, 6))

    def evaluate() -> dict[str, float]:
        kept.append({n: p.numpy() for n, p in checkpoints.copy_of(checkpoints.trainable(scorer.module)).items()})
        return {"loss": next(values), "other": 1.0}

    how = Settings(**{**asdict(PLAIN), "evaluate_every": 3, "patience": 2})
    report = train(scorer, made_up(), make_loss("bce"), how, tmp_path, 3, lambda *_: None, evaluate)
    assert (report.steps, report.evaluated_at, report.evaluation["loss"]) == (12, 6, 0.3)
    assert_same({n: p.detach().numpy() for n, p in checkpoints.trainable(scorer.module).items()}, kept[1], 0)


def test_an_evaluation_without_the_watched_value(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no 'loss'"):
        trained(tmp_path, evaluate=lambda: {"accuracy": 1.0})


def test_a_rate_that_blows_up_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConvergenceError, match="lower the learning rate"):
        trained(tmp_path, Settings(**{**asdict(PLAIN), "learning_rate": 1e30, "clip": 1e30}))


def test_torch_is_left_as_it_was(tmp_path: Path) -> None:
    import torch

    before = torch.random.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    trained(tmp_path)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1:] == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 20), st.booleans(), st.integers(1, 300), st.integers(0, 2**32), st.integers(1, 4))
def test_steps_hold_every_row_once(rows: int, size: int, together: bool, budget: int, seed: int, world: int) -> None:
    rng = np.random.default_rng(seed)
    lengths, groups = rng.integers(1, 100, rows), rng.permutation(np.sort(rng.integers(0, 1 + rows // 5, rows)))
    plan = batches.steps(lengths, groups, size, seed, 0, together=together)
    assert sorted(np.concatenate(plan).tolist()) == list(range(rows))
    for step in plan:
        shares = [batches.share_of(step, lengths, groups, rank, world, together=together) for rank in range(world)]
        assert sorted(np.concatenate(shares).tolist()) == sorted(step.tolist())
        parts = [p for share in shares for p in batches.passes(share, lengths, groups, budget, together=together)]
        assert sorted(np.concatenate(parts).tolist()) == sorted(step.tolist())
        assert all(len(p) * lengths[p].max() <= budget or len(p) == 1 for p in parts)
        if together:
            for group in np.unique(groups[step]).tolist():
                assert (groups[step] == group).sum() == (groups == group).sum()  # a step has whole queries
                own = lengths[groups == group]
                assert sum(group in groups[p] for p in parts) == 1 or len(own) * own.max() > budget
        else:
            assert len(step) <= size
    again = batches.steps(lengths, groups, size, seed, 0, together=together)
    assert all((a == b).all() for a, b in zip(plan, again, strict=True))


def test_steps_are_of_similar_length_and_change_with_the_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 640)
    one, two = (batches.steps(lengths, np.zeros(640, np.int64), 16, 0, epoch) for epoch in (0, 1))
    assert np.mean([np.ptp(lengths[step]) for step in one]) < 20  # a random step of 16 spans 88
    assert any(set(a) != set(b) for a, b in zip(one, two, strict=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300))
def test_learning_rate_rises_then_falls(steps: int) -> None:
    shares = np.array([learning_rate_share(step, steps, 0.1) for step in range(steps)])
    assert shares.min() > 0
    assert shares.max() == 1
    top = int(shares.argmax())
    assert (np.diff(shares[: top + 1]) > 0).all()
    assert (np.diff(shares[top:]) <= 0).all()


def test_items_must_fit_together() -> None:
    with pytest.raises(InputError, match="make no items"):
        Listed([[1, 2]], np.zeros(2), np.zeros(1, np.int64))
    with pytest.raises(InputError, match="not a number"):
        Listed([[1, 2]], np.array([np.nan]), np.zeros(1, np.int64))
