"""Write the pages that are made from the code: docs/artifacts.md, docs/cli.md, docs/recipe.md and the table in README.md.

    python docs/generate.py           writes what is not current
    python docs/generate.py --check   writes nothing; names what is not current and exits with 1

README.md keeps its own text: only what lies between the two markers is replaced, and a README without markers is left alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from zelo import parameters
from zelo import recipe as recipes
from zelo.artifacts import ARTIFACTS
from zelo.cli import add_stages, cli
from zelo.pipeline import DIRECT, LINES, Stage, refined

ROOT = Path(__file__).resolve().parents[1]
MARKERS = "<!-- pipeline -->", "<!-- /pipeline -->"
WIDTH = 88  # columns of the printed help

_MADE = "<!-- Made by docs/generate.py. Do not edit: change the code, then run `make docs`. -->"


EVERY: list[Stage] = list(dict.fromkeys(stage for line in LINES.values() for stage in (*line, *refined(line))))
"""The stages of all lines; one that differs between lines is there several times."""


def names_of(stages: Iterable[Stage]) -> list[str]:
    """Return the names of stages, each once, as code."""
    return list(dict.fromkeys(f"`{stage.name}`" for stage in stages))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def pipeline_table() -> str:
    """Return the stages of the direct line, with what each reads and writes."""
    rows = [[f"`{s.name}`", s.summary, _paths(s.reads) or "the collection", _paths(s.writes)] for s in DIRECT]
    return table(["stage", "what it does", "reads", "writes"], rows)


def _paths(names: Iterable[str]) -> str:
    return ", ".join(f"`{_path(name)}`" for name in names)


def _path(name: str) -> str:
    artifact = ARTIFACTS[name]
    return artifact.path if "." in artifact.path.rpartition("/")[2] else f"{artifact.path}/"


def artifacts_page() -> str:
    """Return docs/artifacts.md."""
    rows = []
    for artifact in ARTIFACTS.values():
        writers = names_of(s for s in EVERY if artifact.name in s.writes)
        readers = names_of(s for s in EVERY if artifact.name in s.reads)
        rows.append([f"`{artifact.name}`", f"`{_path(artifact.name)}`", ", ".join(writers), ", ".join(readers) or "people", artifact.about])
    parts = [
        "# Artifacts",
        _MADE,
        "What may lie in a workspace. Each artifact has one writer, a stage of its line. A path that ends in `/` is a folder.\n"
        "Texts are in `corpus.jsonl` and `queries.jsonl` only; everything else holds ids. The folder also holds `recipe.toml` (what\n"
        "was asked), `manifest.jsonl` (one line per finished stage) and `judgments.sqlite` (the journal of the judges; no stage\n"
        "reads it but `judge`). `.lock` and `.partial/` belong to a running process.",
        table(["artifact", "path", "written by", "read by", "what it is"], rows),
        "## Columns of the Parquet files",
        "Signs and ranges: `preference` is in [-1, 1] and positive when document a is better, whatever order was shown; it is null\n"
        "when there is no usable answer. `prob_a` is in [0, 1], the probability that document a is better. `score` and `stderr` are in\n"
        "units of `link`, the mean over a query's distinct texts being 0. `target` is in [0, 1]. `doc_id_a` < `doc_id_b` in every row.\n"
        "`cost` is in US dollars.",
    ]
    rows = [[f"`{a.path}`", ", ".join(f"`{name}` {kind}" for name, kind in a.columns.items())] for a in ARTIFACTS.values() if a.columns]
    parts.append(table(["file", "columns"], rows))
    return "\n\n".join(parts) + "\n"


def cli_page() -> str:
    """Return docs/cli.md: the help of every command, as the command line prints it."""
    add_stages()
    stages = list(dict.fromkeys(stage.name for stage in EVERY))
    root = cli.make_context("zelo", [], resilient_parsing=True, terminal_width=WIDTH)
    parts = [
        "# Command line",
        _MADE,
        "Data goes to standard output, progress to standard error. Exit codes: 0 done; 2 something is wrong with what was given, said\n"
        "in one line; 130 interrupted (the same command goes on). The parameters that `--set` changes are in [recipe.md](recipe.md).",
        _block(cli.get_help(root)),
    ]
    order = [name for name in cli.commands if name not in stages] + [name for name in stages if name in cli.commands]
    for name in order:
        context = click.Context(cli.commands[name], info_name=name, parent=root, terminal_width=WIDTH)
        command = cli.commands[name]
        parts += [f"## zelo {name}", _block(command.get_help(context))]
        for inner, below in command.commands.items() if isinstance(command, click.Group) else ():
            lower = click.Context(below, info_name=inner, parent=context, terminal_width=WIDTH)
            parts += [f"### zelo {name} {inner}", _block(below.get_help(lower))]
    return "\n\n".join(parts) + "\n"


def _block(text: str) -> str:
    return "```text\n" + "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n```"


def recipe_page() -> str:
    """Return docs/recipe.md: every parameter with its type, default and range."""
    hints = typing.get_type_hints(recipes.Recipe)
    top = [item for item in dataclasses.fields(recipes.Recipe) if not dataclasses.is_dataclass(hints[item.name])]
    parts = [
        "# Recipe",
        _MADE,
        "A recipe is a TOML file with one section per stage. What it leaves out has its default. Recipes that come with zelo:\n"
        f"{', '.join(f'`{name}`' for name in recipes.names())}. `zelo new` writes every parameter into the workspace's `recipe.toml`.\n"
        "Edit it there, or change it with `--set section.key=value`. A stage runs again when a parameter that it depends on has changed.\n"
        "An unknown key is an error that names the nearest known one. Ranges include their ends.",
        "## Top level",
        "The seed is part of every stage's fingerprint.",
        _parameters(recipes.Recipe, [item.name for item in top], ""),
    ]
    for item in dataclasses.fields(recipes.Recipe):
        section = hints[item.name]
        if dataclasses.is_dataclass(section) and isinstance(section, type):
            names = [f.name for f in dataclasses.fields(section)]
            about = f"{(section.__doc__ or '').strip()} {_dependents(item.name)}"
            parts += [f"## [{item.name}]", about, _parameters(section, names, f"{item.name}.")]
            for name, hint in typing.get_type_hints(section).items():
                if typing.get_origin(hint) is Mapping:
                    kind = typing.get_args(hint)[1]
                    parts += [f'## [{item.name}.{name}."NAME"]', (kind.__doc__ or "").strip()]
                    parts.append(_parameters(kind, [f.name for f in dataclasses.fields(kind)], ""))
    return "\n\n".join(parts) + "\n"


def _dependents(section: str) -> str:
    whole = names_of(s for s in EVERY if section in s.sections)
    single = {name: names_of(s for s in EVERY if name in s.sections) for stage in EVERY for name in stage.sections}
    single = {name: stages for name, stages in single.items() if name.startswith(f"{section}.")}
    text = f"Stages that depend on it: {', '.join(whole)}"
    return text + "".join(f"; on `{name}` alone: {', '.join(stages)}" for name, stages in single.items()) + "."


def _parameters(section: type, names: Sequence[str], prefix: str) -> str:
    hints = typing.get_type_hints(section)
    fields = {item.name: item for item in dataclasses.fields(section)}
    rows = []
    for name in names:
        metadata = fields[name].metadata
        value = getattr(section(), name)
        default = "none" if isinstance(value, Mapping) else f"`{parameters.toml_value(value)}`"
        rows.append([f"`{prefix}{name}`", default, _values(hints[name], metadata), metadata["about"]])
    return table(["parameter", "default", "values", "meaning"], rows)


def _values(hint: Any, metadata: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return "list of names"
    if typing.get_origin(hint) is Mapping:
        return "tables"
    kind = {"int": "whole number", "float": "number", "str": "text", "bool": "true or false"}[hint.__name__]
    least, most = metadata["least"], metadata["most"]
    if most is not None and least is not None:
        return f"{kind}, {least:g} to {most:g}"
    return f"{kind}, {least:g} or more" if least is not None else f"{kind}, {most:g} or less" if most is not None else kind


def with_table(readme: str) -> str:
    """Return README.md with the pipeline table between the markers; unchanged without markers."""
    start, end = readme.find(MARKERS[0]), readme.find(MARKERS[1])
    if start < 0 or end < start:
        return readme
    return readme[: start + len(MARKERS[0])] + "\n" + pipeline_table() + "\n" + readme[end:]


def pages(root: Path = ROOT) -> dict[Path, str]:
    """Return path -> what it should hold."""
    made = {
        root / "docs/artifacts.md": artifacts_page(),
        root / "docs/cli.md": cli_page(),
        root / "docs/recipe.md": recipe_page(),
    }
    readme = root / "README.md"
    if readme.is_file():
        made[readme] = with_table(readme.read_text("utf-8"))
    return made


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is not current")
    options = parser.parse_args(arguments)
    stale = {path: text for path, text in pages(root).items() if not path.is_file() or path.read_text("utf-8") != text}
    for path, text in stale.items():
        name = path.relative_to(root)
        if options.check:
            sys.stderr.write(f"{name} is not current: run `make docs`\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            sys.stderr.write(f"{name} written\n")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
