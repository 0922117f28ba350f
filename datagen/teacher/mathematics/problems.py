"""A problem of mathematics: what is sought, its value, the steps to it and the mistakes that are made on the way."""

import re
from collections.abc import Callable
from fractions import Fraction
from random import Random

from msgspec import Struct

Number = int | Fraction
Mistake = tuple[Number, str]
"""The value that somebody gets, and what went wrong: words that follow 错在."""

LEAST, MOST, FINEST = -99, 999, 400  # values that a question may hold, and the greatest denominator
TRIES = 600
_NUMBER = re.compile("[0-9]+")


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


def draw(family: Family, rng: Random, *wished: Callable[[Problem], bool]) -> Problem:
    """Return a problem of a family with values of a fair size and three mistakes or more.

    It is one that is as wished if any is; of several wishes the first counts most, and those after it take its place
    where no problem fulfils it.
    """
    found: dict[int, Problem] = {}
    for _ in range(TRIES):
        problem = family(rng)
        if problem and fits(problem.value) and len(problem.slips()) >= 3:
            rank = next((n for n, wish in enumerate(wished) if wish(problem)), len(wished))
            if rank == 0:
                return problem
            found.setdefault(rank, problem)
    assert found, family.__name__
    return found[min(found)]


def largest(problem: Problem) -> int:
    """Return the largest number that is written in a problem or its steps."""
    return max(map(int, _NUMBER.findall("".join((problem.sought, *problem.steps)))), default=0)


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
