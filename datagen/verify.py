"""Have the questions answered by a teacher who is not shown the answer.

RECORDS (Record) → OUT (Verification, one a record in their order), metrics.

The teacher may be another model than the author's, or the same one asked several times: samples differ by their seed.
A record agrees if more than half of its samples come to its answer; a sample without a valid reply does not.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import click
from msgspec.structs import asdict

from datagen import about, prompts
from datagen.about import Query, Settled
from datagen.asking import Tally
from schemas import rows
from schemas.chain import ANSWER
from schemas.params import AboutParams, Positive, load
from schemas.record import Record, Verification


class VerifyParams(AboutParams, frozen=True):
    """Who answers how many questions, how often."""

    samples: Positive
    """Answers to each question."""


def verification(record: Record, found: Sequence[Settled]) -> Verification:
    """Return what the samples of one record came to."""
    answers = tuple(about.held(ANSWER, sample)[0].answer for sample in found if sample.fault is None)
    return Verification(
        id=record.id,
        answer=record.answer,
        answers=answers,
        agreed=answers.count(record.answer),
        asked=len(found),
        teacher=found[-1].teacher,
        fault=next((sample.fault for sample in found if sample.fault), None),
    )


def verifications(found: Iterable[Settled]) -> Iterator[tuple[Record, Verification]]:
    """Yield each record and what its samples, which follow one another, came to."""
    for _, group in groupby(found, key=lambda sample: sample.query.record.id):
        samples = list(group)
        record = samples[0].query.record
        yield record, verification(record, samples)


def agrees(row: Verification) -> bool:
    """Whether more than half of the samples came to the record's answer."""
    return 2 * row.agreed > row.asked


def metrics(found: Sequence[tuple[Record, Verification]], tally: Tally) -> dict[str, object]:
    """Return the figures; agreement is the share of a record's valid answers that are its own, averaged."""
    shares = [(record, row.agreed / len(row.answers)) for record, row in found if row.answers]
    return {
        "records": len(found),
        **asdict(tally),
        "agree": sum(agrees(row) for _, row in found),
        "agreement": about.mean(share for _, share in shares),
        "by": about.by_place(shares),
    }


@click.command()
@click.argument("records", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
def main(records: Path, out: Path, metrics_file: Path) -> None:
    """Have the questions of RECORDS answered without their answers."""
    params = load("verify", VerifyParams)
    cell = about.cells()

    def queries(record: Record) -> list[Query]:
        messages = prompts.verify(cell(record), record)
        return [Query(record, messages, sample) for sample in range(params.samples)]

    with about.asked("verify", params, about.read(records, params.rows), queries) as asked:
        found = list(verifications(asked.settled))
    rows.write(out, (row for _, row in found))
    numbers = metrics(found, asked.tally)
    rows.write_json(metrics_file, numbers)
    click.echo(f"verify: {numbers['agree']:,} of {len(found):,} agree, {asked.now:,} asked now", err=True)


if __name__ == "__main__":
    main()
