"""What a journal knows of a judge, read while another process may be writing: how much is settled, and what it took."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.errors import WorkspaceError
from zelo.judges.journal import ERROR, SHORT, VERSION
from zelo.judges.running import MOST_UNUSABLE

IntArray = NDArray[np.int64]

_TOOK = """
SELECT COUNT(*), COALESCE(SUM(status = 0), 0), COALESCE(SUM(cost), 0), AVG(input_tokens), AVG(input_tokens * input_tokens),
    AVG(output_tokens), AVG(output_tokens * output_tokens)
FROM attempts WHERE judge = ? AND (status = 0 OR input_tokens + output_tokens > 0)
"""
_SECONDS = "SELECT COUNT(*), AVG(seconds), AVG(seconds * seconds) FROM attempts WHERE judge = ? AND status = 0 AND seconds > 0"
_SETTLED = f"""
SELECT q.query, q.first, q.second FROM questions q JOIN (
    SELECT a.question FROM attempts a LEFT JOIN words w ON w.id = a.note WHERE a.judge = :judge GROUP BY a.question
    HAVING SUM(a.status = 0) > 0 OR SUM(a.status NOT IN (0, {ERROR}) AND NOT (:room AND {SHORT})) >= {MOST_UNUSABLE}
) s ON s.question = q.id WHERE q.second_query = 0
"""
_SENT = f"""
SELECT q.query, q.first, q.second FROM questions q JOIN batch_questions s ON s.question = q.id JOIN batches b ON b.id = s.batch
WHERE b.judge = :judge AND b.state IN ('sending', 'open') AND q.second_query = 0 EXCEPT {_SETTLED}
"""


@dataclass(frozen=True, slots=True)
class History:
    """What a judge's earlier attempts took: usable answers, attempts that were billed, means with their standard errors, dollars."""

    answers: int = 0
    attempts: int = 0
    read: float = 0.0
    read_error: float = 0.0
    written: float = 0.0
    written_error: float = 0.0
    seconds: float = 0.0
    seconds_error: float = 0.0
    dollars: float = 0.0


@dataclass(frozen=True, slots=True)
class Counted:
    """How many of the questions that were asked about are in some state, and how many others are, by their query's place."""

    ours: int
    others: Mapping[int, int]


def dollars_spent(path: Path) -> float:
    """Return what all attempts in a journal that nobody is writing have cost, in US dollars; nothing is left beside the file."""
    if not path.is_file():
        return 0.0
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)) as database:
        return float(database.execute("SELECT COALESCE(SUM(cost), 0) FROM attempts").fetchone()[0])


class Known:
    """A journal opened for reading only; a context manager. Without a file it knows nothing."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            WorkspaceError: it cannot be read, or is of another version.
        """
        self._path = path
        self._database: sqlite3.Connection | None = None
        if path.is_file():
            with self._readable():
                self._database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
                (version,) = self._database.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
            if version != VERSION:
                self._database.close()
                what = f"journal of version {version}, this zelo knows version {VERSION}"
                raise WorkspaceError(what, where=str(path), remedy="use the zelo that wrote it")

    def __enter__(self) -> Known:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()

    def spent(self) -> tuple[float, int]:
        """Return the US dollars and tokens of all attempts of all judges."""
        rows = self._rows("SELECT COALESCE(SUM(cost), 0), COALESCE(SUM(input_tokens + output_tokens), 0) FROM attempts")
        return (float(rows[0][0]), int(rows[0][1])) if rows else (0.0, 0)

    def history(self, judge: str, prompt_id: str) -> History:
        """Return what the attempts of a judge took. Failed calls that were not billed are left out."""
        number = self._number(judge, prompt_id)
        if number is None:
            return History()
        attempts, answers, dollars, *moments = self._rows(_TOOK, number)[0]
        timed, *seconds = self._rows(_SECONDS, number)[0]
        if not attempts:
            return History()
        return History(
            int(answers),
            int(attempts),
            *_mean(attempts, *moments[:2]),
            *_mean(attempts, *moments[2:]),
            *_mean(timed, *seconds),
            float(dollars),
        )

    def settled(self, judge: str, prompt_id: str, digests: Sequence[bytes], shown: IntArray, room: int = 0) -> Counted:
        """Count questions that will not be asked: they are answered, or were too often answered in a way that cannot be used.

        Args:
            judge: its name.
            prompt_id: its way of asking.
            digests: of texts.
            shown: questions [n, 3], places in `digests` of the query and of the two documents in the order shown.
            room: tokens that an answer may have; those that were cut at fewer will be asked for again. 0 = they will not.
        """
        return self._compared(_SETTLED, judge, prompt_id, digests, shown, room)

    def sent(self, judge: str, prompt_id: str, digests: Sequence[bytes], shown: IntArray, room: int = 0) -> Counted:
        """Count questions that are not settled but under way, in batches that are not collected; arguments as of `settled`."""
        return self._compared(_SENT, judge, prompt_id, digests, shown, room)

    def _compared(self, query: str, judge: str, prompt_id: str, digests: Sequence[bytes], shown: IntArray, room: int) -> Counted:
        number = self._number(judge, prompt_id)
        if number is None or not len(shown):
            return Counted(0, {})
        numbers = dict(self._rows("SELECT digest, id FROM texts"))
        ids = np.array([numbers.get(digest, 0) for digest in digests], np.int64)
        theirs = np.array(self._rows(query, judge=number, room=room), np.int64).reshape(-1, 3)
        codes = np.unique(np.concatenate([theirs, ids[shown]]), axis=0, return_inverse=True)[1].reshape(-1)
        known, ours = codes[: len(theirs)], codes[len(theirs) :]
        other, count = np.unique(theirs[~np.isin(known, ours), 0], return_counts=True)
        others = dict(zip(other.tolist(), count.tolist(), strict=True))
        places = np.unique(shown[:, 0]).tolist()
        return Counted(int(np.isin(ours, known).sum()), {place: others[ids[place]] for place in places if ids[place] in others})

    def _number(self, judge: str, prompt_id: str) -> int | None:
        rows = self._rows("SELECT id FROM judges WHERE judge = ? AND prompt_id = ?", judge, prompt_id)
        return int(rows[0][0]) if rows else None

    def _rows(self, query: str, *values: object, **named: object) -> list[tuple[Any, ...]]:
        if self._database is None:
            return []
        with self._readable():
            return self._database.execute(query, named or values).fetchall()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, TypeError) as error:  # TypeError: a database without our row of meta
            remedy = "it is in use on a network file system, or not a journal of this zelo: wait, or move it away"
            raise WorkspaceError(f"the journal cannot be read ({error})", where=str(self._path), remedy=remedy) from error


def _mean(n: int, mean: float | None, mean_of_squares: float | None) -> tuple[float, float]:
    """The mean and its standard error; 0 without values."""
    if not n or mean is None or mean_of_squares is None:
        return 0.0, 0.0
    return float(mean), math.sqrt(max(0.0, mean_of_squares - mean * mean) / max(1, n - 1))
