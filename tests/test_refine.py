"""A refine round: failures found, asked about once, learned from in a child; the parent as it was, a kill harmless, a chain possible."""

from __future__ import annotations

import html
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import SMALL, zelo
from tiny_models import WORDS, write_tiny_bert
from zelo import pipeline, refining, runner
from zelo.artifacts import read_table
from zelo.collections.production import read_production
from zelo.core.failures import choose_threshold, just_above, share_below
from zelo.errors import InputError, WorkspaceError
from zelo.progress import Silent
from zelo.recipe import from_dict
from zelo.stages import failures as stage
from zelo.stages import inputs
from zelo.workspace import Workspace

PAID = """
from zlib import crc32

from zelo.judges import Answer

class Paid:
    name, prompt_id, concurrency = "paid", "none", 1

    async def attempt(self, comparison):
        value = crc32((comparison.query + comparison.first).encode()) - crc32((comparison.query + comparison.second).encode())
        return Answer(max(-1.0, min(1.0, value / 2**31)), cost=0.01)

def make(recipe):
    return Paid()
"""


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def pairs_of(workspace: Workspace, artifact: str = "pairs") -> list[tuple[str, str, str]]:
    table = read_table(workspace.path(artifact), artifact)
    return list(zip(table["query_id"], table["doc_id_a"], table["doc_id_b"], strict=True))


def asked(workspace: Workspace) -> int:
    with closing(sqlite3.connect(workspace.root / "judgments.sqlite")) as database:
        return int(database.execute("SELECT COUNT(*) FROM attempts").fetchone()[0])


@pytest.fixture(scope="module")
def parent(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A finished workspace whose judge is paid and has opinions of its own, so that labels and model disagree."""
    folder = tmp_path_factory.mktemp("paid")
    (folder / "paid_judge.py").write_text(PAID, "utf-8")
    root = shutil.copytree(finished, folder / "parent")
    workspace = Workspace.open(root)
    (root / "judgments.sqlite").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        workspace.save_recipe(workspace.recipe.with_settings({"judge.ensemble": '["python:paid_judge:make"]'}))
        runner.run(workspace)
        yield workspace


@pytest.fixture(scope="module")
def child(parent: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("child") / "ws"
    ran = zelo("refine", parent.root, root, "--threshold", "1")
    assert ran.code == 0, ran.err
    assert "Rounds of refinement" in ran.out
    return Workspace.open(root)


def test_thresholds() -> None:
    ranks = [1, 1, 1, 2, 3, 3, 7, 9, 20, 41]
    assert choose_threshold(ranks, 0.2) == 9
    assert [choose_threshold(ranks, share) for share in (0.0, 0.3, 0.65, 1.0)] == [41, 7, 2, 1]
    for share in np.linspace(0, 1, 21).tolist():
        threshold = choose_threshold(ranks, share)
        assert share_below(ranks, threshold) <= share
        assert threshold == 1 or share_below(ranks, threshold - 1) > share
    assert choose_threshold([], 0.2) == 1
    assert share_below([], 1) == 0
    with pytest.raises(InputError):
        choose_threshold([0], 0.2)
    assert just_above("abcd", 3, set()) == "c"
    assert just_above("abcd", 3, {frozenset("dc"), frozenset("db")}) == "a"
    assert just_above("abcd", 0, set()) is None
    assert just_above("ab", 1, {frozenset("ab")}) is None


def test_failures_are_what_the_model_ranks_below_labels(parent: Workspace, child: Workspace) -> None:
    from zelo.collections import open_collection
    from zelo.pipeline import Context
    from zelo.rerankers import load_reranker

    table = read_table(child.path("failures"), "failures")
    assert len(table["query_id"]) >= 1
    labels: dict[str, dict[str, float]] = {}
    for row in open_collection("synthetic").qrels("train"):
        labels.setdefault(row.query_id, {})[row.doc_id] = row.relevance
    context = Context(parent, parent.recipe, parent.root, Silent())
    texts, queries = inputs.documents(context), inputs.queries(context)
    model = load_reranker(parent.path("model"), inputs.CorpusSignals(context, texts, queries).bank)
    from zelo.collections.trec import read_run

    candidates = read_run(parent.path("candidates") / "fused.trec")
    for query_id, doc_id, above, rank in zip(*(table[n] for n in ("query_id", "doc_id", "above", "rank")), strict=True):
        doc_ids = [c.doc_id for c in candidates[query_id]]
        scores = dict(zip(doc_ids, model.score(queries[query_id], [texts[d] for d in doc_ids]).tolist(), strict=True))
        assert labels[query_id][doc_id] == max(labels[query_id].values())
        assert rank == 1 + sum(s > scores[doc_id] for s in scores.values())
        better = sorted((d for d in scores if scores[d] > scores[doc_id]), key=lambda d: scores[d])
        known = {p[1:] for p in pairs_of(parent) if p[0] == query_id}
        assert above == next(d for d in better if tuple(sorted((doc_id, d))) not in known)


def test_the_round_asks_only_what_is_new(parent: Workspace, child: Workspace) -> None:
    added = read_table(child.path("failures"), "failures")
    old, new = pairs_of(parent), pairs_of(child)
    assert set(new) - set(old) == {(q, *sorted((d, a))) for q, d, a in zip(added["query_id"], added["doc_id"], added["above"], strict=True)}
    assert set(old) <= set(new)
    both_ways = len(read_table(child.path("swapped"), "swapped")["query_id"]) - len(
        read_table(parent.path("swapped"), "swapped")["query_id"]
    )
    assert asked(child) - asked(parent) == len(new) - len(old) + both_ways
    rows = [json.loads(line) for line in child.path("refinement").read_text("utf-8").splitlines()]
    assert [r["round"] for r in rows[:2]] == [0, 1]
    assert rows[1]["dollars"] == pytest.approx(0.01 * (asked(child) - asked(parent)))
    assert rows[1]["added"] == len(new) - len(old)
    before, after = (stage.student_values(w.path("per_query"))["nDCG@10"] for w in (parent, child))
    assert rows[1]["difference"] == pytest.approx(np.mean([after[q] - before[q] for q in before]))
    assert rows[0]["value"] == pytest.approx(np.mean(list(before.values())))
    assert [s.stage.name for s in runner.status(child) if not s.done] == []
    assert {e.stage for e in map(child.entry, ("ingest", "encode", "retrieve")) if e} == {"ingest", "encode", "retrieve"}


def test_the_page_shows_before_and_after(parent: Workspace, child: Workspace) -> None:
    before, after = (w.path("report").read_text("utf-8") for w in (parent, child))
    assert "The rounds of refinement" not in before
    section = after.partition("The rounds of refinement</h2>")[2].partition("</section>")[0]
    rows = [json.loads(line) for line in child.path("refinement").read_text("utf-8").splitlines()]
    assert len(rows) >= 2
    assert section.count("<tr") == 1 + 2
    for row in rows:
        assert f'<td class="n">{row["value"]:.3f}<small' in section
    for stage_name in ("failures", "compare"):
        entry = child.entry(stage_name)
        assert entry is not None
        assert all(note in html.unescape(section) for note in entry.notes)
    assert "refinement" in next(s for s in pipeline.stages(child.recipe) if s.name == "report").reads


def test_a_dry_run_and_a_round_leave_the_parent_alone(parent: Workspace, tmp_path: Path) -> None:
    before = snapshot(parent.root)
    ran = zelo("refine", parent.root, tmp_path / "ws", "--dry-run")
    assert ran.code == 0, ran.err
    assert "training queries have a reference document" in ran.out
    assert "left" in ran.out
    assert list(tmp_path.iterdir()) == []
    assert zelo("refine", parent.root, tmp_path / "ws", "--to", "judge").code == 0
    assert snapshot(parent.root) == before


def test_killed_at_any_place_it_ends_the_same(parent: Workspace, child: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def dies(*_: Any, **__: Any) -> Any:
        raise Killed

    recipe = refining.recipe_for(parent, tmp_path / "ws").with_settings({"refine.threshold": "1"})
    with monkeypatch.context() as patch:
        patch.setattr(refining.os, "replace", dies)  # the child is not whole yet
        with pytest.raises(Killed):
            refining.open_child(parent, tmp_path / "ws", recipe)
    assert not (tmp_path / "ws").exists()
    opened = refining.open_child(parent, tmp_path / "ws", recipe)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "write_table", dies)
        with pytest.raises(Killed):
            runner.run(opened)
    runner.run(opened, stop="judge")
    opened = refining.open_child(parent, tmp_path / "ws", recipe)
    runner.run(opened)
    artifacts = {a for s in pipeline.stages(child.recipe) for a in s.writes if a != "report"}
    assert {a: opened.digest(a) for a in artifacts} == {a: child.digest(a) for a in artifacts}
    assert asked(opened) == asked(child)


def test_a_round_after_a_round(child: Workspace, tmp_path: Path) -> None:
    recipe = refining.recipe_for(child, tmp_path / "third").with_settings({"refine.threshold": "1"})
    third = refining.open_child(child, tmp_path / "third", recipe)
    runner.run(third, stop="compare")
    rounds = read_table(third.path("failures"), "failures")["round"].tolist()
    earlier = len(read_table(child.path("failures"), "failures")["round"])
    assert rounds[:earlier] == [1] * earlier
    assert set(rounds[earlier:]) <= {2}
    assert set(pairs_of(child)) <= set(pairs_of(third))
    rows = [json.loads(line) for line in third.path("refinement").read_text("utf-8").splitlines()]
    assert [r["round"] for r in rows[:3]] == [0, 1, 2]


def test_the_distilled_line_learns_the_pair(finished: Path, tmp_path: Path) -> None:
    encoder = write_tiny_bert(tmp_path / "bert", WORDS)
    root = shutil.copytree(finished, tmp_path / "parent")
    parent = Workspace.open(root)
    small = {"base": str(encoder), "epochs": 1, "batch_size": 8, "max_tokens": 60, "precision": "float32"}
    parent.save_recipe(from_dict({**SMALL, "line": "distilled", "pair": {"degree": 2, "queries": "train"}, "pairwise": small}))
    runner.run(parent)
    recipe = refining.recipe_for(parent, tmp_path / "child").with_settings({"refine.threshold": "1"})
    child = refining.open_child(parent, tmp_path / "child", recipe)
    runner.run(child, stop="compare")
    added = read_table(child.path("failures"), "failures")["query_id"]
    assert len(added) >= 1
    assert len(pairs_of(child, "lessons")) == len(pairs_of(parent, "lessons")) + len(added)
    assert pairs_of(child) == pairs_of(parent)
    assert child.digest("pairwise_model") != parent.digest("pairwise_model")
    entry = child.entry("compare")
    assert entry is not None
    assert f"of {len(added)} pairs added, the judges prefer the reference in" in entry.notes[0]


def test_references(parent: Workspace, tmp_path: Path) -> None:
    """Production before labels, scores without either, and never a label of the test split."""
    labels = stage.training_labels(parent.recipe)
    split_of = inputs.splits(parent.path("splits"))
    assert labels
    assert not {q for q, split in split_of.items() if split == "test"} & set(labels)
    train = [q for q, split in split_of.items() if split == "train"]
    lines = [json.dumps({"query_id": q, "doc_id": next(iter(labels[q]))}) for q in train[:3]]
    lines += [json.dumps({"query_id": train[3], "doc_id": d, "score": s}) for d, s in (("a", 1), ("b", 1.5), ("a", 1))]
    lines.append(json.dumps({"query": "words of nobody", "doc_id": "a"}))
    path = tmp_path / "clicks.jsonl"
    path.write_text("\n".join(lines), "utf-8")
    chosen, unknown = read_production(path, {})
    assert unknown == 1
    assert chosen[train[3]] == "a"
    context = pipeline.Context(parent, parent.recipe.with_settings({"refine.production": f'"{path}"'}), tmp_path, Silent())
    found, said = stage.find_references(context, parent, train)
    assert said.startswith(f"{len(train)} of {len(train)} training queries")
    assert {next(iter(found[q])).source for q in train[:4]} == {"production"}
    assert {next(iter(found[q])).source for q in train[4:]} == {"labels"}
    context = pipeline.Context(parent, parent.recipe.with_settings({"refine.reference": "scores"}), tmp_path, Silent())
    found, _ = stage.find_references(context, parent, train)
    scores = read_table(parent.path("scores"), "scores")
    best: dict[str, tuple[float, str]] = {}
    for q, d, s in zip(scores["query_id"], scores["doc_id"], scores["score"].tolist(), strict=True):
        best[q] = max(best.get(q, (-9.0, "")), (s, d))
    assert {q: next(iter(r)).doc_id for q, r in found.items()} == {q: best[q][1] for q in train}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"doc_id": "a"}', "needs one of query_id and query"),
        ('{"query_id": "q", "doc_id": 3}', "must be strings"),
        ('{"query_id": "q", "doc_id": "a", "score": "much"}', "not a finite number"),
        ("[]", "JSON object is expected"),
    ],
)
def test_faulty_production_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "shown.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=message):
        read_production(path, {})


def test_a_run_as_production(tmp_path: Path) -> None:
    path = tmp_path / "shown.trec"
    path.write_text("q1 Q0 d2 1 0.9 live\nq1 Q0 d1 2 0.8 live\nq2 Q0 d3 1 0.5 live\n", "utf-8")
    assert read_production(path, {}) == ({"q1": "d2", "q2": "d3"}, 0)
    with pytest.raises(InputError, match="no such file"):
        read_production(tmp_path / "nothing", {})


def test_refusals(parent: Workspace, child: Workspace, tmp_path: Path) -> None:
    half = Workspace.create(tmp_path / "half", from_dict(SMALL))
    for arguments, message in (
        ((half.root, tmp_path / "c"), "is not finished: stage ingest has not run"),
        ((parent.root, parent.root), "the same folder"),
        ((parent.root, half.root), "is not a refine round"),
        ((half.root, child.root), "is a refine round of"),
        ((tmp_path / "nothing", tmp_path / "c"), "not a workspace"),
        ((parent.root, tmp_path / "c", "--set", "refine.nothing=1"), "unknown key"),
    ):
        ran = zelo("refine", *arguments)
        assert (ran.code, message in ran.err) == (2, True), (arguments, ran.err)
    assert not (tmp_path / "c").exists()
    moved = child.recipe.with_settings({"retrieve.candidates": "10"})
    copy = Workspace.open(shutil.copytree(child.root, tmp_path / "copy"))
    copy.save_recipe(moved)
    with pytest.raises(WorkspaceError, match="has other candidates"):
        runner.run(copy)


def test_a_child_outlives_its_parent(child: Workspace, tmp_path: Path) -> None:
    copy = Workspace.open(shutil.copytree(child.root, tmp_path / "copy"))
    copy.recipe = copy.recipe.with_settings({"refine.parent": f'"{tmp_path / "gone"}"'})
    states = {s.stage.name: s for s in runner.status(copy)}
    assert states["failures"].reason.startswith("the recipe's refine")  # the name is another; what is lacking has not changed
    assert not states["ingest"].reason
