"""Does the student beat the best first stage? `python experiments/beats_first_stage/run.py --collections ../shared/collections`.

Every collection goes through the stages with simulated judges (judges_of_labels.py): they judge training questions only, and every
student learns from their targets by the same recipe. A copy of the workspace whose judges also judge the test questions gives the
figure of reranking by the fitted scores themselves. One line of JSON per collection and system; workspaces are kept and resumed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from zelo import runner
from zelo.recipe import Recipe, load
from zelo.report.measured import JUDGES, STUDENT, read_measured
from zelo.workspace import Workspace

COLLECTIONS = ("mtragun", "cosqa", "scifact", "tatqa")
COMMON = {
    "ingest.max_train_queries": "0",
    "retrieve.fusion": '"min_max"',
    "pair.queries": '"train"',
    "judge.ensemble": '["python:judges_of_labels:right_85", "python:judges_of_labels:right_89", "python:judges_of_labels:right_93"]',
}
STUDENTS: dict[str, dict[str, str]] = {
    "blend": {"train.student": '"blend"', "train.prior": '"none"'},
    "blend, posterior": {"train.student": '"blend"', "train.prior": '"signals"'},
    "adapted_blend, posterior": {"train.student": '"adapted_blend"', "train.prior": '"signals"'},
}


def _workspace(root: Path, recipe: Recipe) -> Workspace:
    found = Workspace.open(root) if (root / "recipe.toml").is_file() else Workspace.create(root, recipe)
    with found.locked():
        found.save_recipe(recipe)
    return found


def _rows(workspace: Workspace, collection: str, name: str, system: str, seconds: float) -> None:
    """Print the first measure of a system and of the first stage."""
    for row in read_measured(workspace.path("metrics")):
        if row.measure != workspace.recipe.evaluate.measures[0] or row.system != system:
            continue
        numbers = {n: round(v, 5) for n, v in vars_of(row).items() if isinstance(v, float)}
        print(json.dumps({"collection": collection, "system": name, "baseline": row.baseline, "queries": row.queries, **numbers,
                          "cpu_seconds_of_training": round(seconds, 1)}), flush=True)  # fmt: skip


def vars_of(row: object) -> dict[str, object]:
    """The fields of a row with slots."""
    return {name: getattr(row, name) for name in row.__dataclass_fields__}  # type: ignore[attr-defined]


def _first_stage(workspace: Workspace, collection: str) -> None:
    for system in ("bm25", "dense", "fused"):
        _rows(workspace, collection, system, system, 0.0)


def measure(source: Path, work: Path, name: str, students: list[str], ceiling: bool) -> None:
    """Run one collection; the ceiling is reranking by the fitted scores."""
    recipe = load("demo").with_settings({"ingest.collection": json.dumps(str(source / name)), **COMMON})
    root = work / name
    workspace = _workspace(root, recipe.with_settings(STUDENTS["blend"]))
    runner.run(workspace, stop="calibrate")
    told = False
    for student in students:
        workspace = _workspace(root, recipe.with_settings(STUDENTS[student]))
        start = time.process_time()
        runner.run(workspace, stop="train")
        seconds = time.process_time() - start
        runner.run(workspace, stop="evaluate")
        if not told:
            _first_stage(workspace, name)
            told = True
        _rows(workspace, name, student, STUDENT, seconds)
    if not ceiling:
        return
    everything = work / f"{name}-judged"
    if not everything.exists():
        shutil.copytree(root, everything)
        (everything / "judgments.sqlite").unlink(missing_ok=True)
    judged = _workspace(everything, recipe.with_settings({**STUDENTS["blend"], "pair.queries": '"all"'}))
    runner.run(judged, stop="evaluate")
    _rows(judged, name, "reranking by the fitted scores", JUDGES, 0.0)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collections", type=Path, required=True, help="a folder of BEIR folders")
    parser.add_argument("--workspaces", type=Path, default=Path("workspaces/beats_first_stage"))
    parser.add_argument("--only", nargs="*", default=list(COLLECTIONS))
    parser.add_argument("--students", nargs="*", default=list(STUDENTS))
    parser.add_argument("--no-ceiling", action="store_true", help="leave out reranking by the fitted scores, most of the work")
    chosen = parser.parse_args()
    for name in chosen.only:
        measure(chosen.collections, chosen.workspaces, name, chosen.students, not chosen.no_ceiling)


if __name__ == "__main__":
    main()
