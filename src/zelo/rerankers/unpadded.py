"""Attention over sequences that lie one after another in one row, without padding: for GPUs, where a pass holds many sequences.

A pass of 100 documents padded to the longest computes a third too much at real lengths. Here ids of all sequences make one row
[1, total], each with positions from 0, and attention is computed per sequence: FlashAttention's kernel for varying lengths in
torch for halves, the memory-efficient one for float32. What all sequences begin with (a prefix whose keys and values are
cached) is attended to apart, and both parts are joined by their log-sums of exponentials; the prefix is stored once, not per row.

Nothing here was run on a GPU yet. On a CPU the same arithmetic runs with plain products (tests/test_unpadded.py); `fits` compares it
with the padded pass before a model on a GPU uses it, and padded passes stay where it does not agree.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from zelo.encoders.extras import import_extra

if TYPE_CHECKING:
    from zelo.rerankers.scorer import IntArray, Scorer, Tokens

NAME = "zelo_unpadded"
LEAST_TOKENS = 256
"""Of a pass; below, padding costs nothing that could be measured."""
TOLERANCE = 2e-2
"""Largest difference of a logit to the padded pass's, of 1 or of the logit if that is more: halves round that much."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """Sequences laid one after another.

    Attributes:
        ids: of their tokens [total].
        positions: of each token in its own sequence [total], from 0.
        starts: where each sequence starts, and the total [n + 1].
    """

    ids: IntArray
    positions: IntArray
    starts: IntArray

    @classmethod
    def of(cls, sequences: Sequence[Tokens]) -> Row:
        """Lay sequences one after another; none may be empty."""
        lengths = [len(s) for s in sequences]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return cls(
            np.concatenate([np.asarray(s, np.int64) for s in sequences]), np.arange(starts[-1]) - np.repeat(starts[:-1], lengths), starts
        )

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return int(np.diff(self.starts).max())

    def types(self, separator: int) -> IntArray:
        """Return 0 up to the first separator of each sequence and 1 after it [total]."""
        is_end = self.ids == separator
        before = np.cumsum(is_end) - is_end
        return np.asarray(before > np.repeat(before[self.starts[:-1]], np.diff(self.starts)), np.int64)


@dataclass(frozen=True)
class _Layout:
    starts: Any  # int32 [n + 1], on the device
    longest: int
    prefix: int  # tokens whose keys and values come first, of no sequence's own
    causal: bool


_LAYOUT: ContextVar[_Layout] = ContextVar("layout")


@contextmanager
def unpadded(model: Any, row: Row, *, causal: bool, prefix: int = 0) -> Iterator[None]:
    """Let a transformers model attend as the row is laid out, for as long as the context lasts.

    Args:
        model: whose attention goes through transformers' interface; others ignore this, which `fits` finds out.
        row: what it is called with.
        causal: tokens see no later ones.
        prefix: tokens in the cache that it is called with.
    """
    interface = import_extra("transformers.modeling_utils", "transformers").ALL_ATTENTION_FUNCTIONS
    torch = import_extra("torch", "torch")
    interface.register(NAME, attention)
    starts = torch.as_tensor(row.starts, dtype=torch.int32, device=model.device)
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values()
    before = [(config, config._attn_implementation) for config in configs]
    token = _LAYOUT.set(_Layout(starts, row.longest, prefix, causal))
    try:
        for config, _ in before:
            config._attn_implementation = NAME
        yield
    finally:
        _LAYOUT.reset(token)
        for config, name in before:
            config._attn_implementation = name


def attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any = None, *, scaling: float | None = None,
    sliding_window: int | None = None, softcap: float | None = None, **_: Any,
) -> tuple[Any, None]:  # fmt: skip
    """Attend as transformers' interface wants it: query [1, heads, total, size], keys and values [1, heads or fewer, prefix + total, size].

    Returns:
        [1, total, heads, size], and None for the weights.

    Raises:
        NotImplementedError: the layer attends in another way.
    """
    del module, attention_mask  # the layout says what sees what
    layout = _LAYOUT.get()
    if softcap is not None or (sliding_window is not None and sliding_window < layout.longest + layout.prefix):
        raise NotImplementedError("attention in a window or with a cap")
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    own = _per_sequence(q, k[layout.prefix :], v[layout.prefix :], layout, scale)
    if not layout.prefix:
        return own[0][None], None
    return _joined(own, _all_to_all(q, k[: layout.prefix], v[: layout.prefix], scale))[None], None


def _joined(one: tuple[Any, Any], other: tuple[Any, Any]) -> Any:
    """Attention over two sets of keys from attention over each [total, heads, size] and its log-sum of exponentials [total, heads]."""
    share = (one[1] - other[1]).sigmoid()[..., None]
    return (one[0].float() * share + other[0].float() * (1 - share)).to(one[0].dtype)


def _per_sequence(q: Any, k: Any, v: Any, layout: _Layout, scale: float) -> tuple[Any, Any]:
    """Each sequence attends to itself: [total, heads, size] and, but for float32 on a GPU, log-sums [total, heads]."""
    torch = import_extra("torch", "torch")
    if not q.is_cuda:
        starts = layout.starts.tolist()
        spans = [slice(a, b) for a, b in pairwise(starts)]
        parts = [_plain(q[s], k[s], v[s], scale, causal=layout.causal) for s in spans]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    if q.dtype is torch.float32:
        return _efficient(q, k, v, layout, scale), None
    return _flash(q, k, v, (layout.starts, layout.longest), (layout.starts, layout.longest), scale, causal=layout.causal)


def _all_to_all(q: Any, k: Any, v: Any, scale: float) -> tuple[Any, Any]:
    """Every token attends to every key: [total, heads, size] and log-sums [total, heads]."""
    torch = import_extra("torch", "torch")
    if not q.is_cuda:
        return _plain(q, k, v, scale, causal=False)
    ends = [(torch.tensor([0, len(part)], dtype=torch.int32, device=q.device), len(part)) for part in (q, k)]
    return _flash(q, k, v, ends[0], ends[1], scale, causal=False)


def _flash(q: Any, k: Any, v: Any, queries: tuple[Any, int], keys: tuple[Any, int], scale: float, *, causal: bool) -> tuple[Any, Any]:
    varlen = import_extra("torch.nn.attention.varlen", "torch")
    out, sums = varlen.varlen_attn(
        *(part.contiguous() for part in (q, k, v)), queries[0], keys[0], queries[1], keys[1], scale=scale,
        window_size=(-1, 0 if causal else -1), enable_gqa=q.shape[1] != k.shape[1], return_aux=varlen.AuxRequest(lse=True),
    )  # fmt: skip
    return out, sums.T if sums.shape[0] == q.shape[1] else sums  # kernels differ in the order of its axes


def _efficient(q: Any, k: Any, v: Any, layout: _Layout, scale: float) -> Any:
    torch = import_extra("torch", "torch")
    groups = q.shape[1] // k.shape[1]
    k, v = (part.repeat_interleave(groups, 1) if groups > 1 else part for part in (k, v))
    parts = [part[None].contiguous() for part in (q, k, v)]
    ends, longest = layout.starts, layout.longest
    return torch.ops.aten._efficient_attention_forward(*parts, None, ends, ends, longest, longest, 0.0, int(layout.causal), scale=scale)[0][
        0
    ]


def _plain(q: Any, k: Any, v: Any, scale: float, *, causal: bool) -> tuple[Any, Any]:
    """The same by products, for a CPU: [queries, heads, size] and log-sums [queries, heads]."""
    torch = import_extra("torch", "torch")
    groups = q.shape[1] // k.shape[1]
    k, v = (part.repeat_interleave(groups, 1) for part in (k, v))
    logits = torch.einsum("qhd,khd->qhk", q.float(), k.float()) * scale
    if causal:
        later = torch.ones(len(q), len(k), dtype=torch.bool, device=q.device).triu(1)
        logits = logits.masked_fill(later[:, None], -torch.inf)
    return torch.einsum("qhk,khd->qhd", logits.softmax(-1), v.float()).to(q.dtype), logits.logsumexp(-1)


def batches_by_total(lengths: IntArray, budget: int) -> list[IntArray]:
    """Return batches of rows, longest first, each of at most `budget` tokens in all or of a single row."""
    order = np.argsort(-lengths, kind="stable")
    batches: list[list[int]] = []
    room = 0
    for row in order.tolist():
        if not batches or lengths[row] > room:
            batches.append([])
            room = budget
        batches[-1].append(row)
        room -= int(lengths[row])
    return [np.array(batch, np.int64) for batch in batches]


def try_unpadded(scorer: Scorer) -> None:
    """Let a scorer on a GPU compute without padding, if that gives the logits of the padded pass; otherwise say why not."""
    if scorer.device.type == "cuda":
        fits(scorer)


def fits(scorer: Any) -> bool:
    """Set `scorer.unpadded` to whether that gives its padded logits, on random sequences of several lengths, and return it."""
    rng = np.random.default_rng(0)
    config, ends, pad = scorer.model.config.get_text_config(), getattr(scorer, "separator", None), int(getattr(scorer, "pad", 0))
    vocabulary, most = int(config.vocab_size), min(int(getattr(config, "max_position_embeddings", 0) or 160), 160)
    lengths = (most // 4, 7, most * 3 // 4 - 2, most // 2)
    sequences = [rng.integers(0, vocabulary, length) for length in lengths * (1 + LEAST_TOKENS // sum(lengths))]
    for ids in sequences:
        ids[ids == pad] = (pad + 1) % vocabulary
        if ends is not None:
            ids[[len(ids) // 2, -1]] = ends
    groups = [sequences, [np.concatenate([sequences[0], ids]) for ids in sequences]]
    try:
        found = []
        for scorer.unpadded in (False, True):
            found.append(np.concatenate(scorer.score_groups(groups)))
        difference = float((np.abs(found[1] - found[0]) / np.maximum(1.0, np.abs(found[0]))).max())
        problem = "" if difference <= TOLERANCE else f"logits differ by {difference:.1e}"
    except Exception as error:  # a kernel that this GPU, driver or torch lacks, or a model built otherwise
        problem = " ".join(str(error).split())[:200] or type(error).__name__
    scorer.unpadded = not problem
    if problem:
        log.warning("padding sequences on this GPU: attention without padding does not work here (%s)", problem)
    return not problem
