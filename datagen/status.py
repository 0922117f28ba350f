"""Say how far the grid is covered, cell by cell, and what that has cost; also while runs fill the store."""

import time

import click

from datagen.budget import spending
from datagen.coverage import Cover, coverage, total
from datagen.grid import read
from datagen.settings import Price, terms
from datagen.store import look, place

HEAD = (
    f"{'':<52}{'wanted':>8}{'valid':>8}{'rejected':>9}{'open':>8}{'accepted':>9}"
    f"{'tokens':>13}{'cost':>10}{'per valid':>11}"
)


def line(name: str, cover: Cover, price: Price | None) -> str:
    """Return a line of the table."""
    rate = f"{cover.valid / cover.done:.1%}" if cover.done else "-"
    tokens = cover.prompt_tokens + cover.completion_tokens
    cost = price.of(cover.prompt_tokens, cover.completion_tokens) if price else None
    each = "-" if cost is None or not cover.valid else f"{cost / cover.valid:.5f}"
    shown = "-" if cost is None else f"{cost:.2f}"
    return (
        f"{name:<52}{cover.wanted:>8}{cover.valid:>8}{cover.rejected:>9}{cover.open:>8}{rate:>9}"
        f"{tokens:>13,}{shown:>10}{each:>11}"
    )


@click.command()
@click.argument("topic", nargs=-1)
@click.option("--cells", is_flag=True, help="A line for each cell, not for each topic.")
@click.option("--watch", type=click.FloatRange(min=0.1), metavar="SECONDS", help="Print anew, every so often.")
def main(topic: tuple[str, ...], cells: bool, watch: float | None) -> None:
    """Print how far each TOPIC, or all, is covered as params.yaml has it now, and what the store holds in all."""
    while True:
        shown = report(topic, cells=cells)
        if watch:
            click.clear()
        click.echo(shown)
        if not watch:
            return
        time.sleep(watch)


def report(topic: tuple[str, ...], *, cells: bool) -> str:
    """Return the tables."""
    grid, setting = read(topic), terms()
    with look(place()) as store:
        covers = coverage(grid.requests(), grid.params.reasks, store, cells=cells)
        kinds, spent, (runs, out, lost) = store.counts(), store.spent(), store.runs()
    price = setting.prices.get(grid.teacher.model)
    names = ("asked", "valid", "calls", "refused", "failed", "prompt_tokens", "completion_tokens")
    return "\n".join(
        [
            f"{grid.teacher.model} at {grid.teacher.base_url}, as params.yaml has it now",
            HEAD,
            *(line(" / ".join(cell), cover, price) for cell, cover in covers.items()),
            line("total", total(covers.values()), price),
            "",
            f"{place()}: all rounds, prompts and models",
            f"{'kind':<12}{'model':<28}" + "".join(f"{name:>19}" for name in names),
            *(
                f"{kind.kind:<12}{kind.model:<28}" + "".join(f"{getattr(kind, name):>19,}" for name in names)
                for kind in kinds
            ),
            f"{runs} runs going on, {out} calls out, {lost} calls lost by runs that were killed",
            spending(spent, setting),
        ]
    )
