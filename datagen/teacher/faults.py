"""What goes wrong on purpose: the switches of the embedded teacher, when each strikes and what it makes of a reply."""

from heapq import heapreplace
from math import inf, log, sqrt
from random import Random
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from datagen.teacher.mathematics.replies import MATHEMATICS
from datagen.teacher.replies import Refusal, complete
from schemas.params import Count, Share

Amount = Annotated[float, Meta(ge=0)]

DRAWN = (
    "refuse",
    "error",
    "hang",
    "drip",
    "truncate",
    "html",
    "empty",
    "choiceless",
    "malformed",
    "cut",
    "mistyped",
    "length",
    "unauthorized",
)
"""The switches that are shares of the calls."""
DRAWN_ROWS = ("batch_error", "truncate", "choiceless", "malformed", "length")
"""Those that are shares of a batch's rows."""
FIRST_TURN = ("malformed", "length")
"""Those that asking again helps against."""
CHOICELESS = msgspec.json.encode({"model": "embedded", "choices": []})


class Faults(Struct, frozen=True, kw_only=True):
    """The switches, all off. Their descriptions are what `datagen teacher --help` says of them.

    Shares are of the calls that `capacity` and `rate` admit, drawn call by call from a seeded sequence.
    """

    refuse: Annotated[
        Share, Meta(description="Share of calls refused with 429 and Retry-After, whatever the load.")
    ] = 0.0
    error: Annotated[Share, Meta(description="Share answered 500.")] = 0.0
    unauthorized: Annotated[Share, Meta(description="Share answered 401, in words that repeat the key.")] = 0.0
    hang: Annotated[Share, Meta(description="Share answered only after --hang-for.")] = 0.0
    hang_for: Annotated[Amount, Meta(description="Seconds a hanging call takes longer, if the client stays.")] = 60.0
    drip: Annotated[Share, Meta(description="Share answered a byte at a time, too slowly to wait for.")] = 0.0
    cut: Annotated[Share, Meta(description="Share whose connection breaks in the middle of the body.")] = 0.0
    truncate: Annotated[Share, Meta(description="Share whose JSON stops in the middle, in a whole body.")] = 0.0
    html: Annotated[Share, Meta(description="Share answered 200 with an HTML page.")] = 0.0
    mistyped: Annotated[Share, Meta(description="Share answered well, but as text/html.")] = 0.0
    empty: Annotated[Share, Meta(description="Share answered 200 with no body.")] = 0.0
    choiceless: Annotated[Share, Meta(description="Share answered 200 with no choices.")] = 0.0
    malformed: Annotated[Share, Meta(description="Share of first turns whose XML cannot be mended.")] = 0.0
    length: Annotated[Share, Meta(description="Share of first turns cut off at half, finish_reason 'length'.")] = 0.0
    stubborn: Annotated[bool, Meta(description="--malformed and --length strike later turns too.")] = False
    capacity: Annotated[Count, Meta(description="Calls served at once, 429 above; 0: no limit.")] = 0
    rate: Annotated[Amount, Meta(description="Calls admitted a second, 429 above; 0: no limit.")] = 0.0
    burst: Annotated[Count, Meta(description="Calls --rate admits at once after a rest; 0: one second's.")] = 0
    retry_after: Annotated[Amount, Meta(description="Seconds a 429 asks to wait.")] = 1.0
    retry_date: Annotated[bool, Meta(description="A 429 says so as an HTTP date.")] = False
    retry_unsaid: Annotated[bool, Meta(description="A 429 does not say how long to wait.")] = False
    latency: Annotated[Amount, Meta(description="Seconds a call takes.")] = 0.0
    jitter: Annotated[Amount, Meta(description="Spread of the latency: a lognormal's coefficient of variation.")] = 0.0
    workers: Annotated[Count, Meta(description="Calls worked on at once, the others wait in line; 0: all.")] = 0
    strain: Annotated[
        Count, Meta(description="Calls at which the latency has doubled; it grows with their square.")
    ] = 0
    batch_seconds: Annotated[Amount, Meta(description="Seconds a batch takes.")] = 0.0
    batch_error: Annotated[Share, Meta(description="Share of a batch's rows that come back 500.")] = 0.0
    batch_expire: Annotated[Share, Meta(description="Share of a batch's rows left undone when it expires.")] = 0.0
    seed: Annotated[int, Meta(description="The same seed, the same faults.")] = 0

    def __post_init__(self) -> None:
        for names in (DRAWN, DRAWN_ROWS):
            if sum(getattr(self, name) for name in names) > 1 + 1e-9:
                raise ValueError(f"the shares of {', '.join(names)} must not exceed 1 together")


def drawn(faults: Faults, names: tuple[str, ...], at: float) -> str | None:
    """Return the name whose share a number in [0, 1) falls on, None beyond them all."""
    for name in names:
        at -= getattr(faults, name)
        if at < 0:
            return name
    return None


def reply_to(body: bytes, faults: Faults, fault: str | None) -> tuple[str, bytes | Refusal]:
    """Return what became of a request (`ok`, `bad_request` or the fault) and what it is answered.

    Faults of the transport leave the reply as it is.
    """
    if fault in ("error", "batch_error"):
        return fault, Refusal(500, "internal error, on purpose", "server_error")
    if fault == "choiceless":
        return fault, CHOICELESS
    if fault in FIRST_TURN and b'"assistant"' in body and not faults.stubborn:
        fault = None
    reply = complete(body, spoil=fault == "malformed", others=MATHEMATICS)
    if isinstance(reply, Refusal):
        return "bad_request", reply
    return fault or "ok", _halved(reply) if fault == "length" else reply


def error_body(refusal: Refusal) -> bytes:
    """Return the protocol's JSON of a refusal."""
    error = {"message": refusal.message, "type": "embedded_teacher", "param": None, "code": refusal.code}
    return msgspec.json.encode({"error": error})


class Load:
    """What the teacher bears: which calls it admits and how long each takes. Times are seconds of one clock."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"{seed}/latency")
        self.tokens = inf
        self.since = 0.0
        self.free: list[float] = []
        """When each worker will have done what is in line for it."""

    def admits(self, faults: Faults, now: float, serving: int) -> bool:
        """Whether a call that makes `serving` of them is let in; by `rate`, a token bucket."""
        if faults.capacity and serving > faults.capacity:
            return False
        if not faults.rate:
            return True
        most = float(faults.burst) or max(1.0, faults.rate)
        self.tokens = min(most, self.tokens + (now - self.since) * faults.rate)
        self.since = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def seconds(self, faults: Faults, now: float, serving: int) -> float:
        """Return how long an admitted call takes, from now; a client that leaves does not shorten the line."""
        spent = faults.latency
        if faults.jitter:
            variance = log(1 + faults.jitter**2)
            spent *= self.random.lognormvariate(-variance / 2, sqrt(variance))
        if faults.strain:
            spent *= 1 + (serving / faults.strain) ** 2
        if not faults.workers:
            return spent
        if len(self.free) != faults.workers:
            self.free = [0.0] * faults.workers
        end = max(now, self.free[0]) + spent
        heapreplace(self.free, end)
        return end - now


def _halved(reply: bytes) -> bytes:
    completion = msgspec.json.decode(reply)
    (choice,) = completion["choices"]
    content = choice["message"]["content"]
    choice["message"]["content"] = content[: len(content) // 2]
    choice["finish_reason"] = "length"
    usage = completion["usage"]
    usage["completion_tokens"] = len(content) // 2
    usage["total_tokens"] = usage["prompt_tokens"] + len(content) // 2
    return msgspec.json.encode(completion)
