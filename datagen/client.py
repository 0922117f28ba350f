"""The only network code: one request goes out, a Reply or a Failure comes back, never an exception.

It speaks the protocol as the openai library does (paths, headers, environment variables, error bodies) on aiohttp
itself: the library's own machinery costs four times as much a call, and passes on a 200 that holds HTML, nothing at all
or no choices, each in its own way. The body is read here, into types.
"""

import asyncio
import html
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from datagen.grid import Request
from datagen.settings import EMBEDDED, Teacher
from schemas.faults import Fault

if TYPE_CHECKING:
    import aiohttp

MAX_BODY = 16 * 2**20  # bytes; no completion is as long, and an endless reply must end somewhere
HEAD = 200  # characters of a foreign message that are kept
MIN_KEY = 8  # a shorter key is a placeholder for a server that wants none; striking it out would garble the text
FATAL = (401, 402, 403, 404, 405, 407)  # the next call would fare no better
TRANSIENT = (408, 409, 425)  # and every 5xx
ACCOUNT = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
QUOTA = "insufficient_quota"  # OpenAI's 429 for an empty account: waiting does not help


class Reply(Struct, frozen=True):
    """What the teacher wrote, good or bad: it is paid for."""

    content: str
    finish: str
    """The protocol's finish_reason: `stop`, or `length` for a text cut off at max_tokens."""
    model: str
    prompt_tokens: int
    completion_tokens: int


Kind = Literal["refused", "lost", "unreached", "network", "timeout", "server", "garbled", "rejected", "fatal"]


class Failure(Struct, frozen=True):
    """Why a call brought no reply.

    refused: 429, come again later. lost: the process that made the call died, which says nothing of the endpoint.
    unreached (no connection, so that nothing was sent), network (a connection that broke), timeout, server (5xx),
    garbled (a 200 that holds no completion): another try may succeed. rejected: this request, for good. fatal: every
    request, until a person mends something.
    """

    kind: Kind
    status: int | None
    detail: str
    retry_after: float | None = None
    """Seconds the endpoint asked to wait."""


Ask = Callable[[Request, float], Awaitable[Reply | Failure]]
Answer = tuple[int, Mapping[str, str], bytes]
"""Status, headers (names in any case), body."""
Post = Callable[[bytes], Awaitable[Answer]]
Connect = Callable[[Teacher, int], AbstractAsyncContextManager[Ask]]
"""Opens the endpoint of a teacher for so many calls at once."""
App = Callable[[MutableMapping[str, Any], Callable[..., Any], Callable[..., Any]], Awaitable[None]]


class Unreached(ConnectionError):
    """No connection came about."""


class _Message(Struct):
    content: str | None = None


class _Choice(Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(Struct):
    prompt_tokens: Annotated[int, Meta(ge=0, lt=2**40)] = 0
    completion_tokens: Annotated[int, Meta(ge=0, lt=2**40)] = 0


class _Completion(Struct):
    choices: list[_Choice]
    model: str = ""
    usage: msgspec.Raw = msgspec.Raw(b"{}")


class _Error(Struct):
    message: str = ""
    code: str | int | None = None


class _ErrorBody(Struct):
    error: _Error


@asynccontextmanager
async def connect(teacher: Teacher, concurrency: int) -> AsyncIterator[Ask]:
    """Open the endpoint of a teacher and yield the function that asks it, for so many calls at once.

    Fault, naming the variable, for a real endpoint whose key is not in the environment.
    """
    if teacher.base_url == EMBEDDED:
        from datagen.teacher.server import create_app

        yield partial(ask, partial(_in_process, create_app()), "")
        return
    import aiohttp

    key = secret(teacher)
    address = teacher.base_url.rstrip("/") + "/chat/completions"
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=concurrency, ttl_dns_cache=300),
        timeout=aiohttp.ClientTimeout(total=None),  # the deadline in `ask` covers connecting, reading and what drips
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json", **_account()},
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=_proxy(address),
    ) as session:
        yield partial(ask, partial(_over_http, session, address), key)


async def ask(post: Post, key: str, request: Request, timeout: float) -> Reply | Failure:
    """Send one request, once, and return what came of it within `timeout` seconds; the key is struck from all text."""
    try:
        async with asyncio.timeout(timeout):
            status, headers, body = await post(request.body.json())
    except TimeoutError:
        return Failure("timeout", None, f"no whole reply within {timeout:g} s")
    except ConnectionError as error:
        kind: Kind = "unreached" if isinstance(error, Unreached) else "network"
        return Failure(kind, None, redact(str(error), key)[:HEAD])
    return outcome(status, headers, body, key)


def outcome(status: int, headers: Mapping[str, str], body: bytes, key: str) -> Reply | Failure:
    """Return what an answer comes to; the key is struck from all text."""
    found = read(body) if status == 200 else refusal(status, headers, body, datetime.now(UTC))
    if isinstance(found, Reply):
        content, finish, model = (redact(text, key) for text in (found.content, found.finish, found.model))
        return Reply(content, finish, model, found.prompt_tokens, found.completion_tokens)
    return replace(found, detail=redact(found.detail, key)[:HEAD])


async def _over_http(session: "aiohttp.ClientSession", address: str, data: bytes) -> Answer:
    from aiohttp import ClientConnectorError, ClientError

    try:
        async with session.post(address, data=data, allow_redirects=False) as response:
            try:
                body = await response.content.readexactly(MAX_BODY)
            except asyncio.IncompleteReadError as whole:  # as hoped: it ends before that
                body = whole.partial
            return response.status, response.headers, body
    except (ClientConnectorError, ValueError) as error:  # the latter: a host name that cannot be one
        raise Unreached(f"{type(error).__name__}: {error}") from None
    except (ClientError, OSError) as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from None


async def _in_process(app: App, data: bytes) -> Answer:
    """Call an ASGI application as a server would, without a socket between."""
    status, head, parts = 0, {}, []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": data}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            head.update({name.decode(): value.decode() for name, value in message["headers"]})
        else:
            parts.append(message.get("body", b""))

    await app({"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}, receive, send)
    return status, head, b"".join(parts)


def read(body: bytes) -> Reply | Failure:
    """Return the reply in the body of a 200, a Failure if it holds none."""
    try:
        completion = msgspec.json.decode(body, type=_Completion)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Failure("garbled", 200, f"no completion in the reply ({error}): {_head(body) or 'empty body'}")
    if not completion.choices:
        return Failure("garbled", 200, "the reply has no choices")
    choice = completion.choices[0]
    try:
        usage = msgspec.json.decode(completion.usage, type=_Usage)
    except msgspec.ValidationError:
        usage = _Usage()  # nonsense is as good as none, and no reason to pay for another reply
    return Reply(
        content=choice.message.content or "",
        finish=choice.finish_reason or "stop",
        model=completion.model,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def refusal(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> Failure:
    """Return the failure that a status other than 200 stands for."""
    try:
        error = msgspec.json.decode(body, type=_ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        error = _Error()
    detail = f"HTTP {status}: {error.message or _head(body) or 'no message'}"
    if 300 <= status < 400:
        there = headers.get("location", "an address it does not name")
        return Failure("fatal", status, f"HTTP {status}: it has moved to {there}; put that into base_url")
    if status in FATAL or error.code == QUOTA:
        return Failure("fatal", status, detail)
    if status == 429:
        return Failure("refused", status, detail, retry_after(headers, now))
    if status in TRANSIENT or status >= 500:
        return Failure("server", status, detail, retry_after(headers, now))
    return Failure("rejected", status, detail)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that the headers ask to wait, None if they do not say.

    `retry-after-ms` (Azure, OpenAI), `retry-after` in seconds or as an HTTP date (RFC 9110, 10.2.3).
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            return max(0.0, float(value) * unit)
        except ValueError:
            continue
    try:
        when = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds())


def secret(teacher: Teacher) -> str:
    """Return the key from the environment; Fault that names the variable if it is not there."""
    key = os.environ.get(teacher.api_key_env, "")
    if not key:
        raise Fault(
            f"${teacher.api_key_env} is not set: it must hold the key for {teacher.base_url} "
            "(for a local server that wants no key, any value will do)"
        )
    if not key.isascii() or not key.isprintable():
        raise Fault(f"${teacher.api_key_env} holds characters that no key has, such as a line end; set it anew")
    return key


def _account() -> dict[str, str]:
    """The headers that the openai library takes from the environment."""
    return {header: os.environ[name] for header, name in ACCOUNT.items() if os.environ.get(name)}


def _proxy(address: str) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for an address, looked up once and not at each call."""
    parts = urlsplit(address)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


def redact(text: str, key: str) -> str:
    """Return the text with the key struck out, also where JSON, a URL or HTML has escaped it."""
    if len(key) < MIN_KEY:
        return text
    part, written = _written(key)
    return written.sub("[key]", text) if part in text else text


@cache
def _written(key: str) -> tuple[str, re.Pattern[str]]:
    """Return a part of the key that nothing escapes, and a pattern of all ways to write the key."""

    def written(c: str) -> str:
        code = f"{ord(c):02x}"
        entity = html.escape(c).lstrip("&") if c in "&<>\"'" else f"#{ord(c)};"
        return rf"(?:\\?{re.escape(c)}|(?i:\\u00{code}|%{code}|&#x{code};|&{entity}))"

    part = max(re.findall("[a-z0-9]*", key, re.IGNORECASE), key=len)
    return part, re.compile("".join(c if c.isalnum() else written(c) for c in key))


def _head(body: bytes) -> str:
    return " ".join(body.decode(errors="replace").split())
