"""Pairs of a workspace as problems of judging. The right answer comes from labels, or from what the ensemble agreed on."""

from __future__ import annotations

from typing import Literal

from zelo.artifacts import read_table
from zelo.collections.beir import read_corpus, read_qrels, read_queries
from zelo.errors import WorkspaceError
from zelo.reasoning.pairs import pair_problems
from zelo.types import Problem
from zelo.workspace import Workspace

Answers = Literal["qrels", "ensemble"]
CLEAR = 0.25
"""The ensemble's answer is A or B where its probability is at least so far from 1/2, and a tie where it is within `EVEN`."""
EVEN = 0.05


def workspace_problems(workspace: Workspace, answers: Answers, *, both_orders: bool = True) -> list[Problem]:
    """Make problems from the tournament's pairs.

    Args:
        workspace: has run up to `pair` (labels) or `pool` (ensemble).
        answers: "qrels": the document with the greater gain is better, equal ones tie; pairs with a document that nobody labeled are
            left out. "ensemble": by `CLEAR` and `EVEN`, what lies between is left out; it says what the judges agree on, not what
            is true.
        both_orders: make two problems of each pair.

    Raises:
        WorkspaceError: the artifact that is needed is not there, or no pair has an answer.
    """
    name = "pairs" if answers == "qrels" else "preferences"
    need = ("corpus", "queries", name, *(("qrels",) if answers == "qrels" else ()))
    for artifact in need:
        if not workspace.path(artifact).exists():
            remedy = f"run `zelo run {workspace.root} --to {'pair' if answers == 'qrels' else 'pool'}`"
            raise WorkspaceError(f"{workspace.path(artifact).name} is not there", where=str(workspace.root), remedy=remedy)
    documents = {d.doc_id: d.full_text for d in read_corpus(workspace.path("corpus"))}
    queries = {q.query_id: q.text for q in read_queries(workspace.path("queries"))}
    table = read_table(workspace.path(name), name)
    known = _labels(workspace) if answers == "qrels" else {}
    found: list[Problem] = []
    for row in range(len(table["query_id"])):
        query, a, b = (table[key][row] for key in ("query_id", "doc_id_a", "doc_id_b"))
        if answers == "qrels":
            answer = _by_gain(known.get((query, a)), known.get((query, b)))
        else:
            answer = _by_probability(float(table["prob_a"][row]))
        if answer:
            found += pair_problems(f"{query}:{a}:{b}", queries[query], documents[a], documents[b], answer, both_orders=both_orders)
    if not found:
        remedy = "use the ensemble's answers" if answers == "qrels" else "use labels, or judge more pairs"
        raise WorkspaceError("no pair has an answer", where=str(workspace.root), remedy=remedy)
    return found


def _labels(workspace: Workspace) -> dict[tuple[str, str], float]:
    files = sorted(workspace.path("qrels").glob("*.tsv"))
    return {(q.query_id, q.doc_id): q.relevance for file in files for q in read_qrels(file)}


def _by_gain(a: float | None, b: float | None) -> str:
    if a is None or b is None:
        return ""
    return "A" if a > b else "B" if b > a else "tie"


def _by_probability(prob_a: float) -> str:
    if abs(prob_a - 0.5) <= EVEN:
        return "tie"
    return "" if abs(prob_a - 0.5) < CLEAR else "A" if prob_a > 0.5 else "B"
