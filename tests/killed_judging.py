"""Kill a run of the stage `judge` again and again, and count at the model's server what was asked twice.

    python killed_judging.py WORKSPACE --kills N          a workspace that has run up to `pair`, its judges' server being up
    python killed_judging.py --runs 100                   makes all of it itself: its own workspace, server and 100 kills

A kill is SIGKILL at a random moment. One process that forks, so that Python and its modules start once. Prints one JSON object: kills,
and after each of them how many answers the journal had.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from zelo import runner
from zelo.workspace import Workspace

LATENCY, CONCURRENCY = 0.01, 4


def child(root: Path, pause: float | None) -> bool:
    """Run the stage in a fork; return whether it was killed before it was done."""
    process = os.fork()
    if process == 0:
        try:
            runner.run(Workspace.open(root), start="judge", stop="judge")
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
    return os.WIFSIGNALED(status)


def answers(root: Path) -> int:
    """How many usable answers the journal has."""
    if not (root / "judgments.sqlite").exists():
        return 0
    with sqlite3.connect(root / "judgments.sqlite") as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'attempts'").fetchone():
            return 0
        return int(database.execute("SELECT COUNT(*) FROM attempts WHERE status = 0").fetchone()[0])


def kill(root: Path, kills: int, seed: int, longest: float) -> dict[str, Any]:
    """Kill at so many random moments, then let it finish."""
    import aiohttp  # noqa: F401  (before the forks)

    import zelo.judges.llm
    import zelo.stages.judge  # noqa: F401

    rng, kept, killed = random.Random(seed), [], 0
    for _ in range(kills):
        killed += child(root, longest * rng.random())
        kept.append(answers(root))
    child(root, None)
    return {"kills": killed, "kept": [*kept, answers(root)]}


def settings(url: str, judges: int = 1) -> dict[str, str]:
    """Settings of a recipe whose judges are a server's models."""
    names = [f"{url}#m{n}" for n in range(judges)]
    models = ", ".join(f'"{name}" = {{concurrency = {CONCURRENCY}}}' for name in names)
    return {"judge.ensemble": json.dumps(names), "judge.models": f"{{{models}}}", "judge.timeout": "5"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workspace", nargs="?", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, help="seconds that a run is left alive at most; 1.2, with --runs .4")
    options = parser.parse_args()
    if not options.runs:
        print(json.dumps(kill(options.workspace, options.kills, options.seed, options.longest or 1.2)))
        return
    from conftest import SMALL
    from fault_server import FaultServer, text_of
    from zelo.recipe import from_dict

    small = {**SMALL, "ingest": {"collection": "synthetic", "max_train_queries": 40, "max_test_queries": 40}, "pair": {"degree": 8}}
    with tempfile.TemporaryDirectory() as folder:
        opened = Workspace.create(Path(folder) / "ws", from_dict(small))
        runner.run(opened, stop="pair")
        pid_read, pid_write = os.pipe()
        server = os.fork()
        if server == 0:  # a process of its own: threads and forks do not go together
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            with FaultServer(latency=LATENCY) as serving:
                os.write(pid_write, f"{serving.url}\n".encode())
                signal.sigwait({signal.SIGTERM})
                asked = Counter((body["model"], text_of(body)) for body in serving.bodies)
                print(json.dumps({"calls": asked.total(), "questions": len(asked), "repeated": asked.total() - len(asked)}), flush=True)
            os._exit(0)
        url = os.read(pid_read, 200).decode().strip()
        opened.save_recipe(opened.recipe.with_settings(settings(url, 2)))
        found = kill(opened.root, options.runs, options.seed, options.longest or 0.4)  # longer ones leave nothing to kill
        os.kill(server, signal.SIGTERM)
        os.waitpid(server, 0)
        lost = [before - after for before, after in zip(found["kept"], found["kept"][1:], strict=False) if after < before]
        print(
            json.dumps(
                {"kills": found["kills"], "lost": len(lost), "answers": found["kept"][-1], "bound": found["kills"] * 2 * CONCURRENCY}
            )
        )


if __name__ == "__main__":
    main()
