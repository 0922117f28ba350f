"""Near-duplicate questions: character n-grams, MinHash to find candidates, exact Jaccard similarity to decide.

Chinese has no spaces, so shingles are characters. `pairs` proposes by locality-sensitive hashing and may, rarely, miss
a pair near the threshold; `nearest` compares with every row and misses nothing. Both decide on the same exact number.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from schemas.record import Item

RECALL = 0.999  # of the pairs that are exactly at the threshold; of more similar ones it is higher
MARGIN = 5.0  # standard deviations by which the estimate of a signature may fall short before a pair is dropped unseen
CHUNK = 1 << 18

Hashes = NDArray[np.uint64]


class Pair(Struct, frozen=True, order=True):
    """Two rows, by position, and the Jaccard similarity of their n-grams."""

    second: int
    """The later row: pairs sort by it."""
    first: int
    similarity: float


def fold(text: str) -> str:
    """Return a text without what does not tell questions apart: width, spaces, punctuation; minus and decimal stay."""
    text = unicodedata.normalize("NFKC", text).replace("−", "-").replace("–", "-")
    return _LOOSE.sub("", _NOISE.sub("", text))


def key(item: Item) -> str:
    """Return what makes two questions one: stem and options, whatever the order of the options."""
    return "\n".join((fold(item.question), *sorted(map(fold, item.options))))


class Grams:
    """The n-grams of texts as 64-bit hashes: those of text i, distinct, are `values[starts[i]:starts[i + 1]]`."""

    def __init__(self, texts: Sequence[str], size: int) -> None:
        """A text shorter than `size` is one gram."""
        padded = [text if len(text) >= size else text + "\0" * (size - len(text)) for text in texts]
        counts = np.fromiter((len(text) - size + 1 for text in padded), np.int64, len(padded))
        codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
        rolling = np.zeros(max(0, len(codes) - size + 1), np.uint64)
        for at in range(size):
            rolling = _mix(rolling ^ codes[at : at + len(rolling)])
        lengths = counts + size - 1
        # The windows that begin in one text and end in the next are left out.
        first = np.concatenate(([0], np.cumsum(lengths)[:-1])) if len(padded) else np.zeros(0, np.int64)
        inside = np.repeat(first - np.concatenate(([0], np.cumsum(counts)[:-1])), counts) if len(padded) else first
        hashes = rolling[np.arange(int(counts.sum())) + inside]
        rows = np.repeat(np.arange(len(padded)), counts)
        order = np.lexsort((hashes, rows))
        hashes, rows = hashes[order], rows[order]
        new = np.ones(len(hashes), bool)
        new[1:] = (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1])
        self.values: Hashes = hashes[new]
        self.sizes = np.bincount(rows[new], minlength=len(padded))
        self.starts = np.concatenate(([0], np.cumsum(self.sizes)))

    def __len__(self) -> int:
        return len(self.sizes)

    def of(self, row: int) -> Hashes:
        """Return the n-grams of one text."""
        return self.values[self.starts[row] : self.starts[row + 1]]


def pairs(texts: Sequence[str], *, ngram: int, permutations: int, threshold: float, seed: int) -> list[Pair]:
    """Return the pairs of texts at least as similar as the threshold, sorted by later, then earlier row."""
    grams = Grams(texts, ngram)
    if len(grams) < 2:
        return []
    signatures = _signatures(grams, permutations, seed)
    sets: dict[int, frozenset[int]] = {}

    def gram_set(row: int) -> frozenset[int]:
        if row not in sets:
            sets[row] = frozenset(grams.of(row).tolist())
        return sets[row]

    found: list[Pair] = []
    for first, second in _plausible(signatures, grams.sizes, threshold):
        one, other = gram_set(first), gram_set(second)
        shared = len(one & other)
        similarity = shared / (len(one) + len(other) - shared)
        if similarity >= threshold:
            found.append(Pair(second, first, similarity))
    return sorted(found)


def nearest(texts: Sequence[str], rows: Iterable[int], among: Iterable[int], ngram: int) -> list[Pair]:
    """Return, for each of `rows`, the most similar of `among` (of equals the first), by comparing with all of them."""
    grams = Grams(texts, ngram)
    others = np.array(sorted(among), np.int64)
    if not len(others):
        return []
    owners = np.repeat(np.arange(len(others)), grams.sizes[others])
    values = np.concatenate([grams.of(row) for row in others])
    order = np.argsort(values, kind="stable")
    values, owners = values[order], owners[order]
    found = []
    for row in rows:
        mine = grams.of(row)
        left, right = np.searchsorted(values, mine, "left"), np.searchsorted(values, mine, "right")
        spans = [owners[a:b] for a, b in zip(left.tolist(), right.tolist(), strict=True) if a < b]
        shared = np.bincount(np.concatenate(spans), minlength=len(others)) if spans else np.zeros(len(others), np.int64)
        similarity = shared / (len(mine) + grams.sizes[others] - shared)
        best = int(np.argmax(similarity))
        found.append(Pair(row, int(others[best]), float(similarity[best])))
    return found


def bands(permutations: int, threshold: float) -> tuple[int, int]:
    """Return (bands, rows a band) with the longest bands that still catch RECALL of the pairs at the threshold."""
    for rows in range(permutations, 1, -1):
        count = permutations // rows
        if 1 - (1 - threshold**rows) ** count >= RECALL:
            return count, rows
    return permutations, 1


class Clusters:
    """Rows joined into clusters; the smallest row names its cluster."""

    def __init__(self, rows: int) -> None:
        """Every row starts alone."""
        self._parent = list(range(rows))

    def find(self, row: int) -> int:
        """Return the row that names the cluster of a row."""
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row

    def join(self, one: int, other: int) -> None:
        """Make one cluster of two."""
        one, other = sorted((self.find(one), self.find(other)))
        self._parent[other] = one

    def members(self) -> list[list[int]]:
        """Return the clusters, each in row order, in the order of their first rows."""
        groups: dict[int, list[int]] = defaultdict(list)
        for row in range(len(self._parent)):
            groups[self.find(row)].append(row)
        return list(groups.values())


def _signatures(grams: Grams, permutations: int, seed: int) -> NDArray[np.uint32]:
    from rensa import RMinHash

    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        grams.values, grams.starts.astype(np.uint64), permutations, seed
    )
    return np.array(matrix.to_rows(), np.uint32)


def _plausible(signatures: NDArray[np.uint32], sizes: NDArray[np.int64], threshold: float) -> Iterable[tuple[int, int]]:
    """Yield each pair that shares a band and whose sizes and signatures do not rule the threshold out."""
    rows, permutations = signatures.shape
    count, width = bands(permutations, threshold)
    seen: list[NDArray[np.int64]] = []
    estimate = threshold - MARGIN * (threshold * (1 - threshold) / permutations) ** 0.5
    for band in range(count):
        for first, second in _bucket_pairs(signatures[:, band * width : (band + 1) * width]):
            small, large = np.minimum(sizes[first], sizes[second]), np.maximum(sizes[first], sizes[second])
            fits = small >= threshold * large
            first, second = first[fits], second[fits]
            alike = (signatures[first] == signatures[second]).mean(axis=1) >= estimate
            seen.append(first[alike] * rows + second[alike])
    codes = np.unique(np.concatenate(seen)) if seen else np.zeros(0, np.int64)
    for code in codes.tolist():
        yield divmod(code, rows)


def _bucket_pairs(band: NDArray[np.uint32]) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield arrays of (earlier, later) rows whose band is equal, at most about CHUNK at a time."""
    hashes = np.zeros(len(band), np.uint64)
    for column in band.T:
        hashes = _mix(hashes ^ column.astype(np.uint64))
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    # Neighbours at a growing distance in the sorted order: only those equal at one can be equal at the next.
    at = np.arange(len(band))
    for distance in range(1, len(band)):
        at = at[at < len(band) - distance]
        at = at[ranked[at + distance] == ranked[at]]
        if not len(at):
            return
        for start in range(0, len(at), CHUNK):
            piece = at[start : start + CHUNK]
            # A stable sort leaves equals in row order: the earlier row comes first.
            yield order[piece], order[piece + distance]


def _mix(values: Hashes) -> Hashes:
    """Scramble 64-bit integers (the finalizer of splitmix64), the same on every machine and in every process."""
    values = (values + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


# Punctuation and spaces that never tell two questions apart, then that which does beside letters and digits only:
# 1.5 is not 15, -3 not 3, 1:2 not 12, f(x) not fx.
_NOISE = re.compile(r"[\s\"#&',;?@\\_`{}·・\u2000-\u206f\u3000-\u303f\u00a1\u00a7\u00ab\u00b6\u00bb\u00bf]")
_LOOSE = re.compile(
    r"(?<![0-9])[.:]|[.:](?![0-9])|-(?![0-9A-Za-z(])|(?<![0-9A-Za-z)])[/*%!]|[(\[](?![0-9A-Za-z+-])|(?<![0-9A-Za-z])[)\]]"
)
