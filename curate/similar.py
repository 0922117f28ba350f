"""Near-duplicate texts: character n-grams, MinHash to find candidates, exact Jaccard similarity to decide.

Chinese has no spaces, so shingles are characters. `sketch` and `candidates` propose by locality-sensitive hashing and
may, rarely, miss a pair near the threshold; `similarities` decides, on the exact number.

A sketch is one byte for each permutation, made in time linear in the text however many permutations there are: "Fast
Similarity Sketching" (Dahlgaard, Knudsen, Thorup, FOCS 2017). Equal bytes at a position mean, with the probability of
the Jaccard similarity, a shared n-gram. Bands are bytes of the sketch side by side, so nothing else is kept in memory
for a row. Rows that share a band are compared all with all, up to CROWD of them; in a larger bucket, which a bank made
from templates has, a row is compared with its neighbours in the order of two further bands and with the earliest rows;
and of all its candidates it keeps the earliest and those that look most similar, MOST together. So time and memory stay
linear in the number of rows: a family of hundreds of equals comes back as enough pairs to join or thin it out, not as
all pairs.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from curate.fold import BATCH, ROWS, batches, codes
from schemas.params import Count, Positive, Share

RECALL = 0.999  # of the pairs that are exactly at the threshold; of more similar ones it is higher
MARGIN = 3.0  # standard deviations by which the estimate of a sketch may fall short before a pair is dropped unseen
CROWD = 16  # rows that share a band and are still compared all with all
MOST = 8  # candidates of a row before it, the earliest and the most similar

Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]
Alike = Callable[[Rows, Rows], NDArray[np.bool_]]


class Near(Struct, frozen=True):
    """When two texts are near."""

    ngram: Positive
    """Characters."""
    permutations: Positive
    """Of the MinHash sketch; its bands follow from the threshold."""
    threshold: Share
    """Jaccard similarity of the n-grams."""
    seed: Count


class Candidates(Struct, frozen=True):
    """Pairs of rows, sorted by later, then earlier row, and how similar their sketches say they are."""

    first: Rows
    second: Rows
    estimate: NDArray[np.float32]


class Grams:
    """The n-grams of texts as 48-bit hashes: those of text i, distinct, are `values[starts[i]:starts[i + 1]]`."""

    def __init__(self, texts: Sequence[str], size: int) -> None:
        """A text shorter than `size` is one gram."""
        values, sizes = [], []
        for start in range(0, len(texts), ROWS):
            hashes, counts = gram_hashes(texts[start : start + ROWS], size)
            rows = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
            hashes >>= _U16
            hashes |= rows << _U48
            hashes.sort()
            hashes = hashes[_first_of_equals(hashes)]
            sizes.append(np.bincount((hashes >> _U48).astype(np.int64), minlength=len(counts)))
            values.append(hashes & _LOW48)
        self.values: Hashes = np.concatenate(values) if values else np.zeros(0, np.uint64)
        self.sizes: Rows = np.concatenate(sizes) if sizes else np.zeros(0, np.int64)
        self.starts: Rows = np.concatenate(([0], np.cumsum(self.sizes)))

    def __len__(self) -> int:
        return len(self.sizes)

    def of(self, row: int) -> Hashes:
        """Return the n-grams of one text."""
        return self.values[self.starts[row] : self.starts[row + 1]]


def sketch(texts: Sequence[str], near: Near) -> Bytes:
    """Return the MinHash sketches of texts, `permutations` bytes each."""
    made = [np.zeros((0, near.permutations), np.uint8)]
    for start, stop in batches([len(text) for text in texts]):
        made.append(_sketch(*gram_hashes(texts[start:stop], near.ngram), near))
    return np.concatenate(made)


def candidates(sketches: Bytes, near: Near, labels: Hashes | None = None, alike: Alike | None = None) -> Candidates:
    """Return the pairs of rows that share a band and whose sketches do not rule the threshold out.

    Only rows of one label, and of those only pairs that `alike` lets pass, are looked at.
    """
    count, width = bands(near.permutations, near.threshold)
    cut = least_estimate(near)
    found = _Few()
    hashes = [_band(sketches, band * width, width, labels) for band in (count - 1, 0)]
    for band in range(count):
        after = _band(sketches, (band + 1) % count * width, width, labels)
        before, here = hashes
        for first, second in _bucket_pairs(here, before, after):
            if labels is not None:
                passed = labels[first] == labels[second]
                first, second = first[passed], second[passed]
            if alike is not None:
                passed = alike(first, second)
                first, second = first[passed], second[passed]
            looks = estimate(sketches[first], sketches[second])
            passed = looks >= cut
            found.add(first[passed], second[passed], looks[passed])
        hashes = [here, after]
    return found.all()


def estimate(ones: Bytes, others: Bytes) -> NDArray[np.float32]:
    """Return the similarity of pairs of texts by their sketches."""
    equal: Rows = (ones == others).sum(axis=1, dtype=np.int64)
    # Two bytes are equal by chance once in 256.
    similarity: NDArray[np.float32] = ((equal / ones.shape[1] - 1 / 256) * (256 / 255)).astype(np.float32)
    return similarity


def band_hashes(sketches: Bytes, near: Near) -> list[Hashes]:
    """Return, of each band, a 32-bit hash of each row."""
    count, width = bands(near.permutations, near.threshold)
    return [_band(sketches, band * width, width, None) for band in range(count)]


def least_estimate(near: Near) -> float:
    """Return the least similarity of two sketches at which their texts may be as similar as the threshold."""
    return near.threshold - MARGIN * float((near.threshold * (1 - near.threshold) / near.permutations) ** 0.5) - 1e-6


def similarities(texts: Sequence[str], first: Rows, second: Rows, ngram: int) -> NDArray[np.float64]:
    """Return the Jaccard similarity of the n-grams of each pair of texts, given by position."""
    grams = Grams(texts, ngram)
    sizes = grams.sizes[first] + grams.sizes[second]
    shared = np.zeros(len(first), np.int64)
    for start, stop in batches(sizes.tolist()):
        both = np.concatenate((first[start:stop], second[start:stop]))
        mine = np.concatenate((np.arange(stop - start), np.arange(stop - start))).astype(np.uint64)
        values = grams.values[ranges(grams.starts[both], grams.sizes[both])]
        values |= np.repeat(mine, grams.sizes[both]) << _U48
        values.sort()
        equal = values[1:][values[1:] == values[:-1]]
        shared[start:stop] = np.bincount((equal >> _U48).astype(np.int64), minlength=stop - start)
    return shared / (sizes - shared)


def gram_hashes(texts: Sequence[str], size: int) -> tuple[Hashes, Rows]:
    """Return 64-bit hashes of the n-grams of texts, text by text, and how many each has; a short text is one."""
    padded = [text if len(text) >= size else text + "\0" * (size - len(text)) for text in texts]
    lengths = np.fromiter(map(len, padded), np.int64, len(padded))
    counts = lengths - size + 1
    characters = codes("".join(padded)).astype(np.uint64)
    rolling = np.zeros(max(0, len(characters) - size + 1), np.uint64)
    for at in range(size):
        rolling *= _MULTIPLIER
        rolling += characters[at : at + len(rolling)]
    # The windows that begin in one text and end in the next are left out.
    hashes = rolling[ranges(np.cumsum(lengths) - lengths, counts)]
    return _mix(hashes), counts


def ranges(starts: Rows, counts: Rows) -> Rows:
    """Return start, start + 1, … of each range, one after the other."""
    ends = np.cumsum(counts)
    at: Rows = np.repeat(starts - (ends - counts), counts)
    return at + np.arange(len(at))


def bands(permutations: int, threshold: float) -> tuple[int, int]:
    """Return (bands, rows a band) with the longest bands that still catch RECALL of the pairs at the threshold."""
    for rows in range(permutations, 1, -1):
        count = permutations // rows
        if 1 - (1 - threshold**rows) ** count >= RECALL:
            return count, rows
    return permutations, 1


class _Few:
    """Candidates, at most MOST for a later row; each is one number: the later row, how unlike, the earlier row."""

    def __init__(self) -> None:
        self._packed: list[Hashes] = [np.zeros(0, np.uint64)]
        self._held = 0
        self._limit = 32 * BATCH

    def add(self, first: Rows, second: Rows, likeness: NDArray[np.float32]) -> None:
        unlike = (255 - np.clip(likeness * 255, 0, 255)).astype(np.uint64)
        packed: Hashes = second.astype(np.uint64) << _U36
        packed |= unlike << _U28
        packed |= first.astype(np.uint64)
        self._packed.append(packed)
        self._held += len(first)
        if self._held > self._limit:
            self._thin()
            self._limit = max(self._limit, 2 * self._held)

    def all(self) -> Candidates:
        self._thin()
        first, second = self._rows(self._packed[0])
        order = np.lexsort((first, second))
        unlike = (self._packed[0][order] >> _U28 & _LOW8).astype(np.float32)
        return Candidates(first[order].astype(np.int64), second[order].astype(np.int64), 1 - unlike / np.float32(255))

    def _thin(self) -> None:
        packed = np.concatenate(self._packed)
        self._packed = []
        packed.sort()
        packed = packed[_first_of_equals(packed)]
        first, second = self._rows(packed)
        new = _first_of_equals(second)
        starts = np.flatnonzero(new)
        sizes = np.diff(np.append(starts, len(new)))
        if len(starts):
            rank = np.arange(len(second), dtype=np.int32) - np.repeat(starts.astype(np.int32), sizes)
            packed = packed[(rank < MOST - 1) | (first == np.repeat(np.minimum.reduceat(first, starts), sizes))]
        self._packed, self._held = [packed], len(packed)

    @staticmethod
    def _rows(packed: Hashes) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return (packed & _LOW28).astype(np.int32), (packed >> _U36).astype(np.int32)


def _sketch(hashes: Hashes, counts: Rows, near: Near) -> Bytes:
    """Return the sketches of some texts from the hashes of their n-grams, text by text.

    In each round every n-gram falls into one bin; a bin that is still empty takes the least value of those that fall
    into it. Texts whose bins are full are done; after as many rounds as there are bins each empty one takes its least
    of all n-grams.
    """
    bins = near.permutations
    rows = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    held = np.full(len(counts) * bins, _EMPTY)
    for turn in range(2 * bins):
        scrambled = hashes ^ np.uint64(_mixed(near.seed * 2 * bins + turn))
        scrambled *= _MULTIPLIER
        scrambled ^= scrambled >> _U32
        scrambled *= _MULTIPLIER
        values = (scrambled & _LOW32).astype(np.uint32)
        if turn < bins:
            at = ((scrambled >> _U32) * np.uint64(bins) >> _U32).astype(np.int64)
        else:
            at = np.full(len(rows), turn - bins)
        at += rows * bins
        free = held[at] == _EMPTY
        np.minimum.at(held, at[free], values[free])
        left = (held.reshape(-1, bins) == _EMPTY).any(axis=1)
        if not left.any():
            break
        more = left[rows]
        hashes, rows = hashes[more], rows[more]
    return held.reshape(-1, bins).astype(np.uint8)


def _bucket_pairs(here: Hashes, before: Hashes, after: Hashes) -> Iterator[tuple[Rows, Rows]]:
    """Yield arrays of (earlier, later) rows with an equal hash, at most about BATCH at a time.

    The hashes of two further bands order the rows of a crowded bucket.
    """
    ranked = here << _U32 | np.arange(len(here), dtype=np.uint64)
    ranked.sort()
    rows = (ranked & _LOW32).astype(np.int64)
    ranked >>= _U32
    new = _first_of_equals(ranked)
    sizes = np.diff(np.append(np.flatnonzero(new), len(new)))
    size = np.repeat(sizes, sizes)
    few = (size > 1) & (size <= CROWD)
    yield from _window(ranked[few], rows[few])
    many = size > CROWD
    if not many.any():
        return
    rows, ranked = rows[many], ranked[many]
    yield from _with_first(ranked, rows)
    for further in (before, after):
        order = np.lexsort((rows, further[rows], ranked))
        finer = ranked[order] << _U32 | further[rows[order]]
        yield from _with_first(finer, rows[order])
        yield from _window(finer, rows[order])


def _window(ranked: Hashes, rows: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Yield pairs of equals, neighbours at a growing distance: only those equal at one can be equal at the next."""
    at = np.arange(len(ranked))
    for distance in range(1, CROWD):
        at = at[at < len(ranked) - distance]
        at = at[ranked[at + distance] == ranked[at]]
        for start in range(0, len(at), BATCH):
            piece = at[start : start + BATCH]
            yield rows[piece], rows[piece + distance]


def _with_first(ranked: Hashes, rows: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Yield the pairs of each row with the first of its equals."""
    new = _first_of_equals(ranked)
    starts = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))
    at = np.flatnonzero(~new)
    for start in range(0, len(at), BATCH):
        piece = at[start : start + BATCH]
        yield rows[starts[piece]], rows[piece]


def _band(sketches: Bytes, start: int, width: int, labels: Hashes | None) -> Hashes:
    """Return a 32-bit hash of some bytes of each sketch."""
    hashes = np.zeros(len(sketches), np.uint64) if labels is None else labels.copy()
    for at in range(start, start + width, 8):
        padded = np.zeros((len(sketches), 8), np.uint8)
        padded[:, : min(8, start + width - at)] = sketches[:, at : min(at + 8, start + width)]
        hashes = _mix(hashes ^ padded.view(np.uint64).reshape(-1))
    return hashes >> _U32


def _first_of_equals(ranked: NDArray[np.uint64] | NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return, for sorted values, which differ from the one before."""
    new = np.ones(len(ranked), bool)
    new[1:] = ranked[1:] != ranked[:-1]
    return new


def _mix(values: Hashes) -> Hashes:
    """Scramble 64-bit integers (the finalizer of splitmix64), the same on every machine and in every process."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _mixed(number: int) -> int:
    return int(_mix(np.array([number], np.uint64))[0])


_EMPTY = np.uint32(0xFFFFFFFF)
_LOW8, _LOW28 = np.uint64(0xFF), np.uint64((1 << 28) - 1)  # 28 bits for a row: 268 million
_LOW32 = np.uint64(0xFFFFFFFF)
_LOW48 = np.uint64((1 << 48) - 1)
_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
_U16, _U28, _U32, _U36, _U48 = (np.uint64(bits) for bits in (16, 28, 32, 36, 48))
