"""`zelo benchmark` from runs to a report: known truth, resume, faults in what is given."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import Ran, zelo
from zelo import runner
from zelo.collections import Synthetic, write_beir
from zelo.collections.trec import read_run, write_run
from zelo.recipe import Benchmark, Rankings, load
from zelo.report.standings import headline, lines, read_standings, warnings
from zelo.types import ScoredDoc
from zelo.workspace import Workspace

FEW = ("--set", "evaluate.resamples=300", "--set", "benchmark.draws=20", "--set", "ingest.max_train_queries=12")
NOISE = {"good": 0.5, "middling": 1.5, "poor": 4.0}


def bench(workspace: Path, *arguments: str | Path) -> Ran:
    return zelo("benchmark", "--workspace", workspace, *arguments)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, and runs of three systems that know the truth with more and more noise."""
    folder = tmp_path_factory.mktemp("given")
    collection, rng = Synthetic(), np.random.default_rng(1)
    write_beir(collection, folder / "corpus")
    truth: dict[str, dict[str, float]] = {}
    for split in collection.splits():
        for row in collection.qrels(split):
            truth.setdefault(row.query_id, {})[row.doc_id] = row.relevance
    doc_ids = [d.doc_id for d in collection.documents()]
    for name, noise in NOISE.items():
        rankings = {}
        for query_id, gains in truth.items():
            scores = {d: gains.get(d, 0.0) + noise * rng.normal() for d in doc_ids}
            top = sorted(scores, key=lambda d: -scores[d])[:20]
            rankings[query_id] = [ScoredDoc(query_id, d, float(scores[d])) for d in top]
        write_run(folder / f"{name}.trec", rankings, tag=name)
    return folder


def runs(given: Path, *names: str) -> list[str | Path]:
    return [part for name in names or NOISE for part in ("--run", given / f"{name}.trec")]


@pytest.fixture(scope="module")
def compared(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished benchmark by two judges, both by words; do not change it."""
    workspace = tmp_path_factory.mktemp("compared") / "ws"
    judges = ("--judge", "lexical", "--judge", "python:gullible_words:judge")
    ran = bench(workspace, "--corpus", given / "corpus", *runs(given), *judges, *FEW)
    assert ran.code == 0, ran.err
    assert "good is the best of 3" in ran.out
    return workspace


@pytest.fixture(scope="module", autouse=True)
def words(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A second judge: shared words, counted."""
    import sys

    folder = tmp_path_factory.mktemp("judges")
    (folder / "gullible_words.py").write_text(
        "from zelo.judges import Answer\n"
        "class Words:\n"
        "    name, prompt_id = 'words', '1'\n"
        "    def judge(self, comparisons):\n"
        "        def hits(c, text): return sum(w in text for w in c.query.split())\n"
        "        def more(c): return hits(c, c.first) - hits(c, c.second)\n"
        "        return [Answer(float((more(c) > 0) - (more(c) < 0))) for c in comparisons]\n"
        "def judge(recipe): return Words()\n",
        "utf-8",
    )
    sys.path.insert(0, str(folder))


def test_the_order_of_the_systems_is_the_true_one(compared: Path) -> None:
    found = read_standings(compared / "report/standings.json")
    assert [s.system for s in found.systems] == ["good", "middling", "poor"]
    assert found.questions == 12
    assert all(s.low <= s.value <= s.high and s.from_judges is not None for s in found.systems)
    assert found.find("poor", "good") == found.find("good", "poor")
    assert all(d.shown == (d.p_value < 0.05 and d.low > 0 and not d.turned_by) for d in found.differences)
    assert all(d.low <= d.difference <= d.high for d in found.differences)
    assert found.random < found.systems[0].value
    for view in found.judges:
        other = next(v for v in found.judges if v.judge != view.judge)
        assert view.without == pytest.approx(dict(other.alone))  # of two judges, one without the other is the other
    assert headline(found).startswith("good is the best of 3")
    assert not list(warnings(found))
    assert "by one judge alone" in "\n".join(lines(found))


def test_the_pool_is_the_union_of_the_heads(compared: Path, given: Path) -> None:
    pool = read_run(compared / "candidates/fused.trec")
    for query_id, ranking in pool.items():
        heads = {hit.doc_id for name in NOISE for hit in read_run(given / f"{name}.trec")[query_id][:10]}
        assert {hit.doc_id for hit in ranking} == heads


def test_the_report_holds_the_figures_and_no_address(compared: Path) -> None:
    page = (compared / "report/index.html").read_text("utf-8")
    assert "good is the best of 3" in page
    assert "Whom does a judge side with?" in page
    assert "http" not in page.replace("http-equiv", "")


def test_again_it_is_up_to_date_and_another_system_asks_only_what_is_new(compared: Path, given: Path, tmp_path: Path) -> None:
    import shutil

    workspace = shutil.copytree(compared, tmp_path / "ws")
    again = bench(workspace, *runs(given))
    assert again.code == 0
    assert "all is up to date" in again.err
    before = sum(v.judgments for v in read_standings(workspace / "report/standings.json").judges)
    renamed = given / "poor.trec"
    more = bench(workspace, "--run", f"again={tmp_path / 'copy.trec'}")
    assert "no such file" in more.err
    text = renamed.read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "copy.trec").write_text("".join(line for n, line in enumerate(text) if n % 20 < 15), "utf-8")
    more = bench(workspace, "--run", f"again={tmp_path / 'copy.trec'}", "--json")
    assert more.code == 0, more.err
    found = json.loads(more.out)
    assert [s["system"] for s in found["systems"]][:2] == ["good", "middling"]
    assert sum(v["judgments"] for v in found["judges"]) == before  # its documents were pooled already


def test_distances_in_place_of_scores_are_noticed(given: Path, tmp_path: Path) -> None:
    """A run whose best document has the least number is read upside down, as trec_eval does; it must not go unnoticed."""
    rows = [line.split() for line in (given / "good.trec").read_text("utf-8").splitlines()]
    (tmp_path / "far.trec").write_text("".join(f"{q} Q0 {d} {rank} {1 + int(rank)} x\n" for q, _, d, rank, _, _ in rows), "utf-8")
    systems = {"good": Rankings(str(given / "good.trec")), "far": Rankings(str(tmp_path / "far.trec"))}
    recipe = load("benchmark")
    recipe = replace(recipe, ingest=replace(recipe.ingest, collection=str(given / "corpus")), benchmark=Benchmark(systems=systems))
    *_, gathered = runner.run(Workspace.create(tmp_path / "ws", recipe), stop="gather")
    assert len(gathered.notes) == 1
    assert gathered.notes[0].startswith("far: in 48 of 48 questions the document of the first rank has the lowest score")


def test_a_plan_asks_nothing(given: Path, tmp_path: Path) -> None:
    ran = bench(tmp_path / "ws", "--corpus", given / "corpus", *runs(given), "--judge", "lexical", *FEW, "--plan")
    assert ran.code == 0, ran.err
    assert "pairs of 12 queries" in ran.out
    assert not (tmp_path / "ws/judgments").exists()


def test_few_questions_give_no_impossible_values(given: Path, tmp_path: Path) -> None:
    """Three questions, of one system one document each: the correction shot to -11 and 4.7, and a judge favored it by p = .009."""
    (tmp_path / "first.trec").write_text(
        "".join(f"{q} Q0 {r[0].doc_id} 1 1.0 first\n" for q, r in read_run(given / "poor.trec").items()), "utf-8"
    )
    only = read_run(given / "good.trec")
    questions = sorted(only)[:3]
    lone = [f"{questions[0]} Q0 {read_run(tmp_path / 'first.trec')[questions[0]][0].doc_id} 1 1.0 x\n"]
    lone += [f"{q} Q0 {hit.doc_id} {n} {hit.score} x\n" for q in questions[1:] for n, hit in enumerate(only[q], 1)]
    (tmp_path / "some.trec").write_text("".join(lone), "utf-8")
    judges = ("--judge", "lexical", "--judge", "python:gullible_words:judge")
    queries = [json.loads(line) for line in (given / "corpus/queries.jsonl").read_text("utf-8").splitlines()]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries if q["_id"] in questions), "utf-8")
    ran = bench(tmp_path / "ws", "--corpus", given / "corpus", "--queries", tmp_path / "q.jsonl", "--run", tmp_path / "first.trec",
                "--run", tmp_path / "some.trec", *judges, *FEW)  # fmt: skip
    assert ran.code == 0, ran.err
    assert "1 more question is left out" in ran.out
    found = read_standings(tmp_path / "ws/report/standings.json")
    assert all(0 <= x <= 1 for s in found.systems for x in (s.value, s.low, s.high))
    assert all(0 <= x <= 1 for view in found.judges for x in (*view.alone.values(), *view.without.values()))
    assert all(-1 <= d.low <= d.high <= 1 for d in found.differences)
    assert not any(side.favors for view in found.judges for side in view.sides)


def test_one_judge_is_warned_about(given: Path, tmp_path: Path) -> None:
    ran = bench(tmp_path / "ws", "--corpus", given / "corpus", *runs(given, "good", "poor"), "--judge", "lexical", *FEW)
    assert ran.code == 0, ran.err
    assert "! One judge, lexical: whether it favors systems of its own kind cannot be seen" in ran.out


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("one", "1 system(s) to compare"),
        ("unknown", "are not in the corpus, such as 'x9'. run the system on this corpus"),
        ("foreign", "no system answers any of the 48 questions: the runs have ids like 'z1'"),
        ("same", "are the same file"),
        ("broken", "5 columns where 6 are expected"),
        ("name", "cannot be the name of a system"),
    ],
)
def test_faults_are_named_in_a_line(given: Path, tmp_path: Path, damage: str, said: str) -> None:
    good, other = given / "good.trec", tmp_path / "other.trec"
    text = (given / "poor.trec").read_text("utf-8")
    queries = dict.fromkeys(line.split()[0] for line in text.splitlines())
    name = "other"
    if damage == "unknown":
        text = "".join(f"{query} Q0 x9 0 99 t\n" for query in queries) + text
    elif damage == "foreign":
        text = "z1 Q0 d0001 1 1 t\n"
        good = tmp_path / "good.trec"
        good.write_text("z1 Q0 d0002 1 1 t\n", "utf-8")
    elif damage == "same":
        text = good.read_text("utf-8")
    elif damage == "broken":
        text = "q Q0 d 1 1\n"
    elif damage == "name":
        name = "a b"
    other.write_text(text, "utf-8")
    given_runs = ["--run", good] if damage == "one" else ["--run", good, "--run", f"{name}={other}"]
    ran = bench(tmp_path / "ws", "--corpus", given / "corpus", *given_runs, "--judge", "lexical", *FEW)
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_a_benchmark_is_not_refined(compared: Path, tmp_path: Path) -> None:
    ran = zelo("refine", compared, tmp_path / "child")
    assert ran.code == 2
    assert "is a benchmark" in ran.err
