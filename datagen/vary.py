"""Have variations of records written: another context, other parameters, a practical application.

RECORDS (Record) → OUT (Derived, in the records' order, the variations of each in that of the params), metrics.
"""

from pathlib import Path
from typing import Annotated, Literal

import click
from msgspec import Meta
from msgspec.structs import asdict

from datagen import about, prompts
from datagen.about import AboutParams, Query
from schemas import rows
from schemas.params import load
from schemas.record import Record, Variation


class VaryParams(AboutParams, frozen=True):
    """Who varies how many records, and how."""

    variations: Annotated[tuple[Variation, ...], Meta(min_length=1)]
    """One request each."""
    chain: Literal["full", "short"]


@click.command()
@click.argument("records", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
def main(records: Path, out: Path, metrics_file: Path) -> None:
    """Have variations of RECORDS written."""
    params = load("vary", VaryParams)
    cell = about.cells()

    def queries(record: Record) -> list[Query]:
        place, full = cell(record), params.chain == "full"
        return [
            Query(record, prompts.vary(place, record, variation, full=full), how=f"vary:{variation}")
            for variation in params.variations
        ]

    chosen = about.read(records, params.rows)
    with about.asked("vary", params, chosen, queries) as asked:
        made = about.export(about.derived(asked.settled), out)
    tally = asked.tally
    rows.write_json(metrics_file, {"records": len(chosen), **asdict(tally), "made": made})
    click.echo(f"vary: {tally.valid:,} of {tally.requests:,} variations, {asked.now:,} asked now", err=True)


if __name__ == "__main__":
    main()
