"""report/standings.json: systems compared without labels, as `standings` writes it and the page and the terminal read it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from zelo.errors import InputError
from zelo.report.verdict import ALPHA, p_text, signed


@dataclass(frozen=True, slots=True)
class Standing:
    """One system. Values are nDCG against the scores, means over the questions and draws of the scores, corrected for the resolution.

    Attributes:
        system: its name.
        value: in [0, 1].
        low: lower end of the 95 % interval: judges, questions and votes drawn anew.
        high: upper end.
        from_queries: half of the 95 % interval that the choice of questions alone makes.
        from_votes: the same of what the answers leave open.
        from_judges: the same of which judges were called; None for one judge.
        answered: questions with a ranking.
        alone: share of its documents that no other system shows.
        alone_wins: chance of one of those to beat a random document of its question's pool; None where there are none.
        wins: the same of all documents that it shows.
    """

    system: str
    value: float
    low: float
    high: float
    from_queries: float
    from_votes: float
    from_judges: float | None
    answered: int
    alone: float
    alone_wins: float | None
    wins: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Two systems, the one with the higher value first.

    Attributes:
        better: its name.
        worse: the other's.
        difference: of the values, >= 0.
        low: lower end of its 95 % interval, as `Standing.low`.
        high: upper end.
        p_value: paired randomization test over the questions, two-sided, Holm-corrected over all pairs of systems.
        turned_by: judges without whom the order of the two is the other one.
        shown: p below ALPHA, the interval without 0, and the order the same whichever judge is left out.
    """

    better: str
    worse: str
    difference: float
    low: float
    high: float
    p_value: float
    turned_by: tuple[str, ...]
    shown: bool


@dataclass(frozen=True, slots=True)
class Side:
    """How far a judge sides with a system's documents, see `core.system_comparison.Siding`; `favors`: more than chance explains."""

    system: str
    own: float
    others: float
    excess: float
    low: float
    high: float
    p_value: float
    comparisons: int
    favors: bool


@dataclass(frozen=True, slots=True)
class JudgeView:
    """What one judge makes of the systems.

    Attributes:
        judge: its name.
        weight: of its votes in the ensemble.
        alone: system -> value by its answers alone.
        without: system -> value by all others; {} for a single judge.
        tau_alone: Kendall's tau of the order of systems alone with that of the ensemble; None where it is not defined.
        tau_without: the same without it.
        sides: one per system; () for a single judge.
        judgments: asked.
        missing: without usable answer.
        dollars: of the answers that count.
        tokens: read and written.
        seconds: sum over the answers.
    """

    judge: str
    weight: float
    alone: Mapping[str, float]
    without: Mapping[str, float]
    tau_alone: float | None
    tau_without: float | None
    sides: tuple[Side, ...]
    judgments: int
    missing: int
    dollars: float
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Standings:
    """The comparison as a whole; `systems` best first.

    `random` is the value that a random order of the pool has. `resolution` in (0, 1]: how far the judges' answers tell a random order
    from the true one, as a share of what the true scores would; values are corrected for it (`core.system_comparison.rescaled`).
    """

    measure: str
    questions: int
    skipped: int
    pairs: int
    pool: float
    random: float
    resolution: float
    systems: tuple[Standing, ...]
    differences: tuple[Difference, ...]
    judges: tuple[JudgeView, ...]
    agreement: tuple[tuple[str, str, float], ...]
    dollars: float
    resamples: int
    panels: int

    def find(self, better: str, worse: str) -> Difference | None:
        """Return what is known about two systems, named in either order."""
        return next((d for d in self.differences if {d.better, d.worse} == {better, worse}), None)


def write_standings(path: Path, standings: Standings) -> None:
    """Write the JSON file; NaN is not allowed in it."""
    path.write_text(json.dumps(asdict(standings), allow_nan=False, ensure_ascii=False, indent=1) + "\n", "utf-8")


def read_standings(path: Path) -> Standings:
    """Read it back.

    Raises:
        InputError: it is not such a file.
    """
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        data["systems"] = tuple(Standing(**row) for row in data["systems"])
        data["differences"] = tuple(Difference(**{**row, "turned_by": tuple(row["turned_by"])}) for row in data["differences"])
        data["judges"] = tuple(JudgeView(**{**row, "sides": tuple(Side(**side) for side in row["sides"])}) for row in data["judges"])
        data["agreement"] = tuple((a, b, value) for a, b, value in data["agreement"])
        return Standings(**data)
    except (OSError, ValueError, TypeError, KeyError) as error:
        remedy = "delete it and run again"
        raise InputError(f"not the file that `standings` writes ({error})", where=str(path), remedy=remedy) from error


def headline(found: Standings) -> str:
    """Return the answer in a sentence."""
    first, second = found.systems[:2]
    difference = found.find(first.system, second.system)
    tops = [s.system for s in found.systems[1:] if (d := found.find(first.system, s.system)) and not d.shown]
    if difference is not None and not tops:
        more = f"{difference.difference:.3f} ({signed(difference.low)} to {signed(difference.high)}) more than {second.system}"
        return f"{first.system} is the best of {len(found.systems)}: {found.measure} {first.value:.3f}, {more}."
    if len(tops) == len(found.systems) - 1:
        return f"No system is shown to be better than the others; {first.system} has the highest value, {first.value:.3f}."
    return f"{first.system} has the highest value, {first.value:.3f}, but is not shown to be better than {_listed(tops)}."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def warnings(found: Standings) -> Iterator[str]:
    """Yield what a reader must know before believing the order: who judges, and for whom."""
    if len(found.judges) == 1:
        only = found.judges[0].judge
        yield f"One judge, {only}: whether it favors systems of its own kind cannot be seen from its answers. Add judges of other kinds."
    for view in found.judges:
        favored = sorted((side for side in view.sides if side.favors and side.excess > 0), key=lambda side: -side.excess)
        if favored:
            top = favored[0]
            yield (
                f"{view.judge} sides with {_listed([side.system for side in favored])}: {view.judge} gives {top.system} {top.own:.0%} of "
                f"{top.comparisons:,} comparisons with what it does not show, the other judges {top.others:.0%}; "
                f"{signed(100 * top.excess, 1)} points ({signed(100 * top.low, 1)} to {signed(100 * top.high, 1)}) beyond sharpness."
            )
    best = found.systems[0].system
    for view in found.judges:
        if view.without and (other := max(view.without, key=lambda name: view.without[name])) != best:
            yield f"Without {view.judge} the best system is {other}, not {best}."


def lines(found: Standings) -> Iterator[str]:
    """Yield the tables for the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console(file=StringIO(), width=160, color_system=None, force_terminal=False)
    best = found.systems[0].system
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("system", overflow="fold")
    for name in (found.measure, "95 % interval", "questions", "votes", "judges", "to the best", "95 % interval", "p", "alone"):
        table.add_column(name, justify="right")
    for row in found.systems:
        table.add_row(row.system, *_cells(row), *_against(found.find(best, row.system), row.system == best), f"{row.alone:.0%}")
    console.print(table)
    console.print()
    views = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    views.add_column("by one judge alone", overflow="fold")
    for system in found.systems:
        views.add_column(system.system, justify="right")
    views.add_column("tau", justify="right")
    for view in found.judges:
        views.add_row(view.judge, *(f"{view.alone[s.system]:.3f}" for s in found.systems), _tau(view.tau_alone))
    for view in found.judges:
        if view.without:
            views.add_row(f"without {view.judge}", *(f"{view.without[s.system]:.3f}" for s in found.systems), _tau(view.tau_without))
    console.print(views)
    yield from (line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]
    yield ""
    yield headline(found)
    yield from (f"! {warning}" for warning in warnings(found))
    if found.skipped:
        yield (
            f"! {found.skipped:,} more question{'s are' if found.skipped != 1 else ' is'} left out: a pool of a single document, or no "
            "answer, so that nothing was compared."
        )
    yield (
        f"{found.questions:,} questions, {found.pairs:,} pairs, {found.pool:.0f} documents per question; a random order of them has "
        f"{found.random:.3f}. The answers resolve {found.resolution:.0%} of what true scores would. Cost: {money(found.dollars)}."
    )
    yield (
        "Intervals: questions, judges and votes drawn anew; the columns questions, votes and judges say how wide each alone would make "
        f"them (+-). p: randomization test, Holm; * = below {ALPHA:g}, the interval without 0 and no judge whose absence turns it. alone: "
        "share of documents that no other system found."
    )


def money(dollars: float) -> str:
    """Return dollars as people write them."""
    return "nothing" if dollars == 0 else f"${dollars:.2f}" if dollars >= 0.01 else f"${dollars:.4f}"


def _cells(row: Standing) -> list[str]:
    parts = (row.from_queries, row.from_votes, row.from_judges)
    return [f"{row.value:.3f}", f"{row.low:.3f}\N{EN DASH}{row.high:.3f}", *("" if p is None else f"{p:.3f}" for p in parts)]


def _against(difference: Difference | None, is_best: bool) -> list[str]:
    if difference is None:
        return ["best" if is_best else "", "", ""]
    interval = f"{signed(-difference.high)} to {signed(-difference.low)}"
    p_value = p_text(difference.p_value).removeprefix("p ").removeprefix("= ")
    return [signed(-difference.difference), interval, p_value + ("*" if difference.shown else " ")]


def _tau(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
