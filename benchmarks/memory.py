"""Peak memory and CPU of the stages pair, fit and calibrate at the paper's size: 112,000 queries, 100 candidates, 400 comparisons each.

    python benchmarks/memory.py [--queries 112000] [--documents 1000000] [--folder FOLDER] [--json]

Writes a workspace as the stages before leave it (candidates drawn at random from the corpus), answers every pair by a coin that knows
the truth, and runs every stage in a process of its own, whose peak resident memory is what the system counts.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

CANDIDATES = 100


def prepare(root: Path, queries: int, documents: int) -> None:
    """Write corpus, splits and candidates."""
    from zelo.recipe import from_dict
    from zelo.workspace import Workspace

    recipe = from_dict({"ingest": {"collection": "made_up", "max_train_queries": 0}, "pair": {"queries": "train"}})
    Workspace.create(root, recipe)
    rng = np.random.default_rng(0)
    with (root / "corpus.jsonl").open("w") as out:
        for i in range(documents):
            out.write(json.dumps({"_id": f"doc{i}", "title": "", "text": f"text number {i} " + "word " * 20}) + "\n")
    with (root / "splits.tsv").open("w") as out:
        out.write("query-id\tsplit\n" + "".join(f"query{q}\ttrain\n" for q in range(queries)))
    (root / "candidates").mkdir()
    with (root / "candidates" / "fused.trec").open("w") as out:
        for q in range(queries):
            chosen = np.unique(rng.integers(documents, size=CANDIDATES + 8))
            ranks = enumerate(rng.permutation(chosen)[:CANDIDATES].tolist(), 1)
            out.writelines(f"query{q} Q0 doc{d} {rank} {1 / rank} fused\n" for rank, d in ranks)


def answer(root: Path) -> int:
    """Write preferences.parquet for the pairs: three votes each."""
    import pyarrow.parquet as pq

    from zelo.artifacts import write_parts

    rng = np.random.default_rng(1)

    def parts() -> Iterator[dict[str, Any]]:
        with pq.ParquetFile(root / "pairs" / "tournament.parquet") as file:
            for batch in file.iter_batches(500_000, columns=["query_id", "doc_id_a", "doc_id_b"]):
                n = batch.num_rows
                one = np.ones(n)
                votes = {"prob_a": rng.binomial(3, 0.5, n) / 3, "n_judges": np.full(n, 3)}
                yield {name: batch[name] for name in batch.schema.names} | votes | {"weight": 3 * one, "slope": one, "offset": 0 * one}

    return write_parts(root / "preferences.parquet", "preferences", parts())


def run_stage(root: Path, stage: str) -> dict[str, Any]:
    """Run a stage in this process and say what it took."""
    import importlib

    from zelo.pipeline import Context
    from zelo.progress import Silent
    from zelo.workspace import Workspace

    workspace = Workspace.open(root)
    before = time.process_time()
    outcome = importlib.import_module(f"zelo.stages.{stage}").run(Context(workspace, workspace.recipe, root, Silent()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {"stage": stage, "cpu_seconds": round(time.process_time() - before, 1), "peak_gb": round(peak, 3), "rows": dict(outcome.rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=112_000)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to work; otherwise a folder that is removed")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(run_stage(given.folder, given.only)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = given.folder or Path(scratch) / "ws"
        prepare(root, given.queries, given.documents)
        for stage in ("pair", "fit", "calibrate"):
            if stage == "fit":
                answer(root)
            command = [sys.executable, __file__, "--only", stage, "--folder", str(root)]
            row = {"queries": given.queries, **json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)}
            text = f"{row['queries']:,} queries  {stage:<10} {row['cpu_seconds']:>8.1f} s CPU  {row['peak_gb']:.2f} GB peak  {row['rows']}"
            print(json.dumps(row) if given.json else text, flush=True)


if __name__ == "__main__":
    main()
