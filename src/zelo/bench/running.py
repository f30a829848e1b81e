"""Runs a bench: one workspace per collection, one more per student, each stage and each answer once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zelo import runner
from zelo.bench.collections_file import Bench, Entry
from zelo.errors import InputError, JudgeError, RetryError, ZeloError
from zelo.judges.known import dollars_spent
from zelo.pipeline import Context, stages
from zelo.progress import Progress
from zelo.recipe import Recipe
from zelo.report.measured import STUDENT, read_labels
from zelo.runner import State
from zelo.stages import evaluate, inputs
from zelo.stages.judge import JOURNAL
from zelo.systems.comparing import Taken, ask_systems, time_system
from zelo.workspace import Entry as Done
from zelo.workspace import Workspace

MODEL = "models/pointwise"
TIMED = 20
"""Questions that a student is asked once more, one after the other, to know how long it takes."""
OnStage = Callable[[State, Done | None], None]


@dataclass(frozen=True)
class Ran:
    """What a bench found on one collection.

    Attributes:
        values: measure -> system -> query_id -> value.
        taken: what systems took that were asked.
        dollars: what the judges cost, in all runs of the workspace.
        counts: documents, training questions, labeled test questions.
        seconds: of all stages, as their last runs took.
        root: the workspace.
    """

    name: str
    domain: str
    values: evaluate.Values
    taken: Mapping[str, Taken]
    dollars: float
    counts: Mapping[str, int]
    seconds: float
    root: Path


def run_bench(bench: Bench, out: Path, only: Sequence[str], progress: Progress, on_stage: OnStage) -> list[Ran]:
    """Run what is not done and return what was found, collection by collection.

    Args:
        bench: what to run.
        out: folder of the workspaces; each goes by its collection's name.
        only: names of collections; none = all.
        progress: shows how far it is.
        on_stage: as of `runner.run`.

    Raises:
        InputError: `only` names what is not there.
        JudgeError, RetryError: a service does not go on. What was finished is kept: the same command goes on.
        InputError: a collection cannot be run, for whatever a stage finds wrong; the others are run first.
    """
    unknown = [name for name in only if name not in {entry.name for entry in bench.entries}]
    if unknown:
        names = ", ".join(entry.name for entry in bench.entries)
        raise InputError(f"no collection {unknown[0]!r} in the file", where="--only", remedy=f"use any of: {names}")
    chosen = [entry for entry in bench.entries if not only or entry.name in only]
    for entry in chosen:  # what is wrong with the last recipe should not wait for the first collection
        for recipe in (entry.recipe, *entry.students.values()):
            runner.check(recipe)
    found, broken = [], dict[str, ZeloError]()
    for number, entry in enumerate(chosen, 1):
        progress.note(f"{entry.name} ({number} of {len(chosen)})")
        try:
            found.append(_run_entry(entry, bench, out, progress, on_stage))
        except (JudgeError, RetryError):  # a service, a key, a budget: the next collection would meet it too
            raise
        except ZeloError as error:
            if len(chosen) == 1:
                raise
            broken[entry.name] = error
            progress.note(f"{entry.name}: {error}")
    if broken:
        rest = "".join(f" --only {one.name}" for one in found)
        remedy = f"the others are done: mend the file, or see their table by{rest}" if found else "mend the file"
        raise InputError(f"{len(broken)} of {len(chosen)} collections cannot be run: {_listed(broken)}", remedy=remedy)
    return found


def _listed(broken: Mapping[str, ZeloError]) -> str:
    return "; ".join(f"{name} ({error.where}: {error.what})" if error.where else f"{name} ({error.what})" for name, error in broken.items())


def _run_entry(entry: Entry, bench: Bench, out: Path, progress: Progress, on_stage: OnStage) -> Ran:
    workspace = _opened(out / entry.name, entry.recipe)
    runner.run(workspace, progress=progress, on_stage=on_stage)
    context = Context(workspace, workspace.recipe, workspace.root, progress)
    with workspace.locked():
        asked = ask_systems(context, bench.systems, progress, keep_local=True)
        taken = {**asked.taken, STUDENT: time_system(context, MODEL, TIMED, progress)}
    for student, recipe in entry.students.items():
        progress.note(f"{entry.name}, student {student}")
        other = _variant(out / f"{entry.name}.{student}", workspace, recipe)
        runner.run(other, progress=progress, on_stage=on_stage)
        with other.locked():
            there = Context(other, other.recipe, other.root, progress)
            for measure, of in ask_systems(there, (), progress).values.items():
                asked.values[measure][student] = of[STUDENT]
            taken[student] = time_system(there, MODEL, TIMED, progress)
    return Ran(
        entry.name,
        entry.domain,
        asked.values,
        taken,
        dollars_spent(workspace.root / JOURNAL),
        _counts(context),
        _seconds(workspace),
        workspace.root,
    )


def _counts(context: Context) -> dict[str, int]:
    split = inputs.splits(context.read("splits"))
    done = context.workspace.entry("ingest")
    labeled = read_labels(context.read("qrels") / f"{context.recipe.ingest.test_split}.tsv", split)
    return {
        "documents": done.rows.get("corpus", 0) if done else 0,
        "train": sum(part == "train" for part in split.values()),
        "test": len(labeled),
    }


def _opened(root: Path, recipe: Recipe) -> Workspace:
    """The workspace that is there, with this recipe, or a new one."""
    if not (root / "recipe.toml").is_file():
        return Workspace.create(root, recipe)
    workspace = Workspace.open(root)
    if workspace.recipe != recipe:
        with workspace.locked():
            workspace.save_recipe(recipe)
    return workspace


def _variant(root: Path, first: Workspace, recipe: Recipe) -> Workspace:
    """A workspace beside the first one that shares all it has up to the targets, and trains another student on them."""
    workspace = _opened(root, recipe)
    with workspace.locked():
        for stage in stages(recipe):
            if stage.name == "train":
                break
            theirs, ours = first.entry(stage.name), workspace.entry(stage.name)
            if ours is None or theirs is None or ours.fingerprint != theirs.fingerprint or ours.writes != theirs.writes:
                for artifact in stage.writes:  # never written over: the bytes may be shared
                    path = workspace.path(artifact)
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                workspace.adopt(first, stage.name)
    return workspace


def _seconds(workspace: Workspace) -> float:
    entries = (workspace.entry(stage.name) for stage in stages(workspace.recipe))
    return sum(entry.seconds for entry in entries if entry is not None)
