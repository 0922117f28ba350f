"""What the embedded teacher makes of questions of mathematics that are there: it answers, judges and rewrites them.

Which option is right, computer algebra says, from the text alone; how to get there and what is wrong with the other
options, as far as the item's own chain tells it.
"""

import hashlib
import re
from collections.abc import Iterator
from random import Random

from msgspec.structs import replace

from datagen.teacher.contrast import SLANTS
from datagen.teacher.improve import MENDS
from datagen.teacher.mathematics.compose import SAMPLES, chain, compose
from datagen.teacher.mathematics.forms import Draft
from datagen.teacher.review import (
    ALL,
    BEST,
    PRAISE,
    THOUGHTS,
    Rule,
    Seen,
    absolute,
    conclusion_missing,
    options_unchecked,
    options_unlike,
    stem_length,
    steps_few,
    steps_long,
    thought_brief,
)
from datagen.teacher.vary import Wish
from schemas.faults import Fault
from schemas.mathematics import false_equality, right
from schemas.record import LETTERS, Item, Judgement, Options

TRIES = 40
ALIKE = 0.7  # share of the words of two questions from which one is the other with other numbers
STRIDE = 1009  # between the seeds of one search
UNNAMED = "与计算结果不符"

FRAMES: dict[str, tuple[str, ...]] = {
    "context_change": (
        "在一次数学竞赛中，主持人出了这样一道题：",
        "课堂上，老师请同学们思考：",
        "数学小组活动时，有人提出：",
        "复习时，一名学生遇到这样一道题：",
        "准备测验时，同学之间互相提问：",
    ),
    "practical_application": (
        "某工程师核对计算书时需要确认：",
        "一位老师命制练习时要核对：",
        "某编程人员为程序准备检验数据时要知道：",
        "一名统计员复核报表时要弄清：",
        "某设计师估算方案时需要算出：",
    ),
}


def solve(question: str, options: Options) -> int:
    """Return the place of the right option; Fault unless computer algebra finds exactly one."""
    found = right(question, options)
    if found is None:
        raise Fault(f"the embedded teacher cannot work out: {question}")
    if found.count(True) != 1:
        raise Fault(f"the embedded teacher finds {found.count(True)} right options")
    return found.index(True)


def answered(question: str, options: Options) -> Item:
    """Return the question with the answer and a short chain of one who was shown nothing but the options."""
    at = solve(question, options)
    steps = ("由题目给出的条件逐步计算", f"与计算结果相符的是{options[at]}")
    return chain(_draft(question, options, at, steps, "计算"), options, full=False)


def judge(difficulty: str, item: Item) -> Judgement:
    """Return the marks of an item and its shortcomings; rigor and what it depends on by computer algebra."""
    found_right = right(item.question, item.options)
    places = tuple(n for n, held in enumerate(found_right or ()) if held)
    told = "\n".join((item.think, *item.steps, item.reflection, item.adjustment or ""))
    seen = Seen(item, "", difficulty, None, places, None, told.replace(item.question, ""))
    rules = RULES if found_right else (UNREAD, *RULES[2:])
    found = [(rule, words) for rule in rules if (words := rule.find(seen))]
    return Judgement(
        rigor=_mark(BEST - sum(rule.rigor for rule, _ in found)),
        difficulty=_mark(BEST - 2 * abs(_beyond(seen))),
        innovation=_innovation(item.question),
        clarity=_mark(BEST - sum(rule.clarity for rule, _ in found)),
        educational_value=_mark(BEST - sum(rule.educational_value for rule, _ in found)),
        feedback="；".join(words for _, words in found) + "。" if found else PRAISE,
    )


def improve(item: Item, feedback: str, *, full: bool) -> Item:
    """Return the item with the answer that computes and a new chain, whole where the feedback finds it wanting."""
    at = solve(item.question, item.options)
    draft = _told(item, at)
    base, whole = chain(draft, item.options, full=full), chain(draft, item.options, full=True)
    named = [part for part, mend in MENDS.items() if mend.speaks.search(feedback)]
    done = [MENDS[part].says for part in named] or ["重新核对了各步的计算"]
    if item.answer == base.answer:
        done.append("结论不变")
    else:
        done.append(f"发现选项{item.answer}与计算不符，改为选项{base.answer}")
    return replace(
        base,
        **{part: getattr(whole, part) for part in named or MENDS},
        adjustment=f"复核时{'，'.join(done)}。",
    )


def vary(item: Item, wish: Wish) -> Item:
    """Return the variation; Fault unless computer algebra finds exactly one right option of the item."""
    at = solve(item.question, item.options)
    if wish.variation == "parameter_change":
        return _other_numbers(item, wish)
    frames = FRAMES[wish.variation]
    text = next((item.question[len(f) :] for f in ALL_FRAMES if item.question.startswith(f)), item.question)
    others = [frame for frame in frames if frame + text != item.question]
    order = list(item.options)
    Random(_draw(item, wish)).shuffle(order)
    a, b, c, d = order
    draft = replace(_told(item, at), stem=others[_draw(item, wish) % len(others)] + text)
    return chain(draft, (a, b, c, d), full=wish.full)


def contrast(item: Item, how: str, seed: int, *, full: bool) -> Item:
    """Return the contrast: `wrong` falls for a mistake behind a wrong option, `biased` is right and brooks no doubt."""
    at, rng = solve(item.question, item.options), Random(f"{how}/{seed}/{item.question}")
    draft = _told(item, at)
    if how == "biased":
        opening, conclusion, reflection = rng.choice(SLANTS)
        made = chain(replace(draft, verdict=conclusion + draft.verdict), item.options, full=full)
        return replace(made, think=opening + made.think, reflection=reflection, adjustment=None)
    taken = rng.choice([option for option, _ in draft.wrong])
    against = dict(draft.wrong) | {draft.right: UNNAMED}
    believed = replace(
        draft,
        right=taken,
        wrong=tuple((option, against[option]) for option in item.options if option != taken),
        steps=(*draft.steps[:-1], f"照此计算，符合的是{taken}"),
    )
    return chain(believed, item.options, full=full)


def _draft(
    question: str, options: Options, at: int, steps: tuple[str, ...], about: str, against: dict[str, str] | None = None
) -> Draft:
    told = against or {}
    wrong = tuple(
        (option, told.get(letter, UNNAMED))
        for letter, option in zip(LETTERS, options, strict=True)
        if letter != LETTERS[at]
    )
    return Draft(stem=question, right=options[at], wrong=wrong, steps=steps, about=about, verdict="符合题意的是")


def _told(item: Item, at: int) -> Draft:
    """What an item's chain tells that holds: the steps of the calculation, what it exercises, the mistakes."""
    about = _ABOUT.search(item.think)
    against = {found[1]: found[2] for text in (*item.steps, item.reflection) for found in _AGAINST.finditer(text)}
    steps = tuple(_sound(item)) or (f"由题目给出的条件计算，符合的是{item.options[at]}",)
    draft = _draft(item.question, item.options, at, steps, about[1] if about else "计算", against)
    verdict, named, _ = item.steps[-1].removeprefix("得出结论：").rpartition(item.options[LETTERS.index(item.answer)])
    return replace(draft, verdict=verdict) if named and verdict else draft


def _sound(item: Item) -> Iterator[str]:
    """The steps of a calculation without what is said of the options, and none that is false."""
    for step in item.steps:
        step = step.removeprefix("计算：").rstrip("。")
        if not _OF_OPTIONS.search(step) and not false_equality(step) and "与计算结果相符" not in step:
            yield step


def _other_numbers(item: Item, wish: Wish) -> Item:
    """The question of the same cell that reads most like the item and has other numbers."""
    first = SAMPLES * SAMPLES + _draw(item, wish)
    words, numbers = _words(item)
    best, found = -1.0, item
    for n in range(TRIES):
        other = compose(wish.topic, wish.difficulty, wish.type, first + n * STRIDE, full=wish.full)
        other_words, other_numbers = _words(other)
        alike = len(words & other_words) / len(words | other_words)
        if other_numbers != numbers and alike > best:
            best, found = alike, other
        if best >= ALIKE:
            break
    return found


def _words(item: Item) -> tuple[set[str], list[str]]:
    """The pairs of Chinese characters of a question and its options, and its numbers."""
    text = "\n".join((item.question, *sorted(item.options)))
    chinese = re.sub(r"[^\u4e00-\u9fff\n]", "", text)
    return {chinese[n : n + 2] for n in range(len(chinese) - 1)} or {""}, re.findall(r"\d+", text)


def _draw(item: Item, wish: Wish) -> int:
    """A number that the item and the variation decide, and the seed moves on by one."""
    words = (wish.topic, wish.variation, item.question, *item.options)
    return int.from_bytes(hashlib.sha256("\n".join(words).encode()).digest()[:5]) + wish.seed


# The rules: each returns what it finds wanting, in words, or None.


def unread(seen: Seen) -> str | None:
    """Nothing can be said for an answer that cannot be worked out."""
    return "题目无法由计算核实，答案没有依据"


def not_one_right(seen: Seen) -> str | None:
    """Exactly one option is right."""
    return None if len(seen.right) == 1 else f"正确的选项有{len(seen.right)}个，应当恰好一个"


def answer_wrong(seen: Seen) -> str | None:
    """The answer is the option that is right."""
    if len(seen.right) != 1 or LETTERS[seen.right[0]] == seen.item.answer:
        return None
    return f"答案有误，经计算正确的是选项{LETTERS[seen.right[0]]}"


def states_the_untrue(seen: Seen) -> str | None:
    """No step states an equality between numbers that does not hold."""
    for n, step in enumerate(seen.item.steps, 1):
        found = false_equality(step)
        if found:
            return f"第{n}步中的“{found}”不成立"
    return None


def calculation_missing(seen: Seen) -> str | None:
    """The steps work something out, with numbers, beside what they say of the options."""
    return None if any(re.search(r"\d", step) for step in _sound(seen.item)) else "没有写明计算的过程和依据"


def mistakes_unnamed(seen: Seen) -> str | None:
    """The chain says which mistake leads to a wrong option."""
    named = re.search(r"错在|误作|没有看出|错误|误", seen.chain) or re.search(r"选项[A-D]：?(?:为|与)", seen.chain)
    return None if named else "没有说明其余选项错在哪里的依据"


def result_unchecked(seen: Seen) -> str | None:
    """The reflection goes over the result once more."""
    return None if re.search("检查|检验|验算|代入|重新算", seen.item.reflection) else "反思没有检验结果"


def difficulty_off(seen: Seen) -> str | None:
    """The question takes as much calculation as its difficulty says."""
    beyond = _beyond(seen)
    return f"所需的计算比标注的难度{'多' if beyond > 0 else '少'}" if beyond else None


def _beyond(seen: Seen) -> int:
    """How many steps of calculation more, or less if negative, than the difficulty has."""
    expected = THOUGHTS.get(seen.difficulty)
    size = max(1, len([step for step in _sound(seen.item) if step]) + _joined(seen.item.question))
    if expected is None:
        return 0
    return max(size - expected[-1] - 2, 0) + min(size - expected[0], 0)


def _joined(question: str) -> int:
    return len(re.findall(r"设a|记.+为a|甲说|有人算得|下列四项", question))


def _innovation(question: str) -> int:
    """From 2, a mark each for a situation around it, for going on from a value, for comparing, for judging."""
    framed = re.match(r"[^：\d]{6,}：", question) is not None
    return _mark(2 + framed + _joined(question) + ("下列" in question))


def _mark(points: int) -> int:
    return max(1, min(BEST, points))


UNREAD = Rule(unread, rigor=ALL, educational_value=ALL)
RULES = (
    Rule(not_one_right, rigor=ALL, educational_value=ALL),
    Rule(answer_wrong, rigor=ALL, educational_value=ALL),
    Rule(states_the_untrue, rigor=2, educational_value=1),
    Rule(calculation_missing, rigor=2),
    Rule(mistakes_unnamed, educational_value=1),
    Rule(conclusion_missing, rigor=1, clarity=1),
    Rule(options_unchecked, educational_value=1),
    Rule(absolute, rigor=1, educational_value=2),
    Rule(steps_few, educational_value=1),
    Rule(thought_brief, educational_value=1),
    Rule(result_unchecked, educational_value=1),
    Rule(difficulty_off),  # costs what the mark for difficulty says
    Rule(stem_length, clarity=1),
    Rule(options_unlike, clarity=1),
    Rule(steps_long, clarity=1),
)

ALL_FRAMES = tuple(frame for frames in FRAMES.values() for frame in frames)
_ABOUT = re.compile(r"考查(.+?)[。，]")
_AGAINST = re.compile(r"选项([A-D])：?((?:错在|为|没有看出)[^。，]*(?:，误作[^。，]*)?)")
_OF_OPTIONS = re.compile(r"^明确问题|^核对选项|^得出结论|选[A-D]$|（[A-D]）$")
