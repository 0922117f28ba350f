"""Serve the embedded teacher on a port of this machine: for a demonstration, or to see a client meet faults."""

import asyncio
import contextlib
import logging
import os
import socket
from pathlib import Path

import click
import msgspec
from msgspec import inspect

from datagen.teacher.faults import Faults
from datagen.teacher.server import create_app
from schemas.faults import Fault

HOST = "127.0.0.1"
KEEP_ALIVE = 75  # seconds an idle connection stays open; uvicorn's 5 break those of a client that pauses


def _switches() -> list[click.Option]:
    """Return an option for each switch of Faults, with its default, bounds and description."""
    options = []
    for switch in inspect.type_info(Faults).fields:  # type: ignore[attr-defined]
        described = switch.type
        bounds = described.type
        name, about = f"--{switch.name.replace('_', '-')}", described.extra_json_schema["description"]
        if isinstance(bounds, inspect.BoolType):
            options.append(click.Option([name], is_flag=True, default=switch.default, help=about))
            continue
        range_ = click.IntRange if isinstance(bounds, inspect.IntType) else click.FloatRange
        type_ = click.INT if bounds.ge is None else range_(bounds.ge, bounds.le)
        shown = bool(switch.default)
        options.append(click.Option([name], type=type_, default=switch.default, show_default=shown, help=about))
    return options


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: a free one.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Folder in which batches outlive this.")
def main(port: int, keep: Path | None, **switches: float) -> None:
    """Serve the embedded teacher at http://127.0.0.1:PORT/v1 until Ctrl-C."""
    import uvicorn

    try:
        faults = msgspec.convert(switches, Faults)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from None
    try:
        bound = socket.create_server((HOST, port))
    except OSError as error:
        raise Fault(
            f"{HOST}:{port}: {os.strerror(error.errno or 0)}; choose another --port, or 0 for a free one"
        ) from None
    try:
        app = create_app(faults, keep)
    except OSError as error:
        raise Fault(f"{keep}: {error.strerror}; choose another folder to --keep batches in") from None
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=1,
    )
    logging.getLogger("uvicorn.error").addFilter(_unexpected)
    click.echo(f"teacher: http://{HOST}:{bound.getsockname()[1]}/v1; any key will do", err=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[bound])


main.params += _switches()


def _unexpected(record: logging.LogRecord) -> bool:
    """Whether uvicorn's log has anything to say beyond cut connections and calls that Ctrl-C ended."""
    expected = (ConnectionResetError, asyncio.CancelledError)
    return not (record.exc_info and isinstance(record.exc_info[1], expected)) and "graceful" not in record.getMessage()
