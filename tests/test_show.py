"""`zelo show`: what it says is what the files hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zelo.artifacts import read_table
from zelo.collections.beir import read_qrels, read_queries
from zelo.collections.trec import read_run
from zelo.errors import InputError, WorkspaceError
from zelo.recipe import Recipe
from zelo.show import SHOWN, explain_document, explain_query
from zelo.workspace import Workspace


@pytest.fixture
def opened(finished: Path) -> Workspace:
    return Workspace.open(finished)


@pytest.fixture
def query_id(opened: Workspace) -> str:
    return sorted({row.query_id for row in read_qrels(opened.path("qrels") / "test.tsv")})[0]


def scores(opened: Workspace, query_id: str) -> dict[str, tuple[float, float]]:
    table = read_table(opened.path("scores"), "scores")
    rows = zip(table["query_id"], table["doc_id"], table["score"], table["stderr"], strict=True)
    return {doc: (score, stderr) for query, doc, score, stderr in rows if query == query_id}


class TestQuery:
    def test_best_first_with_error_bars_ranks_and_labels(self, opened: Workspace, query_id: str) -> None:
        found = scores(opened, query_id)
        labels = {row.doc_id: row.relevance for row in read_qrels(opened.path("qrels") / "test.tsv") if row.query_id == query_id}
        fused = [d.doc_id for d in read_run(opened.path("candidates") / "fused.trec")[query_id]]
        lines = list(explain_query(opened, query_id))
        rows = [re.match(r"\s*([+-]\d+\.\d\d) ± (\d+\.\d\d)\s+(.*)\s(\S+)  (\S+): ", line) for line in lines[3:-1]]
        assert len(rows) == SHOWN
        shown = [row.groups() for row in rows if row]
        assert [doc for *_, doc in shown] == sorted(found, key=lambda d: -found[d][0])[:SHOWN]
        for score, error, ranks, label, doc in shown:
            assert float(score) == pytest.approx(found[doc][0], abs=0.0051)
            assert float(error) == pytest.approx(1.96 * found[doc][1], abs=0.0051)
            assert label == (f"{labels[doc]:g}" if doc in labels else "-")
            assert f"#{fused.index(doc) + 1}" in ranks.split()
        assert lines[0].startswith(f"{query_id}: ")
        assert {"bm25", "dense", "fused", "pointwise", "label"} <= set(lines[2].split())

    def test_by_words(self, opened: Workspace, query_id: str) -> None:
        text = next(q.text for q in read_queries(opened.path("queries")) if q.query_id == query_id)
        assert list(explain_query(opened, text.upper())) == list(explain_query(opened, query_id))

    @pytest.mark.parametrize(
        ("words", "message"), [("zzz", "no question with this id or these words"), ("", "no question"), ("a", "questions have these words")]
    )
    def test_none_or_several(self, words: str, message: str, opened: Workspace) -> None:
        with pytest.raises(InputError, match=message):
            list(explain_query(opened, words))

    def test_nothing_yet(self, tmp_path: Path) -> None:
        with pytest.raises(WorkspaceError, match="zelo run"):
            list(explain_query(Workspace.create(tmp_path / "ws", Recipe()), "q"))

    def test_no_scores_yet(self, workspace: Path, query_id: str) -> None:
        (workspace / "scores.parquet").unlink()
        with pytest.raises(WorkspaceError, match="no scores yet"):
            list(explain_query(Workspace.open(workspace), query_id))

    def test_a_question_that_the_judges_did_not_see(self, workspace: Path, query_id: str) -> None:
        from zelo import runner

        opened = Workspace.open(workspace)
        opened.recipe = opened.recipe.with_settings({"pair.queries": "train"})
        runner.run(opened, start="pair", stop="fit")
        lines = list(explain_query(opened, query_id))
        assert "did not compare" in lines[1]
        pointwise = [d.doc_id for d in read_run(opened.path("rankings") / "pointwise.trec")[query_id]]
        assert [line.split(":")[0].split()[-1] for line in lines[3:]] == pointwise[:SHOWN]
        (workspace / "rankings" / "pointwise.trec").unlink()
        (workspace / "candidates" / "fused.trec").unlink()
        assert "did not compare" in list(explain_query(opened, query_id))[1]  # and no traceback


class TestDocument:
    def test_every_comparison_and_its_sign(self, opened: Workspace, query_id: str) -> None:
        doc = next(iter(scores(opened, query_id)))
        judgments = read_table(opened.path("judgments"), "judgments")
        expected: dict[str, dict[str, float]] = {}
        columns = (judgments[name] for name in ("query_id", "doc_id_a", "doc_id_b", "judge", "preference"))
        for query, a, b, judge, preference in zip(*columns, strict=True):
            if query == query_id and doc in (a, b):
                expected.setdefault(b if a == doc else a, {})[judge] = preference if a == doc else -preference
        preferences = read_table(opened.path("preferences"), "preferences")
        pooled = {}
        for query, a, b, prob_a in zip(*(preferences[n] for n in ("query_id", "doc_id_a", "doc_id_b", "prob_a")), strict=True):
            if query == query_id and doc in (a, b):
                pooled[b if a == doc else a] = prob_a if a == doc else 1 - prob_a
        lines = list(explain_document(opened, query_id, doc))
        rows = [re.match(r"  (\d\.\d\d)  (.*)  against (\S+)  (\S+): ", line) for line in lines[4:]]
        shown = {row[4]: (float(row[1]), row[2]) for row in rows if row}
        assert len(shown) == len(lines) - 4
        assert set(shown) == set(expected) == set(pooled)
        for other, (probability, said) in shown.items():
            assert probability == pytest.approx(pooled[other], abs=0.0051)
            assert {part.split()[0]: float(part.split()[1]) for part in said.split(", ")} == pytest.approx(expected[other], abs=0.0051)
        assert [p for p, _ in shown.values()] == sorted(p for p, _ in shown.values())
        assert f"from {len(expected)} comparisons" in lines[2]

    def test_a_document_that_was_not_compared(self, opened: Workspace, query_id: str) -> None:
        with pytest.raises(InputError, match="was not compared"):
            list(explain_document(opened, query_id, "nope"))
