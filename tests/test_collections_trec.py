"""TREC runs and qrels: what is written comes back, ties included; what is wrong is named with file and line."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.collections import trec
from zelo.errors import InputError
from zelo.types import Qrel, ScoredDoc

IDS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=6)
SCORES = st.one_of(st.sampled_from([0.0, 0.5]), st.floats(allow_nan=False, allow_infinity=False))  # ties are common
RUNS = st.dictionaries(IDS, st.dictionaries(IDS, SCORES, min_size=1, max_size=6), max_size=4)
quick = settings(max_examples=40, deadline=None)


@quick
@given(RUNS)
def test_runs_come_back_in_the_same_order(scores: dict[str, dict[str, float]]) -> None:
    run = {q: sorted((ScoredDoc(q, d, s) for d, s in hits.items()), key=lambda hit: -hit.score) for q, hits in scores.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.trec"
        assert trec.write_run(path, run, "tag") == sum(map(len, run.values()))
        handle = io.StringIO()
        trec.write_run(handle, (ranking for ranking in run.values()), "tag")
        assert handle.getvalue().encode() == path.read_bytes()
        again = trec.read_run(path)
    assert again == run
    assert list(again) == list(run)


@quick
@given(st.lists(st.builds(Qrel, IDS, IDS, SCORES), min_size=1, max_size=5, unique_by=lambda q: (q.query_id, q.doc_id)))
def test_qrels_come_back(qrels: list[Qrel]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "qrels.txt"
        assert trec.write_qrels(path, qrels) == len(qrels)
        assert list(trec.read_qrels(path)) == qrels


def test_bytes(tmp_path: Path) -> None:
    score = np.float32(0.1)
    trec.write_run(tmp_path / "run", [[ScoredDoc("q1", "d1", 2), ScoredDoc("q1", "d2", float(score))], []], "bm25")
    assert (tmp_path / "run").read_bytes() == b"q1 Q0 d1 1 2.0 bm25\nq1 Q0 d2 2 0.10000000149011612 bm25\n"
    trec.write_qrels(tmp_path / "qrels", [Qrel("q1", "d1", 3), Qrel("q1", "d2", -2)])
    assert (tmp_path / "qrels").read_bytes() == b"q1 0 d1 3\nq1 0 d2 -2\n"


def test_numpy_scores_are_written_as_numbers(tmp_path: Path) -> None:
    trec.write_run(tmp_path / "run", [[ScoredDoc("q1", "d1", np.float64(0.25))]], "t")
    assert (tmp_path / "run").read_text() == "q1 Q0 d1 1 0.25 t\n"


def test_order_is_score_then_rank_then_id(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_bytes(b"q1\tQ0\tb 9 .5 t\r\n\nq1 Q0 a  9 .5 t\nq1 Q0 z 3 .5 t\nq2 0 x 1 -1e3 t\nq1 Q0 best 100 7 t\n")
    run = trec.read_run(path)
    assert list(run) == ["q1", "q2"]
    assert [hit.doc_id for hit in run["q1"]] == ["best", "z", "a", "b"]
    assert run["q2"] == [ScoredDoc("q2", "x", -1000.0)]


GOOD = "q1 Q0 d1 1 0.5 t\n"
BAD_RUNS = [
    ("q1 Q0 d2 2 0.4\n", 2, "5 columns where 6 are expected"),
    ("q1 Q0 d2 2 0.4 two words\n", 2, "7 columns where 6 are expected"),
    ("q1 Q0 d2 2 high t\n", 2, "score 'high' is not a finite number"),
    ("q1 Q0 d2 2 nan t\n", 2, "score 'nan' is not a finite number"),
    ("q1 Q0 d2 2 inf t\n", 2, "score 'inf' is not a finite number"),
    ("q1 Q0 d2 second 0.4 t\n", 2, "rank 'second' is not a whole number"),
    ("q2 Q0 d1 1 0.5 t\n\nq1 Q0 d1 2 0.4 t\n", 4, "query 'q1' has document 'd1' already on line 1"),
    ("q1 Q0 d\x01 2 0.4 t\n", 2, "holds white space or control characters"),
    ("q1 Q0 d\x00 2 0.4 t\n", 2, "NUL byte"),
    ("\x07 Q0 d1 2 0.4 t\n", 2, "query id '\\x07' holds white space or control characters"),
]


@pytest.mark.parametrize(("rest", "line", "message"), BAD_RUNS)
def test_bad_runs(rest: str, line: int, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    path.write_text(GOOD + rest)
    with pytest.raises(InputError) as caught:
        trec.read_run(path)
    assert caught.value.where == f"{path}:{line}"
    assert message in str(caught.value)
    assert caught.value.remedy


BAD_QRELS = [
    ("q1 0 d2\n", 2, "3 columns where 4 are expected"),
    ("query-id\tcorpus-id\tscore\n", 2, "3 columns where 4 are expected"),
    ("q1 0 d2 yes\n", 2, "relevance 'yes' is not a finite number"),
    ("q1 0 d1 2\n", 2, "query 'q1' and document 'd1' have another relevance on line 1"),
]


@pytest.mark.parametrize(("rest", "line", "message"), BAD_QRELS)
def test_bad_qrels(rest: str, line: int, message: str, tmp_path: Path) -> None:
    path = tmp_path / "qrels.txt"
    path.write_text("q1 0 d1 1\n" + rest)
    with pytest.raises(InputError) as caught:
        list(trec.read_qrels(path))
    assert caught.value.where == f"{path}:{line}"
    assert message in str(caught.value)


def hits(*pairs: tuple[str, float], query_id: str = "q1") -> list[ScoredDoc]:
    return [ScoredDoc(query_id, doc_id, score) for doc_id, score in pairs]


@pytest.mark.parametrize(
    ("ranking", "tag", "message"),
    [
        (hits(("a", 1), ("b", 2)), "t", "score 2 of document 'b' is not finite or greater than the one before it"),
        (hits(("a", float("nan"))), "t", "score nan"),
        (hits(("a", float("inf"))), "t", "score inf"),
        (hits(("a", 1), ("a", 1)), "t", "document 'a' appears twice"),
        (hits(("a", 1)) + hits(("b", 1), query_id="q2"), "t", "it also holds query 'q2'"),
        (hits(("a b", 1)), "t", "document id 'a b' holds white space"),
        (hits(("a", 1), query_id=""), "t", "query id is empty"),
        (hits(("a", 1)), "my tag", "tag 'my tag' holds white space"),
    ],
)
def test_unfit_rankings_are_not_written(ranking: list[ScoredDoc], tag: str, message: str) -> None:
    handle = io.StringIO()
    with pytest.raises(InputError) as caught:
        trec.write_run(handle, [ranking], tag)
    assert message in str(caught.value)
    assert handle.getvalue() == ""
