"""Rows of tables as people keep them: JSON Lines, JSON, CSV, TSV, Parquet and Arrow files, one at a time, each with its place."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path

from zelo.collections.decoding import read_text
from zelo.collections.lines import json_objects, raising, shown
from zelo.errors import InputError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
"""Names of files that are tables, `.jsonl`, `.ndjson`, `.csv` and `.tsv` also packed (`.gz`)."""

_BATCH = 1000
_BARE = ("id", "text")
_HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair: JSON may hold one, no file can be written with it
_MOST_CELL = 50_000_000  # characters; the csv module's own limit, 131,072, is less than a page of some manuals


def suffix_of(path: Path) -> str:
    """Return the suffix in lower case, that of the packed file for `.gz`."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def rows_of(
    path: Path, on_fault: Callable[[InputError], None] = raising, known: Container[str] = ()
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield (`file:row`, columns) of a table, rows counted from 1 as an editor counts lines where the file has any.

    Args:
        path: the file.
        on_fault: told of a row that cannot be read; where it returns, the row is left out.
        known: names, in lower case, of which a header has one. A `.tsv` of two columns whose first line has none of them is taken for
            rows without a header, as MS MARCO and TREC write them, unquoted: its columns are `id` and `text`.

    Raises:
        InputError: the file cannot be read (on), is of no known kind, or `on_fault` raises.
    """
    suffix = suffix_of(path)
    if suffix in (".jsonl", ".ndjson"):
        yield from ((f"{path}:{number}", row) for number, row in json_objects(path, on_fault))
    elif suffix == ".json":
        yield from _json(path, on_fault)
    elif suffix in (".csv", ".tsv"):
        yield from _csv(path, "\t" if suffix == ".tsv" else "", on_fault, known)
    elif suffix in (".parquet", ".arrow"):
        yield from _columns(path, suffix)
    else:
        raise InputError(f"{suffix or 'a name without suffix'} is no table", where=str(path), remedy=f"give one of {', '.join(SUFFIXES)}")


def _json(path: Path, on_fault: Callable[[InputError], None]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """A list of objects, or else lines of them."""
    text = read_text(path)[0].lstrip()
    if not text.startswith("["):
        yield from ((f"{path}:{number}", row) for number, row in json_objects(path, on_fault))
        return
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON ({error})", where=str(path), remedy="write a list of objects, or one object per line") from error
    for number, row in enumerate(items, 1):
        if not isinstance(row, dict):
            on_fault(InputError("not an object", where=f"{path}[{number}]", remedy="write a list of objects"))
            continue
        yield f"{path}[{number}]", row


def _csv(
    path: Path, delimiter: str, on_fault: Callable[[InputError], None], known: Container[str]
) -> Iterator[tuple[str, Mapping[str, object]]]:
    text = read_text(path)[0]
    csv.field_size_limit(_MOST_CELL)
    head = text.split("\n", 1)[0]
    first = [name.strip().strip('"').lower() for name in head.split("\t")]
    is_bare = delimiter == "\t" and len(first) == len(_BARE) and known != () and not any(name in known for name in first)
    if not delimiter:
        delimiter = max(",;\t|", key=head.count)
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE) if is_bare else csv.reader(lines, delimiter=delimiter)
    try:
        header = [*_BARE] if is_bare else [name.strip() for name in next(reader, [])]
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                what = f"{len(cells)} columns where the {'first line' if is_bare else 'header'} has {len(header)}"
                remedy = "put texts that hold the delimiter or line ends in double quotes"
                on_fault(InputError(what, where=f"{path}:{reader.line_num}", remedy=remedy))
                continue
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


def whole_characters(text: str) -> str:
    """Return a text in which halves of surrogate pairs, which no file can hold, are replacement characters."""
    return _HALF.sub("\ufffd", text)


def cell_text(value: object) -> str | None:
    """Return a cell as a text: null is None, a list of texts is their lines, numbers as they are written."""
    if isinstance(value, str):
        return whole_characters(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return whole_characters("\n".join(value))
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
