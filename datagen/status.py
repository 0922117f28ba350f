"""Say how far the grid is covered, cell by cell, and what that has cost; also while runs fill the store."""

import time
from collections.abc import Iterable

import click
from msgspec import Struct

from datagen.budget import spending
from datagen.dialogue import Done, replay
from datagen.grid import Request, read
from datagen.settings import Price, terms
from datagen.store import Store, look, place

Cell = tuple[str, ...]


class Cover(Struct):
    """How a part of the grid is covered."""

    wanted: int = 0
    valid: int = 0
    rejected: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def line(self, name: str, price: Price | None) -> str:
        """Return its line of the table."""
        settled = self.valid + self.rejected
        rate = f"{self.valid / settled:.1%}" if settled else "-"
        tokens = self.prompt_tokens + self.completion_tokens
        cost = price.of(self.prompt_tokens, self.completion_tokens) if price else None
        each = "-" if cost is None or not self.valid else f"{cost / self.valid:.5f}"
        shown = "-" if cost is None else f"{cost:.2f}"
        return (
            f"{name:<52}{self.wanted:>8}{self.valid:>8}{self.rejected:>9}{self.wanted - settled:>8}{rate:>9}"
            f"{tokens:>13,}{shown:>10}{each:>11}"
        )


HEAD = (
    f"{'':<52}{'wanted':>8}{'valid':>8}{'rejected':>9}{'open':>8}{'accepted':>9}"
    f"{'tokens':>13}{'cost':>10}{'per valid':>11}"
)


def coverage(stream: Iterable[Request], reasks: int, store: Store, *, cells: bool) -> dict[Cell, Cover]:
    """Return how each topic, or each cell, of a stream of requests is covered, in its order."""
    found: dict[Cell, Cover] = {}
    for request in stream:
        cell = (request.topic, request.difficulty, request.type) if cells else (request.topic,)
        cover = found.setdefault(cell, Cover())
        state = replay(request, reasks, store.reply)
        replies = state.replies if isinstance(state, Done) else state.bad
        cover.wanted += 1
        cover.valid += isinstance(state, Done) and state.fault is None
        cover.rejected += isinstance(state, Done) and state.fault is not None
        cover.prompt_tokens += sum(reply.prompt_tokens for reply in replies)
        cover.completion_tokens += sum(reply.completion_tokens for reply in replies)
    return found


def total(covers: Iterable[Cover]) -> Cover:
    """Return the sum."""
    sums = Cover()
    for cover in covers:
        for name in Cover.__struct_fields__:
            setattr(sums, name, getattr(sums, name) + getattr(cover, name))
    return sums


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
            *(cover.line(" / ".join(cell), price) for cell, cover in covers.items()),
            total(covers.values()).line("total", price),
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
