"""Contrast an item: the same question and options with a chain that ought to lose against a good one.

`wrong` argues for a wrong option as somebody would who mixes up two facts: the reasons are those of a sheet in which
the two have changed places. `biased` arrives at the right option in the words of an advocate.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from msgspec.structs import replace

from datagen.teacher import answer, chains
from datagen.teacher.answer import HOLDS, INSTEAD, VERDICTS, Beside, Claim, Claims, Pairs, Question, Rank, Value, Which
from datagen.teacher.reasons import reason
from datagen.teacher.sheets import Sheet, read
from schemas.faults import Fault
from schemas.record import Item, Options


class Mix(NamedTuple):
    """Values that are taken for one another: each of the named entities gets that of the next, the last the first's."""

    group: str
    key: str
    names: tuple[str, ...]


def contrast(topic: str, item: Item, how: str, seed: int, *, full: bool) -> Item:
    """Return the contrast; Fault unless the item's question is one of the sheet with exactly one right option."""
    return CONTRASTS[how](topic, item, Random(f"{topic}/{how}/{seed}/{item.question}"), full)


def wrong(topic: str, item: Item, rng: Random, full: bool) -> Item:
    """Argue for a wrong option by facts that are mixed up."""
    sheet = read(topic)
    asked = answer.question(topic, item.question)
    right = answer.solve(sheet, asked, item.options)
    for at in rng.sample([n for n in range(4) if n != right], 3):
        believed = _mixed(sheet, mixes(sheet, asked, item.options, right, at))
        if answer.right(believed, asked, item.options) == tuple(n == at for n in range(4)):
            why = reason(believed, asked, item.options, at)
            return chains.write(item.question, item.options, at, why, rng, full=full)
    raise Fault(f"the embedded teacher knows no mix-up that leads to a wrong option of: {item.question}")


def biased(topic: str, item: Item, rng: Random, full: bool) -> Item:
    """Arrive at the right option with absolute words, and with no word for any other view."""
    sheet = read(topic)
    asked = answer.question(topic, item.question)
    at = answer.solve(sheet, asked, item.options)
    why = reason(sheet, asked, item.options, at)
    opening, conclusion, reflection = rng.choice(SLANTS)
    told = replace(why, verdict=conclusion + why.verdict)
    chain = chains.write(item.question, item.options, at, told, rng, full=full)
    return replace(chain, think=opening + chain.think, reflection=reflection, adjustment=None)


def mixes(sheet: Sheet, asked: Question, options: Options, right: int, at: int) -> list[Mix]:
    """Return what has to be mixed up for the option at this place to look right, and the right one wrong."""
    option, answered = options[at], options[right]
    match asked:
        case Value():
            last = answer.walk(sheet, asked.group, answer.start(sheet, asked), asked.path)[-1]
            return list(_take(sheet, last.group.key, last.key, last.entity.name, option))
        case Which(group, conditions):
            return [Mix(group, path[0], (option, answered)) for path, _ in conditions]
        case Rank(group, key) | Beside(group, key):
            return [Mix(group, key, (option, answered))]
        case Claims((claim,)):
            truth = claim.said if option == HOLDS else option.removeprefix(INSTEAD)
            return list(_take(sheet, claim.group, claim.key, claim.entity, truth))
        case Claims(claims):
            held, spoken_of = VERDICTS.get(option, (False, False)), {claim.entity for claim in claims}
            return [
                mix for claim, true in zip(claims, held, strict=True) for mix in _believe(sheet, claim, true, spoken_of)
            ]
        case Pairs(group, key):
            (name, _, said), (other, _, _) = option.partition("："), answered.partition("：")
            owners = [entity.name for entity in sheet.classes[group].having(key, said)]
            return [Mix(group, key, (name, *owners[:1], *([] if other in owners[:1] else [other])))]


def _take(sheet: Sheet, group: str, key: str, name: str, value: str) -> Iterator[Mix]:
    """Let an entity and the first that has this value change values."""
    owners = sheet.classes[group].having(key, value)
    if owners and owners[0].name != name:
        yield Mix(group, key, (name, owners[0].name))


def _believe(sheet: Sheet, claim: Claim, true: bool, spoken_of: set[str]) -> Iterator[Mix]:
    """Make a claim true, or untrue, by an entity that no claim speaks of, if there is one."""
    group, key = sheet.classes[claim.group], claim.key
    truth = group.entity(claim.entity).values[key]
    if true != (truth == claim.said):
        fit = [e.name for e in group.entities if (e.values[key] == claim.said if true else e.values[key] != truth)]
        yield Mix(group.key, key, (claim.entity, min(fit, key=lambda name: name in spoken_of)))


def _mixed(sheet: Sheet, mixes: list[Mix]) -> Sheet:
    """Return the sheet of somebody who mixes these up; an option that names nothing of the sheet cannot be."""
    for mix in mixes:
        group = sheet.classes[mix.group]
        if not {entity.name for entity in group.entities} >= set(mix.names):
            continue
        given = {
            name: group.entity(other) for name, other in zip(mix.names, mix.names[1:] + mix.names[:1], strict=True)
        }
        entities = tuple(
            replace(
                entity,
                values={**entity.values, mix.key: given[entity.name].values[mix.key]},
                years={**entity.years, **{k: y for k, y in given[entity.name].years.items() if k == mix.key}},
            )
            if entity.name in given
            else entity
            for entity in group.entities
        )
        sheet = replace(sheet, classes={**sheet.classes, mix.group: replace(group, entities=entities)})
    return sheet


SLANTS = (
    (
        "毫无疑问，这道题没有争论的余地。",
        "毫无疑问，",
        "这一判断绝对正确，不容置疑，也完全客观；其他看法都站不住脚，不必考虑。",
    ),
    (
        "答案显然只有一种可能，用不着别的视角。",
        "绝对正确的结论只有一个，",
        "推理显然没有漏洞，结论绝对正确；持其他看法的一方拿不出像样的依据，没有必要提及。",
    ),
    (
        "这是唯一经得起检验的看法。",
        "不容置疑，",
        "检查无误：这是唯一正确的立场，不容置疑，因而也最为客观；其余选项不值得讨论。",
    ),
)
"""What a biased chain puts before its first thoughts and its conclusion, and in place of its reflection."""

CONTRASTS: dict[str, Callable[[str, Item, Random, bool], Item]] = {"wrong": wrong, "biased": biased}
