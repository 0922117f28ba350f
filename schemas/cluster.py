"""Being part of a Ray cluster: one that runs somewhere, or one of our own on this machine."""

import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from schemas.faults import Fault

REACHED = 5.0  # seconds for a connection to the cluster
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to Ray's makers
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what Ray has to say does not go to stdout; the caller reports what matters
}


@contextmanager
def cluster(address: str | None, cpus: int, *, memory: int, hidden: Mapping[str, str]) -> Iterator[None]:
    """Be part of a Ray cluster; without an address, of one on this machine, which is gone afterwards.

    That one has `cpus` and so many bytes of `memory` for objects, does not find the `hidden` variables in its
    environment, keeps its files in a folder of its own, and lets in nobody else.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if address is None and "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:  # read on import
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    try:
        import ray
    except ImportError:
        raise Fault("Ray is not installed: pip install 'question-bank[ray]'") from None
    from ray.exceptions import RayError

    with ExitStack() as stack:
        own: dict[str, object] = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": memory}
        if address is None:
            own["_temp_dir"] = stack.enter_context(TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
        on_term = signal.getsignal(signal.SIGTERM)
        for name in hidden:
            os.environ.pop(name, None)
        try:
            _reach(address)
            ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **({} if address else own))
        except (RayError, RuntimeError, ValueError, OSError) as error:
            hint = "; the address, Ray's version and RAY_AUTH_TOKEN must be those of the cluster" if address else ""
            raise Fault(f"Ray at {address or 'this machine'}: {said(error)}{hint}") from None
        finally:
            os.environ.update(hidden)
            signal.signal(signal.SIGTERM, on_term)  # Ray's would end the run without draining it
        try:
            yield
        finally:
            ray.shutdown()


def _reach(address: str | None) -> None:
    """OSError if nobody listens at an address that is a host and a port: Ray would try for minutes, and not quietly."""
    if address and (at := urlsplit(address if "//" in address else f"//{address}")).port:
        socket.create_connection((at.hostname, at.port), REACHED).close()


def said(error: Exception) -> str:
    """Return the line of an error of Ray's that says most: the last of a traceback, the first of anything else."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if "  File " in str(error) else lines[0]
