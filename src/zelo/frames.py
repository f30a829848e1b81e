"""Tables of any kind, as the fit takes them and back: for `zelo.tables`."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from zelo.errors import InputError

FloatArray = NDArray[np.float64]

_WON = ("winner", "loser")
_PAIRS = (("doc_id_a", "doc_id_b"), ("first", "second"), _WON)
_RESULTS = ("prob_a", "prob_first", "result", "preference")
_GROUPS = ("query_id", "group")
_WEIGHTS = ("weight", "n_judges")
_NO_NUMBER = ("", "na", "n/a", "null", "none")


class Problem:
    """A table of preferences as the fit takes it, and the way back from numbers to names."""

    def __init__(self, preferences: Any, named: Mapping[str, str | None]) -> None:
        import pyarrow as pa

        from zelo.core.paired_comparison import Batch

        table, where = read_frame(preferences)
        columns = _Columns(table, where, _find_columns(table.column_names, where, named))
        prob, weights, slope, offset = columns.numbers()
        self.groups: Any = None
        row_group = np.zeros(table.num_rows, np.int64)
        if columns.group is not None:
            self.groups, row_group = _codes(columns.group)
        self._group_name = columns.group_name
        both = [*columns.first.chunks, *columns.second.chunks]
        self._items, codes = _codes(pa.chunked_array(both, type=columns.first.type))
        ends = codes.reshape(2, -1)
        columns.require(ends[0] != ends[1], "compares an item with itself")
        width = max(len(self._items), 1)
        known, place = np.unique(row_group * width + ends, return_inverse=True)
        self.group_of, self._item_of = known // width, known % width
        count = len(self.groups) if self.groups is not None else 1
        self.starts = np.searchsorted(known, np.arange(count + 1) * width)
        order = np.argsort(row_group, kind="stable")
        local = (place.reshape(2, -1) - self.starts[row_group])[:, order].astype(np.int32)
        rows = np.searchsorted(row_group[order], np.arange(count + 1))
        documents = np.diff(self.starts).astype(np.int32)
        weights, slope, offset = weights[order], None if slope is None else slope[order], None if offset is None else offset[order]
        self.batch = Batch(documents, rows, local[0], local[1], prob[order], weights, slope, offset, names=self.group_names())

    def group_names(self) -> list[str] | None:
        """Return what the groups are called, None where all rows are one."""
        return [str(g) for g in self.groups.to_pylist()] if self.groups is not None else None

    def components(self) -> NDArray[np.int32]:
        """Return each item's component of its group's comparisons: 0 is the largest, of equally large ones the first."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        batch, total = self.batch, len(self.group_of)
        weight, slope = (1.0 if column is None else np.asarray(column) for column in (batch.weight, batch.slope))
        seen = ~np.isnan(np.asarray(batch.prob_first)) & (weight * slope != 0.0)
        begin = np.repeat(self.starts[:-1], np.diff(np.asarray(batch.rows)))
        ends = [(np.asarray(column) + begin)[seen] for column in (batch.first, batch.second)]
        _, label = connected_components(coo_array((np.ones(len(ends[0])), (ends[0], ends[1])), shape=(total, total)), directed=False)
        _, found, size = np.unique(label, return_index=True, return_counts=True)
        group = self.group_of[found]
        order = np.lexsort((found, -size, group))
        number = np.empty(len(found), np.int32)
        number[order] = np.arange(len(found)) - np.searchsorted(group[order], group[order])
        return number[label] if total else number

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
    if type(source).__name__ == "LazyFrame":
        raise InputError("a LazyFrame holds no rows yet", remedy="call .collect() on it")
    try:
        if isinstance(source, np.ndarray) and source.ndim == 2 and source.shape[1] in (2, 3):
            names = ("winner", "loser") if source.shape[1] == 2 else ("first", "second", "result")
            columns = {name: source[:, i] for i, name in enumerate(names)}
            if "result" in columns:
                columns["result"] = columns["result"].astype(np.float64)
            return pa.table(columns), "the array"
        if isinstance(source, Mapping):
            return pa.table({str(name): pa.array(values, from_pandas=True) for name, values in source.items()}), "the table"
        return pa.table(source), "the table"
    except (pa.ArrowException, OverflowError) as error:
        remedy = "give columns of equal length, each of one type; ids as strings"
        raise InputError(f"the columns cannot be taken ({error})", where="the table", remedy=remedy) from error
    except (TypeError, ValueError, AttributeError) as error:
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
        ".csv": _read_csv,
        ".jsonl": pyarrow.json.read_json,
        ".parquet": pyarrow.parquet.read_table,
    }
    if path.suffix not in readers:
        raise InputError(f"no reader for {path.suffix or 'a file without suffix'}", where=str(path), remedy=f"use {', '.join(readers)}")
    try:
        return readers[path.suffix](path)
    except (OSError, csv.Error, UnicodeDecodeError, pa.ArrowException) as error:
        if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error):
            raise InputError("not UTF-8", where=str(path), remedy="save it as UTF-8") from error
        raise InputError(f"cannot be read ({error})", where=str(path)) from error


def _read_csv(path: Path) -> Any:
    """Read every column as strings: 007 is an id, not 7."""
    import pyarrow as pa
    import pyarrow.csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next((row for row in csv.reader(file) if row), [])
    strings = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()))
    return pyarrow.csv.read_csv(path, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True), convert_options=strings)


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
    usual = {"result": _RESULTS, "group": _GROUPS, "weight": _WEIGHTS, "slope": ("slope",), "offset": ("offset",)}
    for role, names in usual.items():
        chosen[role] = named.get(role) or next((name for name in names if name in known and name not in pair), "")
    if not chosen["result"] and pair != _WON:
        chosen["result"] = "winner" if "winner" in known and "winner" not in pair else ""
        if not chosen["result"]:
            remedy = "name the column of results, result=..., or call the columns of items winner and loser"
            raise InputError("no column says which item was better", where=where, remedy=remedy)
    twice = next((name for name in chosen.values() if name and known.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"several columns are called {twice!r}", where=where, remedy="rename all but one")
    return chosen


class _Columns:
    """The columns that matter, found by name."""

    def __init__(self, table: Any, where: str, names: Mapping[str, str]) -> None:
        self._table, self._where, self._names = table, where, names
        self.first, self.second = self._alike(self._ids("first"), self._ids("second"), "first", "second")
        self.group_name = names["group"]
        self.group = self._ids("group") if self.group_name else None

    def numbers(self) -> tuple[FloatArray, FloatArray, FloatArray | None, FloatArray | None]:
        """Return P(first is better) [m], NaN where missing, weights [m], and slopes and offsets [m] where there are such columns."""
        prob = self._results()
        missing = np.isnan(prob)
        weights = self._floats("weight") if self._names["weight"] else np.ones(len(prob))
        self.require(missing | (np.isfinite(weights) & (weights >= 0)), f"has a {self._names['weight']} that is not a number >= 0")
        extra: list[FloatArray | None] = []
        for role, default in (("slope", 1.0), ("offset", 0.0)):
            values = self._floats(role) if self._names[role] else None
            if values is not None:
                self.require(missing | np.isfinite(values), f"has a {role} that is not a finite number")
                values = np.where(missing, default, values)
            extra.append(values)
        return prob, np.where(missing, 0.0, weights), extra[0], extra[1]

    def require(self, good: NDArray[np.bool_], what: str) -> None:
        """Refuse the first row that is not good."""
        if not good.all():
            row = int(np.flatnonzero(~good)[0])
            raise InputError(f"this row {what}", where=self._place(row), remedy="correct it or leave it out")

    def _place(self, row: int) -> str:
        if not self._where.endswith(".csv"):
            return f"{self._where}, row {row}"
        # A blank line or a line break within quotes adds lines; where there is none, row and line go together.
        lines = len(Path(self._where).read_bytes().splitlines())
        return f"{self._where}:{row + 2}" if lines == self._table.num_rows + 1 else f"{self._where}, data row {row + 1}"

    def _results(self) -> FloatArray:
        name = self._names["result"]
        if not name:
            return np.ones(self._table.num_rows)
        if name == "winner":
            return self._winners()
        prob = self._floats("result")
        if name == "preference":
            prob = (1 + prob) / 2
        self.require(~((prob < 0) | (prob > 1)), f"has a {name} out of range")
        return prob

    def _winners(self) -> FloatArray:
        """Return 1 where the winner is the first, 0 where it is the second, NaN where there is none."""
        import pyarrow.compute as pc

        winner = self._plain("result")
        missing = self._is_missing(winner)
        prob = np.full(self._table.num_rows, np.nan)
        for end, role, value in ((self.first, "first", 1.0), (self.second, "second", 0.0)):
            won = pc.equal(*self._alike(winner, end, "result", role))
            prob[np.asarray(won.fill_null(False).to_numpy(), bool)] = value
        self.require(missing | ~np.isnan(prob), "has a winner that is neither of its two items")
        return np.where(missing, np.nan, prob)

    def _floats(self, role: str) -> FloatArray:
        import pyarrow as pa
        import pyarrow.compute as pc

        values = self._plain(role)
        if pa.types.is_large_string(values.type):
            text = pc.utf8_lower(pc.utf8_trim_whitespace(values))
            values = pc.if_else(pc.is_in(text, pa.array(_NO_NUMBER, text.type)), pa.scalar(None, text.type), text)
            values = pc.replace_substring_regex(pc.replace_substring_regex(values, "^true$", "1"), "^false$", "0")
        try:
            values = values.cast(pa.float64())
        except pa.ArrowException as error:
            what = f"column {self._names[role]!r} does not hold numbers ({error})"
            raise InputError(what, where=self._where, remedy="write numbers, or name another column") from error
        return np.asarray(values.to_numpy(), np.float64)

    def _ids(self, role: str) -> Any:
        import pyarrow as pa

        column = self._plain(role)
        if pa.types.is_nested(column.type):
            what = f"column {self._names[role]!r} holds {column.type}, not ids"
            raise InputError(what, where=self._where, remedy="give ids as strings or numbers")
        self.require(~self._is_missing(column), f"has no {self._names[role]}")
        return column

    def _is_missing(self, column: Any) -> NDArray[np.bool_]:
        import pyarrow as pa
        import pyarrow.compute as pc

        missing = np.asarray(column.is_null(nan_is_null=True).to_numpy(), bool)
        if pa.types.is_large_string(column.type):
            missing |= np.asarray(pc.equal(column, "").fill_null(True).to_numpy(), bool)
        return missing

    def _plain(self, role: str) -> Any:
        """Return a column with its values instead of a dictionary's numbers, strings of one type."""
        import pyarrow as pa

        column = self._table[self._names[role]]
        if pa.types.is_dictionary(column.type):  # categories
            values = [_viewless(pa.chunked_array([c.dictionary])).combine_chunks().take(c.indices) for c in column.chunks]
            column = pa.chunked_array(values) if values else column.cast(column.type.value_type)
        return _viewless(column)

    def _alike(self, one: Any, other: Any, role: str, other_role: str) -> tuple[Any, Any]:
        """Return two columns of ids as one type: 7 and 7.0 are the same id, 7 and "7" are not."""
        import pyarrow as pa

        for kind in [one.type] if one.type == other.type else _common_types(one.type, other.type):
            with contextlib.suppress(pa.ArrowException):  # not all of its values: the next type may
                return one.cast(kind), other.cast(kind)
        pair = f"{self._names[role]!r} holds {one.type} and {self._names[other_role]!r} {other.type}"
        raise InputError(f"columns differ in type: {pair}", where=self._where, remedy="give the ids of both as strings")


def _viewless(column: Any) -> Any:
    """Return strings and bytes as one type each; Arrow cannot take rows of views, which polars hands over."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    return column.cast(pa.large_binary()) if pa.types.is_binary(kind) or pa.types.is_binary_view(kind) else column


def _common_types(one: Any, other: Any) -> list[Any]:
    """Return the types, best first, that may hold ids of both types."""
    import pyarrow as pa

    if pa.types.is_null(one) or pa.types.is_null(other):
        return [other if pa.types.is_null(one) else one]
    numbers = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (one, other)]
    return [pa.int64(), pa.uint64(), pa.float64()] if all(numbers) else []


def _codes(column: Any) -> tuple[Any, NDArray[np.int64]]:
    """Different values in order of appearance, and for each row which one it is."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary, np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)


def like(source: Any, table: Any) -> Any:
    """Return an Arrow table as the kind of frame that the source is."""
    kind = type(source).__module__.partition(".")[0]
    if kind == "pandas":
        return table.to_pandas()
    if kind == "polars":
        import polars

        return polars.from_arrow(table)
    return table
