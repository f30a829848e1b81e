"""Prompts of reasoning as named files: TOML with the words, and one ending per task. `prompts/` has those that come with zelo.

A prompt's id holds a hash of its texts: a changed prompt never reuses what was written to the old one.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast, get_args

from zelo.errors import InputError
from zelo.judges.prompt_files import fill
from zelo.language_models.protocol import Role
from zelo.types import Task

Kind = Literal["solve", "edit", "guide"]

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
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
        return f"{self.id}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:8]}"

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
    prompt = _packaged(name_or_path) if name_or_path in prompt_names() else _own(name_or_path, kind)
    if prompt.kind != kind:
        known = ", ".join(n for n in prompt_names() if _packaged(n).kind == kind)
        raise InputError(f"prompt {name_or_path!r} is to {prompt.kind}, not to {kind}", remedy=f"use one of: {known}")
    return prompt


def _own(path_name: str, kind: Kind) -> Prompt:
    path = Path(path_name)
    if path.suffix != ".toml" or not path.is_file():
        known = [n for n in prompt_names() if _packaged(n).kind == kind]
        near = difflib.get_close_matches(path_name, known, n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]!r}?" if near else f"give a TOML file or one of: {', '.join(known)}"
        raise InputError(f"no prompt {path_name!r}", remedy=remedy)
    try:
        return _parse(path.read_text("utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", where=path_name, remedy="save it as UTF-8 text") from error


@cache
def prompt_names() -> tuple[str, ...]:
    """Return the names of the prompts that come with zelo."""
    files = (resources.files("zelo") / "reasoning" / "prompts").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


@cache
def _packaged(name: str) -> Prompt:
    return _parse((resources.files("zelo") / "reasoning" / "prompts" / f"{name}.toml").read_text("utf-8"), f"{name}.toml")


def _parse(text: str, where: str) -> Prompt:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not TOML ({error})", where=where, remedy="see the prompts that come with zelo") from error
    for key in data:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.4)
            raise InputError(
                f"unknown key {key!r}", where=where, remedy=f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_KEYS)}"
            )
    if data.get("kind") not in get_args(Kind):
        raise InputError(f"kind = {data.get('kind')!r}", where=where, remedy=f"use one of: {', '.join(get_args(Kind))}")
    kind = cast(Kind, data["kind"])
    texts = {key: _text(data.get(key, ""), key, where) for key in ("id", "about", "system", "user", "example")}
    endings = data.get("endings", {})
    if not isinstance(endings, dict) or set(endings) != set(get_args(Task)):
        raise InputError("[endings] needs a text for every task", where=where, remedy=f"give: {', '.join(get_args(Task))}")
    behaviors = data.get("behaviors", {})
    if kind == "guide" and (not isinstance(behaviors, dict) or not {"reason", "reflect", "explore", "verify"} <= behaviors.keys()):
        raise InputError("[behaviors] lacks one", where=where, remedy="give: reason, reflect, explore, verify")
    used = set(_PLACEHOLDER.findall(texts["user"]))
    if not texts["id"] or _NEEDED[kind] - used or used - _ALLOWED[kind]:
        wanted = ", ".join(f"{{{name}}}" for name in sorted(_NEEDED[kind]))
        raise InputError(
            f"the id is empty, or `user` has not exactly the placeholders {wanted}", where=where, remedy="put each where it belongs"
        )
    tables = [{key: _text(value, key, where) for key, value in table.items()} for table in (endings, behaviors)]
    return Prompt(kind=kind, endings=cast("Mapping[Task, str]", tables[0]), behaviors=tables[1], **texts)


def _text(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{key} is not a text", where=where, remedy="write it in quotes")
    return value.strip("\n")
