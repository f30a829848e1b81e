"""What holds for every kind of collection, and how one is opened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import shared_collection
from zelo.collections import BeirFolder, Collection, PythonDocs, Synthetic, open_collection, write_beir
from zelo.errors import InputError
from zelo.types import Document, Qrel, Query

KINDS = ("beir", "python_docs", "synthetic")


def write_questions(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def python_docs(tmp_path_factory: pytest.TempPathFactory) -> PythonDocs:
    """One harvest for the whole module."""
    rows: tuple[dict[str, object], ...] = (
        {"_id": "x1", "split": "test", "text": "cut a string at commas", "labels": {"str.split": 3, "re.split": 2}},
        {"_id": "x2", "split": "dev", "text": "join folder and file name", "labels": {"os.path.join": 3}},
        {"_id": "x3", "split": "train", "text": "read a json text", "labels": {}},
    )
    return PythonDocs(write_questions(tmp_path_factory.mktemp("questions") / "q.jsonl", *rows))


@pytest.fixture(params=KINDS)
def collection(request: pytest.FixtureRequest, tmp_path: Path) -> Collection:
    if request.param == "python_docs":
        docs: PythonDocs = request.getfixturevalue("python_docs")
        return docs
    synthetic = Synthetic(documents=30, queries=6, seed=1)
    if request.param == "synthetic":
        return synthetic
    write_beir(synthetic, tmp_path / "beir")
    return BeirFolder(tmp_path / "beir")


def contents(collection: Collection) -> tuple[list[Document], list[Query], dict[str, list[Qrel]]]:
    qrels = {split: list(collection.qrels(split)) for split in collection.splits()}
    return list(collection.documents()), list(collection.queries()), qrels


class TestContract:
    def test_each_call_starts_from_the_beginning(self, collection: Collection) -> None:
        next(collection.documents())
        next(collection.queries())
        assert contents(collection) == contents(collection)

    def test_there_is_something_and_ids_are_unique_and_without_white_space(self, collection: Collection) -> None:
        documents, queries, qrels = contents(collection)
        assert collection.name
        for ids in ([d.doc_id for d in documents], [q.query_id for q in queries]):
            assert ids
            assert len(ids) == len(set(ids))
            assert all(len(i.split()) == 1 and i == i.strip() for i in ids)
        assert all(q.text.strip() for q in queries)
        assert all(qrels.values())

    def test_splits_are_sorted_and_another_split_is_an_error(self, collection: Collection) -> None:
        assert list(collection.splits()) == sorted(collection.splits())
        with pytest.raises(InputError, match=r"no labels for the split 'nope'.*there are: .*test"):
            collection.qrels("nope")

    def test_labels_name_each_pair_once_and_known_ids(self, collection: Collection) -> None:
        documents, queries, qrels = contents(collection)
        doc_ids, query_ids = {d.doc_id for d in documents}, {q.query_id for q in queries}
        for rows in qrels.values():
            assert len({(r.query_id, r.doc_id) for r in rows}) == len(rows)
        collection.check_qrels(query_ids, doc_ids)
        first = next(collection.qrels("test"))
        with pytest.raises(InputError, match=f"unknown query '{first.query_id}'"):
            collection.check_qrels(query_ids - {first.query_id}, doc_ids)
        with pytest.raises(InputError, match=f"unknown document '{first.doc_id}'"):
            collection.check_qrels(query_ids, doc_ids - {first.doc_id})

    def test_notes_are_positive_counts(self, collection: Collection) -> None:
        contents(collection)
        assert all(count >= 1 for count in collection.notes.values())

    def test_comes_back_from_a_beir_folder(self, collection: Collection, tmp_path: Path) -> None:
        folder = tmp_path / "written" / "copy"  # parents are made
        write_beir(collection, folder)
        again = open_collection(folder)
        assert again.name == "copy"
        assert contents(again) == contents(collection)
        assert sorted(p.name for p in folder.parent.iterdir()) == ["copy"]  # no partial folder is left

    def test_is_written_the_same_twice(self, collection: Collection, tmp_path: Path) -> None:
        for name in ("one", "two"):
            write_beir(collection, tmp_path / name)
        files = [{p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in ("one", "two")]
        assert len(files[0]) == 2 + len(collection.splits())
        assert files[0] == files[1]


class TestWriteBeir:
    def test_leaves_nothing_behind_when_the_collection_has_a_fault(self, tmp_path: Path) -> None:
        write_beir(Synthetic(documents=5, queries=2), tmp_path / "good")
        with (tmp_path / "good" / "qrels" / "test.tsv").open("a") as out:
            out.write("q000\td0000\tmany\n")
        with pytest.raises(InputError, match="many"):
            write_beir(BeirFolder(tmp_path / "good"), tmp_path / "bad")
        assert [p.name for p in tmp_path.iterdir()] == ["good"]

    def test_does_not_touch_what_exists(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="exists already"):
            write_beir(Synthetic(), tmp_path)
        assert not list(tmp_path.iterdir())

    def test_says_that_a_place_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="cannot be written"):
            write_beir(Synthetic(), tmp_path / "file" / "folder")


class TestOpenCollection:
    @pytest.mark.parametrize("name", ["python_docs", "synthetic"])
    def test_built_in(self, name: str) -> None:
        assert open_collection(name).name == name

    def test_unknown_names_what_there_is(self) -> None:
        with pytest.raises(InputError, match=r"^nowhere: no such collection. built in are python_docs, synthetic; or give the path"):
            open_collection("nowhere")

    def test_documents_without_queries_are_no_collection(self, tmp_path: Path) -> None:
        path = tmp_path / "corpus.jsonl"
        path.write_text("{}\n")
        for source in (path, tmp_path / "empty"):
            (tmp_path / "empty").mkdir(exist_ok=True)
            with pytest.raises(InputError, match=r"documents without queries. give what people asked"):
                open_collection(source)

    def test_a_folder_without_corpus_names_what_it_holds(self, tmp_path: Path) -> None:
        (tmp_path / "qrels").mkdir()
        with pytest.raises(InputError, match=r"no corpus.jsonl in this folder. the folder holds qrels/"):
            open_collection(tmp_path)
        for number in range(9):
            (tmp_path / f"set{number}").mkdir()
        with pytest.raises(InputError, match=r"the folder holds qrels/, set0/, .*, set6/ and 2 more"):
            open_collection(tmp_path)

    def test_a_folder_without_queries(self, tmp_path: Path) -> None:
        (tmp_path / "corpus.jsonl").write_text("")
        with pytest.raises(InputError, match=r"no queries.jsonl in this folder"):
            open_collection(str(tmp_path))


# documents, all queries, {split: (queries with labels, labels)}; the counts that come with the collections
SHARED_COUNTS = {
    "scifact": (5183, 1109, {"test": (300, 339), "train": (809, 919)}),
    "cosqa": (6267, 1000, {"dev": (500, 500), "test": (500, 500)}),
    "tatqa": (3093, 3331, {"dev": (1668, 2205), "test": (1663, 2249)}),
    "pubmedqa": (1000, 1000, {"test": (1000, 1000)}),
    "legalsum": (445, 446, {"test": (446, 446)}),
    "mtragun": (1140, 332, {"test": (332, 839)}),
}


@pytest.mark.parametrize("name", SHARED_COUNTS)
def test_reads_real_collections(name: str) -> None:
    collection = open_collection(shared_collection(name))
    documents, queries, qrels = contents(collection)
    counts = {split: (len({q.query_id for q in rows}), len(rows)) for split, rows in qrels.items()}
    assert (len(documents), len(queries), counts) == SHARED_COUNTS[name]
    assert collection.name == name
    assert not collection.notes
    collection.check_qrels({q.query_id for q in queries}, {d.doc_id for d in documents})


class TestSynthetic:
    def test_depends_on_the_seed_only(self) -> None:
        assert contents(Synthetic(seed=3)) == contents(Synthetic(seed=3))
        assert contents(Synthetic(seed=3))[0] != contents(Synthetic(seed=4))[0]

    def test_words_find_the_relevant_documents(self) -> None:
        collection = Synthetic(seed=5)
        documents, queries, qrels = contents(collection)
        texts = {d.doc_id: set(d.text.replace(".", "").split()) for d in documents}
        words = {q.query_id: set(q.text.split()) for q in queries}
        overlap: dict[float, list[int]] = {1: [], 2: [], 3: []}
        labeled = set()
        for qrel in (*qrels["test"], *qrels["train"]):
            overlap[qrel.relevance].append(len(words[qrel.query_id] & texts[qrel.doc_id]))
            labeled.add((qrel.query_id, qrel.doc_id))
        means = [sum(counts) / len(counts) for counts in overlap.values()]
        assert 0.2 < means[0] < means[1] < means[2] < 2.5  # more with the grade, and never so much that it is trivial
        unlabeled = [len(words[q] & texts[d]) for q in words for d in texts if (q, d) not in labeled]
        assert sum(unlabeled) == 0

    def test_test_and_train_share_topics_and_no_query(self) -> None:
        _, queries, qrels = contents(Synthetic(documents=12, queries=1440))
        assert len({frozenset(q.text.split()) for q in queries}) == 1440
        assert {q.doc_id for q in qrels["test"]} == {q.doc_id for q in qrels["train"]}

    def test_one_document_and_one_query_will_do(self) -> None:
        documents, queries, qrels = contents(Synthetic(documents=1, queries=1))
        assert (len(documents), len(queries), qrels) == (1, 1, {"test": [Qrel("q000", "d0000", 1)]})

    @pytest.mark.parametrize(("documents", "queries"), [(0, 1), (-1, 1), (5, 0), (12, 1441), (1, 121)])
    def test_impossible_sizes(self, documents: int, queries: int) -> None:
        with pytest.raises(InputError, match="cannot be made"):
            Synthetic(documents=documents, queries=queries)
