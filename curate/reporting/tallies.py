"""Count what the quality page shows of rows: the bank's records, the rejects, what verify and judge said.

Rows are read in chunks, spread over processes, and forgotten once counted: no text stays but a few examples of rejects.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from curate.checks import ONLY
from curate.letters import chain_texts
from curate.shards import Chunk, WorkersParams, chunks, spread
from schemas.neutrality import neutrality_of
from schemas.record import Judged, Record, Side, Verification
from schemas.rows import read

MARKS = ("rigor", "difficulty", "innovation", "clarity", "educational_value")
PARTS = ("question", "option", "chain")
NEUTRAL = 0.5
"""The neutrality of a chain whose words neither weigh nor decree; below it they decree."""
SHOWN = 3
"""Rejects of a reason that are kept as examples."""
HEAD = 200
"""Characters of a text that an example shows."""
EXACT = 10_000
"""Neutrality is summed in ten-thousandths, whole numbers, so that the sum depends on no order."""

_HAN = bytes((*range(0x34, 0x4D), *range(0x4E, 0xA0), 0xF9, 0xFA))  # high bytes of UTF-16 of the blocks
_LATIN = bytes((*range(0x41, 0x5B), *range(0x61, 0x7B)))

K = TypeVar("K")


class Piece(Struct, frozen=True):
    """A chunk of the file of one side."""

    side: Side
    chunk: Chunk


class Tally(Struct, frozen=True):
    """The counts of the bank's records; two of them add up."""

    cells: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Topic, difficulty, type."""
    sides: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Side, topic."""
    letters: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Side, answer."""
    lengths: Counter[tuple[str, int]] = field(default_factory=Counter)
    """One of PARTS, characters; a record has four options."""
    languages: Counter[str] = field(default_factory=Counter)
    scripts: Counter[str] = field(default_factory=Counter)
    neutrality: Counter[str] = field(default_factory=Counter)
    """By topic, the sum over its chains times EXACT."""
    decrees: Counter[str] = field(default_factory=Counter)
    """By topic, chains below NEUTRAL."""

    def add(self, other: "Tally") -> None:
        """Count what another has counted."""
        for name in self.__struct_fields__:
            getattr(self, name).update(getattr(other, name))

    @property
    def records(self) -> int:
        """How many there are."""
        return self.cells.total()

    @property
    def topics(self) -> Counter[str]:
        """How many of each topic."""
        return summed(((topic, count) for (topic, _, _), count in self.cells.items()))


class Example(Struct, frozen=True, order=True):
    """A reject, so far as a person needs to see it."""

    id: str
    detail: str
    topic: str
    question: str
    """The stem, or how the reply begins."""
    kept: str | None


class Rejects(Struct, frozen=True):
    """What the stages dropped."""

    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Stage, reason."""
    topics: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Topic, stage."""
    examples: dict[tuple[str, str], list[Example]] = field(default_factory=dict)
    """Of each stage and reason those with the first ids: ids are hashes, so they are of any topic."""


class Opinions(Struct, frozen=True):
    """What verify and judge said of the records before the gate, by topic."""

    records: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    """Given by verify without seeing the record's own."""
    agreed: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    """Records with marks."""
    marks: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Topic and one of MARKS: the sum."""


class _Dropped(Struct, frozen=True):
    id: str
    topic: str
    stage: str
    reason: str
    detail: str
    kept: str | None
    raw: str


class _Of(Struct, frozen=True):
    id: str
    topic: str


class _Message(Struct, frozen=True):
    content: str


class _Raw(Struct, frozen=True):
    question: str = ""
    prompt: tuple[_Message, ...] = ()


def bank(files: Iterable[tuple[Side, Path]], workers: WorkersParams | None = None) -> Tally:
    """Return the counts of the files of the sides."""
    pieces = (Piece(side, chunk) for side, path in files for chunk in chunks(path))
    counts = Tally()
    for found in spread(see, pieces, workers):
        counts.add(found)
    return counts


def see(piece: Piece) -> Tally:
    """Return the counts of one chunk."""
    return tally(piece.side, piece.chunk.rows(Record))


def tally(side: Side, records: Iterable[Record]) -> Tally:
    """Return the counts of records of one side."""
    counts = Tally()
    for record in records:
        texts = chain_texts(record)
        text = "".join((record.question, *record.options, *texts))
        counts.cells[record.topic, record.difficulty, record.type] += 1
        counts.sides[side, record.topic] += 1
        counts.letters[side, record.answer] += 1
        counts.lengths["question", len(record.question)] += 1
        for option in record.options:
            counts.lengths["option", len(option)] += 1
        counts.lengths["chain", sum(map(len, texts))] += 1
        counts.languages[language(text)] += 1
        counts.scripts[script(text)] += 1
        neutral = neutrality_of("\n".join(texts))
        counts.neutrality[record.topic] += round(EXACT * neutral)
        counts.decrees[record.topic] += neutral < NEUTRAL
    return counts


def language(text: str) -> str:
    """Return what the letters of a text are: `chinese` if at least half are, `mixed` if any is, else `other`.

    Counted by bytes, a tenth of the time that patterns over characters take.
    """
    high = text.encode("utf-16-le", "surrogatepass")[1::2]
    chinese = len(high) - len(high.translate(None, _HAN))
    if not chinese:
        return "other"
    ascii_ = text.encode("ascii", "ignore")
    latin = len(ascii_) - len(ascii_.translate(None, _LATIN))
    return "chinese" if chinese >= latin else "mixed"


def script(text: str) -> str:
    """Return which Chinese script a text shows: `simplified`, `traditional`, `both`, or `neither` tells."""
    simplified, traditional = (ONLY[name].search(text) is not None for name in ("zh_hans", "zh_hant"))
    return ("both" if traditional else "simplified") if simplified else ("traditional" if traditional else "neither")


def rejects(files: Iterable[Path]) -> Rejects:
    """Return what is in the files of rejects."""
    found = Rejects()
    for path in files:
        for chunk in chunks(path):
            for row in chunk.rows(_Dropped):
                of = row.stage, row.reason
                found.reasons[of] += 1
                found.topics[row.topic, row.stage] += 1
                shown = found.examples.setdefault(of, [])
                if len(shown) < SHOWN or row.id < shown[-1].id:
                    insort(shown, Example(row.id, row.detail, row.topic, gist(row.raw), row.kept))
                    del shown[SHOWN:]
    return found


def gist(raw: str) -> str:
    """Return the stem of a row that was dropped, or how it begins if it is none that can be read."""
    try:
        row = msgspec.json.decode(raw, type=_Raw)
    except msgspec.DecodeError:
        row = _Raw()
    text = " ".join((row.question or (row.prompt[-1].content if row.prompt else raw)).split())
    return text if len(text) <= HEAD else text[: HEAD - 1] + "…"


def opinions(verify: Path, judge: Path, records: Path) -> Opinions:
    """Return what was said, by the topic that the records have."""
    agreed = {row.id: (row.agreed, len(row.answers)) for row in read(verify, Verification)}
    marks = {
        row.id: tuple(getattr(row.judgement, name) for name in MARKS)
        for row in read(judge, Judged)
        if row.judgement is not None
    }
    found = Opinions()
    for row in _of(records):
        found.records[row.topic] += 1
        if row.id in agreed:
            right, given = agreed[row.id]
            found.agreed[row.topic] += right
            found.answers[row.topic] += given
        if row.id in marks:
            found.judged[row.topic] += 1
            for name, mark in zip(MARKS, marks[row.id], strict=True):
                found.marks[row.topic, name] += mark
    return found


def _of(path: Path) -> Iterator[_Of]:
    for chunk in chunks(path):
        yield from chunk.rows(_Of)


def summed(pairs: Iterable[tuple[K, int]]) -> Counter[K]:
    """Return the sum of the counts of each key."""
    counts: Counter[K] = Counter()
    for key, count in pairs:
        counts[key] += count
    return counts


def quantile(sizes: Counter[int], share: float) -> int | None:
    """Return the smallest size that at least this share of them do not exceed; None of none."""
    if not sizes:
        return None
    ordered = sorted(sizes)
    below = list(accumulate(sizes[size] for size in ordered))
    return ordered[bisect_left(below, share * below[-1])]
