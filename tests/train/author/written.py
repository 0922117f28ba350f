"""Questions as an author writes them."""

from typing import Any

from msgspec.structs import replace

from schemas import chain
from schemas.record import Item

GOOD = Item(
    question="方程3x+5=20的解是多少？",
    options=("4", "5", "6", "15"),
    think="一元一次方程，先移项。",
    steps=("移项，3x=20-5=15。", "两边除以3，x=15/3=5。"),
    reflection="若移项时忘了变号，会得到别的数。",
    adjustment=None,
    answer="B",
)
"""A question that computer algebra confirms."""


def an_item(**changed: Any) -> Item:
    """Return GOOD, some of it otherwise."""
    return replace(GOOD, **changed)


def a_reply(item: Item = GOOD, thinking: bool = True) -> str:
    """Return what the author says when it writes an item."""
    thoughts = "\n".join(item.steps) if thinking else ""
    return f"<think>\n{thoughts}\n</think>\n\n{chain.write(item)}"
