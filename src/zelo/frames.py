"""Tables of any kind, as the fit takes them and back: for `zelo.tables`."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from zelo.errors import InputError

FloatArray = NDArray[np.float64]

_PAIRS = (("doc_id_a", "doc_id_b"), ("first", "second"), ("winner", "loser"))
_RESULTS = ("prob_a", "prob_first", "result", "preference")
_GROUPS = ("query_id", "group")
_WEIGHTS = ("weight", "n_judges")


class Problem:
    """A table of preferences as the fit takes it, and the way back from numbers to names."""

    def __init__(self, preferences: Any, named: Mapping[str, str | None]) -> None:
        import pyarrow as pa

        from zelo.core.paired_comparison import Batch

        table, where = read_frame(preferences)
        columns = _Columns(table, where, _find_columns(table.column_names, where, named))
        prob, weights = columns.numbers()
        self.groups: Any = None
        row_group = np.zeros(table.num_rows, np.int64)
        if columns.group is not None:
            self.groups, row_group = _codes(columns.group)
        self._group_name = columns.group_name
        try:
            both = pa.chunked_array([*columns.first.chunks, *columns.second.chunks], type=columns.first.type)
        except (pa.ArrowException, TypeError) as error:
            raise InputError(f"the two columns of items differ in type ({error})", where=where) from error
        self._items, codes = _codes(both)
        ends = codes.reshape(2, -1)
        _require(ends[0] != ends[1], where, "compares an item with itself")
        width = max(len(self._items), 1)
        known, place = np.unique(row_group * width + ends, return_inverse=True)
        self.group_of, self._item_of = known // width, known % width
        count = len(self.groups) if self.groups is not None else 1
        self.starts = np.searchsorted(known, np.arange(count + 1) * width)
        order = np.argsort(row_group, kind="stable")
        local = (place.reshape(2, -1) - self.starts[row_group])[:, order].astype(np.int32)
        rows = np.searchsorted(row_group[order], np.arange(count + 1))
        documents = np.diff(self.starts).astype(np.int32)
        self.batch = Batch(documents, rows, local[0], local[1], prob[order], weights[order])

    def names(self, places: NDArray[np.int64]) -> Any:
        """Return the items at these places of the fitted scores."""
        import pyarrow as pa

        return self._items.take(pa.array(self._item_of[places]))

    def group_column(self, groups: NDArray[np.int64]) -> dict[str, Any]:
        """Return the column that names these groups, or none."""
        import pyarrow as pa

        return {self._group_name: self.groups.take(pa.array(groups))} if self.groups is not None else {}


def read_frame(source: Any) -> tuple[Any, str]:
    """Return a table of any kind as an Arrow table, and what to call it in messages.

    Raises:
        InputError: the file cannot be read, or the object is no table.
    """
    import pyarrow as pa

    if isinstance(source, str | Path):
        return _read_file(Path(source)), str(source)
    try:
        if isinstance(source, np.ndarray) and source.ndim == 2 and source.shape[1] in (2, 3):
            names = ("winner", "loser") if source.shape[1] == 2 else ("first", "second", "result")
            columns = {name: source[:, i] for i, name in enumerate(names)}
            if "result" in columns:
                columns["result"] = columns["result"].astype(np.float64)
            return pa.table(columns), "the array"
        if isinstance(source, Mapping):
            return pa.table({str(name): pa.array(values, from_pandas=True) for name, values in source.items()}), "the table"
        table = pa.table(source)
        views = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}  # polars hands these over; Arrow cannot take rows of them
        fields = [f.with_type(views.get(f.type, f.type)) for f in table.schema]
        return table.cast(pa.schema(fields)), "the table"
    except (TypeError, ValueError, AttributeError, pa.ArrowException) as error:
        kinds = "a pandas, polars or Arrow table, a mapping of columns, an array [m, 2] or [m, 3], or a path"
        raise InputError(f"not a table ({error})", remedy=f"give {kinds}") from error


def write_frame(table: Any, path: Path | None, stream: IO[str]) -> None:
    """Write an Arrow table to a .csv or .parquet file; or as CSV to a stream for people, floating-point numbers with 6 decimals.

    Raises:
        InputError: another suffix, or the file cannot be written.
    """
    import pyarrow.csv
    import pyarrow.parquet

    if path is None:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(table.column_names)
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
            rows.writerow([f"{value:.6f}" if isinstance(value, float) else value for value in row])
        return
    writers: dict[str, Any] = {".csv": pyarrow.csv.write_csv, ".parquet": pyarrow.parquet.write_table}
    if path.suffix not in writers:
        raise InputError(f"no writer for {path.suffix or 'a file without suffix'}", where=str(path), remedy=f"use {', '.join(writers)}")
    partial = path.with_name(f".{path.name}.partial")
    try:
        writers[path.suffix](table, partial)
        partial.replace(path)
    except OSError as error:
        raise InputError(f"cannot be written ({error})", where=str(path)) from error


def _read_file(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    readers: dict[str, Any] = {
        ".csv": pyarrow.csv.read_csv,
        ".jsonl": pyarrow.json.read_json,
        ".parquet": pyarrow.parquet.read_table,
    }
    if path.suffix not in readers:
        raise InputError(f"no reader for {path.suffix or 'a file without suffix'}", where=str(path), remedy=f"use {', '.join(readers)}")
    try:
        return readers[path.suffix](path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot be read ({error})", where=str(path)) from error


def _find_columns(known: Sequence[str], where: str, named: Mapping[str, str | None]) -> dict[str, str]:
    """Return role -> column, "" where there is none."""
    absent = [name for name in named.values() if name is not None and name not in known]
    if absent:
        raise InputError(f"no column {absent[0]!r}", where=where, remedy=f"columns: {', '.join(known)}")
    pair = (named.get("first"), named.get("second"))
    if pair == (None, None):
        pair = next((p for p in _PAIRS if set(p) <= set(known)), (None, None))
    if pair[0] is None or pair[1] is None:
        raise InputError("no two columns of items", where=where, remedy=f"name them, first=... and second=...; columns: {', '.join(known)}")
    chosen = {"first": pair[0], "second": pair[1]}
    for role, usual in (("result", _RESULTS), ("group", _GROUPS), ("weight", _WEIGHTS)):
        chosen[role] = named.get(role) or next((name for name in usual if name in known and name not in pair), "")
    return chosen


class _Columns:
    """The columns that matter, found by name."""

    def __init__(self, table: Any, where: str, names: Mapping[str, str]) -> None:
        self._table, self._where, self._names = table, where, names
        self.first, self.second = self._ids("first"), self._ids("second")
        self.group_name = names["group"]
        self.group = self._ids("group") if self.group_name else None

    def numbers(self) -> tuple[FloatArray, FloatArray]:
        """Return P(first is better) [m], NaN where missing, and weights [m]."""
        rows = self._table.num_rows
        if not self._names["result"]:
            if self._names["first"] != "winner":
                remedy = "name it, result=..., or call the columns winner and loser"
                raise InputError("no column says which item was better", where=self._where, remedy=remedy)
            prob = np.ones(rows)
        else:
            prob = self._floats("result")
            if self._names["result"] == "preference":
                prob = (1 + prob) / 2
            _require(~((prob < 0) | (prob > 1)), self._where, f"has a {self._names['result']} out of range")
        weights = self._floats("weight") if self._names["weight"] else np.ones(rows)
        _require(np.isfinite(weights) & (weights >= 0), self._where, f"has a {self._names['weight']} that is not a number >= 0")
        return prob, weights

    def _floats(self, role: str) -> FloatArray:
        import pyarrow as pa

        try:
            values = self._table[self._names[role]].cast(pa.float64())
        except pa.ArrowException as error:
            raise InputError(f"column {self._names[role]!r} does not hold numbers ({error})", where=self._where) from error
        return np.asarray(values.to_numpy(), np.float64)

    def _ids(self, role: str) -> Any:
        column = self._table[self._names[role]]
        _require(~np.asarray(column.is_null().to_numpy(), bool), self._where, f"has no {self._names[role]}")
        return column


def _codes(column: Any) -> tuple[Any, NDArray[np.int64]]:
    """Different values in order of appearance, and for each row which one it is."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary, np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)


def _require(good: NDArray[np.bool_], where: str, what: str) -> None:
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        place = f"{where}:{row + 2}" if where.endswith(".csv") else f"{where}, row {row}"
        raise InputError(f"this row {what}", where=place, remedy="correct it or leave it out")


def like(source: Any, table: Any) -> Any:
    """Return an Arrow table as the kind of frame that the source is."""
    kind = type(source).__module__.partition(".")[0]
    if kind == "pandas":
        return table.to_pandas()
    if kind == "polars":
        import polars

        return polars.from_arrow(table)
    return table
