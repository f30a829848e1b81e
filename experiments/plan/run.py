"""Does `zelo plan` of a recipe say what small runs then take? Bytes, calls, tokens and CPU seconds per stage, planned and measured.

    python experiments/plan/run.py COLLECTIONS/scifact COLLECTIONS/cosqa --out results.jsonl

Every collection is cut to its first documents and queries, the line runs on it in a scratch folder, and its plan is made of nothing but
the recipe and the collection's counts and mean lengths. CPU seconds are of all threads of the process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zelo import recipe as recipes
from zelo import runner
from zelo.collections import open_collection
from zelo.collections.beir import read_corpus, read_queries, write_corpus, write_qrels, write_queries
from zelo.planning.scale import CHARACTERS_PER_TOKEN, plan_recipe
from zelo.recipe import Recipe
from zelo.runner import State
from zelo.workspace import Entry, Workspace


def cut(source: str, target: Path, documents: int, queries: int) -> None:
    """Write the first queries of a collection with labeled documents, and then others, as a collection of its own; half is for testing."""
    whole = open_collection(source)
    target.mkdir(parents=True)
    (target / "qrels").mkdir()
    labels = {(r.query_id, r.doc_id): r for split in whole.splits() for r in whole.qrels(split)}
    labeled = {q for q, _ in labels}
    asked = [q for q in whole.queries() if q.query_id in labeled][:queries]
    ids = {q.query_id for q in asked}
    wanted = dict.fromkeys(d for q, d in labels if q in ids)
    kept = set(itertools.islice(itertools.chain(wanted, (d.doc_id for d in whole.documents() if d.doc_id not in wanted)), documents))
    write_corpus(target / "corpus.jsonl", (d for d in whole.documents() if d.doc_id in kept))
    write_queries(target / "queries.jsonl", asked)
    tested = {q.query_id for q in asked[1::2]}
    write_qrels(target / "qrels" / "test.tsv", (r for (q, d), r in labels.items() if q in tested and d in kept))


def measured(root: Path, recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Run the line; return CPU seconds, bytes and rows of every stage."""
    found: dict[str, dict[str, Any]] = {}
    clock = [time.process_time()]

    def told(state: State, entry: Entry | None) -> None:
        if entry is None:
            clock[0] = time.process_time()
        else:
            found[state.stage.name] = {"cpu": time.process_time() - clock[0], "rows": dict(entry.rows)}

    workspace = Workspace.create(root, recipe)
    runner.run(workspace, on_stage=told)
    for stage in found:
        entry = workspace.entry(stage)
        paths = [workspace.path(a) for a in entry.writes] if entry else []
        found[stage]["bytes"] = sum(f.stat().st_size for p in paths for f in ([p] if p.is_file() else p.rglob("*")) if f.is_file())
    return found


def with_counts(workspace: Workspace) -> Recipe:
    """Return the recipe with its section [plan] set to what the collection has: counts and mean lengths."""
    texts = [len(d.full_text) for d in read_corpus(workspace.path("corpus"))]
    questions = [len(q.text) for q in read_queries(workspace.path("queries"))]
    ids, names = ([d.doc_id for d in read_corpus(workspace.path("corpus"))], [q.query_id for q in read_queries(workspace.path("queries"))])
    splits = workspace.path("splits").read_text("utf-8").split("\n")
    return workspace.recipe.with_settings(
        {
            "plan.documents": str(len(texts)),
            "plan.queries": str(sum(line.endswith("\ttrain") for line in splits)),
            "plan.test_queries": str(sum(line.endswith("\ttest") for line in splits)),
            "plan.document_tokens": str(sum(texts) / len(texts) / CHARACTERS_PER_TOKEN),
            "plan.id_characters": str(sum(map(len, ids)) / len(ids) + sum(map(len, names)) / len(names)),
            "plan.query_tokens": str(sum(questions) / len(questions) / CHARACTERS_PER_TOKEN),
        }
    )


def compared(source: str, settings: dict[str, str], documents: int, queries: int, scratch: Path) -> Iterator[dict[str, Any]]:
    """Yield a row per stage and quantity."""
    name = f"{Path(source).name}-{documents}x{queries}"
    cut(source, scratch / name, documents, queries)
    recipe = recipes.load("demo").with_settings({"ingest.collection": str(scratch / name), "report.examples": "2", **settings})
    root = scratch / f"{name}-ws"
    measured(scratch / f"{name}-warm", recipe)  # compiles, loads the encoder
    found = measured(root, recipe)
    plan = plan_recipe(with_counts(Workspace.open(root)))
    for need in plan.needs:
        for quantity, planned in (("cpu", need.core_seconds), ("bytes", need.bytes)):
            took = found[need.stage][quantity]
            ratio = planned / took if took else None
            yield {"collection": name, "stage": need.stage, "quantity": quantity, "planned": planned, "measured": took, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+")
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--queries", type=int, default=80)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    settings = dict(one.split("=", 1) for one in given.set)
    with tempfile.TemporaryDirectory() as scratch:
        for source in given.collections:
            for row in compared(source, settings, given.documents, given.queries, Path(scratch)):
                numbers = f"{row['planned']:>14,.2f} {row['measured']:>14,.2f} {row['ratio'] or 0:.2f}"
                print(f"{row['collection']:<22} {row['stage']:<10} {row['quantity']:<6} {numbers}")
                if given.out:
                    with given.out.open("a") as handle:
                        handle.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
