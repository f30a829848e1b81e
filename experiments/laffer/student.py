"""Bi-encoder students of the Laffer experiment: MiniLM with its upper layers trained, or with a linear map on its vectors.

Layers below the trained ones never change, so their states are computed once per text. One step = 16 queries with their
documents; nothing is shared between queries but the encoder (no in-batch negatives: the miner alone decides).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from material import Collection, Example
from numpy.typing import NDArray

from zelo.core.metrics import ndcg_at
from zelo.encoders.weights import resolve_model
from zelo.training.loop import learning_rate_share
from zelo.training.losses import LOSSES

SCALE = 20.0  # of the cosine in the losses over lists, as sentence-transformers has it
BATCH = 16
TOKENS = 4096  # padded tokens of a forward pass
States = list[torch.Tensor]


class LinearMap(torch.nn.Module):
    """A matrix on the encoder's vectors; it starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.eye(width))

    def forward(self, states: States) -> torch.Tensor:
        """Unit vectors [n, width] of pooled vectors."""
        return torch.nn.functional.normalize(torch.stack(states).float() @ self.matrix.T, dim=1)


class UpperLayers(torch.nn.Module):
    """The last layers of the encoder, then the mean over tokens."""

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, states: States) -> torch.Tensor:
        """Unit vectors [n, width] of token states [length, width] each."""
        found: list[Any] = [None] * len(states)
        order = sorted(range(len(states)), key=lambda i: -len(states[i]))
        while order:
            size = max(1, TOKENS // len(states[order[0]]))
            part, order = order[:size], order[size:]
            pooled = self._pass([states[i] for i in part])
            for i, row in zip(part, pooled, strict=True):
                found[i] = row
        return torch.nn.functional.normalize(torch.stack(found), dim=1)

    def _pass(self, states: States) -> torch.Tensor:
        hidden = torch.nn.utils.rnn.pad_sequence([s.float() for s in states], batch_first=True)
        real = torch.arange(hidden.shape[1])[None, :] < torch.tensor([len(s) for s in states])[:, None]
        mask = torch.where(real, 0.0, -1e4)[:, None, None, :]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for layer in self.layers:
                out = layer(hidden, mask)
                hidden = out[0] if isinstance(out, tuple) else out
        return torch.as_tensor((hidden.float() * real[:, :, None]).sum(1) / real.sum(1, keepdim=True))


@dataclass
class Bench:
    """A collection as students see it: frozen states of every document and query, and a maker of fresh students."""

    documents: dict[str, Any]
    queries: dict[str, Any]
    fresh: Any


def map_bench(found: Collection) -> Bench:
    """Students are linear maps on the encoder's vectors."""
    documents = dict(zip(found.texts, torch.from_numpy(found.vectors), strict=True))
    queries = dict(zip(found.queries, torch.from_numpy(found.query_vectors), strict=True))
    return Bench(documents, queries, lambda: LinearMap(found.vectors.shape[1]))


def layer_bench(found: Collection, doc_ids: list[str], trained: int, tokens: int) -> Bench:
    """Students are the encoder's last `trained` layers; texts are cut at `tokens` tokens."""
    from transformers import AutoModel, AutoTokenizer

    folder = resolve_model()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    cut = len(model.encoder.layer) - trained
    upper = [{n: p.detach().clone() for n, p in layer.state_dict().items()} for layer in model.encoder.layer[cut:]]
    lower = list(model.encoder.layer[:cut])

    def states(texts: list[str]) -> States:
        ids = tokenizer(texts, truncation=True, max_length=tokens)["input_ids"]
        order, out = sorted(range(len(ids)), key=lambda i: -len(ids[i])), [torch.zeros(0)] * len(ids)
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            while order:
                size = max(1, TOKENS // len(ids[order[0]]))
                part, order = order[:size], order[size:]
                rows = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids[i]) for i in part], batch_first=True)
                real = torch.arange(rows.shape[1])[None, :] < torch.tensor([len(ids[i]) for i in part])[:, None]
                hidden = model.embeddings(rows)
                for layer in lower:
                    result = layer(hidden, torch.where(real, 0.0, -1e4)[:, None, None, :])
                    hidden = result[0] if isinstance(result, tuple) else result
                for i, row in zip(part, hidden, strict=True):
                    out[i] = row[: len(ids[i])].to(torch.bfloat16).clone()
        return out

    def fresh() -> UpperLayers:
        from transformers.models.bert.modeling_bert import BertLayer

        layers = [BertLayer(model.config) for _ in upper]
        for layer, weights in zip(layers, upper, strict=True):
            layer.load_state_dict(weights)
        return UpperLayers(layers)

    documents = dict(zip(doc_ids, states([found.texts[d] for d in doc_ids]), strict=True))
    return Bench(documents, dict(zip(found.queries, states(list(found.queries.values())), strict=True)), fresh)


def train(bench: Bench, made: list[Example], loss: str, rate: float, epochs: int, seed: int) -> Any:
    """Return a student that learned from the examples by AdamW, warm-up and linear decay."""
    torch.manual_seed(seed)
    student, rng = bench.fresh(), np.random.default_rng([seed, 0x1AFF])
    line = torch.nn.Parameter(torch.tensor([2.0, -1.0]))  # of the squared error: logit = 10 (line[0] cos + line[1])
    optimizer = torch.optim.AdamW(
        [{"params": list(student.parameters()), "lr": rate, "weight_decay": 0.0}, {"params": [line], "lr": 0.01, "weight_decay": 0.0}]
    )
    rates = [rate, 0.01]
    steps = [part for _ in range(epochs) for part in np.array_split(rng.permutation(len(made)), -(-len(made) // BATCH))]
    student.train()
    for number, part in enumerate(steps):
        batch = [made[i] for i in part.tolist()]
        for group, peak in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = peak * learning_rate_share(number, len(steps), 0.1)
        doc_ids = list(dict.fromkeys(d for e in batch for d in e.doc_ids))
        place = {d: i for i, d in enumerate(doc_ids)}
        vectors = student([bench.queries[e.query_id] for e in batch] + [bench.documents[d] for d in doc_ids])
        of_queries, of_documents = vectors[: len(batch)], vectors[len(batch) :]
        rows = [(k, place[d]) for k, e in enumerate(batch) for d in e.doc_ids]
        groups, columns = (torch.tensor(c) for c in zip(*rows, strict=True))
        cosine = (of_queries[groups] * of_documents[columns]).sum(1)
        z = 10 * (line[0] * cosine + line[1]) if loss == "mse" else SCALE * cosine
        value = LOSSES[loss](z, torch.tensor(np.concatenate([e.targets for e in batch]), dtype=torch.float32), groups)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
    return student.eval()


def evaluate(bench: Bench, student: Any, gains: dict[str, dict[str, float]]) -> NDArray[np.float64]:
    """Return nDCG@10 of each query: all documents of the bench are ranked by cosine, all labels count."""
    doc_ids = list(bench.documents)
    with torch.inference_mode():
        documents = student(list(bench.documents.values()))
        queries = student([bench.queries[q] for q in gains])
        top = (queries @ documents.T).topk(10, dim=1).indices.tolist()
    return np.array([ndcg_at([of.get(doc_ids[i], 0.0) for i in row], of.values(), 10) for row, of in zip(top, gains.values(), strict=True)])
