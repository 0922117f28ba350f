"""How many calls may be in flight at an endpoint: tried out, and judged by what comes back.

Endpoints say what they bear in three ways: they refuse what is too much, they grow slow, or they say nothing and there
is no limit. And each of these also happens for no such reason: refusals at random, replies that vary or get longer. So
no sign is believed by itself. It starts a trial at another level, and the goodput there decides: replies a second, by
Little's law the calls in flight over the latency of a reply.

A run starts with a ramp in time, for round trips may take minutes. Refusals on end stop it (`_brake`). Then samples of
the calls are judged, one after the other (`_judge`). A refused call's slot rests for as long as a reply takes, so a
level's share of refusals tells what would have been enough: at `level * (1 - share)` all of it is served.
"""

from bisect import bisect_right
from heapq import heappop, heappush
from math import inf, log, sqrt
from typing import Literal

from msgspec import Struct

RAMP = 1000.0  # slots a second: half of what a client can send, and a ramp to 256 is over before most first replies
FIRST = 24  # calls sent so early in a ramp that they tell the latency at low load
FEW = 16  # the least that is judged
SURE = 86.0  # so many calls times ln(q3 / q1)² have a median known to a tenth: (1.25 / 0.1 / 1.35)², log-normal latency
LANDED = 0.75  # of a sample, and its median is certain whatever the rest takes
USUAL = 0.4  # of calls sent on end may be refused by chance, at first
DENSE = 6.0  # refusals beyond the usual, on end: ten of ten; chance brings them once in 300 bursts at 30 % flat
FLAT = 0.5  # a share of refusals from here on is never taken for unrelated to load
SIGMAS = 3.0  # by which a count must differ from what a share explains
PROBE = 5.0  # seconds at most between two tries of an endpoint that has refused everything so far
STREAK = 10  # refusals with nothing in flight and nothing served: the endpoint is shut, whatever the level
SLOW = 2.0  # times the lowest latency, during a ramp: it has gone too far
SPARE = 1.3  # times the calls that the goodput keeps in flight at the lowest latency: what a cut leaves
LEAST = 0.25  # of a level at least is left: the latency may have risen by itself
LESS = 0.65  # of a level at most is tried: goodput that follows it falls by more than samples vary
GAIN = 0.25  # goodput is to follow level ** GAIN: all of it would be 1, a queue that only grows 0
VARIED = 1.35  # times the lowest latency is nothing: it is the lowest of many medians
DOUBT = 10.0  # samples at the top that one of twice that latency counts for
CALM = 8.0  # samples at the top with nothing amiss before less is tried; twice as many each time it was for nothing
STEP = 0.125  # the first step up, doubled after each that brought no refusals
PROVEN = 1.25  # times the level: goodput must tell by now
WAIT, LONGEST = 0.5, 30.0  # seconds after a failed step up, half as much again each time: what has lasted will last
TICK = 0.001  # seconds, the finest that clocks and timers are good for


class Known(Struct, frozen=True):
    """What an endpoint bore last, kept for the next run."""

    level: float
    """Slots: calls in flight and refused calls that rest."""
    ceiling: float | None
    """Level at which refusals or slowing last began, None if never met."""
    refused: float
    """Share of refusals that do not follow load."""
    latency: float
    """Seconds of a reply at low load, the lowest median seen."""


class _Trial(Struct, frozen=True):
    """A level and what came of it, while another is tried; `busy` are its slots in use."""

    why: Literal["growth", "refusals", "latency"]
    level: float
    busy: float
    goodput: float
    share: float


class _Sample:
    """Calls sent one after the other: of the first `size` the latencies, of all the refusals."""

    def __init__(self, size: int, now: float) -> None:
        self.size = size
        self.began = now
        self.last = inf  # when the first `size` were sent
        self.sends: list[float] = []
        self.refused = self.spared = 0  # in all, of the first `size`
        self.landed = self.load = self.resting = self.full = 0
        self.latencies: list[float] = []

    def send(self, now: float, in_flight: int, resting: int, full: bool) -> None:
        self.sends.append(now)
        self.full += full
        if len(self.sends) <= self.size:
            self.load += in_flight
            self.resting += resting
            if len(self.sends) == self.size:
                self.last = now

    def land(self, sent: float, latency: float | None) -> None:
        if self.began <= sent <= self.last:
            self.landed += 1
            if latency:
                self.latencies.append(latency)

    def refuse(self, sent: float) -> None:
        self.refused += 1
        self.spared += sent <= self.last

    def ready(self) -> bool:
        return self.last < inf and self.landed >= LANDED * (self.size - self.spared)

    def latency(self) -> float:
        """Return the median over all that were not refused, inf if it is among those still out."""
        self.latencies.sort()
        half = (self.size - self.spared - self.landed + len(self.latencies)) // 2
        return self.latencies[half] if half < len(self.latencies) else inf

    def wanted(self) -> float:
        """Return how many calls make a median known to a tenth, where latencies vary as they do here."""
        n = len(self.latencies)
        return SURE * log(self.latencies[n * 3 // 4] / self.latencies[n // 4]) ** 2 if n >= FEW / 2 else 0.0


class _Seen(Struct, frozen=True):
    """What a sample told."""

    level: float  # as it was allowed, or what demand made of it
    load: float  # calls in flight
    busy: float  # and those at rest
    latency: float
    full: bool  # there were more calls than slots
    sent: int
    refused: int

    @property
    def goodput(self) -> float:
        return self.load / self.latency

    @property
    def share(self) -> float:
        return self.refused / self.sent


def _beyond(share: float, sent: int, refused: int) -> bool:
    """So many refusals are more than the share explains."""
    return refused > share * sent + SIGMAS * sqrt(share * sent) + 2


class Window:
    """The slots for calls in flight. Times are seconds on any clock that does not go back."""

    def __init__(self, top: int, known: Known | None, now: float) -> None:
        self._top = top
        self._flat = known.refused if known else 0.0
        self._lowest = known.latency if known else inf
        self._latency = known.latency if known else 0.0  # of late
        self._ceiling = known.ceiling if known else None
        self._in_flight = 0
        self._resting: list[float] = []  # a heap: when each may be used again
        self._streak, self._shut = 0, False
        self._trial: _Trial | None = None
        self._sent = self._refused = 0  # of the samples of a trial that has not ended
        self._step, self._wait, self._next = STEP, 0.0, now
        self._doubt, self._calm = 0.0, CALM
        self._judged, self._wanted = 0, 0.0
        self._ramping, self._started = known is None, now
        self._feeling = 0.0  # the most slots a second while it feels its way past refusals before the first replies
        self._level, self._from, self._since, self._pace = 1.0, 1.0, now, inf
        self._move(now, known.level if known else self._bound, inf if known else RAMP)

    @property
    def in_flight(self) -> int:
        """Calls sent that have not landed."""
        return self._in_flight

    @property
    def limit(self) -> int:
        """The calls that may be in flight, now or at the end of a ramp that is under way."""
        return min(self._top, int(self._level))

    def room(self, now: float) -> bool:
        """One more call may be sent now."""
        resting = self._resting
        while resting and resting[0] <= now:
            heappop(resting)
        return self._in_flight < self._top and self._in_flight + len(resting) + 1 <= self._limit(now)

    def later(self, now: float) -> float | None:
        """Return the seconds until there may be room though no call lands, None if only a landing can bring it."""
        if self._in_flight >= self._top:
            return None
        times = self._resting[:1]
        if self._limit(now) < self._level:
            times.append(self._since + (self._in_flight + len(self._resting) + 1 - self._from) / self._pace)
        return max(TICK, min(times) - now) if times else None

    def sent(self, now: float) -> None:
        """Take note of a call sent."""
        self._end_raise(now)
        if self._feeling:
            self._from, self._since, self._pace = self._limit(now), now, min(self._feeling, 2 * self._pace)
        self._in_flight += 1
        self._sample.send(now, self._in_flight, len(self._resting), not self.room(now))

    def landed(self, now: float, sent: float, outcome: Literal["reply", "refused", "failed"]) -> None:
        """Take note of what became of a call; `sent` is the time that was given when it was sent."""
        self._end_raise(now)
        self._in_flight -= 1
        if outcome == "refused":
            self._turned_away(now, sent)
            return
        took = max(now - sent, TICK)
        if outcome == "reply":
            self._latency = self._latency or took
            if self._shut:
                self._reopen(now)
            self._streak, self._shut = 0, False
        # A failure that came at once tells nothing of the latency, one that took long tells that it is longer.
        self._sample.land(sent, took if outcome == "reply" or took > self._lowest else None)
        if self._sample.ready() or self._overdue(now):
            self._judge(now)

    def known(self) -> Known | None:
        """Return what to remember for the next run, None if too little was seen."""
        if not self._judged or self._lowest == inf:
            return None
        level = self._trial.level if self._trial and self._trial.why != "refusals" else self._level
        return Known(level, self._ceiling, self._flat, self._lowest)

    @property
    def _bound(self) -> float:
        return self._top / (1 - self._flat)  # where refusals follow no load, resting slots are to cost nothing

    def _limit(self, now: float) -> float:
        if self._pace == inf:
            return self._level
        return min(self._level, self._from + (now - self._since) * self._pace)

    def _end_raise(self, now: float) -> None:
        if self._pace < inf and self._limit(now) == self._level:
            self._pace = inf
            if not self._ramping:
                self._begin(now)

    def _move(self, now: float, level: float, pace: float = inf) -> None:
        limit = self._limit(now)
        self._level = max(1.0, min(level, self._bound))
        self._from, self._since, self._pace = limit, now, pace if self._level > limit else inf
        self._moved, self._floor = now, inf
        if self._level < limit:
            self._resting = sorted(self._resting)[: max(0, int(self._level) - self._in_flight)]
        self._sent = self._refused = 0
        self._begin(now)

    def _begin(self, now: float) -> None:
        size = max(FEW, self._wanted, self._limit(now) if self._pace == inf else 0.0) if self._judged else FIRST
        self._sample = _Sample(int(size), now)
        self._dense, self._place, self._run, self._run_refused = 0.0, 0, 0, 0

    def _hold(self, now: float) -> None:
        self._step, self._wait = STEP, min(LONGEST, 1.5 * self._wait or WAIT)
        self._next = now + self._wait

    def _turned_away(self, now: float, sent: float) -> None:
        sample, trial = self._sample, self._trial
        if self._feeling:
            # A send doubled the pace: each refusal halves it, so that a limit by rate is found and one by slots left.
            self._from, self._since = max(0.0, self._limit(now) - 1), now
            if sent >= self._moved:
                self._pace = max(self._pace / 4, 0.5 / PROBE)
                sample.refuse(sent)
            return
        if sent < self._moved:
            self._level = max(min(self._level, self._floor), self._level - 1)
            return
        if sent >= sample.began:
            sample.refuse(sent)
            if self._grows_dense(sent):
                self._brake(now, sent)
                return
            if trial and trial.why == "growth" and _beyond(self._flat, len(sample.sends), sample.refused):
                self._fall_back(now, max(trial.level, self._in_flight))
                self._floor = trial.level
                return
        self._streak += 1
        self._shut = self._shut or (self._streak > STREAK and not self._in_flight)
        heappush(self._resting, now + (self._latency or min(now - self._started, PROBE)))

    def _grows_dense(self, sent: float) -> bool:
        """Count up for a refusal and down for each call sent since the last one that is not refused: a CUSUM."""
        flat = self._flat
        if self._trial and self._trial.share < FLAT:
            flat = max(flat, self._trial.share)
        usual = USUAL + (1 - USUAL) * flat
        place = bisect_right(self._sample.sends, sent)
        between = max(0, place - self._place - 1)
        self._place = max(place, self._place)
        self._dense -= between * usual
        if self._dense <= 0:
            self._dense, self._run, self._run_refused = 0.0, 0, 0
            between = 0
        self._dense += 1 - usual
        self._run += between + 1
        self._run_refused += 1
        return self._dense >= DENSE

    def _brake(self, now: float, sent: float) -> None:
        """Cut to what is being served; if even that is refused, to the share of late that is not, half at least."""
        limit, share, sample = self._limit(now), self._run_refused / self._run, self._sample
        if share < 1 or not self._trial:
            self._ceiling = limit
        if self._flat:
            self._ramping = False
        if self._trial and self._trial.why == "refusals":
            self._trial = _Trial("refusals", limit, limit, 0.0, share)
            self._move(now, limit * max(0.5, 1 - share))
        else:
            if self._ramping:
                share = (self._refused + sample.refused) / (self._sent + len(sample.sends))
            self._trial = _Trial("refusals", limit, limit, 0.0, share)
            self._move(now, self._in_flight)
            self._floor = 1.0  # calls still out may be refused, too: they are not being served
            if not self._latency:
                self._feeling, self._pace = 1 / (2 * max(now - sent, TICK)), 1 / max(now - self._started, TICK)
                self._from, self._level = float(self._in_flight), self._bound
        self._wait = 0.0
        self._hold(now)

    def _fall_back(self, now: float, level: float) -> None:
        self._ceiling, self._trial = self._limit(now), None
        self._move(now, level)
        self._hold(now)

    def _reopen(self, now: float) -> None:
        """A quota is filled up again, say: what was borne before was cut for nothing."""
        self._trial = None
        self._resting.clear()
        self._move(now, self._bound if self._ramping else max(self._level, (self._ceiling or 0.0) / 2), RAMP)

    def _overdue(self, now: float) -> bool:
        """During the ramp, half of the first of a sample take too long: do not wait until they land."""
        sample = self._sample
        if not self._ramping or len(sample.sends) < FEW or now - sample.sends[FEW - 1] < SLOW * self._lowest:
            return False
        return sample.landed < (FEW - sample.spared) / 2

    def _judge(self, now: float) -> None:
        if self._feeling:
            self._feeling = 0.0
            self._move(now, self._limit(now))
            return
        if not self._latency:
            self._begin(now)
            return
        sample, sent = self._sample, min(len(self._sample.sends), self._sample.size)
        latency = sample.latency()
        if sample.ready():
            self._wanted = sample.wanted()
            latency = self._latency = latency if latency < inf else self._latency
        self._judged += 1
        self._sent += len(sample.sends)
        self._refused += sample.refused
        load, busy = sample.load / sent, (sample.load + sample.resting) / sent
        full = sample.full > len(sample.sends) / 2
        level = int(self._limit(now)) if full else max(busy, self._in_flight + len(self._resting))
        seen = _Seen(level, load, busy, latency, full, self._sent, self._refused)
        if (
            self._ends_refusals(now, seen)
            or self._ends_latency(now, seen)
            or self._starts(now, seen)
            or self._tries_latency(now, seen)
            or self._tries_refusals(now, seen)
            or self._grows(now, seen)
        ):
            return
        self._sent = self._refused = 0
        self._begin(now)

    def _ends_refusals(self, now: float, seen: _Seen) -> bool:
        """If fewer slots are refused as often as before, the refusals do not follow load: go back and bear them."""
        trial = self._trial
        if not trial or trial.why != "refusals":
            return False
        by_load = max(self._flat, 1 - (1 - trial.share) * trial.busy / seen.busy)
        between = (by_load + trial.share) / 2
        enough = SIGMAS**2 * trial.share / max(trial.share / 3, trial.share - by_load) ** 2
        clear = seen.sent * max(0.0, between - seen.share) ** 2 >= (SIGMAS / 2) ** 2 * between
        if seen.sent < enough and not clear:
            self._lowest = min(self._lowest, seen.latency)
            self._begin(now)
            return True
        self._trial = None
        if seen.share <= between:
            self._ramping = False
        elif seen.share < FLAT and not _beyond(trial.share, seen.sent, seen.refused):
            level = trial.level * (1 - self._flat) / (1 - seen.share)
            self._flat = seen.share
            self._move(now, self._bound if self._ramping else level, RAMP)
            return True
        return False

    def _ends_latency(self, now: float, seen: _Seen) -> bool:
        """If goodput fell with the level, replies take as long as they take: go back. If not, try still less."""
        trial = self._trial
        if not trial or trial.why != "latency":
            return False
        self._trial = None
        if seen.goodput >= trial.goodput * (seen.busy / trial.busy) ** GAIN:
            self._doubt = self._calm = CALM
            self._wait = 0.0
            self._hold(now)
            return False
        self._lowest, self._calm = seen.latency, min(16 * CALM, 2 * self._calm)
        self._move(now, trial.level, RAMP)
        return True

    def _starts(self, now: float, seen: _Seen) -> bool:
        """The first sample is of calls sent while slots filled: it tells the latency, and no more of the level."""
        if self._judged > 1:
            return False
        self._lowest = min(self._lowest, seen.latency)
        scattered = seen.refused - self._run_refused
        if self._ramping and 2 < scattered < FLAT * seen.sent:
            # Before a reply has landed no slot gets free, so refusals by load would have come on end.
            self._flat = scattered / seen.sent
            self._move(now, self._bound, RAMP)
        else:
            self._begin(now)
        return True

    def _tries_latency(self, now: float, seen: _Seen) -> bool:
        """Replies take long, or no limit has been met for long: see whether less brings as much."""
        self._lowest = min(self._lowest, seen.latency)
        slower = seen.latency / self._lowest
        if self._ramping and slower > SLOW:
            self._trial = None
        elif self._trial or (self._ramping and self._pace < inf):
            return False
        else:
            self._doubt += DOUBT * max(0.0, slower - VARIED) + (self._level >= self._bound and seen.full)
            if self._doubt < self._calm or seen.load < 4:
                return False
            self._trial = _Trial("latency", seen.level, seen.busy, seen.goodput, seen.share)
        self._ceiling, self._ramping, self._doubt = seen.level, False, 0.0
        self._move(now, seen.load * max(LEAST, min(LESS, SPARE / slower)))
        return True

    def _tries_refusals(self, now: float, seen: _Seen) -> bool:
        """More is refused than does so anyway: see whether the level that is served has fewer."""
        if self._ramping and self._pace < inf:
            return False
        if not _beyond(self._flat, seen.sent, seen.refused):
            self._ramping = False
            expected = self._flat * seen.sent
            if seen.refused < expected - SIGMAS * sqrt(expected):
                self._flat = seen.share
            return False
        lower = seen.level * max(0.5, (1 - seen.share) / (1 - self._flat))
        if self._trial and self._trial.why == "growth":
            self._fall_back(now, max(self._trial.level, lower))
        else:
            self._fall_back(now, lower)
            self._trial = _Trial("refusals", seen.level, seen.busy, seen.goodput, seen.share)
        return True

    def _grows(self, now: float, seen: _Seen) -> bool:
        """Nothing speaks against it: a step up, a larger one after each that brought something."""
        trial, limit = self._trial, self._limit(now)
        if self._ramping or not seen.full:
            return False
        if trial and seen.busy > trial.busy * PROVEN:
            if seen.goodput < trial.goodput * (seen.busy / trial.busy) ** GAIN:
                self._fall_back(now, trial.level)
                return True
            self._trial, self._wait = None, 0.0
        if limit >= self._bound or (now < self._next and not self._trial):
            return False
        self._trial = self._trial or _Trial("growth", limit, seen.busy, seen.goodput, seen.share)
        more = max(1.0, limit * self._step)
        self._move(now, limit + more, min(RAMP, 2 * more / seen.latency))  # half a latency: not all at once
        self._step = min(1.0, 2 * self._step)
        return True
