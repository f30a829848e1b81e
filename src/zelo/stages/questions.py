"""Pairs as numbers, and what each judge is shown of them. A big run has millions: no object per pair."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zelo.artifacts import read_codes, read_table
from zelo.core.comparison_graph import rng_for
from zelo.judges import Comparison
from zelo.judges.journal import Journal

IntArray = NDArray[np.int64]
Int32Array = NDArray[np.int32]
Rows = NDArray[np.signedinteger]
"""Questions [n, 4] as places in the texts, of integers of any width."""
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """Pairs of one query's documents. `query`, `a`, `b` are places in `query_ids` and `doc_ids`, each [m].

    `a_first` [m] is the base order in which the two are shown, `cycle` [m] the Hamiltonian cycle of the query that a pair is of, -1 for a
    pair that a refine round added.
    """

    query_ids: Sequence[str]
    doc_ids: Sequence[str]
    query: IntArray
    a: IntArray
    b: IntArray
    a_first: BoolArray
    cycle: IntArray

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.query)

    def with_added(self, added: Pairs) -> Pairs:
        """Return these and some of the same names."""
        both = ((getattr(self, n), getattr(added, n)) for n in ("query", "a", "b", "a_first", "cycle"))
        return Pairs(self.query_ids, self.doc_ids, *map(np.concatenate, both))

    def select(self, rows: BoolArray | IntArray) -> Pairs:
        """Return some of the pairs."""
        query, a, b, cycle = (array[rows] for array in (self.query, self.a, self.b, self.cycle))
        return Pairs(self.query_ids, self.doc_ids, query, a, b, self.a_first[rows], cycle)


def read_pairs(path: Path) -> Pairs:
    """Read pairs/tournament.parquet, or another file of its columns.

    Raises:
        InputError: it is not readable.
    """
    query, query_ids = read_codes(path, "pairs", "query_id")
    a, doc_ids = read_codes(path, "pairs", "doc_id_a")
    b, others = read_codes(path, "pairs", "doc_id_b")
    place = {doc_id: i for i, doc_id in enumerate(doc_ids)}
    doc_ids += [doc_id for doc_id in others if doc_id not in place]
    place |= {doc_id: i for i, doc_id in enumerate(doc_ids)}
    moved = np.array([place[doc_id] for doc_id in others], np.int64)
    first, sides = read_codes(path, "pairs", "shown_first")
    a_first = np.array([side == "a" for side in sides], np.bool_)[first]
    cycle = np.asarray(read_table(path, "pairs", ["cycle"])["cycle"], np.int64)
    return Pairs(query_ids, doc_ids, query.astype(np.int64), a.astype(np.int64), moved[b], a_first, cycle)


def a_first(pairs: Pairs, judge: str, seed: int) -> BoolArray:
    """Return whether document a is shown first [m] to a judge: the base order, each cycle reversed by a coin of (seed, query, judge).

    Within a cycle every document still leads exactly once, and what position bias is left differs from judge to judge. Pairs of no
    cycle keep their order, which is random by itself.
    """
    coins = np.zeros((len(pairs.query_ids), int(pairs.cycle.max(initial=0)) + 1), np.bool_)
    for place in np.unique(pairs.query).tolist():
        coins[place] = rng_for(seed, pairs.query_ids[place], f"order for {judge}").random(coins.shape[1]) < 0.5
    return np.asarray(pairs.a_first ^ (coins[pairs.query, np.maximum(pairs.cycle, 0)] & (pairs.cycle >= 0)))


def swapped_rows(pairs: Pairs, share: float, seed: int) -> IntArray:
    """Return the pairs that are also shown in the other order: about `share` of each query's, drawn by (seed, query)."""
    chosen = np.zeros(len(pairs), np.bool_)
    if share > 0:
        order = np.argsort(pairs.query, kind="stable")
        starts = np.flatnonzero(np.diff(pairs.query[order], prepend=-1))
        for rows in np.split(order, starts[1:]):
            if len(rows):
                chosen[rows] = rng_for(seed, pairs.query_ids[pairs.query[rows[0]]], "swapped").random(len(rows)) < share
    return np.flatnonzero(chosen)


def in_shard(pairs: Pairs, part: int, parts: int) -> BoolArray:
    """Return which pairs [m] belong to one of several machines: those of the queries whose hash falls to it."""
    digests = (hashlib.blake2b(q.encode("utf-8", "surrogatepass"), digest_size=8).digest() for q in pairs.query_ids)
    ours = np.array([int.from_bytes(digest, "big") % parts == part for digest in digests], np.bool_)
    return np.asarray(ours[pairs.query])


@dataclass(frozen=True)
class Texts:
    """The texts that questions are about: those of the queries, then those of the documents, with their numbers in the journal."""

    texts: Sequence[str]
    numbers: IntArray
    queries: int

    @classmethod
    def register(cls, pairs: Pairs, query_texts: Mapping[str, str], doc_texts: Mapping[str, str], journal: Journal) -> Texts:
        """Collect the texts of some pairs."""
        texts = [*(query_texts[q] for q in pairs.query_ids), *(doc_texts[d] for d in pairs.doc_ids)]
        return cls(texts, journal.texts(texts, [*pairs.query_ids, *pairs.doc_ids]), len(pairs.query_ids))

    def shown(self, pairs: Pairs, a_first: BoolArray) -> Int32Array:
        """Return questions [m, 4]: places of query, first, second in `texts`, and -1, for the second document's query is the same."""
        rows = np.empty((len(pairs), 4), np.int32)
        rows[:, 0], rows[:, 3] = pairs.query, -1
        rows[:, 1] = np.where(a_first, pairs.a, pairs.b) + self.queries
        rows[:, 2] = np.where(a_first, pairs.b, pairs.a) + self.queries
        return rows

    def keys(self, shown: Rows) -> Int32Array:
        """Return the same questions by the journal's numbers, as `Journal.questions` takes them."""
        numbers = np.append(self.numbers, 0).astype(np.int32)  # the last place, -1, is that of no text
        return numbers[shown]

    def comparison(self, row: Rows) -> Comparison:
        """Return one question [4] as a judge sees it."""
        query, first, second, second_query = row.tolist()
        other = self.texts[second_query] if second_query >= 0 else None
        return Comparison(self.texts[query], self.texts[first], self.texts[second], other)
