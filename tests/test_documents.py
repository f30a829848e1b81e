"""Documents and queries as people have them: every kind, every fault, ids that stay."""

from __future__ import annotations

import gzip
import json
import os
import sys
import types
from pathlib import Path

import pytest

from conftest import zelo
from zelo.collections import open_collection
from zelo.collections.decoding import decode
from zelo.collections.documents import Documents, Reading
from zelo.collections.passages import Passages, file_id
from zelo.collections.query_log import QueryLog, query_id_of
from zelo.collections.walking import find_files
from zelo.errors import InputError, MissingExtraError
from zelo.types import Document

SECTION = "Words that say something about the matter, again and again, so that this section is long enough to stand alone. "
INSTALL = f"## Install\n\n{SECTION * 6}\n\n```\n# no heading\n```\n"
MARKDOWN = f"---\ntitle: The Manual\n---\n# Start\n\n{SECTION * 4}\n\n{INSTALL}\n## Use\n\n{SECTION * 6}\n"
HTML = f"""<html><head><title>A page</title><style>p {{}}</style></head><body><nav>menu menu</nav><main><h1>A page</h1><p>{SECTION}</p>
<h2>Lists</h2><ul><li>one</li><li>two <b>bold</b></li></ul><table><tr><td>a</td><td>b</td></tr></table><pre>x = 1
  y = 2</pre><script>var secret = 1</script></main><footer>imprint</footer></body></html>"""


def pdf(*pages: str) -> bytes:
    """A PDF with a line of text per page; "" is a page without any."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{' '.join(f'{4 + 2 * n} 0 R' for n in range(len(pages)))}] "
               f"/Count {len(pages)} >>", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]  # fmt: skip
    for n, text in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 400] /Contents {5 + 2 * n} 0 R /Resources << /Font << /F1 3 0 R >> >> >>"
        )
        stream = f"BT /F1 12 Tf 40 300 Td ({text}) Tj ET" if text else ""
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n" + "".join(f"{place:010d} 00000 n \n" for place in places)
    return out + table.encode() + f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n".encode()


def read(source: Path | str, **reading: object) -> dict[str, Document]:
    return {d.doc_id: d for d in Documents(str(source), Reading(**reading)).documents()}  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    (docs / "sub dir").mkdir(parents=True)
    (docs / "manual.md").write_text(MARKDOWN, "utf-8")
    (docs / "sub dir/page.html").write_text(HTML, "utf-8")
    (docs / "notes.txt").write_text("Short notes\n===========\n\nabout nothing", "utf-8")
    (docs / "paper.pdf").write_bytes(pdf("first page text", "second page text"))
    return docs


def test_a_folder_becomes_passages_with_titles_of_their_sections(folder: Path) -> None:
    found = read(folder, characters=600)
    titles = [d.title for d in found.values()]
    assert {"The Manual > Start", "The Manual > Start > Install", "The Manual > Start > Use"} <= set(titles)
    page = next(d for name, d in found.items() if name.startswith("sub%20dir/page.html#"))
    assert page.title == "A page"
    whole = "\n".join(d.text for name, d in found.items() if name.startswith("sub%20dir"))
    assert "- two bold" in whole
    assert "a | b" in whole
    assert "x = 1\n  y = 2" in whole
    assert not {"menu", "secret", "imprint"} & set(whole.split())
    assert [d.title for name, d in found.items() if name.startswith("notes")] == ["Short notes"]
    assert [name.split("-")[0] for name in found if name.startswith("paper")] == ["paper.pdf#p1", "paper.pdf#p2"]
    assert all(len(d.text) <= 600 for d in found.values())
    assert not any(c.isspace() for name in found for c in name)


def test_ids_stay_when_other_files_and_other_passages_change(folder: Path) -> None:
    before = read(folder, characters=600)
    (folder / "a new one.md").write_text(MARKDOWN, "utf-8")  # the same passages under another name, earlier in the order
    (folder / "notes.txt").unlink()
    text = MARKDOWN.replace("## Use\n\nWords", "## Use\n\nOther words").replace("# Start", "# Start\n\nOne more sentence.")
    (folder / "manual.md").write_text(text, "utf-8")
    after = read(folder, characters=600)
    kept = {name for name, d in before.items() if name in after and after[name].text == d.text}
    assert {name for name in before if not name.startswith(("notes", "manual"))} <= kept
    sections = {d.title: name for name, d in before.items() if name.startswith("manual")}
    assert sections["The Manual > Start > Install"] in kept
    assert len([name for name in kept if name.startswith("manual")]) >= 1
    assert all(after[name].text == before[name].text for name in before.keys() & after.keys())


def test_whole_files_have_their_names(folder: Path) -> None:
    assert list(read(folder, split="none")) == ["manual.md", "notes.txt", "paper.pdf#p1", "paper.pdf#p2", "sub%20dir/page.html"]


def test_equal_passages_of_a_file_are_told_apart_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("same\n", "utf-8")
    (tmp_path / "b.md").write_text("same\n", "utf-8")
    found = Documents(str(tmp_path), Reading())
    assert len({d.doc_id for d in found.documents()}) == 2
    names = Passages(0)
    assert [names.free("x"), names.free("x")] == ["x", "x-2"]
    assert file_id("a b/ü%\n.md") == "a%20b/ü%25%0A.md"


def test_what_cannot_be_read_is_skipped_and_named(folder: Path) -> None:
    (folder / "scan.pdf").write_bytes(pdf("", ""))
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 and then nothing")
    (folder / "binary.txt").write_bytes(bytes(range(256)) * 3)
    (folder / "empty.html").write_text("<html><body><script>x</script></body></html>", "utf-8")
    (folder / "latin.txt").write_bytes("Größe der Straße, über Öl und Äpfel. Ein schöner Tag für müde Wanderer".encode("latin-1"))
    (folder / "wide.txt").write_text("wide letters", "utf-16")
    (folder / "picture.png").write_bytes(b"x")
    (folder / "gone.md").symlink_to("nowhere")
    (folder / "sub dir/loop").symlink_to(folder)
    (folder / "big.txt").write_text("x" * 300_000, "utf-8")
    collection = Documents(str(folder), Reading(max_bytes=200_000))
    found = {d.doc_id: d.text for d in collection.documents()}
    said = "\n".join(collection.remarks)
    for part in (
        "not read, of other kinds: 1 .png",
        "scan.pdf: a PDF without text: its pages are pictures. run text recognition",
        "broken.pdf: a damaged PDF",
        "binary.txt: binary, not text",
        "empty.html: HTML without text",
        "gone.md: a link that leads nowhere",
        "big.txt: larger than 0.2 MB (ingest.max_megabytes)",
        "2 files not UTF-8",
    ):
        assert part in said
    assert any("Größe der Straße" in text for text in found.values())
    assert any(text == "wide letters" for text in found.values())
    assert len(find_files(folder).found) == len({path.resolve() for path, _ in find_files(folder).found})
    with pytest.raises(InputError, match=r"big\.txt: larger than|binary"):
        list(Documents(str(folder), Reading(max_bytes=200_000, skip=False)).documents())


def test_an_encrypted_pdf_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pypdfium2

    def locked(data: bytes) -> None:
        raise pypdfium2.PdfiumError("Failed to load document (PDFium: Incorrect password error).")

    monkeypatch.setattr(pypdfium2, "PdfDocument", locked)
    (tmp_path / "a.pdf").write_bytes(pdf("x"))
    with pytest.raises(InputError, match=r"an encrypted PDF\. save it without a password"):
        read(tmp_path / "a.pdf")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: p.mkdir(), "the folder is empty"),
        (lambda p: (p.mkdir(), (p / "a.png").write_bytes(b"")), "no document in this folder: 1 files of other kinds"),
        (lambda p: p.write_bytes(b""), "is no kind of document that is known"),
        (lambda p: None, "no such file or folder"),
    ],
)
def test_nothing_to_read_is_said(tmp_path: Path, make: object, said: str) -> None:
    make(tmp_path / "docs")  # type: ignore[operator]
    with pytest.raises(InputError, match=said):
        Documents(str(tmp_path / "docs"), Reading())


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.html").write_text(HTML, "utf-8")
    monkeypatch.setitem(sys.modules, "selectolax.lexbor", None)
    with pytest.raises(MissingExtraError, match=r"selectolax is not installed. pip install 'zelo\[documents\]'"):
        read(tmp_path)


ROWS = [{"id": "r1", "title": "T", "text": "one"}, {"id": "r2", "title": "", "text": "two words"}]


def _tables(folder: Path) -> list[Path]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    table = pa.Table.from_pylist(ROWS)
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    (folder / "a.json").write_text(json.dumps(ROWS), "utf-8")
    (folder / "a.csv").write_text("id;title;text\nr1;T;one\n\nr2;;two words\n", "utf-8-sig")
    (folder / "a.tsv").write_text("id\ttitle\ttext\nr1\tT\tone\nr2\t\ttwo words\n", "utf-8")
    with gzip.open(folder / "b.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in ROWS))
    pq.write_table(table, folder / "a.parquet")
    saved = folder / "saved"  # as datasets' save_to_disk leaves it
    saved.mkdir()
    with pa.OSFile(str(saved / "data-00000-of-00001.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    (saved / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}), "utf-8")
    (saved / "dataset_info.json").write_text("{}", "utf-8")
    return sorted(folder.iterdir())


def test_rows_of_every_kind_of_table_are_documents(tmp_path: Path) -> None:
    for path in _tables(tmp_path / "tables"):
        assert [(d.doc_id, d.title, d.text) for d in read(path).values()] == [("r1", "T", "one"), ("r2", "", "two words")], path


def test_rows_are_cut_when_asked_for_and_named_by_their_words_without_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"_id": "long", "text": SECTION * 20}) + "\n" + json.dumps({"text": "no id"}) + "\n", "utf-8")
    whole = Documents(str(path), Reading(characters=300))
    assert next(d.doc_id for d in whole.documents()) == "long"
    list(whole.documents())
    assert "1 rows are longer than 1,200 characters" in whole.remarks[0]
    cut = read(path, characters=300, split="all")
    assert all(name.startswith(("long#", "a.jsonl#")) for name in cut)
    assert len(cut) > 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"words": "x"}\n', "no column of texts is known. name it one of text, content"),
        ('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n', "id 'a' is that of .*a.jsonl:1 too"),
        ('{"id": "a b", "text": "x"}\n', "holds white space"),
        ('{"id": "a", "text": {"x": 1}}\n', "no text. set ingest.text_column"),
        ("not json\n", "not valid JSON"),
    ],
)
def test_faulty_tables_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.jsonl").write_text(text, "utf-8")
    with pytest.raises(InputError, match=said):
        read(tmp_path / "a.jsonl")


def test_columns_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("key,words,text\nk1,right,wrong\n", "utf-8")
    assert [(d.doc_id, d.text) for d in read(tmp_path / "a.csv", text_column="words", id_column="key").values()] == [("k1", "right")]
    with pytest.raises(InputError, match=r"no column 'none' for texts\. there are: key, words, text"):
        read(tmp_path / "a.csv", text_column="none")
    (tmp_path / "b.csv").write_text("text\na,b\n", "utf-8")
    with pytest.raises(InputError, match=r"b.csv:2: 2 columns where the header has 1"):
        read(tmp_path / "b.csv")


def test_a_data_set_of_the_hub_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tables(tmp_path / "snapshot")
    (tmp_path / "snapshot/README.md").write_text("no document", "utf-8")
    asked: dict[str, object] = {}

    def download(name: str, **options: object) -> str:
        asked.update(options, name=name)
        if name == "no/such":
            raise OSError("offline")
        return str(tmp_path / "snapshot/a.parquet")

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=download))
    assert list(read("hf:owner/name@main")) == ["r1", "r2"]
    assert (asked["name"], asked["repo_type"], asked["revision"]) == ("owner/name", "dataset", "main")
    with pytest.raises(InputError, match=r"hf:no/such: cannot be downloaded \(OSError: offline\)"):
        read("hf:no/such")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.txt", "what  is it\n\nwho was it\nwhat is it\n"),
        ("q.jsonl", '{"query": "what is it"}\n{"query": "who was it"}\n{"query": "what is it"}\n{"query": ""}\n'),
        ("q.csv", "time,query\n1,what is it\n2,who was it\n3,what is it\n4,\n"),
        ("q.tsv", "query\nwhat is it\nwho was it\n what is it\n"),
    ],
)
def test_logs_of_every_kind_give_the_same_queries(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    log = QueryLog(tmp_path / name)
    assert [(q.query_id, q.text) for q in log.queries()] == [(query_id_of(t), t) for t in ("what is it", "who was it")]
    assert log.notes["repeated_queries"] == 1


def test_ids_of_a_log_are_kept_and_faults_named(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"_id": "7", "text": "a"}\n{"_id": "7", "text": "a"}\n{"_id": "8", "text": "a"}\n', "utf-8")
    assert [q.query_id for q in QueryLog(path).queries()] == ["7", "8"]
    path.write_text('{"_id": "7", "text": "a"}\n{"_id": "7", "text": "b"}\n', "utf-8")
    with pytest.raises(InputError, match="two queries have the id '7'"):
        list(QueryLog(path).queries())
    path.write_text('{"a": "x", "b": "y"}\n', "utf-8")
    with pytest.raises(InputError, match=r"no column of queries is known. name it one of query, .* ingest.query_column to one of: a, b"):
        list(QueryLog(path).queries())
    assert [q.text for q in QueryLog(path, "b").queries()] == ["y"]
    path.write_text("\n", "utf-8")
    with pytest.raises(InputError, match="there are no queries"):
        list(QueryLog(path).queries())
    with pytest.raises(InputError, match="no such file"):
        QueryLog(tmp_path / "none.txt")


def test_encodings() -> None:
    assert decode("\ufeffx".encode(), "f") == ("x", "utf-8")
    assert decode("x".encode("utf-16"), "f")[0] == "x"
    assert decode("привет".encode("cp1251"), "f", "windows-1251")[0] == "привет"
    with pytest.raises(InputError, match="begins as utf-16 and is not"):
        decode(b"\xff\xfex", "f")


def test_documents_with_queries_go_through_the_command_line(folder: Path, tmp_path: Path) -> None:
    (folder / "queries.txt").write_text("how to install\nwhat to use\n", "utf-8")  # in the folder, and no document
    made = zelo("new", tmp_path / "ws", "--corpus", folder, "--queries", folder / "queries.txt", "--set", "ingest.passage_characters=600")
    assert made.code == 0, made.err
    ran = zelo("run", tmp_path / "ws", "--to", "ingest")
    assert ran.code == 0, ran.err
    assert "2 questions train" in ran.err
    rows = [json.loads(line) for line in (tmp_path / "ws/corpus.jsonl").read_text("utf-8").splitlines()]
    assert {row["_id"].split("#")[0] for row in rows} == {"manual.md", "notes.txt", "paper.pdf", "sub%20dir/page.html"}
    os.utime(folder / "manual.md", (1, 1))
    assert "would run: collection changed" in zelo("run", tmp_path / "ws", "--dry-run").out
    lonely = zelo("new", tmp_path / "ws2", "--corpus", folder)
    assert lonely.code == 2
    assert "documents without queries. give what people asked, one per line: --queries FILE" in lonely.err


def test_a_beir_corpus_with_queries_of_ones_own_keeps_its_rows(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"_id": "d", "text": SECTION * 30}) + "\n", "utf-8")
    (tmp_path / "log.txt").write_text("a question\n", "utf-8")
    found = open_collection(tmp_path, Reading(queries=str(tmp_path / "log.txt")))
    assert [d.doc_id for d in found.documents()] == ["d"]
    assert found.splits() == ()


def test_what_zelo_made_is_no_document(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    for name, inside in (
        ("ws", "recipe.toml"),
        ("deep/ws-beir", "README.md"),
        ("model", "README.md"),
        ("cake", "recipe.toml"),
        ("other", "README.md"),
    ):
        (docs / name).mkdir(parents=True)
        card = "---\nlanguage:\n- en\ntags:\n- zelo\n---\n" if "beir" in name else "---\ntags: [reranker, zelo]\n---\n"
        text = {"ws": "[ingest]\n", "cake": "flour\n", "other": "---\ntags:\n- bread\n---\nabout zelo\n"}.get(name, card)
        (docs / name / inside).write_text(text, "utf-8")
        (docs / name / "corpus.md").write_text(f"words of {name}", "utf-8")
    found = Documents(str(docs), Reading())
    assert {d.doc_id.split("#")[0] for d in found.documents()} == {"cake/corpus.md", "other/README.md", "other/corpus.md"}
    assert "left out, zelo made them: deep/ws-beir, model, ws" in found.remarks
    assert find_files(docs / "ws").found  # asked for itself, it is read


def test_a_bad_row_costs_that_row_only(tmp_path: Path) -> None:
    rows = ('{"id": 1, "text": "one"}', "{bad", '\udcff{"id": 2}', '{"id": 1, "text": "again"}', '{"id": 3, "text": "cut \\ud83d"}')
    (tmp_path / "a.jsonl").write_text("\n".join(rows), "utf-8", "surrogateescape")
    (tmp_path / "b.csv").write_text('id,text\n1,first of b\n5\n6,"six"\n', "utf-8")
    (tmp_path / "c.json").write_text('[{"id": "x", "text": "list"}, 5, {"id": "y", "text": {}}]', "utf-8")
    found = Documents(str(tmp_path), Reading())
    texts = {d.doc_id: d.text for d in found.documents()}
    assert texts == {"1": "one", "3": "cut \ufffd", "1-2": "first of b", "6": "six", "x": "list"}
    places = (
        "a.jsonl:2: not valid JSON",
        "a.jsonl:3: not UTF-8",
        "a.jsonl:4: id '1' is that of",
        "b.csv:3: 1 columns",
        "c.json[2]: not an",
        "c.json[3]",
    )
    assert all(sum(f"skipped {tmp_path}/{place}" in remark for remark in found.remarks) == 1 for place in places)
    assert any("1 rows have an id that a row of another table has" in remark for remark in found.remarks)
    with pytest.raises(InputError, match=r"a.jsonl:2: not valid JSON"):
        read(tmp_path, skip=False)


def test_a_table_that_breaks_off_keeps_what_was_read_and_says_so(tmp_path: Path) -> None:
    rows = "".join(f'{{"text": "row {n} {os.urandom(40).hex()}"}}\n' for n in range(5000))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(rows.encode())[:200_000])
    (tmp_path / "b.txt").write_text("more words", "utf-8")
    found = Documents(str(tmp_path), Reading())
    kept = sum(d.doc_id.startswith("a.jsonl") for d in found.documents())
    assert 0 < kept < 5000
    assert any(remark.startswith(f"{kept:,} passages read, the rest left out: ") for remark in found.remarks)


def test_ids_of_tables_never_collide(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,one\n1-2,two\n", "utf-8")
    (tmp_path / "b.csv").write_text("id,text\n1,three\n1-2,four\n9,\n", "utf-8")
    (tmp_path / "c.csv").write_text("id,text\n9,\n", "utf-8")
    ids = [d.doc_id for d in Documents(str(tmp_path), Reading()).documents()]
    assert len(ids) == 6 == len(set(ids))


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system takes names in UTF-8 only")
def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for byte in (b"\xff", b"\xfe"):
        Path(os.fsdecode(os.fsencode(tmp_path / "docs/x") + byte + b".txt")).write_text(f"words {byte!r}", "utf-8")
    (tmp_path / "log.txt").write_text("words\nother words\n", "utf-8")
    assert zelo("new", tmp_path / "ws", "--corpus", tmp_path / "docs", "--queries", tmp_path / "log.txt").code == 0
    assert "2 corpus" in zelo("run", tmp_path / "ws", "--to", "ingest").err


def test_a_text_between_rules_is_no_front_matter(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\n\nKept: a line.\nAnother line, without a key.\n\n---\n\nMore.\n", "utf-8")
    (tmp_path / "b.md").write_text('---\n"title": Named\nlist:\n- a\n  b\n# remark\n---\nBody.\n', "utf-8")
    found = {d.doc_id[:4]: d for d in Documents(str(tmp_path), Reading()).documents()}
    assert "Another line" in found["a.md"].text
    assert (found["b.md"].title, found["b.md"].text) == ("Named", "Body.")


def test_bad_lines_of_a_log_are_skipped_where_they_may_be(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"query": "a"}\n{"query": {"b": 1}}\n{"query": "c \\ud83d"}\n{"other": 1, "x": 2}\n{"query": "cut o', "utf-8")
    log = QueryLog(path, skip=True)
    assert [q.text for q in log.queries()] == ["a", "c \ufffd"]
    assert log.notes == {"unreadable_lines_of_queries": 3}
    assert log.remarks[0].startswith(f"skipped {path}:2: query holds {{'b': 1}}, no text")
    with pytest.raises(InputError, match=r"q\.jsonl:2"):
        list(QueryLog(path).queries())
    path.write_text("{bad\n", "utf-8")
    with pytest.raises(InputError, match="not valid JSON"):
        list(QueryLog(path, skip=True).queries())


def test_tables_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "topics.tsv").write_text('q1\thow "quoted is it\nq2\twhat is it\n', "utf-8")
    assert [(q.query_id, q.text) for q in QueryLog(tmp_path / "topics.tsv").queries()] == [
        ("q1", 'how "quoted is it'),
        ("q2", "what is it"),
    ]
    assert list(read(tmp_path / "topics.tsv")) == ["q1", "q2"]
    (tmp_path / "lines.txt").write_text("one\u2028still one\x0cand\x85so\r\ntwo\rthree", "utf-8")
    assert len([*QueryLog(tmp_path / "lines.txt").queries()]) == 3
