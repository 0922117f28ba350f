"""Part the bank into five sides so that no question has a twin on another side.

balanced.jsonl (Record) → train.jsonl, rollout.jsonl, validation.jsonl, test.jsonl, author.jsonl (Record), sides.jsonl
(Placed), rejects (Reject), metrics. The rollout side is for reinforcement alone: on questions it was shown the answers
to, a model has nothing left to gain. The author side has whole topics: from them the author learns to write, and the
solver is neither trained nor tested on them. Where the user brings a test file (curate/paper.py), no test is held out
of the bank.

Questions of one stem form a cluster, and the side of a cluster depends on its stem and the seed alone: rows that come
or go move no other. So a topic × type has its share on each side only in expectation; exact quotas would have to move
rows when one is added. Of twins with different stems that fall on different sides, the one on the less held-out side is
set aside: test comes before validation, validation before rollout, rollout before train.

Twins are proposed by hashing, which can miss one. At the end held-out questions, all or a sample of them, are compared
with every question of the less held-out sides, and what is found then is set aside too.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

import click
import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from curate import paper
from curate.fold import keys
from curate.lines import Lines, Piece, line_lengths
from curate.rejects import reject
from curate.shards import Chunk, chunks, spread
from curate.similar import Grams, Near, candidates, ranges, similarities, sketch
from schemas.params import Count, Params, Positive, Share, load
from schemas.record import Placed, Record, Side, Slug
from schemas.rows import whole, write_json

SIDES: tuple[Side, ...] = ("test", "validation", "rollout", "train", "author")
"""The most held-out first; what is written of a row is an index of it, or ASIDE."""
ASIDE = 255
CHECKED = 2000  # most held-out questions that are compared with every other
BLOCK = 1 << 17  # pairs of questions that are looked at at a time: what a processor's cache holds

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]


class SplitParams(Params, frozen=True):
    """How much goes where, and what may not be parted."""

    ngram: Positive
    """Characters."""
    permutations: Positive
    threshold: Share
    """Jaccard similarity of question and options from which two questions are twins."""
    test: Share
    validation: Share
    rollout: Share
    author: tuple[Slug, ...]
    """Topics whose questions are the author's."""
    seed: Count

    def __post_init__(self) -> None:
        """Refuse shares that come to more than the whole."""
        if self.test + self.validation + self.rollout > 1 + 1e-9:
            raise ValueError("test, validation and rollout come to more than 1; lower one of them")

    @property
    def near(self) -> Near:
        """When two questions are twins."""
        return Near(ngram=self.ngram, permutations=self.permutations, threshold=self.threshold, seed=self.seed)


class Seen(Struct, frozen=True):
    """What has to be known of a chunk of records: a number or more for each, as the bytes of an array."""

    cluster: bytes
    """uint64: the hash of the folded stem."""
    side: bytes
    """uint8: an index of SIDES."""
    strata: list[tuple[str, str]]
    """Topic and type."""
    stratum: bytes
    """int32: an index of `strata`."""
    length: bytes
    """int64: of the line, with its end."""
    sketch: bytes
    """uint8, `permutations` of them."""


class Bank(Struct, frozen=True):
    """The same of all records."""

    cluster: Hashes
    side: Bytes
    strata: list[tuple[str, str]]
    stratum: Ints
    lines: Lines


class Twin(Struct, frozen=True):
    """The held-out row that another is set aside for."""

    row: int
    similarity: float


class Held(Struct, frozen=True):
    """Held-out questions that others are compared with."""

    row: Ints
    side: Bytes
    size: Ints
    """Of each, how many n-grams it has."""
    gram: Hashes
    """Those of all of them, distinct and sorted."""
    start: Ints
    """Where in `owner` those begin that have the n-gram."""
    owner: Ints


class Named(Struct, frozen=True):
    """A record, as far as its id goes."""

    id: str


class Part(Struct, frozen=True):
    """A chunk of the bank, and where its rows go."""

    chunk: Chunk
    side: bytes
    """uint8: an index of SIDES, or ASIDE."""
    cluster: bytes
    twins: dict[int, tuple[str, Side, float]]
    """By place in the chunk, for those set aside: id and side of the held-out twin, and the similarity."""


class Compared(Struct, frozen=True):
    """How near the questions of a chunk come to the held-out ones: twins, by position, and else the nearest."""

    rows: int
    """Of the chunk."""
    held: Ints
    row: Ints
    """In the chunk."""
    similarity: NDArray[np.float64]
    """Of held-out question and row."""
    nearest: NDArray[np.float64]
    """For each held-out question, its similarity to the nearest that is no twin of any."""


class Written(Struct, frozen=True):
    """The lines that a chunk comes to."""

    sides: dict[Side, bytes]
    placed: bytes
    rejects: bytes


def side_of(cluster: bytes, params: SplitParams) -> int:
    """Return the side of a cluster, drawn from its hash and the seed."""
    draw = int.from_bytes(hashlib.blake2b(f"{params.seed}:{cluster.hex()}".encode(), digest_size=8).digest()) / 2**64
    bound = 0.0
    for at, share in enumerate((params.test, params.validation, params.rollout)):
        bound += share
        if draw < bound:
            return at
    return SIDES.index("train")


def see(params: SplitParams, chunk: Chunk) -> Seen:
    """Return what has to be known of a chunk."""
    records = list(chunk.rows(Record))
    texts = keys(records)
    # A key begins with the folded stem.
    clusters = [hashlib.blake2b(text.split("\n", 1)[0].encode(), digest_size=8).digest() for text in texts]
    strata: dict[tuple[str, str], int] = {}
    stratum = [strata.setdefault((record.topic, record.type), len(strata)) for record in records]
    return Seen(
        cluster=b"".join(clusters),
        side=bytes(
            SIDES.index("author") if record.topic in params.author else side_of(cluster, params)
            for record, cluster in zip(records, clusters, strict=True)
        ),
        strata=list(strata),
        stratum=np.array(stratum, np.int32).tobytes(),
        length=line_lengths(chunk),
        sketch=sketch(texts, params.near).tobytes(),
    )


def gathered(path: Path, params: SplitParams) -> tuple[Bank, Bytes]:
    """Return what has to be known of the records of a file, and their sketches."""
    found = list(spread(partial(see, params), chunks(path)))
    strata = sorted({name for seen in found for name in seen.strata})
    index = {name: at for at, name in enumerate(strata)}
    stratum = [
        np.array([index[name] for name in seen.strata], np.int64)[np.frombuffer(seen.stratum, np.int32)]
        for seen in found
    ]
    bank = Bank(
        cluster=np.frombuffer(b"".join(seen.cluster for seen in found), ">u8"),
        side=np.frombuffer(b"".join(seen.side for seen in found), np.uint8),
        strata=strata,
        stratum=np.concatenate([np.zeros(0, np.int64), *stratum]),
        lines=Lines(path, np.frombuffer(b"".join(seen.length for seen in found), np.int64)),
    )
    sketches = np.frombuffer(b"".join(seen.sketch for seen in found), np.uint8).reshape(-1, params.permutations)
    return bank, sketches


def set_twins_aside(aside: dict[int, Twin], sketches: Bytes, bank: Bank, params: SplitParams) -> None:
    """Add the rows that have a twin on a more held-out side, as far as hashing finds it."""
    # More held-out rows come first: a row's candidates are those it would be set aside for.
    order = np.argsort(bank.side, kind="stable")
    ranked = bank.side[order]
    found = candidates(sketches[order], params.near, alike=lambda first, second: ranked[first] < ranked[second])
    first, second = order[found.first], order[found.second]
    pieces = bank.lines.pieces(first, second)
    similarity = np.concatenate([np.zeros(0), *spread(partial(_compare, params.ngram), pieces)])
    near = similarity >= params.threshold
    _set_aside(aside, bank.side, first[near], second[near], similarity[near])


def _compare(ngram: int, piece: Piece) -> NDArray[np.float64]:
    decode = msgspec.json.Decoder(Record).decode
    return similarities(keys([decode(line) for line in piece.lines]), piece.first, piece.second, ngram)


def _set_aside(aside: dict[int, Twin], side: Bytes, first: Ints, second: Ints, similarity: NDArray[np.float64]) -> None:
    """Set the second of each pair aside for the first, if that stays itself; of several, for the most similar."""
    # Whether a row stays is known once the pairs of all more held-out rows were looked at.
    for at in np.argsort(side[second], kind="stable").tolist():
        row, twin = int(second[at]), Twin(int(first[at]), float(similarity[at]))
        if twin.row not in aside and (row not in aside or twin.similarity > aside[row].similarity):
            aside[row] = twin


def sample(side: Bytes, lines: Lines, params: SplitParams) -> Held:
    """Return the held-out questions that all others are to be compared with, at most CHECKED of them."""
    rows = np.flatnonzero(side < SIDES.index("train"))
    if len(rows) > CHECKED:
        rows = np.sort(np.random.default_rng(params.seed).choice(rows, CHECKED, replace=False))
    decode = msgspec.json.Decoder(Record).decode
    grams = Grams(keys([decode(line) for line in lines.read(rows.tolist())]), params.ngram)
    owner = np.repeat(np.arange(len(rows)), grams.sizes)
    order = np.argsort(grams.values, kind="stable")
    gram, start = np.unique(grams.values[order], return_index=True)
    start = np.append(start, len(order))
    return Held(row=rows, side=side[rows], size=grams.sizes, gram=gram, start=start, owner=owner[order])


def compare(held: Held, params: SplitParams, part: Part) -> Compared:
    """Return how near the questions of less held-out sides come to the held-out ones, by comparing all with all."""
    side = np.frombuffer(part.side, np.uint8)
    rows = np.flatnonzero((side != ASIDE) & (side > SIDES.index("test")))
    decode, lines = msgspec.json.Decoder(Record).decode, part.chunk.lines()
    grams = Grams(keys([decode(lines[row]) for row in rows.tolist()]), params.ngram)
    nearest = np.zeros(len(held.row))
    twins = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    step = max(1, BLOCK // max(1, len(held.row)))
    for start in range(0, len(rows), step):
        row, of, similarity = _similar(held, grams, start, min(start + step, len(rows)))
        row = rows[row]
        less = side[row] > held.side[of]
        row, of, similarity = row[less], of[less], similarity[less]
        near = similarity >= params.threshold
        twins.append((of[near], row[near], similarity[near]))
        if near.any():
            stays = ~np.isin(row, row[near])
            of, similarity = of[stays], similarity[stays]
        np.maximum.at(nearest, of, similarity)
    of, row, found = (np.concatenate(column) for column in zip(*twins, strict=True))
    return Compared(len(side), of, row, found, nearest)


def _similar(held: Held, grams: Grams, start: int, stop: int) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """Return the pairs of some questions and held-out ones that have anything in common, and their similarity."""
    values = grams.values[grams.starts[start] : grams.starts[stop]]
    owner = np.repeat(np.arange(stop - start), grams.sizes[start:stop])
    at = np.searchsorted(held.gram[:-1], values)
    known = held.gram[at] == values if len(held.gram) else np.zeros(len(at), bool)
    owner, left = owner[known], held.start[at[known]]
    counts = held.start[at[known] + 1] - left
    shared = np.bincount(np.repeat(owner, counts) * len(held.row) + held.owner[ranges(left, counts)])
    pairs = np.flatnonzero(shared)
    row, of = np.divmod(pairs, len(held.row))
    row += start
    return row, of, shared[pairs] / (grams.sizes[row] + held.size[of] - shared[pairs])


def check(
    path: Path, bank: Bank, side: Bytes, held: Held, params: SplitParams, aside: dict[int, Twin]
) -> NDArray[np.float64]:
    """Add to `aside` the twins of held-out questions that hashing missed; return how near the others come to each."""
    nearest = np.zeros(len(held.row))
    first, second, similarity = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    start = 0
    for part in spread(partial(compare, held, params), parts(path, bank, side, aside)):
        nearest = np.maximum(nearest, part.nearest)
        first.append(held.row[part.held])
        second.append(start + part.row)
        similarity.append(part.similarity)
        start += part.rows
    _set_aside(aside, bank.side, np.concatenate(first), np.concatenate(second), np.concatenate(similarity))
    return nearest


def place(part: Part) -> Written:
    """Return the lines that a chunk comes to."""
    decode, encode = msgspec.json.Decoder(Record).decode, msgspec.json.Encoder().encode
    name = msgspec.json.Decoder(Named).decode
    sides: dict[Side, list[bytes]] = {side: [] for side in SIDES}
    placed, rejects = [], []
    for row, (line, at) in enumerate(zip(part.chunk.lines(), part.side, strict=True)):
        side = None if at == ASIDE else SIDES[at]
        cluster = part.cluster[8 * row : 8 * row + 8].hex()
        placed.append(encode(Placed(id=name(line).id, cluster=cluster, side=side)))
        if side is not None:
            sides[side].append(line)
            continue
        record, (kept, held, similarity) = decode(line), part.twins[row]
        detail = f"similarity {similarity:.3f} to a question of the {held} side"
        rejects.append(encode(reject("split", record, line, "twin_of_held_out", detail, kept)))
    return Written({side: _lines(lines) for side, lines in sides.items()}, _lines(placed), _lines(rejects))


def _lines(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def parts(path: Path, bank: Bank, side: Bytes, aside: Mapping[int, Twin]) -> Iterator[Part]:
    """Yield the chunks of the bank with what is decided about their rows."""
    kept = sorted({twin.row for twin in aside.values()})
    name = msgspec.json.Decoder(Named).decode
    ids = {row: name(line).id for row, line in zip(kept, bank.lines.read(kept), strict=True)}
    start = 0
    rows = deque(sorted(aside))
    for chunk in chunks(path):
        stop = start + len(chunk.lines())
        twins: dict[int, tuple[str, Side, float]] = {}
        while rows and rows[0] < stop:
            row = rows.popleft()
            twin = aside[row]
            twins[row - start] = (ids[twin.row], SIDES[bank.side[twin.row]], twin.similarity)
        yield Part(chunk, side[start:stop].tobytes(), bank.cluster[start:stop].tobytes(), twins)
        start = stop


def metrics(bank: Bank, side: Bytes, held: Held, nearest: NDArray[np.float64], threshold: float) -> dict[str, object]:
    """Return sizes, clusters, how near test comes to the rest, and what each topic × type of the solver gives to test.

    `checked`: held-out questions that were compared with every question of the less held-out sides.
    """
    stays = side != ASIDE
    solvers = stays & (side != SIDES.index("author"))
    all_of = np.bincount(bank.stratum[solvers], minlength=len(bank.strata))
    in_test = np.bincount(bank.stratum[side == 0], minlength=len(bank.strata))
    shares = (in_test[all_of > 0] / all_of[all_of > 0]).tolist()
    similar = np.sort(nearest[held.side == 0])
    by_topic: Counter[str] = Counter()
    for (topic, _), count, of in zip(bank.strata, in_test.tolist(), all_of.tolist(), strict=True):
        if of:
            by_topic[topic] += count
    _, sizes = np.unique(bank.cluster, return_counts=True)
    return {
        "records": len(side),
        **{name: int(np.sum(side == SIDES.index(name))) for name in reversed(SIDES)},
        "set_aside": int(np.sum(~stays)),
        "clusters": len(sizes),
        "largest_cluster": int(sizes.max(initial=0)),
        "threshold": threshold,
        "checked": len(held.row),
        "nearest_to_test": {
            name: round(float(similar[round(q * (len(similar) - 1))]), 4) if len(similar) else 0.0
            for name, q in (("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
        },
        "strata": len(shares),
        "strata_without_test": sum(share == 0 for share in shares),
        "test_share": {
            "min": round(min(shares, default=0.0), 4),
            "median": round(median(shares), 4) if shares else 0.0,
            "max": round(max(shares, default=0.0), 4),
        },
        "test_by_topic": dict(sorted(by_topic.items())),
    }


@click.command()
@click.argument("records", metavar="IN", type=click.Path(path_type=Path))
@click.argument("train", type=click.Path(path_type=Path))
@click.argument("rollout", type=click.Path(path_type=Path))
@click.argument("validation", type=click.Path(path_type=Path))
@click.argument("test", type=click.Path(path_type=Path))
@click.argument("author", type=click.Path(path_type=Path))
@click.argument("sides_file", metavar="SIDES", type=click.Path(path_type=Path))
@click.argument("rejects", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
@click.option("--exam", type=click.Path(path_type=Path), help="The folder of your own test file, which may be empty.")
def main(records: Path, sides_file: Path, rejects: Path, metrics_file: Path, exam: Path | None, **outs: Path) -> None:
    """Part the bank into train, rollout, validation, test and author, twins on one side."""
    params = load("split", SplitParams)
    if paper.find(exam):
        params = msgspec.structs.replace(params, test=0.0)
    bank, sketches = gathered(records, params)
    side = bank.side.copy()
    aside: dict[int, Twin] = {}
    set_twins_aside(aside, sketches, bank, params)
    del sketches
    side[list(aside)] = ASIDE
    held = sample(side, bank.lines, params)
    nearest = check(records, bank, side, held, params, aside)
    side[list(aside)] = ASIDE
    with ExitStack() as files:
        written = {name: files.enter_context(whole(outs[name])) for name in SIDES}
        placed, dropped = (files.enter_context(whole(path)) for path in (sides_file, rejects))
        for part in spread(place, parts(records, bank, side, aside)):
            for name, file in written.items():
                file.write(part.sides[name])
            placed.write(part.placed)
            dropped.write(part.rejects)
    numbers = metrics(bank, side, held, nearest, params.threshold)
    write_json(metrics_file, numbers)
    sizes = ", ".join(f"{numbers[name]:,} {name}" for name in reversed(SIDES))
    click.echo(f"split: {sizes}, {numbers['set_aside']:,} set aside; {numbers['clusters']:,} stems")


if __name__ == "__main__":
    from curate.split import main as run  # workers find its functions under the module's own name

    run()
