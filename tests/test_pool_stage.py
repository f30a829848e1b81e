"""The stage `pool` on a made-up workspace: what it writes with each switch, and what it does about silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fabricate import JUDGES, Fabricated
from zelo.artifacts import read_table, write_table
from zelo.core.paired_comparison import fit_query
from zelo.errors import RecipeError
from zelo.recipe import from_dict
from zelo.stages import pool

Table = dict[str, Any]


def pooled(
    root: Path, change: Callable[[Table], None] = lambda table: None, **settings: object
) -> tuple[Table, Table, tuple[str, ...], Fabricated]:
    """Run the stage on judgments that `change` has changed; preferences, judges, notes."""
    fit = {"link": settings.pop("link", "probit")}
    made = Fabricated(root, train=8, test=2, settings={"pool": settings, "fit": fit})
    path = made.workspace.path("judgments")
    table = read_table(path, "judgments")
    change(table)
    write_table(path, "judgments", table)
    outcome = pool.run(made.context())
    preferences = read_table(made.workspace.path("preferences"), "preferences")
    judges = read_table(made.workspace.path("judges"), "judges")
    return preferences, judges, outcome.notes, made


def by_judge(table: Table) -> Table:
    """Order the made-up rows as the stage `judge` does."""
    order = sorted(range(len(table["judge"])), key=lambda i: (list(JUDGES).index(table["judge"][i]), i))
    return {name: [values[i] for i in order] for name, values in table.items()}


def sealed(table: Table) -> None:
    table.update(by_judge(table))


def scores(preferences: Table, query_id: str, link: str = "probit") -> dict[str, float]:
    rows = [i for i, q in enumerate(preferences["query_id"]) if q == query_id]
    a, b = ([preferences[side][i] for i in rows] for side in ("doc_id_a", "doc_id_b"))
    names = sorted({*a, *b})
    columns = {name: np.asarray(preferences[name])[rows] for name in ("prob_a", "weight", "slope", "offset")}
    fit = fit_query(
        len(names), [names.index(d) for d in a], [names.index(d) for d in b], columns["prob_a"], columns["weight"],
        slope=columns["slope"], offset=columns["offset"], link=link,
    )  # type: ignore[arg-type]  # fmt: skip
    return dict(zip(names, fit.score.tolist(), strict=True))


def test_plain_pooling_has_one_row_per_pair(tmp_path: Path) -> None:
    preferences, judges, notes, made = pooled(tmp_path / "w", sealed)
    judgments = read_table(made.workspace.path("judgments"), "judgments")
    assert len(preferences["prob_a"]) == len(judgments["judge"]) // 3
    np.testing.assert_array_equal(preferences["weight"], preferences["n_judges"])
    assert set(preferences["slope"]) == {1.0}
    assert set(preferences["offset"]) == {0.0}
    assert np.isnan(judges["slope"]).all()
    assert np.isnan(judges["order_effect"]).all()
    assert len(notes) == 3
    i = 17
    said = np.array(judgments["preference"]).reshape(3, -1)[:, i]
    weights = judges["weight"][~np.isnan(said)]
    assert preferences["prob_a"][i] == pytest.approx((1 + weights @ said[~np.isnan(said)] / weights.sum()) / 2)


def test_a_leaning_is_found_and_taken_out(tmp_path: Path) -> None:
    def lean(table: Table) -> None:
        sealed(table)
        rng = np.random.default_rng(1)
        first = rng.random(len(table["judge"])) < 0.5
        table["shown_first"] = np.where(first, "a", "b").tolist()
        moved = np.where(np.array(table["judge"]) == "dense", 0.5, 0.0) * np.where(first, 1, -1)
        table["preference"] = np.clip(np.array(table["preference"], float) + moved, -1, 1)

    plain, _, _, made = pooled(tmp_path / "plain", lean)
    corrected, judges, notes, _ = pooled(tmp_path / "corrected", lean, order_effect=True)
    effect = dict(zip(judges["judge"], judges["order_effect"], strict=True))
    assert effect["dense"] > 0.25
    assert abs(effect["lexical"]) < 0.1 > abs(effect["late_interaction"])
    assert (judges["order_stderr"] < 0.1).all()
    assert np.isnan(judges["slope"]).all()
    assert any("dense: favors the text shown first by +0." in note for note in notes)
    assert len(corrected["prob_a"]) > 2.9 * len(plain["prob_a"])
    assert (np.asarray(corrected["n_judges"]) == 1).all()
    assert sum(corrected["weight"]) == pytest.approx(sum(plain["weight"]))
    error = {"plain": 0.0, "corrected": 0.0}
    for query in made.queries:
        truth = dict(zip(made.candidates[query], made.truth[query], strict=True))
        for name, table in (("plain", plain), ("corrected", corrected)):
            found = scores(table, query)
            pair = np.array([(found[d], truth[d]) for d in found])
            error[name] += 1 - float(np.corrcoef(pair.T)[0, 1])
    assert error["corrected"] < error["plain"]


def test_slopes_rank_the_judges(tmp_path: Path) -> None:
    preferences, judges, notes, _ = pooled(tmp_path / "w", sealed, weighting="slopes")
    slope = dict(zip(judges["judge"], judges["slope"], strict=True))
    assert slope["late_interaction"] > slope["dense"] > slope["lexical"] > 0  # by their noise in fabricate.JUDGES
    assert set(np.round(preferences["slope"], 12)) == set(np.round(judges["slope"], 12))
    assert set(preferences["weight"]) == {1.0}
    assert set(preferences["offset"]) == {0.0}
    assert any(note.startswith("likelihood ratio of slopes") for note in notes)


def test_ties_as_an_outcome(tmp_path: Path) -> None:
    def votes(table: Table) -> None:
        sealed(table)
        value = np.array(table["preference"], float)
        table["preference"] = np.where(np.isnan(value), np.nan, np.sign(value) * (np.abs(value) > 0.3))

    half, _, _, _ = pooled(tmp_path / "half", votes, link="logit")
    outcome, _, notes, _ = pooled(tmp_path / "outcome", votes, link="logit", ties="outcome")
    threshold = max(outcome["offset"])
    assert set(np.round(outcome["offset"], 9)) == set(np.round([-threshold, threshold], 9))
    assert 0.1 < threshold < 2
    assert f"threshold {threshold:.2f} logits" in notes[3]
    a, b = scores(half, "q000", "logit"), scores(outcome, "q000", "logit")
    pair = np.array([(a[d], b[d]) for d in a])
    assert np.corrcoef(pair.T)[0, 1] > 0.98
    assert pair[:, 1].std() > 1.05 * pair[:, 0].std()  # ties no longer pull the scores together
    with pytest.raises(RecipeError, match="logit"):
        pool.check(from_dict({"pool": {"ties": "outcome"}}))


@pytest.mark.parametrize("switch", [{}, {"order_effect": True}, {"weighting": "slopes"}])
def test_what_nobody_answered_is_left_out_and_said(tmp_path: Path, switch: dict[str, object]) -> None:
    """A question whose judgments all failed gets no preference and no score; nothing becomes a tie."""

    def silence(table: Table) -> None:
        sealed(table)
        value, queries = np.array(table["preference"], float), np.array(table["query_id"])
        value[queries == "q001"] = np.nan
        pairs = len(value) // 3
        lone = int(np.flatnonzero(queries == "q002")[0])
        value[[lone, lone + pairs, lone + 2 * pairs]] = np.nan
        table["preference"] = value
        table["status"] = ["failed" if np.isnan(v) else "ok" for v in value]

    preferences, judges, notes, made = pooled(tmp_path / "w", silence, **switch)
    judgments = read_table(made.workspace.path("judgments"), "judgments")
    assert "q001" not in preferences["query_id"]
    assert "q002" in preferences["query_id"]
    assert not np.isnan(preferences["prob_a"]).any()
    first = judgments["query_id"].index("q002")
    names = list(zip(preferences["query_id"], preferences["doc_id_a"], preferences["doc_id_b"], strict=True))
    assert ("q002", judgments["doc_id_a"][first], judgments["doc_id_b"][first]) not in names
    silent = len([q for q in judgments["query_id"] if q == "q001"]) // 3
    assert any(note.startswith(f"{silent + 1:,} of ") and "left out" in note for note in notes)
    assert any("1 questions have no usable judgment at all" in note and "q001" in note for note in notes)
    assert (judges["reliability"] > 0).all()
