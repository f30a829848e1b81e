"""Language models as rerankers: pairs and lists over real HTTP, with a model that knows the labels, and with a real server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import zelo
from fault_server import Call, FaultServer
from tiny_llm import tiny_server
from zelo.collections.beir import read_corpus, read_qrels, read_queries
from zelo.collections.trec import read_run
from zelo.core.metrics import evaluate_ranking
from zelo.errors import JudgeError, RecipeError
from zelo.pipeline import Context
from zelo.progress import Silent
from zelo.report.measured import find
from zelo.stages.questions import read_pairs
from zelo.systems.asking import ANSWERS, Question
from zelo.systems.comparing import Comparison, compare_systems
from zelo.systems.listwise import windows
from zelo.systems.pairwise import _draw
from zelo.workspace import Workspace

SHOWN = re.compile(r"\[(\w+) document (\w+)\]\n(.*?)\n\[\1 end of document \2\]", re.DOTALL)
ASKED = re.compile(r"\[(\w+) query\]\n(.*?)\n\[\1 end of query\]", re.DOTALL)


class Oracle:
    """Knows the label of every document for every query, and which of two equals comes first in the corpus."""

    def __init__(self, root: Path) -> None:
        texts = {d.doc_id: d.full_text for d in read_corpus(root / "corpus.jsonl")}
        queries = {q.query_id: q.text for q in read_queries(root / "queries.jsonl")}
        labels = {(r.query_id, r.doc_id): r.relevance for r in read_qrels(root / "qrels/test.tsv")}
        self.merit = {(queries[q], t): labels.get((q, d), 0.0) for q in queries for d, t in texts.items()}
        self.rank = {t: i / 1000 for i, t in enumerate(texts.values())}

    def __call__(self, call: Call) -> str:
        asked = ASKED.search(call.text)
        assert asked is not None
        value = {name: self.merit[asked[2], text] - self.rank[text] for _, name, text in SHOWN.findall(call.text)}
        order = sorted(value, key=lambda name: -value[name])
        if '"order"' in call.text:
            return json.dumps({"comparison": "read", "order": order})
        first, second = value.values()
        return json.dumps({"first_document": "a", "second_document": "b", "comparison": "c", "score": 1 if second > first else -1})


@pytest.fixture
def server(workspace: Path) -> Iterator[FaultServer]:
    with FaultServer(answer=Oracle(workspace)) as running:
        yield running


def with_tables(root: Path, text: str) -> None:
    with (root / "recipe.toml").open("a") as file:
        file.write(text)


def compare(root: Path, *names: str, **changes: str) -> Comparison:
    opened = Workspace.open(root)
    recipe = opened.recipe.with_settings({key.replace("__", "."): value for key, value in changes.items()})
    return compare_systems(Context(opened, recipe, root, Silent()), names, Silent())


def ideal(root: Path) -> float:
    """The best nDCG@10 of any order of the candidates."""
    qrels: dict[str, dict[str, float]] = {}
    for row in read_qrels(root / "qrels/test.tsv"):
        qrels.setdefault(row.query_id, {})[row.doc_id] = row.relevance
    run = {
        q: [(d.doc_id, qrels[q].get(d.doc_id, 0.0)) for d in r] for q, r in read_run(root / "candidates/fused.trec").items() if q in qrels
    }
    return float(np.mean(list(evaluate_ranking(run, qrels, ["nDCG@10"])["nDCG@10"].values())))


def ndcg(found: Comparison, name: str) -> float:
    row = find(found.rows, name, "nDCG@10")
    assert row is not None
    return row.value


class TestPairwise:
    def test_a_judge_that_knows(self, workspace: Path, server: FaultServer) -> None:
        name = f"pairwise:{server.url}#m"
        with_tables(workspace, f'\n[judge.models."{server.url}#m"]\ninput_price = 2.0\noutput_price = 8.0\n')
        found = compare(workspace, name, pair__degree="10")
        assert ndcg(found, name) == pytest.approx(ideal(workspace), abs=0.02)
        taken = found.taken[name]
        assert taken.dollars is not None
        assert taken.dollars > 0
        assert taken.median > 0
        asked = sum(server.calls.values())
        assert asked == 8 * 20 * 10 // 2
        assert compare(workspace, name, pair__degree="10").rows == found.rows
        assert sum(server.calls.values()) == asked  # nothing is asked twice

    def test_its_pairs_are_those_of_the_stage(self, workspace: Path) -> None:
        """So what the same judge answered in the line is not asked again."""
        run = read_run(workspace / "candidates/fused.trec")
        texts = {d.doc_id: d.full_text for d in read_corpus(workspace / "corpus.jsonl")}
        questions = [Question(q, q, [d.doc_id for d in r], [texts[d.doc_id] for d in r]) for q, r in run.items()]
        ours, theirs = _draw(questions, 4, 0), read_pairs(workspace / "pairs/tournament.parquet")

        def named(pairs: object) -> set[tuple[object, ...]]:
            p = pairs
            rows = zip(p.query, p.a, p.b, p.a_first, p.cycle, strict=True)  # type: ignore[attr-defined]
            return {(p.query_ids[q], p.doc_ids[a], p.doc_ids[b], bool(f), int(c)) for q, a, b, f, c in rows}  # type: ignore[attr-defined]

        assert named(ours) == named(theirs)

    def test_depth_leaves_the_rest_below(self, workspace: Path, server: FaultServer) -> None:
        name = f"pairwise:{server.url}#m"
        with_tables(workspace, f'\n[evaluate.systems."{name}"]\ndepth = 5\n')
        compare(workspace, name)
        assert sum(server.calls.values()) == 8 * 10  # all pairs of five

    def test_what_cannot_be(self, workspace: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        name = f"{server.url}#m"
        for wrong in ("pairwise:lexical", "pairwise:openai:x", "pairwise:nobody", "listwise:openai:x", "listwise:nobody", "listwise:"):
            ran = zelo("evaluate", workspace, "--system", f"listwise:{name}", "--system", wrong)
            assert ran.code == 2, wrong
            assert ran.err.startswith("zelo: "), wrong
        assert sum(server.calls.values()) == 0
        assert "no single call" in zelo("latency", workspace, "--system", f"listwise:{name}").err
        with pytest.raises(RecipeError, match="price"):
            compare(workspace, "listwise:https://x.example/v1#m", judge__budget_dollars="1.0")


class TestListwise:
    def test_a_model_that_knows(self, workspace: Path, server: FaultServer) -> None:
        """The best half window of all reaches the top; here that is what is relevant."""
        name = f"listwise:{server.url}#m"
        with_tables(workspace, f'\n[evaluate.systems."{name}"]\nwindow = 12\n\n[judge.models."{server.url}#m"]\ninput_price = 2.0\n')
        found = compare(workspace, name)
        assert ndcg(found, name) == pytest.approx(ideal(workspace), abs=0.02)
        taken = found.taken[name]
        assert taken.dollars is not None
        asked = sum(server.calls.values())
        assert asked == 8 * 3  # windows at 8, 2 and 0 of 20
        assert compare(workspace, name) == found
        assert sum(server.calls.values()) == asked

    def test_faults_change_nothing_but_the_calls(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("zelo.systems.listwise.backoff", lambda *_: 0.01)
        oracle = Oracle(workspace)
        with FaultServer(answer=oracle, rate=0.4, seed=2, faults=["429", "500", "cut", "no-json", "disconnect"]) as server:
            name = f"listwise:{server.url}#m"
            with_tables(workspace, f'\n[evaluate.systems."{name}"]\nwindow = 6\n')
            found = compare(workspace, name, judge__timeout="2", judge__retries="20", judge__max_missing="0.9")
            assert server.repeated() == 0
            lines = [json.loads(line) for line in (workspace / ANSWERS).read_text().splitlines()]
            kept = [line for line in lines if line["system"] == name]
            assert sum(line["order"] is None for line in kept) > 0  # what is no order is kept as none
            assert ndcg(found, name) > 0.8 * ideal(workspace)
            asked = sum(server.calls.values())
            assert compare(workspace, name, judge__max_missing="0.9") == found
            assert sum(server.calls.values()) == asked

    def test_no_order_at_all(self, workspace: Path) -> None:
        with FaultServer(answer=lambda call: "no") as server:
            name = f"listwise:{server.url}#m"
            with pytest.raises(JudgeError, match="no usable order from 8 of 8 calls"):
                compare(workspace, name)
            assert sum(server.calls.values()) == 16  # each twice
            with pytest.raises(JudgeError, match="no usable order"):
                compare(workspace, name)
            assert sum(server.calls.values()) == 16

    def test_a_budget_stops_it_and_more_goes_on(self, workspace: Path, server: FaultServer) -> None:
        name = f"listwise:{server.url}#m"
        with pytest.raises(JudgeError, match="budget of 8000 tokens"):
            compare(workspace, name, judge__budget_tokens="8000")
        some = sum(server.calls.values())
        assert 0 < some < 8
        kept = [json.loads(line) for line in (workspace / ANSWERS).read_text().splitlines()]
        assert len(kept) == some  # calls under way were waited for
        compare(workspace, name, judge__budget_tokens="1000000")
        assert sum(server.calls.values()) == 8
        assert server.repeated() == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(2, 20))
def test_windows_cover_the_list_and_overlap(length: int, size: int) -> None:
    found = list(windows(length, size))
    assert found[0].stop == length
    assert found[-1].start == 0
    assert all(part.stop - part.start == min(size, length) for part in found)
    for later, earlier in zip(found[1:], found, strict=False):
        assert later.stop - earlier.start >= size - size // 2  # what rises is met by the next call


def test_a_real_server(workspace: Path) -> None:
    """A tiny random model behind llama.cpp: it knows nothing, but its answers go the whole way."""
    with tiny_server() as server:
        names = [f"{kind}:{server.url}#tiny" for kind in ("pairwise", "listwise")]
        with_tables(workspace, "".join(f'\n[evaluate.systems."{name}"]\ndepth = 2\n' for name in names))
        limits = ("--set", "judge.max_output_tokens=150", "--set", "judge.max_missing=1.0", "--set", "pair.degree=4")
        ran = zelo("evaluate", workspace, "--system", names[0], "--system", names[1], *limits)
    assert ran.code == 0, ran.err
    for name in names:
        assert any(line.startswith(name) for line in ran.out.splitlines())
