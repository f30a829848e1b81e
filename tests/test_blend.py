"""The blend student: its head's training, and its folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.special import expit

from tiny_models import WORDS, write_tiny_bert
from zelo.encoders.similarity import DenseSimilarity, LateInteraction, LexicalSimilarity, LexicalStatistics, VectorBank, token_frequency
from zelo.encoders.transformer import load_encoder
from zelo.errors import InputError
from zelo.rerankers import Reranker, load_reranker
from zelo.rerankers.blend import FEATURES, BlendReranker, Head, Signals
from zelo.training.head import RIDGE, loss, train_head

HEAD = Head((0.4, 1.1, 2.3), -1.7, (0.1, 0.5, 0.6), (0.2, 0.1, 0.05))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(0, 2**32))
def test_gradient_is_that_of_the_loss(features: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y, at = rng.normal(size=(12, features)), rng.random(12), rng.normal(size=features + 1)
    value, gradient = loss(at, x, y)
    assert value == pytest.approx(np.mean((expit(x @ at[:-1] + at[-1]) - y) ** 2) + RIDGE * (at[:-1] ** 2).sum())
    np.testing.assert_allclose(gradient, approx_fprime(at, lambda p: loss(p, x, y)[0], 1e-7), atol=1e-5)


def test_known_weights_are_recovered() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 3)) * HEAD.scale + HEAD.center
    head, error = train_head(features, HEAD(features))
    # in the units of the features, whatever the standardization
    slopes = [np.array(h.weights) / np.array(h.scale) for h in (head, HEAD)]
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=0.05)
    assert error < 0.01
    np.testing.assert_allclose(head(features), HEAD(features), atol=0.02)
    noisy, error = train_head(features, np.clip(HEAD(features) + 0.1 * rng.normal(size=4000), 0, 1))
    assert error == pytest.approx(0.08, abs=0.02)  # less than 0.1: targets are cut at 0 and 1
    np.testing.assert_allclose(noisy(features), HEAD(features), atol=0.08)


def test_is_an_optimum() -> None:
    rng = np.random.default_rng(1)
    features, targets = rng.normal(size=(300, 3)), rng.random(300)
    head, error = train_head(features, targets)
    standard = (features - features.mean(0)) / features.std(0)
    best = loss(np.array([*head.weights, head.bias]), standard, targets)[0]
    for _ in range(30):
        other = np.array([*head.weights, head.bias]) + 0.1 * rng.normal(size=4)
        assert loss(other, standard, targets)[0] > best
    assert error == pytest.approx(np.sqrt(np.mean((head(features) - targets) ** 2)))


def test_features_that_say_the_same_share_the_weight_and_constant_ones_get_none() -> None:
    rng = np.random.default_rng(2)
    one = rng.normal(size=500)
    head, _ = train_head(np.stack([one, one, np.full(500, 3.0)], axis=1), expit(2 * one))
    assert head.weights[0] == pytest.approx(head.weights[1], abs=1e-3)
    assert head.weights[2] == pytest.approx(0, abs=1e-3)
    assert np.isfinite(head(np.array([[0.0, 0.0, 9.0]]))).all()


@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_constant_targets(target: float) -> None:
    features = np.random.default_rng(3).normal(size=(50, 3))
    head, error = train_head(features, np.full(50, target))
    np.testing.assert_allclose(head(features), target, atol=0.02)
    assert error < 0.02


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert", WORDS)


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 12))) for _ in range(30)]


@pytest.fixture(scope="module")
def blend(base: Path, corpus: list[str]) -> BlendReranker:
    encoder = load_encoder(base, "torch", 1)
    vectors = encoder.encode(corpus, tokens=True)
    bank = VectorBank(encoder, [(corpus, vectors)])
    signals = Signals(LexicalStatistics.count(corpus, "en"), bank, token_frequency(vectors), len(corpus))
    return BlendReranker(signals, HEAD, str(base))


def test_features_are_the_three_signals_in_order(blend: BlendReranker, corpus: list[str]) -> None:
    signals = blend._signals
    parts = (
        LexicalSimilarity(signals.lexical),
        DenseSimilarity(signals.bank),
        LateInteraction(signals.bank, signals.token_frequency, signals.documents),
    )
    assert FEATURES == ("lexical", "dense", "late_interaction")
    expected = np.stack([part.score("open file", corpus) for part in parts], axis=1)
    np.testing.assert_array_equal(signals("open file", corpus), expected)
    np.testing.assert_allclose(blend.score("open file", corpus), HEAD(expected))


def test_is_a_reranker_whose_scores_do_not_depend_on_the_other_documents(blend: BlendReranker, corpus: list[str]) -> None:
    assert isinstance(blend, Reranker)
    together = blend.score("sort list", corpus)
    assert together.min() >= 0
    assert together.max() <= 1
    assert together.std() > 0.01
    np.testing.assert_allclose([blend.score("sort list", [d])[0] for d in corpus], together, atol=1e-6)
    assert blend.score("sort list", []).shape == (0,)


def test_reloaded_scores_are_the_same(blend: BlendReranker, corpus: list[str], tmp_path: Path) -> None:
    blend.save(tmp_path / "model")
    queries = ["open file", "merge a list of words that no one knows", ""]
    reloaded = load_reranker(tmp_path / "model")
    for query in queries:
        np.testing.assert_allclose(reloaded.score(query, corpus), blend.score(query, corpus), atol=1e-5)
    with_vectors = BlendReranker.load(tmp_path / "model", blend._signals.bank)
    np.testing.assert_array_equal(with_vectors.score(queries[0], corpus), blend.score(queries[0], corpus))


def test_saving_twice_gives_the_same_bytes(blend: BlendReranker, tmp_path: Path) -> None:
    for name in ("one", "two"):
        blend.save(tmp_path / name)
    files = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert files == ["README.md", "terms.json", "token_frequency.npy", "zelo.json"]
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


def test_model_card(blend: BlendReranker, tmp_path: Path) -> None:
    blend.save(tmp_path, {"questions": 12, "targets": 1_200})
    card = (tmp_path / "README.md").read_text("utf-8")
    parts = ("| questions | 12 |", "| weight of dense, per standard deviation | 1.100 |", "| language of the words | en |", "not measured")
    assert all(part in card for part in parts)
    assert card.startswith("---\nlibrary_name: zelo\n")
    assert str(tmp_path.parent) not in card


def test_card_names_the_license_of_the_default_encoder() -> None:
    from zelo.rerankers.card import license_of, model_card

    assert license_of("all-MiniLM-L6-v2") == "apache-2.0"
    card = model_card("T", "s", {"a|b": "c\nd"}, "all-MiniLM-L6-v2", holds_weights=True, usage="x")
    assert "\nlicense: apache-2.0\n" in card
    assert "derived from those of `all-MiniLM-L6-v2`, whose license (`apache-2.0` according to its card)" in card
    assert "| a|b | c d |" in card
    assert license_of("/no/such/folder") == ""


def test_another_encoder_is_refused(blend: BlendReranker, tmp_path: Path) -> None:
    blend.save(tmp_path / "model")
    path = tmp_path / "model" / "zelo.json"
    about = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(about | {"encoder_digest": "0" * 64}), "utf-8")
    with pytest.raises(InputError, match=r"another version of encoder.*train again"):
        load_reranker(tmp_path / "model")
    other = write_tiny_bert(tmp_path / "other", WORDS, seed=1)
    path.write_text(json.dumps(about | {"encoder": str(other)}), "utf-8")
    with pytest.raises(InputError, match="another version of encoder"):
        load_reranker(tmp_path / "model")


@pytest.mark.parametrize("missing", ["terms.json", "token_frequency.npy"])
def test_a_folder_that_lacks_a_file(missing: str, blend: BlendReranker, tmp_path: Path) -> None:
    blend.save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match="not a complete blend model"):
        load_reranker(tmp_path)


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model"):
        load_reranker(tmp_path)
    (tmp_path / "zelo.json").write_text("{}", "utf-8")
    with pytest.raises(InputError, match="not a description of a model"):
        load_reranker(tmp_path)
    (tmp_path / "zelo.json").write_text('{"kind": "oracle"}', "utf-8")
    with pytest.raises(InputError, match="unknown kind of model 'oracle'"):
        load_reranker(tmp_path)
