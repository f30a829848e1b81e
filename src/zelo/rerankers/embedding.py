"""An encoder that was trained on targets, as a reranker: the cosine of two vectors, read as a score in [0, 1].

The folder is one that sentence-transformers loads as it is, so the same files are the encoder of the next round's first stage
(`encode.model`). Beside them, zelo.json says how a cosine becomes a score.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from zelo.encoders.similarity import KEPT_BYTES, DenseSimilarity, VectorBank
from zelo.errors import InputError

if TYPE_CHECKING:
    from zelo.encoders.transformer import Engine

FloatArray = NDArray[np.float64]

KIND = "embedding"


class EmbeddingReranker:
    """Scores documents by sigmoid(slope * cosine + bias)."""

    def __init__(self, bank: VectorBank, slope: float, bias: float) -> None:
        """Take the trained encoder's vectors, and how to read their cosine; a slope above 0 keeps its order."""
        self._bank, self._dense, self._slope, self._bias = bank, DenseSimilarity(bank), slope, bias

    def score(self, query: str, documents: Sequence[str]) -> FloatArray:
        """Return a score in [0, 1] per document."""
        if not documents:
            return np.zeros(0)
        return np.asarray(expit(self._slope * self._dense.score(query, documents) + self._bias), np.float64)

    @property
    def max_tokens(self) -> int:
        """Tokens that the encoder reads of a text."""
        return self._bank.encoder.max_tokens

    def prepare(self, texts: Sequence[str]) -> None:
        """Encode texts, of one request or of several: what `score` then finds does not depend on how they were put together."""
        self._bank.trim(KEPT_BYTES)
        self._bank.prepare(texts, tokens=False)

    @classmethod
    def load(cls, folder: Path, engine: Engine = "auto") -> EmbeddingReranker:
        """Read what `training.embedding` wrote.

        Args:
            folder: where it is.
            engine: of the encoder, see `load_encoder`; OpenVINO in bfloat16 moves a cosine by up to .004.

        Raises:
            InputError: zelo.json is faulty, or the folder holds no encoder.
        """
        from zelo.encoders.transformer import load_encoder

        try:
            about = json.loads((folder / "zelo.json").read_text("utf-8"))
            slope, bias = float(about["slope"]), float(about["bias"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"not a complete embedding model ({error!r})", where=str(folder), remedy="train again") from error
        return cls(VectorBank(load_encoder(folder, engine)), slope, bias)
