"""failures: reference documents that the parent's pointwise model ranks below a threshold (paper section 5.6).

The first stage of a refine round that is not taken over from the parent, and the only one that reads another workspace. References are
of training queries: labels of other splits than the test split, documents that a live system's users chose, or without both the
document with the highest fitted score. Each failure is one pair for the judges: the reference and the document ranked just above it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zelo import runner
from zelo.artifacts import Columns, read_table, write_table
from zelo.collections.production import read_production
from zelo.collections.trec import read_run
from zelo.core.failures import choose_threshold, just_above, share_below
from zelo.core.groups import group_rows
from zelo.errors import InputError, WorkspaceError, ZeloError
from zelo.judges.known import dollars_spent
from zelo.pipeline import Context, Outcome
from zelo.recipe import Recipe
from zelo.report.measured import STUDENT
from zelo.rerankers import Reranker, load_reranker
from zelo.stages import ingest, inputs
from zelo.stages.judge import JOURNAL
from zelo.stages.rank import best_first
from zelo.workspace import Workspace

READ = ("model", "scores", "judgments", "per_query", "candidates", "failures", "before")
"""What is read of the parent; the last two where it is a refine round itself."""
SHOWN = (1, 2, 3, 5, 10, 20, 50)
"""Thresholds whose failures are counted for the reader."""


@dataclass(frozen=True)
class Reference:
    """A document that should be on top, and what says so: labels, production or scores."""

    doc_id: str
    source: str


@dataclass(frozen=True)
class Placed:
    """A reference among a query's candidates, best first, as the parent's model ranks them; `place` counts from 0."""

    query_id: str
    ranking: list[str]
    place: int
    source: str


def external(recipe: Recipe) -> dict[str, str]:
    """Identify what is read of the parent, the production file and the collection's labels; "" for what is not there."""
    found = dict(ingest.external(recipe))
    try:
        parent = Workspace.open(Path(recipe.refine.parent))
        found |= {f"parent's {name}": parent.digest(name) or "" for name in READ}
        found |= {"parent's engine": made} if (made := parent.derived("model")) else {}
    except ZeloError:
        found |= {f"parent's {name}": "" for name in READ}
    if recipe.refine.production:
        path = Path(recipe.refine.production)
        found["production"] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return found


def run(context: Context) -> Outcome:
    """Write refine/failures.parquet, all rounds so far, and refine/before.jsonl.

    Raises:
        WorkspaceError: the parent is not there, not finished, or has other candidates.
        InputError: there is no reference document to look for.
    """
    parent = open_parent(context)
    split_of = inputs.splits(context.read("splits"))
    train = [query_id for query_id, split in split_of.items() if split == "train"]
    ranked = _Ranker(context, parent)
    references, said = find_references(context, parent, train)
    placed, lost = [], 0
    advance = context.progress.task("ranking training questions")
    for done, (query_id, wanted) in enumerate(references.items(), 1):
        found = ranked.place(query_id, wanted)
        lost += found is None
        placed += [found] if found else []
        advance(done, len(references))
    ranks = [p.place + 1 for p in placed]
    settings = context.recipe.refine
    threshold = settings.threshold or choose_threshold(ranks, settings.share)
    rows, again = _pairs(placed, threshold, parent)
    earlier = _rounds(parent)
    added = _write_failures(context, parent, rows, len(earlier) + 1)
    lines = [*earlier, _this_far(parent, len(earlier))]
    context.write("before").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    notes = [said, f"{lost:,} of them not among the candidates that are reranked"] if lost else [said]
    counts = ", ".join(f"{t}: {sum(r > t for r in ranks):,}" for t in SHOWN)
    how = "as the recipe says" if settings.threshold else f"the smallest with at most {settings.share:.0%} of failures"
    notes += [f"references ranked below {counts}", f"threshold {threshold}, {how}: {share_below(ranks, threshold):.1%} fail"]
    if again:
        notes.append(f"{again:,} failures give no pair: the judges have compared them with all that is ranked above")
    return Outcome({"failures": len(rows) + again, "pairs added": len(rows), "pairs of all rounds": added}, notes=tuple(notes))


def open_parent(context: Context) -> Workspace:
    """Open the parent's workspace.

    Raises:
        WorkspaceError: it is not there, its stages have not all run, or its queries have other candidates than here.
    """
    path = Path(context.recipe.refine.parent)
    try:
        parent = Workspace.open(path)
    except WorkspaceError as error:
        raise WorkspaceError("the parent is not a workspace", where=str(path), remedy="put it back, or set refine.parent") from error
    require_finished(parent)
    if parent.digest("candidates") != context.workspace.digest("candidates") and not _has_its_candidates(context, parent):
        what = "has other candidates than this workspace: its ranks say nothing here"
        raise WorkspaceError(what, where=str(path), remedy="leave ingest, encode and retrieve as the parent has them")
    return parent


def _has_its_candidates(context: Context, parent: Workspace) -> bool:
    """Whether the parent's queries have the same candidates here; a round from live searches has more queries."""
    ours, theirs = (read_run(folder / "fused.trec") for folder in (context.read("candidates"), parent.path("candidates")))
    return all([d.doc_id for d in ours.get(q, ())] == [d.doc_id for d in ranking] for q, ranking in theirs.items())


def require_finished(parent: Workspace) -> None:
    """Raise WorkspaceError unless every stage is done."""
    for state in runner.status(parent):
        if not state.done:
            what = f"is not finished: stage {state.stage.name} {state.reason}"
            raise WorkspaceError(what, where=str(parent.root), remedy=f"`zelo run {parent.root}` finishes it")


def find_references(context: Context, parent: Workspace, train: list[str]) -> tuple[dict[str, set[Reference]], str]:
    """Return the documents that should be on top of training queries, several where labels tie; and a line that says where from.

    Raises:
        InputError: there are none of the kind that the recipe names.
    """
    wanted, refine = context.recipe.refine.reference, context.recipe.refine
    found: dict[str, set[Reference]] = {}
    remarks = []
    if wanted in ("auto", "production") and refine.production:
        texts = {text: query_id for query_id, text in inputs.queries(context).items()}
        chosen, unknown = read_production(Path(refine.production), texts)
        found = {q: {Reference(chosen[q], "production")} for q in train if q in chosen}
        others = len(set(chosen) - set(train))
        remarks += [f"{others:,} queries of the file are no training queries and were left out"] if others else []
        remarks += [f"{unknown:,} lines have words of no query here"] if unknown else []
    if wanted in ("auto", "labels"):
        labels = training_labels(context.recipe)
        for query_id in train:
            best = max(labels.get(query_id, {}).values(), default=0.0)
            if best > 0 and query_id not in found:
                found[query_id] = {Reference(d, "labels") for d, gain in labels[query_id].items() if gain == best}
    if wanted == "scores" or (wanted == "auto" and not found):
        found = dict(_highest(parent, set(train)))
    if not found:
        remedy = "set refine.production to a file, or refine.reference to auto or scores"
        raise InputError(f"no training query has a reference document (refine.reference = {wanted!r})", remedy=remedy)
    by_source = Counter(next(iter(references)).source for references in found.values())
    kinds = ", ".join(f"{count:,} from {source}" for source, count in sorted(by_source.items()))
    said = f"{len(found):,} of {len(train):,} training queries have a reference document: {kinds}"
    return {q: found[q] for q in train if q in found}, "; ".join([said, *remarks])


def training_labels(recipe: Recipe) -> dict[str, dict[str, float]]:
    """Return the gains that the collection's other splits than the test split give, query by query; {} where it is not there."""
    labels: dict[str, dict[str, float]] = {}
    try:
        collection = ingest.open_ingest(recipe.ingest)
        for split in collection.splits():
            for row in collection.qrels(split) if split != recipe.ingest.test_split else ():
                labels.setdefault(row.query_id, {})[row.doc_id] = row.relevance
    except InputError:
        if Path(recipe.ingest.collection).exists():
            raise  # what is there and faulty is said; what was archived has no labels to offer
    return labels


def _highest(parent: Workspace, train: set[str]) -> Iterator[tuple[str, set[Reference]]]:
    table = read_table(parent.path("scores"), "scores", ("query_id", "doc_id", "score"))
    for query_id, rows in group_rows(table["query_id"]).items():
        if query_id in train:
            best = max(rows, key=lambda row: float(table["score"][row]))
            yield query_id, {Reference(table["doc_id"][best], "scores")}


class _Ranker:
    """Training queries' candidates as the parent's model ranks them."""

    def __init__(self, context: Context, parent: Workspace) -> None:
        self._texts, self._queries = inputs.documents(context), inputs.queries(context)
        self._candidates = read_run(context.read("candidates") / "fused.trec")
        self._depth = context.recipe.rank.depth
        bank: Callable[[], Any] = inputs.CorpusSignals(context, self._texts, self._queries).bank
        self._model: Reranker = load_reranker(parent.path("model"), bank, parent.recipe.rank.engine)

    def place(self, query_id: str, references: set[Reference]) -> Placed | None:
        """Rank; of several references the best placed one counts. None if no one is a candidate."""
        kept: dict[str, str] = {}  # text -> the candidate that stands for it, as in `pair`
        for candidate in self._candidates.get(query_id, [])[: self._depth]:
            kept.setdefault(self._texts[candidate.doc_id], candidate.doc_id)
        wanted = {kept.get(self._texts[r.doc_id]): r.source for r in references if r.doc_id in self._texts}
        doc_ids = list(kept.values())
        if not any(doc_id in wanted for doc_id in doc_ids):
            return None
        scores = self._model.score(self._queries[query_id], list(kept)).tolist()
        ranking = [doc.doc_id for doc in best_first(query_id, doc_ids, scores)]
        place = next(i for i, doc_id in enumerate(ranking) if doc_id in wanted)
        return Placed(query_id, ranking, place, wanted[ranking[place]])


def _pairs(placed: list[Placed], threshold: int, parent: Workspace) -> tuple[list[tuple[Placed, str]], int]:
    """The failures with the nearest document above that they were not compared with; and how many have no such document."""
    failing = [p for p in placed if p.place + 1 > threshold]
    known: dict[str, set[frozenset[str]]] = {p.query_id: set() for p in failing}
    table = read_table(parent.path("judgments"), "judgments", ("query_id", "doc_id_a", "doc_id_b"))
    for query_id, a, b in zip(table["query_id"], table["doc_id_a"], table["doc_id_b"], strict=True):
        if query_id in known:
            known[query_id].add(frozenset((a, b)))
    found = [(p, just_above(p.ranking, p.place, known[p.query_id])) for p in failing]
    rows = [(p, above) for p, above in found if above is not None]
    return rows, len(found) - len(rows)


def _write_failures(context: Context, parent: Workspace, rows: list[tuple[Placed, str]], number: int) -> int:
    table: Columns = {name: [] for name in ("query_id", "doc_id", "above", "rank", "reference", "round")}
    if parent.recipe.refine.parent:
        table = {name: list(values) for name, values in read_table(parent.path("failures"), "failures").items()}
    for placed, above in rows:
        new = (placed.query_id, placed.ranking[placed.place], above, placed.place + 1, placed.source, number)
        for values, value in zip(table.values(), new, strict=True):
            values.append(value)
    return write_table(context.write("failures"), "failures", table)


def _rounds(parent: Workspace) -> list[dict[str, Any]]:
    if not parent.recipe.refine.parent:
        return []
    return [json.loads(line) for line in parent.path("before").read_text("utf-8").splitlines()]


def _this_far(parent: Workspace, number: int) -> dict[str, Any]:
    """What is to be known of the parent's round: pairs added, dollars spent so far, the student's value per measure and test query."""
    added = 0
    if parent.recipe.refine.parent:
        rounds = read_table(parent.path("failures"), "failures", ("round",))["round"]
        added = int((np.asarray(rounds) == number).sum())
    values = student_values(parent.path("per_query"))
    return {"round": number, "added": added, "dollars": dollars_spent(parent.root / JOURNAL), "values": values}


def student_values(path: Path) -> Mapping[str, Mapping[str, float]]:
    """Return measure -> query_id -> value of the student, from report/per_query.parquet."""
    table = read_table(path, "per_query")
    values: dict[str, dict[str, float]] = {}
    rows = zip(table["system"], table["measure"], table["query_id"], table["value"].tolist(), strict=True)
    for system, measure, query_id, value in rows:
        if system == STUDENT:
            values.setdefault(measure, {})[query_id] = value
    return values
