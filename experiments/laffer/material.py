"""What the Laffer experiment is about: queries, who mines which negatives, and what simulated judges make of the candidates."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zelo.collections import open_collection
from zelo.core.calibration import targets
from zelo.core.comparison_graph import hamiltonian_cycles, rng_for
from zelo.core.fusion import min_max_fusion
from zelo.core.paired_comparison import Batch, fit_queries
from zelo.encoders.transformer import load_encoder
from zelo.judges import Comparison
from zelo.judges.simulated import SimulatedJudge
from zelo.retrievers.bm25 import Bm25Retriever
from zelo.retrievers.dense import DenseRetriever
from zelo.types import Document, Query

NEGATIVES = 4  # per query, and epoch after epoch the same
DEPTH = 50  # candidates that the judges compare: the fused first stage's best
DEGREE = 8  # comparisons of each candidate: 4 cycles, 200 pairs of 50 candidates
ACCURACY = (0.85, 0.89, 0.93)
MINERS = ("random", "bm25", "dense", "fused", "judges")
Vectors = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass
class Collection:
    """A collection with its first stages. Queries train or are reported on.

    Attributes:
        texts: document id -> text; its order is that of `vectors`.
        queries: id -> text, of both parts.
        gains: query id -> document id -> label above 0; all of them. Judges know them with noise, contrastive trainers know one.
        rankings: query id -> leg (bm25, dense, fused) -> document ids, best first.
        vectors, query_vectors: of the encoder as it comes: unit rows, in the order of `texts` and `queries`.
    """

    name: str
    texts: dict[str, str]
    queries: dict[str, str]
    train: list[str]
    test: list[str]
    gains: dict[str, dict[str, float]]
    rankings: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    vectors: Vectors = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    query_vectors: Vectors = field(default_factory=lambda: np.zeros((0, 0), np.float32))


@dataclass
class Example:
    """A training query: documents [1 + NEGATIVES] and targets. For contrastive losses: 1 for the first, 0 for the others."""

    query_id: str
    doc_ids: list[str]
    targets: Floats


def _order(query_id: str) -> str:
    return hashlib.blake2b(query_id.encode(), digest_size=16).hexdigest()


def open_material(source: str, most_train: int, most_test: int, cache: Path) -> Collection:
    """Read a collection, search it, and divide its queries.

    Training queries: those of `train`, else `dev`; where all labels are in `test`, half of it by a hash of the ids. Those with
    two or more relevant documents come first, because only they can have hidden ones.

    Args:
        source: folder or built-in name.
        most_train: queries to learn from.
        most_test: queries that are reported on.
        cache: file for the documents' vectors.
    """
    opened = open_collection(source)
    name = source.rstrip("/").rpartition("/")[2]
    texts = {d.doc_id: d.full_text for d in opened.documents()}
    labels: dict[str, dict[str, dict[str, float]]] = {}
    for split in opened.splits():
        for row in opened.qrels(split):
            if row.relevance > 0:
                labels.setdefault(split, {}).setdefault(row.query_id, {})[row.doc_id] = row.relevance
    test = sorted(labels["test"], key=_order)
    learn = sorted(labels.get("train") or labels.get("dev") or {}, key=_order)
    if not learn:
        learn, test = test[: len(test) // 2], test[len(test) // 2 :]
    gains = {q: g for of_split in labels.values() for q, g in of_split.items()}
    learn.sort(key=lambda q: len(gains[q]) < 2)
    learn, test = sorted(learn[:most_train], key=_order), test[:most_test]
    chosen = set(learn) | set(test)
    queries = {q.query_id: q.text for q in opened.queries() if q.query_id in chosen}
    found = Collection(name, texts, queries, learn, test, {q: gains[q] for q in queries})
    _search(found, list(opened.documents()), cache)
    return found


def _search(found: Collection, documents: list[Document], cache: Path) -> None:
    encoder = load_encoder(threads=1)
    if not cache.exists():
        np.save(cache, encoder.encode(list(found.texts.values())).pooled)
    found.vectors = np.load(cache)
    found.query_vectors = encoder.encode(list(found.queries.values())).pooled
    queries = [Query(i, text) for i, text in found.queries.items()]
    lexical = Bm25Retriever(documents).search(queries, 1000)
    dense = DenseRetriever(list(found.texts), found.vectors).search_vectors(list(found.queries), found.query_vectors, 1000)
    for query_id in found.queries:
        legs = [[(d.doc_id, d.score) for d in leg[query_id]] for leg in (lexical, dense)]
        fused = [doc_id for doc_id, _ in min_max_fusion(legs, depth=100)]
        found.rankings[query_id] = {"bm25": [d for d, _ in legs[0][:100]], "dense": [d for d, _ in legs[1][:100]], "fused": fused}


def judged(found: Collection, seed: int, accuracy: tuple[float, ...] = ACCURACY) -> dict[str, dict[str, tuple[float, float]]]:
    """Let simulated judges compare the candidates of every training query, and fit.

    Returns:
        query id -> document id -> (score, target), best first.
    """
    texts, queries = found.texts, {q: found.queries[q] for q in found.train}
    labels: dict[str, dict[str, float]] = {}
    for query_id, text in queries.items():
        labels.setdefault(text, {}).update({texts[d]: g for d, g in found.gains[query_id].items()})
    judges = [SimulatedJudge(f"simulated{a}", labels, accuracy=a, soft=False, correlation=0.3, seed=seed) for a in accuracy]
    result: dict[str, dict[str, tuple[float, float]]] = {}
    for query_id, text in queries.items():
        doc_ids = found.rankings[query_id]["fused"][:DEPTH]
        pairs = hamiltonian_cycles(len(doc_ids), DEGREE, rng_for(seed, query_id, "laffer"))
        asked = [Comparison(text, texts[doc_ids[i]], texts[doc_ids[j]]) for i, j in pairs.tolist()]
        votes = np.mean([[answer.preference for answer in judge.judge(asked)] for judge in judges], axis=0)
        batch = Batch(
            [len(doc_ids)], [0, len(pairs)], pairs[:, 0], pairs[:, 1], (1 + votes) / 2, weight=np.full(len(pairs), float(len(judges)))
        )
        score = fit_queries(batch, threads=1, stderr=False).score
        wanted = targets(score)
        result[query_id] = {doc_ids[i]: (float(score[i]), float(wanted[i])) for i in np.argsort(-score, kind="stable").tolist()}
    return result


def examples(found: Collection, system: str, scores: Mapping[str, Mapping[str, tuple[float, float]]], seed: int) -> list[Example]:
    """Return what a system learns from: as many queries and documents for each.

    Contrastive systems are named after their miner: a labeled document, drawn by the seed, against the miner's NEGATIVES best
    others. `mixed`: half of them fused, half random. `clean`: fused, without any labeled document (nobody can do that; it shows
    what hidden ones cost). `filtered`: fused, without those that the judges score above the midpoint of their scores' range.
    `zelo-...`: the judges' best document and the fused stage's best others, with targets from the scores; no label is used.
    `spread-...`: one document from each fifth of the judges' ranking instead, as `zelo train` draws them.
    """
    made = []
    for query_id in found.train:
        rng = rng_for(seed, query_id, "positive")
        known = sorted(found.gains[query_id])[int(rng.integers(len(found.gains[query_id])))]
        fused, of_query = found.rankings[query_id]["fused"], scores[query_id]
        if system.startswith(("zelo", "spread")):
            best, ascending = next(iter(of_query)), list(of_query)[::-1]
            doc_ids = [best, *[d for d in fused[:DEPTH] if d != best][:NEGATIVES]]
            if system.startswith("spread"):
                doc_ids = [str(part[int(rng.integers(len(part)))]) for part in np.array_split(np.array(ascending), NEGATIVES + 1)]
            made.append(Example(query_id, doc_ids, np.array([of_query[d][1] for d in doc_ids])))
            continue
        if system in ("random", "mixed"):
            everything = list(found.texts)
            mined = [everything[i] for i in rng.choice(len(everything), NEGATIVES + 1, replace=False)]
            if system == "mixed":
                mined = [*[d for d in fused if d != known][: NEGATIVES // 2], *mined]
        elif system == "judges":
            mined = list(of_query)
        elif system == "clean":
            mined = [d for d in fused if d not in found.gains[query_id]]
        elif system == "filtered":
            values = [score for score, _ in of_query.values()]
            mined = [d for d in fused[:DEPTH] if of_query[d][0] < (min(values) + max(values)) / 2]
        else:
            mined = found.rankings[query_id][system]
        doc_ids = [known, *[d for d in mined if d != known][:NEGATIVES]]
        made.append(Example(query_id, doc_ids, np.array([1.0] + [0.0] * (len(doc_ids) - 1))))
    return made


def hidden_share(found: Collection, made: list[Example]) -> float:
    """Return the share of negatives that carry a label the trainer does not know: real false negatives."""
    return float(np.mean([d in found.gains[e.query_id] for e in made for d in e.doc_ids[1:]]))
