"""Folders of a training: where an unfinished run keeps its state, and the one that its result replaces whole."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec

from schemas.faults import Fault
from schemas.lineage import lineage
from train import launch
from train.memory import GIB

LOCK = "lock"
PATIENCE = 5.0
"""Seconds that a run waits for another one to leave its workplace: that of a killed `dvc repro` is about to."""
BEAT = 1.0
"""Seconds between two looks at whether DVC still runs."""


def root() -> Path:
    """Return the root of the project: DVC's where it runs the stage, `dvc exp run` in another folder too."""
    return Path(os.environ.get("DVC_ROOT", "."))


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Give a new folder that replaces `path` only if the block ends well; Fault if the disk is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        with _room(path, lambda: "run again, only this is still to be done"):
            yield new
            new.chmod(0o755)
            if path.exists():
                shutil.rmtree(path)
            new.rename(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def workplace(stage: str, params: Any, inputs: Iterable[Path]) -> Path:
    """Return the folder where an unfinished run keeps its state, found again only by the same params and inputs.

    It lies outside the outs, which DVC deletes before a run.
    """
    key = hashlib.sha256(msgspec.json.encode(params))
    for path in inputs:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                key.update(f"\0{file.relative_to(path)}\0".encode())
                key.update(file.read_bytes() if file.stat().st_size < GIB else str(file.stat().st_mtime_ns).encode())
    place = root() / ".store" / "checkpoints" / stage / key.hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    return place


def last_checkpoint(place: Path) -> Path | None:
    """Return the newest whole checkpoint; newer ones, which a kill or a full disk cut off, are removed."""
    for path in sorted(place.glob("checkpoint-[0-9]*"), key=_step, reverse=True):
        if is_whole(path):
            return path
        shutil.rmtree(path, ignore_errors=True)
    return None


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint was written to its end; what is in them is not read.

    transformers writes trainer_state.json last; torch's files are zip archives, which end with their directory, and
    those of safetensors begin with their length.
    """
    from safetensors import SafetensorError, safe_open

    try:
        json.loads((checkpoint / "trainer_state.json").read_bytes())
        for path in checkpoint.rglob("*"):
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt"):
                    pass
            elif path.suffix in (".pt", ".pth", ".bin"):
                zipfile.ZipFile(path).close()
    except (OSError, ValueError, zipfile.BadZipFile, SafetensorError):
        return False
    return True


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.partition("-")[2])


@contextmanager
def running(place: Path) -> Iterator[None]:
    """Mark a workplace as one where this run alone works; the mark ends with the process, however it ends.

    A run that DVC started ends with DVC, and a full disk is a Fault. Of several processes of one launch the first marks
    the workplace for all.
    """
    if not launch.first():
        yield
        return
    with _marked(place), _ending_with_dvc(), _room(place, lambda: _goes_on(place)):
        yield


def is_running(place: Path) -> bool:
    """Whether a process works in a workplace now."""
    try:
        with open(place / LOCK, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def _marked(place: Path) -> Iterator[None]:
    deadline = time.monotonic() + PATIENCE
    while not (file := _locked(place)):
        if time.monotonic() > deadline:
            pid = (place / LOCK).read_text().strip() or "unknown"
            raise Fault(
                f"{place}: process {pid} is at this very training; let it end, or stop it (kill {pid}) and run again, "
                "which goes on from its last checkpoint"
            )
        time.sleep(0.05)
    with file:
        file.truncate()
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


def _locked(place: Path) -> BinaryIO | None:
    place.mkdir(parents=True, exist_ok=True)
    file = os.fdopen(os.open(place / LOCK, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
    with suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), (place / LOCK).stat()):  # a run that ends takes the folder away
            return file
    file.close()
    return None


@contextmanager
def _ending_with_dvc() -> Iterator[None]:
    # DVC killed leaves its child behind, which would hold the GPU and the workplace. A run of one's own may outlive its
    # shell, as under nohup.
    started = launch.launcher()
    first, over = lineage(started), threading.Event()

    def watch() -> None:
        while not over.wait(BEAT):
            if lineage(started) != first:
                try:
                    click.echo("DVC is gone: the training ends; run again to go on from its last checkpoint", err=True)
                finally:
                    os._exit(1)  # a checkpoint that this cuts off is known by it

    if "DVC_STAGE" in os.environ:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def _room(path: Path, then: Callable[[], str]) -> Iterator[None]:
    try:
        yield
    except _errors_of_writers() as error:
        if not _could_not_write(error):
            raise
        free = shutil.disk_usage(path.parent).free
        raise Fault(
            f"{path}: a file could not be written whole, {size(free)} are free on this disk; make room, then {then()}"
        ) from None


def _errors_of_writers() -> tuple[type[Exception], ...]:
    from safetensors import SafetensorError

    return OSError, RuntimeError, SafetensorError


def _could_not_write(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # safetensors hands the system's number on in words, torch's writer hides it.
    words = ("(os error 28)", "(os error 122)", "iostream error", "PytorchStreamWriter failed", "unexpected pos ")
    return any(word in str(error) for word in words)


def _goes_on(place: Path) -> str:
    found = last_checkpoint(place)
    return f"run again: it goes on from {found.name}" if found else "run again: it begins anew, no checkpoint was whole"


def size(count: int) -> str:
    """Return bytes as a person reads them."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.1f} MiB"
