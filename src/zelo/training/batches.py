"""Which rows a step learns from, and how a step is cut into forward passes.

A step is so many items, whatever the memory: the size of a forward pass, the number of devices and the padding change the
order of additions and nothing else. The order is a function of (seed, epoch), so a run can go on where it was killed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zelo.errors import InputError
from zelo.rerankers.scorer import Tokens, batches_by_length

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

BUCKET = 16  # steps made from one draw of rows, by length: similar lengths waste little padding


class Source(Protocol):
    """What is learned from. Rows are numbered from 0; only numbers per row need to be in memory.

    Attributes:
        lengths: tokens of each row [n].
        groups: number of the query of each row [n].
        identity: digest of the content; a checkpoint of other content is not resumed.
    """

    lengths: IntArray
    groups: IntArray
    identity: str

    def items(self, rows: IntArray, epoch: int) -> tuple[list[Tokens], FloatArray]:
        """Return the tokens and the targets of some rows, the same ones whenever asked for the same epoch."""
        ...


class Listed:
    """Items in memory."""

    def __init__(self, sequences: Sequence[Tokens], targets: FloatArray, groups: IntArray) -> None:
        """Take the tokens of every row, their targets [n] and their query numbers [n].

        Raises:
            InputError: there are none, their numbers differ, or a target is not finite.
        """
        if not len(sequences) or not len(sequences) == len(targets) == len(groups):
            raise InputError(f"{len(sequences)} sequences, {len(targets)} targets and {len(groups)} groups make no items")
        if not np.isfinite(targets).all():
            raise InputError("a target is not a number", remedy="leave out what has no target")
        self._sequences = [np.asarray(s, np.int32) for s in sequences]
        self._targets = np.asarray(targets, np.float64)
        self.lengths = np.array([len(s) for s in sequences], np.int64)
        self.groups = np.asarray(groups, np.int64)
        self.identity = digest_of(*self._sequences, self._targets, self.groups)

    def items(self, rows: IntArray, epoch: int) -> tuple[list[Tokens], FloatArray]:
        """Return them; every epoch has the same."""
        return [self._sequences[i] for i in rows.tolist()], self._targets[rows]


def digest_of(*arrays: NDArray[np.generic]) -> str:
    """Return a digest (hexadecimal) of arrays: their sizes and values."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def steps(lengths: IntArray, groups: IntArray, size: int, seed: int, epoch: int, *, together: bool = False) -> list[IntArray]:
    """Return the rows of every step of an epoch, each row once.

    Args:
        lengths: tokens of each row [n].
        groups: query of each row [n].
        size: rows per step; the last step of an epoch may have fewer.
        seed: of the order.
        epoch: from 0.
        together: keep a query's rows in one step, as losses over lists need; then a step has whole queries, `size` rows or
            a few more.
    """
    rng = np.random.default_rng([seed, epoch, 0xBA7C4])
    if together:
        found = _steps_of_groups(lengths, groups, size, rng)
    else:
        order, found = rng.permutation(len(lengths)), []
        for start in range(0, len(order), size * BUCKET):
            bucket = order[start : start + size * BUCKET]
            bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
            found += [bucket[i : i + size] for i in range(0, len(bucket), size)]
    return [found[i] for i in rng.permutation(len(found))]


def _steps_of_groups(lengths: IntArray, groups: IntArray, size: int, rng: np.random.Generator) -> list[IntArray]:
    order = np.argsort(groups, kind="stable")
    units = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(order) else []
    units = [units[i] for i in rng.permutation(len(units))]
    found: list[IntArray] = []
    for bucket in _filled(units, size * BUCKET):
        by_length = sorted(bucket, key=lambda rows: int(lengths[rows].max()))
        found += [np.concatenate(step) for step in _filled(by_length, size)]
    return found


def _filled(units: Sequence[IntArray], size: int) -> list[list[IntArray]]:
    """Consecutive units until they have `size` rows."""
    found: list[list[IntArray]] = []
    count = size
    for unit in units:
        if count >= size:
            found.append([])
            count = 0
        found[-1].append(unit)
        count += len(unit)
    return found


def share_of(rows: IntArray, lengths: IntArray, groups: IntArray, rank: int, world: int, *, together: bool = False) -> IntArray:
    """Return the part of a step that one of several processes computes: every so many-th row by length, or whole queries.

    In a short step, the last one of an epoch, a process may get none.
    """
    if world == 1:
        return rows
    if together:
        return rows[np.isin(groups[rows], np.unique(groups[rows])[rank::world])]
    return rows[np.argsort(-lengths[rows], kind="stable")][rank::world]


def passes(rows: IntArray, lengths: IntArray, groups: IntArray, budget: int, *, together: bool = False) -> list[IntArray]:
    """Cut a step into forward passes of at most `budget` padded tokens, or of a single row.

    With `together` a pass has whole queries. One that does not fit alone is dealt out to several passes, every so many-th row
    to each: a loss over lists then sees the query as so many shorter lists.
    """
    if not together or not len(rows):
        return [rows[part] for part in batches_by_length(lengths[rows], budget)]
    starts = np.flatnonzero(np.diff(groups[rows], prepend=-1))
    found: list[IntArray] = []
    for unit in np.split(rows, starts[1:]):
        parts = -(-len(unit) // max(1, budget // max(1, int(lengths[unit].max()))))
        if parts > 1:
            found += [unit[i::parts] for i in range(parts)]
            continue
        joined = np.concatenate([found[-1], unit]) if found else unit
        if found and len(joined) * int(lengths[joined].max()) <= budget:
            found[-1] = joined
        else:
            found.append(unit)
    return found
