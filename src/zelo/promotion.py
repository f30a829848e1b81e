"""Which workspace's model is in use: a pointer in the first workspace of a line of refine rounds, changed in one step.

`zelo serve WS` and `zelo rerank WS` follow it. What it points to is named with the digest of its model, so that what is served is what
passed the gate.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zelo import runner
from zelo.errors import WorkspaceError
from zelo.workspace import Workspace, writable

POINTER = "promoted.json"
_MOST_ROUNDS = 1000


@dataclass(frozen=True)
class Promoted:
    """A promotion: the workspace (a path from the first one's folder), its model's digest, when, and what the gate said.

    `workspace` "." is the first workspace itself.
    """

    workspace: str
    model: str
    when: str
    forced: bool
    gate: Mapping[str, Any]


def first_of(workspace: Workspace) -> Workspace:
    """Return the workspace that a line of refine rounds began with; itself if it is no refine round.

    Raises:
        WorkspaceError: a parent is not there any more, or the parents go round in a circle.
    """
    found = workspace
    for _ in range(_MOST_ROUNDS):
        if not found.recipe.refine.parent:
            return found
        try:
            found = Workspace.open(Path(found.recipe.refine.parent))
        except WorkspaceError as error:
            remedy = "put it back: its pointer says what is served"
            raise WorkspaceError("the parent is not a workspace", where=found.recipe.refine.parent, remedy=remedy) from error
    raise WorkspaceError("its parents go round in a circle", where=str(workspace.root), remedy="set refine.parent of one of them")


def require_finished(child: Workspace) -> None:
    """Raise WorkspaceError unless every stage is done: what is promoted is what its recipe says."""
    for state in runner.status(child):
        if not state.done:
            what = f"is not finished: stage {state.stage.name} {state.reason}"
            raise WorkspaceError(what, where=str(child.root), remedy=f"`zelo run {child.root}` finishes it")


def history(first: Workspace) -> list[Promoted]:
    """Return the promotions that stand, the present one last; empty where the first workspace's own model is in use.

    Raises:
        WorkspaceError: the pointer cannot be read.
    """
    path = first.root / POINTER
    if not path.is_file():
        return []
    try:
        return [Promoted(**entry) for entry in json.loads(path.read_text("utf-8"))["promotions"]]
    except (ValueError, KeyError, TypeError) as error:
        raise WorkspaceError(f"not a pointer ({error})", where=str(path), remedy="delete it: the first model is in use again") from error


def in_use(first: Workspace) -> Workspace:
    """Return the workspace whose model is in use.

    Raises:
        WorkspaceError: it is gone, or its model is not the one that was promoted.
    """
    standing = history(first)
    if not standing:
        return first
    path = first.root / standing[-1].workspace
    remedy = f"`zelo rollback {first.root}`, or promote it again"
    try:
        found = Workspace.open(path)
    except WorkspaceError as error:
        raise WorkspaceError("the promoted workspace is gone", where=str(path), remedy=remedy) from error
    if found.digest("model") != standing[-1].model:
        raise WorkspaceError("its model is not the one that was promoted", where=str(path), remedy=remedy)
    return found


def promote(first: Workspace, child: Workspace, gate: Mapping[str, Any], *, forced: bool) -> None:
    """Put a workspace's model into use.

    Raises:
        WorkspaceError: it has no model, or it is in use already.
    """
    digest = child.digest("model")
    if digest is None:
        raise WorkspaceError("has no trained model yet", where=str(child.root), remedy=f"`zelo run {child.root}` makes it")
    standing = history(first)
    place = os.path.relpath(child.root.resolve(), first.root.resolve())
    if standing and (standing[-1].workspace, standing[-1].model) == (place, digest):
        raise WorkspaceError("its model is in use already", where=str(child.root), remedy="nothing is to be done")
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    _write(first, [*standing, Promoted(place, digest, when, forced, dict(gate))])


def rollback(first: Workspace) -> Promoted:
    """Take the last promotion back; returns it.

    Raises:
        WorkspaceError: none stands.
    """
    standing = history(first)
    if not standing:
        raise WorkspaceError("no promotion stands", where=str(first.root), remedy="its own model is in use")
    _write(first, standing[:-1])
    return standing[-1]


def _write(first: Workspace, standing: list[Promoted]) -> None:
    path = first.root / POINTER
    partial = path.with_name(f".{POINTER}.partial")
    with writable(first.root), first.locked():
        try:
            with partial.open("w", encoding="utf-8") as handle:
                json.dump({"promotions": [asdict(entry) for entry in standing]}, handle, ensure_ascii=False, indent=1)
                handle.write("\n")
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
