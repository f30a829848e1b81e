"""What was worked out lately, bounded by bytes: texts may be of any length, so a number of entries bounds no memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Generic, TypeVar, TypeVarTuple

K = TypeVar("K")
V = TypeVar("V")
Texts = TypeVarTuple("Texts")

ENTRY = 256
"""Bytes of an entry besides its texts, about."""


class Recent(Generic[K, V]):
    """A dictionary that forgets what was not asked for lately. It holds `most` bytes, as far as `put` is told them.

    There are two halves: when the young one is full it becomes the old one, and what is found in the old one goes into the young one
    again. That takes one look-up for what is in use, and no order to keep up.
    """

    def __init__(self, most: int) -> None:
        self._half, self._held = most // 2, 0
        self._young: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}

    @property
    def held(self) -> int:
        """Bytes held now."""
        return sum(size for half in (self._young, self._old) for _, size in half.values())

    def get(self, key: K) -> V | None:
        """Return a value, or None where it is not held."""
        entry = self._young.get(key)
        if entry is None:
            entry = self._old.pop(key, None)
            if entry is None:
                return None
            self.put(key, *entry)
        return entry[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Hold a value; one of more than half of `most` is not held."""
        if size > self._half:
            return
        self._held += size
        if self._held > self._half:
            self._old, self._young, self._held = self._young, {}, size
        self._young[key] = (value, size)

    def pop(self, key: K) -> V | None:
        """Return a value and forget it, or None where it is not held."""
        young, old = self._young.pop(key, None), self._old.pop(key, None)
        if young is not None:
            self._held -= young[1]
        entry = young or old
        return entry[0] if entry else None


def remembered(most: int) -> Callable[[Callable[[*Texts], V]], Callable[[*Texts], V]]:
    """Make a function of texts and numbers remember what it returned lately, in `most` bytes; it must not return None."""

    def decorate(function: Callable[[*Texts], V]) -> Callable[[*Texts], V]:
        recent: Recent[tuple[*Texts], V] = Recent(most)

        @wraps(function)
        def look(*texts: *Texts) -> V:
            entry = recent._young.get(texts)  # nearly always there: no second call for it
            if entry is not None:
                return entry[0]
            found = recent.get(texts)
            if found is None:
                found = function(*texts)
                recent.put(texts, found, ENTRY + sum(map(sys.getsizeof, texts)) + sys.getsizeof(found))
            return found

        look.recent = recent  # type: ignore[attr-defined]
        return look

    return decorate
