"""Put records into another language or script: English, traditional or simplified Chinese.

RECORDS (Record) → OUT (Derived, in the records' order), metrics.

Between the two Chinese scripts OpenCC converts text by text, without a call; the teacher is asked for the rest. A
record that is in the wanted language already, English for `en`, gives no row, and is counted.
"""

import hashlib
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import click
from msgspec.structs import asdict

from datagen import about, prompts, script
from datagen.about import Query
from datagen.kinds import CHINESE, chinese
from datagen.script import CONFIGS
from schemas import rows
from schemas.params import AboutParams, load
from schemas.record import Derived, Language, Record


class TranslateParams(AboutParams, frozen=True):
    """Into which language how many records are put."""

    to: Language


def way(record: Record, to: Language) -> Literal["convert", "ask", "keep"]:
    """Return what a record takes to be in a language."""
    if chinese(record) >= CHINESE:
        return "ask" if to == "en" else "convert"
    return "keep" if to == "en" else "ask"


def converted(record: Record, to: Language) -> Derived:
    """Return the row of a record in the other script."""
    how = f"translate:{to}"
    id = hashlib.sha256(f"{how}:{record.id}".encode()).hexdigest()[:16]
    return about.derive(record, script.convert(record, to), how, id, f"OpenCC {version('opencc')} {CONFIGS[to]}")


def translated(records: Iterable[Record], to: Language, asked: Iterable[Derived]) -> Iterator[Derived]:
    """Yield the rows of the records in their order: converted ones, and those of the teacher where it gave one."""
    replied = {row.of: row for row in asked}
    for record in records:
        if way(record, to) == "convert":
            yield converted(record, to)
        elif record.id in replied:
            yield replied[record.id]


@click.command()
@click.argument("records", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
def main(records: Path, out: Path, metrics_file: Path) -> None:
    """Put RECORDS into another language or script."""
    params = load("translate", TranslateParams)
    cell = about.cells()
    chosen = about.read(records, params.rows)
    to_ask = [record for record in chosen if way(record, params.to) == "ask"]

    def queries(record: Record) -> list[Query]:
        return [Query(record, prompts.translate(cell(record), record, params.to), how=f"translate:{params.to}")]

    with about.asked("translate", params, to_ask, queries) as asked:
        made = about.export(translated(chosen, params.to, about.derived(asked.settled)), out)
    tally = asked.tally
    kept = sum(way(record, params.to) == "keep" for record in chosen)
    by_opencc = len(chosen) - len(to_ask) - kept
    figures = {"records": len(chosen), **asdict(tally), "converted": by_opencc, "kept": kept, "made": made}
    rows.write_json(metrics_file, figures)
    click.echo(
        f"translate: {by_opencc + tally.valid:,} of {len(chosen):,} in {params.to}, {by_opencc:,} by OpenCC, "
        f"{asked.now:,} asked now",
        err=True,
    )


if __name__ == "__main__":
    main()
