"""A refine round: a child workspace that goes on from a finished one (paper section 5.6). The parent is only read.

What the parent's line had up to its candidates is taken over, and its journal is copied, so that no answer is paid twice.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from zelo import runner
from zelo.errors import WorkspaceError
from zelo.judges.merging import merge
from zelo.pipeline import stages
from zelo.planning.prospect import make_plan, plan_lines
from zelo.progress import Progress
from zelo.promotion import first_of
from zelo.recipe import Recipe
from zelo.stages.failures import require_finished
from zelo.stages.judge import JOURNAL
from zelo.watching.days import Days
from zelo.watching.live_round import FOLDER as LIVE
from zelo.watching.live_round import is_live, live_recipe, write_collection
from zelo.workspace import Workspace, writable


def recipe_for(parent: Workspace, root: Path, *, live: bool = False) -> Recipe:
    """Return the recipe of the child that is there; else the parent's, naming it, without its production file and threshold.

    A `live` child has a collection of its own: the parent's, and live queries that failed (`watching.live_round`).

    Raises:
        WorkspaceError: the parent is a benchmark, which trains no model.
    """
    if parent.recipe.line == "benchmark":
        raise WorkspaceError("is a benchmark: it has no model to refine", where=str(parent.root), remedy="use a workspace of `zelo new`")
    if (root / "recipe.toml").is_file():
        return Workspace.open(root).recipe
    fresh = replace(parent.recipe.refine, parent=str(parent.root.resolve()), production="", threshold=0)
    recipe = replace(parent.recipe, refine=fresh)
    return live_recipe(recipe, root) if live else recipe


def open_child(parent: Workspace, root: Path, recipe: Recipe) -> Workspace:
    """Return the child at a folder: the one that is there, or a new one with this recipe.

    Raises:
        WorkspaceError: the parent is not finished, or the folder is something else.
    """
    if root.resolve() == parent.root.resolve():
        raise WorkspaceError("parent and child are the same folder", where=str(root), remedy="name a new folder for the child")
    if not (root / "recipe.toml").is_file():
        require_finished(parent)
        return _make(parent, root, recipe)
    child = Workspace.open(root)
    other = child.recipe.refine.parent
    if not other or Path(other).resolve() != parent.root.resolve():
        what = f"is a refine round of {other}" if other else "is not a refine round"
        raise WorkspaceError(what, where=str(root), remedy="name a new folder for the child")
    return child


def _make(parent: Workspace, root: Path, recipe: Recipe) -> Workspace:
    """Build the child beside its place and rename it: a child that exists is whole."""
    runner.check(recipe)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise WorkspaceError("exists and is not empty", where=str(root), remedy="use an empty or new folder")
    partial = root.with_name(f".{root.name}.partial")
    with writable(root), parent.locked() if os.access(parent.root, os.W_OK) else nullcontext():
        shutil.rmtree(partial, ignore_errors=True)
        try:
            child = Workspace.create(partial, recipe)
            if is_live(recipe, root):
                _fill_live(child, parent)
            else:
                _fill(child, parent)
            os.replace(partial, root)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return Workspace.open(root)


def _fill(child: Workspace, parent: Workspace) -> None:
    for stage in stages(parent.recipe):
        if stage.name in ("failures", "pair"):
            break
        child.adopt(parent, stage.name)
    for name in (JOURNAL, f"{JOURNAL}-wal"):  # nobody writes it now; what is in the log belongs to it
        if (parent.root / name).exists():
            shutil.copy2(parent.root / name, child.root / name)


def _fill_live(child: Workspace, parent: Workspace) -> None:
    """A collection with live queries: its stages run anew, its journal has what training and watching have asked."""
    watched = first_of(parent)
    write_collection(child.root / LIVE, parent, watched)
    for journal in (parent.root / JOURNAL, Days(watched.root).journal):
        if journal.exists():
            merge(child.root / JOURNAL, journal)


@contextmanager
def trial(parent: Workspace, root: Path, recipe: Recipe) -> Iterator[Workspace]:
    """Yield a child that is gone afterwards, beside the place of the real one: there links are possible."""
    shadow = root.with_name(f".{root.name}.dry-run")
    recipe = live_recipe(recipe, shadow) if is_live(recipe, root) else recipe
    shutil.rmtree(shadow, ignore_errors=True)
    try:
        yield _make(parent, shadow, recipe)
    finally:
        shutil.rmtree(shadow, ignore_errors=True)


def dry_run(parent: Workspace, root: Path, recipe: Recipe, progress: Progress) -> Iterator[str]:
    """Find the failures and plan what judging them takes; yields lines. Nothing is asked and nothing stays.

    Raises:
        WorkspaceError: the parent is not finished.
    """
    require_finished(parent)
    with trial(parent, root, recipe) as child:
        runner.run(child, stop="pair", progress=progress)
        entry = child.entry("failures")
        rows = dict(entry.rows) if entry else {}
        yield ", ".join(f"{count:,} {name}" for name, count in rows.items()) + "."
        yield from (f"{note}." for note in (entry.notes if entry else ()))
        yield ""
        for line in plan_lines(make_plan(child), shlex.quote(str(root))):
            if not line.startswith("Nothing was asked"):
                yield line
    yield f"Nothing was asked, paid or kept. The round itself: zelo refine {shlex.quote(str(parent.root))} {shlex.quote(str(root))}"
