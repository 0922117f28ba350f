"""Find the letter in a reply, by a ladder of strategies, and say how often letters are right.

A rung fires only where it is sure enough that the rungs below it would do worse; which one fired is recorded with every
answer, so that a model that stops following its format is seen in the counts before it is seen in the score.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable
from math import sqrt

from schemas import chain
from schemas.record import LETTERS, Letter

NONE = "none"
_WIDE = str.maketrans("ＡＢＣＤ", "ABCD")

# A letter by itself: not part of a word, number or initials, and not a class (A股, B超, C级).
_ALONE = re.compile(r"(?<![A-Za-z0-9])(?<![A-Z]\.)([A-D])(?![A-Za-z0-9股级級类類超座轮輪型])(?!\.[A-Za-z]\.)")
# Opening marks, the letter, then the end, a line's end or closing punctuation; not a list (A、B) nor initials (A.I.).
_FIRST = re.compile(
    r"[\s*_`\"'“‘（(【\[]*(?:(?:选项|選項|[Oo]ption)\s*)?([A-D])"
    r"(?!\.[A-Za-z]\.)(?=\s*$|[^\S\n]*\n|[.。．:：;；!！)）】\]*_`\"'”’<]|[、,，](?!\s*[A-D](?![A-Za-z])))"
)
_OPENING = r"\s*(?:选项|選項|选择|選擇|选|選|[Oo]ption)?[\s（(【\[\"'“*_`]*"
_PHRASE = re.compile(
    r"(?:答案|(?i:answer|correct option|correct choice))\s*[】\]*_]*\s*(?:应该|應該|应当|應當|应|應|(?i:should be))?\s*"
    r"(?:选择|選擇|选|選|是|为|為|(?i:is)\b|[:：=＝])*" + _OPENING + r"([A-D])(?![A-Za-z0-9股])"
)
_EXPRESSIONS = (
    re.compile(r"\\boxed\{\s*(?:\\text\{)?\s*([A-D])\b"),
    re.compile(
        r"(?<![不非勿])(?<!不能)(?<!不应)(?<!不應)(?:选择|選擇|选|選)(?![项項])[\s（(【\"'“*]*([A-D])(?![A-Za-z0-9股])"
    ),
    re.compile(
        r"(?<![A-Za-z0-9])([A-D])\s*(?:项|項)?\s*[)）】]?\s*(?:是|为|為)?\s*(?:最)?(?:正确|正確|对的|對的|合适|合適)"
    ),
    re.compile(r"\b(?i:choose|select|pick|choice is)\s+(?:(?i:option|answer)\s+)?[(\"'*]*([A-D])(?![A-Za-z])"),
    re.compile(r"(?<![A-Za-z])([A-D])[)*\"']*\s+is\s+(?:the\s+)?(?:correct|right|best)\b"),
)


def extract(text: str) -> tuple[Letter, str] | None:
    """Return the letter a reply gives and the strategy that found it; None if it gives none."""
    text = text.translate(_WIDE)
    for name, strategy in STRATEGIES.items():
        letter = strategy(text)
        if letter:
            return letter, name
    return None


def answer(text: str, id: str) -> tuple[Letter, str]:
    """Return a reply's letter and strategy; where there is none, a letter drawn by the question's id and `none`."""
    drawn = LETTERS[hashlib.sha256(id.encode()).digest()[0] % 4]
    return extract(text) or (drawn, NONE)


def first_character(text: str) -> Letter | None:
    """The reply starts with the letter, closed by its end, the line's end or punctuation: `B`, `(B)`, `B. …`."""
    return _letter(_FIRST.match(text))


def output_tag(text: str) -> Letter | None:
    """The last `<output>` of a chain."""
    return chain.output(text)


def answer_phrase(text: str) -> Letter | None:
    """The last 答案：B, 答案是B, Answer: B or the answer is B; `答案不是A` is none."""
    found = list(_PHRASE.finditer(text))
    return _letter(found[-1]) if found else None


def expression(text: str) -> Letter | None:
    """The last of 选B, B是正确的, \\boxed{B}, choose B, B is correct; a negated one is none."""
    found = [match for pattern in _EXPRESSIONS for match in pattern.finditer(text)]
    return _letter(max(found, key=lambda match: match.start(1))) if found else None


def position(text: str) -> Letter | None:
    """The only letter of the last line that has one by itself."""
    for line in reversed(text.splitlines()):
        found = set(_ALONE.findall(line))
        if found:
            return LETTERS["ABCD".index(found.pop())] if len(found) == 1 else None
    return None


def frequency(text: str) -> Letter | None:
    """The letter that stands by itself more often than any other."""
    counted = Counter(_ALONE.findall(text)).most_common(2)
    if not counted or (len(counted) == 2 and counted[0][1] == counted[1][1]):
        return None
    return LETTERS["ABCD".index(counted[0][0])]


def _letter(match: re.Match[str] | None) -> Letter | None:
    return LETTERS["ABCD".index(match[1])] if match else None


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the Wilson 95 % interval of a share (Wilson 1927); it stays within 0 and 1 and is fair for small n."""
    if n == 0:
        return 0.0, 1.0
    z = 1.959964
    share = right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)


def accuracy(verdicts: Iterable[bool]) -> dict[str, float | int | list[float]]:
    """Return n, the share of right answers and its interval, as metrics files hold them."""
    known = list(verdicts)
    right = sum(known)
    return {
        "n": len(known),
        "accuracy": round(right / max(1, len(known)), 4),
        "wilson95": list(wilson(right, len(known))),
    }


# The ladder, surest first.
STRATEGIES: dict[str, Callable[[str], Letter | None]] = {
    "first_character": first_character,
    "output_tag": output_tag,
    "answer_phrase": answer_phrase,
    "expression": expression,
    "position": position,
    "frequency": frequency,
}
