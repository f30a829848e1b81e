"""Rows of tables as people keep them: JSON Lines, JSON, CSV, TSV, Parquet and Arrow files, one at a time, each with its place."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from zelo.collections.decoding import read_text
from zelo.collections.lines import json_objects, shown
from zelo.errors import InputError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
"""Names of files that are tables, `.jsonl`, `.ndjson`, `.csv` and `.tsv` also packed (`.gz`)."""

_BATCH = 1000
_MOST_CELL = 50_000_000  # characters; the csv module's own limit, 131,072, is less than a page of some manuals


def suffix_of(path: Path) -> str:
    """Return the suffix in lower case, that of the packed file for `.gz`."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def rows_of(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield (`file:row`, columns) of a table, rows counted from 1 as an editor counts lines where the file has any.

    Raises:
        InputError: not readable, or of no known kind.
    """
    suffix = suffix_of(path)
    if suffix in (".jsonl", ".ndjson"):
        yield from ((f"{path}:{number}", row) for number, row in json_objects(path))
    elif suffix == ".json":
        yield from _json(path)
    elif suffix in (".csv", ".tsv"):
        yield from _csv(path, "\t" if suffix == ".tsv" else "")
    elif suffix in (".parquet", ".arrow"):
        yield from _columns(path, suffix)
    else:
        raise InputError(f"{suffix or 'a name without suffix'} is no table", where=str(path), remedy=f"give one of {', '.join(SUFFIXES)}")


def _json(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """A list of objects, or else lines of them."""
    text = read_text(path)[0].lstrip()
    if not text.startswith("["):
        yield from ((f"{path}:{number}", row) for number, row in json_objects(path))
        return
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON ({error})", where=str(path), remedy="write a list of objects, or one object per line") from error
    for number, row in enumerate(items, 1):
        if not isinstance(row, dict):
            raise InputError("not an object", where=f"{path}[{number}]", remedy="write a list of objects")
        yield f"{path}[{number}]", row


def _csv(path: Path, delimiter: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    text = read_text(path)[0]
    csv.field_size_limit(_MOST_CELL)
    if not delimiter:
        head = text.split("\n", 1)[0]
        delimiter = max(",;\t|", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = [name.strip() for name in next(reader, [])]
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                what = f"{len(cells)} columns where the header has {len(header)}"
                raise InputError(
                    what, where=f"{path}:{reader.line_num}", remedy="put texts that hold the delimiter or line ends in double quotes"
                )
            yield f"{path}:{reader.line_num}", dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InputError(f"not CSV ({error})", where=f"{path}:{reader.line_num}", remedy="save it again as CSV, UTF-8") from error


def _columns(path: Path, suffix: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Parquet, or Arrow's stream and file formats (a data set that the library `datasets` saved is made of streams)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        number = 0
        if suffix == ".parquet":
            batches = pq.ParquetFile(path).iter_batches(_BATCH)
        else:
            source = pa.memory_map(str(path))
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            if is_file:
                file = pa.ipc.open_file(source)
                batches = (file.get_batch(i) for i in range(file.num_record_batches))
            else:
                batches = iter(pa.ipc.open_stream(source))
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"not readable as {suffix[1:]} ({error})", where=str(path), remedy="write the file again") from error


def choose_column(columns: Sequence[str], names: Sequence[str], asked: str, what: str, where: str) -> str | None:
    """Return which column is meant: the one asked for, else the first known name that is there (case is ignored), else None.

    Raises:
        InputError: the one asked for is not there.
    """
    if asked:
        if asked not in columns:
            raise InputError(f"no column {shown(asked)} for {what}", where=where, remedy=f"there are: {', '.join(columns)}")
        return asked
    lower = {column.lower(): column for column in reversed(columns)}
    return next((lower[name] for name in names if name in lower), None)


def cell_text(value: object) -> str | None:
    """Return a cell as a text: null is None, a list of texts is their lines, numbers as they are written."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
