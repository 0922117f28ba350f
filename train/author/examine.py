"""What a reply of the author holds, and what computer algebra says of it.

A verdict is one of four, of which each leaves less than the one before it:

    confirmed   exactly one option is right, and it is the answer
    unchecked   an item, but its question is none that computer algebra can read
    refuted     no option is right, or several are, or another than the answer; or its chain states a false equality
    malformed   no item, or one with two options that are the same
"""

import re
from functools import lru_cache
from typing import Literal

from msgspec import Struct

from schemas import chain, mathematics
from schemas.record import LETTERS, Item
from schemas.repair import fold, split_thoughts

Verdict = Literal["confirmed", "unchecked", "refuted", "malformed"]
VERDICTS: tuple[Verdict, ...] = ("confirmed", "unchecked", "refuted", "malformed")

VALUE = 3
"""Characters beside its digits, a unit or a sign, up to which an option is a value and no part of the problem."""
KEPT = 4_096
"""Replies whose verdict is kept: several rewards ask for the same one, and algebra takes its time."""
DIGITS = re.compile(r"[\d.]+")


class Examined(Struct, frozen=True):
    """A reply as it was found."""

    verdict: Verdict
    item: Item | None
    """None where there is none."""
    faults: dict[str, str]
    """All that is against it, a code and what a person needs to understand it: a code of `schemas.chain`, or
    options_not_distinct, false_equality, no_right_option, several_right_options, another_right_option."""

    @property
    def why(self) -> str:
        """The first fault's code; empty if there is none."""
        return next(iter(self.faults), "")


@lru_cache(KEPT)
def examine(reply: str) -> Examined:
    """Return the item that a reply holds after its thoughts, and the verdict on it."""
    item = item_of(reply)
    if isinstance(item, chain.Malformed):
        return Examined("malformed", None, {item.reason: item.detail})
    faults: dict[str, str] = {}
    if len(set(map(folded, item.options))) < len(item.options):
        faults["options_not_distinct"] = " | ".join(item.options)
    for text in (item.think, *item.steps, item.reflection, item.adjustment or ""):
        if equality := mathematics.false_equality(text):
            faults.setdefault("false_equality", equality)
    right = mathematics.right(item.question, item.options)
    if right is not None:
        faults |= _wrong(item, right)
    if "options_not_distinct" in faults:
        return Examined("malformed", item, faults)
    if faults:
        return Examined("refuted", item, faults)
    return Examined("unchecked" if right is None else "confirmed", item, faults)


def item_of(reply: str) -> Item | chain.Malformed:
    """Return the item that a reply holds after its thoughts."""
    return chain.parse(split_thoughts(reply)[1])


def _wrong(item: Item, right: tuple[bool, ...]) -> dict[str, str]:
    letters = [letter for letter, is_right in zip(LETTERS, right, strict=True) if is_right]
    if letters == [item.answer]:
        return {}
    detail = f"the answer is {item.answer}, right is {' and '.join(letters) or 'none'}"
    if not letters:
        return {"no_right_option": detail}
    return {"several_right_options" if len(letters) > 1 else "another_right_option": detail}


def folded(text: str) -> str:
    """Return a text without what makes no other text of it: width, case, spaces, a closing stop."""
    return fold(text).casefold()


def posed(item: Item) -> list[str]:
    """Return, folded, what poses the problem: the question, then the options that are more than a value, sorted.

    Of 下列哪一项最大 the problem stands in the options, and in whatever order they come it is the same one.
    """
    options = [folded(option) for option in item.options]
    return [folded(item.question), *sorted(text for text in options if len(DIGITS.sub("", text)) > VALUE)]
