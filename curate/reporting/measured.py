"""What the stages wrote about themselves: their metrics, as types, without the fields that `report` does not show."""

from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from curate.decisions import Rate
from schemas.faults import Fault

M = TypeVar("M")
Interval = tuple[float, float]


class Asked(Struct, frozen=True):
    """One topic's questions, asked for."""

    requests: int
    valid: int
    reasked: int
    prompt_tokens: int
    completion_tokens: int


class Validate(Struct, frozen=True):
    """Replies that became records."""

    responses: int
    kept: int
    rejected: dict[str, int]
    repaired: dict[str, int]
    answer_longest: float
    """Share of the records whose right option is the longest; 0.25 if length tells nothing."""
    answer_ratio: float
    """Its mean width to that of the others."""
    answer_all_or_none: int
    topics: dict[str, int]


class Kept(Struct, frozen=True):
    """What a stage kept and dropped."""

    records: int
    kept: int
    rejected: dict[str, int]


class Dedup(Kept, frozen=True):
    """And how many rows are like another but for their answer."""

    near_other_answer: int


class Agreement(Struct, frozen=True):
    """How far two reviewers agree whether to accept."""

    records: int
    agreed: int
    kappa: float | None


class Review(Rate, frozen=True):
    """What reviewers decided about the records before the gate."""

    rejected: int
    edited: int
    stale: int
    """Decisions about records that have changed since: they are not applied."""
    not_there: int
    """Records decided about that are no more."""
    overruled: int
    """Records that verify or judge would have dropped."""
    topics: dict[str, Rate]
    kappa: dict[str, Agreement]
    """By the names of two."""


class Gate(Kept, frozen=True):
    """And what reviewers decided."""

    review: Review


class Balance(Kept, frozen=True):
    """And the answer letters, before and after."""

    letters_before: dict[str, int]
    letters: dict[str, int]


class Nearest(Struct, frozen=True):
    """How similar the nearest question of another side is to those of the test side; None without such."""

    median: float | None
    p90: float | None
    p99: float | None
    max: float | None


class Split(Struct, frozen=True):
    """Where the records went."""

    records: int
    train: int
    rollout: int
    validation: int
    test: int
    author: int
    set_aside: int
    clusters: int
    largest_cluster: int
    threshold: float
    nearest_to_test: Nearest


class PairsOf(Struct, frozen=True):
    """The preference pairs of one type."""

    pairs: int
    chosen_characters: float | None
    rejected_characters: float | None
    dropped: dict[str, int]


class Pairs(Struct, frozen=True):
    """The preference pairs."""

    pairs: int
    types: dict[str, PairsOf]


class Right(Struct, frozen=True):
    """How many of some test questions were answered right."""

    n: int
    accuracy: float
    wilson95: Interval


class Variant(Right, frozen=True):
    """The same of all of them, and part by part."""

    answers: dict[str, int]
    by_topic: dict[str, Right]
    by_difficulty: dict[str, Right]
    by_type: dict[str, Right]


class Compared(Struct, frozen=True, rename={"from_": "from"}):
    """How one variant differs from another on the same questions."""

    from_: str
    to: str
    difference: float
    interval95: Interval
    mcnemar_p: float


class Score(Struct, frozen=True):
    """Every trained variant against the key."""

    n: int
    key_answers: dict[str, int]
    variants: dict[str, Variant]
    pairs: list[Compared]


def read(path: Path, type_: type[M]) -> M:
    """Return the metrics in a file; Fault if it is not there, or of another version of its stage."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=type_)
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}; its stage writes it, run `dvc repro {path.stem}`") from None
    except msgspec.DecodeError as error:
        raise Fault(f"{path}: {error}; run `dvc repro {path.stem}`") from None


def if_there(path: Path, type_: type[M]) -> M | None:
    """Return the same, or None if there is no such file."""
    return read(path, type_) if path.is_file() else None
