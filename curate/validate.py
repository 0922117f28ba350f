"""Parse, mend and check what the teacher replied.

responses/<topic>.jsonl of the configured topics (Response) → validated.jsonl (Record), rejects (Reject), metrics.
A topic that was removed from params.yaml leaves its file behind; it is not read.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from msgspec import Struct

from curate.checks import CHECKS, ValidateParams
from schemas.chain import Malformed
from schemas.faults import Fault
from schemas.params import load, topics
from schemas.record import Record, Reject, Response
from schemas.repair import mend
from schemas.rows import read, write, write_json


class Validated(Struct, frozen=True):
    """What was kept and what was dropped, each in the order of the responses."""

    records: list[Record]
    rejects: list[Reject]


def validate(responses: Iterable[Response], params: ValidateParams) -> Validated:
    """Return a record or a reject for each response; the second row of an id is a reject."""
    found = Validated([], [])
    seen: set[str] = set()
    for response in responses:
        verdict = judge(response, params) if response.id not in seen else _reject(response, "duplicate_id", "")
        seen.add(response.id)
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
    for reason, check in CHECKS.items():
        detail = check(record, params)
        if detail is not None:
            return _reject(response, reason, detail)
    return record


def metrics(found: Validated) -> dict[str, object]:
    """Return the counts: kept, by reason, by repair, by topic."""
    return {
        "responses": len(found.records) + len(found.rejects),
        "kept": len(found.records),
        "rejected": dict(sorted(Counter(reject.reason for reject in found.rejects).items())),
        "repaired": dict(sorted(Counter(name for record in found.records for name in record.repairs).items())),
        "topics": dict(sorted(Counter(record.topic for record in found.records).items())),
    }


def responses_of(folder: Path, slugs: Iterable[str]) -> Iterator[Response]:
    """Yield the responses of each topic; Fault for a missing file or a row of another topic."""
    for slug in slugs:
        path = folder / f"{slug}.jsonl"
        for number, response in enumerate(read(path, Response), 1):
            if response.topic != slug:
                raise Fault(
                    f"{path}:{number}: topic '{response.topic}' in the file of '{slug}'; put the row in its own"
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
def main(responses_dir: Path, out: Path, rejects: Path, metrics_file: Path) -> None:
    """Parse, mend and check the replies of the configured topics."""
    params = load("validate", ValidateParams)
    found = validate(responses_of(responses_dir, topics()), params)
    write(out, found.records)
    write(rejects, found.rejects)
    numbers = metrics(found)
    write_json(metrics_file, numbers)
    click.echo(f"validate: {numbers['kept']:,} of {numbers['responses']:,} kept")


if __name__ == "__main__":
    main()
