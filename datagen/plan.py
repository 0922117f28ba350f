"""Say what a run would ask for, before it is paid: the grid, the calls, what the store already holds."""

from collections.abc import Iterable

import click
from msgspec import Struct

from datagen.dialogue import Done, replay
from datagen.grid import Request, endpoint, only, read, requests
from datagen.store import Store, place


class Left(Struct):
    """How one topic stands."""

    topic: str
    calls: int = 0
    stored: int = 0

    @property
    def to_ask(self) -> int:
        """Calls still to be made, re-asks not counted."""
        return self.calls - self.stored


def count(stream: Iterable[Request], reasks: int, store: Store) -> list[Left]:
    """Return how each topic of a stream stands, in its order."""
    found: dict[str, Left] = {}
    for request in stream:
        left = found.setdefault(request.topic, Left(request.topic))
        left.calls += 1
        left.stored += isinstance(replay(request, reasks, store.reply), Done)
    return list(found.values())


@click.command()
@click.argument("topic", nargs=-1)
def main(topic: tuple[str, ...]) -> None:
    """Print, for each TOPIC or for all: cells, calls, those in the store, those still to ask."""
    topics, axes, params = read()
    chosen = {slug: settings for name in topic for slug, settings in only(name, topics).items()} or topics
    store = Store(place())
    lines = count(requests(chosen, axes, params, endpoint(params)), params.reasks, store)
    store.close()
    total = Left("total", sum(line.calls for line in lines), sum(line.stored for line in lines))
    click.echo(f"{params.model} at {params.base_url}, {params.concurrency} calls in flight")
    click.echo(f"{'topic':<24}{'cells':>8}{'calls':>8}{'stored':>8}{'to ask':>8}")
    for line in (*lines, total):
        cells = axes.cells() * (1 if line is not total else len(lines))
        click.echo(f"{line.topic:<24}{cells:>8}{line.calls:>8}{line.stored:>8}{line.to_ask:>8}")
