"""Fill the store for all topics, or some, at full concurrency; `dvc repro` then only writes what is there.

DVC runs its stages one after the other, and each ends with its slowest calls; here the topics share one pool.
"""

from contextlib import ExitStack

import click

from datagen.generate import fill
from datagen.grid import endpoint, only, read, requests
from datagen.store import Store, claim, place


@click.command()
@click.argument("topic", nargs=-1)
def main(topic: tuple[str, ...]) -> None:
    """Ask for what the store lacks of each TOPIC, of all of them if none is named."""
    topics, axes, params = read()
    chosen = {slug: settings for name in topic for slug, settings in only(name, topics).items()} or topics
    path = place()
    with ExitStack() as claims:
        for slug in chosen:
            claims.enter_context(claim(path, slug))
        store = Store(path)
        total = axes.cells() * sum(settings.samples for settings in chosen.values())
        progress = fill(requests(chosen, axes, params, endpoint(params)), total, "fetch", params, store)
        store.close()
    click.echo(
        f"fetch: {progress.valid} of {total} valid, {progress.rejected} rejected, "
        f"{progress.unanswered} without a reply, {progress.asked} asked now",
        err=True,
    )
