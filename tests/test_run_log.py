"""The log of a training: what is said about it, its picture, TensorBoard's files."""

from __future__ import annotations

import importlib.util
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner

from zelo.cli import cli
from zelo.errors import InputError, MissingExtraError
from zelo.report.run_log import RunLog, find_log, read_log, summary, to_svg, to_tensorboard

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """40 steps of 100 tokens, half a second each; evaluations after 20 and 40."""
    lines: list[dict[str, object]] = []
    for step in range(1, 41):
        lines.append({"step": step, "epoch": 0, "loss": 1 / step, "tokens": 100, "tokens_per_second": 200.0})
        if step % 20 == 0:
            lines.append({"step": step, "evaluation": {"loss": 0.5 - step / 100, "nDCG@10": 0.9 - step / 100}})
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 41, "lo', "utf-8")
    return tmp_path


def log_of(folder: Path) -> RunLog:
    return read_log(find_log(folder))


def test_a_log_is_read_and_summed_up(folder: Path) -> None:
    found = log_of(folder)
    assert found.steps["loss"].steps == list(range(1, 41))  # the torn last line is left out
    assert found.evaluations["nDCG@10"].values == pytest.approx([0.7, 0.5])
    lines = summary(found)
    assert (
        lines[0] == f"steps 40; loss {(1 + 1 / 2 + 1 / 3 + 1 / 4) / 4:.4f} at first, {(1 / 37 + 1 / 38 + 1 / 39 + 1 / 40) / 4:.4f} at last"
    )
    assert lines[1] == "tokens 4,000; 200 per second"
    assert lines[2:] == [
        "held-out queries, loss: 0.1000 at step 40; best 0.1000 at step 40",
        "held-out queries, nDCG@10: 0.5000 at step 40; best 0.7000 at step 20",
    ]


def test_the_picture_has_a_panel_per_value(folder: Path) -> None:
    root = ET.fromstring(to_svg(log_of(folder), "a < b"))
    panels = root.findall(f"{SVG}g")
    names = [panel.findtext(f"{SVG}text") for panel in panels]
    assert names == ["loss of a step, and its running mean", "held-out queries: loss", "held-out queries: nDCG@10", "tokens per second"]
    assert root.findtext(f"{SVG}text") == "a < b"
    for panel, points in zip(panels, (40, 2, 2, 40), strict=True):
        line = next(p.attrib["d"] for p in panel.iter(f"{SVG}path") if p.attrib["class"] in ("line", "pale"))
        assert line.count("L") == points - 1
    x, y = next(p.attrib["d"] for p in panels[0].iter(f"{SVG}path") if p.attrib["class"] == "pale")[1:].split("L")[0].split()
    assert (float(x), float(y)) == pytest.approx((720 / 40, 150 * (1 - 0.94 / 1.06)), abs=12)  # the first loss is the highest


def test_a_long_log_makes_a_small_picture(tmp_path: Path) -> None:
    (tmp_path / "training.jsonl").write_text("".join(f'{{"step": {i}, "loss": 1.0}}\n' for i in range(1, 10_001)), "utf-8")
    text = to_svg(log_of(tmp_path))
    assert text.count("L") < 5_000
    assert "tokens per second" not in text  # a model folder's log has no speeds


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no step with a loss"), ("[]\n", "log.jsonl:1"), ('{"loss": 1}\n', "log.jsonl:1"), ('{"step": 1, "loss": "x"}\n', "log.jsonl:1")],
)
def test_what_is_no_log_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "log.jsonl").write_text(text, "utf-8")
    with pytest.raises(InputError, match=message):
        log_of(tmp_path)
    with pytest.raises(InputError, match="no training log"):
        find_log(tmp_path / "nothing")


def test_the_command_without_tensorboard_says_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match="package tensorboard is not installed") as caught:
        to_tensorboard(log_of(folder), folder / "events")
    assert "\n" not in str(caught.value)
    assert "pip install tensorboard" in str(caught.value)
    assert not (folder / "events").exists()
    done = CliRunner().invoke(cli, ["log", str(folder), "--svg", str(folder / "log.svg")])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == f"{folder / 'log.svg'}: written"
    ET.parse(folder / "log.svg")


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_reads_what_was_logged(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert to_tensorboard(log_of(folder), folder / "events") == 40 * 4 + 2 * 2
    events = EventAccumulator(str(folder / "events"))
    events.Reload()
    assert [e.value for e in events.Scalars("step/loss")] == pytest.approx([1 / s for s in range(1, 41)])
    assert [(e.step, e.value) for e in events.Scalars("held_out/nDCG@10")] == [(20, pytest.approx(0.7)), (40, pytest.approx(0.5))]
