"""A folder with the state of one piece of work on reasoning: problems, traces of every stage, and the journal of what models wrote.

    problems.jsonl      what is asked, with the right answers
    evaluation.jsonl    problems that must not be taught (only compared with)
    stage1.jsonl        traces as they came; stage2.jsonl ... after each edit
    selected.jsonl      the few that were chosen to teach
    pass_rates.json     imported pass rates of a reference model
    journal.sqlite      every attempt of every model, as for judges; what is in there is not asked again

A file that exists is complete: it is written under another name and renamed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from zelo.errors import InputError, WorkspaceError
from zelo.reasoning.problems import read_problems, write_problems
from zelo.reasoning.traces import read_traces, write_traces
from zelo.types import Problem, Trace
from zelo.workspace import locked, writable


class Folder:
    """A folder that exists."""

    def __init__(self, root: Path) -> None:
        """Open it.

        Raises:
            WorkspaceError: there is none, or it holds no problems.
        """
        self.root = root
        if not (root / "problems.jsonl").is_file():
            raise WorkspaceError("no problems here", where=str(root), remedy=f"begin with `zelo reasoning import {root} FILE`")

    @classmethod
    def create(cls, root: Path) -> Folder:
        """Make the folder if it is not there, without problems yet.

        Raises:
            WorkspaceError: it cannot be written to, is a file, or is a folder of something else.
        """
        if root.exists() and not root.is_dir():
            raise WorkspaceError("is a file, not a folder", where=str(root), remedy="name a new folder first, then what to import")
        if root.is_dir() and not (root / "problems.jsonl").exists() and any(p for p in root.iterdir() if not p.name.startswith(".")):
            raise WorkspaceError("the folder holds something else", where=str(root), remedy="name a new folder")
        with writable(root):
            root.mkdir(parents=True, exist_ok=True)
            if not (root / "problems.jsonl").exists():
                (root / "problems.jsonl").touch()
        return cls(root)

    @classmethod
    @contextmanager
    def filled(cls, root: Path) -> Iterator[Folder]:
        """Make the folder if it is not there, and hold it; if the block fails and left nothing in it, it is as it was before.

        Raises:
            WorkspaceError: as `create` and `locked`.
        """
        there, problems = root.is_dir(), root / "problems.jsonl"
        begun = problems.exists()
        found = cls.create(root)
        try:
            with found.locked():
                yield found
        except BaseException:
            if not begun and not problems.stat().st_size and not {p.name for p in root.iterdir()} - {"problems.jsonl", ".lock"}:
                problems.unlink()
                if not there:
                    (root / ".lock").unlink(missing_ok=True)
                    root.rmdir()
            raise

    @property
    def journal(self) -> Path:
        """Path of the journal."""
        return self.root / "journal.sqlite"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one process; see `workspace.locked`."""
        with locked(self.root):
            yield

    def has_problems(self) -> bool:
        """Whether problems are there already."""
        return (self.root / "problems.jsonl").stat().st_size > 0

    def problems(self) -> dict[str, Problem]:
        """Return the problems by id.

        Raises:
            InputError: a damaged file, or none in it.
        """
        return {p.problem_id: p for p in read_problems(self.root / "problems.jsonl")}

    def evaluation(self) -> list[Problem] | None:
        """Return the problems that must not be taught; None where none were given."""
        path = self.root / "evaluation.jsonl"
        return read_problems(path) if path.is_file() else None

    def add_problems(self, problems: Iterable[Problem], *, evaluation: bool = False) -> int:
        """Add problems; returns how many are new.

        Raises:
            InputError: another problem has the id of one.
        """
        path = self.root / ("evaluation.jsonl" if evaluation else "problems.jsonl")
        known = {p.problem_id: p for p in read_problems(path)} if path.is_file() and path.stat().st_size else {}
        before = len(known)
        for problem in problems:
            old = known.setdefault(problem.problem_id, problem)
            if (old.prompt, old.answer) != (problem.prompt, problem.answer):
                remedy = "rename it, or use another folder"
                raise InputError(f"another problem has the id {problem.problem_id!r}", where=str(path), remedy=remedy)
        self.write(path, lambda target: write_problems(target, known.values()))
        return len(known) - before

    def stages(self) -> list[int]:
        """Return the stages that have traces, ascending."""
        names = (re.fullmatch(r"stage(\d+)\.jsonl", p.name) for p in self.root.iterdir())
        return sorted(int(match[1]) for match in names if match)

    def last_stage(self) -> int:
        """Return the last stage that has traces.

        Raises:
            WorkspaceError: there are none.
        """
        stages = self.stages()
        if not stages:
            raise WorkspaceError("no traces yet", where=str(self.root), remedy="import some, or run `zelo reasoning sample`")
        return stages[-1]

    def traces(self, stage: int | None = None) -> list[Trace]:
        """Return the traces of a stage, of the last one by default.

        Raises:
            WorkspaceError: there are none.
            InputError: a damaged file.
        """
        stage = self.last_stage() if stage is None else stage
        path = self.root / f"stage{stage}.jsonl"
        if not path.is_file():
            known = ", ".join(map(str, self.stages())) or "none"
            raise WorkspaceError(f"no traces of stage {stage}", where=str(self.root), remedy=f"stages with traces: {known}")
        return read_traces(path)

    def write_traces(self, stage: int, traces: Iterable[Trace]) -> int:
        """Write all traces of a stage; returns how many."""
        rows = list(traces)
        self.write(self.root / f"stage{stage}.jsonl", lambda target: write_traces(target, rows))
        return len(rows)

    def merge_traces(self, stage: int, traces: Iterable[Trace]) -> int:
        """Add traces to a stage, those with the same problem, source and number replaced; returns how many are there then."""
        kept = {t.key: t for t in self.traces(stage)} if stage in self.stages() else {}
        kept.update((t.key, t) for t in traces)
        order = {name: n for n, name in enumerate(self.problems())}
        return self.write_traces(stage, sorted(kept.values(), key=lambda t: (order.get(t.problem_id, len(order)), t.source, t.sample)))

    def has_selected(self) -> bool:
        """Whether traces were chosen already."""
        return (self.root / "selected.jsonl").is_file()

    def selected(self) -> list[Trace]:
        """Return the traces that were chosen.

        Raises:
            WorkspaceError: none were.
        """
        path = self.root / "selected.jsonl"
        if not path.is_file():
            raise WorkspaceError("nothing is selected yet", where=str(self.root), remedy=f"run `zelo reasoning select {self.root}`")
        return read_traces(path)

    def write_selected(self, traces: Iterable[Trace]) -> None:
        """Write the traces that are chosen."""
        rows = list(traces)
        self.write(self.root / "selected.jsonl", lambda target: write_traces(target, rows))

    def write(self, path: Path, write: Callable[[Path], int]) -> None:
        """Have a file of the folder written under another name and put into its place; `write` takes the path to write to."""
        partial = path.with_name(f".{path.name}.partial")
        with writable(self.root):
            try:
                write(partial)
                with partial.open("rb") as handle:
                    os.fsync(handle.fileno())
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
