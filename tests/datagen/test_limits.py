import asyncio
import time
from collections.abc import Callable

import pytest

from datagen.client import Failure, Reply
from datagen.limits import PATIENCE, STREAK, UNREACHED, Limits, Outcome, Stopped

A_REPLY = Reply("x", "stop", "m", 1, 1)
REFUSED = Failure("refused", 429, "HTTP 429: slow down", retry_after=0.0)
SERVER = Failure("server", 500, "HTTP 500: oops", retry_after=0.0)
NETWORK = Failure("network", None, "ConnectionRefusedError: x", retry_after=0.0)
REJECTED = Failure("rejected", 400, "HTTP 400: too long")
FATAL = Failure("fatal", 401, "HTTP 401: wrong key")


def the_limits(attempts: int = 3, concurrency: int = 4) -> Limits:
    return Limits(concurrency, attempts, "https://x/v1")


def tried(limits: Limits, *outcomes: Outcome) -> tuple[Outcome, int]:
    """What a call comes to that meets these outcomes in turn, and how many it met."""
    left = list(outcomes)

    async def once() -> Outcome:
        return left.pop(0)

    return asyncio.run(limits.patiently(once)), len(outcomes) - len(left)


@pytest.mark.parametrize(
    ("outcomes", "last", "calls"),
    [
        ([A_REPLY], A_REPLY, 1),
        ([SERVER, A_REPLY], A_REPLY, 2),
        ([SERVER, SERVER, A_REPLY], A_REPLY, 3),
        ([SERVER] * 4, SERVER, 3),
        ([REFUSED] * 6 + [A_REPLY], A_REPLY, 7),
        ([REFUSED, SERVER] * 3 + [A_REPLY], SERVER, 6),
        ([REJECTED, A_REPLY], REJECTED, 1),
        ([FATAL, A_REPLY], FATAL, 1),
    ],
)
def test_a_failure_costs_a_try_a_refusal_none(outcomes, last, calls):
    assert tried(the_limits(attempts=3), *outcomes) == (last, calls)


def test_it_waits_as_long_as_the_endpoint_says_and_not_much_longer():
    started = time.monotonic()

    tried(the_limits(), Failure("refused", 429, "", retry_after=0.2), A_REPLY)

    assert 0.2 <= time.monotonic() - started < 1.0


def test_waiting_takes_no_slot():
    limits = the_limits(concurrency=1)
    order = []

    async def call(name: str, outcomes: list[Outcome]) -> None:
        async def once() -> Outcome:
            async with limits.slot():
                order.append(name)
                return outcomes.pop(0)

        await limits.patiently(once)

    async def both() -> None:
        await asyncio.gather(call("refused", [Failure("refused", 429, "", 0.1), A_REPLY]), call("other", [A_REPLY]))

    asyncio.run(both())

    assert order == ["refused", "other", "refused"]


def test_no_more_calls_are_in_flight_than_there_are_slots():
    limits = the_limits(concurrency=3)
    most = now = 0

    async def call() -> None:
        nonlocal most, now
        async with limits.slot():
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    async def all_() -> None:
        await asyncio.gather(*(call() for _ in range(20)))

    asyncio.run(all_())

    assert most == 3


@pytest.mark.parametrize(
    ("outcomes", "reason"),
    [
        ([FATAL], "https://x/v1: HTTP 401: wrong key"),
        ([A_REPLY, FATAL], "https://x/v1: HTTP 401: wrong key"),
        ([NETWORK] * UNREACHED, f"https://x/v1: no reply in {UNREACHED} tries: ConnectionRefusedError: x"),
        ([NETWORK] * (UNREACHED - 1), None),
        ([A_REPLY] + [NETWORK] * (STREAK * 2), None),
        ([SERVER] * STREAK, f"https://x/v1: no reply in {STREAK} tries: HTTP 500: oops"),
        ([SERVER] * (STREAK - 1), None),
        ([REFUSED] * 1000, None),
        (
            [Failure("refused", 429, "HTTP 429: tomorrow", PATIENCE + 1)],
            f"https://x/v1 asks to wait {PATIENCE + 1:.0f} s: HTTP 429: tomorrow",
        ),
    ],
)
def test_the_run_stops_when_going_on_is_hopeless_and_not_before(outcomes, reason):
    limits = the_limits()

    for outcome in outcomes:
        limits.observe(outcome)

    assert limits.reason == reason


@pytest.mark.parametrize(("failures", "stops"), [(STREAK - 1, False), (STREAK, True)])
def test_an_endpoint_that_has_answered_is_given_up_with_a_call_that_used_up_its_tries(failures, stops):
    limits = the_limits()
    limits.observe(A_REPLY)
    for _ in range(failures):
        limits.observe(NETWORK)

    limits.given_up(NETWORK)

    assert (limits.reason is not None) is stops


def test_refusals_alone_for_too_long_stop_the_run():
    limits = the_limits()
    limits._last_reply -= PATIENCE + 1

    limits.observe(REFUSED)

    assert limits.reason == f"https://x/v1 refused every call for {PATIENCE:.0f} s: HTTP 429: slow down"


@pytest.mark.parametrize("waits", [lambda limits: limits.pause(60), lambda limits: limits.slot().__aenter__()])
def test_once_the_run_is_to_end_whoever_waits_is_sent_home(waits: Callable):
    async def run() -> None:
        limits = the_limits()
        asyncio.get_running_loop().call_soon(limits.stop, "enough")
        await asyncio.sleep(0.01)
        await waits(limits)

    with pytest.raises(Stopped):
        asyncio.run(run())


def test_the_first_reason_stays():
    limits = the_limits()

    limits.stop("first")
    limits.stop("second")

    assert limits.reason == "first"
