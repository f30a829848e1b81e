"""The folder: what counts as done, what a crash may leave behind, who may write."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import pytest

from zelo import workspace as workspaces
from zelo.artifacts import read_table, write_table
from zelo.errors import InputError, RecipeError, WorkspaceError
from zelo.recipe import Recipe
from zelo.workspace import Entry, Workspace, fingerprint

WRITES = ("targets", "model")


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "ws", Recipe())


def finish(ws: Workspace, text: str = "one", stage: str = "s") -> Entry:
    with ws.writing(stage) as out:
        (out / "targets.parquet").write_text(text)
        (out / "models" / "pointwise").mkdir(parents=True)
        (out / "models" / "pointwise" / "a.txt").write_text(text)
        return ws.publish(out, Entry(stage, "f", {}, {}), WRITES)


class TestCreate:
    def test_open_gives_the_same_recipe(self, tmp_path: Path) -> None:
        Workspace.create(tmp_path / "a" / "b", Recipe(seed=7))
        assert Workspace.open(tmp_path / "a" / "b").recipe == Recipe(seed=7)
        assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == ["recipe.toml"]

    def test_an_empty_folder_will_do(self, tmp_path: Path) -> None:
        assert Workspace.create(tmp_path, Recipe()).entry("ingest") is None

    def test_does_not_touch_what_exists(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("x")
        with pytest.raises(WorkspaceError, match="not empty"):
            Workspace.create(tmp_path, Recipe())
        with pytest.raises(WorkspaceError, match="not a folder"):
            Workspace.create(tmp_path / "mine.txt", Recipe())
        assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]

    def test_a_workspace_names_the_command_that_goes_on(self, ws: Workspace) -> None:
        with pytest.raises(WorkspaceError, match=f"zelo run {ws.root}"):
            Workspace.create(ws.root, Recipe())

    def test_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(WorkspaceError, match="cannot be made"):
            Workspace.create(tmp_path / "file" / "ws", Recipe())

    @pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc here")
    def test_where_no_folder_can_be_made(self) -> None:
        with pytest.raises(WorkspaceError, match="cannot be"):
            Workspace.create(Path("/proc/nowhere/ws"), Recipe())

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
    def test_without_the_right_to_write(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(WorkspaceError, match="cannot be written"):
                Workspace.create(tmp_path / "ws", Recipe())
        finally:
            tmp_path.chmod(0o700)

    def test_a_full_disk_leaves_nothing_that_stands_in_the_way(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(path: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(workspaces, "_sync", full)
            with pytest.raises(WorkspaceError, match="No space left"):
                Workspace.create(tmp_path / "ws", Recipe())
        Workspace.create(tmp_path / "ws", Recipe())


class TestOpen:
    def test_no_workspace(self, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "absent"):
            with pytest.raises(WorkspaceError, match="zelo new"):
                Workspace.open(path)

    def test_a_recipe_that_was_spoiled_by_hand(self, ws: Workspace) -> None:
        (ws.root / "recipe.toml").write_text("[pair]\ndegre = 6\n")
        with pytest.raises(RecipeError, match=r"recipe\.toml.*'degree'"):
            Workspace.open(ws.root)

    def test_save_recipe_is_whole(self, ws: Workspace) -> None:
        ws.save_recipe(Recipe(seed=9))
        assert Workspace.open(ws.root).recipe == ws.recipe == Recipe(seed=9)
        assert [p.name for p in ws.root.iterdir()] == ["recipe.toml"]


class TestFingerprint:
    BASE = ("pair", 1, {"degree": 8, "seed": 0}, {"corpus": "x", "splits": "y"})

    def test_does_not_depend_on_the_order_of_keys(self) -> None:
        stage, version, parameters, reads = self.BASE
        assert fingerprint(stage, version, dict(reversed(parameters.items())), dict(reversed(reads.items()))) == fingerprint(*self.BASE)

    @pytest.mark.parametrize(("place", "value"), [(0, "pool"), (1, 2), (2, {"degree": 6, "seed": 0}), (3, {"corpus": "y", "splits": "x"})])
    def test_depends_on_every_part(self, place: int, value: object) -> None:
        other = list(self.BASE)
        other[place] = value  # type: ignore[call-overload]
        assert fingerprint(*other) != fingerprint(*self.BASE)  # type: ignore[arg-type]


class TestPublish:
    def test_all_or_nothing(self, ws: Workspace) -> None:
        with ws.writing("s") as out:
            (out / "targets.parquet").write_text("x")
            with pytest.raises(WorkspaceError, match="did not write model"):
                ws.publish(out, Entry("s", "f", {}, {}), WRITES)
        assert [p.name for p in ws.root.iterdir()] == ["recipe.toml"]

    def test_the_line_says_what_was_written(self, ws: Workspace) -> None:
        entry = finish(ws)
        assert set(entry.writes) == set(entry.stamp) == set(WRITES)
        assert all(ws.digest(a) == entry.writes[a] for a in WRITES)
        again = Workspace.open(ws.root).entry("s")
        assert again is not None
        assert json.dumps(asdict(again)) == json.dumps(asdict(entry))
        assert not (ws.root / ".partial").exists()

    def test_the_last_line_about_a_stage_counts(self, ws: Workspace) -> None:
        first, second = finish(ws, "one"), finish(ws, "two")
        assert first.writes != second.writes
        assert Workspace.open(ws.root).entry("s").writes == second.writes  # type: ignore[union-attr]
        assert ws.path("targets").read_text() == "two"

    def test_a_folder_is_replaced_and_not_merged(self, ws: Workspace) -> None:
        finish(ws)
        (ws.path("model") / "old.txt").write_text("x")
        finish(ws, "two")
        assert [p.name for p in ws.path("model").iterdir()] == ["a.txt"]

    def test_what_fails_leaves_no_trace(self, ws: Workspace) -> None:
        finish(ws)
        before = {p: p.read_bytes() for p in ws.root.rglob("*") if p.is_file()}
        with pytest.raises(ZeroDivisionError), ws.writing("s") as out:
            (out / "targets.parquet").write_text("half")
            raise ZeroDivisionError
        assert {p: p.read_bytes() for p in ws.root.rglob("*") if p.is_file()} == before
        assert not (ws.root / ".partial").exists()

    @pytest.mark.parametrize(
        "error",
        [OSError(errno.ENOSPC, "No space left on device"), OSError("800 requested and 96 written"), PermissionError(errno.EACCES, "no")],
    )
    def test_refusals_of_the_system_are_one_line(self, error: OSError, ws: Workspace) -> None:
        with pytest.raises(WorkspaceError, match="cannot be written"), ws.writing("s"):
            raise error

    def test_other_errors_stay_what_they_are(self, ws: Workspace) -> None:
        with pytest.raises(ConnectionError), ws.writing("s"):
            raise ConnectionError("the network, not the disk")


class TestDigest:
    def test_none_if_absent(self, ws: Workspace) -> None:
        assert ws.digest("corpus") is None

    def test_content_and_names_count(self, ws: Workspace) -> None:
        finish(ws)
        folder = ws.path("model")
        start = ws.digest("model")
        (folder / "a.txt").rename(folder / "b.txt")
        renamed = ws.digest("model")
        (folder / "b.txt").write_text("eno")
        changed = ws.digest("model")
        assert len({start, renamed, changed}) == 3

    def test_where_it_lies_and_its_times_do_not_count(self, ws: Workspace, tmp_path: Path) -> None:
        finish(ws)
        shutil.copytree(ws.root, tmp_path / "other", copy_function=shutil.copyfile)  # new times
        other = Workspace.open(tmp_path / "other")
        assert [other.digest(a) for a in WRITES] == [ws.digest(a) for a in WRITES]

    def test_hidden_files_do_not_count(self, ws: Workspace) -> None:
        start = finish(ws).writes["model"]
        (ws.path("model") / ".DS_Store").write_text("from a file manager")
        assert ws.digest("model") == start

    def test_files_as_they_were_written_are_not_read_again(self, ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        entry = finish(ws)
        read: list[Path] = []
        digest = workspaces._digest
        monkeypatch.setattr(workspaces, "_digest", lambda path: read.append(path) or digest(path))
        assert ws.digest("model") == entry.writes["model"]
        assert read == []
        os.utime(ws.path("model") / "a.txt", ns=(1, 1))
        assert ws.digest("model") == entry.writes["model"]  # another time, the same content
        assert read == [ws.path("model")]
        (ws.path("model") / "a.txt").write_text("TWO")
        assert ws.digest("model") != entry.writes["model"]


class TestManifest:
    def test_a_torn_last_line_is_no_line_and_the_next_one_is_whole(self, ws: Workspace) -> None:
        finish(ws, stage="first")
        manifest = ws.root / "manifest.jsonl"
        torn = manifest.read_bytes() + manifest.read_bytes()[:-20]
        manifest.write_bytes(torn)
        again = Workspace.open(ws.root)
        assert again.entry("first") is not None
        assert manifest.read_bytes() == torn  # opening only reads: the writer may be at work
        finish(again, stage="second")
        lines = manifest.read_text().splitlines()
        assert [json.loads(line)["stage"] for line in lines] == ["first", "second"]

    def test_only_a_torn_line(self, ws: Workspace) -> None:
        (ws.root / "manifest.jsonl").write_text('{"stage": "fi')
        assert Workspace.open(ws.root).entry("fi") is None

    @pytest.mark.parametrize("line", [b"{}", b"[1]", b"not json", b"\xff\xfe", b'{"stage": "s", "surprise": 1}'])
    def test_a_spoiled_line_is_named(self, line: bytes, ws: Workspace) -> None:
        finish(ws)
        with (ws.root / "manifest.jsonl").open("ab") as manifest:
            manifest.write(line + b"\n")
        with pytest.raises(WorkspaceError, match=r"manifest\.jsonl:2: not a manifest line"):
            Workspace.open(ws.root)

    def test_odd_characters_in_notes(self, ws: Workspace) -> None:
        with ws.writing("s") as out:
            (out / "targets.parquet").write_text("x")
            ws.publish(out, Entry("s", "f", {}, {}, notes=("line\u2028separator\x85 \x1c",)), ("targets",))
        assert Workspace.open(ws.root).entry("s").notes == ["line\u2028separator\x85 \x1c"]  # type: ignore[union-attr]


class TestLock:
    HOLD = """
import sys
from zelo.workspace import *
with Workspace.open(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""

    def test_one_process_at_a_time_and_a_dead_one_does_not_count(self, ws: Workspace) -> None:
        command = [sys.executable, "-c", self.HOLD, str(ws.root)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with pytest.raises(WorkspaceError, match="another process"), ws.locked():
                raise AssertionError("not reached")
            other.kill()
        with ws.locked():
            pass

    def test_sees_what_others_finished_in_between(self, ws: Workspace) -> None:
        finish(Workspace.open(ws.root))
        assert ws.entry("s") is None
        with ws.locked():
            assert ws.entry("s") is not None

    def test_clears_what_a_killed_process_left(self, ws: Workspace) -> None:
        (ws.root / ".partial" / "train" / "models").mkdir(parents=True)
        with ws.locked():
            assert not (ws.root / ".partial").exists()


class TestTables:
    COLUMNS: ClassVar[dict[str, list[object]]] = {"query_id": ["q", "q"], "doc_id": ["a", "b"], "target": [0.25, None]}

    def test_round_trip_and_same_bytes(self, tmp_path: Path) -> None:
        assert write_table(tmp_path / "x" / "t.parquet", "targets", self.COLUMNS) == 2
        write_table(tmp_path / "u.parquet", "targets", dict(reversed(self.COLUMNS.items())))
        assert (tmp_path / "x" / "t.parquet").read_bytes() == (tmp_path / "u.parquet").read_bytes()
        back = read_table(tmp_path / "u.parquet", "targets")
        assert back["doc_id"] == ["a", "b"]
        assert back["target"][0] == 0.25
        assert back["target"][1] != back["target"][1]

    def test_other_columns_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WorkspaceError, match="columns"):
            write_table(tmp_path / "t.parquet", "targets", {"query_id": [], "doc_id": []})
        assert not (tmp_path / "t.parquet").exists()

    def test_damaged_or_absent(self, tmp_path: Path) -> None:
        (tmp_path / "t.parquet").write_bytes(b"PAR1 but not really PAR1")
        write_table(tmp_path / "other.parquet", "targets", self.COLUMNS)
        with pytest.raises(InputError, match=r"t\.parquet: not readable"):
            read_table(tmp_path / "t.parquet", "targets")
        with pytest.raises(InputError, match=r"absent\.parquet"):
            read_table(tmp_path / "absent.parquet", "targets")
        with pytest.raises(InputError, match="score"):
            read_table(tmp_path / "other.parquet", "scores")
