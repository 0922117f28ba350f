"""Score the answers of every trained variant against the key, side by side and pair by pair.

key (CSV: id, answer, topic, difficulty, type), a submission folder per variant → metrics/score.json.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb, sqrt
from pathlib import Path
from typing import Any

import click
import msgspec

from schemas import rows
from schemas.faults import Fault
from schemas.neutrality import neutrality_of
from schemas.params import Params, Share, load
from schemas.record import LETTERS, Letter
from train import submission
from train.answers import accuracy
from train.compare import table

BY = ("topic", "difficulty", "type")


class ScoreParams(Params, frozen=True):
    """How the test set is divided."""

    public: Share
    """Part of the questions that a leaderboard shows while a competition runs."""
    seed: int


class Key(msgspec.Struct, frozen=True):
    """The right answer to one question, and where the question belongs."""

    id: str
    answer: Letter
    topic: str
    difficulty: str
    type: str


class Variant(msgspec.Struct, frozen=True):
    """What one trained variant handed in; responses where its detailed results are at hand."""

    name: str
    answers: Mapping[str, Letter]
    responses: Sequence[str]


def is_public(id: str, params: ScoreParams) -> bool:
    """Whether a question belongs to the public part: its id and the seed decide, never its place in the file."""
    drawn = int.from_bytes(hashlib.sha256(f"{params.seed}:{id}".encode()).digest()[:8])
    return drawn < params.public * 2**64


def score(keys: Sequence[Key], variants: Sequence[Variant], params: ScoreParams) -> dict[str, Any]:
    """Return the figures of every variant and of every two of them compared."""
    return {
        "n": len(keys),
        "key_answers": {letter: sum(key.answer == letter for key in keys) for letter in LETTERS},
        "variants": {variant.name: _one(keys, variant, params) for variant in variants},
        "pairs": [paired(keys, a, b) for a, b in combinations(variants, 2)],
    }


def _one(keys: Sequence[Key], variant: Variant, params: ScoreParams) -> dict[str, Any]:
    groups: dict[str, dict[str, list[bool]]] = {by: defaultdict(list) for by in (*BY, "part")}
    for key in keys:
        right = variant.answers[key.id] == key.answer
        groups["part"]["public" if is_public(key.id, params) else "private"].append(right)
        for by in BY:
            groups[by][getattr(key, by)].append(right)
    counted = {by: {name: accuracy(found) for name, found in sorted(group.items())} for by, group in groups.items()}
    neutral = [neutrality_of(text) for text in variant.responses]
    return {
        **accuracy(variant.answers[key.id] == key.answer for key in keys),
        "answers": {letter: sum(given == letter for given in variant.answers.values()) for letter in LETTERS},
        "neutrality": round(sum(neutral) / len(neutral), 4) if neutral else None,
        **{f"by_{by}": counted[by] for by in ("part", *BY)},
    }


def paired(keys: Sequence[Key], a: Variant, b: Variant) -> dict[str, Any]:
    """Return how `b` differs from `a` on the same questions: 95 % interval of the difference, exact McNemar p.

    The interval is Wald's for paired shares; p is two-sided, from the binomial of the questions that only one got right
    (McNemar 1947, exact form).
    """
    only_a = sum(a.answers[key.id] == key.answer != b.answers[key.id] for key in keys)
    only_b = sum(b.answers[key.id] == key.answer != a.answers[key.id] for key in keys)
    n = max(1, len(keys))
    difference = (only_b - only_a) / n
    half = 1.959964 * sqrt(max(0.0, only_a + only_b - (only_b - only_a) ** 2 / n)) / n
    apart = only_a + only_b
    tail = sum(comb(apart, k) for k in range(min(only_a, only_b) + 1))
    p = min(1.0, 2 * tail / 2**apart)
    return {
        "from": a.name,
        "to": b.name,
        "difference": round(difference, 4),
        "interval95": [round(difference - half, 4), round(difference + half, 4)],
        f"only_{a.name}": only_a,
        f"only_{b.name}": only_b,
        "mcnemar_p": float(f"{p:.3g}"),
    }


def read_key(path: Path) -> list[Key]:
    """Return the key; Fault for a letter out of A to D."""
    read = submission.table(path, ["id", "answer", *BY])
    try:
        return [msgspec.convert({name: row[name] for name in ("id", "answer", *BY)}, Key) for row in read]
    except msgspec.ValidationError as error:
        raise Fault(f"{path}: {error}") from None


def read_variant(given: str, wanted: Sequence[str]) -> Variant:
    """Return the answers behind NAME=PATH, PATH a submission file or the folder that holds it with its details."""
    name, _, where = given.partition("=")
    if not name or not where:
        raise Fault(f"{given}: write NAME=PATH, PATH a submission.csv or its folder")
    path = Path(where) / "submission.csv" if Path(where).is_dir() else Path(where)
    details = path.with_name("detailed_results.csv")
    responses = [row["response"] for row in submission.table(details, ["id", "response"])] if details.exists() else []
    return Variant(name=name, answers=submission.answers(path, wanted), responses=responses)


@click.command(help=__doc__.partition("\n")[0])
@click.argument("key", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("variants", nargs=-1, required=True, metavar="NAME=SUBMISSION...")
def main(key: Path, out: Path, variants: tuple[str, ...]) -> None:
    """Score each NAME=SUBMISSION against KEY."""
    params = load("score", ScoreParams)
    keys = read_key(key)
    wanted = [k.id for k in keys]
    figures = score(keys, [read_variant(given, wanted) for given in variants], params)
    rows.write_json(out, figures)
    click.echo(table(figures))
    best = max(figures["variants"].items(), key=lambda item: item[1]["accuracy"])
    click.echo(f"score: {len(keys)} questions, {len(variants)} variants, best {best[0]} {best[1]['accuracy']:.3f}")


if __name__ == "__main__":
    main()
