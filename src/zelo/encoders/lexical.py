"""Text to lexical terms: which language, which stop words, which stems."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from zelo.errors import InputError

SNOWBALL = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english", "eo": "esperanto",
    "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi",
    "hu": "hungarian", "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch",
    "no": "norwegian", "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish",
    "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
"""ISO 639-1 code -> Snowball stemmer. An older PyStemmer lacks a few; those languages then count as not supported."""

STOP_WORDS = {
    "da": "DANISH", "de": "GERMAN", "en": "EN", "es": "SPANISH", "fr": "FRENCH", "it": "ITALIAN", "nl": "DUTCH", "no": "NORWEGIAN",
    "pt": "PORTUGUESE", "ru": "RUSSIAN", "sv": "SWEDISH", "tr": "TURKISH",
}  # fmt: skip
"""ISO 639-1 code -> bm25s's stop-word list. Other languages are stemmed and keep all their words."""

# Languages without a stemmer that would otherwise be forced onto one; they count as "no evidence for another language than English".
_DECOYS = ("bg", "he", "ja", "ko", "th", "uk", "vi", "zh")
_SAMPLE_TEXTS, _SAMPLE_CHARS = 256, 1000
_MIN_PROBABILITY = 0.8  # of a text's language, for that text to have a vote
_MIN_LETTERS = 40  # in all votes together: about one sentence
_WORD = re.compile(r"(?u)\b\w\w+\b")  # the pattern that bm25s and scikit-learn use, so published figures reproduce
_DOTTED = re.compile(r"(?u)\b[^\W\d]\w*(?:\.[^\W\d]\w*)+\b")
_PART = re.compile(r"_+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LETTER = re.compile(r"[^\W\d_]")
_CACHE_WORDS = 1_000_000  # words remembered per analyzer before the memory is dropped


@functools.lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    wanted = {*supported_languages(), *_DECOYS, "nn"}
    identifier.set_languages([label for label in identifier.labels if label in wanted])
    return identifier


@functools.lru_cache(maxsize=1)
def supported_languages() -> tuple[str, ...]:
    """Return the ISO codes that have a stemmer in the installed PyStemmer, sorted."""
    import Stemmer

    available = set(Stemmer.algorithms())
    return tuple(sorted(code for code, name in SNOWBALL.items() if name in available))


def detect_language(texts: Sequence[str]) -> str:
    """Return the ISO code of the language most of the texts are written in.

    A deterministic sample (256 texts at even distance, 1,000 characters each) votes; a text whose language is less
    than 80% sure has no vote, so code and fragments stay silent, and a vote weighs as many letters as the text has.

    Returns:
        One of `supported_languages()`; "en" where the votes hold fewer than 40 letters, no language has more than
        half of them, or the winner has no stemmer.
    """
    stride = max(1, -(-len(texts) // _SAMPLE_TEXTS))
    votes: Counter[str] = Counter()
    for text in texts[::stride]:
        sample = text[:_SAMPLE_CHARS]
        letters = len(_LETTER.findall(sample))
        if letters == 0:
            continue
        language, probability = _identifier().classify(sample)
        if probability >= _MIN_PROBABILITY:
            votes["no" if language == "nn" else str(language)] += letters
    total = votes.total()
    if total < _MIN_LETTERS:
        return "en"
    language, count = max(votes.items(), key=lambda item: (item[1], item[0] == "en", item[0]))
    return language if 2 * count > total and language in supported_languages() else "en"


def stop_words(language: str) -> frozenset[str]:
    """Return a language's stop words; none where there is no list."""
    from bm25s import stopwords

    return frozenset(getattr(stopwords, f"STOPWORDS_{STOP_WORDS[language]}")) if language in STOP_WORDS else frozenset()


class LexicalAnalyzer:
    """Text -> list of terms: lower case, words of two or more characters, no stop words, Snowball stems.

    In its plain form it gives the same terms as bm25s's tokenizer with that language's stemmer and stop words.

    Attributes:
        language: ISO code.
        identifiers: whether code identifiers also give their parts (see `__init__`).
    """

    def __init__(self, language: str = "en", *, identifiers: bool = False) -> None:
        """Make an analyzer.

        Args:
            language: ISO code, one of `supported_languages()`.
            identifiers: for code and API documentation: `snake_case` and `camelCase` words give their parts after the
                whole word, and a dotted name (`os.path.join`) is a term of its own beside the words it holds.

        Raises:
            InputError: no stemmer for that language.
        """
        if language not in supported_languages():
            raise InputError(f"no stemmer for language {language!r}", remedy=f"use one of {', '.join(supported_languages())}")
        import Stemmer

        self.language = language
        self.identifiers = identifiers
        self._stem = Stemmer.Stemmer(SNOWBALL[language]).stemWord
        self._stop_words = stop_words(language)
        self._known: dict[str, tuple[str, ...]] = {}

    def __call__(self, text: str) -> list[str]:
        """Return the terms of a text in order, repetitions kept; empty where nothing but stop words is left."""
        words = [*_WORD.findall(text), *_DOTTED.findall(text)] if self.identifiers else _WORD.findall(text.lower())
        known = self._known
        terms: list[str] = []
        for word in words:
            found = known.get(word)
            terms += self._learn(word) if found is None else found
        return terms

    def _learn(self, word: str) -> tuple[str, ...]:
        """Analyze a word seen for the first time: one look-up per repetition is what makes the analyzer fast."""
        if len(self._known) >= _CACHE_WORDS:
            self._known.clear()
        lower = word.lower()
        if "." in word:
            terms: tuple[str, ...] = (lower,)
        else:
            words = [lower]
            if self.identifiers and len(parts := _PART.split(word)) > 1:
                words += [part.lower() for part in parts if len(part) > 1]
            terms = tuple(self._stem(w) for w in words if w not in self._stop_words)
        self._known[word] = terms
        return terms
