"""`zelo plan RECIPE`: counts against the paper and against a finished line, bytes within a quarter, nothing made up where it is unknown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import SMALL, zelo
from zelo import recipe as recipes
from zelo.artifacts import read_table
from zelo.collections.beir import read_corpus, read_queries
from zelo.collections.trec import read_rankings, read_run, write_run
from zelo.planning.models import size_of
from zelo.planning.scale import CHARACTERS_PER_TOKEN, Counts, Need, ScalePlan, plan_recipe
from zelo.recipe import Recipe, from_dict
from zelo.stages import inputs
from zelo.types import ScoredDoc
from zelo.workspace import Workspace


def need(plan: ScalePlan, stage: str) -> Need:
    return next(n for n in plan.needs if n.stage == stage)


def test_the_paper() -> None:
    paper = recipes.load("paper")
    counts = Counts.of(paper)
    assert (counts.train, counts.candidates, counts.pairs, counts.teaching) == (112_000, 100, 112_000 * 400, 112_000)
    plan = plan_recipe(paper)
    assert need(plan, "judge").calls == 3 * 112_000  # one pair per query, three judges
    # Two operations per parameter and token, by hand: 44.8 million comparisons of a query, two documents and a template.
    tokens = 44_800_000 * (25 + 2 * 500 + 40)
    assert need(plan, "judge-pairwise").tokens == pytest.approx(tokens)
    assert need(plan, "judge-pairwise").gpu_seconds == pytest.approx(2 * 8e9 * tokens / (989e12 * 0.4))
    hours = sum(n.gpu_seconds or 0.0 for n in plan.needs) / 3600
    assert 300 < hours < 10_000  # the paper: fewer than 10,000 H100-hours


def of_a_finished(root: Path) -> Recipe:
    opened = Workspace.open(root)
    texts = list(read_corpus(opened.path("corpus")))
    queries = list(read_queries(opened.path("queries")))
    split = inputs.splits(opened.path("splits"))
    mean = sum(len(d.full_text) for d in texts) / len(texts) / CHARACTERS_PER_TOKEN
    asked = sum(len(q.text) for q in queries) / len(queries) / CHARACTERS_PER_TOKEN
    ids = len(texts[0].doc_id) + len(queries[0].query_id)
    sizes = {"documents": len(texts), "document_tokens": mean, "query_tokens": asked, "id_characters": ids}
    kinds = list(split.values())
    return from_dict({**SMALL, "plan": {**sizes, "queries": kinds.count("train"), "test_queries": kinds.count("test")}})


def test_counts_and_bytes_of_a_finished_line(finished: Path) -> None:
    recipe, opened = of_a_finished(finished), Workspace.open(finished)
    plan, counts = plan_recipe(recipe), Counts.of(recipe)
    assert counts.pairs == len(read_table(opened.path("pairs"), "pairs", ("cycle",))["cycle"])
    assert counts.judged * counts.candidates == len(read_table(opened.path("scores"), "scores", ("score",))["score"])
    taken = {}
    for one in plan.needs:
        entry = opened.entry(one.stage)
        paths = [opened.path(a) for a in entry.writes] if entry else []
        taken[one.stage] = sum(f.stat().st_size for p in paths for f in ([p] if p.is_file() else p.rglob("*")) if f.is_file())
    for stage in ("ingest", "retrieve", "judge"):
        assert need(plan, stage).bytes == pytest.approx(taken[stage], rel=0.25), stage
    small = [n for n in plan.needs if n.stage not in ("encode", "report", "train")]
    assert sum(n.bytes for n in small) == pytest.approx(sum(taken[n.stage] for n in small), rel=0.25)


def test_what_is_unknown_is_called_so() -> None:
    recipe = recipes.load("paper").with_settings({"pairwise.base": "somebody/large", "judge.models": "{}"})
    plan = plan_recipe(recipe)
    assert need(plan, "judge-pairwise").gpu_seconds is None
    assert need(plan, "judge").dollars is None
    ran = zelo("plan", "paper", "--set", "pairwise.base=somebody/large")
    assert (ran.code, "unknown" in ran.out, "somebody/large: unknown: the name does not say it" in ran.out) == (0, True, True)


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[plan]\nqueries = 50\n")
    ran = zelo("plan", tmp_path / "mine.toml", "--json", "--set", "plan.documents=1000")
    assert ran.code == 0
    found = json.loads(ran.out)
    assert [n["stage"] for n in found["needs"]][:3] == ["ingest", "encode", "retrieve"]
    assert found["judging"]["pairs"] == 50 * 400
    assert zelo("plan", "nothing").code == 2


def test_a_size_from_a_name() -> None:
    assert [size_of(n).parameters for n in ("a/Qwen3-8B", "x-350m-chat", "Qwen3-1.7B", "gemma", "b2b-encoder")] == [8e9, 350e6, 1.7e9, 0, 0]


def test_rankings_one_by_one_are_those_of_the_whole_run(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    write_run(path, ([ScoredDoc(f"q{q}", f"d{d}", 1.0 / (d + 1)) for d in range(3)] for q in range(5)), "x")
    whole = {q: [hit.doc_id for hit in ranking] for q, ranking in read_run(path).items()}
    for order in (["q0", "q1", "q2", "q3", "q4"], ["q3", "nobody", "q0", "q4"]):
        assert list(read_rankings(path, order)) == [(q, whole.get(q, [])) for q in order]
