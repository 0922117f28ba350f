"""Keep the records of which verify and judge thought well enough.

decontaminated.jsonl (Record), verify.jsonl (Verification), judge.jsonl (Judged) → gated.jsonl (Record),
rejects (Reject), metrics.

A record that was not asked about stays, and so does one that was asked about without a valid reply: nothing is known
against it. Both are counted.
"""

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import click
import msgspec
from msgspec import Meta, Struct
from msgspec.structs import asdict

from curate.rejects import reject
from curate.shards import chunks
from schemas.faults import Fault
from schemas.params import Params, Share, load
from schemas.record import Judged, Letter, Record, Verification
from schemas.rows import read, whole, write_json


class GateParams(Params, frozen=True):
    """What is good enough."""

    agreement: Share
    """Share of the verifying answers that are the record's own."""
    mark: Annotated[float, Meta(ge=1, le=5)]
    """Mean of the judge's five."""


class Verdict(Struct, frozen=True):
    """What one row says about a record."""

    replied: bool
    against: str | None
    """Why the record is not good enough, for a person; None if it is, or if nobody replied."""
    answer: Letter | None
    """The answer that the row takes for the record's own; None if it does not say."""


class Verdicts(Struct, frozen=True):
    """What was said about records, by id."""

    verify: dict[str, Verdict]
    judge: dict[str, Verdict]


class Counts:
    """What the metrics count, record by record."""

    def __init__(self, said: Verdicts) -> None:
        self._kinds = {"verify": said.verify, "judge": said.judge}
        self._states = {kind: Counter[str]() for kind in self._kinds}
        self._not_there = {kind: set(verdicts) for kind, verdicts in self._kinds.items()}
        self._rejected: Counter[str] = Counter()
        self._records = 0

    def add(self, id_: str, reason: str | None) -> None:
        """Count a record, and why it was dropped if it was."""
        self._records += 1
        if reason is not None:
            self._rejected[reason] += 1
        for kind, verdicts in self._kinds.items():
            verdict = verdicts.get(id_)
            state = "not_asked" if verdict is None else "replied" if verdict.replied else "without_reply"
            self._states[kind][state] += 1
            self._not_there[kind].discard(id_)

    def metrics(self) -> dict[str, object]:
        """Return the records, kept and dropped, and how many of them each kind of row was about.

        `not_there`: rows about ids that no record has.
        """
        return {
            "records": self._records,
            "kept": self._records - self._rejected.total(),
            "rejected": dict(sorted(self._rejected.items())),
            **{
                kind: {state: states[state] for state in ("replied", "without_reply", "not_asked")}
                | {"not_there": len(self._not_there[kind])}
                for kind, states in self._states.items()
            },
        }


def verdicts(verifications: Iterable[Verification], judged: Iterable[Judged], params: GateParams) -> Verdicts:
    """Return what the rows say of each id; Fault for an id with two rows of a kind."""
    said = Verdicts({}, {})
    for row in verifications:
        if row.id in said.verify:
            raise Fault(f"verify: two rows about '{row.id}'; keep one of them")
        said.verify[row.id] = _verified(row, params.agreement)
    for mark in judged:
        if mark.id in said.judge:
            raise Fault(f"judge: two rows about '{mark.id}'; keep one of them")
        said.judge[mark.id] = _marked(mark, params.mark)
    return said


def gate(record: Record, said: Verdicts) -> tuple[str, str] | None:
    """Return the reason and detail for which a record is dropped, or None; Fault if another answer was verified."""
    for reason, verdict in (
        ("not_verified", said.verify.get(record.id)),
        ("marked_low", said.judge.get(record.id)),
    ):
        if verdict is None:
            continue
        if verdict.answer not in (None, record.answer):
            raise Fault(
                f"verify: '{record.id}' was asked about when its answer was {verdict.answer}, now it is "
                f"{record.answer}; run `dvc repro` to ask again"
            )
        if verdict.against is not None:
            return reason, verdict.against
    return None


def _verified(row: Verification, agreement: float) -> Verdict:
    count = len(row.answers)
    against = None
    if count and row.agreed / count < agreement:
        against = f"{row.agreed} of {count} answered {row.answer}: {', '.join(row.answers)}; by {row.teacher}"
    return Verdict(count > 0, against, row.answer)


def _marked(row: Judged, least: float) -> Verdict:
    judgement = row.judgement
    against = None
    if judgement is not None and judgement.mean() < least:
        marks = ", ".join(f"{name} {mark}" for name, mark in asdict(judgement).items() if name != "feedback")
        against = f"mean {judgement.mean():.1f}: {marks}; by {row.teacher}: {judgement.feedback}"
    return Verdict(judgement is not None, against, None)


@click.command()
@click.argument("records", metavar="IN", type=click.Path(path_type=Path))
@click.argument("verify", type=click.Path(path_type=Path))
@click.argument("judge", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("rejects", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
def main(records: Path, verify: Path, judge: Path, out: Path, rejects: Path, metrics_file: Path) -> None:
    """Keep the records of which verify and judge thought well enough."""
    said = verdicts(read(verify, Verification), read(judge, Judged), load("gate", GateParams))
    counts = Counts(said)
    encode = msgspec.json.Encoder().encode
    with ExitStack() as files:
        kept, dropped = (files.enter_context(whole(path)) for path in (out, rejects))
        for chunk in chunks(records):
            for line, record in zip(chunk.lines(), chunk.rows(Record), strict=True):
                against = gate(record, said)
                counts.add(record.id, against and against[0])
                if against is None:
                    kept.write(line + b"\n")
                else:
                    dropped.write(encode(reject("gate", record, line, *against)) + b"\n")
    numbers = counts.metrics()
    write_json(metrics_file, numbers)
    click.echo(f"gate: {numbers['kept']:,} of {numbers['records']:,} kept")


if __name__ == "__main__":
    main()
