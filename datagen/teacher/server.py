"""The embedded teacher as an OpenAI-compatible ASGI application, with switches for the faults real endpoints have.

POST /v1/chat/completions and GET /v1/models.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from random import Random
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from datagen.teacher.replies import Refusal, complete
from schemas.params import Count, Share

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

DRIP = 0.2  # seconds between two bytes: a kilobyte takes minutes, while no single read ever times out
HTML = "<!DOCTYPE html><html><body><h1>Bad gateway</h1></body></html>"


class Faults(Struct, frozen=True, kw_only=True):
    """What goes wrong on purpose: shares of the calls, drawn call by call from a seeded counter."""

    refuse: Share = 0.0
    """429 with Retry-After, whatever the load."""
    error: Share = 0.0
    """500."""
    hang: Share = 0.0
    """No answer until the client goes away."""
    drip: Share = 0.0
    """The reply byte by byte, so slowly that only a total deadline ends it."""
    truncate: Share = 0.0
    """Half a reply: JSON that stops in the middle."""
    html: Share = 0.0
    """200 with an HTML page."""
    empty: Share = 0.0
    """200 with no body."""
    choiceless: Share = 0.0
    """200 with no choices."""
    malformed: Share = 0.0
    """A reply as usual, around XML that cannot be mended. The first turn of a conversation only."""
    stubborn: bool = False
    """Malformed replies stay malformed when asked again."""
    capacity: Count = 0
    """Calls served at once, 429 above; 0 for no limit."""
    latency: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds each call takes."""
    retry_after: Annotated[float, Meta(ge=0)] = 1.0
    """Seconds a 429 asks to wait."""
    seed: int = 0


DRAWN = ("refuse", "error", "hang", "drip", "truncate", "html", "empty", "choiceless", "malformed")


class Teacher:
    """The application. `calls` counts what became of the calls so far: `ok`, or the name of the fault."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.calls: Counter[str] = Counter()
        self.serving = 0
        self.draws = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        route = (scope["method"], scope["path"])
        if route == ("GET", "/v1/models"):
            models = {"object": "list", "data": [{"id": "embedded", "object": "model", "owned_by": "embedded"}]}
            await _send(send, 200, msgspec.json.encode(models))
        elif route == ("POST", "/v1/chat/completions"):
            body = await _body(receive)
            self.serving += 1
            try:
                await self._chat(body, receive, send)
            finally:
                self.serving -= 1
        else:
            await _refuse(send, Refusal(404, f"no such route: {route[0]} {route[1]}"))

    async def _chat(self, body: bytes, receive: Receive, send: Send) -> None:
        faults = self.faults
        fault = "refuse" if faults.capacity and self.serving > faults.capacity else self._drawn()
        if fault == "refuse":
            self.calls[fault] += 1
            await _refuse(send, Refusal(429, "too many requests", "rate_limit_exceeded"), faults.retry_after)
            return
        if faults.latency:
            await asyncio.sleep(faults.latency)
        again = b'"assistant"' in body and not faults.stubborn
        reply = complete(body, spoil=fault == "malformed" and not again)
        self.calls[fault or ("ok" if isinstance(reply, bytes) else "bad_request")] += 1
        if fault == "error":
            await _refuse(send, Refusal(500, "internal error, on purpose", "server_error"))
        elif fault == "hang":
            while (await receive())["type"] != "http.disconnect":
                pass
        elif isinstance(reply, Refusal):
            await _refuse(send, reply)
        elif fault == "drip":
            await _drip(send, reply)
        elif fault == "truncate":
            await _send(send, 200, reply[: len(reply) // 2])
        elif fault == "html":
            await _send(send, 200, HTML.encode(), (b"content-type", b"text/html"))
        elif fault == "empty":
            await _send(send, 200, b"")
        elif fault == "choiceless":
            await _send(send, 200, msgspec.json.encode({"model": "embedded", "choices": []}))
        else:
            await _send(send, 200, reply)

    def _drawn(self) -> str | None:
        """Draw the fault of the next call, the same for the same seed and count of calls."""
        rates = [getattr(self.faults, name) for name in DRAWN]
        if not any(rates):
            return None
        self.draws += 1
        left = Random(f"{self.faults.seed}/{self.draws}").random()
        for name, rate in zip(DRAWN, rates, strict=True):
            if left < rate:
                return name
            left -= rate
        return None


def create_app(faults: Faults | None = None) -> Teacher:
    """Return the application with these faults, none by default."""
    return Teacher(faults or Faults())


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _send(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    kind = (
        headers
        if any(name == b"content-type" for name, _ in headers)
        else (
            (b"content-type", b"application/json"),
            *headers,
        )
    )
    await send({"type": "http.response.start", "status": status, "headers": list(kind)})
    await send({"type": "http.response.body", "body": body})


async def _refuse(send: Send, refusal: Refusal, retry_after: float | None = None) -> None:
    error = {"message": refusal.message, "type": "embedded_teacher", "param": None, "code": refusal.code}
    headers = () if retry_after is None else ((b"retry-after", f"{retry_after:g}".encode()),)
    await _send(send, refusal.status, msgspec.json.encode({"error": error}), *headers)


async def _drip(send: Send, body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    for byte in body:
        await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
        await asyncio.sleep(DRIP)
    await send({"type": "http.response.body", "body": b""})
