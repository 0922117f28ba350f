"""All that is known of the quality of one version: its grid, the metrics of its stages, the counts of its rows."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from msgspec import Struct

from curate.decisions import read as read_decisions
from curate.decisions import standing
from curate.reporting import measured, tallies
from schemas.params import Share, Topic, Wording, load, topics
from schemas.record import LETTERS, Decision, Side

SIDES: tuple[Side, ...] = get_args(Side)
DROP = ("validate", "dedup", "decontaminate", "gate", "balance", "split")
"""The stages that drop records, in the order of the pipeline."""


class Grid(Struct, frozen=True):
    """What was asked for, and what its gate demands."""

    topics: dict[str, Topic]
    difficulties: dict[str, Wording]
    types: dict[str, Wording]
    accept: float | None
    """Share of a topic's reviewed records that people must accept."""


class Reviewers(Struct, frozen=True):
    """What each reviewer last decided about each record, as it stood then."""

    verdicts: Counter[tuple[str, str]]
    """Reviewer, verdict."""
    reasons: Counter[str]
    """Of the rejects."""


class Quality(Struct, frozen=True):
    """One version."""

    grid: Grid
    asked: dict[str, measured.Asked]
    validate: measured.Validate
    dedup: measured.Dedup
    decontaminate: measured.Kept
    gate: measured.Gate
    balance: measured.Balance
    split: measured.Split
    pairs: measured.Pairs | None
    score: measured.Score | None
    bank: tallies.Tally
    rejects: tallies.Rejects
    opinions: tallies.Opinions
    reviewers: Reviewers
    missing: tuple[str, ...]
    """Files of later stages that are not there: what they say is left out."""

    @property
    def responses(self) -> dict[str, int]:
        """The replies of each configured topic, good and bad."""
        bad = self.rejects.topics
        return {topic: self.validate.topics.get(topic, 0) + bad[topic, "validate"] for topic in self.grid.topics}

    @property
    def topics(self) -> dict[str, int]:
        """The records of the bank by topic, the configured ones first and in their order."""
        return in_order(self.grid.topics, self.bank.topics)

    @property
    def funnel(self) -> dict[str, int]:
        """How many rows are left after each stage."""
        return {
            "responses": self.validate.responses,
            "validate": self.validate.kept,
            "dedup": self.dedup.kept,
            "decontaminate": self.decontaminate.kept,
            "gate": self.gate.kept,
            "balance": self.balance.kept,
            "split": self.bank.records,
        }

    @property
    def cells(self) -> dict[tuple[str, str, str], int]:
        """The records of each cell that a teacher is asked for, and of cells beyond it that have any."""
        topics = [topic for topic, of in self.grid.topics.items() if of.samples]
        asked = [(a, b, c) for a in topics for b in self.grid.difficulties for c in self.grid.types]
        return in_order(asked, self.bank.cells)

    @property
    def empty(self) -> list[tuple[str, str, str]]:
        """The cells without a record."""
        return [cell for cell, count in self.cells.items() if not count]

    def letters(self, *sides: Side) -> dict[str, int]:
        """How often each letter is the answer on these sides."""
        return {letter: sum(self.bank.letters[side, letter] for side in sides) for letter in LETTERS}

    def lost(self, stage: str) -> Counter[str]:
        """What a stage dropped, by reason."""
        return Counter({reason: n for (of, reason), n in self.rejects.reasons.items() if of == stage})


def in_order(first: Iterable[tallies.K], counts: Counter[tallies.K]) -> dict[tallies.K, int]:
    """Return the counts of what comes first, then those of all else by name."""
    names = list(first)
    return {name: counts[name] for name in (*names, *sorted(set(counts) - set(names)))}  # type: ignore[type-var]


def uneven(letters: dict[str, int]) -> float:
    """Return by how much the share of a letter is off a quarter, at most."""
    total = sum(letters.values())
    return max(abs(count / total - 1 / len(letters)) for count in letters.values()) if total else 0.0


def reviewers(decisions: Iterable[Decision]) -> Reviewers:
    """Return the counts of what was decided last."""
    last = {
        (id_, decision.reviewer): decision for id_, about in standing(decisions).items() for decision in about.decisions
    }
    return Reviewers(
        Counter((decision.reviewer, decision.verdict) for decision in last.values()),
        Counter(decision.reason for decision in last.values() if decision.reason is not None),
    )


def gathered(data: Path, metrics: Path, decisions: Path) -> Quality:
    """Return what the files of the stages say; Fault for one that is not there, but for those of the last stages."""
    grid = Grid(
        topics(),
        load("difficulties", dict[str, Wording]),
        load("types", dict[str, Wording]),
        load("gate.accept", Share | None),  # type: ignore[arg-type]  # a union is no type to mypy
    )
    asked = {
        topic: found
        for topic in grid.topics
        if (found := measured.if_there(metrics / "generate" / f"{topic}.json", measured.Asked))
    }
    last = (metrics / "pairs.json", data / "rejects/pairs.jsonl", metrics / "score.json")
    files = [data / "rejects" / f"{stage}.jsonl" for stage in DROP]
    return Quality(
        grid=grid,
        asked=asked,
        validate=measured.read(metrics / "validate.json", measured.Validate),
        dedup=measured.read(metrics / "dedup.json", measured.Dedup),
        decontaminate=measured.read(metrics / "decontaminate.json", measured.Kept),
        gate=measured.read(metrics / "gate.json", measured.Gate),
        balance=measured.read(metrics / "balance.json", measured.Balance),
        split=measured.read(metrics / "split.json", measured.Split),
        pairs=measured.if_there(metrics / "pairs.json", measured.Pairs),
        score=measured.if_there(metrics / "score.json", measured.Score),
        bank=tallies.bank((side, data / f"{side}.jsonl") for side in SIDES),
        rejects=tallies.rejects([*files, *([last[1]] if last[1].is_file() else [])]),
        opinions=tallies.opinions(
            data / "asked/verify.jsonl", data / "asked/judge.jsonl", data / "decontaminated.jsonl"
        ),
        reviewers=reviewers(read_decisions(decisions)),
        missing=tuple(str(path) for path in last if not path.is_file()),
    )
