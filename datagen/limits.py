"""How hard and how long to try: who may send and when, waits, retries, and when to stop the whole run."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from random import random
from typing import NamedTuple

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt, wait_exponential_jitter

from datagen.client import Failure, Reply
from datagen.settings import Limits
from datagen.window import Known, Window

UNREACHED = 3  # connections that fail before the first reply: the address is wrong or nobody listens there
STREAK = 20  # failures on end before the first reply, or by the time a call has used up its tries: the endpoint is down
PATIENCE = 600.0  # seconds of refusals only; a minute's or an hour's quota is over or will not be soon
BACKOFF = wait_exponential_jitter(initial=1.0, max=60.0, jitter=1.0)
SPREAD = 0.25  # a wait of the endpoint's choosing is drawn out by up to this share, or all come back at once
RETRIED = ("unreached", "network", "timeout", "server", "garbled")
FREE = ("refused", "lost")  # these cost no try
RECENT = 200  # replies whose latencies say when a call counts as hung; nothing counts as hung before there are so many
MIN_HUNG = 10.0  # seconds; what is faster is not worth paying for twice
TICK = 0.001  # seconds, the shortest sleep
MINUTE = 60.0
CATCH_UP = 0.05  # seconds that a pace makes good afterwards: no timer wakes on the dot

Outcome = Reply | Failure


class Stopped(Exception):
    """Raised at the next wait of a call once the run is to end; calls in flight are let finish."""


class Pass(NamedTuple):
    """That a call was let through: when, the tokens it was taken to use, and its number."""

    at: float
    tokens: float
    number: int


class Pace:
    """A bound by the minute, spread evenly: so much may be taken, then no more until that much time has passed."""

    def __init__(self, per_minute: float) -> None:
        self.rate = per_minute / MINUTE
        self.free = 0.0

    def wait(self, now: float) -> float:
        """Seconds until something may be taken."""
        return self.free - now

    def take(self, now: float, amount: float) -> None:
        """Take it; a negative amount gives back."""
        self.free = max(self.free, now - CATCH_UP) + amount / self.rate


class Gate:
    """What every call passes: the window of calls in flight, the pace and the breaker.

    `reason` says why the run is to end, None while it goes on.
    """

    def __init__(self, limits: Limits, where: str, call_tokens: float, known: Known | None = None) -> None:
        """`call_tokens` is what a call is taken to use before there are replies."""
        self.limits = limits
        self.where = where
        self.window = Window(limits.concurrency, known, time.monotonic())
        self.reason: str | None = None
        self._sent = 0
        self._out: dict[int, float] = {}  # when each call that is out was sent, the oldest first
        self._calls = Pace(limits.rpm) if limits.rpm else None
        self._tokens = Pace(limits.tpm) if limits.tpm else None
        self._usual_tokens = call_tokens
        self._again: deque[asyncio.Future[Pass]] = deque()
        self._first: deque[asyncio.Future[Pass]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._ending = asyncio.Event()
        self._landing = asyncio.Event()
        self._latencies: deque[float] = deque(maxlen=RECENT)
        self._attended: dict[asyncio.Timeout, tuple[float, int]] = {}  # when a call began, how often it failed before
        self._answered = False
        self._streak = 0
        self._failing_since = 0.0
        self._last_reply = time.monotonic()

    # --- sending -------------------------------------------------------------------------------------------------

    async def enter(self, *, again: bool) -> Pass:
        """Wait until one more call may be sent, those that are sent again first.

        Stopped if the run has come to its end while waiting.
        """
        if self.reason:
            raise Stopped
        now = time.monotonic()
        if not (self._again or self._first) and self._may(now):
            return self._take(now)
        place: asyncio.Future[Pass] = asyncio.get_running_loop().create_future()
        (self._again if again else self._first).append(place)
        self._set_timer(now)
        return await place

    def leave(self, entered: Pass, outcome: Outcome | None) -> None:
        """Take note of what became of a call, and let the next ones through; None for one that was not sent at all."""
        if isinstance(outcome, Failure) and outcome.kind == "lost":
            outcome = None  # nobody knows
        now = time.monotonic()
        del self._out[entered.number]
        if isinstance(outcome, Reply):
            self.window.landed(now, entered.at, "reply")
            self._latencies.append(now - entered.at)
        else:
            refused = outcome is not None and outcome.kind == "refused"
            self.window.landed(now, entered.at, "refused" if refused else "failed")
        if self._tokens:
            used = 0
            if isinstance(outcome, Reply):
                used = outcome.prompt_tokens + outcome.completion_tokens
                self._usual_tokens += (used - self._usual_tokens) * (0.1 if self._answered else 1.0)
            self._tokens.take(now, used - entered.tokens)
        if outcome is not None:
            self._observe(outcome)
        self._landing.set()
        self._landing = asyncio.Event()
        self._let_through(now)

    async def landing(self) -> None:
        """Wait until a call that is out has landed."""
        await self._landing.wait()

    async def attend(self, call: Awaitable[Outcome], failures: int) -> Outcome:
        """Wait for a call, unless it hangs: unless it takes many times as long as any recent reply did.

        Each time it has failed before doubles the patience with it.
        """
        if self.limits.hung is None:
            return await call
        timer = asyncio.timeout(None)
        began = time.monotonic()
        self._attended[timer] = (began, failures)
        try:
            async with timer:
                return await call
        except TimeoutError:
            return Failure("timeout", None, f"it hangs: no reply after {time.monotonic() - began:.0f} s")
        finally:
            del self._attended[timer]

    def give_up_hung(self) -> None:
        """Give up the calls that hang; nothing counts as hung before there are enough replies to compare it with."""
        if self.limits.hung is None or len(self._latencies) < RECENT:
            return
        patience = max(MIN_HUNG, self.limits.hung * max(self._latencies))
        now = time.monotonic()
        for timer, (began, failures) in self._attended.items():
            if not timer.expired() and now - began > patience * 2**failures:
                timer.reschedule(0.0)

    def slowest(self) -> float:
        """Return the latency of the slowest recent reply, in seconds."""
        return max(self._latencies, default=0.0)

    def share(self, runs: int) -> None:
        """Divide what is allowed by the minute among so many runs."""
        if self._calls and self.limits.rpm:
            self._calls.rate = self.limits.rpm / MINUTE / max(1, runs)
        if self._tokens and self.limits.tpm:
            self._tokens.rate = self.limits.tpm / MINUTE / max(1, runs)

    def _may(self, now: float) -> bool:
        return self._paused(now) <= 0 and self.window.room(now)

    def _paused(self, now: float) -> float:
        return max((pace.wait(now) for pace in (self._calls, self._tokens) if pace), default=0.0)

    def _take(self, now: float) -> Pass:
        self._sent += 1
        self._out[self._sent] = now
        self.window.sent(now)
        if self._calls:
            self._calls.take(now, 1)
        if self._tokens:
            self._tokens.take(now, self._usual_tokens)
        return Pass(now, self._usual_tokens, self._sent)

    def _let_through(self, now: float) -> None:
        """Let one call through, and the next when the loop has looked for what has landed.

        A burst would be on its way before the first refusal is seen.
        """
        while queue := self._again or self._first:
            if not self._may(now):
                break
            place = queue.popleft()
            if not place.done():
                place.set_result(self._take(now))
                break
        if self._again or self._first:
            self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        """Come back when room appears by itself; a landing comes back anyway."""
        later = self.window.later(now) if not self.window.room(now) else 0.0
        if later is None:
            return
        loop = asyncio.get_running_loop()
        wait = max(later, self._paused(now), TICK)
        if self._timer:
            if self._timer.when() <= loop.time() + wait:
                return
            self._timer.cancel()  # tokens were given back, or a slot
        self._timer = loop.call_later(wait, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._let_through(time.monotonic())

    # --- waiting and trying again --------------------------------------------------------------------------------

    async def pause(self, seconds: float) -> None:
        """Wait, outside any slot; Stopped if the run ends meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            return
        raise Stopped

    async def patiently(self, once: Callable[[int | None], Awaitable[Outcome]]) -> Outcome:
        """Call until a reply comes, the failure is final or the tries are used up; a refusal costs no try.

        `once` is told how often the call has failed before, None the first time of all. Between two tries the call
        waits as long as the endpoint says, or longer each time. Stopped when the run ends.
        """
        first = await once(None)
        if isinstance(first, Reply):
            return first  # as nearly all are: without the machinery below
        met: list[Outcome] = [first]
        failures = 0

        async def again() -> Outcome:
            nonlocal failures
            outcome = met.pop() if met else await once(failures)
            failures += not _free(outcome)
            return outcome

        async def charged() -> Outcome:
            outcome: Outcome = await AsyncRetrying(retry=retry_if_result(_free), wait=_wait, sleep=self.pause)(again)
            return outcome

        outcome: Outcome = await AsyncRetrying(
            retry=retry_if_result(_failed),
            wait=_wait,
            sleep=self.pause,
            stop=stop_after_attempt(self.limits.attempts),
            retry_error_callback=_last,
        )(charged)
        if isinstance(outcome, Failure) and self._streak >= STREAK:
            self.stop(f"{self.where}: {self._streak} failures with no reply between them: {outcome.detail}")
        return outcome

    # --- stopping ------------------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """End the run: nothing new is sent, calls in flight finish."""
        if self.reason:
            return
        self.reason = reason
        self._ending.set()
        for place in (*self._again, *self._first):
            if not place.done():
                place.set_exception(Stopped())

    def _observe(self, outcome: Outcome) -> None:
        """Take note of an outcome, and stop a run that has become hopeless."""
        if isinstance(outcome, Reply):
            self._answered, self._streak, self._last_reply = True, 0, time.monotonic()
        elif (outcome.retry_after or 0.0) > PATIENCE:
            self.stop(f"{self.where} asks to wait {outcome.retry_after:.0f} s: {outcome.detail}")
        elif outcome.kind == "refused":
            if time.monotonic() - self._last_reply > PATIENCE:
                self.stop(f"{self.where} refused every call for {PATIENCE:.0f} s: {outcome.detail}")
        elif outcome.kind == "fatal":
            self.stop(f"{self.where}: {outcome.detail}")
        else:
            if not self._streak:
                self._failing_since = time.monotonic()
            self._streak += 1
            bound = UNREACHED if outcome.kind == "unreached" else STREAK
            hopeful = next(iter(self._out.values()), self._failing_since) < self._failing_since  # one sent before that
            if not self._answered and self._streak >= bound and not hopeful:
                self.stop(f"{self.where}: no reply in {self._streak} tries: {outcome.detail}")


def _free(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and outcome.kind in FREE


def _failed(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and outcome.kind in RETRIED


def _wait(state: RetryCallState) -> float:
    outcome = _last(state)
    if isinstance(outcome, Failure) and outcome.retry_after is not None:
        return outcome.retry_after * (1 + SPREAD * random()) + SPREAD * random()
    return BACKOFF(state)


def _last(state: RetryCallState) -> Outcome:
    assert state.outcome is not None
    outcome: Outcome = state.outcome.result()
    return outcome
