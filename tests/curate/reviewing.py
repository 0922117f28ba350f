"""A small bank to review, and the command that serves it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml import YAML

from schemas.record import Decision, Judged, Judgement, Record, Verification
from schemas.rows import write
from tests.curate.builders import a_record, many_records

ROOT = Path(__file__).parents[2]


class Project:
    """A folder with what `curate review` reads."""

    def __init__(self, folder: Path, records: list[Record] | None = None, rows: int = 40) -> None:
        self.folder = folder
        self.decisions = folder / "curate" / "decisions.jsonl"
        self.decisions.parent.mkdir(parents=True)
        self.decisions.touch()
        yaml = YAML(typ="safe", pure=True)
        params = yaml.load((ROOT / "params.yaml").read_text("utf-8"))
        params["review"]["rows"] = rows
        params["workers"]["processes"] = 1
        with open(folder / "params.yaml", "w", encoding="utf-8") as file:
            yaml.dump(params, file)
        self.hold(records or some_records())
        self.ask([], [])

    def hold(self, records: list[Record]) -> None:
        """Make these the bank, in one move, as a stage does."""
        self.records = records
        write(self.folder / "data" / "decontaminated.jsonl", records)

    def ask(self, verified: list[Verification], judged: list[Judged]) -> None:
        """Make these what was said of the bank."""
        write(self.folder / "data" / "asked" / "verify.jsonl", verified)
        write(self.folder / "data" / "asked" / "judge.jsonl", judged)

    def decided(self) -> list[Decision]:
        """Return what the file of decisions holds."""
        return [msgspec.json.decode(line, type=Decision) for line in self.decisions.read_bytes().splitlines()]

    def start(self, *args: str) -> "subprocess.Popen[str]":
        """Start the command as a process of its own."""
        env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "curate", "review", "--no-open", *args]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=env, stdout=pipe, stderr=pipe, text=True)

    @contextmanager
    def served(self, reviewer: str = "ann", port: int = 0) -> Iterator[str]:
        """Serve it and yield the address that is printed; ended by Ctrl-C."""
        process = self.start("--reviewer", reviewer, "--port", str(port))
        try:
            assert process.stdout is not None, "it is a pipe"
            line = process.stdout.readline()
            assert line.startswith("review: http://127.0.0.1:"), line or process.communicate()[1]
            yield line.split()[1]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)


def some_records(count: int = 12) -> list[Record]:
    """Records that pass the checks."""
    return many_records(count)


def a_verification(**changes: Any) -> Verification:
    fields: dict[str, Any] = {"id": a_record().id, "answer": "B", "answers": ("B", "C"), "agreed": 1, "asked": 2}
    return Verification(**(fields | {"teacher": "other @ somewhere", "fault": None} | changes))


def judged(*marks: int, **changes: Any) -> Judged:
    judgement = Judgement(**dict(zip(Judgement.__struct_fields__, (*marks, "太直白。"), strict=True)))
    return Judged(**({"id": a_record().id, "judgement": judgement, "teacher": "judge @ x", "fault": None} | changes))


def a_draft(record: Record, **changes: Any) -> dict[str, Any]:
    """The item of a record as the page sends it."""
    names = ("question", "options", "think", "steps", "reflection", "adjustment", "answer")
    return json.loads(msgspec.json.encode({name: getattr(record, name) for name in names})) | changes


def a_wish(record: Record, content: str, verdict: str = "accept", **changes: Any) -> dict[str, Any]:
    """A decision as the page sends it."""
    fields = {"id": record.id, "content": content, "verdict": verdict, "reason": None, "note": "", "item": None}
    return fields | changes
