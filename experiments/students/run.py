"""Which targets should the blend learn? nDCG@10 of its ranking on questions of finished workspaces, by spread and threshold.

    python experiments/students/run.py WORKSPACE,QRELS [...]

QRELS is a BEIR qrels file that labels some of the workspace's *training* questions; it is used here for measuring only. The
student learned from the same questions, without labels: with four parameters it cannot memorize them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from zelo.artifacts import read_table
from zelo.collections.beir import read_qrels
from zelo.core.calibration import targets
from zelo.core.groups import group_rows
from zelo.core.metrics import evaluate_ranking
from zelo.pipeline import Context
from zelo.progress import Silent
from zelo.rerankers.blend import Signals
from zelo.stages import inputs
from zelo.training.head import train_head
from zelo.workspace import Workspace

SETTINGS = [(2.0, 1.5), (3.0, 2.0), (2.0, 2.5), (1.0, 2.5), (1.0, 1.5), (1.0, 0.0), (0.5, 2.0), (0.5, 0.0), (0.25, 0.0)]


def measure(workspace: Workspace, labels: Path) -> list[dict[str, object]]:
    context = Context(workspace, workspace.recipe, workspace.root, Silent())
    texts, query_texts = inputs.documents(context), inputs.queries(context)
    split_of = inputs.splits(context.read("splits"))
    materials = inputs.CorpusSignals(context, texts, query_texts)
    signals = Signals(materials.lexical(), materials.bank(), *materials.token_frequency())
    scores = read_table(context.read("scores"), "scores")
    groups = {q: rows for q, rows in group_rows(scores["query_id"]).items() if split_of[q] == "train"}
    features = {q: signals(query_texts[q], [texts[scores["doc_id"][i]] for i in rows]) for q, rows in groups.items()}
    qrels: dict[str, dict[str, float]] = {}
    for row in read_qrels(labels):
        if row.query_id in groups:
            qrels.setdefault(row.query_id, {})[row.doc_id] = row.relevance

    def ndcg(of_query: dict[str, np.ndarray]) -> float:
        ranking = {q: [(scores["doc_id"][i], float(s)) for i, s in zip(groups[q], of_query[q], strict=True)] for q in qrels}
        return float(np.mean(list(evaluate_ranking(ranking, qrels, ["nDCG@10"])["nDCG@10"].values())))

    common = {"workspace": workspace.root.name, "questions": len(qrels)}
    rows = [common | {"system": "judges", "nDCG@10": round(ndcg({q: scores["score"][r] for q, r in groups.items()}), 4)}]
    for spread, threshold in SETTINGS:
        wanted = np.concatenate([targets(scores["score"][r], spread=spread, threshold=threshold) for r in groups.values()])
        head, _ = train_head(np.concatenate(list(features.values())), wanted)
        value = round(ndcg({q: head(f) for q, f in features.items()}), 4)
        weights = [round(w, 2) for w in head.weights]
        rows.append(common | {"system": "blend", "spread": spread, "threshold": threshold, "nDCG@10": value, "weights": weights})
    return rows


def main() -> None:
    for argument in sys.argv[1:]:
        folder, labels = argument.split(",")
        for row in measure(Workspace.open(Path(folder)), Path(labels)):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
