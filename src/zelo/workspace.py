"""A folder that holds one run of the pipeline, and its manifest: what is done, what is stale, atomic writes.

A file that exists is complete: a stage writes into `.partial/` and its outputs are renamed into place together, then a
line is added to manifest.jsonl. A stage is done when that line's fingerprint (its recipe section, its format version, the
digests of what it reads) is today's, and its outputs are still what it wrote.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zelo import recipe as recipes
from zelo.artifacts import ARTIFACTS
from zelo.errors import WorkspaceError
from zelo.recipe import Recipe

PARTIAL = ".partial"
DERIVED = "openvino"
"""A folder in an artifact that a command made from the artifact; no part of it. When the artifact is made anew, it goes."""
_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@dataclass(frozen=True)
class Entry:
    """One line of the manifest: a finished stage.

    `reads` and `writes` map artifact names to digests; `stamp` to (bytes, modification time in ns) of its files, so that an
    unchanged file need not be read again to know its digest. `cost` is in US dollars.
    """

    stage: str
    fingerprint: str
    reads: Mapping[str, str]
    writes: Mapping[str, str]
    stamp: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    cost: float = 0.0
    finished: str = ""
    notes: tuple[str, ...] = ()


class Workspace:
    """An open workspace folder. `Workspace.create` makes one, `Workspace.open` opens one."""

    def __init__(self, root: Path, recipe: Recipe) -> None:
        """Wrap a folder that has a recipe.toml; use `create` or `open`."""
        self.root = root
        self.recipe = recipe
        self._entries = self._read_manifest()

    @classmethod
    def create(cls, root: Path, recipe: Recipe) -> Workspace:
        """Make the folder and write its recipe.

        Raises:
            WorkspaceError: the folder is not empty, or not writable.
        """
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            remedy = f"use `zelo run {root}`, or another folder" if (root / "recipe.toml").is_file() else "use an empty or new folder"
            raise WorkspaceError("exists and is not empty" if root.is_dir() else "is not a folder", where=str(root), remedy=remedy)
        with writable(root):
            try:
                root.mkdir(parents=True, exist_ok=True)
            except (FileNotFoundError, NotADirectoryError) as error:  # below a file, or in a file system without folders to make
                raise WorkspaceError(f"cannot be made ({error.strerror})", where=str(root), remedy="choose another folder") from error
            _write_atomically(root / "recipe.toml", recipes.to_toml(recipe))
        return cls(root, recipe)

    @classmethod
    def open(cls, root: Path) -> Workspace:
        """Open an existing workspace.

        Raises:
            WorkspaceError: not a workspace.
            RecipeError: its recipe.toml is faulty.
        """
        if not (root / "recipe.toml").is_file():
            remedy = f"make one with `zelo new {root} --collection FOLDER`"
            raise WorkspaceError("not a workspace (no recipe.toml)", where=str(root), remedy=remedy)
        return cls(root, recipes.load(root / "recipe.toml"))

    def save_recipe(self, recipe: Recipe) -> None:
        """Replace the recipe; stages whose section changed become stale."""
        with writable(self.root):
            _write_atomically(self.root / "recipe.toml", recipes.to_toml(recipe))
        self.recipe = recipe

    def path(self, artifact: str) -> Path:
        """Return where an artifact lies, whether or not it exists."""
        return self.root / ARTIFACTS[artifact].path

    def entry(self, stage: str) -> Entry | None:
        """Return the manifest's last line about a stage."""
        return self._entries.get(stage)

    def digest(self, artifact: str) -> str | None:
        """Return an artifact's sha256 over its files, or None if it does not exist; files unchanged since written are not reread."""
        path = self.path(artifact)
        if not path.exists():
            return None
        stamp = _stamp(path)
        for entry in self._entries.values():
            if entry.stamp.get(artifact) == stamp:
                return entry.writes[artifact]
        return _digest(path)

    def derived(self, artifact: str) -> str | None:
        """Return the sha256 of what a command made from an artifact, or None if there is nothing."""
        path = self.path(artifact) / DERIVED
        return _digest(path) if path.is_dir() else None

    @contextmanager
    def writing(self, stage: str) -> Iterator[Path]:
        """Yield an empty folder to write a stage's artifacts into, under their paths in the workspace."""
        partial = self.root / PARTIAL / stage
        with writable(self.root):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            try:
                yield partial
            finally:
                shutil.rmtree(self.root / PARTIAL, ignore_errors=True)

    def publish(self, partial: Path, entry: Entry, artifacts: tuple[str, ...]) -> Entry:
        """Rename finished artifacts into place and add the manifest line; returns the line with digests filled in.

        Raises:
            WorkspaceError: the stage did not write what it declares.
        """
        missing = [a for a in artifacts if not (partial / ARTIFACTS[a].path).exists()]
        if missing:
            raise WorkspaceError(f"stage {entry.stage} did not write {', '.join(missing)}")
        for artifact in artifacts:
            source, target = partial / ARTIFACTS[artifact].path, self.path(artifact)
            _sync(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():  # a folder cannot be replaced in one step; without it the stage counts as not done
                shutil.rmtree(target)
            os.replace(source, target)
        stamps = {a: _stamp(self.path(a)) for a in artifacts}
        digests = {a: _digest(self.path(a)) for a in artifacts}
        entry = Entry(
            **{**asdict(entry), "writes": digests, "stamp": stamps, "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        )
        self._append(json.dumps(asdict(entry), ensure_ascii=False) + "\n")
        self._entries[entry.stage] = entry
        return entry

    def adopt(self, other: Workspace, stage: str) -> None:
        """Take over a finished stage of another workspace: its artifacts, linked where the file system can, and its manifest line.

        Artifacts are replaced as a whole and never changed, so the two workspaces may share the bytes.

        Raises:
            WorkspaceError: the stage has not run there.
        """
        entry = other.entry(stage)
        if entry is None:
            raise WorkspaceError(f"stage {stage} has not run", where=str(other.root), remedy=f"`zelo run {other.root}`")
        for artifact in entry.writes:
            share(other.path(artifact), self.path(artifact))
        self._append(json.dumps(asdict(entry), ensure_ascii=False) + "\n")
        self._entries[stage] = entry

    def _append(self, line: str) -> None:
        with (self.root / "manifest.jsonl").open("ab+") as manifest:
            manifest.seek(0)
            data = manifest.read()
            manifest.truncate(data.rfind(b"\n") + 1)  # what a process left that died within its last write
            manifest.write(line.encode())
            manifest.flush()
            os.fsync(manifest.fileno())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the workspace for one process.

        Raises:
            WorkspaceError: another process holds it, or the folder is not writable.
        """
        with locked(self.root):
            self._entries = self._read_manifest()  # another process may have finished stages since we opened it
            shutil.rmtree(self.root / PARTIAL, ignore_errors=True)  # of a process that was killed
            yield

    def _read_manifest(self) -> dict[str, Entry]:
        path = self.root / "manifest.jsonl"
        entries: dict[str, Entry] = {}
        if path.is_file():
            # The part after the last line end is of a process that died within its last write, or is writing: not done.
            for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
                try:
                    entry = Entry(**json.loads(line))
                except (ValueError, TypeError) as error:
                    remedy = "delete manifest.jsonl: the stages will run again"
                    raise WorkspaceError(f"not a manifest line ({error})", where=f"{path}:{number}", remedy=remedy) from error
                entries[entry.stage] = entry
        return entries


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold a folder for one process.

    Raises:
        WorkspaceError: another process holds it, or the folder is not writable.
    """
    import fcntl

    with writable(root):
        handle = (root / ".lock").open("a")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorkspaceError("another process is working here", where=str(root), remedy="wait for it to end") from error
        yield


def fingerprint(stage: str, version: int, parameters: Mapping[str, Any], reads: Mapping[str, str]) -> str:
    """Return the identity of a stage's result: sha256 over its name, format version, parameters and inputs' digests."""
    identity = json.dumps([stage, version, parameters, reads], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(identity.encode()).hexdigest()


@contextmanager
def writable(root: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write into one clear line."""
    try:
        yield
    except PermissionError as error:
        remedy = "choose another folder or change its rights"
        raise WorkspaceError("cannot be written to", where=str(error.filename or root), remedy=remedy) from error
    except OSError as error:
        if error.errno in _REFUSED or "requested and" in str(error):  # the latter is NumPy's whole message about a full disk
            what = f"cannot be written to ({error.strerror or 'no space left'})"
            remedy = "choose a folder on another disk" if error.errno == errno.EROFS else "free some space and run again"
            raise WorkspaceError(what, where=str(error.filename or root), remedy=remedy) from error
        raise


def share(source: Path, target: Path) -> None:
    """Put a finished file or folder in a second place, where there is nothing yet: linked where the file system can."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link)
    else:
        _link(str(source), str(target))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)  # with its time, which is part of what says that it is unchanged


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))  # file managers leave hidden files
    return [p for p in files if p.relative_to(path).parts[0] != DERIVED]


def _stamp(path: Path) -> str:
    stats = [(str(p.relative_to(path)), p.stat()) for p in _files(path)]
    return hashlib.sha256(json.dumps([(n, s.st_size, s.st_mtime_ns) for n, s in stats]).encode()).hexdigest()[:32]


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    for file in _files(path):
        with file.open("rb") as handle:
            total.update(f"{file.relative_to(path)}\0".encode())
            total.update(hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()


def _sync(path: Path) -> None:
    for file in _files(path):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def _write_atomically(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, "utf-8")
        _sync(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
