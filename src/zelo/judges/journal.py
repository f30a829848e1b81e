"""The journal: every attempt to get a judgment, as it arrives. Paid work is never asked twice and never lost.

SQLite in WAL mode, one row per attempt. What counts as asked before is (judge, prompt_id, query_id, content), where content
identifies the query's and the two texts' characters and their order: a changed document is a new question.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from zelo.errors import InputError, WorkspaceError
from zelo.judges import Answer, Comparison

_SCHEMA = """
CREATE TABLE IF NOT EXISTS attempts (
    judge TEXT NOT NULL, prompt_id TEXT NOT NULL, content BLOB NOT NULL, query_id TEXT NOT NULL,
    preference REAL, status TEXT NOT NULL, reasoning TEXT NOT NULL, tokens INTEGER NOT NULL, cost REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS by_judge ON attempts (judge, prompt_id, query_id);
"""


class Journal:
    """An open journal file; a context manager. Committed answers survive a kill at any moment."""

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            InputError: the file is not a journal.
            WorkspaceError: it cannot be read or written.
        """
        self._path = path
        with _refusals(path):
            self._database = sqlite3.connect(path)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(_SCHEMA)

    def __enter__(self) -> Journal:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file."""
        self._database.close()

    def answers(self, judge: str, prompt_id: str, query_id: str) -> dict[bytes, Answer]:
        """Return content -> usable answer of a query's comparisons; failed attempts are not answers."""
        rows = self._database.execute(
            "SELECT content, preference, status, reasoning, tokens, cost FROM attempts"
            " WHERE judge = ? AND prompt_id = ? AND query_id = ? AND preference IS NOT NULL",
            (judge, prompt_id, query_id),
        )
        return {content: Answer(*rest) for content, *rest in rows}

    def add(self, judge: str, prompt_id: str, query_id: str, answers: Iterable[tuple[bytes, Answer]]) -> None:
        """Keep answers, usable or not, in one transaction."""
        rows = [(judge, prompt_id, c, query_id, a.preference, a.status, a.reasoning, a.tokens, a.cost) for c, a in answers]
        with _refusals(self._path), self._database:
            self._database.executemany("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def cost(self, judge: str, prompt_id: str) -> float:
        """Return what all attempts of a judge have cost, failed ones and those of earlier runs included, in US dollars."""
        query = "SELECT COALESCE(SUM(cost), 0) FROM attempts WHERE judge = ? AND prompt_id = ?"
        (total,) = self._database.execute(query, (judge, prompt_id)).fetchone()
        return float(total)


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:  # a full disk, no right to write, another process
        raise WorkspaceError(f"the journal cannot be written ({error})", where=str(path), remedy="check free space and rights") from error
    except sqlite3.DatabaseError as error:
        raise InputError(f"not a journal ({error})", where=str(path), remedy="move it away; paid judgments in it are not read") from error


def contents(comparisons: Sequence[Comparison]) -> list[bytes]:
    """Return the identity, 16 bytes, of what each comparison shows."""
    known: dict[str, bytes] = {}

    def digest(text: str) -> bytes:
        if text not in known:
            known[text] = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return known[text]

    return [hashlib.blake2b(digest(c.query) + digest(c.first) + digest(c.second), digest_size=16).digest() for c in comparisons]
