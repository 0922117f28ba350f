"""Say what a run would ask for, before it is paid: calls, tokens, money, and what the store already holds."""

from collections.abc import Iterable, Iterator
from itertools import islice
from math import sqrt

import click
from msgspec import Struct

from datagen import asking
from datagen.budget import spending
from datagen.dialogue import Done, Next, replay
from datagen.grid import Grid, Request, read
from datagen.progress import duration
from datagen.settings import Terms, terms
from datagen.store import Store, Usage, bound, look, place

SURE = 2.0  # standard errors each side of what is expected


class Left(Struct):
    """How one topic stands."""

    topic: str
    calls: int = 0
    stored: int = 0
    most: int = 0
    """Tokens that the missing calls can come to, none asked again."""

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
        if isinstance(replay(request, reasks, store.reply), Done):
            left.stored += 1
        else:
            left.most += sum(bound(request.body))
    return list(found.values())


def spread(stream: Iterable[Request], reasks: int, store: Store, missing: int, wanted: int) -> Iterator[Request]:
    """Yield so many of the missing requests, evenly spread over them."""
    lacking = (request for request in stream if isinstance(replay(request, reasks, store.reply), Next))
    for number, request in enumerate(islice(lacking, missing)):
        if number * wanted // missing != (number + 1) * wanted // missing:
            yield request


def expected(to_ask: int, most: int, usage: Usage | None, grid: Grid, setting: Terms) -> str:
    """Return a line on what the missing calls will come to, judged by what like ones came to."""
    if not to_ask:
        return "nothing to ask"
    price = setting.prices.get(grid.teacher.model)
    if usage is None:
        money = f", cost at most {max(price.of(most, 0), price.of(0, most)):.2f}" if price else ""
        return f"at most {most:,} tokens{money}; `datagen plan --try 20` asks 20 of them and says what to expect"
    tokens = usage.prompt_tokens + usage.completion_tokens
    error = SURE * usage.deviation / sqrt(usage.requests) / tokens if tokens else 0.0
    said = f"about {to_ask * tokens:,.0f} tokens ± {error:.0%}"
    if price:
        said += f", cost {to_ask * price.of(usage.prompt_tokens, usage.completion_tokens):.2f}"
    else:
        said += f", cost unknown: prices.{grid.teacher.model} is missing"
    seconds = to_ask * usage.latency / setting.limits.concurrency
    return f"{said}, {duration(seconds)} at the most in flight; by {usage.requests:,} such requests"


@click.command()
@click.argument("topic", nargs=-1)
@click.option("--try", "tries", type=click.IntRange(1), help="First ask so many of the missing, and judge by them.")
def main(topic: tuple[str, ...], tries: int | None) -> None:
    """Print, for each TOPIC or for all: cells, calls, those in the store, those to ask, and what they will cost."""
    grid, setting = read(topic), terms()
    reasks = grid.params.reasks
    with Store(place()) if tries else look(place()) as store:
        lines = count(grid.requests(), reasks, store)
        missing = sum(line.to_ask for line in lines)
        if tries and missing:
            sample = list(spread(grid.requests(), reasks, store, missing, min(tries, missing)))
            totals = {line.topic: sum(request.topic == line.topic for request in sample) for line in lines}
            asking.fill("plan", sample, totals, grid.teacher, reasks, setting, store)
            lines = count(grid.requests(), reasks, store)
        usage = store.usage("write", grid.teacher.model)
        spent = store.spent()
    total = Left("total", *(sum(getattr(line, name) for line in lines) for name in ("calls", "stored", "most")))
    click.echo(f"{grid.teacher.model} at {grid.teacher.base_url}, at most {setting.limits.concurrency} calls in flight")
    click.echo(f"{'topic':<24}{'cells':>8}{'calls':>8}{'stored':>8}{'to ask':>8}")
    for line in (*lines, total):
        cells = grid.axes.cells() * (1 if line is not total else len(lines))
        click.echo(f"{line.topic:<24}{cells:>8}{line.calls:>8}{line.stored:>8}{line.to_ask:>8}")
    click.echo(expected(total.to_ask, total.most, usage, grid, setting))
    click.echo(spending(spent, setting))
