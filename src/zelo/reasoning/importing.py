"""Brings files and workspaces into a folder: what a file is, is seen from its first row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from zelo.errors import InputError
from zelo.reasoning.folder import Folder
from zelo.reasoning.problems import Row, read_problems, read_rows, read_solution_pairs, solutions_of
from zelo.reasoning.rates import merge_rates, rates_of, read_pass_rates
from zelo.reasoning.traces import TEXTS, import_traces, is_own, read_traces
from zelo.reasoning.verify import verify
from zelo.reasoning.workspace_pairs import Answers, workspace_problems
from zelo.types import Problem, Trace

Kind = Literal["auto", "problems", "traces", "pairs", "evaluation", "rates"]


@dataclass(frozen=True)
class Imported:
    """What came: new problems, traces, and a remark."""

    problems: int
    traces: int
    remark: str = ""


def kind_of(row: Row) -> Kind:
    """Return what a file with this first row is: "traces" or "problems"."""
    if is_own(row) or solutions_of(row) or "solution_type" in row:
        return "traces"
    return "traces" if any(isinstance(row.get(name), str | list) for name in TEXTS if name != "solution") else "problems"


def import_into(
    folder: Folder,
    path: Path,
    kind: Kind = "auto",
    *,
    source: str = "",
    answers: Answers = "qrels",
    both_orders: bool = True,
    per_rate: int = 1,
) -> Imported:
    """Import a file or a workspace.

    Args:
        folder: gets it.
        path: JSON Lines, a JSON array, or a workspace.
        kind: what it is; "auto" looks at it. "pairs" makes problems of judging from marked solutions, "evaluation" are problems that
            must not be taught (of a workspace or of marked solutions: its pairs), "rates" pass rates of a reference model.
        source: who wrote traces whose rows do not say it; "" = the file's name.
        answers: of a workspace's pairs.
        both_orders: make two problems of each pair.
        per_rate: answers behind each pass rate.

    Raises:
        InputError: the file cannot be read, a row is faulty, or a workspace is to be traces or rates.
        WorkspaceError: the workspace lacks what is needed.
    """
    if path.is_dir():
        return _workspace(folder, path, kind, answers, both_orders=both_orders)
    if kind == "rates":
        rates = read_pass_rates(path, per_rate)
        new, total = merge_rates(folder, rates)
        known = len(rates_of(folder.problems(), rates)) if folder.has_problems() else 0
        return Imported(0, 0, f"pass rates of {len(rates):,} problems, {known:,} of them here; {new:,} are new, {total:,} in all")
    if kind == "pairs":
        return Imported(folder.add_problems(read_solution_pairs(path, both_orders=both_orders)), 0)
    if kind == "auto":
        first = next(read_rows(path), None)
        if first is None:
            raise InputError("the file is empty", where=str(path), remedy="one JSON object per line")
        kind = kind_of(first[1])
    if kind == "traces":
        return _traces(folder, path, source or path.name.split(".")[0])
    if kind == "evaluation" and any(solutions_of(row) for _, row in read_rows(path)):
        pairs = read_solution_pairs(path, both_orders=both_orders)
        return Imported(folder.add_problems(pairs, evaluation=True), 0, "pairs of right and wrong solutions")
    problems = read_problems(path)
    open_ones = 0 if kind == "evaluation" else sum(not p.answer for p in problems)
    remark = f"{open_ones:,} have no answer that can be checked: their traces stay unverified" if open_ones else ""
    return Imported(folder.add_problems(problems, evaluation=kind == "evaluation"), 0, remark)


def _workspace(folder: Folder, path: Path, kind: Kind, answers: Answers, *, both_orders: bool) -> Imported:
    from zelo.workspace import Workspace

    if kind in ("traces", "rates"):
        raise InputError(f"a workspace holds no {kind}", where=str(path), remedy="leave --as out, or say --as evaluation")
    found = workspace_problems(Workspace.open(path), answers, both_orders=both_orders)
    remark = "right answers are what the ensemble agrees on" if answers == "ensemble" else "right answers are the labels"
    return Imported(folder.add_problems(found, evaluation=kind == "evaluation"), 0, remark)


def _traces(folder: Folder, path: Path, source: str) -> Imported:
    first = next(read_rows(path), None)
    if first is not None and is_own(first[1]):
        problems: list[Problem] = []
        traces: list[Trace] = read_traces(path)
    else:
        problems, traces = import_traces(path, source, list(folder.problems().values()) if folder.has_problems() else ())
        traces = _numbered(traces, folder.traces(1) if 1 in folder.stages() else [])
    known = folder.problems() if folder.has_problems() else {}
    marked = list(verify(traces, {p.problem_id: p for p in problems} | known))
    new = folder.add_problems(problems) if problems else 0
    pairs = [(old, now) for old, now in zip(traces, marked, strict=True) if old.correct is not None and now.correct is not None]
    other = sum(old.correct != now.correct for old, now in pairs)
    for stage in sorted({t.stage for t in marked}):
        folder.merge_traces(stage, (t for t in marked if t.stage == stage))
    remark = f"{other:,} of {len(pairs):,} marks of the file differ from the verifier's, which count" if other else ""
    return Imported(new, len(marked), remark)


def _numbered(traces: Sequence[Trace], there: Sequence[Trace]) -> list[Trace]:
    """Number samples on from those that are there: a source's samples may come in several files. A text that is there keeps its number."""
    free: dict[tuple[str, str], dict[str, list[int]]] = {}
    taken: dict[tuple[str, str], int] = {}
    for trace in there:
        name = trace.problem_id, trace.source
        free.setdefault(name, {}).setdefault(trace.reasoning, []).append(trace.sample)
        taken[name] = max(taken.get(name, 0), trace.sample + 1)
    found = []
    for trace in traces:
        name = trace.problem_id, trace.source
        same = free.get(name, {}).get(trace.reasoning)
        number = same.pop(0) if same else taken.get(name, 0)
        taken[name] = max(taken.get(name, 0), number + 1)
        found.append(replace(trace, sample=number))
    return found
