"""A round from live failures, the gate, the pointer that servers follow, and the way back."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import zelo
from serving import Overlap, overlap
from test_watching import log_of
from zelo import promotion
from zelo.collections.beir import read_queries
from zelo.encoders.transformer import Encoder
from zelo.encoders.vectors import load_vectors
from zelo.errors import JudgeError, WorkspaceError
from zelo.judges import Comparison
from zelo.serve.batching import Batcher
from zelo.serve.loading import Served, load_served
from zelo.serve.reloading import reload, reloads
from zelo.watching.gate import Sides, gate_lines, judged_difference
from zelo.watching.live_round import held_out
from zelo.workspace import Workspace

QUICK = ("watch.per_day=16", "watch.baseline_days=2", "watch.challengers=3", "watch.gate_queries=40")


def words(text: str) -> str:
    """Other words for a live query, so that it is none of the workspace's."""
    return f"please tell me {text}"


@pytest.fixture(scope="module")
def watched(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that has watched a live system with a broken reranker; do not change it."""
    root = shutil.copytree(finished, tmp_path_factory.mktemp("watched") / "ws")
    rows = [json.loads(line) for line in log_of(root, range(1, 5), broken=True).splitlines()]
    for i, row in enumerate(rows):
        row["query"] = f"{words(row['query'])} {i // 16}"
    log = root.parent / "log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = zelo("watch", root, "--log", log, *(part for setting in QUICK for part in ("--set", setting)))
    assert ran.code in (0, 3), ran.err
    return root


def test_failures_teach_a_child_that_passes_a_gate_or_does_not(watched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent, child = shutil.copytree(watched, tmp_path / "ws"), tmp_path / "child"
    before = {p: p.read_bytes() for p in parent.rglob("*") if p.is_file()}
    encode = Encoder.encode

    def nudged(self: Encoder, texts: Sequence[str], **options: Any) -> Any:
        """As in low precision: the last digits depend on the texts of a batch."""
        found = encode(self, texts, **options)
        return replace(found, pooled=found.pooled * np.float32(1 + len(texts) * 1e-4))

    with monkeypatch.context() as patched:
        patched.setattr(Encoder, "encode", nudged)
        ran = zelo("refine", parent, child, "--live")
    assert ran.code == 0, ran.err
    for kind in ("documents", "queries"):
        (old_ids, theirs), (new_ids, ours) = (load_vectors(root / "vectors" / kind) for root in (parent, child))
        place = {name: i for i, name in enumerate(new_ids)}
        assert np.array_equal(ours.pooled[[place[i] for i in old_ids]], theirs.pooled)
        assert all(np.array_equal(ours.tokens_of(place[name]), theirs.tokens_of(i)) for i, name in enumerate(old_ids))
    assert {p: p.read_bytes() for p in before} == before
    old, new = (Workspace.open(root) for root in (parent, child))
    texts = {q.text for q in read_queries(new.path("queries"))} - {q.text for q in read_queries(old.path("queries"))}
    assert texts
    assert not [text for text in texts if held_out(text)]
    note = next(n for n in new.entry("failures").notes if "reference" in n)  # type: ignore[union-attr]
    assert "from production" in note

    ran = zelo("promote", child)
    assert ran.code in (0, 3), ran.err
    assert "held-out live queries, by the judges" in ran.out
    assert "test questions, nDCG@10 by labels" in ran.out
    if ran.code == 3:
        assert load_served(parent).source == "ws"
        assert zelo("promote", child, "--force").code == 0
    served = load_served(parent)
    assert (served.name, served.source) == ("ws", "child")
    query, texts_of = "find files", ["list the files of a folder", "add two numbers"]
    alone = load_served(child).reranker.score(query, texts_of)
    assert np.array_equal(served.reranker.score(query, texts_of), alone)
    assert "in use already" in zelo("promote", child).err
    entry = json.loads((parent / "promoted.json").read_text())["promotions"][0]
    assert entry["workspace"] == "../child"
    assert entry["gate"]["live"]["queries"] >= 20

    back = zelo("rollback", child)
    assert back.out == "rolled back: child is out of use, ws is in use\n", back.err
    assert load_served(parent).source == "ws"
    assert "no promotion stands" in zelo("rollback", parent).err


def test_a_dry_run_of_a_live_round_leaves_nothing(watched: Path, tmp_path: Path) -> None:
    child = tmp_path / "child"
    ran = zelo("refine", watched, child, "--live", "--dry-run")
    assert ran.code == 0, ran.err
    assert "failures" in ran.out
    assert not list(tmp_path.iterdir())
    assert "give one of the two" in zelo("refine", watched, child, "--live", "--production", "x").err


def test_without_failures_or_days_it_is_said(workspace: Path, tmp_path: Path) -> None:
    assert "no failed live search may teach" in zelo("refine", workspace, tmp_path / "child", "--live").err
    assert "is no refine round" in zelo("promote", workspace).err


def test_what_is_served_is_what_was_promoted(workspace: Path, tmp_path: Path) -> None:
    first = Workspace.open(workspace)
    child = Workspace.open(shutil.copytree(workspace, tmp_path / "child"))
    promotion.promote(first, child, {}, forced=True)
    with pytest.raises(WorkspaceError, match="in use already"):
        promotion.promote(first, child, {}, forced=True)
    (child.path("model") / "zelo.json").write_text("{}")
    with pytest.raises(WorkspaceError, match="not the one that was promoted"):
        load_served(workspace)
    shutil.rmtree(child.root)
    with pytest.raises(WorkspaceError, match="promoted workspace is gone"):
        load_served(workspace)
    assert promotion.rollback(first).workspace == "../child"
    assert load_served(workspace).source == "ws"
    (workspace / "promoted.json").write_text("no")
    with pytest.raises(WorkspaceError, match="not a pointer"):
        load_served(workspace)


class Longer:
    """Judges that prefer the longer text; the second of two has no weight in one in ten comparisons."""

    weights, across = np.ones(2), np.zeros(2, np.bool_)

    def ask(self, comparisons: list[Comparison]) -> Any:
        side = np.array([float(np.sign(len(c.first) - len(c.second))) for c in comparisons])
        second = side.copy()
        second[::10] = np.nan
        return np.column_stack([side, second])


def test_the_gate_s_difference_has_the_sign_and_the_size_of_what_changed() -> None:
    same = [Sides(f"q{i}", (), (), 3) for i in range(10)]
    better = [Sides(f"b{i}", ("long text",), ("short",), 3) for i in range(20)]
    found = judged_difference([*same, *better], Longer(), "live", 0)
    assert (found.queries, found.changed) == (30, 20)
    assert found.mean == pytest.approx(20 / 30 / 3)
    assert found.p_value < 0.001
    worse = judged_difference([Sides(s.query, s.old, s.new, 3) for s in better], Longer(), "live", 0)
    assert worse.mean == pytest.approx(-1 / 3)
    assert judged_difference(same, Longer(), "live", 0).p_value == 1


def test_a_gate_that_was_not_answered_is_no_gate() -> None:
    class Silent:
        """A panel whose budget has ended."""

        weights, across = np.array([1.0]), np.array([False])

        def ask(self, comparisons: Any) -> Any:
            return np.full((len(comparisons), 1), np.nan)

        def levels(self, query: str, texts: Any) -> Any:
            raise NotImplementedError

    sides = [Sides(f"q{i}", ("new",), ("old",), 3) for i in range(5)] + [Sides("same", (), (), 3)] * 5
    with pytest.raises(JudgeError, match="5 of 10 were not answered"):
        judged_difference(sides, Silent(), "own", 0, 0.4)
    assert judged_difference(sides, Silent(), "own", 0, 0.5).mean == 0.0


def test_a_request_is_scored_by_one_model_across_a_change() -> None:
    class Half(Overlap):
        def score(self, query: str, documents: Any) -> Any:
            return super().score(query, documents) / 2

    async def main() -> None:
        batcher = Batcher(Overlap(pause=0.002), batch_tokens=8)
        batcher.start()
        documents = [f"list files {i}" for i in range(12)]
        task = asyncio.create_task(batcher.score("list files", documents, 30))
        while not batcher._pace.seconds_per_token:
            await asyncio.sleep(0.001)
        batcher.replace(Half())
        scores = await task
        assert np.array_equal(scores, overlap("list files", documents) / 2)
        assert batcher.waiting_tokens == 0
        await batcher.close()

    asyncio.run(main())


def test_a_hangup_reloads_and_a_failure_keeps_the_model(workspace: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    child = Workspace.open(shutil.copytree(workspace, tmp_path / "child"))

    async def main() -> None:
        batcher = Batcher(Overlap())
        batcher.start()
        with reloads(Served("ws", Overlap(), path=workspace), batcher):
            promotion.promote(Workspace.open(workspace), child, {}, forced=True)
            os.kill(os.getpid(), signal.SIGHUP)
            while isinstance(batcher._reranker, Overlap):
                await asyncio.sleep(0.01)
        kept = batcher._reranker
        await reload(Served("ws", Overlap(), path=tmp_path / "nothing"), batcher)
        assert batcher._reranker is kept
        await batcher.close()

    asyncio.run(asyncio.wait_for(main(), 60))
    assert "the model of child is in use" in caplog.text
    assert "the running model stays" in caplog.text


def test_the_gate_says_what_it_wants() -> None:
    from zelo.watching.gate import Compared, Gate

    live, fixed = Compared("live queries", 50, 20, 0.1, 0.05, 0.01), Compared("test questions", 60, 5, -0.01, -0.03, 0.4)
    gate = Gate(live, fixed, 0.02, True, False)
    assert not gate.passed
    assert [line.rpartition(": ")[2] for line in gate_lines(gate)] == ["yes", "no"]
