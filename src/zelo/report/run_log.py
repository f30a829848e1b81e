"""The log of a training: read, drawn, and handed to TensorBoard.

`training.loop` writes a line of JSON per step and one per evaluation. A model folder keeps them as `training.jsonl`, without speeds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zelo.encoders.extras import import_extra
from zelo.errors import InputError, MissingExtraError
from zelo.report.figures import Axis, axis

FloatArray = NDArray[np.float64]

NAMES = ("log.jsonl", "training.jsonl")
WIDTH, HEIGHT, LEFT, TOP = 720, 150, 70, 34  # of a panel's plot, and the room for its labels, in pixels
_POINTS = 2_000  # of a line; more are averaged in groups: a screen shows no more
_STYLE = (
    "svg{font:13px system-ui,sans-serif;background:#fdfdfb;color:#1c1e21}text{fill:currentColor}.soft{fill:#5d6470}"
    ".grid{stroke:#e3e3dd}.line{stroke:#1f5fa8}.dots{fill:#1f5fa8}.pale{stroke:#1f5fa8;opacity:.25}"
    "@media(prefers-color-scheme:dark){svg{background:#15171a;color:#e6e6e2}.soft{fill:#9aa1ac}.grid{stroke:#2e3238}"
    ".line,.pale{stroke:#7db4ee}.dots{fill:#7db4ee}}"
)


@dataclass
class Series:
    """Values by step."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, step: int, value: float) -> None:
        """Add a point."""
        self.steps.append(step)
        self.values.append(value)


@dataclass
class RunLog:
    """A training's log.

    Attributes:
        steps: name -> one value per step: loss, learning_rate, gradient_norm, tokens, tokens_per_second, ...
        evaluations: name -> one value per evaluation on held-out queries: loss, nDCG@10, accuracy, ...
    """

    steps: dict[str, Series] = field(default_factory=dict)
    evaluations: dict[str, Series] = field(default_factory=dict)


def find_log(path: Path) -> Path:
    """Return a log: the file itself, or the one in a folder.

    Raises:
        InputError: there is none.
    """
    if path.is_file():
        return path
    for name in NAMES:
        if (path / name).is_file():
            return path / name
    raise InputError("no training log", where=str(path), remedy=f"give a file, or a folder with {' or '.join(NAMES)}")


def read_log(path: Path) -> RunLog:
    """Read a log. A last line without an end, which a killed training leaves, is left out.

    Raises:
        InputError: a line is not one of a training log, or there is none.
    """
    found = RunLog()
    for number, line in enumerate(path.read_text("utf-8").splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            continue
        try:
            row = json.loads(line)
            step, held = int(row.pop("step")), row.pop("evaluation", {})
            numbers = [(found.steps, n, float(v)) for n, v in row.items()] + [(found.evaluations, n, float(v)) for n, v in held.items()]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError("not a line of a training log", where=f"{path}:{number}") from error
        for group, name, value in numbers:
            group.setdefault(name, Series()).add(step, value)
    if "loss" not in found.steps:
        raise InputError("the log has no step with a loss", where=str(path), remedy="train for at least one step")
    return found


def summary(log: RunLog) -> list[str]:
    """Return what a log says, line by line: loss at the start and the end (means of a tenth), speed, evaluations."""
    loss = log.steps["loss"]
    tenth = max(1, len(loss.values) // 10)
    lines = [f"steps {loss.steps[-1]:,}; loss {np.mean(loss.values[:tenth]):.4f} at first, {np.mean(loss.values[-tenth:]):.4f} at last"]
    if "tokens_per_second" in log.steps:
        tokens, speeds = np.array(log.steps["tokens"].values), np.array(log.steps["tokens_per_second"].values)
        lines.append(f"tokens {int(tokens.sum()):,}; {tokens.sum() / (tokens / speeds).sum():,.0f} per second")
    for name, series in log.evaluations.items():
        best = int(np.argmin(series.values) if name in ("loss", "excess") else np.argmax(series.values))
        last = f"{series.values[-1]:.4f} at step {series.steps[-1]:,}"
        lines.append(f"held-out queries, {name}: {last}; best {series.values[best]:.4f} at step {series.steps[best]:,}")
    return lines


def to_svg(log: RunLog, title: str = "") -> str:
    """Return a picture: loss of the steps, each evaluated value on held-out queries, tokens per second."""
    panels = [("loss of a step, and its running mean", log.steps["loss"], True)]
    panels += [(f"held-out queries: {name}", series, False) for name, series in log.evaluations.items()]
    if "tokens_per_second" in log.steps:
        panels.append(("tokens per second", log.steps["tokens_per_second"], True))
    last = max(series.steps[-1] for _, series, _ in panels)
    height = 30 + len(panels) * (HEIGHT + TOP + 22)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT + 20} {height}" role="img" aria-label="Training log">',
        f"<style>{_STYLE}</style>",
        f'<text x="8" y="20" font-weight="600">{escape(title)}</text>',
    ]
    for number, (name, series, noisy) in enumerate(panels):
        parts.append(f'<g transform="translate({LEFT},{30 + number * (HEIGHT + TOP + 22) + TOP})">{_panel(name, series, last, noisy)}</g>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(name: str, series: Series, last: int, noisy: bool) -> str:
    steps, values = _thinned(np.array(series.steps, float)), _thinned(np.array(series.values))
    down, across = axis([v for v in values if np.isfinite(v)], ticks=4), axis([0.0, float(last)], ticks=6, pad=0.0)
    parts = [f'<text x="0" y="-10" class="soft">{escape(name)}</text>']
    for tick in down.ticks:
        y = _y(down, tick)
        parts.append(
            f'<path d="M0 {y}H{WIDTH}" class="grid"/><text x="-8" y="{y + 4}" text-anchor="end" class="soft">{down.label(tick)}</text>'
        )
    for tick in across.ticks:
        parts.append(f'<text x="{_x(across, tick)}" y="{HEIGHT + 18}" text-anchor="middle" class="soft">{tick:,.0f}</text>')
    points = [(_x(across, s), _y(down, v)) for s, v in zip(steps.tolist(), values.tolist(), strict=True) if np.isfinite(v)]
    parts.append(_line(points, "pale" if noisy else "line"))
    if noisy:
        means = _running_mean(values)
        parts.append(_line([(_x(across, s), _y(down, v)) for s, v in zip(steps.tolist(), means.tolist(), strict=True)], "line"))
    else:
        parts += [f'<circle cx="{x}" cy="{y}" r="3" class="dots"/>' for x, y in points]
    return "".join(parts)


def _thinned(values: FloatArray) -> FloatArray:
    return np.array([part.mean() for part in np.array_split(values, min(len(values), _POINTS))])


def _running_mean(values: FloatArray) -> FloatArray:
    """Over the last twentieth of the line's points."""
    size = max(1, len(values) // 20)
    sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(values))])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - size)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def _line(points: Sequence[tuple[float, float]], kind: str) -> str:
    path = "M" + "L".join(f"{x} {y}" for x, y in points) if points else ""
    return f'<path d="{path}" fill="none" class="{kind}"/>'


def _x(scale: Axis, value: float) -> float:
    return round(scale.at(value) * WIDTH / 100, 1)


def _y(scale: Axis, value: float) -> float:
    return round(HEIGHT - scale.at(value) * HEIGHT / 100, 1)


def to_tensorboard(log: RunLog, folder: Path) -> int:
    """Write event files that TensorBoard shows: `step/NAME` and `held_out/NAME`.

    Returns:
        How many values were written.

    Raises:
        MissingExtraError: torch or tensorboard is not installed.
    """
    import_extra("torch", "torch")
    try:
        import_extra("tensorboard", "tensorboard")
    except MissingExtraError as error:  # in none of the extras: only who uses it needs it
        raise MissingExtraError("the package tensorboard is not installed", remedy="pip install tensorboard") from error
    writer = import_extra("torch.utils.tensorboard", "torch").SummaryWriter(log_dir=str(folder))
    count = 0
    with writer:
        for group, of_group in (("step", log.steps), ("held_out", log.evaluations)):
            for name, series in of_group.items():
                for step, value in zip(series.steps, series.values, strict=True):
                    writer.add_scalar(f"{group}/{name}", value, step)
                    count += 1
    return count
