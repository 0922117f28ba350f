"""How neutral a text sounds: words that weigh against words that decree, in simplified and traditional characters.

No word is a part of another or overlaps with one, so that each can be counted by itself.
"""

BALANCE = ("可能", "相对", "相對", "不同观点", "不同觀點", "平衡")
ABSOLUTES = ("绝对", "絕對", "必须", "必須", "唯一", "错误", "錯誤")


def neutrality_of(text: str) -> float:
    """Return 0.5, plus 10 × balance words and minus 10 × absolutes per character, clamped to [0, 1]."""
    return min(1.0, max(0.0, 0.5 + 10 * surplus(text) / max(20, len(text))))


def surplus(text: str) -> int:
    """Return how many more words of a text weigh than decree; negative if more decree."""
    return sum(map(text.count, BALANCE)) - sum(map(text.count, ABSOLUTES))
