"""List the replies that curation dropped, for `datagen again` to ask for once more.

responses/<topic>.jsonl of the configured topics and what was imported (Response), rejects/<stage>.jsonl (Reject) → OUT
(Again).

In the order of the grid, one row for each. Listed is what lost the bank a question: a reply that could not be used, a
question there already, one of a known test, one that was marked low or that a reviewer rejected. What `balance`,
`split` and `pairs` set aside is a good question that was not needed. Rows that were imported cannot be asked again;
they are counted.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import click
import msgspec

from curate.checks import IMPORTED
from curate.import_ import PLACE
from curate.shards import chunks
from schemas import rows
from schemas.faults import Fault
from schemas.params import topics
from schemas.record import Again

STAGES = ("validate", "dedup", "decontaminate", "gate")


class Dropped(msgspec.Struct, frozen=True):
    """What of a reject is needed here; its raw text is not read."""

    id: str
    stage: str
    reason: str
    detail: str


class Asked(msgspec.Struct, frozen=True):
    """What of a response is needed here."""

    id: str
    topic: str
    difficulty: str
    type: str
    sample: int
    round: int
    teacher: str


def dropped(data: Path, stages: Iterable[str], reasons: Collection[str]) -> dict[str, Dropped]:
    """Return what the stages dropped, by id, all where no reason is named.

    Fault for a file that is not there, and for a reason that no row was dropped for.
    """
    found: dict[str, Dropped] = {}
    there: Counter[str] = Counter()
    for stage in stages:
        for chunk in chunks(data / "rejects" / f"{stage}.jsonl"):
            for row in chunk.rows(Dropped):
                there[row.reason] += 1
                if not reasons or row.reason in reasons:
                    found.setdefault(row.id, row)
    for reason in reasons:
        if reason not in there:
            known = ", ".join(f"{name} ({count:,})" for name, count in there.most_common()) or "none"
            raise Fault(f"--reason {reason}: no row was dropped for it; the reasons are: {known}")
    return found


def worklist(data: Path, slugs: list[str], wanted: dict[str, Dropped], counts: Counter[str]) -> Iterator[Again]:
    """Yield a row for each response that was dropped, in the order of the topics and of their files.

    Counted are the rows by `stage: reason`, those `imported`, and at the end those `stale`: no response has their id.
    """
    left = set(wanted)
    for path in (
        *(data / "responses" / f"{slug}.jsonl" for slug in slugs),
        *sorted((data.parent / PLACE).glob("*.jsonl")),
    ):
        for chunk in chunks(path):
            for asked in chunk.rows(Asked):
                if asked.id not in left:
                    continue
                left.remove(asked.id)
                if asked.teacher.startswith(IMPORTED):
                    counts["imported"] += 1
                    continue
                why = wanted[asked.id]
                counts[f"{why.stage}: {why.reason}"] += 1
                yield Again(
                    id=asked.id,
                    topic=asked.topic,
                    difficulty=asked.difficulty,
                    type=asked.type,
                    sample=asked.sample,
                    round=asked.round,
                    reason=why.reason,
                    detail=why.detail,
                )
    counts["stale"] = len(left)


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), default=Path("data"), help="The folder of the stages' files.")
@click.option("--reason", multiple=True, metavar="CODE", help="Only rows dropped for it; may be given again.")
@click.option("--stage", multiple=True, type=click.Choice(STAGES), help="Only rows dropped by it; may be given again.")
def main(out: Path, data: Path, reason: tuple[str, ...], stage: tuple[str, ...]) -> None:
    """List the replies that curation dropped in OUT, which `datagen again OUT` asks for once more."""
    wanted = dropped(data, stage or STAGES, reason)
    counts: Counter[str] = Counter()
    count = rows.write(out, worklist(data, list(topics()), wanted, counts))
    imported, stale = counts.pop("imported", 0), counts.pop("stale")
    why = ", ".join(f"{what} {number:,}" for what, number in counts.most_common())
    click.echo(f"worklist: {count:,} to ask again" + (f" ({why})" if why else ""))
    if imported:
        click.echo(f"worklist: {imported:,} more were imported; mend them in your file, then import it again")
    if stale:
        click.echo(f"worklist: {stale:,} more are not among the responses of params.yaml's topics; run `dvc repro`")


if __name__ == "__main__":
    main()
