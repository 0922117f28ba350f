"""The scores of trained models on two versions of the bank, and on the test questions that both have.

Accuracies on two test sets are of different questions. Where what was handed in is at hand, the questions that are the
same in both tests are counted once more by themselves: those alone compare the models.
"""

import csv
import io
from collections.abc import Callable, Mapping
from math import sqrt

import msgspec
import numpy as np
from msgspec import Struct

from curate.auditing.changes import BIT, SIDES, Bank, Changes, digest
from curate.auditing.revisions import Missing, Version
from schemas.interval import Z, wilson
from schemas.record import LETTERS

SCORE = "metrics/score.json"
SUBMISSION = "submissions/{}/submission.csv"
OTHER = BIT["question"] | BIT["options"] | BIT["answer"]
"""What makes another question for a model; another order of the options does not."""

Interval = tuple[float, float]


class Accuracy(Struct, frozen=True):
    """Of how many answers how many are right, with the 95 % interval of Wilson."""

    n: int
    accuracy: float
    wilson95: Interval


class Score(Struct, frozen=True):
    """What is needed of metrics/score.json."""

    n: int = 0
    variants: dict[str, Accuracy] = {}


class Shared(Struct, frozen=True):
    """Both models on the same questions; the interval of the difference is Wald's for paired shares."""

    before: Accuracy
    after: Accuracy
    difference: float
    interval95: Interval


class Variant(Struct, frozen=True):
    """A variant in both versions; None: not in that one."""

    name: str
    before: Accuracy | None
    after: Accuracy | None
    difference: float | None
    """Of the accuracies as they were scored, whichever the questions."""
    shared: Shared | None


class Scores(Struct, frozen=True):
    """What both versions' models score, and how far the tests are one."""

    test_before: int
    test_after: int
    test_shared: int
    """Questions of both tests, options in whichever order."""
    variants: tuple[Variant, ...]


def scores(
    a: Version, b: Version, banks: tuple[Bank, Bank], changes: Changes, note: Callable[[str], None]
) -> Scores | None:
    """Return the scores of both; None if neither has any."""
    before, after = _score(a, note), _score(b, note)
    sides = [bank.rows["side"] == SIDES.index("test") for bank in banks]
    shared = sides[0][changes.a] & sides[1][changes.b] & ((changes.fields & OTHER) == 0)
    rows_a, rows_b = banks[0].rows[changes.a[shared]], banks[1].rows[changes.b[shared]]
    variants = []
    for name in dict.fromkeys([*before, *after]):
        one, other = before.get(name), after.get(name)
        fair = None
        if one and other and len(rows_a):
            fair = _shared(_right(a, name, rows_a, note), _right(b, name, rows_b, note))
        difference = round(other.accuracy - one.accuracy, 4) if one and other else None
        variants.append(Variant(name, one, other, difference, fair))
    if not variants:
        return None
    return Scores(int(sides[0].sum()), int(sides[1].sum()), int(shared.sum()), tuple(variants))


def _score(version: Version, note: Callable[[str], None]) -> Mapping[str, Accuracy]:
    if not version.has(SCORE):
        note(f"{SCORE}: not there as of {version}, so its models' scores are not known")
        return {}
    try:
        return msgspec.json.decode(version.read(SCORE), type=Score).variants
    except (Missing, msgspec.DecodeError) as error:
        note(str(error) if isinstance(error, Missing) else f"{SCORE} as of {version}: {error}")
        return {}


def _right(
    version: Version, name: str, rows: "np.ndarray[tuple[int], np.dtype[np.void]]", note: Callable[[str], None]
) -> dict[int, bool]:
    """Return for the places of some test questions whether they were answered rightly; those without answer are out."""
    path = SUBMISSION.format(name)
    try:
        text = version.read(path).decode("utf-8-sig", "replace")
    except Missing as error:
        note(str(error))
        return {}
    given = {
        digest(row["id"].encode()): row["answer"]
        for row in csv.DictReader(io.StringIO(text, newline=""))
        if row.get("id") and row.get("answer")
    }
    right = zip(rows["id"].tolist(), rows["answer"].tolist(), strict=True)
    return {
        place: given[id_] == LETTERS[answer]
        for place, (id_, answer) in enumerate(right)
        if id_ in given and answer >= 0
    }


def _shared(before: Mapping[int, bool], after: Mapping[int, bool]) -> Shared | None:
    both = before.keys() & after.keys()
    n = len(both)
    if not n:
        return None
    lost = sum(before[place] and not after[place] for place in both)
    won = sum(after[place] and not before[place] for place in both)
    difference = (won - lost) / n
    half = Z * sqrt(max(0.0, won + lost - (won - lost) ** 2 / n)) / n
    rights = [sum(found[place] for place in both) for found in (before, after)]
    one, other = (_accuracy(right, n) for right in rights)
    return Shared(one, other, round(difference, 4), (round(difference - half, 4), round(difference + half, 4)))


def _accuracy(right: int, n: int) -> Accuracy:
    low, high = wilson(right, n)
    return Accuracy(n, round(right / n, 4), (round(low, 4), round(high, 4)))
