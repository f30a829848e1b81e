"""A LanceDB table as first stage, with the real library: what it finds, and that it follows the corpus."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import SMALL, zelo
from zelo.collections.beir import read_queries
from zelo.collections.trec import read_run
from zelo.errors import InputError, MissingExtraError, RecipeError
from zelo.pipeline import Context
from zelo.progress import Silent
from zelo.recipe import from_dict
from zelo.retrievers import Retriever, lance_table
from zelo.retrievers.bm25 import Bm25Retriever
from zelo.retrievers.dense import DenseRetriever
from zelo.retrievers.lance_table import Change, Place, bring_up_to_date, open_table
from zelo.runner import check, run
from zelo.stages.legs import in_table
from zelo.types import Document, Query, ScoredDoc
from zelo.workspace import Workspace

pytest.importorskip("lancedb", reason="extra `lancedb`")

from zelo.retrievers.lance import LanceDense, LanceText

WORDS = [f"word{i}" for i in range(60)]


def corpus(count: int, seed: int = 0) -> tuple[list[Document], np.ndarray]:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, 12)) for _ in range(count)]
    vectors = rng.normal(size=(count, 8)).astype(np.float32)
    vectors[1::7] = vectors[0]  # many exact ties
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [Document(f"d{i}", text) for i, text in enumerate(texts)], vectors


def asked(count: int) -> tuple[list[Query], np.ndarray]:
    rng = np.random.default_rng(9)
    vectors = rng.normal(size=(count, 8)).astype(np.float32)
    return [Query(f"q{i}", f"{WORDS[i]} {WORDS[i + 1]}") for i in range(count)], vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("k", [1, 20, 90, 400])
def test_exact_search_is_that_of_the_dense_retriever(tmp_path: Path, k: int) -> None:
    documents, vectors = corpus(300)
    queries, embedded = asked(40)
    place = Place(str(tmp_path), "", True)
    assert bring_up_to_date(place, documents, vectors) == Change(0, 300, 0)
    ids = [q.query_id for q in queries]
    wanted = DenseRetriever([d.doc_id for d in documents], vectors).search_vectors(ids, embedded, k)
    table = LanceDense(place, lambda texts: embedded[: len(texts)])
    assert table.search(queries, k) == wanted
    assert table.search(queries[:1], k) == {"q0": wanted["q0"]}
    assert isinstance(table, Retriever)


def test_text_search_finds_what_shares_a_word_and_breaks_ties_by_id(tmp_path: Path) -> None:
    documents, _ = corpus(200)
    same = [Document(f"e{i:03}", "zebra stripes") for i in range(80)]
    place = Place(str(tmp_path), "en", False)
    bring_up_to_date(place, [*documents, *reversed(same)], None)
    found = LanceText(place).search([Query("a", "zebras"), Query("b", "the of and"), Query("c", ""), Query("d", 'a:b "(')], 10)
    assert [d.doc_id for d in found["a"]] == [f"e{i:03}" for i in range(10)]
    assert found["b"] == found["c"] == found["d"] == []
    ours = Bm25Retriever(documents, language="en", k1=1.2).search(asked(20)[0], 200)
    theirs = LanceText(place).search(asked(20)[0], 200)
    assert all({d.doc_id for d in ours[q]} == {d.doc_id for d in theirs[q]} for q in ours)
    with pytest.raises(InputError, match="k=0"):
        LanceText(place).search([], 0)


def found(place: Place) -> tuple[dict[str, list[ScoredDoc]], dict[str, list[ScoredDoc]]]:
    queries, vectors = asked(15)
    return LanceText(place).search(queries, 30), LanceDense(place).search_vectors([q.query_id for q in queries], vectors, 30)


def test_the_table_follows_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance_table, "_ROWS", 70)
    documents, vectors = corpus(250)
    fresh, place = Place(str(tmp_path / "fresh"), "en", True), Place(str(tmp_path / "table"), "en", True)
    assert bring_up_to_date(place, documents[:150], vectors[:150]) == Change(0, 150, 0)
    assert bring_up_to_date(place, documents[:150], vectors[:150]) == Change(150, 0, 0)
    assert bring_up_to_date(place, documents, vectors) == Change(150, 100, 0)
    bring_up_to_date(fresh, documents, vectors)
    assert found(place) == found(fresh)  # what was added later weighs as what was there
    documents[3] = Document("d3", "another text of word1")
    vectors[4] = vectors[5]
    kept, moved = documents[:-20], vectors[:-20]
    assert bring_up_to_date(place, kept, moved) == Change(228, 2, 22)
    bring_up_to_date(again := Place(str(tmp_path / "again"), "en", True), kept, moved)
    assert found(place) == found(again)
    bring_up_to_date(Place(str(tmp_path / "table"), "de", False), kept, None)  # other columns: made anew
    assert open_table(place.uri).schema.names == ["doc_id", "text", "number"]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_lancedb import corpus
from zelo.retrievers import lance_table
lance_table._ROWS = 40
documents, vectors = corpus(200)
def told(done):
    if done >= 120:
        os.kill(os.getpid(), signal.SIGKILL)
lance_table.bring_up_to_date(lance_table.Place({uri!r}, "en", True), documents, vectors, told)
"""


def test_a_kill_while_building_loses_no_commit(tmp_path: Path) -> None:
    code = KILLED.format(tests=str(Path(__file__).parent), uri=str(tmp_path / "table"))
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False).returncode == -signal.SIGKILL
    documents, vectors = corpus(200)
    place = Place(str(tmp_path / "table"), "en", True)
    assert bring_up_to_date(place, documents, vectors) == Change(120, 80, 0)
    bring_up_to_date(fresh := Place(str(tmp_path / "fresh"), "en", True), documents, vectors)
    assert found(place) == found(fresh)


def test_an_approximate_index_says_what_it_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance_table, "_LEAST", 1000)
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(2000, 16)).astype(np.float32)  # in no clusters: one partition of the index misses most neighbors
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    documents = [Document(f"d{i}", "") for i in range(2000)]
    recall = {}
    for probes in (1, 45):
        place = Place(str(tmp_path / "table"), "", True, True, probes)
        bring_up_to_date(place, documents, vectors)
        got = LanceDense(place).search_vectors([f"q{i}" for i in range(50)], vectors[:50], 20)
        exact = DenseRetriever([d.doc_id for d in documents], vectors).search_vectors(list(got), vectors[:50], 20)
        recall[probes] = np.mean([len({d.doc_id for d in got[q]} & {d.doc_id for d in exact[q]}) / 20 for q in got])
    assert [i.name for i in open_table(place.uri).list_indices()] == ["vector_ivf"]
    # all partitions do not give all neighbors either: the index holds vectors shortened
    assert recall[1] + 0.1 < recall[45], recall
    assert recall[45] > 0.6


def test_the_stage_with_the_table(tmp_path: Path) -> None:
    recipe = from_dict({**SMALL, "retrieve": {"candidates": 20, "engine": "lancedb"}})
    ours = Workspace.create(tmp_path / "ours", from_dict(SMALL))
    theirs = Workspace.create(tmp_path / "theirs", recipe)
    for workspace in (ours, theirs):
        run(workspace, stop="retrieve")
    same = [w.path("candidates").joinpath("dense.trec").read_bytes() for w in (ours, theirs)]
    assert same[0] == same[1]
    entry = theirs.entry("retrieve")
    assert entry is not None
    assert "documents added, 0 rows deleted, 0 were there" in " ".join(entry.notes)
    before = theirs.path("candidates").joinpath("fused.trec").read_bytes()
    run(theirs, stop="retrieve", force=("retrieve",), executor=Travelling())
    assert theirs.path("candidates").joinpath("fused.trec").read_bytes() == before
    legs = in_table(Context(theirs, recipe, tmp_path / "out", Silent()), lambda texts: np.zeros((len(texts), 384), np.float32))
    query = next(read_queries(theirs.path("queries")))
    hits = legs["bm25"].search([query], 5)[query.query_id]
    assert hits == read_run(theirs.path("candidates") / "bm25.trec")[query.query_id][:5]
    assert len(legs["dense"].search([query], 5)[query.query_id]) == 5


class Travelling:
    """As workers would: works and shards go through bytes."""

    elsewhere = True

    def map(self, work: Any, shards: Iterable[Any]) -> Iterator[Any]:
        do = pickle.loads(pickle.dumps(work)).open()
        for shard in shards:
            yield do(pickle.loads(pickle.dumps(shard)))


def test_what_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"nowhere: LanceDB: Table 'documents' was not found"):
        LanceText(Place(str(tmp_path / "nowhere"), "en", False))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"file: LanceDB: .*see that the place can be reached"):
        bring_up_to_date(Place(str(tmp_path / "file"), "en", False), [Document("a", "b")], None)
    with pytest.raises(RecipeError, match=r"retrieve\.k1 = 2 cannot be set"):
        check(from_dict({"retrieve": {"engine": "lancedb", "k1": 2.0}}))
    for settings in ({"index": "ivf"}, {"database": "s3://bucket/x"}):
        with pytest.raises(RecipeError, match=r'set retrieve\.engine = "lancedb"'):
            check(from_dict({"retrieve": settings}))
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'zelo\[lancedb\]'"):
        check(from_dict({"retrieve": {"engine": "lancedb"}}))
    ran = zelo("new", tmp_path / "ws", "--collection", "synthetic", "--set", "retrieve.engine=lancedb")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
