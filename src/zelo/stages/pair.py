"""pair: a sparse comparison graph over each query's candidates (paper section 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from zelo.artifacts import Columns, read_table, write_table
from zelo.collections.trec import read_run
from zelo.core.comparison_graph import IntArray, graph_stats, hamiltonian_cycles, rng_for
from zelo.core.designs import draw_pairs
from zelo.errors import InputError, RecipeError
from zelo.pipeline import Context, Outcome
from zelo.recipe import Pairs as Settings
from zelo.recipe import Recipe
from zelo.stages import inputs
from zelo.stages.rounds import first_round


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

    Raises:
        InputError: there is nothing to compare.
    """
    texts = inputs.documents(context)
    split_of = inputs.splits(context.read("splits"))
    candidates = read_run(context.read("candidates") / "fused.trec")
    pairs: Columns = {name: [] for name in ("query_id", "doc_id_a", "doc_id_b", "shown_first", "cycle")}
    teaching: Columns = {name: [] for name in pairs}
    graphs: dict[str, list[object]] = {}
    duplicates: Columns = {name: [] for name in ("query_id", "doc_id", "same_as")}
    judged = [q for q, split in split_of.items() if split == "train" or context.recipe.pair.queries == "all"]
    failures = _failures(context)
    advance = context.progress.task("drawing pairs")
    for done, query_id in enumerate(judged, 1):
        kept: dict[str, str] = {}  # text -> the candidate that stands for it: equal texts are judged once
        for candidate in candidates.get(query_id, []):
            first = kept.setdefault(texts[candidate.doc_id], candidate.doc_id)
            if first != candidate.doc_id:
                _append(duplicates, query_id=query_id, doc_id=candidate.doc_id, same_as=first)
        doc_ids = list(kept.values())
        edges = _draw(len(doc_ids), context.recipe.pair, rng_for(context.recipe.seed, query_id, "pair"))
        added = failures.get(query_id, []) if context.recipe.line != "distilled" else []
        append_pairs(pairs, query_id, doc_ids, edges)
        if split_of[query_id] == "train":
            _draw_teaching(teaching, query_id, doc_ids, context)
        _add(teaching if context.recipe.line == "distilled" else pairs, query_id, failures.get(query_id, []), context.recipe.seed)
        places = [(doc_ids.index(one), doc_ids.index(other)) for one, other in added]
        stats = graph_stats(len(doc_ids), np.concatenate([edges, np.array(places, np.int64).reshape(-1, 2)]))
        for name, value in (("query_id", query_id), *((f, getattr(stats, f)) for f in stats.__dataclass_fields__)):
            graphs.setdefault(name, []).append(value)
        advance(done, len(judged))
    if not any(split_of[q] == "train" for q in pairs["query_id"]):
        what = "no training question has two candidates of different text: there is nothing to compare"
        raise InputError(what, where=context.recipe.ingest.collection, remedy="use a larger corpus, or more questions")
    rows = write_table(context.write("pairs"), "pairs", pairs)
    write_table(context.write("graphs"), "graphs", graphs)
    copies = write_table(context.write("duplicates"), "duplicates", duplicates)
    counts = {"pairs": rows, "duplicates": copies, "queries": len(judged)}
    if context.recipe.line == "distilled":
        counts["teaching_pairs"] = write_table(context.write("teaching_pairs"), "teaching_pairs", teaching)
    return Outcome(counts)


def append_pairs(columns: Columns, query_id: str, doc_ids: Sequence[str], edges: IntArray) -> None:
    """Add the pairs [m, 2] of places in `doc_ids`, the first of each shown first, cycle after cycle."""
    complete = 2 * len(edges) == len(doc_ids) * (len(doc_ids) - 1)
    for row, (i, j) in enumerate(edges.tolist()):
        a, b = sorted((doc_ids[i], doc_ids[j]))
        side = "a" if doc_ids[i] == a else "b"
        _append(columns, query_id=query_id, doc_id_a=a, doc_id_b=b, shown_first=side, cycle=0 if complete else row // len(doc_ids))


def _draw_teaching(teaching: Columns, query_id: str, doc_ids: list[str], context: Context) -> None:
    """Add random pairs of a query's candidates, none twice, in a random order (paper section 5.3)."""
    rng = rng_for(context.recipe.seed, query_id, "teaching")
    first, second = np.triu_indices(len(doc_ids), 1)
    chosen = rng.permutation(len(first))[: context.recipe.pairwise.teaching_pairs]
    for i, j in zip(first[chosen].tolist(), second[chosen].tolist(), strict=True):
        a, b = sorted((doc_ids[i], doc_ids[j]))
        _append(teaching, query_id=query_id, doc_id_a=a, doc_id_b=b, shown_first="a" if rng.random() < 0.5 else "b", cycle=0)


def _failures(context: Context) -> dict[str, list[tuple[str, str]]]:
    """Pairs that refine rounds add, by query: the reference and the document that was ranked just above it (paper section 5.6)."""
    found: dict[str, list[tuple[str, str]]] = {}
    if context.recipe.refine.parent:
        table = read_table(context.read("failures"), "failures", ("query_id", "doc_id", "above"))
        for query_id, doc_id, above in zip(table["query_id"], table["doc_id"], table["above"], strict=True):
            found.setdefault(query_id, []).append((doc_id, above))
    return found


def _add(columns: Columns, query_id: str, added: list[tuple[str, str]], seed: int) -> None:
    """Add pairs after those that were drawn, which stay as they are, in a random order; those that are there already are not added."""
    there = {(a, b) for q, a, b in _names(columns) if q == query_id} if added else set[tuple[str, str]]()
    for one, other in added:
        a, b = sorted((one, other))
        if (a, b) not in there:
            side = "a" if rng_for(seed, query_id, f"refine {a} {b}").random() < 0.5 else "b"
            _append(columns, query_id=query_id, doc_id_a=a, doc_id_b=b, shown_first=side, cycle=-1)
            there.add((a, b))


def _names(columns: Columns) -> Iterator[tuple[str, str, str]]:
    return zip(columns["query_id"], columns["doc_id_a"], columns["doc_id_b"], strict=True)


def _draw(documents: int, settings: Settings, rng: np.random.Generator) -> IntArray:
    """Pairs [m, 2], the first shown first: all of them, or those of the first round."""
    if settings.design == "cycles":
        return hamiltonian_cycles(documents, settings.degree, rng)
    return draw_pairs(documents, first_round(documents, settings), rng)


def _append(columns: Columns, **row: object) -> None:
    for name, value in row.items():
        columns[name].append(value)
