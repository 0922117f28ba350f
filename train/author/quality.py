"""Qualities: what a question of the author is worth, one aspect a function, each within 0 and 1.

Signature and names are TRL's, as in `train.rewards`: completions and the columns of their prompts in, a list of floats
out. What is no item earns nothing, and what computer algebra refutes nothing but a part of `rigor`: a question that is
wrong is neither hard nor new. What it cannot read counts as UNCHECKED of what it confirms, or the author would learn
to write what nobody can check. Each says how an author can please it without writing better questions, and what is
done against it.

`train author_rewards FILE` prints what each gives for replies of your own.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from schemas.record import LETTERS, Commission, Item
from train.author.alike import Seen, distances, text_of
from train.author.examine import Examined, Verdict, examine, folded
from train.author.structure import structure

Quality = Callable[..., list[float]]
Completion = str | Sequence[dict[str, str]]

UNCHECKED = 0.25
"""What a question that nobody could check counts of one that was confirmed."""
COPY = 0.85
"""How alike a question may be to one that was seen; what is more alike is a copy."""
PENALTY = 0.15
"""What a copy loses beside its likeness: with COPY it has nothing left."""
LEVELS = {"basic": 0.35, "intermediate": 0.5, "advanced": 0.65}
"""How much there is to do (`Structure.level`) in a question of each difficulty."""
_KEYWORDS = re.compile(
    "韦达|判别式|同余|余数|整除|质数|因式|数列|不等式|最大值|最小值|极值|对称|周期|递推|裂项|容斥|隔板|鸽巢|排列|组合|期望|"
    "条件概率|独立|勾股|相似|外接圆|内切圆|体积|导数|积分|极限|切线|单调"
)
_LETTER = re.compile(r"(?:选项?|答案[是为]?:?)([a-d])(?![a-z(^'])|\(([a-d])\)")


def difficulty(completions: Sequence[Completion], difficulty: Sequence[str], **_: Any) -> list[float]:
    """How much there is to do (0.3), how well that fits the difficulty asked for (0.65), a word of the craft (0.05).

    What there is to do is read from the chain (`train.author.structure`): steps of which each needs the one before it,
    operations, conditions that are used. Nothing to do is worth nothing, whatever words are used. A chain drawn out
    into idle but true equalities (12+1=13, 13-1=12) raises it: each counts up to a limit only, beyond what was asked
    for the fit falls faster than the rest rises, and only what leads to the answer counts as steps. A keyword counts
    once.
    """
    return [
        _credit(found.verdict) * _difficulty(found.item, wanted) if found.item else 0.0
        for found, wanted in zip(_examined(completions), difficulty, strict=True)
    ]


def novelty(completions: Sequence[Completion], seen: Seen, **_: Any) -> list[float]:
    """How unlike it is to the question seen before that it resembles most; nothing for a copy.

    Likeness is the cosine of TF-IDF over characters (`train.author.alike`). New numbers in an old question leave it 0.7
    alike, so that they earn little, and nothing if most of them are the old ones. Empty words around an old question
    make it less alike: they help once, as from then on the same words have been seen. Replies of one step are not
    compared with each other, as none comes first; within a group `diversity` does it, and the next step has seen all.
    """
    found = _examined(completions)
    near = iter(seen.nearest([text_of(one.item) for one in found if one.item]))
    return [_credit(one.verdict) * _new(next(near)) if one.item else 0.0 for one in found]


def rigor(completions: Sequence[Completion], **_: Any) -> list[float]:
    """A whole item (0.1), four distinct options (0.1), no false equality in its chain (0.2), exactly one option right
    (0.3) and it the answer (0.2), the last step ending in it (0.1).

    The one quality that a question which is wrong has something of, or an author that is hardly ever right would learn
    nothing: it tells by how much. Together with its weight that is less than any confirmed question earns. Of the two
    marks for what is right, one that cannot be read has UNCHECKED. An easy question is confirmed as a hard one is:
    `difficulty` is the counterweight. The last step is looked at for the right option or its letter and no other
    letter; that the steps before it prove anything is not seen, only that no equality in them is false.
    """
    return [_rigor(found) for found in _examined(completions)]


def diversity(completions: Sequence[Completion], prompts: Sequence[Any], **_: Any) -> list[float]:
    """How far it is from the other questions written for the same prompt, on average; full marks for the only one.

    What earns nothing elsewhere is no other question here: rubbish makes nothing diverse. A group of eight questions
    that differ in their numbers alone has 0.3 at most; odd words would raise it, so it weighs little.
    """
    found = _examined(completions)
    made = [0.0] * len(found)
    for group in _groups(prompts):
        whole = {n: item for n in group if (item := found[n].item) and _credit(found[n].verdict)}
        far = distances([text_of(item) for item in whole.values()]).sum(1)
        for n, value in zip(whole, far, strict=True):
            others = len(whole) - 1
            made[n] = _credit(found[n].verdict) * (float(value) / others if others else 1.0)
    return made


def bound(name: str, seen: Seen) -> Quality:
    """Return a quality that looks back on what was seen, under its own name, as TRL logs it."""
    made = partial(QUALITIES[name], seen=seen)
    made.__name__ = name  # type: ignore[attr-defined]
    return made


def measured(
    names: Iterable[str], commissions: Sequence[Commission], replies: Sequence[str], seen: Seen
) -> dict[str, list[float]]:
    """Return what each of these qualities gives to the reply to each commission; `seen` stays as it is."""
    columns = {
        "prompts": [commission.prompt for commission in commissions],
        "completions": replies,
        "difficulty": [commission.difficulty for commission in commissions],
    }
    return {name: bound(name, seen)(**columns) for name in names}


def _examined(completions: Sequence[Completion]) -> list[Examined]:
    return [
        examine(completion if isinstance(completion, str) else completion[-1]["content"]) for completion in completions
    ]


def _credit(verdict: Verdict) -> float:
    return {"confirmed": 1.0, "unchecked": UNCHECKED}.get(verdict, 0.0)


def _rigor(found: Examined) -> float:
    if found.item is None:
        return 0.0
    against = found.faults.keys()
    made = 0.1 + 0.1 * ("options_not_distinct" not in against) + 0.2 * ("false_equality" not in against)
    if found.verdict == "unchecked":
        made += 0.5 * UNCHECKED
    elif not against & {"no_right_option", "several_right_options"}:
        made += 0.3 + 0.2 * ("another_right_option" not in against)
    return made + 0.1 * _leads(found.item)


def _difficulty(item: Item, wanted: str) -> float:
    level = structure(item).level()
    if not level:
        return 0.0
    aim = LEVELS[wanted]
    fit = 1 - abs(level - aim) / max(aim, 1 - aim)
    craft = bool(_KEYWORDS.search("".join((item.question, *item.steps))))
    return 0.3 * level + 0.65 * fit + 0.05 * craft


def _new(alike: float) -> float:
    return max(0.0, 1 - alike - PENALTY * (alike > COPY))


def _leads(item: Item) -> bool:
    """Whether the last step names the right option, by its text or its letter, and no other letter."""
    end = folded(item.adjustment or item.steps[-1])
    letters = {a or b for a, b in _LETTER.findall(end)}
    own = folded(item.options[LETTERS.index(item.answer)])
    stated = re.search(rf"(?<![\d.]){re.escape(own)}(?![\d.]\d|\d)", end)
    return not letters - {item.answer.lower()} and bool(stated or letters)


def _groups(prompts: Sequence[Any]) -> Iterator[list[int]]:
    """Yield the places of the replies to each prompt."""
    found: dict[str, list[int]] = {}
    for n, prompt in enumerate(prompts):
        found.setdefault(repr(prompt), []).append(n)
    yield from found.values()


QUALITIES: dict[str, Quality] = {
    "difficulty": difficulty,
    "novelty": novelty,
    "rigor": rigor,
    "diversity": diversity,
}
