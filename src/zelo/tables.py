"""Scores and pairs for people who only want these: tables in, tables out, no workspace.

A table is a pandas or polars frame, an Arrow table, a mapping of column names to NumPy arrays or lists, an array [m, 2] of
(winner, loser) or [m, 3] of (first, second, result), or the path of a CSV, JSON Lines or Parquet file. The result is of the same
kind; for mappings, arrays and paths it is an Arrow table, which `.to_pandas()` and `polars.from_arrow` turn into a frame.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zelo.errors import InputError
from zelo.frames import Problem, like
from zelo.types import Link

if TYPE_CHECKING:
    from zelo.core.active_pairs import Aim
    from zelo.core.designs import Design

__all__ = ["design_pairs", "fit_scores", "next_pairs"]


def fit_scores(
    preferences: Any,
    *,
    first: str | None = None,
    second: str | None = None,
    result: str | None = None,
    group: str | None = None,
    weight: str | None = None,
    link: Link = "probit",
    prior_sd: float | None = None,
    threads: int | None = None,
) -> Any:
    """Fit one score per item, best first, from who was preferred to whom (paper section 3).

    Args:
        preferences: a table, see the module. Columns that are not named are looked for: `doc_id_a, doc_id_b`, `first, second` or
            `winner, loser`; `prob_a`, `prob_first`, `result` or `preference`; `query_id` or `group`; `weight` or `n_judges`.
        first: column of one item of each pair, of any type.
        second: column of the other.
        result: column with the probability that the first is better, in [0, 1]: 1 won, 0 lost, 0.5 a draw; null or NaN is no result
            and left out. A column called `preference` is in [-1, 1] instead. Without such a column the first always won.
        group: column of groups that are scored apart, as queries are; without it all rows are one group.
        weight: column with how many independent comparisons a row counts for, >= 0; without it 1.
        link: `probit`, the paper's Thurstone model, or `logit`, Bradley-Terry.
        prior_sd: standard deviation of the scores' Gaussian prior, in the link's units, > 0; default `core.links.PRIOR_SD`.
        threads: default: all cores that this process may use.

    Returns:
        A table with the group's column if there is one, and `item`, `score` (mean 0 per group, in units of the link), `stderr`,
        `degree` (comparisons) and `link`; groups in the order of their first row.

    Raises:
        InputError: a column is missing, or a row is unusable; the message names the row (and the line of a CSV file).
        ConvergenceError: a fit did not reach its tolerance.
    """
    import pyarrow as pa

    from zelo.core.paired_comparison import fit_queries

    problem = Problem(preferences, {"first": first, "second": second, "result": result, "group": group, "weight": weight})
    fitted = fit_queries(problem.batch, link=link, prior_sd=prior_sd, threads=threads)
    best = np.lexsort((-fitted.score, problem.group_of))
    columns = problem.group_column(problem.group_of[best]) | {
        "item": problem.names(best),
        "score": fitted.score[best],
        "stderr": fitted.stderr[best],
        "degree": fitted.degree[best],
        "link": pa.array([link] * len(best), pa.string()),
    }
    return like(preferences, pa.table(columns))


def design_pairs(
    items: Mapping[Hashable, Sequence[Any]] | Sequence[Any], *, degree: int = 8, design: Design = "cycles", seed: int = 0
) -> Any:
    """Choose which pairs to compare before anything is known (paper section 4).

    Args:
        items: the items, all different; or a mapping from groups, as queries are, to their items.
        degree: comparisons per item, on average, >= 1; even for `cycles`.
        design: `cycles`, edge-disjoint random Hamiltonian cycles: each item is compared exactly `degree` times and shown first in
            half of these; `random`, `bipartite` or `all`, see `core.designs`.
        seed: of the draw; a group's pairs depend on it and the group's name only.

    Returns:
        An Arrow table with `first` (to be shown first) and `second`, and before them `group` if a mapping was given.

    Raises:
        InputError: a degree or design out of range, an item that stands twice in its group, or items of several types.
    """
    import pyarrow as pa

    from zelo.core.comparison_graph import hamiltonian_cycles, rng_for
    from zelo.core.designs import draw_pairs

    groups = items if isinstance(items, Mapping) else {"": items}
    columns: dict[str, list[Any]] = {"group": [], "first": [], "second": []}
    for name, members in groups.items():
        listed = list(members)
        if len(set(listed)) < len(listed):
            twice = next(i for n, i in enumerate(listed) if i in listed[:n])
            raise InputError(f"{twice!r} stands twice among the items", where=str(name), remedy="give each item once")
        rng = rng_for(seed, str(name), "design")
        n = len(listed)
        drawn = hamiltonian_cycles(n, degree, rng) if design == "cycles" else draw_pairs(n, -(-n * degree // 2), rng, design)
        for i, j in drawn.tolist():
            columns["group"].append(name)
            columns["first"].append(listed[i])
            columns["second"].append(listed[j])
    if not isinstance(items, Mapping):
        del columns["group"]
    try:
        return pa.table(columns)
    except pa.ArrowException as error:
        raise InputError(f"the items or groups differ in type ({error})", remedy="give all of them as strings") from error


def next_pairs(
    preferences: Any,
    *,
    count: int = 25,
    aim: Aim = "top",
    tolerance: float = 0.0,
    seed: int = 0,
    link: Link = "probit",
    prior_sd: float | None = None,
    **columns: str,
) -> Any:
    """Choose which pairs to compare next, from the comparisons so far: those expected to tell most.

    Items that are in no row of `preferences` are not known here: begin with `design_pairs`.

    Args:
        preferences: what is known, and the names of its columns, as in `fit_scores`.
        count: pairs per group, >= 0. No pair comes twice.
        aim: `top` for the ranking's head, `balanced` for all scores with weight on the upper ones, `information` for all alike.
        tolerance: a group whose expected loss is within it gets no more pairs, see `core.active_pairs`; 0 = never.
        seed: of the order in which equally good pairs are taken.
        link: as in `fit_scores`.
        prior_sd: as in `fit_scores`.
        **columns: `first`, `second`, `result`, `group` and `weight`, as in `fit_scores`.

    Returns:
        A table of the kind of `preferences` with `first` (to be shown first) and `second`, and the group's column if there is one.

    Raises:
        InputError: as in `fit_scores`, or a number out of range.
    """
    import pyarrow as pa

    from zelo.core.active_pairs import plan_round

    unknown = columns.keys() - {"first", "second", "result", "group", "weight"}
    if unknown:
        raise TypeError(f"next_pairs() got an unexpected keyword argument {min(unknown)!r}")
    problem = Problem(preferences, columns)
    batch = problem.batch
    names = [str(g) for g in problem.groups.to_pylist()] if problem.groups is not None else [""]
    plan = plan_round(batch, names, aim=aim, count=count, tolerance=tolerance, seed=seed, link=link, prior_sd=prior_sd)
    group_of = np.repeat(np.arange(len(names)), np.diff(plan.rows))
    starts = problem.starts[group_of]
    pairs = {"first": problem.names(starts + plan.first), "second": problem.names(starts + plan.second)}
    return like(preferences, pa.table(problem.group_column(group_of) | pairs))
