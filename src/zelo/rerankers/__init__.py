"""What scores a document for a query. One more kind is one more file with a `score` method, and one line in `load_reranker`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from zelo.errors import InputError

if TYPE_CHECKING:
    from zelo.encoders.similarity import VectorBank
    from zelo.rerankers.engines import EngineName


@runtime_checkable
class Reranker(Protocol):
    """A pointwise reranker, R(query, document) in [0, 1]."""

    def score(self, query: str, documents: Sequence[str]) -> NDArray[np.float64]:
        """Return a score in [0, 1] per document, comparable across queries; it does not depend on the other documents."""
        ...


def load_reranker(folder: Path, bank: Callable[[], VectorBank] | None = None, engine: EngineName = "auto") -> Reranker:
    """Load a model folder that zelo wrote, a pointwise language model, or any cross-encoder that sentence-transformers can read.

    The kind is what the folder's files say, never guessed from a name: zelo.json names it. Without one, adapter_config.json or a
    config.json that names a causal language model means the released zerank format, another config.json a cross-encoder. `bank`
    makes the vectors that are at hand, for a model that uses an encoder's. `engine` is what computes, where there is a choice: of
    models that read both texts see `engines.classifier_engine`; of an encoder that is not at hand see `load_encoder`.

    Raises:
        InputError: the folder holds neither, its zelo.json is faulty, or the engine cannot be used with it.
    """
    described = folder / "zelo.json"
    if described.is_file():
        try:
            kind = json.loads(described.read_text("utf-8"))["kind"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"not a description of a model ({error!r})", where=str(described), remedy="train again") from error
    elif (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
        from zelo.rerankers.pointwise import is_pointwise

        kind = "pointwise" if is_pointwise(folder) else "cross_encoder"
    else:
        raise InputError(
            "holds no model (neither zelo.json nor config.json)", where=str(folder), remedy="give a workspace's models/pointwise"
        )
    if kind == "blend":
        from zelo.rerankers.blend import BlendReranker

        return BlendReranker.load(folder, bank() if bank else None, _of_encoder(engine, folder))
    if kind == "embedding":
        from zelo.rerankers.embedding import EmbeddingReranker

        return EmbeddingReranker.load(folder, _of_encoder(engine, folder))
    if kind == "cross_encoder":
        from zelo.rerankers.cross_encoder import CrossEncoderReranker

        return CrossEncoderReranker(folder)
    if kind == "pointwise":
        from zelo.rerankers.pointwise import PointwiseReranker

        return PointwiseReranker.load(folder, engine=engine)
    if kind == "pairwise":
        raise InputError("holds a pairwise reranker, which compares two documents", where=str(folder), remedy="give a pointwise one")
    raise InputError(f"unknown kind of model {kind!r}", where=str(described), remedy="use the version of zelo that wrote it")


def _of_encoder(engine: EngineName, folder: Path) -> Literal["auto", "openvino", "torch"]:
    if engine == "optimized":
        raise InputError("only models that read both texts can be optimized", where=str(folder), remedy="use the engine auto")
    return engine
