"""The first stage as a recipe asks for it: which legs, and another engine's run among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zelo.artifacts import read_table
from zelo.collections.beir import write_beir
from zelo.collections.synthetic import Synthetic
from zelo.collections.trec import read_run, write_run
from zelo.errors import InputError, RecipeError
from zelo.recipe import Recipe, from_dict
from zelo.runner import run, status
from zelo.types import ScoredDoc
from zelo.workspace import Workspace


def retrieve(workspace: Path, **settings: str) -> Workspace:
    opened = Workspace.open(workspace)
    opened.save_recipe(opened.recipe.with_settings({f"retrieve.{key}": value for key, value in settings.items()}))
    run(opened, start="retrieve", stop="retrieve")
    return opened


@pytest.fixture
def engine(workspace: Path, tmp_path: Path) -> Path:
    """A run of "another engine": the dense leg, worst first."""
    dense = read_run(workspace / "candidates" / "dense.trec")
    path = tmp_path / "engine.trec"
    write_run(path, {q: [ScoredDoc(q, d.doc_id, 1.0 / n) for n, d in enumerate(reversed(r), 1)] for q, r in dense.items()}, tag="engine")
    return path


def test_one_leg_alone_keeps_its_order(workspace: Path) -> None:
    retrieve(workspace, legs='["dense"]')
    folder = workspace / "candidates"
    assert sorted(p.name for p in folder.iterdir()) == ["dense.trec", "fused.trec"]
    dense, fused = read_run(folder / "dense.trec"), read_run(folder / "fused.trec")
    assert {q: [d.doc_id for d in r] for q, r in fused.items()} == {q: [d.doc_id for d in r] for q, r in dense.items()}


def test_an_imported_run_is_a_leg(workspace: Path, engine: Path) -> None:
    opened = retrieve(workspace, legs='["imported"]', run=str(engine))
    imported, fused = read_run(engine), read_run(workspace / "candidates" / "fused.trec")
    assert {q: [d.doc_id for d in r] for q, r in fused.items()} == {q: [d.doc_id for d in r] for q, r in imported.items()}
    run(opened)  # everything after works on it, and the report names it
    assert '"system": "imported"' in (workspace / "report" / "metrics.jsonl").read_text("utf-8")
    engine.write_text(engine.read_text("utf-8").replace("engine", "renamed"), "utf-8")
    assert next(s for s in status(opened) if s.stage.name == "retrieve").reason == "run changed"


def test_a_run_for_another_corpus_is_refused(workspace: Path, engine: Path) -> None:
    lines = engine.read_text("utf-8").splitlines()
    columns = lines[0].split()
    engine.write_text("\n".join([" ".join([*columns[:2], "stranger", *columns[3:]]), *lines[1:]]) + "\n", "utf-8")
    with pytest.raises(InputError, match=r"engine\.trec: 1 line\(s\) name documents that the corpus lacks; the first is 'stranger'"):
        retrieve(workspace, legs='["bm25", "imported"]', run=str(engine))


@pytest.mark.parametrize("settings", [{"legs": '["imported"]'}, {"run": '"a.trec"'}, {"legs": '["bm25", "sparse"]'}])
def test_legs_that_do_not_go_together(settings: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match=r"retrieve\."):
        Recipe().with_settings({f"retrieve.{key}": value for key, value in settings.items()})


STRANGE = "zyxwv uvwxyz"  # words that no document has


def collection_without_candidates(folder: Path, queries: tuple[int, ...]) -> Path:
    """A collection where word search finds nothing for some of the questions."""
    write_beir(Synthetic(documents=40, queries=12), folder)
    lines = (folder / "queries.jsonl").read_text("utf-8").splitlines()
    for i in queries:
        row = json.loads(lines[i])
        lines[i] = json.dumps({**row, "text": f"{STRANGE} {i}"})
    (folder / "queries.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def run_on_words(root: Path, folder: Path) -> Workspace:
    sections = {
        "ingest": {"collection": str(folder)},
        "retrieve": {"legs": ["bm25"], "candidates": 10},
        "pair": {"degree": 4},
        "evaluate": {"resamples": 100},
    }
    opened = Workspace.create(root, from_dict(sections))
    run(opened)
    return opened


def test_questions_without_candidates_are_noted_and_the_run_goes_on(tmp_path: Path) -> None:
    whole = run_on_words(tmp_path / "whole", collection_without_candidates(tmp_path / "a", ()))
    splits = dict(line.split("\t") for line in (whole.root / "splits.tsv").read_text("utf-8").splitlines()[1:])
    strange = [next(i for i, q in enumerate(splits) if splits[q] == split) for split in ("train", "test")]
    ids = [list(splits)[i] for i in strange]
    lines = (tmp_path / "a" / "queries.jsonl").read_text("utf-8").splitlines()
    places = [next(n for n, line in enumerate(lines) if json.loads(line)["_id"] == q) for q in ids]
    opened = run_on_words(tmp_path / "ws", collection_without_candidates(tmp_path / "b", tuple(places)))
    notes = {stage: " ".join(entry.notes) for stage in ("retrieve", "evaluate") if (entry := opened.entry(stage))}
    assert f"2 of {len(splits)} queries without candidates: skipped" in notes["retrieve"]
    assert "1 of" in notes["evaluate"]
    assert "test queries without candidates: they count 0 for every system" in notes["evaluate"]
    per_query = read_table(opened.path("per_query"), "per_query")
    rows = list(zip(*per_query.values(), strict=True))
    values = {(system, q): v for system, measure, q, v in rows if measure == "nDCG@10"}
    systems = {system for system, _ in values}
    assert {"bm25", "fused", "judges", "pointwise"} <= systems
    assert {values[system, ids[1]] for system in systems} == {0.0}
    assert {q for _, q in values} == {q for q, split in splits.items() if split == "test"}  # nobody gains by finding nothing
    assert ids[0] not in read_table(opened.path("scores"), "scores")["query_id"]


def test_no_training_question_left_is_an_error(tmp_path: Path) -> None:
    whole = Workspace.create(
        tmp_path / "whole", from_dict({"ingest": {"collection": str(collection_without_candidates(tmp_path / "a", ()))}})
    )
    run(whole, stop="ingest")
    splits = dict(line.split("\t") for line in (whole.root / "splits.tsv").read_text("utf-8").splitlines()[1:])
    lines = (tmp_path / "a" / "queries.jsonl").read_text("utf-8").splitlines()
    train = tuple(n for n, line in enumerate(lines) if splits.get(json.loads(line)["_id"]) == "train")
    with pytest.raises(InputError, match="no training question has two candidates"):
        run_on_words(tmp_path / "ws", collection_without_candidates(tmp_path / "b", train))
