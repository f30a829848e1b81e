"""The embedding student: its losses, that it learns, goes on after a kill, loads elsewhere, and serves as the next round's encoder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.special import expit

from fabricate import Fabricated
from tiny_models import WORDS, write_tiny_bert
from zelo.artifacts import write_table
from zelo.encoders.openvino_engine import quiet
from zelo.encoders.transformer import load_encoder
from zelo.errors import InputError, RecipeError
from zelo.pipeline import Context
from zelo.progress import Silent
from zelo.recipe import Train, from_dict
from zelo.rerankers import load_reranker
from zelo.rerankers.blend import FEATURES, MAPPED
from zelo.rerankers.embedding import EmbeddingReranker
from zelo.stages import encode, rank, retrieve
from zelo.stages import train as stage
from zelo.training import embedding, vector_map
from zelo.training.embedding import Embedder, chosen, contrastive, train_embedding
from zelo.training.loop import Report, Settings
from zelo.training.pointwise import Lesson
from zelo.workspace import Workspace

SETTINGS = Train(student="embedding", loss="contrastive", epochs=6, learning_rate=3e-3, documents_per_query=2, max_tokens=32, held_out=0.0)
NAMES = [f"w{i}" for i in range(16)]


def lessons(seed: int, queries: int, documents: int = 8) -> Iterator[Lesson]:
    """What a question calls wi, an answer calls w(i + 8): the words that questions and answers share say nothing."""
    rng = np.random.default_rng(seed)
    for _ in range(queries):
        asked = int(rng.integers(8))
        answers = rng.permutation(8)[:documents]
        answers[0] = asked
        texts = [f"{NAMES[8 + a]} {' '.join(rng.choice(NAMES[:8], 2))}" for a in answers.tolist()]
        yield Lesson(f"{NAMES[asked]} {rng.choice(NAMES[:8])}", texts, np.where(answers == asked, 0.9, 0.05))


def train(root: Path, name: str, given: Any, **changed: Any) -> tuple[Path, Report]:
    base = root / "base"
    if not base.is_dir():
        write_tiny_bert(base, NAMES)
    folder = root / name
    report = train_embedding(given, str(base), replace(SETTINGS, **changed), 3, folder, root / f"{name}-work", lambda *_: None, threads=1)
    return folder, report


def first(reranker: Any) -> float:
    """Share of new questions whose answer is ranked first."""
    return float(np.mean([lesson.targets[reranker.score(lesson.query, lesson.documents).argmax()] > 0.5 for lesson in lessons(99, 60)]))


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    return train(tmp_path_factory.mktemp("models"), "student", lessons(0, 160), batch_size=32)


def test_contrastive_is_the_cross_entropy_over_all_documents_of_the_step() -> None:
    import torch

    rng = np.random.default_rng(0)
    z = rng.normal(size=(5, 5))
    z[1], z[3], z[4] = z[0], z[2], z[2]  # rows of one query are alike
    targets, groups = np.array([0.8, 0.2, 0.5, 0.0, 0.5]), np.array([7, 7, 9, 9, 9])
    log_share = z - np.log(np.exp(z).sum(1, keepdims=True))
    wanted = -(0.8 * log_share[0, 0] + 0.2 * log_share[1, 1] + 0.5 * log_share[2, 2] + 0.5 * log_share[4, 4]) / 2
    tensors = [torch.tensor(a) for a in (z, targets, groups)]
    assert float(contrastive(*tensors)) == pytest.approx(wanted)
    assert float(contrastive(tensors[0], torch.zeros(5), tensors[2])) == 0


def test_the_matrix_of_a_step(tmp_path: Path) -> None:
    """Texts that occur twice are encoded once; padding changes nothing; another row's document of the same query is no negative."""
    import torch

    encoder = Embedder.load(write_tiny_bert(tmp_path / "base", NAMES), "cpu")
    asked = [("w1 w2", ["w3", "w4 w5 w6 w7 w8 w9"]), ("w2", ["w4 w5 w6 w7 w8 w9", "w10 w11"])]
    sequences = [s for query, documents in asked for s in encoder.sequences(query, documents, 32)]
    batches, _, documents = encoder.collate(sequences)
    assert sum(len(rows) for rows, _, _ in batches) == 5
    assert documents.tolist()[1] == documents.tolist()[2]
    with torch.inference_mode():
        z = encoder.logits(sequences).numpy()
    # Row 0 (query 0) against row 2, whose document is also row 1's, of query 0; and the other way round.
    np.testing.assert_array_equal(np.argwhere(np.isinf(z)), [[0, 2], [1, 2], [2, 1], [3, 1]])
    cosines = encoder.cosines(sequences)
    np.testing.assert_allclose(z.diagonal(), 20 * cosines - 10, atol=1e-4)
    np.testing.assert_allclose([encoder.cosines([s])[0] for s in sequences], cosines, atol=1e-5)
    with quiet():
        vectors = encoder.model.encode(["w1 w2", "w3"], normalize_embeddings=True, show_progress_bar=False)
    assert vectors[0] @ vectors[1] == pytest.approx(cosines[0], abs=1e-5)


def test_documents_to_learn() -> None:
    targets = np.array([0.0, 0.9, 0.0, 0.8, 0.0, 0.0])
    for seed in range(20):
        found = chosen(targets, 4, np.random.default_rng(seed))
        assert len(set(found.tolist())) == 4
        assert {1, 3} <= set(found[:2].tolist())
    assert chosen(targets, 0, np.random.default_rng(0)).tolist() == list(range(6))
    assert chosen(targets, 9, np.random.default_rng(0)).tolist() == list(range(6))


def test_it_learns(student: tuple[Path, Report]) -> None:
    untrained = EmbeddingReranker.load(student[0], "torch")
    base = EmbeddingReranker(type(untrained._dense._bank)(load_encoder(student[0].parent / "base", "torch", 1)), 1.0, 0.0)
    assert first(base) < 0.5
    assert first(untrained) > 0.95


def test_mean_squared_error_learns_too(tmp_path: Path) -> None:
    folder, report = train(tmp_path, "mse", lessons(1, 160), loss="mse", documents_per_query=4, batch_size=32, held_out=0.1)
    reranker = EmbeddingReranker.load(folder, "torch")
    assert first(reranker) > 0.9
    errors = [np.mean((reranker.score(x.query, x.documents) - x.targets) ** 2) for x in lessons(99, 40)]
    assert np.mean(errors) < 0.03  # the variance of the targets is about .08
    assert report.evaluation["nDCG@10"] > 0.9


def test_it_loads_elsewhere_with_the_same_scores(student: tuple[Path, Report]) -> None:
    from sentence_transformers import SentenceTransformer

    folder = student[0]
    about = json.loads((folder / "zelo.json").read_text("utf-8"))
    with quiet():
        model = SentenceTransformer(str(folder), device="cpu")
    for lesson in lessons(5, 5):
        query, *documents = model.encode([lesson.query, *lesson.documents], normalize_embeddings=True, show_progress_bar=False)
        wanted = expit(about["slope"] * (np.array(documents) @ query) + about["bias"])
        np.testing.assert_allclose(EmbeddingReranker.load(folder, "torch").score(lesson.query, lesson.documents), wanted, atol=1e-4)
        np.testing.assert_allclose(load_reranker(folder).score(lesson.query, lesson.documents), wanted, atol=0.05)  # OpenVINO, bfloat16
    assert "Embedding student" in (folder / "README.md").read_text("utf-8")
    assert load_reranker(folder).score("w1", []).shape == (0,)


def test_a_killed_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = {"epochs": 2, "batch_size": 8}
    whole, _ = train(tmp_path, "whole", lessons(2, 12), **how)
    monkeypatch.setattr(embedding, "Settings", lambda **given: Settings(**given, checkpoint_seconds=0.0))

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    settings, base = replace(SETTINGS, **how), str(tmp_path / "base")
    folder, work = tmp_path / "killed", tmp_path / "work"
    with pytest.raises(KeyboardInterrupt):
        train_embedding(lessons(2, 12), base, settings, 3, folder, work, stop, threads=1)
    report = train_embedding(lessons(2, 12), base, settings, 3, folder, work, lambda *_: None, threads=1)
    assert report.resumed_at == 3
    one, other = load_file(whole / "model.safetensors"), load_file(folder / "model.safetensors")
    assert all(np.abs(one[name] - other[name]).max() <= 1e-6 for name in one)


def test_what_cannot_be_trained(tmp_path: Path) -> None:
    write_tiny_bert(tmp_path / "base", NAMES)
    with pytest.raises(InputError, match="no targets to learn"):
        train(tmp_path, "none", iter(()))
    with pytest.raises(InputError, match="does not learn from pairs"):
        train(tmp_path, "pairs", lessons(0, 4), loss="pairs")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"student": "cross_encoder", "loss": "contrastive"}, "does not learn by contrastive"),
        ({"student": "embedding", "loss": "pairs"}, "does not learn by pairs"),
        ({"student": "cross_encoder", "prior": "signals"}, "is for the students blend"),
        ({"student": "adapted_blend", "loss": "contrastive"}, "does not learn by contrastive"),
    ],
)
def test_recipes_that_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        stage.check(from_dict({"train": settings}))


def made(root: Path, base: Path, **train_settings: object) -> Workspace:
    """A workspace up to the training, with vectors of the tiny encoder and a target for every candidate."""
    wanted = {"base": str(base), "max_tokens": 32, "documents_per_query": 4, "loss": "contrastive", **train_settings}
    settings = {"train": wanted, "encode": {"model": str(base), "engine": "torch"}}
    found = Fabricated(root, train=24, test=4, settings=settings)
    rows = [(q, d, float(t)) for q in found.queries for d, t in zip(found.candidates[q], expit(3 * found.truth[q] - 4), strict=True)]
    write_table(
        found.workspace.path("targets"), "targets", dict(zip(("query_id", "doc_id", "target"), zip(*rows, strict=True), strict=True))
    )
    encode.run(found.context())
    return found.workspace


def test_the_next_round_searches_with_the_encoder_that_was_trained(tmp_path: Path) -> None:
    base = write_tiny_bert(tmp_path / "base", WORDS)
    workspace = made(tmp_path / "ws", base, student="embedding", prior="signals", held_out=0.3)
    outcome = stage.run(Context(workspace, workspace.recipe, workspace.root, Silent()))
    assert outcome.rows == {"queries": 24, "targets": 24 * 24}
    assert [path.name for path in (workspace.root / "training/pointwise").iterdir()] == ["log.jsonl"]
    settings: dict[str, object] = {"encode": {"model": str(workspace.path("model"))}, "retrieve": {"legs": ["dense"]}}
    other = Fabricated(tmp_path / "next", train=4, test=4, settings=settings)
    encode.run(other.context())
    out = tmp_path / "found"
    assert retrieve.run(other.context(out)).rows["dense"] > 0


@pytest.mark.parametrize("prior", ["signals", "none"])
def test_the_stages_of_an_adapted_blend(tmp_path: Path, prior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_tiny_bert(tmp_path / "base", WORDS)
    workspace = made(tmp_path / "ws", base, student="adapted_blend", prior=prior, loss="mse")
    context = Context(workspace, workspace.recipe, workspace.root, Silent())
    losses = {"with": 1.0, "without": 0.5}  # of held-out queries: whether these 24 gain by a map is chance

    def held_out(_: object, outside: object, at: list[np.ndarray]) -> np.ndarray:
        return np.full(9, losses["with" if np.any(at[0][3:]) else "without"])

    monkeypatch.setattr(vector_map._Problem, "held_out", held_out)
    assert any("no map of the vectors: loss of held-out queries 0.5000 without, 1.0000 with" in note for note in stage.run(context).notes)
    about = json.loads((workspace.path("model") / "zelo.json").read_text("utf-8"))
    assert about["features"] == list(FEATURES)
    # Where a map helps, it lies in the folder, and the head has a weight for it.
    losses["with"] = 0.2
    shutil.rmtree(workspace.path("model"))
    assert any("a map of the vectors, ridge 0.001: loss" in note for note in stage.run(context).notes)
    about = json.loads((workspace.path("model") / "zelo.json").read_text("utf-8"))
    assert about["features"] == [*FEATURES, MAPPED]
    assert len(about["weights"]) == 4
    shutil.rmtree(workspace.root / "rankings")
    assert rank.run(context).rows["pointwise"] == 4 * 24


@pytest.mark.parametrize("student", ["blend", "embedding"])
def test_the_stage_of_the_others(tmp_path: Path, student: str) -> None:
    base = write_tiny_bert(tmp_path / "base", WORDS)
    workspace = made(tmp_path / "ws", base, student=student, prior="signals", held_out=0.0)
    outcome = stage.run(Context(workspace, workspace.recipe, workspace.root, Silent()))
    assert any("posterior targets" in note for note in outcome.notes)
    scores = load_reranker(workspace.path("model")).score("open", ["read write", "file"])
    assert ((scores > 0) & (scores < 1)).all()
