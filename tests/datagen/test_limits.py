import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from datagen import limits
from datagen.client import Failure, Reply
from datagen.limits import CATCH_UP, PATIENCE, RECENT, SPREAD, STREAK, UNREACHED, Gate, Outcome, Stopped
from datagen.settings import Limits

A_REPLY = Reply("x", "stop", "m", 6, 4)
REFUSED = Failure("refused", 429, "HTTP 429: slow down", retry_after=0.0)
SERVER = Failure("server", 500, "HTTP 500: oops", retry_after=0.0)
NETWORK = Failure("network", None, "ClientPayloadError: x", retry_after=0.0)
UNREACHABLE = Failure("unreached", None, "ClientConnectorError: x", retry_after=0.0)
GARBLED = Failure("garbled", 200, "empty body")
REJECTED = Failure("rejected", 400, "HTTP 400: too long")
FATAL = Failure("fatal", 401, "HTTP 401: wrong key")
USUAL = Limits(concurrency=4, timeout=60.0, hung=None, attempts=3, rpm=None, tpm=None)

T = TypeVar("T")


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while there is something to do, and jumps where it would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.late = 0.0
        """Seconds by which every timer is late."""
        select = self._selector.select

        def jump(timeout: float | None) -> list[Any]:
            assert timeout is not None, "all wait, and nothing will ever happen"
            self.now += timeout + self.late * (timeout > 0)
            return select(0)

        self._selector.select = jump

    def time(self) -> float:
        return self.now

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.run_until_complete(what)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    loop = Clock()
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=loop.time))
    yield loop
    loop.close()


class Wide:
    """A window that is as wide as may be from the first call on, whatever becomes of the calls."""

    def __init__(self, top: int) -> None:
        self.left = top

    def room(self, now: float) -> bool:
        return self.left > 0

    def later(self, now: float) -> None:
        return None

    def sent(self, now: float) -> None:
        self.left -= 1

    def landed(self, now: float, sent: float, outcome: str) -> None:
        self.left += 1


def a_gate(call_tokens: float = 10.0, **changed: object) -> Gate:
    gate = Gate(replace(USUAL, **changed), "https://x/v1", call_tokens)
    gate.window = Wide(gate.limits.concurrency)
    return gate


def passing(clock: Clock, gate: Gate, calls: int, seconds: float, outcome: Outcome | None = A_REPLY) -> list[float]:
    """When each call is let through, of so many that all come at once and take 50 ms each, up to a time."""
    at = []

    async def call() -> None:
        entered = await gate.enter(again=False)
        at.append(entered.at)
        await asyncio.sleep(0.05)
        gate.leave(entered, outcome)

    async def all_() -> None:
        tasks = [asyncio.create_task(call()) for _ in range(calls)]
        await asyncio.wait(tasks, timeout=seconds)
        gate.stop("time is up")
        await asyncio.gather(*tasks, return_exceptions=True)

    clock.run(all_())
    return at


# --- who may send, and when ------------------------------------------------------------------------------------------


def test_no_more_calls_are_in_flight_than_there_are_slots(clock):
    gate = a_gate(concurrency=3)
    most = now = 0

    async def call() -> None:
        nonlocal most, now
        entered = await gate.enter(again=False)
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1
        gate.leave(entered, A_REPLY)

    async def all_() -> None:
        await asyncio.gather(*(call() for _ in range(20)))

    clock.run(all_())

    assert most == 3


def test_calls_go_in_the_order_they_came_and_those_sent_again_go_first(clock):
    gate = a_gate(concurrency=1)
    order = []

    async def call(name: str, *, again: bool) -> None:
        entered = await gate.enter(again=again)
        order.append(name)
        await asyncio.sleep(0.05)
        gate.leave(entered, A_REPLY)

    async def all_() -> None:
        first = asyncio.create_task(call("a", again=False))
        await asyncio.sleep(0.02)
        came = [("b", False), ("c", False), ("d", True), ("e", False), ("f", True)]
        await asyncio.gather(first, *(call(name, again=again) for name, again in came))

    clock.run(all_())

    assert "".join(order) == "adfbce"


def test_whoever_comes_while_others_wait_does_not_overtake_them(clock):
    gate = a_gate(rpm=60)
    order = []

    async def call(name: str) -> None:
        entered = await gate.enter(again=False)
        order.append(name)
        gate.leave(entered, A_REPLY)

    async def all_() -> None:
        await call("first")
        waiting = asyncio.create_task(call("second"))
        await asyncio.sleep(0)
        clock.now += 5.0  # its time has come, and nobody has looked yet
        await call("third")
        await waiting

    clock.run(all_())

    assert order == ["first", "second", "third"]


def test_a_call_that_waits_to_be_tried_again_takes_no_slot(clock):
    gate = a_gate(concurrency=1)
    order = []

    async def call(name: str, outcomes: list[Outcome]) -> None:
        async def once(failures: int | None) -> Outcome:
            entered = await gate.enter(again=failures is not None)
            order.append(name)
            await asyncio.sleep(0.05)
            gate.leave(entered, outcomes[0])
            return outcomes.pop(0)

        await gate.patiently(once)

    async def both() -> None:
        await asyncio.gather(call("refused", [replace(REFUSED, retry_after=5.0), A_REPLY]), call("other", [A_REPLY]))

    clock.run(both())

    assert order == ["refused", "other", "refused"]


def test_a_call_that_was_not_sent_leaves_its_slot(clock):
    gate = a_gate(concurrency=1)

    assert len(passing(clock, gate, 5, 10.0, outcome=None)) == 5
    assert gate.slowest() == 0.0


def test_who_waits_for_a_landing_is_woken_by_the_next(clock):
    gate = a_gate()

    async def run() -> None:
        entered = await gate.enter(again=False)
        landing = asyncio.create_task(gate.landing())
        await asyncio.sleep(0)
        assert not landing.done()
        gate.leave(entered, REJECTED)
        await asyncio.wait_for(landing, 1.0)

    clock.run(run())


# --- by the minute ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [0.0, 0.003])
@pytest.mark.parametrize(
    "changed", [{"rpm": 300}, {"tpm": 300 * 10}, {"rpm": 300, "tpm": 10**9}, {"rpm": 10**9, "tpm": 300 * 10}]
)
def test_calls_and_tokens_by_the_minute_hold_over_any_stretch_of_time_and_are_used(clock, changed, late):
    clock.late = late
    gate = a_gate(concurrency=1000, **changed)

    at = passing(clock, gate, 1000, 60.0)

    assert 300 <= len(at) <= 302
    for first in range(len(at)):
        for last in range(first, len(at)):
            assert last - first <= 5 * (at[last] - at[first] + CATCH_UP) + 1.001


def test_a_high_rate_is_reached_though_no_timer_is_as_fine(clock):
    clock.late = 0.005

    at = passing(clock, a_gate(concurrency=1000, rpm=60 * 2000), 10_000, 1.0)

    assert 1900 <= len(at) <= 2000 * (at[-1] - at[0] + CATCH_UP) + 2


def test_calls_that_may_not_yet_go_go_by_themselves_when_their_time_has_come(clock):
    at = passing(clock, a_gate(rpm=12), 4, 60.0)

    assert [later - earlier for earlier, later in pairwise(at)] == pytest.approx([5.0, 5.0, 5.0], abs=CATCH_UP + 0.01)


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("outcome", [A_REPLY, REFUSED, REJECTED, None])
def test_tokens_that_a_call_did_not_use_are_given_back(clock, outcome, concurrency):
    gate = a_gate(call_tokens=1000, concurrency=concurrency, tpm=6000)  # each feared to take those of ten seconds

    at = passing(clock, gate, 5, 5.0, outcome=outcome)

    assert len(at) == 5


def test_tokens_that_a_call_used_beyond_what_was_feared_are_waited_for(clock):
    gate = a_gate(call_tokens=1, concurrency=1, tpm=6000)

    at = passing(clock, gate, 4, 31.0, outcome=Reply("x", "stop", "m", 500, 500))

    assert [later - earlier for earlier, later in pairwise(at)] == pytest.approx([10.0, 10.0, 10.0], abs=0.1)


def test_several_runs_share_what_is_allowed_by_the_minute(clock):
    gate = a_gate(concurrency=1000, rpm=400, tpm=400 * 10)
    gate.share(4)

    assert 100 <= len(passing(clock, gate, 1000, 60.0)) <= 102


# --- how long --------------------------------------------------------------------------------------------------------


def given_up(clock: Clock, gate: Gate, failures: int, *latencies: float) -> float | None:
    """The seconds after which a call that never ends is given up, when replies have come so late; None if it is not."""

    async def run() -> float | None:
        for latency in latencies:
            entered = await gate.enter(again=False)
            await asyncio.sleep(latency)
            gate.leave(entered, A_REPLY)
        began = clock.now
        call = asyncio.create_task(gate.attend(asyncio.Event().wait(), failures))
        for _ in range(100):
            await asyncio.sleep(1.0)
            gate.give_up_hung()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if call.done():
                assert call.result().kind == "timeout"
                return clock.now - began
        call.cancel()
        return None

    return clock.run(run())


@pytest.mark.parametrize(
    ("hung", "failures", "latencies", "seconds"),
    [
        (5.0, 0, [2.5] * (RECENT - 1), None),
        (5.0, 0, [2.5] * RECENT, 12.5),
        (5.0, 1, [2.5] * RECENT, 25.0),
        (5.0, 2, [2.5] * RECENT, 50.0),
        (5.0, 0, [0.1] * (RECENT - 1) + [4.0], 20.0),
        (5.0, 0, [4.0] + [0.1] * (RECENT - 1), 20.0),
        (5.0, 0, [4.0] + [2.5] * RECENT, 12.5),
        (5.0, 0, [0.1] * RECENT, limits.MIN_HUNG),
        (None, 0, [2.5] * RECENT, None),
    ],
)
def test_a_call_many_times_as_slow_as_any_recent_one_hangs_and_is_given_up_each_time_with_twice_the_patience(
    clock, hung, failures, latencies, seconds
):
    after = given_up(clock, a_gate(hung=hung), failures, *latencies)

    assert (after is None) if seconds is None else (seconds <= after <= seconds + 1.5)


# --- trying again ----------------------------------------------------------------------------------------------------


def tried(clock: Clock, gate: Gate, *outcomes: Outcome) -> tuple[Outcome, int, float]:
    """What a call comes to that meets these outcomes in turn, how many it met, and how long it waited."""
    left = list(outcomes)
    began = clock.now

    async def once(failures: int | None) -> Outcome:
        met = outcomes[: len(outcomes) - len(left)]
        assert failures == (sum(failed.kind != "refused" for failed in met) if met else None)
        return left.pop(0)

    return clock.run(gate.patiently(once)), len(outcomes) - len(left), clock.now - began


@pytest.mark.parametrize(
    ("outcomes", "last", "calls"),
    [
        ([A_REPLY], A_REPLY, 1),
        ([SERVER, A_REPLY], A_REPLY, 2),
        ([SERVER, NETWORK, A_REPLY], A_REPLY, 3),
        ([SERVER] * 4, SERVER, 3),
        ([REFUSED] * 60 + [A_REPLY], A_REPLY, 61),
        ([REFUSED, SERVER] * 3 + [A_REPLY], SERVER, 6),
        ([REJECTED, A_REPLY], REJECTED, 1),
        ([FATAL, A_REPLY], FATAL, 1),
        ([REFUSED, REJECTED, A_REPLY], REJECTED, 2),
        ([GARBLED, A_REPLY], A_REPLY, 2),
        ([Failure("timeout", None, "")] * 4, Failure("timeout", None, ""), 3),
    ],
)
def test_a_failure_costs_a_try_a_refusal_none(clock, outcomes, last, calls):
    assert tried(clock, a_gate(attempts=3), *outcomes)[:2] == (last, calls)


@pytest.mark.parametrize("kind", ["refused", "server"])
def test_it_waits_as_long_as_the_endpoint_says_and_not_much_longer(clock, kind):
    _, _, waited = tried(clock, a_gate(), Failure(kind, None, "", retry_after=20.0), A_REPLY)

    assert 20.0 <= waited <= 20.0 * (1 + SPREAD) + SPREAD


def test_without_a_word_from_the_endpoint_it_waits_longer_each_time(clock):
    _, _, once = tried(clock, a_gate(attempts=9), GARBLED, A_REPLY)
    _, _, often = tried(clock, a_gate(attempts=9), *[GARBLED] * 5, A_REPLY)

    assert 1.0 <= once <= 2.0
    assert 1 + 2 + 4 + 8 + 16 <= often <= 1 + 2 + 4 + 8 + 16 + 5


def test_many_that_were_told_the_same_wait_do_not_come_back_at_once(clock):
    gate = a_gate()
    back = []

    async def call() -> None:
        outcomes = [replace(REFUSED, retry_after=10.0), A_REPLY]

        async def once(failures: int | None) -> Outcome:
            if failures is not None:
                back.append(clock.now)
            return outcomes.pop(0)

        await gate.patiently(once)

    async def all_() -> None:
        await asyncio.gather(*(call() for _ in range(30)))

    clock.run(all_())

    assert max(back) - min(back) > 1.0


# --- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcomes", "reason"),
    [
        ([FATAL], "https://x/v1: HTTP 401: wrong key"),
        ([A_REPLY, FATAL], "https://x/v1: HTTP 401: wrong key"),
        ([UNREACHABLE] * UNREACHED, f"https://x/v1: no reply in {UNREACHED} tries: ClientConnectorError: x"),
        ([UNREACHABLE] * (UNREACHED - 1), None),
        ([A_REPLY] + [UNREACHABLE] * (STREAK * 2), None),
        ([NETWORK] * STREAK, f"https://x/v1: no reply in {STREAK} tries: ClientPayloadError: x"),
        ([NETWORK] * (STREAK - 1), None),
        ([A_REPLY] + [NETWORK] * (STREAK * 2), None),
        ([SERVER] * STREAK, f"https://x/v1: no reply in {STREAK} tries: HTTP 500: oops"),
        ([SERVER] * (STREAK - 1), None),
        ([REJECTED] * STREAK, f"https://x/v1: no reply in {STREAK} tries: HTTP 400: too long"),
        ([A_REPLY] + [REJECTED] * (STREAK * 2), None),
        ([REFUSED] * 1000, None),
        (
            [Failure("refused", 429, "HTTP 429: tomorrow", PATIENCE + 1)],
            f"https://x/v1 asks to wait {PATIENCE + 1:.0f} s: HTTP 429: tomorrow",
        ),
        (
            [A_REPLY, Failure("server", 503, "HTTP 503: maintenance", 86_400.0)],
            "https://x/v1 asks to wait 86400 s: HTTP 503: maintenance",
        ),
        ([Failure("server", 503, "HTTP 503: maintenance", PATIENCE)], None),
    ],
)
def test_the_run_stops_when_going_on_is_hopeless_and_not_before(outcomes, reason):
    gate = a_gate()

    for outcome in outcomes:
        gate._observe(outcome)

    assert gate.reason == reason


@pytest.mark.parametrize(("slow", "reason"), [(A_REPLY, None), (NETWORK, f"no reply in {2 * STREAK + 1} tries")])
def test_the_run_goes_on_while_a_call_from_before_the_failures_may_yet_be_answered(clock, slow, reason):
    gate = a_gate(concurrency=100)

    async def run() -> None:
        slowest = await gate.enter(again=False)
        await asyncio.sleep(0.1)
        for _ in range(2 * STREAK):
            entered = await gate.enter(again=False)
            await asyncio.sleep(0.05)
            gate.leave(entered, NETWORK)
        assert gate.reason is None
        gate.leave(slowest, slow)

    clock.run(run())

    assert (reason in gate.reason) if reason else gate.reason is None


@pytest.mark.parametrize(("failures", "stops"), [(STREAK - 1, False), (STREAK, True)])
def test_an_endpoint_that_has_answered_is_given_up_with_a_call_that_used_up_its_tries(clock, failures, stops):
    gate = a_gate(attempts=1)
    gate._observe(A_REPLY)
    for _ in range(failures):
        gate._observe(NETWORK)

    tried(clock, gate, NETWORK)

    assert (gate.reason is not None) is stops
    assert not stops or gate.reason == f"https://x/v1: {STREAK} failures with no reply between them: {NETWORK.detail}"


def test_refusals_alone_for_too_long_stop_the_run(clock):
    gate = a_gate()

    async def refused(failures: int | None) -> Outcome:
        entered = await gate.enter(again=failures is not None)
        await asyncio.sleep(0.05)
        gate.leave(entered, replace(REFUSED, retry_after=30.0))
        return replace(REFUSED, retry_after=30.0)

    began = clock.now
    with pytest.raises(Stopped):
        clock.run(gate.patiently(refused))

    assert PATIENCE < clock.now - began < PATIENCE + 60
    assert gate.reason == f"https://x/v1 refused every call for {PATIENCE:.0f} s: HTTP 429: slow down"


async def pausing(gate: Gate) -> None:
    await gate.pause(60)


async def entering(gate: Gate) -> None:
    await gate.enter(again=False)


async def coming_again(gate: Gate) -> None:
    await gate.enter(again=True)


async def retrying(gate: Gate) -> None:
    async def once(failures: int | None) -> Outcome:
        return replace(REFUSED, retry_after=60.0)

    await gate.patiently(once)


@pytest.mark.parametrize("waits", [pausing, entering, coming_again, retrying])
def test_once_the_run_is_to_end_whoever_waits_is_sent_home(clock, waits: Callable[[Gate], Awaitable[None]]):
    async def run() -> None:
        gate = a_gate(concurrency=1)
        await gate.enter(again=False)
        clock.call_later(5.0, gate.stop, "enough")
        await waits(gate)

    with pytest.raises(Stopped):
        clock.run(run())

    assert clock.now == pytest.approx(1005.0, abs=0.1)


def test_once_the_run_is_to_end_nobody_is_let_in(clock):
    gate = a_gate()
    gate.stop("enough")

    with pytest.raises(Stopped):
        clock.run(gate.enter(again=False))


def test_the_first_reason_stays():
    gate = a_gate()

    gate.stop("first")
    gate.stop("second")

    assert gate.reason == "first"
