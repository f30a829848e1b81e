"""The stages align and calibrate on a small workspace, with a judge that knows the labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zelo import runner
from zelo.artifacts import read_table
from zelo.collections.synthetic import Synthetic
from zelo.core.calibration import fit_anchor, targets
from zelo.errors import InputError, JudgeError, RecipeError
from zelo.judges import Comparison
from zelo.judges.simulated import SimulatedJudge, labels_by_text
from zelo.recipe import Recipe, from_dict
from zelo.workspace import Workspace


def knowing(recipe: Recipe) -> SimulatedJudge:
    """Make a judge of the ensemble that goes by the labels."""
    return _judge()


def failing(recipe: Recipe) -> SimulatedJudge:
    """Make one that gives no answer across queries."""
    return _Failing(_judge())  # type: ignore[return-value]


def narrow(recipe: Recipe) -> SimulatedJudge:
    """Make one that compares within queries only."""
    judge = _judge()
    judge.across = False
    return judge


def level(query: str) -> float:
    """Return what all documents of a query are worth beside their labels: its candidates are good, or bad."""
    return 2.0 if len(query) % 2 else -2.0


def _judge() -> SimulatedJudge:
    made = Synthetic()
    qrels = [row for split in made.splits() for row in made.qrels(split)]
    labels = labels_by_text(made.queries(), made.documents(), qrels)
    return SimulatedJudge("knowing", lambda query, document: level(query) + labels[query].get(document, 0.0), accuracy=0.8)


class _Failing:
    name, prompt_id, across = "failing", "1", True

    def __init__(self, judge: SimulatedJudge) -> None:
        self._judge = judge

    def judge(self, comparisons: list[Comparison]) -> object:
        from zelo.judges import Answer

        answers = self._judge.judge(comparisons)
        return [Answer(None, "failed") if c.second_query is not None else a for c, a in zip(comparisons, answers, strict=True)]


def run(folder: Path, **settings: object) -> Workspace:
    """Run a finished workspace again with other settings, up to calibrate."""
    workspace = Workspace.open(folder)
    changed = {key.replace("__", "."): str(value) for key, value in settings.items()}
    workspace.save_recipe(workspace.recipe.with_settings(changed))
    workspace = Workspace.open(folder)
    runner.run(workspace, stop="calibrate")
    return workspace


def table(workspace: Workspace, artifact: str) -> dict[str, np.ndarray]:
    return {name: np.array(values) for name, values in read_table(workspace.path(artifact), artifact).items()}


def test_off_it_costs_nothing_and_changes_nothing(workspace: Path) -> None:
    before = Workspace.open(workspace)
    assert len(table(before, "across")["judge"]) == len(table(before, "offsets")["query_id"]) == 0
    scores, target = table(before, "scores"), table(before, "targets")["target"]
    for query_id in set(scores["query_id"].tolist()):
        rows = scores["query_id"] == query_id
        np.testing.assert_allclose(target[rows], targets(scores["score"][rows]))


def test_one_scale_without_comparisons(workspace: Path) -> None:
    done = run(workspace, calibrate__scale="across")
    np.testing.assert_allclose(table(done, "targets")["target"], targets(table(done, "scores")["score"]))


def test_levels_from_a_judge(workspace: Path) -> None:
    ensemble = '["python:test_align:knowing"]'
    done = run(workspace, judge__ensemble=ensemble, align__comparisons=6, calibrate__scale="across", calibrate__threshold=1.0)
    across, offsets, scores = table(done, "across"), table(done, "offsets"), table(done, "scores")
    queries = set(scores["query_id"].tolist())
    assert set(offsets["query_id"].tolist()) == queries
    assert (across["query_id_a"] != across["query_id_b"]).all()
    assert 0.8 * 6 * len(queries) <= len(across["judge"]) <= 6 * len(queries)
    assert set(across["judge"].tolist()) == {"knowing"}
    assert set(across["shown_first"].tolist()) == {"a", "b"}
    judge, made = _judge(), Synthetic()
    query, document = {q.query_id: q.text for q in made.queries()}, {d.doc_id: d.full_text for d in made.documents()}
    for i in range(40):  # what is stored is what the judge says when asked so, with the sign for a
        a, b = ((across[f"query_id_{s}"][i], across[f"doc_id_{s}"][i]) for s in "ab")
        first, second = (a, b) if across["shown_first"][i] == "a" else (b, a)
        (answer,) = judge.judge([Comparison(query[first[0]], document[first[1]], document[second[1]], query[second[0]])])
        assert answer.preference is not None
        np.testing.assert_allclose(across["preference"][i], answer.preference if first == a else -answer.preference, atol=1e-12)
    found = dict(zip(offsets["query_id"].tolist(), offsets["offset"].tolist(), strict=True))
    total = scores["score"] + np.array([found[q] for q in scores["query_id"].tolist()])
    np.testing.assert_allclose(table(done, "targets")["target"], targets(total, threshold=1.0))
    high = [found[q] for q in found if level(query[q]) > 0]
    low = [found[q] for q in found if level(query[q]) < 0]
    assert min(len(high), len(low)) > 2
    assert min(high) > max(low)
    entry = done.entry("align")
    assert entry is not None
    assert "prior" in entry.notes[0]
    again = Workspace.open(workspace)
    bytes_before = [again.path(name).read_bytes() for name in ("across", "offsets")]
    runner.run(again, stop="calibrate", force=["align"])  # the journal has all answers
    assert [again.path(name).read_bytes() for name in ("across", "offsets")] == bytes_before


def test_ratings_anchor_the_targets(workspace: Path, tmp_path: Path) -> None:
    scores = table(Workspace.open(workspace), "scores")
    rows = np.argsort(scores["score"])[:: len(scores["score"]) // 30]
    ratings = np.round(10 / (1 + np.exp(-3 * scores["score"][rows])))
    path = tmp_path / "ratings.tsv"
    lines = [f"{scores['query_id'][r]}\t{scores['doc_id'][r]}\t{v:g}\n" for r, v in zip(rows, ratings, strict=True)]
    path.write_text("query-id\tcorpus-id\tscore\n" + "".join(lines) + "elsewhere\td1\t3\n", "utf-8")
    done = run(workspace, calibrate__scale="across", calibrate__ratings=path)
    anchor = fit_anchor(scores["score"][rows], ratings)
    np.testing.assert_allclose(table(done, "targets")["target"], anchor(scores["score"]))
    path.write_text("query-id\tcorpus-id\tscore\n" + lines[0], "utf-8")
    assert not next(s for s in runner.status(Workspace.open(workspace)) if s.stage.name == "calibrate").done
    with pytest.raises(InputError, match="two different scores"):
        runner.run(Workspace.open(workspace), stop="calibrate")


def test_a_judge_that_fails_across_stops_the_run(workspace: Path) -> None:
    with pytest.raises(JudgeError, match="no usable answer to"):
        run(workspace, judge__ensemble='["python:test_align:failing"]', align__comparisons=4, calibrate__scale="across")


def test_a_judge_that_cannot_compare_across(workspace: Path) -> None:
    with pytest.raises(RecipeError, match="no judge of the ensemble has a way"):
        run(workspace, judge__ensemble='["python:test_align:narrow"]', align__comparisons=4, calibrate__scale="across")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"align": {"comparisons": 4}}, "would be paid for and not used"),
        ({"align": {"comparisons": 4}, "calibrate": {"scale": "across"}}, "no judge of the ensemble compares across queries"),
        ({"calibrate": {"ratings": "ratings.tsv"}}, "anchor scores that are on one scale"),
    ],
)
def test_settings_that_do_not_go_together(tables: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        runner.check(from_dict(tables))
