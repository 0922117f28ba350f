"""Ask anew for one topic: raise its round in params.yaml, then have DVC rebuild what depends on it."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import click
from ruamel.yaml import YAML

from datagen.grid import listed, read
from schemas.faults import Fault
from schemas.rows import whole

PARAMS = Path("params.yaml")


def with_round(text: str, topic: str, round_: int) -> str:
    """Return the text of params.yaml with another round for a topic, every other byte as it was."""
    settings = YAML().load(text)["topics"][topic]
    line, column = settings.lc.value("round")
    old = str(settings["round"])
    lines = text.splitlines(keepends=True)
    if not lines[line].startswith(old, column):
        raise Fault(f"{PARAMS}:{line + 1}: round of {topic} is not a plain number; write it as one")
    lines[line] = f"{lines[line][:column]}{round_}{lines[line][column + len(old) :]}"
    return "".join(lines)


def repro(topics: Iterable[str]) -> int:
    """Have DVC make these topics and what follows from them; return its exit status."""
    words = ["repro", "--downstream", *(f"generate@{topic}" for topic in topics)]
    dvc = shutil.which("dvc")
    if dvc is None:
        raise Fault(f"dvc: not found; install it, then run `dvc {' '.join(words)}`")
    return subprocess.run([dvc, *words], check=False).returncode


@click.command()
@click.argument("topic")
@click.option("--no-repro", is_flag=True, help="Only raise the round; run `dvc repro` yourself.")
@click.pass_context
def main(ctx: click.Context, topic: str, no_repro: bool) -> None:
    """Raise the round of TOPIC, so that all its questions are asked for anew, and rebuild what follows from it."""
    grid = read([topic], PARAMS)
    # Those that were asked again are ahead of their topic: they too are to be asked anew.
    round_ = 1 + max([grid.topics[topic].round, *(row.round + 1 for row in listed() if row.topic == topic)])
    text = with_round(PARAMS.read_bytes().decode(), topic, round_)  # read_text would unify line ends
    with whole(PARAMS) as file:
        file.write(text.encode())
    click.echo(f"regen: {topic} is at round {round_}", err=True)
    if not no_repro:
        ctx.exit(repro([topic]))
