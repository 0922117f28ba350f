"""All that differs between two versions of the bank: records, figures, what may be responsible, what models scored.

Read are data/{train,rollout,validation,test}.jsonl, data/rejects, data/responses, metrics, params.yaml, dvc.lock, the
reviewers' decisions and what stages depend on under git. Without the bank of both there is nothing to compare; whatever
else is missing is noted, and the rest is compared without it.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from curate.auditing.causes import DECISIONS, Cause, causes
from curate.auditing.changes import BIT, FIELDS, SIDES, Bank, Changes, Coded, Numbers, compare, digest, scan
from curate.auditing.fates import Fate, fates
from curate.auditing.revisions import Missing, Version
from curate.auditing.scored import SCORE, Scores, scores
from curate.decisions import parse
from schemas.record import LETTERS, Decision

FILES = {side: f"data/{side}.jsonl" for side in SIDES}
SHARES = (5, 50, 95)
"""Percentiles of a length that are told."""
SIDE = BIT["side"]


class About(Struct, frozen=True):
    """A version, for people."""

    name: str
    commit: str | None
    about: str


class Review(Struct, frozen=True):
    """What the gate counted of reviewers' decisions, in metrics/gate.json."""

    reviewed: int | None = None
    accepted: int | None = None
    rejected: int | None = None
    edited: int | None = None
    stale: int | None = None


class Gate(Struct, frozen=True):
    """What is needed of metrics/gate.json."""

    review: Review | None = None


class Figures(Struct, frozen=True):
    """A version of the bank in numbers."""

    records: int
    sides: dict[str, int]
    topics: dict[str, int]
    letters: dict[str, int]
    question: tuple[float, ...]
    """Characters: percentiles of SHARES."""
    chain: tuple[float, ...]
    neutrality: float | None
    """Mean over the chains; 0.5 where words neither weigh nor decree."""
    repaired: int
    repairs: dict[str, int]
    teachers: dict[str, int]
    rejects: dict[str, dict[str, int]]
    """By stage and reason."""
    review: Review | None


class Effect(Struct, frozen=True):
    """What happened to the records of a topic, or of a cell of the grid."""

    name: tuple[str, ...]
    before: int
    after: int
    added: int
    removed: int
    changed: int
    """In a field that is not the side."""
    moved: int
    """From one side to another."""
    rejected: int
    """Of those removed, how many were dropped on the way."""

    @property
    def touched(self) -> int:
        """How many changes there are."""
        return self.added + self.removed + self.changed + self.moved


class Explained(Struct, frozen=True):
    """A topic that changed, and what may be responsible."""

    topic: str
    own: tuple[str, ...]
    """Causes about the topic."""
    common: bool
    """Whether there are causes about all topics."""
    across: bool
    """Whether there is no such cause, but other topics have theirs: rows of all topics are compared, evened out."""


class Decided(Struct, frozen=True):
    """Lines of reviewers' decisions."""

    before: dict[str, int]
    """By verdict."""
    after: dict[str, int]
    added: int
    removed: int
    """The file is only appended to: a line that is gone was taken out by hand, or is of another branch."""


class Metric(Struct, frozen=True):
    """A number of a metrics file that differs."""

    file: str
    key: str
    before: float | None
    after: float | None


class Audit(Struct, frozen=True):
    """All that is told of two versions, but the records one by one."""

    a: About
    b: About
    notes: tuple[str, ...]
    """What could not be read, and what to know before the figures are."""
    unchanged: int
    changed: int
    added: int
    removed: int
    moved: int
    new_id: int
    """Of the records in both, those under another id than before."""
    fields: dict[str, int]
    moves: dict[str, int]
    rejected: dict[str, int]
    """What became of those removed, by stage and reason, or `not asked`, or `not known`."""
    returned: dict[str, int]
    """What had become of those added, in the version before."""
    before: Figures
    after: Figures
    topics: tuple[Effect, ...]
    cells: tuple[Effect, ...]
    causes: tuple[Cause, ...]
    explained: tuple[Explained, ...]
    decisions: Decided | None
    scores: Scores | None
    metrics: tuple[Metric, ...]


class Compared(Struct, frozen=True):
    """An audit and what single records are told from."""

    audit: Audit
    a: Bank
    b: Bank
    changes: Changes
    gone: list[Fate]
    """Of the removed, in their order."""
    been: list[Fate]
    """Of the added, in the version before."""


# --- gathered ------------------------------------------------------------------------------------------------------


def differences(a: Version, b: Version) -> Compared:
    """Return what differs between two versions; Fault where the bank of one cannot be read."""
    notes: dict[str, None] = {}

    def note(said: str) -> None:
        notes[said] = None

    coded = Coded()
    banks = _banks(a, b, coded, note)
    changes = compare(*banks)
    gone, rejects_b = fates(b, banks[0], changes.removed, changes.removed_keys, note)
    been, rejects_a = fates(a, banks[1], changes.added, changes.added_keys, note)
    decided, about = _decisions(a, b, banks, note)
    found = causes(a, b, FILES.values(), about)
    cells = _effects(banks, changes, gone, lambda cell: cell)
    topics = _effects(banks, changes, gone, lambda cell: cell[:1])
    other = changes.fields & ~SIDE != 0
    moved = changes.fields & SIDE != 0
    moves = _moves(banks, changes, moved)
    if seen := moves.get("train → test"):
        note(f"{seen:,} training questions of {a} are test questions of {b}: a model trained on {a} has seen them")
    for each in (a, b):
        behind = each.behind()
        for path, what in ((FILES["test"], "its bank is"), (SCORE, "its scores are")):
            if stages := sorted(behind & each.upstream([path])):
                note(f"{each}: {what} of an earlier run, {', '.join(stages)} did not run on what there is: `dvc repro`")
                break
    for cause in found:
        if not cause.ran:
            note(f"{cause.what} differs, but what {b} holds was made without it: `dvc repro` comes first")
    told = Audit(
        a=About(a.name, a.commit, a.about),
        b=About(b.name, b.commit, b.about),
        notes=(),
        unchanged=int((changes.fields == 0).sum()),
        changed=int(other.sum()),
        added=len(changes.added),
        removed=len(changes.removed),
        moved=int(moved.sum()),
        new_id=int(changes.new_id.sum()),
        fields={name: count for name in FIELDS if (count := int((changes.fields & BIT[name] != 0).sum()))},
        moves=moves,
        rejected=_counted(map(str, gone)),
        returned=_counted(map(str, been)),
        before=_figures(a, banks[0], rejects_a, note),
        after=_figures(b, banks[1], rejects_b, note),
        topics=topics,
        cells=cells,
        causes=tuple(found),
        explained=_explained(topics, found),
        decisions=decided,
        scores=scores(a, b, banks, changes, note),
        metrics=tuple(_metrics(a, b, note)),
    )
    return Compared(replace(told, notes=tuple(notes)), *banks, changes, gone, been)


def _banks(a: Version, b: Version, coded: Coded, note: Callable[[str], None]) -> tuple[Bank, Bank]:
    """Return the banks of both, after a look whether all of their files are there."""
    # A version from before there was an author has no such side.
    opened = [
        {side: each.open(path) for side, path in FILES.items() if side != "author" or each.has(path)} for each in (a, b)
    ]
    if a.commit is not None and a.commit == b.commit:
        note(f"{a} and {b} are one commit")
    first = scan(str(a), opened[0], coded)
    hashes = [[each.hash(path) for path in FILES.values()] for each in (a, b)]
    if all(hashes[0]) and hashes[0] == hashes[1]:  # the very same files
        second = Bank(str(b), coded, opened[1])
        second.rows, second.odd, second.complaint = first.rows, first.odd, first.complaint
    else:
        second = scan(str(b), opened[1], coded, first)
    for each, bank in ((a, first), (b, second)):
        if bank.odd:
            note(
                f"{each}: {bank.odd:,} records are not as today's are; what they lack counts as empty: {bank.complaint}"
            )
        if each.commit is None:
            _dirty(each, note)
    return first, second


def _dirty(workspace: Version, note: Callable[[str], None]) -> None:
    """Say which files of the bank are not what dvc.lock says that the stages wrote."""
    for path in FILES.values():
        out = workspace.outs.get(path)
        if out is not None and out.md5 is not None and _md5(workspace, path) != out.md5:
            note(f"{path} is not what dvc.lock says: what made it is not known; `dvc status` says more")


def _md5(workspace: Version, path: str) -> str:
    found = hashlib.md5(usedforsecurity=False)
    with workspace.open(path) as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


def _effects(
    banks: tuple[Bank, Bank], changes: Changes, gone: list[Fate], name: Callable[[tuple[str, ...]], tuple[str, ...]]
) -> tuple[Effect, ...]:
    """Return what happened, by what is named of a cell."""
    cells = banks[0].coded.cells.all
    groups = {group: number for number, group in enumerate(dict.fromkeys(sorted(map(name, cells))))}
    of_cell = np.array([groups[name(cell)] for cell in cells], np.int64)

    def count(bank: Bank, rows: Numbers | None = None) -> list[int]:
        return np.bincount(of_cell[bank.topics(rows)], minlength=len(groups)).tolist() if len(cells) else []

    a, b = banks
    rejected = np.array([fate.end == "rejected" for fate in gone], bool)
    columns = (
        count(a),
        count(b),
        count(b, changes.added),
        count(a, changes.removed),
        count(b, changes.b[changes.fields & ~SIDE != 0]),
        count(b, changes.b[changes.fields & SIDE != 0]),
        count(a, changes.removed[rejected]),
    )
    return tuple(Effect(group, *numbers) for group, *numbers in zip(groups, *columns, strict=True))


def _moves(banks: tuple[Bank, Bank], changes: Changes, moved: "np.ndarray[Any, Any]") -> dict[str, int]:
    sides = zip(banks[0].rows["side"][changes.a[moved]], banks[1].rows["side"][changes.b[moved]], strict=True)
    return _counted(f"{SIDES[before]} → {SIDES[after]}" for before, after in sides)


def _counted(found: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(found).items(), key=lambda one: (-one[1], one[0])))


def _figures(each: Version, bank: Bank, rejects: dict[str, dict[str, int]], note: Callable[[str], None]) -> Figures:
    rows, coded = bank.rows, bank.coded
    repairs: Counter[str] = Counter()
    repaired = 0
    for code, count in _codes(rows["repairs"]):
        repaired += count if coded.repairs.all[code] else 0
        for repair in coded.repairs.all[code]:
            repairs[repair] += count
    topics: Counter[str] = Counter()
    for code, count in _codes(rows["cell"]):
        topics[coded.cells.all[code][0]] += count
    teachers = {coded.teachers.all[code]: count for code, count in _codes(rows["teacher"])}
    return Figures(
        records=len(rows),
        sides={side: int((rows["side"] == place).sum()) for place, side in enumerate(SIDES)},
        topics=dict(sorted(topics.items())),
        letters={letter: int((rows["answer"] == place).sum()) for place, letter in enumerate(LETTERS)},
        question=_shares(rows["question"]),
        chain=_shares(rows["chain"]),
        neutrality=round(float(rows["neutrality"].mean(dtype=np.float64)), 4) if len(rows) else None,
        repaired=repaired,
        repairs=dict(sorted(repairs.items())),
        teachers=dict(sorted(teachers.items())),
        rejects=rejects,
        review=_review(each, note),
    )


def _codes(column: "np.ndarray[Any, Any]") -> Iterator[tuple[int, int]]:
    codes, counts = np.unique(column, return_counts=True)
    return zip(codes.tolist(), counts.tolist(), strict=True)


def _shares(lengths: "np.ndarray[Any, Any]") -> tuple[float, ...]:
    return tuple(float(found) for found in np.percentile(lengths, SHARES)) if len(lengths) else ()


def _review(each: Version, note: Callable[[str], None]) -> Review | None:
    if not each.has("metrics/gate.json"):
        return None
    try:
        return msgspec.json.decode(each.read("metrics/gate.json"), type=Gate).review
    except (Missing, msgspec.DecodeError) as error:
        note(str(error) if isinstance(error, Missing) else f"metrics/gate.json as of {each}: {error}")
        return None


def _decisions(
    a: Version, b: Version, banks: tuple[Bank, Bank], note: Callable[[str], None]
) -> tuple[Decided | None, tuple[str, ...] | None]:
    """Return how the decisions differ, and the topics of the records concerned, None if one is not known."""
    found: list[list[Decision]] = []
    for each in (a, b):
        name = f"{DECISIONS} as of {each}" if each.commit else DECISIONS
        found.append(parse(each.read(DECISIONS), name) if each.has(DECISIONS) else [])
    if not any(found):
        return None, ()
    before, after = (Counter(decisions) for decisions in found)
    other = list((before - after) | (after - before))
    cells: dict[int, int] = {}
    for bank in banks:
        cells |= dict(zip(bank.rows["id"].tolist(), bank.topics().tolist(), strict=True))
    coded = banks[0].coded.cells.all
    known = [cells.get(digest(decision.id.encode())) for decision in other]
    topics = {coded[cell][0] for cell in known if cell is not None}
    verdicts = [_counted(decision.verdict for decision in decisions) for decisions in found]
    decided = Decided(verdicts[0], verdicts[1], (after - before).total(), (before - after).total())
    return decided, tuple(sorted(topics)) if None not in known else None


def _explained(topics: tuple[Effect, ...], found: list[Cause]) -> tuple[Explained, ...]:
    """Return for each topic that changed what reached the bank and is about it."""
    at_work = [cause for cause in found if cause.ran and cause.reach == "bank"]
    common = any(cause.topics is None for cause in at_work)
    told = []
    for effect in topics:
        if effect.touched:
            topic = effect.name[0]
            own = tuple(cause.what for cause in at_work if topic in (cause.topics or ()))
            told.append(Explained(topic, own, common, not own and not common and bool(at_work)))
    return tuple(told)


def _metrics(a: Version, b: Version, note: Callable[[str], None]) -> Iterator[Metric]:
    """Yield the numbers of the metrics files that differ."""
    numbers: list[dict[tuple[str, str], float]] = []
    for each in (a, b):
        found: dict[tuple[str, str], float] = {}
        try:
            for path in each.under("metrics"):
                if path.endswith(".json"):
                    found |= {(path, key): value for key, value in _leaves(msgspec.json.decode(each.read(path)))}
        except (Missing, msgspec.DecodeError) as error:
            note(str(error) if isinstance(error, Missing) else f"{path} as of {each}: {error}")
        numbers.append(found)
    for file, key in dict.fromkeys([*numbers[0], *numbers[1]]):
        before, after = (found.get((file, key)) for found in numbers)
        if before != after:
            yield Metric(file, key, before, after)


def _leaves(value: Any, at: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{at}.{place}" if at else str(place))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield at, value
