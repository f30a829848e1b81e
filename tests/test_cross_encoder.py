"""Fine-tuning a cross-encoder: it learns, repeats, and loads elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from scipy.special import expit
from scipy.stats import spearmanr

from tiny_models import write_tiny_bert
from zelo.encoders.openvino_engine import quiet
from zelo.errors import ConvergenceError, InputError
from zelo.recipe import Train
from zelo.rerankers import load_reranker
from zelo.training.cross_encoder import Example, _batches, _draw, _Row, learning_rate_share, train_cross_encoder

WORDS = [f"w{i}" for i in range(24)]
VALUES = np.random.default_rng(7).normal(size=len(WORDS))
SETTINGS = Train(student="cross_encoder", epochs=4, learning_rate=3e-3, batch_size=32, documents_per_query=16, max_tokens=32)


def make_examples(rng: np.random.Generator, queries: int, documents: int = 16) -> list[Example]:
    """Documents of 3 to 9 words whose values count, and questions "easy" and "strict", which have many good answers or few."""
    examples: list[Example] = []
    for i in range(queries):
        drawn = [rng.integers(len(WORDS), size=rng.integers(3, 10)) for _ in range(documents)]
        targets = expit(3 * np.array([VALUES[d].mean() for d in drawn]) + (1 if i % 2 else -1))
        examples.append(("easy" if i % 2 else "strict", [" ".join(WORDS[i] for i in d) for d in drawn], targets))
    return examples


def train(root: Path, name: str, examples: list[Example], **changed: float) -> tuple[Path, str]:
    base = root / "base"
    if not base.is_dir():
        write_tiny_bert(base, ["easy", "strict", *WORDS])
    seen: list[tuple[int, int]] = []
    recipe = Train(**{**{f: getattr(SETTINGS, f) for f in SETTINGS.__dataclass_fields__}, **changed})
    line = train_cross_encoder(examples, str(base), recipe, 3, root / name, lambda done, total: seen.append((done, total)), 1)
    assert [done for done, _ in seen] == list(range(1, seen[-1][1] + 1))
    return root / name, line


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return train(tmp_path_factory.mktemp("models"), "student", make_examples(np.random.default_rng(0), 60))


def test_learns_the_words_and_what_the_question_asks(trained: tuple[Path, str]) -> None:
    reranker = load_reranker(trained[0])
    strict, easy = make_examples(np.random.default_rng(1), 2, 200)
    for query, documents, targets in (strict, easy):
        scores = reranker.score(query, documents)
        assert scores.min() >= 0
        assert scores.max() <= 1
        assert spearmanr(scores, targets).statistic > 0.8
    assert reranker.score(easy[0], strict[1]).mean() > reranker.score(strict[0], strict[1]).mean() + 0.1
    assert "root mean squared error" in trained[1]


def test_sentence_transformers_loads_the_folder_as_it_is(trained: tuple[Path, str]) -> None:
    import torch
    from sentence_transformers import CrossEncoder

    ((query, documents, _),) = make_examples(np.random.default_rng(2), 1, 30)
    documents = [*documents, " ".join(WORDS * 3)]  # one that is cut
    with quiet():
        model = CrossEncoder(str(trained[0]), device="cpu")
    assert isinstance(model.activation_fn, torch.nn.Sigmoid)
    predicted = model.predict([(query, d) for d in documents], show_progress_bar=False)
    np.testing.assert_allclose(load_reranker(trained[0]).score(query, documents), predicted, atol=1e-6)
    # the same weights by transformers alone, with the limit that the recipe gave
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with quiet():
        tokenizer, plain = AutoTokenizer.from_pretrained(trained[0]), AutoModelForSequenceClassification.from_pretrained(trained[0])
    inputs = tokenizer([query] * len(documents), documents, padding=True, truncation=True, max_length=32, return_tensors="pt")
    with torch.no_grad():
        logits = plain(**inputs).logits[:, 0].numpy()
    np.testing.assert_allclose(predicted, expit(logits), atol=1e-5)


def test_reloaded_equals_the_model_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sentence_transformers import CrossEncoder

    kept = []
    save = CrossEncoder.save_pretrained
    monkeypatch.setattr(CrossEncoder, "save_pretrained", lambda self, *a, **k: (kept.append(self), save(self, *a, **k))[1])
    folder, _ = train(tmp_path, "student", make_examples(np.random.default_rng(3), 6), epochs=1)
    ((query, documents, _),) = make_examples(np.random.default_rng(4), 1, 20)
    pairs = [(query, d) for d in documents]
    np.testing.assert_allclose(load_reranker(folder).score(query, documents), kept[0].predict(pairs, show_progress_bar=False), atol=1e-5)


def test_two_runs_give_the_same_bytes_and_leave_torch_as_it_was(tmp_path: Path) -> None:
    import torch

    examples = make_examples(np.random.default_rng(5), 8)
    state = torch.random.get_rng_state()
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    first, _ = train(tmp_path, "first", examples, epochs=2)
    torch.rand(3)
    second, _ = train(tmp_path, "second", examples, epochs=2)
    assert before == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    one, other = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert one.keys() == other.keys()
    for name, weights in one.items():
        np.testing.assert_array_equal(weights, other[name])
    assert (first / "zelo.json").read_bytes() == (second / "zelo.json").read_bytes()
    torch.random.set_rng_state(state)


def test_a_new_head_starts_at_the_mean_target(tmp_path: Path) -> None:
    documents = [" ".join(WORDS[:3])] * 4
    folder, _ = train(tmp_path, "student", [("easy", documents, np.full(4, 0.05))], epochs=1, learning_rate=1e-8)
    np.testing.assert_allclose(load_reranker(folder).score("easy", documents), 0.05, atol=0.03)
    again = train_cross_encoder([("easy", documents, np.full(4, 0.9))], str(folder), SETTINGS, 0, tmp_path / "again", lambda *_: None, 1)
    assert float(again.split()[7]) > 0.2  # a head that was trained is kept: it starts far from 0.9


def test_description_and_card(trained: tuple[Path, str]) -> None:
    about = json.loads((trained[0] / "zelo.json").read_text("utf-8"))
    assert (about["kind"], about["questions"], about["settings"]["epochs"], about["seed"]) == ("cross_encoder", 60, 4, 3)
    card = (trained[0] / "README.md").read_text("utf-8")
    for part in ("pipeline_tag: text-ranking", "| questions | 60 |", "| pairs per pass | 960 |", "not compared", "its card does not state"):
        assert part in card
    assert str(trained[0].parent) not in card


@pytest.mark.parametrize("targets", [[0.5, 1.1], [0.5], [0.1, float("nan")]])
def test_bad_targets(targets: list[float], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="targets must be in"):
        train(tmp_path, "student", [("easy", ["w1", "w2"], np.array(targets))])


def test_no_targets_and_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no targets"):
        train_cross_encoder([], "nowhere", SETTINGS, 0, tmp_path, lambda *_: None)
    with pytest.raises(InputError, match="no such model folder"):
        train_cross_encoder(make_examples(np.random.default_rng(0), 1), str(tmp_path / "none"), SETTINGS, 0, tmp_path, lambda *_: None)


def test_a_rate_that_blows_up_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConvergenceError, match=r"lower train\.learning_rate"):
        train(tmp_path, "student", make_examples(np.random.default_rng(0), 20), learning_rate=1e30)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300))
def test_learning_rate_rises_then_falls(steps: int) -> None:
    shares = np.array([learning_rate_share(step, steps) for step in range(steps)])
    assert shares.min() > 0
    assert shares.max() == 1
    top = int(shares.argmax())
    assert top <= max(1, round(steps / 10))
    assert (np.diff(shares[: top + 1]) > 0).all()
    assert (np.diff(shares[top:]) <= 0).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(2, 20), st.integers(0, 2**32))
def test_documents_are_spread_over_the_targets(documents: int, per_query: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.permutation(documents) / 40
    rows = _draw([("q", [str(i) for i in range(documents)], targets)], per_query, rng)
    chosen = sorted(row.target for row in rows)
    assert len(chosen) == len(set(chosen)) == min(per_query, documents)
    assert all(row.target == targets[int(row.document)] for row in rows)
    slices = np.array_split(np.sort(targets), min(per_query, documents))
    assert all(part[0] <= t <= part[-1] for part, t in zip(slices, chosen, strict=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(1, 9), st.integers(0, 2**32))
def test_batches_hold_every_pair_once_and_similar_lengths(rows: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    all_rows = [_Row("", "x" * int(n), float(i)) for i, n in enumerate(rng.integers(0, 100, rows))]
    batches = _batches(all_rows, size, rng)
    assert sorted(r.target for batch in batches for r in batch) == list(range(rows))
    assert max(map(len, batches)) <= size
    if rows >= 100 and size >= 4:
        spread = np.mean([max(map(len, b)) - min(map(len, b)) for b in batches])
        assert spread < 50  # a random batch of 4 spans 60 of 100 on average
