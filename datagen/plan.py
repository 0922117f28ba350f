"""Say what a run would ask for, before it is paid: calls, tokens, money, and what the store already holds."""

from collections.abc import Iterable, Iterator
from itertools import islice
from math import sqrt

import click

from datagen import asking
from datagen.budget import spending
from datagen.coverage import coverage, total
from datagen.dialogue import Next, replay
from datagen.grid import Grid, Request, read
from datagen.progress import duration
from datagen.settings import Terms, terms
from datagen.store import Store, Usage, look, place

SURE = 2.0  # standard errors each side of what is expected


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
        covers = coverage(grid.requests(), reasks, store)
        missing = total(covers.values()).open
        if tries and missing:
            sample = list(spread(grid.requests(), reasks, store, missing, min(tries, missing)))
            totals = {slug: sum(request.topic == slug for request in sample) for (slug, *_) in covers}
            asking.fill("plan", sample, totals, grid.teacher, reasks, setting, store)
            covers = coverage(grid.requests(), reasks, store)
        usage = store.usage("write", grid.teacher.model)
        spent = store.spent()
    all_ = total(covers.values())
    click.echo(f"{grid.teacher.model} at {grid.teacher.base_url}, at most {setting.limits.concurrency} calls in flight")
    click.echo(f"{'topic':<24}{'cells':>8}{'calls':>8}{'stored':>8}{'to ask':>8}")
    by_topic = [(slug, 1, cover) for (slug, *_), cover in covers.items()]
    for name, topics, cover in (*by_topic, ("total", len(covers), all_)):
        cells = grid.axes.cells() * topics
        click.echo(f"{name:<24}{cells:>8}{cover.wanted:>8}{cover.done:>8}{cover.open:>8}")
    click.echo(expected(all_.open, all_.most, usage, grid, setting))
    click.echo(spending(spent, setting))
