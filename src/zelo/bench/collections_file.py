"""The file that says what a bench is: collections by name, one recipe for all of them, systems and students beside it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zelo import recipe as recipes
from zelo.errors import RecipeError
from zelo.parameters import require_known
from zelo.recipe import Recipe

_TEXT, _LIST, _TABLE = (str, "text"), (list, "list"), (dict, "table")
_KEYS = {"recipe": _TEXT, "baseline": _TEXT, "systems": _LIST, "settings": _TABLE, "collections": _TABLE, "students": _TABLE}
_OF_COLLECTION = {"path": _TEXT, "domain": _TEXT, "settings": _TABLE}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Entry:
    """One collection: its name in the table, where it is, what it is about, and its recipe."""

    name: str
    domain: str
    recipe: Recipe
    students: Mapping[str, Recipe]


@dataclass(frozen=True)
class Bench:
    """What to run.

    Attributes:
        entries: the collections, in the order of the file.
        systems: asked beside the workspaces' own rankings, as by `zelo evaluate --system`.
        baseline: what the others are held against; "" = the first stage with the best mean.
    """

    entries: tuple[Entry, ...]
    systems: tuple[str, ...]
    baseline: str


def read_bench(path: Path) -> Bench:
    """Read a bench file. Paths of collections and of the recipe are relative to it.

    Raises:
        RecipeError: no such file, not TOML, an unknown key, a value of the wrong type, or a setting that the recipe refuses.
    """
    try:
        data = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot be read ({error})", where=str(path), remedy="give a TOML file, see docs/bench.md") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"not TOML ({error})", where=str(path)) from error
    _checked(data, _KEYS, str(path))
    if not data.get("collections"):
        raise RecipeError("names no collection", where=str(path), remedy='write [collections.NAME] with path = "FOLDER"')
    systems = data.get("systems", [])
    if not all(isinstance(name, str) for name in systems) or len(set(systems)) < len(systems):
        raise RecipeError("systems is not a list of different names", where=str(path), remedy='write ["a", "b"]')
    base = _recipe(data.get("recipe", "demo"), path)
    entries = tuple(_entry(name, table, data, base, path) for name, table in data["collections"].items())
    return Bench(entries, tuple(systems), data.get("baseline", ""))


def _recipe(name: str, path: Path) -> Recipe:
    beside = path.parent / name
    return recipes.load(beside if name not in recipes.names() and beside.is_file() else name)


def _entry(name: str, table: Any, data: Mapping[str, Any], base: Recipe, path: Path) -> Entry:
    where = f"{path} [collections.{name}]"
    if not _NAME.fullmatch(name):
        raise RecipeError(f"{name!r} cannot be the name of a folder", where=where, remedy="use letters, digits, - and _")
    _checked(table, _OF_COLLECTION, where)
    place = str((path.parent / table["path"]).resolve()) if "path" in table else name
    recipe = _changed(base, data.get("settings", {}), f"{path} [settings]")
    recipe = _changed(recipe, table.get("settings", {}), where)
    recipe = _changed(recipe, {"ingest": {"collection": place}}, where)
    students = {}
    for student, settings in data.get("students", {}).items():
        there = f"{path} [students.{student}]"
        if not _NAME.fullmatch(student) or student in ("bm25", "dense", "imported", "fused", "judges", "pointwise"):
            raise RecipeError(f"{student!r} cannot be the name of a student", where=there, remedy="use letters, digits, - and _")
        if not isinstance(settings, Mapping) or set(settings) != {"train"}:
            raise RecipeError("a student differs in [train] alone", where=there, remedy='write train.student = "embedding"')
        students[student] = _changed(recipe, settings, there)
    return Entry(name, table.get("domain", "") or name, recipe, students)


def _changed(recipe: Recipe, settings: Mapping[str, Any], where: str) -> Recipe:
    """The recipe with some of its tables' values replaced."""
    data = recipes.to_dict(recipe)
    for section, values in settings.items():
        require_known(section, data, where, "section")
        if isinstance(values, Mapping) and isinstance(data[section], dict):
            data[section] = {**data[section], **values}
        else:
            data[section] = values
    return recipes.from_dict(data, where=where)


def _checked(table: Any, known: Mapping[str, tuple[type, str]], where: str) -> None:
    if not isinstance(table, Mapping):
        raise RecipeError("is not a table", where=where, remedy='write key = "value" below [the heading]')
    for key, value in table.items():
        require_known(key, known, where, "key")
        kind, word = known[key]
        if not isinstance(value, kind):
            raise RecipeError(f"{key} = {value!r} is not a {word}", where=where)
