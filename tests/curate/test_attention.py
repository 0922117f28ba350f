from collections import Counter

import pytest
from msgspec.structs import replace

from curate.decisions import Rate
from curate.reporting import measured, tallies
from curate.reporting.attention import RULES, findings, surely_below
from curate.reporting.quality import Quality
from schemas.record import LETTERS
from tests.curate.qualities import RATES, TYPES, a_bank, a_quality, a_variant, right


def with_review(**changes: object) -> Quality:
    quality = a_quality()
    return replace(quality, gate=replace(quality.gate, review=replace(quality.gate.review, **changes)))


def with_split(**changes: object) -> Quality:
    quality = a_quality()
    return replace(quality, split=replace(quality.split, **changes))


def with_opinions(**changes: object) -> Quality:
    quality = a_quality()
    return replace(quality, opinions=replace(quality.opinions, **changes))


def with_variant(**changes: object) -> Quality:
    quality = a_quality()
    return replace(quality, score=replace(quality.score, variants={"plain": a_variant(**changes)}))


def with_rejects(stage: str, reason: str, count: int, topic: str = "economy") -> Quality:
    """Replies as before, of which a stage dropped some."""
    found = tallies.Rejects(Counter({(stage, reason): count}), Counter({(topic, stage): count}))
    return a_quality(rejects=found)


def test_of_a_good_version_nothing_stands_out():
    assert findings(a_quality()) == []


def test_without_a_test_side_the_scores_are_those_of_a_test_of_the_users_own():
    bank = replace(a_quality().bank, letters=Counter({("train", letter): 300 for letter in LETTERS}))
    score = replace(a_quality().score, n=20, key_answers=dict.fromkeys(LETTERS, 5))

    found = findings(replace(with_split(test=0), bank=bank, score=score))

    assert not {one.what for one in found} & {"scores of another test set", "a side is empty"}


WRONG = [
    (lambda: a_quality(missing=("metrics/score.json",), score=None), "not there yet", "metrics/score.json"),
    (
        lambda: a_quality(score=replace(a_quality().score, n=3)),
        "scores of another test set",
        "metrics/score.json",
    ),
    (lambda: a_quality(balance=replace(a_quality().balance, records=7)), "of another run", "balance"),
    (lambda: with_split(train=7), "of another run", "metrics/split.json"),
    (lambda: with_review(reviewed=0), "nobody has reviewed", "the bank"),
    (lambda: with_review(stale=3), "reviews are stale", "curate/decisions.jsonl"),
    (
        lambda: with_review(topics={"economy": Rate(**RATES | {"accept": 0.75})}),
        "reviewers accept little",
        "economy",
    ),
    (lambda: with_review(kappa={"lin and wu": measured.Agreement(9, 5, 0.1)}), "reviewers disagree", "lin and wu"),
    (
        lambda: a_quality(asked={"economy": measured.Asked(100, 90, 5, 0, 0)}),
        "replies are bad",
        "economy",
    ),
    (lambda: with_rejects("dedup", "duplicate", 70), "many are dropped", "dedup: duplicate"),
    (lambda: with_rejects("dedup", "conflict", 1), "many are dropped", "dedup: conflict"),
    (lambda: with_rejects("validate", "not_xml", 200), "yields little", "economy"),
    (
        lambda: a_quality([record for record in a_bank() if record.type == TYPES[0] or record.topic == "economy"]),
        "cells are empty",
        "environment",
    ),
    (lambda: with_opinions(agreed=Counter(economy=80, environment=100)), "verify disagrees", "economy"),
    (
        lambda: with_opinions(marks=a_quality().opinions.marks - Counter({("economy", "rigor"): 30})),
        "marked low",
        "rigor",
    ),
    (
        lambda: with_opinions(
            marks=Counter(
                {
                    (topic, name): mark
                    for topic, mark in (("economy", 34), ("environment", 45))
                    for name in tallies.MARKS
                }
            )
        ),
        "marked low",
        "economy",
    ),
    (lambda: a_quality(a_bank(steps=("必须绝对唯一。",))), "chains take sides", "economy"),
    (
        lambda: a_quality([replace(record, answer="A") if n % 8 == 1 else record for n, record in enumerate(a_bank())]),
        "letters are uneven",
        "the bank",
    ),
    (
        lambda: a_quality(validate=replace(a_quality().validate, answer_longest=0.4)),
        "length tells the answer",
        "the bank",
    ),
    (lambda: with_split(rollout=0), "a side is empty", "rollout"),
    (lambda: with_split(test=90), "the test is small", "test"),
    (lambda: with_split(nearest_to_test=measured.Nearest(0.3, 0.5, 0.6, 0.7)), "a test question has a twin", "test"),
    (
        lambda: a_quality(pairs=measured.Pairs(0, {"biased": measured.PairsOf(0, None, None, {"too_long": 3})})),
        "no pairs of a type",
        "biased",
    ),
    (lambda: with_variant(wilson95=(0.2, 0.3), accuracy=0.26), "no better than chance", "plain"),
    (lambda: with_variant(answers=dict.fromkeys(LETTERS, 1) | {"D": 90}), "answers one letter", "plain"),
    (lambda: with_variant(by_topic={"economy": right(100, 0.5, 0.4, 0.6)}), "plain answers worse", "topic economy"),
    (lambda: with_variant(by_type={"factual": right(100, 0.5, 0.4, 0.6)}), "plain answers worse", "type factual"),
]


@pytest.mark.parametrize(("version", "what", "where"), WRONG)
def test_what_is_wrong_is_found_with_its_figure_and_where_to_look(version, what, where):
    found = findings(version())

    assert (what, where) in {(finding.what, finding.where) for finding in found}
    assert all(finding.figure and finding.look for finding in found)


def test_every_rule_finds_something_in_a_row_above():
    silent = set(RULES)

    for version, _, _ in WRONG:
        quality = version()
        silent -= {rule for rule in silent if any(rule(quality))}

    assert not silent


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"a": (900, 1000), "b": (700, 1000)}, ["b"]),  # clearly and surely
        ({"a": (9, 10), "b": (7, 10)}, []),  # clearly, but that may be chance
        ({"a": (90_000, 100_000), "b": (89_000, 100_000)}, []),  # surely, but by one in a hundred
        ({"a": (700, 1000), "b": (500, 1000), "c": (900, 1000)}, ["b"]),
        ({"a": (0, 0), "b": (0, 0)}, []),
        ({}, []),
    ],
)
def test_a_part_is_named_if_it_is_clearly_and_surely_below_the_whole(parts, named):
    assert [name for name, _, _ in surely_below(parts)] == named
