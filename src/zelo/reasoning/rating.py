"""Rate traces by comparing them, as documents are: pairs on cycles, a judge's votes, a Thurstone fit with errors.

The first paper serving the second: what makes a trace good to learn from cannot be written down, but two traces can be compared.
A judge that was never asked to compare reasoning may rate style. What its ratings are worth is for a grade to say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zelo.collections.lines import json_line, json_objects, write_lines
from zelo.core.comparison_graph import hamiltonian_cycles, rng_for
from zelo.core.paired_comparison import fit_query
from zelo.errors import InputError
from zelo.reasoning.pairs import pair_prompt
from zelo.reasoning.preferences import votes_for_first
from zelo.reasoning.traces import by_problem
from zelo.reasoning.verify import verify
from zelo.types import Problem, Trace

IntArray = NDArray[np.int64]
Key = tuple[str, str, int]


@dataclass(frozen=True)
class Rating:
    """A trace's strength in units of the probit link, mean 0, with its standard error and how many comparisons it is from."""

    key: Key
    score: float
    stderr: float
    degree: int


def comparisons(traces: Sequence[Trace], problems: Mapping[str, Problem], degree: int, seed: int) -> tuple[list[Problem], IntArray]:
    """Return the problems of judging that compare traces, and whom each compares [m, 2]; each trace is first in half of its pairs.

    Args:
        traces: to be rated, at least two; of one problem or of several.
        problems: by id.
        degree: comparisons per trace, even.
        seed: of the graph.

    Raises:
        InputError: fewer than two traces, or a degree that is not even.
    """
    if len(traces) < 2:
        raise InputError(f"{len(traces)} traces cannot be compared", remedy="rate at least two")
    pairs = hamiltonian_cycles(len(traces), degree, rng_for(seed, "traces", "rating"))
    found = []
    for number, (a, b) in enumerate(pairs.tolist()):
        one, two = traces[a], traces[b]
        same = one.problem_id == two.problem_id
        query = problems[one.problem_id].prompt if same else "(each solution has a question of its own, which stands before it)"
        shown = [t.reasoning if same else f"Question: {problems[t.problem_id].prompt}\n\nSolution: {t.reasoning}" for t in (one, two)]
        found.append(Problem(f"comparison-{number}", pair_prompt(query, *shown, kind="traces"), "", "judging"))
    return found, pairs


def rate(traces: Sequence[Trace], pairs: IntArray, answers: Sequence[Trace], asked: Sequence[Problem]) -> list[Rating]:
    """Fit ratings from what a judge wrote about the comparisons.

    Args:
        traces: as for `comparisons`.
        pairs: whom each comparison compares [m, 2].
        answers: the judge's traces; comparisons without a usable one are missing, not ties.
        asked: the comparisons.

    Raises:
        InputError: not one answer can be used.
    """
    known = {p.problem_id: p for p in asked}
    grouped = by_problem(verify(answers, known))
    prob, weight = np.full(len(pairs), np.nan), np.ones(len(pairs))
    for row, problem in enumerate(asked):
        votes, count = votes_for_first(grouped.get(problem.problem_id, []))
        if count:
            prob[row] = votes / count
    if np.isnan(prob).all():
        raise InputError("not one comparison has a usable answer", remedy="use a judge that ends with: Answer: A, B or tie")
    fit = fit_query(len(traces), pairs[:, 0], pairs[:, 1], prob, weight)
    rows = zip(traces, fit.score.tolist(), fit.stderr.tolist(), fit.degree.tolist(), strict=True)
    return [Rating(trace.key, score, stderr, degree) for trace, score, stderr, degree in rows]


def write_ratings(path: Path, ratings: Sequence[Rating], traces: Sequence[Trace]) -> None:
    """Write ratings of traces as JSON Lines, best first, with a digest of the text that each is about."""
    names, texts = ("problem_id", "source", "sample"), {t.key: text_digest(t) for t in traces}
    rows = (
        {**dict(zip(names, r.key, strict=True)), "score": r.score, "stderr": r.stderr, "degree": r.degree, "text": texts[r.key]}
        for r in ratings
    )
    write_lines(path, (json_line(row) for row in sorted(rows, key=lambda row: -float(str(row["score"])))))


def text_digest(trace: Trace) -> str:
    """A hash of what was rated, 12 hexadecimal digits: an edit or another sample under the same number is another text."""
    return hashlib.sha256(trace.reasoning.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def read_ratings(path: Path, traces: Sequence[Trace]) -> dict[Key, float]:
    """Read the ratings of these very texts; none where there is no file.

    Raises:
        InputError: it is something else.
    """
    if not path.is_file():
        return {}
    texts = {t.key: text_digest(t) for t in traces}
    found: dict[Key, float] = {}
    for number, row in json_objects(path):
        try:
            key = str(row["problem_id"]), str(row["source"]), int(json.dumps(row["sample"]))
            score = float(json.dumps(row["score"]))
            if texts.get(key) == row["text"]:
                found[key] = score
        except (KeyError, ValueError) as error:
            raise InputError(f"not a rating ({error})", where=f"{path}:{number}", remedy="rate again") from error
    return found
