"""The README.md of a model folder: what the model is, what it was made from, what is not known about it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import zelo
from zelo.encoders.weights import resolve_model
from zelo.errors import ZeloError

NOT_MEASURED = (
    "Its quality was not measured when this was written; the `evaluate` stage of its workspace does that, against human labels, "
    "on questions that it has not learned from. It was not compared with published rerankers."
)


def model_card(title: str, summary: str, facts: Mapping[str, object], encoder: str, *, holds_weights: bool, usage: str) -> str:
    """Return the card as Markdown with the front matter that model hubs read.

    Args:
        title: of the page.
        summary: what the model does, a paragraph.
        facts: name -> value, the rows of a table.
        encoder: name or folder of the model that it was made from.
        holds_weights: whether the folder holds weights derived from that model's.
        usage: Python code.
    """
    license_name = license_of(encoder)
    base = name_of(encoder)
    stated = f"`{license_name}` according to its card" if license_name else "which its card does not state"
    license_note = (
        f"The weights are derived from those of `{base}`, whose license ({stated}) goes with them."
        if holds_weights
        else f"No weights of `{base}` are in this folder; that model's license ({stated}) applies to it alone."
    )
    front = [f"library_name: {'sentence-transformers' if holds_weights else 'zelo'}", "pipeline_tag: text-ranking"]
    if license_name and holds_weights:
        front.append(f"license: {license_name}")
    rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in facts.items())
    return (
        "---\n" + "\n".join([*front, "tags: [reranker, zelo]"]) + "\n---\n"
        f"# {title}\n\n{summary}\n\n```python\n{usage}\n```\n\n"
        f"| | |\n|---|---|\n{rows}\n| written by | zelo {zelo.__version__} |\n\n"
        f"**Quality.** {NOT_MEASURED}\n\n"
        "**Labels.** The targets come from judges that compared documents in pairs, and the model inherits their errors; no stage "
        "before `evaluate` reads human labels.\n\n"
        f"**License.** {license_note} The texts that it learned from may have terms of their own.\n"
    )


def name_of(encoder: str) -> str:
    """Return an encoder's name; of a folder the last part, since a card travels and a path does not."""
    return Path(encoder).resolve().name if Path(encoder).is_dir() else encoder


def license_of(encoder: str) -> str:
    """Return the license that a model's own card states in its front matter, or ""."""
    try:
        lines = (resolve_model(encoder, download=False) / "README.md").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError, ZeloError):  # a card is not worth failing for, or asking a hub
        return ""
    if not lines or lines[0].strip() != "---":
        return ""
    for line in lines[1:]:
        if line.strip() == "---":
            break
        if line.startswith("license:"):
            return line.removeprefix("license:").strip().strip("'\"")
    return ""


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
