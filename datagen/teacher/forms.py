"""The forms of questions: each draws facts from a sheet and asks for them, right by construction.

A form knows which option is right and that each other option is wrong; why, `reasons` finds out. Each cell (type ×
difficulty) has one.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from msgspec import Struct

from datagen.teacher.sheets import Attribute, Class, Entity, Sheet

T = TypeVar("T")


class Draft(Struct, frozen=True):
    """A question before its options have letters."""

    stem: str
    right: str
    wrong: tuple[str, str, str]


class Draw(Struct, frozen=True):
    """What a form draws from: a sheet, a generator, and the sample's number, which spreads draws over the facts."""

    sheet: Sheet
    rng: Random
    number: int

    def one_of(self, candidates: Sequence[T]) -> T:
        """Return a candidate; consecutive samples of a cell get all of them before any comes again."""
        return candidates[self.number % len(candidates)]

    def wrong(self, candidates: Sequence[str], right: str) -> tuple[str, str, str]:
        """Return three different texts that are not the right one."""
        a, b, c = self.rng.sample(sorted(set(candidates) - {right}), 3)
        return a, b, c


def direct(draw: Draw) -> Draft:
    """What is the attribute of the entity?"""
    group, entity, key = draw.one_of(_facts(draw, "direct"))
    attribute = group.attributes[key]
    right = entity.values[key]
    wordings = (attribute.ask.format(e=entity.name), f"{entity.name}的{attribute.name}是下列哪一项？")
    return Draft(
        stem=draw.rng.choice(wordings),
        right=right,
        wrong=draw.wrong([other.values[key] for other in group.entities], right),
    )


def which(draw: Draw) -> Draft:
    """Which entity has this value?"""
    group, entity, key = draw.one_of(_facts(draw, "which"))
    attribute = group.attributes[key]
    value = entity.values[key]
    others = [other.name for other in group.entities if other.values[key] != value]
    wordings = (
        f"下列哪一项{group.noun}{_predicate(attribute, value)}？",
        f"{attribute.name}为{value}的{group.noun}是哪一项？",
    )
    return Draft(stem=draw.rng.choice(wordings), right=entity.name, wrong=draw.wrong(others, entity.name))


def both(draw: Draw) -> Draft:
    """Which entity meets two conditions? A distractor may meet one of them."""
    candidates = [
        (group, entity, keys)
        for group in draw.sheet.classes.values()
        if len(keys := [k for k, a in group.attributes.items() if a.kind != "meaning"]) >= 2
        for entity in group.entities
    ]
    group, entity, keys = draw.one_of(_mixed(candidates, draw, "both"))
    one, two = sorted(draw.rng.sample(keys, 2), key=keys.index)
    first, second = group.attributes[one], group.attributes[two]
    wanted = (entity.values[one], entity.values[two])
    others = [other.name for other in group.entities if (other.values[one], other.values[two]) != wanted]
    # The second predicate goes without the 的 that would bind it to its subject.
    also = _predicate(second, wanted[1]).removeprefix("的")
    return Draft(
        stem=f"下列哪一项{group.noun}{_predicate(first, wanted[0])}，并且{also}？",
        right=entity.name,
        wrong=draw.wrong(others, entity.name),
    )


def term(draw: Draw) -> Draft:
    """Which concept has this meaning?"""
    group, entity, key = draw.one_of(_facts(draw, "term", meaning=True))
    meaning = entity.values[key]
    wordings = (f"“{meaning}”说的是下列哪一个{group.noun}？", f"下列哪一个{group.noun}指的是“{meaning}”？")
    return Draft(
        stem=draw.rng.choice(wordings),
        right=entity.name,
        wrong=draw.wrong([other.name for other in group.entities], entity.name),
    )


def meaning(draw: Draw) -> Draft:
    """What does the concept mean?"""
    group, entity, key = draw.one_of(_facts(draw, "meaning", meaning=True))
    right = entity.values[key]
    wordings = (group.attributes[key].ask.format(e=entity.name), f"下列哪一项是对“{entity.name}”的恰当解释？")
    return Draft(
        stem=draw.rng.choice(wordings),
        right=right,
        wrong=draw.wrong([other.values[key] for other in group.entities], right),
    )


def meaning_hop(draw: Draw) -> Draft:
    """From a meaning to the concept to what the concept is related to."""
    candidates = [c for c in _facts(draw, "meaning_hop", meaning=True) if len(_other_keys(c[0], c[2])) > 0]
    group, entity, key = draw.one_of(candidates)
    other_key = draw.rng.choice(_other_keys(group, key))
    right = entity.values[other_key]
    return Draft(
        stem=f"有一个{group.noun}指“{entity.values[key]}”，它的{group.attributes[other_key].name}是下列哪一项？",
        right=right,
        wrong=draw.wrong([other.values[other_key] for other in group.entities], right),
    )


def hop(draw: Draw) -> Draft:
    """What is an attribute of the entity that this one is related to?"""
    group, entity, relation, target, key = draw.one_of(_mixed(_hops(draw), draw, "hop"))
    right = target.entity(entity.values[relation]).values[key]
    return Draft(
        stem=target.attributes[key].ask.format(e=f"{entity.name}的{group.attributes[relation].name}"),
        right=right,
        wrong=draw.wrong([other.values[key] for other in target.entities], right),
    )


def hop_back(draw: Draw) -> Draft:
    """Which entity is related to one with this value?"""
    group, entity, relation, target, key = draw.one_of(_mixed(_hops(draw), draw, "hop_back"))
    to, attribute = group.attributes[relation], target.attributes[key]
    value = target.entity(entity.values[relation]).values[key]
    others = [other.name for other in group.entities if target.entity(other.values[relation]).values[key] != value]
    return Draft(
        stem=f"下列哪一项{group.noun}的{to.name}{_predicate(attribute, value)}？",
        right=entity.name,
        wrong=draw.wrong(others, entity.name),
    )


def far_hop(draw: Draw) -> Draft:
    """From a meaning to the concept, to what it is related to, to an attribute of that."""
    candidates = [c for c in _hops(draw) if any(a.kind == "meaning" for a in c[0].attributes.values())]
    group, entity, relation, target, key = draw.one_of(_mixed(candidates, draw, "far_hop"))
    meaning_key = next(k for k, a in group.attributes.items() if a.kind == "meaning")
    ask = target.attributes[key].ask.format(e=f"它的{group.attributes[relation].name}")
    right = target.entity(entity.values[relation]).values[key]
    return Draft(
        stem=f"有一个{group.noun}指“{entity.values[meaning_key]}”。{ask}",
        right=right,
        wrong=draw.wrong([other.values[key] for other in target.entities], right),
    )


def first(draw: Draw) -> Draft:
    """Which of four is the earliest, or the latest?"""
    group, key, four = _four_by_year(draw, "first")
    latest = draw.rng.random() < 0.5
    right = four[-1 if latest else 0]
    return Draft(
        stem=f"下列{group.noun}中，{group.attributes[key].name}{'最晚' if latest else '最早'}的是哪一项？",
        right=right.name,
        wrong=_three([e.name for e in four if e is not right]),
    )


def before(draw: Draw) -> Draft:
    """Which one is earlier, or later, than a given entity?"""
    group, key = draw.one_of(_year_attributes(draw, "before"))
    later = draw.rng.random() < 0.5
    ordered = sorted(group.entities, key=lambda e: e.years[key], reverse=later)
    # The reference has at least one entity on the one side and three on the other, none of them in the same year.
    sides = [
        (
            reference,
            [e for e in ordered[:n] if e.years[key] != reference.years[key]],
            [e for e in ordered[n + 1 :] if e.years[key] != reference.years[key]],
        )
        for n, reference in enumerate(ordered)
    ]
    reference, near, far = draw.rng.choice([s for s in sides if s[1] and len(s[2]) >= 3])
    right = draw.rng.choice(near)
    name, word = group.attributes[key].name, "晚" if later else "早"
    return Draft(
        stem=f"与{reference.name}相比，下列哪一项{group.noun}的{name}更{word}？",
        right=right.name,
        wrong=_three([e.name for e in draw.rng.sample(far, 3)]),
    )


def second(draw: Draw) -> Draft:
    """Which of four comes second in time?"""
    group, key, four = _four_by_year(draw, "second")
    return Draft(
        stem=f"将下列{group.noun}按{group.attributes[key].name}由早到晚排列，排在第二位的是哪一项？",
        right=four[1].name,
        wrong=_three([e.name for e in four if e is not four[1]]),
    )


def claim(draw: Draw) -> Draft:
    """Is the claim right, and if not, what would be?"""
    group, entity, key = draw.one_of(_facts(draw, "claim"))
    truth = entity.values[key]
    a, b, c = draw.wrong([other.values[key] for other in group.entities], truth)
    holds = draw.rng.random() < 0.25  # so that none of the four options is the likelier one
    wrong = [f"这一说法有误，应为{value}" for value in ((a, b, c) if holds else (b, c))]
    return Draft(
        stem=f"有人说：“{group.attributes[key].tell(entity.name, truth if holds else a)}。”下列哪一项评价最恰当？",
        right="这一说法有依据" if holds else f"这一说法有误，应为{truth}",
        wrong=_three(wrong if holds else ["这一说法有依据", *wrong]),
    )


JUDGEMENTS = {
    (True, True): "两种说法都有依据",
    (True, False): "只有甲的说法有依据",
    (False, True): "只有乙的说法有依据",
    (False, False): "两种说法都没有依据",
}


def two_claims(draw: Draw) -> Draft:
    """Which of two claims is right: both, one or none?"""
    facts = _facts(draw, "two_claims")
    chosen = (draw.one_of(facts), draw.rng.choice(facts))
    while chosen[1] == chosen[0]:
        chosen = (chosen[0], draw.rng.choice(facts))
    held: list[bool] = []
    said: list[str] = []
    for who, (group, entity, key) in zip("甲乙", chosen, strict=True):
        truth = entity.values[key]
        holds = draw.rng.random() < 0.5
        value = truth if holds else draw.wrong([other.values[key] for other in group.entities], truth)[0]
        held.append(holds)
        said.append(f"{who}说：“{group.attributes[key].tell(entity.name, value)}。”")
    right = JUDGEMENTS[held[0], held[1]]
    return Draft(
        stem=f"{''.join(said)}对这两种说法，下列哪一项评价最恰当？",
        right=right,
        wrong=_three([text for text in JUDGEMENTS.values() if text != right]),
    )


def supported(draw: Draw) -> Draft:
    """In which of four pairs do entity and value belong together?"""
    candidates = [
        (group, key)
        for group in draw.sheet.classes.values()
        for key, a in group.attributes.items()
        if a.kind != "meaning"
    ]
    group, key = draw.one_of(_mixed(candidates, draw, "supported"))
    right, *others = draw.rng.sample(group.entities, 4)
    values = sorted({entity.values[key] for entity in group.entities})
    wrong = [
        f"{entity.name}：{draw.rng.choice([value for value in values if value != entity.values[key]])}"
        for entity in others
    ]
    return Draft(
        stem=f"下列各组{group.noun}与{group.attributes[key].name}，哪一组的对应有资料依据？",
        right=f"{right.name}：{right.values[key]}",
        wrong=_three(wrong),
    )


def _facts(draw: Draw, salt: str, *, meaning: bool = False) -> list[tuple[Class, Entity, str]]:
    """All facts of the sheet whose attribute is, or is not, a meaning, in an order of the cell's own."""
    facts = [
        (group, entity, key)
        for group, entity, key in draw.sheet.facts()
        if (group.attributes[key].kind == "meaning") == meaning
    ]
    return _mixed(facts, draw, salt)


def _mixed(candidates: list[T], draw: Draw, salt: str) -> list[T]:
    """Shuffle once per round of the candidates, so that samples do not walk through a sheet in its order."""
    laps = draw.number // len(candidates)
    mixed = list(candidates)
    Random(f"{draw.sheet.topic}/{salt}/{laps}").shuffle(mixed)
    return mixed


def _hops(draw: Draw) -> list[tuple[Class, Entity, str, Class, str]]:
    """All (class, entity, relation, class related to, attribute there), but none that leads to a meaning or back."""
    return [
        (group, entity, relation, target, key)
        for group in draw.sheet.classes.values()
        for relation, to in group.attributes.items()
        if to.to is not None
        for target in (draw.sheet.classes[to.to],)
        for key, attribute in target.attributes.items()
        if attribute.kind != "meaning" and attribute.to != group.key
        for entity in group.entities
    ]


def _year_attributes(draw: Draw, salt: str) -> list[tuple[Class, str]]:
    found = [
        (group, key)
        for group in draw.sheet.classes.values()
        for key, attribute in group.attributes.items()
        if attribute.kind == "year"
    ]
    return _mixed(found, draw, salt)


def _four_by_year(draw: Draw, salt: str) -> tuple[Class, str, list[Entity]]:
    """A class, a year attribute, and four of its entities of different years, the earliest first."""
    group, key = draw.one_of(_year_attributes(draw, salt))
    by_year: dict[int, list[Entity]] = {}
    for entity in group.entities:
        by_year.setdefault(entity.years[key], []).append(entity)
    years = sorted(draw.rng.sample(sorted(by_year), 4))
    return group, key, [draw.rng.choice(by_year[year]) for year in years]


def _other_keys(group: Class, key: str) -> list[str]:
    return [other for other, a in group.attributes.items() if other != key and a.kind != "meaning"]


def _predicate(attribute: Attribute, value: str) -> str:
    """The statement without its subject: `于2015年通过`."""
    return attribute.tell("", value)


def _three(texts: Sequence[str]) -> tuple[str, str, str]:
    a, b, c = texts
    return a, b, c


FORMS: dict[tuple[str, str], Callable[[Draw], Draft]] = {
    ("factual", "basic"): direct,
    ("factual", "intermediate"): which,
    ("factual", "advanced"): both,
    ("conceptual", "basic"): term,
    ("conceptual", "intermediate"): meaning,
    ("conceptual", "advanced"): meaning_hop,
    ("analytical", "basic"): hop,
    ("analytical", "intermediate"): hop_back,
    ("analytical", "advanced"): far_hop,
    ("comparative", "basic"): first,
    ("comparative", "intermediate"): before,
    ("comparative", "advanced"): second,
    ("evaluative", "basic"): claim,
    ("evaluative", "intermediate"): two_claims,
    ("evaluative", "advanced"): supported,
}
