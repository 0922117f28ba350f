"""Say what became of a row: the files that hold it, or the stage that dropped it, why, and the row kept instead."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from schemas.faults import Fault
from schemas.record import Reject

# In the order of the pipeline.
STAGES = ("responses/*.jsonl", "validated.jsonl", "dedup.jsonl", "balanced.jsonl")
SIDES = ("train.jsonl", "validation.jsonl", "test.jsonl")


def explain(id_: str, data: Path) -> Iterator[str]:
    """Yield the lines of a row's story; Fault if no file knows the id."""
    places = [place for pattern in (*STAGES, *SIDES) for place in _holding(id_, data, pattern)]
    rejects = [reject for path in sorted(data.glob("rejects/*.jsonl")) for reject in _rejects(id_, path)]
    if not places and not rejects:
        raise Fault(f"{data}: no row '{id_}'; an id is the value of \"id\" in any file there, as in test.csv")
    for place in places:
        yield f"{id_}: in {place}"
    for reject in rejects:
        yield f"{id_}: dropped by {reject.stage}: {reject.reason}" + (f" ({reject.detail})" if reject.detail else "")
        if reject.kept:
            yield f"{id_}: kept instead: {reject.kept}"
            if reject.kept != id_:
                yield from explain(reject.kept, data)


def _holding(id_: str, data: Path, pattern: str) -> Iterator[str]:
    for path in sorted(data.glob(pattern)):
        for number, _ in _rows(id_, path):
            yield f"{path}:{number}"


def _rejects(id_: str, path: Path) -> Iterator[Reject]:
    for number, line in _rows(id_, path):
        try:
            yield msgspec.json.decode(line, type=Reject)
        except msgspec.DecodeError as error:
            raise Fault(f"{path}:{number}: {error}; run `dvc repro`") from None


def _rows(id_: str, path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the numbered lines of a row; the rest are passed over undecoded."""
    needle = f'"id":{json.dumps(id_, ensure_ascii=False)}'.encode()
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if needle in line and msgspec.json.decode(line, type=_Id).id == id_:
                yield number, line


class _Id(msgspec.Struct):
    id: str


@click.command()
@click.argument("id_", metavar="ID")
@click.option("--data", type=click.Path(path_type=Path), default=Path("data"), help="The folder of the stages' files.")
def main(id_: str, data: Path) -> None:
    """Say where a row is, or which stage dropped it, why, and for which other row."""
    for line in explain(id_, data):
        click.echo(line)


if __name__ == "__main__":
    main()
