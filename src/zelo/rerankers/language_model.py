"""A causal language model as a scorer: one logit at the last token, from one row of its head or the difference of two.

Pointwise, the row of the token "Yes" (the format of the released zerank models, sigmoid(logit / 5)); pairwise, the row of
label A minus that of label B, so that P(A better) = sigmoid(logit). No other row of the head is computed: with Qwen3's
151,936 rows that is the largest matrix of the model.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zelo.encoders.extras import import_extra
from zelo.encoders.openvino_engine import quiet
from zelo.encoders.weights import model_digest
from zelo.errors import InputError
from zelo.rerankers.scorer import (
    FloatArray,
    Scorer,
    Tokens,
    batches_by_length,
    check_loaded,
    common_prefix,
    evaluating,
    pad_right,
    pick_device,
)

__all__ = ["LanguageModel", "Scorer"]

Precision = Literal["auto", "float32", "bfloat16"]
LEAST_SHARED = 8  # tokens; copying what is known of fewer costs as much as computing them again
HEAD_TOLERANCE = 1e-3  # between our logit and the model's own, relative; bfloat16 weights get ten times that


class LanguageModel(Scorer):
    """Reads the logit off any causal language model of transformers whose head is a plain matrix.

    Sequences are padded on the right without an attention mask: a causal model's real tokens never see what comes after
    them, and attention without a mask takes the fast path.
    """

    entries: tuple[str, ...] = ("begin",)

    def __init__(self, model: Any, tokens: Sequence[int], identity: str = "") -> None:
        """Take a transformers causal language model.

        Args:
            model: the model, on its device.
            tokens: one token id, whose logit is read, or two: the first's logit minus the second's.
            identity: digest of the weights.

        Raises:
            InputError: its head is more than a matrix product, or has no such token.
        """
        head = model.get_output_embeddings()
        if head is None or len(tokens) not in (1, 2) or not all(0 <= t < head.weight.shape[0] for t in tokens):
            raise InputError(f"the model's head has no rows {list(tokens)}", remedy="use a causal language model with its own tokenizer")
        self.model, self.tokens, self.identity = model, tuple(tokens), identity
        self._tied = head.weight is model.get_input_embeddings().weight
        # A head of its own is left alone: the layers below move the logit as well, and the gradient would be the whole matrix.
        head.weight.requires_grad_(self._tied and head.weight.requires_grad)
        pad = model.config.pad_token_id
        self._pad = 0 if pad is None else int(pad)
        self._peft: Any = None
        self.module = _last_logit(model, self.tokens)
        self._check_head()

    @classmethod
    def load(cls, folder: Path, tokens: Sequence[int], precision: Precision = "auto", device: str = "auto") -> LanguageModel:
        """Load a folder.

        Args:
            folder: of a causal language model, as transformers saves it.
            tokens: as for the class.
            precision: of the weights; auto = bfloat16 on a GPU, float32 on a CPU.
            device: "cpu", "cuda", "cuda:1", ...; auto = a GPU if there is one.

        Raises:
            InputError: the folder holds no such model.
            MissingExtraError: torch or transformers is not installed.
        """
        library, torch = import_extra("transformers", "transformers"), import_extra("torch", "torch")
        where = pick_device(device)
        name = ("bfloat16" if where.startswith("cuda") else "float32") if precision == "auto" else precision
        try:
            with quiet():
                model = library.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, name), local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            what = f"cannot be loaded as a causal language model ({str(error).strip().partition(chr(10))[0]})"
            raise InputError(what, where=str(folder), remedy="name a folder that transformers has saved") from error
        return cls(check_loaded(model, folder).to(where).eval(), tokens, model_digest(folder))

    def collate(self, sequences: Sequence[Tokens]) -> tuple[Any, Any]:
        """Return ids [n, longest] and the place of each sequence's last token [n].

        Raises:
            InputError: a sequence is empty.
        """
        torch = import_extra("torch", "torch")
        ids, lengths = pad_right(sequences, self._pad)
        if not lengths.all():
            raise InputError("an empty sequence has no logit")
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(lengths - 1).to(self.device)

    def checkpoint_gradients(self) -> None:
        """Keep only what enters each layer."""
        self.model.activation_checkpointing_enable({"use_reentrant": False})
        if self._peft is not None:
            self.model.enable_input_require_grads()

    def add_lora(self, rank: int, alpha: float = 0.0, dropout: float = 0.0, seed: int = 0) -> None:
        """Freeze the weights and put low-rank adapters on every linear layer but the head.

        Args:
            rank: of the adapters.
            alpha: their scale is alpha / rank; 0 = 2 * rank.
            dropout: on their inputs.
            seed: of their first matrices; the second ones are zero, so nothing changes before the first step.
        """
        peft, torch = import_extra("peft", "peft"), import_extra("torch", "torch")
        config = peft.LoraConfig(
            r=rank, lora_alpha=alpha or 2 * rank, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(seed)
            self._peft = peft.get_peft_model(self.model, config)
        for parameter in self.module.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()  # bfloat16 adapters would lose small steps

    def merge(self) -> None:
        """Add the adapters to the weights; then it is a plain model again."""
        if self._peft is not None:
            self.model, self._peft = self._peft.merge_and_unload(), None
            self.module = _last_logit(self.model, self.tokens)

    def save_adapter(self, folder: Path) -> None:
        """Write the adapters alone, as peft loads them.

        Raises:
            InputError: there are none.
        """
        if self._peft is None:
            raise InputError("the model has no adapters", remedy="train with lora_rank > 0")
        self._peft.save_pretrained(folder)

    def save(self, folder: Path) -> None:
        """Merge adapters, if any, and write the model."""
        self.merge()
        folder.mkdir(parents=True, exist_ok=True)
        with quiet():
            self.model.save_pretrained(folder)
        for file in folder.glob("*.safetensors"):  # safetensors writes them for the owner only; its neighbors are for all
            file.chmod(0o644)

    def score_groups(self, groups: Sequence[Sequence[Tokens]], budget: int = 0) -> list[FloatArray]:
        """Return the logits of each group; what all sequences of a group begin with is computed once, if it is long enough to pay."""
        found: list[FloatArray] = []
        for group in groups:
            shared = common_prefix(group) if len(group) > 1 else 0
            if shared < LEAST_SHARED:
                found.append(self.score(group, budget))
            else:
                found.append(self.score_after(group[0][:shared], [sequence[shared:] for sequence in group], budget))
        return found

    def score_after(self, prefix: Tokens, endings: Sequence[Tokens], budget: int = 0) -> FloatArray:
        """Return the logits [n] of prefix + each ending, the prefix computed once; equal to `score` up to rounding.

        Args:
            prefix: the tokens that all share, at least one.
            endings: what follows in each, at least one token; in passes of similar length.
            budget: most padded tokens of a forward pass, the prefix not counted; 0 = what suits the device.
        """
        torch, caches = import_extra("torch", "torch"), import_extra("transformers.cache_utils", "transformers")
        found = np.zeros(len(endings))
        with torch.inference_mode(), evaluating(self.module):
            start = caches.DynamicCache(config=self.model.config)
            ids = torch.as_tensor(np.asarray(prefix, np.int64)[None], device=self.device)
            self.module.begin(ids, start)
            lengths = np.array([len(ending) for ending in endings], np.int64)
            for rows in batches_by_length(lengths, budget or self.default_budget()):
                cache = copy.deepcopy(start)  # a pass adds to it
                if len(rows) > 1:
                    cache.batch_repeat_interleave(len(rows))
                found[rows] = self.module(*self.collate([endings[i] for i in rows.tolist()]), cache).double().cpu().numpy()
        return found

    def _check_head(self) -> None:
        """Compare with the model's own head, which some scale or squash after the product."""
        torch = import_extra("torch", "torch")
        ids = torch.arange(min(8, self.model.config.get_text_config().vocab_size), device=self.device)[None]
        with torch.inference_mode(), evaluating(self.module):
            own = self.model(input_ids=ids, logits_to_keep=1).logits[0, -1].double()
            ours = float(self.module(ids, torch.tensor([ids.shape[1] - 1], device=self.device))[0])
        expected = float(own[self.tokens[0]] - (own[self.tokens[1]] if len(self.tokens) == 2 else 0))
        tolerance = HEAD_TOLERANCE * (1 if self.model.dtype is torch.float32 else 20)
        if not abs(ours - expected) <= tolerance * max(1.0, float(own.abs().max())):
            what = f"the model's head is more than a matrix product: its logit is {expected:.4f}, the row gives {ours:.4f}"
            raise InputError(what, where=type(self.model).__name__, remedy="use a model without a scale or cap on its logits")


def _last_logit(model: Any, tokens: Sequence[int]) -> Any:
    """A module (ids [n, t], last [n], cache) -> logits [n]; one module, so that DDP and FSDP can wrap it."""
    torch = import_extra("torch", "torch")

    class LastLogit(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def begin(self, ids: Any, cache: Any) -> None:
            """Fill a cache with what the tokens [1, t] leave in it."""
            self.model.base_model(input_ids=ids, past_key_values=cache, use_cache=True)

        def forward(self, ids: Any, last: Any, cache: Any = None) -> Any:
            found = self.model.base_model(input_ids=ids, past_key_values=cache, use_cache=cache is not None)
            hidden = found.last_hidden_state[torch.arange(len(ids), device=ids.device), last]
            head = self.model.get_output_embeddings()
            rows = head.weight[list(tokens)].float()
            bias = torch.zeros(len(tokens), device=ids.device) if head.bias is None else head.bias[list(tokens)].float()
            with torch.autocast(ids.device.type, enabled=False):  # in float32: half precision makes ties of near scores
                if len(tokens) == 2:
                    return hidden.float() @ (rows[0] - rows[1]) + (bias[0] - bias[1])
                return hidden.float() @ rows[0] + bias[0]

    return LastLogit()
