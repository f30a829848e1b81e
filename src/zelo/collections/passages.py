"""Texts cut into passages with ids that stay: an id is made of the file's name and the passage's own words."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import quote

from zelo.collections.extracting import Part
from zelo.encoders.extras import import_extra
from zelo.types import Document

_FENCE = re.compile(r"^[ ]{0,3}(```+|~~~+)")
_HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t#]*$")
_SEPARATOR = " > "
_IN_NAMES = "/:@!$&'()*+,;=~"  # what of a name needs no escape; white space and % do


def file_id(name: str) -> str:
    """Return a file's name as an id: white space, control characters and % escaped as in addresses, other letters kept."""
    return "".join(c if (c.isalnum() or c in _IN_NAMES or c in "._-") and c.isprintable() else quote(c, errors="replace") for c in name)


def digest_of(text: str) -> str:
    """Return ten hexadecimal digits that follow from the words."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()


class Passages:
    """Names passages; those of one file are told apart by a hash of their words, so that no other file or passage changes an id."""

    def __init__(self, characters: int, used: dict[str, int] | None = None) -> None:
        """Cut at so many characters; 0 = not at all. `used` holds the ids that are taken, how often each was wanted; it may be shared."""
        self._characters = characters
        self._used: dict[str, int] = {} if used is None else used

    def documents(self, name: str, part: Part, *, whole: str = "") -> Iterator[Document]:
        """Yield the passages of a part.

        Args:
            name: of the file, as an id.
            part: its text.
            whole: an id that the whole text has already; then its only passage has it, and several have it with their hash.
        """
        if not self._characters:
            yield Document(self.free(whole or (f"{name}#p{part.page}" if part.page else name)), part.text.strip(), part.title)
            return
        cut = list(self._cut(part))
        for text, title in cut:
            if whole and len(cut) == 1:
                yield Document(self.free(whole), text, title)
                continue
            page = f"p{part.page}-" if part.page else ""
            yield Document(self.free(f"{whole or name}#{page}{digest_of(text)}"), text, title)

    def _cut(self, part: Part) -> Iterator[tuple[str, str]]:
        """(passage, title with the headings above it)."""
        headings = _headings(part.text) if part.markup else []
        starts = [start for start, _ in headings]
        for start, chunk in _splitter(self._characters, part.markup).chunk_indices(part.text):
            text = chunk.strip()
            if not any(c.isalnum() for c in text):
                continue
            at = bisect_right(starts, start)
            path = [*headings[at - 1][1]] if at else []
            if part.title:  # "Ownership - The Book" and its first heading "Ownership" are one
                path = [part.title, *(path[1:] if path and path[0] in part.title else path)]
            yield text, _SEPARATOR.join(path)

    def taken(self, name: str) -> bool:
        """Return whether a passage has this id."""
        return name in self._used

    def free(self, wanted: str) -> str:
        """Take the id that is wanted, or where a passage has it the next that nobody has: -2, -3, ..."""
        count = self._used.get(wanted, 0) + 1
        name = wanted
        while name in self._used:
            name = f"{wanted}-{count}"
            count += name in self._used
        self._used[wanted] = count
        self._used.setdefault(name, 1)
        return name


@cache
def _splitter(characters: int, markup: bool) -> Any:
    """The largest units that fit: sections, paragraphs, sentences, words, as the library finds them."""
    library = import_extra("semantic_text_splitter", "semantic-text-splitter", "documents")
    return (library.MarkdownSplitter if markup else library.TextSplitter)(characters)


def _headings(text: str) -> list[tuple[int, list[str]]]:
    """Where each heading begins, in characters, and the headings that hold there, outermost first; none within code."""
    found: list[tuple[int, list[str]]] = []
    levels: list[tuple[int, str]] = []
    fence, at = "", 0
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        heading = None if fence or mark else _HEADING.match(line)
        if heading:
            level = len(heading[1])
            levels = [pair for pair in levels if pair[0] < level] + [(level, heading[2])]
            found.append((at, [words for _, words in levels]))
        at += len(line) + 1
    return found
