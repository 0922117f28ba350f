"""How alike questions are: the cosine of TF-IDF over runs of two and three characters, since Chinese has no spaces.

Compared is what poses a problem: the question, and options that are more than a value. Its words, the numbers masked,
make up WORDS of the likeness, its numbers the rest: a question whose numbers were all changed is nearly a copy, and one
of which a few were changed is nearer.
"""

import re
from collections import deque
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.record import Example, Item
from train.author.examine import item_of, posed

WINDOW = 1_000
"""Questions of its own that the author is compared with."""
WORDS = 0.7
"""How alike two questions are that have no number in common and all else."""
RUNS, NUMBERS = 4_096, 1_024
"""Columns that runs and numbers are hashed into: of some eighty runs of a question two in a hundred share theirs."""
KEPT = 16_384
"""Texts whose runs are kept."""

Floats = NDArray[np.float32]
Columns = NDArray[np.int64]
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_FACTOR = np.uint64(1_000_003)
_MIX = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: the high bits count


class Sparse(NamedTuple):
    """Questions as rows of unit length, what is 0 left out."""

    ends: Columns
    """Where each row ends, after a 0."""
    columns: Columns
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
        seen = np.zeros(RUNS + NUMBERS, np.int64)
        for text in texts:
            for columns, _ in _counted(text):
                seen[columns] += 1
        self.rarity: Floats = (np.log((1 + len(texts)) / (1 + seen)) + 1).astype(np.float32)
        self.taught = _sparse(texts, self.rarity)

    def add(self, questions: Iterable[str]) -> None:
        """Remember questions as the author's own."""
        for question in questions:
            if question not in self.own:
                self.own.append(question)

    def nearest(self, questions: Sequence[str]) -> list[float]:
        """Return how alike each question is to the one that it resembles most, from 0 to 1."""
        asked = _dense(questions, self.rarity)
        found = np.zeros(len(questions), np.float32)
        for known in (self.taught, _sparse(self.own, self.rarity)):
            if len(known.ends) > 1:
                found = np.maximum(found, _products(known, asked).max(0))
        return [round(min(1.0, float(value)), 6) for value in found]


def distances(questions: Sequence[str]) -> NDArray[np.float64]:
    """Return how far each question is from each other one, from 0 to 1; no run of characters counts as rare."""
    rows = _dense(questions, np.ones(RUNS + NUMBERS, np.float32))
    return np.clip(np.round(1.0 - (rows @ rows.T).astype(np.float64), 6), 0.0, 1.0)


def text_of(item: Item) -> str:
    """Return what of an item is compared: what poses its problem."""
    return "\n".join(posed(item))


def taught(chats: Iterable[Example]) -> list[str]:
    """Return what poses the problem in each item among chats."""
    found = (item_of(one.messages[-1].content) for one in chats)
    return [text_of(item) for item in found if isinstance(item, Item)]


def masked(question: str) -> str:
    """Return a question with every number masked: what is left if numbers do not count."""
    return _NUMBER.sub("#", question)


@lru_cache(KEPT)
def _counted(text: str) -> tuple[tuple[Columns, Columns], tuple[Columns, Columns]]:
    """Return the columns of a text's runs, numbers masked, with how often each comes; the same of its numbers."""
    one = _codes(f" {_NUMBER.sub('#', text)} ")
    two = one[:-1] * _FACTOR + one[1:]
    three = two[:-1] * _FACTOR + one[2:]
    runs = _columns(np.concatenate([two, three]), RUNS)
    numbers = [int(np.bitwise_xor.reduce(_codes(number) * _powers(len(number)))) for number in _NUMBER.findall(text)]
    return np.unique(runs, return_counts=True), np.unique(
        RUNS + _columns(np.array(numbers or [0], np.uint64), NUMBERS), return_counts=True
    )


def _codes(text: str) -> NDArray[np.uint64]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)


def _powers(count: int) -> NDArray[np.uint64]:
    return np.multiply.accumulate(np.full(count, _FACTOR))


def _columns(codes: NDArray[np.uint64], count: int) -> Columns:
    return ((codes * _MIX) >> np.uint64(64 - count.bit_length() + 1)).astype(np.int64)


def _weighed(text: str, rarity: Floats) -> tuple[Columns, Floats]:
    """Return the columns and values of a question's row: words and numbers each of a length, one together."""
    (runs, often), (numbers, count) = _counted(text)
    words, figures = often * rarity[runs], count * rarity[numbers]
    words *= np.sqrt(WORDS) / np.linalg.norm(words)
    figures *= np.sqrt(1 - WORDS) / np.linalg.norm(figures)
    return np.concatenate([runs, numbers]), np.concatenate([words, figures]).astype(np.float32)


def _dense(texts: Sequence[str], rarity: Floats) -> Floats:
    made = np.zeros((len(texts), RUNS + NUMBERS), np.float32)
    for row, text in zip(made, texts, strict=True):
        columns, values = _weighed(text, rarity)
        row[columns] = values
    return made


def _sparse(texts: Iterable[str], rarity: Floats) -> Sparse:
    rows = [_weighed(text, rarity) for text in texts]
    return Sparse(
        np.cumsum([0, *(len(columns) for columns, _ in rows)]),
        np.concatenate([np.zeros(0, np.int64), *(columns for columns, _ in rows)]),
        np.concatenate([np.zeros(0, np.float32), *(values for _, values in rows)]),
    )


def _products(known: Sparse, asked: Floats) -> Floats:
    """Return the product of each known row with each asked one."""
    import torch
    from torch.nn.functional import embedding_bag

    ends, columns, values = map(torch.from_numpy, known)
    table = torch.from_numpy(np.ascontiguousarray(asked.T))
    made: Floats = embedding_bag(columns, table, ends[:-1], mode="sum", per_sample_weights=values).numpy()
    return made
