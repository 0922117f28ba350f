"""Have flawed chains written to the same questions, for preference pairs: wrong ones and biased ones.

RECORDS (Record) → OUT (Derived, in the records' order, the flaws of each in that of the params), metrics.

A row keeps the record's question and options to the letter; its chain, and where it is wrong its answer, are what the
pair rejects. No such row may enter the bank.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import click
from msgspec import Meta
from msgspec.structs import asdict, replace

from datagen import about, prompts
from datagen.about import Query
from schemas import rows
from schemas.params import AboutParams, load
from schemas.record import Derived, Flaw, Record


class ContrastParams(AboutParams, frozen=True):
    """Who writes flawed chains to how many records, and what is wrong with them."""

    flaws: Annotated[tuple[Flaw, ...], Meta(min_length=1)]
    """wrong: argues for another answer; biased: for the same, from one side. One request each."""
    chain: Literal["full", "short"]


def to_the_letter(made: Iterable[Derived], records: Iterable[Record]) -> Iterator[Derived]:
    """Yield the rows with the question and options of their records, from which spaces and width may differ."""
    by_id = {record.id: record for record in records}
    for row in made:
        record = by_id[row.of]
        yield replace(row, question=record.question, options=record.options)


@click.command()
@click.argument("records", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
def main(records: Path, out: Path, metrics_file: Path) -> None:
    """Have flawed chains written to the questions of RECORDS."""
    params = load("contrast", ContrastParams)
    cell = about.cells()
    chosen = about.read(records, params.rows)

    def queries(record: Record) -> list[Query]:
        place, full = cell(record), params.chain == "full"
        return [
            Query(record, prompts.contrast(place, record, flaw, full=full), how=f"contrast:{flaw}")
            for flaw in params.flaws
        ]

    with about.asked("contrast", params, chosen, queries) as asked:
        made = about.export(to_the_letter(about.derived(asked.settled), chosen), out)
    tally = asked.tally
    rows.write_json(metrics_file, {"records": len(chosen), **asdict(tally), "made": made})
    click.echo(f"contrast: {tally.valid:,} of {tally.requests:,} flawed chains, {asked.now:,} asked now", err=True)


if __name__ == "__main__":
    main()
