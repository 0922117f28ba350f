"""How much there is to do in a question: dependent steps, operations and conditions, counted in its chain.

What is counted has to hang together: a step counts if it uses what an earlier one found, an operation if what it finds
is not said twice, a condition if the chain makes use of it. More text by itself is more of nothing.
"""

import re
from collections.abc import Iterator

from msgspec import Struct

from schemas.record import LETTERS, Item
from train.author.examine import folded, posed

STEPS, OPERATIONS, CONDITIONS = 4, 10, 5
"""Of each as many as count in full."""
PER_FINDING = 4
"""Operations that one finding counts for: a long sum of ones is no more than a short one."""

_CLAUSE = re.compile(r"[,;。\n]|所以|因此")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_FINDS = re.compile(r"[=≡≈]|[余得为是共有即至]")
"""What stands before a finding."""
_BASIC = re.compile(r"(?<=[\w)\]}!])[-+*/×÷·](?=[\w(\[{√-])|除以|相[加减乘除]|之[和差积商]|[和差积商]为")
_FURTHER = re.compile(
    r"\^|\*\*|[!√∫∑∏…]|(?<![a-z])[acp]\(\d|(?:sin|cos|tan|log|ln|lg|lim|gcd|lcm|max|min|sqrt)(?![a-z])|\\[a-z]{3,}"
    r"|余(?=\d)|[导原]函数|导数|积分|极限|通项|配方|判别式|定理|周期|公式|隔板|抽屉|容斥|补集|全体|递推"
)
"""Counts twice."""


class Structure(Struct, frozen=True):
    """What was counted."""

    steps: int
    """The longest row of findings of which each needs the one before it, up to the answer."""
    operations: int
    """Those of basic arithmetic once, further ones twice."""
    conditions: int
    """Numbers that are given and that the chain uses, each once."""

    def level(self) -> float:
        """How much it is in all, from 0 to 1."""
        if not (self.steps and self.operations):
            return 0.0
        steps, operations = min(1.0, self.steps / STEPS), min(1.0, self.operations / OPERATIONS)
        return 0.4 * steps + 0.4 * operations + 0.2 * min(1.0, self.conditions / CONDITIONS)


def structure(item: Item) -> Structure:
    """Return what there is to do in a question, as its chain does it."""
    given = {number for text in posed(item) for number in _NUMBER.findall(text)}
    used: set[str] = set()
    depth: dict[str, int] = {}
    said: dict[str, int] = {}
    last = 0
    for clause in _clauses(item.steps):
        operations = len(_BASIC.findall(clause)) + 2 * len(_FURTHER.findall(clause))
        parts = _FINDS.split(clause)
        found, needed = _NUMBER.findall(parts[-1]), _NUMBER.findall(" ".join(parts[:-1]))
        if not (operations and found and len(parts) > 1) or clause in said:
            continue
        said[clause] = min(PER_FINDING, operations)
        used |= given & set(_NUMBER.findall(clause))
        if len(found) > 1:  # an expression; a number by itself is a result, even if it is given too
            found = [number for number in found if number not in given]
        if found:
            last = 1 + max((depth[number] for number in needed if number in depth), default=0)
            depth = dict.fromkeys(found, last) | depth
    answer = [
        depth[number] for number in _NUMBER.findall(folded(item.options[LETTERS.index(item.answer)])) if number in depth
    ]
    return Structure(max(answer, default=last), sum(said.values()), len(used))


def _clauses(steps: tuple[str, ...]) -> Iterator[str]:
    for step in steps:
        yield from _CLAUSE.split(folded(step))
