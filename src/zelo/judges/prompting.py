"""From a comparison to the messages that a language model gets.

Instructions, criterion, context and query come first, the same for all comparisons of a query, so that providers' prompt caches
hit; then the documents. Each call has its own random mark around the texts and its own neutral names for the documents, both drawn
from the comparison's content: the same question is the same request in every run, and who wrote a document cannot know them. The
query's own mark is drawn from the query alone, so a document that knows the query can work it out: it is taken out of documents.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from zelo.judges import Comparison, neutralizing
from zelo.judges.neutralizing import cut, cut_fairly, neutralize
from zelo.judges.prompt_files import Prompt
from zelo.judges.prompt_reading import fill
from zelo.judges.remembering import remembered
from zelo.language_models.protocol import Output, Role

LABELS = "GHJKLMNPQRSTVWZ"
"""Names for documents: one token each, and none that suggests an order or a grade (A to F), reads like a digit or word (I, O), or is
what an attack would guess (A, B, X, Y)."""

CRITERION = "how well the document answers the query: whether it addresses what is asked, and how specific, complete and correct it is."
"""What counts, unless the recipe says it."""

QUERY_CHARACTERS = 4000
"""Longer queries are cut."""
VERSION = 2
"""Part of every prompt id: raise it when the same comparison would be asked differently."""
_MARK_LENGTH = 12  # hexadecimal digits: 48 bits
_REMOVED = "(mark removed)"  # not a hexadecimal digit at its ends: what is left and right of it cannot join to a mark

Messages = tuple[tuple[Role, str], ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What is sent, with the names that the first and the second document have in it."""

    messages: Messages
    first: str
    second: str

    @property
    def characters(self) -> int:
        """Length of all messages."""
        return sum(len(text) for _, text in self.messages)


class Prompter:
    """Writes questions from a prompt, for one criterion and context."""

    def __init__(self, prompt: Prompt, *, criterion: str = "", context: str = "", document_characters: int = 6000) -> None:
        """Prepare the part that never changes.

        Args:
            prompt: the texts.
            criterion: what relevance means here; "" = `CRITERION`.
            context: what the collection is; "" says nothing.
            document_characters: each document's share of the message.
        """
        self.prompt = prompt
        self._characters = document_characters
        about = f"About the collection: {context.strip()}\n" if context.strip() else ""
        self._system = fill(prompt.system, {"criterion": criterion.strip() or CRITERION, "context": about})
        self._bodies = {name: f"{prompt.documents}\n{text}" for name, text in prompt.formats.items()}
        self._start = lru_cache(maxsize=64)(self._write_start)

    @property
    def digest(self) -> str:
        """A hash of all that shapes a question but the comparison itself, 12 hexadecimal digits."""
        parts = (self.prompt.digest, self._system, str(self._characters), str(VERSION), str(neutralizing.VERSION))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

    def write(self, comparison: Comparison, output: Output = "text", *, swapped: bool = False) -> Question:
        """Return the messages for a comparison.

        Args:
            comparison: what is to be compared.
            output: which of the prompt's formats to end with.
            swapped: show the second document first, under the name that the first had: names and marks stay with the places.
        """
        seed = _seed(comparison.query, comparison.first, comparison.second, comparison.second_query or "")
        query, second_query = comparison.query, comparison.second_query or comparison.query
        first, second = self._shown(comparison.first, query, second_query), self._shown(comparison.second, query, second_query)
        first, second = cut_fairly(first, second, self._characters)
        asked, second_asked = shown_query(query), shown_query(second_query)
        mark, (a, b) = mark_of(seed, (first, second, asked, second_asked)), _names(seed, 2)
        if swapped:
            first, second, query, asked, second_asked = second, first, second_query, second_asked, asked
        values = {"a": a, "b": b, "mark": mark, "first": first or "(no text)", "second": second or "(no text)"}
        values |= {"query": asked, "second_query": second_asked}
        start = self._start(query) if comparison.second_query is None else ""
        return Question(self._messages(start, values, output), a, b)

    def write_list(self, query: str, texts: list[str], output: Output = "text") -> tuple[Messages, list[str]]:
        """Return the messages that ask for the order of several documents, and the documents' names in the order shown."""
        seed = _seed(query, *texts)
        documents = [cut(self._shown(text, query, query), self._characters) for text in texts]
        mark, names = mark_of(seed, [*documents, shown_query(query)]), _names(seed, len(texts))
        blocks = []
        for name, shown in zip(names, documents, strict=True):
            blocks.append(f"[{mark} document {name}]\n{shown or '(no text)'}\n[{mark} end of document {name}]")
        values = {"names": ", ".join(names), "texts": "\n".join(blocks), "mark": mark, "query": shown_query(query)}
        return self._messages(self._start(query), values, output), names

    def _shown(self, text: str, query: str, second_query: str) -> str:
        return _shown(text, self._characters, query, second_query)

    def _messages(self, start: str, values: dict[str, str], output: Output) -> Messages:
        """Put the parts in order; what stays the same for a query is a message of its own, which ends the cacheable part."""
        body = fill(self._bodies["text" if output == "text" else "json"], values)
        stable: Messages = (("system", self._system), ("user", start)) if start else (("system", self._system),)
        return (*stable, ("user", body))

    def _write_start(self, query: str) -> str:
        if not self.prompt.question:
            return ""
        shown = shown_query(query)
        return fill(self.prompt.question, {"query": shown, "mark": query_mark(query)})


@remembered(8 * 2**20)  # a document is shown several times in a row, and by several prompters
def _shown(text: str, characters: int, query: str, second_query: str) -> str:
    """Return a document without what only a machine sees, and without the marks of queries."""
    shown = without_mark(neutralize(text, characters), query_mark(query))
    return shown if second_query == query else without_mark(shown, query_mark(second_query))


@lru_cache(maxsize=128)  # the comparisons of a query come together
def shown_query(query: str) -> str:
    """Return a query as it is shown."""
    return cut(neutralize(query, QUERY_CHARACTERS), QUERY_CHARACTERS)


@lru_cache(maxsize=128)  # the comparisons of a query come together
def query_mark(query: str) -> str:
    """Return the mark around a query: the same for all its comparisons, so that providers' caches hit."""
    return mark_of(_seed(query), (shown_query(query),))


def without_mark(text: str, mark: str) -> str:
    """Return a text without a mark, also in capitals, in full width, or with blanks and punctuation within it."""
    folded = neutralizing.folded(text)
    return neutralizing.replaced(text, _spelled(mark).finditer(folded), lambda _: _REMOVED)


@lru_cache(maxsize=1024)
def _spelled(mark: str) -> re.Pattern[str]:
    return re.compile(r"[\W_]{0,3}".join(mark), re.IGNORECASE)


def mark_of(seed: bytes, texts: Iterable[str]) -> str:
    """Return a mark, 12 hexadecimal digits, that stands in none of the texts."""
    for turn in range(1000):
        mark = hashlib.sha256(seed + turn.to_bytes(4, "big")).hexdigest()[:_MARK_LENGTH]
        if not any(mark in text for text in texts):
            break
    return mark


def _seed(*texts: str) -> bytes:
    parts = []
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        parts += [len(data).to_bytes(8, "big"), data]
    return hashlib.sha256(b"".join(parts)).digest()


def _names(seed: bytes, number: int) -> list[str]:
    """Draw different names: letters, and for more than there are letters, numbered ones."""
    many = number > len(LABELS)
    pool = [f"{letter}{digit}" for digit in range(2, 3 + number // len(LABELS)) for letter in LABELS] if many else list(LABELS)
    draw = int.from_bytes(hashlib.sha256(seed + b"names").digest(), "big")
    names = []
    for _ in range(number):
        draw, place = divmod(draw, len(pool))
        names.append(pool.pop(place))
    return names
