"""JSON and JSON Lines in and out: every row typed, every file whole or not there at all."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from schemas.faults import Fault

R = TypeVar("R", bound=msgspec.Struct)


@contextmanager
def whole(path: Path | str) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only if the block ends well; folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def opened(path: Path | str) -> BinaryIO:
    """Return a file that an earlier stage wrote, open for reading; Fault if it cannot be."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}; an earlier stage writes it, run `dvc repro`") from None


def decoded(path: Path | str, first: int, lines: Iterable[bytes], row: type[R]) -> Iterator[R]:
    """Yield lines, numbered from `first`, as rows; Fault `PATH:LINE: what is wrong` at the first bad one."""
    decode = msgspec.json.Decoder(row).decode
    for number, line in enumerate(lines, first):
        try:
            yield decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Fault(f"{path}:{number}: {_complaint(line, error)}") from None


def read(path: Path | str, row: type[R]) -> Iterator[R]:
    """Yield the rows of a JSONL file; Fault `PATH:LINE: what is wrong` at the first bad one."""
    with opened(path) as file:
        # Binary lines end at b"\n" alone; str.splitlines would also cut at U+2028 inside a text.
        yield from decoded(path, 1, file, row)


def _complaint(line: bytes, error: Exception) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as wrong:
        return f"byte 0x{line[wrong.start]:02x} is not UTF-8; save the file as UTF-8"
    return str(error) if line.strip() else "the line is empty; take it out"


def write(path: Path | str, rows: Iterable[msgspec.Struct]) -> int:
    """Write rows as JSONL, whole or not at all; return how many."""
    encode = msgspec.json.Encoder().encode
    count = 0
    with whole(path) as file:
        for row in rows:
            file.write(encode(row) + b"\n")
            count += 1
    return count


def write_json(path: Path | str, value: Any) -> None:
    """Write one JSON document, indented, keys in their order: metrics and reports."""
    with whole(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
