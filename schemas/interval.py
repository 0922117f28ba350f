"""The interval of a share."""

from math import sqrt

Z = 1.959964
"""The normal distribution's quantile for 95 %."""


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the ends of the 95 % score interval of a share, `right` of `n` (Wilson 1927); 0 and 1 of nothing."""
    if not n:
        return 0.0, 1.0
    share, square = right / n, Z * Z
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = Z * sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    # At the ends the interval ends there too, which the arithmetic misses by a hair.
    return (0.0 if right == 0 else middle - half), (1.0 if right == n else middle + half)
