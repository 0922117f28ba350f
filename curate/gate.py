"""Keep the records of which verify, judge and reviewers thought well enough.

decontaminated.jsonl (Record), verify.jsonl (Verification), judge.jsonl (Judged), decisions.jsonl (Decision) →
gated.jsonl (Record), rejects (Reject), metrics.

A record that was not asked about stays, and so does one that was asked about without a valid reply: nothing is known
against it. Both are counted. A person's word goes over a model's: what reviewers accepted or edited stays, whatever
verify and judge said of it. Where they surely accept too few, of a topic or of all, the stage fails.
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

from curate import decisions
from curate.decisions import Dropped, Rate, Standing
from curate.rejects import reject
from curate.shards import chunks
from schemas.faults import Fault
from schemas.params import Params, Share, load
from schemas.record import Decision, Judged, Letter, Record, Verification
from schemas.rows import read, whole, write_json

ENOUGH = 5
"""Reviewed rows from which a rate is held against its bound: of fewer the interval, an approximation, is too short."""


class GateParams(Params, frozen=True):
    """What is good enough."""

    agreement: Share
    """Share of the verifying answers that are the record's own."""
    mark: Annotated[float, Meta(ge=1, le=5)]
    """Mean of the judge's five."""
    accept: Share | None
    """Share of the reviewed records of a topic, and of all, drawn by chance, that are accepted; null: no bound."""


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


class Reviewed:
    """What reviewers decided, and how the records it is about are now."""

    def __init__(self, decided: Iterable[Decision]) -> None:
        self._standing = decisions.standing(decided)
        self._topics: dict[str, str] = {}
        self._contents: dict[str, str] = {}
        self._overruled = 0

    def of(self, record: Record) -> Standing | None:
        """Return what was decided about a record, and remember the record."""
        about = self._standing.get(record.id)
        if about is not None:
            self._topics[record.id] = record.topic
            self._contents[record.id] = decisions.content(record)
        return about

    def overrule(self) -> None:
        """Count a record that stays because reviewers say so."""
        self._overruled += 1

    def fresh(self) -> list[Decision]:
        """Return what stands of the records seen."""
        return [decision for id_, content in self._contents.items() for decision in self._standing[id_].fresh(content)]

    def rates(self) -> decisions.Rates:
        """Return the share of the reviewed records that are accepted, in all and by topic."""
        return decisions.rates(self.fresh(), self._topics)

    def metrics(self) -> dict[str, object]:
        """Return how many records were accepted, edited and rejected, the accept rate, how far reviewers agree.

        The rate is of the `by_chance` records that were drawn so, `low` and `high` the ends of its interval; `stale`
        counts decisions about another content of a record, `not_there` records decided about that are no more,
        `overruled` those that verify or judge would have dropped.
        """
        fresh, rates = self.fresh(), self.rates()
        verdicts: dict[str, set[str]] = {}
        for decision in fresh:
            verdicts.setdefault(decision.id, set()).add(decision.verdict)
        worst = Counter(next(kind for kind in ("reject", "edit", "accept") if kind in of) for of in verdicts.values())
        return {
            "reviewed": len(verdicts),
            "by_chance": rates.all.reviewed,
            "accepted": worst["accept"],
            "edited": worst["edit"],
            "rejected": worst["reject"],
            "stale": sum(len(self._standing[id_].stale(content)) for id_, content in self._contents.items()),
            "not_there": len(self._standing) - len(self._contents),
            "overruled": self._overruled,
            **_ends(rates.all),
            "topics": {
                topic: {"reviewed": rate.reviewed, "accepted": rate.accepted, **_ends(rate)}
                for topic, rate in rates.topics.items()
            },
            "kappa": {
                " and ".join(two.reviewers): {"records": two.records, "agreed": two.agreed, "kappa": _round(two.kappa)}
                for two in decisions.kappa(fresh)
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


def gate(record: Record, said: Verdicts) -> Dropped | None:
    """Return why verify or judge has a record dropped, or None; Fault if another answer was verified."""
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
            return Dropped(reason, verdict.against)
    return None


def settled(record: Record, said: Verdicts, reviewed: Reviewed) -> Record | Dropped:
    """Return the record as it is or as it was edited, or why it is dropped; what reviewers decided counts first."""
    against, decided = gate(record, said), decisions.verdict(record, reviewed.of(record))
    if decided is None:
        return against or record
    if against is not None and not isinstance(decided, Dropped):
        reviewed.overrule()
    return decided


def complaint(rates: decisions.Rates, least: float | None) -> str | None:
    """Return which accept rates are surely, by the upper end of their interval, below the least; None if none is."""
    low = [topic for topic, rate in rates.topics.items() if _surely_below(rate, least)]
    named = ", ".join(f"{topic}: {_said(rates.topics[topic])}" for topic in low)
    if not low and _surely_below(rates.all, least):
        named = f"all topics: {_said(rates.all)}"
    if not named:
        return None
    mend = "what was rejected (curate worklist)"
    if low:
        mend = f"the topics (datagen regen {low[0]}, …)" if low[1:] else f"the topic (datagen regen {low[0]})"
    return f"gate: {named}, at least {least:g} is asked for; mend {mend} or lower gate.accept"


def _surely_below(rate: Rate, least: float | None) -> bool:
    return least is not None and rate.high is not None and rate.reviewed >= ENOUGH and rate.high < least


def _said(rate: Rate) -> str:
    ends = f"{rate.accept:.2f} [{rate.low:.2f}, {rate.high:.2f}]"
    return f"{rate.accepted:,} of {rate.reviewed:,} reviewed rows accepted ({ends})"


def _ends(rate: Rate) -> dict[str, float | None]:
    return {"accept": _round(rate.accept), "low": _round(rate.low), "high": _round(rate.high)}


def _round(number: float | None) -> float | None:
    return None if number is None else round(number, 4)


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
@click.argument("decided", metavar="DECISIONS", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("rejects", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
def main(records: Path, verify: Path, judge: Path, decided: Path, out: Path, rejects: Path, metrics_file: Path) -> None:
    """Keep the records of which verify, judge and reviewers thought well enough."""
    params = load("gate", GateParams)
    said = verdicts(read(verify, Verification), read(judge, Judged), params)
    counts, reviewed = Counts(said), Reviewed(decisions.read(decided))
    encode = msgspec.json.Encoder().encode
    with ExitStack() as files:
        kept, dropped = (files.enter_context(whole(path)) for path in (out, rejects))
        for chunk in chunks(records):
            for line, record in zip(chunk.lines(), chunk.rows(Record), strict=True):
                found = settled(record, said, reviewed)
                if isinstance(found, Dropped):
                    counts.add(record.id, found.reason)
                    dropped.write(encode(reject("gate", record, line, found.reason, found.detail)) + b"\n")
                else:
                    counts.add(record.id, None)
                    kept.write((line if found is record else encode(found)) + b"\n")
        low = complaint(reviewed.rates(), params.accept)
        if low is not None:
            raise Fault(low)
    numbers = counts.metrics() | {"review": reviewed.metrics()}
    write_json(metrics_file, numbers)
    click.echo(f"gate: {numbers['kept']:,} of {numbers['records']:,} kept")


if __name__ == "__main__":
    main()
