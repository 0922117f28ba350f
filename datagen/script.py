"""Simplified and traditional characters: an item from the one script into the other, by OpenCC."""

from collections.abc import Callable
from functools import cache

from msgspec.structs import replace

from schemas.record import Item

CONFIGS = {"zh_hant": "s2tw", "zh_hans": "t2s"}
"""OpenCC's name for the conversion to a script; s2tw writes 為 and 核對 where s2t writes 爲 and 覈對."""


def convert(item: Item, script: str) -> Item:
    """Return the item with all its texts in a script, a key of CONFIGS; letters and numbers are as they were."""
    text = _converter(CONFIGS[script])
    a, b, c, d = map(text, item.options)
    return replace(
        item,
        question=text(item.question),
        options=(a, b, c, d),
        think=text(item.think),
        steps=tuple(map(text, item.steps)),
        reflection=text(item.reflection),
        adjustment=None if item.adjustment is None else text(item.adjustment),
    )


@cache
def _converter(config: str) -> Callable[[str], str]:
    from opencc import OpenCC  # loads its dictionaries, which nothing else needs

    return OpenCC(config).convert
