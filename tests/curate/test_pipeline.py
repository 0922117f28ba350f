"""All stages, as DVC runs them: one process each, on one folder."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from schemas.chain import write as written
from schemas.record import Item
from schemas.rows import write
from tests.curate.builders import a_response, many_records

STAGES = (
    "validate data/responses data/validated.jsonl data/rejects/validate.jsonl metrics/validate.json",
    "dedup data/validated.jsonl data/dedup.jsonl data/rejects/dedup.jsonl metrics/dedup.json",
    "decontaminate data/dedup.jsonl held data/decontaminated.jsonl data/rejects/decontaminate.jsonl"
    " metrics/decontaminate.json",
    "gate data/decontaminated.jsonl data/asked/verify.jsonl data/asked/judge.jsonl decisions.jsonl"
    " data/gated.jsonl data/rejects/gate.jsonl metrics/gate.json",
    "balance data/gated.jsonl data/balanced.jsonl data/rejects/balance.jsonl metrics/balance.json",
    "split data/balanced.jsonl data/train.jsonl data/rollout.jsonl data/validation.jsonl data/test.jsonl"
    " data/author.jsonl data/sides.jsonl data/rejects/split.jsonl metrics/split.json",
    "convert data/train.jsonl data/rollout.jsonl data/validation.jsonl data/test.jsonl data/author.jsonl"
    " data/sets metrics/convert.json",
    "pairs data/train.jsonl data/rollout.jsonl data/asked/contrast.jsonl data/asked/improve.jsonl"
    " data/asked/judge.jsonl data/attempts.jsonl data/pairs data/rejects/pairs.jsonl metrics/pairs.json",
)
ASKED = ("asked/verify", "asked/judge", "asked/contrast", "asked/improve", "attempts")
ROOT = Path.cwd()


def run(folder: Path, command: str, seed: str = "0") -> str:
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_same_input_gives_the_same_bytes(a_project):
    def all_stages(seed: str) -> dict[str, bytes]:
        for stage in STAGES:
            assert run(a_project, f"curate.{stage}", seed).startswith(stage.split()[0] + ": ")
        files = [*a_project.glob("data/**/*.*"), *a_project.glob("metrics/*")]
        return {str(path.relative_to(a_project)): path.read_bytes() for path in files}

    items = [
        Item(**{name: getattr(record, name) for name in Item.__struct_fields__})
        for record in (*many_records(400), *many_records(5))
    ]
    broken = [a_response(id="broken", content="<item>")]
    (a_project / "held").mkdir()
    (a_project / "decisions.jsonl").touch()
    for name in ASKED:
        write(a_project / f"data/{name}.jsonl", [])
    write(
        a_project / "data/responses/environment.jsonl",
        [a_response(id=f"{n:04}", content=written(item)) for n, item in enumerate(items)] + broken,
    )

    first, second = all_stages("1"), all_stages("2")

    assert {name for name in first if first[name] != second.get(name)} == set()
    stages = {name.removeprefix("metrics/") for name in first if name.startswith("metrics/")}
    assert stages == {f"{stage.split()[0]}.json" for stage in STAGES}
    empty = {name.removeprefix("data/") for name in first if not first[name]}
    nothing = {f"{name}.jsonl" for name in (*ASKED, "author")}
    assert {name for name in empty if not name.startswith("rejects/")} == nothing


def test_help_answers_at_once(a_project):
    before = os.times()
    text = run(a_project, "curate --help")
    after = os.times()

    assert all(stage.split()[0] in text for stage in STAGES)
    assert (after.children_user + after.children_system) - (before.children_user + before.children_system) < 0.5


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_without_its_input_says_so_in_one_line(a_project, stage):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    started = time.monotonic()

    done = subprocess.run(
        [sys.executable, "-m", *f"curate.{stage}".split()],
        cwd=a_project,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "no such file" in done.stderr.lower()
    assert done.stderr.count("\n") == 1
    assert not (a_project / "metrics").exists()
    assert time.monotonic() - started < 30
