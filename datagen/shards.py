"""Calls made on other machines: the loop, the limits and the store stay in this process, workers on Ray do the asking.

What is dealt out is the calls, not the loop. Loops elsewhere, each with its part of the limits, would take one
another's load for a whim of the endpoint, leave unused what an idle one holds, and stop before the budget does; and
little would be won: a call takes 0.46 ms of this process's CPU (without workers 0.63), of which 0.17 are the store's,
and there is one store. So every bound and every promise holds as on one machine, and the replies are the same: what is
about to be sent is in the journal first, and a kill loses no more than what was in flight. Each worker has an equal
share of `concurrency`, `rpm` and `tpm`, since a call goes to the one that has the fewest out.

Calls and outcomes travel in batches of what has come up meanwhile. With 64 in flight that costs this process 0.04 ms a
call and bears 20,000 a second; a call of Ray's own for each costs 0.4 ms and bears 1,400.

The key is an argument of the first method called on a worker. Such an argument goes from process to process and is kept
by neither Ray's own processes nor its files; the arguments of a constructor and a `runtime_env` are, the latter even in
a log. A node's environment would show it to every job on the cluster. RAY_USE_TLS=1 encrypts the way, as it does that
of prompts and replies.
"""

import asyncio
import contextlib
import hashlib
import os
import platform
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import Struct

from datagen import client
from datagen.client import Ask, Failure, Reply
from datagen.grid import Request
from datagen.settings import EMBEDDED, Teacher
from schemas.cluster import cluster, said
from schemas.faults import Fault

DEATHS = 3  # of a worker and those in its place, on end and with nothing brought back: the next would die as well
SILENCE = 30.0  # seconds beyond a call's deadline until its worker counts as dead; Ray notices a lost node in as many
PLACED = 20.0  # seconds after which it is said that the cluster has no room for all workers
BLIND = 5  # connections of a worker that fail before its first reply, while others have replies: it is to blame
REPLACED = 30.0  # seconds that a call waits for a worker if all are dead, before it gives up its place
MEMORY = 100 * 2**20  # bytes for what is under way on a Ray of our own; a batch of calls takes one or two
ALIKE = "every node needs the same, with its extra `ray`"
CONNECTIONS = ("unreached", "network")  # kinds of failure
CODE = (".py", ".j2", ".yaml", ".xsd")
Outcome = Reply | Failure


class Call(Struct, frozen=True, array_like=True):
    """A call to make."""

    number: int
    request: Request
    timeout: float


class Landed(Struct, frozen=True, array_like=True):
    """What became of a call: one of the two."""

    number: int
    reply: Reply | None
    failure: Failure | None


_encode = msgspec.msgpack.encode
_calls = msgspec.msgpack.Decoder(list[Call])
_landed = msgspec.msgpack.Decoder(list[Landed])


class Worker:
    """Makes the calls that it is handed; an actor of Ray's, in a process of its own somewhere in the cluster."""

    def __init__(self, connect: client.Connect = client.connect) -> None:
        self._connect = connect
        self._ask: Ask | None = None
        self._end = AsyncExitStack()
        self._out: dict[int, asyncio.Task[None]] = {}
        self._outcomes: list[Landed] = []
        self._some = asyncio.Event()

    async def begin(
        self, teacher: bytes, concurrency: int, environment: Mapping[str, str], code: str
    ) -> tuple[str, str | None]:
        """Open the endpoint; return the name of this machine, and why the endpoint cannot be asked if it cannot."""
        host = platform.node()
        if code != sources():
            return host, f"{host}: another version of question-bank is installed there; {ALIKE}"
        os.environ.update(environment)
        try:
            asked = msgspec.msgpack.decode(teacher, type=Teacher)
            self._ask = await self._end.enter_async_context(self._connect(asked, concurrency))
        except (Fault, ImportError) as error:
            return host, f"{host}: {error}"
        return host, None

    async def take(self, calls: bytes) -> None:
        """Start a batch of calls."""
        for call in _calls.decode(calls):
            self._out[call.number] = asyncio.create_task(self._make(call))

    async def drop(self, number: int) -> None:
        """Give up a call, unless it has landed."""
        if task := self._out.pop(number, None):
            task.cancel()

    async def landed(self) -> bytes:
        """Return what has become of calls since this was last called, as soon as there is something."""
        await self._some.wait()
        self._some.clear()
        outcomes, self._outcomes = self._outcomes, []
        return _encode(outcomes)

    async def _make(self, call: Call) -> None:
        assert self._ask
        outcome = await self._ask(call.request, call.timeout)
        known = (outcome, None) if isinstance(outcome, Reply) else (None, outcome)
        self._outcomes.append(Landed(call.number, *known))
        self._out.pop(call.number, None)
        self._some.set()


class Shard:
    """What a worker has been handed and has not brought back."""

    def __init__(self, worker: Any, host: str) -> None:
        self.worker = worker
        self.host = host
        self.answered = False
        self.failures = 0
        """Connections that failed."""
        self.out: dict[int, asyncio.Future[Outcome]] = {}
        self._waiting: list[Call] = []

    async def ask(self, call: Call) -> Outcome:
        """Have the worker make a call, handed over with all that come up in the same turn of the event loop."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Outcome] = loop.create_future()
        self.out[call.number] = outcome
        if not self._waiting:
            loop.call_soon(self._hand_over)
        self._waiting.append(call)
        try:
            return await outcome
        except asyncio.CancelledError:
            self.worker.drop.remote(call.number)
            raise
        finally:
            del self.out[call.number]

    def _hand_over(self) -> None:
        self.worker.take.remote(_encode(self._waiting))
        self._waiting = []

    def land(self, landed: Landed) -> None:
        """Note what became of a call, unless nobody waits for it any more."""
        outcome = landed.reply or landed.failure
        self.answered |= isinstance(outcome, Reply)
        self.failures += isinstance(outcome, Failure) and outcome.kind in CONNECTIONS
        waiting = self.out.get(landed.number)
        if outcome and waiting and not waiting.done():
            waiting.set_result(outcome)

    def lose(self) -> None:
        """Note that the worker is dead."""
        for outcome in self.out.values():
            if not outcome.done():
                outcome.set_result(Failure("lost", None, "its worker died; it may have been billed"))


class Team:
    """The workers of a run: as many as were asked for, another for each that dies."""

    def __init__(
        self,
        size: int,
        begin: tuple[bytes, int, Mapping[str, str], str],
        start: Callable[[], Any],
        kill: Callable[[Any], None],
    ) -> None:
        """`begin` is what each worker is told first; `start` and `kill` are Ray's."""
        self.size = size
        self.shards: list[Shard] = []
        self.hopeless: str | None = None
        """Why no call can be made any more."""
        self._begin = begin
        self._start = start
        self._kill = kill
        self._numbers = count()
        self._ready = asyncio.Event()
        self._alive: set[Any] = set()
        self._tasks = [asyncio.create_task(self._tend()) for _ in range(size)]
        self._reporting = asyncio.create_task(self._report())

    async def ready(self) -> None:
        """Wait for the first worker; Fault if there will be none."""
        await self._ready.wait()
        if self.hopeless:
            raise Fault(self.hopeless)

    async def ask(self, request: Request, timeout: float) -> Outcome:
        """Send one request from the worker that has the fewest out, and return what came of it."""
        for task in self._tasks:
            if task.done():
                task.result()  # a bug there comes to light here
        if self.hopeless:
            return Failure("fatal", None, self.hopeless)
        if not self.shards:
            self._ready.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ready.wait(), REPLACED)
            if not self.shards:
                return Failure("refused", None, "all workers are dead and no other has come yet")
        shard = min(self.shards, key=lambda shard: len(shard.out))
        try:
            async with asyncio.timeout(timeout + SILENCE):
                return await shard.ask(Call(next(self._numbers), request, timeout))
        except TimeoutError:
            self._kill(shard.worker)
            return Failure("lost", None, f"no word from its worker on {shard.host}; it may have been billed")

    async def close(self) -> None:
        """End all workers."""
        self.hopeless = "the run is over"
        self._reporting.cancel()
        for worker in self._alive:
            self._kill(worker)
        await asyncio.wait(self._tasks)  # not cancelled: Ray complains of an outcome that nobody waits for

    async def _tend(self) -> None:
        """Keep one worker at work, as long as there is hope."""
        from ray.exceptions import RayError

        deaths = 0
        while not self.hopeless:
            worker = self._start()
            self._alive.add(worker)
            shard = None
            try:
                host, why_not = await worker.begin.remote(*self._begin)
                if why_not:
                    self._give_up(why_not)
                    return
                shard = Shard(worker, host)
                self.shards.append(shard)
                self._ready.set()
                while True:
                    for landed in _landed.decode(await worker.landed.remote()):
                        shard.land(landed)
                        self._doubt(shard, landed)
                        deaths = 0
            except RayError as error:
                deaths += 1
                if self.hopeless:
                    return
                if deaths == DEATHS:
                    self._give_up(
                        f"a worker died {DEATHS} times before it brought anything back: {said(error)}; {ALIKE}"
                    )
                elif shard:
                    lost = len(shard.out)
                    click.echo(
                        f"a worker on {shard.host} died with {lost} calls out; they may have been billed, and are "
                        "asked again by another",
                        err=True,
                    )
            finally:
                self._kill(worker)
                self._alive.discard(worker)
                if shard:
                    self.shards.remove(shard)
                    shard.lose()

    def _give_up(self, why: str) -> None:
        self.hopeless = self.hopeless or why
        self._ready.set()

    def _doubt(self, shard: Shard, landed: Landed) -> None:
        """Give up if one worker alone reaches nobody: soonest free again, it would draw all calls to itself."""
        if shard.answered or shard.failures < BLIND or not any(other.answered for other in self.shards):
            return
        why = landed.failure.detail if landed.failure else ""
        self._give_up(f"{shard.host}: no connection in {shard.failures} tries, while other workers have replies: {why}")

    async def _report(self) -> None:
        await asyncio.sleep(PLACED)
        if len(self.shards) < self.size and not self.hopeless:
            at_work = f"{len(self.shards)} of {self.size} workers are at work"
            click.echo(f"{at_work}, the others wait for room in the cluster", err=True)


@asynccontextmanager
async def connect(workers: int, address: str | None, teacher: Teacher, concurrency: int) -> AsyncIterator[Ask]:
    """Start so many workers and yield the function that has them ask a teacher, for so many calls at once in all.

    Fault if Ray or the key is missing, or if no worker can ask.
    """
    environment = carried(teacher)
    begin = (msgspec.msgpack.encode(teacher), concurrency, environment, sources())
    with cluster(address, workers, memory=MEMORY, hidden=environment):
        import ray

        start = ray.remote(Worker).options(num_cpus=1, scheduling_strategy="SPREAD").remote
        team = Team(min(workers, concurrency), begin, start, ray.kill)
        try:
            await team.ready()
            yield team.ask
        finally:
            await team.close()


def carried(teacher: Teacher) -> dict[str, str]:
    """Return the environment variables that a worker needs to ask a teacher; Fault if the key is not there."""
    if teacher.base_url == EMBEDDED:
        return {}
    client.secret(teacher)
    names = (teacher.api_key_env, *client.ACCOUNT.values())
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def sources() -> str:
    """Return the hash of this program: workers that judge or compose in another way would make other replies."""
    hashed = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted([*(root / "datagen").rglob("*"), *(root / "schemas").rglob("*")]):
        if path.suffix in CODE:
            hashed.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return hashed.hexdigest()
