"""How hard and how long to try: slots, waits, retries, and when to stop the whole run."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import random

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt, wait_exponential_jitter

from datagen.client import Failure, Reply

UNREACHED = 3  # connections that fail before the first reply: the address is wrong or nobody listens there
STREAK = 20  # failures on end before the first reply, or by the time a call has used up its tries: the endpoint is down
PATIENCE = 600.0  # seconds of refusals only; a minute's or an hour's quota is over or will not be soon
BACKOFF = wait_exponential_jitter(initial=1.0, max=60.0, jitter=1.0)
SPREAD = 0.25  # a wait of the endpoint's choosing is drawn out by up to this share, or all come back at once
RETRIED = ("network", "timeout", "server", "garbled")

Outcome = Reply | Failure


class Stopped(Exception):
    """Raised at the next wait of a call once the run is to end; calls in flight are let finish."""


class Limits:
    """The run's slots and its breaker. `reason` says why the run is to end, None while it goes on."""

    def __init__(self, concurrency: int, attempts: int, where: str) -> None:
        self.concurrency = concurrency
        self.slots = asyncio.Semaphore(concurrency)
        self.attempts = attempts
        self.where = where
        self.reason: str | None = None
        self._ending = asyncio.Event()
        self._answered = False
        self._streak = 0
        self._last_reply = time.monotonic()

    def stop(self, reason: str) -> None:
        """End the run: nothing new is sent, calls in flight finish."""
        self.reason = self.reason or reason
        self._ending.set()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the places in flight; Stopped if the run has come to its end while waiting."""
        async with self.slots:
            if self.reason:
                raise Stopped
            yield

    async def pause(self, seconds: float) -> None:
        """Wait, outside any slot; Stopped if the run ends meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            return
        raise Stopped

    def observe(self, outcome: Outcome) -> None:
        """Take note of an attempt, and stop a run that has become hopeless."""
        if isinstance(outcome, Reply):
            self._answered, self._streak, self._last_reply = True, 0, time.monotonic()
        elif outcome.kind == "refused":
            if (outcome.retry_after or 0.0) > PATIENCE:
                self.stop(f"{self.where} asks to wait {outcome.retry_after:.0f} s: {outcome.detail}")
            elif time.monotonic() - self._last_reply > PATIENCE:
                self.stop(f"{self.where} refused every call for {PATIENCE:.0f} s: {outcome.detail}")
        elif outcome.kind == "fatal":
            self.stop(f"{self.where}: {outcome.detail}")
        else:
            self._streak += 1
            bound = UNREACHED if outcome.kind == "network" else STREAK
            if not self._answered and self._streak >= bound:
                self.stop(f"{self.where}: no reply in {self._streak} tries: {outcome.detail}")

    def given_up(self, failure: Failure) -> None:
        """Take note of a call that has used up its tries."""
        if self._streak >= STREAK:
            self.stop(f"{self.where}: {self._streak} failures with no reply between them: {failure.detail}")

    async def patiently(self, once: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Call until a reply comes, the failure is final or the tries are used up; a refusal costs no try.

        Between two tries the call waits as long as the endpoint says, or longer each time. Stopped when the run ends.
        """

        async def unrefused() -> Outcome:
            outcome: Outcome = await AsyncRetrying(retry=retry_if_result(_refused), wait=_wait, sleep=self.pause)(once)
            return outcome

        outcome: Outcome = await AsyncRetrying(
            retry=retry_if_result(_failed),
            wait=_wait,
            sleep=self.pause,
            stop=stop_after_attempt(self.attempts),
            retry_error_callback=_last,
        )(unrefused)
        if isinstance(outcome, Failure):
            self.given_up(outcome)
        return outcome


def _refused(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and outcome.kind == "refused"


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
