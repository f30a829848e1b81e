"""What could have been found: a wide look with the workspace's own first stages and its student, beside what the live system returned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zelo.collections.beir import read_corpus
from zelo.core.fusion import reciprocal_rank_fusion
from zelo.errors import InputError
from zelo.pipeline import Context
from zelo.rerankers import Reranker, load_reranker
from zelo.retrievers.bm25 import Bm25Retriever
from zelo.retrievers.dense import DenseRetriever
from zelo.stages import inputs
from zelo.stages.legs import in_memory, in_table, is_searchable
from zelo.types import Query
from zelo.watching.log import Search

HEAD = 3
"""Documents at the top that challengers are compared with: what most users look at, and enough answers to see through a judge's noise."""


@dataclass(frozen=True, slots=True)
class Doc:
    """A document to compare. `where` says how far it came in the live system: "returned", "candidates", "corpus" or "source"."""

    doc_id: str
    text: str
    where: str
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A search with what is compared: the head of what was returned, and the challengers.

    `unknown` counts returned documents whose text nobody here has. `placed` says how far the expected documents came, the best of them.
    """

    search: Search
    head: tuple[Doc, ...]
    challengers: tuple[Doc, ...]
    unknown: int
    placed: str = ""


class Finder(Protocol):
    """Whatever knows texts and finds challengers."""

    def text(self, doc_id: str) -> str | None:
        """Return a document's text, None if it is in neither corpus nor source."""
        ...

    def in_corpus(self, doc_id: str) -> bool:
        """Whether the corpus has it."""
        ...

    def witnesses(self, query: str) -> Sequence[Sequence[str]]:
        """Return rankings of doc_ids by different ways of searching, the most trusted first."""
        ...


def prepare(search: Search, finder: Finder, challengers: int, depth: int) -> Prepared:
    """Choose what is compared: expected and clicked documents first, then the tops of all witnesses in turn; texts differ."""
    given = {doc.doc_id: doc.text for doc in search.returned if doc.text}
    rank = {doc.doc_id: i for i, doc in enumerate(search.returned, 1)}
    texts = {doc_id: finder.text(doc_id) or given.get(doc_id) for doc_id in rank}
    known = [doc_id for doc_id in rank if texts[doc_id]]
    head = [Doc(d, texts[d] or "", "returned", rank[d]) for d in known[:HEAD] if rank[d] <= depth]
    taken, seen = [doc.doc_id for doc in head], {doc.text for doc in head}
    found: list[Doc] = []
    turns = (d for row in zip_longest(*finder.witnesses(search.query)) for d in row if d is not None)
    for doc_id in [*search.expected, *(search.clicks or ()), *turns]:
        text = finder.text(doc_id) or given.get(doc_id)
        if len(found) >= challengers or not text or doc_id in taken or text in seen:
            continue
        taken.append(doc_id)
        seen.add(text)
        found.append(Doc(doc_id, text, where(doc_id, search, finder), rank.get(doc_id, 0)))
    order = ("returned", "candidates", "corpus", "source", "nowhere")
    placed = min((where(d, search, finder, depth) for d in search.expected), key=order.index, default="")
    return Prepared(search, tuple(head), tuple(found), len(rank) - len(known), placed)


def where(doc_id: str, search: Search, finder: Finder, depth: int = 0) -> str:
    """Return how far a document came; with a depth, one that was returned below it counts as a candidate."""
    for i, doc in enumerate(search.returned, 1):
        if doc.doc_id == doc_id:
            return "returned" if not depth or i <= depth else "candidates"
    if search.candidates is not None and doc_id in search.candidates:
        return "candidates"
    if finder.in_corpus(doc_id):
        return "corpus"
    return "source" if finder.text(doc_id) is not None else "nowhere"


class WorkspaceFinder:
    """Searches a workspace's corpus by its legs, and its student reranks what they found; perhaps a wider source beside it."""

    def __init__(self, context: Context, pool: int, source: Path | None = None) -> None:
        """Load the corpus.

        Args:
            context: of a workspace that has run up to `train`.
            pool: documents that each leg gives.
            source: documents that should be in the corpus, as BEIR's corpus.jsonl; those that are not are searched too.
        """
        self._context, self._pool = context, pool
        self._documents = {d.doc_id: d for d in read_corpus(context.read("corpus"))}
        self._texts = {doc_id: d.full_text for doc_id, d in self._documents.items()}
        self._missing = {} if source is None else {d.doc_id: d for d in read_corpus(source) if d.doc_id not in self._documents}
        known = set(self._texts.values())
        self._missing = {doc_id: d for doc_id, d in self._missing.items() if d.full_text not in known}  # the same text by another name
        self.signals = inputs.CorpusSignals(context, self._texts, inputs.queries(context))
        self._found: dict[str, list[list[str]]] = {}
        if not is_searchable(context.recipe):
            what = "live queries cannot be searched for: the first stage is an imported run only"
            raise InputError(what, where="retrieve.legs", remedy="add bm25 or dense to retrieve.legs of the workspace")

    def text(self, doc_id: str) -> str | None:
        """Return a document's text."""
        if doc_id in self._missing:
            return self._missing[doc_id].full_text
        return self._texts.get(doc_id)

    def in_corpus(self, doc_id: str) -> bool:
        """Whether the corpus has it."""
        return doc_id in self._texts

    def witnesses(self, query: str) -> list[list[str]]:
        """Return rankings: by the student, by each leg, and of what only the source has."""
        if query not in self._found:
            legs = [leg(query) for leg in self._legs]
            fused = self._fuse(legs)
            ranked = (
                [fused[i] for i in np.argsort(-self.student.score(query, [self._texts[d] for d in fused]), kind="stable")] if fused else []
            )
            self._found[query] = [ranked, *legs, *(leg(query) for leg in self._source_legs)]
        return self._found[query]

    def candidates(self, query: str) -> list[str]:
        """Return what the first stage would hand to a reranker: the legs, fused."""
        return self._fuse([leg(query) for leg in self._legs])

    def _fuse(self, legs: Sequence[Sequence[str]]) -> list[str]:
        return [doc_id for doc_id, _ in reciprocal_rank_fusion([[(d, 0.0) for d in leg] for leg in legs], 60.0, self._pool)]

    @cached_property
    def student(self) -> Reranker:
        """The workspace's reranker."""
        return load_reranker(self._context.read("model"), self.signals.bank, self._context.recipe.rank.engine)

    @cached_property
    def _legs(self) -> list[Callable[[str], list[str]]]:
        if self._context.recipe.retrieve.engine == "lancedb":
            retrievers = in_table(self._context, self._encode)
        else:
            retrievers = in_memory(self._context, list(self._documents.values()), self._encode)
        return [self._leg(retriever.search) for retriever in retrievers.values()]

    @cached_property
    def _source_legs(self) -> list[Callable[[str], list[str]]]:
        if not self._missing:
            return []
        documents = list(self._missing.values())
        settings = self._context.recipe.retrieve
        vectors = self._encode([d.full_text for d in documents])
        language = self.signals.lexical().language
        legs = (
            Bm25Retriever(documents, language=language, k1=settings.k1, b=settings.b).search,
            DenseRetriever([d.doc_id for d in documents], vectors, self._encode).search,
        )
        return [self._leg(leg) for leg in legs]

    def _leg(self, search: Callable[..., Mapping[str, Sequence[object]]]) -> Callable[[str], list[str]]:
        return lambda query: [row.doc_id for row in search([Query("live", query)], self._pool)["live"]]  # type: ignore[attr-defined]

    def _encode(self, texts: Iterable[str]) -> NDArray[np.float32]:
        wanted = list(texts)
        bank = self.signals.bank()
        bank.prepare(wanted, tokens=False)
        return np.stack([bank.pooled(text) for text in wanted])
