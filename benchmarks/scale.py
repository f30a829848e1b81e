"""Seconds and peak memory of the stages from documents to scores, on synthetic corpora of growing size.

    python benchmarks/scale.py [--documents 10000 100000 1000000] [--queries 500] [--engine memory] [--json]

Every stage runs in a process of its own; CPU seconds are of all its threads, peak memory is what the system counts. The texts are words
drawn by Zipf's law, 60 on average; questions are words of a document. `encode` is not run on them: the files of vectors are written
with random unit vectors, and its time is what the encoder takes for 400 of the texts, times their number (`encode*`). The judge is a
function that weighs words in common. The exponent is that of seconds (of memory) from each size to the next: 1 = linear.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

STAGES = ("ingest", "encode*", "retrieve", "pair", "judge", "pool", "fit")
DIMENSION, WORDS, SAMPLE = 384, 200_000, 400
JUDGE = """
from zelo.judges import Answer


class Judge:
    name, prompt_id = "words", "1"

    def judge(self, comparisons):
        return [Answer(self.one(c)) for c in comparisons]

    def one(self, c):
        words = set(c.query.split())
        a, b = (len(words.intersection(text.split())) for text in (c.first, c.second))
        return (a - b) / (1 + a + b)


def make(recipe):
    return Judge()
"""


def collect(folder: Path, documents: int, queries: int) -> None:
    """Write a synthetic collection in BEIR's layout."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    words = np.array([f"w{i:x}" for i in range(WORDS)])
    chosen = set(rng.choice(documents, queries, replace=False).tolist())
    with (folder / "corpus.jsonl").open("w") as corpus, (folder / "queries.jsonl").open("w") as asked:
        for start in range(0, documents, 10_000):
            count = min(10_000, documents - start)
            lengths = rng.poisson(60, count)
            drawn = np.split(words[np.minimum(rng.zipf(1.15, lengths.sum()), WORDS) - 1], np.cumsum(lengths)[:-1])
            for i, own in enumerate(drawn, start):
                corpus.write(json.dumps({"_id": f"doc{i}", "title": "", "text": " ".join(own.tolist())}) + "\n")
                if i in chosen:
                    rare = sorted(set(own.tolist()), key=len)[-6:]
                    asked.write(json.dumps({"_id": f"query{i}", "text": " ".join([f"about{i}", *rare])}) + "\n")


def make(root: Path, folder: Path, engine: str, index: str) -> None:
    """Make the workspace."""
    from zelo.recipe import from_dict
    from zelo.workspace import Workspace

    (folder / "cheap_judge.py").write_text(JUDGE)
    sections = {
        "ingest": {"collection": str(folder), "max_train_queries": 0},
        "retrieve": {"engine": engine, "index": index, "language": "en"},
        "judge": {"ensemble": ["python:cheap_judge:make"]},
    }
    Workspace.create(root, from_dict(sections))


def vectors(root: Path) -> dict[str, Any]:
    """Write random vectors as the stage encode would write its own; say what the encoder takes for a sample, times the number of texts."""
    from zelo.collections.beir import read_corpus, read_queries
    from zelo.encoders.transformer import load_encoder
    from zelo.encoders.vectors import TextVectors, save_vectors

    rng = np.random.default_rng(1)
    corpus = [(d.doc_id, d.full_text if i < SAMPLE else "") for i, d in enumerate(read_corpus(root / "corpus.jsonl"))]
    asked = [(q.query_id, q.text) for q in read_queries(root / "queries.jsonl")]
    for kind, rows in (("documents", corpus), ("queries", asked)):
        pooled = rng.standard_normal((len(rows), DIMENSION), np.float32)
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
        offsets = np.zeros(len(rows) + 1, np.int64)
        save_vectors(root / "vectors" / kind, [name for name, _ in rows], TextVectors(pooled, None, offsets, np.zeros(0, np.int32)))
    sample = [text for _, text in corpus[:SAMPLE]]
    encoder = load_encoder()
    encoder.encode(sample[:32])
    before = time.process_time()
    encoder.encode(sample)
    each = (time.process_time() - before) / len(sample)
    return {"cpu_seconds": each * len(corpus), "rows": {"texts per CPU second": round(1 / each)}}


def run_stage(root: Path, stage: str) -> dict[str, Any]:
    """Run a stage in this process and say what it took."""
    from zelo.pipeline import Context
    from zelo.progress import Silent
    from zelo.workspace import Workspace

    before, clock = time.process_time(), time.perf_counter()
    if stage == "encode*":
        found = vectors(root)
    else:
        workspace = Workspace.open(root)
        outcome = importlib.import_module(f"zelo.stages.{stage}").run(Context(workspace, workspace.recipe, root, Silent()))
        found = {"cpu_seconds": time.process_time() - before, "rows": dict(outcome.rows)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {"stage": stage, "seconds": time.perf_counter() - clock, "peak_gb": peak, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--engine", choices=("memory", "lancedb"), default="memory")
    parser.add_argument("--index", choices=("exact", "ivf"), default="exact")
    parser.add_argument("--folder", type=Path, help="where to work; otherwise a folder that is removed")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(run_stage(given.folder, given.only)))
        return
    before: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for documents in sorted(given.documents):
            root = (given.folder or Path(scratch)) / f"{documents}"
            collect(root / "collection", documents, given.queries)
            make(root / "ws", root / "collection", given.engine, given.index)
            for stage in STAGES:
                command = [sys.executable, str(Path(__file__).resolve()), "--only", stage, "--folder", str((root / "ws").resolve())]
                ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=root / "collection")
                row = {"documents": documents, "queries": given.queries, **json.loads(ran.stdout.splitlines()[-1])}
                was = before.get(stage)
                for name in ("cpu_seconds", "peak_gb"):
                    row[f"exponent_{name}"] = math.log(row[name] / was[name]) / math.log(documents / was["documents"]) if was else None
                before[stage] = row
                print(json.dumps(row) if given.json else line(row), flush=True)


def line(row: dict[str, Any]) -> str:
    """Return a row as text."""
    exponents = [row["exponent_cpu_seconds"], row["exponent_peak_gb"]]
    grown = "".join(f"{'' if e is None else f'{e:.2f}':>7}" for e in exponents)
    return f"{row['documents']:>10,} {row['stage']:<10} {row['cpu_seconds']:>9.1f} s CPU {row['peak_gb']:>7.2f} GB {grown}  {row['rows']}"


if __name__ == "__main__":
    main()
