"""A round of distillation in files: what the author wrote, what the teacher said of it, the rows to learn from.

    written.jsonl     Written: a reply to each commission, with its verdict
    records.jsonl     Record: what the teacher is sent; what computer algebra refutes or nobody can read is not
    judged.jsonl      Judged, from `datagen.judge`
    improved.jsonl    Derived, from `datagen.improve`
    finished.jsonl    Record: improved, or good as it was; these are varied
    varied.jsonl      Derived, from `datagen.vary`
    lessons.json      how many rows that makes, and how many of them are too long for the author
    rows.jsonl        Example: what is learned, in the order of the steps

Each file is written once and whole, so that a run that goes on asks the same and learns the same. The teacher is asked
by datagen's stages, in processes of their own: their loop, store, limits and budget hold for it.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from schemas import chain, chat, rows
from schemas.chain import MARKS
from schemas.chat import Words
from schemas.record import Commission, Derived, Example, Item, Judged, Judgement, Message, Record
from train import heldout
from train.author.examine import examine
from train.author.writing import Written, shares

APPROVED = 4.0
"""Mean of the five marks from which a question has the teacher's approval."""
SENT = ("confirmed", "unchecked")
"""Verdicts on questions that are sent to the teacher, and on replies of his that are learned from."""

KINDS = ("write", "improve", "vary")
"""Of rows that a round teaches; the rest is replayed."""


S = TypeVar("S", bound=Written)
T = TypeVar("T")


class Sample(Written, frozen=True):
    """A reply to a held-out commission and what was said of it."""

    mean: float | None
    """Of the teacher's five marks; None: it was not sent to him."""


class Round(Struct, frozen=True):
    """The folder of a round."""

    folder: Path

    def path(self, name: str) -> Path:
        """Return the path of one of the files above."""
        return self.folder / f"{name}.jsonl"

    def read(self, name: str, row: Any) -> list[Any]:
        """Return the rows of a file; none of one that this round does without."""
        return list(rows.read(self.path(name), row)) if self.path(name).exists() else []

    def once(self, name: str, made: Callable[[], Iterable[Struct]]) -> None:
        """Write a file, unless it is there."""
        if not self.path(name).exists():
            rows.write(self.path(name), made())

    def ask(self, section: str, kind: str, out: str, *given: str) -> None:
        """Have the teacher asked about the rows of `given`, unless it has been."""
        files = [self.path(out), *(self.path(out).with_suffix(suffix) for suffix in (".json", ".now.json"))]
        if not files[-1].exists():
            words = (*map(self.path, given), *files[:-1], "--section", f"{section}.{kind}", "--now", files[-1])
            ask(f"datagen.{kind}", words, section)

    def asked(self) -> dict[str, int]:
        """Return how many requests the teacher was asked when they were needed, and how many were in the store."""
        found = {out: self.path(out).with_suffix(".now.json") for out in ("judged", "improved", "varied")}
        done = {out: json.loads(path.read_bytes())["asked"] for out, path in found.items() if path.exists()}
        every = sum(json.loads(self.path(out).with_suffix(".json").read_bytes())["requests"] for out in done)
        return {"asked_now": sum(done.values()), "from_store": every - sum(done.values())}

    def judgements(self) -> dict[str, Judgement]:
        """Return the judgement on each record that has one, by the record's id."""
        return {row.id: row.judgement for row in self.read("judged", Judged) if row.judgement}


def ask(module: str, words: Iterable[object], stage: str) -> None:
    """Run a stage of datagen to its end; SystemExit with its status if it failed, which has said why.

    DVC_STAGE makes it end when this process does, what was paid for in the store. Ctrl-C is passed on, once for each
    time: in the process group of this one it would hear the terminal's too, and leave its calls in flight behind.
    """
    env = {"DVC_STAGE": stage, **os.environ}
    with subprocess.Popen([sys.executable, "-m", module, *map(str, words)], env=env, process_group=0) as child:
        stopped, status = False, None
        while status is None:
            try:
                status = child.wait()
            except KeyboardInterrupt:
                stopped = True
                child.send_signal(signal.SIGINT)
    if status:
        raise SystemExit(status)
    if stopped:  # there was nothing left to ask
        raise KeyboardInterrupt


def identified(commission: Commission, item: Item, teacher: str) -> Record:
    """Return what an author wrote as a record of the commission's cell, its id a hash of cell and content."""
    place = {name: getattr(commission, name) for name in ("topic", "difficulty", "type")}
    content = msgspec.json.encode((*place.values(), item))
    fields = {**asdict(item), **place, "id": hashlib.sha256(content).hexdigest()[:16], "teacher": teacher}
    return Record(**fields, repairs=())


def records(replies: Iterable[Written], commissions: Mapping[str, Commission], teacher: str) -> list[Record]:
    """Return the replies that are sent to the teacher as records of the author `teacher`, each question once."""
    found: dict[str, Record] = {}
    for written in replies:
        examined = examine(written.reply)
        if examined.item and examined.verdict in SENT:
            record = identified(commissions[written.id], examined.item, teacher)
            found.setdefault(record.id, record)
    return list(found.values())


def sound(derived: Iterable[Derived]) -> list[Derived]:
    """Return the items of the teacher that computer algebra does not refute: from the others nothing is learned."""
    return [row for row in derived if examine(chain.write(row)).verdict in SENT]


def finished(of: Round, keep: float) -> list[Record]:
    """Return each record as improved, or as it was if its mean mark is at least `keep`; the rest is left out."""
    judgements = of.judgements()
    better = {row.of: row for row in sound(of.read("improved", Derived))}
    found = []
    for record in of.read("records", Record):
        if row := better.get(record.id):
            found.append(Record(**{name: getattr(row, name) for name in Record.__struct_fields__}))
        elif record.id in judgements and judgements[record.id].mean() >= keep:
            found.append(record)
    return found


def lessons(of: Round, words: Words, thinking: Sequence[bool], draw: random.Random) -> list[Example]:
    """Return the chats that a round teaches, each with thoughts or without as drawn from the ways of `thinking`.

    A commission, the finished question; a question and what was said of it, the improved one; a finished question and
    how to vary it, the variation.
    """
    sent = {record.id: record for record in of.read("records", Record)}
    done = {record.id: record for record in of.read("finished", Record)}
    judgements = of.judgements()

    def example(kind: str, asked: tuple[Message, ...], item: Record) -> Example:
        return Example(id=f"{item.id}/{kind}", messages=(*asked, chat.authored(item, draw.choice(thinking))))

    def made() -> Iterator[Example]:
        for record in done.values():
            yield example("write", chat.commission(words.prompt, *words.of(_cell(record))), record)
        for row in sound(of.read("improved", Derived)):
            said = judgements[row.of].feedback
            asked = chat.improvement(words.prompt, *words.of(_cell(row)), sent[row.of], said)
            yield example("improve", asked, row)
        for row in sound(of.read("varied", Derived)):
            how: Any = row.how.partition(":")[2]
            yield example("vary", chat.variation(words.prompt, *words.of(_cell(row)), done[row.of], how), row)

    return list(made())


def drawn(
    fresh: Sequence[Example], replay: Sequence[Example], count: int, share: float, times: int, draw: random.Random
) -> list[Example]:
    """Return `count` rows in the order in which they are learned, a `share` of them replayed.

    The fresh ones come again and again, in another order each time, but so many `times` at most: for what they are too
    few, more is replayed, if there is anything to replay.
    """
    wanted = count - round(count * share) if replay else count
    most = min(wanted, times * len(fresh)) if replay else wanted
    found = list(islice(passes(fresh, draw), most))
    found += draw.choices(replay, k=count - most) if replay else []
    draw.shuffle(found)
    return found


def passes(pool: Sequence[T], draw: random.Random) -> Iterator[T]:
    """Yield all of a pool again and again, each time in another order."""
    while pool:
        yield from draw.sample(pool, len(pool))


def figures(of: Round) -> dict[str, Any]:
    """Return what came of a round."""
    replies, learned = of.read("written", Written), of.read("rows", Example)
    improved, varied = (of.read(name, Derived) for name in ("improved", "varied"))
    return {
        "written": len(replies),
        "verdicts": shares(replies),
        "sent": len(of.read("records", Record)),
        **marks(list(of.judgements().values())),
        "improved": len(improved),
        "varied": len(varied),
        "refuted_back": len(improved) + len(varied) - len(sound(improved)) - len(sound(varied)),
        "finished": len(of.read("finished", Record)),
        **json.loads((of.folder / "lessons.json").read_bytes()),
        "learned": {kind: sum(row.id.endswith(f"/{kind}") for row in learned) for kind in KINDS},
        "replayed": sum(not row.id.endswith(tuple(f"/{kind}" for kind in KINDS)) for row in learned),
        **of.asked(),
    }


def marks(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Return the mean of all marks and of each of the five, and the share of approved questions; None of none."""
    means = [judgement.mean() for judgement in judgements]
    return {
        "judged": len(means),
        "mean": round(fmean(means), 4) if means else None,
        "approved": round(sum(mean >= APPROVED for mean in means) / len(means), 4) if means else None,
        "marks": {mark: round(fmean(getattr(j, mark) for j in judgements), 4) if means else None for mark in MARKS},
    }


# What is written to held-out commissions, before and after


def samples(of: Round, commissions: Mapping[str, Commission], name: str) -> list[Sample]:
    """Return the replies of a folder, each with the mean of its marks."""
    judgements = of.judgements()

    def mean(written: Written) -> float | None:
        item = examine(written.reply).item
        found = item and judgements.get(identified(commissions[written.id], item, name).id)
        return found.mean() if found else None

    return [
        Sample(**{name: getattr(one, name) for name in Written.__struct_fields__}, mean=mean(one))
        for one in of.read("written", Written)
    ]


def summary(found: Sequence[Sample]) -> dict[str, Any]:
    """Return the share of each verdict, the mean mark of what was judged, and shares of all that was written."""
    means = [one.mean for one in found if one.mean is not None]
    return {
        "n": len(found),
        "verdicts": shares(found),
        "mean": round(fmean(means), 4) if means else None,
        **{name: heldout.interval(by_commission(found, right)) for name, right in GOOD.items()},
    }


def gain(before: Sequence[Sample], after: Sequence[Sample]) -> dict[str, Any]:
    """Return by how much the shares rose, commission by commission, each with its 95 % interval."""
    return {
        name: heldout.interval(
            [b - a for a, b in zip(by_commission(before, right), by_commission(after, right), strict=True)]
        )
        for name, right in GOOD.items()
    }


def by_commission(found: Iterable[S], value: Callable[[S], float]) -> list[float]:
    """Return the mean of a value for each commission: what is written to one is no independent draw."""
    groups: dict[str, list[float]] = {}
    for one in found:
        groups.setdefault(one.id, []).append(value(one))
    return [fmean(group) for group in groups.values()]


def _cell(record: Record) -> chat.Cell:
    return record.topic, record.difficulty, record.type


GOOD: dict[str, Callable[[Sample], bool]] = {
    "sent": lambda one: one.verdict in SENT,
    "approved": lambda one: one.mean is not None and one.mean >= APPROVED,
}
"""What counts as good of all that is written: not refuted, and approved by the teacher."""
