"""Scores and pairs for people who only want these: tables in, tables out, no workspace.

A table is a pandas or polars frame, an Arrow table, a mapping of column names to NumPy arrays or lists, an array [m, 2] of
(winner, loser) or [m, 3] of (first, second, result), or the path of a CSV, JSON Lines or Parquet file. The result is of the same
kind; for mappings, arrays and paths it is an Arrow table, which `.to_pandas()` and `polars.from_arrow` turn into a frame.
Ids are compared as they stand, 7 and "7" are two items; those of a CSV file are strings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from zelo.errors import InputError
from zelo.frames import Problem, like
from zelo.types import Link

if TYPE_CHECKING:
    from zelo.core.active_pairs import Aim
    from zelo.core.designs import Design
    from zelo.core.paired_comparison import Batch, BatchFit

__all__ = ["Dispersed", "design_pairs", "fit_scores", "next_pairs"]

Dispersed = Literal["estimated", "none"]

FEWEST = 200
"""Pairs below which no dispersion is estimated: with 200 its standard error is about 10 %, that of the intervals' width 5 %."""


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
    dispersion: Dispersed = "estimated",
    threads: int | None = None,
) -> Any:
    """Fit one score per item, best first, from who was preferred to whom (paper section 3).

    Args:
        preferences: a table, see the module. Columns that are not named are looked for: `doc_id_a, doc_id_b`, `first, second` or
            `winner, loser`; `prob_a`, `prob_first`, `result` or `preference`; `query_id` or `group`; `weight` or `n_judges`; and
            `slope` and `offset`, a row's terms as in `core.paired_comparison.Batch`, which a workspace's preferences.parquet has.
        first: column of one item of each pair, of any type.
        second: column of the other.
        result: column with the probability that the first is better, in [0, 1]: 1 won, 0 lost, 0.5 a draw; null or NaN is no result
            and left out. A column called `preference` is in [-1, 1] instead, and one called `winner` holds the id of the item that
            won. Only with columns `winner` and `loser` it may be absent: the winner won.
        group: column of groups that are scored apart, as queries are; without it all rows are one group.
        weight: column with how many independent comparisons a row counts for, >= 0; without it 1.
        link: `probit`, the paper's Thurstone model, or `logit`, Bradley-Terry.
        prior_sd: standard deviation of the scores' Gaussian prior, in the link's units, > 0; default `core.links.PRIOR_SD`.
        dispersion: `estimated`: from the data, how many independent comparisons a weight of 1 is worth (`core.dispersion`), so that
            errors are right also where judges repeat each other's mistakes. It is as in a workspace, but with fewer than 200
            observed pairs, too few to tell, it is 1. Errors are then of scores around their group's mean. `none`: a weight of 1 is
            one independent comparison, and errors include where the group as a whole lies.
        threads: default: all cores that this process may use.

    Returns:
        A table with the group's column if there is one, and `item`, `score` (mean 0 per group, in units of the link), `stderr`,
        `degree` (comparisons), `component` and `link`; groups in the order of their first row. Components are the parts of a group
        with no comparison between them, 0 the largest: scores of different components do not compare.

    Raises:
        InputError: a column is missing, or a row is unusable; the message names the row (from 0; in a CSV file the line, or the
            data row from 1 where blank lines or line breaks in quotes make lines unsure).
        ConvergenceError: a fit did not reach its tolerance.
    """
    problem = Problem(preferences, {"first": first, "second": second, "result": result, "group": group, "weight": weight})
    return like(preferences, _score_table(problem, _fit(problem.batch, link, prior_sd, dispersion, threads)))


def _score_table(problem: Problem, fitted: BatchFit) -> Any:
    import pyarrow as pa

    best = np.lexsort((-fitted.score, problem.group_of))
    columns = problem.group_column(problem.group_of[best]) | {
        "item": problem.names(best),
        "score": fitted.score[best],
        "stderr": fitted.stderr[best],
        "degree": fitted.degree[best],
        "component": problem.components()[best],
        "link": pa.array([fitted.link] * len(best), pa.string()),
    }
    return pa.table(columns)


def _fit(batch: Batch, link: Link, prior_sd: float | None, dispersion: Dispersed, threads: int | None) -> BatchFit:
    from zelo.core.dispersion import centered_stderr, estimate_dispersion
    from zelo.core.links import PRIOR_SD
    from zelo.core.paired_comparison import fit_queries

    if dispersion not in get_args(Dispersed):
        raise InputError(f"unknown dispersion {dispersion!r}", remedy=f"use one of {', '.join(get_args(Dispersed))}")
    if dispersion == "none":
        return fit_queries(batch, link=link, prior_sd=prior_sd, threads=threads)
    whole = fit_queries(batch, link=link, prior_sd=prior_sd, threads=threads)  # checks the numbers, too
    found = estimate_dispersion(batch, link=link, prior_sd=prior_sd)
    if found.pairs >= FEWEST:
        scaled = replace(batch, weight=np.asarray(batch.weight) / found.value)
        whole = fit_queries(scaled, link=link, prior_sd=prior_sd, threads=threads)
    return replace(whole, stderr=centered_stderr(whole.stderr, np.diff(whole.starts), PRIOR_SD[link] if prior_sd is None else prior_sd))


def design_pairs(items: Mapping[Any, Sequence[Any]] | Sequence[Any], *, degree: int = 8, design: Design = "cycles", seed: int = 0) -> Any:
    """Choose which pairs to compare before anything is known (paper section 4).

    Args:
        items: the items, all different and of one type; or a mapping from groups, as queries are, to their items. One item gives no
            pair, and so few that `degree` is out of reach give every pair once: n items have n - 1 others to be compared with.
        degree: comparisons per item, on average, a whole number >= 1; even for `cycles`.
        design: `cycles`, edge-disjoint random Hamiltonian cycles: each item is compared exactly `degree` times and shown first in
            half of these; `random`, `bipartite` or `all`, see `core.designs`.
        seed: of the draw; a group's pairs depend on it and the group's name only.

    Returns:
        An Arrow table with `first` (to be shown first) and `second`, and before them `group` if a mapping was given.

    Raises:
        InputError: a degree or design out of range, an item that stands twice in its group or is none, items of several types, or
            something that is no sequence of items, as a frame, a string or a set.
    """
    import pyarrow as pa

    from zelo.core.comparison_graph import hamiltonian_cycles, rng_for
    from zelo.core.designs import draw_pairs

    degree = _whole(degree, "degree", 1)
    groups = items if isinstance(items, Mapping) else {"": items}
    columns: dict[str, list[Any]] = {"group": [], "first": [], "second": []}
    for name, members in groups.items():
        listed = _listed(members, "the items" if not isinstance(items, Mapping) else f"group {name!r}")
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
    except (pa.ArrowException, OverflowError) as error:
        raise InputError(f"the items or groups differ in type ({error})", remedy="give all of them as strings") from error


def _listed(members: Any, where: str) -> list[Any]:
    """Return the items of a group as a list, or say why they are none."""
    remedy = "give a list of items, or a mapping from groups to lists of items"
    if isinstance(members, str | bytes | Set | Mapping) or any(hasattr(members, name) for name in ("columns", "column_names")):
        raise InputError(f"a {type(members).__name__} is no sequence of items", where=where, remedy=remedy)
    try:
        listed = members.to_pylist() if hasattr(members, "to_pylist") else list(members)
        missing = [n for n, item in enumerate(listed) if item is None or (isinstance(item, float) and item != item)]
        different = len(set(listed))
    except TypeError as error:
        raise InputError(f"not a sequence of ids ({error})", where=where, remedy=remedy) from error
    if missing:
        raise InputError(f"item {missing[0]} is missing", where=where, remedy="leave it out or name it")
    if different < len(listed):
        seen: set[Any] = set()
        twice = next(item for item in listed if item in seen or seen.add(item))  # type: ignore[func-returns-value]
        raise InputError(f"{twice!r} stands twice among the items", where=where, remedy="give each item once")
    return listed


def _whole(value: Any, name: str, least: int) -> int:
    """Return a whole number >= least, or say that it is none."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} must be a whole number >= {least}, got {value!r}")
    return int(value)


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
        count: pairs per group, a whole number >= 0; fewer where fewer are left that were never asked. No pair comes twice.
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
    wanted = min(_whole(count, "count", 0), np.iinfo(np.int64).max)
    problem = Problem(preferences, columns)
    batch, n = problem.batch, np.diff(problem.starts)
    names = problem.group_names() or [""] * len(n)
    counts = np.minimum(wanted, n * (n - 1) // 2)
    plan = plan_round(batch, names, aim=aim, count=counts, tolerance=tolerance, seed=seed, link=link, prior_sd=prior_sd)
    group_of = np.repeat(np.arange(len(names)), np.diff(plan.rows))
    starts = problem.starts[group_of]
    pairs = {"first": problem.names(starts + plan.first), "second": problem.names(starts + plan.second)}
    return like(preferences, pa.table(problem.group_column(group_of) | pairs))
