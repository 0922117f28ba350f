"""The answers of questions: what a reader who has the sheets makes of a question that somebody else wrote.

A question is known by its text: all that can be asked of a sheet is listed by how it reads, and what makes an option
right follows from the facts. Nothing here is shared with the forms that write questions, so each checks the other.
"""

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise, product
from typing import TypeVar

from msgspec import Struct

from datagen.teacher import frames
from datagen.teacher.sheets import Attribute, Class, Entity, Sheet, read
from schemas.faults import Fault
from schemas.record import Options

T = TypeVar("T")

Keys = tuple[str, ...]
"""A path: relations to follow, then the attribute that is asked for."""


class Value(Struct, frozen=True):
    """What stands at the end of a path? The options are values."""

    group: str
    start: str
    """The name of the entity that the path starts from, or the meaning that stands for it."""
    by: str | None
    """The key of that meaning; None where the name is given."""
    path: Keys


class Which(Struct, frozen=True):
    """Which entity has these values? The options are names."""

    group: str
    conditions: tuple[tuple[Keys, str], ...]


class Rank(Struct, frozen=True):
    """Which of the four has this place in time?"""

    group: str
    key: str
    place: int
    """0 the earliest, 1 the second, -1 the latest."""


class Beside(Struct, frozen=True):
    """Which is earlier, or later, than the reference?"""

    group: str
    key: str
    reference: str
    later: bool


class Claim(Struct, frozen=True):
    """A statement that somebody makes, true or not."""

    group: str
    entity: str
    key: str
    said: str


class Claims(Struct, frozen=True):
    """What is to be thought of one claim, or of two?"""

    claims: tuple[Claim, ...]


class Pairs(Struct, frozen=True):
    """In which pair do entity and value belong together? The options read `entity：value`."""

    group: str
    key: str


Question = Value | Which | Rank | Beside | Claims | Pairs

HOLDS = "这一说法有依据"
INSTEAD = "这一说法有误，应为"
VERDICTS: dict[str, tuple[bool, bool]] = {
    "两种说法都有依据": (True, True),
    "只有甲的说法有依据": (True, False),
    "只有乙的说法有依据": (False, True),
    "两种说法都没有依据": (False, False),
}
"""What is said of two claims, and which of them it holds to be true."""


class Step(Struct, frozen=True):
    """A fact on a path."""

    group: Class
    entity: Entity
    key: str

    @property
    def attribute(self) -> Attribute:
        """The attribute that the fact gives the value of."""
        return self.group.attributes[self.key]

    @property
    def value(self) -> str:
        """The value."""
        return self.entity.values[self.key]

    def told(self) -> str:
        """State the fact."""
        return self.attribute.tell(self.entity.name, self.value)


def question(topic: str, text: str) -> Question:
    """Return what a question of this topic asks, in whatever frame; Fault if no sheet could have it asked."""
    text = frames.split(text)[1]
    known = _questions(topic).get(text)
    if known is None and (found := _ONE_CLAIM.fullmatch(text) or _TWO_CLAIMS.fullmatch(text)):
        made = tuple(claim for said in found.groups() if (claim := claims(topic).get(said)))
        known = Claims(made) if len(made) == len(found.groups()) else None
    if known is None:
        raise Fault(f"the embedded teacher knows no such question: {text}")
    return known


def solve(sheet: Sheet, asked: Question, options: Options) -> int:
    """Return the place of the right option; Fault unless there is exactly one."""
    found = right(sheet, asked, options)
    if found.count(True) != 1:
        raise Fault(f"the embedded teacher finds {found.count(True)} right options")
    return found.index(True)


def right(sheet: Sheet, asked: Question, options: Options) -> tuple[bool, ...]:
    """Return for each option whether it is right by this sheet."""
    match asked:
        case Value():
            value = walk(sheet, asked.group, start(sheet, asked), asked.path)[-1].value
            return tuple(option == value for option in options)
        case Which(group, conditions):
            names = {
                entity.name
                for entity in sheet.classes[group].entities
                if all(walk(sheet, group, entity, path)[-1].value == value for path, value in conditions)
            }
            return tuple(option in names for option in options)
        case Rank(group, key, place):
            when = {entity.name: entity.years[key] for entity in sheet.classes[group].entities}
            if not when.keys() >= set(options):
                return tuple(False for _ in options)
            years = sorted(when[option] for option in options)
            unique = years.count(years[place]) == 1
            return tuple(unique and when[option] == years[place] for option in options)
        case Beside(group, key, reference, later):
            when = {entity.name: entity.years[key] for entity in sheet.classes[group].entities}
            mark = when[reference]
            names = {name for name, year in when.items() if (year > mark if later else year < mark)}
            return tuple(option in names for option in options)
        case Claims((claim,)):
            truth = sheet.classes[claim.group].entity(claim.entity).values[claim.key]
            verdict = HOLDS if claim.said == truth else INSTEAD + truth
            return tuple(option == verdict for option in options)
        case Claims(two):
            held = tuple(sheet.classes[c.group].entity(c.entity).values[c.key] == c.said for c in two)
            return tuple(VERDICTS.get(option) == held for option in options)
        case Pairs(group, key):
            pairs = {f"{entity.name}：{entity.values[key]}" for entity in sheet.classes[group].entities}
            return tuple(option in pairs for option in options)


def start(sheet: Sheet, asked: Value) -> Entity:
    """Return the entity that the path of a question starts from."""
    group = sheet.classes[asked.group]
    return group.entity(asked.start) if asked.by is None else group.having(asked.by, asked.start)[0]


def walk(sheet: Sheet, of: str, entity: Entity, path: Keys) -> tuple[Step, ...]:
    """Return the facts on a path that starts from an entity of a class, in order."""
    group = sheet.classes[of]
    steps = [Step(group, entity, path[0])]
    for relation, key in pairwise(path):
        group = sheet.classes[str(group.attributes[relation].to)]
        steps.append(Step(group, group.entity(steps[-1].entity.values[relation]), key))
    return tuple(steps)


@cache
def _questions(topic: str) -> dict[str, Question]:
    """All questions of a topic by their text, but those about claims, which `claims` knows piece by piece."""
    sheet = read(topic)
    return _by_text(
        topic,
        (
            found
            for group in sheet.classes.values()
            for listing in (_of_one, _of_two_conditions, _of_time, _of_relations)
            for found in listing(sheet, group)
        ),
    )


@cache
def claims(topic: str) -> dict[str, Claim]:
    """All statements, true or not, that can be made with the values of a topic's sheet."""
    return _by_text(
        topic,
        (
            (_fill(group.attributes[key].state, entity.name, said), Claim(group.key, entity.name, key, said))
            for group, entity, key in read(topic).facts()
            for said in sorted({other.values[key] for other in group.entities})
        ),
    )


def _by_text(topic: str, found: Iterator[tuple[str, T]]) -> dict[str, T]:
    table: dict[str, T] = {}
    for text, meant in found:
        if table.setdefault(text, meant) != meant:
            raise Fault(f"{topic}.yaml: '{text}' can be understood in two ways; reword the sheet")
    return table


def _of_one(sheet: Sheet, group: Class) -> Iterator[tuple[str, Question]]:
    """Questions for a value, and back from a value to its entity."""
    for key, a in group.attributes.items():
        for entity in group.entities:
            value = entity.values[key]
            asked = Value(group.key, entity.name, None, (key,))
            sought = Which(group.key, (((key,), value),))
            yield a.ask.replace("{e}", entity.name), asked
            if a.kind == "meaning":
                yield f"下列哪一项是对“{entity.name}”的恰当解释？", asked
                yield f"“{value}”说的是下列哪一个{group.noun}？", sought
                yield f"下列哪一个{group.noun}指的是“{value}”？", sought
            else:
                yield f"{entity.name}的{a.name}是下列哪一项？", asked
                yield f"下列哪一项{group.noun}{_fill(a.state, '', value)}？", sought
                yield f"{a.name}为{value}的{group.noun}是哪一项？", sought


def _of_two_conditions(sheet: Sheet, group: Class) -> Iterator[tuple[str, Question]]:
    for (one, a), (two, b) in product(group.attributes.items(), repeat=2):
        for entity in group.entities if one != two else ():
            head, tail = _fill(a.state, "", entity.values[one]), _fill(b.state, "", entity.values[two])
            conditions = (((one,), entity.values[one]), ((two,), entity.values[two]))
            yield f"下列哪一项{group.noun}{head}，并且{tail.removeprefix('的')}？", Which(group.key, conditions)


def _of_time(sheet: Sheet, group: Class) -> Iterator[tuple[str, Question]]:
    for key, a in group.attributes.items():
        if a.kind != "year":
            continue
        yield f"下列{group.noun}中，{a.name}最早的是哪一项？", Rank(group.key, key, 0)
        yield f"下列{group.noun}中，{a.name}最晚的是哪一项？", Rank(group.key, key, -1)
        yield f"将下列{group.noun}按{a.name}由早到晚排列，排在第二位的是哪一项？", Rank(group.key, key, 1)
        for entity in group.entities:
            head = f"与{entity.name}相比，下列哪一项{group.noun}的{a.name}更"
            yield f"{head}早？", Beside(group.key, key, entity.name, later=False)
            yield f"{head}晚？", Beside(group.key, key, entity.name, later=True)


def _of_relations(sheet: Sheet, group: Class) -> Iterator[tuple[str, Question]]:
    """Questions that join facts: from a meaning on, along a relation, or back along one; and those about pairs."""
    meanings = [key for key, a in group.attributes.items() if a.kind == "meaning"]
    for key, a in group.attributes.items():
        yield f"下列各组{group.noun}与{a.name}，哪一组的对应有资料依据？", Pairs(group.key, key)
        for entity, by in product(group.entities, meanings):
            told = f"有一个{group.noun}指“{entity.values[by]}”"
            if key != by:
                yield f"{told}，它的{a.name}是下列哪一项？", Value(group.key, entity.values[by], by, (key,))
        if a.to is None:
            continue
        there = sheet.classes[a.to]
        for far, b in there.attributes.items():
            for entity in group.entities:
                asked = Value(group.key, entity.name, None, (key, far))
                yield b.ask.replace("{e}", f"{entity.name}的{a.name}"), asked
                for by in meanings:
                    text = f"有一个{group.noun}指“{entity.values[by]}”。" + b.ask.replace("{e}", f"它的{a.name}")
                    yield text, Value(group.key, entity.values[by], by, (key, far))
                value = there.entity(entity.values[key]).values[far]
                text = f"下列哪一项{group.noun}的{a.name}{_fill(b.state, '', value)}？"
                yield text, Which(group.key, (((key, far), value),))


def _fill(state: str, name: str, value: str) -> str:
    return state.replace("{e}", name, 1).replace("{v}", value)


_ONE_CLAIM = re.compile(r"有人说：“(.+)。”下列哪一项评价最恰当？")
_TWO_CLAIMS = re.compile(r"甲说：“(.+)。”乙说：“(.+)。”对这两种说法，下列哪一项评价最恰当？")
