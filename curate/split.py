"""Part the bank into four sides so that no question has a twin on another side.

balanced.jsonl (Record) → train.jsonl, rollout.jsonl, validation.jsonl, test.jsonl (Record), metrics. The rollout side
is for reinforcement alone: on questions it was shown the answers to, a model has nothing left to gain.

Near-duplicates and questions of one stem form clusters, and a cluster goes to one side whole. Every topic × type gives
each side its share. At the end each held-out question is compared with every question of the other sides; a
twin that hashing missed joins its cluster and the parting is done again, so the promise holds exactly.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import click
from msgspec import Struct

from curate.similar import Clusters, fold, key, nearest, pairs
from curate.similar import Pair as Similar
from schemas.params import Count, Params, Positive, Share, load
from schemas.record import Record
from schemas.rows import read, write, write_json

SIDES = ("train", "rollout", "validation", "test")
Stratum = tuple[str, str]
"""Topic and type."""


class SplitParams(Params, frozen=True):
    """How much goes where, and what must stay together."""

    ngram: Positive
    """Characters."""
    permutations: Positive
    threshold: Share
    """Jaccard similarity of question and options from which two questions stay together."""
    test: Share
    validation: Share
    rollout: Share
    seed: Count


class Split(Struct, frozen=True):
    """The sides, each in the order of the records, and what the parting rests on."""

    train: list[Record]
    rollout: list[Record]
    validation: list[Record]
    test: list[Record]
    clusters: list[int]
    """Their sizes, largest first."""
    nearest: list[float]
    """For each test question, its similarity to the nearest question of the other sides, sorted."""


def split(records: Iterable[Record], params: SplitParams) -> Split:
    """Return the records in four sides; no two sides hold questions as similar as the threshold or of one stem."""
    records = list(records)
    keys = [key(record) for record in records]
    clusters = Clusters(len(records))
    for first, second in _same(fold(record.question) for record in records):
        clusters.join(first, second)
    for pair in pairs(
        keys, ngram=params.ngram, permutations=params.permutations, threshold=params.threshold, seed=params.seed
    ):
        clusters.join(pair.first, pair.second)
    while True:
        members = clusters.members()
        sides = assign(records, members, params)
        test = _nearest(keys, sides, "test", ("train", "rollout", "validation"), params.ngram)
        missed = [
            pair
            for pair in (
                *test,
                *_nearest(keys, sides, "validation", ("train", "rollout"), params.ngram),
                *_nearest(keys, sides, "rollout", ("train",), params.ngram),
            )
            if pair.similarity >= params.threshold
        ]
        if not missed:
            break
        for pair in missed:
            clusters.join(pair.first, pair.second)
    train, rollout, validation, held = (
        [record for record, at in zip(records, sides, strict=True) if at == side] for side in SIDES
    )
    return Split(
        train=train,
        rollout=rollout,
        validation=validation,
        test=held,
        clusters=sorted(map(len, members), reverse=True),
        nearest=sorted(pair.similarity for pair in test),
    )


def assign(records: list[Record], clusters: list[list[int]], params: SplitParams) -> list[str]:
    """Return the side of each record: whole clusters, in drawn order, until each stratum has given its share.

    First those that fit, then those that fill more than they overfill.
    """
    sides = ["train"] * len(records)
    strata = Counter(map(_stratum, records))
    left = sorted(clusters, key=lambda cluster: _draw(params.seed, min(records[row].id for row in cluster)))
    for side, share in (("test", params.test), ("validation", params.validation), ("rollout", params.rollout)):
        wanted = Counter(_quotas(strata, share))
        for slack in (0.0, 0.5):
            rest: list[list[int]] = []
            for cluster in left:
                held = Counter(_stratum(records[row]) for row in cluster)
                over = sum(max(count - max(wanted[stratum], 0), 0) for stratum, count in held.items())
                if over == 0 or over < slack * len(cluster):
                    wanted.subtract(held)
                    for row in cluster:
                        sides[row] = side
                else:
                    rest.append(cluster)
            left = rest
    return sides


def metrics(found: Split, threshold: float) -> dict[str, object]:
    """Return sizes, clusters, how near test comes to the rest, and what each topic × type gives to test."""
    size = {side: len(getattr(found, side)) for side in SIDES}
    strata: dict[Stratum, Counter[str]] = defaultdict(Counter)
    for side in SIDES:
        for record in getattr(found, side):
            strata[_stratum(record)][side] += 1
    shares = [counts["test"] / counts.total() for counts in strata.values()]
    similar = found.nearest
    return {
        "records": sum(size.values()),
        **size,
        "clusters": len(found.clusters),
        "largest_cluster": max(found.clusters, default=0),
        "threshold": threshold,
        "nearest_to_test": {
            name: round(similar[round(q * (len(similar) - 1))], 4) if similar else 0.0
            for name, q in (("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
        },
        "strata": len(strata),
        "strata_without_test": sum(share == 0 for share in shares),
        "test_share": {"min": round(min(shares, default=0.0), 4), "max": round(max(shares, default=0.0), 4)},
        "test_by_topic": dict(sorted(Counter(record.topic for record in found.test).items())),
    }


def _same(texts: Iterable[str]) -> Iterable[tuple[int, int]]:
    firsts: dict[str, int] = {}
    for row, text in enumerate(texts):
        first = firsts.setdefault(text, row)
        if first != row:
            yield first, row


def _nearest(keys: list[str], sides: list[str], side: str, others: tuple[str, ...], ngram: int) -> list[Similar]:
    rows = [row for row, at in enumerate(sides) if at == side]
    return nearest(keys, rows, [row for row, at in enumerate(sides) if at in others], ngram)


def _quotas(strata: Counter[Stratum], share: float) -> dict[Stratum, int]:
    """Return how many rows each stratum gives, by largest remainder: together the share of all."""
    exact = {stratum: count * share for stratum, count in sorted(strata.items())}
    quotas = {stratum: int(value) for stratum, value in exact.items()}
    missing = round(strata.total() * share) - sum(quotas.values())
    for stratum in sorted(exact, key=lambda stratum: quotas[stratum] - exact[stratum])[:missing]:
        quotas[stratum] += 1
    return quotas


def _stratum(record: Record) -> Stratum:
    return record.topic, record.type


def _draw(seed: int, id_: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{id_}".encode(), digest_size=8).digest()


@click.command()
@click.argument("records", metavar="IN", type=click.Path(path_type=Path))
@click.argument("train", type=click.Path(path_type=Path))
@click.argument("rollout", type=click.Path(path_type=Path))
@click.argument("validation", type=click.Path(path_type=Path))
@click.argument("test", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
def main(records: Path, train: Path, rollout: Path, validation: Path, test: Path, metrics_file: Path) -> None:
    """Part the bank into train, rollout, validation and test, twins on one side."""
    params = load("split", SplitParams)
    found = split(read(records, Record), params)
    write(train, found.train)
    write(rollout, found.rollout)
    write(validation, found.validation)
    write(test, found.test)
    numbers = metrics(found, params.threshold)
    write_json(metrics_file, numbers)
    sizes = ", ".join(f"{numbers[side]:,} {side}" for side in SIDES)
    click.echo(f"split: {numbers['records']:,} in {numbers['clusters']:,} clusters: {sizes}")


if __name__ == "__main__":
    main()
