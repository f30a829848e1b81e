"""Files to text: Markdown, HTML, PDF and plain text. What comes out keeps headings, where passages may be cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zelo.collections.decoding import decode, read_bytes
from zelo.collections.tables import suffix_of
from zelo.encoders.extras import import_extra
from zelo.errors import InputError

MARKDOWN = (".md", ".markdown", ".mdx", ".mkd")
HTML = (".html", ".htm", ".xhtml")
PLAIN = (".txt", ".text", ".rst", ".adoc", ".org", ".tex", ".log")
PDF = (".pdf",)
SUFFIXES = (*MARKDOWN, *HTML, *PLAIN, *PDF)

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*\n", re.DOTALL | re.MULTILINE)
_YAML_LINE = re.compile(r"""[ \t].*|#.*|[-}\]].*|["']?[\w.@/ -]+["']?[ \t]*:(?:[ \t].*)?|""")
_TITLE_LINE = re.compile(r"""^["']?title["']?:[ \t]*(.+?)[ \t]*$""", re.MULTILINE)
_UNDERLINED = re.compile(r"^(?P<title>\S.{0,150}?)[ \t]*\n(?P<line>[=\-~^#*])(?P=line){2,}[ \t]*$", re.MULTILINE)
_ATX = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
_CHARSET = re.compile(rb"<(?:meta[^>]*charset|\?xml[^>]*encoding)\s*=\s*[\"']?([A-Za-z0-9_.:-]+)", re.IGNORECASE)
_SPACES, _BLANK_LINES = re.compile(r"[ \t\r\f\v\u00a0]+"), re.compile(r"\n{3,}")
_TRAILING = re.compile(r"[ \t]+\n")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_NO_TEXT = (
    "script, style, noscript, template, svg, nav, footer, aside, iframe, button, select, textarea, [role=navigation], [aria-hidden=true]"
)
_MAIN = ("main", "[role=main]", "article", "body")
_BLOCKS = {"p", "div", "section", "article", "main", "header", "blockquote", "table", "ul", "ol", "dl", "dt", "dd", "figure", "details",
           "summary", "address", "form", "fieldset", "tr", "center", "body", "figcaption", "caption", "hr"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of text of a file. `page` counts from 1, 0 where there are none; `markup`: its lines `# ...` are headings."""

    text: str
    title: str = ""
    page: int = 0
    markup: bool = False
    encoding: str = "utf-8"


def extract(path: Path, most_bytes: int) -> Iterator[Part]:
    """Yield the text of a file, page by page where it has any.

    Raises:
        InputError: it is too large, binary, damaged, locked or without text.
        MissingExtraError: a library for its kind is not installed.
    """
    suffix = suffix_of(path)
    if suffix in PDF:
        yield from _pdf(path, most_bytes)
        return
    data = read_bytes(path, most_bytes)
    declared = _CHARSET.search(data[:2048]) if suffix in HTML else None
    text, encoding = decode(data, str(path), declared[1].decode("ascii") if declared else "")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if suffix in HTML:
        part = _html(text, encoding, path)
    elif suffix in MARKDOWN:
        part = _markdown(text, encoding)
    else:
        found = _UNDERLINED.search(text[:2000])
        part = Part(text, found["title"].strip() if found else "", encoding=encoding)
    if not part.text.strip():
        raise InputError("has no text", where=str(path), remedy="leave it out, or look what it holds")
    yield part


def _markdown(text: str, encoding: str) -> Part:
    front = _FRONT_MATTER.match(text)
    if front and not (front[1].strip() and all(_YAML_LINE.fullmatch(line) for line in front[1].rstrip("\n").split("\n"))):
        front = None  # a text between two rules
    named = _TITLE_LINE.search(front[1]) if front else None
    body = text[front.end() :] if front else text
    heading = _ATX.search(body[:2000]) or _UNDERLINED.search(body[:2000])
    title = named[1].strip("\"'") if named else heading[1] if heading else ""
    return Part(body, title, markup=True, encoding=encoding)


def _html(text: str, encoding: str, path: Path) -> Part:
    parser = import_extra("selectolax.lexbor", "selectolax", "documents")
    tree = parser.LexborHTMLParser(text)
    title = tree.css_first("title")
    for node in tree.css(_NO_TEXT):
        node.decompose()
    root = next((node for selector in _MAIN if (node := tree.css_first(selector)) is not None and node.text(deep=True).strip()), None)
    if root is None:
        raise InputError(
            "HTML without text", where=str(path), remedy="leave it out; a page that a script fills has to be saved after it ran"
        )
    pieces: list[str] = []
    _render(root, pieces)
    body = _BLANK_LINES.sub("\n\n", _TRAILING.sub("\n", "".join(pieces))).strip()
    return Part(body, " ".join(title.text().split()) if title is not None else "", markup=True, encoding=encoding)


def _render(root: Any, pieces: list[str]) -> None:
    """Write the elements below a node as text with Markdown's headings, items and code; without recursion, since pages nest deep."""
    stack: list[Any] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            pieces.append(node)
            continue
        tag = node.tag
        if tag == "-text":
            pieces.append(_SPACES.sub(" ", node.text_content.replace("\n", " ")))
        elif tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            pieces.append(f"\n\n{'#' * int(tag[1])} {' '.join(node.text(deep=True).replace(chr(0xB6), ' ').split())}\n\n")
        elif tag == "pre":
            pieces.append(f"\n\n```\n{node.text(deep=True).strip(chr(10))}\n```\n\n")
        elif tag == "br":
            pieces.append("\n")
        elif tag is not None and not tag.startswith("-"):
            before, after = (
                ("\n- ", "\n") if tag == "li" else ("", " | ") if tag in ("td", "th") else ("\n\n",) * 2 if tag in _BLOCKS else ("", "")
            )
            stack.append(after)
            stack.extend(reversed(list(node.iter(include_text=True))))
            stack.append("\n" + before if tag == "tr" else before)


def _pdf(path: Path, most_bytes: int) -> Iterator[Part]:
    pdfium = import_extra("pypdfium2", "pypdfium2", "documents")
    data = read_bytes(path, most_bytes)
    try:
        document = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if "assword" in str(error):
            raise InputError("an encrypted PDF", where=str(path), remedy="save it without a password") from None
        raise InputError(f"a damaged PDF ({error})", where=str(path), remedy="open it in a viewer and save it again") from None
    try:
        title = _clean(str(document.get_metadata_dict().get("Title", ""))).strip()
        found = False
        for number in range(len(document)):
            page = document[number].get_textpage()
            text = _clean(page.get_text_bounded().replace("\r\n", "\n").replace("\ufffe", ""))
            page.close()
            if text.strip():
                found = True
                yield Part(text, title, number + 1)
    except pdfium.PdfiumError as error:
        raise InputError(f"a damaged PDF ({error})", where=str(path), remedy="open it in a viewer and save it again") from None
    finally:
        document.close()
    if not found:
        raise InputError("a PDF without text: its pages are pictures", where=str(path), remedy="run text recognition (OCR) over it first")


def _clean(text: str) -> str:
    return _CONTROL.sub("", text)
