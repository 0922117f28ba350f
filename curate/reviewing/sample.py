"""Which records people are shown: a sample spread over the grid, half of it drawn to risk.

decontaminated.jsonl (Record), verify.jsonl (Verification), judge.jsonl (Judged) → the records to show, in order.

    by chance   half of the rows (the larger, if they are odd in number), as many of each topic, then as many of each
                type in it, then of each difficulty: rates by topic are then about equally exact
    by risk     the others, as many for each risk, of each risk as many of each topic; a record is drawn for the first
                of its risks in RISKS only, so that a rare one is not crowded out by a frequent one

Where there are fewer risky records than rows for them, more are drawn by chance. A record's draw is a hash of its id
and the seed, and the lowest draws of a stratum are in: a record more or less moves a few others in or out, no more.
Records stand in the order of another hash, so that a reviewer who stops early has seen some of everything.

Only the half that was drawn by chance tells how good the bank is: the accept rate leaves out the other, which was drawn
to what may be bad.
"""

import hashlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from heapq import nsmallest
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import numpy as np
from msgspec import Struct

from curate import decisions
from curate.balance import unmovable
from curate.fold import folded
from curate.lines import Lines, line_lengths
from curate.shards import Chunk, WorkersParams, chunks, spread
from schemas.params import Count, Params, Positive
from schemas.record import LETTERS, Judged, Record, Verification
from schemas.rows import read

LOW_MARK = 3.5
"""Mean of the judge's five marks below which they are called low."""
OUTER = 0.005
"""Share of the records whose length is called long, and of those called short."""
LOOKED = 16
"""Records, for each row of the sample, that are looked through for letters that are unclear, which takes its time."""

Row = tuple[str, str, str, str]
"""Id, topic, type and difficulty."""
Tree = dict[str, Any]
"""Rows, by number, under the names of their strata, level by level."""


class ReviewParams(Params, frozen=True):
    """Which rows people are shown; changes no data, so no stage depends on it."""

    rows: Positive
    """How many."""
    seed: Count


class Said(Struct, frozen=True):
    """What was said of one record."""

    verify: Verification | None
    judge: Judged | None

    def risks(self) -> Iterator[str]:
        """Yield what speaks against the record."""
        if self.verify is not None:
            if self.verify.agreed < len(self.verify.answers):
                yield "verify_disagreed"
            if not self.verify.answers:
                yield "no_reply"
        if self.judge is not None:
            if self.judge.judgement is None:
                yield "no_marks"
            elif self.judge.judgement.mean() < LOW_MARK:
                yield "low_marks"


NOTHING = Said(None, None)


class Looks(Struct, frozen=True):
    """What the draw needs to know of a chunk of records, each a row of the arrays."""

    ids: list[str]
    cells: list[tuple[str, str, str]]
    """Topic, type and difficulty."""
    repaired: list[int]
    """Rows that were mended."""
    lengths: bytes
    """int64: characters of question, options and chain."""
    options: bytes
    """uint64: four checksums, of the question with each option, the right one first."""
    lines: bytes
    """int64: bytes of each line with its end."""


class Drawn(Struct, frozen=True):
    """A row of the sample."""

    row: int
    """Its place in the file, from 0."""
    by_chance: bool
    risks: tuple[str, ...]
    """Of RISKS, in their order; those of a row that was drawn by chance too."""


class Shown(Struct, frozen=True):
    """A record that people are shown, with what they should know of it."""

    record: Record
    content: str
    """The hash that a decision about it is bound to."""
    by_chance: bool
    """Not for its risks."""
    risks: tuple[str, ...]
    said: Said


def sample(
    records: Path, verify: Path, judge: Path, params: ReviewParams, workers: WorkersParams | None = None
) -> list[Shown]:
    """Return the records of the sample with what was said of them, in the order in which they are shown."""
    said = asked(read(verify, Verification), read(judge, Judged))
    looks = list(spread(look, chunks(records), workers))
    rows = [(id_, *cell) for part in looks for id_, cell in zip(part.ids, part.cells, strict=True)]
    draws = [_draw(params.seed, id_) for id_, *_ in rows]
    lines = Lines(records, np.frombuffer(b"".join(part.lines for part in looks), np.int64))
    decode = msgspec.json.Decoder(Record).decode
    low = nsmallest(LOOKED * params.rows, range(len(rows)), key=draws.__getitem__)
    fixed = [row for row, line in zip(low, lines.read(low), strict=True) if unmovable(decode(line))]
    found = draw(rows, draws, risks(looks, fixed, said), params)
    shown = []
    for one, line in zip(found, lines.read(one.row for one in found), strict=True):
        record = decode(line)
        why = {*one.risks, *(["fixed_order"] if unmovable(record) else [])}
        about = said.get(record.id, NOTHING)
        shown.append(Shown(record, decisions.content(record), one.by_chance, in_order(why), about))
    return shown


def asked(verifications: Iterable[Verification], judged: Iterable[Judged]) -> dict[str, Said]:
    """Return what was said of each record, by its id."""
    said: dict[str, Said] = {row.id: Said(row, None) for row in verifications}
    for mark in judged:
        before = said.get(mark.id, NOTHING)
        said[mark.id] = Said(before.verify, mark)
    return said


class Named(Struct, frozen=True):
    """What of a record is looked for."""

    id: str


def named(records: Path, ids: Collection[str]) -> dict[str, Record]:
    """Return the records with these ids, by id, in the order of the file; of the others no more than the id is read."""
    decode = msgspec.json.Decoder(Record).decode
    found = {}
    for chunk in chunks(records):
        for line, row in zip(chunk.lines(), chunk.rows(Named), strict=True):
            if row.id in ids:
                found[row.id] = decode(line)
    return found


def look(chunk: Chunk) -> Looks:
    """Return what the draw needs to know of a chunk."""
    records = list(chunk.rows(Record))
    texts = folded([text for record in records for text in (record.question, *record.options)])
    sums = [crc32(text.encode()) for text in texts]
    keys = []
    for at, record in zip(range(0, len(sums), 1 + len(LETTERS)), records, strict=True):
        stem, *options = sums[at : at + 1 + len(LETTERS)]
        right = options.pop(LETTERS.index(record.answer))
        keys += [stem << 32 | option for option in (right, *options)]
    return Looks(
        ids=[record.id for record in records],
        cells=[(record.topic, record.type, record.difficulty) for record in records],
        repaired=[row for row, record in enumerate(records) if record.repairs],
        lengths=np.array([_length(record) for record in records], np.int64).tobytes(),
        options=np.array(keys, np.uint64).tobytes(),
        lines=line_lengths(chunk),
    )


def _length(record: Record) -> int:
    texts = (record.question, *record.options, record.think, *record.steps, record.reflection, record.adjustment or "")
    return sum(map(len, texts))


def risks(looks: Sequence[Looks], fixed: Iterable[int], said: Mapping[str, Said]) -> dict[int, tuple[str, ...]]:
    """Return the risks of each row that has any; `fixed` are rows whose options cannot change places."""
    found: dict[int, set[str]] = defaultdict(set)
    for row in fixed:
        found[row].add("fixed_order")
    start = 0
    for part in looks:
        for row in part.repaired:
            found[start + row].add("repaired")
        for row, id_ in enumerate(part.ids, start):
            if id_ in said:
                for risk in said[id_].risks():
                    found[row].add(risk)
        start += len(part.ids)
    lengths = np.concatenate([np.zeros(0, np.int64), *(np.frombuffer(part.lengths, np.int64) for part in looks)])
    options = np.frombuffer(b"".join(part.options for part in looks), np.uint64).reshape(-1, len(LETTERS))
    if len(lengths):
        short, long = np.quantile(lengths, (OUTER, 1 - OUTER))
        outer = {"long": lengths > long, "short": lengths < short}
        rivals = {"other_answer": np.isin(options[:, 1:], options[:, 0]).any(axis=1)}
        for risk, which in (outer | rivals).items():
            for at in np.flatnonzero(which).tolist():
                found[at].add(risk)
    return {row: in_order(of) for row, of in found.items()}


def in_order(risks: Collection[str]) -> tuple[str, ...]:
    """Return risks, the gravest first."""
    return tuple(risk for risk in RISKS if risk in risks)


def draw(
    rows: Sequence[Row], draws: Sequence[int], risky: Mapping[int, tuple[str, ...]], params: ReviewParams
) -> list[Drawn]:
    """Return the sample of rows with these draws, in the order in which it is shown."""
    count = min(params.rows, len(rows))
    grid: Tree = {}
    for row, (_, topic, type_, difficulty) in enumerate(rows):
        grid.setdefault(topic, {}).setdefault(type_, {}).setdefault(difficulty, []).append(row)
    _sort(grid, draws)
    half = count - count // 2

    def both(chance: int) -> tuple[set[int], list[int]]:
        drawn = set(_take(grid, chance, params.seed))
        rest: Tree = {}
        for row, why in risky.items():
            if row not in drawn:
                rest.setdefault(why[0], {}).setdefault(rows[row][1], []).append(row)
        _sort(rest, draws)
        return drawn, _take(rest, count - half, params.seed)

    # The more by chance, the more there are in all, to the number that is asked for.
    more = bisect_left(range(half, count), count, key=lambda chance: sum(map(len, both(chance))))
    drawn, for_risk = both(half + more)
    chosen = [*drawn, *for_risk]
    chosen.sort(key=lambda row: (_draw(params.seed, "order", rows[row][0]), row))
    return [Drawn(row, row in drawn, risky.get(row, ())) for row in chosen]


def _sort(tree: Tree, draws: Sequence[int]) -> None:
    for under in tree.values():
        if isinstance(under, dict):
            _sort(under, draws)
        else:
            under.sort(key=lambda row: (draws[row], row))


def _take(tree: Tree, count: int, seed: int, turn: int | None = None) -> list[int]:
    """Return so many rows of a tree, as many from each branch as it has; what is left over goes to some, by turns.

    A number more takes all that were taken before, and one more.
    """
    names = sorted(tree)
    first = seed if turn is None else turn
    order = [names[(at + first) % len(names)] for at in range(len(names))]
    room = {name: _size(tree[name]) for name in order}
    quota = dict.fromkeys(order, 0)
    while count and (able := [name for name in order if quota[name] < room[name]]):
        each = max(1, min(count // len(able), min(room[name] - quota[name] for name in able)))
        for name in able[:count]:
            quota[name] += each
            count -= each
    found: list[int] = []
    for at, name in enumerate(names):
        under = tree[name]
        if isinstance(under, dict):
            # Neighbours begin with another branch each, so that what is left over is spread evenly too.
            found += _take(under, quota[name], seed, _draw(seed, name) if turn is None else turn + at)
        else:
            found += under[: quota[name]]
    return found


def _size(under: Any) -> int:
    return sum(map(_size, under.values())) if isinstance(under, dict) else len(under)


def _draw(seed: int, *of: str) -> int:
    return int.from_bytes(hashlib.blake2b(":".join((str(seed), *of)).encode(), digest_size=8).digest())


RISKS = {
    "verify_disagreed": "a verifying answer is another than its own",
    "low_marks": f"the judge's marks have a mean below {LOW_MARK}",
    "no_reply": "nobody could answer it when it was verified",
    "no_marks": "the judge gave no valid marks",
    "repaired": "the reply had to be mended",
    "fixed_order": "its options cannot be put in another order: a letter in it is unclear, or an option names others",
    "other_answer": "one of its wrong options is the right one of another question with this stem",
    "long": "longer than nearly all others",
    "short": "shorter than nearly all others",
}
"""Why a record may be bad, the gravest first."""
