"""The pages: current, with links that lead somewhere, commands that parse and Python that runs."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from zelo import cli, pipeline
from zelo import recipe as recipes
from zelo.collections.python_docs import QUESTIONS
from zelo.judges.own import own_judge

REPO = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "dev/*.md", "benchmarks/**/*.md", "experiments/**/*.md") for path in REPO.glob(pattern)
)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_OPERATORS = {"|", "||", "&&", ";", "&"}

cli.add_stages()


def name_of(path: Path) -> str:
    return str(path.relative_to(REPO))


def blocks(path: Path, *languages: str) -> list[str]:
    return [text for language, text in _FENCE.findall(path.read_text("utf-8")) if language in languages]


def prose(path: Path) -> str:
    return _FENCE.sub("", path.read_text("utf-8"))


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(path: Path) -> Iterator[list[str]]:
    """The simple commands in a page's shell blocks, as words."""
    lines = []
    for text in blocks(path, "console"):
        lines += [line[2:] for line in text.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
    for text in blocks(path, "bash", "sh"):
        lines += text.replace("\\\n", " ").splitlines()
    for line in lines:
        words: list[str] = []
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for token in lexer:
            if token in _OPERATORS:
                yield words
                words = []
            else:
                words.append(token)
        yield words


def mentioned(path: Path, program: str) -> list[list[str]]:
    """What follows `zelo` or `make` in the code within a page's sentences, as words: there arguments are often left out."""
    return [shlex.split(code)[1:] for code in re.findall(rf"`({program} [^`]+)`", prose(path))]


def zelo_arguments(words: list[str]) -> list[str] | None:
    """What follows `zelo` or `python -m zelo`; None for another command."""
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    if words[1:3] == ["-m", "zelo"]:
        return words[3:]
    return words[1:] if words and Path(words[0]).name == "zelo" else None


def check_command(arguments: list[str]) -> None:
    """Raise if the command line does not know a command, an option, a stage, a parameter, or misses an argument."""
    root = click.Context(cli.cli, info_name="zelo")
    if not arguments or arguments[0].startswith("-"):
        cli.cli.make_parser(root).parse_args(list(arguments))
        return
    command = cli.cli.get_command(root, arguments[0])
    assert command is not None, f"no command {arguments[0]!r}"
    context = click.Context(command, info_name=arguments[0], parent=root)
    if isinstance(command, click.Group):
        arguments = arguments[1:]
        command = command.get_command(context, arguments[0]) if arguments and not arguments[0].startswith("-") else command
        assert command is not None, f"no command {arguments[0]!r}"
        context = click.Context(command, info_name=arguments[0] if arguments else "", parent=context)
    values, rest, _ = command.make_parser(context).parse_args(list(arguments[1:]))
    assert not rest, f"too many arguments: {rest}"
    for parameter in command.params:
        if parameter.required and parameter.name is not None and "--help" not in arguments:
            assert isinstance(values.get(parameter.name), (str, tuple)), f"zelo {shlex.join(arguments)} misses {parameter.name}"
    check_values(values)


def check_values(values: Mapping[str, Any]) -> None:
    settings = [setting.partition("=") for setting in values.get("settings") or ()]
    recipes.Recipe().with_settings({key: value for key, _, value in settings})
    forced = values.get("force")
    stages = [values.get("start"), values.get("stop"), *(forced if isinstance(forced, (list, tuple)) else ())]
    for stage in stages:
        if isinstance(stage, str):
            pipeline.find(recipes.Recipe(), stage)


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", REPO / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_made_pages_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert generator().main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_page_is_named_and_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate = generator()
    (tmp_path / "README.md").write_text("before <!-- pipeline -->old<!-- /pipeline --> after\n", "utf-8")
    assert generate.main([], root=tmp_path) == 0
    readme = (tmp_path / "README.md").read_text("utf-8")
    assert readme.startswith("before <!-- pipeline -->\n| stage")
    assert readme.endswith("\n<!-- /pipeline --> after\n")
    assert generate.main(["--check"], root=tmp_path) == 0
    page = tmp_path / "docs/recipe.md"
    page.write_text(page.read_text("utf-8").replace("reciprocal", "reversed"), "utf-8")
    capsys.readouterr()
    assert generate.main(["--check"], root=tmp_path) == 1
    assert capsys.readouterr().err.startswith("docs/recipe.md is not current")
    assert "reversed" in page.read_text("utf-8")


def test_a_readme_without_markers_is_left_alone() -> None:
    assert generator().with_table("# zelo\n") == "# zelo\n"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{name_of(page)}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_zelo_commands_parse(page: Path) -> None:
    for words in commands(page):
        arguments = zelo_arguments(words)
        if arguments is not None:
            check_command(arguments)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "roadmap.md"], ids=name_of)
def test_mentioned_commands_exist(page: Path) -> None:
    for words in mentioned(page, "zelo"):
        command = cli.cli.commands.get(words[0])
        if words[0][0].islower():  # neither an option nor a placeholder, such as NAME
            assert command is not None, f"{name_of(page)}: zelo {words[0]}"
            if isinstance(command, click.Group) and len(words) > 1 and words[1][0].islower():
                assert words[1] in command.commands, f"{name_of(page)}: zelo {words[0]} {words[1]}"
                command = command.commands[words[1]]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known | {"--help"}, f"{name_of(page)}: {words}"


@pytest.mark.parametrize(
    "faulty",
    [
        ["fly", "ws"],
        ["run", "ws", "--dry"],
        ["run"],
        ["run", "ws", "--set", "pair.degre=6"],
        ["run", "ws", "--from", "fitting"],
        ["status", "ws", "more"],
        ["rerank", "model"],
    ],
    ids=" ".join,
)
def test_a_faulty_command_would_be_found(faulty: list[str]) -> None:
    with pytest.raises((AssertionError, click.ClickException, recipes.RecipeError)):
        check_command(faulty)


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_the_queries_to_show_are_in_the_demo(page: str) -> None:
    asked = [(words[3], words[4:]) for words in commands(REPO / page) if words[:3] == ["zelo", "show", "workspaces/demo"]]
    asked += [(words[2], words[3:]) for words in mentioned(REPO / page, "zelo") if words[:2] == ["show", "workspaces/demo"]]
    rows = [json.loads(line) for line in QUESTIONS.read_text("utf-8").splitlines()]
    assert asked
    for query, documents in asked:
        words = query.casefold().split()
        found = [row for row in rows if row["_id"] == query] or [r for r in rows if all(word in r["text"].casefold() for word in words)]
        assert len(found) == 1, f"{page}: {query!r} is in {len(found)} questions"
        assert set(documents) <= set(found[0]["labels"]), f"{page}: {documents}"


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+(?:-[a-z]+)*):", (REPO / "Makefile").read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    asked = [words[1:] for words in commands(page) if words[:1] == ["make"]] + mentioned(page, "make")
    for words in asked:
        assert {word for word in words if "=" not in word} <= make_targets(), f"{name_of(page)}: {words}"


def test_the_two_commands_of_the_readme() -> None:
    readme = (REPO / "README.md").read_text("utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in readme
        assert target in make_targets()


def test_every_parameter_is_in_the_recipe_page() -> None:
    page = (REPO / "docs/recipe.md").read_text("utf-8")
    for item in dataclasses.fields(recipes.Recipe):
        section = getattr(recipes.Recipe(), item.name)
        names = [f"{item.name}.{f.name}" for f in dataclasses.fields(section)] if dataclasses.is_dataclass(section) else [item.name]
        for name in names:
            assert f"| `{name}` |" in page


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "docs/cli.md", "docs/artifacts.md"])
def test_every_stage_is_mentioned(page: str) -> None:
    text = (REPO / page).read_text("utf-8")
    for stage in pipeline.DIRECT:
        assert re.search(rf"\b{stage.name}\b", text), stage.name


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_python_runs(page: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the pages speak of: `workspaces/demo`, here of a small made-up collection.
    shutil.copytree(finished, tmp_path / "workspaces/demo")
    shutil.copytree(REPO / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for text in blocks(page, "python"):
        exec(compile(text, name_of(page), "exec"), names)


def test_a_judge_of_your_own_is_one_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [text for text in blocks(REPO / "docs/judges.md", "python") if "class MyJudge" in text]
    (tmp_path / "my_judges.py").write_text(block, "utf-8")
    monkeypatch.chdir(tmp_path)
    own = own_judge("python:my_judges:make", recipes.Recipe())
    assert own.name == "my judge"
    section = re.search(r"^## Your own judge\n(.*?)^## ", (REPO / "docs/judges.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert section is not None
    assert 'ensemble = ["python:my_judges:make"]' in section[1]
