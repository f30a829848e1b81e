"""rank: the trained model reranks the test questions' candidates; beside it, the judges' own ranking where they judged them."""

from __future__ import annotations

from zelo.artifacts import read_table
from zelo.collections.trec import read_run, write_run
from zelo.core.groups import group_rows
from zelo.pipeline import Context, Outcome
from zelo.rerankers import load_reranker
from zelo.stages import inputs
from zelo.types import ScoredDoc


def run(context: Context) -> Outcome:
    """Write rankings/pointwise.trec, and rankings/judges.trec if the test questions were judged."""
    texts, query_texts = inputs.documents(context), inputs.queries(context)
    test = [q for q, split in inputs.splits(context.read("splits")).items() if split == "test"]
    candidates = read_run(context.read("candidates") / "fused.trec")
    bank = inputs.Signals(context, texts, query_texts).bank
    reranker = load_reranker(context.read("model"), bank, context.recipe.rank.engine)
    rankings: dict[str, list[ScoredDoc]] = {}
    advance = context.progress.task("reranking")
    for done, query_id in enumerate(test, 1):
        doc_ids = [c.doc_id for c in candidates.get(query_id, [])][: context.recipe.rank.depth]
        scores = reranker.score(query_texts[query_id], [texts[d] for d in doc_ids]).tolist() if doc_ids else []
        rankings[query_id] = best_first(query_id, doc_ids, scores)
        advance(done, len(test))
    folder = context.write("rankings")
    folder.mkdir()
    rows = {"pointwise": write_run(folder / "pointwise.trec", rankings, tag="pointwise")}
    scored = read_table(context.read("scores"), "scores", ("query_id", "doc_id", "score"))
    groups = group_rows(scored["query_id"])
    if any(q in groups for q in test):
        judged = {}
        for q in test:
            # A question whose candidates all have one text has no comparison and no score: the order stays.
            score = {scored["doc_id"][i]: float(scored["score"][i]) for i in groups.get(q, ())}
            doc_ids = [c.doc_id for c in candidates.get(q, []) if c.doc_id in score or not score]
            judged[q] = best_first(q, doc_ids, [score.get(d, 0.0) for d in doc_ids])
        rows["judges"] = write_run(folder / "judges.trec", judged, tag="judges")
    return Outcome(rows)


def best_first(query_id: str, doc_ids: list[str], scores: list[float]) -> list[ScoredDoc]:
    """Return a ranking by score, equal scores in the given order."""
    order = sorted(range(len(doc_ids)), key=lambda i: -scores[i])
    return [ScoredDoc(query_id, doc_ids[i], scores[i]) for i in order]
