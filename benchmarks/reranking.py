"""Pairs per second of zelo's engines beside sentence-transformers in one process, and what the faster ones lose.

    zelo run ws && zelo optimize ws       # a workspace whose student is a cross_encoder
    python benchmarks/reranking.py encoder ws/models/pointwise --collections FOLDER
    python benchmarks/reranking.py quality ws/models/pointwise --collections FOLDER
    python benchmarks/reranking.py decoder --collections FOLDER

FOLDER holds collections in BEIR's layout, scifact and mtragun among them. Pairs are queries of the test split with what BM25 finds for
them, cut at 512 tokens, so their lengths are those of life. Engines take turns on the same pairs; of several turns the best counts.
Both ways to call are measured: all pairs at once, which sentence-transformers sorts by length, and a call per query, as rerankers are used.
`quality` compares nDCG@10 by human labels; low and high: 95 % of the difference to float32.
`decoder` makes a random Qwen3 of 8 layers and width 512: its speed is that of a trained one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.collections.beir import BeirFolder
from zelo.core.metrics import evaluate_ranking
from zelo.core.significance import bootstrap_interval
from zelo.encoders.extras import import_extra
from zelo.encoders.openvino_engine import quiet
from zelo.encoders.processor import cores, describe, instruction_sets
from zelo.rerankers.compiled import compiled_classifier
from zelo.rerankers.engines import ABOUT, FOLDER
from zelo.rerankers.export import export_model
from zelo.rerankers.pointwise import PointwiseReranker
from zelo.rerankers.scorer import common_prefix
from zelo.retrievers.bm25 import Bm25Retriever

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from tiny_models import write_tiny_qwen

FloatArray = NDArray[np.float64]
COLLECTIONS = ("scifact", "mtragun")
INSTRUCTION = "Judge whether the document supports or refutes the claim below, by what it states and not by what is known. "


@dataclass(frozen=True)
class Asked:
    """A query with its candidates, best first by BM25."""

    query_id: str
    text: str
    doc_ids: list[str]
    documents: list[str]


def questions(folder: Path, queries: int, depth: int) -> tuple[list[Asked], dict[str, dict[str, float]]]:
    """Return some queries of the test split with their candidates, and their labels."""
    collection = BeirFolder(folder)
    qrels: dict[str, dict[str, float]] = {}
    for qrel in collection.qrels("test"):
        qrels.setdefault(qrel.query_id, {})[qrel.doc_id] = qrel.relevance
    documents = list(collection.documents())
    texts = {d.doc_id: d.full_text for d in documents}
    labeled = sorted((q for q in collection.queries() if q.query_id in qrels), key=lambda q: q.query_id)
    rng = np.random.default_rng(0)
    chosen = [labeled[i] for i in sorted(rng.permutation(len(labeled))[:queries].tolist())]
    found = Bm25Retriever(documents).search(chosen, depth)
    asked = [Asked(q.query_id, q.text, [s.doc_id for s in found[q.query_id]], [texts[s.doc_id] for s in found[q.query_id]]) for q in chosen]
    return asked, {q.query_id: qrels[q.query_id] for q in chosen}


def turns(systems: dict[str, Callable[[], object]], rounds: int) -> tuple[dict[str, float], dict[str, FloatArray]]:
    """Return the seconds of each, the best of some turns after one that warms up, and what it gave."""
    best, found = dict.fromkeys(systems, float("inf")), dict[str, FloatArray]()
    for turn in range(rounds + 1):
        for name, score in systems.items():
            start = time.perf_counter()
            found[name] = np.asarray(score(), np.float64)
            if turn or rounds == 0:
                best[name] = min(best[name], time.perf_counter() - start)
    return best, found


def cross_encoder(folder: Path, longest: int, dtype: str = "float32") -> object:
    """Load a folder with sentence-transformers."""
    library, torch = import_extra("sentence_transformers", "sentence-transformers"), import_extra("torch", "torch")
    with quiet():
        return library.CrossEncoder(str(folder), device="cpu", max_length=longest, model_kwargs={"dtype": getattr(torch, dtype)})


def engines(model: Path, longest: int, *, torch: bool) -> dict[str, PointwiseReranker]:
    """Load a model with every engine that computes it here; bfloat16 is what `zelo optimize` keeps where bytes lose too much."""
    names = [*(["torch"] if torch else []), "openvino", *(["optimized"] if (model / FOLDER / ABOUT).is_file() else [])]
    loaded = {name: PointwiseReranker.load(model, device="cpu", max_tokens=longest, engine=name) for name in names}
    if "bf16" in instruction_sets():
        loaded["openvino, bfloat16"] = PointwiseReranker.load(model, device="cpu", max_tokens=longest, engine="openvino")
        loaded["openvino, bfloat16"].scorer = compiled_classifier(model, precision="bf16")
    return loaded


def encoder(model: Path, collections: Path, pairs: int, rounds: int, longest: int, depth: int, few: bool) -> list[dict[str, object]]:
    """Compare speeds on real pairs of both collections, in two ways: all pairs in one call, and a call per query with its candidates."""
    each = max(1, pairs // depth // len(COLLECTIONS))
    asked = [q for name in COLLECTIONS for q in questions(collections / name, each, depth)[0]]
    chosen = [(q.text, d) for q in asked for d in q.documents]
    plain = PointwiseReranker.load(model, device="cpu", max_tokens=longest)
    lengths = np.array([len(s) for q in asked for s in plain.template.sequences(q.text, q.documents)])
    reference, halves = cross_encoder(model, longest), cross_encoder(model, longest, "bfloat16")
    theirs: list[tuple[str, Any, int]] = [("default", reference, 32)]
    theirs += [] if few else [("batches of 8", reference, 8), ("bfloat16", halves, 32), ("bfloat16, batches of 8", halves, 8)]
    systems: dict[str, Callable[[], object]] = {}
    for name, system, size in theirs:
        systems[f"sentence-transformers, {name}; one call"] = lambda system=system, size=size: _predict(system, [chosen], size)
        systems[f"sentence-transformers, {name}; per query"] = lambda system=system, size=size: _predict(
            system, [[(q.text, d) for d in q.documents] for q in asked], size
        )
    for engine, loaded in engines(model, longest, torch=not few).items():
        systems[f"zelo, {engine}; one call"] = lambda loaded=loaded: np.concatenate(
            loaded.score_many([(q.text, q.documents) for q in asked])
        )
        systems[f"zelo, {engine}; per query"] = lambda loaded=loaded: np.concatenate([loaded.score(q.text, q.documents) for q in asked])
    seconds, found = turns(systems, rounds)
    exact = found["sentence-transformers, default; one call"]
    spread = np.quantile(lengths, [0.1, 0.5, 0.9]).astype(int).tolist()
    about = {"pairs": len(chosen), "queries": len(asked), "mean_tokens": round(float(lengths.mean())), "tokens_10_50_90": spread}
    rows: list[dict[str, object]] = []
    for name, taken in seconds.items():
        way = name.partition("; ")[2]
        best = min(t for n, t in seconds.items() if n.startswith("sentence") and n.endswith(way))
        rows.append({
            "name": name,
            "pairs_per_s": round(len(chosen) / taken, 1),
            "ratio_to_default": round(seconds[f"sentence-transformers, default; {way}"] / taken, 2),
            "ratio_to_their_best": round(best / taken, 2),
            "correlation": round(float(np.corrcoef(found[name], exact)[0, 1]), 4),
            **about,
        })  # fmt: skip
    return rows


def _predict(system: Any, calls: Sequence[Sequence[tuple[str, str]]], batch_size: int) -> FloatArray:
    return np.concatenate([system.predict(list(pairs), batch_size=batch_size, show_progress_bar=False) for pairs in calls])


def quality(model: Path, collections: Path, queries: int, depth: int, longest: int) -> list[dict[str, object]]:
    """Compare nDCG@10 by labels, and scores with sentence-transformers' on a few pairs."""
    rows: list[dict[str, object]] = []
    reference = cross_encoder(model, longest)
    loaded = engines(model, longest, torch=False)
    for name in COLLECTIONS:
        asked, qrels = questions(collections / name, queries, depth)
        few = [(asked[0].text, d) for d in asked[0].documents[:8]]
        same = np.abs(np.asarray(reference.predict(few)) - loaded["openvino"].score(few[0][0], [d for _, d in few])).max()  # type: ignore[attr-defined]
        exact: dict[str, float] = {}
        for engine, system in loaded.items():
            start = time.perf_counter()
            run = {q.query_id: list(zip(q.doc_ids, system.score(q.text, q.documents).tolist(), strict=True)) for q in asked}
            seconds = time.perf_counter() - start
            values = evaluate_ranking(run, qrels, ["nDCG@10"])["nDCG@10"]
            exact = exact or dict(values)
            value, full = (float(np.mean(list(v.values()))) for v in (values, exact))
            row = {"name": f"{name}, {engine}", "nDCG@10": round(value, 4), "kept": round(value / full, 4), "queries": len(asked)}
            lost = np.array([values[q] - exact[q] for q in exact])
            low, high = bootstrap_interval(lost, 0.95, 10_000, rng=np.random.default_rng(0))
            rows.append(
                {**row, "low": round(low, 4), "high": round(high, 4), "depth": depth, "pairs_per_s": round(depth * len(asked) / seconds, 1)}
            )
        rows[-1]["openvino_to_sentence_transformers"] = f"{same:.1e}"
        first = {q.query_id: [(d, -float(i)) for i, d in enumerate(q.doc_ids)] for q in asked}
        bm25 = float(np.mean(list(evaluate_ranking(first, qrels, ["nDCG@10"])["nDCG@10"].values())))
        rows.append({"name": f"{name}, BM25", "nDCG@10": round(bm25, 4)})
    return rows


def decoder(collections: Path, documents: int, rounds: int, instruction: int) -> list[dict[str, object]]:
    """Compare a language model on one query, after an instruction of so many words, with many documents."""
    asked, _ = questions(collections / "scifact", 1, documents)
    texts = [d.full_text for d in BeirFolder(collections / "scifact").documents()]
    with tempfile.TemporaryDirectory() as temporary:
        plain = write_tiny_qwen(
            Path(temporary) / "plain", ["Yes system user assistant"] * 99 + texts[:1000], dim=512, layers=8, vocabulary=4000
        )
        folder = export_model(plain, Path(temporary) / "merged", "merged")
        model = PointwiseReranker.load(folder, device="cpu")
        reference = cross_encoder(folder, model.max_tokens)
        halves = PointwiseReranker.load(folder, device="cpu", precision="bfloat16")
        question = " ".join([*(INSTRUCTION * instruction).split()[:instruction], asked[0].text])
        candidates = asked[0].documents
        pairs = [(question, d) for d in candidates]
        groups = model.template.sequences(question, candidates)
        systems: dict[str, Callable[[], object]] = {
            "sentence-transformers, default": lambda: reference.predict(pairs, show_progress_bar=False),  # type: ignore[attr-defined]
            "sentence-transformers, batches of 4": lambda: reference.predict(pairs, batch_size=4, show_progress_bar=False),  # type: ignore[attr-defined]
            "zelo, without a shared prefix": lambda: model.scorer.score(groups),  # type: ignore[attr-defined]
            "zelo, float32": lambda: model.logits(question, candidates),
            "zelo, bfloat16": lambda: halves.logits(question, candidates),
        }
        seconds, found = turns(systems, rounds)
        exact = found["sentence-transformers, default"]
        differences = {name: float(np.abs(values - exact).max() / np.std(exact)) for name, values in found.items()}
    theirs = min(taken for name, taken in seconds.items() if name.startswith("sentence"))
    lengths = np.array([len(g) for g in groups])
    return [
        {
            "name": name,
            "seconds": round(taken, 2),
            "ratio_to_default": round(seconds["sentence-transformers, default"] / taken, 2),
            "ratio_to_their_best": round(theirs / taken, 2),
            "documents": len(pairs),
            "mean_tokens": round(float(lengths.mean())),
            "prefix": common_prefix(groups),
            "largest_difference_in_sd_of_logits": f"{differences[name]:.0e}",
        }
        for name, taken in seconds.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["encoder", "quality", "decoder"])
    parser.add_argument("model", type=Path, nargs="?", help="a model folder that zelo trained; not for decoder")
    parser.add_argument("--collections", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=400, help="of whole queries, half of each collection, for encoder")
    parser.add_argument("--few", action="store_true", help="sentence-transformers at its defaults and the compiled engines only")
    parser.add_argument("--rounds", type=int, default=2, help="0 = one turn, nothing warmed up")
    parser.add_argument("--longest", type=int, default=512, help="tokens; for quality the model's own limit is a better choice")
    parser.add_argument("--queries", type=int, default=100, help="of each collection, for quality")
    parser.add_argument("--depth", type=int, default=50, help="candidates per query, for encoder and quality")
    parser.add_argument("--documents", type=int, default=100, help="for decoder")
    parser.add_argument("--instruction", type=int, default=0, help="words before the query, for decoder")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    given = parser.parse_args(arguments)
    import_extra("torch", "torch").set_num_threads(cores())
    if given.what == "decoder":
        rows = decoder(given.collections, given.documents, given.rounds, given.instruction)
    elif given.model is None:
        parser.error("name a model folder")
    elif given.what == "encoder":
        rows = encoder(given.model, given.collections, given.pairs, given.rounds, given.longest, given.depth, given.few)
    else:
        rows = quality(given.model, given.collections, given.queries, given.depth, given.longest)
    print(json.dumps({"processor": describe()}) if given.json else describe())
    for row in rows:
        print(
            json.dumps(row) if given.json else "  ".join(f"{value if name == 'name' else f'{name} {value}'}" for name, value in row.items())
        )


if __name__ == "__main__":
    main()
