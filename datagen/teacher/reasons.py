"""Reasons: why an option is the answer of a question and the others are not, by a sheet.

`reason` gives the words a chain is made of. What it tells follows from the sheet it is given, so that a sheet with two
facts mixed up yields the reasons of somebody who mixes them up.
"""

from collections.abc import Callable

from msgspec import Struct

from datagen.teacher.answer import (
    HOLDS,
    INSTEAD,
    Beside,
    Claim,
    Claims,
    Pairs,
    Question,
    Rank,
    Step,
    Value,
    Which,
    start,
    walk,
)
from datagen.teacher.sheets import Class, Entity, Sheet
from schemas.record import Options

LOOKS = "{looks}"


class Reasons(Struct, frozen=True):
    """What speaks for one option of a question and against the others."""

    about: str
    """What the question is about, as a noun."""
    facts: tuple[str, ...]
    """The statements of the sheet that the answer follows from."""
    evidence: tuple[str, ...]
    """What leads to the answer, in order: the facts, or what is said held against them."""
    notes: tuple[str, ...]
    """For each option, what the sheet says of it."""
    verdict: str
    """How the conclusion begins; the option follows."""
    short: tuple[str, ...] = ()
    """The short reasoning, LOOKS standing for a look at each option; empty where the evidence says it all."""
    looks: tuple[str, ...] = ()
    """For each option, what a short look at it finds; its letter follows."""
    settled: str | None = None
    """What the short chain concludes, where that is not the option itself but what the look at it found."""


def reason(sheet: Sheet, asked: Question, options: Options, at: int) -> Reasons:
    """Return the reasons why the option at this place is the right one."""
    match asked:
        case Value():
            return _value(sheet, asked, options)
        case Which():
            return _which(sheet, asked, options, at)
        case Rank():
            return _rank(sheet, asked, options, at)
        case Beside():
            return _beside(sheet, asked, options, at)
        case Claims((claim,)):
            return _claim(sheet, claim, options)
        case Claims():
            return _two_claims(sheet, asked, options, at)
        case Pairs():
            return _pairs(sheet, asked, options, at)


def _value(sheet: Sheet, asked: Value, options: Options) -> Reasons:
    entity = start(sheet, asked)
    steps = walk(sheet, asked.group, entity, asked.path)
    first, last = steps[0], steps[-1]
    attribute = last.attribute
    facts = tuple(step.told() for step in steps)
    if asked.by is not None:
        facts = (Step(first.group, entity, asked.by).told(), *facts)
    names = [step.attribute.name for step in steps]
    if attribute.kind == "meaning":
        about = f"“{entity.name}”的{attribute.name}"
    elif asked.by is None:
        about = "的".join((entity.name, *names))
    elif len(steps) == 1:
        about = f"一个{first.group.noun}的{attribute.name}"
    else:
        about = f"由含义推出{'，再推出'.join(names)}"
    whose = "“{}”说的是{}" if attribute.kind == "meaning" else "{}对应的是{}"
    return Reasons(
        about=about,
        facts=facts,
        evidence=facts,
        notes=_each(options, lambda option: whose.format(option, _owners(last.group, last.key, option))),
        verdict="恰当的解释是" if attribute.kind == "meaning" else f"{attribute.name}为",
    )


def _which(sheet: Sheet, asked: Which, options: Options, at: int) -> Reasons:
    group = sheet.classes[asked.group]
    value = "、".join(value for _, value in asked.conditions)

    def seen(option: str) -> list[tuple[Step, ...]]:
        return [walk(sheet, group.key, group.entity(option), path) for path, _ in asked.conditions]

    def note(option: str) -> str:
        once, *more = seen(option)
        # A second predicate goes without the subject and the 的 that would bind it to the subject.
        also = [step.attribute.tell("", step.value).removeprefix("的") for steps in more for step in steps]
        return "，".join([*(step.told() for step in once), *also])

    def look(option: str) -> str:
        return f"{option}：{'、'.join('：'.join(step.value for step in steps) for steps in seen(option))}"

    found = seen(options[at])
    first, last = found[0][0], found[0][-1]
    facts = tuple(step.told() for steps in found for step in reversed(steps))
    if first.attribute.kind == "meaning":
        return Reasons(
            about=f"一个{group.noun}的名称",
            facts=facts,
            evidence=facts,
            notes=_each(options, note),
            verdict="对应的概念是",
        )
    if len(found) > 1:
        about = f"同时满足两个条件的{group.noun}"
    elif first is last:
        about = f"哪一项{group.noun}的{first.attribute.name}为{value}"
    else:
        about = f"哪一项{group.noun}的{first.attribute.name}{last.attribute.tell('', value)}"
    names = "和".join("的".join(step.attribute.name for step in steps) for steps in found)
    return Reasons(
        about=about,
        facts=facts,
        evidence=facts,
        notes=_each(options, note),
        verdict="两个条件都符合的是" if len(found) > 1 else "符合条件的是",
        short=(f"逐项看{names}", LOOKS),
        looks=_each(options, look),
        settled=value,
    )


def _rank(sheet: Sheet, asked: Rank, options: Options, at: int) -> Reasons:
    group, key = sheet.classes[asked.group], asked.key
    name, four = group.attributes[key].name, [group.entity(option) for option in options]
    right, ordered = four[at], sorted(four, key=lambda entity: entity.years[key])
    facts = tuple(_told(group, entity, key) for entity in ((ordered[0], right) if asked.place == 1 else (right,)))
    order = (f"由早到晚是{'、'.join(entity.values[key] for entity in ordered)}",) if asked.place == 1 else ()
    return Reasons(
        about=f"四项{group.noun}的{name}{'排序' if asked.place == 1 else '先后'}",
        facts=facts,
        evidence=facts,
        notes=tuple(_told(group, entity, key) for entity in four),
        verdict={0: "最早的是", 1: "第二位是", -1: "最晚的是"}[asked.place],
        short=(f"逐项看{name}", LOOKS, *order),
        looks=tuple(f"{entity.name}：{entity.values[key]}" for entity in four),
        settled=right.values[key],
    )


def _beside(sheet: Sheet, asked: Beside, options: Options, at: int) -> Reasons:
    group, key = sheet.classes[asked.group], asked.key
    name, reference, right = group.attributes[key].name, group.entity(asked.reference), group.entity(options[at])
    facts = (_told(group, reference, key), _told(group, right, key))
    return Reasons(
        about=f"{name}与{reference.name}的先后",
        facts=facts,
        evidence=facts,
        notes=_each(options, lambda option: _told(group, group.entity(option), key)),
        verdict=f"更{'晚' if asked.later else '早'}的是",
        short=(f"逐项看{name}", f"{reference.name}：{reference.values[key]}", LOOKS),
        looks=_each(options, lambda option: f"{option}：{group.entity(option).values[key]}"),
        settled=right.values[key],
    )


def _claim(sheet: Sheet, claim: Claim, options: Options) -> Reasons:
    fact, said = _fact(sheet, claim), claim.said

    def note(option: str) -> str:
        if option == HOLDS:
            return f"资料所载为{fact.value}，说法给出的是{said}"
        instead = option.removeprefix(INSTEAD)
        return f"资料所载为{fact.value}" + ("" if instead == fact.value else f"，并非{instead}")

    return Reasons(
        about=f"关于{claim.entity}的一种说法是否有依据",
        facts=(fact.told(),),
        evidence=(fact.told(), f"说法中的{said}与此{'一致' if said == fact.value else '不一致'}"),
        notes=_each(options, note),
        verdict="恰当的评价是",
        short=(fact.told(), _compared(said, fact.value)),
    )


def _two_claims(sheet: Sheet, asked: Claims, options: Options, at: int) -> Reasons:
    told = [(who, claim.said, _fact(sheet, claim)) for who, claim in zip("甲乙", asked.claims, strict=True)]
    short = [(fact.told(), f"{who}{_compared(said, fact.value)}") for who, said, fact in told]
    return Reasons(
        about="两种说法是否有依据",
        facts=tuple(fact.told() for _, _, fact in told),
        evidence=tuple(
            f"{who}说的是{said}，而{fact.told()}，{'相符' if said == fact.value else '不符'}"
            for who, said, fact in told
        ),
        notes=_each(options, lambda option: f"“{option}”与核对结果{'一致' if option == options[at] else '不一致'}"),
        verdict="恰当的评价是",
        short=tuple(text for pair in short for text in pair),
    )


def _pairs(sheet: Sheet, asked: Pairs, options: Options, at: int) -> Reasons:
    group, key = sheet.classes[asked.group], asked.key
    name = group.attributes[key].name

    def note(option: str) -> str:
        entity, said = _pair(group, option)
        return f"{_told(group, entity, key)}，{'与此相符' if said == entity.values[key] else f'并非{said}'}"

    def look(option: str) -> str:
        entity, said = _pair(group, option)
        return f"{entity.name}：{_compared(said, entity.values[key])}"

    facts = (_told(group, _pair(group, options[at])[0], key),)
    return Reasons(
        about=f"四组{group.noun}与{name}的对应",
        facts=facts,
        evidence=facts,
        notes=_each(options, note),
        verdict="有依据的是",
        short=(f"逐项看{name}", LOOKS),
        looks=_each(options, look),
        settled="相符",
    )


def _each(options: Options, tell: Callable[[str], str]) -> tuple[str, ...]:
    """What is told of each option; `tell` raises KeyError for one that the sheet does not hold."""
    found = []
    for option in options:
        try:
            found.append(tell(option))
        except KeyError:
            found.append(f"资料中没有“{option}”")
    return tuple(found)


def _told(group: Class, entity: Entity, key: str) -> str:
    return Step(group, entity, key).told()


def _fact(sheet: Sheet, claim: Claim) -> Step:
    """The fact that a claim is held against."""
    group = sheet.classes[claim.group]
    return Step(group, group.entity(claim.entity), claim.key)


def _pair(group: Class, option: str) -> tuple[Entity, str]:
    name, _, said = option.partition("：")
    return group.entity(name), said


def _owners(group: Class, key: str, value: str) -> str:
    """Name the entities that a value belongs to; KeyError if there is none."""
    owners = group.having(key, value)
    if not owners:
        raise KeyError(value)
    return "、".join(entity.name for entity in owners)


def _compared(said: str, truth: str) -> str:
    return f"说{said}，实为{truth}，{'相符' if said == truth else '不符'}"
