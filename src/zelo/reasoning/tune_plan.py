"""What tuning will take: memory, time, dollars, from the model's configuration and the traces, before anything runs.

Counted: weights, gradients, AdamW's two moments, what one forward pass keeps, and the logits of one chunk. Time is floating-point
operations (6 per weight and token; 8 where activations are computed again) over the rate that the device reaches, and attention's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zelo.errors import InputError
from zelo.reasoning.tune import Tuning
from zelo.training.causal import CHUNK

GIB = 2**30
REACHED = 0.35
"""Share of a device's peak that training of this kind reaches, assumed."""


@dataclass(frozen=True)
class Shape:
    """A causal language model: weights, of these in embedding and head, layers, width, inner width, rows of the head."""

    parameters: float
    embedding: float
    layers: int
    hidden: int
    inner: int
    vocabulary: int


@dataclass(frozen=True)
class TunePlan:
    """What a tuning takes: GiB by what they are for, operations, and seconds on the device."""

    memory: Mapping[str, float]
    operations: float
    tokens: int
    seconds: float

    @property
    def total(self) -> float:
        """GiB in all."""
        return sum(self.memory.values())

    def lines(self, dollars_per_hour: float = 0.0) -> list[str]:
        """Return it for people."""
        parts = ", ".join(f"{name} {value:,.1f}" for name, value in self.memory.items())
        hours = self.seconds / 3600
        cost = f", ${hours * dollars_per_hour:,.2f}" if dollars_per_hour else ""
        time = f"{self.seconds:,.0f} s" if self.seconds < 3600 else f"{hours:,.1f} h"
        return [
            f"memory: about {self.total:,.1f} GiB ({parts}); what a framework and the allocator add is not counted",
            f"time: about {time}{cost} for {self.tokens:,} tokens ({self.operations:.2g} operations), loading not counted",
        ]


def folder_of(base: str) -> Path:
    """Return the folder of a base; a plan needs no more of it than config.json, and nothing is downloaded.

    Raises:
        InputError: it is no folder with a config.json.
    """
    folder = Path(base).expanduser()
    if not (folder / "config.json").is_file():
        what = "a plan needs a folder with the model's config.json, and downloads nothing"
        raise InputError(what, where=f"--base {base}", remedy="put the model's config.json into a folder and name that")
    return folder


def shape_of(folder: Path) -> Shape:
    """Read a model's shape from its config.json.

    Raises:
        InputError: there is none, or it lacks a size.
    """
    path = folder / "config.json"
    try:
        body = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"not a language model's configuration ({error!r})", where=str(path), remedy="name a model's folder") from error
    return shape_from(body, str(path))


def shape_from(body: Mapping[str, Any], where: str) -> Shape:
    """Return a model's shape by what its config.json says.

    Raises:
        InputError: it lacks a size.
    """
    try:
        hidden, layers, rows = (int(body[name]) for name in ("hidden_size", "num_hidden_layers", "vocab_size"))
        inner, heads = int(body["intermediate_size"]), int(body["num_attention_heads"])
        kept, size = int(body.get("num_key_value_heads") or heads), int(body.get("head_dim") or hidden // heads)
        tied = bool(body.get("tie_word_embeddings", True))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"not a language model's configuration ({error!r})", where=where, remedy="name a model's folder") from error
    layer = hidden * size * (2 * heads + 2 * kept) + 3 * hidden * inner
    embedding = rows * hidden * (1 if tied else 2)
    return Shape(layers * layer + embedding, embedding, layers, hidden, inner, rows)


def plan(shape: Shape, lengths: list[int], tuning: Tuning, *, peak: float, budget: int) -> TunePlan:
    """Say what a tuning takes.

    Args:
        shape: of the model.
        lengths: tokens of every trace with its prompt.
        tuning: how.
        peak: of the device's bfloat16 products, operations per second.
        budget: most padded tokens of a forward pass.
    """
    tokens, longest = sum(lengths), max(lengths)
    at_once = max(longest, min(budget, min(tuning.batch_size, len(lengths)) * longest))  # a single row may pass the budget
    if tuning.lora_rank:
        each = shape.hidden * 4 + 3 * (shape.hidden + shape.inner)  # rows and columns of adapters of a layer, per rank
        learned = float(shape.layers * each * tuning.lora_rank)
        weights = {"weights (bfloat16)": 2 * shape.parameters, "adapters, gradients, moments": 16 * learned}
    else:
        weights = {"weights": 4 * shape.parameters, "gradients": 4 * shape.parameters, "moments": 8 * shape.parameters}
    # What a layer keeps for the way back, in halves: about 34 values per unit of width (Korthikanti et al. 2022), or its input.
    kept = 2.0 * shape.layers * shape.hidden * at_once * (1 if tuning.gradient_checkpointing else 17)
    weights |= {"activations": kept, "logits": 4.0 * 3 * min(CHUNK, at_once) * shape.vocabulary}
    per_token = (8 if tuning.gradient_checkpointing else 6) * (shape.parameters - shape.embedding / 2)
    per_token *= 2 / 3 if tuning.lora_rank else 1  # gradients of frozen weights are not computed
    attention = sum(12.0 * shape.layers * shape.hidden * n * n / 2 for n in lengths)
    operations = tuning.epochs * (per_token * tokens + attention)
    return TunePlan(
        {name: value / GIB for name, value in weights.items()}, operations, tuning.epochs * tokens, operations / (REACHED * peak)
    )
