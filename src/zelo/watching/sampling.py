"""Which searches of a day are judged: a reservoir of the day's, and from it a sample stratum by stratum.

Two phases (double sampling for stratification, Cochran 1977, section 12.2): what strata there are is learned from the reservoir. Each
search has a random key, a hash of the seed and of what it was, and the smallest keys are kept: a reservoir that comes out the same
however often the log is read, in one go or day by day, whatever its files are called. A search that was logged twice has one key: it is
in the reservoir once.
"""

from __future__ import annotations

import hashlib
import heapq
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from zelo.core.stratified import allocate, sample_weights
from zelo.watching.log import Search

RESERVOIR = 2000
"""Searches of a day that are held in memory."""
_LEAST_PER_STRATUM = 8  # sampled, on average; fewer, and strata are not worth the variance they cost


@dataclass(frozen=True, slots=True)
class Sampled:
    """A search to judge, its stratum's name, and its weight in the day's mean."""

    search: Search
    stratum: str
    weight: float


@dataclass
class Gathered:
    """What was seen of a day: counts over all its searches, and the reservoir.

    Attributes:
        searches: how many there were.
        empty: how many returned nothing.
        logged_clicks: how many say what was clicked.
        clicked: how many of these were.
        with_candidates: how many say what the first stage found.
        repeated: lines that told of a kept search again, which are not among the others; complete where the reservoir holds the day.
    """

    seed: int
    searches: int = 0
    empty: int = 0
    logged_clicks: int = 0
    clicked: int = 0
    with_candidates: int = 0
    repeated: int = 0
    _kept: list[tuple[int, Search]] = field(default_factory=list)
    _keys: set[int] = field(default_factory=set)

    def add(self, search: Search) -> None:
        """Count a search, and keep it if its key is among the smallest."""
        key = int.from_bytes(hashlib.blake2b(b"%d watch " % self.seed + search.identity, digest_size=16).digest(), "big")
        if key in self._keys:
            self.repeated += 1
            return
        self.searches += 1
        self.empty += not search.returned
        self.logged_clicks += search.clicks is not None
        self.clicked += bool(search.clicks)
        self.with_candidates += search.candidates is not None
        if len(self._kept) < RESERVOIR:
            heapq.heappush(self._kept, (-key, search))
            self._keys.add(key)
        elif -key > self._kept[0][0]:
            gone, _ = heapq.heapreplace(self._kept, (-key, search))
            self._keys.remove(-gone)
            self._keys.add(key)

    @property
    def reservoir(self) -> list[Search]:
        """The kept searches, smallest key first."""
        return [search for _, search in sorted(self._kept, key=lambda item: -item[0])]

    def sample(self, most: int) -> list[Sampled]:
        """Return at most so many searches; strata take turns, so that a beginning of the list is a sample too."""
        kept = self.reservoir
        names = _strata(kept, most)
        groups: dict[str, list[int]] = {name: [] for name in sorted(set(names))}
        for i, name in enumerate(names):
            groups[name].append(i)
        sizes = [len(rows) for rows in groups.values()]
        taken = allocate(sizes, most).tolist()
        chosen = [(turn / count, place, row) for place, (rows, count) in enumerate(zip(groups.values(), taken, strict=True))
                  for turn, row in enumerate(rows[:count])]  # fmt: skip
        chosen.sort(key=lambda item: (item[0], item[1]))
        weights = sample_weights(np.array([place for _, place, _ in chosen], np.int64), sizes).tolist()
        return [Sampled(kept[row], names[row], weight) for (_, _, row), weight in zip(chosen, weights, strict=True)]


def _strata(searches: Sequence[Search], most: int) -> list[str]:
    """Name each search's stratum: clicked or not, where that is logged, and whether the first document was ahead by little or much."""
    names = [""] * len(searches)
    margins = [search.margin for search in searches]
    known = [m for m in margins if m is not None]
    if any(search.clicks is not None for search in searches):
        names = ["clicked" if s.clicks else "no click" if s.clicks is not None else "clicks unknown" for s in searches]
    if known and most >= 2 * _LEAST_PER_STRATUM * len(set(names)):
        middle = statistics.median(known)
        sides = ["no margin" if m is None else "close" if m <= middle else "clear" for m in margins]
        names = [f"{name}, {side}" if name else side for name, side in zip(names, sides, strict=True)]
    return [name or "all" for name in names]
