"""Pairs of a workspace as problems of judging."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import zelo
from zelo.artifacts import read_table
from zelo.collections.beir import read_corpus, read_qrels
from zelo.errors import WorkspaceError
from zelo.reasoning.folder import Folder
from zelo.reasoning.workspace_pairs import CLEAR, EVEN, workspace_problems
from zelo.workspace import Workspace


def test_labels_and_ensembles_give_answers(workspace: Path) -> None:
    opened = Workspace.open(workspace)
    gains = {(q.query_id, q.doc_id): q.relevance for f in opened.path("qrels").glob("*.tsv") for q in read_qrels(f)}
    texts = {d.doc_id: d.full_text for d in read_corpus(opened.path("corpus"))}
    found = workspace_problems(opened, "qrels")
    assert found
    for problem in found:
        query, a, b = problem.group.split(":")
        first, second = (b, a) if problem.swapped else (a, b)
        right = gains[query, first] - gains[query, second]
        assert problem.answer == ("A" if right > 0 else "B" if right < 0 else "tie")
        assert problem.prompt.index(texts[first][:40]) < problem.prompt.index(texts[second][:40])
    assert {p.swapped for p in found} == {True, False}
    table = read_table(opened.path("preferences"), "preferences")
    agreed = {f"{q}:{a}:{b}": p for q, a, b, p in zip(*(table[k] for k in ("query_id", "doc_id_a", "doc_id_b", "prob_a")), strict=True)}
    for problem in workspace_problems(opened, "ensemble", both_orders=False):
        p = agreed.pop(problem.group)
        assert problem.answer == ("tie" if abs(p - 0.5) <= EVEN else "A" if p > 0.5 else "B")
    assert all(EVEN < abs(p - 0.5) < CLEAR for p in agreed.values())  # what is not clear is left out


def test_from_the_command_line_and_what_is_missing(workspace: Path, tmp_path: Path) -> None:
    ran = zelo("reasoning", "import", tmp_path / "f", workspace, "--answers", "ensemble")
    assert ran.code == 0, ran.err
    assert "what the ensemble agrees on" in ran.out
    assert all(p.task == "judging" for p in Folder(tmp_path / "f").problems().values())
    (workspace / "preferences.parquet").unlink()
    with pytest.raises(WorkspaceError, match=r"preferences\.parquet is not there.*--to pool"):
        workspace_problems(Workspace.open(workspace), "ensemble")
    wrong = zelo("reasoning", "import", workspace, tmp_path / "x.jsonl")
    assert (wrong.code, "holds something else" in wrong.err) == (2, True)


def test_a_workspace_can_be_the_evaluation_set(workspace: Path, tmp_path: Path) -> None:
    ran = zelo("reasoning", "import", tmp_path / "f", workspace, "--as", "evaluation")
    assert ran.code == 0, ran.err
    state = Folder(tmp_path / "f")
    assert not state.has_problems()
    assert {p.task for p in state.evaluation() or []} == {"judging"}
    wrong = zelo("reasoning", "import", tmp_path / "f", workspace, "--as", "rates")
    assert (wrong.code, "a workspace holds no rates" in wrong.err) == (2, True)
