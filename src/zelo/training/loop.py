"""The training loop of every transformer here: pointwise and pairwise, language models and encoders, adapters and all weights.

Read it from top to bottom: `train` plans the steps, goes on where a killed run stopped, and steps. What is random is a function of
the seed and the step, so that a run that was killed and resumed ends with the same weights. One process or several:
`accelerate launch` sets the devices; each process takes its share of every step, and holds all weights (DDP) or a part (FSDP).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zelo.encoders.extras import import_extra
from zelo.errors import ConvergenceError, InputError
from zelo.rerankers.scorer import Scorer, computes_bfloat16
from zelo.training import batches, checkpoints
from zelo.training.batches import Source
from zelo.training.losses import Loss
from zelo.training.processes import Replicated, join_processes

IntArray = NDArray[np.int64]
Evaluate = Callable[[], Mapping[str, float]]
"""Measures the model as it is, on held-out queries: name -> value. Greater is better, but of "loss" less is."""
LOG = "log.jsonl"


@dataclass(frozen=True)
class Settings:
    """How to train. What a step learns depends on the first six alone; the others are about speed, memory and stopping.

    Attributes:
        learning_rate: peak; it rises from 0 over the warm-up and then falls to 0, both in a line.
        epochs: passes over the source.
        batch_size: items per step.
        weight_decay: of matrices; embeddings, the head, biases and norms are left alone.
        clip: largest norm of a step's gradient.
        warm_up: share of the steps.
        together: keep the items of a query in one forward pass, for losses over lists.
        token_budget: most padded tokens of one forward pass; 0 = what suits the device.
        precision: of the products; auto = bfloat16 where the device computes it.
        gradient_checkpointing: less memory, a third more work.
        evaluate_every: steps between evaluations; 0 = after every epoch.
        patience: stop after so many evaluations without a better one, and keep the best weights; 0 = never stop, keep the last.
        watch: name of the value that decides which is better.
        checkpoint_seconds: between checkpoints; more where writing one takes over a tenth of that; 0 = after every step.
        threads: cores to use; 0 = as many as torch is set to.
    """

    learning_rate: float = 1e-4
    epochs: int = 1
    batch_size: int = 32
    weight_decay: float = 0.01
    clip: float = 1.0
    warm_up: float = 0.1
    together: bool = False
    token_budget: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool = False
    evaluate_every: int = 0
    patience: int = 0
    watch: str = "loss"
    checkpoint_seconds: float = 300.0
    threads: int = 0


@dataclass(frozen=True)
class Report:
    """What a training did.

    Attributes:
        steps: done, of `planned`.
        planned: steps of all epochs.
        loss: mean over the last tenth of the steps.
        evaluation: the last one, or the best one if `patience` chose it; empty without evaluations.
        evaluated_at: the step of that evaluation.
        tokens: trained on, padding not counted.
        seconds: in steps, over all sittings.
        resumed_at: the step that this sitting began at; 0 = the start.
    """

    steps: int
    planned: int
    loss: float
    evaluation: Mapping[str, float]
    evaluated_at: int
    tokens: int
    seconds: float
    resumed_at: int

    @property
    def tokens_per_second(self) -> float:
        """Trained on, padding not counted."""
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass
class _State:
    """Where the training stands; JSON in a checkpoint."""

    identity: str
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    best_step: int = 0
    worse: int = 0  # evaluations since the best one


def train(
    scorer: Scorer,
    source: Source,
    loss: Loss,
    settings: Settings,
    folder: Path,
    seed: int,
    advance: Callable[[int, int], None],
    evaluate: Evaluate | None = None,
) -> Report:
    """Train the scorer in place.

    Args:
        scorer: the model; the same one, untrained, when a killed run goes on.
        source: the items.
        loss: mean loss of some items: (logits [n] in float32, targets [n], groups [n]) -> a scalar.
        settings: how.
        folder: of checkpoints and the log (`log.jsonl`); of this training alone. When it holds a checkpoint of a training with the
            same scorer, source, loss, settings and seed, this one goes on from there.
        seed: of order and dropout.
        advance: called with (steps done, steps).
        evaluate: measures the model on queries that are not in the source.

    Raises:
        ConvergenceError: the loss is not a number any more.
        InputError: a checkpoint is damaged, an evaluation lacks the watched value, or accelerate would shard the weights by other means
            than FSDP 2.
        MissingExtraError: torch or accelerate is not installed.
    """
    torch, accelerate = import_extra("torch", "torch"), import_extra("accelerate", "accelerate")
    with _repeatable(torch, settings.threads, scorer.device.type):
        accelerator = accelerate.Accelerator(cpu=scorer.device.type == "cpu")
        if settings.gradient_checkpointing:
            scorer.checkpoint_gradients()
        processes = join_processes(accelerator, scorer, lambda module: _optimizer(torch, module, settings))
        return _Run(torch, processes, scorer, source, loss, settings, folder, seed).all_steps(advance, evaluate)


@dataclass
class _Run:
    """What a training has at hand."""

    torch: Any
    processes: Replicated
    scorer: Scorer
    source: Source
    loss: Loss
    settings: Settings
    folder: Path
    seed: int

    def all_steps(self, advance: Callable[[int, int], None], evaluate: Evaluate | None) -> Report:
        """Take the steps that are left."""
        settings = self.settings
        plan, ends = _plan(self.source, settings, self.seed)
        state, best = self.resume(_identity(self.scorer, self.source, self.loss, settings, self.seed))
        resumed_at, saved, took = state.step, time.monotonic(), 0.0
        while state.step < len(plan) and not (settings.patience and state.worse >= settings.patience):
            self.step(state, *plan[state.step], len(plan))
            if evaluate is not None and state.step in ends:
                best = self.evaluate(state, best, evaluate)
            wait = max(settings.checkpoint_seconds, 10 * took) if settings.checkpoint_seconds else 0.0
            if time.monotonic() - saved >= wait or state.step == len(plan):
                began = time.monotonic()
                self.save(state, best)
                saved, took = time.monotonic(), time.monotonic() - began
            advance(state.step, len(plan))
        if settings.patience and state.best:
            self.processes.put_back(best)
        self.processes.finish()
        self.scorer.module.eval()
        loss = float(np.mean(state.losses[-max(1, len(plan) // 10) :]))
        return Report(state.step, len(plan), loss, state.best, state.best_step, state.tokens, round(state.seconds, 3), resumed_at)

    def step(self, state: _State, epoch: int, rows: IntArray, total: int) -> None:
        """Learn from one step's rows; `total` is the number of steps."""
        start, rank, optimizer = time.perf_counter(), self.processes.rank, self.processes.optimizer
        share = learning_rate_share(state.step, total, self.settings.warm_up)
        for group in optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * share
        parts, weights = self._parts(rows)
        with self.torch.random.fork_rng(devices=[self.scorer.device] if self.scorer.device.type == "cuda" else []):
            # Dropout is drawn from the step, so that a resumed run draws the same.
            self.torch.manual_seed(int(np.random.SeedSequence([self.seed, state.step, rank]).generate_state(1)[0]))
            passes = enumerate(zip(parts, weights, strict=True), start=1)
            value = sum(self._descend(part, epoch, weight, last=n == len(parts)) for n, (part, weight) in passes)
        norm, value = self.processes.clip(self.settings.clip), self.processes.mean(value)
        if not np.isfinite(value) or not np.isfinite(norm):
            what = f"the loss was {value} and its gradient {norm} at step {state.step + 1}"
            raise ConvergenceError(what, remedy="lower the learning rate")
        optimizer.step()
        optimizer.zero_grad()
        seconds, tokens = time.perf_counter() - start, int(self.source.lengths[rows].sum())
        state.step, state.tokens, state.seconds = state.step + 1, state.tokens + tokens, state.seconds + seconds
        state.losses = [*state.losses[-(total // 10 + 1) :], value]
        numbers = {"loss": value, "learning_rate": optimizer.param_groups[0]["lr"], "gradient_norm": norm}
        self.log(
            step=state.step, epoch=epoch, **numbers, items=len(rows), tokens=tokens, passes=len(parts), tokens_per_second=tokens / seconds
        )

    def _parts(self, rows: IntArray) -> tuple[list[IntArray], list[float]]:
        """This process's forward passes of a step, and what the mean loss of each weighs."""
        processes, lengths, groups, together = self.processes, self.source.lengths, self.source.groups, self.settings.together
        budget = self.settings.token_budget or self.scorer.default_budget()
        shares = [batches.share_of(rows, lengths, groups, rank, processes.world, together=together) for rank in range(processes.world)]
        cut = [batches.passes(share, lengths, groups, budget, together=together) for share in shares]
        mine = cut[processes.rank]
        idle = max(1, processes.passes([len(passes) for passes in cut])) - len(mine)  # passes without weight, to join in with
        weights = [len(part) * processes.world / len(rows) for part in mine]  # the gradient's mean over processes is taken
        return mine + [rows[lengths[rows].argmin()][None]] * idle, weights + [0.0] * idle

    def _descend(self, rows: IntArray, epoch: int, weight: float, *, last: bool) -> Any:
        """Add the gradient of one forward pass, times its weight; return its share of the step's mean loss."""
        torch, device = self.torch, self.scorer.device
        sequences, targets = self.source.items(rows, epoch)
        with self.processes.accumulating(last=last), torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._halves()):
            self.processes.module.train()
            logits = self.processes.module(*self.scorer.collate(sequences)).float()
            wanted = torch.as_tensor(targets, dtype=torch.float32, device=device)
            groups = torch.as_tensor(self.source.groups[rows], device=device)
            value = self.loss(logits, wanted, groups) * weight
            self.processes.accelerator.backward(value)
        return value.detach()

    def _halves(self) -> bool:
        precision = self.settings.precision
        return computes_bfloat16(self.scorer.device) if precision == "auto" else precision == "bfloat16"

    def evaluate(self, state: _State, best: dict[str, Any], evaluate: Evaluate) -> dict[str, Any]:
        """Measure; return the weights of the best evaluation so far, or none if the last ones are kept anyway."""
        found = self.processes.agreed({name: float(value) for name, value in evaluate().items()})
        self.processes.after_scoring()
        watch = self.settings.watch
        if watch not in found:
            raise InputError(f"the evaluation has no {watch!r}", remedy=f"watch one of: {', '.join(found)}")
        self.log(step=state.step, evaluation=found)
        sign = -1 if watch == "loss" else 1
        better = not state.best or sign * found[watch] > sign * state.best[watch]
        state.worse = 0 if better else state.worse + 1
        if better or not self.settings.patience:
            state.best, state.best_step = found, state.step
        return self.processes.weights() if better and self.settings.patience else best

    def save(self, state: _State, best: dict[str, Any]) -> None:
        """Write a checkpoint; one process does."""
        weights, optimizer, body = self.processes.weights(), self.processes.optimizer_state(), asdict(state)
        if self.processes.is_main:
            checkpoints.write(self.folder, body.pop("step"), body, weights, optimizer, best)
        self.processes.wait()

    def resume(self, identity: str) -> tuple[_State, dict[str, Any]]:
        """Take up the checkpoint, if there is one, and cut the log there."""
        found = self.processes.resume(self.folder, identity)
        state, best = (_State(identity), dict[str, Any]()) if found is None else (_State(**found[0]), found[3])
        if self.processes.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / LOG
            lines = path.read_text("utf-8").splitlines(keepends=True) if path.exists() and state.step else []
            path.write_text("".join(line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= state.step), "utf-8")
        self.processes.wait()
        return state, best

    def log(self, **values: Any) -> None:
        """Add a line to the log."""
        if self.processes.is_main:
            short = {n: float(f"{v:.6g}") if isinstance(v, float) else v for n, v in values.items()}
            with (self.folder / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(short) + "\n")


def learning_rate_share(step: int, steps: int, warm_up: float) -> float:
    """Return the share of the peak rate at a step, from 0: linear up during the warm-up, then linear down to almost 0."""
    warm = max(1, round(warm_up * steps))
    return (step + 1) / warm if step < warm else (steps - step) / max(1, steps - warm + 1)


def _plan(source: Source, settings: Settings, seed: int) -> tuple[list[tuple[int, IntArray]], set[int]]:
    """The epoch and the rows of every step, and after how many steps to evaluate."""
    size, together = settings.batch_size, settings.together
    epochs = [batches.steps(source.lengths, source.groups, size, seed, epoch, together=together) for epoch in range(settings.epochs)]
    plan = [(epoch, rows) for epoch, order in enumerate(epochs) for rows in order]
    if settings.evaluate_every:
        return plan, {*range(settings.evaluate_every, len(plan), settings.evaluate_every), len(plan)}
    return plan, set(np.cumsum([len(order) for order in epochs]).tolist())


def _optimizer(torch: Any, module: Any, settings: Settings) -> Any:
    tables = {id(m.weight) for m in module.modules() if isinstance(m, torch.nn.Embedding)}
    learn = checkpoints.trainable(module).values()
    decayed = [p for p in learn if p.ndim > 1 and id(p) not in tables]
    others = [p for p in learn if p.ndim <= 1 or id(p) in tables]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.learning_rate)


def _identity(scorer: Scorer, source: Source, loss: Loss, settings: Settings, seed: int) -> str:
    """Of the training: a checkpoint of another one is not resumed."""
    shapes = {name: list(p.shape) for name, p in checkpoints.trainable(scorer.module).items()}
    free = {name: value for name, value in asdict(settings).items() if name not in ("checkpoint_seconds", "threads")}
    name = getattr(loss, "__qualname__", type(loss).__name__)
    parts = [scorer.identity, source.identity, batches.digest_of(source.lengths, source.groups), name, free, seed, shapes]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@contextmanager
def _repeatable(torch: Any, threads: int, device: str) -> Iterator[None]:
    """Fix torch's threads and, on a CPU, forbid algorithms that do not repeat; afterwards all is as before."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads or before)
    if device == "cpu":
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict)
        torch.set_num_threads(before)
