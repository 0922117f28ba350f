"""A record's chain argued to a wrong option: what a preference pair rejects where no teacher wrote it.

It is as long and as well formed as the record's own, so that a model can only tell them apart by what they say. Where
the right option's text stands in the chain, it and a distractor's change places throughout, letters too; elsewhere only
the letters that name the two and the output do.
"""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from curate.letters import Unclear, chain_texts, conclude, rewrite_all, with_chain
from schemas.record import LETTERS, Letter, Options, Record


class Argued(Struct, frozen=True):
    """A record whose chain argues for a wrong option, and how much of the chain had to change for it."""

    record: Record
    how: str
    """`text`: the options' texts changed places, their letters too; `letters`: the letters alone; `conclusion`: what
    surely names the answer, where other letters are unclear; `output`: nothing before the output."""


def argue(record: Record, wrong: Letter) -> Argued:
    """Return the record with its chain argued to a wrong option; its question and options stay."""
    exchanged = list(record.options)
    right_at, wrong_at = LETTERS.index(record.answer), LETTERS.index(wrong)
    exchanged[right_at], exchanged[wrong_at] = exchanged[wrong_at], exchanged[right_at]
    after: Options = (exchanged[0], exchanged[1], exchanged[2], exchanged[3])
    swap: dict[Letter, Letter] = {letter: letter for letter in LETTERS}
    swap[record.answer], swap[wrong] = wrong, record.answer
    texts = chain_texts(record)
    lettered = rewrite_all(texts, swap, record.options, after)
    if isinstance(lettered, Unclear):
        concluded = tuple(conclude(text, record.answer, wrong) for text in texts)
        return Argued(
            replace(with_chain(record, concluded), answer=wrong), "conclusion" if concluded != texts else "output"
        )
    exchange = _Exchange(record, wrong)
    how = "text" if exchange.real else "letters" if lettered != texts else "output"
    return Argued(replace(with_chain(record, [exchange(text) for text in lettered]), answer=wrong), how)


class _Exchange:
    """Exchanges the texts of the right and a wrong option; the other options and the question shield theirs."""

    def __init__(self, record: Record, wrong: Letter) -> None:
        right_text, wrong_text = record.text(record.answer), record.text(wrong)
        chain = "\n".join(chain_texts(record))
        self.instead = {right_text: wrong_text, wrong_text: right_text}
        self.fixed = sorted((record.question, *record.options), key=len, reverse=True)
        # A text of one character (是, 水) would be found inside other words; one that is not there argues for nothing.
        usable = min(len(right_text), len(wrong_text)) > 1 or (right_text + wrong_text).isascii()
        self.real = usable and any(piece == right_text for piece in self.pieces(chain))

    def __call__(self, text: str) -> str:
        return "".join(self.instead.get(piece, piece) for piece in self.pieces(text)) if self.real else text

    def pieces(self, text: str) -> Iterator[str]:
        """Yield the text cut around the question and the options, of overlapping ones the first, then the longest."""
        at = 0
        nexts = [(_whole(text, fixed, 0), order, fixed) for order, fixed in enumerate(self.fixed)]
        while True:
            nexts = [(start if start >= at else _whole(text, fixed, at), order, fixed) for start, order, fixed in nexts]
            start, _, fixed = min(nexts)
            if start == len(text):
                yield text[at:]
                return
            yield text[at:start]
            yield fixed
            at = start + len(fixed)


def _whole(text: str, piece: str, at: int) -> int:
    """Return where a piece stands that is not part of a longer number or Latin word; the text's length if nowhere."""
    while (start := text.find(piece, at)) >= 0:
        end = start + len(piece)
        if not (_joined(text, start) or _joined(text, end)):
            return start
        at = start + 1
    return len(text)


def _joined(text: str, at: int) -> bool:
    return 0 < at < len(text) and all(c.isascii() and c.isalnum() for c in text[at - 1 : at + 1])
