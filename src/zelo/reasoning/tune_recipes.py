"""Recipes of tuning: the options of `zelo reasoning tune` in a TOML file, and what its plan needs to know of the base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zelo.errors import InputError
from zelo.judges.prompt_reading import Shelf, table_of

KEYS: Mapping[str, type | tuple[type, ...]] = {
    "base": str,
    "prompt": str,
    "lora_rank": int,
    "learning_rate": (int, float),
    "epochs": int,
    "batch_size": int,
    "max_tokens": int,
    "token_budget": int,
    "gradient_checkpointing": bool,
    "seed": int,
}
"""Option -> what it may be; ranges are those of the command."""


@dataclass(frozen=True)
class TuneRecipe:
    """A recipe.

    Attributes:
        options: of the command, those that are given.
        traces: how many the plan counts where nothing is selected, 0 = it needs a selection.
        tokens: of each of them.
        config: of the base, as its config.json; empty = the plan needs the base's folder.
    """

    options: Mapping[str, Any]
    traces: int
    tokens: int
    config: Mapping[str, Any]


def load_recipe(name_or_path: str) -> TuneRecipe:
    """Read a recipe: the name of one that comes with zelo, or a TOML file.

    Raises:
        InputError: no such recipe, or something in it that does not belong.
    """
    return _SHELF.load(name_or_path)


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that come with zelo."""
    return _SHELF.names


def _parse(text: str, where: str) -> TuneRecipe:
    data = table_of(text, where, ("tune", "plan"))
    options, plan = data.get("tune", {}), data.get("plan", {})
    if not isinstance(options, dict) or not isinstance(plan, dict) or not isinstance(plan.get("config", {}), dict):
        raise InputError("not a recipe of tuning", where=where, remedy="give the tables [tune] and [plan]")
    for key, value in options.items():
        if key not in KEYS:
            raise InputError(f"unknown key {key!r}", where=where, remedy=f"known: {', '.join(KEYS)}")
        if not isinstance(value, KEYS[key]) or (isinstance(value, bool) and KEYS[key] is not bool):
            raise InputError(f"{key} is {value!r}", where=where, remedy="see the options of `zelo reasoning tune`")
    traces, tokens = (plan.get(key, 0) for key in ("traces", "tokens"))
    if not all(isinstance(n, int) and n >= 0 for n in (traces, tokens)):
        raise InputError("traces and tokens of [plan] are whole numbers", where=where, remedy="leave them out, or mend them")
    return TuneRecipe(options, traces, tokens, plan.get("config", {}))


_SHELF = Shelf("reasoning/recipes", _parse, "recipe")
