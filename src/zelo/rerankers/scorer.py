"""One logit for a token sequence: what pointwise and pairwise rerankers of both families have in common.

A causal language model reads the logit off its head at the last token (`language_model`), an encoder off a classifier
(`encoder_classifier`). Texts become tokens elsewhere (templates), so training, judging and serving read the same sequences.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zelo.encoders.extras import import_extra
from zelo.errors import InputError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Tokens = Sequence[int] | NDArray[Any]
"""The ids of one sequence's tokens, special tokens included."""

CPU_TOKENS = 2048  # padded tokens of a forward pass: enough to keep a core busy, small enough for its cache
GPU_TOKENS = 65_536


class Engine(Protocol):
    """What computes logits: a torch model (every Scorer), or a model compiled for this processor (compiled.Compiled)."""

    @property
    def identity(self) -> str:
        """Digest of the weights; "" is unknown."""
        ...

    def score_groups(self, groups: Sequence[Sequence[Tokens]], budget: int = 0) -> list[FloatArray]:
        """Return the logits of each group of sequences; those of a group may begin alike, as documents of one query do."""
        ...


class Scorer(ABC):
    """A model that gives one logit per token sequence.

    Attributes:
        module: a torch module: called with what `collate` returns, it gives logits [n] in float32.
        identity: digest of the weights that it was loaded from; "" is unknown.
        antisymmetric: exchanging the two documents of a pair turns the sign of the logit, whatever the weights.
        layers_once: a forward pass of `module` runs each of the model's layers once, whatever the sequences.
        entries: methods of `module` that scoring calls beside the module itself, and that its forward pass does not.
    """

    module: Any
    identity: str = ""
    antisymmetric: bool = False
    layers_once: bool = True
    entries: tuple[str, ...] = ()

    @abstractmethod
    def collate(self, sequences: Sequence[Tokens]) -> tuple[Any, ...]:
        """Return the tensors of one forward pass, on the model's device."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the weights and their configuration; transformers loads the folder as it is. The tokenizer is the caller's to save."""

    def checkpoint_gradients(self) -> None:
        """Keep few activations and compute the others again when gradients need them: less memory, about a third more work."""
        raise NotImplementedError(f"{type(self).__name__} keeps all activations")

    @property
    def device(self) -> Any:
        """The torch device of the weights."""
        return next(self.module.parameters()).device

    def logits(self, sequences: Sequence[Tokens]) -> Any:
        """Return logits [n] of one padded forward pass, with gradients where they are enabled. Padding changes nothing."""
        return self.module(*self.collate(sequences))

    def score(
        self,
        sequences: Sequence[Tokens],
        budget: int = 0,
        advance: Callable[[int, int], None] = lambda done, total: None,
        *,
        halves: bool = False,
    ) -> FloatArray:
        """Return logits [n], without gradients, in passes of similar length.

        Args:
            sequences: the tokens of each.
            budget: most padded tokens of a forward pass; 0 = what suits the device.
            advance: called with (sequences done, sequences).
            halves: compute products in bfloat16: faster where the device has it, logits to about two digits.
        """
        torch = import_extra("torch", "torch")
        lengths = np.array([len(s) for s in sequences], np.int64)
        found = np.zeros(len(sequences))
        done = 0
        with torch.inference_mode(), evaluating(self.module), torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=halves):
            for rows in batches_by_length(lengths, budget or self.default_budget()):
                found[rows] = self.logits([sequences[i] for i in rows.tolist()]).double().cpu().numpy()
                done += len(rows)
                advance(done, len(sequences))
        return found

    def score_groups(self, groups: Sequence[Sequence[Tokens]], budget: int = 0) -> list[FloatArray]:
        """Return the logits of each group of sequences, in passes that the groups share."""
        found = self.score([sequence for group in groups for sequence in group], budget)
        return np.split(found, np.cumsum([len(group) for group in groups])[:-1])

    def tokens_computed(self, sequences: Sequence[Tokens]) -> int:
        """Return how many tokens `score` computes for these sequences."""
        return sum(map(len, sequences))

    def default_budget(self) -> int:
        """Return how many padded tokens a forward pass may have if nobody says so."""
        return GPU_TOKENS if self.device.type == "cuda" else CPU_TOKENS


def batches_by_length(lengths: IntArray, budget: int) -> list[IntArray]:
    """Return batches of rows, longest first, each of at most `budget` padded tokens or of a single row."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, budget // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


def pad_right(sequences: Sequence[Tokens], pad: int, length: int = 0) -> tuple[IntArray, IntArray]:
    """Return ids [n, longest], or [n, length] if that is more, filled up with `pad` on the right, and the lengths [n]."""
    lengths = np.array([len(s) for s in sequences], np.int64)
    ids = np.full((len(sequences), max(length, int(lengths.max(initial=1)))), pad, np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
    return ids, lengths


def common_prefix(sequences: Sequence[Tokens]) -> int:
    """Return how many tokens all begin with, leaving each at least one."""
    size = min(map(len, sequences)) - 1
    first = np.asarray(sequences[0])
    for other in sequences[1:]:
        different = np.flatnonzero(first[:size] != np.asarray(other)[:size])
        size = int(different[0]) if len(different) else size
    return size


def check_loaded(model: Any, folder: Path) -> Any:
    """Return a model; under FSDP transformers leaves it empty in all processes but one, unless told not to.

    Raises:
        InputError: it is empty.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        remedy = "set fsdp_cpu_ram_efficient_loading: false in accelerate's fsdp_config"
        raise InputError("only the first process has loaded the weights", where=str(folder), remedy=remedy)
    return model


def pick_device(name: str = "auto") -> str:
    """Return "cuda" where there is one, else "cpu", unless told."""
    if name != "auto":
        return name
    return "cuda" if import_extra("torch", "torch").cuda.is_available() else "cpu"


def computes_bfloat16(device: Any) -> bool:
    """Return whether a torch device multiplies in bfloat16 by itself: most GPUs, and CPUs with AVX512-BF16 or AMX."""
    torch = import_extra("torch", "torch")
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    able = {name for name, has in torch.cpu.get_capabilities().items() if has is True}
    return bool({"avx512_bf16", "amx_bf16"} & able)


@contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Switch dropout off; afterwards it is as before."""
    before = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(before)
