"""A collection for a refine round from live searches: the parent's, and the queries of failed searches as training queries.

Live queries are divided once and for all by a hash of their words: some may teach, the others are held out for the gate.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from zelo.collections.beir import read_queries, write_queries
from zelo.errors import InputError
from zelo.recipe import Recipe
from zelo.types import Query
from zelo.watching.days import Days, write_json
from zelo.watching.drift import assess
from zelo.workspace import Workspace

FOLDER = "live"
PRODUCTION = "production.jsonl"
HELD_OUT = 0.5
"""Share of live queries that never teach."""


def held_out(query: str) -> bool:
    """Whether a live query is one that never teaches: the same words always are or are not."""
    digest = hashlib.blake2b(f"held out\0{query}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < HELD_OUT


def live_recipe(recipe: Recipe, root: Path) -> Recipe:
    """Return the recipe of a round at a folder that learns from live searches, with all the queries that its collection has."""
    folder = root.resolve() / FOLDER
    ingest = replace(recipe.ingest, collection=str(folder), queries="", max_train_queries=0, max_test_queries=0)
    return replace(recipe, ingest=ingest, refine=replace(recipe.refine, production=str(folder / PRODUCTION), reference="auto"))


def is_live(recipe: Recipe, root: Path) -> bool:
    """Whether a recipe is that of a live round at this folder."""
    return recipe.ingest.collection == str(root.resolve() / FOLDER)


def better_documents(watched: Workspace, corpus: set[str]) -> dict[str, str]:
    """Return query -> the document that the judges found better, of failed searches that may teach; the surest one of each query."""
    drift = assess(Days(watched.root).sealed(), watched.recipe.watch)
    found: dict[str, tuple[float, str]] = {}
    for failed in drift.failures:
        failure, query = failed.failure, str(failed.row["query"])
        if failure.kind == "never_ingested" or held_out(query) or failure.doc_id not in corpus:
            continue
        win = 1.0 if failure.win is None else failure.win
        if query not in found or win > found[query][0]:
            found[query] = (win, failure.doc_id)
    return {query: doc_id for query, (_, doc_id) in found.items()}


def write_collection(folder: Path, parent: Workspace, watched: Workspace) -> tuple[int, int]:
    """Write the collection of a live round.

    Args:
        folder: to make.
        parent: whose corpus, queries and labels are taken over.
        watched: the workspace in which `zelo watch` runs.

    Returns:
        How many queries were added, and how many failed queries the parent has already.

    Raises:
        InputError: no failed search may teach.
    """
    known = {query.text: query for query in read_queries(parent.path("queries"))}
    with parent.path("corpus").open("rb") as lines:
        corpus = {json.loads(line)["_id"] for line in lines}
    better = better_documents(watched, corpus)
    if not better:
        what = "no failed live search may teach: none was judged, none has a better document in the corpus, or all are held out"
        raise InputError(what, where=str(watched.root), remedy="watch for some more days, or refine without --live")
    folder.mkdir(parents=True)
    (folder / "corpus.jsonl").write_bytes(parent.path("corpus").read_bytes())
    added = [Query(f"live-{_short(query)}", query) for query in better if query not in known]
    write_queries(folder / "queries.jsonl", [*known.values(), *added])
    labels = parent.path("qrels")
    if labels.is_dir() and any(labels.iterdir()):
        (folder / "qrels").mkdir()
        for path in labels.iterdir():
            (folder / "qrels" / path.name).write_bytes(path.read_bytes())
    lines_out = (json.dumps({"query": query, "doc_id": doc_id}, ensure_ascii=False) for query, doc_id in better.items())
    (folder / PRODUCTION).write_text("".join(f"{line}\n" for line in lines_out), "utf-8")
    write_json(folder / "meta.json", {"parent": parent.root.resolve().name, "added": len(added), "failed": len(better)})
    return len(added), len(better) - len(added)


def _short(query: str) -> str:
    return hashlib.blake2b(query.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
