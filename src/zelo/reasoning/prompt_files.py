"""Prompts of reasoning as named files: TOML with the words, and one ending per task. `prompts/` has those that come with zelo.

A prompt's id holds a hash of its texts: a changed prompt never reuses what was written to the old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from zelo.errors import InputError
from zelo.judges.prompt_reading import Shelf, digest_of, fill, placeholders, table_of, text_of
from zelo.language_models.protocol import Role
from zelo.types import Task

Kind = Literal["solve", "edit", "guide"]

_NEEDED: Mapping[Kind, frozenset[str]] = {
    "solve": frozenset({"problem"}),
    "edit": frozenset({"problem", "trace"}),
    "guide": frozenset({"problem", "so_far", "instruction"}),
}
_ALLOWED: Mapping[Kind, frozenset[str]] = {**_NEEDED, "solve": frozenset({"problem", "examples"})}
_KEYS = ("id", "kind", "about", "system", "user", "endings", "example", "behaviors")


@dataclass(frozen=True)
class Prompt:
    """The words of a prompt, with placeholders in braces.

    Attributes:
        id: its name.
        kind: "solve" (a problem), "edit" (a trace), "guide" (the next step of a trace).
        about: what it is for, in a line.
        system: the instructions.
        user: the message with {problem}, and {trace} or {so_far} and {instruction}; {examples} where it takes some.
        endings: how to answer, by task.
        example: an example in context, with {problem} and {trace}; "" = it takes none.
        behaviors: what each behavior of a step means, of kind "guide".
    """

    id: str
    kind: Kind
    about: str
    system: str
    user: str
    endings: Mapping[Task, str]
    example: str
    behaviors: Mapping[str, str]

    @property
    def name(self) -> str:
        """Its id and a hash of all its texts, 8 hexadecimal digits."""
        parts = [self.kind, self.system, self.user, self.example]
        parts += [f"{k}={v}" for table in (self.endings, self.behaviors) for k, v in sorted(table.items())]
        return f"{self.id}-{digest_of(parts)}"

    def messages(self, task: Task, *, concluding: bool = True, **values: str) -> tuple[tuple[Role, str], ...]:
        """Return what to send, with `values` in the place of placeholders and, if it is to conclude, the task's ending behind."""
        ending = self.endings[task] if concluding else ""
        user = fill(self.user, {"examples": "", **values}).strip("\n")
        user = f"{user}\n\n{ending}" if ending else user
        return (("system", self.system), ("user", user)) if self.system else (("user", user),)


def load_prompt(name_or_path: str, kind: Kind) -> Prompt:
    """Read a prompt: the name of one that comes with zelo, or a TOML file.

    Raises:
        InputError: no such prompt, one of another kind, not TOML, or a key or placeholder that does not belong or is missing.
    """
    known = [name for name in prompt_names() if _SHELF.load(name).kind == kind]
    prompt = _SHELF.load(name_or_path, among=known)
    if prompt.kind != kind:
        remedy = f"use one of: {', '.join(known)}"
        raise InputError(f"prompt {name_or_path!r} is to {prompt.kind}, not to {kind}", remedy=remedy)
    return prompt


def prompt_names() -> tuple[str, ...]:
    """Return the names of the prompts that come with zelo."""
    return _SHELF.names


def _parse(text: str, where: str) -> Prompt:
    data = table_of(text, where, _KEYS)
    if data.get("kind") not in get_args(Kind):
        raise InputError(f"kind = {data.get('kind')!r}", where=where, remedy=f"use one of: {', '.join(get_args(Kind))}")
    kind = cast(Kind, data["kind"])
    texts = {key: text_of(data, key, where) for key in ("id", "about", "system", "user", "example")}
    endings = data.get("endings", {})
    if not isinstance(endings, dict) or set(endings) != set(get_args(Task)):
        raise InputError("[endings] needs a text for every task", where=where, remedy=f"give: {', '.join(get_args(Task))}")
    behaviors = data.get("behaviors", {})
    if not isinstance(behaviors, dict) or (kind == "guide" and not {"reason", "reflect", "explore", "verify"} <= behaviors.keys()):
        raise InputError("[behaviors] lacks one", where=where, remedy="give: reason, reflect, explore, verify")
    used = set(placeholders(texts["user"]))
    if not texts["id"] or _NEEDED[kind] - used or used - _ALLOWED[kind]:
        wanted = ", ".join(f"{{{name}}}" for name in sorted(_NEEDED[kind]))
        raise InputError(
            f"the id is empty, or `user` has not exactly the placeholders {wanted}", where=where, remedy="put each where it belongs"
        )
    tables = [{key: text_of(table, key, where) for key in table} for table in (endings, behaviors)]
    return Prompt(kind=kind, endings=cast("Mapping[Task, str]", tables[0]), behaviors=tables[1], **texts)


_SHELF = Shelf("reasoning/prompts", _parse)
