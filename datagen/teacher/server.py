"""The embedded teacher as an OpenAI-compatible ASGI application, with switches for the faults real endpoints have.

POST /v1/chat/completions and GET /v1/models. The first user message names the question by four lines that end in a
slug: 主题：…（economy）, 难度：…（basic）, 题型：…（factual）, 推理链：…（short）. The same request gets the same
reply; a conversation that goes on (a bad reply, then a complaint) gets the question it was first asked for.
"""

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from random import Random
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from datagen.teacher.compose import FORMS, compose
from schemas.chain import write
from schemas.faults import Fault
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


class _Message(Struct):
    role: Literal["system", "user", "assistant"]
    content: str


class _Call(Struct):
    """What is read of a request; other fields of the protocol are accepted and have no effect."""

    model: str
    messages: list[_Message]
    seed: int = 0
    max_tokens: int | None = None
    stream: bool = False


class Refusal(Struct, frozen=True):
    """An answer other than 200, to be sent as the protocol's error JSON."""

    status: int
    message: str
    code: str | None = None


class Asked(Struct, frozen=True):
    """The question that a first user message names."""

    topic: str
    difficulty: str
    type: str
    chain: str


MARKERS = {"topic": "主题", "difficulty": "难度", "type": "题型", "chain": "推理链"}
_MARKER = {name: re.compile(rf"^{word}：.*（([a-z0-9_]+)）\s*$", re.MULTILINE) for name, word in MARKERS.items()}
DRAWN = ("refuse", "error", "hang", "drip", "truncate", "html", "empty", "choiceless", "malformed")


def asked(text: str) -> Asked | Refusal:
    """Return what the marker lines of a user message ask for; a 400 that names the missing or unknown one."""
    found: dict[str, str] = {}
    for name, pattern in _MARKER.items():
        match = pattern.search(text)
        if match is None:
            return Refusal(400, f"the first user message has no line '{MARKERS[name]}：…（slug）'")
        found[name] = match[1]
    wanted = Asked(**found)
    if (wanted.type, wanted.difficulty) not in FORMS:
        return Refusal(400, f"no form for type '{wanted.type}' at difficulty '{wanted.difficulty}'")
    if wanted.chain not in ("full", "short"):
        return Refusal(400, f"chain '{wanted.chain}' is neither full nor short")
    return wanted


def complete(body: bytes, *, spoil: bool = False) -> bytes | Refusal:
    """Return the completion JSON for a request's JSON; `spoil` breaks the XML within."""
    try:
        call = msgspec.json.decode(body, type=_Call)
    except msgspec.DecodeError as error:
        return Refusal(400, f"not a chat completion request: {error}")
    if call.stream:
        return Refusal(400, "the embedded teacher does not stream; leave out 'stream'")
    first = next((message.content for message in call.messages if message.role == "user"), "")
    wanted = asked(first)
    if isinstance(wanted, Refusal):
        return wanted
    try:
        item = compose(wanted.topic, wanted.difficulty, wanted.type, call.seed, full=wanted.chain == "full")
    except Fault as fault:
        return Refusal(400, fault.message)
    content = write(item)
    if spoil:
        content = content.replace("<output>", "<answer>").replace("</output>", "</answer>")
    finish = "stop"
    if call.max_tokens is not None and len(content) > call.max_tokens:
        content, finish = content[: call.max_tokens], "length"
    # One token a character: nobody bills for it, and anybody can check it.
    prompt = sum(len(message.content) for message in call.messages)
    return msgspec.json.encode(
        {
            "id": "chatcmpl-" + hashlib.sha256(body).hexdigest()[:16],
            "object": "chat.completion",
            "created": 0,
            "model": call.model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": len(content),
                "total_tokens": prompt + len(content),
            },
        }
    )


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
