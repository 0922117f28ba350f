"""Have the records that were marked low rewritten by the judge's feedback; their answers stay.

RECORDS (Record), JUDGEMENTS (Judged) → OUT (Derived, in the records' order), metrics.

A record that nobody has judged is left as it is; the metrics count them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from msgspec import Struct
from msgspec.structs import asdict

from datagen import about, prompts
from datagen.about import Query
from schemas import rows
from schemas.params import ImproveParams, load
from schemas.record import Judged, Judgement, Record


class Wanting(Struct, frozen=True):
    """The records that are to be rewritten, and how the others stand."""

    records: list[Record]
    judgements: dict[str, Judgement]
    """By the record's id."""
    unjudged: int
    good: int


def wanting(records: Iterable[Record], judged: Iterable[Judged], below: float) -> Wanting:
    """Return the records whose mean mark is below the threshold, in their order."""
    judgements = {row.id: row.judgement for row in judged if row.judgement}
    found: list[Record] = []
    unjudged = good = 0
    for record in records:
        judgement = judgements.get(record.id)
        if judgement is None:
            unjudged += 1
        elif judgement.mean() < below:
            found.append(record)
        else:
            good += 1
    return Wanting(found, judgements, unjudged, good)


@click.command()
@click.argument("records", type=click.Path(path_type=Path))
@click.argument("judgements", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
@about.for_others("improve")
def main(records: Path, judgements: Path, out: Path, metrics_file: Path, section: str, now: Path | None) -> None:
    """Have those of RECORDS rewritten that JUDGEMENTS mark low."""
    params = load(section, ImproveParams)
    cell = about.cells()
    found = wanting(rows.read(records, Record), rows.read(judgements, Judged), params.below)
    chosen = about.sound(about.choose(found.records, params.rows), records)

    def queries(record: Record) -> Sequence[Query]:
        feedback = found.judgements[record.id].feedback
        messages = prompts.improve(cell(record), record, feedback, full=params.chain == "full")
        return [Query(record, messages, how="improve")]

    with about.asked("improve", params, chosen, queries) as asked:
        made = about.export(about.derived(asked.settled), out)
    before = about.mean(found.judgements[record.id].mean() for record in chosen)
    standing = {"unjudged": found.unjudged, "good": found.good, "below": len(found.records), "mean_before": before}
    rows.write_json(metrics_file, {"records": len(chosen), **asdict(asked.tally), **standing, "made": made})
    about.tell(now, asked)
    tally = asked.tally
    click.echo(f"improve: {tally.valid:,} of {tally.requests:,} rewritten, {asked.now:,} asked now", err=True)


if __name__ == "__main__":
    main()
