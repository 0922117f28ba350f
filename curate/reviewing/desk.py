"""What a reviewer sees and decides: the rows of the sample, each with what is known of it, and their own decisions.

decontaminated.jsonl, verify.jsonl, judge.jsonl, params.yaml, decisions.jsonl → rows to show; decisions, appended.

Shown is the sample, the same for all reviewers, and behind it what was decided about and is in the bank still. The
files may change at any time: they are looked at before each answer and read again if they have. A decision names the
content that its reviewer saw, and is refused if the record has another by now. Of what others decided nothing is told
before the summary.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

from curate import decisions
from curate.checks import CHECKS, ValidateParams, reading
from curate.gate import ENOUGH, GateParams, Reviewed, complaint
from curate.reviewing.sample import NOTHING, RISKS, ReviewParams, Shown, asked, named, sample
from schemas.chain import Malformed, parse, write
from schemas.faults import Fault
from schemas.page import Cell, Facts, Part, Run, Section, Table, Words, page
from schemas.page import changes as differences
from schemas.params import Wording, load, topics
from schemas.record import LETTERS, Decision, Item, Judged, Judgement, Record, Verification
from schemas.rows import read

HEAD = 90
"""Characters of a question in the list."""

State = Literal["open", "accepted", "rejected", "edited", "stale"]
Verdict = Literal["accept", "reject", "edit"]
STATES: dict[Verdict, State] = {"accept": "accepted", "reject": "rejected", "edit": "edited"}


class Places(Struct, frozen=True):
    """Where the files are."""

    records: Path
    verify: Path
    judge: Path
    decisions: Path
    params: Path


class Stamp(NamedTuple):
    """What tells that a file has changed."""

    modified: int
    size: int
    inode: int


class Draft(Struct, frozen=True, forbid_unknown_fields=True):
    """An item as it is being edited: it may be wrong still."""

    question: str
    options: tuple[str, str, str, str]
    think: str
    steps: tuple[str, ...]
    reflection: str
    adjustment: str | None
    answer: str


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    """What a reviewer decides about the row that they see."""

    id: str
    content: str
    verdict: Verdict
    reason: str | None
    note: Annotated[str, Meta(max_length=2000)]
    item: Draft | None


class Edited(Struct, frozen=True, forbid_unknown_fields=True):
    """An edit that is to be checked."""

    id: str
    item: Draft


class Problem(Struct, frozen=True):
    """Why an item may not stand in the bank."""

    code: str
    detail: str


class Checks(Struct, frozen=True):
    """How an item passes the checks of validation as they are configured now."""

    passed: int
    failed: tuple[Problem, ...]
    changed: bool
    """Whether the item is another than the record's."""


class Made(Struct, frozen=True):
    """A decision as the page tells it to the one who made it."""

    verdict: str
    reason: str | None
    note: str
    at: str
    stale: bool
    item: Item | None
    changes: list[tuple[str, list[Run]]]
    """What an edit changes in the record as it stands now."""


class Entry(Struct, frozen=True):
    """A row in the list."""

    id: str
    topic: str
    difficulty: str
    type: str
    risks: tuple[str, ...]
    state: State
    question: str


class Overview(Struct, frozen=True):
    """All rows, and the words they are told in."""

    reviewer: str
    version: str
    rows: list[Entry]
    topics: dict[str, str]
    difficulties: dict[str, str]
    types: dict[str, str]
    risks: dict[str, str]
    reasons: list[tuple[str, str]]


class Judge(Struct, frozen=True):
    """What the judge said."""

    judgement: Judgement | None
    mean: float | None
    teacher: str
    fault: str | None


class Sheet(Struct, frozen=True):
    """One row with all that is known of it."""

    id: str
    content: str
    topic: str
    difficulty: str
    type: str
    teacher: str
    repairs: tuple[str, ...]
    record: Item
    sampled: Literal["chance", "risk", "decided"]
    """Why it is here: drawn by chance, for its risks, or not drawn but decided about before."""
    risks: tuple[str, ...]
    checks: Checks
    verify: Verification | None
    judge: Judge | None
    state: State
    decisions: list[Made]
    """This reviewer's: what stands, or else the last that is stale."""


class Saved(Struct, frozen=True):
    """A decision is on the disk."""

    state: State
    before: str
    version: str
    """Of the page's figures, before and after: a page that had the first knows all that the second stands for."""


class Refused(Exception):
    """What a reviewer wants cannot be done, with a line for the page."""

    def __init__(self, why: Literal["unknown", "changed", "invalid"], message: str) -> None:
        super().__init__(message)
        self.why = why


class Bank(Struct, frozen=True):
    """The rows to show, by id, as of some state of the files."""

    stamps: tuple[Stamp, ...]
    sample: dict[str, Shown]
    """In the order in which they are shown."""
    others: dict[str, Shown]
    """Not in the sample, but decided about; in the order of the bank."""
    looked_for: frozenset[str]
    """Ids that were decided about."""
    validate: ValidateParams
    gate: GateParams
    topics: dict[str, str]
    """Names by slug, as those of difficulties and types."""
    difficulties: dict[str, str]
    types: dict[str, str]

    def rows(self) -> dict[str, Shown]:
        """Return all of them."""
        return self.sample | self.others


class Desk:
    """What one reviewer works at. Safe to use from several threads."""

    def __init__(self, places: Places, reviewer: str, clock: Callable[[], datetime]) -> None:
        self.reviewer = reviewer
        self.made: Counter[State] = Counter()
        """What was decided here, by its outcome."""
        self._places = places
        self._clock = clock
        self._lock = RLock()
        self._bank: Bank | None = None
        self._decided: tuple[Stamp, list[Decision]] | None = None
        self._standing: dict[str, decisions.Standing] = {}

    def version(self) -> str:
        """Return what changes when the bank does, or this reviewer's decisions."""
        with self._lock:
            own = sum(decision.reviewer == self.reviewer for decision in self._read())
            return "-".join(f"{part:x}" for stamp in (*self._stamps(), (own,)) for part in stamp)

    def overview(self) -> Overview:
        """Return the list of rows, in the order in which they are shown."""
        with self._lock:
            version, bank = self.version(), self._fresh()
            rows = [
                Entry(
                    id=id_,
                    topic=shown.record.topic,
                    difficulty=shown.record.difficulty,
                    type=shown.record.type,
                    risks=shown.risks,
                    state=self._state(shown),
                    question=shown.record.question[:HEAD],
                )
                for id_, shown in bank.rows().items()
            ]
        return Overview(
            reviewer=self.reviewer,
            version=version,
            rows=rows,
            topics=bank.topics,
            difficulties=bank.difficulties,
            types=bank.types,
            risks=RISKS,
            reasons=list(decisions.REASONS.items()),
        )

    def sheet(self, id_: str) -> Sheet:
        """Return a row with all that is known of it; Refused if it is not among those shown."""
        with self._lock:
            bank, shown = self._fresh(), self._shown(id_)
            made = [self._made(shown, decision) for decision in self._own(shown)]
            state = self._state(shown)
        record = shown.record
        return Sheet(
            id=id_,
            content=shown.content,
            topic=record.topic,
            difficulty=record.difficulty,
            type=record.type,
            teacher=record.teacher,
            repairs=record.repairs,
            record=item_of(record),
            sampled="decided" if id_ in bank.others else "chance" if shown.by_chance else "risk",
            risks=shown.risks,
            checks=checked(record, item_of(record), bank.validate),
            verify=shown.said.verify,
            judge=_judge(shown.said.judge),
            state=state,
            decisions=made,
        )

    def check(self, edit: Edited) -> Checks:
        """Return how an edited row passes the checks; Refused if it is not among those shown."""
        with self._lock:
            bank, shown = self._fresh(), self._shown(edit.id)
        return checked(shown.record, tidied(edit.item), bank.validate)

    def decide(self, wanted: Wanted) -> Saved:
        """Write a decision to the disk; Refused if the row is not the one that was seen, or the decision not valid.

        The same decision again, as when an answer was lost on its way, is not written twice.
        """
        with self._lock:
            bank, shown = self._fresh(), self._shown(wanted.id)
            if shown.content != wanted.content:
                raise Refused("changed", "The row has changed since it was shown. Read it again, then decide.")
            decision = Decision(
                id=wanted.id,
                content=shown.content,
                by_chance=shown.by_chance,
                reviewer=self.reviewer,
                verdict=wanted.verdict,
                reason=wanted.reason,
                note=wanted.note.strip(),
                item=_item(shown.record, wanted, bank.validate),
                at=decisions.stamp(self._clock()),
            )
            complaint_ = _unfit(decision)
            if complaint_ is not None:
                raise Refused("invalid", complaint_)
            before = self.version()
            last = self._standing[wanted.id].fresh(shown.content) if wanted.id in self._standing else ()
            own = next((made for made in last if made.reviewer == self.reviewer), None)
            if own is None or replace(own, at=decision.at) != decision:
                decisions.append(self._places.decisions, decision)
                self.made[STATES[wanted.verdict]] += 1
            return Saved(STATES[wanted.verdict], before, self.version())

    def summary(self) -> str:
        """Return the summary of all reviewers as an HTML page."""
        with self._lock:
            bank, decided = self._fresh(), self._read()
            return page(
                "Summary of the review",
                f"{self._places.decisions}: what all reviewers decided about the rows as they stand now",
                summary(bank, decided, self.reviewer),
            )

    def states(self) -> Counter[State]:
        """Return how many rows are in each state."""
        with self._lock:
            return Counter(self._state(shown) for shown in self._fresh().rows().values())

    # --- the files ---

    def _stamps(self) -> tuple[Stamp, ...]:
        places = self._places
        files = (places.records, places.verify, places.judge, places.params)
        return tuple(_stamp(path, "`dvc repro` writes it: run it, or wait until it has") for path in files)

    def _read(self) -> list[Decision]:
        path = self._places.decisions
        stamped = _stamp(path, "bring it back (`git checkout`), or begin with an empty file")
        if self._decided is None or self._decided[0] != stamped:
            self._decided = stamped, decisions.read(path)
            self._standing = decisions.standing(self._decided[1])
        return self._decided[1]

    def _fresh(self) -> Bank:
        """Return the bank as the files are now."""
        wanted = frozenset(decision.id for decision in self._read())
        stamps = self._stamps()
        if self._bank is None or self._bank.stamps != stamps:
            self._bank = _bank(self._places, stamps, wanted)
            if self._stamps() != stamps:
                self._bank = None
                raise Fault(f"{self._places.records.parent}: the files change while they are read; wait a moment")
        elif not wanted <= self._bank.looked_for:
            more = found(self._places, wanted - self._bank.looked_for - set(self._bank.sample))
            self._bank = replace(self._bank, others=self._bank.others | more, looked_for=self._bank.looked_for | wanted)
        return self._bank

    def _shown(self, id_: str) -> Shown:
        shown = self._fresh().rows().get(id_)
        if shown is None:
            raise Refused("unknown", f"The row {id_} is not in the sample.")
        return shown

    # --- one's own ---

    def _own(self, shown: Shown) -> list[Decision]:
        about = self._standing.get(shown.record.id)
        if about is None:
            return []
        both = (*about.fresh(shown.content), *about.stale(shown.content))
        return [decision for decision in both if decision.reviewer == self.reviewer]

    def _state(self, shown: Shown) -> State:
        own = self._own(shown)
        if not own:
            return "open"
        return STATES[own[0].verdict] if own[0].content == shown.content else "stale"

    def _made(self, shown: Shown, decision: Decision) -> Made:
        return Made(
            verdict=decision.verdict,
            reason=decision.reason,
            note=decision.note,
            at=decision.at,
            stale=decision.content != shown.content,
            item=decision.item,
            changes=[] if decision.item is None else changes(shown.record, decision.item),
        )


def _stamp(path: Path, remedy: str) -> Stamp:
    try:
        found_ = path.stat()
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}; {remedy}") from None
    return Stamp(found_.st_mtime_ns, found_.st_size, found_.st_ino)


def _bank(places: Places, stamps: tuple[Stamp, ...], wanted: frozenset[str]) -> Bank:
    path = places.params
    try:
        rows = sample(places.records, places.verify, places.judge, load("review", ReviewParams, path))
    except msgspec.DecodeError:  # of a line that is no longer where it was
        raise Fault(f"{places.records}: it changes while it is read; wait a moment") from None
    drawn = {shown.record.id: shown for shown in rows}
    return Bank(
        stamps=stamps,
        sample=drawn,
        others=found(places, wanted - set(drawn)),
        looked_for=wanted,
        validate=load("validate", ValidateParams, path),
        gate=load("gate", GateParams, path),
        topics={slug: topic.name for slug, topic in topics(path).items()},
        difficulties={slug: one.name for slug, one in load("difficulties", dict[str, Wording], path).items()},
        types={slug: one.name for slug, one in load("types", dict[str, Wording], path).items()},
    )


def found(places: Places, ids: frozenset[str]) -> dict[str, Shown]:
    """Return the records with these ids that the bank holds, with what was said of them, in its order."""
    if not ids:
        return {}
    said = asked(
        (row for row in read(places.verify, Verification) if row.id in ids),
        (row for row in read(places.judge, Judged) if row.id in ids),
    )
    shown = {}
    for id_, record in named(places.records, ids).items():
        about = said.get(id_, NOTHING)
        shown[id_] = Shown(record, decisions.content(record), False, tuple(about.risks()), about)
    return shown


# --- one row -------------------------------------------------------------------------------------------------------


def _judge(row: Judged | None) -> Judge | None:
    if row is None:
        return None
    return Judge(row.judgement, None if row.judgement is None else row.judgement.mean(), row.teacher, row.fault)


def item_of(row: Item | Draft) -> Item:
    """Return what a record says, without where it belongs and came from, or what an edit comes to."""
    return Item(**{name: getattr(row, name) for name in Item.__struct_fields__})


def tidied(draft: Draft) -> Draft:
    """Return an edit as it is written: no white space around a text, line ends as XML has them, no empty adjustment."""
    return Draft(
        question=_tidy(draft.question),
        options=tuple(_tidy(option) for option in draft.options),  # type: ignore[arg-type]  # as many as there were
        think=_tidy(draft.think),
        steps=tuple(_tidy(step) for step in draft.steps),
        reflection=_tidy(draft.reflection),
        adjustment=_tidy(draft.adjustment or "") or None,
        answer=draft.answer,
    )


def _tidy(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def checked(record: Record, item: Draft | Item, params: ValidateParams) -> Checks:
    """Return how a record would pass the checks if this were its item."""
    whole = item_of(item)
    changed = whole != item_of(record)
    blank = [Problem("blank", what) for what in _blank(whole)]
    if blank:
        return Checks(0, tuple(blank), changed)
    again = parse(write(whole))
    if isinstance(again, Malformed):
        return Checks(0, (Problem(again.reason, again.detail),), changed)
    if again != whole:
        return Checks(0, (Problem("not_xml", "what is written as XML is not what is read back"),), changed)
    seen = reading(replace(record, **asdict(whole)), params.script)
    details = {code: check(seen, params) for code, check in CHECKS.items()}
    failed = tuple(Problem(code, detail) for code, detail in details.items() if detail is not None)
    return Checks(len(details) - len(failed), failed, changed)


def _blank(item: Item) -> Iterator[str]:
    """Yield what is missing, for a person."""
    if not item.question:
        yield "the question is empty"
    for letter, option in zip(LETTERS, item.options, strict=True):
        if not option:
            yield f"option {letter} is empty"
    if not item.steps:
        yield "there is no step"
    if not all(item.steps):
        yield "a step is empty: fill it, or take it out"
    if item.answer not in LETTERS:
        yield "no option is marked as right"


def _item(record: Record, wanted: Wanted, params: ValidateParams) -> Item | None:
    """Return the item of an edit; Refused if it is not good enough, or none."""
    if wanted.item is None:
        return None
    draft = tidied(wanted.item)
    checks = checked(record, draft, params)
    if checks.failed:
        raise Refused("invalid", "; ".join(f"{problem.code}: {problem.detail}" for problem in checks.failed))
    if not checks.changed:
        raise Refused("invalid", "The edit changes nothing: accept the row, or close the edit.")
    return item_of(draft)


def _unfit(decision: Decision) -> str | None:
    if decision.reason == "other" and not decision.note:
        return "The reason “other” needs a note that says what it is."
    return decisions.wrong(decision)


def changes(before: Item, after: Item) -> list[tuple[str, list[Run]]]:
    """Return the fields in which two items differ, each as stretches of text that stayed, went or came."""
    return [
        (name, differences(old, new))
        for (name, old), (_, new) in zip(_fields(before), _fields(after), strict=True)
        if old != new
    ]


def _fields(item: Item) -> Iterator[tuple[str, str]]:
    yield "Question", item.question
    for letter, option in zip(LETTERS, item.options, strict=True):
        yield f"Option {letter}", option
    yield "First thoughts", item.think
    yield "Steps", "\n".join(f"{number}. {step}" for number, step in enumerate(item.steps, 1))
    yield "Reflection", item.reflection
    yield "Adjustment", item.adjustment or ""
    yield "Output", item.answer


# --- the summary ---------------------------------------------------------------------------------------------------


def summary(bank: Bank, decided: Iterable[Decision], reviewer: str) -> list[Section]:
    """Return what all reviewers decided; single decisions of others only on rows that this reviewer decided too."""
    decided = list(decided)
    rows = bank.rows()
    reviewed = Reviewed(decided)
    for shown in rows.values():
        reviewed.of(shown.record)
    fresh, rates, stale = reviewed.fresh(), reviewed.rates(), _stale(rows, decided)
    gone = {decision.id for decision in decided} - set(rows)
    return [
        Section("Decisions", _told(set(bank.sample), fresh, rates.all, len(stale.rows), len(gone))),
        Section("The gate", (Words((_gate(rates, bank.gate.accept),)),)),
        Section("Accept rate by topic", (_by_topic(bank, rates),)),
        Section("Agreement", _agreement(rows, fresh, reviewer)),
        Section("Reasons", (_reasons(fresh),)),
        Section("Stale", (stale,)),
    ]


def _told(sampled: set[str], fresh: list[Decision], rate: decisions.Rate, stale: int, gone: int) -> tuple[Part, ...]:
    seen = {decision.id for decision in fresh}
    ends = "" if rate.low is None else f"95 % interval {rate.low:.1%} to {rate.high:.1%}"
    facts = (
        ("Rows reviewed", f"{len(seen):,}", f"{len(seen & sampled):,} of the {len(sampled):,} sampled"),
        ("Accepted as they are", "–" if rate.accept is None else f"{rate.accept:.1%}", ends),
        ("Stale decisions", f"{stale:,}", "the row has changed since"),
        ("No longer in the bank", f"{gone:,}", "rows that were decided about"),
    )
    made = Counter((decision.reviewer, decision.verdict) for decision in fresh)
    rows: list[tuple[Cell, ...]] = []
    for name in sorted({decision.reviewer for decision in fresh}):
        counts = [made[name, verdict] for verdict in STATES]
        rows.append((name, sum(counts), *counts))
    return Facts(facts), Table("By reviewer", ("reviewer", "rows", *STATES.values()), tuple(rows))


def _gate(rates: decisions.Rates, least: float | None) -> str:
    low = complaint(rates, least)
    if low is not None:
        return f"The gate would fail: {low.removeprefix('gate: ')}."
    if least is None:
        return "The gate asks for no accept rate (gate.accept is null)."
    if rates.all.accept is None:
        return f"Nothing is reviewed yet; the gate asks for an accept rate of {least:g} where something is."
    return (
        f"The gate passes: no topic, and not all of them together, is surely below the accept rate of {least:g} that "
        f"gate.accept asks for: at least {ENOUGH} reviewed rows, and the upper end of the interval below it."
    )


def _by_topic(bank: Bank, rates: decisions.Rates) -> Table:
    counted = {bank.topics.get(slug, slug): rate for slug, rate in rates.topics.items()} | {"all": rates.all}
    least = bank.gate.accept
    return Table(
        "Rows accepted as they are, by topic",
        ("topic", "reviewed", "accepted", "rate", "from", "to", "gate"),
        tuple(
            (
                name,
                rate.reviewed,
                rate.accepted,
                rate.accept,
                rate.low,
                rate.high,
                _at_gate(rate, least),
            )
            for name, rate in counted.items()
        ),
        formats=("", "{:,}", "{:,}", "{:.1%}", "{:.1%}", "{:.1%}"),
        note="Of the rows drawn by chance, with Wilson's 95 % interval. A row that one reviewer rejects or edits is "
        "not accepted; a stale decision does not count.",
    )


def _at_gate(rate: decisions.Rate, least: float | None) -> str | None:
    if least is None or not rate.reviewed:
        return None
    if rate.reviewed < ENOUGH:
        return "too few to tell"
    return "passes" if complaint(decisions.Rates(rate, {}), least) is None else "fails"


def _agreement(rows: dict[str, Shown], fresh: list[Decision], reviewer: str) -> tuple[Part, ...]:
    found_ = decisions.kappa(fresh)
    if not found_:
        return (Words(("Nothing yet: no row was reviewed by two.",)),)
    table = Table(
        "Whether to accept, by pairs of reviewers",
        ("one", "other", "rows of both", "agreed", "share", "kappa"),
        tuple((*two.reviewers, two.records, two.agreed, two.agreed / two.records, two.kappa) for two in found_),
        formats=("", "", "{:,}", "{:,}", "{:.1%}", "{:.2f}"),
        note="Cohen's kappa: 1 is full agreement, 0 what chance gives; – where chance alone gives full agreement.",
    )
    own = {decision.id: decision for decision in fresh if decision.reviewer == reviewer}
    apart = [
        (row.id, rows[row.id].record.question, _said(own[row.id]), row.reviewer, _said(row))
        for row in fresh
        if row.reviewer != reviewer and row.id in own and own[row.id].verdict != row.verdict
    ]
    columns = ("id", "question", "you", "reviewer", "they")
    return table, Table("Where others decided otherwise than you", columns, tuple(apart))


def _said(decision: Decision) -> str:
    return ", ".join(filter(None, (decision.verdict, decision.reason, decision.note)))


def _reasons(fresh: list[Decision]) -> Table:
    counts = Counter(decision.reason for decision in fresh if decision.reason is not None)
    rows = tuple((code, decisions.REASONS[code], count) for code, count in counts.most_common())
    return Table("Rejects by reason", ("reason", "means", "rejects"), rows, heat=(2,))


def _stale(rows: dict[str, Shown], decided: Iterable[Decision]) -> Table:
    about = decisions.standing(decided)
    stale = [
        (decision.id, shown.record.topic, decision.reviewer, decision.verdict, decision.at)
        for id_, shown in rows.items()
        if id_ in about
        for decision in about[id_].stale(shown.content)
    ]
    return Table(
        "Decisions about rows that have changed since",
        ("id", "topic", "reviewer", "verdict", "at"),
        tuple(stale),
        note="They are kept, and not applied: `curate review` shows these rows as stale, to be decided anew.",
    )
