"""What several stages read, in the form they need it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zelo.artifacts import Columns
from zelo.collections.beir import read_corpus, read_queries
from zelo.encoders.vectors import TextVectors, load_vectors
from zelo.pipeline import Context
from zelo.recipe import Recipe
from zelo.types import Document

if TYPE_CHECKING:
    from zelo.encoders.similarity import LexicalStatistics, VectorBank
    from zelo.encoders.transformer import Encoder


def documents(context: Context) -> dict[str, str]:
    """Return doc_id -> title and text as one, in corpus order."""
    return {d.doc_id: d.full_text for d in read_corpus(context.read("corpus"))}


def repeated_texts(corpus: Path) -> dict[str, bytes]:
    """Return doc_id -> digest of its text for the documents whose text another one has; 8 bytes per document are held, no texts."""

    def digest(document: Document, size: int) -> bytes:
        return hashlib.blake2b(document.full_text.encode("utf-8", "surrogatepass"), digest_size=size).digest()

    short = np.fromiter((int.from_bytes(digest(d, 8), "big") for d in read_corpus(corpus)), np.uint64)
    values, counts = np.unique(short, return_counts=True)
    again = np.flatnonzero(np.isin(short, values[counts > 1]))
    if not len(again):
        return {}
    wanted = iter([*again.tolist(), -1])
    found, place = dict[str, bytes](), next(wanted)
    for number, document in enumerate(read_corpus(corpus)):
        if number == place:
            found[document.doc_id], place = digest(document, 16), next(wanted)
    return found


def queries(context: Context) -> dict[str, str]:
    """Return query_id -> text, in file order."""
    return {q.query_id: q.text for q in read_queries(context.read("queries"))}


def splits(path: Path) -> dict[str, str]:
    """Return query_id -> "train" or "test", in file order."""
    lines = path.read_text("utf-8").splitlines()[1:]
    return dict(line.split("\t") for line in lines)


def judged(recipe: Recipe) -> str:
    """Return the artifact with the pairs that the ensemble judges: all pairs, or in the distilled line the teaching pairs."""
    return "teaching_pairs" if recipe.line == "distilled" else "pairs"


def number_documents(pairs: Columns, rows: Sequence[int]) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Return the documents of some pairs, sorted by id, and the places of each pair's two documents among them."""
    a, b = ([pairs[name][i] for i in rows] for name in ("doc_id_a", "doc_id_b"))
    doc_ids = sorted({*a, *b})
    place = {doc_id: n for n, doc_id in enumerate(doc_ids)}
    return doc_ids, np.array([place[d] for d in a], np.int64), np.array([place[d] for d in b], np.int64)


def encoder(context: Context) -> Encoder:
    """Load the recipe's encoder."""
    from zelo.encoders.transformer import load_encoder

    return load_encoder(context.recipe.encode.model, context.recipe.encode.engine)


class CorpusSignals:
    """The corpus's word statistics and vectors, each made when first asked for."""

    def __init__(self, context: Context, texts: dict[str, str], query_texts: dict[str, str]) -> None:
        """Take doc_id -> text and query_id -> text of the workspace."""
        self._context, self._texts, self._query_texts = context, texts, query_texts
        self.lexical: Callable[[], LexicalStatistics] = cache(self._lexical)
        self.bank: Callable[[], VectorBank] = cache(self._bank)
        self.token_frequency: Callable[[], tuple[NDArray[np.int64], int]] = cache(self._token_frequency)

    def _lexical(self) -> LexicalStatistics:
        from zelo.encoders.lexical import detect_language
        from zelo.encoders.similarity import LexicalStatistics

        language = self._context.recipe.retrieve.language
        texts = list(self._texts.values())
        return LexicalStatistics.count(texts, detect_language(texts) if language == "auto" else language)

    def _bank(self) -> VectorBank:
        from zelo.encoders.similarity import VectorBank

        stores = []
        for kind, texts in (("documents", self._texts), ("queries", self._query_texts)):
            ids, vectors = self._stored(kind)
            stores.append(([texts[i] for i in ids], vectors))
        return VectorBank(encoder(self._context), stores)

    def _token_frequency(self) -> tuple[NDArray[np.int64], int]:
        from zelo.encoders.similarity import token_frequency

        ids, vectors = self._stored("documents")
        return token_frequency(vectors), len(ids)

    def _stored(self, kind: str) -> tuple[list[str], TextVectors]:
        return load_vectors(self._context.read("vectors") / kind)
