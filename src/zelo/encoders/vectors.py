"""Vectors of many texts, and their files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.errors import InputError

_MAPPED_BYTES = 4096  # smaller files are read at once; an array without elements cannot be mapped at all


@dataclass(frozen=True, slots=True)
class TextVectors:
    """Vectors of n texts with t tokens in all.

    Attributes:
        pooled: float32 [n, dim], one row per text, of unit length (zero for a text without tokens).
        tokens: float16 [t, dim], the last hidden state of every token, rows of unit length; None if not asked for.
        offsets: int64 [n + 1]; the tokens of text i are rows `offsets[i]:offsets[i + 1]`.
        token_ids: int32 [t], the vocabulary ids, special tokens (first, last) included.
    """

    pooled: NDArray[np.float32]
    tokens: NDArray[np.float16] | None
    offsets: NDArray[np.int64]
    token_ids: NDArray[np.int32]

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.pooled)

    def tokens_of(self, i: int) -> NDArray[np.float16]:
        """Return the token vectors of text i, float16 [tokens of i, dim].

        Raises:
            InputError: the texts were encoded without token vectors.
        """
        if self.tokens is None:
            raise InputError("these texts were encoded without token vectors", remedy="encode with tokens=True")
        return self.tokens[self.offsets[i] : self.offsets[i + 1]]

    def ids_of(self, i: int) -> NDArray[np.int32]:
        """Return the token ids of text i."""
        return self.token_ids[self.offsets[i] : self.offsets[i + 1]]


def gather(parts: Sequence[TextVectors], which: Sequence[tuple[int, int]]) -> TextVectors:
    """Put texts together from several sets of vectors: one per entry of `which`, a place in `parts` and in that set.

    Token vectors are kept where every set has them.
    """
    lengths = np.array([parts[p].offsets[i + 1] - parts[p].offsets[i] for p, i in which], np.int64)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    dim = parts[0].pooled.shape[1]
    pooled = np.stack([parts[p].pooled[i] for p, i in which]) if which else np.zeros((0, dim), np.float32)
    ids = [np.zeros(0, np.int32), *(parts[p].ids_of(i) for p, i in which)]
    tokens = None
    if all(part.tokens is not None for part in parts):
        tokens = np.concatenate([np.zeros((0, dim), np.float16), *(parts[p].tokens_of(i) for p, i in which)])
    return TextVectors(pooled, tokens, offsets, np.concatenate(ids))


def save_vectors(folder: Path, ids: Sequence[str], vectors: TextVectors) -> None:
    """Write pooled.npy, tokens.npy (if there are any), offsets.npy, token_ids.npy and ids.json into a folder.

    Plain writes into a folder that the caller renames into place when it is complete.

    Args:
        folder: made if it does not exist; token vectors left there by an earlier call are removed.
        ids: n names, in the order of the texts.
        vectors: of the same n texts.

    Raises:
        InputError: not as many ids as texts.
    """
    if len(ids) != len(vectors):
        raise InputError(f"{len(ids)} ids for {len(vectors)} texts", where=str(folder), remedy="pass one id per text")
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "pooled.npy", vectors.pooled)
    np.save(folder / "offsets.npy", vectors.offsets)
    np.save(folder / "token_ids.npy", vectors.token_ids)
    if vectors.tokens is not None:
        np.save(folder / "tokens.npy", vectors.tokens)
    else:
        (folder / "tokens.npy").unlink(missing_ok=True)
    (folder / "ids.json").write_text(json.dumps(list(ids), ensure_ascii=False), encoding="utf-8")


def load_vectors(folder: Path) -> tuple[list[str], TextVectors]:
    """Read what `save_vectors` wrote; the arrays are memory maps, read as they are used.

    Raises:
        InputError: a file is missing or unreadable, or the files do not belong together.
    """
    remedy = "delete the folder and encode again"
    try:
        ids = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
        pooled, offsets, token_ids = (_map(folder / f"{name}.npy") for name in ("pooled", "offsets", "token_ids"))
        tokens = _map(folder / "tokens.npy") if (folder / "tokens.npy").exists() else None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read the vectors ({error})", where=str(folder), remedy=remedy) from error
    fits = len(offsets) == len(pooled) + 1 and offsets[-1] == len(token_ids) and (tokens is None or len(tokens) == len(token_ids))
    if not fits or len(ids) != len(pooled):
        raise InputError("the files of these vectors do not belong together", where=str(folder), remedy=remedy)
    return [str(i) for i in ids], TextVectors(pooled, tokens, offsets, token_ids)


def _map(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r" if path.stat().st_size > _MAPPED_BYTES else None)
    return array
