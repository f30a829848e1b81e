"""ARCHITECTURE.md tells the truth: its tree has every file. (test_house.py checks the direction of imports.)"""

from __future__ import annotations

import re
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


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
