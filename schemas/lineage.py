"""Which process a run would outlive: the one that started it."""

import os
from pathlib import Path

SHELLS = ("sh", "dash", "ash", "ksh", "bash", "zsh", "fish")


def lineage(of: int | None = None) -> tuple[int, ...]:
    """Return the process that started this one, or the process `of`, and behind a shell what started the shell.

    DVC runs `$SHELL -c CMD`. bash and zsh give way to the command, dash stays, and stays when DVC dies.
    """
    try:
        parent = os.getppid() if of is None else _stat(of)[1]
        name, above = _stat(parent)
    except OSError:
        return (os.getppid(),)  # no /proc: macOS, whose shells give way
    return (parent, above) if name in SHELLS else (parent,)


def _stat(process: int) -> tuple[str, int]:
    """Return the name of a process and what started it."""
    name, _, rest = Path(f"/proc/{process}/stat").read_text().partition(" (")[2].rpartition(") ")
    return name, int(rest.split()[1])
