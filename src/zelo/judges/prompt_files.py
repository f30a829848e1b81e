"""Prompts of judges: TOML with the texts that a language model is asked with. `prompts/` has those that come with zelo.

A prompt's id holds a hash of its texts, so that a changed prompt never reuses answers to the old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from zelo.errors import InputError
from zelo.judges.prompt_reading import Shelf, digest_of, placeholders, table_of, text_of

Kind = Literal["score", "label", "order"]
Format = Literal["json", "text"]

_ALLOWED: Mapping[str, frozenset[str]] = {
    "system": frozenset({"criterion", "context"}),
    "question": frozenset({"query", "mark"}),
    "documents": frozenset({"query", "second_query", "a", "b", "first", "second", "mark", "names", "texts"}),
    "formats": frozenset({"a", "b", "names"}),
}
_NEEDED: Mapping[Kind, frozenset[str]] = {
    "score": frozenset({"query", "a", "b", "first", "second", "mark"}),
    "label": frozenset({"query", "a", "b", "first", "second", "mark"}),
    "order": frozenset({"query", "texts", "names", "mark"}),
}
_KEYS = ("id", "answer", "across", "system", "question", "documents", "formats")


@dataclass(frozen=True)
class Prompt:
    """The texts of a prompt, with placeholders in braces.

    Attributes:
        id: its name; part of every answer's prompt id.
        answer: "score" (reasons, then a number), "label" (one label), "order" (labels, best first).
        across: the prompt for comparisons across queries, a name or a file beside this one; "" = none.
        system: the instructions, the same for all queries.
        question: the query; may be empty where `documents` shows it.
        documents: the documents, different in every call.
        formats: how to answer: "json" also where the server enforces a schema, since some ignore it silently; "text" in tags or a label.
    """

    id: str
    answer: Kind
    across: str
    system: str
    question: str
    documents: str
    formats: Mapping[Format, str]

    @property
    def digest(self) -> str:
        """A hash of all its texts, 8 hexadecimal digits."""
        parts = [self.answer, self.system, self.question, self.documents, *(f"{k}={self.formats[k]}" for k in sorted(self.formats))]
        return digest_of(parts)


def load_prompt(name_or_path: str, folder: Path | None = None) -> Prompt:
    """Read a prompt: the name of one that comes with zelo, or a TOML file, looked for in `folder` (default: the current one).

    Raises:
        InputError: no such prompt, not TOML, a key or placeholder that does not belong, or one that is missing.
    """
    prompt = _SHELF.load(name_or_path, folder)
    if name_or_path not in prompt_names() and prompt.across and prompt.across not in prompt_names():
        # A fault in it should not wait for the first question across queries.
        load_prompt(prompt.across, ((folder or Path()) / name_or_path).parent)
    return prompt


def load_across(name_or_path: str, prompt: Prompt) -> Prompt | None:
    """Read the prompt that a prompt names for comparisons across queries; None if it names none."""
    if not prompt.across:
        return None
    folder = None if name_or_path in prompt_names() else Path(name_or_path).parent
    return load_prompt(prompt.across, folder)


def prompt_names() -> tuple[str, ...]:
    """Return the names of the prompts that come with zelo."""
    return _SHELF.names


def _parse(text: str, where: str) -> Prompt:
    data = table_of(text, where, _KEYS)
    said = data.get("answer")
    if said not in get_args(Kind):
        raise InputError(f"answer = {said!r}", where=where, remedy=f"use one of: {', '.join(get_args(Kind))}")
    answer: Kind = cast(Kind, said)
    formats = _formats(data.get("formats"), answer, where)
    texts = {key: text_of(data, key, where) for key in ("id", "across", "system", "question", "documents")}
    for key in ("id", "system", "documents"):
        if not texts[key].strip():
            raise InputError(f"{key} is empty", where=where)
    for key, value in [*texts.items(), *(("formats", value) for value in formats.values())]:
        _check_placeholders(key, value, where)
    missing = _NEEDED[answer] - set(placeholders(texts["question"] + texts["documents"]))
    if missing:
        raise InputError(f"question and documents lack {{{sorted(missing)[0]}}}", where=where, remedy="put it where its text belongs")
    return Prompt(answer=answer, formats=formats, **texts)


def _formats(value: Any, answer: Kind, where: str) -> dict[Format, str]:
    known: tuple[Format, ...] = ("text",) if answer == "label" else ("json", "text")
    if not isinstance(value, dict) or set(value) != set(known) or not all(isinstance(v, str) and v.strip() for v in value.values()):
        raise InputError("[formats] is not what the answer needs", where=where, remedy=f"give a text for each of: {', '.join(known)}")
    return {key: value[key].strip("\n") for key in known}


def _check_placeholders(key: str, text: str, where: str) -> None:
    for name in placeholders(text):
        if name not in _ALLOWED.get(key, frozenset()):
            allowed = ", ".join(f"{{{n}}}" for n in sorted(_ALLOWED.get(key, ())))
            raise InputError(f"{{{name}}} has no meaning in {key}", where=where, remedy=f"use: {allowed}" if allowed else "leave it out")


_SHELF = Shelf("judges/prompts", _parse)
