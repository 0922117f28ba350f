"""Delimited text in and out: csv rules, nothing lost in a round trip, every complaint with its line."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from schemas.chain import render
from schemas.faults import Fault
from schemas.record import LETTERS, Record

COLUMNS = ("question", *(f"option_{letter}" for letter in LETTERS), "correct_answer", "reasoning")
OPTIONAL = ("id", "difficulty", "type")


class Line(Struct, frozen=True):
    """One row of a file and the line it begins at, for a message."""

    number: int
    fields: dict[str, str]


def write(file: BinaryIO, rows: Iterable[Iterable[str]], separator: str) -> None:
    """Write rows as UTF-8, quoted where needed.

    The csv module leaves a carriage return unquoted unless it ends the lines, and no reader would get it back.
    """
    needs = re.compile(f'[{separator}"\r\n]|^\\s|\\s$')
    for row in rows:
        cells = ('"' + cell.replace('"', '""') + '"' if needs.search(cell) else cell for cell in row)
        file.write((separator.join(cells) + "\n").encode())


def bank(records: Iterable[Record]) -> Iterator[tuple[str, ...]]:
    """Yield the bank's table: a header, then question, options, answer and the whole chain of each record."""
    yield COLUMNS
    for record in records:
        yield (record.question, *record.options, record.answer, render(record))


def read(path: Path, separator: str = "\t") -> list[Line]:
    """Return the rows of a file whose first line names COLUMNS, perhaps OPTIONAL too; Fault with the line otherwise."""
    text = decode(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines: list[Line] = []
    number = 1
    header: list[str] | None = None
    try:
        for cells in reader:
            if header is None:
                header = cells
                _check_header(path, header)
            elif len(cells) != len(header):
                raise Fault(
                    f"{path}:{number}: {len(cells)} columns, the first line has {len(header)}; "
                    "quote a text that holds a tab, a quote or a line end"
                )
            else:
                lines.append(Line(number, dict(zip(header, cells, strict=True))))
            number = reader.line_num + 1
    except csv.Error as error:
        raise Fault(f"{path}:{number}: {error}; quote the text, and double each quote inside it") from None
    if header is None:
        raise Fault(f"{path}:1: the file is empty; its first line names the columns {', '.join(COLUMNS)}")
    return lines


def decode(path: Path) -> str:
    """Return the text of a file in UTF-8, a byte order mark taken off; Fault with the line of the first bad byte."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}; name a file that can be read") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Fault(f"{path}:{line}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8") from None


def _check_header(path: Path, header: list[str]) -> None:
    for column in COLUMNS:
        if column not in header:
            raise Fault(f"{path}:1: no column '{column}'; the first line names {', '.join(COLUMNS)}, tabs between them")
    for column in header:
        if column not in (*COLUMNS, *OPTIONAL):
            raise Fault(
                f"{path}:1: column '{column}' is not known; take it out ({', '.join(OPTIONAL)} are read if there)"
            )
        if header.count(column) > 1:
            raise Fault(f"{path}:1: column '{column}' stands twice; keep one")
