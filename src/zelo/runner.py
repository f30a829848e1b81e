"""Running a line: which stages are done, which have to run, and running them in order."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from zelo import recipe as recipes
from zelo.artifacts import ARTIFACTS
from zelo.errors import RecipeError, WorkspaceError
from zelo.pipeline import Context, Outcome, Stage, find, select, stages
from zelo.progress import Progress, Silent
from zelo.recipe import Recipe
from zelo.shards import Executor, Here
from zelo.workspace import DERIVED, Entry, Workspace, fingerprint


def check(recipe: Recipe) -> None:
    """Find what only a stage can find wrong with the recipe, such as an unknown judge, before any stage has worked for it.

    Raises:
        InputError: a stage does not know a name.
        RecipeError: settings do not go together.
    """
    for stage in stages(recipe):
        checked: Callable[[Recipe], None] | None = getattr(_module(stage), "check", None)
        if checked is not None:
            checked(recipe)


@dataclass(frozen=True)
class State:
    """Where a stage stands: `done`, or why it has to run."""

    stage: Stage
    done: bool
    reason: str
    entry: Entry | None


def status(workspace: Workspace) -> list[State]:
    """Return every stage's state, in order; a stage after one that has to run has to run too."""
    states: list[State] = []
    upstream: set[str] = set()  # artifacts that will be rewritten
    for stage in stages(workspace.recipe):
        entry = workspace.entry(stage.name)
        waiting = sorted(upstream & set(stage.reads))
        if entry is None:
            reason = "has not run"
        elif waiting:
            reason = f"{', '.join(waiting)} will change"
        else:
            reason = _why_stale(workspace, stage, entry)
        if reason:
            upstream |= set(stage.writes)
        states.append(State(stage, not reason, reason, entry))
    return states


def run(
    workspace: Workspace,
    *,
    start: str | None = None,
    stop: str | None = None,
    force: Iterable[str] = (),
    progress: Progress | None = None,
    executor: Executor | None = None,
    on_stage: Callable[[State, Entry | None], None] = lambda state, entry: None,
) -> list[Entry]:
    """Run the stages that are not done, in order, and return their manifest lines.

    Args:
        workspace: the folder.
        start: first stage to consider; the ones before it must have run.
        stop: last stage to consider.
        force: stages to run even if they are done.
        progress: shows what happens.
        executor: does what stages do by shards, if not this process.
        on_stage: called before a stage runs (entry None) and after it ran, or with its old entry when it is done.

    Raises:
        WorkspaceError: another process works here, or an input is missing.
        RecipeError: an unknown stage, one forced that is not among the chosen, or a line that is not available.
        ZeloError: whatever a stage finds wrong; finished stages are kept.
    """
    chosen = select(workspace.recipe, start, stop)
    forced = {find(workspace.recipe, name).name for name in force}
    outside = sorted(forced - {stage.name for stage in chosen})
    if outside:
        raise RecipeError(f"stage {outside[0]!r} is to be forced, but is not among those to run", remedy="change --from and --to")
    check(workspace.recipe)
    finished: list[Entry] = []
    with workspace.locked():
        require_before(workspace, chosen[0])
        for stage in chosen:
            state = next(s for s in status(workspace) if s.stage.name == stage.name)
            if state.done and stage.name not in forced:
                on_stage(state, state.entry)
                continue
            on_stage(state, None)
            entry = _run_stage(workspace, stage, progress or Silent(), executor or Here())
            finished.append(entry)
            on_stage(state, entry)
    return finished


def require_before(workspace: Workspace, first: Stage) -> None:
    """Raise unless all stages before the first chosen one are done: what they left would not be what the recipe says."""
    for state in status(workspace):
        if state.stage.name == first.name:
            return
        if not state.done:
            what = f"stage {state.stage.name} has to run before {first.name}: {state.reason}"
            raise WorkspaceError(what, where=str(workspace.root), remedy=f"`zelo run {workspace.root}` runs what is needed")


def _run_stage(workspace: Workspace, stage: Stage, progress: Progress, executor: Executor) -> Entry:
    missing = [a for a in stage.reads if not workspace.path(a).exists()]
    if missing:
        writer = next(s.name for s in stages(workspace.recipe) if missing[0] in s.writes)
        raise WorkspaceError(
            f"stage {stage.name} needs {ARTIFACTS[missing[0]].path}, which does not exist",
            where=str(workspace.root),
            remedy=f"run stage {writer} first: `zelo run {workspace.root}` runs what is needed",
        )
    start = time.perf_counter()
    reads, print_ = _identity(workspace, stage)
    with workspace.writing(stage.name) as out:
        outcome: Outcome = _module(stage).run(Context(workspace, workspace.recipe, out, progress, executor))
        entry = Entry(
            stage.name,
            print_,
            reads,
            {},
            rows=dict(outcome.rows),
            seconds=round(time.perf_counter() - start, 3),
            cost=outcome.cost,
            notes=outcome.notes,
        )
        return workspace.publish(out, entry, stage.writes)


def _identity(workspace: Workspace, stage: Stage, before: Entry | None = None) -> tuple[dict[str, str], str]:
    reads = {a: workspace.digest(a) or "" for a in stage.reads}
    if stage.has_external:
        # What has gone, such as an archived collection, has not changed: what was made from it is still good.
        found = _module(stage).external(workspace.recipe)
        reads.update({name: digest or (before.reads.get(name, "") if before else "") for name, digest in found.items()})
    reads.update({f"{ARTIFACTS[a].path}/{DERIVED}": made for a in stage.derived if (made := workspace.derived(a))})
    tables = recipes.to_dict(workspace.recipe)
    parameters: dict[str, Any] = {}
    for name in stage.sections:
        section, _, key = name.partition(".")
        parameters[name] = tables[section][key] if key else tables[section]
    return reads, fingerprint(stage.name, stage.version, parameters, reads)


def _why_stale(workspace: Workspace, stage: Stage, entry: Entry) -> str:
    reads, print_ = _identity(workspace, stage, entry)
    changed = sorted(a for a in {*reads, *entry.reads} if reads.get(a) != entry.reads.get(a))
    if changed:
        return f"{', '.join(changed)} changed"
    if print_ != entry.fingerprint:
        return f"the recipe's {', '.join(stage.sections)} changed, or zelo's version of the stage"
    for artifact in stage.writes:
        digest = workspace.digest(artifact)
        if digest is None:
            return f"{ARTIFACTS[artifact].path} is missing"
        if digest != entry.writes.get(artifact):
            return f"{ARTIFACTS[artifact].path} was changed by hand"
    return ""


def _module(stage: Stage) -> Any:
    return importlib.import_module(stage.module)
