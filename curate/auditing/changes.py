"""Two versions of the bank compared, record by record and field by field, without their texts in memory.

Of each record a few numbers are kept and where its line is; a line that both versions have is decoded once. Records are
the same by their id; those left over by what they ask (`curate.fold.keys`), since a new round or another prompt gives
every row a new id.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from typing import BinaryIO, Generic, TypeVar, get_args

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from curate.fold import keys
from curate.letters import chain_texts
from schemas.faults import Fault
from schemas.neutrality import neutrality_of
from schemas.record import LETTERS, Record, Side

SIDES: tuple[str, ...] = get_args(Side)
FIELDS = (
    "question",
    "options",
    "options reordered",
    "think",
    "steps",
    "reflection",
    "adjustment",
    "answer",
    "topic",
    "difficulty",
    "type",
    "teacher",
    "repairs",
    "side",
)
"""What may have changed, a bit each. `options reordered`: the same texts in another order, the chain led along."""
BIT = {name: 1 << place for place, name in enumerate(FIELDS)}
CHAIN = ("think", "steps", "reflection", "adjustment")
PLAIN = ("question", *CHAIN, "topic", "difficulty", "type", "teacher", "repairs")
BLOCK = 2048  # lines handled at a time

ROW = np.dtype(
    [
        ("id", "u8"),
        ("line", "u8"),
        ("at", "i8"),
        ("size", "i4"),
        ("side", "i1"),
        ("answer", "i1"),
        ("cell", "i4"),
        ("teacher", "i4"),
        ("repairs", "i4"),
        ("question", "i4"),
        ("chain", "i4"),
        ("neutrality", "f4"),
    ]
)
"""Of a record: hashes of its id (0: none) and of its line, where that is, what is counted. Lengths in characters."""

COUNTED = ("id", "answer", "cell", "teacher", "repairs", "question", "chain", "neutrality")
"""The columns that a line has to be decoded for."""

_NAMED = re.compile("[A-DＡ-Ｄ]")

Numbers = NDArray[np.int64]
Hashes = NDArray[np.uint64]
R = TypeVar("R", bound=Struct)
T = TypeVar("T")


class Read(Struct, frozen=True, gc=False):
    """A record as any version wrote it: fields that are not known are left out, those that are missing are empty."""

    question: str = ""
    options: tuple[str, ...] = ()
    think: str = ""
    steps: tuple[str, ...] = ()
    reflection: str = ""
    adjustment: str | None = None
    answer: str = ""
    id: str = ""
    topic: str = ""
    difficulty: str = ""
    type: str = ""
    teacher: str = ""
    repairs: tuple[str, ...] = ()


class Id(Struct, frozen=True, gc=False):
    """The id of a record, or of any row."""

    id: str = ""


class Question(Struct, frozen=True, gc=False):
    """What of a record its key is made of."""

    question: str = ""
    options: tuple[str, ...] = ()


class Names(Generic[T]):
    """Values as small numbers, the same ones in both versions."""

    def __init__(self) -> None:
        self.all: list[T] = []
        self._codes: dict[T, int] = {}

    def code(self, value: T) -> int:
        """Return the number of a value."""
        if value not in self._codes:
            self._codes[value] = len(self.all)
            self.all.append(value)
        return self._codes[value]


class Coded:
    """What the numbers of rows mean."""

    def __init__(self) -> None:
        self.cells: Names[tuple[str, str, str]] = Names()
        self.teachers: Names[str] = Names()
        self.repairs: Names[tuple[str, ...]] = Names()


class Bank:
    """The records of a version, as numbers, and the files that hold them."""

    def __init__(self, name: str, coded: Coded, files: Mapping[str, BinaryIO]) -> None:
        """`files`: of each side; they stay open, so that what is read later is what was read first."""
        self.name = name
        self.coded = coded
        self.files = files
        self.rows: NDArray[np.void] = np.empty(0, ROW)
        self.odd = 0
        """Records that are not as the schema has them, as those of an older version."""
        self.complaint = ""
        """What the first of them lacks."""

    def lines(self, rows: Numbers) -> Iterator[bytes]:
        """Yield the lines of some records, in their order."""
        handles = [self.files[side].fileno() if side in self.files else -1 for side in SIDES]
        found = self.rows[rows]
        places = zip(found["side"].tolist(), found["size"].tolist(), found["at"].tolist(), strict=True)
        return (os.pread(handles[side], size, at) for side, size, at in places)

    def record(self, row: int) -> Read:
        """Return a record."""
        return next(self.read(np.array([row], np.int64), Read))

    def read(self, rows: Numbers, row: type[R]) -> Iterator[R]:
        """Yield some records, in their order, or what a type takes of them."""
        decode = msgspec.json.Decoder(row).decode
        for line in self.lines(rows):
            try:
                yield decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise Fault(f"{self.name}: the bank was written to while it was read; run the audit again") from None

    def topics(self, rows: Numbers | None = None) -> NDArray[np.int64]:
        """Return the number of each record's cell, of some or of all."""
        cells: NDArray[np.int64] = (self.rows if rows is None else self.rows[rows])["cell"].astype(np.int64)
        return cells


class Changes(Struct, frozen=True):
    """What became of the records of one version (`a`) in the other (`b`), by the numbers of their rows."""

    a: Numbers
    """Of the pairs, which are of one record in both: the row there …"""
    b: Numbers
    """… and here."""
    fields: NDArray[np.int64]
    """The bits of what changed."""
    new_id: NDArray[np.bool_]
    removed: Numbers
    added: Numbers
    removed_keys: Hashes
    """Of what the removed ask."""
    added_keys: Hashes


def digest(data: bytes) -> int:
    """Return 64 bits of a hash."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def scan(name: str, files: Mapping[str, BinaryIO], coded: Coded, other: Bank | None = None) -> Bank:
    """Return the bank in the files of the sides; lines that `other` has too are not decoded again.

    Fault for a line that is no record at all.
    """
    bank = Bank(name, coded, files)
    known = np.empty(0, ROW) if other is None else other.rows[np.argsort(other.rows["line"], kind="stable")]
    blocks = []
    for side, file in files.items():
        at, number = 0, 1
        while lines := list(islice(file, BLOCK)):
            rows = np.zeros(len(lines), ROW)
            ends = np.cumsum([len(line) for line in lines])
            lines = [line.rstrip(b"\n") for line in lines]
            hashes = b"".join(blake2b(line, digest_size=8).digest() for line in lines)
            rows["line"] = np.frombuffer(hashes, "<u8")
            place = np.searchsorted(known["line"], rows["line"])
            place[place == len(known)] = 0
            seen = known["line"][place] == rows["line"] if len(known) else np.zeros(len(lines), bool)
            rows[seen] = known[place[seen]]
            rows["at"] = at + np.concatenate(([0], ends[:-1]))
            rows["size"] = [len(line) for line in lines]
            rows["side"] = SIDES.index(side)
            new = np.flatnonzero(~seen).tolist()
            counted = [_counted(bank, lines[row], f"{name}: data/{side}.jsonl:{number + row}") for row in new]
            if counted:
                for column, values in zip(COUNTED, zip(*counted, strict=True), strict=True):
                    rows[column][new] = values
            blocks.append(rows)
            at += int(ends[-1])
            number += len(lines)
    bank.rows = np.concatenate(blocks) if blocks else bank.rows
    return bank


_RECORD = msgspec.json.Decoder(Record)
_READ = msgspec.json.Decoder(Read)


def _counted(bank: Bank, line: bytes, where: str) -> tuple[float, ...]:
    """Return what is counted of a record, in the order of COUNTED."""
    record: Record | Read
    try:
        record = _RECORD.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        try:
            record = _READ.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Fault(f"{where}: {error}; `dvc repro` writes it anew, or the cache is damaged") from None
        bank.odd += 1
        bank.complaint = bank.complaint or f"{where}: {error}"
    chain = "\n".join(chain_texts(record))  # type: ignore[arg-type]  # it has the fields of an item
    coded = bank.coded
    return (
        digest(record.id.encode()) if record.id else 0,
        LETTERS.index(record.answer) if record.answer in LETTERS else -1,
        coded.cells.code((record.topic, record.difficulty, record.type)),
        coded.teachers.code(record.teacher),
        coded.repairs.code(record.repairs),
        len(record.question),
        len(chain),
        neutrality_of(chain),
    )


def compare(a: Bank, b: Bank) -> Changes:
    """Return what became of the records of `a` in `b`."""
    has_a, has_b = np.flatnonzero(a.rows["id"] != 0), np.flatnonzero(b.rows["id"] != 0)
    at_a, at_b = _matched(a.rows["id"][has_a], b.rows["id"][has_b])
    pairs = [(has_a[at_a], has_b[at_b])]
    left_a, left_b = _left(len(a.rows), pairs[0][0]), _left(len(b.rows), pairs[0][1])
    # First those that differ in their id alone, which is the most of them after a change of all ids, and quick.
    at_a, at_b = _matched(_bodies(a, left_a), _bodies(b, left_b))
    pairs.append((left_a[at_a], left_b[at_b]))
    left_a, left_b = left_a[_left(len(left_a), at_a)], left_b[_left(len(left_b), at_b)]
    keys_a, keys_b = asked(a.read(left_a, Question)), asked(b.read(left_b, Question))
    at_a, at_b = _matched(keys_a, keys_b)
    pairs.append((left_a[at_a], left_b[at_b]))
    removed, added = _left(len(left_a), at_a), _left(len(left_b), at_b)
    of_a, of_b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    how = np.repeat(np.arange(len(pairs)), [len(pair) for pair, _ in pairs])
    order = np.argsort(of_b, kind="stable")
    of_a, of_b, how = of_a[order], of_b[order], how[order]
    return Changes(
        a=of_a,
        b=of_b,
        fields=_differences(a, b, of_a, of_b, how == 1),
        new_id=how > 0,
        removed=left_a[removed],
        added=left_b[added],
        removed_keys=keys_a[removed],
        added_keys=keys_b[added],
    )


def _bodies(bank: Bank, rows: Numbers) -> Hashes:
    """Return a hash of each record without its id."""
    decode = msgspec.json.Decoder(Id).decode
    encode = msgspec.json.Encoder().encode
    hashes = (
        blake2b(line.replace(b'"id":' + encode(decode(line).id), b"", 1), digest_size=8).digest()
        for line in bank.lines(rows)
    )
    return np.frombuffer(b"".join(hashes), "<u8")


def asked(questions: Iterable[Question]) -> Hashes:
    """Return a hash of what each asks: equal for the same stem with the same options in any order."""
    found: list[bytes] = []
    rest = iter(questions)
    while block := list(islice(rest, BLOCK)):
        found += (blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest() for key in keys(block))
    return np.frombuffer(b"".join(found), "<u8")


def changed_fields(before: Read, after: Read) -> int:
    """Return the bits of the fields in which two records differ, their sides apart."""
    bits = sum(BIT[name] for name in PLAIN if getattr(before, name) != getattr(after, name))
    if before.options == after.options:
        return bits | (BIT["answer"] if before.answer != after.answer else 0)
    if sorted(before.options) != sorted(after.options):
        return bits | BIT["options"] | (BIT["answer"] if before.answer != after.answer else 0)
    bits |= BIT["options reordered"]
    if _right(before) != _right(after):
        bits |= BIT["answer"]
    for name in CHAIN:  # a chain that was led along did not change
        if bits & BIT[name] and _unnamed(getattr(before, name)) == _unnamed(getattr(after, name)):
            bits &= ~BIT[name]
    return bits


def names(bits: int) -> tuple[str, ...]:
    """Return the fields of some bits."""
    return tuple(name for name in FIELDS if bits & BIT[name])


def _differences(a: Bank, b: Bank, pairs_a: Numbers, pairs_b: Numbers, alike: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the bits of each pair; `alike`: those that differ in their id alone."""
    rows_a, rows_b = a.rows[pairs_a], b.rows[pairs_b]
    bits = np.where(rows_a["side"] != rows_b["side"], BIT["side"], 0).astype(np.int64)
    other = np.flatnonzero((rows_a["line"] != rows_b["line"]) & ~alike)
    both = zip(a.read(pairs_a[other], Read), b.read(pairs_b[other], Read), strict=True)
    bits[other] |= np.fromiter((changed_fields(before, after) for before, after in both), np.int64, len(other))
    return bits


def _right(record: Read) -> str:
    place = LETTERS.index(record.answer) if record.answer in LETTERS else 4
    return record.options[place] if place < len(record.options) else ""


def _unnamed(value: str | tuple[str, ...] | None) -> list[str]:
    """Return the texts of a part of a chain without letters; steps that go through the options stand in their order."""
    return sorted(_NAMED.sub("A", text) for text in (value if isinstance(value, tuple) else (value or "",)))


def _matched(a: Hashes, b: Hashes) -> tuple[Numbers, Numbers]:
    """Return the places of equal values, each used once: the first with the first, the second with the second."""
    _, at_a, at_b = np.intersect1d(_ranked(a), _ranked(b), assume_unique=True, return_indices=True)
    return at_a, at_b


def _ranked(values: Hashes) -> Hashes:
    """Return values that differ where they are equal, by which of them they are."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.concatenate(([True], ordered[1:] != ordered[:-1])) if len(values) else np.empty(0, bool)
    starts = np.maximum.accumulate(np.where(first, np.arange(len(values)), 0))
    rank = np.empty(len(values), np.uint64)
    rank[order] = (np.arange(len(values)) - starts).astype(np.uint64)
    return values + rank * np.uint64(0x9E3779B97F4A7C15)


def _left(count: int, taken: Numbers) -> Numbers:
    there = np.ones(count, bool)
    there[taken] = False
    return np.flatnonzero(there)
