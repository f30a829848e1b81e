"""rank: the trained model reranks the test questions' candidates; beside it, the judges' own ranking where they judged them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zelo.artifacts import read_table
from zelo.collections.trec import read_run, write_run
from zelo.core.groups import group_rows
from zelo.pipeline import Context, Outcome
from zelo.progress import Silent
from zelo.rerankers import Reranker, load_reranker
from zelo.shards import keeping
from zelo.stages import inputs
from zelo.types import ScoredDoc
from zelo.workspace import Workspace

if TYPE_CHECKING:
    from zelo.encoders.similarity import VectorBank


@dataclass(frozen=True)
class Shown:
    """A query and the documents to rerank."""

    query: str
    documents: Sequence[str]


@dataclass(frozen=True)
class Reranking:
    """The workspace's model scores the documents of a query. A worker elsewhere reads the workspace at the same path."""

    root: Path
    own: Reranker | None = None

    def open(self) -> Callable[[Shown], list[float]]:
        """Load the model unless it is there; the vectors and texts of the workspace only if it wants them."""
        reranker = self.own or _load(self.root)
        return lambda shown: reranker.score(shown.query, shown.documents).tolist() if shown.documents else []


def _load(root: Path) -> Reranker:
    workspace = Workspace.open(root)
    context = Context(workspace, workspace.recipe, workspace.root, Silent())

    def bank() -> VectorBank:
        return inputs.CorpusSignals(context, inputs.documents(context), inputs.queries(context)).bank()

    return load_reranker(context.read("model"), bank, context.recipe.rank.engine)


def run(context: Context) -> Outcome:
    """Write rankings/pointwise.trec, and rankings/judges.trec if the test questions were judged."""
    texts, query_texts = inputs.documents(context), inputs.queries(context)
    test = [q for q, split in inputs.splits(context.read("splits")).items() if split == "test"]
    candidates = read_run(context.read("candidates") / "fused.trec")
    rankings: dict[str, list[ScoredDoc]] = {}
    advance = context.progress.task("reranking")
    depth = context.recipe.rank.depth
    listed = {q: [c.doc_id for c in candidates.get(q, [])][:depth] for q in test}
    bank = inputs.CorpusSignals(context, texts, query_texts).bank
    own = None if context.executor.elsewhere else load_reranker(context.read("model"), bank, context.recipe.rank.engine)
    work = Reranking(context.workspace.root.absolute(), own)
    shards = ((q, Shown(query_texts[q], [texts[d] for d in listed[q]])) for q in test)
    for done, (query_id, scores) in enumerate(keeping(context.executor, work, shards), 1):
        rankings[query_id] = best_first(query_id, listed[query_id], scores)
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
