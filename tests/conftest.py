"""Helpers that several test files use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("ZELO_SHARED", REPO.parent / "shared"))


def shared_collection(name: str) -> Path:
    """Return the folder of a real collection kept outside the repository, or skip the test where it is absent."""
    folder = SHARED / "collections" / name
    if not folder.is_dir():
        pytest.skip(f"collection {name} is not at {folder} (set ZELO_SHARED)")
    return folder
