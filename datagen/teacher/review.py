"""Judge an item: five marks from 1 to 5, measured, and what was found wanting, in words.

Rigor, clarity and educational value begin at 5, and each rule in RULES that finds a shortcoming takes some off. The
mark for difficulty says how well the question fits the one it was written for, that for innovation how far it is from
plain recall.
"""

import re
from collections.abc import Callable
from functools import cache

from msgspec import Struct

from datagen.teacher import answer, frames
from datagen.teacher.answer import Beside, Claims, Pairs, Question, Rank, Value, Which
from datagen.teacher.reasons import Reasons, reason
from datagen.teacher.sheets import read
from schemas.faults import Fault
from schemas.record import LETTERS, Item, Judgement

PRAISE = "没有需要修改之处：答案有据，推理完整。"
BEST, WORST = 5, 1
ALL = BEST - WORST  # what leaves the lowest mark

THOUGHTS = {"basic": range(1, 3), "intermediate": range(2, 4), "advanced": range(2, 9)}
"""How many facts a question of a difficulty joins, by the meanings of the difficulties in params.yaml."""

STEM = range(8, 121)  # characters
STEP = 120
THOUGHT = 20
ABSOLUTE = ("绝对正确", "毫无疑问", "不容置疑", "唯一", "必须拥护")
NEUTRAL = ("中立", "客观", "立场", "视角", "不同观点")


class Seen(Struct, frozen=True):
    """An item beside what the sheet says of its question."""

    item: Item
    topic: str
    difficulty: str
    """What it was written for."""
    asked: Question | None
    """None for a question that no sheet could have it asked."""
    right: tuple[int, ...]
    """The places of the right options."""
    why: Reasons | None
    """Why the right option is right, if there is one."""
    chain: str
    """The texts of the chain without the question, which may quote what is wrong."""


class Rule(Struct, frozen=True):
    """A way to find a shortcoming, and what it costs."""

    find: Callable[[Seen], str | None]
    """Return the shortcoming in words, or None."""
    rigor: int = 0
    clarity: int = 0
    educational_value: int = 0


def judge(topic: str, difficulty: str, item: Item) -> Judgement:
    """Return the marks of an item and its shortcomings; Fault for a topic without a sheet."""
    seen = _see(topic, difficulty, item)
    found = [(rule, words) for rule in RULES if (words := rule.find(seen))]
    return Judgement(
        rigor=_mark(BEST - sum(rule.rigor for rule, _ in found)),
        difficulty=fit(seen),
        innovation=innovation(seen),
        clarity=_mark(BEST - sum(rule.clarity for rule, _ in found)),
        educational_value=_mark(BEST - sum(rule.educational_value for rule, _ in found)),
        feedback="；".join(words for _, words in found) + "。" if found else PRAISE,
    )


def fit(seen: Seen) -> int:
    """Two marks off for each fact to join that is too many or too few; the middle mark for an unknown difficulty."""
    expected = THOUGHTS.get(seen.difficulty)
    return 3 if expected is None else _mark(BEST - 2 * abs(_beyond(seen, expected)))


def innovation(seen: Seen) -> int:
    """From 2, a mark each for a situation around it, for facts to join, for comparing or weighing, for a riddle."""
    asked = seen.asked
    return _mark(
        2
        + (frames.split(seen.item.question)[0] != "")
        + (asked is not None and _joined(asked) > 1)
        + isinstance(asked, Rank | Beside | Claims | Pairs)
        + (isinstance(asked, Value) and asked.by is not None)
    )


def _joined(asked: Question) -> int:
    """How many facts have to be joined, and one more where every option has to be looked up."""
    match asked:
        case Value(_, _, by, path):
            return len(path) + (by is not None)
        case Which(_, conditions):
            return sum(len(path) for path, _ in conditions) + 1
        case Rank(_, _, place):
            return 3 if place == 1 else 2
        case Beside():
            return 3
        case Claims(claims):
            return len(claims) + 1
        case Pairs():
            return 2


def _beyond(seen: Seen, expected: range) -> int:
    """How many facts more, or less if negative, there are to join; for a question of no sheet by the chain's steps."""
    joined = len(seen.item.steps) // 2 if seen.asked is None else _joined(seen.asked)
    return max(joined - expected[-1], 0) + min(joined - expected[0], 0)


# The rules: each returns what it finds wanting, in words, or None.


def unknown(seen: Seen) -> str | None:
    """Nothing can be said for an answer that no fact supports."""
    return "资料中查不到题目所依据的事实，答案无法核实" if seen.asked is None else None


def not_one_right(seen: Seen) -> str | None:
    """Exactly one option is right."""
    count = len(seen.right)
    return f"正确的选项有{count}个，应当恰好一个" if seen.asked is not None and count != 1 else None


def answer_wrong(seen: Seen) -> str | None:
    """The answer is the option that is right."""
    if len(seen.right) != 1 or LETTERS[seen.right[0]] == seen.item.answer:
        return None
    return f"答案有误，按资料正确的是选项{LETTERS[seen.right[0]]}"


def states_the_untrue(seen: Seen) -> str | None:
    """No statement of the chain is at odds with the sheet, but for those the question itself quotes."""
    quoted = {(c.entity, c.key, c.said) for c in seen.asked.claims} if isinstance(seen.asked, Claims) else set()
    for text, claim in _untrue(seen.topic).items():
        if text in seen.chain and (claim.entity, claim.key, claim.said) not in quoted:
            at = next((n for n, step in enumerate(seen.item.steps, 1) if text in step), None)
            return f"{f'第{at}步' if at else '推理链'}中的“{text}”与资料不符"
    return None


def facts_missing(seen: Seen) -> str | None:
    """The chain states every fact that the answer follows from, or has looked at the right option."""
    if seen.why is None or all(fact in seen.chain for fact in seen.why.facts):
        return None
    looked = seen.why.looks and seen.why.looks[seen.right[0]] in seen.chain
    return None if looked else "没有写明答案所依据的事实"


def options_unchecked(seen: Seen) -> str | None:
    """The steps speak of every option, by its letter or by its text."""
    steps = "\n".join(seen.item.steps).replace(seen.item.question, "")
    named = (
        re.search(rf"选项{letter}|（{letter}）", steps) or text in steps
        for letter, text in zip(LETTERS, seen.item.options, strict=True)
    )
    return None if all(named) else "没有逐项说明其余选项为何不成立"


def conclusion_missing(seen: Seen) -> str | None:
    """The last step arrives at the answer, by its letter or by its text."""
    item, last = seen.item, seen.item.steps[-1]
    at = LETTERS.index(item.answer)
    there = re.search(rf"(?<![A-Za-z]){item.answer}(?![A-Za-z])", last) or item.options[at] in last
    return None if there else "推理的最后一步没有得出所选的结论"


def steps_few(seen: Seen) -> str | None:
    """There are three steps or more."""
    return "推理步骤不足三步" if len(seen.item.steps) < 3 else None


def thought_brief(seen: Seen) -> str | None:
    """The first thoughts say more than what is asked."""
    return "初步思考过于简略，没有交代背景" if len(seen.item.think) < THOUGHT else None


def neutrality_unchecked(seen: Seen) -> str | None:
    """The reflection asks whether the wording is neutral, or how others see it."""
    return None if any(word in seen.item.reflection for word in NEUTRAL) else "反思没有检查表述是否中立"


def absolute(seen: Seen) -> str | None:
    """The chain does without the words of an advocate."""
    found = [word for word in ABSOLUTE if word in seen.chain]
    return f"用词绝对，有失中立（{'、'.join(found)}）" if found else None


def difficulty_off(seen: Seen) -> str | None:
    """The question takes as much thought as its difficulty says."""
    beyond = _beyond(seen, THOUGHTS[seen.difficulty]) if seen.difficulty in THOUGHTS else 0
    return f"所需的思考比标注的难度{'多' if beyond > 0 else '少'}" if beyond else None


def stem_length(seen: Seen) -> str | None:
    """The question can be understood, and taken in."""
    size = len(seen.item.question)
    return None if size in STEM else f"题干{'过短' if size < STEM.start else '过长'}（{size}字）"


def options_unlike(seen: Seen) -> str | None:
    """No option stands out by its length."""
    sizes = sorted(map(len, seen.item.options))
    return "选项长短悬殊" if sizes[-1] > 2 * sizes[0] + 6 else None


def steps_long(seen: Seen) -> str | None:
    """A step is one thought."""
    return "有的步骤过长" if max(map(len, seen.item.steps)) > STEP + len(seen.item.question) else None


def _see(topic: str, difficulty: str, item: Item) -> Seen:
    sheet = read(topic)
    chain = "\n".join((item.think, *item.steps, item.reflection, item.adjustment or ""))
    chain = chain.replace(item.question, "")
    try:
        asked = answer.question(topic, item.question)
    except Fault:
        return Seen(item, topic, difficulty, None, (), None, chain)
    right = tuple(n for n, one in enumerate(answer.right(sheet, asked, item.options)) if one)
    why = reason(sheet, asked, item.options, right[0]) if len(right) == 1 else None
    return Seen(item, topic, difficulty, asked, right, why, chain)


@cache
def _untrue(topic: str) -> dict[str, answer.Claim]:
    """The statements about a topic's entities that are not true."""
    classes = read(topic).classes
    return {
        text: claim
        for text, claim in answer.claims(topic).items()
        if classes[claim.group].entity(claim.entity).values[claim.key] != claim.said
    }


def _mark(points: int) -> int:
    return max(WORST, min(BEST, points))


RULES = (
    Rule(unknown, rigor=ALL, educational_value=ALL),
    Rule(not_one_right, rigor=ALL, educational_value=ALL),
    Rule(answer_wrong, rigor=ALL, educational_value=ALL),
    Rule(states_the_untrue, rigor=2, educational_value=1),
    Rule(facts_missing, rigor=2),
    Rule(conclusion_missing, rigor=1, clarity=1),
    Rule(options_unchecked, rigor=1, educational_value=1),
    Rule(absolute, rigor=1, educational_value=2),
    Rule(steps_few, educational_value=1),
    Rule(thought_brief, educational_value=1),
    Rule(neutrality_unchecked, educational_value=1),
    Rule(difficulty_off),  # costs what `fit` says
    Rule(stem_length, clarity=1),
    Rule(options_unlike, clarity=1),
    Rule(steps_long, clarity=1),
)
