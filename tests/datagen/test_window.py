"""Servers in virtual time, and a client that keeps as many calls in flight as the window lets it."""

import heapq
import itertools
import math
import time
from bisect import bisect
from collections.abc import Callable, Iterable
from random import Random
from typing import Literal, NamedTuple

import pytest

from datagen.window import Known, Window

Outcome = Literal["reply", "refused", "failed"]
Latency = Callable[[float, Random], float]
Server = Callable[[float, Random], tuple[float, Outcome]]

CPU = 0.0005  # seconds a call costs the client
NEAR, FAR = 0.002, 0.04  # seconds, network round trips
SEEDS = (1, 2, 3)


def constant(seconds: float) -> Latency:
    return lambda now, random: seconds


def lognormal(mean: float, cv: float) -> Latency:
    sigma = math.sqrt(math.log(1 + cv * cv))
    return lambda now, random: random.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)


def longer(latency: Latency, times: float, since: float, until: float) -> Latency:
    return lambda now, random: latency(now, random) * (times if since <= now < until else 1)


def unlimited(latency: Latency) -> Server:
    return lambda now, random: (now + latency(now, random), "reply")


def slots(number: int, latency: Latency, slow: float = 0.0, changes: Iterable[tuple[float, int]] = ()) -> Server:
    """So many calls at once; above, a 429 after `slow` seconds. From a time on another number."""
    ends: list[float] = []
    numbers = sorted([(0.0, number), *changes])

    def server(now: float, random: Random) -> tuple[float, Outcome]:
        while ends and ends[0] <= now:
            heapq.heappop(ends)
        if len(ends) >= numbers[bisect(numbers, (now, math.inf)) - 1][1]:
            return now + slow, "refused"
        end = now + latency(now, random)
        heapq.heappush(ends, end)
        return end, "reply"

    return server


def bucket(rate: float, burst: float, latency: Latency) -> Server:
    """So many calls a second, and a store of unused ones; 429 when it is empty."""
    tokens, last = burst, 0.0

    def server(now: float, random: Random) -> tuple[float, Outcome]:
        nonlocal tokens, last
        tokens, last = min(burst, tokens + (now - last) * rate), now
        if tokens < 1:
            return now, "refused"
        tokens -= 1
        return now + latency(now, random), "reply"

    return server


def quota(number: int, period: float, latency: Latency) -> Server:
    """So many calls in each period, none after that until the next."""
    used: dict[int, int] = {}

    def server(now: float, random: Random) -> tuple[float, Outcome]:
        window = int(now / period)
        used[window] = used.get(window, 0) + 1
        return (now, "refused") if used[window] > number else (now + latency(now, random), "reply")

    return server


def queue(workers: int, latency: Latency) -> Server:
    """So many at once, the others wait; never a 429."""
    free = [0.0] * workers

    def server(now: float, random: Random) -> tuple[float, Outcome]:
        end = max(now, heapq.heappop(free)) + latency(now, random)
        heapq.heappush(free, end)
        return end, "reply"

    return server


def strained(knee: int, latency: Latency) -> Server:
    """Each call makes the others slower: most is done at the knee, less beyond it."""
    ends: list[float] = []

    def server(now: float, random: Random) -> tuple[float, Outcome]:
        while ends and ends[0] <= now:
            heapq.heappop(ends)
        end = now + latency(now, random) * (1 + ((len(ends) + 1) / knee) ** 2)
        heapq.heappush(ends, end)
        return end, "reply"

    return server


def flaky(server: Server, refused: float, failed: float = 0.0) -> Server:
    """A share is refused, another fails, whatever the load."""

    def flaky(now: float, random: Random) -> tuple[float, Outcome]:
        luck = random.random()
        if luck < refused:
            return now, "refused"
        end, outcome = server(now, random)
        return end, "failed" if luck < refused + failed else outcome

    return flaky


def shut(server: Server, since: float, until: float) -> Server:
    return lambda now, random: (now, "refused") if since <= now < until else server(now, random)


class Fixed:
    def __init__(self, number: float) -> None:
        self.slots = number
        self.in_flight = 0

    def room(self, now: float) -> bool:
        return self.in_flight < int(self.slots)

    def later(self, now: float) -> float | None:
        return None

    def sent(self, now: float) -> None:
        self.in_flight += 1

    def landed(self, now: float, sent: float, outcome: Outcome) -> None:
        self.in_flight -= 1


class Aimd(Fixed):
    """A slot more for each window of replies, half the slots for a refusal, once a window."""

    def __init__(self, top: int) -> None:
        super().__init__(1.0)
        self.top, self.cut = top, -1.0

    def landed(self, now: float, sent: float, outcome: Outcome) -> None:
        super().landed(now, sent, outcome)
        if outcome == "reply":
            self.slots = min(self.top, self.slots + 1 / self.slots)
        elif outcome == "refused" and sent > self.cut:
            self.slots, self.cut = max(1.0, self.slots / 2), now


class Ran(NamedTuple):
    replies: list[float]
    refusals: list[float]
    flying: list[tuple[float, int]]
    """Calls in flight from each moment on."""
    drained: float
    """When the last call was sent for the first time: until then more waited than were allowed."""

    @property
    def wall(self) -> float:
        return self.replies[-1]

    def reached(self, share: float) -> float:
        """When that share of the replies was there: without the tail, which is retries waiting for their time."""
        return self.replies[int(share * len(self.replies)) - 1]

    def rate(self, since: float, until: float) -> float:
        return (bisect(self.replies, until) - bisect(self.replies, since)) / (until - since)

    def in_flight(self, since: float, until: float) -> float:
        """The mean over a time."""
        times = [min(max(at, since), until) for at, _ in self.flying]
        lengths = (after - before for before, after in itertools.pairwise([*times, until]))
        return sum(length * number for length, (_, number) in zip(lengths, self.flying, strict=True)) / (until - since)


def run(
    window: Window | Fixed,
    server: Server,
    calls: int,
    rtt: float = NEAR,
    seed: int = 1,
    supply: Iterable[tuple[float, int]] = (),
) -> Ran:
    """Send the calls, all there from the start or as they are supplied: (when, how many).

    A refused call comes back after its Retry-After of 1 s and some more, a failed one after a backoff; both go first.
    """
    random, ids = Random(seed), itertools.count()
    events = [(when, next(ids), "supply", float(number)) for when, number in supply or [(0.0, calls)]]
    heapq.heapify(events)
    ran = Ran([], [], [], 0.0)
    fresh, again, idle, waking, drained = 0, 0, 0.0, math.inf, 0.0

    def at(when: float, what: str, value: float = 0.0) -> None:
        heapq.heappush(events, (when, next(ids), what, value))

    while len(ran.replies) < calls:
        now, _, what, value = heapq.heappop(events)
        if what == "wake":
            if now != waking:
                continue
            waking = math.inf
        elif what == "supply":
            fresh += int(value)
        elif what == "again":
            again += 1
        else:
            window.landed(now, value, what)
            if what == "reply":
                ran.replies.append(now)
            elif what == "refused":
                ran.refusals.append(now)
                at(now + 1 + 0.25 * random.random() + 0.25 * random.random(), "again")
            else:
                at(now + 1 + random.random(), "again")
        while (fresh or again) and now >= idle and window.room(now):
            if again:
                again -= 1
            else:
                fresh, drained = fresh - 1, now
            window.sent(now)
            idle = now + CPU
            end, outcome = server(now + rtt / 2, random)
            at(end + rtt / 2, outcome, now)
        ran.flying.append((now, window.in_flight))
        wait = (idle - now if now < idle else window.later(now)) if fresh or again else None
        if wait is not None and now + wait < waking:
            waking = now + max(wait, 1e-6)
            at(waking, "wake")
    return ran._replace(drained=drained)


def cold(top: int) -> Window:
    return Window(top, None, 0.0)


@pytest.mark.parametrize("rtt", [NEAR, FAR])
@pytest.mark.parametrize(
    ("latency", "top", "calls", "mean"),
    [(0.5, 256, 2000, 235), (2.0, 256, 2000, 245), (0.5, 64, 1000, 60), (10.0, 64, 512, 63), (0.2, 16, 600, 15.2)],
)
def test_without_limits_the_top_is_in_flight_as_soon_as_it_can_be_sent(latency, top, calls, mean, rtt):
    ran = run(cold(top), unlimited(constant(latency)), calls, rtt)

    assert ran.in_flight(0.0, ran.wall) >= mean
    assert ran.wall <= math.ceil(calls / top) * (latency + rtt) + 0.27


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("latency", "top", "calls"),
    [
        (lognormal(0.5, 0.5), 256, 5000),
        (lognormal(0.5, 1.0), 256, 5000),
        (lognormal(2.0, 1.0), 64, 1500),
        (lognormal(1.0, 1.0), 1000, 10_000),
        (lognormal(0.2, 0.5), 16, 800),
    ],
)
def test_replies_that_vary_without_reason_keep_it_at_the_top(latency, top, calls, seed):
    ran = run(cold(top), unlimited(latency), calls, seed=seed)

    assert ran.in_flight(top / 1000, ran.drained) >= 0.85 * top


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("server", "top", "calls", "rtt", "wall", "refusals"),
    [
        pytest.param(lambda: slots(32, constant(0.2)), 256, 2000, NEAR, 14.0, 120, id="32 slots, ideal 12.6"),
        pytest.param(lambda: slots(32, constant(0.2)), 256, 2000, FAR, 16.5, 180, id="32 slots, far, ideal 15.0"),
        pytest.param(lambda: slots(32, lognormal(0.2, 0.5)), 256, 2000, NEAR, 14.9, 120, id="varied, ideal 12.6"),
        pytest.param(lambda: slots(16, constant(0.2)), 256, 1500, NEAR, 20.5, 120, id="16 slots, ideal 18.9"),
        pytest.param(lambda: slots(100, constant(0.5)), 256, 3000, NEAR, 16.9, 120, id="100 slots, ideal 15.1"),
        pytest.param(lambda: slots(8, constant(1.0)), 64, 300, NEAR, 41.0, 60, id="8 slots, ideal 37.6"),
        pytest.param(lambda: slots(200, constant(0.2)), 1000, 5000, NEAR, 7.0, 150, id="200 slots, ideal 5.1"),
        pytest.param(lambda: slots(32, constant(0.2), 0.1), 256, 2000, NEAR, 15.0, 350, id="late 429, ideal 12.6"),
        pytest.param(lambda: bucket(200, 200, constant(0.2)), 256, 2000, NEAR, 10.5, 150, id="200/s, ideal 9.2"),
        pytest.param(lambda: bucket(200, 200, constant(0.2)), 256, 2000, FAR, 10.7, 250, id="200/s, far, ideal 9.2"),
        pytest.param(lambda: bucket(50, 50, constant(0.2)), 256, 500, NEAR, 10.9, 150, id="50/s, ideal 9.2"),
        pytest.param(lambda: bucket(200, 20, constant(0.5)), 256, 2000, NEAR, 13.0, 120, id="20 in store, ideal 10.4"),
        pytest.param(lambda: bucket(8, 10, lognormal(5.0, 0.3)), 256, 800, NEAR, 130, 150, id="8/s of 5 s, ideal 104"),
    ],
)
def test_what_an_endpoint_serves_is_found_with_few_refusals(server, top, calls, rtt, wall, refusals, seed):
    ran = run(cold(top), server(), calls, rtt, seed)

    assert ran.wall <= wall
    assert len(ran.refusals) <= refusals


@pytest.mark.parametrize("rtt", [NEAR, FAR])
def test_a_capacity_that_changes_is_followed_within_seconds(rtt):
    changing = slots(32, constant(0.2), changes=[(10, 16), (20, 64)])

    ran = run(cold(256), changing, 6000, rtt)

    per_slot = 1 / (0.2 + rtt)
    assert ran.rate(2, 10) >= 0.9 * 32 * per_slot
    assert ran.rate(12, 20) >= 0.9 * 16 * per_slot
    assert ran.rate(26, 30) >= 0.9 * 64 * per_slot
    assert len(ran.refusals) <= 300


def test_what_has_lasted_is_tried_ever_more_seldom():
    ran = run(cold(256), slots(32, lognormal(0.2, 0.5)), 30_000)

    assert bisect(ran.refusals, ran.wall / 2) >= len(ran.refusals) / 2
    assert len(ran.refusals) <= 200
    assert ran.rate(10, ran.drained) >= 0.95 * 32 / 0.202


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rtt", [NEAR, FAR])
@pytest.mark.parametrize(
    ("refused", "latency", "top", "calls", "least"),
    [
        (0.02, constant(0.2), 256, 4000, 0.85),
        (0.1, constant(0.2), 256, 4000, 0.85),
        (0.3, constant(0.2), 256, 4000, 0.72),
        (0.4, constant(0.2), 256, 8000, 0.6),
        (0.1, lognormal(1.0, 1.0), 256, 4000, 0.85),
        (0.2, lognormal(0.5, 0.5), 1000, 10_000, 0.72),
        (0.1, constant(0.2), 16, 800, 0.8),
    ],
)
def test_refusals_whatever_the_load_do_not_keep_it_from_the_top(refused, latency, top, calls, least, rtt, seed):
    ran = run(cold(top), flaky(unlimited(latency), refused, failed=0.05), calls, rtt, seed)

    assert ran.in_flight(top / 1000, ran.drained) >= least * top


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("server", "calls", "best", "least", "refusals"),
    [
        pytest.param(lambda: flaky(slots(32, constant(0.2)), 0.05), 3000, 158, 0.85, 0.2, id="5 %, 32 slots"),
        pytest.param(lambda: flaky(slots(100, constant(0.5)), 0.1), 3000, 199, 0.75, 0.3, id="10 %, 100 slots"),
        pytest.param(lambda: flaky(bucket(200, 200, constant(0.2)), 0.05), 2000, 200, 0.85, 0.2, id="5 %, 200/s"),
        pytest.param(lambda: slots(32, lognormal(0.2, 1.0)), 3000, 158, 0.85, 0.1, id="varied, 32 slots"),
        pytest.param(lambda: bucket(200, 200, lognormal(0.2, 1.0)), 3000, 200, 0.85, 0.1, id="varied, 200/s"),
    ],
)
def test_one_trouble_does_not_hide_another(server, calls, best, least, refusals, seed):
    ran = run(cold(256), server(), calls, seed=seed)

    assert ran.rate(0, ran.drained) >= least * best
    assert len(ran.refusals) <= refusals * calls


@pytest.mark.parametrize("rtt", [NEAR, FAR])
@pytest.mark.parametrize(
    ("workers", "latency", "top", "calls", "most"),
    [
        (32, constant(0.2), 256, 5000, 80),
        (8, constant(0.2), 256, 3000, 60),
        (100, constant(1.0), 256, 5000, 190),
        (64, constant(0.2), 1000, 6000, 200),
        (16, constant(3.0), 256, 2000, 80),
        (32, lognormal(0.2, 1.0), 256, 5000, 120),
    ],
)
def test_calls_do_not_queue_for_nothing(workers, latency, top, calls, most, rtt):
    ran = run(cold(top), queue(workers, latency), calls, rtt)

    assert ran.in_flight(ran.wall / 2, ran.drained) <= most


@pytest.mark.parametrize("rtt", [NEAR, FAR])
@pytest.mark.parametrize(
    ("knee", "latency", "top", "seconds"),
    [
        (64, constant(0.2), 256, 0.2),
        (32, constant(0.2), 256, 0.2),
        (128, constant(0.2), 256, 0.2),
        (64, constant(1.0), 256, 1.0),
        (16, constant(0.5), 64, 0.5),
        (64, lognormal(0.2, 0.5), 256, 0.2),
    ],
)
def test_where_more_calls_get_less_done_nearly_the_most_is_done(knee, latency, top, seconds, rtt):
    ran = run(cold(top), strained(knee, latency), 10_000, rtt)

    best = knee / 2 / seconds
    assert ran.rate(0.3 * ran.wall, ran.drained) >= 0.88 * best
    assert 10_000 / ran.wall >= 0.8 * best


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("times", "until", "least"), [(3, 15, 0.8), (8, 15, 0.7), (2, 60, 0.8)])
def test_replies_that_get_longer_for_a_while_do_not_make_it_fall(times, until, least, seed):
    ran = run(cold(256), unlimited(longer(lognormal(0.5, 0.3), times, 5, until)), 10_000, seed=seed)

    assert ran.in_flight(1, ran.drained) >= least * 256
    assert ran.in_flight(ran.drained - 3, ran.drained) >= 0.85 * 256


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_remembered_spares_the_next_run_the_search(seed):
    first = cold(256)
    run(first, slots(32, constant(0.2)), 2000, seed=seed)
    known = first.known()
    assert known is not None

    ran = run(Window(256, known, 0.0), slots(32, constant(0.2)), 2000, seed=seed)

    assert known.level == pytest.approx(32, abs=4)
    assert known.refused == 0
    assert known.latency == pytest.approx(0.2, abs=0.01)
    assert bisect(ran.refusals, 0.3) <= 4
    assert ran.reached(0.9) <= 0.9 * 2000 / 158 * 1.05


def test_it_starts_at_once_at_the_level_that_is_known():
    window = Window(256, Known(100.0, None, 0.0, 0.5), 0.0)

    while window.room(0.0):
        window.sent(0.0)

    assert window.in_flight == 100


@pytest.mark.parametrize(
    ("server", "calls", "best", "by"),
    [
        pytest.param(lambda: slots(128, constant(0.2)), 5000, 634, 4.0, id="four times as much"),
        pytest.param(lambda: unlimited(constant(0.2)), 8000, 1267, 3.5, id="no limit any more"),
        pytest.param(lambda: slots(16, constant(0.2)), 1000, 79, 1.0, id="half as much"),
        pytest.param(lambda: unlimited(constant(1.0)), 5000, 256, 14.0, id="five times as slow, and no limit"),
    ],
)
def test_an_endpoint_that_has_changed_since_is_found_out(server, calls, best, by):
    ran = run(Window(256, Known(32.0, 33.0, 0.0, 0.202), 0.0), server(), calls)

    assert ran.rate(by, ran.drained) >= 0.88 * best
    assert len(ran.refusals) <= 120


def test_a_time_of_few_calls_is_no_evidence():
    trickle = [(0.05 * second, 1) for second in range(100)]

    ran = run(cold(256), unlimited(constant(0.5)), 5100, supply=[*trickle, (5.0, 5000)])
    bursts = run(
        cold(256), slots(32, constant(0.2)), 2020, supply=[*((2.0 * turn, 20) for turn in range(20)), (40, 1620)]
    )

    assert ran.in_flight(5.5, ran.drained) >= 0.9 * 256
    assert bursts.rate(41, bursts.drained) >= 0.9 * 158


@pytest.mark.parametrize("known", [None, Known(256.0, None, 0.0, 0.5)])
@pytest.mark.parametrize(("since", "until"), [(0, 5), (5, 10), (5, 65), (0, 60)])
def test_an_endpoint_that_was_shut_is_back_at_the_top_soon(since, until, known):
    ran = run(Window(256, known, 0.0), shut(unlimited(constant(0.5)), since, until), 10_000)

    assert ran.in_flight(until + 7, until + 14) >= 0.75 * 256
    assert len(ran.refusals) <= 300


def test_a_quota_a_period_is_used_up_in_each():
    ran = run(cold(256), quota(500, 10, constant(0.5)), 2500)

    assert ran.wall <= 50
    assert len(ran.refusals) <= 700


def test_a_short_run_is_nothing_to_remember():
    window = cold(256)
    run(window, unlimited(constant(0.5)), 10)

    assert window.known() is None


@pytest.mark.parametrize("top", [1, 2, 3])
def test_few_slots_are_used(top):
    ran = run(cold(top), unlimited(constant(0.1)), 100)

    assert ran.wall <= 100 / top * 0.103 + 0.1


@pytest.mark.parametrize("seed", range(20))
def test_it_never_allows_more_than_the_top_and_never_comes_to_a_stop(seed):
    random = Random(seed)
    top = random.choice([1, 5, 40])
    window, out, now = cold(top), [], 0.0

    for _ in range(2000):
        now += random.expovariate(50)
        while window.room(now) and random.random() < 0.9:
            window.sent(now)
            out.append(now)
        assert window.in_flight == len(out) <= top
        if not out and not window.room(now):
            wait = window.later(now)
            assert wait is not None
            now += wait
        elif out and random.random() < 0.7:
            window.landed(now, out.pop(random.randrange(len(out))), random.choice(["reply", "refused", "failed"]))


def test_a_call_costs_next_to_nothing():
    def seconds() -> float:
        window, out, calls = cold(256), [], 0
        started = time.process_time()
        for tick in range(100_000):
            now = tick * 0.0005
            if window.room(now):
                window.sent(now)
                out.append(now)
                calls += 1
            if out and now - out[0] >= 0.1:
                window.landed(now, out.pop(0), "refused" if tick % 10 == 0 else "reply")
        return (time.process_time() - started) / calls

    assert min(seconds() for _ in range(3)) <= 15e-6


@pytest.mark.parametrize(
    "naive", [lambda: Fixed(16), lambda: Fixed(32), lambda: Fixed(64), lambda: Fixed(256), lambda: Aimd(256)]
)
def test_no_fixed_number_and_no_additive_increase_would_do(naive):
    at_top = run(naive(), unlimited(constant(0.5)), 2000)
    in_slots = run(naive(), slots(32, constant(0.2)), 2000)
    at_rate = run(naive(), bucket(200, 200, constant(0.2)), 2000)
    strain = run(naive(), strained(32, constant(0.2)), 5000)

    assert [
        at_top.in_flight(0.0, at_top.wall) >= 235,
        in_slots.wall <= 14.0 and len(in_slots.refusals) <= 120,
        at_rate.wall <= 10.5 and len(at_rate.refusals) <= 150,
        strain.rate(0.3 * strain.wall, strain.drained) >= 0.88 * 80,
    ].count(True) <= 2
