"""Asking about records that are already there: which of them, what to ask, and what came of it.

What the stages verify, judge, improve, vary, contrast and translate have in common. They ask through the same loop,
store and budget as `generate`, and in the same way what is stored is not asked again. A stage of another package can
run judge, improve and vary for records of its own (`for_others`).
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click
from msgspec import Struct

from datagen import asking, settings
from datagen.asking import Tally
from datagen.grid import Body, Request, endpoint
from datagen.prompts import Cell
from datagen.settings import Teacher
from datagen.store import Store, place
from schemas import chain, rows
from schemas.chain import ITEM, Form, Malformed
from schemas.faults import Fault
from schemas.params import AboutParams, Wording, load, topics
from schemas.record import Derived, Item, Message, Record, Row
from schemas.repair import mend_as

T = TypeVar("T", bound=Row)
C = TypeVar("C", bound=Callable[..., None])


class Query(Struct, frozen=True):
    """One thing to ask about a record."""

    record: Record
    messages: tuple[Message, ...]
    sample: int = 0
    how: str = ""
    """What is to be made of the record, one of `schemas.record.How`; none where it is only looked at."""


class Settled(Struct, frozen=True):
    """What a query came to."""

    query: Query
    id: str
    """The first 16 hex digits of the request's key."""
    teacher: str
    content: str
    """The last reply, as it came."""
    fault: str | None


class Asked(Struct, frozen=True):
    """A stage's queries, asked."""

    settled: Iterator[Settled]
    """In the order of the queries. The tally is complete at their end, where too few valid ones raise a Fault."""
    tally: Tally
    now: int
    """Requests that this run, not an earlier one, brought to an end."""


def for_others(kind: str) -> Callable[[C], C]:
    """Return a decorator: the options by which another stage runs this one, with a section of its own."""

    def with_options(command: C) -> C:
        section = click.option(
            "--section", default=kind, show_default=True, help="The section of params.yaml to go by, dotted."
        )
        now = click.option(
            "--now", type=click.Path(path_type=Path), help="A file for how many requests were asked now, not before."
        )
        return section(now(command))

    return with_options


def tell(now: Path | None, asked: Asked) -> None:
    """Write how many requests this run, not an earlier one, brought to an end."""
    if now:
        rows.write_json(now, {"asked": asked.now})


def choose(records: Iterable[Record], count: int | None) -> list[Record]:
    """Return so many of the records, in their order: evenly from the topics, in each those of the smallest hashed id.

    A record that comes or goes thus moves few others in or out, and the same are chosen by every stage.
    """
    records = list(records)
    if count is None:
        return records
    taken: Counter[str] = Counter()
    ranks: list[tuple[int, bytes, int]] = []
    for mark, row in sorted((hashlib.sha256(record.id.encode()).digest(), n) for n, record in enumerate(records)):
        topic = records[row].topic
        ranks.append((taken[topic], mark, row))
        taken[topic] += 1
    return [records[row] for row in sorted(row for _, _, row in sorted(ranks)[:count])]


def read(path: Path, count: int | None) -> list[Record]:
    """Return the chosen records of a file; Fault for one that could not be handed over as it is."""
    return sound(choose(rows.read(path, Record), count), path)


def sound(records: list[Record], path: Path) -> list[Record]:
    """Return the records; Fault for one whose item no strict parse reads back."""
    for record in records:
        found = chain.parse(chain.write(record))
        if isinstance(found, Malformed):
            raise Fault(f"{path}: {record.id}: {found.reason}: {found.detail}; `curate validate` would have dropped it")
    return records


def cells(path: Path | str = "params.yaml") -> Callable[[Record], Cell]:
    """Return what names the cell of a record as params.yaml does; it raises a Fault for a slug that is not there."""
    known_topics = topics(path)
    difficulties, types = (load(section, dict[str, Wording], path) for section in ("difficulties", "types"))

    def cell(record: Record) -> Cell:
        for section, known, slug in (
            ("topics", known_topics, record.topic),
            ("difficulties", difficulties, record.difficulty),
            ("types", types, record.type),
        ):
            if slug not in known:
                raise Fault(f"{path}: {section}.{slug}: not there, but record {record.id} has it; add it")
        return Cell(
            topic=(record.topic, known_topics[record.topic]),
            difficulty=(record.difficulty, difficulties[record.difficulty]),
            type=(record.type, types[record.type]),
        )

    return cell


def request(kind: str, query: Query, teacher: Teacher, answers: Callable[[str], str]) -> Request:
    """Return the request of a query; `answers` names what replies for a topic. A sample is a seed."""
    record = query.record
    body = Body(
        model=teacher.model,
        messages=query.messages,
        temperature=teacher.temperature,
        max_tokens=teacher.max_tokens,
        seed=query.sample,
        extra=teacher.extra,
    )
    return Request(
        topic=record.topic,
        difficulty=record.difficulty,
        type=record.type,
        sample=query.sample,
        round=0,
        endpoint=answers(record.topic),
        body=body,
        kind=kind,
        subject=record.id,
    )


@contextmanager
def asked(
    kind: str, params: AboutParams, records: Sequence[Record], queries: Callable[[Record], Sequence[Query]]
) -> Iterator[Asked]:
    """Ask what the store lacks of the queries about the records, as many for each, and open what they came to.

    Fault if the endpoint is of no use or the budget used up, as `asking.fill` says.
    """
    teacher = settings.teacher(params.teacher)
    answers = endpoint(teacher, kind)

    def all_() -> Iterator[Query]:
        return (query for record in records for query in queries(record))

    def asks() -> Iterator[Request]:
        return (request(kind, query, teacher, answers) for query in all_())

    each = len(queries(records[0])) if records else 0
    totals = {topic: each * count for topic, count in Counter(record.topic for record in records).items()}
    tally = Tally()
    with Store(place()) as store:
        progress = asking.fill(kind, asks(), totals, teacher, params.reasks, settings.terms(), store)
        found = asking.checked(asking.results(asks(), params.reasks, store, tally), kind, params.min_yield)
        settled = (Settled(query, r.id, r.teacher, r.content, r.fault) for query, r in zip(all_(), found, strict=True))
        yield Asked(settled, tally, progress.asked)


def held(form: Form[T], settled: Settled) -> tuple[T, tuple[str, ...]]:
    """Return what a valid reply holds, and the repairs it took."""
    found = mend_as(form, settled.content)
    assert not isinstance(found, Malformed), "the loop has judged the reply with the same parser"
    return found


def derived(found: Iterable[Settled]) -> Iterator[Derived]:
    """Yield the row of each valid reply."""
    for settled in found:
        if settled.fault is None:
            item, repairs = held(ITEM, settled)
            yield derive(settled.query.record, item, settled.query.how, settled.id, settled.teacher, repairs)


def derive(record: Record, item: Item, how: str, id: str, teacher: str, repairs: tuple[str, ...] = ()) -> Derived:
    """Return the row of an item that was made from a record; it stays in the record's cell."""
    return Derived(
        question=item.question,
        options=item.options,
        think=item.think,
        steps=item.steps,
        reflection=item.reflection,
        adjustment=item.adjustment,
        answer=item.answer,
        id=id,
        topic=record.topic,
        difficulty=record.difficulty,
        type=record.type,
        teacher=teacher,
        repairs=repairs,
        of=record.id,
        how=how,
    )


def export(found: Iterable[Derived], out: Path) -> dict[str, int]:
    """Write the rows, whole or not at all; return how many there are of each way of making."""
    how: Counter[str] = Counter()

    def counted() -> Iterator[Derived]:
        for row in found:
            how[row.how] += 1
            yield row

    rows.write(out, counted())
    return dict(sorted(how.items()))


def mean(numbers: Iterable[float]) -> float | None:
    """Return the mean, to four digits, None of no numbers."""
    all_ = list(numbers)
    return round(sum(all_) / len(all_), 4) if all_ else None


def means(found: Iterable[tuple[str, float]]) -> dict[str, float | None]:
    """Return the mean of the numbers under each name, the lowest first."""
    numbers: dict[str, list[float]] = defaultdict(list)
    for name, number in found:
        numbers[name].append(number)
    return {name: mean(numbers[name]) for name in sorted(numbers, key=lambda name: (mean(numbers[name]), name))}


def by_place(found: Iterable[tuple[Record, float]]) -> dict[str, dict[str, float | None]]:
    """Return the means of numbers about records by their topic, difficulty and type, in each the lowest first."""
    pairs = list(found)
    return {
        "topic": means((record.topic, number) for record, number in pairs),
        "difficulty": means((record.difficulty, number) for record, number in pairs),
        "type": means((record.type, number) for record, number in pairs),
    }
