"""Compose questions from a fact sheet: right by construction.

Each cell (type × difficulty) has a form: a function that draws facts and returns a Draft. A form knows why its right
option is right and why each other option is wrong, and says so; `compose` shuffles the options and writes the chain.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from msgspec import Struct

from datagen.teacher.sheets import Attribute, Class, Entity, Sheet, read
from schemas.record import LETTERS, Item

T = TypeVar("T")

OPTIONS = "{options}"

SAMPLES = 2**20  # a request's seed is round * SAMPLES + sample


class Draft(Struct, frozen=True):
    """A question before its options have letters."""

    stem: str
    right: str
    wrong: tuple[str, str, str]
    about: str
    """What the question is about, as a noun."""
    evidence: tuple[str, ...]
    """Statements that lead to the right option, in order."""
    notes: dict[str, str]
    """Option to what the sheet says of it."""
    verdict: str
    """How the conclusion begins; the right option follows."""
    short: tuple[str, ...] = ()
    """The short reasoning, OPTIONS standing for a look at each option; empty where the evidence says it all."""
    looks: dict[str, str] = {}
    """Option to what a short look at it finds; where OPTIONS stands, it is the last of these that has to be matched."""
    settled: str | None = None
    """What the short chain concludes, where that is not the right option itself but what the look at it found."""


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


def compose(topic: str, difficulty: str, type: str, seed: int, *, full: bool) -> Item:
    """Return the question of a cell with this seed, the same for the same arguments.

    `full` writes the whole chain of thought, otherwise each part is a sentence or less. Raises KeyError for a cell
    that has no form, Fault for a topic without a sheet.
    """
    form = FORMS[type, difficulty]
    sheet = read(topic)
    # Python seeds from a string by SHA-512, so draws are the same on every machine and in every process.
    draw = Draw(sheet, Random(f"{topic}/{difficulty}/{type}/{seed}"), seed % SAMPLES)
    draft = form(draw)
    options = [draft.right, *draft.wrong]
    draw.rng.shuffle(options)
    chain = _full if full else _short
    return chain(draft, options, draw.rng)


# --- forms -------------------------------------------------------------------------------------------------------


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
        about=f"{entity.name}的{attribute.name}",
        evidence=(_state(entity, attribute, right),),
        notes={value: _whose(group, key, value) for value in _values(group, key)},
        verdict=f"{attribute.name}为",
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
    return Draft(
        stem=draw.rng.choice(wordings),
        right=entity.name,
        wrong=draw.wrong(others, entity.name),
        about=f"哪一项{group.noun}的{attribute.name}为{value}",
        evidence=(_state(entity, attribute, value),),
        notes={other.name: _state(other, attribute, other.values[key]) for other in group.entities},
        verdict="符合条件的是",
        short=(f"逐项看{attribute.name}", OPTIONS),
        looks={other.name: f"{other.name}：{other.values[key]}" for other in group.entities},
        settled=value,
    )


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
    return Draft(
        stem=f"下列哪一项{group.noun}{_predicate(first, wanted[0])}，并且{_also(second, wanted[1])}？",
        right=entity.name,
        wrong=draw.wrong(others, entity.name),
        about=f"同时满足两个条件的{group.noun}",
        evidence=(_state(entity, first, wanted[0]), _state(entity, second, wanted[1])),
        notes={
            other.name: f"{_state(other, first, other.values[one])}，{_also(second, other.values[two])}"
            for other in group.entities
        },
        verdict="两个条件都符合的是",
        short=(f"逐项看{first.name}和{second.name}", OPTIONS),
        looks={other.name: f"{other.name}：{other.values[one]}、{other.values[two]}" for other in group.entities},
        settled=f"{wanted[0]}、{wanted[1]}",
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
        about=f"一个{group.noun}的名称",
        evidence=(_state(entity, group.attributes[key], meaning),),
        notes={other.name: _state(other, group.attributes[key], other.values[key]) for other in group.entities},
        verdict="对应的概念是",
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
        about=f"“{entity.name}”的含义",
        evidence=(_state(entity, group.attributes[key], right),),
        notes={other.values[key]: f"“{other.values[key]}”说的是{other.name}" for other in group.entities},
        verdict="恰当的解释是",
    )


def meaning_hop(draw: Draw) -> Draft:
    """From a meaning to the concept to what the concept is related to."""
    candidates = [c for c in _facts(draw, "meaning_hop", meaning=True) if len(_other_keys(c[0], c[2])) > 0]
    group, entity, key = draw.one_of(candidates)
    other_key = draw.rng.choice(_other_keys(group, key))
    attribute = group.attributes[other_key]
    right = entity.values[other_key]
    return Draft(
        stem=f"有一个{group.noun}指“{entity.values[key]}”，它的{attribute.name}是下列哪一项？",
        right=right,
        wrong=draw.wrong([other.values[other_key] for other in group.entities], right),
        about=f"一个{group.noun}的{attribute.name}",
        evidence=(_state(entity, group.attributes[key], entity.values[key]), _state(entity, attribute, right)),
        notes={value: _whose(group, other_key, value) for value in _values(group, other_key)},
        verdict=f"{attribute.name}为",
    )


def hop(draw: Draw) -> Draft:
    """What is an attribute of the entity that this one is related to?"""
    group, entity, relation, target, key = draw.one_of(_mixed(_hops(draw), draw, "hop"))
    to, attribute = group.attributes[relation], target.attributes[key]
    middle = target.entity(entity.values[relation])
    right = middle.values[key]
    return Draft(
        stem=attribute.ask.format(e=f"{entity.name}的{to.name}"),
        right=right,
        wrong=draw.wrong([other.values[key] for other in target.entities], right),
        about=f"{entity.name}的{to.name}的{attribute.name}",
        evidence=(_state(entity, to, middle.name), _state(middle, attribute, right)),
        notes={value: _whose(target, key, value) for value in _values(target, key)},
        verdict=f"{attribute.name}为",
    )


def hop_back(draw: Draw) -> Draft:
    """Which entity is related to one with this value?"""
    group, entity, relation, target, key = draw.one_of(_mixed(_hops(draw), draw, "hop_back"))
    to, attribute = group.attributes[relation], target.attributes[key]
    middle = target.entity(entity.values[relation])
    value = middle.values[key]
    reached = {other.name: target.entity(other.values[relation]) for other in group.entities}
    others = [name for name, end in reached.items() if end.values[key] != value]
    return Draft(
        stem=f"下列哪一项{group.noun}的{to.name}{_predicate(attribute, value)}？",
        right=entity.name,
        wrong=draw.wrong(others, entity.name),
        about=f"哪一项{group.noun}的{to.name}{_predicate(attribute, value)}",
        evidence=(_state(middle, attribute, value), _state(entity, to, middle.name)),
        notes={
            name: f"{to.state.format(e=name, v=end.name)}，{_state(end, attribute, end.values[key])}"
            for name, end in reached.items()
        },
        verdict="符合条件的是",
        short=(f"逐项看{to.name}的{attribute.name}", OPTIONS),
        looks={name: f"{name}：{end.name}：{end.values[key]}" for name, end in reached.items()},
        settled=value,
    )


def far_hop(draw: Draw) -> Draft:
    """From a meaning to the concept, to what it is related to, to an attribute of that."""
    candidates = [c for c in _hops(draw) if any(a.kind == "meaning" for a in c[0].attributes.values())]
    group, entity, relation, target, key = draw.one_of(_mixed(candidates, draw, "far_hop"))
    meaning_key = next(k for k, a in group.attributes.items() if a.kind == "meaning")
    to, attribute = group.attributes[relation], target.attributes[key]
    middle = target.entity(entity.values[relation])
    right = middle.values[key]
    return Draft(
        stem=f"有一个{group.noun}指“{entity.values[meaning_key]}”。{attribute.ask.format(e=f'它的{to.name}')}",
        right=right,
        wrong=draw.wrong([other.values[key] for other in target.entities], right),
        about=f"由含义推出{to.name}，再推出{attribute.name}",
        evidence=(
            _state(entity, group.attributes[meaning_key], entity.values[meaning_key]),
            _state(entity, to, middle.name),
            _state(middle, attribute, right),
        ),
        notes={value: _whose(target, key, value) for value in _values(target, key)},
        verdict=f"{attribute.name}为",
    )


def first(draw: Draw) -> Draft:
    """Which of four is the earliest, or the latest?"""
    group, key, four = _four_by_year(draw, "first")
    attribute = group.attributes[key]
    latest = draw.rng.random() < 0.5
    right = four[-1 if latest else 0]
    word = "最晚" if latest else "最早"
    return Draft(
        stem=f"下列{group.noun}中，{attribute.name}{word}的是哪一项？",
        right=right.name,
        wrong=_three([e.name for e in four if e is not right]),
        about=f"四项{group.noun}的{attribute.name}先后",
        evidence=(_state(right, attribute, right.values[key]),),
        notes={e.name: _state(e, attribute, e.values[key]) for e in four},
        verdict=f"{word}的是",
        short=(f"逐项看{attribute.name}", OPTIONS),
        looks={e.name: f"{e.name}：{e.values[key]}" for e in four},
        settled=right.values[key],
    )


def before(draw: Draw) -> Draft:
    """Which one is earlier, or later, than a given entity?"""
    group, key = draw.one_of(_year_attributes(draw, "before"))
    attribute = group.attributes[key]
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
    wrong = draw.rng.sample(far, 3)
    word = "晚" if later else "早"
    return Draft(
        stem=f"与{reference.name}相比，下列哪一项{group.noun}的{attribute.name}更{word}？",
        right=right.name,
        wrong=_three([e.name for e in wrong]),
        about=f"{attribute.name}与{reference.name}的先后",
        evidence=(
            _state(reference, attribute, reference.values[key]),
            _state(right, attribute, right.values[key]),
        ),
        notes={e.name: _state(e, attribute, e.values[key]) for e in (right, *wrong)},
        verdict=f"更{word}的是",
        short=(f"逐项看{attribute.name}", f"{reference.name}：{reference.values[key]}", OPTIONS),
        looks={e.name: f"{e.name}：{e.values[key]}" for e in (right, *wrong)},
        settled=right.values[key],
    )


def second(draw: Draw) -> Draft:
    """Which of four comes second in time?"""
    group, key, four = _four_by_year(draw, "second")
    attribute = group.attributes[key]
    right = four[1]
    return Draft(
        stem=f"将下列{group.noun}按{attribute.name}由早到晚排列，排在第二位的是哪一项？",
        right=right.name,
        wrong=_three([e.name for e in four if e is not right]),
        about=f"四项{group.noun}的{attribute.name}排序",
        evidence=(_state(four[0], attribute, four[0].values[key]), _state(right, attribute, right.values[key])),
        notes={e.name: _state(e, attribute, e.values[key]) for e in four},
        verdict="第二位是",
        short=(f"逐项看{attribute.name}", OPTIONS, f"由早到晚是{'、'.join(e.values[key] for e in four)}"),
        looks={e.name: f"{e.name}：{e.values[key]}" for e in four},
        settled=right.values[key],
    )


def claim(draw: Draw) -> Draft:
    """Is the claim right, and if not, what would be?"""
    group, entity, key = draw.one_of(_facts(draw, "claim"))
    attribute = group.attributes[key]
    truth = entity.values[key]
    a, b, c = draw.wrong([other.values[key] for other in group.entities], truth)
    holds = draw.rng.random() < 0.25  # so that none of the four options is the likelier one
    said = truth if holds else a
    right = "这一说法有依据" if holds else f"这一说法有误，应为{truth}"
    wrong = [f"这一说法有误，应为{value}" for value in ((a, b, c) if holds else (b, c))]
    return Draft(
        stem=f"有人说：“{_state(entity, attribute, said)}。”下列哪一项评价最恰当？",
        right=right,
        wrong=_three(wrong if holds else ["这一说法有依据", *wrong]),
        about=f"关于{entity.name}的一种说法是否有依据",
        evidence=(_state(entity, attribute, truth), f"说法中的{said}与此{'一致' if holds else '不一致'}"),
        short=(_state(entity, attribute, truth), _compared(said, truth)),
        notes={
            "这一说法有依据": f"资料所载为{truth}，说法给出的是{said}",
            **{f"这一说法有误，应为{v}": f"资料所载为{truth}，并非{v}" for v in (a, b, c)},
            f"这一说法有误，应为{truth}": f"资料所载为{truth}",
        },
        verdict="恰当的评价是",
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
    evidence: list[str] = []
    short: list[str] = []
    for who, (group, entity, key) in zip("甲乙", chosen, strict=True):
        attribute, truth = group.attributes[key], entity.values[key]
        holds = draw.rng.random() < 0.5
        value = truth if holds else draw.wrong([other.values[key] for other in group.entities], truth)[0]
        held.append(holds)
        said.append(f"{who}说：“{_state(entity, attribute, value)}。”")
        evidence.append(f"{who}说的是{value}，而{_state(entity, attribute, truth)}，{'相符' if holds else '不符'}")
        short += [_state(entity, attribute, truth), f"{who}{_compared(value, truth)}"]
    right = JUDGEMENTS[held[0], held[1]]
    return Draft(
        stem=f"{''.join(said)}对这两种说法，下列哪一项评价最恰当？",
        right=right,
        wrong=_three([text for text in JUDGEMENTS.values() if text != right]),
        about="两种说法是否有依据",
        evidence=tuple(evidence),
        short=tuple(short),
        notes={text: f"“{text}”与核对结果{'一致' if text == right else '不一致'}" for text in JUDGEMENTS.values()},
        verdict="恰当的评价是",
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
    attribute = group.attributes[key]
    four = draw.rng.sample(group.entities, 4)
    values = sorted(_values(group, key))
    pairs = {f"{four[0].name}：{four[0].values[key]}": (four[0], four[0].values[key])}
    for entity in four[1:]:
        said = draw.rng.choice([value for value in values if value != entity.values[key]])
        pairs[f"{entity.name}：{said}"] = (entity, said)
    right, *wrong = pairs
    return Draft(
        stem=f"下列各组{group.noun}与{attribute.name}，哪一组的对应有资料依据？",
        right=right,
        wrong=_three(wrong),
        about=f"四组{group.noun}与{attribute.name}的对应",
        evidence=(_state(four[0], attribute, four[0].values[key]),),
        notes={
            text: f"{_state(entity, attribute, entity.values[key])}，{'与此相符' if text == right else f'并非{said}'}"
            for text, (entity, said) in pairs.items()
        },
        verdict="有依据的是",
        short=(f"逐项看{attribute.name}", OPTIONS),
        looks={text: f"{e.name}：{_compared(said, e.values[key])}" for text, (e, said) in pairs.items()},
        settled="相符",
    )


# --- what the forms share ----------------------------------------------------------------------------------------


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


def _values(group: Class, key: str) -> set[str]:
    return {entity.values[key] for entity in group.entities}


def _whose(group: Class, key: str, value: str) -> str:
    """Say which entities of the class a value belongs to."""
    owners = "、".join(entity.name for entity in group.entities if entity.values[key] == value)
    return f"{value}对应的是{owners}"


def _state(entity: Entity, attribute: Attribute, value: str) -> str:
    return attribute.state.format(e=entity.name, v=value)


def _predicate(attribute: Attribute, value: str) -> str:
    """The statement without its subject: `于2015年通过`."""
    return attribute.state.removeprefix("{e}").format(v=value)


def _compared(said: str, truth: str) -> str:
    return f"说{said}，实为{truth}，{'相符' if said == truth else '不符'}"


def _also(attribute: Attribute, value: str) -> str:
    """The predicate as a second one after 并且 or a comma: without the 的 that binds it to its subject."""
    return _predicate(attribute, value).removeprefix("的")


def _three(texts: Sequence[str]) -> tuple[str, str, str]:
    a, b, c = texts
    return a, b, c


# --- chains ------------------------------------------------------------------------------------------------------


def _short(draft: Draft, options: list[str], rng: Random) -> Item:
    """A sentence a part: the facts, then the option they lead to, its letter after it."""
    letter = LETTERS[options.index(draft.right)]
    looks = tuple(f"{draft.looks[text]}（{LETTERS[n]}）" for n, text in enumerate(options)) if draft.looks else ()
    facts = [step for part in draft.short or draft.evidence for step in (looks if part == OPTIONS else (part,))]
    return Item(
        question=draft.stem,
        options=_four(options),
        think=f"本题问{draft.about}。",
        steps=(*facts, f"{draft.verdict}{draft.settled or draft.right}（{letter}）"),
        reflection="只依据资料，未作立场评价。",
        adjustment=None,
        answer=letter,
    )


def _full(draft: Draft, options: list[str], rng: Random) -> Item:
    """The whole chain: first thoughts, numbered steps over every option, a check on fact and neutrality."""
    letter = LETTERS[options.index(draft.right)]
    opening = rng.choice(
        (
            f"这道题考查的是{draft.about}。先不看选项，回忆能够查证的资料，再逐项比对。",
            f"题目的关键在于{draft.about}。我需要区分“印象”与“有出处的事实”，以资料为准。",
            f"先弄清题意：题目要确定的是{draft.about}。有把握的事实作为依据，其余选项逐一核对。",
        )
    )
    background = "相关的背景事实有：" + "；".join(dict.fromkeys(draft.evidence)) + "。"
    checks = (
        f"核对选项{LETTERS[n]}：{draft.notes[text]}，{'符合题意' if text == draft.right else '不符合题意'}。"
        for n, text in enumerate(options)
    )
    steps = (
        f"明确问题：{draft.stem}需要判断的是{draft.about}。",
        *(f"列出依据：{fact}。" for fact in draft.evidence),
        *checks,
        f"得出结论：{draft.verdict}{draft.right}，因此选{letter}。",
    )
    runner_up = LETTERS[options.index(rng.choice(draft.wrong))]
    reflection = (
        f"回头检查：结论由上面列出的资料直接得出，没有借助猜测；选项{runner_up}与正确选项属于同一类，容易混淆，"
        "但与资料不符。表述上只陈述可查证的事实，没有使用褒贬用语，也没有偏向任何一方的立场，符合客观中立的要求。"
    )
    adjustment = (
        f"起初只核对了最像的一项；补充核对其余各项之后，理由更完整，结论不变，仍选{letter}。"
        if draft.short or len(draft.evidence) > 2
        else None
    )
    return Item(
        question=draft.stem,
        options=_four(options),
        think=opening + background,
        steps=steps,
        reflection=reflection,
        adjustment=adjustment,
        answer=letter,
    )


def _four(options: list[str]) -> tuple[str, str, str, str]:
    a, b, c, d = options
    return a, b, c, d


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
