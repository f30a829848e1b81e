"""Traces by hand: out as Markdown, edited, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import zelo
from zelo.errors import InputError
from zelo.reasoning.folder import Folder
from zelo.reasoning.markdown import checkin, checkout
from zelo.types import Problem, Trace


@pytest.fixture
def state(tmp_path: Path) -> Folder:
    made = Folder.create(tmp_path / "f")
    made.add_problems([Problem("a/1", "1 + 1?", "2"), Problem("a_1", "## Trace\n2 + 2?", "4")])
    rows = [{"problem_id": name, "source": "me", "reasoning": f"hm\n\n## Trace\n\n\\boxed{{{n}}}"} for name, n in (("a/1", 2), ("a_1", 4))]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert zelo("reasoning", "import", made.root, tmp_path / "t.jsonl").code == 0
    return made


def test_round_trip_without_edits_changes_nothing(state: Folder, tmp_path: Path) -> None:
    rows = state.traces(1)[:1]
    assert checkout(rows, state.problems(), tmp_path / "md") == 1
    found, changed = checkin(tmp_path / "md", rows, "me")
    assert changed == 0
    assert [(t.reasoning, t.stage, t.correct) for t in found] == [(rows[0].reasoning, 2, True)]


def test_edits_come_back_as_the_next_stage_verified(state: Folder, tmp_path: Path) -> None:
    assert zelo("reasoning", "checkout", state.root, tmp_path / "md").out.startswith("2 files")
    path = next(p for p in (tmp_path / "md").glob("a_1--me--0-*.md") if "1 + 1" in p.read_text())
    path.write_text(path.read_text().replace("\\boxed{2}", "I am sure: \\boxed{3}"))
    ran = zelo("reasoning", "checkin", state.root, tmp_path / "md", "--editor", "Ada")
    assert ran.code == 0, ran.err
    assert "2 traces, 1 edited; 1 that were right are not right any more" in ran.out
    by_problem = {t.problem_id: t for t in state.traces(2)}
    assert by_problem["a/1"].note == "edited by Ada"
    assert (by_problem["a/1"].correct, by_problem["a_1"].correct) == (False, True)
    assert state.traces(1)[0].correct  # the stage before is as it was


def test_edits_are_not_overwritten_and_faults_are_named(state: Folder, tmp_path: Path) -> None:
    md, rows = tmp_path / "md", state.traces(1)[:1]
    checkout(rows, state.problems(), md)
    checkout(rows, state.problems(), md)  # nothing was edited: again is fine
    path = next(md.glob("*.md"))
    page = path.read_text()
    digest = page.split("digest ")[1][:16]
    path.write_text(page + "more\n")
    with pytest.raises(InputError, match="holds edits"):
        checkout(rows, state.problems(), md)
    for faulty, message in (
        ("no heading\n", "does not name a trace"),
        (page.partition("\n## Trace")[0], "is gone"),
        (page.replace("stage 1", "stage 4"), "about stage 4"),
        (page.replace(digest, "0" * 16), "has changed since"),
        (page.partition("\n## Trace")[0] + f"\n## Trace {digest}\n\n \n", "no trace in it"),
    ):
        path.write_text(faulty)
        with pytest.raises(InputError, match=message):
            checkin(md, rows, "me")
    path.write_text(page)
    (md / "copy.md").write_text(page)
    with pytest.raises(InputError, match="second file"):
        checkin(md, rows, "me")
    with pytest.raises(InputError, match="no Markdown"):
        checkin(tmp_path, [Trace("p", "s", 0, "x")], "me")
