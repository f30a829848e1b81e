"""A classifier with one output as a scorer: encoders (BERT, ModernBERT, ...), and language models that end in such a head."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zelo.encoders.extras import import_extra
from zelo.encoders.openvino_engine import quiet
from zelo.encoders.weights import model_digest
from zelo.errors import InputError
from zelo.rerankers.scorer import IntArray, Scorer, Tokens, check_loaded, pad_right, pick_device


class EncoderClassifier(Scorer):
    """Reads the logit off the head of a `...ForSequenceClassification` model of transformers.

    Attributes:
        model: of transformers.
        pad: id of the padding token.
        separator: id of the token that ends the first text, if the model tells texts apart by their type; None if not.
        is_new: the head was not in the folder; it was drawn from the seed.
    """

    def __init__(self, model: Any, pad: int, separator: int | None, identity: str = "", *, is_new: bool = False) -> None:
        """Take a transformers model with one output.

        Args:
            model: the model, on its device.
            pad: id of the padding token.
            separator: id of the token that ends the first text, if the model tells texts apart by their type; None if not.
            identity: digest of the weights.
            is_new: the head is random.
        """
        self.model, self.identity, self.is_new = model, identity, is_new
        self.pad, self.separator = pad, separator
        self.module = _one_logit(model)

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto", seed: int = 0) -> EncoderClassifier:
        """Load a folder, with float32 weights.

        Args:
            folder: of an encoder, as transformers saves it, with or without a head of one output; with its tokenizer.
            device: "cpu", "cuda", ...; auto = a GPU if there is one.
            seed: of a head that is not in the folder.

        Raises:
            InputError: the folder holds no such model.
            MissingExtraError: torch or transformers is not installed.
        """
        library, torch = import_extra("transformers", "transformers"), import_extra("torch", "torch")
        try:
            with quiet(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                tokenizer = library.AutoTokenizer.from_pretrained(folder, local_files_only=True)
                model = library.AutoModelForSequenceClassification.from_pretrained(
                    folder, num_labels=1, dtype=torch.float32, local_files_only=True
                )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            what = f"cannot be loaded as a classifier with one output ({str(error).strip().partition(chr(10))[0]})"
            raise InputError(what, where=str(folder), remedy="choose another model") from error
        trained = json.loads((folder / "config.json").read_text("utf-8")).get("architectures") or [""]
        typed = getattr(model.config, "type_vocab_size", 0) > 1 and "token_type_ids" in tokenizer.model_input_names
        pad = model.config.get_text_config().pad_token_id
        return cls(
            check_loaded(model, folder).to(pick_device(device)).eval(),
            int(tokenizer.pad_token_id if pad is None else pad),
            tokenizer.sep_token_id if typed else None,
            model_digest(folder),
            is_new=not trained[0].endswith("ForSequenceClassification"),
        )

    def start_at(self, share: float) -> None:
        """Let a new head say `share` (in 0 .. 1, the mean target) of everything; finding that takes long at a fine-tuning rate."""
        torch = import_extra("torch", "torch")
        heads = [m for m in self.model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 1 and m.bias is not None]
        if self.is_new and heads:
            share = min(max(share, 1e-3), 1 - 1e-3)
            torch.nn.init.constant_(heads[-1].bias, float(np.log(share / (1 - share))))

    def collate(self, sequences: Sequence[Tokens]) -> tuple[Any, ...]:
        """Return ids, mask (None where there is no padding) and types (None where the model has none), each [n, longest].

        Raises:
            InputError: a sequence is empty.
        """
        torch = import_extra("torch", "torch")
        ids, mask, types = padded(sequences, self.pad, self.separator)
        place = [
            None if part is None else torch.from_numpy(part).to(self.device) for part in (ids, mask if not mask.all() else None, types)
        ]
        return tuple(place)

    def checkpoint_gradients(self) -> None:
        """Keep only what enters each layer."""
        self.model.gradient_checkpointing_enable({"use_reentrant": False})

    def save(self, folder: Path) -> None:
        """Write the model; transformers loads it as it is."""
        folder.mkdir(parents=True, exist_ok=True)
        with quiet():
            self.model.save_pretrained(folder)
        for file in folder.glob("*.safetensors"):  # safetensors writes them for the owner only; its neighbors are for all
            file.chmod(0o644)


def padded(sequences: Sequence[Tokens], pad: int, separator: int | None, length: int = 0) -> tuple[IntArray, IntArray, IntArray | None]:
    """Return ids, mask and types (None without a separator), each [n, longest], or [n, length] if that is longer.

    Raises:
        InputError: a sequence is empty.
    """
    ids, lengths = pad_right(sequences, pad, length)
    if not lengths.all():
        raise InputError("an empty sequence has no logit")
    real = np.arange(ids.shape[1]) < lengths[:, None]
    if separator is None:
        return ids, real.astype(np.int64), None
    ends = np.cumsum(ids == separator, axis=1) - (ids == separator)  # separators before each token
    return ids, real.astype(np.int64), ((ends > 0) & real).astype(np.int64)


def _one_logit(model: Any) -> Any:
    """A module (ids, mask, types) -> logits [n] in float32; one module, so that DDP and FSDP can wrap it."""
    torch = import_extra("torch", "torch")

    class OneLogit(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, mask: Any = None, types: Any = None) -> Any:
            kinds = {} if types is None else {"token_type_ids": types}
            return self.model(input_ids=ids, attention_mask=mask, **kinds).logits.sum(1).float()  # of one column; no view, for FSDP

    return OneLogit()
