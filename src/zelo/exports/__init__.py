"""`zelo export`: a workspace's scores as training data for other libraries, and as labels. One more format is one function and one line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zelo.errors import InputError
from zelo.exports import beir, flagembedding, sentence_transformers, tevatron
from zelo.exports.card import Written, write_card
from zelo.exports.material import Choice, Material
from zelo.workspace import Workspace, writable

__all__ = ["FORMATS", "Choice", "Exported", "export"]


@dataclass(frozen=True)
class Format:
    """A format: what it is for, and the function that writes it into a folder."""

    about: str
    write: Callable[[Material, Path], Written]


FORMATS: Mapping[str, Format] = {
    "sentence-transformers": Format(
        "Parquet: lists for LambdaLoss, pairs for BCE or MSE, triplets for MarginMSE", sentence_transformers.write
    ),
    "flagembedding": Format("JSON Lines of query, pos, neg, pos_scores, neg_scores", flagembedding.write),
    "tevatron": Format("JSON Lines of query, positive_passages, negative_passages; and the corpus", tevatron.write),
    "beir": Format("corpus, queries and graded qrels", beir.write),
}
"""By name, as `--format` takes it."""


@dataclass(frozen=True)
class Exported:
    """Where it lies, and rows by file."""

    folder: Path
    rows: Mapping[str, int]
    notes: tuple[str, ...]


def export(workspace: Workspace, form: str, folder: Path, choice: Choice) -> Exported:
    """Write a folder in a format, with a data set card; all of it or nothing.

    Raises:
        InputError: an unknown format, the folder is there already, or nothing is left to write.
        WorkspaceError: the workspace has no scores yet.
    """
    if form not in FORMATS:
        raise InputError(f"no format {form!r}", where="--format", remedy=f"there are: {', '.join(FORMATS)}")
    if folder.exists():
        raise InputError("this exists already", where=str(folder), remedy="remove it, or give another place with --out")
    material = Material.read(workspace, choice)
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    with writable(folder):
        try:
            partial.mkdir(parents=True)
            written = FORMATS[form].write(material, partial)
            write_card(material, form, written, partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return Exported(folder, written.rows, (*material.notes, *written.notes))
