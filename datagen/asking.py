"""The asking loop: bring each request of a stream to its end, every outcome to the store, or the run to its own end.

A lazy pool without barriers: whoever has a free slot takes the next request, and what waits out a refusal or a backoff
holds none. Memory grows with the calls in flight, not with the stream.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain, count
from typing import Any

import click
import msgspec
from msgspec import Struct, field

from datagen import budget
from datagen.client import Ask, Connect, Failure, Reply, connect
from datagen.dialogue import Done, Next, advance, replay
from datagen.grid import Request
from datagen.kinds import KINDS
from datagen.limits import Gate, Outcome, Stopped
from datagen.progress import Progress
from datagen.settings import EMBEDDED, Teacher, Terms
from datagen.store import Attempt, DiskFull, OverBudget, Spent, Store, Taken, bound
from datagen.window import Known
from schemas.chain import Malformed
from schemas.faults import Fault
from schemas.lineage import lineage

CROWD = 4  # conversations alive for each slot: those beyond it wait out refusals and backoffs
GLANCE = 64  # stored requests walked over before calls in flight get their turn
BEAT = 1.0  # seconds between two looks at the clock, the parent and the budget of hours
REMEMBER = 10  # beats between two notes of what the endpoint bears
ELSEWHERE = 0.5  # seconds between two looks at what another run has out
UNBILLED = ("refused", "unreached", "server", "rejected", "fatal")  # nobody bills these; of others one cannot be sure
INTERRUPTED = "interrupted"
HOUR = 3600.0


class Interrupted(Fault):
    """Ctrl-C: what was in flight has been stored, the rest is left."""

    exit_code = 130


class Result(Struct, frozen=True):
    """What a request came to."""

    request: Request
    id: str
    """The first 16 hex digits of its key."""
    teacher: str
    """Model and endpoint that replied."""
    content: str
    """The last reply, as it came."""
    fault: str | None
    """Why the loop gave up asking, None for a valid reply."""


class Tally(Struct):
    """What the metrics of a stage say of its requests; the same for the same replies."""

    requests: int = 0
    valid: int = 0
    mended: int = 0
    reasked: int = 0
    rejected: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """Of the rejected, by reason."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Loop:
    """What the conversations of a run share."""

    def __init__(
        self,
        ask: Ask,
        store: Store,
        gate: Gate,
        progress: Progress,
        reasks: int,
        over: Callable[[list[Spent]], str | None] | None = None,
    ) -> None:
        self.ask = ask
        self.store = store
        self.gate = gate
        self.progress = progress
        self.reasks = reasks
        self.over = over
        self.flying = 0
        """Calls that were sent and have not landed."""

    async def settle(self, todo: Iterator[Next | None]) -> None:
        """Bring each conversation to its end, or the run to its own; None lets calls in flight have their turn."""

        async def work() -> None:
            try:
                for state in todo:
                    if state is None:
                        await asyncio.sleep(0)
                    else:
                        self.progress.step(state.request.topic, await self._converse(state))
                    if self.gate.reason:
                        return
            except Stopped:
                return
            except Fault as fault:  # the store's: without a place for replies, none is to be paid for
                self.gate.stop(fault.message)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.gate.limits.concurrency * CROWD):
                group.create_task(work())

    async def _converse(self, state: Next) -> Done | None:
        """Ask, and ask again with the error while the reply is bad; None if a call brought no reply."""
        while True:
            if self.store.out(state.key):  # another run asks this: its reply is ours too
                if self.store.batched(state.key):  # but not if it takes a day
                    self.progress.batched += 1
                    return None
                await self.gate.pause(ELSEWHERE)
                reply = self.store.reply(state.key)
            else:
                try:
                    outcome = await self.gate.patiently(partial(self._once, state))
                except Taken:
                    reply = self.store.reply(state.key)
                else:
                    if isinstance(outcome, Failure):
                        return None
                    reply = outcome
            after = advance(state, reply, self.reasks) if reply else state
            if isinstance(after, Done):
                return after
            state = after

    async def _once(self, turn: Next, failures: int | None) -> Outcome:
        """Send a request once, which has failed so often before, and journal what came of it."""
        entered = await self.gate.enter(again=failures is not None or turn.turn > 0)
        outcome: Outcome | None = None
        try:
            n, at = await self._send(turn)
            self.flying += 1
            started = time.perf_counter()
            outcome = await self.gate.attend(self.ask(turn.request, self.gate.limits.timeout), failures or 0)
            self.flying -= 1
            self._land(turn, n, at, time.perf_counter() - started, outcome)
            return outcome
        finally:
            self.gate.leave(entered, outcome)

    async def _send(self, turn: Next) -> tuple[int, float]:
        """Write down that a call is sent; near the end of the budget, wait for what is out to cost less than feared."""
        while True:
            at = time.time()
            try:
                return self.store.send(turn.request, turn.key, turn.root, turn.turn, at, self.over), at
            except OverBudget as reason:
                if not self.flying:
                    self.gate.stop(f"{reason}; raise it in params.yaml to go on")
                if self.gate.reason:
                    raise Stopped from None
            await self.gate.landing()

    def _land(self, turn: Next, n: int, at: float, latency: float, outcome: Outcome) -> None:
        attempt = attempted(turn.request, at, latency, outcome)
        reply = outcome if isinstance(outcome, Reply) else None
        self.store.land(turn.request, turn.key, n, attempt, reply, billed=attempt.verdict not in UNBILLED)
        if reply:
            self.progress.pay(turn.request.topic, reply)


def attempted(request: Request, at: float, latency: float, outcome: Outcome) -> Attempt:
    """Return the journal's line on what came of a request; a reply is judged."""
    if isinstance(outcome, Failure):
        return Attempt(at, latency, outcome.status, outcome.kind, outcome.detail)
    verdict = KINDS[request.kind].judge(request, outcome)
    fault = f"{verdict.reason}: {verdict.detail}" if isinstance(verdict, Malformed) else None
    return Attempt(at, latency, 200, "bad" if fault else "valid", fault)


def unsettled(stream: Iterable[Request], reasks: int, store: Store, progress: Progress) -> Iterator[Next | None]:
    """Yield the conversations that have not come to their end in the store; count the others, and yield None between.

    A long stretch of stored requests would otherwise keep the calls in flight waiting.
    """
    for walked, request in enumerate(stream, 1):
        state = replay(request, reasks, store.reply)
        if isinstance(state, Next):
            yield state
        else:
            progress.step(request.topic, state, stored=True)
            if walked % GLANCE == 0:
                yield None


def settled(stream: Iterable[Request], reasks: int, store: Store) -> Iterator[tuple[Request, Done | Next]]:
    """Yield where each request's conversation stands, in the order of the stream."""
    for request in stream:
        yield request, replay(request, reasks, store.reply)


def results(stream: Iterable[Request], reasks: int, store: Store, tally: Tally) -> Iterator[Result]:
    """Yield what each request came to, in the order of the stream, and add it to the tally."""
    for request, state in settled(stream, reasks, store):
        replies = state.replies if isinstance(state, Done) else state.bad
        fault = state.fault if isinstance(state, Done) else f"no_reply: {store.last_error(state.key)}"
        tally.requests += 1
        tally.valid += fault is None
        tally.mended += isinstance(state, Done) and bool(state.repairs)
        tally.reasked += len(replies) > 1
        tally.rejected += fault is not None
        tally.faults.update([fault.partition(":")[0]] if fault else ())
        tally.prompt_tokens += sum(reply.prompt_tokens for reply in replies)
        tally.completion_tokens += sum(reply.completion_tokens for reply in replies)
        yield Result(
            request=request,
            id=request.key[:16],
            teacher=f"{(replies and replies[-1].model) or request.body.model} @ {request.endpoint}",
            content=replies[-1].content if replies else "",
            fault=fault,
        )


def fill(
    name: str,
    stream: Iterable[Request],
    totals: Mapping[str, int],
    teacher: Teacher,
    reasks: int,
    terms: Terms,
    store: Store,
    connect: Connect = connect,
) -> Progress:
    """Ask for what the store lacks of a stream of requests; return how far that came. `totals` counts it by topic.

    Fault if the endpoint is of no use or the budget used up, Interrupted after Ctrl-C. Nothing is imported or opened
    when nothing is lacking.
    """
    with Progress(name, totals, terms.prices.get(teacher.model)) as progress:
        todo = unsettled(stream, reasks, store, progress)
        first = next((state for state in todo if state), None)
        if first is not None:
            reason = _run(_asked(chain((first,), todo), first, teacher, reasks, terms, store, progress, connect))
            if reason:
                for _ in todo:
                    pass  # the rest is walked to count what is in the store
                left = progress.total - progress.done
                kind = Interrupted if reason == INTERRUPTED else Fault
                raise kind(
                    f"{name}: {reason}; {progress.done} of {progress.total} are in the store, {left} are left; "
                    "the same command goes on from there"
                )
            if progress.batched:
                raise Fault(
                    f"{name}: {progress.batched} of {progress.total} are out in a batch; `datagen batch` collects "
                    "them, then the same command goes on"
                )
    return progress


def _run(asked: Coroutine[Any, Any, str | None]) -> str | None:
    import uvloop

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(asked)
    except KeyboardInterrupt:  # before the first call, or after the last
        return INTERRUPTED


async def _asked(
    todo: Iterator[Next | None],
    first: Next,
    teacher: Teacher,
    reasks: int,
    terms: Terms,
    store: Store,
    progress: Progress,
    connect: Connect,
) -> str | None:
    budget.priced(terms.budget, terms.prices, {teacher.model, *(row.model for row in store.spent())})
    loop = asyncio.get_running_loop()
    async with connect(teacher, terms.limits.concurrency) as ask:
        if lost := store.begin_run():
            click.echo(
                f"{progress.name}: {lost} calls were out when a run was killed; they may have been billed, and are "
                "asked again",
                err=True,
            )
        gate = Gate(terms.limits, teacher.base_url, sum(bound(first.request.body)), _remembered(store, teacher))

        def interrupt() -> None:
            gate.stop(INTERRUPTED)
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # safe at any moment: every reply that came is committed
            click.echo(f"{progress.name}: finishing the calls in flight; Ctrl-C again leaves at once", err=True)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt)
        watch = loop.create_task(_watch(gate, store, terms.budget.hours, teacher))
        over = budget.over(terms.budget, terms.prices)
        await Loop(ask, store, gate, progress, reasks, over).settle(todo)
        watch.cancel()
    with suppress(DiskFull):  # what the run has come to is said all the same
        _remember(gate, store, teacher)
    return gate.reason


async def _watch(gate: Gate, store: Store, hours: float | None, teacher: Teacher) -> None:
    """Keep the run's place among the runs, and stop it when its time is up or its parent is dead.

    DVC killed must not leave a run behind that spends money. DVC sets DVC_STAGE for what it runs; a run of one's own
    may outlive its shell.
    """
    first = lineage() if "DVC_STAGE" in os.environ else None
    for beat in count(1):
        gate.share(store.living())
        if hours is not None and store.ran() + gate.slowest() >= hours * HOUR:
            gate.stop(f"budget.hours of {hours:g} is used up; raise it in params.yaml to go on")
        await asyncio.sleep(BEAT)
        gate.give_up_hung()
        if first and lineage() != first:
            gate.stop("the process that started this one is gone")
        try:
            store.beat()
            if beat % REMEMBER == 0:
                _remember(gate, store, teacher)
        except Fault as fault:
            gate.stop(fault.message)


def _remembered(store: Store, teacher: Teacher) -> Known | None:
    found = None if teacher.base_url == EMBEDDED else store.remembered(teacher.base_url, teacher.model)
    try:
        return msgspec.json.decode(found, type=Known) if found else None
    except msgspec.ValidationError:  # noted by another version: found out anew
        return None


def _remember(gate: Gate, store: Store, teacher: Teacher) -> None:
    known = gate.window.known()
    if known and teacher.base_url != EMBEDDED:
        store.remember(teacher.base_url, teacher.model, msgspec.json.encode(known))


def checked(found: Iterable[Result], name: str, min_yield: float) -> Iterator[Result]:
    """Yield all results, then raise a Fault if too few were valid: a file being written is thereby given up."""
    faults: Counter[str] = Counter()
    total = 0
    example = None
    for result in found:
        total += 1
        if result.fault:
            faults[result.fault.partition(":")[0]] += 1
            example = example or result
        yield result
    valid = total - faults.total()
    if example and valid < min_yield * total:
        what = ", ".join(f"{reason} {count}" for reason, count in faults.most_common())
        raise Fault(
            f"{name}: {valid} of {total} valid, below min_yield {min_yield:g} ({what}); "
            f"one of them, see `datagen show {example.id}`, is {example.fault}; "
            "all replies stay in the store, the next run asks for those that are missing"
        )
