"""Time the main job from nothing, a repro with nothing to do, the three commands' help and the test command.

python benchmarks/pipeline.py [--no-tests] [--keep FOLDER]

Works on a clone, in a temporary folder unless FOLDER is given, so that neither a cache nor an earlier answer helps, and
prints Markdown tables. Seconds are of one run; memory is that of the largest single process.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cost:
    """What a command took: wall and CPU seconds of it and its children, and the children's peak so far in MiB."""

    wall: float
    cpu: float
    peak: float


def run(command: Sequence[str], folder: Path, stages: dict[str, float] | None = None) -> Cost:
    """Run a command to its end, adding the wall seconds of each DVC stage it names to `stages`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = last = time.monotonic()
    stage = None
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        tail: list[str] = []
        for line in process.stdout:
            tail = [*tail[-20:], line]
            if line.startswith("Running stage '") and stages is not None:
                now = time.monotonic()
                if stage:
                    stages[stage] = stages.get(stage, 0.0) + now - last
                stage, last = line.split("'")[1].partition("@")[0], now
    end = time.monotonic()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{''.join(tail)}")
    if stage and stages is not None:
        stages[stage] = stages.get(stage, 0.0) + end - last
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(end - start, cpu, after.ru_maxrss / 1024)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--no-tests", action="store_true", help="leave the test command out")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the clone and what it made in FOLDER")
    args = parser.parse_args()
    python = sys.executable
    rows: list[tuple[str, Cost]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        for name in ("datagen", "curate", "train"):
            rows.append((f"`{name} --help`", run([python, "-m", name, "--help"], folder)))
        stages: dict[str, float] = {}
        rows.append(("`dvc repro` from nothing", run([python, "-m", "dvc", "repro"], folder, stages)))
        rows.append(("`dvc repro`, nothing to do", run([python, "-m", "dvc", "repro"], folder)))
        if not args.no_tests:
            rows.append(
                (
                    "the test command, set-up apart",
                    run([python, "-m", "pytest", "--numprocesses", "2", "--dist", "loadfile"], folder),
                )
            )
    print("| command | wall s | CPU s | largest process so far, MiB |\n|---|---|---|---|")
    for name, cost in rows:
        print(f"| {name} | {cost.wall:.1f} | {cost.cpu:.2f} | {cost.peak:.0f} |")
    print("\n| stage | wall s |\n|---|---|")
    for stage, seconds in stages.items():
        print(f"| {stage} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
