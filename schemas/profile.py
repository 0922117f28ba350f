"""Show what a profile changes in params.yaml, or merge it in, comments kept.

A profile holds only what differs from the embedded default. `python -m schemas.profile profiles/gpu24.yaml` prints the
differences; with --write it makes them.
"""

import copy
import difflib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from schemas.faults import Fault
from schemas.rows import whole

ABSENT = object()
REPLACED = ("trainer", "rewards")
"""Mappings taken whole from the profile: a tiny default's setting left among a real trainer's would be an accident."""


def merged(params: Any, profile: Any) -> Any:
    """Return params with the profile's values in their place, mapping by mapping; neither argument is changed."""
    made = copy.deepcopy(params)
    for key, value in profile.items():
        if isinstance(value, dict) and isinstance(made.get(key), dict) and key not in REPLACED:
            made[key] = merged(made[key], value)
        else:
            made[key] = copy.deepcopy(value)
    return made


def changes(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, value before, value after) of every leaf that differs; ABSENT where there is none."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            inner = f"{path}.{key}" if path else str(key)
            yield from changes(before.get(key, ABSENT), after.get(key, ABSENT), inner)
    elif before is ABSENT or after is ABSENT or before != after:
        yield path, before, after


def read(path: Path) -> Any:
    """Return a YAML mapping that remembers its comments; Fault if it is none."""
    try:
        document = _yaml().load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}") from None
    except YAMLError as error:
        raise Fault(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise Fault(f"{path}: must be a mapping of sections")
    return document


def text(document: Any) -> str:
    """Return a document as YAML, laid out as it was read."""
    out = io.StringIO()
    _yaml().dump(document, out)
    return out.getvalue()


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 4096
    yaml.preserve_quotes = True
    # `null`, as params.yaml spells it, not an empty value
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    return yaml


def _shown(value: Any) -> str:
    return "-" if value is ABSENT else "null" if value is None else " ".join(str(value).split())


@click.command(help=__doc__.partition("\n")[0])
@click.argument("profile", type=click.Path(path_type=Path))
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"), show_default=True)
@click.option("--write", is_flag=True, help="Merge the profile into the params file.")
def main(profile: Path, params: Path, write: bool) -> None:
    """Print the differences, and make them if asked."""
    old, wanted = read(params), read(profile)
    for section in wanted:
        if section not in old:
            near = difflib.get_close_matches(str(section), list(old), 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise Fault(f"{profile}: {section}: {params} has no such section{hint}")
    new = merged(old, wanted)
    found = list(changes(old, new))
    for key, before, after in found:
        click.echo(f"{key}: {_shown(before)} → {_shown(after)}")
    if write:
        with whole(params) as file:
            file.write(text(new).encode())
    click.echo(f"profile: {len(found)} values of {params} {'changed' if write else 'would change'} by {profile}")


if __name__ == "__main__":
    main()
