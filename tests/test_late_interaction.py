"""The pairwise model that reads texts apart: what it computes, that order only turns its sign, that it learns and comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tiny_models import WORDS, write_tiny_bert
from zelo.errors import InputError
from zelo.judges import Comparison
from zelo.judges.pairwise_model import PairwiseModel
from zelo.recipe import Pairwise
from zelo.rerankers.late_interaction import LateInteraction
from zelo.rerankers.pairwise import new_template, pair_logits
from zelo.rerankers.pairwise_template import PairwiseTemplate
from zelo.training.pairwise import Lessons, train_pairwise

RNG = np.random.default_rng(5)
QUERIES = [" ".join(RNG.choice(WORDS, 3)) for _ in range(24)]
DOCUMENTS = [" ".join(RNG.choice(WORDS, size)) for size in RNG.integers(2, 30, 40)]
TRIPLES = [(QUERIES[i % 24], DOCUMENTS[i % 40], DOCUMENTS[(7 * i + 3) % 40]) for i in range(60)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("base") / "bert", WORDS)


@pytest.fixture(scope="module")
def model(base: Path) -> tuple[LateInteraction, PairwiseTemplate, object]:
    tokenizer, template = new_template(base, "late_interaction", 128)
    return LateInteraction.load(base, device="cpu"), template, tokenizer


def test_the_logit_is_what_the_page_says(model: tuple[LateInteraction, PairwiseTemplate, object], base: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    scorer, template, tokenizer = model
    found = pair_logits(scorer, template, tokenizer, TRIPLES).logits
    encoder, plain = AutoModel.from_pretrained(base).eval(), AutoTokenizer.from_pretrained(base)

    def vectors(text: str) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(encoder(**plain(text, return_tensors="pt")).last_hidden_state[0].double())

    def unit(x: np.ndarray) -> np.ndarray:
        return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))

    for (query, a, b), logit in list(zip(TRIPLES, found, strict=True))[:8]:
        q = vectors(query)
        sides = [2 * unit(q.mean(0)) @ unit(d.mean(0)) + 2 * (unit(q) @ unit(d).T).max(axis=1).mean() for d in (vectors(a), vectors(b))]
        assert logit == pytest.approx(sides[0] - sides[1], abs=2e-5)


def test_padding_order_and_company_change_nothing(model: tuple[LateInteraction, PairwiseTemplate, object]) -> None:
    import torch

    scorer, template, tokenizer = model
    found = pair_logits(scorer, template, tokenizer, TRIPLES)
    with torch.inference_mode():
        tokens = {text: ids for text in {t for three in TRIPLES for t in three} for ids in template.tokenize(tokenizer, [text])}
        whole = scorer.logits([template.join(*(tokens[t] for t in three)) for three in TRIPLES]).numpy()
    np.testing.assert_allclose(found.logits, whole, atol=1e-5)
    alone = [pair_logits(scorer, template, tokenizer, [three]).logits[0] for three in TRIPLES[:5]]
    np.testing.assert_allclose(found.logits[:5], alone, atol=1e-5)
    turned = pair_logits(scorer, template, tokenizer, [(q, b, a) for q, a, b in TRIPLES], antisymmetric=True)
    np.testing.assert_array_equal(turned.logits, -found.logits)
    assert found.computed < found.tokens / 2  # a text is encoded once


def test_a_cut_does_not_depend_on_the_other_document(model: tuple[LateInteraction, PairwiseTemplate, object]) -> None:
    _, template, _ = model
    query, document = np.arange(10, 14, dtype=np.int32), np.arange(100, 300, dtype=np.int32)
    cut = {template.join(query, document, other)[6 : 6 + 60].tobytes() for other in (document[:1], document[:90], document)}
    assert len(cut) == 1
    lengths = [len(template.join(query, document, other)) for other in (document[:1], document)]
    assert lengths == [template.length(4, 200, 1), template.length(4, 200, 200)]
    assert max(lengths) <= 128


def test_it_learns_and_comes_back(base: Path, tmp_path: Path) -> None:
    """A document is better where it shares more words with the query: more than a random encoder knows."""
    query, a, b = (RNG.integers(0, n, 600) for n in (24, 40, 40))
    shared = [[len(set(q.split()) & set(d.split())) for d in DOCUMENTS] for q in QUERIES]
    gap = np.array([shared[i][j] - shared[i][k] for i, j, k in zip(query, a, b, strict=True)])
    lessons = Lessons(QUERIES, DOCUMENTS, query, a, b, 1 / (1 + np.exp(-2.0 * gap)))
    settings = Pairwise(family="late_interaction", epochs=2, learning_rate=2e-3, max_tokens=128, held_out=0.25, precision="float32")
    report, found = train_pairwise(lessons, str(base), settings, 0, tmp_path / "model", tmp_path / "work", lambda done, total: None)
    assert report.steps > 0
    assert found["accuracy"] > 0.8
    again = LateInteraction.load(tmp_path / "model", device="cpu")
    assert not np.allclose(again.module.weights.detach().numpy(), (2.0, 2.0))
    judge = PairwiseModel(tmp_path / "model", device="cpu")
    asked = [Comparison(*three) for three in TRIPLES]
    answers = [answer.preference for answer in judge.judge(asked)]
    tokenizer, template = new_template(base, "late_interaction", 128)
    logits = pair_logits(again, template, tokenizer, TRIPLES).logits
    np.testing.assert_allclose(np.array(answers, float), np.tanh(logits / 2), atol=1e-6)


def test_what_it_cannot_use(model: tuple[LateInteraction, PairwiseTemplate, object], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 texts in a sequence instead of 3"):
        scorer, template, _ = model
        separator = template.pieces[-1][0]
        scorer.score([np.array([1, 5, separator, 6, separator])])
    with pytest.raises(InputError, match="cannot be loaded as an encoder"):
        LateInteraction.load(tmp_path)
