"""Texts to vectors with a sentence-transformers model, exactly repeatable.

Two engines. `openvino`: bfloat16 where the CPU computes it (4 times torch float32 at the same vectors to 4 digits), else
float32 (2.3 times). `torch`: sentence-transformers' own forward pass, for every model OpenVINO is not used for: only
transformer + mean or cls pooling (+ normalize) is handed to it. Dynamic int8 was tried and left out: slower than bfloat16,
and cosine to the original falls to 0.85.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zelo.encoders import openvino_engine
from zelo.encoders.extras import import_extra
from zelo.encoders.vectors import TextVectors, load_vectors, save_vectors
from zelo.encoders.weights import DEFAULT_MODEL, model_digest, resolve_model
from zelo.errors import InputError, MissingExtraError

__all__ = ["Encoder", "TextVectors", "load_encoder", "load_vectors", "save_vectors"]

Engine = Literal["auto", "openvino", "torch"]
Progress = Callable[[int, int], None]
_BATCH_TOKENS = 2048  # padded tokens in a batch: enough to keep a core busy, small enough for its cache
_CHARS_PER_TOKEN = 100  # text beyond max_tokens times this is cut before tokenizing, or one 5 MB document takes seconds
_SLICE = 512  # texts tokenized at a time
_ALONE = 16  # a text on its own is padded to a multiple of so many tokens: few shapes to compile for, little padding
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Batch:
    """Padded input of one forward pass. `rows[r]` = positions of the texts that row r stands for (duplicates share a row)."""

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    lengths: NDArray[np.int64]
    rows: list[list[int]]


class _Output:
    """The arrays that batches write into."""

    def __init__(self, token_lists: list[list[int]], group_of: NDArray[np.int64], dim: int, tokens: bool) -> None:
        lengths = np.array([len(ids) for ids in token_lists], np.int64)
        self.offsets = np.zeros(len(group_of) + 1, np.int64)
        np.cumsum(lengths[group_of], out=self.offsets[1:])
        self.pooled = np.zeros((len(group_of), dim), np.float32)
        self.tokens = np.zeros((self.offsets[-1], dim), np.float16) if tokens else None
        flat = [np.asarray(ids, np.int32) for ids in token_lists]
        self.token_ids = np.concatenate([flat[g] for g in group_of]) if len(group_of) else np.zeros(0, np.int32)

    def write(self, batch: _Batch, pooled: NDArray[np.float32], hidden: NDArray[np.float32] | None) -> None:
        """Store a batch: pooled [rows, dim] and, if token vectors are wanted, hidden states [rows, length, dim]."""
        norms = np.linalg.norm(pooled, axis=1, keepdims=True)
        pooled = (pooled / np.where(norms > 0, norms, 1)).astype(np.float32, copy=False)
        for row, positions in enumerate(batch.rows):
            self.pooled[positions] = pooled[row]
            if self.tokens is None or hidden is None:
                continue
            states = hidden[row, : batch.lengths[row]]
            unit = (states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)).astype(np.float16)
            for i in positions:
                self.tokens[self.offsets[i] : self.offsets[i + 1]] = unit

    def vectors(self) -> TextVectors:
        return TextVectors(self.pooled, self.tokens, self.offsets, self.token_ids)


class Encoder:
    """A model that turns texts into vectors; made by `load_encoder`.

    Attributes:
        dim: length of a vector.
        max_tokens: longer texts are cut to this many tokens, special tokens included.
        digest: sha256 of the model's files: two encoders with the same digest, engine and precision give the same vectors.
        engine: "openvino" or "torch".
        precision: "bf16" or "f32".
    """

    def __init__(self, backend: _OpenVino | _Torch | _Opaque, digest: str) -> None:
        """Wrap a backend; use `load_encoder`."""
        self._backend = backend
        self.dim: int = backend.dim
        self.max_tokens: int = backend.max_tokens
        self.digest = digest
        self.engine: str = backend.engine
        self.precision: str = backend.precision

    def encode(self, texts: Sequence[str], *, tokens: bool = False, progress: Progress | None = None, alone: bool = False) -> TextVectors:
        """Encode texts; equal texts are encoded once, batches are made by length, order and results are those of `texts`.

        The same texts give bit-identical vectors in every run on the same machine. A text's vectors depend on the other
        texts only by rounding: 1e-5 in float32, 2e-3 in bfloat16. With `alone` they do not (OpenVINO), or by less (torch): the
        padded length, which decides how sums are split up, is then the text's own. It costs no time for passages; texts of 20
        tokens take a third more.

        Args:
            texts: n texts; an empty one has the vectors of its special tokens.
            tokens: whether to keep the vector of every token: 2 * dim bytes each, about 200 kB for a page of text.
            progress: called with (texts done, n) now and then, and with (n, n) at the end.
            alone: whether a text's vectors should be the same whatever texts come with it.

        Raises:
            InputError: token vectors of a model that has none.
        """
        if isinstance(self._backend, _Opaque):
            return self._backend.encode(texts, tokens)
        # Numbered in the order of the texts themselves: which texts share a batch must not depend on the order of the lines.
        group_of_text = {text: group for group, text in enumerate(sorted(set(texts)))}
        group_of = np.array([group_of_text[text] for text in texts], np.int64)
        positions: list[list[int]] = [[] for _ in group_of_text]
        for i, group in enumerate(group_of):
            positions[group].append(i)
        limit = self.max_tokens * _CHARS_PER_TOKEN
        # A lone surrogate, which JSON can smuggle in, has no UTF-8 form and would stop the tokenizer.
        unique = [text[:limit].encode("utf-8", "replace").decode() for text in group_of_text]
        token_lists = [ids for start in range(0, len(unique), _SLICE) for ids in self._backend.tokenize(unique[start : start + _SLICE])]
        out = _Output(token_lists, group_of, self.dim, tokens)
        step = _ALONE if alone else 0
        self._backend.run(_batches(token_lists, positions, self._backend.pad_id, step, self.max_tokens), out, progress, len(texts))
        if progress is not None:
            progress(len(texts), len(texts))
        return out.vectors()


def _batches(token_lists: list[list[int]], positions: list[list[int]], pad_id: int, step: int, most: int) -> Iterator[_Batch]:
    """Yield batches of similar length, longest first, so that all cores end together; deterministic: by (length, index).

    With a `step` all rows of a batch are padded to the same multiple of it (to `most` above that), which others cannot change.
    """
    lengths = np.array([len(ids) for ids in token_lists], np.int64)
    padded = np.maximum(np.minimum(-(-lengths // step) * step, most), lengths) if step else lengths
    order = [int(i) for i in np.argsort(lengths, kind="stable") if lengths[i] > 0]
    groups: list[list[int]] = []
    for i in order:
        fits = groups and padded[i] * (len(groups[-1]) + 1) <= _BATCH_TOKENS
        if fits and (not step or padded[i] == padded[groups[-1][0]]):
            groups[-1].append(i)
        else:
            groups.append([i])
    for group in reversed(groups):
        ids = np.full((len(group), int(padded[group].max())), pad_id, np.int64)
        mask = np.zeros_like(ids)
        for row, i in enumerate(group):
            ids[row, : lengths[i]] = token_lists[i]
            mask[row, : lengths[i]] = 1
        yield _Batch(ids, mask, lengths[group], [positions[i] for i in group])


def _pool(hidden: NDArray[np.float32], batch: _Batch, pooling: str) -> NDArray[np.float32]:
    """Return [rows, dim]: the first token's state, or the mean over a row's own tokens (never over padding)."""
    if pooling == "cls":
        return hidden[:, 0]
    return np.stack([hidden[row, :length].mean(0) for row, length in enumerate(batch.lengths)])


class _OpenVino:
    engine = "openvino"

    def __init__(self, compiled: Any, tokenizer: Any, facts: openvino_engine.ModelFacts, precision: str) -> None:
        self._compiled, self._tokenizer, self._facts = compiled, tokenizer, facts
        self.dim, self.max_tokens, self.pad_id, self.precision = facts.dim, facts.max_tokens, facts.pad_id, precision

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]

    def run(self, batches: Iterator[_Batch], out: _Output, progress: Progress | None, total: int) -> None:
        # Results are fetched from this thread. OpenVINO's own queue calls back from its threads, and one that waits for the
        # interpreter while it shuts down aborts the process (seen in half of all short runs).
        streams = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        idle = [self._compiled.create_infer_request() for _ in range(2 * streams)]  # the second half waits for a free stream
        running: deque[tuple[Any, _Batch]] = deque()
        done = 0

        def finish_oldest() -> int:
            request, batch = running.popleft()
            request.wait()
            hidden = request.get_output_tensor(0).data
            out.write(batch, _pool(hidden, batch, self._facts.pooling), hidden)
            idle.append(request)
            if progress is not None:
                progress(done + sum(map(len, batch.rows)), total)
            return sum(map(len, batch.rows))

        for batch in batches:
            if not idle:
                done += finish_oldest()
            request = idle.pop()
            request.start_async([batch.ids, batch.mask])
            running.append((request, batch))
        while running:
            done += finish_oldest()


class _Torch:
    engine = "torch"
    precision = "f32"

    def __init__(self, model: Any, threads: int) -> None:
        self._model, self._threads = model, threads
        self.max_tokens = openvino_engine.token_limit(model)
        self.pad_id = int(getattr(model.tokenizer, "pad_token_id", None) or 0)
        self.dim = _dimension(model)

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        prompt = (getattr(self._model, "prompts", None) or {}).get(getattr(self._model, "default_prompt_name", None) or "", "")
        texts = [prompt + text for text in texts]
        lists = self._model.tokenizer(texts, truncation=True, max_length=self.max_tokens, return_attention_mask=False)["input_ids"]
        return [list(ids) for ids in lists]

    def run(self, batches: Iterator[_Batch], out: _Output, progress: Progress | None, total: int) -> None:
        torch = import_extra("torch", "torch")
        done = 0
        with _torch_threads(torch, self._threads), torch.inference_mode():
            for batch in batches:
                features = {"input_ids": torch.from_numpy(batch.ids), "attention_mask": torch.from_numpy(batch.mask)}
                result = self._model(features)
                hidden = result["token_embeddings"].float().numpy() if out.tokens is not None else None
                out.write(batch, result["sentence_embedding"].float().numpy(), hidden)
                done += sum(map(len, batch.rows))
                if progress is not None:
                    progress(done, total)


class _Opaque:
    """A sentence-transformers model without a transformer, such as static word vectors: pooled vectors only."""

    engine = "torch"
    precision = "f32"

    def __init__(self, model: Any) -> None:
        self._model = model
        self.dim = _dimension(model)
        self.max_tokens = openvino_engine.token_limit(model)

    def encode(self, texts: Sequence[str], tokens: bool) -> TextVectors:
        if tokens:
            raise InputError("this model has no token vectors", remedy="use a model with a transformer, such as the default")
        pooled = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False) if texts else np.zeros((0, self.dim))
        offsets = np.zeros(len(texts) + 1, np.int64)
        return TextVectors(np.asarray(pooled, np.float32), None, offsets, np.zeros(0, np.int32))


def _dimension(model: Any) -> int:
    size = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension  # the older name
    return int(size())


@contextlib.contextmanager
def _torch_threads(torch: Any, threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_encoder(name: str | os.PathLike[str] = DEFAULT_MODEL, engine: Engine = "auto", threads: int | None = None) -> Encoder:
    """Load a model by name or folder.

    Args:
        name: see `zelo.encoders.weights.resolve_model`.
        engine: "auto" takes OpenVINO where it is installed and can stand in for the model, else torch.
        threads: cores to use; None: all that this process may use.

    Raises:
        InputError: no such model, or engine="openvino" for a model it is not used for.
        MissingExtraError: the engine is not installed.
    """
    if engine not in ("auto", "openvino", "torch"):
        raise InputError(f"unknown engine {engine!r}", remedy="use 'auto', 'openvino' or 'torch'")
    folder = resolve_model(name)
    digest = model_digest(folder)
    threads = threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if engine == "openvino" and openvino_engine.pooling_of(folder) is None:
        raise InputError("OpenVINO needs transformer + mean or cls pooling", where=str(name), remedy="use engine='torch'")
    if engine != "torch" and openvino_engine.pooling_of(folder) is not None:
        try:
            precision = openvino_engine.precision()
            compiled, tokenizer, facts = openvino_engine.compile_model(folder, digest, precision, threads)
            return Encoder(_OpenVino(compiled, tokenizer, facts, precision), digest)
        except (InputError, MissingExtraError) as error:
            if engine == "openvino":
                raise
            log.warning("encoding with torch instead of OpenVINO: %s", error)
    model = openvino_engine.load_sentence_transformer(folder)
    is_transformer = type(model[0]).__name__ == "Transformer"
    return Encoder(_Torch(model, threads) if is_transformer else _Opaque(model), digest)
