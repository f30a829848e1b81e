"""The rows of report/metrics.jsonl, as `evaluate` writes them and the page and the terminal read them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from zelo.collections.beir import read_qrels
from zelo.errors import InputError

FIRST_STAGE = ("bm25", "dense", "imported", "fused")
STUDENT = "pointwise"
JUDGES = "judges"
SYSTEMS = (*FIRST_STAGE, JUDGES, STUDENT)

KENDALL = "kendall_tau_labels"
PAIRWISE = "pairwise_accuracy_labels"


@dataclass(frozen=True, slots=True)
class Measured:
    """One line: a system's mean over the test questions, with its 95 % bootstrap interval.

    `baseline` is the first-stage system with the best mean of the first measure; None where nothing is compared. `p_value`:
    paired randomization test against it, two-sided, Holm-corrected over the systems that were compared by this measure.
    `difference` is value minus the baseline's value, with the interval of the paired differences.
    """

    system: str
    measure: str
    split: str
    value: float
    low: float
    high: float
    queries: int
    baseline: str | None = None
    p_value: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None


def write_measured(path: Path, rows: Iterable[Measured]) -> int:
    """Write metrics.jsonl, one object per line, and return the number of lines; none at all is an empty file."""
    lines = [json.dumps(asdict(row), allow_nan=False) + "\n" for row in rows]
    path.write_text("".join(lines), "utf-8")
    return len(lines)


def read_measured(path: Path) -> list[Measured]:
    """Read metrics.jsonl.

    Raises:
        InputError: a line is not such a row; names file and line.
    """
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            rows.append(Measured(**json.loads(line)))
        except (ValueError, TypeError) as error:
            remedy = "delete it and run `evaluate` again"
            raise InputError(f"not a line of metrics ({error})", where=f"{path}:{number}", remedy=remedy) from error
    return rows


def read_labels(path: Path, split_of: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Return the gains of the test questions that have labels, all of their labels, retrieved or not; {} without a file."""
    qrels: dict[str, dict[str, float]] = {}
    if path.is_file():
        for row in read_qrels(path):
            if split_of.get(row.query_id) == "test":
                qrels.setdefault(row.query_id, {})[row.doc_id] = row.relevance
    return qrels


def first_measure(rows: Sequence[Measured]) -> str | None:
    """Return the measure that decides: the one of the first row."""
    return rows[0].measure if rows else None


def find(rows: Iterable[Measured], system: str, measure: str | None) -> Measured | None:
    """Return the row of a system and a measure."""
    return next((row for row in rows if row.system == system and row.measure == measure), None)


def in_order(names: Iterable[str]) -> list[str]:
    """Return names of systems, each once, in the order in which they work: first stage, judges, student, any other."""
    distinct = list(dict.fromkeys(names))
    return sorted(distinct, key=lambda name: SYSTEMS.index(name) if name in SYSTEMS else len(SYSTEMS))
