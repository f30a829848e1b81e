"""Recipes: what is written comes back; what is wrong is named, with what to write instead."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo import recipe as recipes
from zelo.errors import RecipeError
from zelo.recipe import Recipe, from_dict, load, names, to_dict, to_toml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def values_of(hint: Any, metadata: dict[str, Any]) -> st.SearchStrategy[Any]:
    least, most = metadata["least"], metadata["most"]
    if typing.get_origin(hint) is typing.Literal:
        return st.sampled_from(typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return st.lists(TEXT, min_size=1, max_size=3, unique=True).map(tuple)
    if typing.get_origin(hint) is Mapping:
        return st.dictionaries(TEXT, section_of(typing.get_args(hint)[1]), max_size=2)
    if hint is bool:
        return st.booleans()
    if hint is int:
        return st.integers(least, most)
    if hint is float:
        return st.floats(least, most, allow_nan=False, allow_infinity=False)
    return TEXT


def section_of(cls: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls)
    parts = {}
    for item in dataclasses.fields(cls):
        hint = hints[item.name]
        parts[item.name] = section_of(hint) if dataclasses.is_dataclass(hint) else values_of(hint, dict(item.metadata))
    if cls is recipes.Pairs:
        parts["degree"] = st.integers(1, 50).map(lambda half: 2 * half)
    if cls is recipes.Retrieve:
        parts["legs"] = st.lists(st.sampled_from(["bm25", "dense"]), min_size=1, unique=True).map(tuple)
        parts["run"] = st.just("")
    if cls is recipes.Watch:
        parts["baseline_from"] = st.just("") | st.dates(date(1000, 1, 1)).map(str)
    return st.builds(cls, **parts)


@settings(max_examples=60, deadline=None)
@given(section_of(Recipe))
def test_toml_round_trip(recipe: Recipe) -> None:
    assert from_dict(tomllib.loads(to_toml(recipe))) == recipe
    assert from_dict(to_dict(recipe)) == recipe


@pytest.mark.parametrize("name", names())
def test_packaged_recipes_load(name: str, tmp_path: Path) -> None:
    recipe = load(name)
    assert recipe.judge.ensemble
    (tmp_path / "r.toml").write_text(to_toml(recipe), "utf-8")
    assert load(tmp_path / "r.toml") == recipe


def test_demo_is_packaged() -> None:
    assert "demo" in names()


def test_every_parameter_is_explained() -> None:
    for line in to_toml(Recipe()).splitlines():
        assert not line or ("# " in line and line.split("# ", 1)[1].strip()), line


def test_what_is_left_out_has_its_default() -> None:
    assert from_dict({"pair": {"degree": 6}}) == dataclasses.replace(Recipe(), pair=recipes.Pairs(degree=6))


@pytest.mark.parametrize(
    ("toml", "parts"),
    [
        ("[pair]\ndegre = 6", ("[pair]", "'degre'", "'degree'")),
        ("[retrive]\nk1 = 1.0", ("'retrive'", "'retrieve'")),
        ("sed = 1", ("'sed'", "'seed'")),
        ("[pair]\nzzzzzz = 1", ("'zzzzzz'", "known: degree, queries")),
        ("pair = 3", ("pair = 3 is not a section", "[pair]")),
        ("[[pair]]\ndegree = 6", ("is not a section",)),
        ("[pair.degree]\nx = 1", ("pair.degree", "not of type int")),
        ("[pair]\ndegree = '8'", ("pair.degree = '8'", "int")),
        ("[pair]\ndegree = 8.0", ("pair.degree = 8.0", "int")),
        ("[pair]\ndegree = true", ("pair.degree = True", "int")),
        ("[pair]\ndegree = 7", ("odd",)),
        ("[pair]\ndegree = 0", ("pair.degree = 0", "at least 2")),
        ("[pair]\nqueries = 'some'", ("pair.queries = 'some'", "train, all")),
        ("line = 'both'", ("direct, distilled",)),
        ("line = ['direct']", ("direct, distilled",)),
        ("seed = -1", ("seed = -1", "at least 0")),
        ("[retrieve]\nb = 1.5", ("retrieve.b = 1.5", "between 0.0 and 1.0")),
        ("[retrieve]\nk1 = nan", ("retrieve.k1 = nan", "finite")),
        ("[retrieve]\nrrf_k = inf", ("retrieve.rrf_k = inf", "finite")),
        (f"[retrieve]\nk1 = 1{'0' * 400}", ("retrieve.k1", "finite")),
        ("[ingest]\ncollection = 5", ("ingest.collection = 5", "str")),
        ("[judge]\nensemble = 'dense'", ("judge.ensemble", '["a", "b"]')),
        ("[judge]\nensemble = []", ("judge.ensemble",)),
        ("[judge]\nensemble = ['a', 1]", ("judge.ensemble",)),
        ("[judge]\nensemble = ['a', 'a']", ("twice",)),
        ("[judge.models.x]\nbatc = true", ('[judge.models."x"]', "'batc'", "'batch'")),
        ("[judge.models.x]\nbatch = 1", ('judge.models."x".batch = 1', "bool")),
        ("[judge.models.'a.b']\nconcurrency = 0", ('judge.models."a.b".concurrency = 0', "between 1 and 4096")),
        ("[judge]\nmodels = 3", ("judge.models = 3 is not a table", '[judge.models."NAME"]')),
        ("[judge.models]\nx = 3", ('judge.models."x" = 3 is not a section', '[judge.models."x"]')),
        ("[pair\ndegree = 6", ("not TOML",)),
        ("[retrieve]\nlegs = ['bm52']", ("'bm52'", "bm25, dense, imported")),
        ("[retrieve]\nlegs = ['imported']", ("retrieve.run",)),
        ("[retrieve]\nrun = 'mine.trec'", ("retrieve.run",)),
    ],
)
def test_faults_are_named(toml: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(toml, "utf-8")
    with pytest.raises(RecipeError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_whole_numbers_are_floats_where_floats_are_wanted() -> None:
    value = from_dict({"retrieve": {"k1": 2}}).retrieve.k1
    assert isinstance(value, float)
    assert value == 2.0


def test_windows_editors(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbf" + to_toml(Recipe(seed=3)).replace("\n", "\r\n").encode())
    assert load(tmp_path / "r.toml") == Recipe(seed=3)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\x00"])
def test_not_text(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(content)
    with pytest.raises(RecipeError, match=r"r\.toml"):
        load(tmp_path / "r.toml")


def test_no_such_recipe_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="demo"):
        load("demoo")
    with pytest.raises(RecipeError, match="no recipe"):
        load(tmp_path)


class TestSettings:
    def test_types_follow_toml(self) -> None:
        changed = Recipe().with_settings(
            {
                "pair.degree": "6",
                "seed": "5",
                "retrieve.k1": "2",
                "fit.link": "logit",
                "ingest.test_split": '"dev"',
                "judge.ensemble": '["dense", "lexical"]',
                "encode.model": "org/some-model v2",
            }
        )
        assert (changed.pair.degree, changed.seed, changed.retrieve.k1, changed.fit.link) == (6, 5, 2.0, "logit")
        assert (changed.ingest.test_split, changed.judge.ensemble, changed.encode.model) == (
            "dev",
            ("dense", "lexical"),
            "org/some-model v2",
        )

    def test_the_rest_stays(self) -> None:
        start = from_dict({"retrieve": {"k1": 0.9}})
        assert start.with_settings({"seed": "5"}) == dataclasses.replace(start, seed=5)
        assert start.with_settings({}) == start

    @pytest.mark.parametrize(
        ("key", "value", "part"),
        [
            ("pair.degre", "6", "'degree'"),
            ("pairs.degree", "6", "'pair'"),
            ("seed.x", "1", "unknown section 'seed'"),
            ("degree", "6", "unknown key 'degree'"),
            ("a.b.c", "1", "too many dots"),
            ("", "1", "unknown key ''"),
            ("pair", "3", "not a section"),
            ("pair.degree", "six", "int"),
            ("pair.degree", "", "int"),
            ("pair.degree", "6\n[fit]\nlink = 'logit'", "int"),
            ("judge.ensemble", "dense", "list"),
            ("encode.model", "\udcff", "UTF-8"),
        ],
    )
    def test_faults_are_named(self, key: str, value: str, part: str) -> None:
        with pytest.raises(RecipeError, match="--set") as caught:
            Recipe().with_settings({key: value})
        assert part in str(caught.value)
