"""When two near rows ask and answer alike: the judgement that similarity alone cannot make."""

import re
import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Literal

from curate.fold import folded
from schemas.record import LETTERS, Record

Key = Literal["question", "body"]
SHORT = 8  # characters of an answer, below which a change is believed only if the other options have their like


def same(one: Record, other: Record, key: Key) -> bool:
    """Return whether two rows that are near by a key ask and answer alike.

    Stem and answer may differ as `scattered` says, but not in what is `telling`. A name that was changed and is changed
    in the chain as well is another name, and no slip. The answer of neither is another option of the other row; one
    character is never taken for another. The other options need their like in the other row where the chain is what
    makes the rows near, for else one question with other distractors would pass for a copy, and where a short answer
    (SHORT) was changed.
    """
    if telling(one) != telling(other):
        return False
    stem, other_stem = folded((one.question, other.question))
    if stem != other_stem and (not scattered(stem, other_stem) or _renamed(stem, other_stem, one, other)):
        return False
    (answer, *options), (other_answer, *other_options) = _options(one), _options(other)
    if answer != other_answer:
        changed_option = answer in other_options or other_answer in options
        if changed_option or min(len(answer), len(other_answer)) < 2 or not scattered(answer, other_answer):
            return False
    if key == "question" and (answer == other_answer or min(len(answer), len(other_answer)) >= SHORT):
        return True
    return all(any(_like(option, candidate) for candidate in other_options) for option in options)


def scattered(one: str, other: str) -> bool:
    """Return whether at most a quarter of a text was changed, rounded up, and no more than two characters in a row."""
    changes = [max(len(old), len(new)) for old, new, _, _ in _changes(one, other)]
    return max(changes, default=0) <= 2 and sum(changes) <= -(-min(len(one), len(other)) // 4)


def telling(record: Record) -> tuple[list[str], list[str]]:
    """Return what makes another question of a stem and another answer of an answer, however small it is."""
    stem, answer = (unicodedata.normalize("NFKC", text) for text in (record.question, answer_of(record)))
    return [found.lower() for found in TELLING.findall(stem)], [found.lower() for found in TELLING.findall(answer)]


def answer_of(record: Record) -> str:
    """Return the text of the right option."""
    return record.text(record.answer)


def chains(records: Sequence[Record]) -> list[str]:
    """Return the chains, folded."""
    return folded(["\n".join((r.think, *r.steps, r.reflection, r.adjustment or "")) for r in records])


def _options(record: Record) -> list[str]:
    """Return the options, folded, the answer first."""
    options = folded(record.options)
    return [options.pop(LETTERS.index(record.answer)), *options]


def _like(one: str, other: str) -> bool:
    return scattered(one, other) and TELLING.findall(one) == TELLING.findall(other)


def _renamed(stem: str, other_stem: str, one: Record, other: Record) -> bool:
    """Return whether a change in the stem, with a neighbour, was made in the chain too."""
    chain, other_chain = chains((one, other))
    return any(
        mine in chain and mine not in other_chain and theirs in other_chain and theirs not in chain
        for old, new, before, after in _changes(stem, other_stem)
        for mine, theirs in ((before + old, before + new), (old + after, new + after))
    )


def _changes(one: str, other: str) -> list[tuple[str, str, str, str]]:
    """Return what was changed in a text: old, new, and the characters before and after."""
    return [
        (one[a:b], other[c:d], one[max(a - 1, 0) : a], one[b : b + 1])
        for tag, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
        if tag != "equal"
    ]


# Numbers, negations, the signs of formulas, and the single letters and abbreviations that names differ in (vitamin A,
# DNA). A lone 一 is none: it is a number as seldom as the English "one".
TELLING = re.compile(
    r"[0-9]+|第[〇零一二三四五六七八九十百千万]+|[〇零一二三四五六七八九十百千万亿]{2,}|[二三四五六七八九十]"
    r"|[不非没沒無无未否勿莫除错錯误誤]"
    r"|(?i:\b(?:not|no|never|none|nor|neither|without|except|cannot|false|incorrect|wrong)\b|n['’]t\b)"
    r"|[-+*/=<>≤≥≠^%√]|(?<![A-Za-z])(?:[A-Za-z]|[A-Z]{2,})(?![A-Za-z])"
)
