"""The demo's student: the three signals of the small encoder and BM25, weighed by a head that was trained on targets.

It keeps the encoder as it is. Fine-tuning one this small on a few hundred questions makes it worse (experiments/students);
what can be learned from so little is how far to trust each signal on this corpus, and where relevance begins. An adapted blend
has one more signal where queries that it was not learned on gain from it: a map of the pooled vectors.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from zelo.encoders.similarity import (
    KEPT_BYTES,
    DenseSimilarity,
    LateInteraction,
    LexicalSimilarity,
    LexicalStatistics,
    MappedSimilarity,
    Similarity,
    VectorBank,
    VectorMap,
)
from zelo.errors import InputError
from zelo.rerankers.card import model_card, name_of

if TYPE_CHECKING:
    from zelo.encoders.transformer import Engine

FloatArray = NDArray[np.float64]

FEATURES = ("lexical", "dense", "late_interaction")
MAPPED = "mapped"
"""The signal of a learned map; it lies beside the head, in `MAP`."""
MAP = "map.npz"


@dataclass(frozen=True)
class Head:
    """A logistic unit over standardized features: sigmoid(bias + sum of weights * (feature - center) / scale).

    All tuples have one number per feature, in the order of `FEATURES`, and then of `MAPPED` if there is a map.
    """

    weights: tuple[float, ...]
    bias: float
    center: tuple[float, ...]
    scale: tuple[float, ...]

    def __call__(self, features: FloatArray) -> FloatArray:
        """Return scores in [0, 1] for features [n, f]."""
        standard = (features - np.array(self.center)) / np.array(self.scale)
        return np.asarray(expit(standard @ np.array(self.weights) + self.bias), np.float64)


class Signals:
    """The features of the blend: [texts, 3] for a query, [texts, 4] with a learned map."""

    def __init__(
        self,
        lexical: LexicalStatistics,
        bank: VectorBank,
        token_frequency: NDArray[np.int64],
        documents: int,
        learned: VectorMap | None = None,
    ) -> None:
        """Take the corpus's statistics of words and tokens, vectors, and perhaps a map of them."""
        self.lexical, self.bank, self.map = lexical, bank, learned
        self.token_frequency, self.documents = token_frequency, documents
        late = LateInteraction(bank, token_frequency, documents)
        self._parts: tuple[Similarity, ...] = (LexicalSimilarity(lexical), DenseSimilarity(bank), late)
        self.names: tuple[str, ...] = FEATURES
        if learned is not None:
            self._parts += (MappedSimilarity(bank, learned),)
            self.names += (MAPPED,)

    def __call__(self, query: str, texts: Sequence[str]) -> FloatArray:
        """Return the features."""
        self.bank.prepare([query, *texts], tokens=True)  # in one go: for the parts nothing is left to encode
        return np.stack([part.score(query, texts) for part in self._parts], axis=1)


class BlendReranker:
    """Scores documents by the signals and the head; a folder of small files, which names its encoder."""

    def __init__(self, signals: Signals, head: Head, model: str) -> None:
        """Put together; `model` is the encoder's name or folder, for `save`."""
        self._signals, self._head, self._model = signals, head, model

    def score(self, query: str, documents: Sequence[str]) -> FloatArray:
        """Return a score in [0, 1] per document."""
        return self._head(self._signals(query, documents)) if documents else np.zeros(0)

    @property
    def max_tokens(self) -> int:
        """Tokens that the encoder reads of a text; the rest counts for the words only."""
        return self._signals.bank.encoder.max_tokens

    def prepare(self, texts: Sequence[str]) -> None:
        """Encode texts, of one request or of several: what `score` then finds does not depend on how they were put together."""
        self._signals.bank.trim(KEPT_BYTES)
        self._signals.bank.prepare(texts, tokens=True)

    def save(self, folder: Path, trained_on: Mapping[str, object] | None = None) -> None:
        """Write zelo.json, terms.json, token_frequency.npy, README.md and a map if there is one into a folder, which is made.

        Args:
            folder: where to.
            trained_on: name -> value, what the model card should say about the training data.
        """
        folder.mkdir(parents=True, exist_ok=True)
        statistics = self._signals.lexical
        description = {
            "kind": "blend",
            "version": 1,
            "encoder": self._model,
            "encoder_digest": self._signals.bank.encoder.digest,
            "features": list(self._signals.names),
            "weights": list(self._head.weights),
            "bias": self._head.bias,
            "center": list(self._head.center),
            "scale": list(self._head.scale),
            "language": statistics.language,
            "documents": statistics.documents,
            "mean_length": statistics.mean_length,
        }
        (folder / "zelo.json").write_text(json.dumps(description, indent=1) + "\n", "utf-8")
        (folder / "terms.json").write_text(json.dumps(dict(statistics.frequency), ensure_ascii=False) + "\n", "utf-8")
        np.save(folder / "token_frequency.npy", self._signals.token_frequency)
        if self._signals.map is not None:
            np.savez(folder / MAP, **asdict(self._signals.map))
        (folder / "README.md").write_text(self._card(trained_on or {}), "utf-8")

    def _card(self, trained_on: Mapping[str, object]) -> str:
        statistics, head = self._signals.lexical, self._head
        facts = {
            "encoder": f"{name_of(self._model)}, digest {self._signals.bank.encoder.digest[:12]}",
            "language of the words": statistics.language,
            "documents that the word statistics are from": statistics.documents,
            **{
                f"weight of {name}, per standard deviation": f"{weight:.3f}"
                for name, weight in zip(self._signals.names, head.weights, strict=True)
            },
            "bias": f"{head.bias:.3f}",
            **trained_on,
        }
        summary = (
            f"A pointwise reranker for one corpus: a logistic unit over {len(head.weights)} signals (words, meaning, tokens in context) "
            "says in [0, 1] how well a document answers a question. Its head learned zELO targets (arXiv 2509.12541)."
        )
        usage = (
            "from pathlib import Path\n\nfrom zelo.rerankers import load_reranker\n\n"
            'scores = load_reranker(Path("this folder")).score("question", ["document", "another"])'
        )
        return model_card("Blend of signals", summary, facts, self._model, holds_weights=False, usage=usage)

    @classmethod
    def load(cls, folder: Path, bank: VectorBank | None = None, engine: Engine = "auto") -> BlendReranker:
        """Read what `save` wrote; `bank` supplies the encoder and vectors that are at hand, `engine` is of an encoder that is not.

        Raises:
            InputError: a file is missing or faulty, or the encoder is not the one that it was trained with.
        """
        from zelo.encoders.transformer import load_encoder

        try:
            about = json.loads((folder / "zelo.json").read_text("utf-8"))
            terms = json.loads((folder / "terms.json").read_text("utf-8"))
            frequency = np.load(folder / "token_frequency.npy")
            statistics = LexicalStatistics(about["language"], about["documents"], about["mean_length"], terms)
            head = Head(tuple(about["weights"]), about["bias"], tuple(about["center"]), tuple(about["scale"]))
            model, digest = about["encoder"], about["encoder_digest"]
            learned = None
            if MAPPED in about["features"]:
                with np.load(folder / MAP) as arrays:
                    learned = VectorMap(**arrays)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise InputError(f"not a complete blend model ({error!r})", where=str(folder), remedy="train again") from error
        bank = bank or VectorBank(load_encoder(model, engine))
        if bank.encoder.digest != digest:
            raise InputError(f"was trained with another version of encoder {model!r}", where=str(folder), remedy="train again")
        return cls(Signals(statistics, bank, frequency, statistics.documents, learned), head, model)
