"""Several processes: all weights in each (DDP), or a part of everything (FSDP2), give what one process gives; two run it here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sharded_jobs
from conftest import REPO
from zelo.errors import InputError
from zelo.rerankers.language_model import LanguageModel
from zelo.training import processes
from zelo.training.sharded import _checked

NAMES = ("tied", "untied", "adapters", "encoder", "late_interaction", "embedding", "writer")


def sample(name: str) -> str:
    """A configuration file that docs/training.md shows."""
    found = re.search(rf"```yaml\n(# {name}\.yaml.*?)```", (REPO / "docs" / "training.md").read_text("utf-8"), re.DOTALL)
    assert found, name
    return found[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    files = [folder / "ddp.yaml", folder / "fsdp.yaml"]
    files[0].write_text(sample("cpu"))
    on_cpu = re.sub(r"num_processes: \d+", "num_processes: 2\nuse_cpu: true", sample("fsdp"))
    files[1].write_text(on_cpu)
    paths = os.pathsep.join([p for p in sys.path if p] + [str(REPO / "tests")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, sharded_jobs.__file__, folder, *files]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def alone(folder: Path, name: str, work: Path, **more: Any) -> dict[str, np.ndarray]:
    _, weights = sharded_jobs.learn(sharded_jobs.jobs(folder)[name](), work, **more)
    return weights


def log_of(work: Path) -> np.ndarray:
    """Loss and norm of the gradient of every step."""
    lines = [json.loads(line) for line in (work / "log.jsonl").read_text().splitlines()]
    return np.array([[line["loss"], line["gradient_norm"]] for line in lines if "loss" in line])


def largest_difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def test_all_weights_in_two_processes(trained: Path, tmp_path: Path) -> None:
    expected = alone(trained, "tied", tmp_path)
    for rank in range(2):
        found = dict(np.load(trained / f"replicated-{rank}.npz"))
        assert found.pop("processes") == 2
        assert largest_difference(found, expected) < 1e-4
    np.testing.assert_allclose(log_of(trained / "replicated"), log_of(tmp_path), rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_weights_in_parts_learn_what_whole_ones_do(name: str, trained: Path, tmp_path: Path) -> None:
    start = sharded_jobs.weights_of(sharded_jobs.jobs(trained)[name]()[0])
    expected = alone(trained, name, tmp_path)
    assert largest_difference(start, expected) > 3e-3
    for rank in range(2):
        about = json.loads((trained / f"{name}-{rank}.json").read_text())
        assert 0.49 < about["held"] / about["whole"] < 0.51
        if name != "tied":  # that one kept the weights of its best evaluation
            # Adam divides by the gradient's own size: where that is near 0, the last digits of a sum make a difference.
            assert largest_difference(dict(np.load(trained / f"{name}-{rank}.npz")), expected) < 1e-4
    np.testing.assert_allclose(log_of(trained / name), log_of(tmp_path), rtol=1e-4)


def test_processes_decide_alike_and_keep_the_best_weights(trained: Path, tmp_path: Path) -> None:
    one, two = (json.loads((trained / f"tied-{rank}.json").read_text()) for rank in range(2))
    assert one == two
    assert one["best"] == 2 < one["steps"] == 4
    kept: list[dict[str, np.ndarray]] = []
    job = sharded_jobs.jobs(trained)["tied"]()
    sharded_jobs.learn(job, tmp_path, lambda done, _: kept.append(sharded_jobs.weights_of(job[0])))
    for rank in range(2):
        found = dict(np.load(trained / f"tied-{rank}.npz"))
        assert largest_difference(found, kept[1]) < 1e-4 < largest_difference(found, kept[3])


def test_what_is_saved_is_whole(trained: Path) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    for name in ("tied", "adapters"):
        weights = AutoModelForCausalLM.from_pretrained(trained / f"saved-{name}").eval()
        assert weights.get_output_embeddings().weight is weights.get_input_embeddings().weight
        found = LanguageModel(weights, sharded_jobs.LABELS).score(sharded_jobs.SAMPLES)
        np.testing.assert_allclose(found, np.load(trained / f"scores-{name}.npy"), atol=1e-5)
    base = sharded_jobs.language_model().model
    adapted = peft.PeftModel.from_pretrained(base, str(trained / "adapters-alone"))
    found = LanguageModel(adapted.merge_and_unload(), sharded_jobs.LABELS).score(sharded_jobs.SAMPLES)
    np.testing.assert_allclose(found, np.load(trained / "scores-adapters.npy"), atol=1e-5)


def test_a_killed_process_and_those_that_go_on(trained: Path) -> None:
    found, undisturbed = dict(np.load(trained / "resumed.npz")), dict(np.load(trained / "killed-0.npz"))
    assert found.pop("at") == sharded_jobs.KILLED_AT
    assert largest_difference(found, undisturbed) < 1e-6


def test_one_process_takes_up_what_two_began(trained: Path) -> None:
    report, weights = sharded_jobs.learn(sharded_jobs.jobs(trained)["encoder"](), trained / "encoder")
    assert report.resumed_at == report.steps == 3
    assert largest_difference(weights, dict(np.load(trained / "encoder-0.npz"))) == 0


def test_a_damaged_checkpoint_ends_all_processes(trained: Path) -> None:
    assert "JSONDecodeError" in (trained / "damaged-0.txt").read_text()
    assert "see what the main process says" in (trained / "damaged-1.txt").read_text()


@pytest.mark.parametrize("name", ["DEEPSPEED", "MEGATRON_LM"])
def test_other_kinds_are_refused(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    monkeypatch.setattr("accelerate.Accelerator.__init__", lambda self, **_: None)  # which would import the library
    monkeypatch.setattr("accelerate.Accelerator.distributed_type", "DistributedType.MULTI_CPU")
    with pytest.raises(InputError, match=rf"{name.lower()} has sharded.*use DDP or FSDP"):
        sharded_jobs.learn(sharded_jobs.jobs(tmp_path)["tied"](), tmp_path)


@pytest.mark.parametrize(
    ("changed", "remedy"),
    [
        ({"fsdp_version": 1}, "fsdp_version: 2"),
        ({"cpu_offload": True}, "fsdp_offload_params: false"),
        ({"activation_checkpointing": True}, "gradient_checkpointing"),
        ({"auto_wrap_policy": "size_based_wrap"}, "TRANSFORMER_BASED_WRAP"),
    ],
)
def test_what_a_configuration_would_not_get_is_refused(changed: dict[str, Any], remedy: str) -> None:
    from accelerate import FullyShardedDataParallelPlugin

    with pytest.raises(InputError, match=remedy):
        _checked(FullyShardedDataParallelPlugin(**{"fsdp_version": 2, **changed}))


def test_an_empty_model_says_how_to_load_it(tmp_path: Path) -> None:
    from zelo.rerankers.scorer import check_loaded

    model = sharded_jobs.language_model().model
    assert check_loaded(model, tmp_path) is model
    with pytest.raises(InputError, match="fsdp_cpu_ram_efficient_loading: false"):
        check_loaded(model.to("meta"), tmp_path)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.booleans(), st.integers(20, 200), st.integers(0, 2**32))
def test_every_process_makes_as_many_passes(rows: int, world: int, together: bool, budget: int, seed: int) -> None:
    """A layer is gathered by all or by none, and what is joined in without weight changes no mean."""
    from zelo.training.batches import Listed
    from zelo.training.loop import Settings, _Run
    from zelo.training.sharded import Sharded

    rng = np.random.default_rng(seed)
    source = Listed([np.ones(n, int) for n in rng.integers(1, 30, rows)], np.ones(rows), np.sort(rng.integers(0, 5, rows)))
    found = []
    for rank in range(world):
        process = object.__new__(Sharded)
        process.rank, process.world = rank, world
        run = _Run(None, process, None, source, None, Settings(together=together, token_budget=budget), Path(), 0)
        found.append(run._parts(np.arange(rows)))
    assert len({len(parts) for parts, _ in found}) == 1
    assert sorted(np.concatenate([p for parts, weights in found for p, w in zip(parts, weights, strict=True) if w]).tolist()) == list(
        range(rows)
    )
    assert sum(w for _, weights in found for w in weights) / world == pytest.approx(1)
    assert processes.Replicated.passes(process, list(range(world))) == world - 1
