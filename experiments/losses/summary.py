"""Figures of the losses experiment from its runs."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.core.significance import bootstrap_interval, holm, paired_randomization_test


def summarize(runs: Path, out: Path) -> None:
    """Write a line per task, votes and loss, and print tables; `pairs` is compared with each other loss, over queries."""
    values: dict[tuple[str, int], dict[str, list[NDArray[np.float64]]]] = defaultdict(lambda: defaultdict(list))
    rows = [json.loads(line) for line in runs.read_text().splitlines()]
    scores: dict[tuple[str, int], list[float]] = defaultdict(list)
    for row in rows:
        values[row["task"], row["votes"]][row["loss"]].append(np.array(row["values"]))
        if "scores" in row:
            scores[row["task"], row["votes"]].append(row["scores"])
    lines: list[dict[str, Any]] = []
    for (task, votes), of_loss in sorted(values.items()):
        # Test queries of the synthetic task differ between seeds, those of collections do not.
        join = np.concatenate if task == "synthetic" else lambda v: np.mean(v, axis=0)
        means = {loss: join(v) for loss, v in of_loss.items()}
        rng = np.random.default_rng(0)
        others = [loss for loss in means if loss != "pairs" and "pairs" in means]
        p = (
            dict(zip(others, holm([paired_randomization_test(means["pairs"], means[o], rng=rng) for o in others]), strict=True))
            if others
            else {}
        )
        for loss, found in means.items():
            low, high = bootstrap_interval(found, rng=rng)
            seeds = [float(v.mean()) for v in of_loss[loss]]
            row = {
                "task": task,
                "votes": votes,
                "loss": loss,
                "value": round(float(found.mean()), 4),
                "interval": [round(low, 4), round(high, 4)],
            }
            row |= {"seeds": [round(s, 4) for s in seeds]}
            if loss in p:
                ahead = means["pairs"] - found
                low, high = bootstrap_interval(ahead, rng=rng)
                row |= {
                    "pairs_ahead": round(float(ahead.mean()), 4),
                    "ahead_interval": [round(low, 4), round(high, 4)],
                    "p_holm": round(float(p[loss]), 4),
                }
            if scores[task, votes]:
                row["scores"] = round(float(np.mean(scores[task, votes])), 4)
            lines.append(row)
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for task in dict.fromkeys(line["task"] for line in lines):
        names = ("mse", "bce", "ranknet", "listwise_kl", "pairs")
        print(f"\n{task}\n\n| votes per query | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
        for votes in sorted({line["votes"] for line in lines if line["task"] == task}):
            cells = {line["loss"]: line for line in lines if (line["task"], line["votes"]) == (task, votes)}
            marked = [_cell(cells[n]) if n in cells else "" for n in names]
            print(
                f"| {votes} | "
                + " | ".join(marked)
                + " |"
                + (f" untrained {cells['untrained']['value']:.3f}" if "untrained" in cells else "")
            )


def _cell(line: dict[str, Any]) -> str:
    """The mean over seeds, their standard deviation, and a star where it differs from `pairs`."""
    spread = f" ± {np.std(line['seeds'], ddof=1):.3f}" if len(line["seeds"]) > 1 else ""
    return f"{line['value']:.3f}{spread}{'*' if line.get('p_holm', 1) < 0.05 else ''}"
