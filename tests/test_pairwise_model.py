"""The pairwise reranker: it learns soft preferences from nothing, and then it is a judge like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tiny_models import WORDS, write_tiny_bert, write_tiny_qwen
from zelo.core.comparison_graph import hamiltonian_cycles
from zelo.encoders.openvino_engine import quiet
from zelo.errors import InputError
from zelo.judges import Answer, Comparison, Judge
from zelo.judges.pairwise_model import PairwiseModel
from zelo.recipe import Pairwise
from zelo.rerankers.pairwise import common_prefix, load_scorer, pair_logits
from zelo.rerankers.pairwise_template import DOCUMENT_A, DOCUMENT_B, PLAIN_END, QUERY, TASK, encoder_template
from zelo.rerankers.templates import load_tokenizer
from zelo.training.pairwise import Lessons, PairSource, measure, train_pairwise

LETTERS = [chr(ord("a") + i) for i in range(12)]
HOW = Pairwise(epochs=2, learning_rate=5e-3, batch_size=16, max_tokens=200, precision="float32")


def lessons(number: int, seed: int = 0) -> Lessons:
    """A document holds a letter among filler; a later one is better, which the ensemble says nine times in ten."""
    rng = np.random.default_rng(seed)
    letter = rng.integers(len(LETTERS), size=2 * number)
    documents = [f"{rng.choice(['sun', 'hill', 'rain'])} {LETTERS[i]}" for i in letter]
    a, b = np.arange(number), np.arange(number, 2 * number)
    prob_a = 0.5 + 0.4 * np.sign(letter[a] - letter[b])
    return Lessons(["last letter"] * number, documents, np.arange(number), a, b, prob_a)


def trained(root: Path, family: str, number: int = 300, **changed: object) -> Path:
    base = root / "base"
    if family == "encoder":
        write_tiny_bert(base, ["last", "letter", "sun", "hill", "rain", *LETTERS])
    else:
        texts = [TASK + QUERY + DOCUMENT_A + DOCUMENT_B + PLAIN_END, "last letter sun hill rain", *(f" {x}" for x in LETTERS)] * 3
        write_tiny_qwen(base, texts, dim=48, layers=1)
    settings = Pairwise(**{**{n: getattr(HOW, n) for n in HOW.__dataclass_fields__}, **changed})
    train_pairwise(lessons(number), str(base), settings, 0, root / "model", root / "work", lambda *_: None, 1)
    return root / "model"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            more = {"epochs": 8} if family == "language_model" else {"max_tokens": 40, "epochs": 1}
            made[family] = trained(tmp_path_factory.mktemp(family), family, **more)
        return made[family]

    return make


def test_a_decoder_from_nothing_learns_held_out_pairs(models: Callable[[str], Path]) -> None:
    scorer, template, tokenizer, _ = load_scorer(models("language_model"), "cpu")
    found = measure(scorer, template, tokenizer, lessons(200, seed=1), antisymmetric=True)
    assert found["accuracy"] > 0.95
    assert found["excess"] < 0.1
    about = json.loads((models("language_model") / "zelo.json").read_text())
    assert (about["kind"], about["lora_rank"], about["queries"]) == ("pairwise", 0, 270)
    assert about["held_out"]["accuracy"] > 0.9


both = pytest.mark.parametrize("family", ["language_model", "encoder"])


def comparisons() -> list[Comparison]:
    texts = [f"{f} {x}" for f in ("sun", "hill") for x in LETTERS[::3]]
    shown = [Comparison("last letter", a, b) for a in texts for b in texts if a != b]
    return shown + [Comparison("another query", a, b) for a in texts[:3] for b in texts[4:]]


@both
@pytest.mark.parametrize("antisymmetric", [True, False])
def test_the_contract_of_judges(family: str, antisymmetric: bool, models: Callable[[str], Path]) -> None:
    judge, shown = PairwiseModel(models(family), antisymmetric=antisymmetric, device="cpu"), comparisons()
    assert isinstance(judge, Judge)
    assert judge.name == PairwiseModel(models(family), device="cpu").name
    assert judge.prompt_id
    assert judge.judge([]) == []
    answers = judge.judge(shown)
    assert [type(a) for a in answers] == [Answer] * len(shown)
    values = np.array([a.preference for a in answers], float)
    assert np.abs(values).max() <= 1
    order = np.random.default_rng(0).permutation(len(shown))
    shuffled = [a.preference for a in judge.judge([shown[i] for i in order])]
    np.testing.assert_array_equal(np.array(shuffled, float), values[order])
    alone = [judge.judge([shown[i]])[0].preference for i in range(0, len(shown), 9)]
    np.testing.assert_allclose(np.array(alone, float), values[::9], atol=1e-4)
    back = np.array([a.preference for a in judge.judge([Comparison(c.query, c.second, c.first) for c in shown])], float)
    same = [a.preference for a in judge.judge([Comparison("last letter", "sun b", "sun b")])]
    if antisymmetric:
        np.testing.assert_array_equal(back, -values)
        assert same == [0.0]
    else:
        assert np.abs(back + values).max() > 1e-4


def test_names_follow_the_weights_and_the_way_of_asking(models: Callable[[str], Path]) -> None:
    one, other = (PairwiseModel(models(f), device="cpu") for f in ("language_model", "encoder"))
    assert one.name != other.name
    assert one.prompt_id != PairwiseModel(models("language_model"), antisymmetric=False, device="cpu").prompt_id


def test_sharing_prefixes_changes_nothing_and_saves_tokens(models: Callable[[str], Path]) -> None:
    scorer, template, tokenizer, _ = load_scorer(models("language_model"), "cpu")
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS, rng.integers(10, 30))) for _ in range(24)]
    edges = hamiltonian_cycles(len(documents), 8, rng)
    pairs = [("last letter", documents[i], documents[j]) for i, j in edges.tolist()]
    apart = pair_logits(scorer, template, tokenizer, pairs)
    shared = pair_logits(scorer, template, tokenizer, pairs, share_prefix=True, budget=4096)
    np.testing.assert_allclose(shared.logits, apart.logits, atol=1e-4)
    assert apart.computed == apart.tokens == shared.tokens
    # Some documents are cut to fit beside a long one: then the prefix ends where they do.
    assert shared.computed < 0.75 * shared.tokens


@both
def test_batches_change_nothing(family: str, models: Callable[[str], Path]) -> None:
    scorer, template, tokenizer, _ = load_scorer(models(family), "cpu")
    pairs = [(c.query, c.first, c.second) for c in comparisons()]
    one = pair_logits(scorer, template, tokenizer, pairs, budget=1).logits
    np.testing.assert_allclose(pair_logits(scorer, template, tokenizer, pairs).logits, one, atol=1e-4)
    long = [("last letter " * 50, "sun " * 500, "hill a"), ("last letter", "", "rain " * 500)]
    assert np.isfinite(pair_logits(scorer, template, tokenizer, long, antisymmetric=True).logits).all()


def test_half_precision_is_near(models: Callable[[str], Path]) -> None:
    one, half = (PairwiseModel(models("encoder"), precision=p, device="cpu") for p in ("float32", "bfloat16"))
    values = [np.array([a.preference for a in judge.judge(comparisons())], float) for judge in (one, half)]
    np.testing.assert_allclose(*values, atol=0.05)
    assert one.prompt_id != half.prompt_id


def test_orders_are_drawn_per_epoch_and_targets_go_with_them(models: Callable[[str], Path]) -> None:
    _, template, tokenizer, _ = load_scorer(models("encoder"), "cpu")
    told = lessons(200)
    source, rows = PairSource(told, template, tokenizer, 0), np.arange(200)
    drawn = [source.items(rows, epoch) for epoch in (0, 1)]
    plain = [
        template.join(*template.tokenize(tokenizer, [told.queries[i], told.documents[i], told.documents[200 + i]])) for i in range(200)
    ]
    for sequences, targets in drawn:
        kept = np.array([np.array_equal(s, p) for s, p in zip(sequences, plain, strict=True)])
        assert 60 < kept.sum() < 140
        np.testing.assert_allclose(targets, np.where(kept, told.prob_a, 1 - told.prob_a))
        assert [len(s) for s in sequences] == source.lengths.tolist()
    assert not np.array_equal(drawn[0][1], drawn[1][1])
    some = source.items(rows[50:60], 1)
    np.testing.assert_array_equal(some[1], drawn[1][1][50:60])
    np.testing.assert_array_equal(np.concatenate(some[0]), np.concatenate(drawn[1][0][50:60]))


def test_transformers_loads_the_folder_as_it_is(models: Callable[[str], Path]) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    scorer, template, _, _ = load_scorer(models("language_model"), "cpu")
    tokenizer = load_tokenizer(models("language_model"))
    ids = template.join(*template.tokenize(tokenizer, ["last letter", "sun b", "hill k"]))
    with quiet(), torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(models("language_model"))(input_ids=torch.tensor(ids[None].astype(int))).logits[0, -1]
    a, b = template.labels
    assert scorer.score([ids])[0] == pytest.approx(float(logits[a] - logits[b]), abs=1e-4)


def test_adapters_learn_too(tmp_path: Path) -> None:
    model = trained(tmp_path, "language_model", 40, lora_rank=4, epochs=1)
    scorer, *_ = load_scorer(model, "cpu")
    assert not any("lora" in name for name, _ in scorer.module.named_parameters())
    base, *_ = load_scorer_of_base(tmp_path, model)
    one, other = (dict(s.module.named_parameters()) for s in (scorer, base))
    moved = {n for n in one if not np.array_equal(one[n].detach().numpy(), other[n].detach().numpy())}
    assert moved
    assert not [n for n in moved if "norm" in n or "embed" in n]


def load_scorer_of_base(root: Path, model: Path) -> tuple[object, ...]:
    (root / "base" / "zelo.json").write_bytes((model / "zelo.json").read_bytes())
    return load_scorer(root / "base", "cpu")


def test_two_trainings_write_the_same_bytes(tmp_path: Path) -> None:
    one, other = (trained(tmp_path / name, "encoder", 40, epochs=1, max_tokens=40) for name in ("one", "other"))
    for path in sorted(one.iterdir()):
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


def test_what_cannot_be_learned() -> None:
    with pytest.raises(InputError, match="no lessons"):
        lessons(0)
    with pytest.raises(InputError, match=r"not in \[0, 1\]"):
        Lessons(["q"], ["a", "b"], np.zeros(1, int), np.zeros(1, int), np.ones(1, int), np.array([np.nan]))


def test_held_out_lessons_are_of_other_queries() -> None:
    told = lessons(40)
    learned, held = told.hold_out(0.2, 0)
    assert held is not None
    assert (len(learned.prob_a), len(held.prob_a)) == (32, 8)
    assert not set(learned.query.tolist()) & set(held.query.tolist())
    assert told.hold_out(0.0, 0)[1] is None


def test_folders_that_are_none(tmp_path: Path, models: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="not a description"):
        PairwiseModel(tmp_path)
    (tmp_path / "zelo.json").write_text('{"kind": "blend", "antisymmetric": true, "template": {}}')
    with pytest.raises(InputError, match="kind 'blend'"):
        PairwiseModel(tmp_path)
    with pytest.raises(InputError, match="adapters are for language models"):
        trained(tmp_path, "encoder", 10, lora_rank=2, max_tokens=40)


def test_common_prefix_leaves_each_an_ending() -> None:
    def ids(*values: int) -> np.ndarray:
        return np.array(values, np.int32)

    assert common_prefix([ids(1, 2, 3), ids(1, 2, 4)]) == 2
    assert common_prefix([ids(1, 2), ids(1, 2, 4)]) == 1
    assert common_prefix([ids(5), ids(1, 2, 4)]) == 0


def test_an_encoder_reads_both_documents(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path / "bert", WORDS)
    template = encoder_template(load_tokenizer(folder), 40)
    assert len(template.pieces) == 4
    assert template.room == 36
