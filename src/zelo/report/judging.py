"""The judges' audit: what their sealed answers say about them. `core.audit` has the statistics; this reads and arranges.

Used by the report and by `zelo judge --audit`. Human labels, where there are any, are compared with the answers here and nowhere
before: nothing that is learned depends on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zelo.artifacts import Columns, read_table
from zelo.core import audit
from zelo.core.audit import Agreement, Estimate, Flips, OrderEffect
from zelo.core.groups import group_rows
from zelo.core.label_agreement import pairwise_accuracy
from zelo.core.paired_comparison import Batch, fit_queries
from zelo.core.pooling import pool
from zelo.core.reliability import top_agreement
from zelo.errors import InputError
from zelo.judges import JUDGES
from zelo.judges.parsing import CLAMP
from zelo.report.measured import read_labels

FloatArray = NDArray[np.float64]
Labels = Mapping[str, Mapping[str, float]]

EXAMPLES = 3  # documents named per kind of flag
OUTLIERS = 5  # documents named per judge
READ = ("query_id", "doc_id_a", "doc_id_b", "judge", "preference", "given", "shown_first", "status", "flags")
"""Columns of the judgments that the audit needs."""


@dataclass(frozen=True)
class Outlier:
    """A document about which one judge stands apart from all others. Ranks count from 1, among `documents`.

    `z` is a robust z value, positive where the judge likes the document more than the others do.
    """

    judge: str
    query_id: str
    doc_id: str
    z: float
    rank: int
    rank_without: int
    documents: int


@dataclass(frozen=True)
class Flag:
    """A kind of attempt to sway the judge: comparisons flagged, documents that it sticks to, and some of them (query, document)."""

    kind: str
    comparisons: int
    documents: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class JudgeAudit:
    """What one judge's answers say about it.

    Attributes:
        judge: its name.
        judgments: comparisons it was asked for.
        missing: how many have no usable answer, by status.
        ties: answers that are 0.
        distribution: answers by bin of [-1, 1], as given, positive for the text shown first.
        evenness: entropy of the distribution over that of the uniform one, in [0, 1].
        order: the order effect, from all answers.
        flips: the pairs that were asked in both orders; None where there are none.
        labels: share of the pairs with different labels that it orders as they do; unlabeled documents count as not relevant.
        labels_both: the same over the pairs of which both documents have a label.
        cycles: share of cyclic triads among those it decided; 1/4 is chance.
        outlying: documents (of all queries) whose |z| is an outlier's; 0 with a single judge.
        outliers: the farthest of them.
        flags: by kind, the most frequent first.
    """

    judge: str
    judgments: int
    missing: Mapping[str, int]
    ties: int
    distribution: tuple[int, ...]
    evenness: float
    order: OrderEffect
    flips: Flips | None
    labels: Estimate
    labels_both: Estimate
    cycles: Estimate
    outlying: int
    outliers: tuple[Outlier, ...]
    flags: tuple[Flag, ...]


@dataclass(frozen=True)
class Use:
    """The same answers used in one way: "soft" (as given) or "clamped" (to -1, 0, 1). What the ensemble's fitted scores are worth then.

    `labels` is the share of document pairs with different labels in the right order, mean over the labeled queries; `top` how far
    the judges agree on the best document, in (0, 1], mean over pairs of judges (NaN with one judge).
    """

    name: str
    labels: Estimate
    top: float


@dataclass(frozen=True)
class Audit:
    """The audit of all judges. `agreement` has each pair of judges once; `uses` is empty where no answer is soft."""

    judges: tuple[JudgeAudit, ...]
    agreement: tuple[tuple[str, str, Agreement], ...]
    uses: tuple[Use, ...]
    documents: int

    @property
    def flags(self) -> tuple[Flag, ...]:
        """The flags of all judges, each kind once: they belong to the texts, which all judges read."""
        most: dict[str, Flag] = {}
        for flag in (flag for judge in self.judges for flag in judge.flags):
            if flag.kind not in most or flag.comparisons > most[flag.kind].comparisons:
                most[flag.kind] = flag
        return tuple(most.values())


class Answers:
    """The sealed judgments as arrays. All judges have the same pairs in the same order; [j, p] is judge j's about pair p.

    `given` is what a judge said, `preference` what is used of it: the same, or clamped. Distribution, order effect and flips are of
    what was said, all else is of what is used.
    """

    def __init__(self, table: Columns) -> None:
        """Arrange the columns of judgments/ensemble.parquet.

        Raises:
            InputError: the judges do not have the same pairs.
        """
        by_judge = group_rows(table["judge"])
        self.judges = tuple(by_judge)
        pairs = len(next(iter(by_judge.values()), ()))
        names = [[(table["query_id"][i], table["doc_id_a"][i], table["doc_id_b"][i]) for i in rows] for rows in by_judge.values()]
        if any(other != names[0] for other in names):
            raise InputError("the judges do not have the same pairs in the same order", where="judgments", remedy="run `judge` again")
        self.query_ids, self.a, self.b = (list(column) for column in zip(*names[0], strict=True)) if pairs else ([], [], [])
        shape = (max(1, len(self.judges)), pairs)
        order = [i for rows in by_judge.values() for i in rows]
        self.preference, self.given = (np.asarray(table[name], np.float64)[order].reshape(shape) for name in ("preference", "given"))
        self.leads = np.array([1.0 if table["shown_first"][i] == "a" else -1.0 for i in order]).reshape(shape)
        self.status, self.flags = ([[table[name][i] for i in rows] for rows in by_judge.values()] for name in ("status", "flags"))
        self.rows = group_rows(self.query_ids)
        self.group = np.zeros(pairs, np.int64)
        self.first, self.second = np.zeros(pairs, np.int64), np.zeros(pairs, np.int64)
        self.documents: dict[str, list[str]] = {}
        for number, (query_id, rows) in enumerate(self.rows.items()):
            place: dict[str, int] = {}
            for i in rows:
                self.first[i], self.second[i] = (place.setdefault(d, len(place)) for d in (self.a[i], self.b[i]))
            self.group[rows], self.documents[query_id] = number, list(place)

    def fit(self, prob_a: FloatArray) -> list[FloatArray]:
        """Return per query the scores [documents] fitted to P(a beats b) [pairs]; zeros where nothing was answered."""
        order = np.array([p for rows in self.rows.values() for p in rows], np.int64)
        sizes = [len(found) for found in self.documents.values()]
        ends = np.cumsum([0, *(len(rows) for rows in self.rows.values())])
        fit = fit_queries(Batch(sizes, ends, self.first[order], self.second[order], prob_a[order]), stderr=False)
        return np.split(fit.score, fit.starts[1:-1])

    def gains(self, labels: Labels) -> tuple[FloatArray, FloatArray]:
        """Return the labels of a and b of each pair [pairs]; NaN = none."""
        a, b = np.full((2, len(self.group)), np.nan)
        for query_id in labels.keys() & self.rows.keys():
            for i in self.rows[query_id]:
                a[i], b[i] = (labels[query_id].get(doc_id, np.nan) for doc_id in (self.a[i], self.b[i]))
        return a, b

    def pooled(self, weights: FloatArray, preference: FloatArray | None = None) -> list[FloatArray]:
        """Return per query the scores fitted to the weighted ensemble."""
        return self.fit(pool((self.preference if preference is None else preference).T, weights)[0])


def audit_judges(path: Callable[[str], Path], test_split: str) -> Audit:
    """Audit the judges of a workspace.

    Args:
        path: artifact -> path; judgments have to be there, judges, swapped, qrels and splits may be.
        test_split: whose labels are looked at.

    Raises:
        InputError: a file is damaged.
    """
    answers = Answers(read_table(path("judgments"), "judgments", READ))
    swapped = read_table(path("swapped"), "swapped", READ) if path("swapped").exists() else None
    weights = np.ones(len(answers.judges))
    if path("judges").exists():
        known = read_table(path("judges"), "judges", ("judge", "weight"))
        weight_of = dict(zip(known["judge"], known["weight"], strict=True))
        if set(answers.judges) <= set(weight_of):
            weights = np.array([weight_of[judge] for judge in answers.judges])
    labels: Labels = {}
    if path("splits").exists():
        split_of = dict(line.split("\t") for line in path("splits").read_text("utf-8").splitlines()[1:])
        labels = read_labels(path("qrels") / f"{test_split}.tsv", split_of)
    return audit_answers(answers, swapped, weights, labels)


def audit_answers(answers: Answers, swapped: Columns | None, weights: FloatArray, labels: Labels) -> Audit:
    """Audit answers.

    Args:
        answers: to all pairs.
        swapped: columns of judgments/swapped.parquet: some of the pairs, shown in the other order; None without any.
        weights: [judges], >= 0.
        labels: query_id -> doc_id -> gain; {} without any.
    """
    outliers = _outliers(answers, weights)
    judges = tuple(_judge(answers, j, swapped, labels, outliers[j]) for j in range(len(answers.judges)))
    pairs = [(i, j) for i in range(len(answers.judges)) for j in range(i)]
    agreement = tuple(
        (answers.judges[j], answers.judges[i], audit.agreement(answers.preference[j], answers.preference[i], answers.group))
        for i, j in pairs
    )
    documents = sum(map(len, answers.documents.values()))
    return Audit(judges, agreement, _uses(answers, weights, labels), documents)


def _judge(answers: Answers, j: int, swapped: Columns | None, labels: Labels, outliers: Sequence[Outlier]) -> JudgeAudit:
    preference, group = answers.preference[j], answers.group
    as_shown = answers.given[j] * answers.leads[j]
    counts = audit.distribution(as_shown)
    missing: dict[str, int] = {}
    for status in answers.status[j]:
        if status != "ok":
            missing[status] = missing.get(status, 0) + 1
    gain_a, gain_b = answers.gains(labels)
    relevance_a, relevance_b = np.nan_to_num(np.maximum(gain_a, 0)), np.nan_to_num(np.maximum(gain_b, 0))
    both = np.where(np.isnan(np.add(gain_a, gain_b)), np.nan, preference)
    return JudgeAudit(
        judge=answers.judges[j],
        judgments=len(preference),
        missing=dict(sorted(missing.items(), key=lambda item: -item[1])),
        ties=int((preference == 0).sum()),
        distribution=tuple(counts.tolist()),
        evenness=audit.evenness(counts),
        order=audit.order_effect(as_shown, group),
        flips=_flips(answers, j, swapped),
        labels=audit.label_accuracy(preference, relevance_a, relevance_b, group),
        labels_both=audit.label_accuracy(both, relevance_a, relevance_b, group),
        cycles=_cycles(answers, preference),
        outlying=len(outliers),
        outliers=tuple(outliers[:OUTLIERS]),
        flags=_flags(answers, answers.flags[j]),
    )


def _flips(answers: Answers, j: int, swapped: Columns | None) -> Flips | None:
    """Find the judge's pairs that were asked in both orders. A row of `swapped` is positive for document a, as everywhere."""
    names = ("query_id", "doc_id_a", "doc_id_b", "given", "shown_first")
    rows = [i for i, judge in enumerate(swapped["judge"]) if judge == answers.judges[j]] if swapped else []
    if not rows or not swapped:
        return None
    place = {pair: p for p, pair in enumerate(zip(answers.query_ids, answers.a, answers.b, strict=True))}
    one, two, group = [], [], []
    for query_id, a, b, given, shown_first in ([swapped[name][i] for name in names] for i in rows):
        p = place.get((query_id, a, b))
        lead = 1.0 if shown_first == "a" else -1.0
        if p is not None and answers.leads[j, p] != lead:
            one.append(answers.given[j, p] * answers.leads[j, p])
            two.append(given * lead)
            group.append(answers.group[p])
    return audit.flips(one, two, group) if one else None


def _cycles(answers: Answers, preference: FloatArray) -> Estimate:
    """Share of cyclic triads, queries as the unit: a document is in many triads."""
    cyclic, group = [], []
    for number, (query_id, rows) in enumerate(answers.rows.items()):
        found, whole = audit.triads(len(answers.documents[query_id]), answers.first[rows], answers.second[rows], preference[rows])
        cyclic += [1.0] * found + [0.0] * (whole - found)
        group += [number] * whole
    return audit.proportion(cyclic, group)


def _flags(answers: Answers, flags: Sequence[str]) -> tuple[Flag, ...]:
    """Count flagged comparisons; a document is suspected when most of its comparisons have the flag, not only one against it."""
    flagged: dict[str, list[int]] = {}
    for i, text in enumerate(flags):
        for kind in filter(None, (text or "").split(",")):
            flagged.setdefault(kind.strip(), []).append(i)
    met: dict[tuple[str, str], int] = {}
    for query_id, a, b in zip(answers.query_ids, answers.a, answers.b, strict=True) if flagged else ():
        for doc_id in (a, b):
            met[query_id, doc_id] = met.get((query_id, doc_id), 0) + 1
    found = []
    for kind, rows in flagged.items():
        seen: dict[tuple[str, str], int] = {}
        for i in rows:
            for doc_id in (answers.a[i], answers.b[i]):
                seen[answers.query_ids[i], doc_id] = seen.get((answers.query_ids[i], doc_id), 0) + 1
        suspects = sorted((key for key, n in seen.items() if 2 * n > met[key]), key=lambda key: (-seen[key] / met[key], -seen[key], key))
        found.append(Flag(kind, len(rows), len(suspects), tuple(suspects[:EXAMPLES])))
    return tuple(sorted(found, key=lambda flag: (-flag.comparisons, flag.kind)))


def _outliers(answers: Answers, weights: FloatArray) -> list[list[Outlier]]:
    """Per judge, the documents it stands alone about, farthest first; none for a judge without others."""
    judges = len(answers.judges)
    if judges < 2:
        return [[] for _ in range(judges)]
    everyone = answers.pooled(weights)
    found: list[list[Outlier]] = []
    for j, judge in enumerate(answers.judges):
        without = answers.pooled(np.where(np.arange(judges) == j, 0.0, weights))
        z = audit.outlier_scores(answers.fit((1 + answers.preference[j]) / 2), without)
        rows = []
        for q, query_id in enumerate(answers.rows):
            doc_ids = answers.documents[query_id]
            for n in np.flatnonzero(np.abs(z[q]) >= audit.OUTLIER).tolist():
                ranks = (rank_of(everyone[q], n), rank_of(without[q], n))
                rows.append(Outlier(judge, query_id, doc_ids[n], float(z[q][n]), *ranks, len(doc_ids)))
        found.append(sorted(rows, key=lambda row: (-abs(row.z), row.query_id, row.doc_id)))
    return found


def rank_of(scores: FloatArray, place: int) -> int:
    """Return the rank, from 1, of the document at a place; equal scores share the best of their ranks."""
    return 1 + int((scores > scores[place]).sum())


def _uses(answers: Answers, weights: FloatArray, labels: Labels) -> tuple[Use, ...]:
    """Compare soft and clamped answers of the judges behind a network; those of offline judges are soft in both."""
    remote = np.array([judge not in JUDGES for judge in answers.judges])
    clamped = np.where(remote[:, None], clamp(answers.given), answers.given)
    if np.array_equal(clamped, answers.given, equal_nan=True):
        return ()
    uses = []
    for name, preference in (("soft", answers.given), ("clamped", clamped)):
        scores = answers.pooled(weights, preference)
        accuracy = []
        for (query_id, doc_ids), found in zip(answers.documents.items(), scores, strict=True):
            gains = [max(labels.get(query_id, {}).get(d, 0.0), 0.0) for d in doc_ids]
            accuracy.append(pairwise_accuracy(found, gains) if query_id in labels else None)
        own = [answers.fit((1 + said) / 2) for said in preference]
        top = top_agreement(own)[np.tril_indices(len(own), -1)]
        uses.append(Use(name, audit.mean(np.array(accuracy, np.float64)), float(np.nanmean(top)) if top.size else float("nan")))
    return tuple(uses)


def clamp(preference: FloatArray) -> FloatArray:
    """Return -1, 0 or 1 where a preference is; a win needs `CLAMP` at least. NaN stays."""
    return np.where(np.isnan(preference), np.nan, np.sign(preference) * (np.abs(preference) >= CLAMP - 1e-9))
