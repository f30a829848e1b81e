"""The data set card: README.md with the header that the Hugging Face hub reads, and how the labels were made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zelo.artifacts import read_table
from zelo.encoders.lexical import detect_language
from zelo.errors import InputError

if TYPE_CHECKING:
    from zelo.exports.material import Material

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))
_SAMPLE = 200  # texts whose language is looked at


@dataclass(frozen=True)
class Written:
    """What a format wrote: rows by file, files by configuration and split, remarks for the card and for the user."""

    rows: Mapping[str, int]
    configs: Mapping[str, Mapping[str, str]]
    about: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of_jsonl(cls, rows: Mapping[str, int], left_out: int, material: Material) -> Written:
        """Describe <split>.jsonl files of positives and negatives.

        Raises:
            InputError: nothing was written.
        """
        choice = material.choice
        if not rows:
            what = f"no question has a positive (target from {choice.positive:g}) and a negative (below {choice.negative:g})"
            raise InputError(what, where=str(material.workspace.root), remedy="change --positive and --negative")
        about = (
            f"Positives have a target of {choice.positive:g} or more; negatives have one below {choice.negative:g}, and are the "
            f"hardest {choice.negatives} of a question."
        )
        notes = (f"{left_out:,} questions without a positive or a negative are left out",) if left_out else ()
        return cls(rows, {"default": {name.removesuffix(".jsonl"): name for name in rows}}, (about,), notes)


def write_card(material: Material, form: str, written: Written, folder: Path) -> None:
    """Write README.md."""
    (folder / "README.md").write_text(_header(material, written) + _body(material, form, written), "utf-8")


def _header(material: Material, written: Written) -> str:
    texts = [q.text for q in material.questions[:_SAMPLE]] + [q.documents[0].document.full_text for q in material.questions[:_SAMPLE]]
    total = sum(written.rows.values())
    size = next((name for limit, name in _SIZES if total < limit), "n>10M")
    name = json.dumps(f"{_name(material)}, judged by zelo", ensure_ascii=False)
    lines = [
        "---",
        f"language:\n- {detect_language(texts)}",
        f"pretty_name: {name}",
        "license: unknown",
        "task_categories:\n- text-ranking",
    ]
    lines += ["tags:\n- reranking\n- zelo\n- synthetic-labels", f"size_categories:\n- {size}", "configs:"]
    for config, files in written.configs.items():
        lines.append(f"- config_name: {config}\n  data_files:")
        lines += [f"  - split: {split}\n    path: {path}" for split, path in files.items()]
    return "\n".join(lines) + "\n---\n\n"


def _name(material: Material) -> str:
    return Path(material.workspace.recipe.ingest.collection).name


def _body(material: Material, form: str, written: Written) -> str:
    recipe, choice = material.workspace.recipe, material.choice
    documents = sum(len(q.documents) for q in material.questions)
    parts = [
        f"# {_name(material)}, judged by zelo",
        f"{len(material.questions):,} questions with {documents:,} scored documents, in the format of {form}. **No person labeled "
        "anything here.** Judges compared documents of a question pair by pair; a Thurstone or Bradley-Terry fit made one score per "
        "document of that, and a logistic of the standardized score a target in [0, 1] (zELO, arXiv 2509.12541).",
        "## Files\n\n" + "\n".join(f"- `{name}`: {count:,} rows" for name, count in written.rows.items()),
        *written.about,
        "## Judges\n\n" + _judges(material),
        "## Before you use it\n\n"
        "- Scores are relative to the documents that were compared. A document that was not compared has no label: it is not irrelevant.\n"
        "- A judge can favor what it would have written or found itself. A model trained on these labels learns that too.\n"
        "- Texts keep the terms of their sources, and providers of language models restrict what their answers may train. Set `license` "
        "accordingly before you publish this.",
        f"## How it was made\n\nSplit: {choice.split}. Pairs: `{recipe.pair.design}`; link: `{recipe.fit.link}`; seed: {recipe.seed}.",
    ]
    return "\n\n".join(parts) + "\n"


def _judges(material: Material) -> str:
    workspace = material.workspace
    if not workspace.path("judges").is_file():
        return "Not known: this workspace has no table of judges."
    table = read_table(workspace.path("judges"), "judges", ("judge", "judgments", "missing", "reliability", "weight"))
    rows = zip(*(list(table[name]) for name in ("judge", "judgments", "missing", "reliability", "weight")), strict=True)
    lines = [f"| {j} | {int(n):,} | {int(m):,} | {r:.2f} | {w:.2f} |" for j, n, m, r, w in rows]
    return "| judge | comparisons | missing | reliability, without labels | weight |\n| --- | --- | --- | --- | --- |\n" + "\n".join(lines)
