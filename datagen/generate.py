"""Ask for the questions of one topic: params → responses, in grid order, and metrics.

What the store already holds is not asked again. The file is written whole or not at all, and only when enough replies
are valid; whatever was paid for stays in the store either way.
"""

from pathlib import Path

import click

from datagen import asking
from datagen.asking import Result, Tally
from datagen.grid import read
from datagen.settings import terms
from datagen.store import Store, place
from schemas import rows
from schemas.record import Response


def response(result: Result) -> Response:
    """Return the row of a result."""
    request = result.request
    return Response(
        id=result.id,
        topic=request.topic,
        difficulty=request.difficulty,
        type=request.type,
        sample=request.sample,
        round=request.round,
        teacher=result.teacher,
        content=result.content,
        fault=result.fault,
    )


@click.command()
@click.argument("topic")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics", type=click.Path(path_type=Path))
def main(topic: str, out: Path, metrics: Path) -> None:
    """Ask for the questions of TOPIC; write its responses to OUT and its figures to METRICS."""
    grid = read([topic])
    reasks, name = grid.params.reasks, f"generate {topic}"
    with Store(place()) as store:
        progress = asking.fill(name, grid.requests(), grid.sizes(), grid.teacher, reasks, terms(), store)
        tally = Tally()
        results = asking.results(grid.requests(), reasks, store, tally)
        rows.write(out, map(response, asking.checked(results, name, grid.params.min_yield)))
        rows.write_json(metrics, tally)
    click.echo(
        f"{name}: {tally.valid} of {tally.requests} valid, {tally.rejected} rejected, {progress.asked} asked now",
        err=True,
    )


if __name__ == "__main__":
    main()
