"""Prompts as TOML files, whatever they ask, and other named files: how they are found, read and filled.

What a prompt of a kind must hold is said where the kind is defined: `judges/prompt_files.py`, `reasoning/prompt_files.py`.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar

from zelo.errors import InputError

P = TypeVar("P")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


class Shelf(Generic[P]):
    """The TOML files that come with zelo in a folder of the package, and others of the same form."""

    def __init__(self, folder: str, parse: Callable[[str, str], P], what: str = "prompt") -> None:
        """Take the folder, what makes one of a file's text and name, and a word for what it is."""
        self._folder, self._parse, self._what = resources.files("zelo").joinpath(*folder.split("/")), parse, what
        self._read: dict[str, P] = {}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of those that come with zelo."""
        return tuple(sorted(f.name.removesuffix(".toml") for f in self._folder.iterdir() if f.name.endswith(".toml")))

    def load(self, name_or_path: str, folder: Path | None = None, among: Sequence[str] | None = None) -> P:
        """Read one.

        Args:
            name_or_path: the name of one that comes with zelo, or a TOML file.
            folder: where the file is looked for; the current one by default.
            among: names to propose where there is no such one; all by default.

        Raises:
            InputError: no such one, a file that cannot be read, or what `parse` raises.
        """
        if name_or_path in self.names:
            return self._packaged(name_or_path)
        path = (folder or Path()) / name_or_path
        if not name_or_path.endswith(".toml") or not path.is_file():
            known = self.names if among is None else among
            near = difflib.get_close_matches(name_or_path, known, n=1, cutoff=0.5)
            remedy = f"did you mean {near[0]!r}?" if near else f"give a TOML file or one of: {', '.join(known)}"
            raise InputError(f"no {self._what} {name_or_path!r}", remedy=remedy)
        try:
            text = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot be read ({error})", where=str(path), remedy="save it as UTF-8 text") from error
        return self._parse(text, str(path))

    def _packaged(self, name: str) -> P:
        if name not in self._read:
            self._read[name] = self._parse((self._folder / f"{name}.toml").read_text("utf-8"), f"{name}.toml")
        return self._read[name]


def table_of(text: str, where: str, keys: Sequence[str]) -> dict[str, Any]:
    """Read TOML that may have these keys.

    Raises:
        InputError: it is none, or has another key.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not TOML ({error})", where=where, remedy="see those that come with zelo") from error
    for key in data:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1, cutoff=0.4)
            remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(keys)}"
            raise InputError(f"unknown key {key!r}", where=where, remedy=remedy)
    return data


def text_of(data: Mapping[str, Any], key: str, where: str) -> str:
    """Return a text of a table without the line breaks around it, "" where it is not there.

    Raises:
        InputError: it is something else.
    """
    value = data.get(key, "")
    if not isinstance(value, str):
        raise InputError(f"{key} is not a text", where=where, remedy="write it in quotes")
    return value.strip("\n")


def digest_of(parts: Iterable[str]) -> str:
    """Return a hash of a prompt's texts, 8 hexadecimal digits: a changed prompt never reuses answers to the old one."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def placeholders(text: str) -> list[str]:
    """Return the {names} in a text, as often as they stand there."""
    return list(_split(text)[1::2])


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put values in the place of {names}, in one pass: braces within a value stay as they are."""
    parts = list(_split(template))
    parts[1::2] = [values.get(name, f"{{{name}}}") for name in parts[1::2]]
    return "".join(parts)


@lru_cache(maxsize=64)
def _split(template: str) -> tuple[str, ...]:
    """Texts and, between them, names."""
    return tuple(_PLACEHOLDER.split(template))
