"""What are the votes made of, and which of it is worth a term in the fit?

python experiments/terms/run.py [--queries 200] [--only order judges ties prior coverage joint real] [--workspaces FOLDER ...]
    [--out FILE]

Simulations with known truth (simulations.py), and real candidates in workspaces whose stage `judge` has run (real.py). Writes
results.jsonl beside this file, keeping the lines of parts that were not run, and prints the tables of README.md.
With another number of queries it writes to --out alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from real import SIMULATED, compare
from simulations import COVERED, PARTS

Row = dict[str, Any]
RESULTS = Path(__file__).parent / "results.jsonl"


def rounded(value: Any) -> Any:
    """Five digits are enough for a table."""
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return value if isinstance(value, bool | str | int) else float(f"{float(value):.5g}")


def show(rows: list[Row]) -> Iterator[str]:
    """The tables of README.md."""
    for part in dict.fromkeys(row["part"] for row in rows):
        of = [row for row in rows if row["part"] == part]
        yield f"\n## {part}"
        if part == "coverage":
            recipes = list(dict.fromkeys(row["recipe"] for row in of))
            yield f"| link | votes | dispersion | {' | '.join(recipes)} |"
            for link in ("probit", "logit"):
                for votes in COVERED:
                    cells = {row["recipe"]: row for row in of if (row["link"], row["votes"]) == (link, votes)}
                    if cells:
                        values = " | ".join(f"{cells[r]['coverage']:.3f}" for r in recipes)
                        yield f"| {link} | {votes} | {cells['weights']['dispersion']:.2f} | {values} |"
            continue
        keys = [k for k in of[0] if k not in ("part", "queries")]
        keys += [k for row in of for k in row if k not in (*keys, "part", "queries")]
        keys = list(dict.fromkeys(keys))
        yield f"| {' | '.join(keys)} |"
        for row in of:
            yield f"| {' | '.join(cell(row.get(k, '')) for k in keys)} |"


def cell(value: Any) -> str:
    """A value as text."""
    if isinstance(value, list):
        return ", ".join(f"{v:.2f}" for v in value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--out", type=Path, help="default results.jsonl beside this file, or nothing with another number of queries")
    parser.add_argument("--only", nargs="+", choices=[*PARTS, "real"], default=[*PARTS, "real"])
    parser.add_argument("--workspaces", nargs="*", type=Path, default=[])
    options = parser.parse_args()
    out = options.out or (RESULTS if options.queries == parser.get_default("queries") else None)
    for part in options.only:
        ran: list[Row] = []
        for rows in [PARTS[part](options.queries)] if part in PARTS else real(options.workspaces):
            ran += [{k: rounded(v) for k, v in row.items()} for row in rows]
        if ran:
            if out:
                kept = [json.loads(line) for line in out.read_text("utf-8").splitlines()] if out.is_file() else []
                rest = [row for row in kept if row["part"] not in {made["part"] for made in ran}]
                out.write_text("".join(json.dumps(row) + "\n" for row in rest + ran), "utf-8")
            print("\n".join(show(ran)), flush=True)


def real(workspaces: list[Path]) -> Iterator[Iterator[Row]]:
    """Every collection by the offline judges, the first one by simulated judges too."""
    for root in workspaces:
        for judges in ("offline", *(SIMULATED if root == workspaces[0] else ())):
            yield compare(root, judges)


if __name__ == "__main__":
    main()
