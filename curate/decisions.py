"""What reviewers decided about records: one line each in a file that git tracks, and what follows from them.

A decision is about a record as it stood before the gate, bound to it by a hash of what its reviewer saw. Lines are only
ever appended. The last that a reviewer decided about the record as it stands now is what counts; where all they decided
was about another content, their last is stale: shown and counted, never applied.

    a standing reject    drops the record, whatever others think
    a standing edit      else puts what it says in the record's place; the newest line, if there are several
    a standing accept    else keeps it

Each rate comes with the interval of Wilson (1927): right also for few rows, and where all or none were accepted.
"""

import fcntl
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schemas.faults import Fault
from schemas.interval import wilson
from schemas.record import Decision, Item, Record

REASON = "rejected_by_reviewer"
"""Why the gate drops a record that a reviewer rejected."""
EDITED = "review"
"""What is added to the repairs of a record that a reviewer edited."""
END = b"\n"
BOTH = "so that the file holds the lines of both sides"
CONFLICT = (b"<<<<<<<", b"=======", b">>>>>>>", b"|||||||")


class Standing(Struct, frozen=True):
    """What was decided about a record."""

    decisions: tuple[Decision, ...]
    """Of each reviewer the last about each content, in the order of the file."""

    def fresh(self, content: str) -> tuple[Decision, ...]:
        """Return what stands of a record with this content: at most one decision of each reviewer, the newest last."""
        return tuple(decision for decision in self.decisions if decision.content == content)

    def stale(self, content: str) -> tuple[Decision, ...]:
        """Return the last decision of each reviewer who decided about another content only."""
        known = {decision.reviewer for decision in self.fresh(content)}
        last = {decision.reviewer: decision for decision in self.decisions if decision.reviewer not in known}
        return tuple(last.values())


class Dropped(Struct, frozen=True):
    """Why a record is not to stay."""

    reason: str
    detail: str
    """Who rejected it and in what words."""


class Rate(Struct, frozen=True):
    """How many reviewed records drawn by chance were accepted, with the ends of the interval; None of none."""

    reviewed: int
    accepted: int
    accept: float | None
    low: float | None
    high: float | None


class Rates(Struct, frozen=True):
    """The accept rate in all and by topic, of the topics with a reviewed record, by name."""

    all: Rate
    topics: dict[str, Rate]


class Agreement(Struct, frozen=True):
    """How far two reviewers agree whether to accept."""

    reviewers: tuple[str, str]
    """By name."""
    records: int
    """That both decided about."""
    agreed: int
    kappa: float | None
    """Of Cohen (1960): 1 is full agreement, 0 what chance gives. None where chance alone gives full agreement."""


# --- the file ------------------------------------------------------------------------------------------------------


def content(item: Item) -> str:
    """Return 16 hex digits of a hash over the seven fields of an item; of a record, over those alone."""
    fields = [getattr(item, name) for name in Item.__struct_fields__]
    return hashlib.blake2b(msgspec.json.encode(fields), digest_size=8).hexdigest()


def stamp(moment: datetime) -> str:
    """Return a moment as a decision's `at`: UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(at: str) -> datetime:
    """Return when a decision was made; ValueError for what is not ISO 8601 in UTC."""
    found = datetime.fromisoformat(at)
    if "T" not in at or found.utcoffset() != timedelta(0):
        raise ValueError(at)
    return found


def wrong(decision: Decision) -> str | None:
    """Return what is wrong with a decision that has the right fields, and what to do; None if nothing is."""
    if len(decision.content) != 16 or set(decision.content) - set("0123456789abcdef"):
        return f"content '{decision.content}' is not a hash of 16 hex digits; take the line out and review anew"
    if not decision.reviewer.isprintable() or decision.reviewer != decision.reviewer.strip():
        return f"reviewer {decision.reviewer!r} is not a plain name; write it without spaces around it"
    if decision.verdict == "reject" and decision.reason not in REASONS:
        said = f"'{decision.reason}' is none" if decision.reason else "a reject without a reason"
        return f"{said}; the reasons are {', '.join(REASONS)}"
    if decision.verdict != "reject" and decision.reason is not None:
        return f"an {decision.verdict} with the reason '{decision.reason}'; put null there and the words under 'note'"
    if decision.verdict == "edit" and decision.item is None:
        return "an edit without an item; put the edited item there, or take the line out"
    if decision.verdict != "edit" and decision.item is not None:
        return f"an {decision.verdict} with an item; put null there, or make it an edit".replace("an rej", "a rej")
    try:
        moment(decision.at)
    except ValueError:
        return f"at '{decision.at}' is not a time in UTC; write it as 2026-01-31T12:00:00Z"
    return None


def read(path: Path) -> list[Decision]:
    """Return the decisions of a file, in order; Fault `PATH:LINE: what is wrong; what to do` for the first bad line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Fault(
            f"{path}: {error.strerror}; bring it back (`git checkout {path}`), or begin with an empty file"
        ) from None
    return parse(data, str(path))


def parse(data: bytes, name: str) -> list[Decision]:
    """Return the decisions of a file's bytes; Fault `NAME:LINE: what is wrong; what to do` for the first bad line."""
    decode = msgspec.json.Decoder(Decision).decode
    found: dict[Decision, int] = {}
    *lines, rest = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        complaint = _form(line, number)
        if complaint is None:
            try:
                decision = decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                complaint = f"{' '.join(str(error).split())}; mend the line, or take it out"
            else:
                complaint = wrong(decision)
                first = found.setdefault(decision, number)
                if complaint is None and first != number:
                    complaint = f"the same decision as in line {first}; take one of them out"
        if complaint is not None:
            raise Fault(f"{name}:{number}: {complaint}")
    if rest:
        raise Fault(f"{name}:{len(lines) + 1}: {_cut_off(rest)}")
    return list(found)


def _form(line: bytes, number: int) -> str | None:
    """Return what is wrong with a line before it is looked at as JSON."""
    if number == 1 and line.startswith(b"\xef\xbb\xbf"):
        return "begins with a byte order mark; save the file as UTF-8 without one"
    if line.startswith(CONFLICT):
        return f"a merge conflict; take out the lines that begin with <<<<<<<, ======= and >>>>>>>, {BOTH}"
    if line.endswith(b"\r"):
        return "ends in CR LF; save the file with LF line ends (`sed -i 's/\\r$//' FILE`)"
    if not line.strip():
        return "the line is empty; take it out"
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return f"byte 0x{line[error.start]:02x} is not UTF-8; save the file as UTF-8"
    return None


def _cut_off(line: bytes) -> str:
    """Return what to do about a last line that does not end."""
    try:
        msgspec.json.decode(line, type=Decision)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "the line is cut off, as by a crash; take it out (`sed -i '$d' FILE`)"
    return "the line is whole but has no end; add one (`echo >> FILE`)"


def append(path: Path, decision: Decision) -> None:
    """Add a decision to a file, which others may append to as well, so that it survives a crash; see `extend`."""
    extend(path, [decision])


def extend(path: Path, decisions: Iterable[Decision]) -> int:
    """Add decisions to the end of a file, all or none, written through to the disk; return how many were new.

    One that the file holds already, in every field, is not added again. The file is made if it is not there. Fault if a
    decision is not valid, if the last line has no end (so that two are never glued together) or if the file cannot be
    written: then it is as long as it was.
    """
    lines: list[bytes] = []
    for decision in decisions:
        complaint = wrong(decision)
        if complaint is not None:
            raise Fault(f"{path}: the decision of {decision.reviewer} about {decision.id}: {complaint}")
        lines.append(msgspec.json.encode(decision) + b"\n")
    if not lines:
        return 0
    try:
        with _locked(path) as file:
            return _written(file, path, lines)
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}; nothing was added, mend it and decide again") from None


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open a file to append to and hold its lock: of those who append, one at a time."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            # git and editors put a new file in the place of the old: a line added to that one would be lost.
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                yield file
                return
        finally:
            os.close(file)


def _written(file: int, path: Path, lines: Iterable[bytes]) -> int:
    size = os.fstat(file).st_size
    held = b"\n" + _contents(file, size)
    if not held.endswith(b"\n"):
        rest = held[held.rfind(b"\n") + 1 :]
        raise Fault(f"{path}:{held.count(END)}: {_cut_off(rest)}; then decide again")
    new = [line for line in dict.fromkeys(lines) if b"\n" + line not in held]
    data = memoryview(b"".join(new))
    try:
        while data:
            data = data[os.write(file, data) :]
        os.fsync(file)
    except BaseException:
        os.ftruncate(file, size)
        os.fsync(file)
        raise
    if size == 0:  # the file may be new: a folder knows it for good only when it is written itself
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return len(new)


def _contents(file: int, size: int) -> bytes:
    pieces = []
    at = 0
    while at < size and (piece := os.pread(file, size - at, at)):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)


# --- what follows --------------------------------------------------------------------------------------------------


def standing(decisions: Iterable[Decision]) -> dict[str, Standing]:
    """Return what was decided about each record, by its id."""
    last: dict[str, dict[tuple[str, str], Decision]] = defaultdict(dict)
    for decision in decisions:
        about, key = last[decision.id], (decision.reviewer, decision.content)
        about.pop(key, None)  # so that the order is that of what counts
        about[key] = decision
    return {id_: Standing(tuple(about.values())) for id_, about in last.items()}


def fresh(decisions: Iterable[Decision], contents: Mapping[str, str]) -> list[Decision]:
    """Return what stands of the records with these contents (by id): of each reviewer the last about each of them."""
    found = standing(decisions)
    return [decision for id_, about in found.items() if id_ in contents for decision in about.fresh(contents[id_])]


def verdict(record: Record, about: Standing | None) -> Record | Dropped | None:
    """Return what reviewers made of a record: itself where it is accepted, edited, or dropped; None if nobody decided.

    Stale decisions are left out. An edited record is the edited item in the record's place, its repairs saying so.
    """
    stand = about.fresh(content(record)) if about else ()
    if not stand:
        return None
    against = [decision for decision in stand if decision.verdict == "reject"]
    if against:
        return Dropped(REASON, "; ".join(map(_objection, against)))
    edits = [decision.item for decision in stand if decision.item is not None]
    if not edits:
        return record
    fields = {name: getattr(edits[-1], name) for name in Item.__struct_fields__}
    return replace(record, **fields, repairs=(*record.repairs, EDITED))


def _objection(decision: Decision) -> str:
    return f"{decision.reviewer}: {decision.reason}" + (f", {decision.note}" if decision.note else "")


def rates(decisions: Iterable[Decision], topics: Mapping[str, str]) -> Rates:
    """Return how many records were accepted as they are, of those drawn by chance and decided, in all and by topic.

    `decisions` are those that stand (`fresh`), `topics` the topic of each record by id; others are left out, and so are
    records that were shown for a risk, which would make the bank look worse than it is. A record counts once: it is
    accepted if no reviewer rejects or edits it.
    """
    accepted: dict[str, bool] = {}
    for decision in decisions:
        if decision.by_chance and decision.id in topics:
            accepted[decision.id] = accepted.get(decision.id, True) and decision.verdict == "accept"
    of_topic: dict[str, list[bool]] = defaultdict(list)
    for id_, is_accepted in accepted.items():
        of_topic[topics[id_]].append(is_accepted)
    return Rates(rate(accepted.values()), {topic: rate(of_topic[topic]) for topic in sorted(of_topic)})


def rate(accepted: Iterable[bool]) -> Rate:
    """Return the rate of the records of which it is told whether they were accepted."""
    found = list(accepted)
    if not found:
        return Rate(0, 0, None, None, None)
    right = sum(found)
    return Rate(len(found), right, right / len(found), *wilson(right, len(found)))


def kappa(decisions: Iterable[Decision]) -> list[Agreement]:
    """Return how far each two reviewers agree, by name, over what both saw: one record with one content.

    Of each the last decision about it counts, and whether it is accept or not. Two without a record in common are left
    out.
    """
    of_reviewer: dict[str, dict[tuple[str, str], bool]] = defaultdict(dict)
    for decision in decisions:
        of_reviewer[decision.reviewer][decision.id, decision.content] = decision.verdict == "accept"
    found = []
    for one, other in combinations(sorted(of_reviewer), 2):
        first, second = of_reviewer[one], of_reviewer[other]
        both = [(first[seen], second[seen]) for seen in first if seen in second]
        if both:
            found.append(Agreement((one, other), len(both), sum(a == b for a, b in both), _cohen(both)))
    return found


def _cohen(both: list[tuple[bool, bool]]) -> float | None:
    n = len(both)
    first, second = sum(a for a, _ in both), sum(b for _, b in both)
    agreed = sum(a == b for a, b in both) * n
    chance = first * second + (n - first) * (n - second)  # in whole numbers, so that full agreement is exactly 1
    return None if chance == n * n else (agreed - chance) / (n * n - chance)


REASONS = {
    "wrong_answer": "the marked option is not the right one",
    "ambiguous": "more than one option may be right, or none",
    "not_neutral": "question or chain takes sides",
    "bad_reasoning": "the chain does not lead to the answer, or by a false step",
    "unclear": "one cannot tell what is asked",
    "trivial": "the question gives itself away or asks nothing",
    "factual_error": "a fact in question, options or chain is false",
    "duplicate": "the bank asks this already",
    "other": "what the note says",
}
