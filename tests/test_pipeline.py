"""The stages as a graph, and the loop that runs what is not done."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import SMALL
from zelo import pipeline, runner
from zelo.artifacts import ARTIFACTS
from zelo.collections.beir import read_corpus, write_beir
from zelo.collections.synthetic import Synthetic
from zelo.collections.trec import read_run
from zelo.errors import InputError, RecipeError, WorkspaceError, ZeloError
from zelo.pipeline import DIRECT, LINES, Stage, refined
from zelo.recipe import Ingest, Recipe, from_dict, to_dict
from zelo.runner import run, status
from zelo.stages.ingest import choose_questions
from zelo.types import Query, ScoredDoc
from zelo.workspace import Workspace

NAMES = [stage.name for stage in DIRECT]
WRITTEN = [artifact for stage in DIRECT for artifact in stage.writes]


def test_a_question_that_asks_the_same_as_one_that_is_reported_on_does_not_train() -> None:
    texts = {"a": "who", "b": "what", "c": "who", "d": "why", "e": "how"}
    found, note = choose_questions(list(texts), {"a", "b"}, Ingest(), texts)
    assert found == {"a": "test", "b": "test", "d": "train", "e": "train"}
    assert "1 that ask the same as one of those do not train" in note
    some = {f"q{n}": f"text {n // 3}" for n in range(60)}  # every text three times, all labeled: halves would share most of them
    found, _ = choose_questions(list(some), set(some), Ingest(), some)
    train, test = ({some[q] for q, split in found.items() if split == half} for half in ("train", "test"))
    assert train
    assert not train & test
    with pytest.raises(InputError, match="every question that could train asks the same"):
        choose_questions(["a", "c"], {"a"}, Ingest(), texts)


def dependents(*names: str) -> set[str]:
    """The stages that must run after these ones have."""
    found = set(names)
    for stage in DIRECT:
        written = {a for s in DIRECT if s.name in found for a in s.writes}
        if written & set(stage.reads):
            found.add(stage.name)
    return found


def to_do(workspace: Workspace) -> set[str]:
    return {state.stage.name for state in status(workspace) if not state.done}


def ran(workspace: Workspace, **choice: object) -> list[str]:
    return [entry.stage for entry in run(workspace, **choice)]  # type: ignore[arg-type]


class TestShape:
    @pytest.mark.parametrize("line", LINES.values(), ids=LINES)
    def test_one_writer_each_and_read_after_written(self, line: tuple[Stage, ...]) -> None:
        written: set[str] = set()
        for stage in line:
            assert set(stage.reads) <= written, stage.name
            assert not set(stage.writes) & written, stage.name
            written |= set(stage.writes)
        assert written <= set(ARTIFACTS)
        assert len({stage.name for stage in line}) == len(line)

    def test_every_artifact_has_a_writer(self) -> None:
        assert {artifact for line in LINES.values() for stage in (*line, *refined(line)) for artifact in stage.writes} == set(ARTIFACTS)

    def test_artifacts_lie_apart(self) -> None:
        paths = [Path(a.path) for a in ARTIFACTS.values()]
        for path in paths:
            assert not path.is_absolute()
            assert not [other for other in paths if other != path and path in other.parents]
        assert len(set(paths)) == len(paths)

    def test_every_section_belongs_to_a_stage(self) -> None:
        tables = to_dict(Recipe())
        sections = {name.partition(".")[0] for stage in DIRECT for name in stage.sections}
        assert sections == set(tables) - {"watch", "plan"}  # of live searches, and of recipes without a collection
        for stage in DIRECT:
            for name in stage.sections:
                section, _, key = name.partition(".")
                assert not key or key in tables[section]

    def test_every_stage_can_be_run(self) -> None:
        for line in LINES.values():
            for stage in line:
                module = runner._module(stage)
                assert callable(module.run)
                assert hasattr(module, "external") == stage.has_external

    def test_a_stage_reads_and_writes_what_it_declares(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        undeclared: list[str] = []
        used: dict[str, set[str]] = {}

        class Watched(pipeline.Context):
            def read(self, artifact: str) -> Path:
                self.note(artifact, stage_of(self.out).reads)
                return super().read(artifact)

            def write(self, artifact: str) -> Path:
                self.note(artifact, stage_of(self.out).writes)
                return super().write(artifact)

            def note(self, artifact: str, declared: tuple[str, ...]) -> None:
                used.setdefault(self.out.name, set()).add(artifact)
                if artifact not in declared:
                    undeclared.append(f"{self.out.name}: {artifact}")

        def stage_of(out: Path) -> Stage:
            return next(stage for stage in DIRECT if stage.name == out.name)

        monkeypatch.setattr(runner, "Context", Watched)
        run(Workspace.open(workspace), force=NAMES)
        assert undeclared == []
        # What is declared and not used makes stages run for nothing; `judge` and `train` read some of it only for some recipes.
        idle = {s.name: {*s.reads, *s.writes} - used[s.name] for s in DIRECT if {*s.reads, *s.writes} - used[s.name]}
        assert idle.get("ingest", set()) == idle.get("pair", set()) == idle.get("fit", set()) == set()


class TestStale:
    def test_nothing_after_the_whole_line(self, finished: Path) -> None:
        opened = Workspace.open(finished)
        assert to_do(opened) == set()
        before = (finished / "manifest.jsonl").read_bytes()
        assert run(opened) == []
        assert (finished / "manifest.jsonl").read_bytes() == before
        assert all(opened.path(name).exists() for name in WRITTEN)
        assert not (finished / ".partial").exists()

    @pytest.mark.parametrize(
        ("key", "value", "stages"),
        [
            ("ingest.max_train_queries", "7", ("ingest",)),
            ("encode.max_token_vectors", "5", ("encode", "train")),
            ("retrieve.k1", "1.2", ("retrieve",)),
            ("retrieve.language", "de", ("retrieve", "judge", "train")),  # both count words as the first stage does
            ("pair.degree", "6", ("pair",)),
            ("judge.max_missing", "0.3", ("judge",)),
            ("pool.weighting", "equal", ("pool",)),
            ("fit.link", "logit", ("pool",)),  # judges' order effects are in units of the link
            ("pair.aim", "top", ("pair", "judge")),
            ("pair.comparisons", "300", ("judge", "report")),  # the first round stays
            ("pair.per_round", "20", ("judge", "report")),
            ("calibrate.spread", "1.5", ("calibrate",)),
            ("train.epochs", "2", ("train",)),
            ("rank.depth", "10", ("rank",)),
            ("evaluate.resamples", "300", ("evaluate",)),
            ("report.examples", "3", ("report",)),
            ("seed", "1", ("pair", "evaluate")),
        ],
    )
    def test_a_changed_parameter(self, key: str, value: str, stages: tuple[str, ...], finished: Path) -> None:
        opened = Workspace.open(finished)
        opened.recipe = opened.recipe.with_settings({key: value})
        states = {state.stage.name: state for state in status(opened)}
        assert to_do(opened) == dependents(*stages)
        reason = states[stages[0]].reason
        assert key.partition(".")[0] in reason
        assert "recipe" in reason

    @pytest.mark.parametrize("artifact", WRITTEN)
    def test_a_missing_artifact(self, artifact: str, workspace: Path) -> None:
        opened = Workspace.open(workspace)
        path = opened.path(artifact)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        writer = next(stage.name for stage in DIRECT if artifact in stage.writes)
        states = {state.stage.name: state for state in status(opened)}
        assert states[writer].reason == f"{ARTIFACTS[artifact].path} is missing"
        assert to_do(opened) == dependents(writer)

    def test_a_missing_artifact_comes_back_the_same_and_nothing_else_runs(self, workspace: Path) -> None:
        opened = Workspace.open(workspace)
        before = opened.path("scores").read_bytes()
        opened.path("scores").unlink()
        assert ran(opened) == ["fit"]
        assert opened.path("scores").read_bytes() == before

    def test_a_file_changed_by_hand(self, workspace: Path) -> None:
        opened = Workspace.open(workspace)
        before = opened.path("targets").read_bytes()
        opened.path("targets").write_bytes(before + b" ")
        reasons = {state.stage.name: state.reason for state in status(opened)}
        assert reasons["calibrate"] == "targets.parquet was changed by hand"
        assert ran(opened) == ["calibrate"]
        assert opened.path("targets").read_bytes() == before

    def test_touched_moved_and_copied_files_are_the_same(self, workspace: Path, tmp_path: Path) -> None:
        shutil.copytree(workspace, tmp_path / "elsewhere", copy_function=shutil.copyfile)
        assert to_do(Workspace.open(tmp_path / "elsewhere")) == set()

    def test_a_version_of_a_stage(self, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        changed = tuple(replace(stage, version=stage.version + 1) if stage.name == "fit" else stage for stage in DIRECT)
        monkeypatch.setitem(pipeline.LINES, "direct", changed)
        assert to_do(Workspace.open(finished)) == dependents("fit")


class TestRun:
    def test_a_changed_parameter_reruns_its_stage_and_what_changes(self, workspace: Path) -> None:
        opened = Workspace.open(workspace)
        opened.save_recipe(opened.recipe.with_settings({"rank.depth": "10"}))
        assert ran(opened) == ["rank", "evaluate", "report"]
        assert {len(r) for r in read_run(opened.path("rankings") / "pointwise.trec").values()} == {10}
        assert ran(opened) == []

    def test_a_parameter_that_changes_no_file_ends_there(self, workspace: Path) -> None:
        opened = Workspace.open(workspace)
        opened.save_recipe(opened.recipe.with_settings({"judge.max_missing": "0.3"}))
        assert ran(opened) == ["judge", "align", "report"]  # align asks the same judges; the page shows the whole recipe

    def test_force_runs_it_and_no_other(self, workspace: Path) -> None:
        assert ran(Workspace.open(workspace), force=["pool"]) == ["pool"]

    def test_from_and_to(self, workspace: Path) -> None:
        opened = Workspace.open(workspace)
        opened.save_recipe(opened.recipe.with_settings({"calibrate.spread": "1.5"}))
        assert ran(opened, stop="fit") == []
        assert ran(opened, start="fit", stop="calibrate") == ["calibrate"]
        assert to_do(opened) == dependents("train")

    @pytest.mark.parametrize(
        ("choice", "message"),
        [
            ({"start": "reed"}, "no stage 'reed'.*ingest, encode"),
            ({"stop": "reed"}, "no stage 'reed'"),
            ({"force": ["reed"]}, "no stage 'reed'"),
            ({"start": "rank", "stop": "fit"}, "comes before"),
            ({"start": "fit", "stop": "fit", "force": ["rank"]}, "'rank'.*not among"),
        ],
    )
    def test_unknown_or_impossible_choice(self, choice: dict[str, object], message: str, finished: Path) -> None:
        with pytest.raises(RecipeError, match=message):
            run(Workspace.open(finished), **choice)  # type: ignore[arg-type]

    def test_a_stage_without_its_inputs(self, tmp_path: Path) -> None:
        opened = Workspace.create(tmp_path / "ws", from_dict(SMALL))
        with pytest.raises(WorkspaceError, match=r"stage ingest has to run before fit: has not run.*zelo run"):
            run(opened, start="fit")
        assert sorted(p.name for p in opened.root.iterdir()) == [".lock", "recipe.toml"]

    def test_a_stage_after_a_stale_one(self, workspace: Path) -> None:
        opened = Workspace.open(workspace)
        opened.recipe = opened.recipe.with_settings({"fit.link": "logit"})
        with pytest.raises(WorkspaceError, match=r"stage pool has to run before report: .*changed"):
            run(opened, start="report")

    @pytest.mark.parametrize(("key", "value"), [("judge.ensemble", '["lexical", "oracle"]'), ("evaluate.measures", '["nDCG@10", "best"]')])
    def test_unknown_names_are_found_before_anything_runs(self, key: str, value: str, tmp_path: Path) -> None:
        opened = Workspace.create(tmp_path / "ws", from_dict(SMALL).with_settings({key: value}))
        with pytest.raises(InputError, match=r"oracle|best"):
            run(opened)
        assert not (opened.root / "manifest.jsonl").exists()

    def test_tells_what_it_does(self, workspace: Path) -> None:
        told: list[tuple[str, bool, bool]] = []
        run(
            Workspace.open(workspace),
            force=["fit"],
            stop="calibrate",
            on_stage=lambda state, entry: told.append((state.stage.name, state.done, entry is None)),
        )
        assert told[-4:] == [("fit", True, True), ("fit", True, False), ("align", True, False), ("calibrate", True, False)]
        assert len(told) == len(NAMES[: NAMES.index("calibrate") + 1]) + 1


class TestOutside:
    """The collection and the encoder lie outside of the workspace."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write_beir(Synthetic(documents=30, queries=6), tmp_path / "collection")
        return tmp_path / "collection"

    @pytest.fixture
    def opened(self, folder: Path, tmp_path: Path) -> Workspace:
        opened = Workspace.create(tmp_path / "ws", from_dict({**SMALL, "ingest": {"collection": str(folder)}}))
        run(opened, stop="encode")
        return opened

    def test_a_changed_collection_is_seen(self, folder: Path, opened: Workspace) -> None:
        with (folder / "corpus.jsonl").open("a") as corpus:
            corpus.write('{"_id": "new", "text": "one more"}\n')
        assert status(opened)[0].reason == "collection changed"
        assert ran(opened, stop="encode") == ["ingest", "encode"]
        assert "new" in {d.doc_id for d in read_corpus(opened.path("corpus"))}

    def test_a_collection_that_is_gone_is_not_needed_again(self, folder: Path, opened: Workspace) -> None:
        shutil.rmtree(folder)
        assert {"ingest", "encode"}.isdisjoint(to_do(opened))
        assert "retrieve" in ran(opened, stop="pair")
        with pytest.raises(InputError, match="no such collection"):
            run(opened, force=["ingest"])
        opened.path("splits").unlink()
        with pytest.raises(InputError, match="no such collection"):
            run(opened)
        assert opened.path("corpus").exists()

    def test_documents_are_encoded_once(self, opened: Workspace, tmp_path: Path) -> None:
        """Other questions of the same corpus: the vectors are those of a workspace that had them from the start."""
        place = opened.path("vectors") / "documents/pooled.npy"
        before, recipe = place.stat().st_ino, opened.recipe.with_settings({"ingest.max_test_queries": "2"})
        opened.save_recipe(recipe)
        assert "vectors stay" in run(opened, stop="encode")[-1].notes[0]
        assert place.stat().st_ino == before
        fresh = Workspace.create(tmp_path / "fresh", recipe)
        run(fresh, stop="encode")
        assert fresh.digest("vectors") == opened.digest("vectors")
        assert "vectors stay" not in run(opened, stop="encode", force=["encode"])[-1].notes[0]
        place.write_bytes(place.read_bytes()[:-1] + b"x")
        opened.save_recipe(opened.recipe.with_settings({"ingest.max_test_queries": "3"}))
        assert "vectors stay" not in run(opened, stop="encode")[-1].notes[0]

    def test_an_encoder_that_is_gone_stops_only_what_needs_it(self, opened: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        def gone(name: str) -> Path:
            raise InputError("no such model folder", where=name)

        monkeypatch.setattr("zelo.stages.encode.resolve_model", gone)
        assert "encode" not in to_do(opened)


class TestOddCollections:
    """Every one of these ends with a result or with one clear line."""

    def collection(self, folder: Path, documents: list[str], queries: list[str], labels: str = "q0\td0\t1\n") -> Path:
        (folder / "qrels").mkdir(parents=True)
        for name, letter, texts in (("corpus", "d", documents), ("queries", "q", queries)):
            lines = [json.dumps({"_id": f"{letter}{i}", "text": text}) for i, text in enumerate(texts)]
            (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        (folder / "qrels" / "test.tsv").write_text(labels)
        return folder

    def run(self, folder: Path) -> Workspace:
        opened = Workspace.create(folder.with_name("ws"), from_dict({**SMALL, "ingest": {"collection": str(folder)}}))
        run(opened)
        assert to_do(opened) == set()
        return opened

    SOME = ("a cat sat on the mat", "dogs chase cats", "bread needs flour", "the moon orbits", "sort a list", "read a file", "rain today")

    @pytest.mark.parametrize(
        ("documents", "queries"),
        [
            (SOME[:2], ("cat", "dog", "mat")),
            (SOME, ("cat", "???", "!!!", "...")),
            (("???", "...", "", "---", "***"), ("cat", "???", "bread")),
            (SOME, ("cat", "\u5982\u4f55\u5bf9\u5217\u8868\u6392\u5e8f", "\u8bfb\u53d6\u6587\u4ef6")),
            (("same words",) * 8 + ("other words",), ("same", "words", "other")),
        ],
        ids=["two documents", "questions without words", "documents without words", "Chinese questions", "nearly all alike"],
    )
    def test_ends_with_a_result(self, documents: tuple[str, ...], queries: tuple[str, ...], tmp_path: Path) -> None:
        opened = self.run(self.collection(tmp_path / "c", list(documents), list(queries)))
        for name in ("pointwise", "judges"):
            rankings = read_run(opened.path("rankings") / f"{name}.trec")
            assert {q: len(r) for q, r in rankings.items()} == {"q0": len(documents)}

    @pytest.mark.parametrize(
        ("documents", "queries", "message"),
        [
            (("one",), ("cat", "dog", "mat"), "nothing to compare"),
            (("same",) * 5, ("cat", "dog", "mat"), "nothing to compare"),
            (SOME, ("cat",), "too few"),
        ],
        ids=["one document", "all alike", "one question"],
    )
    def test_ends_with_a_line(self, documents: tuple[str, ...], queries: tuple[str, ...], message: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=message) as caught:
            self.run(self.collection(tmp_path / "c", list(documents), list(queries)))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "ws" / ".partial").exists()

    def test_no_candidates(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def nothing(self: object, queries: list[Query] | list[str], *rest: object) -> dict[str, list[ScoredDoc]]:
            return {q if isinstance(q, str) else q.query_id: [] for q in queries}

        monkeypatch.setattr("zelo.stages.legs.Bm25Retriever.search", nothing)
        monkeypatch.setattr("zelo.stages.legs.DenseRetriever.search_vectors", nothing)
        before = Workspace.open(workspace).digest("candidates")
        with pytest.raises(ZeloError, match="no document was found for any question"):
            run(Workspace.open(workspace), force=["retrieve"])
        assert Workspace.open(workspace).digest("candidates") == before
        assert not (workspace / ".partial").exists()
