"""Delimited text in and out: csv rules, nothing lost in a round trip, every complaint with its line."""

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from schemas.faults import Fault
from schemas.record import LETTERS, Record

COLUMNS = ("question", *(f"option_{letter}" for letter in LETTERS), "correct_answer", "reasoning")
OPTIONAL = ("id", "difficulty", "type")
LONGEST = 1 << 24  # characters of a cell; csv's own bound of 131,072 refuses a file for one long text
SEPARATORS = {"\t": "tabs", ",": "commas"}
MAYBE = {separator: re.compile(f'[{separator}"\\s]') for separator in SEPARATORS}


class Line(Struct, frozen=True):
    """One row of a file and the line it begins at, for a message."""

    number: int
    fields: dict[str, str]


def encode(rows: Iterable[Iterable[str]], separator: str) -> bytes:
    """Return rows as UTF-8, a line each, quoted where needed."""
    maybe = MAYBE[separator].search
    lines = [separator.join([_quoted(cell, separator) if maybe(cell) else cell for cell in row]) for row in rows]
    return "\n".join([*lines, ""]).encode()


def _quoted(cell: str, separator: str) -> str:
    # The csv module leaves a carriage return unquoted unless it ends the lines, and no reader would get it back; one
    # that trims cells trims the unquoted.
    if '"' in cell:
        cell = cell.replace('"', '""')
    elif not ("\n" in cell or separator in cell or "\r" in cell or cell.strip() != cell):
        return cell
    return f'"{cell}"'


def row(record: Record, chain: str) -> tuple[str, ...]:
    """Return a record as a row under COLUMNS: question, options, answer and the whole chain, rendered."""
    return (record.question, *record.options, record.answer, chain)


def read(path: Path, lines: Iterable[str], separator: str) -> Iterator[Line]:
    """Yield the rows of a file whose first line names COLUMNS, perhaps OPTIONAL too; Fault with the line otherwise.

    Blank lines are passed over.
    """
    csv.field_size_limit(LONGEST)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    number = 1
    header: list[str] | None = None
    rows = 0
    try:
        for cells in reader:
            if header is None:
                header = cells
                _check_header(path, header, SEPARATORS[separator])
            elif cells:
                if len(cells) != len(header):
                    raise Fault(
                        f"{path}:{number}: {len(cells)} columns, the first line has {len(header)}; "
                        "quote a text that holds a separator, a quote or a line end"
                    )
                yield Line(number, dict(zip(header, cells, strict=True)))
                rows += 1
            number = reader.line_num + 1
    except csv.Error as error:
        hint = "is a quote not closed?" if "field larger" in str(error) else "quote the text, double each quote in it"
        raise Fault(f"{path}:{number}: {error}; {hint}") from None
    if header is None:
        raise Fault(f"{path}:1: the file is empty; its first line names the columns {', '.join(COLUMNS)}")
    if not rows:
        raise Fault(f"{path}:{number}: no rows after the line that names the columns; add the questions")


def _check_header(path: Path, header: list[str], between: str) -> None:
    for column in COLUMNS:
        if column not in header:
            raise Fault(
                f"{path}:1: no column '{column}'; the first line names {', '.join(COLUMNS)}, {between} between them"
            )
    for column in header:
        if column not in (*COLUMNS, *OPTIONAL):
            raise Fault(
                f"{path}:1: column '{column}' is not known; take it out ({', '.join(OPTIONAL)} are read if there)"
            )
        if header.count(column) > 1:
            raise Fault(f"{path}:1: column '{column}' stands twice; keep one")
