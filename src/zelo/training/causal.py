"""Supervised fine-tuning of a causal language model in the common training loop: next-token cross-entropy, the prompt masked.

A row is a prompt and what is to be written after it. Tokens of the prompt are read and not learned; in a row's ids they stand as
-1 - id, so that a row is still one sequence of whole numbers. Every learned token weighs alike, in long traces and in short ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.encoders.extras import import_extra
from zelo.errors import InputError
from zelo.rerankers.language_model import LanguageModel, Precision
from zelo.rerankers.scorer import Tokens, pad_right
from zelo.training.batches import Listed

Ids = NDArray[np.int32]
CHUNK = 2048
"""Positions whose logits are in memory at once: with 151,936 rows of a head, 1.2 GB in float32."""
IGNORED = -100


def row_of(prompt: Sequence[int], response: Sequence[int], most: int) -> Ids:
    """Return a row: the prompt's ids as -1 - id, then those to learn.

    Args:
        prompt: token ids, at least one.
        response: token ids, the end of the text included, at least one.
        most: tokens of a row.

    Raises:
        InputError: something is empty, or the row is too long: a trace that is cut teaches to stop in the middle.
    """
    if not len(prompt) or not len(response):
        raise InputError("a row without prompt or response")
    if len(prompt) + len(response) > most:
        what = f"a trace of {len(prompt) + len(response):,} tokens with its prompt does not fit into {most:,}"
        raise InputError(what, remedy="raise --max-tokens, or select shorter traces")
    return np.concatenate([-1 - np.asarray(prompt, np.int64), np.asarray(response, np.int64)]).astype(np.int32)


def source_of(rows: Sequence[Ids]) -> Listed:
    """Return rows as the loop's source. Its targets are what a token weighs: 1 / mean learned tokens per row.

    Raises:
        InputError: there are none.
    """
    learned = float(np.mean([int((row >= 0).sum()) for row in rows])) if rows else 1.0
    return Listed(rows, np.full(len(rows), 1 / learned), np.arange(len(rows)))


def token_loss(losses: Any, weights: Any, groups: Any) -> Any:
    """Return the mean over rows of (sum of a row's token losses) * weight: with `source_of`, nats per learned token."""
    return (losses * weights).mean()


class CausalLearner(LanguageModel):
    """A causal language model that learns to write. Its module gives the sum of the cross-entropies of each row's learned tokens [n]."""

    entries = ()

    def __init__(self, model: Any, tokens: Sequence[int] = (0,), identity: str = "") -> None:
        """Take a transformers causal language model; `tokens` is what the base class checks the head by.

        Raises:
            InputError: its head is more than a matrix product.
        """
        super().__init__(model, tokens, identity)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        self.module = _row_losses(model)

    @classmethod
    def load(cls, folder: Path, tokens: Sequence[int] = (0,), precision: Precision = "auto", device: str = "auto") -> CausalLearner:
        """Load a folder; see `LanguageModel.load`."""
        found = super().load(folder, tokens, precision, device)
        if not isinstance(found, CausalLearner):
            raise TypeError("made by another class")
        return found

    def collate(self, sequences: Sequence[Tokens]) -> tuple[Any, Any]:
        """Return ids [n, longest] and labels [n, longest], `IGNORED` where nothing is learned."""
        torch = import_extra("torch", "torch")
        rows = [np.asarray(s, np.int64) for s in sequences]
        ids, _ = pad_right([np.where(row < 0, -1 - row, row) for row in rows], self._pad)
        labels, _ = pad_right([np.where(row < 0, IGNORED, row) for row in rows], IGNORED)
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(labels).to(self.device)

    def merge(self) -> None:
        """Add the adapters to the weights; then it is a plain model again."""
        super().merge()
        self.module = _row_losses(self.model)


def _row_losses(model: Any) -> Any:
    """A module (ids [n, t], labels [n, t]) -> sums of token losses [n]."""
    torch = import_extra("torch", "torch")
    checkpoint = import_extra("torch.utils.checkpoint", "torch").checkpoint

    class RowLosses(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, labels: Any) -> Any:
            hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
            wanted = labels[:, 1:]
            row, place = torch.nonzero(wanted != IGNORED, as_tuple=True)
            states, targets = hidden[row, place], wanted[row, place]
            parts = [
                checkpoint(
                    _token_losses, self.model.get_output_embeddings(), states[i : i + CHUNK], targets[i : i + CHUNK], use_reentrant=False
                )
                for i in range(0, len(targets), CHUNK)
            ]
            losses = torch.cat(parts) if parts else states.sum(-1) * 0
            return torch.zeros(len(ids), device=ids.device).index_add(0, row, losses.float())

    return RowLosses()


def _token_losses(head: Any, states: Any, targets: Any) -> Any:
    functional = import_extra("torch", "torch").nn.functional
    return functional.cross_entropy(head(states).float(), targets, reduction="none")
