"""Language detection and lexical analysis."""

from __future__ import annotations

import json
import time

import bm25s
import pytest
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import shared_collection
from zelo.encoders.lexical import STOP_WORDS, LexicalAnalyzer, detect_language, supported_languages
from zelo.errors import InputError

SENTENCES = {
    "de": ["Der Hund schläft unter dem alten Tisch in der Küche.", "Wie kann ich meinen Vertrag vor Ablauf der Frist kündigen?"],
    "fr": ["Le petit chien dort sous la vieille table de la cuisine.", "Comment puis-je résilier mon contrat avant la date prévue ?"],
    "es": ["El perro pequeño duerme debajo de la mesa de la cocina.", "¿Cómo puedo cancelar mi contrato antes de la fecha prevista?"],
    "nl": [
        "De kleine hond slaapt onder de oude tafel in de keuken.",
        "Hoe kan ik mijn overeenkomst opzeggen voor het einde van de termijn?",
    ],
    "en": ["The small dog is sleeping under the old kitchen table.", "How can I cancel my contract before the end of the term?"],
}


@pytest.mark.parametrize("language", SENTENCES)
def test_language_of_a_few_sentences(language: str) -> None:
    assert detect_language(SENTENCES[language]) == language
    assert detect_language(SENTENCES[language] * 400) == language


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["", "  ", "42", "3.14 %"],
        ["hi."],
        ["x = y", "print(x)", "a b c", "i += 1", "foo(bar)"],
        ["def f(a): return a", "for i in xs: del d[i]", "self._n = n", "import os, sys"],
        ["小さな犬が台所の古いテーブルの下で眠っています。契約を解約するにはどうすればよいですか。"],
    ],
)
def test_language_with_little_evidence_is_english(texts: list[str]) -> None:
    assert detect_language(texts) == "en"


def test_minority_of_another_language_does_not_decide() -> None:
    assert detect_language(SENTENCES["en"] * 3 + SENTENCES["fr"]) == "en"


@pytest.mark.parametrize("name", ["scifact", "cosqa", "tatqa", "pubmedqa", "legalsum", "mtragun"])
def test_language_of_real_collections(name: str) -> None:
    with (shared_collection(name) / "corpus.jsonl").open(encoding="utf-8") as lines:
        assert detect_language([json.loads(line)["text"] for line in lines]) == "en"


def test_language_of_the_standard_library() -> None:
    from zelo.collections import open_collection

    assert detect_language([document.full_text for document in open_collection("python_docs").documents()]) == "en"


@pytest.mark.parametrize("language", ["en", "de", "fr"])
def test_plain_terms_equal_bm25s(language: str) -> None:
    texts = [*SENTENCES[language], "It's NOT a snake_case word: x1, İstanbul naïve don't a b", "", "the and of"]
    names = {"en": "english", "de": "german", "fr": "french"}
    expected = bm25s.tokenize(texts, stopwords=language, stemmer=Stemmer.Stemmer(names[language]), return_ids=False, show_progress=False)
    assert [LexicalAnalyzer(language)(text) for text in texts] == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_plain_terms_equal_bm25s_on_any_text(texts: list[str]) -> None:
    expected = bm25s.tokenize(texts, stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False)
    analyzer = LexicalAnalyzer()
    assert [analyzer(text) for text in texts] == expected
    assert [analyzer(text) for text in texts] == expected  # from memory now


def test_identifiers_keep_the_whole_and_give_parts() -> None:
    analyzer = LexicalAnalyzer("en", identifiers=True)
    assert analyzer("Call os.path.join") == ["call", "os", "path", "join", "os.path.join"]
    assert analyzer("read_csv") == ["read_csv", "read", "csv"]
    assert analyzer("parseHTTPResponse") == ["parsehttprespons", "pars", "http", "respons"]
    assert analyzer("__init__") == ["__init__", "init"]
    assert analyzer("the plain words") == LexicalAnalyzer("en")("the plain words")
    assert analyzer("is_in") == ["is_in"]  # both parts are stop words


def test_languages_with_stop_words_are_supported_and_lists_exist() -> None:
    assert set(STOP_WORDS) <= set(supported_languages())
    assert LexicalAnalyzer("da")("og") == []
    assert LexicalAnalyzer("fi")("ja") == ["ja"]  # no list for Finnish


def test_unknown_language_is_an_error() -> None:
    with pytest.raises(InputError, match="no stemmer for language 'xx'"):
        LexicalAnalyzer("xx")


def test_analysis_is_fast() -> None:
    texts = [" ".join(SENTENCES["en"]) * 10] * 5000  # 220 words each, as long as scientific abstracts
    analyzer, start = LexicalAnalyzer(), time.process_time()
    for text in texts:
        analyzer(text)
    assert time.process_time() - start < 5.0  # about 0.7 s on an idle core
