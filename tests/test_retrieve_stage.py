"""The first stage as a recipe asks for it: which legs, and another engine's run among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from zelo.collections.trec import read_run, write_run
from zelo.errors import InputError, RecipeError
from zelo.pipeline import run, status
from zelo.recipe import Recipe
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
