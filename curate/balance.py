"""Shuffle the options so that every answer letter is equally frequent, overall and in each topic.

dedup.jsonl (Record) → balanced.jsonl (Record), metrics.

The chain follows: a letter that names an option is rewritten with it. Where that cannot be told with certainty, or an
option depends on its place (以上都是), the record keeps its order and is counted, and the others make up for it.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import permutations
from pathlib import Path

import click
from msgspec import Struct
from msgspec.structs import replace

from curate.letters import BREAK, Unclear, chain_texts, find, rewrite_all, speaks_of_others, with_chain
from schemas.params import Count, Params, load
from schemas.record import LETTERS, Item, Letter, Options, Record
from schemas.rows import read, write, write_json

Order = tuple[Letter, Letter, Letter, Letter]
"""For each new place A to D, the old letter whose option stands there."""


class BalanceParams(Params, frozen=True):
    """What the shuffle depends on."""

    seed: Count


class Balanced(Struct, frozen=True):
    """The records in their order, and why some keep theirs."""

    records: list[Record]
    unchanged: dict[str, int]
    """By reason, the records whose options could not be moved."""


def balance(records: Iterable[Record], params: BalanceParams) -> Balanced:
    """Return the records with their options shuffled, the answer letters as even as the unmovable ones allow."""
    records = list(records)
    in_topic: dict[str, Counter[Letter]] = defaultdict(Counter)
    overall: Counter[Letter] = Counter()
    unchanged: Counter[str] = Counter()
    movable: list[tuple[int, Record]] = []
    for record in records:
        reason = unmovable(record)
        if reason is None:
            movable.append((_draw(params.seed, record.id), record))
        else:
            unchanged[reason] += 1
            in_topic[record.topic][record.answer] += 1
            overall[record.answer] += 1
    shuffled: dict[str, Record] = {}
    for draw, record in sorted(movable, key=lambda pair: (pair[0], pair[1].id)):
        counts = in_topic[record.topic]
        wanted = _turned(draw)
        target = min(wanted, key=lambda letter: (counts[letter], overall[letter], wanted.index(letter)))
        moved = reorder(record, _order(record.answer, target, draw))
        if isinstance(moved, Unclear):
            # The rare letter that would read otherwise in its new place.
            unchanged["unclear_after"] += 1
            moved = record
        counts[moved.answer] += 1
        overall[moved.answer] += 1
        shuffled[record.id] = moved
    return Balanced([shuffled.get(record.id, record) for record in records], dict(sorted(unchanged.items())))


def unmovable(item: Item) -> str | None:
    """Return why the options of an item must keep their order, None if they may be shuffled."""
    if speaks_of_others(BREAK.join(item.options)):
        return "option_names_others"
    if find(item.question) != ():
        return "letter_in_question"
    if isinstance(find(BREAK.join(chain_texts(item)), item.options), Unclear):
        return "letter_unclear"
    return None


def reorder(record: Record, order: Order) -> Record | Unclear:
    """Return the record with its options in a new order and every reference in its chain led along."""
    old = record.options
    new: Options = tuple(record.text(letter) for letter in order)  # type: ignore[assignment]  # four of four
    moved: dict[Letter, Letter] = {was: LETTERS[place] for place, was in enumerate(order)}
    texts = rewrite_all(chain_texts(record), moved, old, new)
    if isinstance(texts, Unclear):
        return texts
    told = with_chain(record, texts)
    return replace(told, steps=_in_turn(record.steps, told.steps), options=new, answer=moved[record.answer])


def _in_turn(before: tuple[str, ...], after: tuple[str, ...]) -> tuple[str, ...]:
    """Return the steps with those that took the options one by one, A to D, taking them so again."""
    steps = list(after)
    for start in range(len(steps) - len(LETTERS) + 1):
        run = slice(start, start + len(LETTERS))
        if tuple(map(_only_letter, before[run])) == LETTERS:
            steps[run] = sorted(after[run], key=lambda step: _only_letter(step) or "")
    return tuple(steps)


def _only_letter(step: str) -> Letter | None:
    """The letter a step speaks of, if it speaks of one."""
    found = find(step)
    return found[0].letter if not isinstance(found, Unclear) and len(found) == 1 else None


def orders(record: Record, count: int, seed: int) -> list[Record]:
    """Return the record and, up to `count` of at most four, itself in other orders, the answer at another letter each.

    Only the record itself where its options cannot be moved.
    """
    found = [record]
    if count > 1 and unmovable(record) is None:
        at = LETTERS.index(record.answer)
        for turn in range(1, min(count, len(LETTERS))):
            order = _order(record.answer, LETTERS[(at + turn) % 4], _draw(seed + turn, record.id))
            moved = reorder(record, order)
            if not isinstance(moved, Unclear):
                found.append(moved)
    return found


def metrics(before: Iterable[Record], found: Balanced) -> dict[str, object]:
    """Return the letter counts before and after, overall and by topic, and the records left as they were."""
    topics: dict[str, Counter[str]] = defaultdict(Counter)
    for record in found.records:
        topics[record.topic][record.answer] += 1
    return {
        "records": len(found.records),
        "moved": len(found.records) - sum(found.unchanged.values()),
        "unchanged": found.unchanged,
        "letters_before": _letters(Counter(record.answer for record in before)),
        "letters": _letters(Counter(record.answer for record in found.records)),
        "topics": {topic: _letters(counts) for topic, counts in sorted(topics.items())},
    }


def _letters(counts: Counter[str]) -> dict[str, int]:
    return {letter: counts[letter] for letter in LETTERS}


def _draw(seed: int, id_: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}:{id_}".encode(), digest_size=8).digest())


def _turned(draw: int) -> Order:
    turn = draw % 4
    return (*LETTERS[turn:], *LETTERS[:turn])  # type: ignore[return-value]  # four of four


def _order(answer: Letter, target: Letter, draw: int) -> Order:
    """Return an order that puts the answer at its target and the distractors as drawn."""
    distractors = [letter for letter in LETTERS if letter != answer]
    order = list(list(permutations(distractors))[draw // 4 % 6])
    order.insert(LETTERS.index(target), answer)
    return (order[0], order[1], order[2], order[3])


@click.command()
@click.argument("records_file", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
def main(records_file: Path, out: Path, metrics_file: Path) -> None:
    """Shuffle the options so that every answer letter is equally frequent."""
    records = list(read(records_file, Record))
    found = balance(records, load("balance", BalanceParams))
    write(out, found.records)
    numbers = metrics(records, found)
    write_json(metrics_file, numbers)
    letters = " ".join(f"{letter} {count:,}" for letter, count in numbers["letters"].items())  # type: ignore[attr-defined]
    click.echo(f"balance: {numbers['moved']:,} of {numbers['records']:,} shuffled; answers {letters}")


if __name__ == "__main__":
    main()
