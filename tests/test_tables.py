"""zelo.fit_scores, design_pairs and next_pairs: tables of every kind give the same scores; bad rows are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zelo
from zelo.core.dispersion import estimate_dispersion
from zelo.core.paired_comparison import fit_query
from zelo.errors import ConvergenceError, InputError
from zelo.fitting import fit_parquet
from zelo.frames import Problem

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
    assert table.column_names == ["item", "score", "stderr", "degree", "component", "link"]
    assert dict(zip(table["item"].to_pylist(), table["score"].to_pylist(), strict=True)) == pytest.approx(expected(), abs=1e-6)
    assert table["score"].to_pylist() == sorted(table["score"].to_pylist(), reverse=True)
    assert set(table["degree"].to_pylist()) == {8}
    assert set(table["component"].to_pylist()) == {0}
    assert table["item"][0].as_py() == "Ash"  # the strongest in make_matches.py


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
    table = zelo.fit_scores(frame, first="home", second="away", result="p", group="season", weight="games", link="logit", dispersion="none")
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
        ({"first": ["a"], "second": [1], "result": [1.0]}, "differ in type: 'first' holds large_string and 'second' int64.*as strings"),
        ({"first": [["a"]], "second": [["b"]], "result": [1.0]}, "not ids"),
        ({"first": ["a"], "second": [""], "result": [1.0]}, "row 0: this row has no second"),
        ({"first": ["a", 1], "second": ["b", "c"], "result": [1.0, 0.0]}, "columns cannot be taken.*ids as strings"),
        ({"first": ["a", "b"], "second": ["b", "c"], "winner": ["a", "a"]}, "row 1: this row has a winner that is neither"),
        ({"winner": ["a"], "loser": ["b"], "slope": [float("inf")]}, "row 0: this row has a slope that is not a finite"),
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
    (tmp_path / "m.csv").write_text("first,second,result\n\na,b,1\na,a,1\n")
    with pytest.raises(InputError, match=r"m\.csv, data row 2: this row compares"):
        zelo.fit_scores(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text('first,second,result\n"a\nx",b,1\n,a,1\n')
    with pytest.raises(InputError, match=r"m\.csv, data row 2: this row has no first"):
        zelo.fit_scores(tmp_path / "m.csv")
    for text in ("first,second,result\na,bé,1\n", "first,second,résult\na,b,1\n"):
        (tmp_path / "m.csv").write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError, match=r"m\.csv: not UTF-8. save it as UTF-8"):
            zelo.fit_scores(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text("first,first,second,result\na,b,c,1\n")
    with pytest.raises(InputError, match="several columns are called 'first'"):
        zelo.fit_scores(tmp_path / "m.csv")
    with pytest.raises(InputError, match=r"no reader for \.xls"):
        zelo.fit_scores(tmp_path / "m.xls")
    with pytest.raises(InputError, match="cannot be read"):
        zelo.fit_scores(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="no column 'games'"):
        zelo.fit_scores(FRAME, weight="games")
    with pytest.raises(InputError, match="not a table"):
        zelo.fit_scores(3)
    with pytest.raises(InputError, match=r"a LazyFrame holds no rows yet. call \.collect\(\)"):
        zelo.fit_scores(pl.from_pandas(FRAME).lazy())
    with pytest.raises(InputError, match="unknown dispersion"):
        zelo.fit_scores(FRAME, dispersion="some")  # type: ignore[arg-type]


def test_ids_of_a_csv_file_are_strings(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("query_id,first,second,result,weight\n01,007,7,1,2\n01,7,8,,1\n1,7,8, TRUE,\n")
    with pytest.raises(InputError, match=r"m\.csv:4: this row has a weight"):
        zelo.fit_scores(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text("query_id,first,second,result,weight\n01,007,7,1,2\n01,7,8,,\n1,7,8, TRUE,1\n")
    table = columns(zelo.fit_scores(tmp_path / "m.csv"))
    assert table["query_id"] == ["01", "01", "01", "1", "1"]
    assert table["item"] == ["007", "8", "7", "7", "8"]
    assert table["degree"] == [1, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pl.Series([1, 2], dtype=pl.Int32), pl.Series([2, 3], dtype=pl.Int64)),
        (pl.Series([1, 2], dtype=pl.UInt64), pl.Series([2.0, 3.0])),
        (pl.Series(["1", "2"], dtype=pl.Categorical), pl.Series(["2", "3"])),
        (pl.Series(["1", "2"], dtype=pl.Enum(["1", "2"])), pl.Series(["2", "3"], dtype=pl.Categorical)),
    ],
)
def test_ids_of_related_types_are_the_same(first: pl.Series, second: pl.Series) -> None:
    frame = pl.DataFrame({"winner": first, "loser": second})
    for source in (frame, frame.to_pandas(), frame.to_arrow()):
        assert [str(item) for item in columns(zelo.fit_scores(source))["item"]] == ["1", "2", "3"]


def test_a_column_of_winners_is_understood() -> None:
    rows = {"first": ["a", "b", "a"], "second": ["b", "c", "c"], "winner": ["b", None, "a"]}
    want = columns(zelo.fit_scores({"first": ["a", "b", "a"], "second": ["b", "c", "c"], "result": [0, None, 1]}))
    assert columns(zelo.fit_scores(rows)) == want
    with pytest.raises(InputError, match="no column says which item was better"):
        zelo.fit_scores({"home": ["a"], "away": ["b"]}, first="home", second="away")


def test_a_workspaces_preferences_give_its_scores(finished: Path, tmp_path: Path) -> None:
    source, keys = finished / "preferences.parquet", ["query_id", "item"]
    value = estimate_dispersion(Problem(source, {}).batch).value
    fit_parquet(source, tmp_path / "scores.parquet", dispersion=value)
    assert value < 0.5, "judges of the made-up collection scatter less than votes"
    for path, near in ((tmp_path / "scores.parquet", 1e-6), (finished / "scores.parquet", 1e-6)):
        want = pd.read_parquet(path).rename(columns={"doc_id": "item"}).set_index(keys)
        table = zelo.fit_scores(pd.read_parquet(source), link=want["link"].iloc[0]).set_index(keys)
        for column in ("score", "stderr", "degree"):
            assert table[column].to_numpy() == pytest.approx(want.loc[table.index, column].to_numpy(), rel=near, abs=near / 50)


def test_slopes_and_offsets_are_used_and_missing_rows_need_none() -> None:
    rows = {"first": ["a", "b", "a"], "second": ["b", "c", "c"], "result": [0.9, 0.6, None]}
    terms = {"slope": [2.0, 0.5, None], "offset": [0.3, -0.1, None], "weight": [1.0, 2.0, None]}
    table = zelo.fit_scores(pd.DataFrame(rows | terms), dispersion="none").set_index("item").loc[["a", "b", "c"]]
    fit = fit_query(3, [0, 1], [1, 2], [0.9, 0.6], [1.0, 2.0], slope=[2.0, 0.5], offset=[0.3, -0.1])
    assert table["score"].to_numpy() == pytest.approx(fit.score, abs=1e-6)
    assert table["stderr"].to_numpy() == pytest.approx(fit.stderr, abs=1e-6)
    assert table["degree"].tolist() == [1, 2, 1]
    items = [f"d{n}" for n in range(12)]
    known = zelo.design_pairs(items, degree=2).to_pandas().assign(result=0.9)
    certain = known.assign(slope=[0.1] * 6 + [3.0] * 6)
    assert not zelo.next_pairs(known, count=9).equals(zelo.next_pairs(certain, count=9))


def test_repeated_votes_do_not_narrow_the_errors() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    items = [f"d{n:02}" for n in range(60)]
    pairs = zelo.design_pairs(items, degree=10).to_pandas()
    truth = dict(zip(items, rng.normal(size=60), strict=True))
    margin = pairs["first"].map(truth) - pairs["second"].map(truth) + rng.normal(size=len(pairs))
    once = pairs.assign(result=(margin > 0).astype(float))
    error = {k: zelo.fit_scores(pd.concat([once] * k))["stderr"].mean() for k in (1, 5)}
    naive = zelo.fit_scores(pd.concat([once] * 5), dispersion="none")["stderr"].mean()
    assert error[5] == pytest.approx(error[1], rel=0.15)
    assert naive < 0.75 * error[5]


def test_components_are_told_largest_first() -> None:
    rows = {"winner": ["a", "x", "y", "p"], "loser": ["b", "y", "z", "q"], "weight": [1.0, 1.0, 1.0, 0.0], "group": [1] * 4}
    more = {"winner": ["a", "c"], "loser": ["b", "d"], "weight": [1.0, 1.0], "group": [2] * 2}
    table = zelo.fit_scores(pd.concat([pd.DataFrame(rows), pd.DataFrame(more)]))
    found = dict(zip(zip(table["group"], table["item"], strict=True), table["component"], strict=True))
    assert [found[1, item] for item in "xyzabpq"] == [0, 0, 0, 1, 1, 2, 3]
    assert [found[2, item] for item in "abcd"] == [0, 0, 1, 1]


def test_errors_of_the_fit_name_the_group() -> None:
    rows = pd.DataFrame({"winner": ["a", "a"], "loser": ["b", "c"], "group": ["spring", "autumn"]})
    with pytest.raises(ConvergenceError, match="spring"):
        zelo.fit_scores(rows, prior_sd=1e150)


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
        zelo.design_pairs(["a", 1, "b"], degree=2)
    with pytest.raises(InputError, match=r"group 'q'.*stands twice"):
        zelo.design_pairs({"q": ["a", "a"]})
    assert zelo.design_pairs(pa.chunked_array([["a", "b"]])).num_rows == zelo.design_pairs(pd.Series(["a", "b"])).num_rows == 1


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (FRAME, "a DataFrame is no sequence of items"),
        (pa.table({"x": [1]}), "a Table is no sequence"),
        ("abc", "a str is no sequence"),
        ({"q": "abc"}, "group 'q': a str is no sequence"),
        ({"a", "b"}, "a set is no sequence"),
        (3, "not a sequence of ids"),
        ([["a"], ["b"]], "not a sequence of ids.*unhashable"),
        (["a", None], "item 1 is missing"),
        ([1.0, float("nan")], "item 1 is missing"),
        ([2**70, 1, 2], "differ in type"),
    ],
)
def test_what_are_no_items_is_refused(items: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        zelo.design_pairs(items, degree=2)


@pytest.mark.parametrize("number", [2.5, "4", True, -1, None])
def test_numbers_of_pairs_are_whole(number: Any) -> None:
    with pytest.raises(InputError, match="degree must be a whole number >= 1"):
        zelo.design_pairs(["a", "b"], degree=number)
    with pytest.raises(InputError, match="count must be a whole number >= 0"):
        zelo.next_pairs(FRAME, count=number)


def test_a_huge_count_gives_all_pairs_that_are_left() -> None:
    assert len(zelo.next_pairs(FRAME, count=10**30)) == 45 - 20
    assert len(zelo.next_pairs(FRAME, count=0)) == 0


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
    assert lines[0] == "item,score,stderr,degree,component,link"
    assert len(lines) == 11
    plain = CliRunner().invoke(cli, ["scores", str(MATCHES), "--dispersion", "none"])
    assert plain.output.splitlines()[1] != lines[1], "the error of the group's mean is in it"
    for suffix, read in ((".csv", pd.read_csv), (".parquet", pd.read_parquet)):
        out = tmp_path / f"scores{suffix}"
        assert CliRunner().invoke(cli, ["scores", str(MATCHES), "--out", str(out)]).exit_code == 0
        assert read(out)["score"].tolist() == pytest.approx(zelo.fit_scores(MATCHES)["score"].to_pylist(), abs=1e-9)
    refused = CliRunner().invoke(cli, ["scores", str(MATCHES), "--out", str(tmp_path / "x.xls")])
    assert isinstance(refused.exception, InputError)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["scores.csv", "scores.parquet"]
