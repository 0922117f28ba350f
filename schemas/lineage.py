"""Which process a run would outlive: the one that started it."""

import os
from pathlib import Path

SHELLS = ("sh", "dash", "ash", "ksh", "bash", "zsh", "fish")


def lineage() -> tuple[int, ...]:
    """Return the process that started this one, and behind a shell that waits for it the one that started the shell.

    DVC runs `$SHELL -c CMD`. bash and zsh give way to the command, dash stays, and stays when DVC dies.
    """
    parent = os.getppid()
    try:
        stat = Path(f"/proc/{parent}/stat").read_text()
    except OSError:
        return (parent,)  # no /proc: macOS, whose shells give way
    name, _, rest = stat.partition(" (")[2].rpartition(") ")
    return (parent, int(rest.split()[1])) if name in SHELLS else (parent,)
