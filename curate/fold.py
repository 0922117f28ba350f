"""A text without what does not tell questions apart, one at a time or many at once."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BATCH = 1 << 16  # characters handled at a time, or what else is counted: what a processor's cache holds
ROWS = 1 << 16  # texts handled at a time, at most

Rows = NDArray[np.int64]


class Asked(Protocol):
    """What a question asks: an item, or a question of a test file."""

    @property
    def question(self) -> str:
        """The stem."""

    @property
    def options(self) -> Sequence[str]:
        """Their texts."""


def fold(text: str) -> str:
    """Return a text without what does not tell questions apart: width, spaces, punctuation; minus and decimal stay."""
    return _LOOSE.sub("", _bare(text))


def folded(texts: Sequence[str]) -> list[str]:
    """Return `fold` of each text, ten times as fast where there are many."""
    found: list[str] = []
    for start, stop in batches([len(text) for text in texts]):
        found += _folded(texts[start:stop])
    return found


def key(item: Asked) -> str:
    """Return what makes two questions one: stem and options, whatever the order of the options."""
    return "\n".join((fold(item.question), *sorted(map(fold, item.options))))


def keys(items: Sequence[Asked]) -> list[str]:
    """Return `key` of each item."""
    texts = iter(folded([text for item in items for text in (item.question, *item.options)]))
    return ["\n".join((next(texts), *sorted(next(texts) for _ in item.options))) for item in items]


def batches(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of neighbours that come to about BATCH together."""
    marks = [0]
    held = 0
    for at, size in enumerate(sizes):
        if at > marks[-1] and (held + size > BATCH or at - marks[-1] == ROWS):
            marks.append(at)
            held = 0
        held += size
    return pairwise([*marks, len(sizes)]) if len(sizes) else iter(())


def codes(text: str) -> NDArray[np.uint32]:
    """Return the characters of a text as numbers."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _bare(text: str) -> str:
    return _NOISE.sub("", unicodedata.normalize("NFKC", text).replace("−", "-").replace("–", "-"))


def _folded(texts: Sequence[str]) -> list[str]:
    table, loose = _tables()
    codes, ends = _joined(texts)
    mapped = _look_up(table, codes)
    if (mapped == _ODD).any():
        texts = list(texts)
        for row in np.unique(np.searchsorted(ends, np.flatnonzero(mapped == _ODD))).tolist():
            texts[row] = _bare(texts[row])
        codes, ends = _joined(texts)
        mapped = _look_up(table, codes)
        mapped = np.where(mapped == _ODD, codes, mapped)
    mapped[ends[:-1]] = ord("\n")
    mapped = mapped[mapped != _DROPPED]
    text = _text(mapped)
    at = np.flatnonzero(_look_up(loose, mapped)).tolist()
    dropped = [place for place in at if _LOOSE.match(text, place)]
    return (_text(np.delete(mapped, dropped)) if dropped else text).split("\n")


def _joined(texts: Sequence[str]) -> tuple[NDArray[np.uint32], Rows]:
    """Return the characters of texts with one between each two, and where each text ends."""
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)) + 1) - 1
    return codes("\n".join(texts)), ends


def _text(codes: NDArray[np.uint32]) -> str:
    return codes.tobytes().decode("utf-32-le", "surrogatepass")


def _look_up(table: NDArray[np.uint32], codes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return what a table says of each character; of those beyond it, what its last entry says."""
    last = np.uint32(len(table) - 1)
    return table[np.minimum(codes, last) if len(codes) and codes.max() > last else codes]


@cache
def _tables() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return what `fold` makes of each single character, and which it drops in some surroundings only.

    A character that is more than one when normalised, or that joins with its neighbours, is _ODD: its text is
    normalised as a whole. So are those beyond the basic plane, which are rare.
    """
    decomposed = (unicodedata.decomposition(chr(code)).split() for code in range(_PLANE))
    odd = {int(parts[1], 16) for parts in decomposed if len(parts) == 2 and not parts[0].startswith("<")}
    odd |= {*range(0x1161, 0x1176), *range(0x11A8, 0x11C3), *range(0xD800, 0xE000)}  # parts of Hangul; surrogates
    table = np.full(_PLANE + 1, _ODD)
    for code in range(_PLANE):
        made = unicodedata.normalize("NFKC", chr(code))
        if len(made) == 1 and not {code, ord(made)} & odd and not unicodedata.combining(made):
            bare = _bare(made)
            table[code] = ord(bare) if bare else _DROPPED
    loose = np.zeros(_PLANE + 1, np.uint32)
    loose[[ord(character) for character in ".:-/*%!()[]"]] = 1
    return table, loose


# Punctuation and spaces that never tell two questions apart, then that which does beside letters and digits only:
# 1.5 is not 15, -3 not 3, 1:2 not 12, f(x) not fx.
_NOISE = re.compile(r"[\s\"#&',;?@\\_`{}·・\u2000-\u206f\u3000-\u303f\u00a1\u00a7\u00ab\u00b6\u00bb\u00bf]")
_LOOSE = re.compile(
    r"(?<![0-9])[.:]|[.:](?![0-9])|-(?![0-9A-Za-z(])|(?<![0-9A-Za-z)])[/*%!]|[(\[](?![0-9A-Za-z+-])|(?<![0-9A-Za-z])[)\]]"
)
_PLANE = 0x10000
_DROPPED = np.uint32(0x110000)
_ODD = np.uint32(0x110001)
