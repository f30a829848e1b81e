"""`zelo bench`: what the file may say, the table against figures computed by hand, resuming, and the page."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conftest import SMALL, zelo
from fabricate import Fabricated
from test_report import HOSTILE, Page
from zelo.bench import running
from zelo.bench.collections_file import Entry, read_bench
from zelo.bench.domains import MEAN, Table, make_table
from zelo.bench.moved import movement
from zelo.bench.page import LINE, latency_plot
from zelo.bench.writing import Took
from zelo.collections import Synthetic, write_beir
from zelo.core.significance import bootstrap_interval, paired_randomization_test, stratified_bootstrap_interval
from zelo.errors import InputError, JudgeError, RecipeError, ZeloError
from zelo.progress import Silent
from zelo.recipe import to_toml
from zelo.report.measured import find, read_measured
from zelo.stages import evaluate

FILE = """
recipe = "mine.toml"

[settings]
evaluate.resamples = 200
pair.degree = 4

[collections.synthetic]
domain = "made up"

[collections.copy]
path = "copy"
domain = "made up"
settings.pair.degree = 6

[students.twin]
train.student = "blend"
train.prior = "signals"
"""


def written(folder: Path, text: str = FILE) -> Path:
    (folder / "mine.toml").write_text("seed = 3\n[ingest]\nmax_train_queries = 8\nmax_test_queries = 8\n[retrieve]\ncandidates = 20\n")
    (folder / "b.toml").write_text(text)
    return folder / "b.toml"


class TestFile:
    def test_what_it_says(self, tmp_path: Path) -> None:
        bench = read_bench(written(tmp_path))
        one, two = bench.entries
        assert (one.name, one.domain, one.recipe.ingest.collection) == ("synthetic", "made up", "synthetic")
        assert (one.recipe.seed, one.recipe.pair.degree, one.recipe.evaluate.resamples) == (3, 4, 200)
        assert two.recipe.ingest.collection == str(tmp_path / "copy")
        assert two.recipe.pair.degree == 6
        assert two.students["twin"].train.prior == "signals"
        assert two.students["twin"].pair == two.recipe.pair

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[collections]", "names no collection"),
            ('colections = "a"', "did you mean 'collections'"),
            ("[collections.a]\npfad = 'x'", "unknown key 'pfad'"),
            ("[collections.a]\npath = 3", "path = 3 is not a text"),
            ("[collections.'../x']", "cannot be the name"),
            ("[settings]\npiar.degree = 4\n[collections.a]", "did you mean 'pair'"),
            ("[settings]\npair.degree = 5\n[collections.a]", "is odd"),
            ("[settings]\npair = 5\n[collections.a]", "is not a section"),
            ("[students.x]\npair.degree = 4\n[collections.a]", "differs in"),
            ("[students.judges]\ntrain.student = 'blend'\n[collections.a]", "cannot be the name"),
            ("systems = ['a', 'a']\n[collections.a]", "different names"),
            ("collections = 3", "is not a table"),
            ("x = ", "not TOML"),
        ],
    )
    def test_faults(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(RecipeError, match=re.escape(message)):
            read_bench(written(tmp_path, text))


def values(seed: int, shift: float = 0.0, n: int = 30) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    return {f"q{i}": float(v) for i, v in enumerate(np.clip(rng.random(n) + shift, 0, 1))}


def table(baseline: str = "") -> Table:
    found = {
        "a": {"bm25": values(0), "fused": values(1), "pointwise": values(1, 0.1)},
        "b": {"bm25": values(2, n=10), "fused": values(3, 0.1, n=10), "pointwise": values(4, n=10)},
        "c": {"bm25": values(5), "fused": values(6), "pointwise": values(7), "only here": values(8)},
    }
    return make_table(found, {"a": "x", "b": "y", "c": "y"}, baseline, 2000, 0)


class TestTable:
    def test_means_count_domains_alike(self) -> None:
        made = table()
        assert made.systems == ("bm25", "fused", "pointwise")
        for system in made.systems:
            a, b, c = (made.cell(system, place).value for place in "abc")
            assert made.cell(system, MEAN).value == pytest.approx(a / 2 + b / 4 + c / 4)
        assert made.cell("bm25", MEAN).queries == 70

    def test_baseline_and_what_is_compared(self) -> None:
        made = table()
        assert made.baseline == max(("bm25", "fused"), key=lambda s: made.cell(s, MEAN).value)
        assert {c.system for c in made.cells.values() if c.p_value is not None} == {"pointwise"}
        cell, other = made.cell("pointwise", MEAN), made.cell(made.baseline, MEAN)
        assert cell.difference == pytest.approx(cell.value - other.value)
        assert cell.low < cell.value < cell.high
        with pytest.raises(InputError, match="only here"):
            table("only here")
        against = table("pointwise")
        assert against.baseline == "pointwise"
        assert not [c for c in against.cells.values() if c.p_value is not None]

    def test_rows_are_corrected_together(self) -> None:
        """Three collections, one system: the smallest p is three times that of a test by itself."""
        found = {name: {"fused": values(n), "pointwise": {q: v + 0.02 + 0.001 * i for i, (q, v) in enumerate(values(n).items())}}
                 for n, name in enumerate("abc")}  # fmt: skip
        made = make_table(found, {name: name for name in "abc"}, "", 2000, 0)
        assert [made.cell("pointwise", p).p_value for p in "abc"] == [pytest.approx(3 / 2001)] * 3
        assert made.cell("pointwise", MEAN).p_value == pytest.approx(1 / 2001)


def test_one_stratum_is_the_plain_bootstrap() -> None:
    sample = np.random.default_rng(0).random(40)
    ours = stratified_bootstrap_interval([sample], resamples=500, rng=np.random.default_rng(1))
    assert ours == pytest.approx(bootstrap_interval(sample, resamples=500, rng=np.random.default_rng(1)))


def test_strata_have_the_spread_of_their_means() -> None:
    """Against the normal approximation: the variance of a weighted mean of independent means."""
    rng = np.random.default_rng(0)
    strata = [rng.normal(size=200), rng.normal(3, 5, size=400)]
    low, high = stratified_bootstrap_interval(strata, [3, 1], resamples=4000, rng=rng)
    error = np.sqrt(sum(w**2 * s.var() / len(s) for w, s in zip((0.75, 0.25), strata, strict=True)))
    center = 0.75 * strata[0].mean() + 0.25 * strata[1].mean()
    assert (low, high) == pytest.approx((center - 1.96 * error, center + 1.96 * error), abs=0.1 * error)
    for wrong in ([], [[1.0], []]):
        with pytest.raises(InputError):
            stratified_bootstrap_interval(wrong, rng=rng)
    with pytest.raises(InputError):
        stratified_bootstrap_interval([[1.0]], [0.0], rng=rng)


def test_the_test_of_the_mean_holds_its_level() -> None:
    """Under the null hypothesis, collections of different sizes and spreads: p is below .1 in about a tenth of trials."""
    rng = np.random.default_rng(0)
    below = 0
    for _ in range(200):
        scaled = np.concatenate([rng.normal(size=80) / 80, 4 * rng.normal(size=15) / 15])
        below += paired_randomization_test(scaled, np.zeros(95), 199, rng=rng) < 0.1
    assert 0.05 < below / 200 < 0.16


def test_latency_plot() -> None:
    made = table()
    means = {s: made.cell(s, MEAN) for s in made.systems}
    nothing = {s: Took(None, None, None) for s in made.systems}
    assert latency_plot(means, nothing, made.baseline) is None
    plot = latency_plot(means, {**nothing, "pointwise": Took(None, 40.0, 60.0), "bm25": Took(1.0, 4000.0, 1.0)}, made.baseline)
    assert plot is not None
    assert [text for _, text in plot.across] == ["10 ms", "100 ms", "1 s", "10 s"]
    (x, slow) = (p.x for p in sorted(plot.points, key=lambda p: p.x))
    assert slow - x == pytest.approx(100 * 2 / 3, abs=0.1)
    assert all(p.low < p.y < p.high for p in plot.points)


def test_names_in_the_plot_do_not_lie_on_each_other() -> None:
    made = table()
    means = {s: made.cell(s, MEAN) for s in made.systems}
    same = {s: Took(None, 40.0 + n, 60.0) for n, s in enumerate(made.systems)}
    plot = latency_plot(means, same, made.baseline)
    assert plot is not None
    tags = sorted(p.tag for p in plot.points)
    assert len(tags) == len(made.systems) > 2
    assert all(upper - lower >= LINE - 0.01 for lower, upper in pairwise(tags))
    assert [p.system for p in sorted(plot.points, key=lambda p: p.tag)] == [p.system for p in sorted(plot.points, key=lambda p: p.y)]


def test_a_broken_collection_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[str] = []

    def run_entry(entry: Entry, *_: Any) -> Any:
        ran.append(entry.name)
        if entry.name in faults:
            raise faults[entry.name]
        return SimpleNamespace(name=entry.name)

    monkeypatch.setattr(running, "_run_entry", run_entry)
    text = "".join(f'[collections.{name}]\npath = "{name}"\n' for name in "abc")
    (tmp_path / "b.toml").write_text(text)
    bench = read_bench(tmp_path / "b.toml")
    faults: dict[str, ZeloError] = {"b": InputError("not valid JSON", where="b/corpus.jsonl:1")}
    with pytest.raises(InputError, match=r"1 of 3 .* b \(b/corpus.jsonl:1: not valid JSON\).*--only a --only c"):
        running.run_bench(bench, tmp_path, (), Silent(), lambda *_: None)
    assert ran == ["a", "b", "c"]
    with pytest.raises(InputError, match=r"^b/corpus\.jsonl:1"):
        running.run_bench(bench, tmp_path, ("b",), Silent(), lambda *_: None)
    faults, ran = {"b": JudgeError("nothing is left to pay with")}, []
    with pytest.raises(JudgeError):
        running.run_bench(bench, tmp_path, (), Silent(), lambda *_: None)
    assert ran == ["a", "b"]


def test_questions_that_moved(tmp_path: Path) -> None:
    made = Fabricated(tmp_path / "ws", hostile=HOSTILE)
    evaluate.run(made.context())
    before = dict.fromkeys(made.test, 0.5)
    after = {q: 0.5 + (i - 4) / 20 for i, q in enumerate(made.test)}
    found = movement(made.context(), before, after, "fused")
    assert (found.better, found.same, found.worse) == (7, 1, 4)
    assert [m.query_id for m in found.gains] == made.test[:-4:-1]
    assert [m.query_id for m in found.losses] == made.test[:3]
    one = found.gains[0]
    assert one.wanted
    assert one.head_after.first_relevant is not None
    assert movement(made.context(), before, after, "cohere:x").gains == ()


def test_the_command(workspace: Path, tmp_path: Path) -> None:
    """The first collection is a finished workspace with the file's recipe, so that only what is new runs."""
    file, out = tmp_path / "b.toml", tmp_path / "out"
    out.mkdir()
    workspace.rename(out / "synthetic")
    write_beir(Synthetic(documents=60, queries=24), tmp_path / "copy")
    lines = [f"{section}.{key} = {value!r}" for section, table in SMALL.items() for key, value in table.items() if key != "collection"]
    file.write_text("\n".join(["[settings]", 'retrieve.fusion = "rrf"', *lines, FILE[FILE.index("[collections.synthetic]") :]]))
    (out / "synthetic/recipe.toml").write_text(to_toml(read_bench(file).entries[0].recipe))
    ran = zelo("bench", file, "--out", out, "--system", "models/pointwise")
    assert ran.code == 0, ran.err
    first, second = ran.err.split("copy (2 of 2)")
    assert [line.split()[0] for line in first.splitlines() if " done in " in line] == ["train", "rank", "evaluate", "report"]  # the twin
    assert "encode     done" in second
    found = json.loads((out / "bench.json").read_text())
    cells = {(c["system"], c["place"]): c for c in found["cells"]}
    for name in ("synthetic", "copy"):
        for row in read_measured(out / name / "report/metrics.jsonl"):
            if row.measure == "nDCG@10":
                assert cells[row.system, name]["value"] == pytest.approx(row.value)
        twin = find(read_measured(out / f"{name}.twin/report/metrics.jsonl"), "pointwise", "nDCG@10")
        assert twin is not None
        assert cells["twin", name]["value"] == twin.value
        assert cells["models/pointwise", name]["value"] == cells["pointwise", name]["value"]
    assert found["took"]["pointwise"]["median"] > 0
    page = Page((out / "index.html").read_text())
    assert "made up (copy)" in page.text
    assert "Latency against quality" in page.text
    assert (out / "bench.md").read_text().count("\n| made up (") == 2
    again = zelo("bench", file, "--out", out, "--system", "models/pointwise")
    assert "done in" not in again.err
    assert again.out == ran.out
    wrong = zelo("bench", file, "--out", out, "--set", "train.epochs=0", "--only", "copy")
    assert wrong.code == 2
    assert "train.epochs = 0" in wrong.err


def test_what_is_not_there(tmp_path: Path) -> None:
    assert "no collection 'x'" in zelo("bench", written(tmp_path), "--out", tmp_path / "o", "--only", "x").err
    assert "cannot be read" in zelo("bench", tmp_path / "no.toml").err
