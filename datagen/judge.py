"""Have records marked: rigor, difficulty, innovation, clarity and educational value from 1 to 5, and feedback.

RECORDS (Record) → OUT (Judged, one a record in their order), metrics.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click
from msgspec.structs import asdict

from datagen import about, prompts
from datagen.about import Query, Settled
from datagen.asking import Tally
from schemas import rows
from schemas.chain import JUDGEMENT, MARKS
from schemas.params import JudgeParams, load
from schemas.record import Judged, Record


def judged(found: Iterable[Settled]) -> Iterator[tuple[Record, Judged]]:
    """Yield each record and how it was judged."""
    for settled in found:
        judgement = about.held(JUDGEMENT, settled)[0] if settled.fault is None else None
        record = settled.query.record
        yield record, Judged(id=record.id, judgement=judgement, teacher=settled.teacher, fault=settled.fault)


def metrics(found: Sequence[tuple[Record, Judged]], tally: Tally) -> dict[str, object]:
    """Return the figures: the mean of all marks, of each of the five, and by the record's place."""
    given = [(record, row.judgement) for record, row in found if row.judgement]
    means = [(record, judgement.mean()) for record, judgement in given]
    return {
        "records": len(found),
        **asdict(tally),
        "mean": about.mean(mean for _, mean in means),
        "marks": {mark: about.mean(getattr(judgement, mark) for _, judgement in given) for mark in MARKS},
        "by": about.by_place(means),
    }


@click.command()
@click.argument("records", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
@about.for_others("judge")
def main(records: Path, out: Path, metrics_file: Path, section: str, now: Path | None) -> None:
    """Have RECORDS marked from 1 to 5 in five respects, with feedback."""
    params = load(section, JudgeParams)
    cell = about.cells()

    def queries(record: Record) -> list[Query]:
        return [Query(record, prompts.judge(cell(record), record))]

    with about.asked("judge", params, about.read(records, params.rows), queries) as asked:
        found = list(judged(asked.settled))
    rows.write(out, (row for _, row in found))
    numbers = metrics(found, asked.tally)
    rows.write_json(metrics_file, numbers)
    about.tell(now, asked)
    mean = f", mean {numbers['mean']:.2f}" if numbers["mean"] else ""
    click.echo(f"judge: {asked.tally.valid:,} of {len(found):,} judged{mean}, {asked.now:,} asked now", err=True)


if __name__ == "__main__":
    main()
