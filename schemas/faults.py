"""Faults: what a person can mend.

A bad row is data (a Reject), a mendable file or setting is a Fault, everything else is a bug and keeps its traceback.
"""

from typing import IO, Any

import click


class Fault(click.ClickException):
    """One line for a person: where, what is wrong, what to do. A command that raises it prints the line and exits 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line alone, without click's `Error:`."""
        click.echo(self.format_message(), file=file, err=file is None)
