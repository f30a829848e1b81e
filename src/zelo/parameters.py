"""Frozen dataclasses as tables of TOML: fields with a meaning and a range, checked when they are read, explained when written."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from zelo.errors import RecipeError


def parameter(default: Any, about: str, *, least: float | None = None, most: float | None = None) -> Any:
    """Return a dataclass field with the line that documents it and its range, ends included."""
    metadata = {"about": about, "least": least, "most": most}
    if isinstance(default, list):
        return field(default_factory=lambda: tuple(default), metadata=metadata)
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def toml_section(name: str, section: Any) -> list[str]:
    """Return a dataclass as lines of TOML, every parameter with the line that explains it."""
    lines, tables = ["", f"[{name}]  # {_summary(type(section))}"], []
    for item in dataclasses.fields(section):
        value = getattr(section, item.name)
        if isinstance(value, Mapping):  # after the plain keys, which would belong to the table otherwise
            lines += [] if value else [f"# {item.name}: {item.metadata['about']}"]
            tables += [line for key, table in value.items() for line in toml_section(f"{name}.{item.name}.{toml_value(key)}", table)]
        else:
            lines.append(f"{item.name} = {toml_value(value)}  # {item.metadata['about']}")
    return lines + tables


def _summary(section: Any) -> str:
    return (section.__doc__ or "").splitlines()[0]


def toml_value(value: Any) -> str:
    """Return a value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(
            f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c for c in value.replace("\\", "\\\\").replace('"', '\\"')
        )
        return f'"{escaped}"'
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return repr(value)


def parse_value(text: str) -> Any:
    """Return a value of the command line: TOML, or else a string."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text  # a bare word on the command line is a string
    return parsed["value"] if len(parsed) == 1 else text


def require_known(key: str, known: Mapping[str, Any], where: str, kind: str) -> None:
    """Raise RecipeError, with the nearest known one, unless the key is known."""
    if key not in known:
        near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.4)
        remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise RecipeError(f"unknown {kind} {key!r}", where=where, remedy=remedy)


def build(cls: type, data: Any, where: str, prefix: str) -> Any:
    """Return a dataclass made of plain tables; `prefix` is the place of its keys, `where` the file in messages.

    Raises:
        RecipeError: an unknown key, or a value of the wrong type or out of range.
    """
    if not isinstance(data, Mapping):
        raise RecipeError(f"{prefix.rstrip('.')} = {data!r} is not a section", where=where, remedy=f"write [{prefix.rstrip('.')}]")
    hints = typing.get_type_hints(cls)
    items = {f.name: f for f in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for key, value in data.items():
        require_known(key, items, f"{where} [{prefix.rstrip('.')}]" if prefix else where, "key")
        hint = hints[key]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            values[key] = build(hint, value, where, f"{key}.")
        elif typing.get_origin(hint) is Mapping:
            if not isinstance(value, Mapping):
                raise RecipeError(f"{prefix}{key} = {value!r} is not a table", where=where, remedy=f'write [{prefix}{key}."NAME"]')
            made = typing.get_args(hint)[1]
            values[key] = {name: build(made, table, where, f"{prefix}{key}.{toml_value(name)}.") for name, table in value.items()}
        else:
            values[key] = _check(value, hint, items[key].metadata, where, prefix + key)
    return cls(**values)


def _check(value: Any, hint: Any, metadata: Mapping[str, Any], where: str, key: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is Literal:
        if value not in typing.get_args(hint):
            raise RecipeError(f"{key} = {value!r}", where=where, remedy=f"use one of: {', '.join(typing.get_args(hint))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple) or not value or not all(isinstance(v, str) for v in value):
            raise RecipeError(f"{key} = {value!r} is not a list of names", where=where, remedy='write ["a", "b"]')
        if len(set(value)) < len(value):
            raise RecipeError(f"{key} = {list(value)!r} names something twice", where=where, remedy="name each once")
        return tuple(value)
    wanted: Any = (int, float) if hint is float else hint
    if isinstance(value, bool) != (hint is bool) or not isinstance(value, wanted):
        kind = hint.__name__ if isinstance(hint, type | types.GenericAlias) else str(hint)
        raise RecipeError(f"{key} = {value!r} is not of type {kind}", where=where)
    if hint is str and not value.isascii() and value.encode("utf-8", "ignore").decode() != value:
        raise RecipeError(f"{key} = {value!r} is not UTF-8", where=where, remedy="rename it")
    least, most = metadata.get("least"), metadata.get("most")
    if hint is float and not abs(value) <= sys.float_info.max:
        raise RecipeError(f"{key} = {value!r} is not a finite number", where=where)
    if hint in (int, float) and not ((least is None or value >= least) and (most is None or value <= most)):
        bounds = f"at least {least}" if most is None else f"between {least} and {most}"
        raise RecipeError(f"{key} = {value!r} is out of range", where=where, remedy=f"it must be {bounds}")
    return float(value) if hint is float else value
