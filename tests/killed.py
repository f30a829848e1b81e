"""Run a workspace again and again, killed at another place each time, until it is done: `python killed.py WORKSPACE MODE`.

MODE "stages": killed with SIGKILL at two places of every stage, at more of some. MODE "moments": killed after growing pauses.
Prints how often it was killed. One process that forks, so that Python and its modules start once.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zelo import pipeline, runner, workspace
from zelo.encoders.lexical import detect_language
from zelo.encoders.weights import DEFAULT_MODEL, model_digest, resolve_model
from zelo.judges.journal import Journal
from zelo.pipeline import DIRECT, Context
from zelo.progress import Progress
from zelo.shards import Executor
from zelo.workspace import Entry, Workspace


def die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str) -> Callable[[], None]:
    """Die instead of the first call."""
    return lambda: setattr(owner, name, die)


def after(owner: Any, name: str, calls: int) -> Callable[[], None]:
    """Die when so many calls are done."""

    def arm() -> None:
        inner, left = getattr(owner, name), [calls]

        def counted(*arguments: Any, **named: Any) -> Any:
            result = inner(*arguments, **named)
            left[0] -= 1
            return die() if left[0] == 0 else result

        setattr(owner, name, counted)

    return arm


def torn() -> None:
    """Die within the last write: half of the manifest's line."""

    def half(self: Workspace, line: str) -> None:
        with (self.root / "manifest.jsonl").open("a") as manifest:
            manifest.write(line[: len(line) // 2])
        die()

    Workspace._append = half  # type: ignore[method-assign]


def half_written() -> None:
    """Die in the middle of the work: the artifact's file is there, and not whole."""
    inner = Context.write

    def write(self: Context, artifact: str) -> Path:
        path = inner(self, artifact)
        if path.suffix:
            path.write_text("half of")
        else:
            path.mkdir()
            (path / "half").write_text("half of")
        return die()

    Context.write = write  # type: ignore[method-assign]


class _Os:
    """`os` with a `replace` of its own, for workspace.py alone."""

    def __init__(self, calls: int) -> None:
        self.replace = os.replace
        after(self, "replace", calls)()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


EVERYWHERE = (half_written, torn)
SOME = (
    before(Workspace, "publish"),
    lambda: setattr(workspace, "os", _Os(1)),  # the first of its outputs is in its place, the others are not
    after(Workspace, "_append", 1),  # all is done but .partial is left
)
IN_JUDGE = (before(Journal, "add"), after(Journal, "add", 3), after(Journal, "add", 11))


def when_in(stage: str, arm: Callable[[], None]) -> Callable[[], None]:
    """Arm when this stage begins: what an earlier one left undone is done first."""
    inner = runner._run_stage

    def run_stage(opened: Workspace, next_stage: pipeline.Stage, progress: Progress, executor: Executor) -> Entry:
        if next_stage.name == stage:
            arm()
        return inner(opened, next_stage, progress, executor)

    return lambda: setattr(runner, "_run_stage", run_stage)


def child(root: Path, arm: Callable[[], None], stop: str | None, pause: float | None = None) -> int:
    """Return the signal that ended a process that runs the workspace, or 0 if it came to its end."""
    process = os.fork()
    if process == 0:
        try:
            arm()
            runner.run(Workspace.open(root), stop=stop)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(70)
    if pause is not None:
        time.sleep(pause)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"failed with {os.WEXITSTATUS(status)}")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def main() -> None:
    root, mode = Path(sys.argv[1]), sys.argv[2]
    for stage in DIRECT:
        importlib.import_module(stage.module)
    for name in ("bm25s", "jinja2", "openvino", "py3langid.langid", "pyarrow.parquet", "scipy.optimize", "tokenizers"):
        importlib.import_module(name)
    model_digest(resolve_model(DEFAULT_MODEL))  # both are remembered
    detect_language(["so is this"])
    killed = 0
    if mode == "stages":
        for stage in DIRECT:
            first = IN_JUDGE if stage.name == "judge" else ()
            last = SOME if stage.name in ("ingest", "pool") else ()
            for arm in (*first, *EVERYWHERE, *last):
                if child(root, when_in(stage.name, arm), stage.name) != signal.SIGKILL:
                    raise SystemExit(f"{stage.name}: was not killed")
                killed += 1
        child(root, lambda: None, None)
    else:
        pause = 0.05
        while child(root, lambda: None, None, pause):
            killed += 1
            pause *= 1.6
    print(killed)


if __name__ == "__main__":
    main()
