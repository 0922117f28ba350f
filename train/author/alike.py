"""How alike questions are: TF-IDF over runs of two and three characters, since Chinese has no spaces.

Two questions are compared twice, as they stand and with every number masked; with their numbers masked they count as
NUMBERS_ALONE of it, so that one whose numbers alone were changed is nearly a copy, yet not the copy itself.
"""

import re
from collections import deque
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from train.author.examine import folded

WINDOW = 1_000
"""Questions of its own that the author is compared with."""
NUMBERS_ALONE = 0.8
"""How alike two questions are of which the numbers alone differ."""
DIMENSIONS = 4_096
"""Columns that runs are hashed into: of the some eighty of a question, two in a hundred share theirs with another."""
KEPT = 16_384
"""Texts whose runs are kept."""

Floats = NDArray[np.float32]
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_BITS = 64 - DIMENSIONS.bit_length() + 1


class Sparse(NamedTuple):
    """Texts as rows of unit length, what is 0 left out."""

    ends: NDArray[np.int64]
    """Where each row ends, after a 0."""
    columns: NDArray[np.int64]
    values: Floats


class Seen:
    """The questions that a new one is compared with: those the author was taught, and the last WINDOW of its own.

    Those that it was taught stay, however many it writes, or copying them would become new again. A question that is
    there already is not kept twice: copies push nothing out. How rare a run of characters is follows from what was
    taught alone, so that a comparison depends on the two texts and not on when it is made.
    """

    def __init__(self, taught: Iterable[str] = ()) -> None:
        self.own: deque[str] = deque(maxlen=WINDOW)
        texts = list(dict.fromkeys(taught))
        self._forms = [_Form(list(dict.fromkeys(map(form, texts)))) for form in FORMS]

    def add(self, questions: Iterable[str]) -> None:
        """Remember questions as the author's own."""
        for question in questions:
            if question not in self.own:
                self.own.append(question)

    def nearest(self, questions: Sequence[str]) -> list[float]:
        """Return how alike each question is to the one that it resembles most, from 0 to 1."""
        plain, numberless = (
            known.nearest([form(question) for question in questions], list(dict.fromkeys(map(form, self.own))))
            for form, known in zip(FORMS, self._forms, strict=True)
        )
        return [_both(a, b) for a, b in zip(plain, numberless, strict=True)]


class _Form:
    """What was taught, in one form."""

    def __init__(self, taught: Sequence[str]) -> None:
        seen = np.zeros(DIMENSIONS, np.int64)
        for text in taught:
            seen[_runs(text)[0]] += 1
        self.rarity = (np.log((1 + len(taught)) / (1 + seen)) + 1).astype(np.float32)
        self.taught = _sparse(taught, self.rarity)

    def nearest(self, texts: Sequence[str], own: Sequence[str]) -> list[float]:
        asked = _dense(texts, self.rarity)
        found = np.zeros(len(texts), np.float32)
        for known in (self.taught, _sparse(own, self.rarity)):
            if len(known.ends) > 1:
                found = np.maximum(found, _products(known, asked).max(0))
        return [float(value) for value in found]


def distances(questions: Sequence[str]) -> NDArray[np.float64]:
    """Return how far each question is from each other one, from 0 to 1; no run of characters counts as rare."""
    even = np.ones(DIMENSIONS, np.float32)
    plain, numberless = (_dense([form(question) for question in questions], even) for form in FORMS)
    alike: Floats = np.maximum(plain @ plain.T, NUMBERS_ALONE * (numberless @ numberless.T))
    return np.clip(np.round(1.0 - alike.astype(np.float64), 6), 0.0, 1.0)


def masked(question: str) -> str:
    """Return a question with every number masked: what is left if numbers do not count."""
    return _NUMBER.sub("#", folded(question))


def _both(plain: float, numberless: float) -> float:
    return round(min(1.0, max(plain, NUMBERS_ALONE * numberless)), 6)


@lru_cache(KEPT)
def _runs(text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the columns of the runs of two and three characters, each once, and how often each comes."""
    one = np.frombuffer(f" {text} ".encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    two = one[:-1] * np.uint64(1_000_003) + one[1:]
    three = two[:-1] * np.uint64(1_000_003) + one[2:]
    mixed = np.concatenate([two, three]) * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: the high bits count
    columns, counts = np.unique((mixed >> np.uint64(_BITS)).astype(np.int64), return_counts=True)
    return columns, counts


def _weighed(text: str, rarity: Floats) -> tuple[NDArray[np.int64], Floats]:
    columns, counts = _runs(text)
    values = counts.astype(np.float32) * rarity[columns]
    return columns, values / np.linalg.norm(values)


def _dense(texts: Sequence[str], rarity: Floats) -> Floats:
    made = np.zeros((len(texts), DIMENSIONS), np.float32)
    for row, text in zip(made, texts, strict=True):
        columns, values = _weighed(text, rarity)
        row[columns] = values
    return made


def _sparse(texts: Sequence[str], rarity: Floats) -> Sparse:
    found = [_weighed(text, rarity) for text in texts]
    empty: list[Any] = [np.zeros(0)]
    return Sparse(
        np.cumsum([0, *(len(columns) for columns, _ in found)]),
        np.concatenate([columns for columns, _ in found] or empty).astype(np.int64),
        np.concatenate([values for _, values in found] or empty).astype(np.float32),
    )


def _products(known: Sparse, asked: Floats) -> Floats:
    """Return the product of each known row with each asked one."""
    import torch
    from torch.nn.functional import embedding_bag

    ends, columns, values = map(torch.from_numpy, known)
    table = torch.from_numpy(np.ascontiguousarray(asked.T))
    made: Floats = embedding_bag(columns, table, ends[:-1], mode="sum", per_sample_weights=values).numpy()
    return made


FORMS = (folded, masked)
