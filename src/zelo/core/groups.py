"""Rows that belong together."""

from __future__ import annotations

from collections.abc import Sequence


def group_rows(keys: Sequence[str]) -> dict[str, list[int]]:
    """Return, for each distinct key in order of appearance, the rows that have it, ascending."""
    rows: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        rows.setdefault(key, []).append(i)
    return rows
