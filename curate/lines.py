"""The lines of a JSONL file by number, for a second look at some of them where they lie."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from curate.shards import Chunk

PIECE = 2048  # pairs whose texts go to a worker at a time

Rows = NDArray[np.int64]


class Piece(Struct, frozen=True):
    """Some pairs of rows and the lines that hold them."""

    lines: list[bytes]
    first: Rows
    """By position in `lines`."""
    second: Rows


class Lines:
    """The lines of a file by number, read where they lie."""

    def __init__(self, path: Path, lengths: Rows) -> None:
        """`lengths`: of each line, in bytes, with its end."""
        self._path = path
        self._starts = np.concatenate(([0], np.cumsum(lengths)))

    def read(self, rows: Iterable[int]) -> list[bytes]:
        """Return some lines, without their ends."""
        found = []
        with open(self._path, "rb") as file:
            for row in rows:
                file.seek(self._starts[row])
                found.append(file.read(self._starts[row + 1] - self._starts[row]).rstrip(b"\n"))
        return found

    def pieces(self, first: Rows, second: Rows) -> Iterator[Piece]:
        """Yield pairs of rows, in their order, with the lines they are about."""
        for start in range(0, len(first), PIECE):
            both = np.concatenate((first[start : start + PIECE], second[start : start + PIECE]))
            rows, at = np.unique(both, return_inverse=True)
            yield Piece(self.read(rows.tolist()), *np.split(at.reshape(-1), 2))


def line_lengths(chunk: Chunk) -> bytes:
    """Return the length of each line with its end, as 64-bit integers."""
    return np.array([len(line) + 1 for line in chunk.lines()], np.int64).tobytes()
