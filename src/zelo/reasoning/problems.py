"""Problems from files: our own JSON Lines, and the forms in which collections of mathematics come.

A row of another form needs a question and, to be checked, an answer; the names that are understood are in `NAMES`. A row with
several marked solutions of one question also makes problems of judging: which of a right and a wrong solution is right?
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from zelo.collections.lines import check_id, json_line, json_objects, shown, text_field, write_lines
from zelo.errors import InputError
from zelo.reasoning.pairs import pair_problems
from zelo.reasoning.verify import last_boxed
from zelo.types import Problem, Task

NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "problem", "question", "instruction"),
    "answer": ("expected_answer", "answer", "gt", "ground_truth", "final_answer"),
    "solution": ("gt_cot", "reference_solution", "solution", "ground_truth"),
    "subject": ("subject", "type", "topic"),
    "level": ("level", "difficulty"),
    "id": ("problem_id", "unique_id", "id", "idx"),
}
"""Field of a problem -> names in files, the first one there counts."""

_LAST_LINE = re.compile(r"^(?:####|A:)\s*(.+?)\s*$", re.MULTILINE)
Row = dict[str, Any]


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield (file:line, object) of JSON Lines, or (file: entry n, object) of a JSON array.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    if path.suffix == ".json":
        try:
            table = json.loads(path.read_text("utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"cannot be read as JSON ({error})", where=str(path), remedy="check the file; rows may also be JSON Lines"
            ) from error
        if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
            raise InputError("not a JSON array of objects", where=str(path), remedy="write one object per row")
        yield from ((f"{path}: entry {number}", row) for number, row in enumerate(table, 1))
        return
    for number, row in json_objects(path):
        yield f"{path}:{number}", row


def read_problems(path: Path) -> list[Problem]:
    """Read problems of our own form or another; each question once.

    Raises:
        InputError: a row without a question, two different problems with one id, or a file without any.
    """
    found: dict[str, Problem] = {}
    for number, (where, row) in enumerate(read_rows(path), 1):
        problem = problem_of(row, where, f"{path.name.split('.')[0]}-{number}")
        _add(found, problem, where)
    if not found:
        raise InputError("there are no problems", where=str(path), remedy="one JSON object per line, with question and answer")
    return list(found.values())


def _add(found: dict[str, Problem], problem: Problem, where: str) -> None:
    before = found.setdefault(problem.problem_id, problem)
    if (before.prompt, before.answer) != (problem.prompt, problem.answer):
        what = f"another problem has the id {shown(problem.problem_id)}"
        raise InputError(what, where=where, remedy="give every problem an id of its own")


def problem_of(row: Row, where: str, default_id: str) -> Problem:
    """Return the problem of a row.

    Raises:
        InputError: it has no question, or a field that is no text.
    """
    if isinstance(row.get("prompt"), str) and "task" in row:
        return _own(row, where)
    said = next((key for key in NAMES["prompt"] if row.get(key) is not None), None)
    prompt = "" if said is None else text_field(row, said, where)
    if not prompt.strip():
        raise InputError("a row without a question", where=where, remedy=f"name it one of: {', '.join(NAMES['prompt'])}")
    solution, answer = _text(row, "solution", where), _text(row, "answer", where)
    marked = _LAST_LINE.findall(answer)
    if marked:  # gsm8k: the answer is the last line of the solution
        solution, answer = answer, marked[-1]
    if not answer:
        answer = last_boxed(solution)
    name = next((str(row[key]) for key in NAMES["id"] if isinstance(row.get(key), str | int) and str(row[key]).strip()), "")
    name = f"{default_id.rpartition('-')[0]}-{name}" if name.isdigit() else name or default_id
    name = check_id(re.sub(r"\s+", "_", name), where, "id")
    return Problem(name, prompt, answer, "math", _text(row, "subject", where), _level(row), solution)


def _text(row: Row, field: str, where: str) -> str:
    for key in NAMES[field]:
        if row.get(key) is not None and not isinstance(row[key], dict | list):
            value = row[key]
            if field == "answer" and (isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value))):
                raise InputError(f"{key} is {json.dumps(value)}", where=where, remedy="write the answer as text or a number")
            return text_field({key: value}, key, where) if isinstance(value, str) else str(value)
    return ""


def _level(row: Row) -> int:
    """From 3 or "Level 3"."""
    said = next((row[key] for key in NAMES["level"] if row.get(key) is not None), 0)
    digits = re.findall(r"\d+", str(said))
    return int(digits[0]) if digits and len(digits[0]) < 4 else 0


def _own(row: Row, where: str) -> Problem:
    if row["task"] not in get_args(Task):
        raise InputError(f"task is {shown(row['task'])}", where=where, remedy=f"use one of: {', '.join(get_args(Task))}")
    texts = {key: text_field(row, key, where, "") for key in ("answer", "subject", "solution", "group")}
    if row["task"] == "judging" and texts["answer"] not in ("", "A", "B", "tie"):
        raise InputError(f"answer is {shown(texts['answer'])}", where=where, remedy="of judging it is A, B or tie")
    name = check_id(text_field(row, "problem_id", where), where, "problem_id")
    prompt, level = text_field(row, "prompt", where), row.get("level", 0)
    if not prompt.strip():
        raise InputError("the prompt is empty", where=where, remedy="say what is asked")
    return Problem(
        name, prompt, task=row["task"], level=level if isinstance(level, int) else 0, swapped=row.get("swapped") is True, **texts
    )


def write_problems(path: Path, problems: Iterable[Problem]) -> int:
    """Write problems in our own form; returns how many."""
    return write_lines(path, (json_line(asdict(problem)) for problem in problems))


def solutions_of(row: Row) -> dict[str, tuple[str, bool]]:
    """Return the marked solutions of a row, solver -> (solution, right): fields that hold `solution` and `is_correct`."""
    found = {}
    for name, value in row.items():
        if isinstance(value, dict) and isinstance(value.get("solution"), str) and isinstance(value.get("is_correct"), bool):
            found[name] = (value["solution"], value["is_correct"])
    return found


def read_solution_pairs(path: Path, *, both_orders: bool = False) -> list[Problem]:
    """Make a problem of judging from every right and wrong solution of one question: which one is right?

    Which one is shown first is drawn from the texts. Returns problems whose group names the two solvers.

    Args:
        path: rows with marked solutions, as `solutions_of` finds them.
        both_orders: make two problems of each pair.

    Raises:
        InputError: no row has a right and a wrong solution.
    """
    found = []
    for number, (where, row) in enumerate(read_rows(path), 1):
        question, marked = _text(row, "prompt", where), solutions_of(row)
        if marked and not question.strip():
            raise InputError("solutions without a question", where=where, remedy="give the question, as problem or prompt")
        right = {name: text for name, (text, mark) in marked.items() if mark}
        wrong = {name: text for name, (text, mark) in marked.items() if not mark}
        for good, good_text in right.items():
            for bad, bad_text in wrong.items():
                group = re.sub(r"\s+", "_", f"{path.name.split('.')[0]}-{number}:{good}:{bad}")
                flip = hashlib.sha256(f"{question}\0{good_text}\0{bad_text}".encode()).digest()[0] % 2 == 1
                texts = (bad_text, good_text) if flip else (good_text, bad_text)
                answer = "B" if flip else "A"
                found += pair_problems(group, question, *texts, answer, kind="solutions", both_orders=both_orders)
    if not found:
        remedy = 'a row needs a question and solvers\' {"solution": ..., "is_correct": true or false}'
        raise InputError("no question with a right and a wrong solution", where=str(path), remedy=remedy)
    return found
