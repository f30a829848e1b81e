"""Pairs chosen in rounds, inside the judge stage: never twice, within the number asked for, resumed from the journal."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from conftest import zelo
from zelo.artifacts import read_table
from zelo.core.comparison_graph import rng_for
from zelo.core.designs import draw_pairs
from zelo.recipe import Pairs as Settings
from zelo.stages.questions import Pairs
from zelo.stages.rounds import first_round, in_rounds

MUTE = """
from zlib import crc32

from zelo.judges import Answer

class Mute:
    name, prompt_id, concurrency = "mute", "none", 4

    async def attempt(self, comparison):
        lost = crc32((comparison.first + comparison.second).encode()) % 3 == 0
        return Answer(None, "unparsable") if lost else Answer(1.0)

def make(recipe):
    return Mute()
"""
IDS = [f"d{n:02}" for n in range(41)]
QUERIES = 3


def start(settings: Settings) -> Pairs:
    """The first round's pairs of three queries of 41 documents."""
    drawn = [draw_pairs(len(IDS), first_round(len(IDS), settings), rng_for(1, str(q), "start")) for q in range(QUERIES)]
    edges = np.concatenate(drawn)
    query = np.repeat(np.arange(QUERIES), [len(d) for d in drawn])
    a, b = edges.min(axis=1), edges.max(axis=1)
    return Pairs([f"q{q}" for q in range(QUERIES)], IDS, query, a, b, edges[:, 0] == a, np.zeros(len(edges), np.int64))


class Judges:
    """Three who know the scores, n / 8 in logits, up to noise that belongs to the pair; they count what is new."""

    def __init__(self) -> None:
        self.asked: list[set[tuple[int, int, int]]] = []

    def __call__(self, pairs: Pairs) -> np.ndarray:
        self.asked.append(set(zip(pairs.query.tolist(), pairs.a.tolist(), pairs.b.tolist(), strict=True)))
        assert len(self.asked[-1]) == len(pairs), "a pair twice"
        votes = np.empty((len(pairs), 3))
        for row, (q, a, b) in enumerate(zip(pairs.query.tolist(), pairs.a.tolist(), pairs.b.tolist(), strict=True)):
            noise = rng_for(0, f"{q} {a} {b}", "noise").logistic(size=3)
            votes[row] = np.sign((a - b) / 8 + noise)
        return votes


@pytest.mark.parametrize("aim", ["top", "balanced", "information"])
@pytest.mark.parametrize(("per_round", "rounds"), [(100, (1, 1)), (30, (3, 4))])
def test_more_pairs_come_in_rounds(aim: str, per_round: int, rounds: tuple[int, int]) -> None:
    settings = Settings(design="adaptive", aim=aim, comparisons=120, per_round=per_round, settle=0.0)  # type: ignore[arg-type]
    judges = Judges()
    pairs, votes, remark = in_rounds(start(settings), judges, lambda v: v, settings, 5)
    assert len(judges.asked) == 1 + rounds[aim == "top"]  # after 41 pairs, or 21
    assert all(earlier < later for earlier, later in zip(judges.asked, judges.asked[1:], strict=False))
    assert np.bincount(pairs.query).tolist() == [120] * QUERIES
    assert (np.diff(pairs.query) >= 0).all()
    assert len(votes) == len(pairs)
    assert all(IDS[a] < IDS[b] for a, b in zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))
    lead = np.bincount(np.where(pairs.a_first, pairs.a, pairs.b)[pairs.query == 0], minlength=41)
    rest = np.bincount(np.where(pairs.a_first, pairs.b, pairs.a)[pairs.query == 0], minlength=41)
    assert np.abs(lead - rest).max() <= 4
    assert remark.startswith("pairs chosen in rounds: 120 per query on average over 3 queries")
    if aim == "top":
        late = np.concatenate([pairs.a, pairs.b])[np.tile(pairs.cycle > 0, 2)]
        # The best documents have high numbers; the mean is 20. One big round after half a cycle knows little of who they are.
        assert late.mean() > (26 if per_round == 30 else 22)


def test_the_same_answers_give_the_same_pairs_whatever_other_queries_there_are() -> None:
    settings = Settings(design="adaptive", comparisons=100, per_round=30)
    whole, _, _ = in_rounds(start(settings), Judges(), lambda v: v, settings, 5)
    again, _, _ = in_rounds(start(settings), Judges(), lambda v: v, settings, 5)
    alone, _, _ = in_rounds(start(settings).select(start(settings).query == 2), Judges(), lambda v: v, settings, 5)
    for one, other in ((whole, again), (whole.select(whole.query == 2), alone)):
        assert one.a.tolist() == other.a.tolist()
        assert one.a_first.tolist() == other.a_first.tolist()


def test_a_settled_query_gets_no_more_pairs() -> None:
    settings = Settings(design="adaptive", aim="top", comparisons=700, per_round=33, settle=0.5)
    pairs, _, remark = in_rounds(start(settings), Judges(), lambda v: v, settings, 5)
    assert np.bincount(pairs.query).max() < 400
    assert remark.endswith("3 settled early")


def test_missing_answers_are_asked_about_no_second_time_and_count_as_nothing() -> None:
    settings = Settings(design="adaptive", comparisons=100, per_round=30)
    judges = Judges()

    def silent(pairs: Pairs) -> np.ndarray:
        return np.where(np.arange(len(pairs))[:, None] % 4 == 0, np.nan, judges(pairs))

    pairs, _, _ = in_rounds(start(settings), silent, lambda v: v, settings, 5)
    assert np.bincount(pairs.query).tolist() == [100] * QUERIES


@pytest.mark.parametrize("aim", ["top", "balanced", "information"])
def test_a_larger_number_goes_on_from_the_pairs_of_a_smaller_one(aim: str) -> None:
    found = []
    for comparisons in (97, 120, 160):
        settings = Settings(design="adaptive", aim=aim, comparisons=comparisons, per_round=50)  # type: ignore[arg-type]
        pairs, _, _ = in_rounds(start(settings), Judges(), lambda v: v, settings, 5)
        columns = (pairs.query, pairs.a, pairs.b, pairs.a_first, pairs.cycle)
        found.append(set(zip(*(c.tolist() for c in columns), strict=True)))
        assert np.bincount(pairs.query).max() <= comparisons
    assert found[0] < found[1] < found[2]


def test_a_query_without_new_answers_does_not_settle() -> None:
    settings = Settings(design="adaptive", aim="top", comparisons=200, per_round=20, settle=0.5)
    judges = Judges()

    def silent(pairs: Pairs) -> np.ndarray:
        return np.where((pairs.query[:, None] == 1) & (pairs.cycle[:, None] > 0), np.nan, judges(pairs))

    pairs, _, remark = in_rounds(start(settings), silent, lambda v: v, settings, 5)
    count = np.bincount(pairs.query)
    assert count[1] == 200
    assert max(count[0], count[2]) < 200
    assert remark.endswith("2 settled early")


def test_nothing_is_planned_once_all_pairs_are_asked() -> None:
    settings = Settings(design="adaptive", comparisons=41)
    looked = []
    pairs, _, _ = in_rounds(start(settings), Judges(), lambda v: looked.append(v) or v, settings, 5)  # type: ignore[func-returns-value]
    assert (len(pairs), looked) == (3 * 41, [])


def test_with_cycles_there_is_one_round() -> None:
    judges = Judges()
    pairs, _, remark = in_rounds(start(Settings()), judges, lambda v: v, Settings(), 5)
    assert len(judges.asked) == 1
    assert len(pairs) == len(judges.asked[0])
    assert remark == ""


def attempts(workspace: Path) -> int:
    with sqlite3.connect(workspace / "judgments.sqlite") as database:
        return int(database.execute("SELECT COUNT(*) FROM attempts").fetchone()[0])


def test_a_workspace_with_adaptive_pairs(workspace: Path) -> None:
    settings = ["pair.design=adaptive", "pair.comparisons=40", "pair.per_round=10", "pair.settle=0"]
    ran = zelo("run", workspace, "--to", "fit", *(word for setting in settings for word in ("--set", setting)))
    assert ran.code == 0, ran.err
    assert "pairs chosen in rounds" in ran.err
    drawn = read_table(workspace / "pairs/tournament.parquet", "pairs")
    judged = read_table(workspace / "judgments/ensemble.parquet", "judgments")
    judges = list(dict.fromkeys(judged["judge"]))
    size = len(judged["judge"]) // len(judges)
    assert size > len(drawn["query_id"])
    rows = [tuple(judged[name][i] for name in ("query_id", "doc_id_a", "doc_id_b")) for i in range(len(judged["judge"]))]
    assert all(rows[n * size : (n + 1) * size] == rows[:size] for n in range(len(judges)))
    assert len(set(rows[:size])) == size
    before, asked = (workspace / "judgments/ensemble.parquet").read_bytes(), attempts(workspace)
    assert zelo("judge", workspace, "--force").code == 0
    assert (workspace / "judgments/ensemble.parquet").read_bytes() == before
    assert attempts(workspace) == asked


def test_more_comparisons_ask_only_the_difference(workspace: Path) -> None:
    words = ["--set", "pair.design=adaptive", "--set", "pair.settle=0", "--set", "pair.per_round=15"]
    asked = []
    for comparisons in (42, 60):
        ran = zelo("run", workspace, "--to", "judge", *words, "--set", f"pair.comparisons={comparisons}")
        assert ran.code == 0, ran.err
        judged = read_table(workspace / "judgments/ensemble.parquet", "judgments")
        keys = zip(*(judged[name] for name in ("judge", "query_id", "doc_id_a", "doc_id_b", "shown_first")), strict=True)
        asked.append((attempts(workspace), len(judged["judge"]), set(keys)))
    assert asked[0][2] < asked[1][2]
    queries = len(set(judged["query_id"]))
    assert asked[0][1] == 3 * 42 * queries
    assert asked[1][0] - asked[0][0] == asked[1][1] - asked[0][1] == 3 * 18 * queries


def test_rounds_stop_where_too_many_answers_are_missing(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rounds_judge.py").write_text(MUTE, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["--set", "pair.design=adaptive", "--set", "pair.comparisons=60", "--set", 'judge.ensemble=["python:rounds_judge:make"]']
    ran = zelo("run", workspace, "--to", "judge", *words, "--set", "judge.swapped_share=0")
    assert ran.code != 0
    assert "gave no usable answer" in ran.err
    drawn = len(read_table(workspace / "pairs/tournament.parquet", "pairs")["query_id"])
    with sqlite3.connect(workspace / "judgments.sqlite") as database:
        mute = "SELECT COUNT(DISTINCT question) FROM attempts WHERE judge = (SELECT id FROM judges WHERE judge = 'mute')"
        assert database.execute(mute).fetchone()[0] == drawn  # the first round, and no other


@pytest.mark.parametrize(("aim", "least"), [("balanced", 20), ("top", 10)])
def test_too_few_comparisons_for_the_first_round_are_refused(aim: str, least: int, workspace: Path) -> None:
    words = ["--set", "pair.design=adaptive", "--set", f"pair.aim={aim}", "--set"]
    for command in (("plan", workspace), ("run", workspace, "--to", "pair")):
        ran = zelo(*command, *words, f"pair.comparisons={least - 1}")
        assert ran.code != 0
        assert f"use at least {least}" in ran.err
    assert zelo("run", workspace, "--to", "pair", *words, f"pair.comparisons={least}").code == 0


def test_shards_plan_the_same_rounds(workspace: Path, tmp_path: Path) -> None:
    settings = ["pair.design=adaptive", "pair.comparisons=40", "pair.per_round=10", "pair.settle=0"]
    words = [word for setting in settings for word in ("--set", setting)]
    assert zelo("run", workspace, "--to", "pair", *words).code == 0
    other = tmp_path / "other"
    shutil.copytree(workspace, other)
    assert zelo("judge", workspace, "--shard", "1/2").code == zelo("judge", other, "--shard", "2/2").code == 0
    assert zelo("merge", workspace, other).code == 0
    asked = attempts(workspace)
    assert zelo("judge", workspace).code == 0
    assert attempts(workspace) == asked
