"""Shards on a local Ray with two workers: the same files as without it, and a worker killed in the middle loses nothing."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import zelo
from tiny_models import write_tiny_bert
from zelo import runner
from zelo.artifacts import read_table, write_table
from zelo.collections.beir import read_queries
from zelo.errors import ClusterError, InputError
from zelo.fitting import fit_parquet
from zelo.pipeline import Context
from zelo.progress import Silent
from zelo.recipe import Pairwise
from zelo.shards import Here
from zelo.stages import judge_pairwise
from zelo.training.pairwise import Lessons, train_pairwise
from zelo.workspace import Workspace

pytest.importorskip("ray", reason="extra `ray`")

from zelo.cluster.ray_workers import RayWorkers


@pytest.fixture(scope="module")
def workers() -> Iterator[RayWorkers]:
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))  # works of this file
        executor = RayWorkers("ray", 2)
        try:
            executor.__enter__()
        except ClusterError as error:  # Ray gives a node 30 s to start
            if "timed out during startup" not in str(error):
                raise
            pytest.skip("this machine is too busy to start Ray")
        yield executor
        executor.__exit__(None, None, None)


@dataclass(frozen=True)
class Squares:
    fatal: int
    died: Path

    def open(self) -> Callable[[int], int]:
        return self.square

    def square(self, number: int) -> int:
        if number == self.fatal and not self.died.exists():
            self.died.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        if number < 0:
            raise InputError(f"{number} is negative", where="squares", remedy="use others")
        return number * number


def test_results_in_order_and_few_shards_ahead(workers: RayWorkers, tmp_path: Path) -> None:
    taken = 0

    def shards() -> Iterator[int]:
        nonlocal taken
        for number in range(60):
            taken = number
            yield number

    found = workers.map(Squares(-1, tmp_path / "died"), shards())
    first = next(found)
    assert (first, taken < 20) == (0, True)
    assert list(found) == [n * n for n in range(1, 60)]


def test_workers_stay_and_open_each_work_once(workers: RayWorkers) -> None:
    first, second = (set(workers.map(Opened(name), range(12))) for name in ("one", "two"))
    assert {name for name, _, _ in first} == {"one"}
    assert {pid for _, pid, _ in first} == {pid for _, pid, _ in second}
    assert {opened for _, _, opened in first | second} == {1}


@dataclass
class Opened:
    """Says which work this is, in which process, and how often it was opened there."""

    name: str
    opened: int = 0

    def open(self) -> Callable[[int], tuple[str, int, int]]:
        self.opened += 1
        return lambda shard: (self.name, os.getpid(), self.opened)


def test_a_worker_killed_in_the_middle_loses_nothing(workers: RayWorkers, tmp_path: Path) -> None:
    died = tmp_path / "died"
    assert list(workers.map(Squares(7, died), range(20))) == [n * n for n in range(20)]
    assert died.exists()


def test_what_a_worker_finds_wrong_is_said_here(workers: RayWorkers, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"squares: -3 is negative\. use others"):
        list(workers.map(Squares(-1, tmp_path / "died"), [1, -3, 2]))


def test_an_address_of_another_kind() -> None:
    with pytest.raises(ClusterError, match="write ray, or ray://HOST:PORT"):
        RayWorkers("spark://x")


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file() and "index.html" not in p.name}


class Fatal:
    """Another work, whose worker is killed before its first shard, once."""

    def __init__(self, work: Any, died: Path) -> None:
        self.work, self.died = work, died

    def open(self) -> Callable[[Any], Any]:
        if not self.died.exists():
            self.died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.work.open()  # type: ignore[no-any-return]


class Clumsy:
    """Workers, one of which is killed in every stage."""

    elsewhere = True

    def __init__(self, workers: RayWorkers, folder: Path) -> None:
        self.workers, self.folder, self.stages = workers, folder, 0

    def map(self, work: Any, shards: Any) -> Iterator[Any]:
        self.stages += 1
        return self.workers.map(Fatal(work, self.folder / f"died{self.stages}"), shards)


FORCED = ("pair", "fit", "rank", "evaluate")
WRITTEN = ("pairs", "scores.parquet", "fits.parquet", "rankings", "report/metrics.jsonl", "report/per_query.parquet")


def test_the_same_files_though_a_worker_is_killed_in_every_stage(workers: RayWorkers, finished: Path, tmp_path: Path) -> None:
    root = shutil.copytree(finished, tmp_path / "ws")
    names = [root / name for name in WRITTEN]
    before = [files(p) if p.is_dir() else p.read_bytes() for p in names]
    for path in names:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    clumsy = Clumsy(workers, tmp_path)
    ran = runner.run(Workspace.open(root), stop="evaluate", force=FORCED, executor=clumsy)
    assert {e.stage for e in ran} >= set(FORCED)
    assert len(list(tmp_path.glob("died*"))) == clumsy.stages == len(FORCED)
    assert [files(p) if p.is_dir() else p.read_bytes() for p in names] == before


def test_a_fit_of_many_parts(workers: RayWorkers, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows: dict[str, Any] = {name: [] for name in ("query_id", "doc_id_a", "doc_id_b", "prob_a", "n_judges", "weight", "slope", "offset")}
    for query in range(40):
        for i in range(6):
            values = (f"q{query}", f"d{i}", f"d{i + 1}", float(rng.random()), 1, 1.0, 1.0, 0.0)
            for name, value in zip(rows, values, strict=True):
                rows[name].append(value)
    write_table(tmp_path / "preferences.parquet", "preferences", rows)
    for name, executor in (("here", None), ("ray", workers)):
        fit_parquet(tmp_path / "preferences.parquet", tmp_path / name, batch_rows=30, dispersion=1.5, threads=1, executor=executor)
    assert (tmp_path / "here").read_bytes() == (tmp_path / "ray").read_bytes()


def test_a_trained_model_judges_there_as_here(workers: RayWorkers, workspace: Path, tmp_path: Path) -> None:
    """The stage judge-pairwise with a tiny model."""
    words = sorted({word for q in read_queries(workspace / "queries.jsonl") for word in q.text.split()})
    write_tiny_bert(tmp_path / "base", words)
    a, b = np.arange(6), np.arange(6, 12)
    lessons = Lessons([" ".join(words[:2])] * 6, [f"{words[2]} {words[i % 6]}" for i in range(12)], np.arange(6), a, b, np.full(6, 0.8))
    settings = Pairwise(epochs=1, batch_size=4, max_tokens=40, precision="float32")
    train_pairwise(lessons, str(tmp_path / "base"), settings, 0, workspace / "models" / "pairwise", tmp_path / "work", lambda *_: None, 1)
    written = dict[str, bytes]()
    for name, executor in (("here", Here()), ("there", workers)):
        (workspace / "judgments.sqlite").unlink(missing_ok=True)
        opened = Workspace.open(workspace)
        recipe = opened.recipe.with_settings({"line": "distilled", "pairwise.precision": "float32"})
        context = Context(opened, recipe, tmp_path / name, Silent(), executor)
        outcome = judge_pairwise.run(context)
        written[name] = context.write("preferences").read_bytes()
        assert "tokens computed" in outcome.notes[0]
    assert written["here"] == written["there"]
    assert len(set(read_table(context.write("preferences"), "preferences", ("prob_a",))["prob_a"].tolist())) > 10


def test_the_command(workers: RayWorkers, workspace: Path) -> None:
    before = (workspace / "scores.parquet").read_bytes()
    workers.release()  # theirs are the processors that the command asks for
    ran = zelo("run", workspace, "--from", "fit", "--to", "fit", "--force", "fit", "--on", "ray", "--workers", "1")
    assert (ran.code, (workspace / "scores.parquet").read_bytes() == before) == (0, True)
    for asked in (("--workers", "1", "--worker-gpus", "1000"), ("--workers", "1000")):
        refused = zelo("run", workspace, "--on", "ray", *asked)
        assert (refused.code, "the cluster has" in refused.err) == (2, True)
