"""One logit of a causal language model: the model's own, whatever the batch, the padding, the adapters and the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny_models import tiny_language_model, write_tiny_qwen
from zelo.errors import InputError
from zelo.rerankers.language_model import LanguageModel
from zelo.rerankers.scorer import batches_by_length


def sequences(number: int = 24, longest: int = 120, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 64, n) for n in (1, longest, *rng.integers(2, 40, number - 2))]


def own_logits(model: Any, sequence: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(input_ids=torch.as_tensor(sequence[None])).logits[0, -1].double().numpy()


@pytest.mark.parametrize("tied", [True, False])
def test_the_logit_is_the_models_own(tied: bool) -> None:
    model = tiny_language_model(tied=tied)
    expected = np.array([own_logits(model, s) for s in sequences()])
    np.testing.assert_allclose(LanguageModel(model, (7,)).score(sequences()), expected[:, 7], atol=1e-5)
    np.testing.assert_allclose(LanguageModel(model, (7, 9)).score(sequences()), expected[:, 7] - expected[:, 9], atol=1e-5)


def test_batch_size_and_padding_change_nothing() -> None:
    import torch

    model = tiny_language_model()
    scorer, shown = LanguageModel(model, (7, 9)), sequences()
    alone = np.concatenate([scorer.score([s]) for s in shown])
    for budget in (1, 60, 100_000):
        np.testing.assert_allclose(scorer.score(shown, budget), alone, atol=1e-5)
    # padding on the left with a mask, as generation does it, is the same model
    width = max(map(len, shown))
    ids = np.array([np.concatenate([np.zeros(width - len(s), np.int64), s]) for s in shown])
    mask = np.array([np.arange(width) >= width - len(s) for s in shown])
    places = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
    with torch.no_grad():
        found = model(*map(torch.as_tensor, (ids, mask.astype(np.int64), places))).logits[:, -1].double().numpy()
    np.testing.assert_allclose(found[:, 7] - found[:, 9], alone, atol=1e-4)


def test_a_shared_prefix_changes_nothing() -> None:
    scorer = LanguageModel(tiny_language_model(), (7, 9))
    prefix, *endings = sequences()[1:12]
    whole = scorer.score([np.concatenate([prefix, e]) for e in endings])
    np.testing.assert_allclose(scorer.score_after(prefix, endings), whole, atol=1e-5)
    np.testing.assert_allclose(scorer.score_after(prefix, endings[:1]), whole[:1], atol=1e-5)


def test_adapters_start_as_nothing_and_merge_into_the_weights(tmp_path: Path) -> None:
    import torch

    scorer, shown = LanguageModel(tiny_language_model(), (7, 9)), sequences()
    before = scorer.score(shown)
    scorer.add_lora(4, dropout=0.1)
    learn = [n for n, p in scorer.module.named_parameters() if p.requires_grad]
    assert learn
    assert all("lora_" in n for n in learn)
    np.testing.assert_allclose(scorer.score(shown), before, atol=1e-6)
    with torch.no_grad():
        for n, p in scorer.module.named_parameters():
            if "lora_B" in n:
                p.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    changed = scorer.score(shown)
    assert np.abs(changed - before).max() > 0.01
    scorer.save_adapter(tmp_path / "adapter")
    scorer.save(tmp_path / "merged")
    np.testing.assert_allclose(scorer.score(shown), changed, atol=1e-4)
    np.testing.assert_allclose(LanguageModel.load(tmp_path / "merged", (7, 9), device="cpu").score(shown), changed, atol=1e-4)
    from peft import PeftModel

    plain = PeftModel.from_pretrained(tiny_language_model(), tmp_path / "adapter").merge_and_unload()
    np.testing.assert_allclose(LanguageModel(plain, (7, 9)).score(shown), changed, atol=1e-4)
    with pytest.raises(InputError, match="no adapters"):
        scorer.save_adapter(tmp_path / "again")


def test_adapters_train_with_checkpointed_gradients() -> None:
    scorer, shown = LanguageModel(tiny_language_model(), (7, 9)), sequences(6, 20)
    scorer.add_lora(2)
    gradients = []
    for checkpointed in (False, True):
        if checkpointed:
            scorer.checkpoint_gradients()
        scorer.module.train()
        scorer.module.zero_grad()
        scorer.logits(shown).sum().backward()
        gradients.append([p.grad.numpy().copy() for p in scorer.module.parameters() if p.requires_grad])
    assert max(np.abs(g).max() for g in gradients[0]) > 0
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_head_of_its_own_does_not_learn() -> None:
    for tied in (True, False):
        scorer = LanguageModel(tiny_language_model(tied=tied), (7,))
        assert scorer.model.get_output_embeddings().weight.requires_grad is tied


def test_heads_that_do_more_than_a_product_are_refused() -> None:
    from transformers import CohereConfig, CohereForCausalLM

    shape = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "pad_token_id": 0,
    }
    model = CohereForCausalLM(CohereConfig(**shape, logit_scale=0.0625, eos_token_id=1, bos_token_id=2)).eval()
    model.lm_head.weight.data.mul_(30)  # so that the scale shows
    with pytest.raises(InputError, match="more than a matrix product"):
        LanguageModel(model, (7,))


def test_what_is_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be loaded as a causal language model"):
        LanguageModel.load(tmp_path, (7,))
    with pytest.raises(InputError, match=r"no rows \[64\]"):
        LanguageModel(tiny_language_model(), (64,))
    with pytest.raises(InputError, match="empty sequence"):
        LanguageModel(tiny_language_model(), (7,)).score([[]])


def test_two_loads_have_one_identity(tmp_path: Path) -> None:
    folder = write_tiny_qwen(tmp_path / "qwen", ["open the file", "sort a list"])
    one, other = (LanguageModel.load(folder, (7,), device="cpu") for _ in range(2))
    assert one.identity == other.identity != ""


def test_batches_are_of_similar_length_and_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 300, 500)
    parts = batches_by_length(lengths, 1000)
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    padded = sum(len(p) * int(lengths[p].max()) for p in parts)
    assert max(len(p) * int(lengths[p].max()) for p in parts) <= 1000
    assert padded < 1.1 * lengths.sum()
