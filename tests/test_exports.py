"""`zelo export`: files as the other libraries read them, held against those libraries' own rules where they are installed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import zelo
from zelo.artifacts import read_table
from zelo.collections import open_collection
from zelo.collections.beir import read_qrels
from zelo.errors import InputError
from zelo.exports import FORMATS, Choice, export
from zelo.exports.beir import grade
from zelo.exports.material import Material
from zelo.workspace import Workspace, share


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def header(folder: Path) -> str:
    found = re.fullmatch(r"---\n(.*?)\n---\n\n(.*)", (folder / "README.md").read_text("utf-8"), re.DOTALL)
    assert found is not None
    assert "No person labeled" in found[2]
    return found[1]


def configs(folder: Path) -> dict[str, dict[str, str]]:
    """The `configs` of a data set card, and that their files are there."""
    yaml = pytest.importorskip("yaml")
    data = yaml.safe_load(header(folder))
    assert data["task_categories"] == ["text-ranking"]
    assert data["language"] == ["en"]
    found = {c["config_name"]: {f["split"]: f["path"] for f in c["data_files"]} for c in data["configs"]}
    assert all((folder / path).is_file() for files in found.values() for path in files.values())
    return found


@pytest.fixture(scope="module")
def material(finished: Path) -> Material:
    return Material.read(Workspace.open(finished), Choice(positive=0.5, negative=0.2))


def test_sentence_transformers_reads_them_by_column_order(finished: Path, tmp_path: Path, material: Material) -> None:
    import pyarrow.parquet as pq

    found = export(Workspace.open(finished), "sentence-transformers", tmp_path / "st", Choice())
    assert configs(tmp_path / "st").keys() == {"list", "pair", "triplet"}
    lists = pq.read_table(tmp_path / "st/list/train.parquet").to_pylist()
    assert list(lists[0]) == ["query", "docs", "labels"]
    assert len(lists) == 8 == len(material.questions)
    assert all(len(row["docs"]) == len(row["labels"]) and 0 <= min(row["labels"]) <= max(row["labels"]) <= 1 for row in lists)
    pairs = pq.read_table(tmp_path / "st/pair/train.parquet").to_pylist()
    assert list(pairs[0]) == ["query", "document", "label"]
    assert len(pairs) == sum(len(q.documents) for q in material.questions) == found.rows["pair/train.parquet"]
    triplets = pq.read_table(tmp_path / "st/triplet/train.parquet").to_pylist()
    assert list(triplets[0]) == ["query", "positive", "negative", "label"]
    assert all(row["label"] > 0 for row in triplets)


def test_the_losses_of_sentence_transformers_take_them(finished: Path, tmp_path: Path) -> None:
    """One step of LambdaLoss, BinaryCrossEntropyLoss and MarginMSELoss, with the rows as the collator of its trainer hands them over."""
    import pyarrow.parquet as pq

    pytest.importorskip("sentence_transformers")
    from sentence_transformers.cross_encoder import CrossEncoder, losses
    from sentence_transformers.cross_encoder.data_collator import CrossEncoderDataCollator

    from tiny_models import WORDS, write_tiny_bert

    export(Workspace.open(finished), "sentence-transformers", tmp_path / "st", Choice())
    model = CrossEncoder(str(write_tiny_bert(tmp_path / "model", WORDS)), num_labels=1, max_length=64)
    collator = CrossEncoderDataCollator(preprocess_fn=model.preprocess)
    for name, loss in (("list", losses.LambdaLoss), ("pair", losses.BinaryCrossEntropyLoss), ("triplet", losses.MarginMSELoss)):
        batch = dict(collator(pq.read_table(tmp_path / f"st/{name}/train.parquet").to_pylist()[:2]))
        labels = batch.pop("label")
        assert loss(model)(list(batch.values()), labels).item() >= 0


def test_flagembedding(finished: Path, tmp_path: Path, material: Material) -> None:
    export(Workspace.open(finished), "flagembedding", tmp_path / "fe", Choice(negatives=4))
    found = rows(tmp_path / "fe/train.jsonl")
    assert found
    by_text = {q.text: q for q in material.questions}
    for row in found:
        assert list(row) == ["query", "pos", "neg", "pos_scores", "neg_scores"]
        assert len(row["pos"]) == len(row["pos_scores"]) >= 1
        assert 1 <= len(row["neg"]) == len(row["neg_scores"]) <= 4
        assert min(row["pos_scores"]) > max(row["neg_scores"])
        target = {d.document.full_text: d.target for d in by_text[row["query"]].documents}
        assert all(target[text] >= 0.5 for text in row["pos"])
        hard = sorted((t for t in target.values() if t < 0.2), reverse=True)[:4]
        assert [target[text] for text in row["neg"]] == hard
    assert configs(tmp_path / "fe") == {"default": {"train": "train.jsonl"}}


def test_tevatron(finished: Path, tmp_path: Path) -> None:
    export(Workspace.open(finished), "tevatron", tmp_path / "tev", Choice())
    found = rows(tmp_path / "tev/train.jsonl")
    assert list(found[0]) == ["query_id", "query", "positive_passages", "negative_passages"]
    assert all(
        list(passage) == ["docid", "title", "text"] for row in found for passage in row["positive_passages"] + row["negative_passages"]
    )
    corpus = rows(tmp_path / "tev/corpus.jsonl")
    assert len(corpus) == 240
    assert {p["docid"] for row in found for p in row["negative_passages"]} <= {d["docid"] for d in corpus}


def test_beir_is_a_collection_again(finished: Path, tmp_path: Path) -> None:
    export(Workspace.open(finished), "beir", tmp_path / "beir", Choice(split="all", grades=3))
    collection = open_collection(tmp_path / "beir")
    assert collection.splits() == ("test", "train")
    queries, documents = {q.query_id for q in collection.queries()}, {d.doc_id for d in collection.documents()}
    collection.check_qrels(queries, documents)
    table = read_table(finished / "targets.parquet", "targets")
    target = dict(zip(zip(table["query_id"], table["doc_id"], strict=True), np.asarray(table["target"]).tolist(), strict=True))
    labels = [*read_qrels(tmp_path / "beir/qrels/train.tsv"), *read_qrels(tmp_path / "beir/qrels/test.tsv")]
    assert len(labels) == len(target)
    assert all(row.relevance == grade(target[row.query_id, row.doc_id], 3) for row in labels)
    found = configs(tmp_path / "beir")
    assert found["qrels"] == {"train": "qrels/train.jsonl", "test": "qrels/test.jsonl"}
    # datasets reads all files of a card as one kind: with TSV beside JSON none of the labels could be loaded (datasets 5.0)
    assert {Path(path).suffix for files in found.values() for path in files.values()} == {".jsonl"}
    again = [
        (r["query-id"], r["corpus-id"], r["score"]) for split in ("train", "test") for r in rows(tmp_path / f"beir/qrels/{split}.jsonl")
    ]
    assert again == [(r.query_id, r.doc_id, r.relevance) for r in labels]
    assert [grade(t, 3) for t in (0.0, 0.24, 0.25, 0.5, 0.74, 0.75, 1.0)] == [0, 0, 1, 2, 2, 3, 3]


def test_questions_that_are_reported_on_stay_out_of_training(finished: Path, tmp_path: Path) -> None:
    splits = dict(line.split("\t") for line in (finished / "splits.tsv").read_text("utf-8").splitlines()[1:])
    export(Workspace.open(finished), "tevatron", tmp_path / "tev", Choice())
    assert {splits[row["query_id"]] for row in rows(tmp_path / "tev/train.jsonl")} == {"train"}


def test_the_command_says_what_it_wrote_and_refuses_in_a_line(workspace: Path, tmp_path: Path) -> None:
    ran = zelo("export", workspace, "--format", "beir")
    assert ran.code == 0, ran.err
    folder = workspace.with_name("ws-beir")
    assert f"{folder / 'qrels/train.tsv'}: " in ran.out
    again = zelo("export", workspace, "--format", "beir")
    assert (again.code, "this exists already" in again.err) == (2, True)
    mixed = zelo("export", workspace, "--format", "flagembedding", "--positive", "0.1", "--negative", "0.4")
    assert (mixed.code, "do not go together" in mixed.err) == (2, True)
    none = zelo("export", workspace, "--format", "flagembedding", "--positive", "1", "--negative", "0.001")
    assert (none.code, "no question has a positive" in none.err) == (2, True)
    assert not workspace.with_name("ws-flagembedding").exists()
    (workspace / "scores.parquet").unlink()
    unscored = zelo("export", workspace, "--format", "beir", "--out", tmp_path / "x")
    assert (unscored.code, "has no scores yet" in unscored.err) == (2, True)
    with pytest.raises(InputError, match="no format 'x'"):
        export(Workspace.open(workspace), "x", tmp_path / "y", Choice())


def test_labels_do_not_go_out_with_other_texts(workspace: Path, tmp_path: Path) -> None:
    opened = Workspace.open(workspace)
    entry = opened.entry("ingest")
    assert entry is not None
    with opened.writing("ingest") as out:  # the documents are read again, one of them is another one
        for artifact in entry.writes:
            share(opened.path(artifact), out / opened.path(artifact).relative_to(workspace))
        corpus = out / "corpus.jsonl"
        text = corpus.read_text("utf-8")
        corpus.unlink()
        corpus.write_text(text.replace('"text": "', '"text": "Not so: ', 1), "utf-8")
        opened.publish(out, entry, tuple(entry.writes))
    ran = zelo("export", workspace, "--format", "tevatron", "--out", tmp_path / "x")
    assert (ran.code, "corpus changed since stage pair ran" in ran.err) == (2, True), ran.err


def test_the_command_knows_every_format() -> None:
    from zelo.commands.exporting import _FORMATS

    assert tuple(FORMATS) == _FORMATS
