"""pair: a sparse comparison graph over each query's candidates (paper section 4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

import numpy as np

from zelo.artifacts import ARTIFACTS, Columns, read_table, table_writer
from zelo.collections.trec import read_rankings
from zelo.core.comparison_graph import IntArray, graph_stats, hamiltonian_cycles, rng_for
from zelo.core.designs import draw_pairs
from zelo.errors import InputError, RecipeError
from zelo.pipeline import Context, Outcome
from zelo.recipe import Pairs as Settings
from zelo.recipe import Recipe
from zelo.shards import keeping
from zelo.stages import inputs
from zelo.stages.rounds import first_round

BLOCK = 500
"""Queries drawn and written at once: 200,000 pairs of 100 candidates."""


@dataclass(frozen=True)
class Asked:
    """A query, its candidates of different texts, whether it trains, and pairs that refine rounds add to it."""

    query_id: str
    doc_ids: Sequence[str]
    trains: bool
    added: Sequence[tuple[str, str]]


def check(recipe: Recipe) -> None:
    """Raise RecipeError where the comparisons of an adaptive design would not pay for its first round, or nobody plays its rounds."""
    candidates, settings = recipe.retrieve.candidates, recipe.pair
    least = first_round(candidates, settings)
    if settings.design == "adaptive" and recipe.line == "distilled":
        what = 'pair.design = "adaptive" is for line = "direct": in the distilled line the pairwise model judges all tournament pairs'
        raise RecipeError(what, remedy='set pair.design = "cycles", or line = "direct"')
    if settings.design == "adaptive" and settings.comparisons < least:
        what = f"pair.comparisons = {settings.comparisons} is less than the {least} pairs in which {candidates} candidates are all compared"
        raise RecipeError(what, remedy=f"use at least {least}, or fewer candidates (retrieve.candidates)")


def run(context: Context) -> Outcome:
    """Write pairs/tournament.parquet, pairs/graphs.parquet, pairs/duplicates.parquet; in the distilled line pairs/teaching.parquet.

    Queries are read, drawn and written in blocks: memory does not grow with the pairs.

    Raises:
        InputError: there is nothing to compare.
    """
    recipe, split_of = context.recipe, inputs.splits(context.read("splits"))
    judged = [q for q, split in split_of.items() if split == "train" or recipe.pair.queries == "all"]
    work = Drawing(recipe.pair, recipe.seed, recipe.pairwise.teaching_pairs if recipe.line == "distilled" else 0)
    counts, trains, done = Counter[str](), False, 0
    advance = context.progress.task("drawing pairs")
    names = ("pairs", "graphs", *(["teaching_pairs"] if work.teaching else []))
    with ExitStack() as stack:
        write = {name: stack.enter_context(table_writer(context.write(name), name)) for name in (*names, "duplicates")}
        for (queries, copies), drawn in keeping(context.executor, work, _blocks(context, judged, split_of)):
            for name, columns in (*drawn.items(), ("duplicates", copies)):
                counts[name] += write[name](columns)
            trains |= any(split_of[q] == "train" for q in set(drawn["pairs"]["query_id"]))
            done += queries
            advance(done, len(judged))
    if not trains:
        what = "no training question has two candidates of different text: there is nothing to compare"
        raise InputError(what, where=recipe.ingest.collection, remedy="use a larger corpus, or more questions")
    rows = {"pairs": counts["pairs"], "duplicates": counts["duplicates"], "queries": len(judged)}
    return Outcome(rows | ({"teaching_pairs": counts["teaching_pairs"]} if work.teaching else {}))


def _blocks(context: Context, judged: Sequence[str], split_of: Mapping[str, str]) -> Iterator[tuple[tuple[int, Columns], Sequence[Asked]]]:
    """Yield blocks of queries, with their number and the rows of `duplicates`: equal texts are judged once."""
    failures, text_of = _failures(context), inputs.repeated_texts(context.read("corpus"))
    rankings = read_rankings(context.read("candidates") / "fused.trec", judged)
    while block := list(islice(rankings, BLOCK)):
        copies, asked = _empty("duplicates"), []
        for query_id, candidates in block:
            kept: dict[object, str] = {}  # text -> the candidate that stands for it
            for doc_id in candidates:
                first = kept.setdefault(text_of.get(doc_id, doc_id), doc_id)
                if first != doc_id:
                    _append(copies, query_id=query_id, doc_id=doc_id, same_as=first)
            asked.append(Asked(query_id, list(kept.values()), split_of[query_id] == "train", failures.get(query_id, [])))
        yield (len(block), copies), asked


@dataclass(frozen=True)
class Drawing:
    """Draws the pairs of a block of queries; `teaching` is how many teaching pairs each trains with, 0 in the direct line."""

    settings: Settings
    seed: int
    teaching: int

    def open(self) -> Callable[[Sequence[Asked]], dict[str, Columns]]:
        """Return what draws."""
        return self._draw

    def _draw(self, block: Sequence[Asked]) -> dict[str, Columns]:
        found = {name: _empty(name) for name in ("pairs", "graphs", *(["teaching_pairs"] if self.teaching else []))}
        for asked in block:
            own, lessons = _empty("pairs"), _empty("teaching_pairs")
            edges = _draw(len(asked.doc_ids), self.settings, rng_for(self.seed, asked.query_id, "pair"))
            append_pairs(own, asked.query_id, asked.doc_ids, edges)
            if self.teaching and asked.trains:
                _draw_teaching(lessons, asked, self.seed, self.teaching)
            _add(lessons if self.teaching else own, asked, self.seed)
            place = {doc_id: i for i, doc_id in enumerate(asked.doc_ids)}
            added = [] if self.teaching else [(place[one], place[other]) for one, other in asked.added]
            stats = graph_stats(len(asked.doc_ids), np.concatenate([edges, np.array(added, np.int64).reshape(-1, 2)]))
            _append(found["graphs"], query_id=asked.query_id, **{f: getattr(stats, f) for f in stats.__dataclass_fields__})
            for name, columns in (("pairs", own), ("teaching_pairs", lessons)):
                for column, values in columns.items() if name in found else ():
                    found[name][column] += values
        return found


def append_pairs(columns: Columns, query_id: str, doc_ids: Sequence[str], edges: IntArray) -> None:
    """Add the pairs [m, 2] of places in `doc_ids`, the first of each shown first, cycle after cycle."""
    rank = np.empty(len(doc_ids), np.int64)
    rank[sorted(range(len(doc_ids)), key=doc_ids.__getitem__)] = np.arange(len(doc_ids))
    first, second = np.asarray(edges, np.int64).reshape(-1, 2).T
    named = rank[first] < rank[second]  # the first one is document a
    complete = 2 * len(edges) == len(doc_ids) * (len(doc_ids) - 1)
    columns["query_id"] += [query_id] * len(edges)
    columns["doc_id_a"] += [doc_ids[i] for i in np.where(named, first, second).tolist()]
    columns["doc_id_b"] += [doc_ids[i] for i in np.where(named, second, first).tolist()]
    columns["shown_first"] += ["a" if is_a else "b" for is_a in named.tolist()]
    columns["cycle"] += [0 if complete else row // len(doc_ids) for row in range(len(edges))]


def _draw_teaching(teaching: Columns, asked: Asked, seed: int, count: int) -> None:
    """Add random pairs of a query's candidates, none twice, in a random order (paper section 5.3)."""
    rng = rng_for(seed, asked.query_id, "teaching")
    first, second = np.triu_indices(len(asked.doc_ids), 1)
    chosen = rng.permutation(len(first))[:count]
    for i, j in zip(first[chosen].tolist(), second[chosen].tolist(), strict=True):
        a, b = sorted((asked.doc_ids[i], asked.doc_ids[j]))
        side = "a" if rng.random() < 0.5 else "b"
        _append(teaching, query_id=asked.query_id, doc_id_a=a, doc_id_b=b, shown_first=side, cycle=0)


def _failures(context: Context) -> dict[str, list[tuple[str, str]]]:
    """Pairs that refine rounds add, by query: the reference and the document that was ranked just above it (paper section 5.6)."""
    found: dict[str, list[tuple[str, str]]] = {}
    if context.recipe.refine.parent:
        table = read_table(context.read("failures"), "failures", ("query_id", "doc_id", "above"))
        for query_id, doc_id, above in zip(table["query_id"], table["doc_id"], table["above"], strict=True):
            found.setdefault(query_id, []).append((doc_id, above))
    return found


def _add(columns: Columns, asked: Asked, seed: int) -> None:
    """Add pairs after those that were drawn, which stay as they are, in a random order; those that are there already are not added."""
    there = set(zip(columns["doc_id_a"], columns["doc_id_b"], strict=True)) if asked.added else set[tuple[str, str]]()
    for one, other in asked.added:
        a, b = sorted((one, other))
        if (a, b) not in there:
            side = "a" if rng_for(seed, asked.query_id, f"refine {a} {b}").random() < 0.5 else "b"
            _append(columns, query_id=asked.query_id, doc_id_a=a, doc_id_b=b, shown_first=side, cycle=-1)
            there.add((a, b))


def _empty(artifact: str) -> Columns:
    return {name: [] for name in ARTIFACTS[artifact].columns}


def _draw(documents: int, settings: Settings, rng: np.random.Generator) -> IntArray:
    """Pairs [m, 2], the first shown first: all of them, or those of the first round."""
    if settings.design == "cycles":
        return hamiltonian_cycles(documents, settings.degree, rng)
    return draw_pairs(documents, first_round(documents, settings), rng)


def _append(columns: Columns, **row: object) -> None:
    for name, value in row.items():
        columns[name].append(value)
