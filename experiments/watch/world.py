"""A made-up live system whose truth is known, and judges of known quality: months in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from zelo.judges import Comparison
from zelo.judges.simulated import SimulatedJudge
from zelo.watching.judging import Anchor
from zelo.watching.log import Returned, Search

FAULTS = ("never_ingested", "not_retrieved", "misranked")
START = datetime(2026, 3, 1, tzinfo=UTC)
DOCUMENTS, CANDIDATES, SHOWN = 60, 30, 10


@dataclass(frozen=True)
class Panel:
    """Simulated judges without a journal."""

    judges: Sequence[SimulatedJudge]
    weights: NDArray[np.float64]
    across: NDArray[np.bool_]

    def ask(self, comparisons: Sequence[Comparison]) -> NDArray[np.float64]:
        """Return preferences [n, judges]."""
        columns = [[np.nan if a.preference is None else a.preference for a in judge.judge(comparisons)] for judge in self.judges]
        return np.array(columns, np.float64).T

    def levels(self, query: str, texts: Sequence[str]) -> NDArray[np.float64]:
        """Say nothing: they compare across queries."""
        return np.full(len(self.judges), np.nan)


@dataclass
class World:
    """Queries with graded documents. Of `queries`, some have no answer at all, as in life; new topics have none.

    A document's name holds its query; its gain is 1 for the one or two good ones, .5 for some, else 0.
    """

    seed: int
    queries: int = 300
    new: int = 100
    gains: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng([self.seed, 1])
        self.names = [f"q{i}" for i in range(self.queries + self.new)]
        for i, name in enumerate(self.names):
            gains = np.zeros(DOCUMENTS)
            if i < self.queries and rng.random() > 0.05:
                gains[: rng.integers(1, 3)] = 1.0
            gains[2 : 2 + rng.integers(0, 6)] = 0.5 if i < self.queries else 0.0
            self.gains.update({f"{name} d{j}": float(g) for j, g in enumerate(gains)})
        self._rankings = {name: [self._ranked(name, rng, noise) for noise in (0.35, 0.5, 0.6)] for name in self.names}

    def _ranked(self, name: str, rng: np.random.Generator, noise: float) -> list[str]:
        documents = [f"{name} d{j}" for j in range(DOCUMENTS)]
        score = np.array([self.gains[d] for d in documents]) + rng.normal(0, noise, DOCUMENTS)
        return [documents[i] for i in np.argsort(-score)[:SHOWN]]

    def text(self, doc_id: str) -> str | None:
        """Return a document's text: its name."""
        return doc_id if doc_id in self.gains else None

    def in_corpus(self, doc_id: str) -> bool:
        """Whether it is there."""
        return doc_id in self.gains

    def witnesses(self, query: str) -> list[list[str]]:
        """Return three rankings, the best one first."""
        return self._rankings[query]

    def anchors(self) -> list[Anchor]:
        """Return good answers."""
        return [Anchor(name, f"{name} d0") for name in self.names[: self.queries] if self.gains[f"{name} d0"] == 1.0][:100]

    def panel(self, accuracies: Sequence[float]) -> Panel:
        """Return judges of these accuracies (about documents whose gains differ by 1)."""
        known = {q: {f"{q} d{j}": self.gains[f"{q} d{j}"] for j in range(DOCUMENTS)} for q in self.names}
        judges = [SimulatedJudge(f"judge {i}", known, accuracy=a, seed=self.seed, tie_band=0.2) for i, a in enumerate(accuracies)]
        return Panel(judges, np.ones(len(judges)), np.ones(len(judges), np.bool_))

    def month(self, fault: str, first: int, strength: float, days: int, per_day: int) -> dict[str, list[Search]]:
        """Return a log: from day `first` on (counted from 0) a share of the searches, `strength`, meets the fault."""
        rng = np.random.default_rng([self.seed, 2])
        found: dict[str, list[Search]] = {}
        for day in range(days):
            busy = rng.poisson(per_day)
            for i in range(max(busy, 5)):
                bad = fault != "none" and day >= first and rng.random() < strength
                at = START + timedelta(days=day, seconds=int(rng.integers(86_400)))
                search = self._search(fault if bad else "none", rng, f"log:{day}.{i}", at)
                found.setdefault(search.day, []).append(search)
        return found

    def _search(self, fault: str, rng: np.random.Generator, place: str, at: datetime) -> Search:
        name = self.names[self.queries + rng.integers(self.new) if fault == "never_ingested" else rng.integers(self.queries)]
        documents = [f"{name} d{j}" for j in range(DOCUMENTS)]
        gains = np.array([self.gains[d] for d in documents])
        first = gains * (0.0 if fault == "not_retrieved" else 1.0) + rng.normal(0, 0.5, DOCUMENTS)
        if fault == "not_retrieved":
            first[gains > 0] = -9.0
        candidates = np.argsort(-first)[:CANDIDATES]
        score = (0.0 if fault == "misranked" else 1.0) * gains[candidates] + rng.normal(0, 0.35, CANDIDATES)
        order = np.argsort(-score)[:SHOWN]
        returned = tuple(Returned(documents[candidates[k]], float(score[k])) for k in order)
        clicked = tuple(r.doc_id for r in returned[:3] if self.gains[r.doc_id] > 0.5 and rng.random() < 0.6)
        return Search(place, at, name, returned, tuple(documents[k] for k in candidates), clicked)
