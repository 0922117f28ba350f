"""How much there is to do in a question: dependent steps, operations and conditions, counted in its chain.

What is counted has to hang together: a step counts if it uses what an earlier one found, an equality if it is not said
twice, a condition if the chain makes use of it. More text by itself is more of nothing.
"""

import re
from collections.abc import Iterator
from unicodedata import normalize

from msgspec import Struct

from schemas.record import LETTERS, Item

STEPS, OPERATIONS, CONDITIONS = 4, 6, 4
"""Of each as many as count in full."""
PER_EQUALITY = 3
"""Operations that one equality counts for: a long sum of ones is no more than a short one."""

_CLAUSE = re.compile(r"[,;。\n]|所以|因此|故(?=[^\u4e00-\u9fff])")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_OPERATION = re.compile(r"(?<=[\w)\]}!])\s*(?:\*\*|\^|[-+*/×÷·])\s*(?=[\w(\[{√-])|[!√∫∑∏]|[A-Za-z]+\(|\\[a-z]{3,}")
_EQUAL = re.compile(r"[=≡≈]")


class Structure(Struct, frozen=True):
    """What was counted."""

    steps: int
    """The longest row of findings of which each needs the one before it, up to the answer."""
    operations: int
    """In equalities that are not said twice."""
    conditions: int
    """Numbers of the question that the chain uses, each once."""

    def level(self) -> float:
        """How much it is in all, from 0 to 1."""
        steps, operations = min(1.0, self.steps / STEPS), min(1.0, self.operations / OPERATIONS)
        return 0.5 * steps + 0.3 * operations + 0.2 * min(1.0, self.conditions / CONDITIONS)


def structure(item: Item) -> Structure:
    """Return what there is to do in a question, as its chain does it."""
    given = set(_numbers(item.question))
    used: set[str] = set()
    depth: dict[str, int] = {}
    said: dict[str, int] = {}
    last = 0
    for clause in _clauses(item.steps):
        sides = _EQUAL.split(clause)
        operations = len(_OPERATION.findall(clause))
        if len(sides) < 2 or not operations or clause in said:
            continue
        said[clause] = min(PER_EQUALITY, operations)
        used |= given & set(_numbers(clause))
        found, needed = _numbers(sides[-1]), _numbers(" ".join(sides[:-1]))
        if len(found) > 1:  # an expression; a number by itself is a result, even if the question has it too
            found = [number for number in found if number not in given]
        if found:
            last = 1 + max((depth[number] for number in needed if number in depth), default=0)
            depth = dict.fromkeys(found, last) | depth
    answer = [depth[number] for number in _numbers(item.options[LETTERS.index(item.answer)]) if number in depth]
    return Structure(max(answer, default=last), sum(said.values()), len(used))


def _clauses(steps: tuple[str, ...]) -> Iterator[str]:
    for step in steps:
        yield from ("".join(clause.split()) for clause in _CLAUSE.split(normalize("NFKC", step)))


def _numbers(text: str) -> list[str]:
    return _NUMBER.findall(normalize("NFKC", text))
