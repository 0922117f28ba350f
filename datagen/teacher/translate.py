"""Translate an item between simplified and traditional characters."""

from datagen.script import CONFIGS, convert
from schemas.faults import Fault
from schemas.record import Item


def translate(item: Item, target: str) -> Item:
    """Return the item with all its texts in the target's characters; Fault for any other language."""
    if target not in CONFIGS:
        raise Fault("the embedded teacher writes Chinese only: it translates between 简 and 繁")
    return convert(item, target)
