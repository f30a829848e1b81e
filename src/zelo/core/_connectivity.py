"""Compiled connectivity of a query's comparisons."""

from __future__ import annotations

from typing import Any

from zelo.core._compiled import compiled


@compiled("i8(i8, i8, u1[::1], u4[::1], u4[::1], u4[::1], u4[::1], u4[::1], u4[::1], u4)")
def _reached(
    root: Any, way: Any, beaten: Any, starts: Any, middles: Any, rows: Any, others: Any, queue: Any, seen: Any, stamp: Any
) -> Any:  # fmt: skip
    """Count the documents reached from root: way 1 from preferred to not, 2 the other way, 3 both; reached ones get the stamp."""
    queue[0] = root
    seen[root] = stamp
    count, done = 1, 0
    while done < count:
        i = queue[done]
        done += 1
        for k in range(starts[i], starts[i + 1]):
            if seen[others[k]] != stamp:
                outcome = beaten[rows[k]]
                if k >= middles[i]:
                    outcome = (outcome >> 1) | ((outcome & 1) << 1)
                if outcome & way:
                    seen[others[k]] = stamp
                    queue[count] = others[k]
                    count += 1
    return count


@compiled("UniTuple(i8, 2)(i8, u1[::1], u4[::1], u4[::1], u4[::1], u4[::1], UniTuple(u4[::1], 3))")
def connectivity(n: Any, beaten: Any, starts: Any, middles: Any, rows: Any, others: Any, work: Any) -> Any:
    """Number of components, and 1 if some are not strongly connected by "was sometimes preferred to" (Ford 1957), else 0.

    beaten [m] has bit 1 where the first document was sometimes preferred, bit 2 where the second was.
    """
    queue, weak, strong = work[0], work[1], work[2]
    for i in range(n):
        weak[i] = 0
        strong[i] = 0
    components, separated, stamp = 0, 0, 0
    for root in range(n):
        if weak[root] == 0:
            components += 1
            size = _reached(root, 3, beaten, starts, middles, rows, others, queue, weak, 1)
            for way in (1, 2):
                if separated == 0:
                    stamp += 1
                    if _reached(root, way, beaten, starts, middles, rows, others, queue, strong, stamp) < size:
                        separated = 1
    return components, separated
