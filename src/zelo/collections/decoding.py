"""Bytes of a file to text, whatever encoding it has."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import zlib
from pathlib import Path

from zelo.errors import InputError

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
         (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
_COMMON = "cp1252"  # of the encodings that a text could have, the one that most have
_LOOKED_AT = 200_000  # bytes of a file that is not UTF-8, to find out what it is


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """Return the bytes of a file, unpacked where it ends in `.gz`.

    Args:
        path: the file.
        most: refuse more bytes than this, also after unpacking.

    Raises:
        InputError: not readable, or too large.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as handle:
            data = handle.read() if most is None else handle.read(most + 1)
    except FileNotFoundError:
        raise InputError("no such file", where=str(path), remedy="check the path") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot be read ({reason})", where=str(path), remedy="check the file and its permissions") from error
    if most is not None and len(data) > most:
        what = f"larger than {most / 1e6:g} MB (ingest.max_megabytes)"
        raise InputError(what, where=str(path), remedy="split it, raise the limit, or leave it out")
    return data


def decode(data: bytes, where: str, declared: str = "") -> tuple[str, str]:
    """Return the text and the encoding that it was taken for: by its byte order mark, else UTF-8, else as declared, else by its letters.

    Args:
        data: the bytes.
        where: the file, for messages.
        declared: the encoding that the file says it has; one that is unknown or wrong is passed over.

    Raises:
        InputError: it is binary, or in no known encoding.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            try:
                return data.decode("utf-8-sig" if name == "utf-8" else name), name
            except UnicodeDecodeError as error:
                raise InputError(f"begins as {name} and is not ({error.reason})", where=where, remedy="save it as UTF-8") from None
    if b"\0" in data[:_LOOKED_AT]:
        raise InputError("binary, not text", where=where, remedy="leave it out, or export it as text")
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        with contextlib.suppress(LookupError, UnicodeDecodeError):
            if declared:
                return data.decode(declared), declared.lower()
        from zelo.encoders.extras import import_extra

        found = import_extra("charset_normalizer", "charset-normalizer", "documents").from_bytes(data[:_LOOKED_AT]).best()
        if found is None:
            what = f"in no known encoding (byte 0x{data[error.start]:02x} at {error.start + 1:,} is not UTF-8)"
            raise InputError(what, where=where, remedy="save it as UTF-8") from None
        name = _COMMON if _COMMON in found.could_be_from_charset else found.encoding
        try:
            return data.decode(name), name
        except UnicodeDecodeError:
            return data.decode("latin-1"), "latin-1"


def read_text(path: Path, most: int | None = None) -> tuple[str, str]:
    """Return the text of a file and its encoding; see `read_bytes` and `decode`."""
    return decode(read_bytes(path, most), str(path))
