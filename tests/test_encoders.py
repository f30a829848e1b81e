"""Texts to vectors: against sentence-transformers, padding, repeatability, files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zelo.encoders import openvino_engine
from zelo.encoders.transformer import Encoder, TextVectors, load_encoder, load_vectors, save_vectors
from zelo.encoders.weights import model_digest, resolve_model
from zelo.errors import InputError

TEXTS = [
    "How do I read a file line by line?",
    "",
    "a",
    "Return True if the two objects have the same value; NaN differs from itself. " * 3,
    "How do I read a file line by line?",
    "naïve café, 東京, 3.5 kg\x00 and a lone surrogate \ud800",
    "word " * 400,
]


@pytest.fixture(scope="module")
def f32() -> Encoder:
    folder = resolve_model()
    compiled, tokenizer, facts = openvino_engine.compile_model(folder, load_encoder().digest, "f32", 2)
    from zelo.encoders.transformer import _OpenVino

    return Encoder(_OpenVino(compiled, tokenizer, facts, "f32"), "test")


@pytest.fixture(scope="module")
def default() -> Encoder:
    return load_encoder(threads=2)


@pytest.fixture(scope="module")
def plain() -> Encoder:
    return load_encoder(engine="torch", threads=2)


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    model = openvino_engine.load_sentence_transformer(resolve_model())
    texts = [text.encode("utf-8", "replace").decode() for text in TEXTS]
    return np.asarray(model.encode(texts, normalize_embeddings=True, show_progress_bar=False))


def test_facts_come_from_the_model(default: Encoder, plain: Encoder) -> None:
    assert (default.dim, default.max_tokens, default.engine) == (384, 256, "openvino")
    assert (plain.dim, plain.max_tokens, plain.engine, plain.precision) == (384, 256, "torch", "f32")
    assert default.digest == plain.digest


@pytest.mark.parametrize(("name", "cosine"), [("default", 0.9999), ("f32", 0.999999), ("plain", 0.999999)])
def test_same_vectors_as_sentence_transformers(name: str, cosine: float, expected: np.ndarray, request: pytest.FixtureRequest) -> None:
    encoder: Encoder = request.getfixturevalue(name)
    if encoder.precision == "f32":
        cosine = 0.999999
    vectors = encoder.encode(TEXTS)
    assert vectors.pooled.dtype == np.float32
    assert (vectors.pooled * expected).sum(1).min() >= cosine
    np.testing.assert_allclose(np.linalg.norm(vectors.pooled, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", ["default", "f32", "plain"])
def test_batch_and_padding_hardly_matter(name: str, request: pytest.FixtureRequest) -> None:
    encoder: Encoder = request.getfixturevalue(name)
    tolerance = 2e-3 if encoder.precision == "bf16" else 1e-5
    together = encoder.encode(TEXTS, tokens=True)
    for i, text in enumerate(TEXTS):
        alone = encoder.encode([text], tokens=True)
        np.testing.assert_allclose(alone.pooled[0], together.pooled[i], atol=tolerance)
        # a token's row is stored in float16: 5e-4 of rounding at 1
        np.testing.assert_allclose(alone.tokens_of(0).astype(float), together.tokens_of(i).astype(float), atol=5 * tolerance + 5e-4)


def test_tokens_are_unit_rows_in_the_order_of_the_text(plain: Encoder, default: Encoder) -> None:
    vectors = default.encode(TEXTS, tokens=True)
    assert vectors.tokens is not None
    assert [a.dtype.str[1:] for a in (vectors.tokens, vectors.offsets, vectors.token_ids)] == ["f2", "i8", "i4"]
    assert len(vectors.tokens) == len(vectors.token_ids) == vectors.offsets[-1]
    np.testing.assert_allclose(np.linalg.norm(vectors.tokens.astype(np.float32), axis=1), 1, atol=2e-3)
    lengths = np.diff(vectors.offsets)
    assert lengths[[1, 2, 6]].tolist() == [2, 3, 256]  # first and last token always; the limit of this model
    other = plain.encode(TEXTS, tokens=True)
    np.testing.assert_array_equal(other.token_ids, vectors.token_ids)
    cosines = (other.tokens.astype(np.float32) * vectors.tokens.astype(np.float32)).sum(1)  # type: ignore[union-attr]
    assert cosines.min() > 0.99
    assert cosines.mean() > 0.999


def test_pooled_is_the_mean_of_the_hidden_states(f32: Encoder) -> None:
    text = "Pooling is the mean over tokens."
    ids = f32.encode([text]).token_ids.astype(np.int64)[None]
    hidden = f32._backend._compiled([ids, np.ones_like(ids)])[0][0]  # type: ignore[union-attr]
    mean = hidden.mean(0)
    np.testing.assert_allclose(f32.encode([text]).pooled[0], mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize("name", ["default", "plain"])
def test_two_runs_are_bit_identical(name: str, request: pytest.FixtureRequest) -> None:
    encoder: Encoder = request.getfixturevalue(name)
    texts = [f"{text} {i}" for i in range(5) for text in TEXTS[:4]]
    first, second = encoder.encode(texts, tokens=True), encoder.encode(texts, tokens=True)
    np.testing.assert_array_equal(first.pooled, second.pooled)
    np.testing.assert_array_equal(first.tokens, second.tokens)


def test_the_order_of_the_texts_changes_no_vector(default: Encoder) -> None:
    texts = [f"{'many words ' * (n % 7)} number {n}" for n in range(150)]
    forward, backward = default.encode(texts), default.encode(texts[::-1])
    np.testing.assert_array_equal(forward.pooled, backward.pooled[::-1])


def test_equal_texts_are_encoded_once_and_have_equal_vectors(default: Encoder) -> None:
    vectors = default.encode(["the same", "another", "the same"], tokens=True)
    np.testing.assert_array_equal(vectors.pooled[0], vectors.pooled[2])
    np.testing.assert_array_equal(vectors.tokens_of(0), vectors.tokens_of(2))
    once = default.encode(["the same", "another"], tokens=True)
    np.testing.assert_array_equal(once.pooled, vectors.pooled[:2])


def test_no_texts(default: Encoder, plain: Encoder) -> None:
    for encoder in (default, plain):
        vectors = encoder.encode([], tokens=True)
        assert vectors.tokens is not None
        assert vectors.pooled.shape == vectors.tokens.shape == (0, 384)
        assert vectors.offsets.tolist() == [0]


def test_progress_counts_texts_with_duplicates(default: Encoder) -> None:
    seen: list[tuple[int, int]] = []
    default.encode(["a", "b", "a", "c"], progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4, 4)
    assert seen == sorted(seen)


def test_loading_a_kept_model_needs_no_torch_and_prints_nothing(default: Encoder) -> None:
    code = (
        "import sys; from zelo.encoders.transformer import load_encoder; e = load_encoder(threads=2); "
        "p = e.encode(['How do I read a file line by line?']).pooled; "
        "heavy = [m for m in ('torch', 'transformers', 'sentence_transformers') if m in sys.modules]; "
        "print(heavy, p.tobytes().hex())"
    )
    here = default.encode(["How do I read a file line by line?"]).pooled
    for _ in range(3):  # callbacks from OpenVINO's threads used to abort half of all processes at their exit
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.strip() == f"[] {here.tobytes().hex()}"  # another process, the same bits


def write_modules(folder: Path, kinds: list[str], pooling: dict[str, object]) -> Path:
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random one-layer BERT of 16 dimensions with cls pooling: converts in a second."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 24,
    }
    BertModel(BertConfig(vocab_size=30522, **shape)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(resolve_model() / name, folder)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 20, "do_lower_case": false}')
    return write_modules(folder, ["Transformer", "Pooling"], {"word_embedding_dimension": 16, "pooling_mode_cls_token": True})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZELO_CACHE", str(tmp_path / "cache"))
    openvino_engine.compile_model.cache_clear()
    return tmp_path / "cache"


def test_another_model_with_cls_pooling(small_model: Path, cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encoder, other = load_encoder(small_model, threads=1), load_encoder(small_model, engine="torch", threads=1)
    assert (encoder.engine, encoder.dim, encoder.max_tokens) == ("openvino", 16, 20)
    left, right = encoder.encode(TEXTS[:4], tokens=True), other.encode(TEXTS[:4], tokens=True)
    assert (left.pooled * right.pooled).sum(1).min() > 0.999
    np.testing.assert_array_equal(left.token_ids, right.token_ids)
    first_tokens = left.tokens[left.offsets[:-1]].astype(np.float32)  # type: ignore[index]
    np.testing.assert_allclose(first_tokens, left.pooled, atol=2e-3)
    (kept,) = (cache / "openvino").iterdir()  # nothing half-made is left beside it
    assert sorted(path.name for path in kept.iterdir()) == ["facts.json", "model.bin", "model.xml", "tokenizer.json"]
    assert capfd.readouterr() == ("", "")  # tracing warnings are silenced


def test_damaged_kept_model_is_converted_again(small_model: Path, cache: Path) -> None:
    version = import_module("openvino").__version__.partition("-")[0]
    kept = cache / "openvino" / f"{model_digest(small_model)[:32]}-{version}-1"
    kept.mkdir(parents=True)
    (kept / "facts.json").write_text('{"dim": 3')
    assert load_encoder(small_model, threads=1).dim == 16
    assert json.loads((kept / "facts.json").read_text()) == {"dim": 16, "max_tokens": 20, "pad_id": 0, "pooling": "cls"}


def test_cache_that_cannot_be_written_is_done_without(small_model: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert load_encoder(small_model, threads=1).engine == "openvino"


def test_conversion_that_differs_is_not_used(
    small_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(openvino_engine, "_probe", lambda *_: float("nan"))
    assert load_encoder(small_model).engine == "torch"
    assert "differs from the original" in caplog.text
    assert list((cache / "openvino").iterdir()) == []


def test_model_without_a_transformer(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(resolve_model() / "tokenizer.json"))
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu").save_pretrained(str(tmp_path / "m"))
    encoder = load_encoder(tmp_path / "m")
    vectors = encoder.encode(["file", "line", "file"])
    assert (encoder.engine, encoder.dim, vectors.pooled.shape, vectors.tokens) == ("torch", 8, (3, 8), None)
    np.testing.assert_allclose(np.linalg.norm(vectors.pooled, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(vectors.pooled[0], vectors.pooled[2])
    with pytest.raises(InputError, match="no token vectors"):
        encoder.encode(["file"], tokens=True)


@pytest.mark.parametrize(
    ("kinds", "pooling", "answer"),
    [
        (["Transformer", "Pooling"], {"pooling_mode": "mean"}, "mean"),
        (["Transformer", "Pooling", "Normalize"], {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        (["Transformer", "Pooling"], {"pooling_mode": "lasttoken"}, None),
        (["Transformer", "Pooling"], {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, None),
        (["Transformer", "Pooling", "Dense"], {"pooling_mode": "mean"}, None),
        (["StaticEmbedding", "Normalize"], {"pooling_mode": "mean"}, None),
    ],
)
def test_openvino_only_for_models_it_can_stand_in_for(
    kinds: list[str], pooling: dict[str, object], answer: str | None, tmp_path: Path
) -> None:
    folder = write_modules(tmp_path, kinds, pooling)
    assert openvino_engine.pooling_of(folder) == answer
    (folder / "config_sentence_transformers.json").write_text('{"default_prompt_name": "query"}')
    assert openvino_engine.pooling_of(folder) is None
    with pytest.raises(InputError, match="use engine='torch'"):
        load_encoder(folder, engine="openvino")


def test_unknown_engine() -> None:
    with pytest.raises(InputError, match="unknown engine 'tpu'"):
        load_encoder(engine="tpu")  # type: ignore[arg-type]


def some_vectors(rng: np.random.Generator, lengths: list[int], tokens: bool = True) -> TextVectors:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    total = int(offsets[-1])
    return TextVectors(
        rng.normal(size=(len(lengths), 8)).astype(np.float32),
        rng.normal(size=(total, 8)).astype(np.float16) if tokens else None,
        offsets,
        rng.integers(0, 99, total).astype(np.int32),
    )


@pytest.mark.parametrize("lengths", [[3, 1, 5], [], [300, 200]])
@pytest.mark.parametrize("tokens", [True, False])
def test_files_return_what_was_saved(lengths: list[int], tokens: bool, tmp_path: Path) -> None:
    vectors = some_vectors(np.random.default_rng(1), lengths, tokens)
    ids = [f"d{i} é" for i in range(len(lengths))]
    save_vectors(tmp_path, ids, some_vectors(np.random.default_rng(2), [1] * len(lengths)))  # left from before
    save_vectors(tmp_path, ids, vectors)
    found, loaded = load_vectors(tmp_path)
    assert (found, len(loaded)) == (ids, len(lengths))
    for name in ("pooled", "tokens", "offsets", "token_ids"):
        left, right = getattr(vectors, name), getattr(loaded, name)
        assert (left is None) == (right is None)
        if left is not None:
            np.testing.assert_array_equal(left, right)
            assert left.dtype == right.dtype
    if sum(lengths) > 300 and vectors.tokens is not None:
        assert isinstance(loaded.tokens, np.memmap)
    if lengths and not tokens:
        with pytest.raises(InputError, match="without token vectors"):
            loaded.tokens_of(0)


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    vectors = some_vectors(np.random.default_rng(1), [3, 1, 5])
    with pytest.raises(InputError, match="2 ids for 3 texts"):
        save_vectors(tmp_path, ["a", "b"], vectors)
    save_vectors(tmp_path, ["a", "b", "c"], vectors)
    np.save(tmp_path / "token_ids.npy", vectors.token_ids[:-1])
    with pytest.raises(InputError, match="do not belong together"):
        load_vectors(tmp_path)
    (tmp_path / "token_ids.npy").unlink()
    with pytest.raises(InputError, match="cannot read the vectors"):
        load_vectors(tmp_path)


def test_a_text_encoded_as_if_alone_does_not_depend_on_the_others(default: Encoder) -> None:
    texts = [*TEXTS, *(f"{'some words of a passage ' * n}{n}" for n in range(1, 60, 3))]
    together = default.encode(texts, tokens=True, alone=True)
    plain_way = default.encode(texts, tokens=True)
    rng = np.random.default_rng(0)
    for some in (rng.permutation(len(texts))[:9], rng.permutation(len(texts))[:2], [4], [5], [6], [11]):
        few = default.encode([texts[i] for i in some], tokens=True, alone=True)
        for n, i in enumerate(some):
            np.testing.assert_array_equal(few.pooled[n], together.pooled[i])
            np.testing.assert_array_equal(few.tokens_of(n), together.tokens_of(i))
            np.testing.assert_array_equal(few.ids_of(n), plain_way.ids_of(i))
    np.testing.assert_allclose((together.pooled * plain_way.pooled).sum(1), 1, atol=1e-3)


def test_padding_of_a_text_alone_stays_below_the_limit(plain: Encoder) -> None:
    assert plain.max_tokens % 16 == 0
    from zelo.encoders.transformer import _batches

    lists = [[1] * n for n in (3, 16, 17, 40, 50)]
    shapes = [batch.ids.shape for batch in _batches(lists, [[i] for i in range(5)], 0, 16, 50)]
    assert shapes == [(1, 50), (1, 48), (1, 32), (2, 16)]


def test_a_card_does_not_ask_a_hub_for_a_license(monkeypatch: pytest.MonkeyPatch) -> None:
    import sentence_transformers

    from zelo.rerankers.card import license_of

    asked: list[str] = []
    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", lambda name, **_: asked.append(name))
    assert license_of("an-author/no-such-model-of-zelo") == ""
    assert asked == []
