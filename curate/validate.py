"""Parse, mend and check what the teacher replied.

imported/<topic>.<name>.jsonl and responses/<topic>.jsonl of the configured topics (Response) → validated.jsonl
(Record), rejects (Reject), metrics. What was imported comes first, so that it is kept where a teacher wrote the same.
A topic that was removed from params.yaml leaves its files behind; they are not read.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click
import msgspec
from msgspec import Struct

from curate.checks import ValidateParams, figures, looks, reject_reason
from curate.shards import Chunk, chunks, spread
from schemas.chain import Malformed
from schemas.faults import Fault
from schemas.params import load, topics
from schemas.record import Record, Reject, Response
from schemas.repair import mend
from schemas.rows import read, whole, write_json


class Validated(Struct, frozen=True):
    """What was kept and what was dropped, each in the order of the responses."""

    records: list[Record]
    rejects: list[Reject]


class Named(Struct, frozen=True):
    """A response, as far as its id goes."""

    id: str


class Part(Struct, frozen=True):
    """The same of one chunk, as the lines to be written, and counted."""

    records: bytes
    rejects: bytes
    tally: "Tally"


class Tally(Struct, frozen=True):
    """The counts of the metrics; two of them add up."""

    rejected: Counter[str]
    """By reason."""
    repaired: Counter[str]
    """By repair."""
    topics: Counter[str]
    """Kept, by topic."""
    looks: Counter[str]
    """Of the kept ones' right options."""

    def add(self, other: "Tally") -> None:
        """Count what another has counted."""
        self.rejected.update(other.rejected)
        self.repaired.update(other.repaired)
        self.topics.update(other.topics)
        self.looks.update(other.looks)


def validate(responses: Iterable[Response], params: ValidateParams) -> Validated:
    """Return a record or a reject for each response."""
    found = Validated([], [])
    for response in responses:
        verdict = judge(response, params)
        if isinstance(verdict, Record):
            found.records.append(verdict)
        else:
            found.rejects.append(verdict)
    return found


def judge(response: Response, params: ValidateParams) -> Record | Reject:
    """Return the record a response holds, or why it holds none that may stay."""
    if not response.content.strip():
        return _reject(response, "no_reply", response.fault or "the reply is empty")
    mended = mend(response.content)
    if isinstance(mended, Malformed):
        return _reject(response, mended.reason, mended.detail)
    item, repairs = mended
    record = Record(
        question=item.question,
        options=item.options,
        think=item.think,
        steps=item.steps,
        reflection=item.reflection,
        adjustment=item.adjustment,
        answer=item.answer,
        id=response.id,
        topic=response.topic,
        difficulty=response.difficulty,
        type=response.type,
        teacher=response.teacher,
        repairs=repairs,
    )
    wrong = reject_reason(record, params)
    return record if wrong is None else _reject(response, *wrong)


def part(params: ValidateParams, imported: Mapping[str, str], chunk: Chunk) -> Part:
    """Return what a chunk of a topic's file comes to; Fault for a row of another topic.

    `imported` names the file of each imported id; Fault for a row of another file that has it too.
    """
    found = validate(_checked(chunk, imported), params)
    encode = msgspec.json.Encoder().encode_lines
    return Part(encode(found.records), encode(found.rejects), tally(found))


def ids(files: Iterable[Path]) -> dict[str, str]:
    """Return the ids of responses, each with its file."""
    return {row.id: str(path) for path in files for row in read(path, Named)}


def tally(found: Validated) -> Tally:
    """Return the counts of what was found."""
    return Tally(
        rejected=Counter(reject.reason for reject in found.rejects),
        repaired=Counter(name for record in found.records for name in record.repairs),
        topics=Counter(record.topic for record in found.records),
        looks=looks(found.records),
    )


def metrics(counts: Tally) -> dict[str, object]:
    """Return the counts: kept, by reason, by repair, by topic; and whether right options can be told by their looks."""
    kept = counts.topics.total()
    return {
        "responses": kept + counts.rejected.total(),
        "kept": kept,
        "rejected": dict(sorted(counts.rejected.items())),
        "repaired": dict(sorted(counts.repaired.items())),
        **figures(counts.looks),
        "topics": dict(sorted(counts.topics.items())),
    }


def _checked(chunk: Chunk, imported: Mapping[str, str]) -> Iterator[Response]:
    slug = Path(chunk.path).name.partition(".")[0]
    for number, response in enumerate(chunk.quickly(Response), chunk.line):
        if response.topic != slug:
            raise Fault(
                f"{chunk.path}:{number}: topic '{response.topic}' in the file of '{slug}'; put the row in its own"
            )
        if imported.get(response.id, chunk.path) != chunk.path:
            raise Fault(
                f"{chunk.path}:{number}: id '{response.id}' is that of a row of {imported[response.id]} too; give the "
                "imported row another, or none, and import it again"
            )
        yield response


def _reject(response: Response, reason: str, detail: str) -> Reject:
    return Reject(
        id=response.id,
        topic=response.topic,
        stage="validate",
        reason=reason,
        detail=detail,
        kept=None,
        raw=response.content,
    )


@click.command()
@click.argument("responses_dir", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("rejects", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
@click.option("--imported", type=click.Path(path_type=Path), help="The folder of imported questions.")
def main(responses_dir: Path, out: Path, rejects: Path, metrics_file: Path, imported: Path | None) -> None:
    """Parse, mend and check the replies of the configured topics."""
    params = load("validate", ValidateParams)
    slugs = topics()
    own = sorted(imported.glob("*.jsonl")) if imported else []
    for path in own:
        if path.name.partition(".")[0] not in slugs:
            click.echo(f"validate: {path}: params.yaml has no such topic, so it is not read", err=True)
    own = [path for path in own if path.name.partition(".")[0] in slugs]
    pieces = (chunk for path in (*own, *(responses_dir / f"{slug}.jsonl" for slug in slugs)) for chunk in chunks(path))
    counts = Tally(Counter(), Counter(), Counter(), Counter())
    with ExitStack() as files:
        kept, dropped = (files.enter_context(whole(path)) for path in (out, rejects))
        for found in spread(partial(part, params, ids(own)), pieces):
            kept.write(found.records)
            dropped.write(found.rejects)
            counts.add(found.tally)
    numbers = metrics(counts)
    write_json(metrics_file, numbers)
    click.echo(f"validate: {numbers['kept']:,} of {numbers['responses']:,} kept")


if __name__ == "__main__":
    from curate.validate import main as run  # workers find its functions under the module's own name

    run()
