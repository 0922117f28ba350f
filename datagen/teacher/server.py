"""The embedded teacher as an OpenAI-compatible ASGI application, with switches for the faults real endpoints have.

POST /v1/chat/completions, GET /v1/models, and the Files and Batch API (batches.py). Beside the protocol, for whoever
measures a client: GET /stats, and POST /stats/reset to begin anew.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from datagen.teacher.batches import Batches, Folder
from datagen.teacher.faults import DRAWN, Faults, Load, drawn, error_body, reply_to
from datagen.teacher.replies import Refusal

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

DRIP = 0.2  # seconds between two bytes: a kilobyte takes minutes, while no single read ever times out
JSON = b"application/json"
HTML = b"<!DOCTYPE html><html><body><h1>Bad gateway</h1></body></html>"
MODELS = msgspec.json.encode(
    {"object": "list", "data": [{"id": "embedded", "object": "model", "created": 0, "owned_by": "embedded"}]}
)


class Meter:
    """How many calls are being served, each from its arrival to its end, over the time since the first."""

    def __init__(self, serving: int = 0) -> None:
        self.serving = self.most = serving
        self.replies = 0
        self.first: float | None = time.monotonic() if serving else None
        self.last = self.first or 0.0
        self.area = 0.0
        self.cpu = time.process_time()

    def change(self, by: int) -> None:
        """Count a call that arrives (1) or ends (-1)."""
        now = time.monotonic()
        if self.first is None:
            self.first, self.cpu = now, time.process_time()
        else:
            self.area += self.serving * (now - self.last)
        self.last = now
        self.serving += by
        self.most = max(self.most, self.serving)

    def figures(self) -> dict[str, float]:
        """Return seconds since the first call, and what was served between it and the last arrival or end."""
        if self.first is None:
            return {"seconds": 0.0, "cpu_seconds": 0.0, "serving": 0, "serving_mean": 0.0, "serving_most": 0}
        span = self.last - self.first
        return {
            "seconds": time.monotonic() - self.first,
            "cpu_seconds": time.process_time() - self.cpu,
            "serving": self.serving,
            "serving_mean": self.area / span if span else float(self.serving),
            "serving_most": self.most,
        }


class Teacher:
    """The application. `calls` counts what became of the calls so far: `ok`, `bad_request` or the name of the fault."""

    def __init__(self, faults: Faults, batches: Batches) -> None:
        self.faults = faults
        self.batches = batches
        self.calls: Counter[str] = Counter()
        self.meter = Meter()
        self.load = Load(faults.seed)
        self.random = Random(f"{faults.seed}/faults")

    @property
    def serving(self) -> int:
        """Calls being served."""
        return self.meter.serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        if path == "/v1/chat/completions" and method == "POST":
            self.meter.change(1)
            try:
                await self._chat(scope, receive, send)
            finally:
                self.meter.change(-1)
        elif path.startswith(("/v1/files", "/v1/batches")):
            kind = _header(scope, b"content-type")
            body = await _body(receive)
            query = scope["query_string"].decode(errors="replace")
            found = await self.batches.respond(method, path, query, kind, body, self.faults)
            if isinstance(found, Refusal):
                await _refuse(send, found)
            else:
                await _send(send, 200, found.body, found.kind)
        elif path == "/v1/models" and method == "GET":
            await _send(send, 200, MODELS)
        elif (path, method) == ("/stats", "GET"):
            await _send(send, 200, self.stats())
        elif (path, method) == ("/stats/reset", "POST"):
            self.calls.clear()
            self.batches.rows.clear()
            self.meter = Meter(self.serving)
            await _send(send, 200, self.stats())
        else:
            await _refuse(send, Refusal(404, f"no such route: {method} {path}"))

    def stats(self) -> bytes:
        """Return the JSON of /stats.

        `calls` and batches' `rows` by what became of them, `replies` (completions written to their end, which a
        provider bills), and the meter's figures.
        """
        counts = {"calls": self.calls, "replies": self.meter.replies, "rows": self.batches.rows}
        return msgspec.json.encode(counts | self.meter.figures())

    async def _chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        faults, now, serving = self.faults, time.monotonic(), self.serving
        body = await _body(receive)
        fault = self._drawn() if self.load.admits(faults, now, serving) else "refuse"
        if fault == "refuse":
            self.calls[fault] += 1
            await _refuse(send, Refusal(429, "too many requests", "rate_limit_exceeded"), *_retry_after(faults))
            return
        if fault == "unauthorized":
            self.calls[fault] += 1
            key = _header(scope, b"authorization").removeprefix("Bearer ")
            await _refuse(send, Refusal(401, f"Incorrect API key provided: {key}.", "invalid_api_key"))
            return
        seconds = self.load.seconds(faults, now, serving)
        if seconds:
            await asyncio.sleep(seconds)
        if fault in ("html", "empty"):
            self.calls[fault] += 1
            await (_send(send, 200, HTML, b"text/html") if fault == "html" else _send(send, 200, b""))
            return
        became, reply = reply_to(body, faults, fault)
        self.calls[became] += 1
        if isinstance(reply, Refusal):
            await _refuse(send, reply)
        else:
            written = await _deliver(receive, send, reply, became, faults.hang_for)
            self.meter.replies += written

    def _drawn(self) -> str | None:
        """Draw the fault of the next call, the same for the same seed and count of calls."""
        if not any(getattr(self.faults, name) for name in DRAWN):
            return None
        return drawn(self.faults, DRAWN, self.random.random())


def create_app(faults: Faults | None = None, keep: Path | None = None, now: Callable[[], float] = time.time) -> Teacher:
    """Return the application with these faults, none by default.

    Files and batches live as long as it does, or in the folder `keep` for the next one to go on with. Batches go by
    the clock `now`.
    """
    return Teacher(faults or Faults(), Batches({} if keep is None else Folder(keep), now))


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _header(scope: Scope, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


def _retry_after(faults: Faults) -> tuple[tuple[bytes, bytes], ...]:
    if faults.retry_unsaid:
        return ()
    value = f"{faults.retry_after:g}"
    if faults.retry_date:
        value = format_datetime(datetime.now(UTC) + timedelta(seconds=faults.retry_after), usegmt=True)
    return ((b"retry-after", value.encode()),)


async def _start(send: Send, status: int, length: int, kind: bytes, *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % length), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _send(send: Send, status: int, body: bytes, kind: bytes = JSON, *more: tuple[bytes, bytes]) -> None:
    await _start(send, status, len(body), kind, *more)
    await send({"type": "http.response.body", "body": body})


async def _refuse(send: Send, refusal: Refusal, *more: tuple[bytes, bytes]) -> None:
    await _send(send, refusal.status, error_body(refusal), JSON, *more)


async def _deliver(receive: Receive, send: Send, reply: bytes, fault: str, hang_for: float) -> bool:
    """Send a reply as the fault will have it; whether a completion was written to its end."""
    match fault:
        case "choiceless":
            await _send(send, 200, reply)
            return False
        case "truncate":
            await _send(send, 200, reply[: len(reply) // 2])
            return False
        case "cut":
            await _start(send, 200, len(reply), JSON)
            await send({"type": "http.response.body", "body": reply[: len(reply) // 2], "more_body": True})
            # A server closes the connection under an application that fails; in process, the client sees this itself.
            raise ConnectionResetError("cut, on purpose")
        case "drip":
            return await _drip(receive, send, reply)
        case "hang" if await _left(receive, hang_for):
            return False
    await _send(send, 200, reply, b"text/html" if fault == "mistyped" else JSON)
    return True


async def _left(receive: Receive, seconds: float) -> bool:
    """Wait; whether the client went away before the time was up."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


async def _drip(receive: Receive, send: Send, body: bytes) -> bool:
    """Send byte by byte; whether the client was there for the last."""
    await _start(send, 200, len(body), JSON)
    for byte in body:
        await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
        if await _left(receive, DRIP):
            return False
    await send({"type": "http.response.body", "body": b""})
    return True
