"""Shuffle the options so that every answer letter is equally frequent, overall and in each topic.

gated.jsonl (Record) → balanced.jsonl (Record), rejects (Reject), metrics.

The chain follows: a letter that names an option is rewritten with it. Where that cannot be told with certainty, or an
option depends on its place (以上都是), the record keeps its order and is counted, and the others make up for it.

Each record draws its letter by itself, from the seed and its id; then as few as are needed are given another, those
with the lowest draws. So a record more or less changes the letters of a handful of others.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import permutations
from pathlib import Path
from statistics import median
from typing import Any

import click
import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from curate.letters import BREAK, Unclear, chain_texts, find, letter_of, rewrite_all, speaks_of_others, with_chain
from curate.rejects import reject
from curate.shards import Chunk, chunks, spread
from schemas.params import Count, Params, Positive, load
from schemas.record import LETTERS, Item, Letter, Options, Record
from schemas.rows import whole, write_json

Order = tuple[Letter, Letter, Letter, Letter]
"""For each new place A to D, the old letter whose option stands there."""
Cell = tuple[str, str, str]
"""Topic, difficulty and type."""
Ints = NDArray[np.int64]

UNMOVABLE = ("option_names_others", "letter_in_question", "letter_unclear")
STAY, FULL = 4, 5  # moves, beside the letters 0 to 3
MOVABLE = 255  # in place of an index of UNMOVABLE


class BalanceParams(Params, frozen=True):
    """What the shuffle depends on."""

    cell: Positive | None
    """Most records of one topic × difficulty × type; null: no bound."""
    seed: Count


class Seen(Struct, frozen=True):
    """What the plan needs to know of a piece of the bank: a number for each record, as the bytes of an array."""

    cells: list[Cell]
    cell: bytes
    """int32: an index of `cells`."""
    answer: bytes
    """uint8: an index of LETTERS."""
    unmovable: bytes
    """uint8: an index of UNMOVABLE, or MOVABLE."""
    draw: bytes
    """uint64."""


class Plan(Struct, frozen=True):
    """What is to become of each record, and what the bank comes to then."""

    moves: list[bytes]
    """By piece, for each record the index of the letter that its answer goes to, STAY or FULL."""
    unchanged: Counter[str]
    """By reason, the records whose options cannot be moved."""
    before: Counter[str]
    """Answers as they were, of the records that stay in the bank."""
    topics: dict[str, Counter[str]]
    """Answers as they shall be."""
    cells: list[int]
    """How many records stay in each."""
    full: int
    """Records above the bound of their cell."""


class Piece(Struct, frozen=True):
    """A chunk of the bank and its part of the plan."""

    chunk: Chunk
    moves: bytes


class Balanced(Struct, frozen=True):
    """A piece of the bank as it is to be written."""

    lines: list[bytes]
    """Of the records, in their order."""
    rejects: list[bytes]
    unclear: list[tuple[str, Letter, Letter]]
    """Topic, answer and planned answer of those that could not follow the plan."""


def see(seed: int, chunk: Chunk) -> Seen:
    """Return what the plan needs to know of a chunk of records."""
    return seen(chunk.rows(Record), seed)


def seen(records: Iterable[Record], seed: int) -> Seen:
    """Return what the plan needs to know of records."""
    cells: dict[Cell, int] = {}
    cell, answer, reasons, draw = [], bytearray(), bytearray(), []
    for record in records:
        cell.append(cells.setdefault((record.topic, record.difficulty, record.type), len(cells)))
        answer.append(LETTERS.index(record.answer))
        reason = unmovable(record)
        reasons.append(MOVABLE if reason is None else UNMOVABLE.index(reason))
        draw.append(_draw(seed, record.id))
    return Seen(
        cells=list(cells),
        cell=np.array(cell, np.int32).tobytes(),
        answer=bytes(answer),
        unmovable=bytes(reasons),
        draw=np.array(draw, np.uint64).tobytes(),
    )


def plan(pieces: Sequence[Seen], params: BalanceParams) -> Plan:
    """Return the moves that make the answer letters as even as the unmovable records allow, overall and by topic."""
    names = sorted({cell for piece in pieces for cell in piece.cells})
    topics = sorted({topic for topic, _, _ in names})
    index = {cell: at for at, cell in enumerate(names)}
    cell = np.concatenate(
        [np.zeros(0, np.int64)]
        + [
            np.array([index[name] for name in piece.cells], np.int64)[np.frombuffer(piece.cell, np.int32)]
            for piece in pieces
        ]
    )
    topic = np.array([topics.index(name[0]) for name in names], np.int64)[cell]
    answer = _array((piece.answer for piece in pieces), np.uint8)
    reason = _array((piece.unmovable for piece in pieces), np.uint8)
    draw = _array((piece.draw for piece in pieces), np.uint64)
    full = _ranks(cell, draw) >= (params.cell or len(cell))
    stay, move = ~full & (reason != MOVABLE), ~full & (reason == MOVABLE)
    fixed = _table(topic[stay], answer[stay], len(topics))
    free = np.bincount(topic[move], minlength=len(topics))
    quotas = level(fixed, free, [_draw(params.seed, name) for name in topics])
    moves = np.where(full, FULL, STAY).astype(np.uint8)
    moves[move] = _settled(topic[move], (draw[move] % 4).astype(np.int64), draw[move], quotas)
    ends = np.cumsum([len(piece.answer) for piece in pieces])
    return Plan(
        moves=[moves[end - len(piece.answer) : end].tobytes() for end, piece in zip(ends, pieces, strict=True)],
        unchanged=Counter({name: int(np.sum(reason[stay] == at)) for at, name in enumerate(UNMOVABLE)}),
        before=_counted(np.bincount(answer[~full], minlength=4)),
        topics={name: _counted(row) for name, row in zip(topics, fixed + quotas, strict=True)},
        cells=np.bincount(cell[~full], minlength=len(names)).tolist(),
        full=int(full.sum()),
    )


def _counted(counts: Ints) -> Counter[str]:
    return Counter(dict(zip(LETTERS, counts.tolist(), strict=True)))


def level(fixed: Ints, free: Ints, draws: Sequence[int]) -> Ints:
    """Return how many free records of each topic take each letter: a row for a topic, a column for a letter.

    Each topic is made even by itself, what is left over going to letters in an order that it draws. Then records go
    from the most to the least frequent letter overall: where a topic stays as even for it, and only if none does, where
    it becomes least uneven.
    """
    quotas = np.array([_filled(*topic) for topic in zip(fixed, free.tolist(), draws, strict=True)], np.int64)
    quotas = quotas.reshape(len(draws), len(LETTERS))
    sizes = np.maximum(fixed.sum(axis=1) + free, 1)
    while True:
        overall = (fixed + quotas).sum(axis=0)
        for most, least in sorted(permutations(range(4), 2), key=lambda pair: overall[pair[1]] - overall[pair[0]]):
            over = int(overall[most] - overall[least])
            able = np.flatnonzero(quotas[:, most]).tolist()
            if over < 2 or able:
                break
        if over < 2 or not able:
            return quotas
        gains = (fixed + quotas)[:, most] - (fixed + quotas)[:, least]
        row = max(able, key=lambda row: (min(gains[row], 1) if gains[row] > 0 else gains[row] / sizes[row], draws[row]))
        count = 1 if gains[row] > 0 else min(max(1, over // (16 * len(draws))), quotas[row, most])
        quotas[row, most] -= count
        quotas[row, least] += count


def _filled(fixed: Ints, free: int, draw: int) -> Ints:
    """Return how many of the free records take each letter so that, with the fixed ones, they are even."""
    quotas = np.zeros(len(LETTERS), np.int64)
    for lowest in range(1, len(LETTERS) + 1):
        # The letters with the fewest fixed records are filled to one level, the next one's if there are enough for it.
        open_ = np.argsort(fixed, kind="stable")[:lowest]
        room = fixed[open_].max() * lowest - fixed[open_].sum()
        if room > free:
            break
        level, left = divmod(free - room, lowest)
        quotas[:] = 0
        quotas[open_] = fixed[open_].max() - fixed[open_] + level
        quotas[[letter for letter in _turn(draw) if letter in open_][:left]] += 1
    return quotas


def _turn(draw: int) -> tuple[int, ...]:
    return list(permutations(range(len(LETTERS))))[draw % 24]


def _settled(topic: Ints, drawn: Ints, draw: NDArray[np.uint64], quotas: Ints) -> Ints:
    """Return the letters that records take; of those that drew one too frequent, the lowest draws take another."""
    have = _table(topic, drawn, len(quotas))
    leave = _ranks(topic * len(LETTERS) + drawn, draw) < np.maximum(have - quotas, 0)[topic, drawn]
    leaving = np.flatnonzero(leave)
    leaving = leaving[np.lexsort((draw[leaving], topic[leaving]))]
    settled = drawn.copy()
    settled[leaving] = np.repeat(np.tile(np.arange(4), len(quotas)), np.maximum(quotas - have, 0).ravel())
    return settled


def _ranks(group: Ints, draw: NDArray[np.uint64]) -> Ints:
    """Return each row's place among those of its group, the lowest draw first."""
    order = np.lexsort((draw, group))
    ranks = np.empty(len(group), np.int64)
    ranks[order] = np.arange(len(group)) - np.searchsorted(group[order], group[order])
    return ranks


def _table(topic: Ints, letter: Ints, topics: int) -> Ints:
    return np.bincount(topic * len(LETTERS) + letter, minlength=topics * len(LETTERS)).reshape(topics, len(LETTERS))


def _array(parts: Iterable[bytes], dtype: type[np.generic]) -> NDArray[Any]:
    return np.frombuffer(b"".join(parts), dtype)


def shuffled(seed: int, bound: int | None, piece: Piece) -> Balanced:
    """Return the lines of a chunk as they are to be written."""
    decode, encode = msgspec.json.Decoder(Record).decode, msgspec.json.Encoder().encode
    found = Balanced([], [], [])
    for line, move in zip(piece.chunk.lines(), piece.moves, strict=True):
        if move == STAY:
            found.lines.append(line)
            continue
        record = decode(line)
        if move == FULL:
            cell = f"{record.topic} × {record.difficulty} × {record.type}"
            found.rejects.append(
                encode(reject("balance", record, line, "cell_full", f"{cell} has {bound} records without it"))
            )
            continue
        target = LETTERS[move]
        moved = reorder(record, _order(record.answer, target, _draw(seed, record.id)))
        if isinstance(moved, Unclear):
            found.unclear.append((record.topic, record.answer, target))
            found.lines.append(line)
        else:
            found.lines.append(encode(moved))
    return found


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
        places = _taken(before[run])
        if places:
            # A letter has taken the place of a letter.
            turned = sorted(zip(after[run], places, strict=True), key=lambda pair: letter_of(pair[0][pair[1]]))
            steps[run] = [step for step, _ in turned]
    return tuple(steps)


def _taken(steps: tuple[str, ...]) -> list[int]:
    """Return where each of four steps speaks of its option, the first of A alone, the next of B; else nothing."""
    places: list[int] = []
    for step, letter in zip(steps, LETTERS, strict=True):
        found = find(step) if letter in step else ()
        if isinstance(found, Unclear) or [reference.letter for reference in found] != [letter]:
            return []
        places.append(found[0].at)
    return places


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


def metrics(found: Plan, unclear: Iterable[tuple[str, Letter, Letter]]) -> dict[str, object]:
    """Return the letter counts before and after, overall and by topic, the records left as they were, the cells.

    `uneven`: by how much of an even share a letter is more or less frequent overall.
    """
    unchanged, topics = Counter(found.unchanged), {topic: Counter(letters) for topic, letters in found.topics.items()}
    for topic, answer, planned in unclear:
        # The rare letter that would read otherwise in its new place.
        unchanged["unclear_after"] += 1
        topics[topic].update({answer: 1})
        topics[topic].subtract({planned: 1})
    letters = sum(topics.values(), Counter[str]())
    kept = letters.total()
    return {
        "records": kept + found.full,
        "kept": kept,
        "rejected": {"cell_full": found.full} if found.full else {},
        "moved": kept - unchanged.total(),
        "unchanged": {reason: count for reason, count in sorted(unchanged.items()) if count},
        "letters_before": _letters(found.before),
        "letters": _letters(letters),
        "uneven": round(max(abs(letters[letter] * 4 / kept - 1) for letter in LETTERS), 4) if kept else 0.0,
        "topics": {topic: _letters(counts) for topic, counts in topics.items()},
        "cells": {
            "count": len(found.cells),
            "smallest": min(found.cells, default=0),
            "median": median(found.cells) if found.cells else 0,
            "largest": max(found.cells, default=0),
        },
    }


def _letters(counts: Counter[str]) -> dict[str, int]:
    return {letter: counts[letter] for letter in LETTERS}


def _draw(seed: int, id_: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}:{id_}".encode(), digest_size=8).digest())


def _order(answer: Letter, target: Letter, draw: int) -> Order:
    """Return an order that puts the answer at its target and the distractors as drawn."""
    distractors = [letter for letter in LETTERS if letter != answer]
    order = list(list(permutations(distractors))[draw // 4 % 6])
    order.insert(LETTERS.index(target), answer)
    return (order[0], order[1], order[2], order[3])


@click.command()
@click.argument("records", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("rejects", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
def main(records: Path, out: Path, rejects: Path, metrics_file: Path) -> None:
    """Shuffle the options so that every answer letter is equally frequent."""
    params = load("balance", BalanceParams)
    found = plan(list(spread(partial(see, params.seed), chunks(records))), params)
    pieces = (Piece(chunk, moves) for chunk, moves in zip(chunks(records), found.moves, strict=True))
    unclear: list[tuple[str, Letter, Letter]] = []
    with ExitStack() as files:
        kept, dropped = (files.enter_context(whole(path)) for path in (out, rejects))
        for part in spread(partial(shuffled, params.seed, params.cell), pieces):
            kept.writelines(line + b"\n" for line in part.lines)
            dropped.writelines(line + b"\n" for line in part.rejects)
            unclear += part.unclear
    numbers = metrics(found, unclear)
    write_json(metrics_file, numbers)
    letters = " ".join(f"{letter} {count:,}" for letter, count in numbers["letters"].items())  # type: ignore[attr-defined]
    click.echo(f"balance: {numbers['moved']:,} of {numbers['kept']:,} shuffled; answers {letters}")


if __name__ == "__main__":
    from curate.balance import main as run  # workers find its functions under the module's own name

    run()
