"""A made-up month with a fault on a known day (experiments/watch): found in time, in the right kind; an ordinary month stays quiet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from zelo.recipe import Watch
from zelo.watching.drift import assess
from zelo.watching.finding import prepare
from zelo.watching.judging import judge_searches
from zelo.watching.sampling import Gathered

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments" / "watch"))

from world import FAULTS, World

FIRST, DAYS = 9, 14
SETTINGS = Watch(per_day=30, anchors=3)


def alarms(fault: str, seed: int) -> dict[int, Any]:
    """Day -> the kinds that `zelo watch` names that evening, on days of alarm."""
    world = World(seed, queries=120, new=40)
    panel, anchors, sealed, found = world.panel([0.9, 0.9]), world.anchors(), {}, {}
    for count, (day, searches) in enumerate(world.month(fault, FIRST, 0.5, DAYS, 60).items()):
        gathered = Gathered(seed)
        for search in searches:
            gathered.add(search)
        sampled = gathered.sample(SETTINGS.per_day)
        prepared = [prepare(one.search, world, SETTINGS.challengers, SETTINGS.depth) for one in sampled]
        rows = judge_searches(prepared, panel, anchors, SETTINGS.anchors, seed)
        sealed[day] = {"judges": [], "rows": [row | {"weight": one.weight} for row, one in zip(rows, sampled, strict=True)]}
        drift = assess(sealed, SETTINGS)
        if drift.alarms:
            found[count] = drift.likely
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_within_four_days_and_put_into_its_kind(fault: str) -> None:
    found = alarms(fault, 3)
    assert FIRST <= min(found) < FIRST + 4
    assert found[max(found)] == fault


def test_an_ordinary_fortnight_has_no_alarm() -> None:
    assert alarms("none", 3) == {}
