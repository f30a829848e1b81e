"""Compiled numbering: which documents the rows of each query name, as numbers within the query.

Names are Arrow's strings: name k is the bytes text[offsets[k]:offsets[k + 1]]. It is found by its hash in a table that starts anew
with each query and so stays in the processor's cache; one dictionary of all names takes several times as long.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zelo.core._compiled import READ_ONLY, compiled


@compiled("u8(i8, i8, {u1})".format(**READ_ONLY))
def _hash(begin: Any, end: Any, text: Any) -> Any:
    """FNV-1a, its high half folded onto the low one."""
    value = np.uint64(14695981039346656037)
    for k in range(begin, end):
        value = (value ^ np.uint64(text[k])) * np.uint64(1099511628211)
    return value ^ (value >> np.uint64(32))


@compiled("i8(i8, i8, i8, i8, {u1})".format(**READ_ONLY))
def _compare(i: Any, end_i: Any, j: Any, end_j: Any, text: Any) -> Any:
    """Below, at or above 0 as the first name sorts before, with or after the second, byte by byte: UTF-8 sorts as code points do."""
    for k in range(min(end_i - i, end_j - j)):
        if text[i + k] != text[j + k]:
            return np.int64(text[i + k]) - np.int64(text[j + k])
    return (end_i - i) - (end_j - j)


@compiled("void(i4[::1], u8[::1], i8, {i4}, {u1})".format(**READ_ONLY))
def _sort(names: Any, keys: Any, n: Any, offsets: Any, text: Any) -> None:
    """Sort names[:n]: Shell's sort with the gaps of Ciura, by the eight bytes after what all names begin with, then by the rest."""
    common = offsets[names[0] + 1] - offsets[names[0]] if n else 0
    for k in range(n):
        begin, end = offsets[names[k]], offsets[names[k] + 1]
        common = min(common, end - begin)
        at = 0
        while at < common and text[begin + at] == text[offsets[names[0]] + at]:
            at += 1
        common = at
    for k in range(n):
        begin, end = offsets[names[k]] + common, offsets[names[k] + 1]
        keys[k] = 0
        for at in range(8):
            byte = text[begin + at] if begin + at < end else 0
            keys[k] = (keys[k] << np.uint64(8)) | np.uint64(byte)
    for gap in (1750, 701, 301, 132, 57, 23, 10, 4, 1):
        for i in range(gap, n):
            name, key, j = names[i], keys[i], i
            begin, end = offsets[name], offsets[name + 1]
            while j >= gap:
                other = names[j - gap]
                if keys[j - gap] < key or (keys[j - gap] == key and _compare(begin, end, offsets[other], offsets[other + 1], text) >= 0):
                    break
                names[j], keys[j] = other, keys[j - gap]
                j -= gap
            names[j], keys[j] = name, key


@compiled("i8({i8}, {i4}, {u1}, i4[::1], i4[::1], i8[::1], i4[::1])".format(**READ_ONLY), public=True)
def number_rows(rows: Any, offsets: Any, text: Any, first: Any, second: Any, documents: Any, names: Any) -> Any:
    """Number each query's documents in the order of their names.

    Args:
        rows: [Q + 1], where each query's rows begin; rows[Q] is m.
        offsets: [2m + 1], where names begin: name e is the first document of row e, name m + e its second.
        text: the names' bytes.
        first: [m], receives the first document's number within its query.
        second: [m], receives the second's.
        documents: [Q], receives the number of documents of each query.
        names: [2m], receives for each document, query by query, which name is its own.

    Returns:
        How many documents there are in all.
    """
    m, most = len(first), 1
    for q in range(len(documents)):
        most = max(most, rows[q + 1] - rows[q])
    size = 8
    while size < 4 * most:
        size *= 2
    taken, place, number = np.full(size, -1, np.int64), np.empty(size, np.int32), np.empty(2 * most, np.int32)
    keys = np.empty(2 * most, np.uint64)
    total = 0
    for q in range(len(documents)):
        mask = 7
        while mask + 1 < 4 * (rows[q + 1] - rows[q]):
            mask = 2 * mask + 1
        own, n = names[total:], 0
        for side in range(2):
            of_row = first if side == 0 else second
            for e in range(rows[q], rows[q + 1]):
                name = e + side * m
                begin, end = offsets[name], offsets[name + 1]
                slot = np.int64(_hash(begin, end, text) & np.uint64(mask))
                while taken[slot] == q and _compare(begin, end, offsets[own[place[slot]]], offsets[own[place[slot]] + 1], text) != 0:
                    slot = (slot + 1) & mask
                if taken[slot] != q:
                    taken[slot], place[slot], own[n] = q, n, name
                    n += 1
                of_row[e] = place[slot]
        _sort(own, keys, n, offsets, text)
        for k in range(n):
            number[first[own[k]] if own[k] < m else second[own[k] - m]] = k
        for e in range(rows[q], rows[q + 1]):
            first[e], second[e] = number[first[e]], number[second[e]]
        documents[q] = n
        total += n
    return total
