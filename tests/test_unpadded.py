"""Sequences in one row without padding: the padded logits, for encoders and language models, with and without a shared prefix."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_models import WORDS, tiny_language_model, write_tiny_bert
from zelo.rerankers import scorer as scorers
from zelo.rerankers import unpadded as ways
from zelo.rerankers.encoder_classifier import EncoderClassifier
from zelo.rerankers.language_model import LanguageModel
from zelo.rerankers.unpadded import Row, batches_by_total, fits

LENGTHS = [5, 33, 1, 60, 18, 60]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> EncoderClassifier:
    import torch

    classifier = EncoderClassifier.load(write_tiny_bert(tmp_path_factory.mktemp("unpadded") / "bert", WORDS), device="cpu")
    with torch.no_grad():
        for parameter in classifier.module.parameters():
            parameter.mul_(3.0 if parameter.ndim > 1 else 1.0)
    return classifier


@pytest.fixture(scope="module")
def language_model() -> LanguageModel:
    import torch

    model = tiny_language_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.ndim > 1 else 1.0)
    return LanguageModel(model, (5, 9))


def sequences(lengths: list[int], vocabulary: int, separator: int | None = None) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(1)
    drawn = [rng.integers(4, vocabulary, length) for length in lengths]
    for ids in drawn:
        if separator is not None:
            ids[[len(ids) // 2, -1]] = separator
    return drawn


def in_rows(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "unpadded", True)
    for module in (scorers, ways):
        monkeypatch.setattr(module, "LEAST_TOKENS", 1)


@pytest.mark.parametrize("budget", [0, 64, 1])
def test_an_encoder_scores_sequences_in_one_row_as_it_scores_padded_ones(
    encoder: EncoderClassifier, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    drawn = sequences(LENGTHS, len(WORDS) + 4, encoder.separator)
    expected = encoder.score(drawn)
    assert np.ptp(expected) > 0.1
    with monkeypatch.context() as patch:
        in_rows(encoder, patch)
        patch.setattr(encoder, "logits", lambda *_: pytest.fail("padded"))
        np.testing.assert_allclose(encoder.score(drawn, budget), expected, atol=2e-5)
    np.testing.assert_array_equal(encoder.score(drawn), expected)  # and afterwards the model attends as before


@pytest.mark.parametrize("prefix", [0, 1, 40])
def test_a_language_model_scores_sequences_in_one_row_after_a_prefix_that_is_stored_once(
    language_model: LanguageModel, monkeypatch: pytest.MonkeyPatch, prefix: int
) -> None:
    first, *endings = sequences([prefix, *LENGTHS], 64)
    whole = [np.concatenate([first, ending]) for ending in endings]
    expected = language_model.score(whole)
    assert np.ptp(expected) > 0.1
    from zelo.rerankers import language_model as module

    in_rows(language_model, monkeypatch)
    monkeypatch.setattr(module, "LEAST_TOKENS", 1)
    found = language_model.score_after(first, endings, 80) if prefix else language_model.score(whole, 80)
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_a_model_is_compared_with_itself_before_it_goes_without_padding(
    encoder: EncoderClassifier, language_model: LanguageModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for model in (encoder, language_model):
        monkeypatch.setattr(model, "unpadded", False)
        assert fits(model)
        assert model.unpadded
    real = ways._per_sequence
    for name, fault in {
        "differ": lambda *given: tuple(2 * part for part in real(*given)),
        "no kernel image": lambda *given: (_ for _ in ()).throw(RuntimeError("no kernel image")),
    }.items():
        monkeypatch.setattr(ways, "_per_sequence", fault)
        for model in (encoder, language_model):
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                assert not fits(model)
            assert not model.unpadded
            assert name in caplog.text


def test_layers_that_attend_in_a_window_are_refused(language_model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_model, "unpadded", False)
    for layer in language_model.model.model.layers:
        monkeypatch.setattr(layer.self_attn, "sliding_window", 16)
    assert not fits(language_model)


def test_kernels_for_gpus_take_what_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is needed: torch checks types and shapes on tensors without content."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        q, k = torch.empty(12, 4, 8, dtype=torch.bfloat16, device="meta"), torch.empty(12, 2, 8, dtype=torch.bfloat16, device="meta")
        starts = torch.empty(4, dtype=torch.int32, device="meta")
        out, sums = ways._flash(q, k, k, (starts, 7), (starts, 7), 0.3, causal=True)
        assert (out.shape, out.dtype, sums.shape) == ((12, 4, 8), torch.bfloat16, (12, 4))
        layout = ways._Layout(starts, 7, 0, causal=False)
        assert ways._efficient(q.float(), k.float(), k.float(), layout, 0.3).shape == (12, 4, 8)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 120))
def test_batches_hold_every_row_once_and_keep_their_budget(lengths: list[int], budget: int) -> None:
    sizes = np.array(lengths)
    batches = batches_by_total(sizes, budget)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(len(rows) == 1 or sizes[rows].sum() <= budget for rows in batches)


def test_positions_and_types_start_anew_in_each_sequence() -> None:
    row = Row.of([[2, 7, 3, 8, 3], [2, 3, 9, 9, 3], [2]])
    assert row.starts.tolist() == [0, 5, 10, 11]
    assert row.positions.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0]
    assert row.types(3).tolist() == [0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0]
    assert row.longest == 5


def test_a_real_file_of_a_roberta_counts_positions_as_roberta_does(tmp_path: Path) -> None:
    import torch
    from transformers import RobertaConfig, RobertaForSequenceClassification

    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_position_embeddings=80,
        num_labels=1, pad_token_id=1, type_vocab_size=1, initializer_range=0.2,
    )  # fmt: skip
    assert fits(EncoderClassifier(RobertaForSequenceClassification(config).eval(), pad=1, separator=None))
