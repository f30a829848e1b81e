"""A transformer small enough to make and train within a test, in a folder that zelo loads by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


CHAT = (
    "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""The layout of Qwen's chat template, in our own words."""


def write_tiny_qwen(
    folder: Path,
    texts: Sequence[str],
    *,
    chat: bool = True,
    dim: int = 32,
    layers: int = 2,
    tied: bool = True,
    vocabulary: int = 600,
    seed: int = 0,
) -> Path:
    """Write a random Qwen3 and a byte-level BPE tokenizer of these texts: the shape of the real ones, made from nothing."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHAT if chat else None
    config = Qwen3Config(
        vocab_size=len(fast),
        hidden_size=dim,
        intermediate_size=3 * dim,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=max(8, dim // 4),
        max_position_embeddings=1024,
        tie_word_embeddings=tied,
        pad_token_id=fast.pad_token_id,
        eos_token_id=fast.eos_token_id,
        bos_token_id=None,
        initializer_range=0.05,
    )
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        Qwen3ForCausalLM(config).save_pretrained(folder)
        fast.save_pretrained(folder)
    return folder


def tiny_language_model(*, tied: bool = True, dropout: float = 0.0, vocabulary: int = 64, seed: int = 0) -> Any:
    """Return a random Qwen3 in memory, without a tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        pad_token_id=0,
        attention_dropout=dropout,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config).eval()
