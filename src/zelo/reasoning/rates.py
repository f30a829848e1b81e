"""Pass rates of a reference model that come in a file: problem -> rate, or rates, for instance over the steps of a training."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zelo.collections.lines import shown
from zelo.errors import InputError
from zelo.reasoning.difficulty import counts_of, from_rate, tiers_line
from zelo.reasoning.folder import Folder

RATES = "pass_rates.json"
LOW, HIGH = 0.1, 0.9
"""Rates below and from which are counted apart: problems that hardly teach."""
BINS = 10
_REMEDY = 'write {"problem": 0.5, ...}, or a list of rates for each'
Rates = Mapping[str, tuple[float, int]]
"""Problem -> (pass rate, answers behind it)."""


def read_pass_rates(path: Path, per_rate: int = 1) -> dict[str, tuple[float, int]]:
    """Read pass rates: JSON, problem -> rate, list of rates, or {"rate": 0.5, "answers": 8}.

    Args:
        path: the file.
        per_rate: answers behind each rate that does not say it; 1 is cautious.

    Returns:
        problem -> (mean rate, answers behind it).

    Raises:
        InputError: it holds something else.
    """
    try:
        table = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot be read as JSON ({error})", where=str(path), remedy=_REMEDY) from error
    found = {}
    for name, value in table.items() if isinstance(table, dict) else ():
        stated = value if isinstance(value, dict) else {}
        rates = [stated.get("rate")] if stated else value if isinstance(value, list) else [value]
        answers = stated.get("answers", per_rate * len(rates))
        sound = all(isinstance(r, int | float) and not isinstance(r, bool) and 0 <= r <= 1 for r in rates)
        if not rates or not sound or not isinstance(answers, int) or answers < 1:
            raise InputError(f"the rates of {shown(name)} are not in [0, 1]", where=str(path), remedy=_REMEDY)
        found[str(name)] = (sum(rates) / len(rates), answers)
    if not found:
        raise InputError("there are no pass rates", where=str(path), remedy=_REMEDY)
    return found


def merge_rates(folder: Folder, rates: Rates) -> tuple[int, int]:
    """Add rates to those of a folder, a problem's new rate in the place of its old one; returns how many are new and how many in all.

    The same file twice must not count twice, so rates of one problem are not averaged over files.
    """
    before = imported_rates(folder)
    after = before | dict(rates)
    body = {name: {"rate": rate, "answers": answers} for name, (rate, answers) in after.items()}
    folder.write(folder.root / RATES, lambda path: path.write_text(json.dumps(body, ensure_ascii=False) + "\n", "utf-8"))
    return len(after) - len(before), len(after)


def imported_rates(folder: Folder) -> dict[str, tuple[float, int]]:
    """Return the pass rates that were imported, by the names of their files; none where there are none."""
    path = folder.root / RATES
    return read_pass_rates(path) if path.is_file() else {}


def rates_of(problem_ids: Iterable[str], rates: Rates) -> dict[str, tuple[float, int]]:
    """Return the rates of problems, by problem id.

    Problems that are numbered in their file have its name before the number here, and rates often go by the number alone: such a
    rate is that of the one problem with this number, if there is one only.
    """
    ids = list(problem_ids)
    tails = Counter(_number(name) for name in ids)
    found = {}
    for name in ids:
        number = _number(name)
        known = rates.get(name) or (rates.get(number) if number and tails[number] == 1 else None)
        if known is not None:
            found[name] = known
    return found


def _number(problem_id: str) -> str:
    tail = problem_id.rpartition("-")[2]
    return tail if tail.isdigit() and tail != problem_id else ""


@dataclass(frozen=True)
class RatesSummary:
    """What imported rates say.

    Attributes:
        problems: with a rate.
        here: of them in the folder.
        low: with a rate below `LOW`.
        high: with a rate from `HIGH`.
        tiers: tier -> problems.
        certain: with their whole interval in their tier.
        bins: problems by rate, `BINS` of equal width, the last one with 1.
    """

    problems: int
    here: int
    low: int
    high: int
    tiers: Mapping[str, int]
    certain: int
    bins: Sequence[int]

    def line(self) -> str:
        """Return it for people."""
        tiers = tiers_line(self.tiers, {"rates": self.problems}, self.certain)
        return (
            f"imported rates: {self.problems:,} problems, {self.here:,} of them here; {self.low:,} below {LOW:g}, "
            f"{self.high:,} from {HIGH:g}\n  difficulty   {tiers}"
        )


def summary(folder: Folder) -> RatesSummary | None:
    """Return what the imported rates of a folder say, None where there are none."""
    rates = imported_rates(folder)
    if not rates:
        return None
    values = np.array([rate for rate, _ in rates.values()])
    tiers, _, certain = counts_of([from_rate(rate, answers, "rates") for rate, answers in rates.values()])
    here = len(rates_of(folder.problems(), rates)) if folder.has_problems() else 0
    bins = np.histogram(values, BINS, (0.0, 1.0))[0].tolist()
    return RatesSummary(len(rates), here, int((values < LOW).sum()), int((values >= HIGH).sum()), tiers, certain, bins)
