"""The learner: a tokenizer of characters, greedy decoding in batches, and light tuning with the prompt masked."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from running_sum import CLOSE, END, LETTERS, OPEN, Problem
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedTokenizerFast

from zelo.training.batches import Listed
from zelo.training.causal import CausalLearner, row_of, token_loss
from zelo.training.loop import Settings, train

TOKENS = [END, OPEN, CLOSE, *"QWJV=?.", *"ABTYN", *"0123456789", *LETTERS]
IGNORED = -100  # label of a token that is not learned
LONGEST_ROW = 512  # tokens; none is nearly as long


def make_tokenizer() -> Any:
    """Return the tokenizer: one token per character, <think> and </think> one each; END ends a text and pads."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({token: i for i, token in enumerate(TOKENS)}, unk_token=END))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(f"{OPEN}|{CLOSE}|[\\s\\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END, pad_token=END, clean_up_tokenization_spaces=False)


def load(folder: Path) -> tuple[Any, Any]:
    """Return the model and the tokenizer of a folder that `pretrain.py` wrote."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


@torch.inference_mode()
def generate(model: Any, tokenizer: Any, prompts: Sequence[str], limit: int = 64) -> list[str]:
    """Return the greedy continuation of every prompt, END included; prompts of one length go through the model together."""
    encoded = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    found = [""] * len(prompts)
    for length in sorted({len(ids) for ids in encoded}):
        rows = [i for i, ids in enumerate(encoded) if len(ids) == length]
        step, cache = torch.tensor([encoded[i] for i in rows]), DynamicCache(config=model.config)
        ended, replies = torch.zeros(len(rows), dtype=torch.bool), []
        while not ended.all() and len(replies) < limit:
            best = model(input_ids=step, past_key_values=cache, use_cache=True).logits[:, -1].argmax(-1)
            replies.append(best)
            ended |= best == tokenizer.eos_token_id
            step = best[:, None]
        for i, ids in zip(rows, torch.stack(replies, 1).tolist(), strict=True):
            text, end, _ = tokenizer.decode(ids, skip_special_tokens=False).partition(END)
            found[i] = text + end
    return found


def tune(model: Any, tokenizer: Any, examples: Sequence[tuple[Problem, str]], *, steps: int = 60, batch: int = 10, seed: int = 0) -> Any:
    """Return a copy of the model that has learned the examples' responses; questions are read, not learned.

    All weights, through the project's training loop. The number of steps is the same however many examples there are (it must be a
    whole number of epochs), so that conditions differ in what is shown and not in how long.
    """
    learner = CausalLearner(copy.deepcopy(model))
    rows = [row_of(tokenizer(p.question)["input_ids"], tokenizer(answer)["input_ids"], LONGEST_ROW) for p, answer in examples]
    weights = np.array([1 / int((row >= 0).sum()) for row in rows])  # every response weighs alike
    epochs, rest = divmod(steps, -(-len(rows) // batch))
    if rest:
        raise ValueError(f"{steps} steps of {batch} are no whole number of epochs of {len(rows)} examples")
    settings = Settings(learning_rate=1e-3, epochs=epochs, batch_size=batch, weight_decay=0.0, precision="float32", threads=1)
    source = Listed(rows, weights, np.zeros(len(rows), np.int64))
    with TemporaryDirectory() as folder:
        train(learner, source, token_loss, settings, Path(folder), seed, lambda done, total: None)
    return learner.model.eval()


def descend(model: Any, optimizer: Any, ids: torch.Tensor, labels: torch.Tensor) -> float:
    """Take one step; return the loss."""
    loss = model(input_ids=ids, labels=labels, use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())
