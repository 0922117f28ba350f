"""Rewards: what a reply is worth, one aspect a function, each within 0 and 1, in simplified and traditional Chinese.

Signature and names are TRL's: a list of completions and the columns of the prompts in, a list of floats out. Each
reward is clamped by itself: a clamp on their sum would make the replies of a group equal and teach nothing.
"""

import re
from collections import deque
from collections.abc import Callable, Sequence
from statistics import fmean, pstdev
from typing import Any

from schemas import chain
from schemas.neutrality import neutrality_of, surplus
from train.answers import extract

Reward = Callable[..., list[float]]
Completion = str | Sequence[dict[str, str]]

# Simplified and traditional characters alike.
_FORMAT = re.compile(r"(?:答案|(?i:answer))\s*[：:]\s*[（(]?[A-DＡ-Ｄ](?![A-Za-z])")
_REASONS = re.compile(r"理由|因为|因為|根据|根據|<step|步骤|步驟|(?i:\bbecause\b|\bstep\s*\d)")

LONG = 256
"""Tokens up to which a reply loses nothing; it loses all of `length` at twice as many."""
WINDOW = 1_000
"""Rewards that a z-score looks back on."""


def format(completions: Sequence[Completion], **_: Any) -> list[float]:
    """The letter stands where it can be read: 答案：B, Answer: B or `<output>B</output>`."""
    return [float(_has_format(text)) for text in _texts(completions)]


def reasoning(completions: Sequence[Completion], **_: Any) -> list[float]:
    """The reply gives a reason (理由, 因为, 根据, because) or steps."""
    return [float(bool(_REASONS.search(text))) for text in _texts(completions)]


def neutrality(completions: Sequence[Completion], **_: Any) -> list[float]:
    """Words that weigh against words that decree, per length; 0.5 where there are none."""
    return [neutrality_of(text) for text in _texts(completions)]


def valid(completions: Sequence[Completion], **_: Any) -> list[float]:
    """An answer A to D is found, by whatever strategy."""
    return [float(extract(text) is not None) for text in _texts(completions)]


def correct(completions: Sequence[Completion], answer: Sequence[str], **_: Any) -> list[float]:
    """The answer found is the reference."""
    found = [extract(text) for text in _texts(completions)]
    return [float(got is not None and got[0] == right) for got, right in zip(found, answer, strict=True)]


def length(completions: Sequence[Completion], completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
    """Full marks up to LONG tokens, none from twice as many on, none for an empty reply."""
    return [_clamp(2 - len(ids) / LONG) if ids else 0.0 for ids in completion_ids]


def repetition(completions: Sequence[Completion], completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
    """The share of distinct runs of three tokens."""
    made = []
    for ids in completion_ids:
        runs = [tuple(ids[n : n + 3]) for n in range(len(ids) - 2)]
        made.append(len(set(runs)) / len(runs) if runs else 1.0)
    return made


def preset(completions: Sequence[Completion], **_: Any) -> list[float]:
    """The reference's single reward: base 0.5, format +0.3, reasons +0.2, balance +0.1, at least 0.7 with a valid
    answer, clamped to [0.1, 1.0]."""
    made = []
    for text in _texts(completions):
        value = 0.5 + 0.3 * _has_format(text) + 0.2 * bool(_REASONS.search(text))
        value += 0.1 * (surplus(text) > 0)
        if extract(text):
            value = max(value, 0.7)
        made.append(round(min(1.0, max(0.1, value)), 4))
    return made


class ZScore:
    """A reward as its distance from the mean of the last WINDOW rewards, in their standard deviations."""

    def __init__(self, reward: Reward) -> None:
        self.reward = reward
        self.__name__ = reward.__name__
        self.seen: deque[float] = deque(maxlen=WINDOW)

    def __call__(self, completions: Sequence[Completion], **columns: Any) -> list[float]:
        """Return the distances, 0 as long as all rewards are equal."""
        raw = self.reward(completions, **columns)
        self.seen.extend(raw)
        mean, spread = fmean(self.seen), pstdev(self.seen)
        return [(value - mean) / spread if spread > 1e-6 else 0.0 for value in raw]


def _has_format(text: str) -> bool:
    return bool(_FORMAT.search(text)) or chain.output(text) is not None


def _texts(completions: Sequence[Completion]) -> list[str]:
    return [text if isinstance(text, str) else text[-1]["content"] for text in completions]


def _clamp(value: float) -> float:
    return min(1.0, max(0.0, value))


REWARDS: dict[str, Reward] = {
    "format": format,
    "reasoning": reasoning,
    "neutrality": neutrality,
    "valid": valid,
    "correct": correct,
    "length": length,
    "repetition": repetition,
    "preset": preset,
}
