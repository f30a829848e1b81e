"""ARCHITECTURE.md tells the truth: its tree has every file, and imports go in the direction that it states."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]

RANKS = {
    "types": 0, "errors": 0, "core": 1, "recipe": 1, "artifacts": 1, "progress": 1, "workspace": 2, "encoders": 2, "collections": 3,
    "retrievers": 4, "rerankers": 4, "judges": 5, "training": 5, "pipeline": 6, "show": 6, "report": 7, "stages": 8, "cli": 9,
}  # fmt: skip
"""Part of zelo -> its place in the direction of imports that ARCHITECTURE.md states: a part imports from lower places and itself."""


def imported(path: Path) -> Iterator[str]:
    """The full names of what a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    return path.relative_to(REPO / "src/zelo").parts[0].removesuffix(".py")


SOURCES = [path for path in sorted((REPO / "src/zelo").rglob("*.py")) if part_of(path) in RANKS]


def test_every_part_has_a_place() -> None:
    assert {part_of(path) for path in (REPO / "src/zelo").rglob("*.py")} == {*RANKS, "__init__", "__main__"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPO)))
def test_imports_go_one_way(path: Path) -> None:
    part = part_of(path)
    for name in imported(path):
        first, *rest = name.split(".")
        other = rest[0] if first == "zelo" and rest and rest[0] in RANKS else None
        assert other in (None, part) or RANKS[other] < RANKS[part], f"{path} imports {name}"
        if part == "core":
            assert first in ("zelo", "numpy", "scipy") or first in sys.stdlib_module_names, f"{path} imports {name}"


def test_every_source_file_is_in_the_tree_of_the_architecture() -> None:
    tree = re.findall(r"^```text\n(.*?)^```$", (REPO / "ARCHITECTURE.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)[1]
    package = REPO / "src/zelo"
    for path in sorted(package.rglob("*.py")):
        folder = path.relative_to(package).parent
        if path.name == "__init__.py" or folder.name == "stages":
            continue
        assert re.search(rf"(?<!\w){path.stem}(?!\w)", tree), path
    for folder in sorted(p for p in package.iterdir() if p.is_dir() and p.name != "__pycache__"):
        assert f"  {folder.name}/ " in tree, folder
