"""The processes of a training: who writes, what they tell each other, and where the weights are.

`Replicated`: each process holds all weights; one process alone, or DDP as accelerate sets it up. `sharded.Sharded`: each holds a part
of every weight, gradient and state of the optimizer (FSDP2). A checkpoint holds whole weights either way, so that a training
may go on with other processes than it began with.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from zelo.encoders.extras import import_extra
from zelo.errors import InputError
from zelo.rerankers.scorer import Scorer
from zelo.training import checkpoints

MakeOptimizer = Callable[[Any], Any]
"""A torch module -> the optimizer of its trainable parameters."""
Found = tuple[dict[str, Any], dict[str, Any], Any, dict[str, Any]]
"""Of a checkpoint: the state, weights, the optimizer's state, the best weights; in the main process only where weights are sharded."""


class Replicated:
    """Every process holds all weights.

    Attributes:
        accelerator: of accelerate.
        module: the scorer's, as it is called in training.
        optimizer: of its parameters.
        rank: number of this process.
        world: number of processes.
        is_main: this process writes files.
    """

    def __init__(self, accelerator: Any, scorer: Scorer, make: MakeOptimizer) -> None:
        """Move the scorer's module to the device of this process and make its optimizer."""
        self.accelerator, self.scorer = accelerator, scorer
        self.rank, self.world = int(accelerator.process_index), int(accelerator.num_processes)
        self.is_main = bool(accelerator.is_main_process)
        self.module, self.optimizer = self._prepare(make)

    def _prepare(self, make: MakeOptimizer) -> tuple[Any, Any]:
        module, optimizer = self.accelerator.prepare(self.scorer.module, make(self.scorer.module))
        return module, optimizer

    def passes(self, counts: Sequence[int]) -> int:
        """Return how many forward passes this process makes in a step of which the processes have so many to make."""
        return counts[self.rank]

    def accumulating(self, *, last: bool) -> AbstractContextManager[None]:
        """Return what a pass of a step runs in: the processes exchange gradients once per step."""
        found: AbstractContextManager[None] = nullcontext() if last else self.accelerator.no_sync(self.module)
        return found

    def clip(self, most: float) -> float:
        """Scale the gradient to a norm of at most `most`; return the norm that it had."""
        return float(self.accelerator.clip_grad_norm_(self.module.parameters(), most))

    def mean(self, value: Any) -> float:
        """Return the mean of a number over the processes."""
        return float(self.accelerator.reduce(value, "mean"))

    def agreed(self, values: Any) -> Any:
        """Return what the main process has: processes that differ in a last digit must not decide differently."""
        if self.world == 1:
            return values
        told = [values]
        import_extra("torch.distributed", "torch").broadcast_object_list(told, src=0)
        return told[0]

    def wait(self) -> None:
        """Wait for all processes."""
        self.accelerator.wait_for_everyone()

    def after_scoring(self) -> None:
        """Leave the weights as training needs them."""

    def weights(self) -> dict[str, Any]:
        """Return the trainable weights as they are, whole, on the CPU; other processes than the main one may get none."""
        return checkpoints.copy_of(checkpoints.trainable(self.scorer.module))

    def put_back(self, weights: Mapping[str, Any]) -> None:
        """Set the trainable weights to what `weights` returned."""
        checkpoints.put_back(self.scorer.module, weights)

    def optimizer_state(self) -> Any:
        """Return the optimizer's state, whole; other processes than the main one may get none."""
        return self.optimizer.state_dict()

    def resume(self, folder: Path, identity: str) -> Found | None:
        """Take weights and the optimizer's state from the newest checkpoint; return what was found.

        Raises:
            InputError: it is damaged.
        """
        found = checkpoints.read(folder, identity)
        if found is not None:
            self.put_back(found[1])
            self.optimizer.load_state_dict(found[2])
        return found

    def finish(self) -> None:
        """Make the scorer whole in every process."""


def join_processes(accelerator: Any, scorer: Scorer, make: MakeOptimizer) -> Replicated:
    """Return the processes that accelerate was launched with, the weights where its configuration wants them.

    Raises:
        InputError: weights would lie where the loop cannot gather them.
    """
    kind = str(accelerator.distributed_type).rpartition(".")[2]
    for name in ("DEEPSPEED", "MEGATRON_LM"):
        # accelerate leaves a plugin out on a CPU, without a word; what its configuration asks for is still in the environment.
        if kind == name or _asked(f"ACCELERATE_USE_{name}"):
            what = f"the loop does not gather weights that {name.lower()} has sharded"
            raise InputError(what, remedy="use DDP or FSDP (docs/training.md), or low-rank adapters if memory is short")
    if kind == "FSDP" or _asked("ACCELERATE_USE_FSDP"):
        from zelo.training.sharded import Sharded

        if accelerator.num_processes > 1:
            return Sharded(accelerator, scorer, make)
    return Replicated(accelerator, scorer, make)


def _asked(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("true", "1", "yes")
