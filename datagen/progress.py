"""How far a run has come: a bar for each topic at a terminal, one plain line now and then elsewhere, on stderr."""

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import click

from datagen.client import Reply
from datagen.dialogue import Done
from datagen.settings import Price

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

EVERY = 30.0  # seconds between two plain lines
HOUR, MINUTE = 3600, 60


class Progress:
    """Counts what has come to its end, and shows it."""

    def __init__(self, name: str, totals: Mapping[str, int], price: Price | None) -> None:
        """`totals` are the requests of each topic; without a price, tokens are shown in place of money."""
        self.name = name
        self.totals = totals
        self.total = sum(totals.values())
        self.stored = self.valid = self.rejected = self.unanswered = 0
        self.batched = 0
        """Of the unanswered, those that a batch will answer."""
        self.tokens = 0
        """Of the replies of this run."""
        self.money = 0.0
        """What they cost, if there is a price."""
        self._price = price
        self._began = self._shown = time.monotonic()
        self._bars: Bars | None = None
        self._rows: dict[str, TaskID] = {}
        self._counts: dict[str, list[int]] = {}  # valid, rejected
        self._money: dict[str, float] = {}

    def step(self, topic: str, done: Done | None, *, stored: bool = False) -> None:
        """Count one request: done, or None for one that brought no reply."""
        self.stored += stored
        self.valid += done is not None and done.fault is None
        self.rejected += done is not None and done.fault is not None
        self.unanswered += done is None
        if self._bars is not None:
            self._show_bar(topic, done)
        elif time.monotonic() - self._shown > EVERY:
            self._shown = time.monotonic()
            click.echo(f"{self.name}: {self.said()}", err=True)

    def pay(self, topic: str, reply: Reply) -> None:
        """Count what a reply has cost."""
        self.tokens += reply.prompt_tokens + reply.completion_tokens
        if self._price:
            money = self._price.of(reply.prompt_tokens, reply.completion_tokens)
            self.money += money
            self._money[topic] = self._money.get(topic, 0.0) + money

    def said(self) -> str:
        """Return the state in a line: `1,200 of 13,500, 3 rejected, cost 0.12, 4 min left`."""
        parts = [f"{self.done:,} of {self.total:,}", f"{self.rejected:,} rejected", self.cost()]
        if self.asked:
            seconds = (time.monotonic() - self._began) / self.asked * (self.total - self.done)
            parts.append(f"{duration(seconds)} left")
        return ", ".join(parts)

    def cost(self) -> str:
        """Return what this run has cost: money, or tokens where there is no price."""
        return f"cost {self.money:.2f}" if self._price else f"{self.tokens:,} tokens"

    @property
    def done(self) -> int:
        """Requests that have come to an end."""
        return self.valid + self.rejected

    @property
    def asked(self) -> int:
        """Requests that this run, not an earlier one, brought to an end."""
        return self.done - self.stored

    def __enter__(self) -> Self:
        if self.totals and sys.stderr.isatty():
            self._draw()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bars is not None:
            self._show_total()
            self._bars.stop()

    # --- the terminal --------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("[green]{task.fields[valid]} valid[/] [red]{task.fields[rejected]} rejected[/]"),
            TextColumn("{task.fields[cost]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True),
            refresh_per_second=4,
        )
        for topic, total in self.totals.items():
            self._counts[topic] = [0, 0]
            self._rows[topic] = self._bars.add_task(topic, total=total, valid=0, rejected=0, cost="")
        if len(self.totals) > 1:
            self._rows[""] = self._bars.add_task("all", total=self.total, valid=0, rejected=0, cost="")
        self._bars.start()

    def _show_bar(self, topic: str, done: Done | None) -> None:
        assert self._bars is not None
        counts = self._counts[topic]
        if done is not None:
            counts[done.fault is not None] += 1
        cost = f"cost {self._money.get(topic, 0.0):.2f}" if self._price else ""
        self._bars.update(self._rows[topic], completed=sum(counts), valid=counts[0], rejected=counts[1], cost=cost)
        self._show_total()

    def _show_total(self) -> None:
        assert self._bars is not None
        row = self._rows.get("", next(iter(self._rows.values())))
        self._bars.update(row, completed=self.done, valid=self.valid, rejected=self.rejected, cost=self.cost())


def duration(seconds: float) -> str:
    """Return a time as a person says it: `40 s`, `12 min`, `3.5 h`."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE:.0f} min" if seconds < HOUR else f"{seconds / HOUR:.1f} h"
