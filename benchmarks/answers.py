"""Measure how replies are read: precision and recall of the letter, by part of the table, language and strategy.

python benchmarks/answers.py [--errors] [FILE]

FILE holds replies with the letter that a person reads in them (tests/train/replies.jsonl). Precision is of the letters
extracted, recall of the replies that have one; the interval is Wilson's, 95 %. `first` is what the ladder was written
on. The others were written after it, each put to the ladder once before anything was changed by them: BLIND has the
figures of that one time, which say more than those printed. Microseconds are of the best of five passes.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # this checkout's packages, whichever are installed

from schemas.interval import wilson  # noqa: E402
from train.answers import extract  # noqa: E402

Row = dict[str, Any]
# Part: replies, have a letter, given one, right; faults found in `second` and `third` were mended, none in `fourth`.
BLIND = {"second": (136, 96, 80, 73), "third": (73, 55, 43, 39), "fourth": (44, 35, 32, 32)}
BY: dict[str, Callable[[Row], str]] = {
    "part": lambda row: row["id"].partition("-")[0],
    "language": lambda row: row["language"],
    "strategy": lambda row: row["found"] or "none",
}


def figures(rows: Iterable[Row]) -> tuple[int, int, int, int]:
    """Return how many replies there are, how many have a letter, were given one, were given the right one."""
    some = list(rows)
    given = [row for row in some if row["given"]]
    right = sum(row["given"] == row["letter"] for row in given)
    return len(some), sum(row["letter"] is not None for row in some), len(given), right


def share(right: int, n: int) -> str:
    """Return a share with its interval."""
    low, high = wilson(right, n)
    return f"{right / n:.3f} [{low:.3f}, {high:.3f}]" if n else "-"


def seconds(rows: Iterable[Row]) -> float:
    """Return how long all replies take."""
    start = time.perf_counter()
    for row in rows:
        extract(row["reply"])
    return time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, default=ROOT / "tests/train/replies.jsonl")
    parser.add_argument("--errors", action="store_true", help="print the replies read wrongly or not at all")
    args = parser.parse_args()
    table: list[Row] = [json.loads(line) for line in args.file.read_text(encoding="utf-8").splitlines()]
    for row in table:
        row["given"], row["found"] = extract(row["reply"]) or (None, None)
    print("| | | replies | have a letter | given one | right | precision | recall |")
    print("|---|---|---|---|---|---|---|---|")
    for by, name_of in {"": lambda row: "all", **BY}.items():
        for name in dict.fromkeys(map(name_of, table)):
            n, have, given, right = figures(row for row in table if name_of(row) == name)
            # By strategy what was not found is in no row, so there is no recall.
            recall = share(right, have) if by != "strategy" else ""
            print(f"| {by} | {name} | {n} | {have} | {given} | {right} | {share(right, given)} | {recall} |")
    for part, (n, have, given, right) in BLIND.items():
        print(f"| blind | {part} | {n} | {have} | {given} | {right} | {share(right, given)} | {share(right, have)} |")
    best = min(seconds(table) for _ in range(5))
    characters = sum(len(row["reply"]) for row in table) / len(table)
    print(f"\n{1e6 * best / len(table):.0f} µs a reply of {characters:.0f} characters")
    if args.errors:
        for row in table:
            if row["given"] != row["letter"]:
                print(f"{row['id']}: {row['given']} for {row['letter']}: {row['reply']!r}")
