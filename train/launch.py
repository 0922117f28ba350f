"""Several GPUs: a stage that starts itself again through `accelerate launch`, one process for each."""

import os
import sys
from pathlib import Path
from typing import NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from schemas.faults import Fault

SHARDED = ("FSDP", "DEEPSPEED")
"""Ways in which no process holds the whole model."""
_MARK = "QUESTION_BANK_LAUNCHED"


def launch(file: str | None, module: str, *words: object, whole: bool) -> None:
    """Go on in one process for each GPU, as a file for `accelerate launch` says; without a file, or in one, return.

    The stage's own process becomes the launcher, so that it ends with DVC. Fault for a file that is none, and, where
    the stage needs the `whole` model to answer with, for one that spreads it.
    """
    if file is None or _MARK in os.environ:
        return
    if _kind(Path(file)) in SHARDED and whole:
        raise Fault(
            f"{file}: spreads the weights over the GPUs, and {module} has to answer with a whole model on each; take "
            "profiles/accelerate/ddp.yaml"
        )
    _become("-m", "accelerate.commands.launch", "--config_file", file, "-m", module, *map(str, words))


def _kind(file: Path) -> str:
    try:
        settings = YAML(typ="safe", pure=True).load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise Fault(f"{file}: {' '.join(str(error).split())}; write one by `accelerate config`") from None
    if not isinstance(settings, dict) or "distributed_type" not in settings:
        raise Fault(f"{file}: says no distributed_type; write it by `accelerate config`")
    return str(settings["distributed_type"])


def _become(*words: str) -> NoReturn:
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *words], os.environ | {_MARK: "1"})


def launcher() -> int | None:
    """Return the process that started this one as one of several; None if there is just this one."""
    return os.getppid() if _MARK in os.environ else None


def first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


def sharded() -> bool:
    """Whether no process holds the whole model, as accelerate tells the processes that it starts."""
    return any(os.environ.get(f"ACCELERATE_USE_{kind}", "false") == "true" for kind in SHARDED)
