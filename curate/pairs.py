"""Preference pairs: the record's chain, and the same chain argued to a wrong option.

train.jsonl (Record) → pairs.jsonl (Pair), metrics.

The rejected chain is as long and as well formed as the chosen one, so that a model can only tell them apart by what
they say. Where the right option's text stands in the chain, it and a distractor's change places throughout, letters
too; elsewhere only the letters that name the two and the output do.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import click
from msgspec import Meta, Struct
from msgspec.structs import replace

from curate.convert import ConvertParams, PromptsParams
from curate.letters import Unclear, chain_texts, conclude, rewrite_all, with_chain
from schemas import chat
from schemas.params import ChatPrompt, Count, Params, load
from schemas.record import LETTERS, Letter, Options, Pair, Record
from schemas.rows import read, write, write_json

WHY = "wrong_answer"


class PairsParams(Params, frozen=True):
    """How many pairs a record gives."""

    per_record: Annotated[int, Meta(ge=1, le=3)]
    """Wrong answers made into rejected chains."""
    seed: Count


class Argued(Struct, frozen=True):
    """A record whose chain argues for a wrong option, and how much of the chain had to change for it."""

    record: Record
    how: str
    """`text`: the options' texts changed places, their letters too; `letters`: the letters alone; `conclusion`: what
    surely names the answer, where other letters are unclear; `output`: nothing before the output."""


class Paired(Struct, frozen=True):
    """The pairs in the order of the records, and how each was made."""

    pairs: list[Pair]
    how: dict[str, int]


def make_pairs(records: Iterable[Record], params: PairsParams, prompt: ChatPrompt, parts: tuple[str, ...]) -> Paired:
    """Return `per_record` pairs for each record, the wrong options drawn by seed and id."""
    pairs: list[Pair] = []
    how: Counter[str] = Counter()
    for record in records:
        asked = chat.ask(prompt, record.question, record.options)
        chosen = (chat.reply(record, parts),)
        for wrong in _drawn(record, params.seed)[: params.per_record]:
            argued = argue(record, wrong)
            how[argued.how] += 1
            pairs.append(
                Pair(
                    id=f"{record.id}.{wrong}",
                    prompt=asked,
                    chosen=chosen,
                    rejected=(chat.reply(argued.record, parts),),
                    why=WHY,
                )
            )
    return Paired(pairs, dict(sorted(how.items())))


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


def _drawn(record: Record, seed: int) -> list[Letter]:
    def draw(letter: Letter) -> bytes:
        return hashlib.blake2b(f"{seed}:{record.id}:{letter}".encode(), digest_size=8).digest()

    return sorted((letter for letter in LETTERS if letter != record.answer), key=draw)


@click.command()
@click.argument("train", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
def main(train: Path, out: Path, metrics_file: Path) -> None:
    """Make preference pairs: the right chain, and the same chain argued to a wrong option."""
    parts = load("convert", ConvertParams).parts
    prompt = load("prompts", PromptsParams).reasoning
    records = list(read(train, Record))
    found = make_pairs(records, load("pairs", PairsParams), prompt, parts)
    write(out, found.pairs)
    write_json(metrics_file, {"records": len(records), "pairs": len(found.pairs), "how": found.how})
    click.echo(f"pairs: {len(found.pairs):,} from {len(records):,} records")


if __name__ == "__main__":
    main()
