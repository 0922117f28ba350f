"""Ask for the questions of one topic: params → responses, in grid order, and metrics.

What the store already holds is not asked again. The file is written whole or not at all, and only when enough replies
are valid; whatever was paid for stays in the store either way.
"""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

import click
from msgspec import Struct

from datagen.client import Ask, Reply, connect
from datagen.dialogue import Done, Next, judge, replay
from datagen.grid import Generate, Request, endpoint, only, read, requests
from datagen.limits import Limits, Outcome, Stopped
from datagen.store import Attempt, Store, claim, place
from schemas import rows
from schemas.chain import Malformed
from schemas.faults import Fault
from schemas.record import Response

if TYPE_CHECKING:
    from tqdm import tqdm

CROWD = 4  # conversations alive for each slot: those beyond it wait out refusals and backoffs
EVERY = 30.0  # seconds between two plain lines of progress
SHELLS = ("sh", "dash", "ash", "ksh", "bash", "zsh", "fish")
WATCH = 1.0  # seconds between two looks at whether the parent still lives
INTERRUPTED = "interrupted"


class Interrupted(Fault):
    """Ctrl-C: what was in flight has been stored, the rest is left."""

    exit_code = 130


class Progress:
    """How far a run has come: a bar at a terminal, a line now and then elsewhere, to stderr."""

    def __init__(self, name: str, total: int) -> None:
        self.name = name
        self.total = total
        self.stored = self.valid = self.rejected = self.unanswered = 0
        self._shown = time.monotonic()
        self._bar: tqdm[Request] | None = None
        if sys.stderr.isatty():
            from tqdm import tqdm as bar

            self._bar = bar(total=total, desc=name, unit="call", dynamic_ncols=True)

    def step(self, done: Done | None, *, stored: bool = False) -> None:
        """Count one request: done, or None for one that brought no reply."""
        self.stored += stored
        if done is None:
            self.unanswered += 1
        elif done.fault is None:
            self.valid += 1
        else:
            self.rejected += 1
        if self._bar is not None:
            self._bar.update()
            self._bar.set_postfix(rejected=self.rejected, unanswered=self.unanswered, refresh=False)
        elif time.monotonic() - self._shown > EVERY:
            self._shown = time.monotonic()
            click.echo(f"{self.name}: {self.done} of {self.total}, {self.rejected} rejected", err=True)

    @property
    def done(self) -> int:
        """Requests that have come to an end."""
        return self.valid + self.rejected

    @property
    def asked(self) -> int:
        """Requests that this run, not an earlier one, brought to an end."""
        return self.done - self.stored

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()


class Tally(Struct):
    """What the metrics file says; the same for the same replies."""

    requests: int = 0
    valid: int = 0
    mended: int = 0
    reasked: int = 0
    rejected: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


def missing(stream: Iterable[Request], reasks: int, store: Store, progress: Progress) -> Iterator[Request]:
    """Yield the requests that have not come to an end in the store, and count the others."""
    for request in stream:
        state = replay(request, reasks, store.reply)
        if isinstance(state, Done):
            progress.step(state, stored=True)
        else:
            yield request


async def settle(
    stream: Iterable[Request], ask: Ask, store: Store, limits: Limits, reasks: int, progress: Progress
) -> None:
    """Bring each request of the stream to its end, or the run to its own; every outcome goes to the store.

    A lazy pool: whoever is free takes the next request, so the stream is never held in memory.
    """
    todo = iter(stream)

    async def work() -> None:
        try:
            for request in todo:
                progress.step(await converse(request, ask, store, limits, reasks))
                if limits.reason:
                    return
        except Stopped:
            return
        except Fault as fault:  # the store's: without a place for replies, none is to be paid for
            limits.stop(fault.message)

    async with asyncio.TaskGroup() as group:
        for _ in range(limits.concurrency * CROWD):
            group.create_task(work())


async def converse(request: Request, ask: Ask, store: Store, limits: Limits, reasks: int) -> Done | None:
    """Ask, and ask again with the error while the reply is bad; None if a call brought no reply."""
    state = replay(request, reasks, store.reply)
    while isinstance(state, Next):
        turn = state

        async def once(turn: Next = turn) -> Outcome:
            async with limits.slot():
                at, started = time.time(), time.perf_counter()
                outcome = await ask(turn.request)
                journal(store, request.key, turn, outcome, at, time.perf_counter() - started)
            limits.observe(outcome)
            return outcome

        if not isinstance(await limits.patiently(once), Reply):
            return None
        state = replay(request, reasks, store.reply)
    return state


def journal(store: Store, root: str, turn: Next, outcome: Outcome, at: float, latency: float) -> None:
    """Commit one attempt and what it brought."""
    if isinstance(outcome, Reply):
        verdict = judge(outcome)
        fault = f"{verdict.reason}: {verdict.detail}" if isinstance(verdict, Malformed) else None
        attempt = Attempt(at, latency, 200, "bad" if fault else "valid", fault)
        store.record(turn.request, root, turn.turn, attempt, outcome, fault)
    else:
        attempt = Attempt(at, latency, outcome.status, outcome.kind, outcome.detail)
        store.record(turn.request, root, turn.turn, attempt, None, None)


def responses(stream: Iterable[Request], reasks: int, store: Store, tally: Tally) -> Iterator[Response]:
    """Yield what each request came to, in the order of the stream, and add it to the tally."""
    for request in stream:
        state = replay(request, reasks, store.reply)
        replies = state.replies if isinstance(state, Done) else state.bad
        fault = state.fault if isinstance(state, Done) else f"no_reply: {store.last_error(state.request.key)}"
        tally.requests += 1
        tally.valid += fault is None
        tally.rejected += fault is not None
        tally.mended += isinstance(state, Done) and bool(state.repairs)
        tally.reasked += len(replies) > 1
        tally.prompt_tokens += sum(reply.prompt_tokens for reply in replies)
        tally.completion_tokens += sum(reply.completion_tokens for reply in replies)
        yield Response(
            id=request.key[:16],
            topic=request.topic,
            difficulty=request.difficulty,
            type=request.type,
            sample=request.sample,
            round=request.round,
            teacher=f"{(replies and replies[-1].model) or request.body.model} @ {request.endpoint}",
            content=replies[-1].content if replies else "",
            fault=fault,
        )


def fill(stream: Iterable[Request], total: int, name: str, params: Generate, store: Store) -> Progress:
    """Ask for what the store lacks of a stream of requests; return how far that came.

    Fault if the endpoint is of no use, Interrupted after Ctrl-C. Nothing is imported or opened when nothing is lacking.
    """
    with Progress(name, total) as progress:
        todo = missing(stream, params.reasks, store, progress)
        first = next(todo, None)
        reason = None
        if first is not None:
            reason = asyncio.run(_asked((r for part in ((first,), todo) for r in part), params, store, progress))
        if reason:
            for _ in todo:
                pass  # the rest of the grid is walked to count what is in the store
            left = progress.total - progress.done
            kind = Interrupted if reason == INTERRUPTED else Fault
            raise kind(
                f"{name}: {reason}; {progress.done} of {progress.total} are in the store, {left} are left; "
                "the same command goes on from there"
            )
    return progress


async def _asked(stream: Iterable[Request], params: Generate, store: Store, progress: Progress) -> str | None:
    limits = Limits(params.concurrency, params.attempts, params.base_url)
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        limits.stop(INTERRUPTED)
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # safe at any moment: every reply that came is committed
        click.echo(f"{progress.name}: finishing the calls in flight; Ctrl-C again leaves at once", err=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    # DVC sets DVC_STAGE for what it runs; a run of one's own may outlive its shell.
    watch = loop.create_task(_orphaned(limits)) if "DVC_STAGE" in os.environ else None
    async with connect(params) as ask:
        await settle(stream, ask, store, limits, params.reasks, progress)
    if watch:
        watch.cancel()
    return limits.reason


async def _orphaned(limits: Limits) -> None:
    """Stop the run once its parent is dead: DVC killed must not leave a run behind that spends money."""
    first = lineage()
    while lineage() == first:
        await asyncio.sleep(WATCH)
    limits.stop("the process that started this one is gone")


def lineage() -> tuple[int, ...]:
    """Return the process that started this one, and behind a shell that waits for it the one that started the shell.

    DVC runs `$SHELL -c CMD`. bash and zsh give way to the command, dash stays, and stays when DVC dies.
    """
    parent = os.getppid()
    try:
        stat = Path(f"/proc/{parent}/stat").read_text()
    except OSError:
        return (parent,)  # no /proc: macOS, whose shells give way
    name, _, rest = stat.partition(" (")[2].rpartition(") ")
    return (parent, int(rest.split()[1])) if name in SHELLS else (parent,)


def checked(found: Iterable[Response], tally: Tally, name: str, params: Generate) -> Iterator[Response]:
    """Yield all responses, then raise a Fault if too few were valid: a file being written is thereby given up."""
    faults: Counter[str] = Counter()
    example = None
    for response in found:
        if response.fault:
            faults[response.fault.partition(":")[0]] += 1
            example = example or response
        yield response
    if example and tally.valid < params.min_yield * tally.requests:
        what = ", ".join(f"{reason} {count}" for reason, count in faults.most_common())
        raise Fault(
            f"{name}: {tally.valid} of {tally.requests} valid, below min_yield {params.min_yield:g} ({what}); "
            f"one of them, see `datagen show {example.id}`, is {example.fault}; "
            "all replies stay in the store, the next run asks for those that are missing"
        )


@click.command()
@click.argument("topic")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics", type=click.Path(path_type=Path))
def main(topic: str, out: Path, metrics: Path) -> None:
    """Ask for the questions of TOPIC; write its responses to OUT and its figures to METRICS."""
    topics, axes, params = read()
    chosen = only(topic, topics)
    name = f"generate {topic}"
    path = place()
    with claim(path, topic):
        store = Store(path)
        answers = endpoint(params)
        total = axes.cells() * topics[topic].samples
        progress = fill(requests(chosen, axes, params, answers), total, name, params, store)
        tally = Tally()
        stream = requests(chosen, axes, params, answers)
        rows.write(out, checked(responses(stream, params.reasks, store, tally), tally, name, params))
        rows.write_json(metrics, tally)
        store.close()
    click.echo(
        f"{name}: {tally.valid} of {tally.requests} valid, {tally.rejected} rejected, {progress.asked} asked now",
        err=True,
    )


if __name__ == "__main__":
    main()
