"""zelo.fit_scores, design_pairs and next_pairs: tables of every kind give the same scores; bad rows are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zelo
from zelo.core.paired_comparison import fit_query
from zelo.errors import InputError

MATCHES = Path(__file__).resolve().parents[1] / "examples" / "matches.csv"
FRAME = pd.read_csv(MATCHES)


def columns(table: object) -> dict[str, list[object]]:
    return pa.table(table).to_pydict()


def expected() -> dict[str, float]:
    items = sorted(set(FRAME["first"]) | set(FRAME["second"]))
    place = {name: n for n, name in enumerate(items)}
    fit = fit_query(len(items), FRAME["first"].map(place).to_numpy(), FRAME["second"].map(place).to_numpy(), FRAME["result"].to_numpy())
    return dict(zip(items, fit.score.tolist(), strict=True))


def test_a_csv_of_matches_gives_the_clubs_best_first() -> None:
    table = zelo.fit_scores(MATCHES)
    assert isinstance(table, pa.Table)
    assert table.column_names == ["item", "score", "stderr", "degree", "link"]
    assert dict(zip(table["item"].to_pylist(), table["score"].to_pylist(), strict=True)) == pytest.approx(expected(), abs=1e-6)
    assert table["score"].to_pylist() == sorted(table["score"].to_pylist(), reverse=True)
    assert set(table["degree"].to_pylist()) == {14}
    assert {table["item"][0].as_py(), table["item"][1].as_py()} == {"Ash", "Birch"}  # the two that are strongest in make_matches.py


def test_every_kind_of_table_gives_the_same_scores(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pandas(FRAME, preserve_index=False), tmp_path / "m.parquet")
    FRAME.to_json(tmp_path / "m.jsonl", orient="records", lines=True)
    want = columns(zelo.fit_scores(MATCHES))
    sources = [
        FRAME,
        pl.from_pandas(FRAME),
        pa.Table.from_pandas(FRAME),
        {n: FRAME[n].to_numpy() for n in FRAME},
        FRAME.to_numpy(),
        str(tmp_path / "m.parquet"),
        tmp_path / "m.jsonl",
    ]
    kinds = [pd.DataFrame, pl.DataFrame, pa.Table, pa.Table, pa.Table, pa.Table, pa.Table]
    for source, kind in zip(sources, kinds, strict=True):
        table = zelo.fit_scores(source)
        assert isinstance(table, kind)
        assert columns(table)["item"] == want["item"]
        assert columns(table)["score"] == pytest.approx(want["score"], abs=1e-12)


def test_winners_and_losers_as_an_array() -> None:
    wins = FRAME[FRAME["result"] != 0.5]
    pairs = np.where((wins["result"] == 1).to_numpy()[:, None], wins[["first", "second"]], wins[["second", "first"]])
    assert columns(zelo.fit_scores(pairs))["item"] == columns(zelo.fit_scores(wins))["item"]
    assert columns(zelo.fit_scores(pairs))["score"] == pytest.approx(columns(zelo.fit_scores(wins))["score"], abs=1e-7)


def test_groups_are_scored_apart_and_named_columns_are_taken() -> None:
    frame = pd.DataFrame({"season": [2, 2, 1], "home": [10, 11, 10], "away": [11, 12, 12], "p": [0.9, 0.7, 0.2], "games": [3.0, 1, 2]})
    table = zelo.fit_scores(frame, first="home", second="away", result="p", group="season", weight="games", link="logit")
    assert table["season"].tolist() == [2, 2, 2, 1, 1]
    assert table["item"].tolist() == [10, 11, 12, 12, 10]
    fit = fit_query(3, [0, 1], [1, 2], [0.9, 0.7], [3.0, 1.0], link="logit")
    assert table["score"][:3].to_numpy() == pytest.approx(fit.score, abs=1e-6)
    assert table["stderr"][:3].to_numpy() == pytest.approx(fit.stderr, abs=1e-6)


def test_a_preference_is_from_minus_one_to_one_and_missing_is_left_out() -> None:
    rows = {"query_id": ["q"] * 3, "doc_id_a": ["a", "b", "a"], "doc_id_b": ["b", "c", "c"], "preference": [0.5, None, -1.0]}
    table = columns(zelo.fit_scores(rows))
    assert dict(zip(table["item"], table["degree"], strict=True)) == {"a": 2, "b": 1, "c": 1}
    fit = fit_query(3, [0, 0], [1, 2], [0.75, 0.0])
    assert dict(zip(table["item"], table["score"], strict=True)) == pytest.approx(dict(zip("abc", fit.score, strict=True)), abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"first": ["a"], "second": ["b"]}, "no column says which item was better"),
        ({"x": ["a"], "y": ["b"]}, "no two columns of items.*columns: x, y"),
        ({"winner": ["a", "b"], "loser": ["b", "b"]}, "row 1: this row compares an item with itself"),
        ({"first": ["a"], "second": ["b"], "result": [1.5]}, "row 0: this row has a result out of range"),
        ({"first": ["a"], "second": [None], "result": [1.0]}, "row 0: this row has no second"),
        ({"first": ["a"], "second": ["b"], "result": ["won"]}, "'result' does not hold numbers"),
        ({"first": ["a"], "second": ["b"], "result": [1.0], "weight": [-1.0]}, "weight that is not a number >= 0"),
        ({"first": ["a"], "second": [1], "result": [1.0]}, "differ in type"),
    ],
)
def test_bad_tables_are_refused_in_one_line(rows: dict[str, list[object]], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        zelo.fit_scores(rows)
    assert "\n" not in str(caught.value)


def test_bad_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("first,second,result\na,b,1\na,a,1\n")
    with pytest.raises(InputError, match=r"m\.csv:3: this row compares"):
        zelo.fit_scores(tmp_path / "m.csv")
    with pytest.raises(InputError, match=r"no reader for \.xls"):
        zelo.fit_scores(tmp_path / "m.xls")
    with pytest.raises(InputError, match="cannot be read"):
        zelo.fit_scores(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="no column 'games'"):
        zelo.fit_scores(FRAME, weight="games")
    with pytest.raises(InputError, match="not a table"):
        zelo.fit_scores(3)


def test_designed_pairs_are_a_regular_graph_per_group() -> None:
    items = {"q1": list(range(20)), "q2": [7, 8, 9]}
    table = columns(zelo.design_pairs(items, degree=4))
    q1 = [(f, s) for g, f, s in zip(table["group"], table["first"], table["second"], strict=True) if g == "q1"]  # type: ignore[misc]
    assert len(q1) == 40
    assert np.bincount([int(f) for f, _ in q1]).tolist() == [2] * 20
    alone = columns(zelo.design_pairs({"q1": list(range(20))}, degree=4))
    assert list(zip(alone["first"], alone["second"], strict=True)) == q1  # no matter which other groups there are
    assert zelo.design_pairs(["a", "b", "c"], design="all").num_rows == 3
    with pytest.raises(InputError, match="stands twice"):
        zelo.design_pairs(["a", "b", "a"])
    with pytest.raises(InputError, match="differ in type"):
        zelo.design_pairs(["a", 1, "b"])


def test_next_pairs_are_new_and_near_the_top() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    items = [f"d{n:02}" for n in range(40)]
    pairs = zelo.design_pairs(items, degree=4, seed=1).to_pandas()
    truth = {item: 0.1 * n for n, item in enumerate(items)}
    margin = pairs["first"].map(truth) - pairs["second"].map(truth) + rng.logistic(size=len(pairs))
    known = pairs.assign(result=(margin > 0).astype(float))
    chosen = zelo.next_pairs(known, count=15)
    assert isinstance(chosen, pd.DataFrame)
    assert len(chosen) == 15
    asked = {frozenset(p) for p in pairs[["first", "second"]].to_numpy().tolist()}
    assert not asked & {frozenset(p) for p in chosen[["first", "second"]].to_numpy().tolist()}
    assert chosen[["first", "second"]].stack().map(truth).mean() > np.mean(list(truth.values())) + 0.5


def test_the_command_prints_csv_and_writes_files(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from zelo.cli import cli

    printed = CliRunner().invoke(cli, ["scores", str(MATCHES)])
    assert printed.exit_code == 0, printed.output
    lines = printed.output.splitlines()
    assert lines[0] == "item,score,stderr,degree,link"
    assert len(lines) == 9
    for suffix, read in ((".csv", pd.read_csv), (".parquet", pd.read_parquet)):
        out = tmp_path / f"scores{suffix}"
        assert CliRunner().invoke(cli, ["scores", str(MATCHES), "--out", str(out)]).exit_code == 0
        assert read(out)["score"].tolist() == pytest.approx(zelo.fit_scores(MATCHES)["score"].to_pylist(), abs=1e-9)
    refused = CliRunner().invoke(cli, ["scores", str(MATCHES), "--out", str(tmp_path / "x.xls")])
    assert isinstance(refused.exception, InputError)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["scores.csv", "scores.parquet"]
