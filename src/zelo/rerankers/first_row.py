"""Only what the first token needs of an encoder's last layers: a classification head reads nothing else.

The last layer is computed for the first token alone. Keys and values of the whole sequence are not made there either: what a query
asks of a key, q (W x), is (q W) x, and a sum of values is W of the sum; a key's bias moves all scores alike. It is the same logit,
and of six layers it saves about a sixth of the work.

Token pruning (after PoWER-BERT, arXiv 2001.08950) goes on where that ends, and does change the logit: from the middle of the network
on, a layer computes only the rows that its first token attends to most. The others are not removed as there: they go on as they
were, and all layers still read them, so that nothing a text says is lost to the first token.

It knows layers built as BERT's are (BERT, RoBERTa, XLM-RoBERTa, CamemBERT, ELECTRA); whoever uses it compares the outcome with the
whole model's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from zelo.encoders.extras import import_extra

TWENTIETHS = 20


def bert_layers(model: Any) -> Any | None:
    """Return the list of a classifier's layers, or None if they are not built as BERT's."""
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    parts = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output", "intermediate", "output")
    if layers is None or not len(layers):
        return None
    for part in parts:
        found = layers[len(layers) - 1]
        for name in part.split("."):
            found = getattr(found, name, None)
        if found is None:
            return None
    return layers


def pruning(layers: int) -> dict[int, int]:
    """Return which layers of a network compute how many twentieths of their rows: half from the middle on, .4 from two thirds on."""
    return {place: 10 if 3 * place < 2 * layers else 8 for place in range((layers + 1) // 2, layers - 1)}


@contextmanager
def first_row_only(model: Any, computed: Mapping[int, int] | None = None) -> Iterator[bool]:
    """Let the last layer compute the first token only, for as long as the context lasts; yield whether it does.

    Args:
        model: a classifier of transformers.
        computed: what `pruning` returned, for token pruning before that; None = all rows.
    """
    layers = bert_layers(model)
    if layers is None:
        yield False
        return
    whole, mask = list(layers), _Mask()
    for place, twentieths in (computed or {}).items():
        layers[place] = _most_looked_at(whole[place], twentieths, mask)
    layers[len(whole) - 1] = _first_row(whole[-1], mask)
    try:
        yield True
    finally:
        for place, layer in enumerate(whole):
            layers[place] = layer


class _Mask:
    """The mask of rows in another order, which a layer hands to the next one past the model's own loop over layers."""

    moved: Any = None

    def take(self, given: Any) -> Any:
        """Return what to attend to, boolean or to be added [n, 1, 1, tokens]; None = everything."""
        mask, self.moved = given if self.moved is None else self.moved, None
        return mask if mask is None else mask[:, :, :1]


def _masked(scores: Any, mask: Any) -> Any:
    torch = import_extra("torch", "torch")
    if mask is None:
        return scores
    return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask


def _first_row(layer: Any, shared: _Mask) -> Any:
    torch = import_extra("torch", "torch")
    own = layer.attention.self

    class FirstRow(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, hidden_states: Any, attention_mask: Any = None, *_: Any, **__: Any) -> Any:
            mask, first, size = shared.take(attention_mask), hidden_states[:, :1], own.attention_head_size

            def of_heads(weight: Any) -> Any:
                return weight.view(1, -1, size, weight.shape[1])  # [1, heads, size, channels]

            query = own.query(first).view(first.shape[0], -1, 1, size)
            asked = torch.matmul(query, of_heads(own.key.weight))[:, :, 0] * size**-0.5  # [n, heads, channels]
            scores = _masked(torch.matmul(asked, hidden_states.transpose(1, 2)), None if mask is None else mask[:, 0])
            seen = torch.matmul(scores.softmax(-1), hidden_states)[:, :, None]  # [n, heads, 1, channels]
            seen = torch.matmul(seen, of_heads(own.value.weight).transpose(2, 3)).reshape(first.shape) + own.value.bias
            seen = self.layer.attention.output(seen, first)
            return self.layer.output(self.layer.intermediate(seen), seen)

    return FirstRow()


def _most_looked_at(layer: Any, twentieths: int, shared: _Mask) -> Any:
    torch = import_extra("torch", "torch")
    own = layer.attention.self

    class MostLookedAt(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, hidden_states: Any, attention_mask: Any = None, *_: Any, **__: Any) -> Any:
            mask, (n, tokens, channels) = shared.take(attention_mask), hidden_states.shape
            size = own.attention_head_size

            def heads(states: Any) -> Any:
                return states.view(n, -1, own.num_attention_heads, size).transpose(1, 2)

            key, value = heads(own.key(hidden_states)), heads(own.value(hidden_states))
            scores = _masked(torch.matmul(heads(own.query(hidden_states[:, :1])), key.transpose(2, 3)) * size**-0.5, mask)
            looked_at = scores.softmax(-1)[:, :, 0].mean(1)  # [n, tokens], by the first token, on the mean over heads
            looked_at = torch.cat([torch.full_like(looked_at[:, :1], 2.0), looked_at[:, 1:]], 1)  # which itself stays
            order = looked_at.argsort(1, descending=True)
            # by whole rows: gathering element by element took as long as two products
            rows = (order + torch.arange(n, device=order.device)[:, None] * tokens).reshape(-1)
            moved = hidden_states.reshape(-1, channels).index_select(0, rows).view(n, tokens, channels)
            # whole numbers only: a trace would freeze a share that went through a Python float
            count = (tokens * twentieths + TWENTIETHS - 1) // TWENTIETHS
            computed, rest = moved[:, :count], moved[:, count:]
            seen = torch.nn.functional.scaled_dot_product_attention(heads(own.query(computed)), key, value, attn_mask=mask)
            seen = self.layer.attention.output(seen.transpose(1, 2).reshape(computed.shape), computed)
            if mask is not None:
                shared.moved = mask.expand(n, 1, 1, tokens).gather(3, order[:, None, None])
            return torch.cat([self.layer.output(self.layer.intermediate(seen), seen), rest], 1)

    return MostLookedAt()
