"""Where documents, queries and labels come from. All collections have the shape of `Collection`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zelo.collections.beir import BeirFolder, write_beir
from zelo.collections.protocol import Collection
from zelo.collections.python_docs import PythonDocs
from zelo.collections.synthetic import Synthetic
from zelo.errors import InputError

__all__ = ["BUILT_IN", "BeirFolder", "Collection", "PythonDocs", "Synthetic", "open_collection", "write_beir"]

BUILT_IN: dict[str, Callable[[], Collection]] = {"python_docs": PythonDocs, "synthetic": Synthetic}


def open_collection(name_or_path: str | Path) -> Collection:
    """Open a built-in collection by name, or a BEIR folder by path.

    A name wins over a folder of that name; write ./python_docs for the folder.

    Raises:
        InputError: neither a built-in name nor a BEIR folder; names what there is.
    """
    if str(name_or_path) in BUILT_IN:
        return BUILT_IN[str(name_or_path)]()
    folder = Path(name_or_path)
    if not folder.exists():
        remedy = f"built in are {', '.join(BUILT_IN)}; or give the path of a folder that holds corpus.jsonl and queries.jsonl"
        raise InputError("no such collection", where=str(name_or_path), remedy=remedy)
    return BeirFolder(folder)
