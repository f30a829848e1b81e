"""Rows tokenized ahead into one file: a step reads the token ids that it needs, and only numbers per row are in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from zelo.errors import InputError
from zelo.rerankers.scorer import Tokens
from zelo.training.batches import digest_of

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Ids = NDArray[np.int32]


class TokenFile:
    """A source of `training.loop`, written row by row and then read. About 32 bytes per row are in memory, the tokens are not.

    Attributes:
        lengths: tokens of each row [n].
        groups: query of each row [n].
        targets: of each row, [n] or [n, w]; rows of different width are filled up with -1, as `losses.pair_targets` means it.
        identity: digest of the content.
    """

    lengths: IntArray
    groups: IntArray
    targets: FloatArray
    identity: str

    def __init__(self, path: Path) -> None:
        """Begin a file; one that is there is overwritten. Use `with`, then `add`, then read."""
        self.path = path
        self._lengths: list[IntArray] = []
        self._groups: list[IntArray] = []
        self._targets: list[FloatArray] = []
        self._digest = hashlib.blake2b(digest_size=16)

    def __enter__(self) -> TokenFile:
        """Open for writing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("wb")
        return self

    def add(self, group: int, sequences: Sequence[Ids], targets: FloatArray) -> None:
        """Add the rows of a query: its number, their token ids, their targets [rows] or [rows, w].

        Raises:
            InputError: the numbers of rows differ, or a target is not a number.
        """
        if len(sequences) != len(targets) or not np.isfinite(targets).all():
            raise InputError(f"{len(sequences)} sequences and {len(targets)} targets make no rows, or a target is not a number")
        for ids in sequences:
            self._file.write(np.ascontiguousarray(ids, np.int32).data)
            self._digest.update(np.ascontiguousarray(ids, np.int32).data)
        self._lengths.append(np.array([len(ids) for ids in sequences], np.int64))
        self._groups.append(np.full(len(sequences), group, np.int64))
        self._targets.append(np.asarray(targets, np.float64))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close, and map the file into memory's address space for reading."""
        self._file.close()
        if kind is not None:
            return
        self.lengths = np.concatenate([*self._lengths, np.zeros(0, np.int64)])
        self.groups = np.concatenate([*self._groups, np.zeros(0, np.int64)])
        self.targets = _stacked(self._targets)
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)])
        self._ids = np.memmap(self.path, np.int32, "r") if len(self.lengths) else np.zeros(0, np.int32)
        self.identity = f"{self._digest.hexdigest()}-{digest_of(self.lengths, self.groups, self.targets)}"
        self._lengths, self._groups, self._targets = [], [], []

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.lengths)

    def sequences(self, rows: IntArray) -> list[Tokens]:
        """Return the token ids of some rows."""
        return [np.array(self._ids[self._starts[i] : self._starts[i + 1]]) for i in rows.tolist()]

    def items(self, rows: IntArray, epoch: int) -> tuple[list[Tokens], FloatArray]:
        """Return token ids and targets of some rows; every epoch has the same."""
        return self.sequences(rows), self.targets[rows]


def _stacked(parts: list[FloatArray]) -> FloatArray:
    """Targets of several queries as one array; those of `pairs`, [rows, 1 + 2 k], with the largest k."""
    if not parts or parts[0].ndim == 1:
        return np.concatenate([*parts, np.zeros(0)])
    most = max((part.shape[1] - 1) // 2 for part in parts)
    found = np.full((sum(map(len, parts)), 1 + 2 * most), -1.0)
    start = 0
    for part in parts:
        k = (part.shape[1] - 1) // 2
        rows = slice(start, start + len(part))
        found[rows, : 1 + k], found[rows, 1 + most : 1 + most + k] = part[:, : 1 + k], part[:, 1 + k :]
        start += len(part)
    return found
