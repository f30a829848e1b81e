"""First stage on real collections: nDCG@10 against the published figures, and encoding speed against sentence-transformers.

    python benchmarks/first_stage.py --collections FOLDER [--only scifact mtragun] [--json]

Each folder under FOLDER is a collection in BEIR's layout; its test split is evaluated. Published: 100 documents per leg,
nDCG@10 with linear gains, BM25 = Lucene k1 1.5, b 0.75 with English stemming and stop words, dense = all-MiniLM-L6-v2, RRF
with k = 60, min-max with equal weights. `--json` prints one object {name, value, unit, baseline, ratio} per line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zelo.collections.beir import BeirFolder
from zelo.core.fusion import min_max_fusion, reciprocal_rank_fusion
from zelo.core.metrics import evaluate_ranking
from zelo.encoders.extras import import_extra
from zelo.encoders.openvino_engine import load_sentence_transformer
from zelo.encoders.transformer import Encoder, load_encoder
from zelo.encoders.weights import resolve_model
from zelo.errors import ZeloError
from zelo.retrievers.bm25 import Bm25Retriever
from zelo.retrievers.dense import DenseRetriever
from zelo.types import Document, Query, ScoredDoc

PUBLISHED = {
    "scifact": {"BM25": 0.686, "dense": 0.647, "RRF": 0.717, "min-max": 0.728},
    "cosqa": {"BM25": 0.332, "dense": 0.592, "RRF": 0.478, "min-max": 0.540},
    "tatqa": {"BM25": 0.498, "dense": 0.391, "RRF": 0.495, "min-max": 0.501},
    "pubmedqa": {"BM25": 0.975, "dense": 0.985, "RRF": 0.984, "min-max": 0.990},
    "legalsum": {"BM25": 0.459, "dense": 0.458, "RRF": 0.499, "min-max": 0.506},
    "mtragun": {"BM25": 0.772, "dense": 0.764, "RRF": 0.810, "min-max": 0.840},
}
"""nDCG@10 on the test split, legs 100 deep."""

Rankings = Mapping[str, Sequence[tuple[str, float]]]
Row = dict[str, Any]


def row(name: str, value: float, unit: str, baseline: float | None) -> Row:
    """Return one line of the output; `ratio` is value / baseline."""
    return {"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": value / baseline if baseline else None}


def by_rank(ranking: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Replace scores by negative ranks, so that an evaluator with another rule for ties keeps the order."""
    return [(doc_id, -float(rank)) for rank, (doc_id, _) in enumerate(ranking)]


def fused(legs: Sequence[Mapping[str, Sequence[ScoredDoc]]], leg_depth: int) -> dict[str, dict[str, list[tuple[str, float]]]]:
    """Return system -> query_id -> ranking, each 100 deep, for the legs BM25 and dense and their two fusions."""
    systems: dict[str, dict[str, list[tuple[str, float]]]] = {"BM25": {}, "dense": {}, "RRF": {}, "min-max": {}}
    for query_id in legs[0]:
        pair = [[(scored.doc_id, scored.score) for scored in leg[query_id][:leg_depth]] for leg in legs]
        systems["BM25"][query_id], systems["dense"][query_id] = pair[0][:100], pair[1][:100]
        systems["RRF"][query_id] = reciprocal_rank_fusion(pair, k=60, depth=100)
        systems["min-max"][query_id] = min_max_fusion(pair, depth=100)
    return systems


def read(folder: Path) -> tuple[list[Document], list[Query], dict[str, dict[str, float]]]:
    """Return the corpus, the queries of the test split, and its labels."""
    collection = BeirFolder(folder)
    qrels: dict[str, dict[str, float]] = {}
    for qrel in collection.qrels("test"):
        qrels.setdefault(qrel.query_id, {})[qrel.doc_id] = qrel.relevance
    return list(collection.documents()), [query for query in collection.queries() if query.query_id in qrels], qrels


def evaluate(rankings: Rankings, qrels: Mapping[str, Mapping[str, float]], measure: str) -> float:
    """Return the mean of a measure over all queries of the labels."""
    values = evaluate_ranking({query_id: by_rank(ranking) for query_id, ranking in rankings.items()}, qrels, [measure])
    return statistics.fmean(values[measure].values())


def quality(name: str, folder: Path, encoder: Encoder) -> Iterator[Row]:
    """Yield nDCG@10 and Recall@100 of the four systems, with legs 100 and 1,000 deep."""
    documents, queries, qrels = read(folder)
    vectors = encoder.encode([document.full_text for document in documents]).pooled
    dense = DenseRetriever([document.doc_id for document in documents], vectors, lambda texts: encoder.encode(texts).pooled)
    legs = [Bm25Retriever(documents, language="en").search(queries, 1000), dense.search(queries, 1000)]
    for depth in (100, 1000):
        for system, rankings in fused(legs, depth).items():
            if depth == 1000 and system in ("BM25", "dense"):
                continue  # depth concerns fusion only
            label = f"{name} {system}" + (f", legs {depth} deep" if system in ("RRF", "min-max") else "")
            published = PUBLISHED.get(name, {}).get(system) if depth == 100 else None
            yield row(f"{label}: nDCG@10", evaluate(rankings, qrels, "nDCG@10"), "nDCG@10", published)
            yield row(f"{label}: Recall@100", evaluate(rankings, qrels, "Recall@100"), "recall", None)


def speed(texts: list[str], threads: int) -> Iterator[Row]:
    """Yield texts per CPU-second of each engine; the baseline is sentence-transformers' own encode in float32."""
    torch = import_extra("torch", "torch")
    torch.set_num_threads(threads)
    reference = load_sentence_transformer(resolve_model())
    openvino, plain = load_encoder(engine="openvino", threads=threads), load_encoder(engine="torch", threads=threads)
    systems: dict[str, Callable[[], object]] = {
        "sentence-transformers torch f32": lambda: reference.encode(texts, show_progress_bar=False),
        "zelo torch f32": lambda: plain.encode(texts),
        f"zelo openvino {openvino.precision}": lambda: openvino.encode(texts),
        f"zelo openvino {openvino.precision} with token vectors": lambda: openvino.encode(texts, tokens=True),
    }
    seconds = dict.fromkeys(systems, float("inf"))
    for _ in range(2):  # alternating, and the better of two: other work on the machine disturbs each alike
        for name, run in systems.items():
            start = time.process_time()
            run()
            seconds[name] = min(seconds[name], time.process_time() - start)
    baseline = len(texts) / seconds["sentence-transformers torch f32"]
    for name, spent in seconds.items():
        yield row(
            f"encode {len(texts)} texts, {threads} threads of {os.cpu_count()} cores: {name}", len(texts) / spent, "texts/CPU-s", baseline
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--collections", type=Path, required=True, help="folder of collections in BEIR's layout")
    parser.add_argument("--only", nargs="+", default=["scifact", "cosqa", "mtragun"], help="names of collections")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--speed-texts", type=int, default=200, help="texts to time encoding with; 0: do not time it")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    options = parser.parse_args(arguments)

    def show(line: Row) -> None:
        if options.json:
            text = json.dumps(line)
        else:
            baseline = "" if line["baseline"] is None else f"{line['baseline']:10.3f}{line['ratio']:8.3f}"
            text = f"{line['name']:<90}{line['value']:10.4f} {line['unit']:<12}{baseline}"
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    encoder = load_encoder(threads=options.threads)
    for name in options.only:
        for line in quality(name, options.collections / name, encoder):
            show(line)
    if options.speed_texts:
        documents = BeirFolder(options.collections / options.only[0]).documents()
        texts = [document.full_text for document, _ in zip(documents, range(options.speed_texts), strict=False)]
        for line in speed(texts, options.threads):
            show(line)
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except ZeloError as error:
        raise SystemExit(f"first_stage: {error}") from None
