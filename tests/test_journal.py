"""The journal: what was answered is never asked again, what was not is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from zelo import pipeline
from zelo.artifacts import read_table
from zelo.errors import InputError, JudgeError, WorkspaceError
from zelo.judges import Answer, Comparison
from zelo.judges.journal import Journal, contents
from zelo.progress import Silent
from zelo.recipe import from_dict
from zelo.stages import judge as stage
from zelo.stages.judge import ask
from zelo.workspace import Workspace

COMPARISONS = [Comparison(q, a, b) for q in ("cats", "dogs") for a, b in (("x", "y"), ("y", "z"), ("z", "w"), ("w", "x"))]
QUERY_IDS = [c.query for c in COMPARISONS]


class Counting:
    """A judge that remembers what it was asked; texts in `fails` get no answer."""

    name, prompt_id = "counting", "v1"

    def __init__(self, fails: str = "") -> None:
        self.asked: list[Comparison] = []
        self.fails = fails

    def judge(self, comparisons: Sequence[Comparison]) -> list[Answer]:
        self.asked += comparisons
        assert len({c.query for c in comparisons}) == 1
        return [Answer(None, "failed", cost=0.25) if c.first in self.fails.split() else Answer(0.5, cost=0.5) for c in comparisons]


@pytest.fixture
def context(tmp_path: Path) -> pipeline.Context:
    return pipeline.Context(Workspace.create(tmp_path / "ws", from_dict({})), from_dict({}), tmp_path, Silent())


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "j.sqlite") as opened:
        yield opened


def test_contents_identify_what_is_shown() -> None:
    shown = [
        Comparison("q", "x", "y"),
        Comparison("q", "y", "x"),
        Comparison("r", "x", "y"),
        Comparison("q", "xy", ""),
        Comparison("q", "", "xy"),
    ]
    names = contents([*shown, shown[0]])
    assert len(set(names)) == len(shown)
    assert names[0] == names[-1]
    assert {len(n) for n in names} == {16}
    assert contents(shown) == names[:-1]  # the same in every call


def test_answers_come_back_whole(tmp_path: Path) -> None:
    answer = Answer(-0.125, "ok", "because of \u2028 and \x00 too", 17, 0.003)
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.add("j", "p", "q", [(b"1", answer), (b"2", Answer(None, "refused", cost=0.5))])
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.answers("j", "p", "q") == {b"1": answer}  # a refusal is no answer
        assert journal.cost("j", "p") == pytest.approx(0.503)  # but it was paid
        assert journal.cost("j", "other") == journal.cost("other", "p") == 0.0
        for other in (("k", "p", "q"), ("j", "r", "q"), ("j", "p", "r")):
            assert journal.answers(*other) == {}


def test_each_is_asked_once(journal: Journal, context: pipeline.Context) -> None:
    judge = Counting()
    first = ask(judge, COMPARISONS, QUERY_IDS, journal, context)
    assert judge.asked == COMPARISONS
    again = Counting()
    assert ask(again, COMPARISONS, QUERY_IDS, journal, context) == first
    assert again.asked == []
    assert journal.cost("counting", "v1") == 0.5 * len(COMPARISONS)


def test_only_the_rest_is_asked(journal: Journal, context: pipeline.Context) -> None:
    ask(Counting(), COMPARISONS[::2], QUERY_IDS[::2], journal, context)
    judge = Counting()
    ask(judge, COMPARISONS, QUERY_IDS, journal, context)
    assert judge.asked == COMPARISONS[1::2]


def test_a_changed_text_is_another_question(journal: Journal, context: pipeline.Context) -> None:
    ask(Counting(), COMPARISONS, QUERY_IDS, journal, context)
    judge = Counting()
    changed = [Comparison(c.query, c.first.replace("z", "Z"), c.second.replace("z", "Z")) for c in COMPARISONS]
    ask(judge, changed, QUERY_IDS, journal, context)
    assert judge.asked == [c for c in changed if "Z" in (c.first, c.second)]


def test_another_way_of_asking_is_another_question(journal: Journal, context: pipeline.Context) -> None:
    ask(Counting(), COMPARISONS, QUERY_IDS, journal, context)
    judge = Counting()
    judge.prompt_id = "v2"
    ask(judge, COMPARISONS, QUERY_IDS, journal, context)
    assert judge.asked == COMPARISONS


def test_what_failed_is_asked_again_and_only_that(journal: Journal, context: pipeline.Context) -> None:
    answers = ask(Counting(fails="y w"), COMPARISONS, QUERY_IDS, journal, context)
    assert [a.preference for a in answers] == [0.5, None] * 4
    judge = Counting()
    again = ask(judge, COMPARISONS, QUERY_IDS, journal, context)
    assert judge.asked == COMPARISONS[1::2]
    assert all(a.preference == 0.5 for a in again)
    assert journal.cost("counting", "v1") == 0.5 * 8 + 0.25 * 4


def test_answers_before_a_crash_stay(journal: Journal, context: pipeline.Context) -> None:
    class Crashing(Counting):
        def judge(self, comparisons: Sequence[Comparison]) -> list[Answer]:
            if comparisons[0].query == "dogs":
                raise ConnectionError
            return super().judge(comparisons)

    with pytest.raises(ConnectionError):
        ask(Crashing(), COMPARISONS, QUERY_IDS, journal, context)
    judge = Counting()
    ask(judge, COMPARISONS, QUERY_IDS, journal, context)
    assert {c.query for c in judge.asked} == {"dogs"}


def test_a_batch_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:

        def answers() -> Iterator[tuple[bytes, Answer]]:
            yield b"1", Answer(0.5)
            raise ConnectionError

        with pytest.raises(ConnectionError):
            journal.add("j", "p", "q", answers())
        assert journal.answers("j", "p", "q") == {}


def test_no_journal(tmp_path: Path) -> None:
    (tmp_path / "j.sqlite").write_bytes(b"this is not a database, " * 100)
    with pytest.raises(InputError, match=r"j\.sqlite: not a journal"):
        Journal(tmp_path / "j.sqlite")
    assert (tmp_path / "j.sqlite").read_bytes().startswith(b"this is not")
    for place in (tmp_path, tmp_path / "absent" / "j.sqlite"):
        with pytest.raises(WorkspaceError, match="cannot be written"):
            Journal(place)


def test_another_process_is_writing_for_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path: connect(path, timeout=0.01))
    with Journal(tmp_path / "j.sqlite") as journal:
        other = connect(tmp_path / "j.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(WorkspaceError, match="locked"):
            journal.add("j", "p", "q", [(b"1", Answer(0.5))])
        other.close()
        journal.add("j", "p", "q", [(b"1", Answer(0.5))])
        assert len(journal.answers("j", "p", "q")) == 1


class TestStage:
    """The stage with a judge whose answers fail."""

    def run(self, root: Path, monkeypatch: pytest.MonkeyPatch, judge: Counting, **settings: str) -> Workspace:
        monkeypatch.setattr(stage, "make_judge", lambda name, materials: judge)
        opened = Workspace.open(root)
        opened.recipe = opened.recipe.with_settings({"judge.ensemble": '["lexical"]', **settings})
        pipeline.run(opened, start="judge", stop="judge", force=["judge"])
        return opened

    def fails(self, root: Path, share: float) -> str:
        pairs = read_table(root / "pairs" / "tournament.parquet", "pairs")
        first = [a if side == "a" else b for a, b, side in zip(pairs["doc_id_a"], pairs["doc_id_b"], pairs["shown_first"], strict=True)]
        self.first = first
        return " ".join(sorted(set(first))[: int(share * len(set(first)))])

    def test_too_many_missing_is_an_error_that_keeps_the_rest(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        texts = stage.inputs.documents
        monkeypatch.setattr(stage.inputs, "documents", lambda context: {d: d for d in texts(context)})  # a text is its id
        fails = self.fails(workspace, 0.5)
        before = (workspace / "judgments" / "ensemble.parquet").read_bytes()
        with pytest.raises(JudgeError, match=r"judge counting gave no usable answer to .* run again"):
            self.run(workspace, monkeypatch, Counting(fails))
        assert (workspace / "judgments" / "ensemble.parquet").read_bytes() == before
        judge = Counting()
        opened = self.run(workspace, monkeypatch, judge)
        assert sorted(c.first for c in judge.asked) == sorted(d for d in self.first if d in fails.split())
        # What was paid for in vain before counts too.
        assert opened.entry("judge").cost == 0.5 * len(self.first) + 0.25 * len(judge.asked)  # type: ignore[union-attr]

    def test_missing_is_missing(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        texts = stage.inputs.documents
        monkeypatch.setattr(stage.inputs, "documents", lambda context: {d: d for d in texts(context)})
        fails = self.fails(workspace, 0.2)
        opened = self.run(workspace, monkeypatch, Counting(fails), **{"judge.max_missing": "0.9"})
        table = read_table(opened.path("judgments"), "judgments")
        lost = np.array([d in fails.split() for d in self.first])
        assert (np.isnan(table["preference"]) == lost).all()
        assert [s == "failed" for s in table["status"]] == lost.tolist()
        sign = np.array([1.0 if side == "a" else -1.0 for side in table["shown_first"]])
        assert (table["preference"][~lost] == 0.5 * sign[~lost]).all()  # + is for a, whatever was shown first
        pipeline.run(opened, start="pool", stop="fit")
        assert len(read_table(opened.path("preferences"), "preferences")["prob_a"]) == (~lost).sum()
