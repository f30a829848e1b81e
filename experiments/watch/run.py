"""Months of live traffic with a fault on a known day: is it found, when, in the right class, and how often is the alarm false?

python experiments/watch/run.py simulated [--months N] [--faulty N]
python experiments/watch/run.py real --workspace FOLDER --collection FOLDER [--months N] [--faulty N]
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from world import FAULTS, World

from zelo.recipe import Watch
from zelo.watching.drift import assess
from zelo.watching.finding import Finder, prepare
from zelo.watching.judging import Anchor, Panel, judge_searches
from zelo.watching.log import Search
from zelo.watching.sampling import Gathered

DAYS, FIRST = 30, 16
"""Days of a month, and the day (from 0) on which a fault begins: 7 of baseline, 9 ordinary ones before it."""
PANELS = {"one judge, accuracy .75": [0.75], "three judges, .75": [0.75] * 3, "three judges, .9": [0.9] * 3}
RESULTS = Path(__file__).parent / "results.jsonl"


def judged(log: Mapping[str, Sequence[Search]], finder: Finder, panel: Panel, anchors: Sequence[Anchor], settings: Watch, seed: int) -> Any:
    """Return the sealed days of a log, as the product judges them."""
    sealed = {}
    for day, searches in log.items():
        gathered = Gathered(seed)
        for search in searches:
            gathered.add(search)
        sampled = gathered.sample(settings.per_day)
        prepared = [prepare(one.search, finder, settings.challengers, settings.depth) for one in sampled]
        rows = judge_searches(prepared, panel, anchors, settings.anchors, seed)
        rows = [row | {"stratum": one.stratum, "weight": one.weight} for row, one in zip(rows, sampled, strict=True)]
        sealed[day] = {"judges": ["same"], "rows": [row for row in rows if not (row["quality"] is None and row["missing"])]}
    return sealed


def follow(sealed: Mapping[str, Any], settings: Watch, fault: str) -> dict[str, Any]:
    """Read the charts every evening, as somebody would who runs `zelo watch` every day, until the first alarm after the fault."""
    days = list(sealed)
    false, quiet, delay, kinds, alarmed = 0, 0, None, [], False
    for count in range(settings.baseline_days + 1, len(days) + 1):
        drift = assess({day: sealed[day] for day in days[:count]}, settings)
        place = count - 1
        if fault == "none" or place < FIRST:
            false += bool(drift.alarms) and not alarmed
            quiet += 1
            alarmed = bool(drift.alarms)
        elif drift.alarms:
            delay, kinds = place - FIRST + 1, drift.kinds or [drift.likely or "none"]
            break
    return {"fault": fault, "false": false, "quiet_days": quiet, "delay": delay, "kinds": kinds}


def summary(rows: Sequence[Mapping[str, Any]], strength: float | None, **about: Any) -> dict[str, Any]:
    """Return one line of results: detection with delays, the class named first, and false alarms per 100 ordinary days."""
    fault = rows[0]["fault"]
    quiet, false = sum(r["quiet_days"] for r in rows), sum(r["false"] for r in rows)
    line = {**about, "fault": fault, "months": len(rows), "ordinary_days": quiet, "false_alarms": false}
    line["false_alarms_per_100_days"] = round(100 * false / max(quiet, 1), 2)
    line["months_with_a_false_alarm"] = sum(r["false"] > 0 for r in rows)
    if fault != "none":
        delays = [r["delay"] for r in rows if r["delay"] is not None]
        line |= {"strength": strength, "found": len(delays), "delay_median": float(np.median(delays)) if delays else None}
        line |= {"delay_worst": max(delays, default=None), "within_3_days": sum(d <= 3 for d in delays)}
        line["first_kind"] = dict(Counter(r["kinds"][0] if r["kinds"] else "none" for r in rows if r["delay"] is not None))
        line["right_kind_named"] = sum(fault in r["kinds"] for r in rows)
    return line


def simulated(months: int, faulty: int, tell: Callable[[dict[str, Any]], None], only: str = "") -> None:
    """Run made-up months, a world each; `only` is a part of the panel's name, the fault and its strength."""
    settings = Watch()
    for name, accuracies in PANELS.items():
        for fault, strength in (("none", 0.0), *((f, s) for f in FAULTS for s in (0.2, 0.4))):
            if only not in f"{name} {fault} {strength}":
                continue
            start, rows = time.process_time(), []
            for seed in range(months if fault == "none" else faulty):
                world = World(seed)
                log = world.month(fault, FIRST, strength, DAYS, 200)
                sealed = judged(log, world, world.panel(accuracies), world.anchors(), settings, seed)
                rows.append(follow(sealed, settings, fault))
            line = summary(rows, strength, kind="simulated", panel=name, per_day=settings.per_day)
            tell(line | {"cpu_s": round(time.process_time() - start)})


def main() -> None:
    """Run one part and add its lines to results.jsonl."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["simulated", "real"])
    parser.add_argument("--months", type=int, default=60, help="months without a fault")
    parser.add_argument("--faulty", type=int, default=20, help="months per fault")
    parser.add_argument("--only", default="", help="cells whose name holds this, as in '.9 misranked 0.4'")
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--collection", type=Path)
    parser.add_argument("--split", default="train", help="of the collection, never a test split")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()

    def tell(line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)
        with given.out.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(line) + "\n")

    if given.part == "simulated":
        simulated(given.months, given.faulty, tell, given.only)
    else:
        from real import real

        real(given.workspace, (given.collection, given.split), given.months, given.faulty, tell, given.only)


if __name__ == "__main__":
    main()
