"""BEIR files: what is written comes back; what is wrong is named with file and line."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zelo.collections import beir
from zelo.errors import InputError
from zelo.types import Document, Qrel, Query

IDS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=8)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)
GAINS = st.one_of(st.integers(-3, 5).map(float), st.floats(allow_nan=False, allow_infinity=False))
quick = settings(max_examples=40, deadline=None)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


Write = Callable[[str, str | bytes], Path]
GOOD_DOCUMENT = '{"_id": "d1", "title": "t", "text": "x"}\n'
GOOD_QUERY = '{"_id": "q1", "text": "x"}\n'


def written_and_read(rows: list[Any], writer: Callable[..., int], reader: Callable[[Path], Iterator[Any]]) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        assert writer(path, iter(rows)) == len(rows)
        handle = io.StringIO()
        writer(handle, rows)
        assert handle.getvalue().encode() == path.read_bytes()  # a handle gets the same bytes, and stays open
        return list(reader(path))


class TestRoundTrips:
    @quick
    @given(st.lists(st.builds(Document, IDS, TEXTS, TEXTS), min_size=1, max_size=5, unique_by=lambda d: d.doc_id))
    def test_corpus(self, documents: list[Document]) -> None:
        assert written_and_read(documents, beir.write_corpus, beir.read_corpus) == documents

    @quick
    @given(st.lists(st.builds(Query, IDS, TEXTS.filter(str.strip)), min_size=1, max_size=5, unique_by=lambda q: q.query_id))
    def test_queries(self, queries: list[Query]) -> None:
        assert written_and_read(queries, beir.write_queries, beir.read_queries) == queries

    @quick
    @given(st.lists(st.builds(Qrel, IDS, IDS, GAINS), min_size=1, max_size=5, unique_by=lambda q: (q.query_id, q.doc_id)))
    def test_qrels(self, qrels: list[Qrel]) -> None:
        assert written_and_read(qrels, beir.write_qrels, beir.read_qrels) == qrels

    def test_bytes_are_canonical(self, tmp_path: Path) -> None:
        beir.write_corpus(tmp_path / "c", [Document("d1", "naïve\n\u2028“x”")])
        assert (tmp_path / "c").read_bytes() == '{"_id": "d1", "title": "", "text": "naïve\\n\u2028“x”"}\n'.encode()
        beir.write_queries(tmp_path / "q", [Query("q1", "straße")])
        assert (tmp_path / "q").read_bytes() == '{"_id": "q1", "text": "straße"}\n'.encode()
        beir.write_qrels(tmp_path / "r", [Qrel("q1", "d1", 1.0), Qrel("q1", "d2", -2), Qrel("q1", "d3", 0.1)])
        assert (tmp_path / "r").read_bytes() == b"query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t-2\nq1\td3\t0.1\n"

    def test_unfit_ids_are_not_written(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="'a b' holds white space"):
            beir.write_corpus(tmp_path / "c", [Document("a b", "x")])
        with pytest.raises(InputError, match="_id is empty"):
            beir.write_queries(tmp_path / "q", [Query("", "x")])
        with pytest.raises(InputError, match=r"document id 'd\\t1' holds white space"):
            beir.write_qrels(tmp_path / "r", [Qrel("q", "d\t1", 1)])


class TestTolerance:
    def test_byte_order_mark_crlf_and_blank_lines(self, write: Write) -> None:
        content = b'\xef\xbb\xbf{"_id": "d1", "text": "x"}\r\n\r\n  \n{"_id": "d2", "text": "y"}'
        assert list(beir.read_corpus(write("c", content))) == [Document("d1", "x"), Document("d2", "y")]
        qrels = write("r", b"\xef\xbb\xbfquery-id\tcorpus-id\tscore\r\nq1\td1\t1\r\n\r\n")
        assert list(beir.read_qrels(qrels)) == [Qrel("q1", "d1", 1)]

    def test_title_may_be_absent_or_null_and_other_keys_are_ignored(self, write: Write) -> None:
        path = write("c", '{"_id": "d1", "text": "x", "url": 3}\n{"_id": "d2", "title": null, "text": "y"}\n')
        assert list(beir.read_corpus(path)) == [Document("d1", "x"), Document("d2", "y")]

    def test_packed_files(self, write: Write, tmp_path: Path) -> None:
        write("corpus.jsonl.gz", gzip.compress(GOOD_DOCUMENT.encode()))
        write("queries.jsonl.gz", gzip.compress(GOOD_QUERY.encode()))
        write("qrels/test.tsv.gz", gzip.compress(b"q1\td1\t1\n"))
        folder = beir.BeirFolder(tmp_path)
        assert [d.doc_id for d in folder.documents()] == ["d1"]
        assert [q.query_id for q in folder.queries()] == ["q1"]
        assert folder.splits() == ("test",)
        assert list(folder.qrels("test")) == [Qrel("q1", "d1", 1)]

    def test_empty_documents_are_kept_and_counted(self, write: Write, tmp_path: Path) -> None:
        write(
            "corpus.jsonl",
            '{"_id": "d1", "text": ""}\n{"_id": "d2", "title": " ", "text": "\\n"}\n{"_id": "d3", "title": "t", "text": ""}\n',
        )
        write("queries.jsonl", GOOD_QUERY)
        folder = beir.BeirFolder(tmp_path)
        for _ in range(2):  # reading again does not count again
            assert len(list(folder.documents())) == 3
            assert folder.notes == {"empty_documents": 2}

    def test_no_labels_at_all(self, write: Write, tmp_path: Path) -> None:
        write("corpus.jsonl", GOOD_DOCUMENT)
        write("queries.jsonl", GOOD_QUERY)
        folder = beir.BeirFolder(tmp_path)
        assert folder.splits() == ()
        folder.check_qrels(set(), set())
        with pytest.raises(InputError, match=r"put labels into qrels/test.tsv"):
            folder.qrels("test")

    def test_qrels_without_header_with_repeated_line_and_junk(self, write: Write) -> None:
        path = write("r", "qid\td1\t1\nq1\td1\t-2\nqid\td1\t1.0\n")  # a query may be called qid
        assert list(beir.read_qrels(path)) == [Qrel("qid", "d1", 1), Qrel("q1", "d1", -2)]

    def test_streams(self, write: Write) -> None:
        reader = beir.read_corpus(write("c", GOOD_DOCUMENT + "broken\n"))
        assert next(reader).doc_id == "d1"
        with pytest.raises(InputError, match=r"c:2: not valid JSON"):
            next(reader)


# (content from line 2 on, line at fault, message); line 1 is a good row
BAD_ROWS = [
    ("{nope}\n", 2, "not valid JSON (Expecting property name enclosed in double quotes at column 2)"),
    ('\n\n{"_id": "x"\n', 4, "not valid JSON"),
    ("[1, 2]\n", 2, "an array where a JSON object is expected"),
    ("null\n", 2, "null where a JSON object is expected"),
    ("[" * 100_000 + "\n", 2, "JSON that cannot be read"),
    ('{"text": "x"}\n', 2, "_id is missing"),
    ('{"_id": 7, "text": "x"}\n', 2, "_id is a number, not a string"),
    ('{"_id": "", "text": "x"}\n', 2, "_id is empty"),
    ('{"_id": "a b", "text": "x"}\n', 2, "_id 'a b' holds white space or control characters"),
    ('{"_id": "a\\u0007", "text": "x"}\n', 2, "_id 'a\\x07' holds white space or control characters"),
    ('{"_id": "a\\u00a0", "text": "x"}\n', 2, "holds white space"),
    ('{"_id": "x"}\n', 2, "text is missing"),
    ('{"_id": "x", "text": null}\n', 2, "text is missing"),
    ('{"_id": "x", "text": ["y"]}\n', 2, "text is an array, not a string"),
    ('{"_id": "x", "text": true}\n', 2, "text is a boolean, not a string"),
    ('{"_id": "x", "text": "ab\\u0000"}\n', 2, "NUL character in text at character 3"),
    ('{"_id": "x", "text": "a\x00"}\n', 2, "NUL byte at byte 24 of the line"),
    ('{"_id": "x", "text": "a\\ud83d"}\n', 2, "half of a surrogate pair (\\ud83d) in text at character 2"),
    (b'{"_id": "x", "text": "caf\xe9"}\n', 2, "not UTF-8 (byte 0xe9 at byte 26 of the line)"),
]
READERS = [(beir.read_corpus, GOOD_DOCUMENT), (beir.read_queries, GOOD_QUERY)]


@pytest.mark.parametrize(("reader", "good"), READERS)
@pytest.mark.parametrize(("rest", "line", "message"), BAD_ROWS)
def test_bad_rows(reader: Callable[[Path], Iterator[Any]], good: str, rest: str | bytes, line: int, message: str, write: Write) -> None:
    path = write("file.jsonl", good.encode() + (rest.encode() if isinstance(rest, str) else rest))
    rows = reader(path)
    next(rows)
    with pytest.raises(InputError) as caught:
        next(rows)
    assert caught.value.where == f"{path}:{line}"
    assert message in str(caught.value)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


@pytest.mark.parametrize(("reader", "good"), READERS)
def test_duplicate_ids_name_both_lines(reader: Callable[[Path], Iterator[Any]], good: str, write: Write) -> None:
    path = write("file.jsonl", good + "\n" + good)
    with pytest.raises(InputError, match=r"file.jsonl:3: duplicate _id '[dq]1', first on line 1"):
        list(reader(path))


@pytest.mark.parametrize(("reader", "message"), [(beir.read_corpus, "the corpus is empty"), (beir.read_queries, "there are no queries")])
@pytest.mark.parametrize("content", ["", "\n \r\n"])
def test_nothing_there(reader: Callable[[Path], Iterator[Any]], message: str, content: str, write: Write) -> None:
    path = write("file.jsonl", content)
    with pytest.raises(InputError, match=message) as caught:
        list(reader(path))
    assert caught.value.where == str(path)


class TestSizesAndTexts:
    def test_a_document_of_5_mb(self, write: Write) -> None:
        path = write("c", GOOD_DOCUMENT + '{"_id": "big", "text": "' + "x" * 5_000_000 + '"}\n')
        with pytest.raises(InputError, match=r"c:2: document 'big' has 5,000,000 characters, more than 1,000,000. split it into passages"):
            list(beir.read_corpus(path))

    def test_the_limit_counts_title_and_text_and_can_be_set(self, write: Write, tmp_path: Path) -> None:
        write("corpus.jsonl", '{"_id": "d", "title": "abc", "text": "defg"}\n')
        write("queries.jsonl", '{"_id": "q", "text": "abcdefgh"}\n')
        assert len(list(beir.BeirFolder(tmp_path, max_characters=7).documents())) == 1
        with pytest.raises(InputError, match="document 'd' has 7 characters, more than 6"):
            list(beir.BeirFolder(tmp_path, max_characters=6).documents())
        with pytest.raises(InputError, match=r"queries.jsonl:1: query 'q' has 8 characters, more than 7. shorten it"):
            list(beir.BeirFolder(tmp_path, max_characters=7).queries())

    @pytest.mark.parametrize("text", ["", " ", "\\n\\t"])
    def test_a_query_without_text(self, text: str, write: Write) -> None:
        with pytest.raises(InputError, match=r"q:2: query 'q2' has no text"):
            list(beir.read_queries(write("q", GOOD_QUERY + f'{{"_id": "q2", "text": "{text}"}}\n')))

    def test_a_title_that_is_no_string(self, write: Write) -> None:
        with pytest.raises(InputError, match=r"c:1: title is a number, not a string"):
            list(beir.read_corpus(write("c", '{"_id": "d", "title": 1, "text": "x"}\n')))

    def test_a_long_id_is_cut_in_the_message(self, write: Write) -> None:
        with pytest.raises(InputError, match=r"\.\.\. \(5\d\d\d characters\)") as caught:
            list(beir.read_queries(write("q", f'{{"_id": "a {"b" * 5000}", "text": "x"}}\n')))
        assert len(str(caught.value)) < 500


class TestUnreadableFiles:
    def test_absent(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"absent.jsonl: no such file"):
            list(beir.read_corpus(tmp_path / "absent.jsonl"))

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot be read"):
            list(beir.read_corpus(tmp_path))

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, write: Write) -> None:
        path = write("c", GOOD_DOCUMENT)
        path.chmod(0)
        with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
            list(beir.read_corpus(path))

    def test_damaged_gzip(self, write: Write) -> None:
        packed = gzip.compress(GOOD_DOCUMENT.encode())
        for content in (b"plain text", packed[:-12], packed[:15] + b"\xff\xff" + packed[17:]):
            with pytest.raises(InputError, match=r"c.gz: cannot be read"):
                list(beir.read_corpus(write("c.gz", content)))

    def test_utf_16(self, write: Write) -> None:
        with pytest.raises(InputError, match=r"c:1: NUL byte at byte 4 of the line. the file is binary, damaged or UTF-16"):
            list(beir.read_corpus(write("c", b"\xff\xfe" + GOOD_DOCUMENT.encode("utf-16-le"))))


HEADER = "query-id\tcorpus-id\tscore\n"
BAD_QRELS = [
    (HEADER + "q1 d1 1\n", 2, "1 columns where 3 are expected"),
    (HEADER + "q1\t0\td1\t1\n", 2, "4 columns where 3 are expected"),
    (HEADER + "q1\td1\thigh\n", 2, "relevance 'high' is not a finite number"),
    ("q1\td1\thigh\n", 1, "relevance 'high' is not a finite number"),  # the first line is no header either
    (HEADER + "q1\td1\tnan\n", 2, "relevance 'nan' is not a finite number"),
    (HEADER + "q1\td1\t-inf\n", 2, "relevance '-inf' is not a finite number"),
    (HEADER + "q1\td1\t\n", 2, "relevance '' is not a finite number"),
    ("q1\td1\t1\n" + HEADER, 2, "relevance 'score' is not a finite number"),
    (HEADER + "\td1\t1\n", 2, "query id is empty"),
    (HEADER + "q1\td 1\t1\n", 2, "document id 'd 1' holds white space"),
    (HEADER + "q1\td1\t1\n\nq1\td1\t2\n", 4, "query 'q1' and document 'd1' have another relevance on line 2"),
]


@pytest.mark.parametrize(("content", "line", "message"), BAD_QRELS)
def test_bad_qrels(content: str, line: int, message: str, write: Write) -> None:
    path = write("qrels/test.tsv", content)
    with pytest.raises(InputError) as caught:
        list(beir.read_qrels(path))
    assert caught.value.where == f"{path}:{line}"
    assert message in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("content", ["", HEADER])
def test_qrels_without_labels(content: str, write: Write) -> None:
    with pytest.raises(InputError, match=r"test.tsv: no labels. remove the file"):
        list(beir.read_qrels(write("test.tsv", content)))


class TestCheckQrels:
    @pytest.fixture
    def folder(self, write: Write, tmp_path: Path) -> beir.BeirFolder:
        write("corpus.jsonl", GOOD_DOCUMENT)
        write("queries.jsonl", GOOD_QUERY)
        write("qrels/test.tsv", HEADER + "q1\td1\t1\nq1\td2\t1\nq9\td1\t0\nq9\td9\t0\n")
        return beir.BeirFolder(tmp_path)

    def test_first_offender_and_count(self, folder: beir.BeirFolder) -> None:
        with pytest.raises(InputError, match=r"test.tsv:3: label for the unknown document 'd2' \(3 such lines in all\)"):
            folder.check_qrels({"q1"}, {"d1"})
        with pytest.raises(InputError, match=r"test.tsv:4: label for the unknown query 'q9' \(2 such lines in all\)"):
            folder.check_qrels({"q1"}, {"d1", "d2"})
        with pytest.raises(InputError, match=r"test.tsv:5: label for the unknown document 'd9' \(1 such line in all\)"):
            folder.check_qrels({"q1", "q9"}, {"d1", "d2"})

    def test_all_known(self, folder: beir.BeirFolder) -> None:
        folder.check_qrels({"q1", "q9"}, {"d1", "d2", "d9"})
