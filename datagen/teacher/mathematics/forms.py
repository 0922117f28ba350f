"""The forms of questions: each type asks in its own way for the problems of a topic and a difficulty."""

from collections.abc import Callable
from fractions import Fraction
from random import Random
from zlib import crc32

from msgspec import Struct

from datagen.teacher.mathematics import algebra, calculus, combinatorics, geometry, number_theory, probability
from datagen.teacher.mathematics.problems import MOST, Family, Number, Problem, draw, fits, largest, text, whole
from schemas.faults import Fault

SIZES = {"basic": 50}  # numbers that are reckoned with in the head
DEAL = 60  # neighbouring samples of a cell that hold different problems
LARGEST = 6  # what a value is multiplied by
RIVALS = 60  # problems among which those that a mistake leads to the same value are looked for
LONG = 44  # characters of two problems that one stem can hold
RIGHT = "算得对"
MEND = "算错了，应为"
VERDICTS = {
    (True, True): "甲和乙都对",
    (True, False): "只有甲对",
    (False, True): "只有乙对",
    (False, False): "甲和乙都错",
}
SECOND = "第二大"


class Draft(Struct, frozen=True):
    """A question before its options have letters."""

    stem: str
    right: str
    wrong: tuple[tuple[str, str], ...]
    """Three options, and what is to be said against each: a predicate."""
    steps: tuple[str, ...]
    """What leads to the right option."""
    about: str
    verdict: str
    """How the conclusion begins; the option follows."""


class Cell(Struct, frozen=True):
    """Where problems are drawn from."""

    families: tuple[Family, ...]
    rng: Random
    number: int
    """Of the sample."""
    most: int
    """The largest number that its problems and their steps hold, where a family has such."""

    @property
    def family(self) -> Family:
        """The family whose turn it is."""
        return self.families[self.number % len(self.families)]

    def problem(self) -> Problem:
        """Return a problem that the neighbouring samples do not draw."""
        hands = -(-DEAL // len(self.families))
        turn = self.number // len(self.families) % hands

        def dealt(problem: Problem) -> bool:
            return crc32(problem.sought.encode()) % hands == turn

        return draw(self.family, self.rng, lambda p: dealt(p) and largest(p) <= self.most, dealt)


def cell(topic: str, difficulty: str, rng: Random, number: int) -> Cell:
    """Return the cell of a topic and a difficulty; Fault if the topic has no problems of this difficulty."""
    families = FAMILIES[topic].get(difficulty)
    if families is None:
        raise Fault(f"no problems of {topic} at difficulty '{difficulty}'")
    return Cell(families, rng, number, SIZES.get(difficulty, MOST))


def value(cell: Cell) -> Draft:
    """What is it?"""
    problem = cell.problem()
    return Draft(
        stem=cell.rng.choice(("{}是多少？", "求{}。")).format(problem.sought),
        right=text(problem.value),
        wrong=tuple((text(slip), f"错在{why}") for slip, why in _three(cell.rng, problem)),
        steps=problem.steps,
        about=problem.about,
        verdict="结果为",
    )


def which(cell: Cell) -> Draft:
    """Which has this value? Others have it by a mistake, as far as there are such."""
    problem = cell.problem()
    rivals = _rivals(cell, problem)
    return Draft(
        stem=cell.rng.choice(("下列哪一项等于{}？", "下列各项中，值为{}的是哪一项？")).format(text(problem.value)),
        right=problem.sought,
        wrong=tuple((rival.sought, _against(rival, problem.value)) for rival in rivals),
        steps=problem.steps,
        about=problem.about,
        verdict=f"等于{text(problem.value)}的是",
    )


def onward(cell: Cell) -> Draft:
    """What follows from what it is?"""
    rng = cell.rng
    while True:
        problem = cell.problem()
        a = problem.value
        large, add = not -MOST < a * LARGEST < MOST, rng.choice((-1, 1)) * rng.randint(1, 9)
        by = (1 if large else rng.randint(1, LARGEST)) if whole(a) else Fraction(a).denominator
        written, right, worked = (_scaled if large else rng.choice(_ONWARD))(a, by, add)
        slips = ((a, "只求了a"), *reversed(problem.slips()))
        wrong = {
            text(found): f"错在{why}"
            for slip, why in slips
            if (found := a if slip == a else _worked(written, slip)) != right and fits(found)
        }
        if fits(right) and len(wrong) >= 3:
            break
    return Draft(
        stem=rng.choice(("设a为{}，则{}是多少？", "记{}为a，求{}。")).format(problem.sought, written),
        right=text(right),
        wrong=tuple((option, wrong[option]) for option in rng.sample(sorted(wrong), 3)),
        steps=(*problem.steps, f"a为{text(a)}，{written}的值为{worked}={text(right)}"),
        about=f"{problem.about}的应用",
        verdict="结果为",
    )


def most(cell: Cell) -> Draft:
    """Which of four is the greatest, the least, or the second?"""
    word = cell.rng.choice(("最大", "最小") if cell.number % 2 else ("最大", SECOND))
    four = _distinct(cell, 4)
    ordered = sorted(four, key=lambda problem: problem.value, reverse=word != "最小")
    right = ordered[1 if word == SECOND else 0]
    order, values = "小到大" if word == "最小" else "大到小", "、".join(text(problem.value) for problem in ordered)
    return Draft(
        stem=f"下列四项中，{word}的是哪一项？",
        right=right.sought,
        wrong=tuple((problem.sought, f"为{text(problem.value)}") for problem in four if problem is not right),
        steps=(*right.steps, f"四项由{order}为{values}"),
        about=f"{right.about}的大小比较",
        verdict=f"{word}的是",
    )


def equal(cell: Cell) -> Draft:
    """Which has the value of another?"""
    problem = cell.problem()
    twin = draw(cell.family, cell.rng, lambda p: p.value == problem.value and p.sought != problem.sought)
    if twin.value != problem.value or twin.sought == problem.sought:
        return most(cell)
    return Draft(
        stem=f"下列哪一项与{problem.sought}相等？",
        right=twin.sought,
        wrong=tuple((rival.sought, _against(rival, problem.value)) for rival in _rivals(cell, twin)),
        steps=(*problem.steps, f"{twin.sought}也是{text(twin.value)}"),
        about=f"{problem.about}的大小比较",
        verdict="与之相等的是",
    )


def claim(cell: Cell) -> Draft:
    """Is it what somebody says?"""
    problem, rng = cell.problem(), cell.rng
    slips = _three(rng, problem)
    (said, why), *others = slips
    truth = text(problem.value)
    if rng.random() < 0.25:
        stem, right = truth, RIGHT
        wrong = tuple((MEND + text(slip), f"错在{reason}") for slip, reason in slips)
    else:
        stem, right = text(said), MEND + truth
        wrong = (
            (RIGHT, f"没有看出{why}"),
            *((MEND + text(slip), f"错在{reason}") for slip, reason in others),
        )
    return Draft(
        stem=f"有人算得{problem.sought}是{stem}，下列哪一项评价恰当？",
        right=right,
        wrong=wrong,
        steps=(*problem.steps, f"他得{stem}，{'与此相符' if right == RIGHT else f'错在{why}'}"),
        about=f"{problem.about}中的常见错误",
        verdict="恰当的评价是",
    )


def two_claims(cell: Cell) -> Draft:
    """Which of two is right?"""
    rng = cell.rng
    one, two = _distinct(cell, 2)
    if len(one.sought + two.sought) > LONG:
        return claim(cell)
    held = rng.choice(tuple(VERDICTS))
    said = [(p, (p.value, "") if true else _three(rng, p)[0]) for p, true in zip((one, two), held, strict=True)]
    told = [
        f"{who}说{text(v)}，{f'错在{why}' if why else '相符'}" for who, (_, (v, why)) in zip("甲乙", said, strict=True)
    ]
    return Draft(
        stem="；".join(f"{who}说{p.sought}是{text(v)}" for who, (p, (v, _)) in zip("甲乙", said, strict=True))
        + "。谁说得对？",
        right=VERDICTS[held],
        wrong=tuple((verdict, "与核对结果不一致") for verdict in VERDICTS.values() if verdict != VERDICTS[held]),
        steps=tuple(f"{one_.steps[-1]}，{how}" for (one_, _), how in zip(said, told, strict=True)),
        about=f"{one.about}中的常见错误",
        verdict="恰当的评价是",
    )


def _three(rng: Random, problem: Problem) -> tuple[tuple[Number, str], ...]:
    """Three mistakes; those that lead to a value like the right one come before the others."""
    slips = problem.slips()
    alike = [slip for slip in slips if whole(slip[0]) == whole(problem.value)]
    pool = alike if len(alike) >= 3 else list(slips[:3])
    return tuple(rng.sample(pool, 3))


def _rivals(cell: Cell, problem: Problem) -> tuple[Problem, ...]:
    """Three problems of the same family with other values, first those that a mistake leads to this value."""
    drawn = [draw(cell.family, cell.rng) for _ in range(RIVALS)]
    tempting = sorted(drawn, key=lambda p: problem.value in dict(p.slips()))
    a, b, c, *_ = reversed({p.value: p for p in tempting if p.value != problem.value}.values())
    return a, b, c


def _against(problem: Problem, taken: Number) -> str:
    """What a problem's value is, and by which mistake it may be taken for another."""
    why = dict(problem.slips()).get(taken)
    return f"为{text(problem.value)}" + (f"，误作{text(taken)}错在{why}" if why else "")


def _distinct(cell: Cell, count: int) -> list[Problem]:
    """Problems of one family whose values differ."""
    found = {(first := cell.problem()).value: first}
    while len(found) < count:
        problem = draw(cell.family, cell.rng)
        found.setdefault(problem.value, problem)
    return list(found.values())


Onward = Callable[[Number, int, int], tuple[str, Number, str]]


def _scaled(a: Number, by: int, add: int) -> tuple[str, Number, str]:
    if by == 1:
        return f"a{add:+}", a + add, f"{_in_brackets(a)}{add:+}"
    return f"{by}a{add:+}", by * a + add, f"{by}×{_in_brackets(a)}{add:+}"


def _taken(a: Number, by: int, add: int) -> tuple[str, Number, str]:
    by = max(by, 2) if whole(a) else by * abs(add)
    return f"{by}a", by * a, f"{by}×{_in_brackets(a)}"


def _less(a: Number, by: int, add: int) -> tuple[str, Number, str]:
    return f"{abs(add)}-a", abs(add) - a, f"{abs(add)}-{_in_brackets(a)}"


def _in_brackets(a: Number) -> str:
    return text(a) if a >= 0 and whole(a) else f"({text(a)})"


_ONWARD: tuple[Onward, ...] = (_scaled, _taken, _less)


def _worked(written: str, a: Number) -> Number:
    """The value of 3a-2, 6a or 7-a."""
    if written.endswith("-a"):
        return int(written[:-2]) - a
    by, _, add = written.partition("a")
    return int(by or 1) * a + int(add or 0)


FAMILIES: dict[str, dict[str, tuple[Family, ...]]] = {
    "algebra": algebra.FAMILIES,
    "geometry": geometry.FAMILIES,
    "number_theory": number_theory.FAMILIES,
    "combinatorics": combinatorics.FAMILIES,
    "probability": probability.FAMILIES,
    "calculus": calculus.FAMILIES,
}
FORMS: dict[tuple[str, str], tuple[Callable[[Cell], Draft], ...]] = {
    ("factual", "basic"): (value,),
    ("factual", "intermediate"): (value,),
    ("factual", "advanced"): (value,),
    ("conceptual", "basic"): (which,),
    ("conceptual", "intermediate"): (which,),
    ("conceptual", "advanced"): (which,),
    ("analytical", "basic"): (onward,),
    ("analytical", "intermediate"): (onward,),
    ("analytical", "advanced"): (onward,),
    ("comparative", "basic"): (most,),
    ("comparative", "intermediate"): (most, equal),
    ("comparative", "advanced"): (most, equal),
    ("evaluative", "basic"): (claim,),
    ("evaluative", "intermediate"): (claim, two_claims),
    ("evaluative", "advanced"): (claim, two_claims),
}
"""By type and difficulty the forms that take turns."""
