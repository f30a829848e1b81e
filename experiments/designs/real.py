"""The designs over real candidates: nDCG@10 of human labels by scores fitted from simulated judges of those labels.

    python experiments/designs/real.py --collections FOLDER --cache FOLDER [--split test] [--questions 100]
        [--only COLLECTION ...] [--out FILE]

Candidates are the first stage's (BM25 and dense legs, min-max fusion, 100 documents); missing relevant documents are not added. Three
simulated judges see the labels through noise: hard votes with ties, right about 85 % of pairs whose gains differ by 1. Nothing is
tuned here: the designs are those of `run.py`. Prints the table of README.md and writes real.jsonl beside this
file, keeping the lines of collections that were not run; with another split or number of questions it writes to --out alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from strategies import Played, Strategy, World, batch_of, play

from zelo.collections import open_collection
from zelo.core.active_pairs import plan_round
from zelo.core.fusion import min_max_fusion
from zelo.core.metrics import evaluate_ranking
from zelo.encoders.transformer import Encoder, load_encoder, load_vectors, save_vectors
from zelo.judges import Comparison
from zelo.judges.simulated import SimulatedJudge, labels_by_text
from zelo.recipe import Ingest
from zelo.retrievers.bm25 import Bm25Retriever
from zelo.retrievers.dense import DenseRetriever
from zelo.stages.ingest import choose_questions

HERE = Path(__file__).parent
NAMES = ("scifact", "mtragun")
ACCURACY, BAND, JUDGES = 0.85, 0.4, 3


def pooled(folder: Path, ids: list[str], texts: list[str], encoder: Encoder) -> NDArray[np.float32]:
    """Return kept vectors, or encode and keep them."""
    if (folder / "ids.json").is_file():
        kept, found = load_vectors(folder)
        if kept == ids:
            return found.pooled
    found = encoder.encode(texts)
    save_vectors(folder, ids, found)
    return found.pooled


class Case:
    """A question with its candidates; equal texts are judged once, `stands_for[i]` is the place of candidate i's text."""

    def __init__(self, query_id: str, query: str, doc_ids: list[str], texts: dict[str, str], qrels: dict[str, float]) -> None:
        place: dict[str, int] = {}
        self.query_id, self.query, self.doc_ids, self.qrels = query_id, query, doc_ids, qrels
        self.stands_for = [place.setdefault(texts[d], len(place)) for d in doc_ids]
        self.texts = list(place)

    def ndcg(self, score: NDArray[np.float64]) -> float:
        """Return nDCG@10 of the candidates by the scores of their texts; equal scores keep the first stage's order."""
        order = sorted(range(len(self.doc_ids)), key=lambda i: -score[self.stands_for[i]])
        ranking = {"q": [(self.doc_ids[i], -float(rank)) for rank, i in enumerate(order)]}
        return evaluate_ranking(ranking, {"q": self.qrels}, ["nDCG@10"])["nDCG@10"]["q"]


def prepare(folder: Path, cache: Path, encoder: Encoder, split: str, limit: int) -> tuple[list[Case], World]:
    """Retrieve and fuse as the stages do, and ask the judges about every pair once."""
    collection = open_collection(folder)
    documents, all_queries, labels = list(collection.documents()), list(collection.queries()), list(collection.qrels(split))
    texts = {d.doc_id: d.full_text for d in documents}
    settings = Ingest(folder.name, max_test_queries=limit)
    split_of, _ = choose_questions([q.query_id for q in all_queries], {r.query_id for r in labels}, settings)
    queries = [q for q in all_queries if split_of.get(q.query_id) == "test"]
    of_documents = pooled(cache / folder.name / "documents", list(texts), list(texts.values()), encoder)
    ids = [q.query_id for q in queries]
    of_queries = pooled(cache / folder.name / f"queries {split}", ids, [q.text for q in queries], encoder)
    legs = [
        Bm25Retriever(documents).search(queries, 1000),
        DenseRetriever(list(texts), of_documents).search_vectors(ids, of_queries, 1000),
    ]
    qrels: dict[str, dict[str, float]] = {}
    for row in labels:
        qrels.setdefault(row.query_id, {})[row.doc_id] = row.relevance
    cases = []
    for q in queries:
        fused = min_max_fusion([[(d.doc_id, d.score) for d in leg[q.query_id]] for leg in legs], depth=100)
        cases.append(Case(q.query_id, q.text, [doc_id for doc_id, _ in fused], texts, qrels[q.query_id]))
    gains = labels_by_text(all_queries, documents, labels)
    judges = [SimulatedJudge(f"judge {k}", gains, accuracy=ACCURACY, tie_band=BAND, soft=False) for k in range(JUDGES)]
    truth, prob = [], []
    for case in cases:
        n = len(case.texts)
        i, j = np.triu_indices(n, 1)
        shown = [Comparison(case.query, case.texts[a], case.texts[b]) for a, b in zip(i.tolist(), j.tolist(), strict=True)]
        said = np.array([[answer.preference for answer in judge.judge(shown)] for judge in judges], np.float64).mean(axis=0)
        both = np.full((n, n), np.nan)
        both[i, j], both[j, i] = (1 + said) / 2, (1 - said) / 2
        truth.append(np.array([gains[case.query].get(t, 0.0) for t in case.texts]))
        prob.append(both)
    return cases, World(folder.name, truth, prob, float(JUDGES))


def strategies() -> list[Strategy]:
    """Return the designs of run.py at N = 100, 200, 400, and with early stop."""
    chosen: list[Strategy] = []
    for n in (100, 200, 400):
        chosen += [Strategy(design, n, design=design) for design in ("cycles", "random", "bipartite")]
        chosen += [Strategy(m.replace("_", " "), 50, (25,) * ((n - 50) // 25), m) for m in ("smallest_gap", "swiss")]
        chosen += [Strategy(f"{aim}, 25", 50, (25,) * ((n - 50) // 25), aim) for aim in ("top", "balanced", "information")]
        chosen.append(Strategy("one replan, balanced", n // 2, (n // 2,), "balanced"))
    chosen += [Strategy(f"top, 25, tolerance {t:g}", 50, (25,) * 14, "top", tolerance=t) for t in (0.05, 0.1)]
    chosen += [Strategy(f"top, 25, change {c:g}", 50, (25,) * 14, "top", change=c) for c in (0.01, 0.03)]
    return [*chosen, Strategy("all pairs", 4950, design="all")]


def row_of(strategy: Strategy, cases: Sequence[Case], world: World, played: Played) -> dict[str, Any]:
    """Return what is measured of one strategy."""
    values = np.array([case.ndcg(score) for case, score in zip(cases, played.score, strict=True)])
    plan = plan_round(batch_of(world, played.pairs), [c.query_id for c in cases], count=0, threads=1)
    relevant = [t > 0 for t in world.truth]
    ties = np.mean([np.mean(t[p[:, 0]] == t[p[:, 1]]) for t, p in zip(world.truth, played.pairs, strict=True)])
    reach = [
        np.bincount(p.ravel(), minlength=len(t))[r].mean() for t, p, r in zip(world.truth, played.pairs, relevant, strict=True) if r.any()
    ]
    pairs = np.array([len(p) for p in played.pairs])
    return {
        "collection": world.name,
        "design": strategy.name,
        "pairs": round(float(pairs.mean()), 1),
        "ndcg": round(float(values.mean()), 4),
        "ndcg_se": round(float(values.std(ddof=1) / np.sqrt(len(values))), 4),
        "expected_loss": round(float(plan.loss.mean()), 4),
        "equal_gain_pairs": round(float(ties), 3),
        "comparisons_of_relevant": round(float(np.mean(reach)), 1),
        "questions": len(cases),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--collections", type=Path, required=True, help="folder of collections in BEIR's layout")
    parser.add_argument("--cache", type=Path, required=True, help="folder for vectors")
    parser.add_argument("--only", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--split", default="test")
    parser.add_argument("--questions", type=int, default=100, help="at most so many per collection")
    parser.add_argument("--out", type=Path, help="default real.jsonl beside this file, or nothing with other --split or --questions")
    options = parser.parse_args(arguments)
    encoder = load_encoder(threads=1)
    rows = []
    for name in options.only:
        cases, world = prepare(options.collections / name, options.cache, encoder, options.split, options.questions)
        first = np.array([case.ndcg(-np.arange(len(case.texts), dtype=np.float64)) for case in cases])
        possible = np.array([case.ndcg(truth) for case, truth in zip(cases, world.truth, strict=True)])
        sys.stdout.write(
            f"\n{name}, {len(cases)} questions: first stage {first.mean():.3f}, best order of the candidates {possible.mean():.3f}\n\n"
        )
        sys.stdout.write("| design | N | nDCG@10 | expected loss | pairs of equal gain | per relevant document |\n" + "|---" * 6 + "|\n")
        rows += [
            {"collection": name, "design": d, "pairs": 0, "ndcg": round(float(v.mean()), 4), "questions": len(cases)}
            for d, v in (("first stage", first), ("best order", possible))
        ]
        for strategy in strategies():
            row = row_of(strategy, cases, world, play(world, strategy, link="probit"))
            rows.append(row)
            values = f"{row['ndcg']:.3f} ({row['ndcg_se']:.3f}) | {row['expected_loss']:.3f} | {row['equal_gain_pairs']:.2f}"
            sys.stdout.write(f"| {strategy.name} | {row['pairs']:g} | {values} | {row['comparisons_of_relevant']:.1f} |\n")
            sys.stdout.flush()
    usual = all(getattr(options, name) == parser.get_default(name) for name in ("split", "questions"))
    if out := options.out or (HERE / "real.jsonl" if usual else None):
        kept = [json.loads(line) for line in out.read_text("utf-8").splitlines()] if out.is_file() else []
        rows = [row for row in kept if row["collection"] not in options.only] + rows
        out.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
