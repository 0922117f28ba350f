"""Spot-check the bank in a browser: a page of this machine's own, where a person accepts, rejects or edits rows.

The page may be reached from this machine only, and by who has the address: it is bound to 127.0.0.1; a request must
name that host, so that no other name can be made to point here; the token in the address becomes a cookie and leaves
the address; what changes something must be JSON and come from the page itself. The page may load, run and ask nothing
that does not come from here, and may not make markup of text.
"""

import base64
import errno
import hashlib
import os
import secrets
import socket
import subprocess
import sys
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from curate.reviewing.exchange import export, import_
from schemas.faults import Fault
from schemas.page import SCRIPT, STYLE

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from uvicorn import Server

    from curate.reviewing.desk import Desk, Places

HOST = "127.0.0.1"
PORT = 8765
MAX_BODY = 1 << 18
"""Bytes of a request; the longest chain that may be configured is far below."""
HERE = Path(__file__).with_name("reviewing")
STATUS = {"unknown": 404, "changed": 409, "invalid": 422}


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = _policy("'self'", "'self'")
SUMMARY_POLICY = _policy(_hash(STYLE), _hash(SCRIPT))
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

T = TypeVar("T")


class Door:
    """Who may come in: those with the token, at this host and port."""

    def __init__(self, port: int) -> None:
        self.hosts = (f"{HOST}:{port}", f"localhost:{port}")
        self.cookie = f"review-{port}"  # cookies are shared by all ports of a host
        self.address = f"http://{HOST}:{port}/?token="
        self.token = secrets.token_urlsafe(32)
        self.once = {secrets.token_urlsafe(32)}
        """Tokens that count once: a browser is started with one, and others on the machine may see how."""
        self._key = secrets.token_urlsafe(32)

    def enter(self, token: str) -> str | None:
        """Return the cookie's value for a token, None for a wrong one."""
        if _same(token, self.token):
            return self._key
        for one in [one for one in self.once if _same(token, one)]:
            self.once.discard(one)
            return self._key
        return None

    def knows(self, cookie: str | None) -> bool:
        """Whether a cookie is ours."""
        return cookie is not None and _same(cookie, self._key)

    def refusal(self, request: "Request") -> tuple[int, str] | None:
        """Return the status and the line with which a request is turned away, None for one that may come in."""
        if request.headers.getlist("host") not in [[host] for host in self.hosts]:
            return 421, "This address is not the server's own."
        if "token" in request.query_params and request.url.path == "/":
            return None
        if not self.knows(request.cookies.get(self.cookie)):
            return 403, "Open the address that `curate review` printed: it holds the key to this page."
        if request.method in ("GET", "HEAD", "OPTIONS"):
            return None
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        own = f"http://{request.headers['host']}"
        if (origin is None and site is None) or origin not in (None, own) or site not in (None, "same-origin"):
            return 403, "The request does not come from this page."
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return 415, "The request must be application/json."
        return None


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())


class _Answered(Exception):
    """A request that is answered with a status and a line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def application(desk: "Desk", door: Door) -> "ASGIApp":
    """Return the web application: the page, what it asks for, and the summary."""
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import RedirectResponse, Response
    from starlette.routing import Route

    from curate.reviewing.desk import Edited, Refused, Wanted

    html, script, style = (HERE.joinpath(f"review.{kind}").read_bytes() for kind in ("html", "js", "css"))

    async def said(answer: Callable[[], Any]) -> Response:
        """Return what the desk says as JSON, or in one line why it does not."""
        try:
            return json(200, await run_in_threadpool(answer))
        except Refused as refused:
            return error(STATUS[refused.why], str(refused))
        except Fault as fault:
            return error(503, fault.message)

    def json(status: int, value: Any) -> Response:
        return Response(msgspec.json.encode(value), status, media_type="application/json")

    def error(status: int, message: str) -> Response:
        return json(status, {"error": message})

    async def home(request: Request) -> Response:
        token = request.query_params.get("token")
        if token is None:
            return Response(html, media_type="text/html")
        key = door.enter(token)
        if key is None:
            return error(403, "The token is not this server's: open the address that `curate review` printed.")
        response = RedirectResponse("/", 303)
        response.set_cookie(door.cookie, key, path="/", httponly=True, samesite="strict")
        return response

    async def code(request: Request) -> Response:
        return Response(script, media_type="text/javascript")

    async def look(request: Request) -> Response:
        return Response(STYLE.encode() + style, media_type="text/css")

    async def list_(request: Request) -> Response:
        return await said(desk.overview)

    async def state(request: Request) -> Response:
        return await said(lambda: {"version": desk.version()})

    async def row(request: Request) -> Response:
        return await said(lambda: desk.sheet(request.query_params.get("id", "")))

    async def check(request: Request) -> Response:
        edit = await body(request, Edited)
        return await said(lambda: desk.check(edit))

    async def decide(request: Request) -> Response:
        wanted = await body(request, Wanted)
        return await said(lambda: desk.decide(wanted))

    async def summary(request: Request) -> Response:
        try:
            text = await run_in_threadpool(desk.summary)
        except Fault as fault:
            return Response(fault.message, 503, media_type="text/plain")
        return Response(text, media_type="text/html", headers={"Content-Security-Policy": SUMMARY_POLICY})

    async def answered(request: Request, exception: Exception) -> Response:
        if isinstance(exception, _Answered):
            return error(exception.status, str(exception))
        assert isinstance(exception, HTTPException), "no other is handled here"
        response = error(exception.status_code, exception.detail)
        response.headers.update(exception.headers or {})
        return response

    app = Starlette(
        routes=[
            Route("/", home),
            Route("/review.js", code),
            Route("/review.css", look),
            Route("/list", list_),
            Route("/state", state),
            Route("/row", row),
            Route("/check", check, methods=["POST"]),
            Route("/decide", decide, methods=["POST"]),
            Route("/summary", summary),
        ],
        exception_handlers={_Answered: answered, HTTPException: answered},
    )

    async def guarded(scope: "Scope", receive: "Receive", send: "Send") -> None:
        assert scope["type"] == "http", "websockets and lifespan are off"

        async def with_headers(message: "Message") -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in HEADERS.items()
                        if name.lower().encode() not in there
                    ),
                ]
            await send(message)

        refusal = door.refusal(Request(scope))
        if refusal is None:
            await app(scope, receive, with_headers)
        else:
            await error(*refusal)(scope, receive, with_headers)

    return guarded


async def body(request: "Request", type_: type[T]) -> T:
    """Return what a request holds; it is turned away if that is too long or of another shape."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_BODY:
            raise _Answered(413, f"The request is longer than {MAX_BODY:,} bytes.")
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _Answered(400, f"The request has another shape: {error}.") from None


def reviewer_of(name: str | None) -> str:
    """Return the name under which decisions are written: the one given, or the one that git writes commits under."""
    if name is None:
        asked = ["git", "config", "user.name"]
        with suppress(OSError):
            name = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    name = (name or "").strip()
    if not name or not name.isprintable():
        raise Fault("review: nobody's name; give yours by --reviewer, or to git (`git config user.name NAME`)")
    return name


def bound(port: int) -> socket.socket:
    """Return a socket on a port of this machine alone; Fault if it is taken."""
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Fault(f"review: port {port} is in use; give another by --port") from None
        raise Fault(f"review: port {port}: {os.strerror(error.errno or 0)}; give another by --port") from None


def has_display() -> bool:
    """Whether a browser with windows can be opened here."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def ended(desk: "Desk") -> str:
    """Return what was decided, in a line."""
    made, states = desk.made, desk.states()
    told = ", ".join(f"{count} {state}" for state, count in made.items()) or "nothing"
    done = sum(states[state] for state in ("accepted", "rejected", "edited"))
    line = f"review: {told} now; {done} of {states.total()} rows decided by {desk.reviewer}"
    stale = f", {states['stale']} stale" if states["stale"] else ""
    return f"{line}{stale}" + ("; `dvc repro` applies them" if made else "")


def server(desk: "Desk", door: Door, ready: Callable[[], None]) -> "Server":
    """Return what serves the page, and calls `ready` once it does: from then on Ctrl-C ends it in order."""
    import uvicorn

    class Announced(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    config = uvicorn.Config(
        application(desk, door),
        lifespan="off",
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    return Announced(config)


def places() -> "Places":
    """Return where the files are, as dvc.yaml has them."""
    from curate.reviewing.desk import Places

    return Places(
        records=Path("data/decontaminated.jsonl"),
        verify=Path("data/asked/verify.jsonl"),
        judge=Path("data/asked/judge.jsonl"),
        decisions=Path("curate/decisions.jsonl"),
        params=Path("params.yaml"),
    )


@click.group(invoke_without_command=True)
@click.option("--reviewer", metavar="NAME", help="Who decides; without it, the name in git's configuration.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0: a free one.")
@click.option("--no-open", is_flag=True, help="Open no browser.")
@click.pass_context
def main(context: click.Context, reviewer: str | None, port: int, no_open: bool) -> None:
    """Review a sample of the bank in a browser, or carry it to another tool and back."""
    if context.invoked_subcommand is not None:
        return
    from curate.reviewing.desk import Desk

    name = reviewer_of(reviewer)
    with bound(port) as listening:
        door = Door(listening.getsockname()[1])
        desk = Desk(places(), name, lambda: datetime.now(UTC))
        desk.overview()  # a file that is not there is told here, not in the page

        def announce() -> None:
            click.echo(f"review: {door.address}{door.token}")
            if not no_open and has_display():
                webbrowser.open(f"{door.address}{next(iter(door.once))}")

        with suppress(KeyboardInterrupt):
            server(desk, door, announce).run(sockets=[listening])
        click.echo(ended(desk))


main.add_command(export)
main.add_command(import_)

if __name__ == "__main__":
    main()
