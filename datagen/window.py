"""How many calls may be in flight at an endpoint: found by trying, from what becomes of the calls."""

from bisect import bisect_right
from heapq import heappop, heappush
from math import inf, log, sqrt
from typing import Literal

from msgspec import Struct

RAMP = 1000.0  # new slots a second while nothing speaks against it
STEP = 1 / 8
GROWN = 1.25
FIRST = 16
DENSE = 5.0
CLEAR = 0.4
SLOW = 2.0
SLACK = 1.3
DEEPEST = 0.25
GAIN = 0.25
WAIT = (0.5, 2.0, 30.0)
FLAT = 0.5
EVIDENCE = 8
GOLDEN = 0.618034


class Known(Struct, frozen=True):
    level: float
    ceiling: float | None
    refused: float
    latency: float


class _Trial(Struct, frozen=True):
    kind: Literal["growth", "refusals", "latency"]
    level: float
    busy: float
    goodput: float
    share: float


class _Sample:
    def __init__(self, size: int, now: float) -> None:
        self.size = size
        self.began = now
        self.last = inf
        self.sends: list[float] = []
        self.latencies: list[float] = []
        self.landed = 0
        self.refused = 0
        self.outside = 0
        self.load = 0
        self.resting = 0
        self.full = 0

    def sent(self, now: float, in_flight: int, resting: int, full: bool) -> None:
        self.sends.append(now)
        self.full += full
        if len(self.sends) <= self.size:
            self.load += in_flight
            self.resting += resting
            if len(self.sends) == self.size:
                self.last = now

    def refusal(self, sent: float) -> None:
        self.refused += 1
        if sent <= self.last:
            self.outside += 1

    @property
    def ready(self) -> bool:
        return self.last < inf and self.landed >= 0.75 * (self.size - self.outside)

    @property
    def latency(self) -> float:
        half = (self.size - self.outside - self.landed + len(self.latencies)) // 2
        return self.latencies[half] if half < len(self.latencies) else inf

    @property
    def wanted(self) -> float:
        n = len(self.latencies)
        return 84 * log(self.latencies[n * 3 // 4] / self.latencies[n // 4]) ** 2 if n >= 8 else 0.0


def _beyond(share: float, sent: int, refused: int, deviations: float = 2.0) -> bool:
    expected = share * sent
    return refused > expected + deviations * sqrt(expected) + 2


class Window:
    def __init__(self, top: int, known: Known | None, now: float) -> None:
        self._top = top
        self._flat = known.refused if known else 0.0
        self._lowest = known.latency if known else inf
        self._latency = known.latency if known else 0.0
        self._ceiling = known.ceiling if known else None
        self._in_flight = 0
        self._resting: list[float] = []
        self._streak = 0
        self._shut = False
        self._spread = 0.0
        self._trial: _Trial | None = None
        self._step = STEP
        self._wait = 0.0
        self._next = now
        self._wanted = 0.0
        self._judged = 0
        self._ramping = known is None
        self._level = 0.0
        self._from, self._pace, self._since = 0.0, inf, now
        if known:
            self._move(now, known.level)
        else:
            self._move(now, self._bound, RAMP)

    @property
    def in_flight(self) -> int:
        return self._in_flight

    @property
    def limit(self) -> int:
        return int(self._level)

    def room(self, now: float) -> bool:
        rest = self._resting
        while rest and rest[0] <= now:
            heappop(rest)
        return self._in_flight < self._top and self._in_flight + len(rest) + 1 <= self._limit(now)

    def later(self, now: float) -> float | None:
        if self._in_flight >= self._top:
            return None
        times = self._resting[:1]
        if self._limit(now) < self._level:
            times.append(self._since + (self._in_flight + len(self._resting) + 1 - self._from) / self._pace)
        return max(0.0, min(times) - now) if times else None

    def sent(self, now: float) -> None:
        self._in_flight += 1
        full = not self.room(now)
        if not self._settled and full and (self._ramping or self._pace == inf):
            self._settled = True
            self._begin(now)
        self._sample.sent(now, self._in_flight, len(self._resting), full)

    def landed(self, now: float, sent: float, outcome: Literal["reply", "refused", "failed"]) -> None:
        self._in_flight -= 1
        if outcome == "refused":
            self._on_refused(now, sent)
            return
        if outcome == "reply":
            self._latency = self._latency or now - sent
            if self._shut:
                self._resting.clear()
                self._trial = None
                self._move(now, max(self._level, (self._ceiling or 0.0) / 2), RAMP)
            self._streak, self._shut = 0, False
        sample = self._sample
        if sample.began <= sent <= sample.last:
            sample.landed += 1
            if outcome == "reply" or now - sent > self._lowest:
                sample.latencies.append(now - sent)
        if sample.ready or self._overdue(now):
            self._judge(now)

    def known(self) -> Known | None:
        if not self._judged or self._lowest == inf:
            return None
        level = self._trial.level if self._trial and self._trial.kind == "growth" else self._level
        return Known(level, self._ceiling, self._flat, self._lowest)

    @property
    def _bound(self) -> float:
        return self._top / (1 - self._flat)

    def _limit(self, now: float) -> float:
        if self._pace == inf:
            return self._level
        limit = self._from + (now - self._since) * self._pace
        if limit < self._level:
            return limit
        self._pace = inf
        return self._level

    def _move(self, now: float, level: float, pace: float = inf) -> None:
        limit = self._limit(now)
        self._level = max(1.0, min(level, self._bound))
        self._rose = self._level > limit
        self._from, self._pace, self._since = limit, pace if self._rose else inf, now
        self._floor = inf
        self._settled = False
        self._sent = self._refused = 0
        if not self._rose:
            self._resting = sorted(self._resting)[: max(0, int(self._level) - self._in_flight)]
        self._begin(now)

    def _begin(self, now: float) -> None:
        at = self._limit(now) if self._pace == inf else 0.0
        self._sample = _Sample(int(max(FIRST, self._wanted, at)) if self._judged else FIRST, now)
        self._dense = 0.0
        self._place = self._run = self._run_refused = 0

    def _hold(self, now: float) -> None:
        first, factor, longest = WAIT
        self._step = STEP
        self._wait = min(longest, self._wait * factor or first)
        self._next = now + self._wait

    def _on_refused(self, now: float, sent: float) -> None:
        if sent < self._since:
            self._level = max(min(self._level, self._floor), self._level - 1)
            return
        sample, trial = self._sample, self._trial
        if sent >= sample.began:
            sample.refusal(sent)
            if self._grows_dense(sent):
                self._brake(now)
                return
            if trial and trial.kind == "growth" and _beyond(self._flat, len(sample.sends), sample.refused, 3):
                self._fall_back(now, trial.level)
                return
        self._streak += 1
        self._shut = self._shut or self._streak > 10 and not self._in_flight
        self._spread = (self._spread + GOLDEN) % 1
        rest = (self._latency or now - sample.began) * 1.0
        heappush(self._resting, now + rest)

    def _grows_dense(self, sent: float) -> bool:
        flat = max(self._flat, min(FLAT, self._trial.share)) if self._trial else self._flat
        usual = CLEAR + (1 - CLEAR) * flat
        place = bisect_right(self._sample.sends, sent)
        gap = max(0, place - self._place - 1)
        self._place = max(place, self._place)
        self._dense -= gap * usual
        self._run += gap
        if self._dense <= 0:
            self._dense = 0.0
            self._run = self._run_refused = 0
        self._dense += 1 - usual
        self._run += 1
        self._run_refused += 1
        return self._dense >= DENSE

    def _brake(self, now: float) -> None:
        limit = self._limit(now)
        share = self._run_refused / self._run
        if share < 1 or not self._trial:
            self._ceiling = limit
        if self._flat:
            self._ramping = False
        if not (self._trial and self._trial.kind == "refusals"):
            self._trial = _Trial("refusals", limit, limit, 0.0, self._sample.refused / len(self._sample.sends))
            self._move(now, self._in_flight)
            self._floor = 1.0
        else:
            self._trial = _Trial("refusals", limit, limit, 0.0, share)
            self._move(now, limit * max(0.5, 1 - share))
        self._wait = 0.0
        self._hold(now)

    def _fall_back(self, now: float, level: float) -> None:
        self._ceiling = self._limit(now)
        base = self._trial.level
        self._trial = None
        self._move(now, level)
        self._floor = base
        self._hold(now)

    def _overdue(self, now: float) -> bool:
        sample = self._sample
        return (
            self._ramping
            and now - sample.last > SLOW * self._lowest
            and sample.landed < (sample.size - sample.outside) / 2
        )

    def _judge(self, now: float) -> None:
        sample, trial = self._sample, self._trial
        sample.latencies.sort()
        latency = sample.latency
        if sample.ready:
            self._wanted = sample.wanted
            if latency < inf:
                self._latency = latency
            else:
                latency = self._latency
        self._judged += 1
        limit = self._limit(now)
        load = sample.load / sample.size
        busy = load + sample.resting / sample.size
        full = sample.full > len(sample.sends) / 2
        level = int(limit) if full else busy
        goodput = load / latency
        self._sent += len(sample.sends)
        self._refused += sample.refused
        share = self._refused / self._sent
        if trial and trial.kind == "refusals":
            load_only = max(self._flat, 1 - (1 - trial.share) * trial.busy / busy)
            if self._sent * max(trial.share / 3, trial.share - load_only) ** 2 < EVIDENCE * trial.share:
                self._lowest = min(self._lowest, latency)
                self._begin(now)
                return
            self._trial = None
            if (load_only + trial.share) / 2 < share < FLAT and not _beyond(trial.share, self._sent, self._refused):
                back = self._bound if self._ramping else trial.level * (1 - self._flat) / (1 - share)
                self._flat = share
                self._move(now, back if not self._ramping else self._bound, RAMP)
                return
            if share < (load_only + trial.share) / 2:
                self._ramping = False
        excess = _beyond(self._flat, self._sent, self._refused)
        expected = self._flat * self._sent
        if self._refused < expected - 3 * sqrt(expected):
            self._flat = share
        if not (self._ramping and self._judged == 1):
            self._sent = self._refused = 0
        if trial and trial.kind == "latency":
            self._trial = None
            if goodput < trial.goodput * (busy / trial.busy) ** GAIN:
                self._lowest = latency
                self._move(now, trial.level, RAMP)
                return
            self._hold(now)
        self._lowest = min(self._lowest, latency)
        if latency > SLOW * self._lowest:
            self._trial = None if self._ramping else _Trial("latency", level, busy, goodput, share)
            self._ceiling = level
            self._ramping = False
            self._move(now, load * max(DEEPEST, SLACK * self._lowest / latency))
            return
        if self._ramping and (limit < self._level or self._judged == 1):
            if self._judged == 1 and self._refused > 2:
                self._flat = share
                self._level = self._bound
                self._from, self._since, self._pace = limit, now, RAMP
            self._sent = self._refused = 0
            self._begin(now)
            return
        if excess:
            lower = level * max(0.5, 1 - (share - self._flat) / (1 - self._flat))
            if trial and trial.kind == "growth":
                self._fall_back(now, max(trial.level, lower))
            else:
                self._ceiling = level
                self._trial = _Trial("refusals", level, busy, goodput, share)
                self._move(now, lower)
                self._hold(now)
            return
        self._ramping = False
        if full and trial and trial.kind == "growth" and busy > trial.busy * GROWN:
            if goodput < trial.goodput * (busy / trial.busy) ** GAIN:
                self._fall_back(now, trial.level)
                return
            self._trial = None
            self._wait = 0.0
        if not full or limit >= self._bound or (now < self._next and not self._trial):
            self._begin(now)
            return
        self._trial = self._trial or _Trial("growth", limit, busy, goodput, share)
        more = max(1.0, limit * self._step)
        self._move(now, limit + more, min(RAMP, 2 * more / latency))
        self._step = min(1.0, self._step * 2)

    def unsent(self, now: float) -> None:
        """Take back a call that was let through and then not sent."""
        self._in_flight -= 1
