"""Kill it at any moment and run it again: the same files, byte for byte, as if nothing had happened."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import SMALL
from zelo import pipeline, runner
from zelo.recipe import from_dict
from zelo.workspace import Workspace

HOLD_TIMES = {"manifest.jsonl", "judgments.sqlite", "judgments.sqlite-wal", "judgments.sqlite-shm", ".lock", "report/index.html"}
DRIVER = Path(__file__).with_name("killed.py")


def files(root: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(root)): p for p in root.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name not in HOLD_TIMES}


def assert_same(root: Path, undisturbed: Path) -> None:
    ours, theirs = files(root), files(undisturbed)
    assert sorted(ours) == sorted(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert (root / "report" / "index.html").stat().st_size > 1000
    assert all(state.done for state in runner.status(Workspace.open(root)))
    assert not (root / ".partial").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize(("mode", "least"), [("stages", 2 * len(pipeline.DIRECT) + 9), ("moments", 4)])
def test_killed(mode: str, least: int, finished: Path, tmp_path: Path) -> None:
    Workspace.create(tmp_path / "ws", from_dict(SMALL))
    done = subprocess.run([sys.executable, DRIVER, tmp_path / "ws", mode], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= least
    assert_same(tmp_path / "ws", finished)


def test_interrupted(finished: Path, tmp_path: Path) -> None:
    Workspace.create(tmp_path / "ws", from_dict(SMALL))
    command = [sys.executable, "-m", "zelo", "run", tmp_path / "ws"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("judge: "):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest.splitlines()[-1] == "zelo: interrupted; the same command goes on from here"
    assert "Traceback" not in rest
    assert not (tmp_path / "ws" / ".partial").exists()
    runner.run(Workspace.open(tmp_path / "ws"))
    assert_same(tmp_path / "ws", finished)
