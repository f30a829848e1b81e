"""Questions to drill down into: the biggest gains and losses and typical ones, with what every judge said."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zelo.artifacts import Columns
from zelo.collections.beir import read_corpus
from zelo.collections.trec import read_run
from zelo.core.groups import group_rows
from zelo.report.facts import TIE, Facts
from zelo.types import Document

TOP = 5
"""Documents shown per list."""


@dataclass(frozen=True)
class Record:
    """One judge about one document: how many of its comparisons it won, tied and lost."""

    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Shown:
    """A document in one of the two lists. Ranks count from 1; None where it is not in the list, or there is no such value."""

    document: Document
    rank_before: int | None
    rank_after: int | None
    label: float | None
    score: float | None = None
    stderr: float | None = None
    records: tuple[Record | None, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """One comparison of the first document with another one, one preference per judge, positive for the first document."""

    opponent: Document
    preferences: tuple[float | None, ...]
    reasons: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Example:
    """A question with its lists before and after. `kind` is "gain", "loss", "typical" or "sample" (no labels)."""

    query_id: str
    text: str
    kind: str
    value_before: float | None
    value_after: float | None
    before: tuple[Shown, ...]
    after: tuple[Shown, ...]
    missed: tuple[Shown, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def documents(self) -> list[Shown]:
        """The documents of both lists, each once, the new list first."""
        return list({shown.document.doc_id: shown for shown in (*self.after, *self.before)}.values())


def choose(facts: Facts, number: int) -> list[tuple[str, str]]:
    """Return (query_id, kind): a third each of the biggest gains, the biggest losses, and typical ones, nearest to the mean gain.

    Without labels, questions are drawn by a hash of their ids.
    """
    gains = facts.gains
    if not gains:
        wanted = "test" if facts.count("test") else "train"
        pool = [q for q, split in facts.split_of.items() if split == wanted]
        return [(q, "sample") for q in sorted(pool, key=lambda q: hashlib.blake2b(q.encode()).digest())[:number]]
    each = (number + 2) // 3
    order = list(gains)  # largest gain first
    best = [q for q in order if gains[q] > TIE][:each]
    worst = [q for q in reversed(order) if gains[q] < -TIE][: min(each, number - len(best))]
    taken = {*best, *worst}
    mean = float(np.mean(list(gains.values())))
    before, after = facts.values[facts.before], facts.values[facts.after]
    # A question of which neither list shows anything relevant has nothing to look at: it comes last.
    rest = sorted((q for q in order if q not in taken), key=lambda q: (before[q] + after[q] <= TIE, abs(gains[q] - mean), q))
    middle = rest[: number - len(taken)]
    return [*((q, "gain") for q in best), *((q, "loss") for q in worst), *((q, "typical") for q in middle)]


def load(facts: Facts, chosen: Sequence[tuple[str, str]]) -> list[Example]:
    """Read what the chosen questions need."""
    query_ids = [query_id for query_id, _ in chosen]
    if not query_ids:
        return []
    scores = {q: _Scores(table) for q, table in _by_query(facts.context.read("scores"), query_ids).items()}
    judgments = _by_query(facts.context.read("judgments"), query_ids)
    before = _ranked(facts.context.read("candidates") / f"{facts.before}.trec", query_ids)
    after = _ranked(facts.context.read("rankings") / f"{facts.after}.trec", query_ids)
    for query_id in query_ids:  # questions that no final ranking has: the judges' scores rank them
        if query_id not in after and query_id in scores:
            after[query_id] = scores[query_id].ranking()
    lists = {q: _Lists(before.get(q, []), after.get(q, []), facts.qrels.get(q, {})) for q in query_ids}
    needed = {d for q in query_ids for d in lists[q].needed(judgments.get(q))}
    texts = {d.doc_id: d for d in read_corpus(facts.context.read("corpus")) if d.doc_id in needed}
    judges = [judge.name for judge in facts.judges]
    found = []
    for query_id, kind in chosen:
        opinions = _Opinions(judgments.get(query_id), judges)
        old, new, missed = (lists[query_id].shown(part, texts, scores.get(query_id), opinions) for part in ("before", "after", "missed"))
        value_before, value_after = (facts.values.get(s, {}).get(query_id) for s in (facts.before, facts.after))
        comparisons = opinions.of(new[0].document.doc_id, texts) if new else ()
        text = facts.query_texts.get(query_id, "")
        found.append(Example(query_id, text, kind, value_before, value_after, old, new, missed, comparisons))
    return found


class _Scores:
    def __init__(self, table: Columns) -> None:
        self.of = {d: (s, e) for d, s, e in zip(table["doc_id"], table["score"], table["stderr"], strict=True)}

    def ranking(self) -> list[str]:
        return sorted(self.of, key=lambda doc_id: (-self.of[doc_id][0], doc_id))


class _Lists:
    """The two rankings of a question and its labels."""

    def __init__(self, before: list[str], after: list[str], labels: dict[str, float]) -> None:
        self.before, self.after, self.labels = before, after, labels
        self._rank_before, self._rank_after = ({d: n for n, d in enumerate(ranking, 1)} for ranking in (before, after))
        top = {*before[:TOP], *after[:TOP]}
        relevant = sorted((d for d, gain in labels.items() if gain > 0 and d not in top), key=lambda d: (-labels[d], d))
        self.missed = relevant[:TOP]

    def needed(self, judgments: Columns | None) -> set[str]:
        opponents = set()
        if judgments and self.after:
            for a, b in zip(judgments["doc_id_a"], judgments["doc_id_b"], strict=True):
                if self.after[0] in (a, b):
                    opponents |= {a, b}
        return {*self.before[:TOP], *self.after[:TOP], *self.missed, *opponents}

    def shown(self, part: str, texts: dict[str, Document], scores: _Scores | None, opinions: _Opinions) -> tuple[Shown, ...]:
        found = []
        for doc_id in {"before": self.before[:TOP], "after": self.after[:TOP], "missed": self.missed}[part]:
            score, stderr = (scores.of if scores else {}).get(doc_id, (None, None))
            document = texts.get(doc_id) or Document(doc_id, "")
            old, new = self._rank_before.get(doc_id), self._rank_after.get(doc_id)
            found.append(Shown(document, old, new, self.labels.get(doc_id), score, stderr, opinions.records(doc_id)))
        return tuple(found)


class _Opinions:
    """What the judges said about one question's pairs."""

    def __init__(self, judgments: Columns | None, judges: Sequence[str]) -> None:
        self.judges = list(judges)
        names = ("judge", "doc_id_a", "doc_id_b", "preference", "reasoning")
        self.rows = list(zip(*(judgments[n] for n in names), strict=True)) if judgments else []

    def records(self, doc_id: str) -> tuple[Record | None, ...]:
        """Per judge, None where it did not compare the document."""
        signed: dict[str, list[float]] = {}
        for judge, a, b, preference, _ in self.rows:
            if preference is not None and doc_id in (a, b):
                signed.setdefault(judge, []).append(preference if doc_id == a else -preference)
        return tuple(
            Record(sum(v > 0 for v in found), sum(v == 0 for v in found), sum(v < 0 for v in found)) if (found := signed.get(j)) else None
            for j in self.judges
        )

    def of(self, doc_id: str, texts: dict[str, Document]) -> tuple[Comparison, ...]:
        """Every comparison of one document, in the order of the file."""
        found: dict[str, dict[str, tuple[float | None, str]]] = {}
        for judge, a, b, preference, reasoning in self.rows:
            if doc_id in (a, b):
                signed = None if preference is None else preference if doc_id == a else -preference
                found.setdefault(b if doc_id == a else a, {})[judge] = (signed, reasoning or "")
        return tuple(
            Comparison(
                texts.get(opponent) or Document(opponent, ""),
                tuple(said.get(judge, (None, ""))[0] for judge in self.judges),
                tuple((judge, said[judge][1]) for judge in self.judges if judge in said and said[judge][1]),
            )
            for opponent, said in found.items()
        )


def _by_query(path: Path, query_ids: Sequence[str]) -> dict[str, Columns]:
    """Read the rows of some questions of a Parquet file; the others, perhaps millions, stay on disk."""
    import pyarrow.parquet as pq

    columns: Columns = pq.read_table(path, filters=[("query_id", "in", list(query_ids))]).to_pydict()
    groups = group_rows(columns["query_id"])
    return {q: {name: [values[i] for i in rows] for name, values in columns.items()} for q, rows in groups.items()}


def _ranked(path: Path, query_ids: Sequence[str]) -> dict[str, list[str]]:
    if not path.is_file():
        return {}
    wanted = set(query_ids)
    return {q: [doc.doc_id for doc in ranking] for q, ranking in read_run(path).items() if q in wanted}
