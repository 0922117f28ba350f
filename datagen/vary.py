"""Have variations of records written: another context, other parameters, a practical application.

RECORDS (Record) → OUT (Derived, in the records' order, the variations of each in that of the params), metrics.
"""

from pathlib import Path

import click
from msgspec.structs import asdict

from datagen import about, prompts
from datagen.about import Query
from schemas import rows
from schemas.params import VaryParams, load
from schemas.record import Record


@click.command()
@click.argument("records", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
@about.for_others("vary")
def main(records: Path, out: Path, metrics_file: Path, section: str, now: Path | None) -> None:
    """Have variations of RECORDS written."""
    params = load(section, VaryParams)
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
    about.tell(now, asked)
    click.echo(f"vary: {tally.valid:,} of {tally.requests:,} variations, {asked.now:,} asked now", err=True)


if __name__ == "__main__":
    main()
