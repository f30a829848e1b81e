"""Documents as people have them: a folder of Markdown, HTML, PDF and plain text, or tables with a text in each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zelo.collections import extracting
from zelo.collections.decoding import read_bytes
from zelo.collections.extracting import Part, extract
from zelo.collections.lines import check_id, shown
from zelo.collections.passages import Passages, digest_of, file_id
from zelo.collections.query_log import QueryLog
from zelo.collections.tables import SUFFIXES as TABLES
from zelo.collections.tables import cell_text, choose_column, rows_of, suffix_of, whole_characters
from zelo.collections.walking import find_files
from zelo.errors import InputError
from zelo.types import Document, Qrel, Query

TEXT = ("text", "content", "contents", "body", "passage", "document", "page_content", "markdown", "description")
TITLE = ("title", "name", "heading", "subject", "headline")
ID = ("_id", "id", "doc_id", "docid", "document_id", "pid", "passage_id", "url", "path")
HUB = "hf:"
_SHOWN = 10  # faults that are named
_NAMES = frozenset((*TEXT, *TITLE, *ID))


@dataclass(frozen=True)
class Reading:
    """How documents are read: the file of queries, what is cut into passages of so many characters, columns of tables, unreadable files."""

    queries: str = ""
    query_column: str = ""
    split: Literal["files", "all", "none"] = "files"
    characters: int = 1000
    text_column: str = ""
    id_column: str = ""
    max_bytes: int = 50_000_000
    skip: bool = True


class _Faults:
    """What could not be read: the first ones, and how many there are; a table may have one in every row."""

    def __init__(self, found: list[InputError], skip: bool) -> None:
        self.first, self.count = [f"skipped {fault}" for fault in found[:_SHOWN]], len(found)
        self.error = found[0] if found else None
        self.skip = skip

    def add(self, fault: InputError, kept: int = 0) -> None:
        """Count a file or row that is left out, or a file that breaks off after so many passages; raise if none may be."""
        if not self.skip:
            raise fault
        self.count += 1
        self.error = self.error or fault
        if len(self.first) < _SHOWN:
            self.first.append(f"{kept:,} passages read, the rest left out: {fault}" if kept else f"skipped {fault}")


class Documents:
    """A collection of files. Nothing is labeled."""

    def __init__(self, source: str, reading: Reading) -> None:
        """Look whether there is anything; nothing is read yet.

        Args:
            source: a folder, a file, or `hf:OWNER/NAME`, a data set of the Hugging Face hub, which is downloaded.
            reading: how.

        Raises:
            InputError: it is not there, empty, or holds no file of a known kind.
        """
        self._reading = reading
        self._log = QueryLog(Path(reading.queries), reading.query_column, skip=reading.skip) if reading.queries else None
        self._is_table_only = source.startswith(HUB)
        self._root = _download(source.removeprefix(HUB)) if self._is_table_only else Path(source)
        self._remarks: list[str] = []
        self._notes: dict[str, int] = {}
        if not self._root.exists():
            raise InputError("no such file or folder", where=source, remedy="give the documents: a folder, a file, or hf:OWNER/NAME")
        self._files, self._faults = self._find()

    def _find(self) -> tuple[list[tuple[Path, str]], list[InputError]]:
        if self._root.is_file():
            if suffix_of(self._root) not in (*TABLES, *extracting.SUFFIXES):
                what = f"{suffix_of(self._root) or 'a name without suffix'} is no kind of document that is known"
                raise InputError(what, where=str(self._root), remedy=f"known are {', '.join((*extracting.SUFFIXES, *TABLES))}")
            return [(self._root, self._root.name)], []
        files = find_files(self._root)
        known = TABLES if self._is_table_only else (*TABLES, *extracting.SUFFIXES)
        log = Path(self._reading.queries).resolve() if self._reading.queries else None
        usable = [pair for pair in files.found if suffix_of(pair[0]) in known and pair[0].resolve() != log]
        others = Counter(suffix_of(path) or "(no suffix)" for path, _ in files.found if suffix_of(path) not in known)
        if others:
            kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in others.most_common(8))
            self._remarks.append(f"not read, of other kinds: {kinds}")
        if files.made_here:
            self._remarks.append(f"left out, zelo made them: {', '.join(files.made_here[:8])}{', ...' * (len(files.made_here) > 8)}")
        if not usable:
            what = f"no document in this folder: {sum(others.values()):,} files of other kinds" if others else "the folder is empty"
            raise InputError(what, where=str(self._root), remedy=f"known are {', '.join((*extracting.SUFFIXES, *TABLES))}")
        return usable, files.faults

    @property
    def name(self) -> str:
        """The name of the folder or file."""
        return self._root.resolve().name

    @property
    def remarks(self) -> list[str]:
        """For people, complete once everything was read: what was left out, and why."""
        return [*self._remarks, *(self._log.remarks if self._log else ())]

    @property
    def notes(self) -> Mapping[str, int]:
        """Files read, passages with the text of an earlier one, files in other encodings, queries that were repeated or empty."""
        return {**self._notes, **(self._log.notes if self._log else {})}

    def documents(self) -> Iterator[Document]:
        """Yield the passages, file by file.

        Raises:
            InputError: no file could be read; or any, if they are not to be skipped.
            MissingExtraError: a library is not installed.
        """
        reading, faults = self._reading, _Faults(self._faults, self._reading.skip and len(self._files) > 1)
        used: dict[str, int] = {}
        of_files = Passages(0 if reading.split == "none" else reading.characters, used)
        of_rows = Passages(reading.characters if reading.split == "all" else 0, used)
        seen, counts = set[int](), Counter[str]()
        encodings = Counter[str]()
        for path, name in self._files:
            before = counts["passages"]
            try:
                is_table = suffix_of(path) in TABLES
                rows = self._table(path, name, of_rows, counts, faults.add) if is_table else self._text(path, name, of_files, encodings)
                for document in rows:
                    counts["passages"] += 1
                    counts["long_rows"] += is_table and len(document.text) > 4 * reading.characters
                    words = hash(document.full_text)
                    counts["passages_that_repeat_another"] += words in seen
                    seen.add(words)
                    yield document
                counts["files"] += 1
            except InputError as fault:
                faults.add(fault, counts["passages"] - before)
        if not counts["passages"]:
            raise faults.error or InputError("no text in any file", where=str(self._root), remedy="look what they hold")
        if long := counts.pop("long_rows", 0):
            self._remarks += [f'{long:,} rows are longer than {4 * reading.characters:,} characters; ingest.split = "all" cuts them']
        if again := counts.pop("taken_ids", 0):
            what = (
                f"{again:,} rows have an id that a row of another table has: they got -2, -3, ...; a ranking that names it means the first"
            )
            self._remarks.append(what)
        self._notes = {name: count for name, count in counts.items() if count}
        self._say(faults, encodings)

    def _say(self, faults: _Faults, encodings: Counter[str]) -> None:
        self._remarks += map(whole_characters, faults.first)
        if faults.count > _SHOWN:
            self._remarks.append(f'skipped {faults.count - _SHOWN:,} more; ingest.unreadable = "stop" stops at the first one')
        if encodings:
            kinds = ", ".join(f"{count:,} read as {name}" for name, count in encodings.most_common())
            self._remarks.append(f"{sum(encodings.values()):,} file{'s' * (sum(encodings.values()) > 1)} not UTF-8: {kinds}")

    def _text(self, path: Path, name: str, passages: Passages, encodings: Counter[str]) -> Iterator[Document]:
        for part in extract(path, self._reading.max_bytes):
            if part.encoding != "utf-8":
                encodings[part.encoding] += 1
            titled = part if part.title else Part(part.text, whole_characters(Path(name).name), part.page, part.markup)
            yield from passages.documents(file_id(name), titled)

    def _table(
        self, path: Path, name: str, passages: Passages, counts: Counter[str], on_fault: Callable[[InputError], None]
    ) -> Iterator[Document]:
        if suffix_of(path) in (".csv", ".tsv", ".json"):  # read at once
            read_bytes(path, self._reading.max_bytes)
        places: dict[str, str] = {}
        is_read = False
        for where, row in rows_of(path, on_fault, () if self._reading.text_column else _NAMES):
            try:
                given, part = self._row(where, row, places)
            except InputError as fault:
                if not is_read:  # the columns are not what they should be, so in every row
                    raise
                on_fault(fault)
                continue
            is_read = True
            counts["taken_ids"] += bool(given) and passages.taken(given)
            if given and not part.text.strip():
                yield Document(passages.free(given), "", part.title)  # labels and rankings may name it
            else:
                yield from passages.documents(file_id(name), part, whole=given or f"{file_id(name)}#{digest_of(part.text)}")

    def _row(self, where: str, row: Mapping[str, object], places: dict[str, str]) -> tuple[str, Part]:
        """The id of a row, "" if it has none, and its text with its title; `places` is where each id of the table was."""
        names = list(row)
        column = choose_column(names, TEXT, self._reading.text_column, "texts", where)
        if column is None:
            remedy = f"name it one of {', '.join(TEXT[:4])}, or set ingest.text_column to one of: {', '.join(names)}"
            raise InputError("no column of texts is known", where=where, remedy=remedy)
        text = cell_text(row[column])
        if text is None and row[column] is not None:
            what = f"{column} holds {shown(row[column])}, no text"
            raise InputError(what, where=where, remedy="set ingest.text_column to a column of texts")
        title_column = choose_column(names, TITLE, "", "titles", where)
        title = (cell_text(row[title_column]) or "") if title_column and title_column != column else ""
        id_column = choose_column(names, ID, self._reading.id_column, "ids", where)
        given = (cell_text(row[id_column]) or "").strip() if id_column else ""
        if given and places.setdefault(check_id(given, where, id_column or ""), where) != where:
            what = f"{id_column} {shown(given)} is that of {places[given]} too"
            raise InputError(what, where=where, remedy="give each row its own id")
        return given, Part((text or "").replace("\0", ""), title.replace("\0", ""))

    def queries(self) -> Iterator[Query]:
        """Yield the queries of the log.

        Raises:
            InputError: there is none.
        """
        if self._log is None:
            raise InputError(
                "documents without queries", where=str(self._root), remedy="give what people asked: --queries FILE, one per line"
            )
        return self._log.queries()

    def splits(self) -> tuple[str, ...]:
        """Return no split: nothing is labeled."""
        return ()

    def qrels(self, split: str) -> Iterator[Qrel]:
        """Raise: nothing is labeled."""
        raise InputError(f"no labels for the split {split!r}", where=str(self._root), remedy="labels come with a BEIR folder")

    def check_qrels(self, query_ids: Container[str], doc_ids: Container[str]) -> None:
        """Find nothing wrong: nothing is labeled."""


def _download(name: str) -> Path:
    """Return the folder of a data set of the hub, its tables only."""
    from zelo.encoders.extras import import_extra

    hub = import_extra("huggingface_hub", "huggingface_hub", "documents")
    repository, _, revision = name.partition("@")
    patterns = [f"*{suffix}{packed}" for suffix in TABLES for packed in ("", ".gz")]
    try:
        return Path(hub.snapshot_download(repository, repo_type="dataset", revision=revision or None, allow_patterns=patterns))
    except Exception as error:  # of the hub's client: no network, no such data set, no right to it
        what = f"cannot be downloaded ({type(error).__name__}: {error})"
        raise InputError(what, where=f"{HUB}{name}", remedy="check the name and the network, or give a folder") from error
