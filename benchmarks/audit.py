"""Measure `curate audit` on two versions of a bank: wall and CPU seconds, memory.

python benchmarks/audit.py [--rows N]

    usual   10 % of the records changed, 5 % added, 5 % removed, half of those dropped and half not asked for any more
    anew    the same, and every record has a new id, as after a change of a prompt: all are matched by what they ask

Each is a git repository of its own with two commits, each with a dvc.lock; the bank, rejects and replies are in a DVC
cache, as `dvc repro` would have left them. Records have chains of 1.3 KB. `peak` is what the process held at most, a MB
being 10^6 bytes. Bounds hold at 100,000 rows; the exit status is 1 if one was missed.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random

import click

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # this checkout's packages, whichever are installed

import corpus as bank  # noqa: E402
import msgspec  # noqa: E402
from curation import Row, checked, machine, run, table  # noqa: E402
from msgspec.structs import asdict, replace  # noqa: E402

from schemas.record import LETTERS, Record, Reject, Response  # noqa: E402

ROWS = 100_000
BLOCK = 2000
TOPICS = 15
CHANGED, REMOVED = 0.1, 0.05
SIDES = (("train", 0.84), ("rollout", 0.06), ("validation", 0.02), ("test", 0.08))
BOUNDS = {"wall": ("<=", 8.0), "peak": ("<=", 300.0)}
FORMS = {"text": [], "json": ["--json"], "html": ["--html", "audit.html"]}


def records(start: int) -> list[Record]:
    """Return a block of records."""
    made = []
    for number in range(start, start + BLOCK):
        random = Random(number)
        asked = bank.question(number)
        item = bank.put(asked, bank.chain(number, asked), tuple(random.sample(range(4), 4)))
        cell = {
            "topic": f"topic_{random.randrange(TOPICS)}",
            "difficulty": random.choice(("basic", "intermediate", "advanced")),
            "type": random.choice(("factual", "conceptual", "analytical", "comparative", "evaluative")),
        }
        made.append(Record(**asdict(item), **cell, id=bank.identity(number), teacher="a teacher", repairs=()))
    return made


def changed(record: Record, random: Random) -> Record:
    """Return a record with another chain, other distractors, or its options in another order."""
    what = random.randrange(3)
    if what == 0:
        return replace(record, steps=(*record.steps[:-1], f"{record.steps[-1]}可能还有其他看法。"))
    if what == 1:
        wrong = next(n for n, letter in enumerate(LETTERS) if letter != record.answer)
        options = tuple(f"{text}等" if n == wrong else text for n, text in enumerate(record.options))
        return replace(record, options=options)
    return replace(record, options=record.options[::-1], answer=LETTERS[3 - LETTERS.index(record.answer)])


class Version:
    """The files of one commit, written into the cache as they grow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, list[bytes]] = defaultdict(list)

    def add(self, path: str, row: msgspec.Struct) -> None:
        """Add a row to a file."""
        self.files[path].append(msgspec.json.encode(row) + b"\n")

    def kept(self, record: Record, number: int) -> None:
        """Put a record on its side, and its reply where replies are."""
        drawn = Random(f"side {number}").random()
        for side, share in SIDES:
            drawn -= share
            if drawn < 0 or side == SIDES[-1][0]:
                self.add(f"data/{side}.jsonl", record)
                break
        self.replied(record)

    def replied(self, record: Record) -> None:
        """Put the reply that a record came from where replies are."""
        line = msgspec.json.encode(record).decode()
        cell = {name: getattr(record, name) for name in ("id", "topic", "difficulty", "type", "teacher")}
        self.add(f"data/responses/{record.topic}.jsonl", Response(**cell, sample=0, round=0, content=line, fault=None))

    def commit(self, name: str) -> None:
        """Write the files into the cache, and a commit with a dvc.lock that names them."""
        outs = []
        for path, lines in sorted(self.files.items()):
            data = b"".join(lines)
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
            entry = self.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
            entry.parent.mkdir(parents=True, exist_ok=True)
            entry.write_bytes(data)
            outs.append({"path": path, "hash": "md5", "md5": md5, "size": len(data)})
        lock = {"schema": "2.0", "stages": {"split": {"cmd": "split", "outs": outs}}}
        (self.folder / "dvc.lock").write_text(json.dumps(lock), encoding="utf-8")
        for words in (["add", "--all"], ["commit", "--quiet", "--message", name], ["tag", name]):
            git(self.folder, *words)
        self.files.clear()


def git(folder: Path, *words: str) -> None:
    """Run git as nobody in particular."""
    who = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def project(folder: Path, made: Iterable[Record], rows: int, anew: bool) -> None:
    """Write a project of two commits: `before` and `after`."""
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".gitignore").write_text(".dvc/cache\nsaid\n")
    git(folder, "init", "--quiet")
    before, after = Version(folder), Version(folder)
    for number, record in enumerate(made):
        random = Random(f"fate {number}")
        drawn = random.random()
        new = replace(record, id=bank.identity(number + bank.WORLD)) if anew else record
        if number >= rows:  # those that are added
            after.kept(new, number)
            continue
        before.kept(record, number)
        if drawn < REMOVED / 2:
            row = {"stage": "dedup", "reason": "duplicate", "detail": "the same", "kept": None}
            raw = msgspec.json.encode(new).decode()
            after.add("data/rejects/dedup.jsonl", Reject(id=new.id, topic=new.topic, raw=raw, **row))
            after.replied(new)
        elif drawn >= REMOVED:
            after.kept(changed(new, random) if drawn < REMOVED + CHANGED else new, number)
    before.commit("before")
    after.commit("after")


def measured(rows: int) -> Iterator[Row]:
    """Yield a line for each project and form of the audit."""
    starts = range(0, int(rows * (1 + REMOVED)), BLOCK)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool, tempfile.TemporaryDirectory() as scratch:
        for name, anew in (("usual", False), ("anew", True)):
            folder = Path(scratch) / name
            project(folder, (record for block in pool.map(records, starts) for record in block), rows, anew)
            for form, options in FORMS.items():
                ran = run([sys.executable, "-m", "curate", "audit", "before", "after", *options], folder)
                if ran.code:
                    raise SystemExit(f"{name}: {ran.said[-2000:]}")
                figures = {"wall": ran.wall, "cpu": ran.cpu, "peak": ran.peak}
                said = next((line for line in ran.said.splitlines() if " records: " in line), "")
                yield Row(f"{name}, {form}", figures, checked(figures, BOUNDS) if rows >= ROWS else {}, said)


@click.command()
@click.option("--rows", default=ROWS, show_default=True, help="Records of each version.")
def main(rows: int) -> None:
    """Measure an audit of two versions of a bank."""
    os.environ["GIT_CONFIG_GLOBAL"] = os.devnull
    click.echo(f"# Audit\n\n{machine()}")
    shown = table(f"{rows:,} records against as many", measured(rows))
    sys.exit(any(not held for row in shown for held in row.checks.values()))


if __name__ == "__main__":
    main()
