"""The trained pairwise reranker as a judge: distillation is judging once more (paper section 5.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zelo.encoders.weights import model_digest
from zelo.judges import Answer, Comparison
from zelo.rerankers.pairwise import load_scorer, pair_logits
from zelo.rerankers.scorer import computes_bfloat16


class PairwiseModel:
    """Answers with 2 P - 1, where P = sigmoid(logit) is the model's probability that the first document is better.

    Attributes:
        name: "pairwise:" and the beginning of the digest of weights, template and tokenizer: other weights, another judge.
        prompt_id: how it is asked: in one order or in both, in which precision.
        tokens: read so far in the sequences.
        computed: of these, how many were computed; the others were taken over from a shared prefix.
    """

    def __init__(
        self,
        folder: Path,
        *,
        antisymmetric: bool | None = None,
        share_prefix: bool | None = None,
        precision: Literal["auto", "float32", "bfloat16"] = "float32",
        device: str = "auto",
        budget: int = 0,
    ) -> None:
        """Load the folder.

        Args:
            folder: a workspace's models/pairwise, or a copy.
            antisymmetric: ask in both orders; None = as the folder says.
            share_prefix: compute query and first document once where pairs share them, in float32; None = for language models on a CPU,
                where passes are small anyway.
            precision: of the products; auto = bfloat16 where the device computes it.
            device: "auto", "cpu", "cuda", ...
            budget: most padded tokens of a forward pass; 0 = what suits the device.

        Raises:
            InputError: the folder holds no pairwise reranker.
            MissingExtraError: torch or transformers is not installed.
        """
        self._scorer, self._template, self._tokenizer, both = load_scorer(folder, device)
        self._both = both if antisymmetric is None else antisymmetric
        decoder = self._template.family == "language_model"
        self._share = decoder and (self._scorer.device.type == "cpu" if share_prefix is None else share_prefix)
        self._halves = computes_bfloat16(self._scorer.device) if precision == "auto" else precision == "bfloat16"
        self._budget = budget
        own: dict[str, Any] = {"antisymmetric": self._both, "share_prefix": share_prefix, "budget": budget, "device": device}
        self._loader = partial(PairwiseModel, folder.absolute(), precision="bfloat16" if self._halves else "float32", **own)
        self.name = f"pairwise:{model_digest(folder)[:12]}"
        self.prompt_id = ("both orders" if self._both else "one order") + (", bfloat16" if self._halves and not self._share else "")
        self.tokens = self.computed = 0

    def loader(self) -> Callable[[], PairwiseModel]:
        """Return what loads it in another process, where the folder has the same path: asked there as it is here, also the precision."""
        return self._loader

    def counters(self) -> tuple[int, int]:
        """Return tokens and computed."""
        return self.tokens, self.computed

    def count(self, tokens: int, computed: int) -> None:
        """Add what was read in another process."""
        self.tokens, self.computed = self.tokens + tokens, self.computed + computed

    def judge(self, comparisons: Sequence[Comparison]) -> list[Answer]:
        """Answer every comparison, in order; those that share query and first document are computed together."""
        if not comparisons:
            return []
        pairs = [(c.query, c.first, c.second) for c in comparisons]
        found = pair_logits(
            self._scorer,
            self._template,
            self._tokenizer,
            pairs,
            antisymmetric=self._both,
            share_prefix=self._share,
            budget=self._budget,
            halves=self._halves,
        )
        self.tokens, self.computed = self.tokens + found.tokens, self.computed + found.computed
        return [Answer(value) for value in np.tanh(found.logits / 2).tolist()]
