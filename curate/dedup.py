"""Drop questions that are asked twice, exactly or nearly; of twins the first stays.

validated.jsonl (Record) → dedup.jsonl (Record), rejects (Reject), metrics.

Two rows are one question when stem and options agree, in whatever order, width and punctuation: new reasoning under an
old question is a duplicate, the same reasoning under a new question is not, so the chain is not looked at. With another
answer, an equal question is a `conflict`; a nearly equal one is kept, for a 不 or a year makes another question of it.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import click
import msgspec
from msgspec import Struct

from curate.similar import fold, key, pairs
from schemas.params import Count, Params, Positive, Share, load
from schemas.record import Record, Reject
from schemas.rows import read, write, write_json


class DedupParams(Params, frozen=True):
    """When two questions are one."""

    ngram: Positive
    """Characters."""
    permutations: Positive
    """Of the MinHash signature; its bands follow from the threshold."""
    threshold: Share
    """Jaccard similarity of the n-grams of question and options."""
    seed: Count


class Deduped(Struct, frozen=True):
    """What was kept and what was dropped, each in the order of the records."""

    records: list[Record]
    rejects: list[Reject]
    near_other_answer: int
    """Pairs as similar as duplicates whose answers differ; both are kept."""


def dedup(records: Iterable[Record], params: DedupParams) -> Deduped:
    """Return the records without their twins; every reject names the row that was kept instead."""
    records = list(records)
    keys = [key(record) for record in records]
    firsts: dict[str, int] = {}
    copies = {row: firsts[text] for row, text in enumerate(keys) if firsts.setdefault(text, row) != row}
    rows = list(firsts.values())
    kept_of: dict[int, tuple[int, float]] = {}
    near_other_answer = 0
    for pair in pairs(
        [keys[row] for row in rows],
        ngram=params.ngram,
        permutations=params.permutations,
        threshold=params.threshold,
        seed=params.seed,
    ):
        first, second = rows[pair.first], rows[pair.second]
        if first in kept_of or second in kept_of:
            continue
        if _answer(records[first]) != _answer(records[second]):
            near_other_answer += 1
        else:
            kept_of[second] = (first, pair.similarity)
    found = Deduped([], [], near_other_answer)
    for row, record in enumerate(records):
        first = copies.get(row, row)
        kept, similarity = kept_of.get(first, (first, 1.0))
        if kept == row:
            found.records.append(record)
        else:
            found.rejects.append(_reject(record, records[first], records[kept], similarity))
    return found


def metrics(found: Deduped) -> dict[str, object]:
    """Return the counts: kept, by reason, by topic."""
    return {
        "records": len(found.records) + len(found.rejects),
        "kept": len(found.records),
        "rejected": dict(sorted(Counter(reject.reason for reject in found.rejects).items())),
        "near_other_answer": found.near_other_answer,
        "topics": dict(sorted(Counter(record.topic for record in found.records).items())),
    }


def _reject(record: Record, first: Record, kept: Record, similarity: float) -> Reject:
    if _answer(record) != _answer(first):
        reason = "conflict"
        detail = f"the same question, here answered '{record.text(record.answer)}', there '{kept.text(kept.answer)}'"
    elif kept is first:
        reason, detail = "duplicate", "question and options are the same"
    else:
        reason, detail = "near_duplicate", f"similarity {similarity:.3f} of question and options"
    return Reject(
        id=record.id,
        topic=record.topic,
        stage="dedup",
        reason=reason,
        detail=detail,
        kept=kept.id,
        raw=msgspec.json.encode(record).decode(),
    )


def _answer(record: Record) -> str:
    return fold(record.text(record.answer))


@click.command()
@click.argument("records", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("rejects", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
def main(records: Path, out: Path, rejects: Path, metrics_file: Path) -> None:
    """Drop questions that are asked twice, exactly or nearly."""
    found = dedup(read(records, Record), load("dedup", DedupParams))
    write(out, found.records)
    write(rejects, found.rejects)
    numbers = metrics(found)
    write_json(metrics_file, numbers)
    click.echo(f"dedup: {numbers['kept']:,} of {numbers['records']:,} kept")


if __name__ == "__main__":
    main()
