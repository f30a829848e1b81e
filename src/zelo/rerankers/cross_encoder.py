"""A transformer that reads query and document together; any cross-encoder that sentence-transformers loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zelo.encoders.extras import import_extra, loading_errors
from zelo.encoders.openvino_engine import quiet
from zelo.errors import InputError


class CrossEncoderReranker:
    """Scores with the model's own head and activation."""

    def __init__(self, folder: Path) -> None:
        """Load the folder.

        Raises:
            InputError: the folder holds no model that sentence-transformers loads.
            MissingExtraError: sentence-transformers is not installed.
        """
        library = import_extra("sentence_transformers", "sentence-transformers")
        try:
            with quiet():
                self._model = library.CrossEncoder(str(folder), device="cpu")
        except loading_errors() as error:
            what = f"sentence-transformers cannot load the model ({str(error).strip().partition(chr(10))[0]})"
            raise InputError(what, where=str(folder), remedy="copy it again, or name another one") from error

    def score(self, query: str, documents: Sequence[str]) -> NDArray[np.float64]:
        """Return the model's score per document."""
        if not documents:
            return np.zeros(0)
        pairs = [(query, document) for document in documents]
        return np.asarray(self._model.predict(pairs, show_progress_bar=False), np.float64)

    def score_many(self, requests: Sequence[tuple[str, Sequence[str]]]) -> list[NDArray[np.float64]]:
        """Return what `score` returns for each (query, documents), in batches that several requests share."""
        pairs = [(query, document) for query, documents in requests for document in documents]
        scores = np.asarray(self._model.predict(pairs, show_progress_bar=False), np.float64) if pairs else np.zeros(0)
        ends = np.cumsum([len(documents) for _, documents in requests])
        return np.split(scores, ends[:-1])
