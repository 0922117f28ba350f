"""Ask anew for one topic: raise its round in params.yaml, then have DVC rebuild what depends on it."""

import shutil
import subprocess
from pathlib import Path

import click
from ruamel.yaml import YAML

from datagen.grid import read
from schemas.faults import Fault
from schemas.rows import whole

PARAMS = Path("params.yaml")


def raised(text: str, topic: str) -> tuple[str, int]:
    """Return the text of params.yaml with the topic's round one higher, and that round; every other byte as it was."""
    settings = YAML().load(text)["topics"][topic]
    line, column = settings.lc.value("round")
    old = str(settings["round"])
    lines = text.splitlines(keepends=True)
    if not lines[line].startswith(old, column):
        raise Fault(f"{PARAMS}:{line + 1}: round of {topic} is not a plain number; write it as one")
    new = settings["round"] + 1
    lines[line] = f"{lines[line][:column]}{new}{lines[line][column + len(old) :]}"
    return "".join(lines), new


@click.command()
@click.argument("topic")
@click.option("--no-repro", is_flag=True, help="Only raise the round; run `dvc repro` yourself.")
@click.pass_context
def main(ctx: click.Context, topic: str, no_repro: bool) -> None:
    """Raise the round of TOPIC, so that all its questions are asked for anew, and rebuild what follows from it."""
    read([topic], PARAMS)
    text, round_ = raised(PARAMS.read_bytes().decode(), topic)  # read_text would unify line ends
    with whole(PARAMS) as file:
        file.write(text.encode())
    click.echo(f"regen: {topic} is at round {round_}", err=True)
    if no_repro:
        return
    dvc = shutil.which("dvc")
    if dvc is None:
        raise Fault(f"dvc: not found; install it, then run `dvc repro --downstream generate@{topic}`")
    ctx.exit(subprocess.run([dvc, "repro", "--downstream", f"generate@{topic}"], check=False).returncode)
