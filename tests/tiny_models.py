"""A transformer small enough to make and train within a test, in a folder that zelo loads by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zelo.encoders.openvino_engine import quiet

WORDS = [
    "open", "read", "write", "file", "path", "list", "sort", "merge", "split", "join", "count", "parse", "time", "zone",
    "socket", "thread", "lock", "queue", "cache", "tree",
]  # fmt: skip


def write_tiny_bert(folder: Path, words: Sequence[str], *, dim: int = 32, layers: int = 2, seed: int = 0) -> Path:
    """Write a random BERT and a tokenizer of whole words; unknown words share one token."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate([*special, *words])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, model_input_names=["input_ids", "token_type_ids", "attention_mask"], **names
    )
    config = BertConfig(
        vocab_size=len(special) + len(words),
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * dim,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
    )
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(config)
        model.save_pretrained(folder)
        fast.save_pretrained(folder)
    return folder
