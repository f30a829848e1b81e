"""A pairwise reranker in use: from a model folder to logits of (query, first, second), prefixes shared where that saves work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zelo.errors import InputError
from zelo.rerankers.language_model import LanguageModel
from zelo.rerankers.pairwise_template import Family, Ids, PairwiseTemplate, encoder_template, language_model_template
from zelo.rerankers.scorer import Scorer, common_prefix
from zelo.rerankers.templates import load_tokenizer
from zelo.rerankers.unpadded import try_unpadded

FloatArray = NDArray[np.float64]
Triple = tuple[str, str, str]
"""Query, the document shown first (as A), the document shown second (as B)."""


@dataclass(frozen=True)
class PairLogits:
    """Logits [n] of "the first is better", and the tokens that were in the sequences and that were computed."""

    logits: FloatArray
    tokens: int
    computed: int


def family_of(folder: Path) -> Family:
    """Return what kind of model a folder holds, by the class that its config.json names.

    Raises:
        InputError: there is no such file.
    """
    try:
        names = json.loads((folder / "config.json").read_text("utf-8")).get("architectures") or [""]
    except (OSError, ValueError) as error:
        raise InputError(
            f"config.json cannot be read ({error})", where=str(folder), remedy="name a folder that transformers saved"
        ) from error
    return "language_model" if names[0].endswith(("ForCausalLM", "LMHeadModel")) else "encoder"


def new_template(
    folder: Path, family: Literal["auto", "encoder", "late_interaction", "language_model"], max_tokens: int
) -> tuple[Any, PairwiseTemplate]:
    """Return the tokenizer and the template of a base model.

    Raises:
        InputError: the folder has no usable tokenizer.
    """
    tokenizer = load_tokenizer(folder)
    kind = family_of(folder) if family == "auto" else family
    if kind == "language_model":
        return tokenizer, language_model_template(tokenizer, max_tokens)
    return tokenizer, replace(encoder_template(tokenizer, max_tokens), family=kind)


def new_scorer(folder: Path, template: PairwiseTemplate, *, lora_rank: int = 0, seed: int = 0) -> Scorer:
    """Return a base model as a scorer that is ready to be trained.

    Raises:
        InputError: it cannot be loaded, or an encoder is to have adapters.
    """
    if template.family == "language_model":
        # All weights learn in float32, or small steps are lost; frozen ones below adapters may be halves.
        model = LanguageModel.load(folder, template.labels, "auto" if lora_rank else "float32")
        if lora_rank:
            model.add_lora(lora_rank, seed=seed)
        return model
    if lora_rank:
        raise InputError("adapters are for language models", remedy="set pairwise.lora_rank = 0")
    if template.family == "late_interaction":
        from zelo.rerankers.late_interaction import LateInteraction

        return LateInteraction.load(folder)
    from zelo.rerankers.encoder_classifier import EncoderClassifier

    return EncoderClassifier.load(folder, seed=seed)


def load_scorer(folder: Path, device: str = "auto") -> tuple[Scorer, PairwiseTemplate, Any, bool]:
    """Load a trained pairwise reranker.

    Returns:
        The model, its template, its tokenizer, and whether it is to be asked in both orders.

    Raises:
        InputError: the folder holds none.
    """
    described = folder / "zelo.json"
    try:
        about = json.loads(described.read_text("utf-8"))
        kind, antisymmetric, data = about["kind"], bool(about["antisymmetric"]), about["template"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"not a description of a pairwise reranker ({error!r})", where=str(described), remedy="train one") from error
    if kind != "pairwise":
        raise InputError(f"holds a model of kind {kind!r}", where=str(folder), remedy="give a workspace's models/pairwise")
    template = PairwiseTemplate.from_dict(data)
    if template.family == "language_model":
        scorer: Scorer = LanguageModel.load(folder, template.labels, device=device)
        try_unpadded(scorer)
    elif template.family == "late_interaction":
        from zelo.rerankers.late_interaction import LateInteraction

        scorer = LateInteraction.load(folder, device=device)
    else:
        from zelo.rerankers.encoder_classifier import EncoderClassifier

        scorer = EncoderClassifier.load(folder, device=device)
        try_unpadded(scorer)
    return scorer, template, load_tokenizer(folder), antisymmetric


def pair_logits(
    scorer: Scorer,
    template: PairwiseTemplate,
    tokenizer: Any,
    pairs: Sequence[Triple],
    *,
    antisymmetric: bool = False,
    share_prefix: bool = False,
    budget: int = 0,
    halves: bool = False,
) -> PairLogits:
    """Return the logit of "the first document is better" for every pair.

    Args:
        scorer: the model.
        template: of its sequences.
        tokenizer: of the model.
        pairs: what is asked; what is asked twice is computed once.
        antisymmetric: average logit(first, second) and -logit(second, first), which takes out what place alone says; twice the work.
        share_prefix: compute query and first document once for the pairs that share them; language models only.
        budget: most padded tokens of a forward pass; 0 = what suits the device.
        halves: compute products in bfloat16; not where prefixes are shared.
    """
    antisymmetric = antisymmetric and not scorer.antisymmetric
    asked = [*pairs, *((q, b, a) for q, a, b in pairs)] if antisymmetric else list(pairs)
    texts = sorted({text for triple in asked for text in triple})
    tokens = dict(zip(texts, template.tokenize(tokenizer, texts), strict=True))
    triples = sorted(set(asked))  # those that share query and first document come together
    sequences = [template.join(tokens[q], tokens[a], tokens[b]) for q, a, b in triples]
    if share_prefix and isinstance(scorer, LanguageModel):
        groups = [t[:2] for t in triples]
        values, computed = _shared(scorer, sequences, groups, budget or scorer.default_budget())
    else:
        values, computed = scorer.score(sequences, budget, halves=halves), scorer.tokens_computed(sequences)
    found = dict(zip(triples, values.tolist(), strict=True))
    logits = np.array([found[t] for t in asked], np.float64)
    if antisymmetric:
        there, back = logits[: len(pairs)], logits[len(pairs) :]
        logits = (there - back) / 2
    return PairLogits(logits, sum(map(len, sequences)), computed)


def _shared(scorer: LanguageModel, sequences: Sequence[Ids], groups: Sequence[tuple[str, str]], budget: int) -> tuple[FloatArray, int]:
    """Logits of sequences whose group shares a prefix, and the tokens that were computed."""
    values, computed = np.zeros(len(sequences)), 0
    alone: list[int] = []
    start = 0
    while start < len(sequences):
        end = start
        while end < len(sequences) and groups[end] == groups[start]:
            end += 1
        rows = list(range(start, end))
        size = common_prefix([sequences[i] for i in rows]) if len(rows) > 1 else 0
        longest = max(len(sequences[i]) for i in rows) - size
        at_once = max(1, budget // longest)
        if size < 2 or at_once < 2:
            alone += rows
        else:
            for part in (rows[i : i + at_once] for i in range(0, len(rows), at_once)):
                values[part] = scorer.score_after(sequences[part[0]][:size], [sequences[i][size:] for i in part], budget)
                computed += size + sum(len(sequences[i]) - size for i in part)
        start = end
    if alone:
        values[alone] = scorer.score([sequences[i] for i in alone], budget)
        computed += sum(len(sequences[i]) for i in alone)
    return values, computed
