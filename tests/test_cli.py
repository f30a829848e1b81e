"""The command line: what goes where, and one clear line for everything that can be wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import SMALL, Ran, zelo
from zelo.artifacts import ARTIFACTS
from zelo.collections.beir import read_corpus, read_qrels, read_queries, write_beir
from zelo.collections.synthetic import Synthetic
from zelo.collections.trec import read_run
from zelo.judges import FORMS, JUDGES
from zelo.pipeline import DIRECT
from zelo.recipe import from_dict, load
from zelo.workspace import Workspace

NAMES = [stage.name for stage in DIRECT]


def assert_one_line(ran: Ran, *parts: str) -> None:
    """Exit code 2, nothing on standard output, one line about the fault at the end of standard error."""
    *before, last = ran.err.splitlines()
    assert ran.code == 2, ran
    assert ran.out == ""
    assert last.startswith(("zelo: ", "Error: ")), ran.err
    for line in before:  # only what the stages say as they begin and end, or how a command is used
        assert line.startswith((*NAMES, " ", "Usage:", "Try")) or not line, ran.err
    for part in parts:
        assert part in last


def assert_whole(root: Path) -> None:
    """Nothing is half-written: no leftovers, and every artifact stands in the manifest with its digest."""
    assert not [p for p in root.rglob("*") if ".partial" in str(p.relative_to(root))]
    opened = Workspace.open(root)
    entries = [opened.entry(stage.name) for stage in DIRECT]
    written = {artifact: digest for entry in entries if entry for artifact, digest in entry.writes.items()}
    for artifact in ARTIFACTS:
        assert opened.digest(artifact) == written.get(artifact), artifact


class TestStart:
    def best(self, *command: str) -> float:
        def seconds() -> float:
            before = os.times()  # processor time: the machine may be busy
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            after = os.times()
            return after.children_user - before.children_user + after.children_system - before.children_system

        return min(seconds() for _ in range(5))

    def test_import_is_fast_and_light(self) -> None:
        heavy = ("torch", "transformers", "sentence_transformers", "openvino", "numpy", "scipy", "pyarrow", "rich", "click")
        code = f"import sys, zelo; sys.exit(' '.join(m for m in {heavy} if m in sys.modules) or 0)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert self.best("-c", "import zelo") - self.best("-c", "pass") < 0.2

    def test_help_is_fast(self) -> None:
        assert self.best("-m", "zelo", "--help") < 0.5

    def test_help_names_every_command(self) -> None:
        ran = zelo("--help")
        assert ran.code == 0
        for name in ("new", "run", "status", "show", "demo", "rerank", "judges", *NAMES):
            assert re.search(rf"^  {name} ", ran.out, re.MULTILINE), name
            assert zelo(name, "--help").code == 0

    def test_version(self) -> None:
        from zelo import __version__

        assert zelo("--version").out.strip().endswith(__version__)

    @pytest.mark.parametrize("arguments", [("bogus",), ("new",), ("run", "--nope"), ("train-pairwise", "ws")])
    def test_wrong_use(self, arguments: tuple[str, ...]) -> None:
        assert_one_line(zelo(*arguments))


class TestNew:
    def test_makes_a_folder_with_every_parameter(self, tmp_path: Path) -> None:
        ran = zelo("new", tmp_path / "my ws", "--collection", "synthetic", "--set", "pair.degree=6")
        assert ran.code == 0
        assert f"zelo run '{tmp_path / 'my ws'}'" in ran.out
        assert load(tmp_path / "my ws" / "recipe.toml") == load("demo").with_settings(
            {"ingest.collection": "synthetic", "pair.degree": "6"}
        )

    def test_paths_work_from_any_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_beir(Synthetic(8, 4), tmp_path / "5")  # a name that TOML would read as a number
        (tmp_path / "mine.toml").write_text('[ingest]\ncollection = "5"\n[encode]\nmodel = "./model"')
        monkeypatch.chdir(tmp_path)
        for name, options in {"a": ("--collection", "5"), "b": ("--recipe", "mine.toml"), "c": ("--set", 'ingest.collection="5"')}.items():
            ran = zelo("new", name, *options)
            assert ran.code == 0, ran
            assert load(Path(name) / "recipe.toml").ingest.collection == str(tmp_path / "5")
        assert load(Path("b/recipe.toml")).encode.model == str(tmp_path / "model")

    @pytest.mark.parametrize(
        ("options", "parts"),
        [
            (("--collection", "nope"), ("no such collection", "python_docs, synthetic")),
            (("--collection", ""), ("no name",)),
            (("--collection", "."), ("documents without queries", "--queries FILE")),
            (("--recipe", "demoo"), ("no recipe 'demoo'", "demo")),
            (("--set", "pair.degre=6"), ("unknown key 'degre'", "did you mean 'degree'?")),
            (("--set", "pairs.degree=6"), ("unknown section 'pairs'", "'pair'")),
            (("--set", "seed.x=1"), ("unknown section 'seed'",)),
            (("--set", "pair.degree"), ("has no '='",)),
            (("--set", "pair.degree=7"), ("odd",)),
            (("--set", "retrieve.b=nan"), ("not a finite number",)),
            (("--set", "line=distilled", "--set", "pairwise.base=/no/such/model"), ("no such model folder",)),
            (("--set", 'judge.ensemble=["oracle"]'), ("no judge 'oracle'", "lexical, dense, late_interaction")),
            (("--set", 'evaluate.measures=["best"]'), ("unknown measure 'best'", "nDCG@k")),
        ],
    )
    def test_faults_are_named_and_nothing_is_made(
        self, options: tuple[str, ...], parts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        collection = () if "--collection" in options else ("--collection", "synthetic")
        assert_one_line(zelo("new", "ws", *collection, *options), *parts)
        assert list(tmp_path.iterdir()) == []

    def test_an_unknown_key_in_a_recipe_file(self, tmp_path: Path) -> None:
        (tmp_path / "my.toml").write_text("[pair]\ndegre = 6\n")
        ran = zelo("new", tmp_path / "ws", "--collection", "synthetic", "--recipe", tmp_path / "my.toml")
        assert_one_line(ran, "my.toml [pair]: unknown key 'degre'", "did you mean 'degree'?")
        assert not (tmp_path / "ws").exists()

    def test_unwritable(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        assert_one_line(zelo("new", tmp_path / "file" / "ws", "--collection", "synthetic"), "cannot be made")
        assert_one_line(zelo("new", tmp_path, "--collection", "synthetic"), "not empty")
        if Path("/proc").is_dir():
            assert_one_line(zelo("new", "/proc/nowhere/ws", "--collection", "synthetic"), "/proc/nowhere/ws", "cannot be")
        assert [p.name for p in tmp_path.iterdir()] == ["file"]


Spoil = Callable[[Path], object]


def append_to(name: str, content: bytes) -> Spoil:
    def spoil(folder: Path) -> None:
        with (folder / name).open("ab") as handle:
            handle.write(content)

    return spoil


def first_again(name: str) -> Spoil:
    return lambda folder: append_to(name, (folder / name).read_bytes().splitlines(keepends=True)[0])(folder)


FAULTS: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "missing corpus file": (lambda folder: (folder / "corpus.jsonl").unlink(), ("no corpus.jsonl", "queries.jsonl")),
    "missing questions": (lambda folder: (folder / "queries.jsonl").unlink(), ("no queries.jsonl",)),
    "missing collection": (lambda folder: shutil.rmtree(folder), ("no such collection",)),
    "line that is not JSON": (append_to("corpus.jsonl", b"{oops\n"), ("corpus.jsonl:13: not valid JSON",)),
    "duplicate document id": (first_again("corpus.jsonl"), ("corpus.jsonl:13: duplicate _id 'd", "first on line 1")),
    "duplicate question id": (first_again("queries.jsonl"), ("queries.jsonl:7: duplicate _id 'q", "first on line 1")),
    "unknown question in qrels": (append_to("qrels/test.tsv", b"q999\td000\t1\n"), ("test.tsv:", "unknown query 'q999'")),
    "unknown document in qrels": (append_to("qrels/train.tsv", b"q001\td999\t1\n"), ("train.tsv:", "unknown document 'd999'")),
    "empty question": (append_to("queries.jsonl", b'{"_id": "q999", "text": "  "}\n'), ("queries.jsonl:7", "query 'q999' has no text")),
    "NUL byte": (append_to("corpus.jsonl", b'{"_id": "x", "text": "a\x00b"}\n'), ("corpus.jsonl:13", "NUL")),
    "escaped NUL": (append_to("corpus.jsonl", b'{"_id": "x", "text": "a\\u0000b"}\n'), ("corpus.jsonl:13", "NUL")),
    "not UTF-8": (append_to("corpus.jsonl", b'{"_id": "x", "text": "\xff"}\n'), ("corpus.jsonl:13", "UTF-8")),
    "5 MB document": (
        append_to("corpus.jsonl", b'{"_id": "x", "text": "' + b"word " * 1_000_000 + b'"}\n'),
        ("corpus.jsonl:13", "5,000,000"),
    ),
    "empty corpus": (lambda folder: (folder / "corpus.jsonl").write_text(""), ("the corpus is empty",)),
    "no questions": (lambda folder: (folder / "queries.jsonl").write_text("\n"), ("there are no queries",)),
    "other split": (lambda folder: (folder / "qrels" / "test.tsv").unlink(), ("no labels for the split 'test'", "train")),
    "relevance that is no number": (append_to("qrels/test.tsv", b"q000\td000\thigh\n"), ("test.tsv:", "not a finite number")),
}


class TestFaultyCollections:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write_beir(Synthetic(documents=12, queries=6), tmp_path / "collection")
        return tmp_path / "collection"

    @pytest.mark.parametrize("fault", FAULTS)
    def test_one_line_and_nothing_half_written(self, fault: str, folder: Path, tmp_path: Path) -> None:
        spoil, parts = FAULTS[fault]
        root = tmp_path / "ws"
        assert zelo("new", root, "--collection", folder).code == 0
        spoil(folder)
        assert_one_line(zelo("run", root), *parts)
        assert sorted(p.name for p in root.iterdir()) == [".lock", "recipe.toml"]
        assert_whole(root)
        status = zelo("status", root)
        assert status.code == 0
        assert status.out.splitlines()[0].startswith("ingest     to do")

    def test_a_fault_that_comes_later_leaves_the_workspace_as_it_was(self, folder: Path, tmp_path: Path) -> None:
        root = tmp_path / "ws"
        zelo("new", root, "--collection", folder)
        assert zelo("run", root, "--to", "ingest").code == 0
        before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
        append_to("corpus.jsonl", b"{oops\n")(folder)
        assert_one_line(zelo("run", root, "--to", "ingest"), "not valid JSON")
        assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before

    def test_zero_candidates(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("zelo.stages.legs._fuse", lambda *_: [])
        assert_one_line(zelo("retrieve", workspace, "--force"), "synthetic: no document was found for any question")
        assert_whole(workspace)


class TestRun:
    def test_the_whole_line(self, tmp_path: Path) -> None:
        recipe = tmp_path / "small.toml"
        recipe.write_text("\n".join(f"[{s}]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in t.items()) for s, t in SMALL.items()))
        assert zelo("new", tmp_path / "ws", "--recipe", recipe).code == 0
        done = subprocess.run([sys.executable, "-m", "zelo", "run", tmp_path / "ws"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for name in NAMES:
            assert re.search(rf"^{name} +done in [\d.]+ s: ", done.stderr, re.MULTILINE), name
        assert "nDCG@10" in done.stdout
        assert done.stdout.splitlines()[-1] == f"report: {tmp_path / 'ws' / 'report' / 'index.html'}"
        assert_whole(tmp_path / "ws")
        assert load(tmp_path / "ws" / "recipe.toml") == from_dict(SMALL)

    def test_again_says_so_and_shows_the_result(self, finished: Path) -> None:
        ran = zelo("run", finished)
        assert ran.code == 0
        assert ran.err.splitlines() == ["all is up to date"]
        assert "nDCG@10" in ran.out
        assert "report: " in ran.out

    def test_status(self, workspace: Path) -> None:
        (workspace / "targets.parquet").unlink()
        lines = [line for line in zelo("status", workspace).out.splitlines() if not line.startswith(" ")]
        assert [line.split()[0] for line in lines] == NAMES
        states = dict(line.split(maxsplit=1) for line in lines)
        assert states["calibrate"] == "to do: targets.parquet is missing"
        assert states["train"] == "to do: targets will change"
        assert states["fit"].startswith("done in ")

    def test_status_only_reads(self, workspace: Path) -> None:
        (workspace / ".lock").unlink()
        before = {p: p.stat().st_mtime_ns for p in workspace.rglob("*")}
        assert zelo("status", workspace).code == zelo("run", workspace, "--dry-run").code == 0
        assert {p: p.stat().st_mtime_ns for p in workspace.rglob("*")} == before

    def test_dry_run_changes_nothing(self, workspace: Path) -> None:
        before = {p: p.read_bytes() for p in workspace.rglob("*") if p.is_file()}
        ran = zelo("run", workspace, "--dry-run", "--set", "rank.depth=5", "--force", "pool")
        said = dict(line.split(maxsplit=1) for line in ran.out.splitlines())
        assert said["pool"] == "would run: forced"
        assert said["rank"].startswith("would run: the recipe's")
        assert said["report"].startswith("would run: ")
        assert said["fit"] == "done"
        assert {p: p.read_bytes() for p in workspace.rglob("*") if p.is_file()} == before
        assert list(said) == NAMES
        assert [
            line.split()[0] for line in zelo("run", workspace, "--dry-run", "--from", "fit", "--to", "train").out.splitlines()
        ] == NAMES[6:10]

    def test_set_stays(self, workspace: Path) -> None:
        assert zelo("run", workspace, "--set", "calibrate.spread=1.5", "--to", "calibrate").code == 0
        assert load(workspace / "recipe.toml").calibrate.spread == 1.5
        assert zelo("calibrate", workspace).err.splitlines() == ["all is up to date"]

    def test_a_stage_by_its_name(self, workspace: Path) -> None:
        assert zelo("pool", workspace).err.splitlines() == ["all is up to date"]
        forced = zelo("pool", workspace, "--force").err
        assert "pool       done in" in forced
        assert "pool: " in forced
        assert "fit: " not in forced

    @pytest.mark.parametrize(
        ("options", "parts"),
        [
            (("--set", "pair.degre=6"), ("'degree'",)),
            (("--set", "line=distilled", "--set", "pairwise.base=/no/such/model"), ("no such model folder",)),
            (("--set", 'judge.ensemble=["oracle"]'), ("no judge 'oracle'",)),
            (("--set", "pair.degree=6", "--from", "reed"), ("no stage 'reed'",)),
            (("--set", "pair.degree=6", "--from", "rank", "--to", "fit"), ("comes before",)),
            (("--set", "pair.degree=6", "--force", "reed"), ("no stage 'reed'",)),
            (("--dry-run", "--force", "reed"), ("no stage 'reed'",)),
            (("--from", "fit", "--to", "fit", "--force", "rank"), ("not among",)),
        ],
    )
    def test_faults_leave_the_recipe_as_it_was(self, options: tuple[str, ...], parts: tuple[str, ...], finished: Path) -> None:
        before = (finished / "recipe.toml").read_bytes()
        assert_one_line(zelo("run", finished, *options), *parts)
        assert (finished / "recipe.toml").read_bytes() == before

    @pytest.mark.parametrize("command", ["run", "status", "show", "pool"])
    def test_no_workspace(self, command: str, tmp_path: Path) -> None:
        assert_one_line(zelo(command, tmp_path, *(["q"] if command == "show" else [])), str(tmp_path), "not a workspace", "zelo new")

    def test_two_at_once(self, workspace: Path) -> None:
        before = (workspace / "recipe.toml").read_bytes()
        with Workspace.open(workspace).locked():
            assert_one_line(zelo("run", workspace), "another process is working here")
            assert_one_line(zelo("run", workspace, "--set", "seed=5"), "another process is working here")
            assert zelo("status", workspace).code == 0
        assert (workspace / "recipe.toml").read_bytes() == before

    @pytest.mark.parametrize("stage", ["encode", "judge", "fit"])
    def test_full_disk(self, stage: str, workspace: Path) -> None:
        """A limit on the size of files does what a full disk does, in NumPy, SQLite and Arrow."""
        (workspace / "judgments.sqlite").unlink(missing_ok=True)
        code = "from resource import *; setrlimit(RLIMIT_FSIZE, (4000, RLIM_INFINITY)); from zelo.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, stage, workspace, "--force"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert_one_line(Ran(done.returncode, done.stdout, done.stderr), "cannot be written")
        assert_whole(workspace)


class TestShowAndJudges:
    def test_show(self, finished: Path) -> None:
        query = next(iter(read_queries(finished / "queries.jsonl")))
        ran = zelo("show", finished, query.query_id)
        assert ran.code == 0
        assert ran.out.startswith(f"{query.query_id}: {query.text}\n")
        best = ran.out.splitlines()[3].split(":")[0].split()[-1]
        assert "comparisons of lexical" in zelo("show", finished, query.query_id, best).out

    def test_show_says_what_is_old(self, workspace: Path) -> None:
        query = next(iter(read_queries(workspace / "queries.jsonl")))
        before, opened = zelo("show", workspace, query.query_id), Workspace.open(workspace)
        assert before.err == ""
        opened.save_recipe(opened.recipe.with_settings({"fit.prior_sd": 2.5}))
        ran = zelo("show", workspace, query.query_id)
        assert (ran.code, ran.out) == (0, before.out)
        (line,) = ran.err.splitlines()
        assert "from before a change (pool: the recipe's " in line
        assert f"`zelo run {workspace}`" in line

    def test_faults(self, finished: Path) -> None:
        assert_one_line(zelo("show", finished, "zzz"), "no question with this id or these words")
        query = next(iter(read_queries(finished / "queries.jsonl")))
        assert_one_line(zelo("show", finished, query.query_id, "nope"), "'nope' was not compared")
        assert_one_line(zelo("show", finished), "Missing argument 'QUERY'")

    def test_judges(self) -> None:
        assert [line.split()[0] for line in zelo("judges").out.splitlines()] == [*JUDGES, *FORMS]


class TestRerank:
    def test_scores_what_the_pipeline_scored(self, finished: Path) -> None:
        ranking = next(iter(read_run(finished / "rankings" / "pointwise.trec").values()))
        query = next(q.text for q in read_queries(finished / "queries.jsonl") if q.query_id == ranking[0].query_id)
        texts = {d.doc_id: d for d in read_corpus(finished / "corpus.jsonl")}
        lines = [
            json.dumps({"_id": hit.doc_id, "title": texts[hit.doc_id].title, "text": texts[hit.doc_id].text}) for hit in reversed(ranking)
        ]
        ran = zelo("rerank", finished / "models" / "pointwise", "--query", query, "--top", "5", stdin="\n".join(lines).encode())
        rows = [json.loads(line) for line in ran.out.splitlines()]
        assert [row["_id"] for row in rows] == [hit.doc_id for hit in ranking[:5]]
        assert [row["score"] for row in rows] == pytest.approx([hit.score for hit in ranking[:5]], abs=0.01)

    def test_plain_text(self, finished: Path, tmp_path: Path) -> None:
        (tmp_path / "docs.txt").write_text("people time\n\nloaf of wheat from the bakery\n")
        ran = zelo("rerank", finished / "models" / "pointwise", "--query", "loaf bakery", tmp_path / "docs.txt")
        rows = [json.loads(line) for line in ran.out.splitlines()]
        assert [row["text"] for row in rows] == ["loaf of wheat from the bakery", "people time"]
        assert rows[0]["_id"].endswith("docs.txt:3")
        assert rows[0]["score"] > rows[1]["score"]

    @pytest.mark.parametrize(
        ("stdin", "part"),
        [
            (b"", "no documents"),
            (b" \n", "no documents"),
            (b'{"_id": "a"}', "<stdin>:1"),
            (b'fine\n{"text": null}', "<stdin>:2"),
            (b'{"text": 5}', "not a string"),
            (b'{"text"', "not JSON"),
            (b'{"text": "\\ud800"}', "surrogate"),
            (b"\xff\xfe", "UTF-8"),
        ],
    )
    def test_faulty_documents(self, stdin: bytes, part: str, finished: Path) -> None:
        assert_one_line(zelo("rerank", finished / "models" / "pointwise", "--query", "q", stdin=stdin), part)

    def test_other_faults(self, finished: Path, tmp_path: Path) -> None:
        assert_one_line(zelo("rerank", finished / "models" / "pointwise", "--query", " ", stdin=b"x"), "query is empty")
        assert_one_line(zelo("rerank", finished / "candidates", "--query", "q", stdin=b"x"), "holds no model", "models/pointwise")
        assert_one_line(zelo("rerank", finished / "models" / "pointwise", "--query", "q", tmp_path / "absent"), "No such file")
        (tmp_path / "zelo.json").write_text('{"kind": "oracle"}')
        assert_one_line(zelo("rerank", tmp_path, "--query", "q", stdin=b"x"), "unknown kind of model 'oracle'")


def test_the_reader_has_seen_enough(finished: Path) -> None:
    """`zelo show ... | head -1` ends in silence."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "zelo", "status", finished], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.stderr == ""


def test_demo_with_a_faulty_setting_makes_nothing(tmp_path: Path) -> None:
    assert_one_line(zelo("demo", "--workspace", tmp_path / "ws", "--set", "pair.degre=6"), "'degree'")
    assert not (tmp_path / "ws").exists()


def test_labels_stay_out_of_training(finished: Path) -> None:
    """The labels in the workspace are those of test questions only."""
    splits = dict(line.split("\t") for line in (finished / "splits.tsv").read_text().splitlines()[1:])
    labeled = {row.query_id for path in (finished / "qrels").glob("*") for row in read_qrels(path)}
    assert labeled == {q for q, split in splits.items() if split == "test"}
    trained = {stage.name: stage.reads for stage in DIRECT}
    assert {name for name, reads in trained.items() if "qrels" in reads} == {"evaluate", "report"}


def test_nothing_is_sent_to_anybody(finished: Path) -> None:
    """OpenVINO would, in a thread of its own, as soon as it is imported."""
    code = """
import socket, sys, threading
from pathlib import Path

def refuse(*arguments):
    sys.exit("tried to connect: %r" % (arguments,))

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from zelo.encoders.transformer import load_encoder
load_encoder().encode(["a text"])
assert "openvino" in sys.modules
sys.exit(" ".join(t.name for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon) or 0)
"""
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    home = finished.parent / "home"
    home.mkdir()
    cache = os.environ.get("ZELO_CACHE") or str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zelo")
    environment = {**os.environ, "HOME": str(home), "ZELO_CACHE": cache}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in home.iterdir() if p.name != ".cache"] == []
