"""Vary an item: another framing of the same question, or the same kind of question about other facts."""

import hashlib
from collections.abc import Callable
from random import Random

from msgspec import Struct

from datagen.teacher import answer, chains, frames
from datagen.teacher.compose import SAMPLES, compose, shuffled
from datagen.teacher.reasons import Reasons, reason
from datagen.teacher.sheets import read
from schemas.faults import Fault
from schemas.record import LETTERS, Item

TRIES = 50
STRIDE = 1009  # between the seeds of one search, so that the searches of neighbouring seeds do not meet


class Wish(Struct, frozen=True):
    """The variation of an item that is asked for."""

    topic: str
    difficulty: str
    type: str
    variation: str
    seed: int
    full: bool

    def draw(self, item: Item) -> int:
        """Return a number that the item and the variation decide, and the seed moves on by one."""
        words = (self.topic, self.variation, item.question, *item.options)
        return int.from_bytes(hashlib.sha256("\n".join(words).encode()).digest()[:5]) + self.seed


def vary(item: Item, wish: Wish) -> Item:
    """Return the variation; Fault unless the item's question is one of the sheet with exactly one right option."""
    return VARIATIONS[wish.variation](item, wish)


def reframe(item: Item, wish: Wish) -> Item:
    """Ask the same in another situation; the options change places, the solution stays."""
    frame, text = frames.split(item.question)
    others = [other for other in frames.FRAMES[wish.variation] if other != frame]
    question = others[wish.draw(item) % len(others)] + text
    rng = Random(wish.draw(item))
    options = shuffled(item.options, rng)
    sheet = read(wish.topic)
    asked = answer.question(wish.topic, question)
    at = answer.solve(sheet, asked, options)
    return chains.write(question, options, at, reason(sheet, asked, options, at), rng, full=wish.full)


def other_facts(item: Item, wish: Wish) -> Item:
    """Ask in the same form for other facts, as the item's cell draws them; the stem or the right option is another."""
    known = _reasons(wish.topic, item).facts
    # Far from the seeds of the grid, so that what is drawn there is not drawn again.
    first = SAMPLES * SAMPLES + wish.draw(item)
    for n in range(TRIES):
        found = compose(wish.topic, wish.difficulty, wish.type, first + n * STRIDE, full=wish.full)
        if _asked(found) != _asked(item) and _reasons(wish.topic, found).facts != known:
            return found
    raise Fault(f"the embedded teacher finds no other facts for: {item.question}")


def _asked(item: Item) -> tuple[str, str]:
    return item.question, item.options[LETTERS.index(item.answer)]


def _reasons(topic: str, item: Item) -> Reasons:
    sheet = read(topic)
    asked = answer.question(topic, item.question)
    return reason(sheet, asked, item.options, answer.solve(sheet, asked, item.options))


VARIATIONS: dict[str, Callable[[Item, Wish], Item]] = {
    "context_change": reframe,
    "parameter_change": other_facts,
    "practical_application": reframe,
}
