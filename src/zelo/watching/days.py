"""The folder `watch/` of a workspace: how far the logs were read, and one sealed file per judged day."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zelo.errors import InputError, WorkspaceError
from zelo.watching.log import Search, open_log, read_log, readable
from zelo.watching.sampling import Gathered

FOLDER = "watch"
JOURNAL = "judgments.sqlite"
_LOGS = "logs.json"
_CHECKED = 4096  # bytes before the place where reading goes on: a log that was rewritten is read from the start
_FORMER = 50  # files of which another one has taken the place, to be known again by another name
SHOWN_FAULTS = 5
MOST_FAULTY = 0.2
"""Share of new lines that may be unreadable."""


@dataclass
class Reading:
    """Where a log stands. `offset` and `number` say where reading begins, `seen` how far earlier runs have read.

    `head` and `check` identify what stands at the beginning and before the offset: they recognize a file that was renamed or packed.
    `rotated` says that it was known by another name before: such files do not grow.
    """

    offset: int = 0
    number: int = 0
    seen: int = 0
    head: str = ""
    check: str = ""
    rotated: bool = False
    late: int = 0
    faults: int = 0
    named: list[str] = field(default_factory=list)


@dataclass
class News:
    """What the logs have that is not judged: by day, and how many searches are of days that are not over.

    `readings` are of the logs that were given, by their path; `replaced` those of which another file has taken the place.
    """

    days: dict[str, Gathered]
    waiting: int
    readings: dict[str, Reading]
    replaced: list[Path]
    next_places: dict[str, tuple[int, int]]


class Days:
    """Reads and writes the folder."""

    def __init__(self, root: Path) -> None:
        """Take the workspace's folder."""
        self.folder = root / FOLDER
        self.journal = self.folder / JOURNAL

    def sealed(self) -> dict[str, dict[str, Any]]:
        """Return the judged days in order, each as its file has it.

        Raises:
            WorkspaceError: a file is not one of ours.
        """
        found = {}
        for path in sorted((self.folder / "days").glob("????-??-??.json")):
            try:
                found[path.stem] = dict(json.loads(path.read_text("utf-8")))
            except (ValueError, TypeError) as error:
                remedy = "delete it: the day is judged again, from the journal"
                raise WorkspaceError(f"not a judged day ({error})", where=str(path), remedy=remedy) from error
        return found

    def seal(self, day: str, record: Mapping[str, Any]) -> None:
        """Write a judged day."""
        write_json(self.folder / "days" / f"{day}.json", record)
        self._begun(day).unlink(missing_ok=True)

    def begin(self, day: str, spent: tuple[float, int]) -> tuple[float, int]:
        """Return what the journal had spent when the day was begun: now, or before an interruption."""
        path = self._begun(day)
        if path.is_file():
            found = json.loads(path.read_text("utf-8"))
            return float(found["dollars"]), int(found["tokens"])
        write_json(path, {"dollars": spent[0], "tokens": spent[1]})
        return spent

    def _begun(self, day: str) -> Path:
        return self.folder / "days" / f"{day}.begun"

    def readings(self) -> tuple[dict[str, Reading], list[Reading]]:
        """Return where each log stands, and where files stood of which another one has taken the place."""
        path = self.folder / _LOGS
        if not path.is_file():
            return {}, []
        found = json.loads(path.read_text("utf-8"))
        return {name: Reading(**row) for name, row in found["logs"].items()}, [Reading(**row) for row in found["former"]]

    def read(self, logs: list[Path], until: str, first: str, seed: int) -> News:
        """Read what is new in the logs; one that is given twice is read once.

        Args:
            logs: files.
            until: the last day that is over.
            first: days before it are left out; "" = none.
            seed: of the sample.

        Raises:
            InputError: a log cannot be read, or too many of its new lines cannot.
        """
        closed = set(self.sealed())
        known, former = self.readings()
        news = News({}, 0, {}, [], {})
        replaced: dict[str, Reading] = {}
        adopted: list[Reading] = []
        paths = {str(log.resolve()): log for log in logs}
        for name, log in paths.items():
            mine = known.get(name)
            if mine is None or not _stands_in(mine, log):
                others = [r for other, r in known.items() if other != name]
                found = next((r for r in (*others, *former, *replaced.values()) if r.offset and _stands_in(r, log)), None)
                if mine is not None:
                    replaced[name] = mine
                adopted += [found] if found else []
                mine = replace(found, rotated=True) if found else Reading()
            news.readings[name] = mine
            self._read_one(log, mine, news, closed, until, first, seed)
        lost = {name for name, reading in replaced.items() if not reading.rotated and not any(reading is one for one in adopted)}
        news.replaced = [paths[name] for name in sorted(lost)]
        self._write(known | news.readings, [*former, *replaced.values()][-_FORMER:])
        return news

    def _read_one(self, log: Path, reading: Reading, news: News, closed: set[str], until: str, first: str, seed: int) -> None:
        open_at: tuple[int, int] | None = None
        new = faulty = 0
        end = (reading.offset, reading.number)
        for line in read_log(log, reading.offset, reading.number):
            fresh = line.start >= reading.seen
            new += fresh
            if line.fault and fresh:
                faulty += 1
                reading.named = [*reading.named, f"{log.name}:{line.number}: {line.fault}"][-SHOWN_FAULTS:]
            for search in line.searches:
                if search.day > until:
                    news.waiting += 1
                    open_at = open_at or (line.start, line.number - 1)
                elif search.day in closed:
                    reading.late += fresh
                elif search.day >= first:
                    news.days.setdefault(search.day, Gathered(seed)).add(search)
            end = (line.end, line.number)
        if faulty > MOST_FAULTY * new:
            what = f"{faulty:,} of {new:,} new lines cannot be read; the last: {reading.named[-1]}"
            raise InputError(what, where=str(log), remedy="docs/watching.md has the format; mend the log and run again")
        reading.faults += faulty
        reading.seen = max(reading.seen, end[0])
        news.next_places[str(log.resolve())] = open_at or end

    def close(self, news: News) -> None:
        """Remember that all days that were over are judged: the next reading begins after them."""
        known, former = self.readings()
        for name, (offset, number) in news.next_places.items():
            head, check = _marks(Path(name), offset)
            known[name] = replace(news.readings[name], offset=offset, number=number, head=head, check=check)
        self._write(known, former)

    def _write(self, known: Mapping[str, Reading], former: Sequence[Reading]) -> None:
        write_json(
            self.folder / _LOGS,
            {"logs": {name: vars(reading) for name, reading in known.items()}, "former": [vars(reading) for reading in former]},
        )


def write_json(path: Path, value: Any) -> None:
    """Write a file in one step: temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as handle:
            json.dump(value, handle, ensure_ascii=False, indent=1)
            handle.write("\n")
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _stands_in(reading: Reading, path: Path) -> bool:
    """Whether a file has what was read: the same beginning, and the same before the place where reading goes on."""
    if not reading.offset:
        return True
    return _read_part(path, 0, min(reading.offset, _CHECKED)) == reading.head and _marks(path, reading.offset)[1] == reading.check


def _marks(path: Path, offset: int) -> tuple[str, str]:
    """Identify the beginning of a file, and what stands before a place; of a packed one, as it is unpacked."""
    return _read_part(path, 0, min(offset, _CHECKED)), _read_part(path, max(0, offset - _CHECKED), offset)


def _read_part(path: Path, start: int, end: int) -> str:
    with readable(path), open_log(path) as handle:
        handle.seek(start)
        return hashlib.sha256(handle.read(end - start)).hexdigest()


def searches_of(gathered: Mapping[str, Gathered]) -> list[Search]:
    """Return all kept searches, for who prepares what they need."""
    return [search for day in gathered.values() for search in day.reservoir]
