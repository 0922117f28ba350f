"""Delimited text in and out: csv rules, nothing lost in a round trip, every complaint with its line."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from schemas.faults import Fault
from schemas.record import LETTERS, Record

COLUMNS = ("question", *(f"option_{letter}" for letter in LETTERS), "correct_answer", "reasoning")
OPTIONAL = ("id", "difficulty", "type")
LONGEST = 1 << 24  # characters of a cell; csv's own bound of 131,072 refuses a file for one long text
SEPARATORS = {"\t": "tabs", ",": "commas"}


class Line(Struct, frozen=True):
    """One row of a file and the line it begins at, for a message."""

    number: int
    fields: dict[str, str]


def encode(rows: Iterable[Iterable[str]], separator: str) -> bytes:
    """Return rows as UTF-8, a line each, quoted where needed."""
    columns = [_column(cells, separator) for cells in zip(*rows, strict=True)]
    lines = map(separator.join, zip(*columns, strict=True))
    return "\n".join([*lines, ""]).encode()


def _column(cells: tuple[str, ...], separator: str) -> Iterable[str]:
    # A search of the whole column, which often needs no quotes, is quicker than one of each cell.
    text = "".join(cells)
    if any(mark in text for mark in ('"', "\n", "\r", separator)) or tuple(map(str.strip, cells)) != cells:
        return [_quoted(cell, separator) for cell in cells]
    return cells


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


def read(
    path: Path,
    lines: Iterable[str],
    separator: str,
    columns: Sequence[str] = COLUMNS,
    optional: Sequence[str] = OPTIONAL,
) -> Iterator[Line]:
    """Yield the rows of a file whose first line names the columns, perhaps optional ones too; Fault with the line else.

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
                _check_header(path, header, SEPARATORS[separator], columns, optional)
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
        raise Fault(f"{path}:1: the file is empty; its first line names the columns {', '.join(columns)}")
    if not rows:
        raise Fault(f"{path}:{number}: no rows after the line that names the columns; add the questions")


def _check_header(path: Path, header: list[str], between: str, columns: Sequence[str], optional: Sequence[str]) -> None:
    for column in columns:
        if column not in header:
            raise Fault(
                f"{path}:1: no column '{column}'; the first line names {', '.join(columns)}, {between} between them"
            )
    for column in header:
        if column not in (*columns, *optional):
            raise Fault(
                f"{path}:1: column '{column}' is not known; take it out ({', '.join(optional)} are read if there)"
            )
        if header.count(column) > 1:
            raise Fault(f"{path}:1: column '{column}' stands twice; keep one")
