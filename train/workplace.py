"""Folders of a training: where an unfinished run keeps its state, and the one that its result replaces whole."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from train.memory import GIB


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Give a new folder that replaces `path` only if the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
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

    It lies outside the outs, which DVC deletes before a run, and under the root that DVC names, so that `dvc exp run`
    in another folder finds it too.
    """
    key = hashlib.sha256(msgspec.json.encode(params))
    for path in inputs:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                key.update(f"\0{file.relative_to(path)}\0".encode())
                key.update(file.read_bytes() if file.stat().st_size < GIB else str(file.stat().st_mtime_ns).encode())
    place = Path(os.environ.get("DVC_ROOT", ".")) / ".store" / "checkpoints" / stage / key.hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    return place


def last_checkpoint(place: Path) -> Path | None:
    """Return the newest whole checkpoint; one that a kill cut off, known by its missing state, is removed."""
    found: list[tuple[int, Path]] = []
    for path in place.glob("checkpoint-*"):
        if (path / "trainer_state.json").is_file():
            found.append((int(path.name.partition("-")[2]), path))
        else:
            shutil.rmtree(path)
    return max(found)[1] if found else None
