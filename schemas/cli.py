"""The command line of a package: its commands by name, each module imported only when its command runs."""

from importlib import import_module

import click


class Commands(click.Group):
    """Lists commands from a literal, so that `--help` answers without importing what they need."""

    def __init__(self, about: str, modules: dict[str, tuple[str, str]]) -> None:
        """`modules` maps a command to the module that holds it as `main`, and to its line in the help."""
        super().__init__(help=about, no_args_is_help=True)
        self.modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the literal."""
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command, or return None for click to complain."""
        if cmd_name not in self.modules:
            return None
        command = import_module(self.modules[cmd_name][0]).main
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the lines of the literal, not those of the modules."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.modules.items()])
