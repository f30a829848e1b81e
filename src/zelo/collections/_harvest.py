"""Print the docstrings of the running interpreter's standard library as BEIR corpus lines.

Run as a script in a process of its own: importing the whole standard library has side effects
(warnings, platform modules that fail) that a caller's process should not have.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import re
import sys
from collections.abc import Iterator
from types import ModuleType

# Modules that open windows, print at import, or are tests, demos and private machinery.
_SKIPPED_NAMES = (
    "antigravity this idlelib lib2to3 test turtledemo tkinter turtle ntpath posixpath nt winreg winsound msvcrt pydoc_data "
    "msilib ensurepip __main__ __future__ sre_compile sre_constants sre_parse genericpath posix _pyrepl"
)
SKIPPED = frozenset(_SKIPPED_NAMES.split())
SKIPPED_SUBMODULES = ("__main__", ".tests", ".test", "encodings.", "distutils.", "xml.etree.c", "ctypes.macholib", "ctypes.wintypes")
MIN_CHARACTERS = 15  # shorter docstrings say nothing that the name does not
# Types whose methods share docstrings with others (bytes, frozenset, collections.abc ...): these keep them.
FIRST_TYPES = ("str", "list", "dict", "set", "tuple", "int", "float")
MAX_TITLE = 200


def _module_names() -> list[str]:
    # builtins and os.path first: their names are the ones people use
    names = ["builtins", "os.path"]
    for top in sorted(sys.stdlib_module_names):
        if top.startswith("_") or top in SKIPPED or top == "builtins":
            continue
        try:
            package = importlib.import_module(top)
        except Exception:  # a module of another platform; importing runs any code, so any error can come
            names.append(top)
            continue
        names.append(top)
        for info in pkgutil.walk_packages(getattr(package, "__path__", []), top + ".", onerror=lambda name: None):
            is_private = any(part.startswith("_") for part in info.name.split("."))
            if not is_private and not any(skipped in info.name + "." for skipped in SKIPPED_SUBMODULES):
                names.append(info.name)
    return names


def _modules() -> dict[str, ModuleType]:
    modules = {}
    for name in _module_names():
        try:
            modules[name] = importlib.import_module(name)
        except BaseException:  # a module of another platform, or one that exits when an optional library is missing
            continue
    return modules


def _signature(obj: object) -> str:
    try:
        text = str(inspect.signature(obj))  # type: ignore[arg-type]
    except Exception:  # inspect evaluates default values of C functions, which can fail in any way
        return "(...)" if callable(obj) else ""
    # A default value must not bring the user's environment, paths or memory addresses into the corpus.
    text = text.replace(repr(os.environ), "os.environ")
    if sys.executable:
        text = text.replace(repr(sys.executable), "sys.executable")
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _members(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The module's public classes and functions."""
    public = getattr(module, "__all__", None)
    for name in sorted(public if public is not None else vars(module), key=str.casefold):
        if name.startswith("_"):
            continue
        try:
            obj = getattr(module, name)
        except Exception:  # a name in __all__ that this build lacks, or a module's own __getattr__
            continue
        if inspect.isclass(obj) or inspect.isroutine(obj):
            yield name, obj


def _at_home(obj: object, module_name: str, has_all: bool) -> bool:
    """Whether the module is where an object is defined, as far as its users know."""
    home = getattr(obj, "__module__", None) or ""
    real = os.path.__name__ if module_name == "os.path" else module_name
    if home in (real, "_" + real, "_" + real.split(".")[0]):
        return True
    if has_all and home.startswith((real + ".", "_")):  # a package re-exports what its submodules or its C core define
        return True
    return real == "builtins" and home in ("io", "_io")  # open


def _entries(modules: dict[str, ModuleType], seen: dict[int, object]) -> dict[str, object]:
    """The public classes and functions by their best name; adds them to `seen`."""
    entries: dict[str, object] = {}
    for only_home in (True, False):  # an object is named after its home; what has none, after whoever exports it
        for module_name, module in modules.items():
            has_all = hasattr(module, "__all__")
            if not only_home and not has_all:
                continue
            for name, obj in _members(module):
                home = getattr(obj, "__module__", None) or ""
                fits = _at_home(obj, module_name, has_all) if only_home else home.split(".")[0] in sys.stdlib_module_names
                if fits and id(obj) not in seen:
                    seen[id(obj)] = obj
                    entries[name if module_name == "builtins" else f"{module_name}.{name}"] = obj
    return entries


def _methods(cls: type) -> Iterator[tuple[str, object]]:
    """Its own public methods, and those of its private bases: people know them under the public name."""
    bases = [b for b in cls.__mro__[1:] if b.__name__.startswith("_") or b.__module__.startswith("_")]
    members = {name: member for base in (*reversed(bases), cls) for name, member in vars(base).items()}
    for name, member in sorted(members.items(), key=lambda item: item[0]):
        target = member.__func__ if isinstance(member, staticmethod | classmethod) else member
        if not name.startswith("_") and (inspect.isroutine(target) or isinstance(target, property)):
            yield name, target


def _document(name: str, obj: object) -> dict[str, str] | None:
    if inspect.isclass(obj):  # its own words: a class without a docstring would show its base's
        doc = vars(obj).get("__doc__") or getattr(vars(obj).get("__init__"), "__doc__", None)
    else:
        doc = getattr(obj, "__doc__", None)
    text = inspect.cleandoc(doc).replace("\x00", "") if isinstance(doc, str) else ""
    if len(text) < MIN_CHARACTERS:
        return None
    if inspect.ismodule(obj):
        title = f"module {name}"
    elif isinstance(obj, property):
        title = name
    else:
        title = ("class " if inspect.isclass(obj) else "") + name + _signature(obj)
    return {"_id": name, "title": title[:MAX_TITLE], "text": text}


def _named_objects() -> Iterator[tuple[str, object]]:
    """All that may have a docstring, with its name, each object once, in order of precedence."""
    modules = _modules()
    seen: dict[int, object] = {}  # keeps the objects, so that an id() is not used twice
    entries = _entries(modules, seen)
    yield from ((name, module) for name, module in modules.items() if name != "builtins")

    # functions first: random.choice is a method of a hidden instance, and its users never see the class
    def precedence(item: tuple[str, object]) -> tuple[bool, int]:
        name, obj = item
        return inspect.isclass(obj), FIRST_TYPES.index(name) if name in FIRST_TYPES else len(FIRST_TYPES)

    for name, obj in sorted(entries.items(), key=precedence):
        yield name, obj
        if inspect.isclass(obj):
            for method_name, target in _methods(obj):
                if id(target) not in seen:
                    seen[id(target)] = target
                    yield f"{name}.{method_name}", target


def main() -> None:
    """Write the lines to standard output, sorted by id."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)  # whatever a module prints at import must not mix with the data
    by_text: dict[str, dict[str, str]] = {}
    named: set[str] = set()
    for name, obj in _named_objects():
        line = _document(name, obj)
        # a module and a function can share a name (unittest.main), copies share a text: the first one keeps it
        if line and name not in named and line["text"] not in by_text:
            named.add(name)
            by_text[line["text"]] = line
    for line in sorted(by_text.values(), key=lambda row: row["_id"]):
        out.write(json.dumps(line, ensure_ascii=False) + "\n")
    out.flush()
    os._exit(0)  # atexit hooks of the imported modules are none of ours


if __name__ == "__main__":
    main()
