"""The whole line with three language models on this machine: recipes/llm.toml, from a collection to a report, over HTTP."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tiny_llm import tiny_server
from zelo import recipe as recipes
from zelo import runner
from zelo.artifacts import read_table
from zelo.workspace import Workspace


def test_the_recipe_for_language_models_from_collection_to_report(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    settings = {
        "ingest.collection": "synthetic",
        "ingest.max_train_queries": "3",
        "ingest.max_test_queries": "6",
        "retrieve.candidates": "6",
        "pair.degree": "2",
        "judge.max_output_tokens": "120",
        "judge.max_missing": "1.0",  # a random model often fails, and so does its server
        "judge.retries": "0",
        "judge.swapped_share": "0.1",
        "evaluate.resamples": "200",
        "report.examples": "1",
    }
    with tiny_server() as server:
        names = [f"{server.url}#{name}" for name in ("one", "two", "three")]
        recipe = recipes.load("llm").with_settings(settings)
        free = [replace(model, requests_per_minute=0, tokens_per_minute=0) for model in recipe.judge.models.values()]
        models = dict(zip(names, free, strict=True))
        recipe = replace(recipe, judge=replace(recipe.judge, ensemble=tuple(names), models=models))
        workspace = Workspace.create(tmp_path / "ws", recipe)
        runner.run(workspace)
        judged = read_table(workspace.path("judgments"), "judgments")
        again = runner.run(workspace)
    assert again == []  # nothing is asked twice
    assert set(judged["judge"]) == set(names)
    per_judge = Counter(judged["judge"])
    assert len(set(per_judge.values())) == 1
    assert (workspace.path("report")).exists()
    seen = Counter(judged["status"])
    assert seen["ok"] > 0.3 * len(judged["status"])
    for status, preference, given, note in zip(judged["status"], judged["preference"], judged["given"], judged["note"], strict=True):
        assert (status == "ok") == (not np.isnan(preference))
        if status == "ok":
            assert note == "schema"
            assert preference in (-1.0, 0.0, 1.0)  # clamped
            assert -1 <= given <= 1
        else:
            assert note
    tokens = sum(judged["input_tokens"])
    assert tokens > 400 * seen["ok"]
    assert sum(judged["cost"]) > 0
