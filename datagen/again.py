"""Ask again for what curation dropped: a work list is put on record, then DVC rebuilds what depends on it.

WORKLIST (Again), as `curate worklist` writes it → datagen/again.jsonl (Again), which is under git: one row for each
request, the latest. A request that stands there is asked in the round after the one that was dropped, once: a list that
is given twice, or after a kill, asks for nothing more. When its new reply is dropped too, the next work list says so.
"""

from collections.abc import Iterable
from pathlib import Path

import click
from msgspec.structs import replace

from datagen.coverage import coverage, total
from datagen.grid import AGAIN, Grid, Request, listed, read, rounds
from datagen.plan import expected
from datagen.regen import repro
from datagen.settings import terms
from datagen.store import look, place
from schemas import rows
from schemas.record import Again

Place = tuple[str, str, str, int]


def merged(there: Iterable[Again], wanted: Iterable[Again]) -> list[Again]:
    """Return one row for each request, that of its latest round, sorted by topic, difficulty, type and sample."""
    latest: dict[Place, Again] = {}
    for row in (*there, *wanted):
        if latest.setdefault(where(row), row).round < row.round:
            latest[where(row)] = row
    return [latest[place] for place in sorted(latest)]


def where(row: Again | Request) -> Place:
    """Return the place of a request in the grid."""
    return row.topic, row.difficulty, row.type, row.sample


def cost(wanted: Iterable[Again], grid: Grid) -> str:
    """Return a line on what asking them will come to, less what the store already holds."""
    places, setting = set(map(where, wanted)), terms()
    chosen = {slug: topic for slug, topic in grid.topics.items() if slug in {place[0] for place in places}}
    stream = (request for request in replace(grid, topics=chosen).requests() if where(request) in places)
    with look(place()) as store:
        cover = total(coverage(stream, grid.params.reasks, store).values())
        return expected(cover.open, cover.most, store.usage("write", grid.teacher.model), grid, setting)


@click.command()
@click.argument("worklist", type=click.Path(path_type=Path))
@click.option("--no-repro", is_flag=True, help="Only list them; run `dvc repro` yourself.")
@click.option("--dry", is_flag=True, help="Say how many there are and what they will cost; change nothing.")
@click.pass_context
def main(ctx: click.Context, worklist: Path, no_repro: bool, dry: bool) -> None:
    """Ask again for the requests of WORKLIST, whose replies curation dropped, and rebuild what follows from them."""
    grid = read()
    asked = [(row, grid.round(row)) for row in rows.read(worklist, Again)]
    fresh = [row for row, round_ in asked if round_ is not None and row.round >= round_]
    gone = sum(round_ is None for _, round_ in asked)
    after = merged(listed(), fresh)
    click.echo(
        f"again: {len(fresh):,} of {len(asked):,} requests to ask again"
        + (f"; {done:,} are asked in a later round already" if (done := len(asked) - len(fresh) - gone) else "")
        + (f"; {gone:,} are no longer in the grid of params.yaml" if gone else ""),
        err=True,
    )
    if dry:
        click.echo(f"again: {cost(fresh, replace(grid, dropped=rounds(after)))}", err=True)
        return
    if fresh:
        rows.write(AGAIN, after)
    topics = [slug for slug in grid.topics if any(row.topic == slug and round_ is not None for row, round_ in asked)]
    if topics and not no_repro:
        ctx.exit(repro(topics))


if __name__ == "__main__":
    main()
