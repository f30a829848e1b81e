"""Texts as vectors, to see how different they are: weighted words, or the small encoder that the retrievers use."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Kind = Literal["words", "model"]
SIZE = 4096
"""Columns that words are hashed into."""

_WORD = re.compile(r"\\?[A-Za-z]+|\d+|[^\sA-Za-z\d]")


def text_vectors(texts: Sequence[str], kind: Kind = "words", model: str = "") -> FloatArray:
    """Return vectors [n, d] of unit length.

    Args:
        texts: n texts.
        kind: "words": term frequency (1 + log) times inverse document frequency in these texts, hashed; "model": an encoder's.
        model: the encoder's name or folder, "" = the default one.

    Raises:
        MissingExtraError: the encoder's libraries are not installed.
        InputError: there is no such encoder.
    """
    if kind == "model":
        from zelo.encoders.transformer import load_encoder
        from zelo.encoders.weights import DEFAULT_MODEL

        pooled: FloatArray = load_encoder(model or DEFAULT_MODEL).encode(list(texts)).pooled.astype(np.float64)
        return pooled
    counts = [Counter(_WORD.findall(text.lower())) for text in texts]
    seen = Counter(word for one in counts for word in one)
    table = np.zeros((len(texts), SIZE))
    for row, one in enumerate(counts):
        for word, count in one.items():
            column, sign = _place(word)
            table[row, column] += sign * (1 + np.log(count)) * np.log((1 + len(texts)) / seen[word])
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    unit: FloatArray = table / np.where(norms > 0, norms, 1.0)
    return unit


@cache
def _place(word: str) -> tuple[int, int]:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    number = int.from_bytes(digest, "big")
    return number % SIZE, 1 if number >> 63 else -1
