"""The only network code: one request goes out, a Reply or a Failure comes back, never an exception.

openai's own retries are off and its parsing is not used: a 200 may hold HTML, nothing at all or no choices, and the SDK
passes each on in its own way. The body is read here, into types.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from datagen.grid import EMBEDDED, Generate, Request
from schemas.faults import Fault

if TYPE_CHECKING:
    import httpx2
    import openai

HEAD = 200  # characters of a foreign message that are kept
MIN_KEY = 8  # a shorter key is a placeholder for a server that wants none; striking it out would garble the text
FATAL = (401, 402, 403, 404, 405, 407)  # the next call would fare no better
TRANSIENT = (408, 409, 425)  # and every 5xx
QUOTA = "insufficient_quota"  # OpenAI's 429 for an empty account: waiting does not help


class Reply(Struct, frozen=True):
    """What the teacher wrote, good or bad: it is paid for."""

    content: str
    finish: str
    """The protocol's finish_reason: `stop`, or `length` for a text cut off at max_tokens."""
    model: str
    prompt_tokens: int
    completion_tokens: int


Kind = Literal["refused", "network", "timeout", "server", "garbled", "rejected", "fatal"]


class Failure(Struct, frozen=True):
    """Why a call brought no reply.

    refused: 429, come again later. network, timeout, server (5xx), garbled (a 200 that holds no completion): another
    try may succeed. rejected: this request, for good. fatal: every request, until a person mends something.
    """

    kind: Kind
    status: int | None
    detail: str
    retry_after: float | None = None
    """Seconds the endpoint asked to wait."""


Ask = Callable[[Request], Awaitable[Reply | Failure]]


class _Message(Struct):
    content: str | None = None


class _Choice(Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(Struct):
    choices: list[_Choice]
    model: str = ""
    usage: _Usage | None = None


class _Error(Struct):
    message: str = ""
    code: str | int | None = None


class _ErrorBody(Struct):
    error: _Error


@asynccontextmanager
async def connect(params: Generate) -> AsyncIterator[Ask]:
    """Open the endpoint of the params and yield the function that asks it.

    Fault, naming the variable, for a real endpoint whose key is not in the environment.
    """
    key = EMBEDDED if params.base_url == EMBEDDED else _key(params)
    import openai

    client = openai.AsyncOpenAI(
        base_url=f"http://{EMBEDDED}/v1" if params.base_url == EMBEDDED else params.base_url,
        api_key=key,
        max_retries=0,
        timeout=None,  # the deadline in `ask` covers connecting, every read and whatever drips
        http_client=_transport(params),
    )
    async with client:
        yield partial(ask, client, params.timeout, key)


async def ask(client: "openai.AsyncOpenAI", timeout: float, key: str, request: Request) -> Reply | Failure:
    """Send one request, once, and return what came of it within `timeout` seconds; the key is struck from all text."""
    import httpx2
    import openai

    try:
        async with asyncio.timeout(timeout):
            response = await client.post(
                "/chat/completions", body=msgspec.to_builtins(request.body), cast_to=httpx2.Response
            )
    except TimeoutError:
        return Failure("timeout", None, f"no whole reply within {timeout:g} s")
    except openai.APIStatusError as error:
        status, headers = error.response.status_code, error.response.headers
        return refusal(status, headers, _redact(error.response.content, key), datetime.now(UTC))
    except openai.APIConnectionError as error:
        return Failure("network", None, _redact(_said(error).encode(), key).decode())
    return read(_redact(response.content, key))


def read(body: bytes) -> Reply | Failure:
    """Return the reply in the body of a 200, a Failure if it holds none."""
    try:
        completion = msgspec.json.decode(body, type=_Completion)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Failure("garbled", 200, f"no completion in the reply ({error}): {_head(body) or 'empty body'}")
    if not completion.choices:
        return Failure("garbled", 200, "the reply has no choices")
    choice = completion.choices[0]
    usage = completion.usage or _Usage()
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
    detail = f"HTTP {status}: {error.message[:HEAD] or _head(body) or 'no message'}"
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


def _key(params: Generate) -> str:
    key = os.environ.get(params.api_key_env, "")
    if not key:
        raise Fault(
            f"${params.api_key_env} is not set: it must hold the key for {params.base_url} "
            "(for a local server that wants no key, any value will do)"
        )
    return key


def _transport(params: Generate) -> "httpx2.AsyncClient":
    if params.base_url == EMBEDDED:
        import httpx2

        from datagen.teacher.server import create_app

        return httpx2.AsyncClient(transport=httpx2.ASGITransport(create_app()))
    import httpx2
    import openai

    # httpx's own transport looks through all its connections for each call; aiohttp's does not.
    limits = httpx2.Limits(max_connections=params.concurrency, max_keepalive_connections=params.concurrency)
    return openai.DefaultAioHttpClient(limits=limits)


def _redact(body: bytes, key: str) -> bytes:
    return body.replace(key.encode(), b"[key]") if len(key) >= MIN_KEY and key != EMBEDDED else body


def _head(body: bytes) -> str:
    return " ".join(body.decode(errors="replace").split())[:HEAD]


def _said(error: BaseException) -> str:
    """Return the innermost message: `Connection error.` alone tells nobody anything."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"[:HEAD]
