"""Flags on texts that look like an attempt to sway the judge. They are stored with the answer, and nothing acts on them.

A flag is a hint for people: an attack can avoid every list of phrases, and a page about such attacks carries their phrases. What
defends the judge is how texts are shown (`prompting`, `neutralizing`).
"""

from __future__ import annotations

import base64
import binascii
import codecs
import hashlib
import html
import re
import unicodedata
from collections.abc import Iterator
from itertools import groupby
from urllib.parse import unquote

from zelo.judges import Comparison
from zelo.judges._injection_patterns import DELIMITER, FOLDED, HIDDEN, LATIN, LATIN_NEEDS, OTHER_LETTERS, OTHERS, ROLE
from zelo.judges.remembering import ENTRY, Recent, remembered

FLAGS = {
    "override": "tells the reader to ignore or replace its instructions",
    "address": "speaks to a judge, grader or language model",
    "verdict": "says what score, rank or choice to give, in English",
    "foreign": "one of these in another language",
    "claim": "claims a relevance label or a perfect answer to the query",
    "pressure": "threatens or bribes the reader",
    "role": "has tokens or headings of a chat's turns",
    "delimiter": "has a made-up end of the document, start of instructions, or answer",
    "invisible": "has characters that only a machine sees",
    "encoded": "spells an instruction in base64, hexadecimal, rot13 or backwards",
    "hidden": "has one of these where a page does not show it",
    "stuffing": "repeats the query",
}
"""Flag -> what it means."""

MOST = 20_000
"""Characters of a text that are looked at."""

_KNOWN: Recent[bytes, tuple[str, ...]] = Recent(16_384 * ENTRY)  # by digest: a document may be of many queries
_TAGS = re.compile("[\U000e0000-\U000e007f]")
_SUSPECT = re.compile("[\u00ad\u115f\u1160\u200b-\u200d\u202d\u202e\u2060-\u2064\u3164\ufe00-\ufe0e\ufeff\uffa0\U000e0000-\U000e01ef]")
_FLAG_EMOJI = re.compile("\U0001f3f4[\U000e0020-\U000e007e]{1,12}\U000e007f")
_INVISIBLE = re.compile(
    "[\u202d\u202e]|[\u200b-\u200d\u2060-\u2064\ufeff]{3,}|[\ufe00-\ufe0e\U000e0100-\U000e01ef]{3,}|[\u115f\u1160\u3164\uffa0]{3,}"
    "|(?:[a-zA-Z][\u200b-\u200d\u2060-\u2064\ufeff\u00ad]){4}"
)
_DROPPED = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\U000e0000-\U000e0fff]"
)
_ACCENTS = re.compile("[\u0300-\u036f]")
_MIXED = re.compile("(?=\\w*[a-z])(?=\\w*[\u0370-\u03ff\u0400-\u04ff])\\w+")
_GREEK_CYRILLIC = re.compile("[\u0370-\u04ff]")
_LOOKALIKES = str.maketrans("асеорхуіјѕһԁԛԝкмтвнзαορνυικτχε", "aceopxyijshdqwkmtbh3aopvuiktxe")
_LEET = re.compile(r"[a-z][013457@$][a-z]")
_LEET_LETTERS = str.maketrans("013457@$", "oieastas")
_SPACED = re.compile(r"(?<!\w)\w[ .\-_*](?:\w[ .\-_*]){7,}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")
_HEXADECIMAL = re.compile(r"(?:(?:\\x|%|0x)?[0-9A-Fa-f]{2}[ ,:]?){16,}")
_ROT13 = ("vtaber", "qvfertneq", "sbetrg", "cersre", "vafgehpg", "fpber", "qbphzrag")
_BACKWARDS = ("snoitcurtsni", "erongi", "dragersid", "tnemucod siht", "tpmorp", "erocs tsehgih")
_MARKUP = ("<", "[", "---", "===", "***", "###", "~~~", "___", "{", "(end", "(END", "(beg", "(BEG")
_TURNS = (
    "<|",
    "<\uff5c",
    "[|",
    "gMASK]",
    "<sop>",
    "[INST",
    "[/INST",
    "SYS",
    "_of_turn>",
    "ystem",
    "ssistant",
    "SSISTANT",
    "eveloper",
    "DEVELOPER",
    "Human:",
)


_FOLDED = {name: [(frozenset(needs), pattern) for needs, pattern in patterns] for name, patterns in FOLDED.items()}
_LATIN = frozenset(LATIN_NEEDS)
_WORDS = sorted(_LATIN.union(*(needs for patterns in _FOLDED.values() for needs, _ in patterns)))
_SHORT = tuple(word for word in _WORDS if len(word) < 4)
_BY_START = {start: tuple(words) for start, words in groupby((word for word in _WORDS if len(word) >= 4), key=lambda word: word[:4])}
_STARTS = frozenset(_BY_START)


def flags_of(comparison: Comparison) -> str:
    """Return the flags of a comparison's two texts, such as "first:override,second:role"; "" is nothing."""
    second_query = comparison.second_query if comparison.second_query is not None else comparison.query
    first, second = _text_flags(comparison.first, comparison.query), _text_flags(comparison.second, second_query)
    return ",".join([*(f"first:{name}" for name in first), *(f"second:{name}" for name in second)]) if first or second else ""


def text_flags(text: str, query: str = "") -> list[str]:
    """Return the flags of one text, in the order of `FLAGS`. With a query, also whether the text repeats it."""
    return list(_text_flags(text, query))


@remembered(2 * 2**20)  # a document is shown several times in a row, and to several judges
def _text_flags(text: str, query: str) -> tuple[str, ...]:
    found = set(_flags(text[:MOST]))
    if query and is_stuffed(text, query):
        found.add("stuffing")
    return tuple(name for name in FLAGS if name in found)


def is_stuffed(text: str, query: str) -> bool:
    """Whether a text has a query of three words or more at least three times, word for word."""
    query = query.strip()
    if len(query) < 12 or query.count(" ") < 2 or len(text) < 3 * len(query):
        return False
    return text.lower().count(query.lower().rstrip("?!. ")) >= 3


def _flags(text: str) -> tuple[str, ...]:
    key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    found = _KNOWN.get(key)
    if found is None:
        found = _scan(text)
        _KNOWN.put(key, found, ENTRY)
    return found


def _scan(text: str) -> tuple[str, ...]:
    found = set(_phrases(text))
    for told in dict.fromkeys((text, _plain(text))):
        if _has_turns(told):
            found.add("role")
        if _has(told, _MARKUP) and DELIMITER.search(told):
            found.add("delimiter")
    if not text.isascii() and _SUSPECT.search(text):
        if _INVISIBLE.search(text) or _TAGS.search(_FLAG_EMOJI.sub("", text)):
            found.add("invisible")
        found.update(_phrases("".join(chr(ord(c) - 0xE0000) for c in _TAGS.findall(text))))
    if any(_phrases(told) or _has_turns(told) for told in _decoded(text)):
        found.add("encoded")
    if "<" in text or "[//]" in text:
        for match in HIDDEN.finditer(text):
            if _phrases(" ".join(g for g in match.groups() if g)):
                found.add("hidden")
    return tuple(found)


def _plain(text: str) -> str:
    """A text without invisible characters, in plain ones: <\u200b|im_start|> and its full-width form are read as <|im_start|>."""
    return text if text.isascii() else unicodedata.normalize("NFKC", _DROPPED.sub("", text))


def _has(text: str, words: tuple[str, ...]) -> bool:
    return any(map(text.__contains__, words))  # without a generator: it is most of what a scan takes


def _has_turns(text: str) -> bool:
    return _has(text, _TURNS) and ROLE.search(text) is not None


def _phrases(text: str) -> set[str]:
    """The flags of what a text says."""
    folded = fold(text)
    found = _look(folded)
    if _LEET.search(folded):
        found |= _look(folded.translate(_LEET_LETTERS)) & {"override"}
    if _SPACED.search(folded):
        found |= _squeezed(folded)
    return found


def _look(folded: str) -> set[str]:
    there = _needles(folded)
    found = {name for name, patterns in _FOLDED.items() if any(not needs.isdisjoint(there) and p.search(folded) for needs, p in patterns)}
    if not _LATIN.isdisjoint(there) and LATIN.search(folded):
        found.add("foreign")
    if not folded.isascii() and OTHER_LETTERS.search(folded) and OTHERS.search(folded):
        found.add("foreign")
    return found


def _needles(folded: str) -> set[str]:
    """Which of the words that patterns need stand in a text. Most begin with four letters that do not: one look at all of those."""
    starts = {folded[i : i + 4] for i in range(len(folded) - 3)}
    found = {word for start in _STARTS.intersection(starts) for word in _BY_START[start] if word in folded}
    return found.union(word for word in _SHORT if word in folded)


def _squeezed(folded: str) -> set[str]:
    """Phrases spelled with a blank after each letter, whose word breaks are lost."""
    squeezed = re.sub(r"[^a-z]", "", folded)
    asked = re.search(r"(?:ignore|disregard|forget)(?:all|any)?(?:the)?(?:previous|prior|above|your).{0,12}instruction", squeezed)
    return {"override"} if asked else set()


def fold(text: str) -> str:
    """Return a text in lower case without accents, invisible characters, look-alikes and entities, and with single blanks."""
    if "&" in text:
        text = html.unescape(text)
    if text.isascii():
        return " ".join(text.lower().split())
    text = unicodedata.normalize("NFKD", _DROPPED.sub("", text)).casefold()
    text = unicodedata.normalize("NFC", _ACCENTS.sub("", text)).replace("\u2019", "'")
    if _GREEK_CYRILLIC.search(text):
        text = _MIXED.sub(lambda match: match[0].translate(_LOOKALIKES), text)
    return " ".join(text.split())


def _decoded(text: str) -> Iterator[str]:
    """What a machine could decode from a text: its long runs of base64 and hexadecimal, rot13, backwards, percent signs."""
    for word in text.split():
        if len(word) >= 20:
            for match in _BASE64.finditer(word):
                blob = match[0].rstrip("=").replace("-", "+").replace("_", "/")
                if not blob.islower() and not blob.isdigit():
                    yield from _readable(_unbase64(blob))
            for match in _HEXADECIMAL.finditer(word):
                yield from _readable(_unhex(match[0]))
    if re.search(r"(?:\b[0-9A-Fa-f]{2} ){8}", text):
        for match in _HEXADECIMAL.finditer(text):
            yield from _readable(_unhex(match[0]))
    lower = text.lower()
    if _has(lower, _ROT13):
        yield codecs.decode(text, "rot13")
    if _has(lower, _BACKWARDS):
        yield text[::-1]
    if "%20" in text and text.count("%") >= 8:
        yield unquote(text, errors="replace")


def _unhex(run: str) -> bytes:
    digits = re.sub(r"\\x|0x|[^0-9A-Fa-f]", "", run)
    return bytes.fromhex(digits[: len(digits) // 2 * 2])


def _unbase64(blob: str) -> bytes:
    try:
        return base64.b64decode(blob[: len(blob) // 4 * 4] if len(blob) % 4 == 1 else blob + "=" * (-len(blob) % 4))
    except (binascii.Error, ValueError):
        return b""


def _readable(data: bytes) -> Iterator[str]:
    try:
        told = data.decode("utf-8")
    except UnicodeDecodeError:
        return
    if len(told) >= 12 and sum(c.isprintable() or c.isspace() for c in told) >= 0.95 * len(told) and " " in told:
        yield told
