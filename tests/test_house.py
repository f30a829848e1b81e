"""The house rules that a reader relies on: which way imports go, what is explained, how large things are."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator

import pytest

from conftest import REPO

SOURCE = REPO / "src" / "zelo"
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text("utf-8")) for path in FILES}

BASE = {"types", "errors"}
PARTS = {"collections", "retrievers", "language_models", "judges", "rerankers", "training"}
SPINE = {"artifacts", "parameters", "sections", "recipe", "progress", "workspace", "pipeline", "runner", "shards", "whole_queries"}
LOW = BASE | {"core", "encoders"}
COMMANDED = {
    "report",
    "stages",
    "show",
    "planning",
    "auditing",
    "serve",
    "systems",
    "tables",
    "frames",
    "plain",
    "reasoning",
    "refining",
    "exports",
    "optimizing",
    "bench",
    "watching",
    "promotion",
    "cluster",
}
MAY_IMPORT: dict[str, set[str]] = {
    "types": set(),
    "errors": set(),
    "core": BASE,
    "encoders": BASE | {"core"},
    "collections": LOW,
    "retrievers": LOW | {"collections"},
    "language_models": LOW | {"__version__"},
    "judges": LOW | {"language_models", "rerankers", "recipe"},
    "rerankers": LOW | {"language_models"},
    "training": LOW | {"rerankers", "recipe"},
    "reasoning": LOW | PARTS | SPINE,
    "exports": LOW | PARTS | SPINE | {"stages"},
    "artifacts": BASE,
    "recipe": BASE | {"parameters", "sections"},
    "sections": BASE | {"parameters"},
    "progress": BASE,
    "workspace": BASE | {"artifacts", "recipe"},
    "shards": set(),
    "whole_queries": set(),
    "cluster": BASE | {"shards", "__version__"},
    "fitting": BASE | {"artifacts", "core", "shards", "whole_queries"},
    "parameters": BASE,
    "pipeline": BASE | SPINE,
    "runner": BASE | SPINE,
    "report": LOW | PARTS | SPINE,
    "stages": LOW | PARTS | SPINE | {"fitting", "report"},
    "show": LOW | PARTS | SPINE,
    "serve": LOW | PARTS | SPINE | {"promotion", "report", "stages", "__version__"},
    "systems": LOW | PARTS | SPINE | {"report", "stages"},
    "bench": LOW | PARTS | SPINE | {"report", "stages", "systems"},
    "promotion": BASE | SPINE,
    "watching": LOW | PARTS | SPINE | {"report", "stages"},
    "commands": LOW | PARTS | SPINE | COMMANDED,
    "refining": LOW | PARTS | SPINE | {"stages", "planning", "watching", "promotion"},
    "optimizing": LOW | PARTS | SPINE | {"stages"},
    "cli": BASE | {"commands", "pipeline", "__version__"},
    "plain": BASE,
    "planning": LOW | PARTS | SPINE | {"stages", "plain"},
    "auditing": LOW | PARTS | SPINE | {"report", "stages", "plain"},
    "tables": BASE | {"core", "frames"},
    "frames": BASE | {"core"},
    "__init__": BASE | {"tables"},
    "__main__": {"cli"},
}
"""Part of the package -> what it may import, itself apart. `pipeline` finds the stages by their names and imports none."""

HEAVY = {"torch", "openvino", "transformers", "sentence_transformers", "tokenizers", "bm25s", "Stemmer", "py3langid", "matplotlib"}
HEAVY |= {"semantic_text_splitter", "pypdfium2", "selectolax", "charset_normalizer", "huggingface_hub"}
HEAVY |= {"ray", "lancedb", "pyarrow", "rich", "jinja2", "numba", "aiohttp", "pandas", "polars"}
IN_CORE = {"numpy", "scipy", "numba"}
MAX_LINES, MAX_FUNCTION = 300, 50


def part(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            if node.module == "zelo":
                yield from (f"zelo.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def at_start(tree: ast.Module) -> Iterator[str]:
    """What importing the module imports."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Try):
            yield from imported(node)


def test_there_is_something_to_look_at() -> None:
    assert {"cli.py", "core/paired_comparison.py"} <= set(TREES)
    assert {part(file) for file in TREES} == set(MAY_IMPORT)


@pytest.mark.parametrize("file", TREES)
def test_imports_go_one_way(file: str) -> None:
    ours = {module.split(".")[1] for module in imported(TREES[file]) if module.startswith("zelo.")}
    # The one place where the line reaches into reasoning: a judge that thinks.
    allowed = MAY_IMPORT[part(file)] | ({"reasoning"} if file == "judges/thinking.py" else set())
    assert ours - {part(file)} <= allowed


@pytest.mark.parametrize("file", TREES)
def test_what_is_heavy_is_imported_where_it_is_used(file: str) -> None:
    assert not {module.split(".")[0] for module in at_start(TREES[file])} & HEAVY


@pytest.mark.parametrize("file", [file for file in TREES if part(file) == "core"])
def test_core_is_mathematics(file: str) -> None:
    others = {module.split(".")[0] for module in imported(TREES[file])} - {"zelo", "__future__"} - set(sys.stdlib_module_names)
    assert others <= IN_CORE
    assert not {"random", "time", "datetime", "socket", "urllib", "subprocess"} & set(imported(TREES[file]))


def public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_"))


@pytest.mark.parametrize("file", TREES)
def test_what_is_public_is_explained(file: str) -> None:
    assert ast.get_docstring(TREES[file]), "the module"
    assert [node.name for node in public(TREES[file]) if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("file", TREES)
def test_sizes(file: str) -> None:
    explained = {
        n
        for node in ast.walk(TREES[file])
        if isinstance(node, ast.Expr)
        for n in range(node.lineno, (node.end_lineno or 0) + 1)
        if isinstance(node.value, ast.Constant)
    }  # docstrings
    numbered = enumerate((SOURCE / file).read_text("utf-8").splitlines(), 1)
    lines = [line for n, line in numbered if n not in explained and line.strip() and not line.strip().startswith("#")]
    assert len(lines) <= MAX_LINES
    functions = [node for node in ast.walk(TREES[file]) if isinstance(node, ast.FunctionDef)]
    assert [f.name for f in functions if (f.end_lineno or 0) - f.lineno + 1 > MAX_FUNCTION] == []


def test_no_assert_and_no_print() -> None:
    """Validation raises errors that survive `python -O`; what is printed goes through the command line and progress."""
    for file, tree in TREES.items():
        assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)], file
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        if file not in ("progress.py", "collections/_harvest.py"):
            assert not [call.lineno for call in calls if call.func.id == "print"], file  # type: ignore[attr-defined]


def test_nothing_names_the_machine_it_was_written_on() -> None:
    """No absolute path of somebody's machine in what is shipped."""
    places = re.compile(r"(?<![\w.])/(work|home|root|Users|mnt|tmp|opt)/\w")
    for path in sorted(p for p in SOURCE.rglob("*") if p.suffix in (".py", ".toml", ".html", ".css", ".js", ".md")):
        assert not places.findall(path.read_text("utf-8")), path
