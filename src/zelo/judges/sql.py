"""`zelo sql`: questions to the journal in SQL, over views with names in place of numbers."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Literal

from zelo.errors import InputError, WorkspaceError
from zelo.judges.journal import STATUSES, Journal, unpacked

_STATUS = f"CASE a.status {' '.join(f'WHEN {n} THEN {status!r}' for n, status in enumerate(STATUSES))} END"
_VIEWS = f"""
CREATE TEMP VIEW attempts AS
SELECT a.id, j.judge, j.prompt_id, q.name AS query_id, f.name AS first, s.name AS second, p.name AS second_query_id, a.preference,
    {_STATUS} AS status, a.input_tokens, a.output_tokens, a.cost, a.seconds, n.text AS note, g.text AS flags,
    strftime('%Y-%m-%dT%H:%M:%fZ', a.arrived / 1e6, 'unixepoch') AS arrived, a.question
FROM main.attempts a JOIN main.judges j ON j.id = a.judge JOIN main.questions k ON k.id = a.question JOIN main.texts q ON q.id = k.query
    JOIN main.texts f ON f.id = k.first JOIN main.texts s ON s.id = k.second LEFT JOIN main.texts p ON p.id = k.second_query
    JOIN main.words n ON n.id = a.note JOIN main.words g ON g.id = a.flags;
CREATE TEMP VIEW answers AS SELECT * FROM temp.attempts WHERE id IN
    (SELECT MIN(id) FROM main.attempts WHERE status = 0 AND preference IS NOT NULL GROUP BY judge, question);
CREATE TEMP VIEW reasonings AS SELECT attempt, unpacked(text) AS reasoning FROM main.reasonings;
CREATE TEMP VIEW judges AS
SELECT j.judge, j.prompt_id, COUNT(a.id) AS attempts,
    COUNT(DISTINCT CASE WHEN a.preference IS NOT NULL THEN a.question END) AS answered,
    COUNT(DISTINCT a.question) - COUNT(DISTINCT CASE WHEN a.preference IS NOT NULL THEN a.question END) AS missing,
    COALESCE(SUM(a.input_tokens), 0) AS input_tokens, COALESCE(SUM(a.output_tokens), 0) AS output_tokens,
    COALESCE(SUM(a.cost), 0.0) AS cost, AVG(a.seconds) AS seconds
FROM main.judges j LEFT JOIN main.attempts a ON a.judge = j.id GROUP BY j.id;
CREATE TEMP VIEW batches AS
SELECT j.judge, j.prompt_id, b.name, b.state, strftime('%Y-%m-%dT%H:%M:%fZ', b.submitted / 1e6, 'unixepoch') AS submitted,
    (SELECT COUNT(*) FROM main.batch_questions q WHERE q.batch = b.id) AS questions
FROM main.batches b JOIN main.judges j ON j.id = b.judge;
"""
_MAY_READ = {
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
}  # fmt: skip
_PRAGMAS = {"table_info", "table_xinfo", "table_list", "index_list"}  # others can write, even in a database opened for reading
_SAMPLE = 1000  # rows that column widths are taken from

Form = Literal["table", "csv", "json"]
Row = tuple[object, ...]


def query(path: Path, statement: str, form: Form = "table") -> Iterator[str]:
    """Ask a journal and yield lines of text. It may be in use by a run.

    Views: `attempts` (every attempt, with names), `answers` (the usable one that counts of every question), `judges` (sums),
    `reasonings` (attempt, reasoning), `batches`. `first` and `second` are the documents in the order shown, and preference > 0 means
    that the first is better. A text goes by the id that it was first seen with.

    Args:
        path: the journal.
        statement: one SELECT.
        form: "table", "csv", or "json" (one object per line).

    Raises:
        InputError: there is no journal, or the statement is faulty or would change something.
    """
    if not path.is_file():
        raise WorkspaceError("no judgments yet", where=str(path.parent), remedy=f"run `zelo run {path.parent}`")
    with closing(_opened(path)) as database:
        try:
            rows = database.execute(statement)
            if rows.description is None:
                raise InputError("there is no question", where="SQL", remedy="such as: select * from judges")
            names = [column[0] for column in rows.description]
            yield from _FORMS[form](names, rows)
        except (sqlite3.Error, sqlite3.Warning) as error:
            what = "zelo sql only reads" if re.search("authoriz|prohibited|readonly", str(error)) else str(error)
            remedy = "views: attempts, answers, judges, reasonings, batches; their columns: select * from attempts limit 1"
            raise InputError(what, where="SQL", remedy=remedy) from error


def _opened(path: Path) -> sqlite3.Connection:
    with Journal(path):  # a clear word about what is no journal, or of another version
        pass
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    database.create_function("unpacked", 1, unpacked, deterministic=True)
    database.executescript(_VIEWS)
    database.set_authorizer(_authorize)
    return database


def _authorize(action: int, first: str | None, *_: str | None) -> int:
    reads = action in _MAY_READ or (action == sqlite3.SQLITE_PRAGMA and (first or "").lower() in _PRAGMAS)
    return sqlite3.SQLITE_OK if reads else sqlite3.SQLITE_DENY


def _table(names: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    rows = iter(rows)
    first = list(islice(rows, _SAMPLE))
    shown = [[_cell(value) for value in row] for row in first]
    widths = [max([len(name), *(len(row[i]) for row in shown)]) for i, name in enumerate(names)]
    right = [any(isinstance(row[i], int | float) for row in first) for i in range(len(names))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)).rstrip()

    yield line(names)
    yield "  ".join("-" * width for width in widths)
    yield from map(line, shown)
    for row in rows:
        yield line([_cell(value) for value in row])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    text = f"{value:.6g}" if isinstance(value, float) else str(_plain(value))
    return "".join(c if c.isprintable() else " " for c in text)


def _csv(names: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    for row in chain([names], rows):
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(["" if value is None else _plain(value) for value in row])
        yield text.getvalue()


def _json(names: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        values = (None if isinstance(value, float) and not math.isfinite(value) else _plain(value) for value in row)
        yield json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False, allow_nan=False)


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


_FORMS = {"table": _table, "csv": _csv, "json": _json}
