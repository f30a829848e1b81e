"""The contract of every judge, and what is special to the offline ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

from tiny_models import WORDS, write_tiny_bert
from zelo.encoders.similarity import LexicalSimilarity, LexicalStatistics, VectorBank, token_frequency
from zelo.encoders.transformer import load_encoder
from zelo.errors import RecipeError
from zelo.judges import JUDGES, Answer, Comparison, Judge, Materials, make_judge
from zelo.judges.retrieval import SLOPE, TIE, RetrievalJudge
from zelo.judges.simulated import SimulatedJudge

SIMULATED = "simulated"


def sentences(number: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(number)]


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Materials:
    encoder = load_encoder(write_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert", WORDS), "torch", 1)
    corpus = sentences(40)
    vectors = encoder.encode(corpus, tokens=True)
    bank = VectorBank(encoder, [(corpus, vectors)])
    lexical = LexicalStatistics.count(corpus, "en")
    return Materials(lambda: lexical, lambda: bank, cache(lambda: (token_frequency(vectors), len(corpus))), "made up")


Make = Callable[[str], Judge]


@pytest.fixture(scope="module")
def make(materials: Materials) -> Make:
    def build(name: str) -> Judge:
        if name == SIMULATED:
            return SimulatedJudge(name, lambda query, text: float(len(set(query.split()) & set(text.split()))), accuracy=0.8)
        return make_judge(name, materials)

    return build


every_judge = pytest.mark.parametrize("name", [*JUDGES, SIMULATED])


def comparisons() -> list[Comparison]:
    """Two questions with the pairs of eight texts each; an odd number of each, some texts shared."""
    texts = sentences(12, seed=1)
    shown = [Comparison("open file path", texts[i], texts[j]) for i in range(8) for j in range(8) if i != j]
    return shown + [Comparison("sort list", texts[i], texts[j]) for i in range(4, 12) for j in range(4, i)]


@every_judge
def test_is_a_judge_that_names_itself_and_its_way_of_asking(name: str, make: Make) -> None:
    judge = make(name)
    assert isinstance(judge, Judge)
    assert judge.name == name
    assert judge.prompt_id
    assert make(name).prompt_id == judge.prompt_id


@every_judge
def test_one_answer_per_comparison_in_order(name: str, make: Make) -> None:
    judge, shown = make(name), comparisons()
    answers = judge.judge(shown)
    assert [type(a) for a in answers] == [Answer] * len(shown)
    for answer in answers:
        assert answer.status == "ok"
        assert answer.preference is not None
        assert -1 <= answer.preference <= 1
    order = np.random.default_rng(0).permutation(len(shown))
    shuffled = judge.judge([shown[i] for i in order])
    np.testing.assert_allclose([a.preference for a in shuffled], [answers[i].preference for i in order], atol=1e-12)


@every_judge
def test_swapping_the_texts_negates_the_preference(name: str, make: Make) -> None:
    judge, shown = make(name), comparisons()
    there = [a.preference for a in judge.judge(shown)]
    back = [a.preference for a in judge.judge([Comparison(c.query, c.second, c.first) for c in shown])]
    np.testing.assert_allclose(np.array(there, float), -np.array(back, float), atol=1e-12)
    assert np.abs(np.array(there, float)).max() > 0.1  # it has opinions at all


@every_judge
def test_nothing_to_judge(name: str, make: Make) -> None:
    assert make(name).judge([]) == []


@every_judge
def test_identical_texts_tie(name: str, make: Make) -> None:
    texts = sentences(3)
    answers = make(name).judge([Comparison("open file", t, t) for t in texts] + [Comparison("open file", texts[0], texts[1])])
    assert [a.preference for a in answers[:3]] == [0.0] * 3


@every_judge
def test_one_query_with_one_pair(name: str, make: Make) -> None:
    (answer,) = make(name).judge([Comparison("open the file", "open file path", "tree queue cache")])
    assert answer.preference is not None
    assert answer.status == "ok"
    if name == "lexical":
        # two texts differ by two standard deviations, whatever the similarities are
        assert answer.preference == pytest.approx(2 * ndtr(2 * SLOPE) - 1)


@every_judge
def test_the_same_question_gets_the_same_answer(name: str, make: Make) -> None:
    shown = comparisons()
    assert make(name).judge(shown) == make(name).judge(shown)


def test_a_comparison_shows_texts_and_no_ids() -> None:
    assert list(Comparison.__dataclass_fields__) == ["query", "first", "second", "second_query"]
    assert list(inspect.signature(Judge.judge).parameters) == ["self", "comparisons"]


@pytest.mark.parametrize("name", JUDGES)
def test_offline_judges_answer_each_question_by_itself(name: str, make: Make) -> None:
    judge, shown = make(name), comparisons()
    together = [a.preference for a in judge.judge(shown)]
    apart = [a.preference for q in ("open file path", "sort list") for a in judge.judge([c for c in shown if c.query == q])]
    np.testing.assert_allclose(np.array(together, float), np.array(apart, float), atol=1e-12)


def test_preference_follows_the_similarity_in_standard_deviations(materials: Materials) -> None:
    texts, query = sentences(8, seed=3), "open file path list"
    similarity = LexicalSimilarity(materials.lexical()).score(query, texts)
    shown = [Comparison(query, texts[i], texts[j]) for i in range(8) for j in range(8)]
    difference = np.subtract.outer(similarity, similarity).ravel() / similarity.std()
    expected = 2 * ndtr(SLOPE * difference) - 1
    found = [a.preference for a in make_judge("lexical", materials).judge(shown)]
    np.testing.assert_allclose(np.array(found, float), np.where(np.abs(expected) < TIE, 0, expected), atol=1e-12)


def test_texts_that_are_all_alike_tie(materials: Materials) -> None:
    answers = make_judge("lexical", materials).judge([Comparison("nowhere found", "open file", "sort list")])
    assert answers == [Answer(0.0)]


def test_other_materials_are_another_way_of_asking(materials: Materials) -> None:
    similarity = LexicalSimilarity(materials.lexical())
    assert RetrievalJudge("j", similarity, "one").prompt_id != RetrievalJudge("j", similarity, "two").prompt_id
    assert str(SLOPE) in make_judge("lexical", materials).prompt_id


def test_unknown_judge(materials: Materials) -> None:
    with pytest.raises(RecipeError, match=r"no judge 'simulated'.*judges: lexical, dense"):
        make_judge("simulated", materials)


def test_real_encoder_prefers_the_answer(tmp_path: Path) -> None:
    encoder = load_encoder(threads=1)
    answer, other = "Return the lines of a file as a list.", "Lock that only its owner may release."
    corpus = [answer, other, "Close the socket.", "Sort a list in place."]
    vectors = encoder.encode(corpus, tokens=True)
    statistics, bank = LexicalStatistics.count(corpus, "en"), VectorBank(encoder, [(corpus, vectors)])
    real = Materials(lambda: statistics, lambda: bank, lambda: (token_frequency(vectors), len(corpus)), "real")
    for name in JUDGES:
        (said,) = make_judge(name, real).judge([Comparison("how do I read the lines of a file?", other, answer)])
        assert said.preference is not None
        assert said.preference < 0
