"""A user's own file, read as text: its encoding found, or one line that says why it cannot be read and what it is."""

import codecs
import io
from collections.abc import Iterator
from pathlib import Path

from schemas.faults import Fault

HEAD = 4096  # bytes by which a file is known
SAVE = "save it as UTF-8"
BINARY = {
    b"PK\x03\x04": "a zip archive, perhaps an Excel workbook; export the sheet as tab-separated text",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook or Word document; export the sheet as tab-separated text",
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"BZh": "compressed by bzip2; unpack it",
    b"\xfd7zXZ": "compressed by xz; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it",
    b"PAR1": "a Parquet file; name it .parquet",
    b"%PDF": "a PDF; copy its questions into a table",
    b"SQLite format 3": "an SQLite database; export the table as tab-separated text",
    b"\xff\xfe\x00\x00": f"in UTF-32; {SAVE}",
    b"\x00\x00\xfe\xff": f"in UTF-32; {SAVE}",
}
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # with any other start, UTF-8, with or without its mark

# The codes that begin a common Chinese character: the first level of GB 2312 and of Big5, made of the most used. Almost
# any text decodes as GB18030, but into characters that nobody uses if it is none.
COMMON = {"GB18030": ("gb18030", range(0xB0, 0xD8)), "Big5": ("cp950", range(0xA4, 0xC7))}
SURE = 0.8  # share of them from which a text looks like one
SAMPLE = 1 << 16


def lines(path: Path, newline: str = "") -> Iterator[str]:
    """Yield the lines of a file in UTF-8 or UTF-16 with a byte order mark, each with its end; Fault with the line else.

    `newline` is io's: "" ends a line at CR, LF or both, "\\n" at LF alone. An empty file has no lines.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below, opened here so that a missing file has its own message
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}; name a file that can be read") from None
    with file:
        encoding = _encoding(path, file.read(HEAD))
        file.seek(0)
        text = io.TextIOWrapper(file, encoding=encoding, newline=newline)
        try:
            for number, line in enumerate(text, 1):
                if "\0" in line:
                    raise Fault(f"{path}:{number}: a NUL character; take it out, or {SAVE}")
                yield line
        except UnicodeDecodeError:
            raise Fault(_undecodable(path, encoding)) from None


def _encoding(path: Path, head: bytes) -> str:
    for start, what in BINARY.items():
        if head.startswith(start):
            raise Fault(f"{path}:1: not text but {what}")
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return encoding
    # In UTF-16 every second byte of a Latin letter, a digit and a tab is NUL.
    if head.count(0) > len(head) / 8:
        raise Fault(f"{path}:1: NUL bytes: binary, or UTF-16 without its byte order mark; {SAVE}")
    return "utf-8-sig"


def _undecodable(path: Path, encoding: str) -> str:
    data = path.read_bytes()
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(encoding, "replace")
        line = before.count("\n") + before.count("\r") - before.count("\r\n") + 1
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        guess = looks_like(data[:SAMPLE])
        hint = f"; the file looks like {guess}" if guess else ""
        return f"{path}:{line}: byte 0x{data[error.start]:02x} is not {name}{hint}; {SAVE}"
    return f"{path}: was changed while it was read; try again"


def looks_like(data: bytes) -> str | None:
    """Return the name of the Chinese encoding that bytes, cut off anywhere, decode from to common characters."""
    found: dict[str, float] = {}
    for name, (codec, first) in COMMON.items():
        try:
            text = codecs.getincrementaldecoder(codec)().decode(data)
        except UnicodeDecodeError:
            continue
        wide = [character.encode(codec) for character in text if "\u4e00" <= character <= "\u9fff"]
        if wide:
            # The second byte: GB 2312 begins at A1, what lies below are GBK's rare characters.
            common = sum(code[0] in first and (name == "Big5" or code[1] >= 0xA1) for code in wide)
            found[name] = common / len(wide)
    best = max(found, key=lambda name: found[name], default=None)
    return best if best is not None and found[best] >= SURE else None
