"""Why a record is not in a version of the bank: it was dropped there, or never asked for."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import BinaryIO, Literal, TypeVar

import msgspec
import numpy as np
from msgspec import Struct

from curate.auditing.changes import BLOCK, Bank, Hashes, Id, Numbers, Question, asked, digest
from curate.auditing.revisions import Missing, Version

REJECTS = "data/rejects"
RESPONSES = "data/responses"
STAGES = ("validate", "dedup", "decontaminate", "gate", "balance", "split")
"""Those whose rejects are lost to the bank; what `pairs` rejects stays in it."""
HEAD = 200  # characters of a detail that are kept


class Fate(Struct, frozen=True):
    """What became of a question in a version that does not have it."""

    end: Literal["rejected", "not asked", "not known"]
    stage: str | None = None
    reason: str | None = None
    detail: str = ""
    kept: str | None = None
    """For a duplicate, the id of the row that was kept."""

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.stage}: {self.reason}" if self.end == "rejected" else self.end


class Rejected(Struct, frozen=True):
    """What is needed of a reject; its raw text is read only where it has to be."""

    id: str = ""
    stage: str = ""
    reason: str = ""
    detail: str = ""
    kept: str | None = None


class Raw(Struct, frozen=True):
    """The row of a reject, as it was."""

    raw: str = ""


R = TypeVar("R", bound=Struct)

NOT_ASKED, NOT_KNOWN = Fate("not asked"), Fate("not known")


def fates(
    version: Version, bank: Bank, rows: Numbers, keys: Hashes, note: Callable[[str], None]
) -> tuple[list[Fate], dict[str, dict[str, int]]]:
    """Return what became in a version of some rows of another's bank, and by stage and reason what it rejected at all.

    `keys`: of what the rows ask, so that they are found under a new id too. What cannot be read is noted.
    """
    ids = {int(id_): place for place, id_ in enumerate(bank.rows["id"][rows].tolist()) if id_}
    by_key = {int(key): place for place, key in enumerate(keys.tolist())}
    found: dict[int, Fate] = {}
    under_key: dict[int, Fate] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for path in _listed(version, REJECTS, note):
        for block in _blocks(version, path, note):
            others = []
            for line, row in zip(block, _decoded(block, Rejected), strict=True):
                counts[row.stage, row.reason] += 1
                if row.stage not in STAGES:
                    continue
                place = ids.get(digest(row.id.encode()))
                if place is not None:
                    found.setdefault(place, _fate(row))
                elif by_key and row.stage != "validate":  # whose rows are replies, not records
                    others.append((line, row))
            raws = [row.raw.encode() for row in _decoded([line for line, _ in others], Raw)]
            for key, (_, row) in zip(_keys(raws), others, strict=True):
                if key in by_key:
                    under_key.setdefault(by_key[key], _fate(row))
    found = under_key | found
    left = np.array([place for place in range(len(rows)) if place not in found], np.int64)
    found |= _unasked(version, bank, rows, left, note)
    reasons: dict[str, dict[str, int]] = {}
    for (stage, reason), count in sorted(counts.items()):
        reasons.setdefault(stage, {})[reason] = count
    return [found[place] for place in range(len(rows))], reasons


def _unasked(
    version: Version, bank: Bank, rows: Numbers, left: Numbers, note: Callable[[str], None]
) -> dict[int, Fate]:
    """Return for some places of `rows` whether the version has a reply of their id at all."""
    if not len(left):
        return {}
    there = {path: path for path in _listed(version, RESPONSES, note)}
    if not there:
        return dict.fromkeys(left.tolist(), NOT_KNOWN)
    found: dict[int, Fate] = {}
    cells = bank.topics(rows[left]).tolist()
    topics = np.array([bank.coded.cells.all[cell][0] for cell in cells])
    for topic in np.unique(topics).tolist():
        places = left[topics == topic].tolist()
        path = f"{RESPONSES}/{topic}.jsonl"
        if path not in there:
            found |= dict.fromkeys(places, NOT_ASKED)
            continue
        lost: list[str] = []
        ids = {digest(row.id.encode()) for block in _blocks(version, path, lost.append) for row in _decoded(block, Id)}
        for said in lost:
            note(said)
        for place in places:
            known = int(bank.rows["id"][rows[place]]) in ids
            found[place] = NOT_KNOWN if known or lost else NOT_ASKED
    return found


def _listed(version: Version, folder: str, note: Callable[[str], None]) -> list[str]:
    try:
        found = [path for path in version.under(folder) if path.endswith(".jsonl")]
    except Missing as error:
        note(str(error))
        return []
    if not found:
        note(f"{folder}: nothing there as of {version}, so it is not known what was dropped, or not asked")
    return found


def _blocks(version: Version, path: str, note: Callable[[str], None]) -> Iterator[list[bytes]]:
    """Yield the lines of a file, some at a time; none if it is not there."""
    file: BinaryIO
    try:
        file = version.open(path)
    except Missing as error:
        note(str(error))
        return
    with file:
        while lines := list(islice(file, BLOCK)):
            yield lines


def _decoded(lines: Iterable[bytes], row: type[R]) -> list[R]:
    decode = msgspec.json.Decoder(row).decode
    return [decode(line) for line in lines]


def _keys(raws: list[bytes]) -> list[int]:
    """Return a hash of what each row asks, 0 for what is no record."""
    good = [raw.startswith(b"{") for raw in raws]
    rows = _decoded([raw for raw, is_good in zip(raws, good, strict=True) if is_good], Question)
    hashes = iter(asked(rows).tolist())
    return [next(hashes) if is_good else 0 for is_good in good]


def _fate(row: Rejected) -> Fate:
    detail = row.detail if len(row.detail) <= HEAD else f"{row.detail[:HEAD]}…"
    return Fate("rejected", row.stage, row.reason, detail, row.kept)
