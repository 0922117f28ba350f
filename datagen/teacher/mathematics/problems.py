"""A problem of mathematics: what is sought, its value, the steps to it and the mistakes that are made on the way."""

from collections.abc import Callable
from fractions import Fraction
from random import Random

from msgspec import Struct

Number = int | Fraction
Mistake = tuple[Number, str]
"""The value that somebody gets, and what went wrong: words that follow 错在."""

LEAST, MOST, FINEST = -99, 999, 400  # values that a question may hold, and the greatest denominator
TRIES = 600


class Problem(Struct, frozen=True):
    """Something to be found out."""

    sought: str
    """A noun phrase: 方程3x+5=20的解."""
    value: Number
    steps: tuple[str, ...]
    """One to three, every equality in them true, without a stop at the end."""
    mistakes: tuple[Mistake, ...]
    about: str
    """What it exercises, as a noun."""

    def slips(self) -> tuple[Mistake, ...]:
        """The mistakes that lead to another value, each value once, those as whole as the right one first."""
        found: dict[Number, str] = {}
        for value, why in self.mistakes:
            if value != self.value and fits(value):
                found.setdefault(value, why)
        return tuple(sorted(found.items(), key=lambda slip: whole(slip[0]) != whole(self.value)))


Family = Callable[[Random], Problem | None]
"""What draws a problem; None for a draw that makes none."""


def draw(family: Family, rng: Random, fit: Callable[[Problem], bool] = lambda problem: True) -> Problem:
    """Return a problem of a family with values of a fair size and three mistakes or more, one that fits if any does."""
    found = None
    for _ in range(TRIES):
        problem = family(rng)
        if problem and fits(problem.value) and len(problem.slips()) >= 3:
            if fit(problem):
                return problem
            found = found or problem
    assert found is not None, family.__name__
    return found


def fits(value: Number) -> bool:
    """Whether a value is of a size that a short question holds."""
    return LEAST <= value <= MOST and Fraction(value).denominator <= FINEST


def whole(value: Number) -> bool:
    """Whether a value is an integer."""
    return Fraction(value).denominator == 1


def text(value: Number) -> str:
    """Write a value: 5, -3, 3/4."""
    return str(Fraction(value))


def bracketed(value: Number) -> str:
    """Write a value that follows an operator: 5, (-3), (3/4)."""
    return text(value) if value >= 0 and whole(value) else f"({text(value)})"


def polynomial(*terms: tuple[int, str]) -> str:
    """Write a sum of coefficients and powers: x^2-5x+6; a constant has the power ''."""
    written = ""
    for factor, power in terms:
        if factor:
            size = "" if abs(factor) == 1 and power else str(abs(factor))
            written += ("-" if factor < 0 else "+" if written else "") + size + power
    return written or "0"


def total(*values: Number) -> str:
    """Write a sum: 4-6-5."""
    first, *others = values
    written = text(first)
    for value in others:
        written += f"+{bracketed(value)}" if value >= 0 else f"-{bracketed(-value)}"
    return written
