"""The journal: what was answered is never asked again, what was not is."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo import pipeline, runner
from zelo.artifacts import read_table
from zelo.errors import InputError, JudgeError, WorkspaceError
from zelo.judges import Answer, Comparison
from zelo.judges.filesystems import OVERRIDE, file_system, refuse_network
from zelo.judges.journal import ERROR, SAMPLE, STATUSES, VERSION, Attempt, Journal, _match, contents
from zelo.progress import Silent
from zelo.recipe import from_dict
from zelo.stages import judge as stage
from zelo.stages.judge import ask_questions
from zelo.stages.questions import Pairs, Texts, a_first, in_shard, read_pairs, swapped_rows
from zelo.workspace import Workspace

COMPARISONS = [Comparison(q, a, b) for q in ("cats", "dogs") for a, b in (("x", "y"), ("y", "z"), ("z", "w"), ("w", "x"))]


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


def ask(judge: Counting, comparisons: Sequence[Comparison], journal: Journal, context: pipeline.Context) -> list[float | None]:
    """Ask through the stage's own function; returns the preferences."""
    words = list(dict.fromkeys(text for c in comparisons for text in (c.query, c.first, c.second)))
    texts = Texts(words, journal.texts(words, words), 0)
    rows = np.array([[words.index(c.query), words.index(c.first), words.index(c.second), -1] for c in comparisons])
    ((_, standing),) = ask_questions([judge], [rows], texts, journal, context)
    return [row[0] for row in journal.read(standing.attempt)]


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
        Comparison("q", "x", "y", "r"),
    ]
    names = contents([*shown, shown[0]])
    assert len(set(names)) == len(shown)
    assert names[0] == names[-1]
    assert {len(n) for n in names} == {16}
    assert contents(shown) == names[:-1]  # the same in every call


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=30, unique=True), st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=30))
def test_rows_are_found(stored: list[tuple[int, ...]], wanted: list[tuple[int, ...]]) -> None:
    arrays = [np.array(rows, np.int64).reshape(-1, 3) for rows in (stored, wanted)]
    found = _match(arrays[0], np.arange(1, len(stored) + 1), arrays[1])
    assert found.tolist() == [stored.index(row) + 1 if row in stored else 0 for row in wanted]


def test_rows_are_found_where_hashes_collide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zelo.judges.journal._mixed", lambda rows: rows[:, 0].astype(np.uint64) % 2)
    stored = np.array([[n, n * n] for n in range(9)])
    wanted = np.concatenate([stored[::-1], [[3, 0], [20, 400]]])
    assert _match(stored, np.arange(1, 10), wanted).tolist() == [*range(9, 0, -1), 0, 0]


def test_answers_come_back_whole(tmp_path: Path) -> None:
    answer = Answer(-0.125, "ok", "because of \u2028 and \x00 too \udc80", 17, 4, 0.003, 1.5, "schema", "override")
    refused = Answer(None, "refused", cost=0.5, note="n" * 900)
    with Journal(tmp_path / "j.sqlite") as journal:
        judge, other = journal.judge("j", "p"), journal.judge("j", "other")
        journal.add([Attempt(judge, 1, answer), Attempt(judge, 2, refused), Attempt(judge, 3, Answer(None, "failed"), error=True)])
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.judge("j", "p") == judge
        standing = journal.standing(judge, np.array([3, 2, 1, 7]))
        assert standing.attempt.tolist() == [3, 2, 1, 0]
        assert [STATUSES[s] for s in standing.status] == ["error", "refused", "ok", "error"]
        assert standing.unusable.tolist() == [0, 1, 0, 0]  # a call that failed is no answer
        assert standing.answered.tolist() == [False, False, True, False]
        rows = journal.read(standing.attempt[::-1])
        assert rows[0] == (None, ERROR, 0, 0, 0.0, 0.0, "never asked", "", "")
        assert rows[1] == (-0.125, 0, 17, 4, 0.003, 1.5, "schema", "override", answer.reasoning)
        assert (rows[2][6], len(rows[2][6])) == ("n" * 500, 500)
        assert journal.spent(judge) == journal.spent() == (0.503, 21)  # a refusal is no answer, but it was paid
        assert journal.spent(other) == (0.0, 0)
        assert not journal.standing(other, np.array([1, 2])).answered.any()


def test_the_first_usable_answer_counts_and_else_the_last_attempt(journal: Journal) -> None:
    judge = journal.judge("j", "p")
    given = [(1, None), (1, 0.5), (2, 0.25), (1, -0.5), (3, None), (3, None)]
    journal.add([Attempt(judge, q, Answer(p, "ok" if p is not None else "truncated")) for q, p in given])
    standing = journal.standing(judge, np.array([1, 2, 3]))
    assert standing.attempt.tolist() == [2, 3, 6]
    assert standing.unusable.tolist() == [1, 0, 2]


def test_answers_that_were_cut_may_be_longer_now(journal: Journal) -> None:
    judge = journal.judge("j", "p")
    cut = Answer(None, "truncated", output_tokens=100)
    journal.add([Attempt(judge, 1, cut), Attempt(judge, 1, cut), Attempt(judge, 2, Answer(None, "refused", output_tokens=3))])
    for room, unusable in ((0, [2, 1, 0]), (100, [2, 1, 0]), (101, [0, 1, 0])):
        standing = journal.standing(judge, np.array([1, 2, 3]), room)
        assert standing.unusable.tolist() == unusable
        assert [STATUSES[s] for s in standing.status[:2]] == ["truncated", "refused"]


@pytest.mark.parametrize(("keep", "kept"), [("all", range(1, 201)), ("sample", range(SAMPLE, 201, SAMPLE)), ("none", ())])
def test_which_reasoning_is_kept(keep: str, kept: Sequence[int], tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite", keep_reasoning=keep) as journal:  # type: ignore[arg-type]
        judge = journal.judge("j", "p")
        journal.add([Attempt(judge, q, Answer(0.5, "ok", f"reason {q}")) for q in range(1, 201)])
        rows = journal.read(journal.standing(judge, np.arange(1, 201)).attempt)
    assert [q for q, row in enumerate(rows, 1) if row[-1] == f"reason {q}"] == list(kept)
    assert sum(bool(row[-1]) for row in rows) == len(kept)


def test_each_is_asked_once(journal: Journal, context: pipeline.Context) -> None:
    judge = Counting()
    first = ask(judge, COMPARISONS, journal, context)
    assert judge.asked == COMPARISONS
    again = Counting()
    assert ask(again, COMPARISONS, journal, context) == first == [0.5] * len(COMPARISONS)
    assert again.asked == []
    assert journal.spent() == (0.5 * len(COMPARISONS), 0)


def test_only_the_rest_is_asked(journal: Journal, context: pipeline.Context) -> None:
    ask(Counting(), COMPARISONS[::2], journal, context)
    judge = Counting()
    ask(judge, COMPARISONS, journal, context)
    assert judge.asked == COMPARISONS[1::2]


def test_what_comes_twice_is_asked_once(journal: Journal, context: pipeline.Context) -> None:
    judge = Counting()
    assert ask(judge, [*COMPARISONS, *COMPARISONS[::-1]], journal, context) == [0.5] * 16
    assert judge.asked == COMPARISONS


def test_a_changed_text_is_another_question(journal: Journal, context: pipeline.Context) -> None:
    ask(Counting(), COMPARISONS, journal, context)
    judge = Counting()
    changed = [Comparison(c.query, c.first.replace("z", "Z"), c.second.replace("z", "Z")) for c in COMPARISONS]
    ask(judge, changed, journal, context)
    assert judge.asked == [c for c in changed if "Z" in (c.first, c.second)]


def test_another_way_of_asking_is_another_question(journal: Journal, context: pipeline.Context) -> None:
    ask(Counting(), COMPARISONS, journal, context)
    judge = Counting()
    judge.prompt_id = "v2"
    ask(judge, COMPARISONS, journal, context)
    assert judge.asked == COMPARISONS


def test_what_failed_is_asked_again_and_only_that(journal: Journal, context: pipeline.Context) -> None:
    assert ask(Counting(fails="y w"), COMPARISONS, journal, context) == [0.5, None] * 4
    judge = Counting()
    assert ask(judge, COMPARISONS, journal, context) == [0.5] * 8
    assert judge.asked == COMPARISONS[1::2]
    assert journal.spent() == (0.5 * 8 + 0.25 * 4, 0)


def test_answers_before_a_crash_stay(journal: Journal, context: pipeline.Context) -> None:
    class Crashing(Counting):
        def judge(self, comparisons: Sequence[Comparison]) -> list[Answer]:
            if comparisons[0].query == "dogs":
                raise KeyboardInterrupt  # not an exception of the judge's own, which would be a failed call
            return super().judge(comparisons)

    with pytest.raises(KeyboardInterrupt):
        ask(Crashing(), COMPARISONS, journal, context)
    judge = Counting()
    ask(judge, COMPARISONS, journal, context)
    assert {c.query for c in judge.asked} == {"dogs"}


def test_a_group_is_kept_whole_or_not_at_all(journal: Journal) -> None:
    judge = journal.judge("j", "p")
    bad = Attempt(judge, 2, Answer(0.5, note=7))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        journal.add([Attempt(judge, 1, Answer(0.5, note="new")), bad])
    assert not journal.standing(judge, np.array([1, 2])).answered.any()
    journal.add([Attempt(judge, 1, Answer(0.5, note="new"))])  # the number and the word of the lost one are free again
    assert journal.read(journal.standing(judge, np.array([1])).attempt)[0][6] == "new"


def test_no_journal(tmp_path: Path) -> None:
    (tmp_path / "j.sqlite").write_bytes(b"this is not a database, " * 100)
    with pytest.raises(InputError, match=r"j\.sqlite: not a journal"):
        Journal(tmp_path / "j.sqlite")
    assert (tmp_path / "j.sqlite").read_bytes().startswith(b"this is not")
    for place in (tmp_path, tmp_path / "absent" / "j.sqlite"):
        with pytest.raises(WorkspaceError, match="cannot be written"):
            Journal(place)


def test_other_versions_are_refused_and_left_alone(tmp_path: Path) -> None:
    old, other, new = (tmp_path / f"{name}.sqlite" for name in ("old", "other", "new"))
    with sqlite3.connect(old) as database:
        database.execute("CREATE TABLE attempts (judge TEXT, prompt_id TEXT, content BLOB)")
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE photographs (place TEXT)")
    with Journal(new):
        pass
    with sqlite3.connect(new) as database:
        database.execute("UPDATE meta SET value = ? WHERE key = 'version'", (VERSION + 1,))
    for path, words in ((old, "earlier zelo.*move it away"), (other, "not a journal"), (new, f"version {VERSION + 1}")):
        before = path.read_bytes()
        with pytest.raises(WorkspaceError, match=words):
            Journal(path)
        assert path.read_bytes() == before


def test_another_process_is_writing_for_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, check_same_thread: connect(path, timeout=0.01))
    with Journal(tmp_path / "j.sqlite") as journal:
        judge = journal.judge("j", "p")
        other = connect(tmp_path / "j.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(WorkspaceError, match="locked"):
            journal.add([Attempt(judge, 1, Answer(0.5))])
        other.close()
        journal.add([Attempt(judge, 1, Answer(0.5))])
        assert journal.standing(judge, np.array([1])).answered.all()


FILLING = """
import resource, sys
from pathlib import Path
from zelo.errors import WorkspaceError
from zelo.judges import Answer
from zelo.judges.journal import Attempt, Journal
with Journal(Path(sys.argv[1])) as journal:
    judge = journal.judge("j", "p")
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
    for n in range(1, 100_000):
        try:
            journal.add([Attempt(judge, n, Answer(0.5, "ok", f"{n} " * 40))])
        except WorkspaceError as error:
            print(n - 1, error)
            break
"""


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", FILLING, str(tmp_path / "j.sqlite")], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    count, message = ran.stdout.split(" ", 1)
    assert "the journal cannot be written" in message
    assert "free some space" in message
    assert len(message.splitlines()) == 1
    assert int(count) > 100
    with Journal(tmp_path / "j.sqlite") as journal:
        judge = journal.judge("j", "p")
        questions = np.arange(1, int(count) + 3)
        assert journal.standing(judge, questions).answered.tolist() == [True] * int(count) + [False] * 2
        journal.add([Attempt(judge, int(count) + 1, Answer(0.5))])


MOUNTS = r"""
22 27 0:21 / /proc rw - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:40 / /net rw - autofs auto rw
41 40 0:41 / /net/home rw - nfs4 server:/home rw
42 27 0:42 / /data\040sets rw shared:1 - fuse.sshfs me@there: rw
43 41 0:43 / /net/home/local rw - xfs /dev/vdb rw
44 27 0:44 / /shared rw - ext4 /dev/vdc rw
45 27 0:45 / /shared rw - cifs //server/share rw
46 27 0:46 / /vm rw - 9p host rw
nonsense
"""


def test_network_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    for folder, kind in (
        ("/anywhere", "ext4"),
        ("/net/home/me/ws", "nfs4"),
        ("/net/homework", "autofs"),
        ("/net/home/local/ws", "xfs"),
        ("/data sets/x", "fuse.sshfs"),
        ("/shared", "cifs"),
        ("/vm/x", "9p"),
    ):
        assert file_system(Path(folder), mounts) == kind
        if kind in ("nfs4", "fuse.sshfs", "cifs"):
            with pytest.raises(WorkspaceError, match=rf"network file system \({kind}\).*local disk"):
                refuse_network(Path(folder), mounts)
            monkeypatch.setenv(OVERRIDE, "1")
            assert refuse_network(Path(folder), mounts)
            monkeypatch.delenv(OVERRIDE)
        else:
            assert not refuse_network(Path(folder), mounts)
    assert file_system(Path("/x"), tmp_path / "absent") == ""


def test_a_journal_on_a_network_is_for_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zelo.judges.journal.refuse_network", lambda folder: True)
    with Journal(tmp_path / "j.sqlite") as journal:
        judge = journal.judge("j", "p")
        journal.add([Attempt(judge, 1, Answer(0.5))])
        assert not (tmp_path / "j.sqlite-shm").exists()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            sqlite3.connect(tmp_path / "j.sqlite", timeout=0.01).execute("SELECT * FROM attempts").fetchall()


def some_pairs(queries: int = 40, cycles: int = 3, documents: int = 10) -> Pairs:
    base = np.arange(queries * cycles * documents)
    query, cycle, a = base // (cycles * documents), base // documents % cycles, base % documents
    b = (a + cycle + 1) % documents
    first = np.minimum(a, b) == a
    return Pairs(
        [f"q{i}" for i in range(queries)], [f"d{i}" for i in range(documents)], query, np.minimum(a, b), np.maximum(a, b), first, cycle
    )


class TestQuestions:
    def test_each_judge_has_its_own_order_and_each_document_leads_in_half(self) -> None:
        pairs = some_pairs()
        orders = {judge: a_first(pairs, judge, 0) for judge in ("one", "two")}
        assert (orders["one"] == a_first(pairs, "one", 0)).all()
        assert 0.35 < (orders["one"] == orders["two"]).mean() < 0.65
        for order in orders.values():
            assert 0.35 < (order == pairs.a_first).mean() < 0.65
            leader = np.where(order, pairs.a, pairs.b)
            key = (pairs.query * 3 + pairs.cycle) * 10 + leader
            assert (np.bincount(key) == 1).all()  # once in every cycle
        fewer = pairs.select(pairs.query != 0)
        assert (a_first(fewer, "one", 0) == orders["one"][pairs.query != 0]).all()  # another query changes nothing

    def test_swapped_pairs(self) -> None:
        pairs = some_pairs()
        assert len(swapped_rows(pairs, 0, 0)) == 0
        assert len(swapped_rows(pairs, 1, 0)) == len(pairs)
        rows = swapped_rows(pairs, 0.1, 0)
        assert 70 < len(rows) < 170
        assert len(swapped_rows(pairs.select(np.array([], np.int64)), 0.1, 0)) == 0

    def test_shards_are_queries(self) -> None:
        pairs = some_pairs()
        parts = np.array([in_shard(pairs, part, 3) for part in range(3)])
        assert (parts.sum(0) == 1).all()
        assert all(len(set(pairs.query[part])) > 5 for part in parts)
        assert all(in_shard(pairs.select(part), n, 3).all() for n, part in enumerate(parts))

    def test_pairs_are_read_as_numbers(self, finished: Path) -> None:
        path = finished / "pairs" / "tournament.parquet"
        table, pairs = read_table(path, "pairs"), read_pairs(path)
        assert [pairs.query_ids[i] for i in pairs.query] == table["query_id"]
        assert [pairs.doc_ids[i] for i in pairs.a] == table["doc_id_a"]
        assert [pairs.doc_ids[i] for i in pairs.b] == table["doc_id_b"]
        assert [("b", "a")[side] for side in pairs.a_first.astype(int)] == table["shown_first"]
        assert pairs.cycle.tolist() == table["cycle"].tolist()


class TestStage:
    """The stage with a judge whose answers fail."""

    def run(self, root: Path, monkeypatch: pytest.MonkeyPatch, judge: Counting, **settings: str) -> Workspace:
        monkeypatch.setattr(stage, "make_judge", lambda name, materials, recipe: judge)
        texts = inputs_documents
        monkeypatch.setattr(stage.inputs, "documents", lambda context: {d: d for d in texts(context)})  # a text is its id
        opened = Workspace.open(root)
        opened.recipe = opened.recipe.with_settings({"judge.ensemble": '["lexical"]', **settings})
        runner.run(opened, start="judge", stop="judge", force=["judge"])
        return opened

    def first(self, root: Path) -> list[str]:
        pairs = read_pairs(root / "pairs" / "tournament.parquet")
        order = a_first(pairs, "counting", 0)
        return [pairs.doc_ids[i] for i in np.where(order, pairs.a, pairs.b)]

    def test_too_many_missing_is_an_error_that_keeps_the_rest(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = self.first(workspace)
        fails = sorted(set(first))[: len(set(first)) // 2]
        before = (workspace / "judgments" / "ensemble.parquet").read_bytes()
        with pytest.raises(JudgeError, match=r"judge counting gave no usable answer to .* failed.* run again"):
            self.run(workspace, monkeypatch, Counting(" ".join(fails)))
        assert (workspace / "judgments" / "ensemble.parquet").read_bytes() == before
        judge = Counting()
        opened = self.run(workspace, monkeypatch, judge)
        assert sorted(c.first for c in judge.asked) == sorted(d for d in first if d in fails)
        # What was paid for in vain before counts too.
        assert opened.entry("judge").cost == 0.5 * len(first) + 0.25 * len(judge.asked)  # type: ignore[union-attr]

    def test_missing_is_missing(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = self.first(workspace)
        fails = sorted(set(first))[: len(set(first)) // 5]
        opened = self.run(workspace, monkeypatch, Counting(" ".join(fails)), **{"judge.max_missing": "0.9"})
        table = read_table(opened.path("judgments"), "judgments")
        lost = np.array([d in fails for d in first])
        assert (np.isnan(table["preference"]) == lost).all()
        assert [s == "failed" for s in table["status"]] == lost.tolist()
        sign = np.array([1.0 if side == "a" else -1.0 for side in table["shown_first"]])
        assert (table["preference"][~lost] == 0.5 * sign[~lost]).all()  # + is for a, whatever was shown first
        assert opened.entry("judge").notes == (f"counting: {lost.sum()} of {len(lost)} missing ({lost.sum()} failed)",)  # type: ignore[union-attr]
        assert read_table(opened.path("swapped"), "swapped")["query_id"] == []  # an offline judge is not audited so
        runner.run(opened, start="pool", stop="fit")
        assert len(read_table(opened.path("preferences"), "preferences")["prob_a"]) == (~lost).sum()


inputs_documents = stage.inputs.documents
