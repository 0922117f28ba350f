"""What changed between two texts: by the word, and by the character in Chinese.

The time stays short for long texts: what is too much to compare token by token is compared by sentences first, and two
texts with little in common are one replaced by the other.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

CJK = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
TOKEN = re.compile(rf"[^\W{CJK}]+|\s+|.", re.DOTALL)
"""What is compared: words, but Chinese by the character."""
SENTENCE = re.compile(r".*?[。！？；\n.!?;]+\s*|.+", re.DOTALL)
WORK = 100_000
"""Pairs of equal tokens up to which two texts are compared token by token, in a tenth of a second or so; beyond it by
sentences first. Chinese text of 6,000 characters has about 40,000.
"""
SENTENCES = 1000
"""Sentences up to which two texts are compared at all."""
ALIKE = 0.35
"""The share that must be equal for the changes inside a text to be marked; with less it is replaced, unless half of
the shorter text is the other's beginning and end."""

Run = tuple[str, str]
"""`=`, `-` or `+`, and the text that is equal, taken away or added."""


def changes(before: str, after: str) -> list[Run]:
    """Return what leads from one text to another: stretches that are equal (`=`), taken away (`-`) and added (`+`).

    Two texts that have little in common come back as one taken away and the other added.
    """
    runs = _tidy(_compared(TOKEN.findall(before), TOKEN.findall(after)))
    same = sum(len(text) for kind, text in runs if kind == "=")
    ends = sum(len(text) for kind, text in {0: runs[0], len(runs): runs[-1]}.values() if kind == "=") if runs else 0
    if same >= ALIKE * max(len(before), len(after)) or ends >= min(len(before), len(after)) / 2:
        return runs
    return [(kind, text) for kind, text in (("-", before), ("+", after)) if text]


def _compared(before: list[str], after: list[str]) -> Iterator[Run]:
    """Yield the runs between two texts in tokens, in time that does not explode with their length."""
    first = _common(before, after)
    last = min(_common(before[::-1], after[::-1]), len(before) - first, len(after) - first)
    ends = len(before) - last, len(after) - last
    yield "=", "".join(before[:first])
    old, new = before[first : ends[0]], after[first : ends[1]]
    if _work(old, new) <= WORK:
        yield from _matched(old, new)
    else:
        yield from _by_sentence("".join(old), "".join(new))
    yield "=", "".join(before[ends[0] :])


def _by_sentence(before: str, after: str) -> Iterator[Run]:
    old, new = SENTENCE.findall(before), SENTENCE.findall(after)
    if max(len(old), len(new)) > SENTENCES:
        yield "-", before
        yield "+", after
        return
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new).get_opcodes():
        gone, come = TOKEN.findall("".join(old[a:b])), TOKEN.findall("".join(new[c:d]))
        if tag == "equal":
            yield "=", "".join(gone)
        elif _work(gone, come) <= WORK:
            yield from _matched(gone, come)
        else:
            yield "-", "".join(gone)
            yield "+", "".join(come)


def _matched(old: list[str], new: list[str]) -> Iterator[Run]:
    for tag, a, b, c, d in difflib.SequenceMatcher(str.isspace, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            yield "=", "".join(old[a:b])
        else:
            yield "-", "".join(old[a:b])
            yield "+", "".join(new[c:d])


def _work(old: Iterable[str], new: Iterable[str]) -> int:
    """Return how many pairs of equal tokens there are, which is what a comparison takes its time for."""
    there = Counter(new)
    return sum(count * there[token] for token, count in Counter(old).items() if not token.isspace())


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many tokens two texts begin with alike."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count


def _tidy(runs: Iterable[Run]) -> list[Run]:
    """Return the runs with neighbours of a kind joined, and a lone equal character between two changes changed too."""
    found = [(kind, text) for kind, text in runs if text]
    tidy: list[Run] = []
    gone = come = same = ""
    for n, (kind, text) in enumerate(found):
        lone = len(text.strip()) <= 1 and (gone or come) and n + 1 < len(found) and found[n + 1][0] != "="
        if kind == "=" and not lone:
            if gone or come:
                tidy += [("=", same), ("-", gone), ("+", come)]
                gone = come = same = ""
            same += text
        else:
            gone += text if kind != "+" else ""
            come += text if kind != "-" else ""
    return [(kind, text) for kind, text in [*tidy, ("=", same), ("-", gone), ("+", come)] if text]
