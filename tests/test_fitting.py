"""Files of preferences to files of scores: the same as query by query, whatever the batches, and honest about bad files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zelo.artifacts import ARTIFACTS
from zelo.core.links import PRIOR_SD
from zelo.core.paired_comparison import fit_query
from zelo.errors import ConvergenceError, InputError
from zelo.fitting import Totals, dispersion_of, fit_parquet

Columns = dict[str, Any]


def preferences(queries: int = 9, *, seed: int = 0) -> Columns:
    """Queries of 2 to 12 documents with ids in two alphabets, in an order that is not the ids'."""
    rng = np.random.default_rng(seed)
    columns: Columns = {name: [] for name in ("query_id", "doc_id_a", "doc_id_b", "prob_a", "weight", "slope", "offset")}
    for q in range(queries):
        ids = rng.permutation([f"d{i}" if i % 3 else f"\u00e9{i}" for i in range(int(rng.integers(2, 13)))]).tolist()
        for _ in range(3 * len(ids)):
            i, j = rng.choice(len(ids), 2, replace=False)
            prob = None if rng.random() < 0.1 else round(float(rng.random()), 3)
            values = (f"q{queries - q}", ids[i], ids[j], prob, float(rng.uniform(0.5, 3)), float(rng.uniform(0.5, 2)), float(rng.normal()))
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    return columns


def written(folder: Path, columns: Columns, **options: Any) -> Path:
    pq.write_table(pa.table(columns), folder / "preferences.parquet", **options)
    return folder / "preferences.parquet"


def fitted(source: Path, **options: Any) -> tuple[pa.Table, pa.Table, Totals]:
    scores, fits = source.with_name("scores.parquet"), source.with_name("fits.parquet")
    totals = fit_parquet(source, scores, fits, **options)
    return pq.read_table(scores), pq.read_table(fits), totals


def one_by_one(columns: Columns) -> list[tuple[str, str, float, float, int]]:
    """What the file of scores should say, from `fit_query` on rows taken apart in Python."""
    result = []
    for query in dict.fromkeys(columns["query_id"]):
        rows = [i for i, q in enumerate(columns["query_id"]) if q == query]
        ids = sorted({columns[side][i] for side in ("doc_id_a", "doc_id_b") for i in rows})
        first, second = ([ids.index(columns[side][i]) for i in rows] for side in ("doc_id_a", "doc_id_b"))
        prob, weight, slope, offset = (
            np.array([columns[name][i] if name in columns else default for i in rows], np.float64)
            for name, default in (("prob_a", None), ("weight", 1.0), ("slope", 1.0), ("offset", 0.0))
        )
        fit = fit_query(len(ids), first, second, prob, weight, slope=slope, offset=offset)
        result += [(query, doc, float(fit.score[n]), float(fit.stderr[n]), int(fit.degree[n])) for n, doc in enumerate(ids)]
    return result


def rows_of(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(table[name].to_pylist() for name in ("query_id", "doc_id", "score", "stderr", "degree")), strict=True))


@pytest.mark.parametrize("batch_rows", [1, 5, 40, 1000])
@pytest.mark.parametrize("row_group_size", [7, 10_000])
def test_it_is_the_fit_of_each_query_whatever_the_batches(tmp_path: Path, batch_rows: int, row_group_size: int) -> None:
    columns = preferences()
    scores, fits, totals = fitted(written(tmp_path, columns, row_group_size=row_group_size), batch_rows=batch_rows)
    assert rows_of(scores) == one_by_one(columns)
    assert fits["query_id"].to_pylist() == [f"q{9 - q}" for q in range(9)]
    assert (totals.queries, totals.scores, totals.separated) == (9, scores.num_rows, sum(fits["separated"].to_pylist()))
    assert totals.disconnected == sum(c > 1 for c in fits["components"].to_pylist())
    assert scores["link"].to_pylist() == ["probit"] * scores.num_rows
    for name, table in (("scores", scores), ("fits", fits)):
        assert {field.name: str(field.type) for field in table.schema} == dict(ARTIFACTS[name].columns)


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    source = written(tmp_path, preferences(40))
    made = []
    for threads in (1, 3):
        fitted(source, threads=threads, batch_rows=100)
        made.append([source.with_name(f"{name}.parquet").read_bytes() for name in ("scores", "fits")])
    assert made[0] == made[1]


def test_weights_may_be_numbers_of_judges_or_none(tmp_path: Path) -> None:
    columns = preferences(4)
    judges = [int(w) + 1 for w in columns["weight"]]
    bare = {name: columns[name] for name in ("query_id", "doc_id_a", "doc_id_b", "prob_a")}
    assert rows_of(fitted(written(tmp_path, bare))[0]) == one_by_one(bare)
    counted = rows_of(fitted(written(tmp_path, bare | {"n_judges": judges}))[0])
    assert counted == one_by_one(bare | {"weight": [float(n) for n in judges]})
    both = rows_of(fitted(written(tmp_path, bare | {"n_judges": judges, "weight": columns["weight"]}))[0])
    assert both == one_by_one(bare | {"weight": columns["weight"]})


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_any_kind_of_strings_will_do(tmp_path: Path, kind: pa.DataType) -> None:
    columns = preferences(5)
    ids = {name: pa.array(columns[name], pa.string()).cast(kind) for name in ("query_id", "doc_id_a", "doc_id_b")}
    assert rows_of(fitted(written(tmp_path, columns | ids), batch_rows=20)[0]) == one_by_one(columns)


@pytest.mark.parametrize("prefix", ["", "all begin so/"])
def test_long_names_and_many_documents_are_told_apart(tmp_path: Path, prefix: str) -> None:
    """Names that share their beginnings, one the beginning of the next, and an empty one."""
    ids = [prefix + name for name in ("", "\0", *("x" * k for k in range(1, 300)), *(f"{'y' * 200}{k}" for k in range(700)))]
    order = np.random.default_rng(0).permutation(len(ids))
    columns = {"query_id": ["q"] * (len(ids) - 1), "doc_id_a": [ids[i] for i in order[1:]], "doc_id_b": [ids[i] for i in order[:-1]]}
    scores, _, _ = fitted(written(tmp_path, columns | {"prob_a": [0.7] * (len(ids) - 1)}), prior_sd=50.0)
    assert scores["doc_id"].to_pylist() == sorted(ids)
    by_name = dict(zip(scores["doc_id"].to_pylist(), scores["score"].to_pylist(), strict=True))
    along = [by_name[ids[i]] for i in order]
    assert (np.diff(along) > 0).all()  # each beat the one before it


def test_copies_follow_the_document_they_repeat(tmp_path: Path) -> None:
    columns: Columns = {"query_id": ["p", "q", "q"], "doc_id_a": ["a", "a", "b"], "doc_id_b": ["b", "b", "c"], "prob_a": [0.9, 0.8, 0.6]}
    copies: dict[str, dict[str, Sequence[str]]] = {"q": {"a": ["z", "y"], "c": ["x"]}, "other": {"a": ["w"]}}
    scores, _, totals = fitted(written(tmp_path, columns), copies=copies)
    assert scores["doc_id"].to_pylist() == ["a", "b", "a", "z", "y", "b", "c", "x"]
    values = scores["score"].to_pylist()
    assert values[2] == values[3] == values[4] != values[5]
    assert (values[6], totals.scores) == (values[7], 8)


def test_an_empty_file(tmp_path: Path) -> None:
    empty = {name: pa.array([], pa.string()) for name in ("query_id", "doc_id_a", "doc_id_b")} | {"prob_a": pa.array([], pa.float64())}
    scores, fits, totals = fitted(written(tmp_path, empty))
    assert (scores.num_rows, fits.num_rows, totals) == (0, 0, Totals())


def test_without_standard_errors_they_are_null(tmp_path: Path) -> None:
    scores, _, _ = fitted(written(tmp_path, preferences(3)), stderr=False, link="logit", prior_sd=1.0)
    assert scores["stderr"].null_count == scores.num_rows > 0
    assert set(scores["link"].to_pylist()) == {"logit"}


def test_progress_ends_at_the_number_of_rows(tmp_path: Path) -> None:
    columns, heard = preferences(8), list[tuple[int, int]]()
    fitted(written(tmp_path, columns), batch_rows=30, advance=lambda done, total: heard.append((done, total)))
    rows = len(columns["query_id"])
    assert heard[-1] == (rows, rows)
    assert len(heard) > 3
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)


def test_bad_files_are_refused(tmp_path: Path) -> None:
    columns = preferences(3)
    (tmp_path / "text.parquet").write_text("not Parquet", "utf-8")
    with pytest.raises(InputError, match=r"text.parquet: not readable as Parquet"):
        fit_parquet(tmp_path / "text.parquet", tmp_path / "scores.parquet")
    with pytest.raises(InputError, match="lacks prob_a"):
        fitted(written(tmp_path, {name: column for name, column in columns.items() if name != "prob_a"}))
    with pytest.raises(InputError, match="a doc_id_b is null"):
        fitted(written(tmp_path, columns | {"doc_id_b": [None, *columns["doc_id_b"][1:]]}))
    for batch_rows in (10, 1000):
        with pytest.raises(InputError, match=r"the rows of query 'q3' are apart. write the rows of a query one after another"):
            fitted(written(tmp_path, columns | {"query_id": [*columns["query_id"][:-1], "q3"]}), batch_rows=batch_rows)
    with pytest.raises(InputError, match=r"query q1: prob_first must be in \[0, 1\]"):
        fitted(written(tmp_path, columns | {"prob_a": [*columns["prob_a"][:-1], 1.5]}))
    with pytest.raises(InputError, match="query q3: a pair must join two different documents"):
        fitted(written(tmp_path, columns | {"doc_id_b": [columns["doc_id_a"][0], *columns["doc_id_b"][1:]]}))
    with pytest.raises(ConvergenceError, match="query q3: "):
        fitted(written(tmp_path, columns | {"offset": [1e300, *columns["offset"][1:]], "slope": [1e160, *columns["slope"][1:]]}))


def test_dispersion_divides_the_weights_and_centers_the_errors(tmp_path: Path) -> None:
    columns = preferences(6)
    source = written(tmp_path, columns)
    scores, fits, _ = fitted(source, dispersion=2.5)
    halved = one_by_one(columns | {"weight": [w / 2.5 for w in columns["weight"]]})
    documents = {query: sum(row[0] == query for row in halved) for query in columns["query_id"]}
    assert scores["score"].to_pylist() == pytest.approx([row[2] for row in halved], abs=1e-12)
    centered = [np.sqrt(row[3] ** 2 - PRIOR_SD["probit"] ** 2 / documents[row[0]]) for row in halved]
    assert scores["stderr"].to_pylist() == pytest.approx(centered, abs=1e-9)
    assert set(fits["dispersion"].to_pylist()) == {2.5}
    estimate = dispersion_of(source)
    assert estimate.value > 0
    assert 1 <= estimate.queries <= 6  # one of two documents alone may say nothing
