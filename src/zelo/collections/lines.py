"""Numbered lines of files that come from outside, the checks on their fields, and the way back to a file."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TextIO, cast

from zelo.errors import InputError

MAX_CHARACTERS = 1_000_000
_BOM = b"\xef\xbb\xbf"
# An id with one of these would break the columns of a TREC file; a lone surrogate cannot be written at all.
_NOT_IN_ID = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def shown(value: object, limit: int = 60) -> str:
    """Return a value as it should appear in a message: quoted, on one line, and short."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def raising(fault: InputError) -> None:
    """Raise it: what most readers do about a bad line."""
    raise fault


def numbered_lines(path: Path, on_fault: Callable[[InputError], None] = raising) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end) of a UTF-8 file, plain or `.gz`, skipping blank lines.

    A byte order mark at the start and CRLF line ends are accepted, as Windows editors write them.

    Args:
        path: the file.
        on_fault: told of a line that holds NUL or is not UTF-8; where it returns, the line is left out.

    Raises:
        InputError: the file cannot be opened or unpacked, or `on_fault` raises.
    """
    try:
        # bytes, not text: a decoding text file reads ahead in blocks and cannot say which line was at fault
        with cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb") as handle:
            for number, raw in enumerate(handle, start=1):
                try:
                    line = _decode(raw.removeprefix(_BOM) if number == 1 else raw, f"{path}:{number}").rstrip("\r\n")
                except InputError as fault:
                    on_fault(fault)
                    continue
                if line and not line.isspace():
                    yield number, line
    except FileNotFoundError:
        raise InputError("no such file", where=str(path), remedy="check the path") from None
    except (OSError, EOFError, zlib.error) as error:  # the last two: a .gz that is cut off or damaged
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot be read ({reason})", where=str(path), remedy="check the file and its permissions") from error


def _decode(raw: bytes, where: str) -> str:
    if b"\x00" in raw:
        what = f"NUL byte at byte {raw.index(0) + 1} of the line"
        raise InputError(what, where=where, remedy="the file is binary, damaged or UTF-16; save it as UTF-8 text")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"not UTF-8 (byte 0x{raw[error.start]:02x} at byte {error.start + 1} of the line)"
        raise InputError(what, where=where, remedy="save the file as UTF-8") from None


def json_objects(path: Path, on_fault: Callable[[InputError], None] = raising) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield (line number from 1, object) of a JSON Lines file; lines that are no object go to `on_fault`, see `numbered_lines`.

    Raises:
        InputError: as `numbered_lines`.
    """
    for number, line in numbered_lines(path, on_fault):
        try:
            row = _json_object(line, f"{path}:{number}")
        except InputError as fault:
            on_fault(fault)
            continue
        yield number, row


def _json_object(line: str, where: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        what = f"not valid JSON ({error.msg} at column {error.colno})"
        raise InputError(what, where=where, remedy="each line must hold one complete JSON object") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets nested as deep
        what = f"JSON that cannot be read ({error})"
        raise InputError(what, where=where, remedy="each line must hold one plain JSON object") from None
    if not isinstance(row, dict):
        what = f"{_json_kind(row)} where a JSON object is expected"
        raise InputError(what, where=where, remedy='write {"_id": ..., "text": ...}')
    return row


def _json_kind(value: object) -> str:
    kinds = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "an array", dict: "an object"}
    return kinds.get(type(value), "null")


def check_id(value: str, where: str, key: str = "_id") -> str:
    """Return an id that is fit for every file of a workspace.

    Raises:
        InputError: it is empty, or holds white space or control characters.
    """
    if not value:
        raise InputError(f"{key} is empty", where=where, remedy="give each row an id of its own")
    if _NOT_IN_ID.search(value):
        what = f"{key} {shown(value)} holds white space or control characters"
        raise InputError(what, where=where, remedy="ids become columns of TREC files; replace these characters, for example with _")
    return value


def id_field(row: Mapping[str, object], where: str, first_lines: dict[str, int], number: int) -> str:
    """Return the `_id` of a row and note its line in `first_lines`.

    Raises:
        InputError: it is missing, no string, unfit (see `check_id`), or was seen before.
    """
    value = row.get("_id")
    if not isinstance(value, str):
        what = "_id is missing" if value is None else f"_id is {_json_kind(value)}, not a string"
        raise InputError(what, where=where, remedy='each line needs "_id", a string')
    row_id = check_id(value, where)
    first = first_lines.setdefault(row_id, number)
    if first != number:
        raise InputError(f"duplicate _id {shown(row_id)}, first on line {first}", where=where, remedy="remove or rename one of the two")
    return row_id


def text_field(row: Mapping[str, object], key: str, where: str, default: str | None = None) -> str:
    """Return a text of a row as it stands; where it is missing or null, `default` unless that is None.

    Raises:
        InputError: it is missing without default, no string, or holds NUL or half of a surrogate pair.
    """
    value = row.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        what = f"{key} is missing" if value is None else f"{key} is {_json_kind(value)}, not a string"
        raise InputError(what, where=where, remedy=f'each line needs "{key}", a string')
    if "\x00" in value:
        what = f"NUL character in {key} at character {value.index(chr(0)) + 1}"
        raise InputError(what, where=where, remedy="it is a sign of binary data; remove it")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        what = f"half of a surrogate pair (\\u{ord(value[error.start]):04x}) in {key} at character {error.start + 1}"
        raise InputError(what, where=where, remedy="the text was cut inside a character; remove it") from None
    return value


def format_number(value: float) -> str:
    """Return the shortest text that reads back as the same number, without a point where it is whole."""
    number = float(value)  # NumPy scalars have another repr
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def json_line(row: Mapping[str, object]) -> str:
    """Return the one canonical line for a row: keys in the order given, characters unescaped, with line end."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_lines(target: Path | TextIO, lines: Iterable[str], header: str = "") -> int:
    """Write lines, which bring their line ends, and return how many, not counting the header.

    A path is written as UTF-8 without translating line ends, so the bytes are the same on every system;
    an open handle stays open.
    """
    if isinstance(target, Path):
        with target.open("w", encoding="utf-8", newline="\n") as handle:
            return write_lines(handle, lines, header)
    target.write(header)
    count = 0
    for line in lines:
        target.write(line)
        count += 1
    return count
