"""Where documents, queries and labels come from. All collections have the shape of `Collection`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from zelo.collections.beir import BeirFolder, write_beir
from zelo.collections.documents import HUB, Documents, Reading
from zelo.collections.protocol import Collection
from zelo.collections.python_docs import PythonDocs
from zelo.collections.synthetic import Synthetic
from zelo.errors import InputError

__all__ = [
    "BUILT_IN",
    "HUB",
    "BeirFolder",
    "Collection",
    "Documents",
    "PythonDocs",
    "Reading",
    "Synthetic",
    "open_collection",
    "write_beir",
]

BUILT_IN: dict[str, Callable[[], Collection]] = {"python_docs": PythonDocs, "synthetic": Synthetic}
_CORPUS, _OTHERS = ("corpus.jsonl", "corpus.jsonl.gz"), ("queries.jsonl", "queries.jsonl.gz", "qrels")


def open_collection(name_or_path: str | Path, reading: Reading | None = None) -> Collection:
    """Open a built-in collection by name, a BEIR folder by path, or with queries any documents (`Documents`).

    A name wins over a folder of that name; write ./python_docs for the folder.

    Args:
        name_or_path: what to open.
        reading: where the queries are, and how documents are read. Queries of one's own go without the labels of a BEIR folder.

    Raises:
        InputError: it is not there, or there are no queries; names what there is.
    """
    reading = reading or Reading()
    name = str(name_or_path)
    if name in BUILT_IN:
        if reading.queries:
            raise InputError(f"{name} has its own queries", where="ingest.queries", remedy="leave it empty, or give documents of your own")
        return BUILT_IN[name]()
    folder = Path(name_or_path)
    if not name.startswith(HUB) and not folder.exists():
        remedy = f"built in are {', '.join(BUILT_IN)}; or give the path of a folder with documents"
        raise InputError("no such collection", where=name, remedy=remedy)
    corpus = next((folder / file for file in _CORPUS if (folder / file).is_file()), None)
    if not reading.queries:
        if corpus is not None or any((folder / file).exists() for file in _OTHERS):
            return BeirFolder(folder)
        remedy = "give what people asked, one per line: --queries FILE; or a folder that holds corpus.jsonl and queries.jsonl"
        raise InputError("documents without queries", where=name, remedy=remedy)
    if corpus is not None:
        return Documents(str(corpus), reading if reading.split == "all" else replace(reading, split="none"))
    return Documents(name, reading)
