"""The log of a live system: one search per line, as JSON of our own or as OpenTelemetry spans.

A line that cannot be read is skipped, counted, and named by file and line. What comes after the last line end is still being written.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from zelo.errors import InputError

MOST_CHARACTERS = 1_000_000
"""Of a line's query and of a returned text."""
_QUERY = ("gen_ai.retrieval.query.text", "reranker.query", "input.value")
_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6))
_INDEXED = re.compile(r"(retrieval\.documents|reranker\.(?:input|output)_documents)\.(\d+)\.document\.(id|score|content)")


@dataclass(frozen=True, slots=True)
class Returned:
    """A document that a search returned. `text` is there where the log has it."""

    doc_id: str
    score: float | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """One search of the live system.

    Attributes:
        place: file and line.
        time: when, in UTC.
        query: its words.
        returned: what the user was shown, best first.
        candidates: what the first stage gave to the reranker; None = not logged.
        clicks: what the user opened; None = not logged.
        expected: what should have been found, as somebody says who knows.
        customer: whose search it was; "" = nobody's in particular.
        criterion: what counts for this customer, as the line has it.
        context: what this customer's documents are, as the line has it.
    """

    place: str
    time: datetime
    query: str
    returned: tuple[Returned, ...]
    candidates: tuple[str, ...] | None = None
    clicks: tuple[str, ...] | None = None
    expected: tuple[str, ...] = ()
    customer: str = ""
    criterion: str = ""
    context: str = ""

    @property
    def identity(self) -> bytes:
        """What says that two lines tell of the same search: its time, its words, whose it was, and what was returned."""
        told = [self.time.isoformat(), self.query, self.customer, *(doc.doc_id for doc in self.returned)]
        return hashlib.blake2b("\0".join(told).encode(), digest_size=16).digest()

    @property
    def day(self) -> str:
        """The day in UTC, as 2026-03-01."""
        return self.time.date().isoformat()

    @property
    def margin(self) -> float | None:
        """Score of the first document less that of the second; None where they are not logged."""
        if len(self.returned) < 2:
            return None
        first, second = self.returned[0].score, self.returned[1].score
        return None if first is None or second is None else first - second


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log: where it begins and ends in bytes, its number, and the searches on it or what is wrong with it."""

    start: int
    end: int
    number: int
    searches: tuple[Search, ...] = ()
    fault: str = ""


def read_log(path: Path, offset: int = 0, number: int = 0) -> Iterator[Line]:
    """Yield the lines from a byte on, of which the first has `number` + 1; blank ones are left out.

    Raises:
        InputError: the file cannot be opened or unpacked.
    """
    with readable(path), open_log(path) as handle:
        handle.seek(offset)
        start = offset
        for count, raw in enumerate(handle, number + 1):
            end = start + len(raw)
            if not raw.endswith(b"\n"):
                return  # still being written
            if raw.strip():
                yield _line(raw, start, end, count, f"{path.name}:{count}")
            start = end


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise InputError where a log cannot be opened or unpacked."""
    try:
        yield
    except FileNotFoundError:
        raise InputError("no such file", where=str(path), remedy="check the path") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot be read ({reason})", where=str(path), remedy="check the file and its permissions") from error


def open_log(path: Path) -> IO[bytes]:
    """Open a log as its bytes are unpacked."""
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _line(raw: bytes, start: int, end: int, number: int, place: str) -> Line:
    try:
        row = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
        if not isinstance(row, dict):
            raise _Fault("no JSON object")
        return Line(start, end, number, tuple(_searches(row, place)))
    except _Fault as fault:
        return Line(start, end, number, fault=str(fault))
    except UnicodeDecodeError:
        return Line(start, end, number, fault="not UTF-8")
    except (ValueError, RecursionError) as error:
        return Line(start, end, number, fault=f"not JSON ({getattr(error, 'msg', error)})")
    except (KeyError, TypeError, AttributeError):  # nesting that is not OTLP's
        return Line(start, end, number, fault="spans of an unknown form")


class _Fault(Exception):
    """What is wrong with a line."""


def _searches(row: Mapping[str, Any], place: str) -> Iterator[Search]:
    spans = list(_spans(row))
    if not spans and "query" not in row:
        raise _Fault('needs "query", or the attributes of a span')
    if not spans:
        yield _search(row, place)
    for span in spans:
        found = _from_span(span)
        if found is not None:  # spans of other things lie in the same files
            yield _search(found, place)


def _search(row: Mapping[str, Any], place: str) -> Search:
    returned = _list(row, "results")
    if returned is None:
        raise _Fault('needs "results", a list (empty if nothing was found)')
    query = _text(row, "query")
    if not query.strip():
        raise _Fault("query is empty")
    candidates, clicks = (_ids(row, key) for key in ("candidates", "clicks"))
    kept: dict[str, Returned] = {}
    for item in map(_returned, returned):
        kept.setdefault(item.doc_id, item)  # a document that is returned twice was seen at its first place
    return Search(
        place,
        _time(row.get("time")),
        query,
        tuple(kept.values()),
        candidates,
        clicks,
        _ids(row, "expected") or (),
        *(_text(row, key, "") for key in ("customer", "criterion", "context")),
    )


def _text(row: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = row.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise _Fault(f"{key} is no string")
    return _storable(value, key)


def _storable(value: str, key: str) -> str:
    if len(value) > MOST_CHARACTERS:
        raise _Fault(f"{key} has more than {MOST_CHARACTERS:,} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Fault(f"{key} holds half of a surrogate pair") from None
    return value


def _list(row: Mapping[str, Any], key: str) -> Sequence[Any] | None:
    value = row.get(key)
    if isinstance(value, str):  # OpenTelemetry's way to put structure into an attribute
        value = json.loads(value)
    if value is not None and not isinstance(value, list):
        raise _Fault(f"{key} is no list")
    return value


def _ids(row: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    found = _list(row, key)
    return None if found is None else tuple(dict.fromkeys(_returned(item).doc_id for item in found))


def _returned(item: Any) -> Returned:
    if isinstance(item, str):
        return Returned(_storable(item, "a document's id"))
    if not isinstance(item, dict):
        raise _Fault("a document is neither an id nor an object")
    doc_id = item.get("doc_id", item.get("id"))
    if isinstance(doc_id, int) and not isinstance(doc_id, bool):
        doc_id = str(doc_id)
    if not isinstance(doc_id, str) or not doc_id:
        raise _Fault("a document has no doc_id")
    score = item.get("score")
    if score is not None and not _finite(score):
        raise _Fault(f"the score of {doc_id!r} is no finite number")
    text = f"{_text(item, 'title', '')} {_text(item, 'text', '')}".strip() if "text" in item else None
    return Returned(_storable(doc_id, "a document's id"), None if score is None else float(score), text)


def _finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def _time(value: Any) -> datetime:
    try:
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            # Seconds, or by their size milli-, micro- or nanoseconds (JavaScript, Java, OpenTelemetry): the years 1973 to 5138 in each.
            unit = next((unit for most, unit in _UNITS if abs(value) < most), 1e9)
            return datetime.fromtimestamp(value / unit, UTC)
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise _Fault('needs "time": ISO 8601 (UTC if it names no zone), or seconds since 1970 (milli-, micro- and nanoseconds too)')


def _spans(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the spans of a line: of OTLP's JSON, or one span by itself."""
    if "resourceSpans" in row:
        for resource in row["resourceSpans"]:
            for scope in resource.get("scopeSpans", ()):
                yield from scope.get("spans", ())
    elif "attributes" in row:
        yield row


def _from_span(span: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a span's attributes as a line of ours, or None if it is no search."""
    given = span.get("attributes")
    if isinstance(given, list):  # OTLP: key and typed value
        given = {item["key"]: _value(item.get("value", {})) for item in given if isinstance(item, dict) and "key" in item}
    if not isinstance(given, dict):
        raise _Fault("attributes are no object")
    lists: dict[str, dict[int, dict[str, Any]]] = {}
    for key, value in given.items():
        if found := _INDEXED.fullmatch(key):
            name = {"content": "text"}.get(found[3], found[3])
            lists.setdefault(found[1], {}).setdefault(int(found[2]), {})[name] = value
    documents = {name: [items[i] for i in sorted(items)] for name, items in lists.items()}
    results = documents.get("reranker.output_documents", documents.get("retrieval.documents", given.get("gen_ai.retrieval.documents")))
    query = next((given[key] for key in _QUERY if key in given), None)
    if results is None or query is None:
        return None
    time = next((span[key] for key in ("startTimeUnixNano", "start_time", "time") if key in span), None)
    row = {"query": query, "results": results, "time": time, "candidates": documents.get("reranker.input_documents")}
    names = ("candidates", "clicks", "expected", "customer", "criterion", "context")
    return row | {name: given[f"zelo.{name}"] for name in names if f"zelo.{name}" in given}


def _value(value: Mapping[str, Any]) -> Any:
    """Return a typed value of OTLP's JSON, whose 64-bit integers are strings."""
    for kind, found in value.items():
        if kind == "arrayValue":
            return [_value(item) for item in found.get("values", ())]
        if kind == "kvlistValue":
            return {item["key"]: _value(item.get("value", {})) for item in found.get("values", ())}
        return int(found) if kind == "intValue" else found
    return None
