"""A version of the bank as `report` sees it: nothing wrong with it, each part changed by what a test is about."""

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml import YAML

from curate.decisions import Rate
from curate.reporting import measured, tallies
from curate.reporting.quality import DROP, SIDES, Grid, Quality, Reviewers
from schemas.params import Topic, Wording
from schemas.record import LETTERS, Judged, Judgement, Record, Reject, Verification
from schemas.rows import write, write_json
from tests.curate.builders import a_record

TOPICS = ("economy", "environment")
TYPES = ("factual", "conceptual")
DIFFICULTIES = ("basic", "advanced")
RATES = {"reviewed": 40, "accepted": 38, "accept": 0.95, "low": 0.83, "high": 0.99}


def a_bank(each: int = 150, **changes: Any) -> list[Record]:
    """Records of every cell of the grid, their letters even."""
    cells = [(a, b, c) for a in TOPICS for b in DIFFICULTIES for c in TYPES for _ in range(each)]
    return [
        a_record(
            id=f"{number:016x}", topic=topic, difficulty=difficulty, type=type_, answer=LETTERS[number % 4], **changes
        )
        for number, (topic, difficulty, type_) in enumerate(cells)
    ]


def on_sides(records: list[Record]) -> dict[str, list[Record]]:
    """Half of the records on the train side, the others on three more; none is the author's."""
    half, part = len(records) // 2, len(records) // 16
    train, rest = records[:half], records[half:]
    return {
        "train": train,
        "rollout": rest[:part],
        "validation": rest[part : 2 * part],
        "test": rest[2 * part :],
        "author": [],
    }


def right(n: int = 100, accuracy: float = 0.9, low: float = 0.83, high: float = 0.95) -> measured.Right:
    return measured.Right(n=n, accuracy=accuracy, wilson95=(low, high))


def a_variant(**changes: Any) -> measured.Variant:
    fields: dict[str, Any] = {
        **msgspec.structs.asdict(right(700, 0.9, 0.87, 0.92)),
        "answers": dict.fromkeys(LETTERS, 175),
        "by_topic": dict.fromkeys(TOPICS, right()),
        "by_difficulty": dict.fromkeys(DIFFICULTIES, right()),
        "by_type": dict.fromkeys(TYPES, right()),
    }
    return measured.Variant(**(fields | changes))


def a_review(**changes: Any) -> measured.Review:
    fields: dict[str, Any] = {
        **RATES,
        "rejected": 1,
        "edited": 1,
        "stale": 0,
        "not_there": 0,
        "overruled": 0,
        "topics": {topic: Rate(**RATES) for topic in TOPICS},
        "kappa": {"lin and wu": measured.Agreement(20, 19, 0.9)},
    }
    return measured.Review(**(fields | changes))


def a_quality(records: list[Record] | None = None, **changes: Any) -> Quality:
    """A version of 1,200 records, all of its replies kept, of which nothing stands out."""
    records = a_bank() if records is None else records
    sides, n = on_sides(records), len(records)
    bank = tallies.Tally()
    for side in SIDES:
        bank.add(tallies.tally(side, sides[side]))
    topics = Counter(record.topic for record in records)
    wording = Wording(name="名", means="意")
    even = dict.fromkeys(LETTERS, n // 4)
    fields: dict[str, Any] = {
        "grid": Grid(
            {topic: Topic(name=f"主题{topic}", samples=150, round=0) for topic in TOPICS},
            dict.fromkeys(DIFFICULTIES, wording),
            dict.fromkeys(TYPES, wording),
            0.8,
        ),
        "asked": {topic: measured.Asked(topics[topic], topics[topic], 0, 1000, 500) for topic in TOPICS},
        "validate": measured.Validate(n, n, {}, {}, 0.25, 1.0, 0, dict(topics)),
        "dedup": measured.Dedup(n, n, {}, 0),
        "decontaminate": measured.Kept(n, n, {}),
        "gate": measured.Gate(n, n, {}, a_review()),
        "balance": measured.Balance(n, n, {}, even, even),
        "split": measured.Split(
            n, *(len(sides[side]) for side in SIDES), 0, n, 1, 0.7, measured.Nearest(0.3, 0.5, 0.6, 0.65)
        ),
        "pairs": measured.Pairs(900, {"wrong_answer": measured.PairsOf(900, 100.0, 101.0, {})}),
        "score": measured.Score(
            len(sides["test"]),
            dict(Counter(record.answer for record in sides["test"])),
            {"plain": a_variant()},
            [measured.Compared("plain", "plain", 0.0, (-0.1, 0.1), 1.0)],
        ),
        "bank": bank,
        "rejects": tallies.Rejects(),
        "opinions": tallies.Opinions(
            records=topics,
            answers=Counter(dict.fromkeys(TOPICS, 100)),
            agreed=Counter(dict.fromkeys(TOPICS, 100)),
            judged=Counter(dict.fromkeys(TOPICS, 10)),
            marks=Counter({(topic, name): 45 for topic in TOPICS for name in tallies.MARKS}),
        ),
        "reviewers": Reviewers(Counter({("lin", "accept"): 38, ("lin", "reject"): 2}), Counter(unclear=2)),
        "missing": (),
    }
    return Quality(**(fields | changes))


def a_reject(**changes: Any) -> Reject:
    fields: dict[str, Any] = {
        "id": "00000000000000ff",
        "topic": TOPICS[0],
        "stage": "dedup",
        "reason": "duplicate",
        "detail": "question and options are the same",
        "kept": "0000000000000001",
        "raw": msgspec.json.encode(a_record()).decode(),
    }
    return Reject(**(fields | changes))


def a_verification(record: Record) -> Verification:
    return Verification(
        id=record.id, answer=record.answer, answers=(record.answer,), agreed=1, asked=1, teacher="t", fault=None
    )


def a_judged(record: Record, mark: int = 4) -> Judged:
    marks = dict.fromkeys(tallies.MARKS, mark)
    return Judged(id=record.id, judgement=Judgement(**marks, feedback="可以。"), teacher="t", fault=None)


def put(folder: Path, quality: Quality, records: list[Record], rejects: list[Reject]) -> None:
    """Write into a folder the files that `report` reads, and none else."""
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load(Path("params.yaml").read_text("utf-8"))
    params |= {name: msgspec.to_builtins(getattr(quality.grid, name)) for name in ("topics", "difficulties", "types")}
    with open(folder / "params.yaml", "w", encoding="utf-8") as file:
        yaml.dump(params, file)
    for side, rows in on_sides(records).items():
        write(folder / f"data/{side}.jsonl", rows)
    write(folder / "data/decontaminated.jsonl", records)
    for stage in (*DROP, "pairs"):
        write(folder / f"data/rejects/{stage}.jsonl", (row for row in rejects if row.stage == stage))
    asked = records[:: len(records) // 40]
    write(folder / "data/asked/verify.jsonl", map(a_verification, asked))
    write(folder / "data/asked/judge.jsonl", map(a_judged, asked))
    for name in ("validate", "dedup", "decontaminate", "gate", "balance", "split", "pairs", "score"):
        write_json(folder / f"metrics/{name}.json", getattr(quality, name))
    for topic, asking in quality.asked.items():
        write_json(folder / f"metrics/generate/{topic}.json", asking)
    (folder / "curate").mkdir()
    (folder / "curate/decisions.jsonl").write_bytes(b"")
