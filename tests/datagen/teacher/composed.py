"""Questions of every topic and cell, for the tests of what the embedded teacher makes of them."""

from collections.abc import Iterable, Iterator

from datagen.teacher.compose import compose
from datagen.teacher.forms import FORMS
from datagen.teacher.mathematics.compose import TOPICS as MATHEMATICS
from schemas import params
from schemas.record import LETTERS, Item, Letter

TOPICS = sorted(set(params.topics()) - set(MATHEMATICS))
"""Those with a fact sheet."""


def composed(topic: str, *, full: bool, seeds: Iterable[int]) -> Iterator[tuple[str, str, Item]]:
    """Yield the type, the difficulty and the question of each cell of a topic, for each seed."""
    for type_, difficulty in FORMS:
        for seed in seeds:
            yield type_, difficulty, compose(topic, difficulty, type_, seed, full=full)


def other(letter: Letter, by: int = 1) -> Letter:
    """Return another letter."""
    return LETTERS[(LETTERS.index(letter) + by) % 4]
