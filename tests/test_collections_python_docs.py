"""The built-in collection: what the harvest holds, and labels on a Python that lacks their documents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zelo.collections import PythonDocs
from zelo.collections import python_docs as module
from zelo.errors import InputError
from zelo.types import Document, Qrel, Query


@pytest.fixture(scope="module")
def harvested() -> list[Document]:
    return module.harvest()


class TestHarvest:
    def test_is_the_same_in_another_process_and_environment(self, harvested: list[Document], tmp_path: Path) -> None:
        # a hash seed, a variable that default values could show, and another folder
        environment = {**os.environ, "PYTHONHASHSEED": "7", "A_SECRET": "x"}
        code = (
            "import json; from zelo.collections.python_docs import harvest\n"
            "print(json.dumps([(d.doc_id, d.text, d.title) for d in harvest()]))"
        )
        path = os.pathsep.join(sys.path)
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env={**environment, "PYTHONPATH": path}, capture_output=True, check=True
        )
        assert [Document(*row) for row in json.loads(done.stdout)] == harvested

    def test_holds_what_people_look_for(self, harvested: list[Document]) -> None:
        assert len(harvested) > 4500
        titles = {d.doc_id: d.title for d in harvested}
        wanted = {
            "str.split": "str.split(self, /, sep=None, maxsplit=-1)",
            "os.path.join": "os.path.join(a, *p)",
            "json.loads": "json.loads(s, *, cls=None, ",
            "open": "open(file, mode='r', ",
            "argparse.ArgumentParser.add_argument": "argparse.ArgumentParser.add_argument(",
            "collections.Counter": "class collections.Counter(",
            "random.choice": "random.choice(",
            "itertools": "module itertools",
        }
        assert {doc_id: titles[doc_id][: len(start)] for doc_id, start in wanted.items()} == wanted

    def test_ids_and_texts(self, harvested: list[Document]) -> None:
        ids = [d.doc_id for d in harvested]
        assert ids == sorted(set(ids))
        assert len({d.text for d in harvested}) == len(harvested)
        assert all(len(d.text) >= 15 and "\x00" not in d.text for d in harvested)
        assert not any(part.startswith("_") for i in ids for part in i.split("."))

    def test_nothing_of_this_machine_is_in_it(self, harvested: list[Document]) -> None:
        telling = (" at 0x", "environ({", repr(sys.executable), str(Path.home()) + "/", "'PATH'")
        assert not [d.title for d in harvested for word in telling if word in d.title]


class TestHarvestFails:
    def test_no_interpreter(self) -> None:
        with pytest.raises(InputError, match=r"python_docs: cannot start the interpreter '/no/python' \(No such file"):
            module.harvest(python="/no/python")

    def test_too_slow(self) -> None:
        with pytest.raises(InputError, match=r"took over 0.001 s"):
            module.harvest(timeout=0.001)

    @pytest.mark.parametrize(
        ("script", "message"),
        [
            ("import sys; sys.exit('first\\nno such luck')", r"failed with code 1 \(no such luck\)"),
            ("import os; os._exit(3)", r"failed with code 3 \(it said nothing\)"),
            ("", "the standard library has no docstrings"),
        ],
    )
    def test_broken_interpreter(self, script: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "script.py"
        path.write_text(script)
        monkeypatch.setattr(module, "_HARVEST", path)
        with pytest.raises(InputError, match=message) as caught:
            module.harvest()
        assert "\n" not in str(caught.value)


LINES = (
    {"_id": "a1", "split": "test", "text": "cut text", "labels": {"str.split": 3, "gone.away": 2}},
    {"_id": "a2", "split": "train", "text": "more text", "labels": {}},
    {"_id": "a3", "split": "test", "text": "ask for what is gone", "labels": {"gone.one": 3, "gone.two": 1}},
    {"_id": "a4", "split": "dev", "text": "join text", "labels": {"str.join": 3}},
    {"_id": "a5", "split": "train", "text": "no labels key"},
)


@pytest.fixture
def questions(tmp_path: Path, harvested: list[Document], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "harvest", lambda: harvested)
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


class TestQuestions:
    def test_labels_without_document_are_dropped_and_counted(self, questions: Path) -> None:
        docs = PythonDocs(questions)
        assert list(docs.qrels("test")) == [Qrel("a1", "str.split", 3)]
        assert list(docs.qrels("dev")) == [Qrel("a4", "str.join", 3)]
        assert docs.notes == {"labels_dropped": 3, "questions_dropped": 1}
        # a test question that lost its labels must not turn into a training question
        assert [q.query_id for q in docs.queries()] == ["a1", "a2", "a4", "a5"]
        assert next(docs.queries()) == Query("a1", "cut text")
        assert docs.splits() == ("dev", "test")

    def test_train_has_no_labels(self, questions: Path) -> None:
        with pytest.raises(InputError, match=r"no labels for the split 'train'. there are: dev, test"):
            PythonDocs(questions).qrels("train")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"_id": "a1"}, "duplicate _id 'a1', first on line 1"),
            ({"text": " "}, "has no text"),
            ({"split": "Test"}, "unknown split 'Test'"),
            ({"split": None}, "unknown split None"),
            ({"split": ["test"]}, r"unknown split \['test'\]"),
            ({"labels": {"str.split": 4}}, "grades 1, 2 or 3"),
            ({"labels": {"str.split": True}}, "grades 1, 2 or 3"),
            ({"labels": ["str.split"]}, "labels must map"),
            ({"labels": {}}, "a test question without labels"),
            ({"split": "train"}, "a train question with labels"),
        ],
    )
    def test_bad_lines(self, change: dict[str, object], message: str, questions: Path) -> None:
        line = {"_id": "b1", "split": "test", "text": "x", "labels": {"str.split": 3}, **change}
        with questions.open("a") as out:
            out.write(json.dumps(line) + "\n")
        with pytest.raises(InputError, match=message) as caught:
            list(PythonDocs(questions).queries())
        assert caught.value.where == f"{questions}:6"

    def test_no_questions(self, questions: Path) -> None:
        questions.write_text("\n")
        with pytest.raises(InputError, match="there are no questions"):
            list(PythonDocs(questions).queries())


def test_the_questions_that_come_with_zelo(harvested: list[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "harvest", lambda: harvested)
    docs = PythonDocs()
    labeled = {split: {q.query_id for q in docs.qrels(split)} for split in docs.splits()}
    queries = {q.query_id: q.text for q in docs.queries()}
    assert len(labeled["test"]) >= 180
    assert len(queries) >= 300
    assert len(set(queries.values())) == len(queries)
    assert not labeled["test"] & labeled["dev"]
    assert len(queries) > sum(map(len, labeled.values()))  # some are for training
    has_answer = {q.query_id for split in docs.splits() for q in docs.qrels(split) if q.relevance == 3}
    assert len(has_answer) >= 0.95 * sum(map(len, labeled.values()))
