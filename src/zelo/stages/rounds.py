"""Comparisons in rounds: after the first answers, pairs are chosen by what they are expected to tell (docs/decisions/0013)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from zelo.core.active_pairs import plan_round, top_change
from zelo.core.paired_comparison import Batch
from zelo.recipe import Pairs as Settings
from zelo.stages.questions import IntArray, Pairs

FloatArray = NDArray[np.float64]
T = TypeVar("T")


def first_round(documents: int, settings: Settings) -> int:
    """Return how many pairs of a query are compared before the first plan, so that every document meets another one.

    `top` begins with half a cycle, the other aims with a whole one. It does not depend on `pair.comparisons`, so that a larger number
    goes on from the pairs of a smaller one.
    """
    wanted = (documents + 1) // 2 if settings.aim == "top" else documents
    return min(wanted, documents * (documents - 1) // 2)


def in_rounds(
    pairs: Pairs, ask: Callable[[Pairs], T], votes: Callable[[T], FloatArray], settings: Settings, seed: int
) -> tuple[Pairs, T, str]:
    """Ask about the pairs; then plan more from the answers and ask about those too, until a query has as many as the recipe says.

    The same answers with a larger `pair.comparisons` give the same pairs and then more: rounds are planned in full, the last one is cut.

    Args:
        pairs: the first ones; every candidate of a query is in one.
        ask: has all pairs so far answered, and asks only what is new.
        votes: preferences [pairs, judges] of an answer of `ask`, positive for document a, NaN = missing. It is called before each
            plan only, and may raise where there is too little to plan with.
        settings: of the recipe: design, aim, comparisons, per_round, settle.
        seed: of the plan.

    Returns:
        All pairs, those of a query together; what `ask` returned about them; and a remark, "" without rounds.
    """
    if settings.design != "adaptive":
        return pairs, ask(pairs), ""
    state = _State.of(pairs)
    answers = ask(state.pairs)
    number = 1
    while state.open(settings.comparisons).any():
        more = state.plan(votes(answers), settings, seed, number)
        if not len(more):
            break
        state.extend(more)
        answers = ask(state.pairs)
        number += 1
    count = len(np.unique(state.pairs.query))
    each = len(state.pairs) / max(count, 1)
    settled = f", {int(state.settled.sum()):,} settled early" if settings.settle else ""
    return state.pairs, answers, f"pairs chosen in rounds: {each:.0f} per query on average over {count:,} queries{settled}"


@dataclass
class _State:
    """The pairs so far, those of a query together, and how the fitted scores of each query's documents have moved."""

    pairs: Pairs
    settled: NDArray[np.bool_]
    before: Sequence[FloatArray]
    calm: IntArray  # rounds in a row in which the head of the ranking hardly moved
    answered: IntArray  # answers that there were when the last round was planned

    @classmethod
    def of(cls, pairs: Pairs) -> _State:
        queries = len(pairs.query_ids)
        return cls(_together(pairs), np.zeros(queries, np.bool_), [], np.zeros(queries, np.int64), np.zeros(queries, np.int64))

    def open(self, comparisons: int) -> IntArray:
        """Return how many pairs each query may still get."""
        compared = np.bincount(self.pairs.query, minlength=len(self.pairs.query_ids))
        return np.where(self.settled | (compared == 0), 0, np.maximum(comparisons - compared, 0))

    def plan(self, votes: FloatArray, settings: Settings, seed: int, number: int) -> Pairs:
        """Return the pairs of the next round."""
        batch, documents = self._batch(votes)
        left = self.open(settings.comparisons)
        # Always a whole round: how often a document may occur in one depends on its size. What is too many is cut off afterwards.
        documents_of = np.asarray(batch.documents, np.int64)
        count = np.where(left > 0, np.minimum(settings.per_round, documents_of * (documents_of - 1) // 2), 0)
        plan = plan_round(batch, self.pairs.query_ids, aim=settings.aim, count=count, seed=seed, round_number=number)
        scores = np.split(plan.score, np.cumsum(batch.documents)[:-1])
        self._watch(scores, votes, settings.settle)
        query = np.repeat(np.arange(len(left)), np.diff(plan.rows))
        kept = ~self.settled[query] & (np.arange(len(query)) - plan.rows[query] < left[query])
        starts = np.concatenate([[0], np.cumsum(batch.documents)])[query]
        return self._named(query[kept], documents[(starts + plan.first)[kept]], documents[(starts + plan.second)[kept]], number)

    def extend(self, more: Pairs) -> None:
        """Add the pairs of a round."""
        old = self.pairs
        query, a, b, cycle = (np.concatenate(both) for both in zip(_arrays(old), _arrays(more), strict=True))
        a_first = np.concatenate([old.a_first, more.a_first])
        self.pairs = _together(Pairs(old.query_ids, old.doc_ids, query, a, b, a_first, cycle))

    def _batch(self, votes: FloatArray) -> tuple[Batch, IntArray]:
        """The pairs as the plan takes them, first = shown first; and the places of each query's documents in `doc_ids`."""
        pairs, queries = self.pairs, len(self.pairs.query_ids)
        given = ~np.isnan(votes)
        judges = given.sum(axis=1)
        with np.errstate(invalid="ignore"):
            mean = np.where(judges > 0, np.where(given, votes, 0.0).sum(axis=1) / judges, np.nan)
        width = len(pairs.doc_ids)
        first, second = np.where(pairs.a_first, pairs.a, pairs.b), np.where(pairs.a_first, pairs.b, pairs.a)
        known, place = np.unique(pairs.query * width + np.stack([first, second]), return_inverse=True)
        starts = np.searchsorted(known, np.arange(queries + 1) * width)
        local = (place.reshape(2, -1) - starts[pairs.query]).astype(np.int32)
        rows = np.searchsorted(pairs.query, np.arange(queries + 1))
        prob = (1 + np.where(pairs.a_first, mean, -mean)) / 2
        batch = Batch(np.diff(starts).astype(np.int32), rows, local[0], local[1], prob, judges.astype(np.float64))
        return batch, known % width

    def _watch(self, scores: Sequence[FloatArray], votes: FloatArray, settle: float) -> None:
        """Note which queries have settled: the head of their ranking hardly moved in two rounds running, though answers came in."""
        given = (~np.isnan(votes)).sum(axis=1)
        answered = np.bincount(self.pairs.query, given, len(self.calm)).astype(np.int64)
        if self.before and settle > 0:
            for query, (old, new) in enumerate(zip(self.before, scores, strict=True)):
                calm = answered[query] > self.answered[query] and top_change(old, new) <= settle
                self.calm[query] = self.calm[query] + 1 if calm else 0
            self.settled |= self.calm >= 2
        self.before, self.answered = scores, answered

    def _named(self, query: IntArray, first: IntArray, second: IntArray, number: int) -> Pairs:
        """Pairs by their names: document a is the one whose id sorts first."""
        ids = np.array(self.pairs.doc_ids, dtype=object)
        a_first = np.asarray(ids[first] < ids[second], np.bool_)
        cycle = np.full(len(query), number, np.int64)  # the first round's is 0
        a, b = np.where(a_first, first, second), np.where(a_first, second, first)
        return Pairs(self.pairs.query_ids, self.pairs.doc_ids, query, a, b, a_first, cycle)


def _arrays(pairs: Pairs) -> tuple[IntArray, ...]:
    return pairs.query, pairs.a, pairs.b, pairs.cycle


def _together(pairs: Pairs) -> Pairs:
    return pairs.select(np.argsort(pairs.query, kind="stable"))
