"""Commands of `zelo reasoning` in an order that could lose something: it is refused, or nothing is lost."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from zelo.cli import cli
from zelo.errors import InputError
from zelo.reasoning.edit import taken_over
from zelo.reasoning.folder import Folder
from zelo.reasoning.importing import import_into
from zelo.reasoning.sampling import refuse_mixture
from zelo.reasoning.select import Choice
from zelo.reasoning.writing import Written
from zelo.types import Problem, Trace

PROBLEM = Problem("p", "What is 1 + 1?", "2")


@pytest.fixture
def work(tmp_path: Path) -> Folder:
    folder = Folder.create(tmp_path / "work")
    folder.add_problems([PROBLEM])
    folder.write_traces(1, [Trace("p", "model", 0, "It is \\boxed{2}.", answer="2", correct=True, prompt_id="long 1")])
    return folder


def run(*arguments: object) -> tuple[int, str]:
    ran = CliRunner().invoke(cli, ["reasoning", *map(str, arguments)])
    assert ran.exception is None or isinstance(ran.exception, SystemExit | InputError), ran.exception
    return ran.exit_code, ran.output


def test_a_cut_trace_stays_cut_where_its_edit_did_harm(work: Folder) -> None:
    cut = replace(work.traces(1)[0], finish="length")
    (kept,) = taken_over([cut], [Written("It is \\boxed{3}.", "stop", 9, 0.0)], {"p": PROBLEM}, "clean 1")
    assert (kept.reasoning, kept.finish) == (cut.reasoning, "length")
    assert "made it wrong" in kept.note


def test_a_checkin_does_not_replace_what_a_model_edited(work: Folder, tmp_path: Path) -> None:
    assert run("checkout", work.root, tmp_path / "md", "--stage", 1)[0] == 0
    (file,) = (tmp_path / "md").glob("*.md")
    file.write_text(file.read_text().replace("It is", "Surely it is"))
    assert run("checkin", work.root, tmp_path / "md", "--stage", 1)[0] == 0
    file.write_text(file.read_text().replace("Surely", "Certainly"))
    assert run("checkin", work.root, tmp_path / "md", "--stage", 1)[0] == 0  # one's own edits may be mended
    assert "Certainly" in work.traces(2)[0].reasoning
    work.write_traces(3, [replace(work.traces(2)[0], stage=3, prompt_id="clean 1")])
    with pytest.raises(InputError, match="stage 3 was made from it"):
        cli.main(["reasoning", "checkin", str(work.root), str(tmp_path / "md"), "--stage", "1"], standalone_mode=False)
    work.write_traces(2, [replace(work.traces(1)[0], stage=2, prompt_id="clean 1")])
    with pytest.raises(InputError, match="stage 2 was made by clean"):
        cli.main(["reasoning", "checkin", str(work.root), str(tmp_path / "md"), "--stage", "1"], standalone_mode=False)
    assert work.traces(2)[0].prompt_id == "clean 1"


def test_samples_of_a_source_may_come_in_several_files(tmp_path: Path) -> None:
    folder = Folder.create(tmp_path / "work")
    for part, said in (("one", ["\\boxed{2}", "\\boxed{3}"]), ("two", ["So \\boxed{2}", "\\boxed{3}"])):
        rows = [{"problem": PROBLEM.prompt, "answer": "2", "solution": text, "solutions": said} for text in said[:1]]
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        import_into(folder, tmp_path / f"{part}.jsonl", "traces", source="qwen")
    texts = sorted(t.reasoning for t in folder.traces(1))
    assert len(texts) == len({t.key for t in folder.traces(1)}) == len(set(texts)) >= 2
    import_into(folder, tmp_path / "two.jsonl", "traces", source="qwen")  # what is there is there once
    assert sorted(t.reasoning for t in folder.traces(1)) == texts


def test_a_source_is_sampled_in_one_way(work: Folder) -> None:
    refuse_mixture(work, "model", "long 1")
    refuse_mixture(work, "another", "plain 1")
    with pytest.raises(InputError, match=r"sampled by 'long 1', this is 'plain 1'.*name another --source"):
        refuse_mixture(work, "model", "plain 1")


def test_infinite_shares_are_none() -> None:
    with pytest.raises(InputError, match="weights from 0"):
        Choice(1, "diverse", {"medium": math.inf})


def test_paths_that_are_something_else(work: Folder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}\n")
    for arguments, what in (
        (("import", tmp_path / "file", tmp_path / "file"), "is a file, not a folder"),
        (("analyze", work.root, "--html", tmp_path / "no" / "x.html"), "the page cannot be written"),
    ):
        with pytest.raises(Exception, match=what):
            cli.main(["reasoning", *map(str, arguments)], standalone_mode=False)


def test_a_question_under_two_ids_is_taught_once(work: Folder) -> None:
    work.add_problems([replace(PROBLEM, problem_id="again")])
    work.merge_traces(1, [replace(work.traces(1)[0], problem_id="again")])
    assert run("select", work.root, "-n", 5)[0] == 0
    assert [t.problem_id for t in work.selected()] == ["p"]


def test_solutions_need_a_question(tmp_path: Path) -> None:
    row = {"a": {"solution": "s", "is_correct": True}, "b": {"solution": "t", "is_correct": False}}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=r"pairs\.jsonl:1: solutions without a question"):
        import_into(Folder.create(tmp_path / "work"), tmp_path / "pairs.jsonl", "pairs")


def test_problems_without_an_answer_are_counted(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"problem": "q", "answer": ["1"]}\n{"problem": "r", "answer": "1"}\n')
    found = import_into(Folder.create(tmp_path / "work"), tmp_path / "p.jsonl")
    assert (found.problems, found.remark) == (2, "1 have no answer that can be checked: their traces stay unverified")
