"""What every format is made of: questions with their scored documents, read from a workspace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from zelo.artifacts import read_table
from zelo.collections.beir import read_corpus, read_queries
from zelo.collections.lines import write_lines
from zelo.core.calibration import targets as calibrated
from zelo.core.groups import group_rows
from zelo.core.links import LOGIT_PER_PROBIT
from zelo.errors import InputError, WorkspaceError
from zelo.pipeline import stages
from zelo.stages import inputs
from zelo.types import Document
from zelo.workspace import Workspace


@dataclass(frozen=True)
class Choice:
    """What goes out.

    Attributes:
        split: questions that train, those that are reported on, or all.
        positive: documents with a target from here on are positives.
        negative: those below are negatives; what lies between is neither.
        negatives: at most so many negatives per question, those of the highest targets: the hard ones.
        grades: the highest grade of qrels.
    """

    split: Literal["train", "test", "all"] = "train"
    positive: float = 0.5
    negative: float = 0.2
    negatives: int = 15
    grades: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.negative <= self.positive <= 1:
            what = f"negatives below {self.negative:g} and positives from {self.positive:g} on do not go together"
            raise InputError(what, remedy="use 0 < --negative <= --positive <= 1")


@dataclass(frozen=True, slots=True)
class Scored:
    """A document of a question: target in [0, 1], score in logits with mean 0 over the question."""

    document: Document
    target: float
    logit: float


@dataclass(frozen=True)
class Labeled:
    """A question with its documents, best first."""

    query_id: str
    text: str
    split: str
    documents: tuple[Scored, ...]

    def positives(self, choice: Choice) -> list[Scored]:
        """Return its positives, best first."""
        return [d for d in self.documents if d.target >= choice.positive]

    def hard_negatives(self, choice: Choice) -> list[Scored]:
        """Return its hardest negatives, the hardest first."""
        return [d for d in self.documents if d.target < choice.negative][: choice.negatives]


@dataclass(frozen=True)
class Material:
    """The chosen questions of a workspace."""

    workspace: Workspace
    choice: Choice
    questions: Sequence[Labeled]
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, workspace: Workspace, choice: Choice) -> Material:
        """Read scores, targets and texts. A benchmark has no targets: they are made from its scores by the recipe's map.

        Raises:
            WorkspaceError: there are no scores, or they are of other documents or questions than those that are there now.
            InputError: no question of the split has any.
        """
        if not workspace.path("scores").is_file():
            raise WorkspaceError("has no scores yet", where=str(workspace.root), remedy=f"run `zelo run {workspace.root} --to fit`")
        _require_same_texts(workspace)
        table = read_table(workspace.path("scores"), "scores", ("query_id", "doc_id", "score", "link"))
        groups = group_rows(table["query_id"])
        score = np.asarray(table["score"], np.float64)
        unit = LOGIT_PER_PROBIT if table["link"][:1] == ["probit"] else 1.0
        known = _targets(workspace)
        split_of, texts = inputs.splits(workspace.path("splits")), {q.query_id: q.text for q in read_queries(workspace.path("queries"))}
        is_benchmark = workspace.recipe.line == "benchmark"  # it has no split: all of its questions are asked and reported on
        wanted = [q for q in groups if is_benchmark or choice.split in ("all", split_of[q])]
        if not wanted:
            remedy = "choose another --split" if groups else "run the workspace"
            raise InputError(f"no question of the split {choice.split!r} has scores", where=str(workspace.root), remedy=remedy)
        needed = {table["doc_id"][row] for q in wanted for row in groups[q]}
        documents = {d.doc_id: d for d in read_corpus(workspace.path("corpus")) if d.doc_id in needed}
        settings, questions = workspace.recipe.calibrate, []
        for query_id in wanted:
            rows = groups[query_id]
            made = calibrated(score[rows], spread=settings.spread, threshold=settings.threshold)
            scored = [
                Scored(
                    documents[table["doc_id"][row]], known.get((query_id, table["doc_id"][row]), float(target)), float(unit * score[row])
                )
                for row, target in zip(rows, made, strict=True)
            ]
            best_first = sorted(scored, key=lambda d: (-d.target, -d.logit, d.document.doc_id))
            questions.append(Labeled(query_id, texts[query_id], split_of[query_id], tuple(best_first)))
        return cls(workspace, choice, questions)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that are there; a benchmark trains nobody, so its questions are "test"."""
        return tuple(name for name in ("train", "test") if any(self.split_of(q) == name for q in self.questions))

    def split_of(self, question: Labeled) -> str:
        """Return the split of a question."""
        return "test" if self.workspace.recipe.line == "benchmark" else question.split

    def of(self, split: str) -> Iterator[Labeled]:
        """Yield the questions of a split."""
        return (q for q in self.questions if self.split_of(q) == split)


def write_splits(material: Material, folder: Path, lines: Callable[[Material, str], Iterator[str]]) -> tuple[dict[str, int], int]:
    """Write <split>.jsonl where a split has lines; returns the lines of each file, and how many questions have none."""
    rows: dict[str, int] = {}
    left_out = 0
    for split in material.splits:
        asked = sum(1 for _ in material.of(split))
        path = folder / f"{split}.jsonl"
        count = write_lines(path, lines(material, split))
        left_out += asked - count
        if count:
            rows[path.name] = count
        else:
            path.unlink()
    return rows, left_out


def _require_same_texts(workspace: Workspace) -> None:
    """Raise if a stage on the way to the labels read something else than what lies there now: labels would go out with other texts."""
    for stage in stages(workspace.recipe):
        entry = workspace.entry(stage.name)
        if entry is None or stage.name in ("encode", "retrieve"):
            continue
        for artifact in ("corpus", "queries", "splits", "scores"):
            if artifact in entry.reads and workspace.digest(artifact) != entry.reads[artifact]:
                what = f"{artifact} changed since stage {stage.name} ran: labels and texts would not belong together"
                raise WorkspaceError(what, where=str(workspace.root), remedy=f"run `zelo run {workspace.root} --to calibrate` first")
        if stage.name in ("calibrate", "standings"):
            return


def _targets(workspace: Workspace) -> dict[tuple[str, str], float]:
    if not workspace.path("targets").is_file():
        return {}
    table = read_table(workspace.path("targets"), "targets")
    return dict(zip(zip(table["query_id"], table["doc_id"], strict=True), np.asarray(table["target"]).tolist(), strict=True))
