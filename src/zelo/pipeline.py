"""The system on one screen: the stages in order, with what each reads and writes. Then the loop that runs them.

Two lines: `DIRECT` (the judges play the tournament) and `DISTILLED` (the judges teach a pairwise model on few pairs, and
that model, a judge like any other, plays it; the paper's line). The command line, the manifest, `zelo status` and the table
in the README are made from these tuples.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zelo import recipe as recipes
from zelo.artifacts import ARTIFACTS
from zelo.errors import RecipeError, WorkspaceError
from zelo.progress import Progress, Silent
from zelo.recipe import Recipe
from zelo.workspace import Entry, Workspace, fingerprint


@dataclass(frozen=True)
class Stage:
    """One step. `module` has `run(context) -> Outcome`; perhaps `check(recipe)`, which raises for names that it does not know.

    It has `external(recipe) -> digests` if it reads beyond the workspace; "" stands for what cannot be found now. `sections` are
    the recipe's sections that it depends on, or single parameters of others, as in "retrieve.language"; `version` goes up when
    its output for the same input changes.
    """

    name: str
    summary: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    sections: tuple[str, ...]
    version: int = 1
    has_external: bool = False
    planned: bool = False  # its place is decided, its code is not here yet: a recipe that needs it is refused

    @property
    def module(self) -> str:
        """The module that runs it."""
        return f"zelo.stages.{self.name.replace('-', '_')}"


@dataclass(frozen=True)
class Outcome:
    """What a stage says of itself: rows per artifact, cost in US dollars, remarks for the user."""

    rows: Mapping[str, int] = field(default_factory=dict)
    cost: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Context:
    """What a stage gets. It reads from `workspace` and writes under `out`, at the artifacts' paths."""

    workspace: Workspace
    recipe: Recipe
    out: Path
    progress: Progress

    def read(self, artifact: str) -> Path:
        """Return the path of an artifact to read."""
        return self.workspace.path(artifact)

    def write(self, artifact: str) -> Path:
        """Return the path to write an artifact to; its folder exists."""
        path = self.out / ARTIFACTS[artifact].path
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


_POOL = ("pool", "fit.link", "fit.prior_sd")  # order effects are in the link's units

_DRAWN = tuple(f"pair.{name}" for name in ("degree", "queries", "design", "aim"))  # what the first pairs depend on
_ROUNDS = tuple(f"pair.{name}" for name in ("design", "aim", "comparisons", "per_round", "settle"))  # the judge stage may add pairs

DIRECT = (
    Stage("ingest", "read the collection, choose training questions", (), ("corpus", "queries", "qrels", "splits"), ("ingest",), 1, True),
    Stage("encode", "vectors of documents and questions", ("corpus", "queries"), ("vectors",), ("encode",), 1, True),
    Stage(
        "retrieve",
        "first stage: search, fuse, cut to the candidates",
        ("corpus", "queries", "vectors"),
        ("candidates",),
        ("retrieve",),
        1,
        True,
    ),
    Stage(
        "pair",
        "a sparse comparison graph per query",
        ("corpus", "splits", "candidates"),
        ("pairs", "graphs", "duplicates"),
        (*_DRAWN, "seed"),
        2,
    ),
    Stage(
        "judge",
        "every judge compares every pair",
        ("corpus", "queries", "vectors", "pairs"),
        ("judgments", "swapped"),
        ("judge", *_ROUNDS, "retrieve.language", "seed"),
        2,
        True,
    ),
    Stage(
        "pool",
        "reliability without labels; one preference per pair",
        ("judgments", "splits"),
        ("preferences", "judges", "agreement"),
        _POOL,
        2,
    ),
    Stage("fit", "one score per document, with its error", ("preferences", "duplicates"), ("scores", "fits"), ("fit",), 2),
    Stage("align", "queries on one scale", ("scores", "judges", "corpus", "queries"), ("across", "offsets"), ("align", "judge", "seed")),
    Stage("calibrate", "scores to targets in [0, 1]", ("scores", "offsets"), ("targets",), ("calibrate",), 1, True),
    Stage(
        "train",
        "the pointwise reranker learns the targets",
        ("targets", "corpus", "queries", "splits", "vectors"),
        ("model",),
        ("encode", "train", "retrieve.language", "seed"),
    ),
    Stage(
        "rank",
        "it reranks the test questions' candidates",
        ("model", "corpus", "queries", "splits", "candidates", "vectors", "scores"),
        ("rankings",),
        ("rank",),
    ),
    Stage(
        "evaluate",
        "every ranking against labels",
        ("rankings", "candidates", "qrels", "splits"),
        ("metrics", "per_query"),
        ("evaluate", "seed"),
    ),
    Stage(
        "report",
        "one page for people",
        (
            "metrics",
            "per_query",
            "corpus",
            "queries",
            "qrels",
            "splits",
            "judges",
            "agreement",
            "judgments",
            "swapped",
            "scores",
            "targets",
            "fits",
            "graphs",
            "candidates",
            "rankings",
            "model",
        ),
        ("report",),
        tuple(f.name for f in dataclasses.fields(Recipe)),  # the page shows the whole recipe
    ),
)

_FIRST = DIRECT[:3]  # ingest, encode, retrieve
_LAST = DIRECT[6:]  # fit and everything after it

DISTILLED = (
    *_FIRST,
    Stage(
        "pair",
        "a few teaching pairs, and the tournament pairs",
        ("corpus", "splits", "candidates"),
        ("teaching_pairs", "pairs", "graphs", "duplicates"),
        (*_DRAWN, "seed"),
    ),
    Stage(
        "judge",
        "the ensemble judges the teaching pairs",
        ("corpus", "queries", "vectors", "teaching_pairs"),
        ("judgments", "swapped"),
        ("judge", *_ROUNDS, "retrieve.language", "seed"),
        2,
        True,
    ),
    Stage("pool", "one preference per teaching pair", ("judgments", "splits"), ("lessons", "judges", "agreement"), _POOL, 2),
    Stage("train-pairwise", "a pairwise model learns them", ("lessons", "corpus", "queries"), ("pairwise_model",), (), planned=True),
    Stage(
        "judge-pairwise",
        "it judges the tournament pairs, a judge like any other",
        ("pairwise_model", "pairs", "corpus", "queries"),
        ("preferences",),
        (),
        planned=True,
    ),
    *_LAST,
)

LINES: dict[str, tuple[Stage, ...]] = {"direct": DIRECT, "distilled": DISTILLED}


def stages(recipe: Recipe) -> tuple[Stage, ...]:
    """Return the stages of the recipe's line.

    Raises:
        RecipeError: the line needs a stage that this version does not have.
    """
    line = LINES[recipe.line]
    planned = [stage.name for stage in line if stage.planned]
    if planned:
        what = f"line = {recipe.line!r} needs {' and '.join(planned)}, which this version does not have"
        raise RecipeError(what, remedy='use line = "direct"')
    return line


def check(recipe: Recipe) -> None:
    """Find what only a stage can find wrong with the recipe, such as an unknown judge, before any stage has worked for it.

    Raises:
        InputError: a stage does not know a name.
        RecipeError: the line needs a stage that this version does not have.
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
    on_stage: Callable[[State, Entry | None], None] = lambda state, entry: None,
) -> list[Entry]:
    """Run the stages that are not done, in order, and return their manifest lines.

    Args:
        workspace: the folder.
        start: first stage to consider; the ones before it must have run.
        stop: last stage to consider.
        force: stages to run even if they are done.
        progress: shows what happens.
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
            entry = _run_stage(workspace, stage, progress or Silent())
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


def select(recipe: Recipe, start: str | None = None, stop: str | None = None) -> tuple[Stage, ...]:
    """Return the stages from `start` to `stop`, both included.

    Raises:
        RecipeError: an unknown stage, or `stop` lies before `start`.
    """
    line = stages(recipe)
    first = line.index(find(recipe, start)) if start else 0
    last = line.index(find(recipe, stop)) if stop else len(line) - 1
    if last < first:
        raise RecipeError(f"stage {stop!r} comes before {start!r}", remedy="exchange --from and --to")
    return line[first : last + 1]


def find(recipe: Recipe, name: str) -> Stage:
    """Return a stage by name.

    Raises:
        RecipeError: the line has no such stage.
    """
    for stage in stages(recipe):
        if stage.name == name:
            return stage
    raise RecipeError(f"no stage {name!r}", remedy=f"stages: {', '.join(s.name for s in stages(recipe))}")


def _run_stage(workspace: Workspace, stage: Stage, progress: Progress) -> Entry:
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
        outcome: Outcome = _module(stage).run(Context(workspace, workspace.recipe, out, progress))
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
    tables = recipes.to_dict(workspace.recipe)
    parameters: dict[str, Any] = {}
    for name in stage.sections:
        section, _, key = name.partition(".")
        parameters[name] = tables[section][key] if key else tables[section]
    return reads, fingerprint(stage.name, stage.version, parameters, reads)


def _why_stale(workspace: Workspace, stage: Stage, entry: Entry) -> str:
    reads, print_ = _identity(workspace, stage, entry)
    changed = sorted(a for a in reads if reads[a] != entry.reads.get(a))
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
