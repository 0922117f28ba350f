"""The figures of the quality page, each once: as bars on the page, and as a table that DVC plots.

A figure's file is its name with .csv; what dvc.yaml says of it under `plots:` (title, columns, labels), a test holds to
what is said here.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise

from msgspec import Struct

from curate.reporting.measured import Right
from curate.reporting.quality import SIDES, Quality, in_order
from curate.reporting.tallies import EXACT, MARKS
from curate.tsv import encode
from schemas.page import Bars
from schemas.record import LETTERS

EDGES = (0, 5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1000, 1500, 2000, 3000, 4000, 6000)
"""Where the bins of lengths begin, in characters; fixed, so that the same bin is the same in every version."""

Number = int | float | None


class Figure(Struct, frozen=True):
    """A number or several for each of some labels."""

    name: str
    title: str
    label: str
    """What the labels are: the name of the first column."""
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[Number, ...]]
    """For each label a number in each column."""
    shown: tuple[str, ...]
    """The columns that are drawn; DVC draws the first of them."""
    note: str = ""
    shares: bool = False
    """What is drawn are shares, which people read in percent."""

    def bars(self) -> Bars:
        """Return the figure as the page draws it."""
        at = {name: self.columns.index(name) for name in self.shown}
        return Bars(
            title=self.title,
            labels=tuple(self.rows),
            series={name: tuple(self._drawn(row[k]) for row in self.rows.values()) for name, k in at.items()},
            unit="%" if self.shares else "",
            note=self.note,
        )

    def _drawn(self, number: Number) -> Number:
        return round(100 * number, 2) if self.shares and number is not None else number

    def csv(self) -> bytes:
        """Return the figure as DVC reads it; a number that is not known is NaN, for an empty cell is drawn as zero."""
        rows = [
            [label, *("NaN" if number is None else f"{number}" for number in row)] for label, row in self.rows.items()
        ]
        return encode([[self.label, *self.columns], *rows], ",")


def figures(quality: Quality) -> dict[str, Figure]:
    """Return the figures by name, in the order of the page."""
    return {figure.name: figure for figure in (make(quality) for make in FIGURES)}


def funnel(quality: Quality) -> Figure:
    """What each stage leaves."""
    left = quality.funnel
    first = max(1, quality.validate.responses)
    rows = {stage: (count, _round(count / first)) for stage, count in left.items()}
    note = "Replies, then the records that each stage keeps; after split, those on its sides."
    return Figure("funnel", "Rows left after each stage", "stage", ("rows", "share"), rows, ("rows",), note)


def rejected(quality: Quality) -> Figure:
    """What was dropped, by stage and reason."""
    rows = {f"{stage}: {reason}": (count,) for (stage, reason), count in quality.rejects.reasons.items()}
    return Figure("rejects", "Rows dropped, by reason", "reason", ("rows",), rows, ("rows",))


def repairs(quality: Quality) -> Figure:
    """What was mended in replies."""
    rows = {name: (count,) for name, count in sorted(quality.validate.repaired.items())}
    return Figure("repairs", "Replies mended, by repair", "repair", ("replies",), rows, ("replies",))


def topics(quality: Quality) -> Figure:
    """What each topic has in the bank."""
    asked = quality.responses
    rows = {
        topic: (count, asked.get(topic, 0), _share(count, asked.get(topic, 0)))
        for topic, count in quality.topics.items()
    }
    columns = ("records", "replies", "yield")
    return Figure("topics", "Records of the bank, by topic", "topic", columns, rows, ("records", "replies"))


def letters(quality: Quality) -> Figure:
    """How often each letter is the answer."""
    sides = {"bank": SIDES} | {side: (side,) for side in SIDES}
    counts = {name: quality.letters(*of) for name, of in sides.items()}
    rows: dict[str, tuple[Number, ...]] = {
        letter: tuple(_share(count[letter], sum(count.values())) for count in counts.values()) for letter in LETTERS
    }
    note = "The share of the records whose answer it is; a quarter is even."
    return Figure(
        "letters", "Answer letters", "letter", tuple(sides), rows, ("bank", "train", "test"), note, shares=True
    )


def questions(quality: Quality) -> Figure:
    """How long the questions are."""
    return _lengths(quality, "question")


def options(quality: Quality) -> Figure:
    """How long the options are."""
    return _lengths(quality, "option")


def chains(quality: Quality) -> Figure:
    """How long the chains are."""
    return _lengths(quality, "chain")


def _lengths(quality: Quality, part: str) -> Figure:
    sizes = {size: count for (of, size), count in quality.bank.lengths.items() if of == part}
    counts = dict.fromkeys(EDGES, 0)
    for size, count in sizes.items():
        counts[EDGES[bisect_right(EDGES, size) - 1]] += count
    last = max((n for n, count in enumerate(counts.values(), 1) if count), default=0)
    total = max(1, sum(counts.values()))
    labels = [*(f"{low}–{high - 1}" for low, high in pairwise(EDGES)), f"{EDGES[-1]}–"]
    # The empty bins before the first stay: of two versions drawn in one plot the bins are in order all the same.
    rows = {label: (_round(count / total),) for label, count in list(zip(labels, counts.values(), strict=True))[:last]}
    title = f"Length of the {part}s, in characters"
    return Figure(f"{part}s", title, "characters", ("share",), rows, ("share",), shares=True)


def neutrality(quality: Quality) -> Figure:
    """How neutral the words of the chains are: the mean, and the share below 0.5."""
    bank = quality.bank
    rows = {
        topic: (_round(bank.neutrality[topic] / EXACT / count), _round(bank.decrees[topic] / count))
        for topic, count in quality.topics.items()
        if count
    }
    title = "Chains that decree more than they weigh, by topic"
    return Figure("neutrality", title, "topic", ("neutrality", "below"), rows, ("below",), shares=True)


def agreement(quality: Quality) -> Figure:
    """How often those who do not see the answer give it."""
    said = quality.opinions
    given = in_order(quality.grid.topics, said.answers)
    rows = {topic: (_round(said.agreed[topic] / n), n) for topic, n in given.items() if n}
    note = "The share of the answers given without seeing the record's own that are the same."
    title = "Answers that agree, by topic"
    return Figure("agreement", title, "topic", ("agreement", "answers"), rows, ("agreement",), note, shares=True)


def marks(quality: Quality) -> Figure:
    """How the judge marks."""
    said = quality.opinions
    judged = said.judged.total()
    sums = {name: sum(said.marks[topic, name] for topic in said.judged) for name in MARKS if judged}
    rows = {name: (_round(total / judged), judged) for name, total in sums.items()}
    title = "Marks of the judge, from 1 to 5"
    return Figure("marks", title, "mark", ("mean", "records"), rows, ("mean",))


def accepted(quality: Quality) -> Figure:
    """How many records reviewers accept."""
    rates = quality.gate.review.topics
    rows = {topic: (rate.accept, rate.low, rate.high, rate.reviewed) for topic, rate in rates.items()}
    columns = ("accept", "low", "high", "reviewed")
    note = "Records drawn by chance that no reviewer rejects or edits; the 95 % interval is in the table."
    return Figure("accept", "Records accepted, by topic", "topic", columns, rows, ("accept",), note, shares=True)


def sides(quality: Quality) -> Figure:
    """How many records each side has."""
    split = quality.split
    rows = {side: (getattr(split, side),) for side in SIDES} | {"set aside": (split.set_aside,)}
    return Figure("sides", "Records, by side", "side", ("records",), rows, ("records",))


def pairs(quality: Quality) -> Figure:
    """How many preference pairs there are."""
    types = quality.pairs.types if quality.pairs else {}
    rows = {name: (of.pairs,) for name, of in types.items()}
    return Figure("pairs", "Preference pairs, by type", "type", ("pairs",), rows, ("pairs",))


def accuracy(quality: Quality) -> Figure:
    """How many test questions each variant answers right."""
    variants = quality.score.variants if quality.score else {}
    rows = {name: (variant.accuracy, *variant.wilson95) for name, variant in variants.items()}
    note = "The share of the test questions answered right; chance gives 25 %; the 95 % intervals are in the table."
    columns = ("accuracy", "low", "high")
    return Figure("accuracy", "Accuracy, by variant", "variant", columns, rows, ("accuracy",), note, shares=True)


def accuracy_by_topic(quality: Quality) -> Figure:
    """The same by topic; `best` is the variant with the most right answers."""
    return _by(quality, "topic", quality.grid.topics)


def accuracy_by_type(quality: Quality) -> Figure:
    """The same by type of question."""
    return _by(quality, "type", quality.grid.types)


def _by(quality: Quality, label: str, first: Iterable[str]) -> Figure:
    variants = quality.score.variants if quality.score else {}
    groups: dict[str, dict[str, Right]] = {variant: getattr(of, f"by_{label}") for variant, of in variants.items()}
    labels = in_order(first, Counter(group for of in groups.values() for group in of))
    best = max(variants, key=lambda variant: variants[variant].accuracy, default=None)
    rows = {
        group: tuple(_of(groups[variant], group) for variant in (best, *groups) if variant)
        for group, count in labels.items()
        if count
    }
    title = f"Accuracy, by {label}"
    return Figure(f"accuracy_{label}", title, label, ("best", *groups), rows, tuple(groups), shares=True)


def _of(groups: dict[str, Right], group: str) -> float | None:
    return groups[group].accuracy if group in groups else None


def _share(count: int, of: int) -> float | None:
    return _round(count / of) if of else None


def _round(number: float) -> float:
    return round(number, 4)


FIGURES = (
    funnel,
    rejected,
    repairs,
    topics,
    letters,
    questions,
    options,
    chains,
    neutrality,
    agreement,
    marks,
    accepted,
    sides,
    pairs,
    accuracy,
    accuracy_by_topic,
    accuracy_by_type,
)
