"""The journal: every attempt to get a judgment, as it arrives. Paid work is never asked twice and never lost.

SQLite in WAL mode with integer keys. A question is a query and two texts in the order shown; texts go by the hash of their
characters, so a changed document is a new question and one with another id is not. A judge is a name and a prompt id.
What was asked before is (judge, question). The file has one writer.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from zelo.errors import InputError, WorkspaceError
from zelo.judges import Answer, Comparison
from zelo.judges.filesystems import refuse_network
from zelo.types import Status

IntArray = NDArray[np.int64]

VERSION = 2
STATUSES = (*get_args(Status), "error")
"""How an attempt ended, by its number in the file: as of an answer, or "error": the call failed and there is no answer."""
ERROR = STATUSES.index("error")
SAMPLE = 50
"""keep_reasoning = "sample" keeps one reasoning in so many."""
NOTE = 500  # characters; an error message of a server may be a page

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE judges (id INTEGER PRIMARY KEY, judge TEXT NOT NULL, prompt_id TEXT NOT NULL, UNIQUE (judge, prompt_id));
CREATE TABLE texts (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, name TEXT NOT NULL);
CREATE TABLE words (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE questions (
    id INTEGER PRIMARY KEY, query INTEGER NOT NULL, first INTEGER NOT NULL, second INTEGER NOT NULL, second_query INTEGER NOT NULL
);
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY, judge INTEGER NOT NULL, question INTEGER NOT NULL, preference REAL, status INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cost REAL NOT NULL, seconds REAL NOT NULL,
    note INTEGER NOT NULL, flags INTEGER NOT NULL, arrived INTEGER NOT NULL
);
CREATE TABLE reasonings (attempt INTEGER PRIMARY KEY, text BLOB NOT NULL);
CREATE TABLE batches (id INTEGER PRIMARY KEY, judge INTEGER NOT NULL, name TEXT, state TEXT NOT NULL, submitted INTEGER NOT NULL);
CREATE TABLE batch_questions (batch INTEGER NOT NULL, question INTEGER NOT NULL, PRIMARY KEY (batch, question)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a judge at a question, both by their numbers in the journal; `error` says that the call failed."""

    judge: int
    question: int
    answer: Answer
    error: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What the journal knows of some questions of one judge, each array [questions].

    Attributes:
        attempt: number of the attempt that counts: the first with a usable answer, else the last one; 0 = none.
        status: how it ended, a place in STATUSES; that of no attempt is ERROR.
        unusable: how many answers came that cannot be used.
    """

    attempt: IntArray
    status: NDArray[np.int8]
    unusable: IntArray

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Where there is a usable answer."""
        return np.asarray(self.status == 0)

    def select(self, rows: slice) -> Standing:
        """Return what is known of some of the questions."""
        return Standing(self.attempt[rows], self.status[rows], self.unusable[rows])


class Journal:
    """An open journal file; a context manager. What `add` has returned from survives a kill at any moment."""

    def __init__(self, path: Path, *, keep_reasoning: Literal["all", "sample", "none"] = "all") -> None:
        """Open or make the file.

        Raises:
            InputError: the file is not a journal.
            WorkspaceError: it cannot be read or written, lies on a network file system, or another version of zelo wrote it.
        """
        exclusive = refuse_network(path.parent)
        self._path, self._keep = path, keep_reasoning
        with refusals(path):
            # The runner adds from a thread of its own, one call at a time.
            self._database = sqlite3.connect(path, check_same_thread=False)
            try:
                self._open(exclusive)
            except BaseException:
                self._database.close()
                raise
        self._words: dict[str, int] = {}

    def _open(self, exclusive: bool) -> None:
        run = self._database.execute
        if exclusive:
            run("PRAGMA locking_mode = EXCLUSIVE")  # no memory shared between processes, which network file systems do not have
        tables = {name for (name,) in run("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "meta" not in tables:
            what = "written by an earlier zelo" if "attempts" in tables else "a database, but not a journal"
            raise WorkspaceError(what, where=str(self._path), remedy="move it away; judgments of offline judges are made again at no cost")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA temp_store = MEMORY")
        self.durable(False)
        if not tables:
            with self._database:
                self._database.executescript(f"BEGIN; {_SCHEMA} INSERT INTO meta VALUES ('version', {VERSION}); COMMIT;")
        (version,) = run("SELECT value FROM meta WHERE key = 'version'").fetchone()
        if version != VERSION:
            what = f"journal of version {version}, this zelo knows version {VERSION}"
            raise WorkspaceError(what, where=str(self._path), remedy="use the zelo that wrote it, or move it away")
        self._next = run("SELECT COALESCE(MAX(id), 0) + 1 FROM attempts").fetchone()[0]

    def __enter__(self) -> Journal:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file."""
        self._database.close()

    def durable(self, on: bool) -> None:
        """Choose whether what is added survives a power cut too, which takes the disk some milliseconds per `add`."""
        self._database.execute(f"PRAGMA synchronous = {'FULL' if on else 'NORMAL'}")

    def judge(self, name: str, prompt_id: str) -> int:
        """Return a judge's number."""
        with refusals(self._path), self._database:
            self._database.execute("INSERT OR IGNORE INTO judges (judge, prompt_id) VALUES (?, ?)", (name, prompt_id))
        return int(self._database.execute("SELECT id FROM judges WHERE judge = ? AND prompt_id = ?", (name, prompt_id)).fetchone()[0])

    def texts(self, texts: Iterable[str], names: Iterable[str]) -> IntArray:
        """Return the numbers of texts [n]; `names` are for people, those of the first time stay."""
        digests = [digest(text) for text in texts]
        found = self._known_texts(digests)
        rows = [(digests[i], name) for i, name in enumerate(names) if not found[i]]
        if rows:
            with refusals(self._path), self._database:
                self._database.executemany("INSERT OR IGNORE INTO texts (digest, name) VALUES (?, ?)", rows)
            found = self._known_texts(digests)
        return found

    def _known_texts(self, digests: Sequence[bytes]) -> IntArray:
        stored = self._database.execute("SELECT digest, id FROM texts").fetchall()
        numbers = np.array([number for _, number in stored], np.int64)
        return _match(_halves([known for known, _ in stored]), numbers, _halves(digests))

    def questions(self, shown: NDArray[np.integer]) -> IntArray:
        """Return the numbers [n] of questions, new ones included.

        Args:
            shown: [n, 4], the texts' numbers of query, first, second, and of the second's query (0: the same query).
        """
        found = self._known_questions(shown)
        new = np.flatnonzero(found == 0)
        if len(new):
            keys, place = np.unique(shown[new], axis=0, return_inverse=True)  # in the order of queries, as they will be read
            first = int(self._database.execute("SELECT COALESCE(MAX(id), 0) + 1 FROM questions").fetchone()[0])
            numbered = np.column_stack([np.arange(first, first + len(keys)), keys])
            with refusals(self._path), self._database:
                for start in range(0, len(numbered), 100_000):
                    rows = numbered[start : start + 100_000].tolist()
                    self._database.executemany("INSERT INTO questions VALUES (?, ?, ?, ?, ?)", rows)
            found[new] = first + place.reshape(-1)
        return found

    def _known_questions(self, shown: NDArray[np.integer]) -> IntArray:
        # Two numbers in one: what takes time is making Python's integers, not SQLite. Texts have far fewer than 2^31 numbers.
        packed = self._integers("SELECT query << 31 | second_query, first << 31 | second FROM questions ORDER BY id", 2)
        stored = np.empty((len(packed), 4), np.int32)
        stored[:, 0], stored[:, 1] = packed[:, 0] >> 31, packed[:, 1] >> 31
        stored[:, 2], stored[:, 3] = packed[:, 1] & (2**31 - 1), packed[:, 0] & (2**31 - 1)
        del packed
        return _match(stored, np.arange(1, len(stored) + 1), shown)  # nothing is ever deleted: numbers have no gaps

    def add(self, attempts: Sequence[Attempt]) -> None:
        """Keep attempts, all of them or none.

        Raises:
            WorkspaceError: the disk is full, or refuses.
        """
        now, first = time.time_ns() // 1000, self._next
        with refusals(self._path):
            try:
                with self._database:
                    self._write(attempts, now)
            except BaseException:
                self._next = first
                self._words.clear()
                raise

    def _write(self, attempts: Sequence[Attempt], now: int) -> None:
        rows, reasonings = [], []
        for one in attempts:
            a, number = one.answer, self._next
            status = ERROR if one.error else STATUSES.index(a.status)
            words = self._word(a.note), self._word(a.flags)
            rows.append(
                (number, one.judge, one.question, a.preference, status, a.input_tokens, a.output_tokens, a.cost, a.seconds, *words, now)
            )
            if a.reasoning and (self._keep == "all" or (self._keep == "sample" and one.question % SAMPLE == 0)):
                reasonings.append((number, packed(a.reasoning)))
            self._next += 1
        self._database.executemany("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._database.executemany("INSERT INTO reasonings VALUES (?, ?)", reasonings)

    def _word(self, text: str) -> int:
        if text not in self._words:
            clean = text[:NOTE].encode("utf-8", "replace").decode()
            self._database.execute("INSERT OR IGNORE INTO words (text) VALUES (?)", (clean,))
            if len(self._words) > 10_000:
                self._words.clear()
            self._words[text] = int(self._database.execute("SELECT id FROM words WHERE text = ?", (clean,)).fetchone()[0])
        return self._words[text]

    def standing(self, judge: int, questions: IntArray, room: int = 0) -> Standing:
        """Return what is known of questions [n] of a judge.

        With `room`, answers that were cut before they had so many tokens do not count as unusable: they may be longer now. Of an
        answer made from several texts its note says where they were cut (`cut_note`).
        """
        table = self._integers("SELECT id, question << 3 | status FROM attempts WHERE judge = ?", 2, (judge,))
        numbers, asked, ended = table[:, 0], table[:, 1] >> 3, table[:, 1] & 7
        count = int(max(questions.max(initial=0), asked.max(initial=0))) + 1
        attempt, status = np.zeros(count, np.int64), np.full(count, ERROR, np.int8)
        usable = ended == 0
        # The last assignment wins: usable answers after the others, the first one last.
        for rows in (np.flatnonzero(~usable), np.flatnonzero(usable)[::-1]):
            attempt[asked[rows]], status[asked[rows]] = numbers[rows], ended[rows]
        unusable = np.bincount(asked[~usable & (ended != ERROR)], minlength=count)
        if room and (ended == STATUSES.index("truncated")).any():
            cut = "SELECT question, output_tokens, text FROM attempts JOIN words ON words.id = note WHERE judge = ? AND status = ?"
            found = self._database.execute(cut, (judge, STATUSES.index("truncated")))
            short = np.array([question for question, tokens, note in found if _cut_at(note, tokens) < room], np.int64)
            unusable = unusable - np.bincount(short, minlength=len(unusable))
        return Standing(attempt[questions], status[questions], unusable[questions].astype(np.int64))

    def read(self, attempts: IntArray) -> list[tuple[float | None, int, int, int, float, float, str, str, str]]:
        """Return attempts [n] in that order.

        Each is preference (+ = the first is better), place of the status in STATUSES, tokens read and written, cost, seconds, note,
        flags, reasoning; those of number 0 were never made.
        """
        with self._database:
            self._database.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (place INTEGER PRIMARY KEY, attempt INTEGER NOT NULL)")
            self._database.execute("DELETE FROM temp.wanted")
            self._database.executemany("INSERT INTO temp.wanted VALUES (?, ?)", enumerate(attempts.tolist()))
            rows = self._database.execute(_READ).fetchall()
        return [(*row[:-1], unpacked(row[-1])) for row in rows]

    def spent(self, judge: int | None = None) -> tuple[float, int]:
        """Return the US dollars and tokens of all attempts, of one judge or of all, failed ones and earlier runs included."""
        query = "SELECT COALESCE(SUM(cost), 0), COALESCE(SUM(input_tokens + output_tokens), 0) FROM attempts"
        where, values = (" WHERE judge = ?", (judge,)) if judge is not None else ("", ())
        cost, tokens = self._database.execute(query + where, values).fetchone()
        return float(cost), int(tokens)

    def begin_batch(self, judge: int, questions: Sequence[int]) -> int:
        """Write down that these questions are about to be sent together; returns the batch's number."""
        with refusals(self._path), self._database:
            insert = "INSERT INTO batches (judge, name, state, submitted) VALUES (?, NULL, 'sending', ?)"
            number = int(self._database.execute(insert, (judge, time.time_ns() // 1000)).lastrowid or 0)
            self._database.executemany("INSERT INTO batch_questions VALUES (?, ?)", [(number, q) for q in questions])
        return number

    def set_batch(
        self, number: int, state: Literal["sending", "open", "done", "unsent"], name: str = "", attempts: Sequence[Attempt] = ()
    ) -> None:
        """Change a batch's state: open under the provider's `name`, done with its answers, or not sent after all."""
        with refusals(self._path):
            first = self._next
            try:
                with self._database:
                    update = "UPDATE batches SET state = ?, name = COALESCE(NULLIF(?, ''), name) WHERE id = ?"
                    self._database.execute(update, (state, name, number))
                    self._write(attempts, time.time_ns() // 1000)
            except BaseException:
                self._next = first
                self._words.clear()
                raise

    def batches(self, judge: int) -> list[tuple[int, str | None, list[int]]]:
        """Return (number, provider's name, questions) of a judge's batches whose answers are not here; the name may be unknown."""
        rows = self._database.execute("SELECT id, name FROM batches WHERE judge = ? AND state IN ('sending', 'open')", (judge,)).fetchall()
        ask = "SELECT question FROM batch_questions WHERE batch = ?"
        return [(number, name, [q for (q,) in self._database.execute(ask, (number,))]) for number, name in rows]

    def _integers(self, query: str, columns: int, values: tuple[object, ...] = ()) -> IntArray:
        cursor = self._database.execute(query, values)
        return np.fromiter(chain.from_iterable(cursor), np.int64).reshape(-1, columns)


_READ = """
SELECT a.preference, COALESCE(a.status, 5), COALESCE(a.input_tokens, 0), COALESCE(a.output_tokens, 0), COALESCE(a.cost, 0.0),
    COALESCE(a.seconds, 0.0), COALESCE(n.text, 'never asked'), COALESCE(f.text, ''), r.text
FROM temp.wanted w LEFT JOIN attempts a ON a.id = w.attempt LEFT JOIN words n ON n.id = a.note LEFT JOIN words f ON f.id = a.flags
    LEFT JOIN reasonings r ON r.attempt = a.id
ORDER BY w.place
"""


def packed(text: str) -> bytes:
    """Return a reasoning compressed. A window of 8 KB: clearing the usual one takes four times as long as the work itself."""
    stream = zlib.compressobj(6, zlib.DEFLATED, 13, 5)
    return stream.compress(text.encode("utf-8", "surrogatepass")) + stream.flush()


def unpacked(text: bytes | None) -> str:
    """Return a reasoning as it was."""
    return zlib.decompress(text).decode("utf-8", "surrogatepass") if text else ""


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turn SQLite's refusals into one clear line."""
    try:
        yield
    except sqlite3.OperationalError as error:  # a full disk, no right to write, another process
        full = re.search("full|disk I/O", str(error))
        remedy = "free some space and run again: what was answered is kept" if full else "check free space and rights"
        raise WorkspaceError(f"the journal cannot be written ({error})", where=str(path), remedy=remedy) from error
    except sqlite3.DatabaseError as error:
        raise InputError(f"not a journal ({error})", where=str(path), remedy="move it away; paid judgments in it are not read") from error


def _match(stored: NDArray[np.integer], numbers: IntArray, wanted: NDArray[np.integer]) -> IntArray:
    """Return, for each row of `wanted` [n, k], the number of the stored row [m, k] that equals it, or 0."""
    found = np.zeros(len(wanted), np.int64)
    if not len(stored) or not len(wanted):
        return found
    hashes = _mixed(stored)
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    ours = _mixed(wanted)
    place = np.searchsorted(hashes, ours)
    left = np.arange(len(wanted))
    while len(left):  # once, and again for those whose hash another row has too
        left = left[(place[left] < len(order)) & (hashes[np.minimum(place[left], len(order) - 1)] == ours[left])]
        rows = order[place[left]]
        same = np.ones(len(left), np.bool_)
        for column in range(stored.shape[1]):  # one by one: millions of rows, all columns at once, would take hundreds of MB
            same &= stored[rows, column] == wanted[left, column]
        found[left[same]] = numbers[rows[same]]
        left = left[~same]
        place[left] += 1
    return found


def _halves(digests: Sequence[bytes]) -> IntArray:
    """Digests of 16 bytes as rows [n, 2] of integers."""
    return np.frombuffer(b"".join(digests), np.int64).reshape(-1, 2)


def _mixed(rows: NDArray[np.integer]) -> NDArray[np.uint64]:
    """A hash of each row of integers [n, k]."""
    mixed = np.zeros(len(rows), np.uint64)
    for column in rows.T:
        mixed ^= column.astype(np.uint64)
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def digest(text: str) -> bytes:
    """Return the identity, 16 bytes, of a text's characters."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def contents(comparisons: Sequence[Comparison]) -> list[bytes]:
    """Return the identity, 16 bytes, of what each comparison shows."""
    known: dict[str, bytes] = {}

    def known_digest(text: str) -> bytes:
        if text not in known:
            known[text] = digest(text)
        return known[text]

    parts = ((c.query, c.first, c.second, *([c.second_query] if c.second_query is not None else [])) for c in comparisons)
    return [hashlib.blake2b(b"".join(map(known_digest, part)), digest_size=16).digest() for part in parts]


def cut_note(tokens: int) -> str:
    """Return how an answer made from several texts says, at the end of its note, after how many tokens a text of it was cut."""
    return f"cut at {tokens} tokens"


def _cut_at(note: str, tokens: int) -> int:
    """Return after how many tokens an answer was cut: what its note says, else all that it took."""
    said = re.search(r"cut at (\d+) tokens\Z", note)
    return int(said[1]) if said else tokens
