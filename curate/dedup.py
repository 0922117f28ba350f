"""Drop questions that are asked twice, exactly or nearly; set aside those with two answers. Of twins the first stays.

validated.jsonl (Record) → dedup.jsonl (Record), rejects (Reject), metrics.

Rows are compared by two keys. The *question* is stem and options, in whatever order, width and punctuation: new
reasoning under an old question is a duplicate. The *body* is the whole row as a reader sees it: an edited copy is a
duplicate even where a short question no longer looks like the first. In this order:

- `duplicate_id`: an earlier row has this id; the row takes no further part.
- `conflict`: the same question with another answer. Neither can be trusted, so every row of that question is set aside,
  those that agree with each other too, and so is a row that would be a near duplicate of one of them: its answer is
  disputed as well.
- `duplicate`: the same question with the same answer.
- `near_duplicate`, `near_duplicate_body`: as similar as the threshold by one of the keys, and `same` says that both
  rows ask and answer alike. A nearly equal question that says something else is kept, for a 不 or a year makes another
  question of it; such rows are counted.

`kept` names a row that was kept. Of a row the driver holds two sketches and ROW, no text; what the exact comparison and
the reasons need is read again where it lies.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import click
import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from curate.alike import Key, answer_of, chains, same, telling
from curate.fold import folded, keys
from curate.lines import Lines, Piece, line_lengths
from curate.rejects import reject
from curate.shards import Chunk, WorkersParams, chunks, spread
from curate.similar import Candidates, Hashes, Near, Rows, candidates, similarities, sketch
from schemas.params import Count, Params, Positive, Share, load
from schemas.record import Record, Reject
from schemas.rows import whole, write_json

Mask = NDArray[np.bool_]
WHAT: dict[Key, str] = {"question": "question and options", "body": "the whole row"}
NAMED = 8  # rows that the reason of a conflict names
ROW = np.dtype(
    [
        ("id", "<u8", 2),
        ("question", "<u8", 2),
        ("answer", "<u8"),
        ("label", "<u8"),  # equal where `telling` is
        ("letters", "<u8"),  # of the answer, a bit each
        ("size", "<i8"),  # of the answer, in characters
        ("length", "<i8"),  # of the line, in bytes
    ]
)


class DedupParams(Params, frozen=True):
    """When two rows are one."""

    ngram: Positive
    """Characters."""
    permutations: Positive
    """Of the MinHash sketch; its bands follow from the threshold."""
    question: Share
    """Jaccard similarity of the n-grams of stem and options."""
    body: Share
    """The same of the whole row."""
    seed: Count

    def near(self, key: Key) -> Near:
        """When two rows are near by a key."""
        threshold = self.question if key == "question" else self.body
        return Near(ngram=self.ngram, permutations=self.permutations, threshold=threshold, seed=self.seed)


class Close(Struct, frozen=True):
    """A row that another is near to."""

    row: int
    similarity: float
    key: Key


class Conflict(Struct, frozen=True):
    """A question with several answers."""

    rows: list[int]
    """The first that give each answer, at most NAMED."""
    count: int
    """Of all its rows."""


class Deduped(Struct, frozen=True):
    """Which rows of a file stay and why the others do not; rows are numbered from 0."""

    first_of_id: dict[int, int]
    """The earlier row of the same id, of each row whose id is not new."""
    conflicts: dict[int, Conflict]
    """Of each row whose question has several answers."""
    question_of: Rows
    """Of each row, the first with the same question and the same answer."""
    suspects: dict[int, Close]
    """Of such first rows, those near to one whose question has several answers."""
    near: dict[int, Close]
    """Of such first rows, those near to a row that is kept."""
    near_other_answer: int
    """Rows kept though one before them is as similar as a duplicate: they ask or answer something else."""
    topics: Counter[str]
    """Of all rows."""
    lines: Lines

    def dropped(self) -> Mask:
        """Return which rows do not stay."""
        gone = np.zeros(len(self.question_of), bool)
        gone[[*self.suspects, *self.near]] = True
        dropped: Mask = gone[self.question_of] | (self.question_of != np.arange(len(gone)))
        dropped[[*self.first_of_id, *self.conflicts]] = True
        return dropped


class Part(Struct, frozen=True):
    """What the driver holds of the rows of a chunk."""

    rows: bytes
    """ROW of each."""
    questions: bytes
    """Sketches."""
    bodies: bytes
    topics: Counter[str]


def dedup(path: Path, params: DedupParams, workers: WorkersParams | None = None) -> Deduped:
    """Return what is to become of each row of a JSONL file of records."""
    held, questions, bodies, topics = bytearray(), bytearray(), bytearray(), Counter[str]()
    for part in spread(partial(_read, params), chunks(path), workers):
        held += part.rows
        questions += part.questions
        bodies += part.bodies
        topics.update(part.topics)
    rows = np.frombuffer(held, ROW)
    numbers = np.arange(len(rows))
    lines = Lines(path, rows["length"])
    first_of_id = _copies(rows["id"])
    entered = np.ones(len(rows), bool)
    entered[[*first_of_id]] = False
    question_of, conflicts = _questions(rows, numbers[entered])

    # A label of its own keeps a row that is gone already out of the search.
    entered &= question_of == numbers
    alone = numbers.astype(np.uint64) + np.uint64(1)
    labels = np.where(entered, rows["label"], rows["label"] ^ alone)
    any_label = np.where(entered, np.uint64(0), alone)

    def alike(one: Rows, other: Rows) -> Mask:
        """Whether two answers may be the same, by their letters: an edit changes two bits at most."""
        bits = np.bitwise_count(rows["letters"][one] ^ rows["letters"][other])
        passed: Mask = bits <= 2 * -(-np.minimum(rows["size"][one], rows["size"][other]) // 4)
        return passed

    def unlike(one: Rows, other: Rows) -> Mask:
        passed: Mask = (rows["label"][one] != rows["label"][other]) | ~alike(one, other)
        return passed

    by_question, by_body = params.near("question"), params.near("body")
    sketches = _sketches(questions, params)
    found: list[tuple[Key, Candidates]] = [
        ("question", candidates(sketches, by_question, labels, alike)),
        ("question", _best(candidates(sketches, by_question, any_label, unlike))),
    ]
    sketches = _sketches(bodies, params)
    del questions
    found.append(("body", candidates(sketches, by_body, labels, alike)))
    del sketches, bodies

    close, other_answer = _compare(found, lines, params, workers)
    suspects, near = _decide(close, conflicts)
    gone = conflicts.keys() | suspects.keys() | near.keys()
    return Deduped(
        first_of_id=first_of_id,
        conflicts=conflicts,
        question_of=question_of,
        suspects=suspects,
        near=near,
        near_other_answer=len({row for row, before in other_answer if not {row, before} & gone}),
        topics=topics,
        lines=lines,
    )


def bodies(records: list[Record], questions: list[str]) -> list[str]:
    """Return the whole rows as a reader sees them, folded: the questions, then the chains."""
    return [f"{question}\n{text}" for question, text in zip(questions, chains(records), strict=True)]


def kept_and_rejects(path: Path, found: Deduped) -> Iterator[tuple[bytes, list[Reject]]]:
    """Yield, chunk by chunk, the lines that stay, as they were, and a reject for each other one."""
    dropped = found.dropped()
    for chunk in chunks(path):
        lines = chunk.lines()
        start = chunk.line - 1
        gone = np.flatnonzero(dropped[start : start + len(lines)]).tolist()
        records = dict(zip(gone, Chunk(chunk.path, 0, b"\n".join(lines[at] for at in gone)).rows(Record), strict=True))
        named = sorted({row for at in gone for row in _named(start + at, found)})
        names = dict(zip(named, _records(found.lines.read(named)), strict=True))
        rejects = [_reject(start + at, records[at], lines[at], found, names) for at in gone]
        yield b"".join(line + b"\n" for at, line in enumerate(lines) if at not in records), rejects


def metrics(found: Deduped, rejects: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Return the counts: kept, by reason, by topic; of each reject its reason and topic."""
    topics, reasons = Counter(found.topics), Counter[str]()
    for reason, topic in rejects:
        topics[topic] -= 1
        reasons[reason] += 1
    return {
        "records": found.topics.total(),
        "kept": topics.total(),
        "rejected": dict(sorted(reasons.items())),
        "near_other_answer": found.near_other_answer,
        "topics": dict(sorted((+topics).items())),
    }


def _read(params: DedupParams, chunk: Chunk) -> Part:
    records = list(chunk.rows(Record))
    questions = keys(records)
    answers = folded([answer_of(record) for record in records])
    rows = np.zeros(len(records), ROW)
    rows["id"] = _digests([record.id for record in records])
    rows["question"] = _digests(questions)
    rows["answer"] = _digests(answers)[:, 0]
    rows["label"] = _digests(["\n".join((*stem, "", *answer)) for stem, answer in map(telling, records)])[:, 0]
    rows["letters"] = [_letters(answer) for answer in answers]
    rows["size"] = [len(answer) for answer in answers]
    rows["length"] = np.frombuffer(line_lengths(chunk), np.int64)
    return Part(
        rows=rows.tobytes(),
        questions=sketch(questions, params.near("question")).tobytes(),
        bodies=sketch(bodies(records, questions), params.near("body")).tobytes(),
        topics=Counter(record.topic for record in records),
    )


def _digests(texts: list[str]) -> Hashes:
    """Return 128 bits of each text."""
    joined = b"".join(blake2b(text.encode(), digest_size=16).digest() for text in texts)
    return np.frombuffer(joined, "<u8").reshape(-1, 2)


def _letters(text: str) -> int:
    bits = 0
    for character in text:
        bits |= 1 << (ord(character) * 0x9E3779B1 >> 16 & 63)
    return bits


def _sketches(made: bytearray, params: DedupParams) -> NDArray[np.uint8]:
    return np.frombuffer(made, np.uint8).reshape(-1, params.permutations)


def _copies(digests: Hashes) -> dict[int, int]:
    """Return the first row with the same digest, of each row that is not the first."""
    order = np.lexsort((np.arange(len(digests)), digests[:, 1], digests[:, 0]))
    starts = _starts(digests[order])
    later = np.flatnonzero(starts != np.arange(len(order)))
    return dict(zip(order[later].tolist(), order[starts[later]].tolist(), strict=True))


def _questions(rows: NDArray[np.void], among: Rows) -> tuple[Rows, dict[int, Conflict]]:
    """Return the first row with the same question and the same answer, of each row, and the conflicts.

    Rows that are not `among` those to look at are the first of their own.
    """
    question, answer = rows["question"][among], rows["answer"][among]
    order = np.lexsort((among, answer, question[:, 1], question[:, 0]))
    ranked, of_question = among[order], _starts(question[order])
    of_answer = _starts(np.column_stack((question, answer))[order])
    question_of = np.arange(len(rows))
    question_of[ranked] = ranked[of_answer]
    edges = np.append(np.unique(of_question), len(order))
    conflicts: dict[int, Conflict] = {}
    for start in np.unique(of_question[of_question != of_answer]).tolist():
        stop = int(edges[np.searchsorted(edges, start, "right")])
        members = ranked[start:stop]
        # Turn by turn one of each answer, so that none goes unnamed.
        turn = np.arange(start, stop) - of_answer[start:stop]
        conflict = Conflict(sorted(members[np.lexsort((members, turn))][:NAMED].tolist()), len(members))
        conflicts.update(dict.fromkeys(members.tolist(), conflict))
    return question_of, conflicts


def _starts(ranked: Hashes) -> Rows:
    """Return, for each of some sorted rows of numbers, where its equals begin."""
    new = np.ones(len(ranked), bool)
    new[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    return np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))


def _best(found: Candidates) -> Candidates:
    """Return, for each later row, the candidate that looks most similar, of equals the earliest."""
    order = np.lexsort((found.first, -found.estimate, found.second))
    best = np.sort(order[np.unique(found.second[order], return_index=True)[1]])
    return Candidates(found.first[best], found.second[best], found.estimate[best])


def _compare(
    found: list[tuple[Key, Candidates]], lines: Lines, params: DedupParams, workers: WorkersParams | None
) -> tuple[dict[int, list[Close]], list[tuple[int, int]]]:
    """Return the near duplicates before each row, and the pairs (later, earlier) of near questions that differ."""
    pieces = ((key, piece) for key, pairs in found for piece in lines.pieces(pairs.first, pairs.second))
    made = chain.from_iterable(spread(partial(_judge, params), pieces, workers))
    pairs = (
        (key, first, second)
        for key, some in found
        for first, second in zip(some.first.tolist(), some.second.tolist(), strict=True)
    )
    close: dict[int, list[Close]] = defaultdict(list)
    differ: list[tuple[int, int]] = []
    for (key, first, second), (similarity, alike) in zip(pairs, made, strict=True):
        if alike:
            close[second].append(Close(first, similarity, key))
        elif key == "question" and similarity >= params.question:
            differ.append((second, first))
    return close, differ


def _judge(params: DedupParams, piece: tuple[Key, Piece]) -> list[tuple[float, bool]]:
    """Return, for each pair, its similarity and whether it is a pair of duplicates."""
    key, pairs = piece
    records = _records(pairs.lines)
    questions = keys(records)
    texts = questions if key == "question" else bodies(records, questions)
    similarity = similarities(texts, pairs.first, pairs.second, params.ngram).tolist()
    threshold = params.near(key).threshold
    return [
        (near, near >= threshold and same(records[first], records[second], key))
        for first, second, near in zip(pairs.first.tolist(), pairs.second.tolist(), similarity, strict=True)
    ]


def _decide(close: dict[int, list[Close]], conflicts: dict[int, Conflict]) -> tuple[dict[int, Close], dict[int, Close]]:
    """Return the rows near to one in conflict, and those near to a row that is kept, each with the earliest."""
    suspects: dict[int, Close] = {}
    for row in sorted(close):
        for other in sorted(close[row], key=_earliest):
            if (row in conflicts) < (other.row in conflicts):
                suspects.setdefault(row, other)
            elif (row in conflicts) > (other.row in conflicts):
                suspects.setdefault(other.row, Close(row, other.similarity, other.key))
    near: dict[int, Close] = {}
    gone = conflicts.keys() | suspects.keys()
    for row in sorted(close.keys() - gone):
        for other in sorted(close[row], key=_earliest):
            if other.row not in gone and other.row not in near:
                near[row] = other
                break
    return suspects, near


def _earliest(close: Close) -> tuple[int, bool]:
    return close.row, close.key == "body"


def _named(row: int, found: Deduped) -> list[int]:
    """Return the rows that the reason of a dropped row names."""
    if row in found.first_of_id:
        return []
    if row in found.conflicts:
        return found.conflicts[row].rows
    question = int(found.question_of[row])
    closest = found.suspects.get(question) or found.near.get(question)
    return [question, *([closest.row] if closest else [])]


def _reject(row: int, record: Record, line: bytes, found: Deduped, names: dict[int, Record]) -> Reject:
    question = int(found.question_of[row])
    kept = None
    if row in found.first_of_id:
        reason, detail = "duplicate_id", f"line {found.first_of_id[row] + 1} has this id too"
    elif row in found.conflicts:
        reason, detail = "conflict", _answers(row, record, found.conflicts[row], names)
    else:
        copied = "" if question == row else f"question and options are those of {names[question].id}; "
        if close := found.suspects.get(question):
            reason = "conflict"
            detail = f"{copied}{_similarity(close)} to {names[close.row].id}, whose question has several answers"
        elif close := found.near.get(question):
            reason = "near_duplicate" if close.key == "question" else "near_duplicate_body"
            detail, kept = copied + _similarity(close), names[close.row].id
        else:
            reason, detail, kept = "duplicate", "question and options are the same", names[question].id
    return reject("dedup", record, line, reason, detail, kept)


def _answers(row: int, record: Record, conflict: Conflict, names: dict[int, Record]) -> str:
    """Return how else a question is answered, and by which rows."""
    others: dict[str, list[str]] = defaultdict(list)
    for other in conflict.rows:
        if other != row:
            others[answer_of(names[other])].append(names[other].id)
    more = conflict.count - len({*conflict.rows, row})
    said = ", ".join(f"'{answer}' by {' '.join(ids)}" for answer, ids in others.items())
    return f"the same question, here answered '{answer_of(record)}', is answered {said}" + (
        f" and by {more} more" if more else ""
    )


def _similarity(close: Close) -> str:
    return f"similarity {close.similarity:.3f} of {WHAT[close.key]}"


def _records(lines: list[bytes]) -> list[Record]:
    decode = msgspec.json.Decoder(Record).decode
    return [decode(line) for line in lines]


@click.command()
@click.argument("records", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("rejects", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
def main(records: Path, out: Path, rejects: Path, metrics_file: Path) -> None:
    """Drop questions that are asked twice, exactly or nearly; set aside those with two answers."""
    found = dedup(records, load("dedup", DedupParams))
    counts = Counter[tuple[str, str]]()
    encode = msgspec.json.Encoder().encode_lines
    with ExitStack() as files:
        kept, dropped = (files.enter_context(whole(path)) for path in (out, rejects))
        for lines, part in kept_and_rejects(records, found):
            kept.write(lines)
            dropped.write(encode(part))
            counts.update((reject.reason, reject.topic) for reject in part)
    numbers = metrics(found, counts.elements())
    write_json(metrics_file, numbers)
    click.echo(f"dedup: {numbers['kept']:,} of {numbers['records']:,} kept")


if __name__ == "__main__":
    from curate.dedup import main as run  # workers find its functions under the module's own name

    run()
