"""What every retriever promises, and what each does by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import shared_collection
from zelo.encoders.lexical import LexicalAnalyzer
from zelo.errors import InputError
from zelo.retrievers import Retriever, dense
from zelo.retrievers.bm25 import Bm25Retriever
from zelo.retrievers.dense import DenseRetriever
from zelo.retrievers.imported import ImportedRetriever
from zelo.types import Document, Query, ScoredDoc

DOCUMENTS = [
    Document("d9", "The lion sleeps in the tall grass"),
    Document("d1", "A lion hunts at night", title="Lions"),
    Document("d5", "Zebras eat grass"),
    Document("d3", "Zebras eat grass"),
    Document("d0", ""),
]
QUERIES = [
    Query("q1", "lions at night"),
    Query("q2", "grass eating zebra"),
    Query("q3", "the of and"),
    Query("q4", "xylophone"),
    Query("q5", ""),
]


def toy_vectors(texts: Sequence[str]) -> np.ndarray:
    words = ["lion", "grass", "zebra", "night", "eat"]
    counts = np.array([[text.lower().count(word) for word in words] + [0.1] for text in texts], np.float32).reshape(-1, 6)
    return np.asarray(counts / np.linalg.norm(counts, axis=1, keepdims=True), np.float32)


def imported(folder: Path) -> ImportedRetriever:
    lines = [f"q1 Q0 {doc_id} {rank} {9 - rank} other" for rank, doc_id in enumerate(["d1", "d9", "d5"], 1)]
    (folder / "run.trec").write_text("\n".join(lines) + "\n")
    return ImportedRetriever(folder / "run.trec")


MAKERS: dict[str, Callable[[Path], Retriever]] = {
    "bm25": lambda _: Bm25Retriever(DOCUMENTS, language="en"),
    "dense": lambda _: DenseRetriever([d.doc_id for d in DOCUMENTS], toy_vectors([d.full_text for d in DOCUMENTS]), toy_vectors),
    "imported": imported,
}


@pytest.mark.parametrize("name", MAKERS)
def test_contract(name: str, tmp_path: Path) -> None:
    retriever = MAKERS[name](tmp_path)
    assert isinstance(retriever, Retriever)
    everything = retriever.search(QUERIES, 1000)
    assert list(everything) == [query.query_id for query in QUERIES]
    for query_id, ranking in everything.items():
        assert all(scored.query_id == query_id for scored in ranking)
        ids = [scored.doc_id for scored in ranking]
        assert len(set(ids)) == len(ids)
        assert set(ids) <= {d.doc_id for d in DOCUMENTS}
        assert ranking == sorted(ranking, key=lambda scored: (-scored.score, scored.doc_id))
    assert everything["q1"][0].doc_id == "d1"
    for k in (1, 2, 3):
        assert retriever.search(QUERIES, k) == {query_id: ranking[:k] for query_id, ranking in everything.items()}
    assert retriever.search(QUERIES[:1], 2) == {"q1": everything["q1"][:2]}
    assert retriever.search([], 10) == {}
    with pytest.raises(InputError, match="k=0"):
        retriever.search(QUERIES, 0)


def test_bm25_formula() -> None:
    """Lucene's formula by hand: idf = ln(1 + (n - df + .5) / (df + .5)), tf / (tf + k1 (1 - b + b length / mean length))."""
    k1, b = 1.2, 0.6
    retriever = Bm25Retriever(DOCUMENTS, language="en", k1=k1, b=b)
    terms = {d.doc_id: LexicalAnalyzer("en")(d.full_text) for d in DOCUMENTS}
    mean = sum(map(len, terms.values())) / len(terms)
    for query in QUERIES[:2]:
        wanted = {}
        for doc_id, words in terms.items():
            score = 0.0
            for term in LexicalAnalyzer("en")(query.text):
                frequency = sum(term in other for other in terms.values())
                idf = np.log(1 + (len(terms) - frequency + 0.5) / (frequency + 0.5))
                count = words.count(term)
                score += idf * count / (count + k1 * (1 - b + b * len(words) / mean)) if count else 0.0
            if score > 0:
                wanted[doc_id] = score
        found = {scored.doc_id: scored.score for scored in retriever.search([query], 10)[query.query_id]}
        assert found == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("method", ["lucene", "atire", "robertson"])
def test_bm25_weights_are_those_of_bm25s_bit_for_bit(method: Any) -> None:
    import bm25s

    rng = np.random.default_rng(0)
    documents = [Document(f"d{i:03}", " ".join(f"w{w}" for w in rng.zipf(1.3, rng.integers(0, 60)) if w < 300)) for i in range(200)]
    ours = Bm25Retriever(documents, language="en", method=method)
    ids = [[ours._vocabulary[term] for term in ours._analyze(d.full_text)] for d in documents]
    theirs = bm25s.BM25(k1=1.5, b=0.75, method=method, backend="numpy")
    theirs.index((ids, dict(ours._vocabulary)), create_empty_token=False, show_progress=False)
    for name in ("data", "indices", "indptr"):
        assert np.array_equal(getattr(ours._weights, name), theirs.scores[name]), name


def test_bm25_returns_only_what_matches_and_breaks_ties_by_id() -> None:
    rankings = MAKERS["bm25"](Path()).search(QUERIES, 1000)
    assert [scored.doc_id for scored in rankings["q2"]] == ["d3", "d5", "d9"]
    assert rankings["q2"][0].score == rankings["q2"][1].score
    assert rankings["q3"] == rankings["q4"] == rankings["q5"] == []


@pytest.mark.parametrize("documents", [[], [Document("d1", "")], [Document("d1", "the of and")]])
def test_bm25_without_any_term(documents: list[Document]) -> None:
    assert Bm25Retriever(documents).search(QUERIES, 10) == {query.query_id: [] for query in QUERIES}


def test_bm25_language_and_analyzer() -> None:
    german = [
        Document("a", "Der kleine Hund schläft in den Häusern der alten Stadt."),
        Document("b", "Die Katze jagt eine Maus über das Dach."),
    ]
    retriever = Bm25Retriever(german)
    assert retriever.language == "de"
    assert [scored.doc_id for scored in retriever.search([Query("q", "das Haus")], 10)["q"]] == ["a"]
    code = [Document("a", "use shutil.copyFileObj here"), Document("b", "unrelated")]
    assert Bm25Retriever(code, language="en").search([Query("q", "copy file")], 10)["q"] == []
    variant = Bm25Retriever(code, analyzer=LexicalAnalyzer("en", identifiers=True))
    assert variant.language is None
    assert [scored.doc_id for scored in variant.search([Query("q", "copy file")], 10)["q"]] == ["a"]


@pytest.mark.parametrize("values", [{"k1": 0.0}, {"k1": float("nan")}, {"b": 1.5}, {"method": "bm25+"}, {"language": "xx"}])
def test_bm25_parameters_out_of_range(values: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Bm25Retriever(DOCUMENTS, **{"language": "en", **values})  # type: ignore[arg-type]


def test_repeated_ids_are_refused() -> None:
    with pytest.raises(InputError, match="occurs twice"):
        Bm25Retriever([*DOCUMENTS, DOCUMENTS[0]], language="en")
    with pytest.raises(InputError, match="occurs twice"):
        DenseRetriever(["a", "a"], np.zeros((2, 3), np.float32))


def test_bm25_scores_have_the_same_bits_in_every_process() -> None:
    code = (
        "from zelo.retrievers.bm25 import Bm25Retriever; from zelo.types import *; "
        "ds = [Document(f'd{i}', ' '.join(f'w{(i * j * 7919) % 101}' for j in range(40))) for i in range(60)]; "
        "q = Query('q', ' '.join(f'w{i}' for i in range(0, 101, 3))); "
        "print(Bm25Retriever(ds, language='en').search([q], 60))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 50), st.booleans())
def test_dense_is_exact_whatever_the_blocks(seed: int, n: int, k: int, coarse: bool) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 5)).astype(np.float32)
    queries = rng.normal(size=(7, 5)).astype(np.float32)
    if coarse:  # many exact ties
        vectors, queries = np.round(vectors), np.round(queries)
    ids = [f"d{i}" for i in rng.permutation(n)]
    wanted = {}
    for row, query in enumerate(queries.astype(float)):
        scored = [
            ScoredDoc(f"q{row}", doc_id, float((vector * query).sum())) for doc_id, vector in zip(ids, vectors.astype(float), strict=True)
        ]
        wanted[f"q{row}"] = sorted(scored, key=lambda s: (-s.score, s.doc_id))[:k]
    for query_block, document_block in ((256, 32_768), (2, 3)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dense, "_QUERIES", query_block)
            patch.setattr(dense, "_DOCUMENTS", document_block)
            assert DenseRetriever(ids, vectors).search_vectors(list(wanted), queries, k) == wanted


def test_dense_shapes() -> None:
    retriever = DenseRetriever(["a", "b"], np.eye(2, dtype=np.float32))
    with pytest.raises(InputError, match="same model"):
        retriever.search_vectors(["q"], np.zeros((1, 3), np.float32), 1)
    with pytest.raises(InputError, match="no encoder"):
        retriever.search(QUERIES, 1)
    with pytest.raises(InputError, match="1 ids for vectors"):
        DenseRetriever(["a"], np.eye(2, dtype=np.float32))
    empty = DenseRetriever([], np.zeros((0, 2), np.float32))
    assert empty.search_vectors(["q"], np.ones((1, 2), np.float32), 5) == {"q": []}


def test_imported_run_of_another_collection(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the 1 queries"):
        imported(tmp_path).search([Query("other", "text")], 5)


def benchmark_module() -> Any:
    import importlib.util

    path = Path(__file__).resolve().parents[1] / "benchmarks" / "first_stage.py"
    spec = importlib.util.spec_from_file_location("first_stage", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_published_bm25_on_scifact() -> None:
    bench = benchmark_module()
    documents, queries, qrels = bench.read(shared_collection("scifact"))
    leg = Bm25Retriever(documents).search(queries, 100)
    rankings = {query_id: [(scored.doc_id, scored.score) for scored in ranking] for query_id, ranking in leg.items()}
    assert bench.evaluate(rankings, qrels, "nDCG@10") == pytest.approx(0.686, abs=0.005)


def test_published_first_stage_on_mtragun() -> None:
    """Encodes 1,140 passages: about 40 CPU-seconds."""
    from zelo.encoders.transformer import load_encoder

    bench = benchmark_module()
    rows = bench.quality("mtragun", shared_collection("mtragun"), load_encoder(threads=2))
    published = {line["name"]: (line["value"], line["baseline"]) for line in rows if line["baseline"] is not None}
    assert len(published) == 4
    for name, (value, baseline) in published.items():
        assert value == pytest.approx(baseline, abs=0.005), name
