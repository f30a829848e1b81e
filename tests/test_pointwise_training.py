"""Training pointwise rerankers of both families: they learn, repeat, go on after a kill, and load elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from scipy.special import expit
from scipy.stats import spearmanr

from fabricate import Fabricated
from tiny_models import write_tiny_bert, write_tiny_qwen
from zelo.artifacts import write_table
from zelo.encoders.openvino_engine import quiet
from zelo.errors import ConvergenceError, InputError, RecipeError
from zelo.recipe import Train, from_dict
from zelo.rerankers import load_reranker
from zelo.rerankers.parity import LIBRARIES, verify
from zelo.stages import train as stage
from zelo.training import loop
from zelo.training.loop import Report
from zelo.training.pointwise import Lesson, _chosen, is_held_out, train_pointwise
from zelo.training.token_file import TokenFile

Kind = Literal["language_model", "cross_encoder"]
WORDS = [f"w{i}" for i in range(24)]
VALUES = np.random.default_rng(7).normal(size=len(WORDS))
SETTINGS = Train(student="cross_encoder", epochs=4, learning_rate=3e-3, documents_per_query=16, max_tokens=64, held_out=0.1)


def lessons(seed: int, queries: int, documents: int = 16) -> Iterator[Lesson]:
    """Documents of 3 to 9 words whose values count, and questions "easy" and "strict", which have many good answers or few."""
    rng = np.random.default_rng(seed)
    for i in range(queries):
        drawn = [rng.integers(len(WORDS), size=rng.integers(3, 10)) for _ in range(documents)]
        targets = expit(3 * np.array([VALUES[d].mean() for d in drawn]) + (1 if i % 2 else -1))
        first, second = (np.arange(documents) + np.array([0, 1])[:, None]) % documents  # a cycle
        prob = expit(np.log(targets / (1 - targets))[first] - np.log(targets / (1 - targets))[second])
        query = f"{'easy' if i % 2 else 'strict'} {WORDS[i % 24]} {WORDS[i // 24 % 24]}"
        yield Lesson(query, [" ".join(WORDS[j] for j in d) for d in drawn], targets, first, second, prob)


def base_of(root: Path, kind: Kind) -> Path:
    folder = root / f"base-{kind}"
    if not folder.is_dir() and kind == "cross_encoder":
        write_tiny_bert(folder, ["easy", "strict", *WORDS])
    elif not folder.is_dir():
        write_tiny_qwen(folder, ["Yes", "system", "user", "assistant", "easy", "strict", *WORDS, " ".join(WORDS)] * 50, dim=64)
    return folder


def train(root: Path, name: str, given: Any, kind: Kind = "cross_encoder", *, whole: bool = False, **changed: Any) -> tuple[Path, Report]:
    """Train a tiny model; `whole` keeps the products in float32, which takes half as long at this size."""
    seen: list[tuple[int, int]] = []
    how = replace(SETTINGS, **changed)
    folder, work = root / name, root / f"{name}-work"
    base = str(base_of(root, kind))
    with pytest.MonkeyPatch.context() as patch:
        if whole:
            patch.setattr(loop, "computes_bfloat16", lambda device: False)
        _, report = train_pointwise(given, base, how, 3, folder, work, lambda done, total: seen.append((done, total)), kind=kind, threads=1)
    assert [done for done, _ in seen] == list(range(1, report.steps + 1))
    return folder, report


def correlation(folder: Path) -> float:
    reranker = load_reranker(folder)
    return float(np.mean([spearmanr(reranker.score(x.query, x.documents), x.targets).statistic for x in lessons(99, 20, 40)]))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    return train(tmp_path_factory.mktemp("models"), "student", lessons(0, 120), documents_per_query=0, learning_rate=5e-3, epochs=5)


def test_an_encoder_learns(encoder: tuple[Path, Report]) -> None:
    assert correlation(encoder[0]) >= 0.95
    reranker = load_reranker(encoder[0])
    easy, strict = (np.mean(reranker.score(f"{word} w0 w0", [" ".join(WORDS)])) for word in ("easy", "strict"))
    assert easy > strict + 0.1  # it reads the question
    report = encoder[1]
    assert report.evaluation["nDCG@10"] > 0.98
    assert report.evaluation["rank_correlation"] > 0.93


def test_a_language_model_learns(tmp_path: Path) -> None:
    folder, report = train(tmp_path, "student", lessons(0, 200), "language_model", whole=True, learning_rate=8e-3, epochs=3)
    assert correlation(folder) >= 0.95
    assert report.evaluation["rank_correlation"] > 0.93
    for library in LIBRARIES:
        assert verify(folder, library).largest < 1e-5


@pytest.mark.parametrize("loss", ["bce", "ranknet", "listwise_kl", "pairs", "infonce"])
def test_every_loss_learns(tmp_path: Path, loss: str) -> None:
    folder, _ = train(tmp_path, "student", lessons(0, 40), whole=True, loss=loss, epochs=3, held_out=0.0)
    assert correlation(folder) > (0.5 if loss == "infonce" else 0.7)


def test_adapters_learn_and_are_kept(tmp_path: Path) -> None:
    folder, _ = train(tmp_path, "student", lessons(0, 12), "language_model", lora_rank=4, epochs=1, learning_rate=1e-2)
    query, documents = "easy w1 w2", [x for lesson in lessons(5, 1) for x in lesson.documents]
    scores = load_reranker(folder).score(query, documents)
    np.testing.assert_allclose(load_reranker(folder / "adapter").score(query, documents), scores, atol=1e-5)
    assert np.abs(scores - load_reranker(base_of(tmp_path, "language_model")).score(query, documents)).max() > 1e-3
    assert (folder / "adapter/adapter_model.safetensors").stat().st_size < (folder / "model.safetensors").stat().st_size
    with pytest.raises(InputError, match="adapters are for language models"):
        train(tmp_path, "other", lessons(0, 2), lora_rank=4)


def test_sentence_transformers_loads_an_encoder_as_it_is(encoder: tuple[Path, Report]) -> None:
    import torch
    from sentence_transformers import CrossEncoder

    documents = [*next(lessons(2, 1, 30)).documents, " ".join(WORDS * 5)]  # the last one is cut
    with quiet():
        model = CrossEncoder(str(encoder[0]), device="cpu")
    assert isinstance(model.activation_fn, torch.nn.Sigmoid)
    for query in ("easy w1 w2", " ".join(["strict", *WORDS] * 4)):
        predicted = model.predict([(query, d) for d in documents], show_progress_bar=False)
        np.testing.assert_allclose(load_reranker(encoder[0]).score(query, documents), predicted, atol=1e-6)
    for library in LIBRARIES:
        assert verify(encoder[0], library).largest < 1e-5


@pytest.mark.parametrize("kind", ["cross_encoder", "language_model"])
def test_two_runs_give_the_same_bytes(tmp_path: Path, kind: Kind) -> None:
    import torch

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.random.get_rng_state()
    first, _ = train(tmp_path, "first", lessons(5, 8), kind, epochs=1)
    second, _ = train(tmp_path, "second", lessons(5, 8), kind, epochs=1)
    assert before[:2] == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    assert torch.equal(before[2], torch.random.get_rng_state())
    for path in sorted(p for p in first.rglob("*") if p.is_file()):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path.name


def test_a_killed_training_goes_on(tmp_path: Path) -> None:
    whole, _ = train(tmp_path, "whole", lessons(5, 8), epochs=2)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    base, how = str(base_of(tmp_path, "cross_encoder")), replace(SETTINGS, epochs=2)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("zelo.training.pointwise.Settings", _saving_often())
        train_pointwise(lessons(5, 8), base, how, 3, tmp_path / "killed", tmp_path / "work", stop, kind="cross_encoder", threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zelo.training.pointwise.Settings", _saving_often())
        _, report = train_pointwise(
            lessons(5, 8), base, how, 3, tmp_path / "killed", tmp_path / "work", lambda *_: None, kind="cross_encoder", threads=1
        )
    assert report.resumed_at in (2, 3)
    one, other = load_file(whole / "model.safetensors"), load_file(tmp_path / "killed/model.safetensors")
    for name, weights in one.items():
        np.testing.assert_allclose(weights, other[name], atol=1e-6)


def _saving_often() -> Any:
    from zelo.training.loop import Settings

    return lambda **given: Settings(**given, checkpoint_seconds=0.0)


def test_a_new_head_starts_at_the_mean_target(tmp_path: Path) -> None:
    documents = [" ".join(WORDS[:3])] * 4
    given = Lesson("easy", documents, np.full(4, 0.05))
    folder, _ = train(tmp_path, "student", [given], epochs=1, learning_rate=1e-8, held_out=0.0)
    np.testing.assert_allclose(load_reranker(folder).score("easy", documents), 0.05, atol=0.03)


def test_early_stopping_keeps_the_best(tmp_path: Path) -> None:
    folder, report = train(tmp_path, "student", lessons(0, 30), learning_rate=0.3, epochs=8, patience=2)
    assert report.steps < report.planned  # at such a rate it does not get better for long
    lines = [json.loads(line) for line in (folder / "training.jsonl").read_text("utf-8").splitlines()]
    best = max(line["evaluation"]["nDCG@10"] for line in lines if "evaluation" in line)
    assert report.evaluation["nDCG@10"] == pytest.approx(best, abs=1e-5)
    assert all("tokens_per_second" not in line for line in lines)  # the model's folder is the same in every run


def test_description_and_card(encoder: tuple[Path, Report]) -> None:
    about = json.loads((encoder[0] / "zelo.json").read_text("utf-8"))
    assert (about["kind"], about["format"]["head"], about["settings"]["epochs"], about["seed"]) == ("pointwise", "classifier", 5, 3)
    assert about["queries"] + about["held_out_queries"] == 120
    card = (encoder[0] / "README.md").read_text("utf-8")
    for part in (
        "pipeline_tag: text-ranking",
        f"| questions | {about['queries']} |",
        "| loss | mse |",
        "not compared",
        "against targets, not labels",
    ):
        assert part in card
    assert str(encoder[0].parent) not in card + json.dumps(about)


@pytest.mark.parametrize("targets", [[0.5, 1.1], [0.5], [0.1, float("nan")]])
def test_bad_targets(targets: list[float]) -> None:
    with pytest.raises(InputError, match="targets must be in"):
        Lesson("easy", ["w1", "w2"], np.array(targets))


def test_nothing_to_learn_and_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no targets"):
        train(tmp_path, "student", [])
    with pytest.raises(InputError, match="needs the comparisons"):
        train(tmp_path, "student", [Lesson("easy", ["w1"], np.array([0.5]))], loss="pairs", held_out=0.0)
    with pytest.raises(InputError, match="no such model folder"):
        train_pointwise(lessons(0, 1), str(tmp_path / "none"), SETTINGS, 0, tmp_path, tmp_path / "work", lambda *_: None)
    with pytest.raises(ConvergenceError, match="lower the learning rate"):
        train(tmp_path, "student", lessons(0, 20), learning_rate=1e30, epochs=1)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(2, 20), st.integers(0, 2**32))
def test_documents_are_spread_over_the_targets(documents: int, per_query: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.permutation(documents) / 40
    rows, chosen = _chosen(Lesson("q", [""] * documents, targets), replace(SETTINGS, documents_per_query=per_query), rng)
    assert len(set(rows.tolist())) == len(rows) == min(per_query, documents)
    np.testing.assert_array_equal(chosen, targets[rows])
    slices = np.array_split(np.sort(targets), min(per_query, documents))
    assert all(part[0] <= t <= part[-1] for part, t in zip(slices, np.sort(chosen), strict=True))


def test_held_out_queries_do_not_depend_on_others() -> None:
    chosen = [i for i in range(2000) if is_held_out(f"query {i}", 0.1, 0)]
    assert 150 < len(chosen) < 250
    assert not any(is_held_out(f"query {i}", 0.0, 0) for i in range(100))
    assert chosen != [i for i in range(2000) if is_held_out(f"query {i}", 0.1, 1)]


def test_a_token_file_gives_back_what_was_added(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [[rng.integers(0, 99, n).astype(np.int32) for n in sizes] for sizes in ((3, 0, 5), (2,), ())]
    with TokenFile(tmp_path / "work/x.tokens") as file:
        for group, sequences in enumerate(rows):
            file.add(group, sequences, np.arange(len(sequences)) / 10)
    assert (file.lengths.tolist(), file.groups.tolist(), file.targets.tolist()) == ([3, 0, 5, 2], [0, 0, 0, 1], [0, 0.1, 0.2, 0])
    sequences, targets = file.items(np.array([3, 2]), 0)
    np.testing.assert_array_equal(sequences[0], rows[1][0])
    np.testing.assert_array_equal(sequences[1], rows[0][2])
    assert targets.tolist() == [0, 0.2]
    with TokenFile(tmp_path / "y.tokens") as wide:
        wide.add(0, rows[1], np.array([[0.0, 1.0, 0.5]]))
        wide.add(1, rows[1], np.array([[0.0, 1.0, 2.0, 0.5, 0.7]]))
    assert wide.targets.tolist() == [[0, 1, -1, 0.5, -1], [0, 1, 2, 0.5, 0.7]]
    assert wide.identity != file.identity
    with pytest.raises(InputError, match="not a number"), TokenFile(tmp_path / "z.tokens") as bad:
        bad.add(0, rows[1], np.array([np.nan]))


def test_targets_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "ROWS", 2)
    ids = ["a", "a", "a", "b", "c", "c"]
    columns = {"query_id": ids, "doc_id": list("uvwxyz"), "target": np.arange(6) / 10}
    write_table(tmp_path / "targets.parquet", "targets", columns)
    found = [(q, d, t.tolist()) for q, d, t in stage.streamed_targets(tmp_path / "targets.parquet")]
    assert found == [("a", ["u", "v", "w"], [0, 0.1, 0.2]), ("b", ["x"], [0.3]), ("c", ["y", "z"], [0.4, 0.5])]
    write_table(tmp_path / "apart.parquet", "targets", {**columns, "query_id": ["a", "b", "a", "c", "c", "c"]})
    with pytest.raises(InputError, match="are apart"):
        list(stage.streamed_targets(tmp_path / "apart.parquet"))
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="not readable as Parquet"):
        list(stage.streamed_targets(tmp_path / "no.parquet"))


def test_what_the_recipe_must_say() -> None:
    with pytest.raises(RecipeError, match="has no base"):
        stage.check(from_dict({"train": {"student": "language_model"}}))
    with pytest.raises(RecipeError, match="lora_rank is for"):
        stage.check(from_dict({"train": {"lora_rank": 8}}))
    stage.check(from_dict({"train": {"student": "language_model", "base": "x", "lora_rank": 8}}))


@pytest.mark.parametrize("loss", ["mse", "pairs"])
def test_the_stage(tmp_path: Path, loss: str) -> None:
    base = write_tiny_qwen(tmp_path / "base", ["Yes", "system", "user", "assistant"] * 50 + ["open read write file"] * 50, dim=16)
    wanted = {"student": "language_model", "base": str(base), "loss": loss, "max_tokens": 64, "lora_rank": 2, "held_out": 0.2}
    made = Fabricated(tmp_path / "ws", train=10, test=2, settings={"train": wanted})
    workspace = made.workspace
    rows = [(q, d, float(t)) for q in made.queries for d, t in zip(made.candidates[q], expit(made.truth[q]), strict=True)]
    columns = dict(zip(("query_id", "doc_id", "target"), map(list, zip(*rows, strict=True)), strict=True))
    write_table(workspace.path("targets"), "targets", columns)
    pairs = [(q, c[i], c[i + 1], 0.7, 3, 3.0, 1.0, 0.0) for q, c in made.candidates.items() for i in range(len(c) - 1)]
    names = ("query_id", "doc_id_a", "doc_id_b", "prob_a", "n_judges", "weight", "slope", "offset")
    write_table(workspace.path("preferences"), "preferences", dict(zip(names, map(list, zip(*pairs, strict=True)), strict=True)))
    outcome = stage.run(made.context())
    assert outcome.rows == {"queries": 10, "targets": 240}
    assert any("against their targets: loss" in note for note in outcome.notes)
    about = json.loads((workspace.path("model") / "zelo.json").read_text("utf-8"))
    assert about["rows"] == about["queries"] * (24 if loss == "pairs" else 16)
    card = (workspace.path("model") / "README.md").read_text("utf-8")
    for part in (
        "| first stage | bm25 + dense (",
        "100 candidates per question |",
        "| judges | ",
        "| score | sigmoid(logit of Yes / 5), in [0, 1] |",
    ):
        assert part in card
    assert about["origin"]["collection"] == Path(made.context().recipe.ingest.collection).name
    scores = load_reranker(workspace.path("model")).score("open", ["read write", "file"])
    assert ((scores > 0) & (scores < 1)).all()
    assert [path.name for path in (workspace.root / "training/pointwise").iterdir()] == ["log.jsonl"]
