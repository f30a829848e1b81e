"""`zelo plan` on workspaces: counts against what is then asked, figures against what it then takes, and nothing is changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from conftest import SMALL, zelo
from zelo import runner
from zelo.artifacts import read_table
from zelo.collections.beir import read_corpus, read_queries
from zelo.errors import WorkspaceError
from zelo.judges import Answer, Comparison
from zelo.judges.journal import Attempt, Journal, digest
from zelo.judges.known import Known
from zelo.judges.llm import LanguageModelJudge, language_model, prompters
from zelo.language_models.names import Unopened
from zelo.language_models.protocol import Reply
from zelo.planning.prospect import Plan, make_plan, plan_lines
from zelo.recipe import from_dict
from zelo.stages.judge import JOURNAL
from zelo.stages.questions import a_first, read_pairs
from zelo.workspace import Workspace

OWN = "python:prospect_judge:make"
SOURCE = '''
from zelo.judges import Answer

class Longer:
    """Prefers the longer text."""
    name, prompt_id, concurrency = "longer", "characters", 4

    async def attempt(self, comparison):
        first, second = len(comparison.first), len(comparison.second)
        return Answer((first > second) - (first < second), input_tokens=50, output_tokens=10, cost=0.001, seconds=0.5)

    def estimate(self, comparison):
        return 50, 100, 0.01

def make(recipe):
    return Longer()
'''
SECTIONS = {**SMALL, "judge": {"ensemble": ["lexical", OWN], "swapped_share": 0.1}}


@dataclass(frozen=True)
class Planned:
    """A workspace after `pair`, and the plans made on the way."""

    root: Path
    early: Plan
    counted: Plan
    drawn: Plan


@pytest.fixture(scope="module")
def planned(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planned]:
    """A workspace whose judges are an offline one and one of the user's own; do not change it, take `copy`."""
    here = tmp_path_factory.mktemp("planned")
    (here / "prospect_judge.py").write_text(SOURCE, "utf-8")
    lines = (finished / "manifest.jsonl").read_text("utf-8").splitlines(keepends=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(here))
        plans = []
        for done in (1, 3, 4):  # as if no stage had run after ingest, retrieve, pair
            root = shutil.copytree(finished, here / f"ws{done}")
            (root / "manifest.jsonl").write_text("".join(lines[:done]), "utf-8")
            (root / JOURNAL).unlink()
            opened = Workspace.open(root)
            opened.save_recipe(from_dict(SECTIONS))
            before = snapshot(root)
            plans.append(make_plan(opened))
            assert snapshot(root) == before
        yield Planned(root, *plans)


@pytest.fixture
def copy(planned: Planned, tmp_path: Path) -> Workspace:
    """A copy that may be changed."""
    return Workspace.open(shutil.copytree(planned.root, tmp_path / "ws"))


def snapshot(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal"))}


def test_from_an_estimate_to_nothing_left(planned: Planned, copy: Workspace) -> None:
    early, counted, drawn = planned.early, planned.counted, planned.drawn
    assert (early.queries, early.pairs, early.exact) == (16, 16 * 20 * 4 // 2, False)
    assert "an estimate" in early.basis
    assert "counted from the candidates" in counted.basis
    pairs = read_table(copy.path("pairs"), "pairs")
    assert (drawn.pairs, drawn.exact) == (len(pairs["query_id"]), True)
    assert counted.pairs >= drawn.pairs
    offline, own = drawn.bills
    assert (offline.work.kind, offline.work.left) == ("offline", drawn.pairs)
    assert own.work.kind == "own"
    assert own.dollars is None
    assert own.work.left == drawn.pairs + own.work.swapped
    runner.run(copy, stop="judge")
    swapped = read_table(copy.path("swapped"), "swapped")
    assert len(swapped["judge"]) == own.work.swapped > 0
    after = make_plan(copy)
    assert after.bills[1].work.left == 0
    assert after.spent_dollars == pytest.approx(0.001 * own.work.left)
    assert "are answered already" in "\n".join(plan_lines(after, "ws"))


def test_what_is_left_after_a_part_and_at_what_price(copy: Workspace) -> None:
    opened = copy
    whole = make_plan(opened).bills[1]
    ran = zelo("judge", opened.root, "--shard", "1/2")
    assert ran.code == 0, ran
    with Known(opened.root / JOURNAL) as known:
        done = known.history("longer", "characters")
    assert 0 < done.answers < whole.work.left
    part = make_plan(opened).bills[1]
    assert part.work.left == whole.work.left - done.answers
    assert part.read is not None
    assert part.dollars is not None
    assert part.read.value == 50 * part.work.left  # as measured; the estimate agrees
    assert part.written is not None
    assert part.written.value == 10 * part.work.left  # as measured; 100 was only the most
    assert part.dollars.value == pytest.approx(0.001 * part.work.left)
    more = make_plan(opened, opened.recipe.with_settings({"pair.degree": "6"}))
    assert not more.exact
    assert more.pairs > make_plan(opened).pairs
    assert "answers are in the journal" in more.bills[1].work.remark


def test_rounds_that_are_done_and_rounds_to_come(copy: Workspace) -> None:
    adaptive = {
        "pair.design": "adaptive",
        "pair.comparisons": "35",
        "pair.per_round": "10",
        "pair.settle": "0.3",
        "judge.swapped_share": "0",
    }
    copy.save_recipe(copy.recipe.with_settings(adaptive))
    runner.run(copy, stop="pair")
    before = make_plan(copy)
    assert "at most chosen in rounds" in before.basis
    assert before.bills[1].work.left == before.pairs == 16 * 35
    runner.run(copy, stop="judge")
    judged = read_table(copy.path("judgments"), "judgments")
    asked = judged["judge"].count("longer")
    after = make_plan(copy)
    assert after.pairs == asked <= before.pairs
    assert after.basis.endswith("all are judged")
    assert [after.bills[1].work.left, after.bills[1].work.pairs] == [0, asked]
    more = make_plan(copy, copy.recipe.with_settings({"pair.comparisons": "60"}))
    assert more.pairs == 16 * 60
    assert more.bills[1].work.left == more.pairs - asked
    assert "taken for those of rounds" in more.bills[1].work.remark
    # With rounds that no query leaves early, a plan is exact.
    copy.save_recipe(copy.recipe.with_settings({"pair.settle": "0", "pair.comparisons": "60"}))
    opened = Workspace.open(copy.root)
    left = make_plan(opened).bills[1].work.left
    with Known(opened.root / JOURNAL) as known:
        answers = known.history("longer", "characters").answers
    runner.run(opened, stop="judge")
    with Known(opened.root / JOURNAL) as known:
        assert known.history("longer", "characters").answers - answers == left


def test_the_command(copy: Workspace) -> None:
    opened = copy
    ran = zelo("plan", opened.root)
    assert ran.code == 0, ran
    assert "lexical" in ran.out
    assert "no cost" in ran.out
    assert "its price is its own affair" in ran.out
    found = json.loads(zelo("plan", opened.root, "--json").out)
    assert found["pairs"] == make_plan(opened).pairs
    assert [one["work"]["judge"] for one in found["bills"]] == ["lexical", OWN]
    fewer = json.loads(zelo("plan", opened.root, "--json", "--set", "pair.degree=2").out)
    assert fewer["pairs"] < found["pairs"]
    assert Workspace.open(opened.root).recipe == opened.recipe  # --set stays out of the file
    assert "cannot be made now" in zelo("plan", opened.root, "--set", 'judge.ensemble=["python:gone_judge:make"]').out


MODEL = "openai:some-model"


def with_model(opened: Workspace, **judging: object) -> Workspace:
    model = {"input_price": 1.0, "output_price": 4.0, "requests_per_minute": 100}
    judge = {"ensemble": ["lexical", MODEL], "models": {MODEL: model}, "swapped_share": 0.0, **judging}
    opened.save_recipe(from_dict({**SECTIONS, "judge": judge}))
    return opened


def test_a_language_model_needs_no_key_and_prompts_are_the_real_ones(copy: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    opened = with_model(copy)
    found = make_plan(opened).bills[1]
    assert found.read is not None
    assert found.dollars is not None
    assert found.most is not None
    assert found.work.batches
    assert found.by_batch is not None
    assert found.dollars.low < found.dollars.value < found.dollars.high < found.most
    assert found.bound in ("100 requests per minute", "32 calls at once")
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    judge = language_model(MODEL, opened.recipe)
    pairs = read_table(opened.path("pairs"), "pairs")
    texts = {d.doc_id: d.full_text for d in read_corpus(opened.path("corpus"))}
    queries = {q.query_id: q.text for q in read_queries(opened.path("queries"))}
    rows = zip(pairs["query_id"], pairs["doc_id_a"], pairs["doc_id_b"], strict=True)
    every = [judge.estimate(Comparison(queries[q], texts[a], texts[b]))[0] for q, a, b in rows]
    assert found.read.low <= sum(every) <= found.read.high
    assert found.read.value == pytest.approx(sum(every), rel=0.05)
    # Answers that are in the journal under the real judge's prompt id are found.
    with Journal(opened.root / JOURNAL) as journal:
        number = journal.judge(judge.name, judge.prompt_id)
        journal.add([Attempt(number, 1, Answer(0.5, input_tokens=10, output_tokens=5))])
    assert make_plan(opened).bills[1].work.history.answers == 1


def test_long_documents_are_cut_as_the_recipe_says(copy: Workspace) -> None:
    opened = with_model(copy, document_characters=100)
    short = make_plan(opened).bills[1]
    whole = make_plan(opened, opened.recipe.with_settings({"judge.document_characters": "6000"})).bills[1]
    assert short.read is not None
    assert whole.read is not None
    assert short.read.value < whole.read.value


def test_two_calls_of_one_token(copy: Workspace) -> None:
    opened = with_model(copy, mode="logprobs")
    found = make_plan(opened).bills[1]
    assert (found.work.calls, found.work.short, found.work.batches) == (2, True, False)
    assert found.written is not None
    assert found.written.value == 2 * found.work.left


def test_comparisons_across_queries_count(copy: Workspace) -> None:
    opened = with_model(copy)
    across = {"align.comparisons": "3", "calibrate.scale": "across"}
    bare, more = make_plan(opened).bills[1], make_plan(opened, opened.recipe.with_settings(across)).bills[1]
    assert (bare.work.across, more.work.across) == (0, 3 * 16)
    assert more.work.left == bare.work.left + 3 * 16
    assert "48 of the comparisons are across queries" in zelo("plan", opened.root, *(f"--set={k}={v}" for k, v in across.items())).out


def test_nothing_to_plan_with(tmp_path: Path) -> None:
    opened = Workspace.create(tmp_path / "ws", from_dict(SECTIONS))
    with pytest.raises(WorkspaceError, match="has no documents and questions"):
        make_plan(opened)


def test_a_journal_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(b"not a database, but long enough to be looked at as one" * 40)
    with pytest.raises(WorkspaceError, match="cannot be read"):
        Known(tmp_path / JOURNAL)
    with Known(tmp_path / "absent.sqlite") as nothing:
        assert nothing.history("j", "p").attempts == 0
        assert nothing.spent() == (0.0, 0)
        assert nothing.settled("j", "p", [b"x"], np.zeros((1, 3), np.int64)).ours == 0


def test_questions_lost_for_good_are_not_left(tmp_path: Path) -> None:
    with Journal(tmp_path / JOURNAL) as journal:
        numbers = journal.texts(["q", "a", "b"], ["q", "a", "b"])
        one, two, three = journal.questions(
            np.array([[*numbers, 0], [numbers[0], numbers[2], numbers[1], 0], [*numbers[[1, 0, 2]], 0]])
        ).tolist()
        judge = journal.judge("j", "p")
        unusable = Answer(None, "unparsable", input_tokens=4)
        journal.add([Attempt(judge, one, Answer(1.0)), Attempt(judge, two, unusable), Attempt(judge, two, unusable)])
        journal.add([Attempt(judge, three, unusable), Attempt(judge, three, Answer(None, "failed"), error=True)])
    digests = [digest(text) for text in ("q", "a", "b")]
    with Known(tmp_path / JOURNAL) as known:
        shown = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2]])
        assert known.settled("j", "p", digests, shown).ours == 2
        assert known.settled("j", "p", digests, shown[[2]]).ours == 0
        assert known.settled("j", "other prompt", digests, shown).ours == 0
        history = known.history("j", "p")
        assert (history.answers, history.attempts, history.read) == (1, 4, 3.0)


def test_what_was_cut_is_left_when_answers_may_be_longer(copy: Workspace) -> None:
    opened = with_model(copy)
    before = make_plan(opened).bills[1].work.left
    judge = language_model_of(opened)
    with Journal(opened.root / JOURNAL) as journal:
        number, (at, below) = journal.judge(judge.name, judge.prompt_id), shown_first(opened, judge.name, journal)
        for question, written in ((at, 1024), (below, 300)):
            cut = judge.read(Reply("so", "length", 50, written, 0, 0.0))
            journal.add([Attempt(number, question, cut)] * 2)
        for room, unusable in ((1024, [2, 2]), (1025, [0, 0])):
            assert journal.standing(number, np.array([at, below]), room).unusable.tolist() == unusable
    assert make_plan(opened).bills[1].work.left == before - 2
    raised = opened.recipe.with_settings({"judge.max_output_tokens": "6000"})
    assert make_plan(opened, raised).bills[1].work.left == before


def test_batches_under_way_are_told_and_not_left(copy: Workspace) -> None:
    opened = with_model(copy)
    before = make_plan(opened).bills[1].work.left
    judge = language_model_of(opened)
    with Journal(opened.root / JOURNAL) as journal:
        number, two = journal.judge(judge.name, judge.prompt_id), shown_first(opened, judge.name, journal)
        batch = journal.begin_batch(number, two)
        journal.set_batch(batch, "open", "batch_0")
        found = make_plan(opened).bills[1].work
        assert (found.left, found.sent) == (before - 2, 2)
        assert any(line.startswith("2 comparisons are under way in batches") for line in plan_lines(make_plan(opened), "x"))
        journal.add([Attempt(number, two[0], Answer(0.5))])  # known from elsewhere
        found = make_plan(opened).bills[1].work
        assert (found.left, found.sent) == (before - 2, 1)
        journal.set_batch(batch, "done", "", [Attempt(number, two[1], Answer(0.5))])
    found = make_plan(opened).bills[1].work
    assert (found.left, found.sent) == (before - 2, 0)


def language_model_of(opened: Workspace) -> LanguageModelJudge:
    return LanguageModelJudge(Unopened(MODEL), prompters(MODEL, opened.recipe)[0], prompters(MODEL, opened.recipe)[1])


def shown_first(opened: Workspace, name: str, journal: Journal) -> list[int]:
    """The journal's numbers of the first two comparisons that a judge is shown."""
    pairs = read_pairs(opened.path("pairs"))
    texts = {d.doc_id: d.full_text for d in read_corpus(opened.path("corpus"))}
    queries = {q.query_id: q.text for q in read_queries(opened.path("queries"))}
    rows = []
    for row, leads in enumerate(a_first(pairs, name, opened.recipe.seed)[:2].tolist()):
        a, b = (texts[pairs.doc_ids[place[row]]] for place in (pairs.a, pairs.b))
        numbers = journal.texts([queries[pairs.query_ids[pairs.query[row]]], *((a, b) if leads else (b, a))], ["q", "x", "y"])
        rows.append([*numbers.tolist(), 0])
    found: list[int] = journal.questions(np.array(rows)).tolist()
    return found
