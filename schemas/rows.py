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


def read(path: Path | str, row: type[R]) -> Iterator[R]:
    """Yield the rows of a JSONL file; Fault `PATH:LINE: what is wrong` at the first bad one."""
    decode = msgspec.json.Decoder(row).decode
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below, opened here so that a missing file has its own message
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}; an earlier stage writes it, run `dvc repro`") from None
    with file:
        # Binary lines end at b"\n" alone; str.splitlines would also cut at U+2028 inside a text.
        for number, line in enumerate(file, 1):
            try:
                yield decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise Fault(f"{path}:{number}: {error}") from None


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
