"""The files of a folder, each once, in an order that does not depend on the file system."""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from zelo.collections.tables import whole_characters
from zelo.errors import InputError

_LEFT_OUT = {"__pycache__", "node_modules"}
_MADE_HERE = re.compile(r"^- zelo$|^tags: \[(?:.*, )?zelo\]$", re.MULTILINE)  # in the card of an export or a model
_SAVED = ("state.json", "dataset_info.json")  # what the library `datasets` writes beside its Arrow files


@dataclass
class Files:
    """What a folder holds.

    Attributes:
        found: (path, name relative to the folder, with /) in order of names.
        faults: what could not be followed.
        made_here: names of folders that zelo made, which are left out: workspaces, exports, models.
    """

    found: list[tuple[Path, str]] = field(default_factory=list)
    faults: list[InputError] = field(default_factory=list)
    made_here: list[str] = field(default_factory=list)


def find_files(root: Path) -> Files:
    """Find all files below a folder. Hidden ones, and folders that tools fill, are left out.

    So are folders that zelo itself made: a workspace among the documents that it is about would read itself, and be out of date for ever.

    Links are followed after everything else, so that a file is known by its own name; one that leads to what was seen already is not
    followed again, so that loops end. Of a folder that the library `datasets` saved, the files with rows are found.

    Raises:
        InputError: the folder cannot be read.
    """
    files, seen, links = Files(), set[tuple[int, int]](), [(root, "")]
    while links:
        links.sort(key=lambda link: link[1], reverse=True)
        folder, name = links.pop()
        _walk(folder, name, files, seen, links)
    files.found.sort(key=lambda pair: pair[1])
    files.made_here.sort()
    return files


def _walk(path: Path, name: str, files: Files, seen: set[tuple[int, int]], links: list[tuple[Path, str]]) -> None:
    """Add a file, or all below a folder, its links to the list of links."""
    open_paths = [(path, name)]
    while open_paths:
        path, name = open_paths.pop()
        try:
            status = path.stat()
            key = status.st_dev, status.st_ino
            if key in seen:
                continue
            seen.add(key)
            if not stat.S_ISDIR(status.st_mode):
                if stat.S_ISREG(status.st_mode):
                    files.found.append((path, name))
                continue
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            what = "a link that leads nowhere, or around in a circle" if path.is_symlink() else f"cannot be read ({error.strerror})"
            fault = InputError(what, where=str(path), remedy="remove it, or mend its target or rights")
            if not name:
                raise fault from error
            files.faults.append(fault)
            continue
        names = {entry.name for entry in entries}
        if name and _made_here(path, names):
            files.made_here.append(whole_characters(name))
            continue
        rows = _saved_rows(path) if names.issuperset(_SAVED) else None
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _LEFT_OUT or (rows is not None and entry.name not in rows):
                continue
            if "dataset_dict.json" in names and entry.name == "dataset_dict.json":
                continue
            below = path / entry.name, f"{name}/{entry.name}" if name else entry.name
            (links if entry.is_symlink() else open_paths).append(below)


def _made_here(folder: Path, names: set[str]) -> bool:
    """Whether a folder is a workspace, or has a card that says that zelo wrote it."""
    try:
        if "recipe.toml" in names:
            return "[ingest]" in (folder / "recipe.toml").read_text("utf-8", "replace")
        if "README.md" in names:
            with (folder / "README.md").open(encoding="utf-8", errors="replace") as card:
                head = card.read(2000)
            return head.startswith("---\n") and _MADE_HERE.search(head.split("\n---\n", 1)[0]) is not None
    except OSError:
        pass  # what cannot be read is found out where it is read
    return False


def _saved_rows(folder: Path) -> set[str] | None:
    """Names of the files with rows in a folder that `datasets` saved; None if it is something else."""
    try:
        return {str(part["filename"]) for part in json.loads((folder / "state.json").read_text("utf-8"))["_data_files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
