"""Trainings in two processes (gloo, CPU), for test_sharded.py: `python sharded_jobs.py FOLDER DDP_CONFIG FSDP_CONFIG`.

accelerate reads the configuration files; the environment is what `accelerate launch` would set. This process imports everything once
and forks the two.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from test_loop import PLAIN, asdict, made_up
from tiny_models import tiny_language_model, write_tiny_bert
from zelo.rerankers.encoder_classifier import EncoderClassifier
from zelo.rerankers.language_model import LanguageModel
from zelo.rerankers.late_interaction import LateInteraction
from zelo.rerankers.scorer import Scorer
from zelo.training import causal
from zelo.training.batches import Listed, Source
from zelo.training.embedding import Embedder
from zelo.training.loop import Report, Settings, train
from zelo.training.losses import Loss, make_loss

LABELS = (5, 6)
KILLED_AT = 2
SHARED = [1] * 10  # what the sequences of a group begin with
HOW = Settings(**{**asdict(PLAIN), "epochs": 1, "token_budget": 60})
SAMPLES = [[1, 2, 3, 4], [5, 6, 7]]


def language_model(*, tied: bool = True, dropout: float = 0.0, lora: bool = False) -> LanguageModel:
    found = LanguageModel(tiny_language_model(tied=tied, dropout=dropout), LABELS)
    if lora:
        found.add_lora(4)
    return found


def texts_of_three(rows: int = 24) -> Listed:
    """Rows of three texts, [CLS] 2, [SEP] 3, for the students that encode texts apart."""
    rng = np.random.default_rng(1)
    parts = [[rng.integers(4, 24, rng.integers(2, 12)).tolist() for _ in range(3)] for _ in range(rows)]
    sequences = [np.array([2, *q, 3, *a, 3, *b, 3]) for q, a, b in parts]
    return Listed(sequences, rng.random(rows), np.arange(rows) // 4)


def texts_of_two() -> Listed:
    rng = np.random.default_rng(2)
    queries = [[2, *rng.integers(4, 24, 5), 3] for _ in range(10)]
    rows = [[len(queries[i // 4]), *queries[i // 4], 2, *rng.integers(4, 24, rng.integers(2, 30)), 3] for i in range(24)]
    return Listed([np.array(row) for row in rows], rng.random(24), np.arange(24) // 4)


def to_write() -> Listed:
    rng = np.random.default_rng(3)
    lists = [rng.integers(1, 64, rng.integers(6, 30)).tolist() for _ in range(24)]
    return causal.source_of([causal.row_of(ids[:4], ids[4:], 64) for ids in lists])


Job = tuple[Scorer, Source, Loss, Settings]


def jobs(folder: Path) -> dict[str, Callable[[], Job]]:
    """What is trained, by name; the tests train the same in one process."""
    bert = folder / "bert"
    lists = Settings(**{**asdict(HOW), "together": True, "token_budget": 300})
    return {
        "tied": lambda: (language_model(), made_up(32), make_loss("bce"), HOW),
        "untied": lambda: (
            language_model(tied=False), made_up(32), make_loss("bce"), Settings(**{**asdict(HOW), "gradient_checkpointing": True}),
        ),
        "adapters": lambda: (language_model(lora=True), made_up(32), make_loss("bce"), HOW),
        "encoder": lambda: (without_dropout(EncoderClassifier.load(bert, device="cpu")), texts_of_three(), make_loss("mse"), HOW),
        "late_interaction": lambda: (without_dropout(LateInteraction.load(bert, device="cpu")), texts_of_three(), make_loss("bce"), HOW),
        "embedding": lambda: (
            without_dropout(Embedder.load(bert, device="cpu")), texts_of_two(), diagonal, lists,
        ),
        "writer": lambda: (causal.CausalLearner(tiny_language_model()), to_write(), causal.token_loss, HOW),
        "killed": lambda: (
            language_model(dropout=0.2), made_up(32), make_loss("bce"), Settings(**{**asdict(HOW), "checkpoint_seconds": 0.0}),
        ),
    }  # fmt: skip


def diagonal(z: Any, targets: Any, groups: Any) -> Any:
    return ((z.diagonal().sigmoid() - targets) ** 2).mean()


def without_dropout(scorer: Scorer) -> Scorer:
    """Processes draw it differently than one would."""
    for part in scorer.module.modules():
        if type(part).__name__ == "Dropout":
            part.p = 0.0
    return scorer


def weights_of(scorer: Scorer) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in scorer.module.named_parameters()}


def learn(job: Job, work: Path, advance: Callable[[int, int], None] = lambda *_: None, **more: Any) -> tuple[Report, dict[str, np.ndarray]]:
    scorer, source, loss, how = job
    return train(scorer, source, loss, how, work, 3, advance, **more), weights_of(scorer)


def held(scorer: Scorer) -> int:
    """Numbers of the weights in this process."""
    return sum(getattr(p, "to_local", lambda p=p: p)().numel() for p in scorer.module.parameters())


def watched(scorer: LanguageModel, rng: np.random.Generator) -> Mapping[str, float]:
    """Score in every way that evaluations do; the loss is made up, so that the processes would not choose the same best weights."""
    alone = scorer.score([[*SHARED, 2, 3], [*SHARED, 4]])
    np.testing.assert_allclose(scorer.score_groups([[[*SHARED, 2, 3], [*SHARED, 4]]])[0], alone, atol=1e-5)
    return {"loss": -float(rng.random()), "score": float(alone.sum())}


def replicated(folder: Path) -> None:
    """The first job with all weights in each process."""
    from accelerate import PartialState

    _, weights = learn(jobs(folder)["tied"](), folder / "replicated")
    np.savez(folder / f"replicated-{os.environ['RANK']}.npz", processes=PartialState().num_processes, **weights)


def all_jobs(folder: Path) -> None:
    """Train one after the other, the weights in parts, and keep them; in each process."""
    rank = int(os.environ["RANK"])
    for name, make in jobs(folder).items():
        job, parts = make(), list[int]()
        whole = held(job[0])
        how: dict[str, Any] = {}
        if name == "late_interaction":
            how["evaluate"] = lambda scorer=job[0]: {"loss": float(scorer.score(texts_of_three().items(np.arange(4), 0)[0]).sum())}
        if name == "embedding":
            how["evaluate"] = lambda scorer=job[0]: {"loss": float(scorer.cosines(texts_of_two().items(np.arange(4), 0)[0]).sum())}
        if name == "tied":
            rng = np.random.default_rng(rank)  # the processes would decide differently
            how["evaluate"] = lambda scorer=job[0], rng=rng: watched(scorer, rng)
            job = (*job[:3], Settings(**{**asdict(job[3]), "evaluate_every": 2, "patience": 9}))
        report, weights = learn(job, folder / name, lambda *_, job=job, parts=parts: parts.append(held(job[0])), **how)
        about = {"whole": whole, "held": parts[0], "best": report.evaluated_at, "found": dict(report.evaluation), "steps": report.steps}
        (folder / f"{name}-{rank}.json").write_text(json.dumps(about))
        np.savez(folder / f"{name}-{rank}.npz", **weights)
        if rank == 0 and name in ("tied", "adapters"):
            if name == "adapters":
                job[0].save_adapter(folder / "adapters-alone")  # type: ignore[attr-defined]
            job[0].save(folder / f"saved-{name}")
            np.save(folder / f"scores-{name}.npy", job[0].score(SAMPLES))


def killed(folder: Path) -> None:
    """End the main process at once after a step."""

    def advance(done: int, total: int) -> None:
        if done == KILLED_AT and os.environ["RANK"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)

    learn(jobs(folder)["killed"](), folder / "interrupted", advance)


def resumed(folder: Path) -> None:
    """Go on from there, and once more from the end."""
    report, weights = learn(jobs(folder)["killed"](), folder / "interrupted")
    if os.environ["RANK"] == "0":
        np.savez(folder / "resumed.npz", at=report.resumed_at, **weights)


def damaged(folder: Path) -> None:
    """A checkpoint that only the main process reads, and that is not one: all processes say so."""
    from zelo.errors import InputError

    try:
        learn(jobs(folder)["killed"](), folder / "damaged")
    except InputError as error:
        (folder / f"damaged-{os.environ['RANK']}.txt").write_text(str(error))


def in_two(work: Callable[[Path], None], folder: Path, seconds: float = 300.0) -> list[int]:
    """Run something in two processes; return their wait statuses. When one fails the other is ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        child = os.fork()
        if not child:
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in place.items()}}
            status = 1
            try:
                work(folder)
                status = 0
            except BaseException:  # it is a process of its own: what went wrong is said here or nowhere
                import traceback

                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        children.append(child)
    statuses: dict[int, int] = {}
    end = time.monotonic() + seconds
    while len(statuses) < 2:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            statuses[child] = status
        if (child and status) or time.monotonic() > end:
            for other in set(children) - set(statuses):
                os.kill(other, signal.SIGKILL)
            end = float("inf")
        time.sleep(0.01)
    return [statuses[child] for child in children]


def configure(path: str) -> None:
    """Set the environment that `accelerate launch --config_file` sets."""
    from accelerate.commands import launch
    from accelerate.utils.launch import prepare_multi_gpu_env

    arguments, _, _ = launch._validate_launch_command(launch.launch_command_parser().parse_args(["--config_file", path, "script"]))
    os.environ |= {name: str(value) for name, value in prepare_multi_gpu_env(arguments).items()}


def main(folder: Path, ddp: str, fsdp: str) -> None:
    import peft
    import sentence_transformers

    loaded = (peft, sentence_transformers)  # before the forks, so that it is done once
    write_tiny_bert(folder / "bert", [f"w{i}" for i in range(20)])
    configure(ddp)
    if not loaded or in_two(replicated, folder) != [0, 0]:
        sys.exit("the training with all weights failed")
    configure(fsdp)
    if in_two(all_jobs, folder) != [0, 0]:
        sys.exit("the trainings failed")
    first = in_two(killed, folder)
    if os.WTERMSIG(first[0]) != signal.SIGKILL or first[1] == 0:
        sys.exit(f"nothing was killed: {first}")
    if in_two(resumed, folder) != [0, 0]:
        sys.exit("it did not go on")
    broken = folder / "damaged" / "step-000000001"
    broken.mkdir(parents=True)
    (broken / "state.json").write_text("{")
    if in_two(damaged, folder) != [0, 0]:
        sys.exit("a damaged checkpoint")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
