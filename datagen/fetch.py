"""Fill the store for all topics, or some, at full concurrency; `dvc repro` then only writes what is there.

DVC runs its stages one after the other, and each ends with its slowest calls; here the topics share one pool. With
`--workers` the calls are made by processes on Ray, on this machine or a cluster's; requests, limits and store are one.
"""

from functools import partial

import click

from datagen import asking, client
from datagen.grid import read
from datagen.settings import terms
from datagen.store import Store, place


@click.command()
@click.argument("topic", nargs=-1)
@click.option("--workers", type=click.IntRange(min=1), help="Have so many processes on Ray make the calls.")
@click.option("--address", help="Ray's: auto, HOST:PORT or ray://HOST:PORT; without it Ray runs on this machine alone.")
def main(topic: tuple[str, ...], workers: int | None, address: str | None) -> None:
    """Ask for what the store lacks of each TOPIC, of all of them if none is named."""
    if address and not workers:
        raise click.UsageError("--address says where the workers are; say with --workers how many")
    connect: client.Connect = client.connect
    if workers:
        from datagen import shards

        connect = partial(shards.connect, workers, address)
    grid = read(topic)
    reasks = grid.params.reasks
    with Store(place()) as store:
        progress = asking.fill("fetch", grid.requests(), grid.sizes(), grid.teacher, reasks, terms(), store, connect)
    click.echo(
        f"fetch: {progress.valid} of {progress.total} valid, {progress.rejected} rejected, "
        f"{progress.unanswered} without a reply, {progress.asked} asked now, {progress.cost()}",
        err=True,
    )
