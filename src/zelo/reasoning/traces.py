"""Traces from files: our own JSON Lines, and the forms in which others publish theirs.

A row of another form holds a question and one or more solutions; `TEXTS` has the names. Rows that say how often a solution was edited
(`solution_type: human_stage3`) keep that as the trace's stage.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from zelo.collections.lines import check_id, json_line, shown, text_field, write_lines
from zelo.errors import InputError
from zelo.reasoning.problems import Row, problem_of, read_rows, solutions_of
from zelo.types import Finish, Problem, Trace

TEXTS = ("reasoning", "generation", "code", "response", "completion", "output", "solution")
"""Names of a solution in files; the first one there counts. A list holds several samples."""
MARKS = ("score", "is_correct", "correct")

_STAGE = re.compile(r"^(.*?)_?stage_?(\d+)$", re.I)


def is_own(row: Row) -> bool:
    """Whether a row is a trace of our own form."""
    return {"problem_id", "source", "reasoning"} <= row.keys()


def read_traces(path: Path) -> list[Trace]:
    """Read traces of our own form.

    Raises:
        InputError: a row is none, or two have one problem, source and number.
    """
    found: dict[tuple[str, str, int], Trace] = {}
    for where, row in read_rows(path):
        trace = _own(row, where)
        if trace.key in found:
            what = f"sample {trace.sample} of {shown(trace.source)} about {shown(trace.problem_id)} comes twice"
            raise InputError(what, where=where, remedy="give each another number in `sample`")
        found[trace.key] = trace
    return list(found.values())


def write_traces(path: Path, traces: Iterable[Trace]) -> int:
    """Write traces in our own form; returns how many."""
    return write_lines(path, (json_line(asdict(trace)) for trace in traces))


def import_traces(path: Path, source: str, known: Sequence[Problem] = ()) -> tuple[list[Problem], list[Trace]]:
    """Read traces of another form with the problems that they are about.

    Args:
        path: JSON Lines or a JSON array.
        source: who wrote those whose row does not say it.
        known: problems that are here already: a question that one of them asks goes by its id.

    Returns:
        The problems, each once, and the traces; samples of one source are numbered in the order of the file. Marks of the file are
        kept in `correct` where it has any.

    Raises:
        InputError: a row without question or solution.
    """
    by_prompt = {problem.prompt.strip(): problem for problem in known}
    problems: dict[str, Problem] = {}
    traces: list[Trace] = []
    count: Counter[tuple[str, str, int]] = Counter()
    for number, (where, row) in enumerate(read_rows(path), 1):
        problem = problem_of(row, where, f"{path.name.split('.')[0]}-{number}")
        problem = by_prompt.setdefault(problem.prompt.strip(), problem)
        problems.setdefault(problem.problem_id, problem)
        for who, stage, text, mark in _solutions(row, source, where):
            sample = count[problem.problem_id, who, stage]
            count[problem.problem_id, who, stage] += 1
            traces.append(Trace(problem.problem_id, who, sample, text, stage, correct=mark))
    if not traces:
        raise InputError("there are no traces", where=str(path), remedy="one JSON object per line, with a question and a solution")
    return list(problems.values()), traces


def _solutions(row: Row, source: str, where: str) -> list[tuple[str, int, str, bool | None]]:
    """(source, stage, text, mark) of a row's solutions."""
    marked = solutions_of(row)
    if marked:
        return [(name, 1, text, mark) for name, (text, mark) in marked.items()]
    said = row.get("solution_type") or row.get("source") or source
    who, stage = check_id(re.sub(r"\s+", "_", str(said)), where, "source"), 1
    match = _STAGE.match(who)
    if match:
        who, stage = match[1].rstrip("_") or source, int(match[2])
    key = next((name for name in TEXTS if isinstance(row.get(name), str | list)), None)
    if key is None:
        raise InputError("a row without a solution", where=where, remedy=f"name it one of: {', '.join(TEXTS)}")
    texts = row[key] if isinstance(row[key], list) else [row[key]]
    marks: Any = next((row[name] for name in MARKS if name in row), None)
    marks = marks if isinstance(marks, list) and len(marks) == len(texts) else [marks] * len(texts)
    found = []
    for text, mark in zip(texts, marks, strict=True):
        found.append((who, stage, text_field({key: text}, key, where), mark if isinstance(mark, bool) else None))
    return found


def _own(row: Row, where: str) -> Trace:
    if not is_own(row):
        missing = sorted({"problem_id", "source", "reasoning"} - row.keys())
        raise InputError(f"a trace without {missing[0]}", where=where, remedy="it is written by `zelo reasoning import`")
    names = {key: text_field(row, key, where) for key in ("problem_id", "source", "reasoning")}
    numbers = {key: row.get(key, least) for key, least in (("sample", 0), ("stage", 1), ("tokens", 0))}
    for key, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < (key == "stage"):
            raise InputError(f"{key} is {shown(value)}", where=where, remedy="use a whole number")
    finish, correct, cost = row.get("finish", "stop"), row.get("correct"), row.get("cost", 0.0)
    if finish not in get_args(Finish):
        raise InputError(f"finish is {shown(finish)}", where=where, remedy=f"use one of: {', '.join(get_args(Finish))}")
    texts = {key: text_field(row, key, where, "") for key in ("answer", "prompt_id", "note")}
    price = float(cost) if isinstance(cost, int | float) else 0.0
    return Trace(
        names["problem_id"],
        names["source"],
        numbers["sample"],
        names["reasoning"],
        numbers["stage"],
        texts["answer"],
        correct if isinstance(correct, bool) else None,
        finish,
        texts["prompt_id"],
        numbers["tokens"],
        price,
        texts["note"],
    )


def by_problem(traces: Iterable[Trace]) -> dict[str, list[Trace]]:
    """Return problem -> its traces, in the order given."""
    found: dict[str, list[Trace]] = {}
    for trace in traces:
        found.setdefault(trace.problem_id, []).append(trace)
    return found


def by_source(traces: Iterable[Trace]) -> Mapping[str, list[Trace]]:
    """Return source -> its traces, in the order given."""
    found: dict[str, list[Trace]] = {}
    for trace in traces:
        found.setdefault(trace.source, []).append(trace)
    return found
