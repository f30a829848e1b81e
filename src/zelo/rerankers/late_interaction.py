"""A pairwise model of two passes: an encoder reads query and documents apart, their vectors are compared, the similarities subtracted.

P(A better) = sigmoid(w1 (cos(q, A) - cos(q, B)) + w2 (m(q, A) - m(q, B))), where cos compares mean vectors and m is the mean over the
query's tokens of the greatest cosine with a token of the document (Khattab and Zaharia, SIGIR 2020). Exchanging A and B turns the sign of
the logit, by construction. It reads no two texts together, as a cross-encoder does, so an embedding model knows the task from the
start, and a document is encoded once however many pairs it is in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.encoders.extras import import_extra
from zelo.encoders.openvino_engine import quiet
from zelo.encoders.weights import model_digest
from zelo.errors import InputError
from zelo.rerankers.scorer import Scorer, Tokens, batches_by_length, check_loaded, evaluating, pad_right, pick_device

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

HEAD = "head.json"
START = (2.0, 2.0)  # weights of the two similarities, before they are fitted
_CHUNK = 1024  # sequences whose texts' vectors are in memory at a time


class LateInteraction(Scorer):
    """Takes the sequences of a pairwise encoder, [CLS] query [SEP] A [SEP] B [SEP], apart again.

    Attributes:
        antisymmetric: asking in the other order tells nothing new.
    """

    antisymmetric = True
    layers_once = False
    entries = ("encode", "weigh")

    def __init__(self, encoder: Any, pad: int, start: int, separator: int, weights: Sequence[float], identity: str = "") -> None:
        """Take a transformers encoder.

        Args:
            encoder: the model, on its device.
            pad: id of the padding token.
            start: id of the token before a text.
            separator: id of the token after a text.
            weights: of the two similarities.
            identity: digest of the encoder's weights.
        """
        self.encoder, self.identity = encoder, identity
        self._pad, self._start, self._separator = pad, start, separator
        self.module = _difference(encoder, weights)

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto") -> LateInteraction:
        """Load an encoder's folder, with float32 weights; head.json, if it is there, has the weights of the similarities.

        Raises:
            InputError: the folder holds no encoder.
            MissingExtraError: torch or transformers is not installed.
        """
        library, torch = import_extra("transformers", "transformers"), import_extra("torch", "torch")
        try:
            with quiet():
                tokenizer = library.AutoTokenizer.from_pretrained(folder, local_files_only=True)
                model = library.AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
            head = folder / HEAD
            weights = [float(w) for w in json.loads(head.read_text("utf-8"))["weights"]] if head.is_file() else list(START)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            what = f"cannot be loaded as an encoder ({str(error).strip().partition(chr(10))[0]})"
            raise InputError(what, where=str(folder), remedy="choose another model") from error
        ids = (tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
        if None in ids or len(weights) != len(START):
            raise InputError("lacks a token for start, separator or padding", where=str(folder), remedy="use an encoder such as BERT")
        return cls(check_loaded(model, folder).to(pick_device(device)).eval(), *ids, weights, model_digest(folder))

    def collate(self, sequences: Sequence[Tokens]) -> tuple[Any, ...]:
        """Return ids and masks of the different queries and documents, and places of query, A, B [n, 3].

        Raises:
            InputError: a sequence does not hold three texts.
        """
        torch = import_extra("torch", "torch")
        queries, documents, places = self._apart(sequences)
        parts = [*self._padded(queries), *self._padded(documents), torch.from_numpy(places)]
        return tuple(part.to(self.device) for part in parts)

    def score(
        self,
        sequences: Sequence[Tokens],
        budget: int = 0,
        advance: Callable[[int, int], None] = lambda done, total: None,
        *,
        halves: bool = False,
    ) -> FloatArray:
        """Return logits [n] as `Scorer.score` does; each different text is encoded once per 1,024 sequences."""
        torch, found = import_extra("torch", "torch"), self.similarities(sequences, budget, advance, halves=halves)
        with torch.inference_mode():
            return np.asarray(self.module.weigh(torch.from_numpy(found).to(self.device)).cpu().numpy())

    def similarities(
        self,
        sequences: Sequence[Tokens],
        budget: int = 0,
        advance: Callable[[int, int], None] = lambda done, total: None,
        *,
        halves: bool = False,
    ) -> FloatArray:
        """Return by how much A is more similar to the query than B [n, 2]: by mean vectors, and by tokens; arguments as of `score`."""
        torch = import_extra("torch", "torch")
        found = np.zeros((len(sequences), 2))
        with torch.inference_mode(), evaluating(self.module), torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=halves):
            for start in range(0, len(sequences), _CHUNK):
                queries, documents, places = self._apart(sequences[start : start + _CHUNK])
                asked, shown = (self._encoded(texts, budget or self.default_budget()) for texts in (queries, documents))
                rows = [self.module.compare(asked[q], shown[a], shown[b]) for q, a, b in places.tolist()]
                found[start : start + _CHUNK] = torch.stack(rows).double().cpu().numpy()
                advance(min(start + _CHUNK, len(sequences)), len(sequences))
        return found

    def tokens_computed(self, sequences: Sequence[Tokens]) -> int:
        """Return the tokens of the different texts."""
        total = 0
        for start in range(0, len(sequences), _CHUNK):
            queries, documents, _ = self._apart(sequences[start : start + _CHUNK])
            total += sum(map(len, queries)) + sum(map(len, documents))
        return total

    def fit_weights(self, sequences: Sequence[Tokens], targets: FloatArray, *, halves: bool = False) -> None:
        """Set the weights of the two similarities to those of the least cross-entropy; a fine-tuning rate would take long to find them."""
        from scipy.optimize import minimize

        x, p = self.similarities(sequences, halves=halves), np.asarray(targets, np.float64)

        def loss(w: FloatArray) -> float:
            z = x @ w
            return float(np.mean(np.logaddexp(0, z) - p * z)) + 1e-6 * float(w @ w)

        torch = import_extra("torch", "torch")
        best = minimize(loss, np.array(START), method="BFGS").x
        with torch.no_grad():
            self.module.weights.copy_(torch.from_numpy(best))

    def checkpoint_gradients(self) -> None:
        """Keep only what enters each layer."""
        self.encoder.gradient_checkpointing_enable({"use_reentrant": False})

    def save(self, folder: Path) -> None:
        """Write the encoder, as transformers loads it, and head.json."""
        folder.mkdir(parents=True, exist_ok=True)
        with quiet():
            self.encoder.save_pretrained(folder)
        weights = [float(w) for w in self.module.weights.detach().cpu().tolist()]
        (folder / HEAD).write_text(json.dumps({"weights": weights}) + "\n", "utf-8")
        for file in folder.glob("*.safetensors"):  # safetensors writes them for the owner only; its neighbors are for all
            file.chmod(0o644)

    def _apart(self, sequences: Sequence[Tokens]) -> tuple[list[Tokens], list[Tokens], IntArray]:
        """The different queries and documents, each between its special tokens, and places [n, 3] in them."""
        queries, documents = dict[bytes, int](), dict[bytes, int]()
        places = np.empty((len(sequences), 3), np.int64)
        for row, sequence in enumerate(sequences):
            ids = np.asarray(sequence, np.int64)
            ends = np.flatnonzero(ids == self._separator)
            if len(ends) != 3:
                raise InputError(f"{len(ends)} texts in a sequence instead of 3")
            query, a, b = ids[1 : ends[0]], ids[ends[0] + 1 : ends[1]], ids[ends[1] + 1 : ends[2]]
            texts = ((query, queries), (a, documents), (b, documents))
            places[row] = [table.setdefault(text.tobytes(), len(table)) for text, table in texts]
        asked, shown = ([self._whole(np.frombuffer(key, np.int64)) for key in table] for table in (queries, documents))
        return asked, shown, places

    def _whole(self, ids: IntArray) -> Tokens:
        return np.concatenate([[self._start], ids, [self._separator]])

    def _padded(self, texts: Sequence[Tokens]) -> tuple[Any, Any]:
        torch = import_extra("torch", "torch")
        ids, lengths = pad_right(texts, self._pad)
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def _encoded(self, texts: Sequence[Tokens], budget: int) -> list[Any]:
        """The token vectors of each text [tokens, d], of length 1, and the mean vector [d] as a last row."""
        torch = import_extra("torch", "torch")
        lengths = np.array([len(text) for text in texts], np.int64)
        found: list[Any] = [None] * len(texts)
        for rows in batches_by_length(lengths, budget):
            ids, mask = (part.to(self.device) for part in self._padded([texts[i] for i in rows.tolist()]))
            tokens, pooled = self.module.encode(ids, mask)
            for i, row in enumerate(rows.tolist()):
                found[row] = torch.cat([tokens[i, : lengths[row]], pooled[i : i + 1]])
        return found


def _difference(encoder: Any, weights: Sequence[float]) -> Any:
    """A module of what `collate` returns -> logits [n] in float32; one module, so that DDP and FSDP can wrap it."""
    torch = import_extra("torch", "torch")

    class Difference(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.weights = torch.nn.Parameter(torch.tensor(list(weights), dtype=torch.float32, device=encoder.device))

        def encode(self, ids: Any, mask: Any) -> tuple[Any, Any]:
            """Token vectors [n, longest, d] and mean vectors [n, d], of length 1 in float32."""
            return self._encode(ids, mask)

        def weigh(self, similarities: Any) -> Any:
            """Logits [n] in float64 of what `similarities` returns."""
            return similarities.double() @ self.weights.double()

        def _encode(self, ids: Any, mask: Any) -> tuple[Any, Any]:
            hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            return torch.nn.functional.normalize(hidden, dim=-1), torch.nn.functional.normalize(pooled, dim=-1)

        def compare(self, query: Any, a: Any, b: Any) -> Any:
            """Differences of the two similarities [2] from what `_encoded` returns."""
            with torch.autocast(query.device.type, enabled=False):
                both = [torch.stack([query[-1] @ d[-1], (query[:-1] @ d[:-1].T).amax(-1).mean()]) for d in (a, b)]
                return both[0] - both[1]

        def forward(self, queries: Any, query_mask: Any, documents: Any, document_mask: Any, places: Any) -> Any:
            asked, asked_mean = self._encode(queries, query_mask)
            shown, shown_mean = self._encode(documents, document_mask)
            q, similar = places[:, 0], []
            with torch.autocast(queries.device.type, enabled=False):
                for d in (places[:, 1], places[:, 2]):
                    cells = (asked[q] @ shown[d].transpose(1, 2)).masked_fill(document_mask[d][:, None] == 0, -2.0)
                    found = (cells.amax(-1) * query_mask[q]).sum(1) / query_mask[q].sum(1)
                    similar.append(torch.stack([(asked_mean[q] * shown_mean[d]).sum(-1), found], dim=1))
                return (similar[0] - similar[1]) @ self.weights

    return Difference().eval()
