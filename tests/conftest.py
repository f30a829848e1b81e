"""Helpers that several test files use."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

# Workers of the suite share the cores: threads that wait for each other by spinning cost twice the work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # no test sends anything to anybody

REPO = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("ZELO_SHARED", REPO.parent / "shared"))


def shared_collection(name: str) -> Path:
    """Return the folder of a real collection kept outside the repository, or skip the test where it is absent."""
    folder = SHARED / "collections" / name
    if not folder.is_dir():
        pytest.skip(f"collection {name} is not at {folder} (set ZELO_SHARED)")
    return folder


def shared_reasoning(name: str) -> Path:
    """Return a file of real problems and traces kept outside the repository, or skip the test where it is absent."""
    path = SHARED / "reasoning" / name
    if not path.is_file():
        pytest.skip(f"{name} is not at {path} (set ZELO_SHARED)")
    return path


SMALL = {
    "ingest": {"collection": "synthetic", "max_train_queries": 8, "max_test_queries": 8},
    "retrieve": {"candidates": 20},
    "pair": {"degree": 4},
    "evaluate": {"resamples": 200},
    "report": {"examples": 2},
}
"""A recipe with which the whole line takes some seconds."""


@dataclass(frozen=True)
class Ran:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def zelo(*arguments: str | Path, stdin: bytes = b"") -> Ran:
    """Run the command line in this process."""
    from zelo.cli import main

    out, err = io.StringIO(), io.StringIO()
    before = sys.argv, sys.stdin
    given = io.BytesIO(stdin)
    given.name = "<stdin>"  # type: ignore[attr-defined]
    sys.argv, sys.stdin = ["zelo", *map(str, arguments)], io.TextIOWrapper(given, "utf-8")
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as left:
            main()
    finally:
        sys.argv, sys.stdin = before
    return Ran(int(left.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after the whole line on the synthetic collection; do not change it, take `workspace`."""
    from filelock import FileLock

    from zelo import runner
    from zelo.recipe import from_dict
    from zelo.workspace import Workspace

    base = tmp_path_factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished-by-one"  # of the workers, for all
    with FileLock(f"{made}.lock"):
        if not made.exists():
            runner.run(Workspace.create(made.with_name("finishing"), from_dict(SMALL)))
            made.with_name("finishing").rename(made)
    return shutil.copytree(made, tmp_path_factory.mktemp("finished") / "ws")


@pytest.fixture
def workspace(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished workspace, times of files included."""
    return shutil.copytree(finished, tmp_path / "ws")
