"""Names of judges in recipes, the recipes in the documentation, and a judge of one's own."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from zelo import recipe as recipes
from zelo import runner
from zelo.errors import InputError, JudgeError, RecipeError
from zelo.judges import FORMS, JUDGES, Comparison, Materials, RemoteJudge, known_judge, make_judge
from zelo.judges.llm import LanguageModelJudge
from zelo.judges.thinking import ThinkingJudge
from zelo.recipe import Recipe

REPO = Path(__file__).resolve().parents[1]
PAGE = (REPO / "docs/judges.md").read_text("utf-8")
TOML = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
NOTHING = Materials(dict, dict, dict, "none")  # type: ignore[arg-type]
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY")


@pytest.mark.parametrize("name", [*JUDGES, *(f for f in FORMS if "MODULE" not in f), "python:my.judges:make", "openrouter:qwen/qwen3:free"])
def test_names_that_are_known(name: str) -> None:
    assert known_judge(name) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lexcal", "did you mean lexical"),
        ("opnai:gpt", "did you mean openai:MODEL"),
        ("antropic:x", "did you mean anthropic:MODEL"),
        ("simulated", "judges: lexical, dense"),
        ("openai:", "names no model"),
        ("http://localhost:8080/v1", "names no model"),
        ("http://example.com/v1#m", "https"),
        ("https://user:secret@example.com/v1#m", "key in an address"),
        ("python:module", "python:module:function"),
        ("python:a b:c", "python:module:function"),
        ("", "no judge ''"),
    ],
)
def test_names_that_are_not(name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        known_judge(name)
    assert "secret" not in str(caught.value)


def test_a_model_without_its_key_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(JudgeError, match="OPENAI_API_KEY"):
        make_judge("openai:gpt-5.4-mini", NOTHING)


def test_the_recipe_for_language_models() -> None:
    recipe = recipes.load("llm")
    runner.check(recipe)
    assert len(recipe.judge.ensemble) == 3
    assert set(recipe.judge.models) == set(recipe.judge.ensemble)
    assert recipe.judge.budget_dollars > 0
    assert all(model.input_price and model.output_price for model in recipe.judge.models.values())


@pytest.mark.parametrize("text", TOML, ids=range(len(TOML)))
def test_recipes_on_the_page_can_be_pasted(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text, "utf-8")
    recipe = recipes.load(path)
    runner.check(recipe)
    for key in (*KEYS, "AZURE_OPENAI_API_KEY"):
        monkeypatch.setenv(key, "none")
    for name in recipe.judge.ensemble:
        if not name.startswith("python:"):
            judge = make_judge(name, NOTHING, recipe)
            assert isinstance(judge, LanguageModelJudge | ThinkingJudge)
            assert judge.name == name


def test_the_page_names_every_form_and_its_examples_compile() -> None:
    for form in FORMS:
        assert form.partition(":")[0] in PAGE
    for text in re.findall(r"^```py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        compile(text, "docs/judges.md", "exec")


def test_a_judge_of_ones_own_through_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's example as a module in the current folder, asked through an SDK that does not exist."""
    (tmp_path / "fake_sdk.py").write_text(
        "from types import SimpleNamespace\n\n\nclass Client:\n    async def ask(self, messages):\n"
        "        assert messages[0][0] == 'system'\n"
        "        return SimpleNamespace(text='<score>-1</score>', read=120, written=8, dollars=0.5)\n",
        "utf-8",
    )
    first = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
    make = "\n\ndef make(recipe):\n    import fake_sdk\n    return MyJudge(fake_sdk.Client(), Prompter(load_prompt('compare')))\n"
    (tmp_path / "own_judges_of_a_test.py").write_text(f"{first}{make}\n\ndef wrong(recipe):\n    return 1\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    judge = make_judge("python:own_judges_of_a_test:make", NOTHING, Recipe())
    assert isinstance(judge, RemoteJudge)
    answer = asyncio.run(judge.attempt(Comparison("q", "one", "two")))
    assert (answer.preference, answer.status, answer.tokens, answer.cost) == (1.0, "ok", 128, 0.5)
    with pytest.raises(RecipeError, match="returned int"):
        make_judge("python:own_judges_of_a_test:wrong", NOTHING)
    for name in ("python:own_judges_of_a_test:missing", "python:no_such_module_here:make"):
        with pytest.raises(RecipeError, match="cannot be made"):
            make_judge(name, NOTHING)
    sys.modules.pop("own_judges_of_a_test", None)


def test_a_prompt_is_looked_at_before_the_first_stage() -> None:
    name = "openai:gpt-5.4-mini"
    recipe = recipes.from_dict({"judge": {"ensemble": [name], "models": {name: {"prompt": "comapre"}}}})
    with pytest.raises(InputError, match="did you mean 'compare'"):
        known_judge(name, recipe)


@pytest.mark.parametrize("name", ["openrouter:qwen/qwen3-32b", "https://acme.openai.azure.com/openai/v1#gpt", "openai:gpt"])
def test_a_cap_in_dollars_needs_prices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_BASE_URL", "OPENROUTER_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    judge = {"ensemble": [name], "budget_dollars": 1.0}
    with pytest.raises(RecipeError, match="budget_dollars cannot hold: the price of"):
        runner.check(recipes.from_dict({"judge": judge}))
    with pytest.raises(RecipeError, match="budget_dollars cannot hold"):
        runner.check(recipes.from_dict({"judge": judge | {"models": {name: {"input_price": 1.0}}}}))
    runner.check(recipes.from_dict({"judge": judge | {"models": {name: {"input_price": 1.0, "output_price": 2.0}}}}))
    runner.check(recipes.from_dict({"judge": {"ensemble": [name], "budget_tokens": 1000}}))
    runner.check(recipes.from_dict({"judge": {"ensemble": ["http://127.0.0.1:1/v1#m"], "budget_dollars": 1.0}}))
