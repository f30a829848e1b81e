"""Does weighing judges by their agreement help, and where should agreement be looked at?

python experiments/judges/run.py --collections FOLDER --cache FOLDER [--only scifact ...] [--questions 150] [--threads 1]

Reranks the candidates of real questions by the zELO fit of single judges and of votes, and measures nDCG@10. Labels are read
for measuring only, and for the two systems named "oracle", which are bounds and no method. No question of a test split that
reports elsewhere is touched: train or dev splits, the training half of collections that have neither. Vectors are kept in the
cache folder. Writes results.jsonl beside this file and prints the table of README.md; with other
collections or another number of questions it writes to --out alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.collections import Collection, open_collection
from zelo.core.comparison_graph import hamiltonian_cycles, rng_for
from zelo.core.fusion import min_max_fusion
from zelo.core.metrics import evaluate_ranking
from zelo.core.paired_comparison import fit_query
from zelo.core.pooling import pool
from zelo.core.reliability import reliabilities, top_agreement, vote_weights
from zelo.core.significance import bootstrap_interval, paired_randomization_test
from zelo.encoders.lexical import detect_language
from zelo.encoders.similarity import LateInteraction, LexicalStatistics, VectorBank, token_frequency
from zelo.encoders.transformer import Encoder, TextVectors, load_encoder, load_vectors, save_vectors
from zelo.judges import JUDGES, Comparison, Judge, Materials, make_judge, retrieval
from zelo.recipe import Ingest
from zelo.retrievers.bm25 import Bm25Retriever
from zelo.retrievers.dense import DenseRetriever
from zelo.stages.ingest import choose_questions
from zelo.types import Document, Query

FloatArray = NDArray[np.float64]
SPLIT = {"scifact": "train", "cosqa": "dev", "tatqa": "dev", "python_docs": "dev", "legalsum": "test", "mtragun": "test"}
"""The labels that measure; of "test" only the half of the questions that `choose_questions` gives to training."""
SLOPES = (0.1, 0.5, 1.0, 1000.0)  # beside the product's; 1000: every vote is -1 or 1
SEED, DEGREE, RESAMPLES = 0, 8, 10_000
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A question with its candidates; equal texts are judged once, `stands_for[i]` is the place of candidate i's text."""

    query: Query
    doc_ids: list[str]
    stands_for: list[int]
    texts: list[str]
    edges: NDArray[np.int64]
    qrels: dict[str, float]
    first_stage: dict[str, list[str]]

    def comparisons(self) -> list[Comparison]:
        """Show every pair."""
        return [Comparison(self.query.text, self.texts[i], self.texts[j]) for i, j in self.edges.tolist()]

    def fit(self, prob: FloatArray, weight: FloatArray | None = None) -> FloatArray:
        """Return the scores of the texts."""
        return fit_query(len(self.texts), self.edges[:, 0], self.edges[:, 1], prob, weight).score

    def ndcg(self, score: FloatArray) -> float:
        """Return nDCG@10 of the candidates reranked by the scores of the texts; equal scores keep the first stage's order."""
        order = sorted(range(len(self.doc_ids)), key=lambda i: -score[self.stands_for[i]])
        return self.ndcg_of([self.doc_ids[i] for i in order])

    def ndcg_of(self, ranking: Sequence[str]) -> float:
        """Return nDCG@10 of a ranking."""
        by_rank = [(doc_id, -float(rank)) for rank, doc_id in enumerate(ranking)]
        return evaluate_ranking({"q": by_rank}, {"q": self.qrels}, ["nDCG@10"])["nDCG@10"]["q"]


def questions(collection: Collection, name: str, limit: int) -> tuple[list[Query], dict[str, dict[str, float]]]:
    """Return the questions to measure on, chosen as `ingest` chooses training questions, and their labels."""
    qrels: dict[str, dict[str, float]] = {}
    for row in collection.qrels(SPLIT[name]):
        qrels.setdefault(row.query_id, {})[row.doc_id] = row.relevance
    split_of, _ = choose_questions(list(qrels), set(qrels) if SPLIT[name] == "test" else set(), Ingest(name, max_train_queries=limit))
    return [q for q in collection.queries() if split_of.get(q.query_id) == "train"], qrels


def vectors(folder: Path, ids: list[str], texts: list[str], encoder: Encoder) -> TextVectors:
    """Return kept vectors, or encode and keep them."""
    if (folder / "ids.json").is_file():
        kept, found = load_vectors(folder)
        if kept == ids:
            return found
    found = encoder.encode(texts, tokens=True)
    save_vectors(folder, ids, found)
    return found


def prepare(name: str, folder: Path, cached: Path, encoder: Encoder, limit: int) -> tuple[list[Case], list[str], Materials]:
    """Retrieve, fuse and draw pairs as the stages do."""
    collection = open_collection(name if name == "python_docs" else folder / name)
    documents: list[Document] = list(collection.documents())
    queries, qrels = questions(collection, name, limit)
    texts = {d.doc_id: d.full_text for d in documents}
    of_documents = vectors(cached / name / "documents", list(texts), list(texts.values()), encoder)
    of_queries = vectors(cached / name / "queries", [q.query_id for q in queries], [q.text for q in queries], encoder)
    bm25 = Bm25Retriever(documents).search(queries, 1000)
    dense = DenseRetriever(list(texts), of_documents.pooled).search_vectors([q.query_id for q in queries], of_queries.pooled, 1000)
    cases = []
    for query in queries:
        legs = {leg: [(d.doc_id, d.score) for d in found[query.query_id]] for leg, found in (("bm25", bm25), ("dense", dense))}
        fused = [doc_id for doc_id, _ in min_max_fusion(list(legs.values()), depth=100)]
        rankings = {leg: [doc_id for doc_id, _ in ranking[:100]] for leg, ranking in legs.items()} | {"fused": fused}
        place: dict[str, int] = {}
        stands_for = [place.setdefault(texts[d], len(place)) for d in fused]
        edges = hamiltonian_cycles(len(place), DEGREE, rng_for(SEED, query.query_id, "pair"))
        cases.append(Case(query, fused, stands_for, list(place), edges, qrels[query.query_id], rankings))
    statistics = LexicalStatistics.count(texts.values(), detect_language(list(texts.values())))
    bank = VectorBank(encoder, [(list(texts.values()), of_documents), ([q.text for q in queries], of_queries)])
    frequency = cache(lambda: (token_frequency(of_documents), len(documents)))
    return cases, list(texts.values()), Materials(lambda: statistics, lambda: bank, frequency, name)


def judged(cases: Sequence[Case], judges: Sequence[Judge], slope: float = retrieval.SLOPE) -> list[FloatArray]:
    """Return each case's preferences [pairs, judges]."""
    product, retrieval.SLOPE = retrieval.SLOPE, slope  # the judges' constant is the variable here
    try:
        return [np.array([[a.preference for a in j.judge(c.comparisons())] for j in judges], np.float64).T for c in cases]
    finally:
        retrieval.SLOPE = product


def by_tops(cases: Sequence[Case], tables: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return agreement, reliabilities and weights as the pool stage finds them."""
    own = [[c.fit((1 + t[:, j]) / 2) for c, t in zip(cases, tables, strict=True)] for j in range(tables[0].shape[1])]
    agreement = top_agreement(own)
    found = reliabilities(agreement)
    return agreement, found, vote_weights(found)


def by_all_pairs(tables: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the same from agreement about every pair: two judges right with chances p and q agree by 2 a - 1 = (2 p - 1)(2 q - 1)."""
    agreement = sign_agreement(tables)
    right = (1 + reliabilities(agreement)) / 2
    return agreement, right, vote_weights(right)


def sign_agreement(tables: Sequence[FloatArray]) -> FloatArray:
    """Return 2 a - 1 [judges, judges], a = share of pairs on which two judges prefer the same document, ties left out."""
    signs = np.sign(np.concatenate(tables))
    judges = signs.shape[1]
    agreement = np.eye(judges)
    for i in range(judges):
        for j in range(judges):
            decided = signs[:, i] * signs[:, j] != 0
            agreement[i, j] = 1.0 if i == j else float((signs[:, i] * signs[:, j])[decided].mean())
    return agreement


def unselected(cases: Sequence[Case], texts: Sequence[str], judges: Sequence[Judge]) -> FloatArray:
    """Return the agreement on pairs of documents that no search has chosen: drawn at random from the corpus."""
    drawn = []
    for case in cases:
        rng = rng_for(SEED, case.query.query_id, "unselected")
        places = rng.choice(len(texts), size=(400, 2))
        shown = [Comparison(case.query.text, texts[i], texts[j]) for i, j in places.tolist() if texts[i] != texts[j]]
        drawn.append(np.array([[a.preference for a in judge.judge(shown)] for judge in judges], np.float64).T)
    return sign_agreement(drawn)


def vote(cases: Sequence[Case], tables: Sequence[FloatArray], weights: FloatArray) -> FloatArray:
    """Return nDCG@10 of each case reranked by the fit of the weighted vote."""
    values = []
    for case, table in zip(cases, tables, strict=True):
        prob, n_judges = pool(table, weights)
        values.append(case.ndcg(case.fit(prob, n_judges.astype(np.float64))))
    return np.array(values)


def between(agreement: FloatArray) -> dict[str, float]:
    """Name the agreements of different judges."""
    names = list(JUDGES)
    return {f"{names[i]}, {names[j]}": round(float(agreement[i, j]), 3) for i in range(len(names)) for j in range(i + 1, len(names))}


def grid(judges: int, steps: int = 10) -> Iterator[tuple[float, ...]]:
    """Yield all weights that are multiples of 1 / steps and sum to 1."""
    if judges == 1:
        yield (1.0,)
        return
    for first in range(steps + 1):
        rest = steps - first
        for others in grid(judges - 1, rest) if rest else [(0.0,) * (judges - 1)]:
            yield (first / steps, *(o * rest / steps for o in others))


Found = dict[str, tuple[FloatArray, dict[str, Any]]]
"""system -> nDCG@10 per question, and what else is known: weights, reliability."""
Together = Mapping[str, tuple[list[FloatArray], dict[str, Any]]]
"""The same with one array per collection."""
Grid = dict[tuple[float, ...], FloatArray]
"""weights -> nDCG@10 per question."""


def measure(cases: Sequence[Case], texts: Sequence[str], materials: Materials) -> tuple[Found, Grid]:
    """Return every system's values, and those of every point of the grid of weights."""
    judges = [make_judge(name, materials) for name in JUDGES]
    tables = judged(cases, judges)
    found: Found = {leg: (np.array([c.ndcg_of(c.first_stage[leg]) for c in cases]), {}) for leg in ("bm25", "dense", "fused")}
    for j, judge in enumerate(judges):
        found[f"judge {judge.name}"] = vote(cases, [t[:, [j]] for t in tables], np.ones(1)), {}
    plain = retrieval.RetrievalJudge("late_interaction, unweighted tokens", LateInteraction(materials.bank(), np.zeros(1, np.int64), 1))
    found[f"judge {plain.name}"] = vote(cases, judged(cases, [plain]), np.ones(1)), {}
    found["vote equal"] = vote(cases, tables, np.full(len(judges), 1 / len(judges))), {}
    for name, estimate in (("agreement", by_tops(cases, tables)), ("agreement on all pairs", by_all_pairs(tables))):
        agreement, reliability, weights = estimate
        known = {"agreement": between(agreement), "reliability": np.round(reliability, 3).tolist()}
        found[f"vote {name}"] = vote(cases, tables, weights), known | {"weights": np.round(weights, 3).tolist()}
    found["vote agreement on all pairs"][1]["agreement_unselected"] = between(unselected(cases, texts, judges))
    for slope in SLOPES:
        *_, weights = by_tops(cases, steeper := judged(cases, judges, slope))
        found[f"vote agreement, slope {slope:g}"] = vote(cases, steeper, weights), {"weights": np.round(weights, 3).tolist()}
    tried = {w: vote(cases, tables, np.array(w)) for w in grid(len(judges))}
    best = max(tried, key=lambda w: tried[w].mean())
    found["vote oracle weights"] = tried[best], {"weights": list(best)}
    return found, tried


def rows_of(collection: str, found: Together, baseline: str = "vote equal") -> list[dict[str, Any]]:
    """Return one row per system; each collection counts alike in the mean."""
    rows = []
    reference = found[baseline][0]
    for system, (values, known) in found.items():
        # Scaled so that the mean over all questions is the mean of the collections' means.
        size = sum(map(len, values))
        scale = np.concatenate([np.full(len(v), size / (len(values) * len(v))) for v in values])
        scaled, against = np.concatenate(values) * scale, np.concatenate(reference) * scale
        draws = np.mean([_resampled(v, f"{collection} {system} {i}") for i, v in enumerate(values)], axis=0)
        low, high = np.quantile(draws, [0.025, 0.975])
        row = {"collection": collection, "system": system, "measure": "nDCG@10", "value": round(float(scaled.mean()), 4)}
        row |= {"low": round(float(low), 4), "high": round(float(high), 4), "questions": size, "baseline": baseline}
        p = paired_randomization_test(scaled, against, RESAMPLES, rng=rng_for(SEED, f"{collection} {system}", "randomization"))
        d_low, d_high = bootstrap_interval(scaled - against, resamples=RESAMPLES, rng=rng_for(SEED, f"{collection} {system}", "difference"))
        row |= {"difference": round(float((scaled - against).mean()), 4), "difference_low": round(d_low, 4)}
        rows.append(row | {"difference_high": round(d_high, 4), "p_value": round(p, 4), **known})
    return rows


def _resampled(values: FloatArray, purpose: str) -> FloatArray:
    rng = rng_for(SEED, purpose, "bootstrap")
    return np.asarray(values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1), np.float64)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return nDCG@10 of every system on every collection as Markdown."""
    collections = list(dict.fromkeys(r["collection"] for r in rows))
    value = {(r["system"], r["collection"]): r for r in rows}
    lines = ["| system | " + " | ".join(collections) + " | mean, 95 % | against equal, 95 %, p |"]
    lines.append("|---|" + "---|" * (len(collections) + 2))
    for system in dict.fromkeys(r["system"] for r in rows):
        mean = value[system, "mean"]
        cells = [f"{value[system, c]['value']:.3f}" for c in collections]
        cells.append(f"{mean['low']:.3f} to {mean['high']:.3f}")
        cells.append(f"{mean['difference']:+.3f} [{mean['difference_low']:+.3f}, {mean['difference_high']:+.3f}], {mean['p_value']:.4f}")
        lines.append(f"| {system} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--collections", type=Path, required=True, help="folder of collections in BEIR's layout")
    parser.add_argument("--cache", type=Path, required=True, help="folder for vectors")
    parser.add_argument("--only", nargs="+", default=list(SPLIT), choices=list(SPLIT))
    parser.add_argument("--questions", type=int, default=150, help="at most so many per collection")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="default results.jsonl beside this file, or nothing with other --only or --questions")
    options = parser.parse_args(arguments)
    encoder = load_encoder(threads=options.threads)
    found: dict[str, Found] = {}
    tried: dict[str, Grid] = {}
    for name in options.only:
        found[name], tried[name] = measure(*prepare(name, options.collections, options.cache, encoder, options.questions))
        sys.stderr.write(f"{name} measured\n")
    best = max(tried[options.only[0]], key=lambda w: float(np.mean([t[w].mean() for t in tried.values()])))
    for name, systems in found.items():
        systems["vote oracle weights, one for all"] = tried[name][best], {"weights": list(best)}
    rows = [row for name, systems in found.items() for row in rows_of(name, {s: ([v], k) for s, (v, k) in systems.items()})]
    together: Together = {s: ([f[s][0] for f in found.values()], {}) for s in found[options.only[0]]}
    rows += rows_of("mean", together)
    shown = table(rows)
    rows += [row for row in rows_of("mean", together, "vote agreement on all pairs") if row["system"] == "vote agreement"]
    usual = all(getattr(options, name) == parser.get_default(name) for name in ("only", "questions"))
    if out := options.out or (HERE / "results.jsonl" if usual else None):
        out.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    sys.stdout.write(shown + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
