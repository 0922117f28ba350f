"""Score the answers of every trained variant against the key, side by side and pair by pair.

key (CSV: id, answer; topic, difficulty, type where known), a submission folder per variant → metrics/score.json.

A key may hold fewer questions than were asked. Without one, or with one that has no answers, nothing is scored: the
metrics say so, and tell what was handed in.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from math import comb, sqrt
from pathlib import Path
from typing import Any

import click
import msgspec

from schemas import rows
from schemas.faults import Fault
from schemas.interval import Z
from schemas.neutrality import neutrality_of
from schemas.params import Params, Share, load
from schemas.record import LETTERS, Letter
from train import submission
from train.answers import accuracy

BY = ("topic", "difficulty", "type")


class ScoreParams(Params, frozen=True):
    """How the test set is divided."""

    public: Share
    """Part of the questions that a leaderboard shows while a competition runs."""
    seed: int


class Key(msgspec.Struct, frozen=True):
    """The right answer to one question, and where the question belongs; empty where the key does not say."""

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


class Pair(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """What is told of two variants compared, as the metrics hold it."""

    from_: str
    to: str
    difference: float
    interval95: tuple[float, float]
    mcnemar_p: float
    holm_p: float


def is_public(id: str, params: ScoreParams) -> bool:
    """Whether a question belongs to the public part: its id and the seed decide, never its place in the file."""
    drawn = int.from_bytes(hashlib.sha256(f"{params.seed}:{id}".encode()).digest()[:8])
    return drawn < params.public * 2**64


def score(keys: Sequence[Key], variants: Sequence[Variant], params: ScoreParams) -> dict[str, Any]:
    """Return the figures of every variant and of every two of them compared."""
    return {
        "n": len(keys),
        "key_answers": submission.distribution(key.answer for key in keys),
        "variants": {variant.name: _one(keys, variant, params) for variant in variants},
        "pairs": compared(keys, variants),
    }


def unscored(variants: Sequence[Variant], why: str) -> dict[str, Any]:
    """Return the same without a key: no scores, why there are none, and what every variant handed in."""
    return {
        "n": 0,
        "key_answers": {},
        "variants": {},
        "pairs": [],
        "no_key": why,
        "handed_in": {variant.name: {"n": len(variant.answers), **_given(variant)} for variant in variants},
    }


def _one(keys: Sequence[Key], variant: Variant, params: ScoreParams) -> dict[str, Any]:
    groups: dict[str, dict[str, list[bool]]] = {by: defaultdict(list) for by in (*BY, "part")}
    for key in keys:
        right = variant.answers[key.id] == key.answer
        groups["part"]["public" if is_public(key.id, params) else "private"].append(right)
        for by in BY:
            if group := getattr(key, by):
                groups[by][group].append(right)
    counted = {by: {name: accuracy(found) for name, found in sorted(group.items())} for by, group in groups.items()}
    return {
        **accuracy(variant.answers[key.id] == key.answer for key in keys),
        **_given(variant),
        **{f"by_{by}": counted[by] for by in ("part", *BY)},
    }


def _given(variant: Variant) -> dict[str, Any]:
    neutral = [neutrality_of(text) for text in variant.responses]
    return {
        "answers": submission.distribution(variant.answers.values()),
        "neutrality": round(sum(neutral) / len(neutral), 4) if neutral else None,
    }


def compared(keys: Sequence[Key], variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """Return every two variants compared, p as it is and adjusted for how many are compared (Holm 1979)."""
    pairs = [paired(keys, a, b) for a, b in combinations(variants, 2)]
    adjusted = holm([pair["mcnemar_p"] for pair in pairs])
    return [{**pair, "holm_p": _digits(p)} for pair, p in zip(pairs, adjusted, strict=True)]


def paired(keys: Sequence[Key], a: Variant, b: Variant) -> dict[str, Any]:
    """Return how `b` differs from `a` on the same questions: 95 % interval of the difference, exact McNemar p.

    p is two-sided, from the binomial of the questions that only one got right (McNemar 1947, exact form). The interval
    is Wald's for paired shares with half an observation added to each of the four cells (Agresti and Min 2005), so that
    it has a width where the two never differ. A bootstrap over the questions would draw from the same four cells, and
    have none there.
    """
    only_a = sum(a.answers[key.id] == key.answer != b.answers[key.id] for key in keys)
    only_b = sum(b.answers[key.id] == key.answer != a.answers[key.id] for key in keys)
    n, apart = len(keys), only_a + only_b
    middle = (only_b - only_a) / (n + 2)
    half = Z * sqrt(apart + 1 - (only_b - only_a) ** 2 / (n + 2)) / (n + 2)
    tail = sum(comb(apart, k) for k in range(min(only_a, only_b) + 1))
    return {
        "from": a.name,
        "to": b.name,
        "difference": round((only_b - only_a) / n, 4),
        "interval95": [round(max(-1.0, middle - half), 4), round(min(1.0, middle + half), 4)],
        f"only_{a.name}": only_a,
        f"only_{b.name}": only_b,
        "mcnemar_p": _digits(min(1.0, 2 * tail / 2**apart)),
    }


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values of tests made together, adjusted so that the chance of any false alarm stays below p."""
    order = sorted(range(len(values)), key=values.__getitem__)
    adjusted = [0.0] * len(values)
    least = 0.0
    for rank, n in enumerate(order):
        least = adjusted[n] = max(least, min(1.0, values[n] * (len(values) - rank)))
    return adjusted


def _digits(p: float) -> float:
    return float(f"{p:.3g}")


def said(pairs: Iterable[Pair]) -> Iterator[str]:
    """Yield a line for every two variants compared."""
    for pair in pairs:
        low, high = pair.interval95
        yield (
            f"{pair.to} against {pair.from_}: {pair.difference:+.3f} [{low:+.3f}, {high:+.3f}], "
            f"McNemar p = {pair.mcnemar_p:.3g}, Holm {pair.holm_p:.3g}"
        )


def read_key(path: Path) -> list[Key] | str:
    """Return the key, or why there is none; Fault for a letter out of A to D."""
    if not path.exists():
        return f"{path} is not there"
    header, body = submission.parsed(path)
    if "answer" not in header or not body:
        return f"{path} has no answers"
    read = submission.table(path, ["id", "answer"])
    submission.refuse(
        path,
        [
            (number, row["id"], f"answer {row['answer']!r} is not one of A, B, C, D")
            for number, row in read
            if row["answer"] not in LETTERS
        ],
    )
    return [
        Key(row["id"], LETTERS["ABCD".index(row["answer"])], *(row.get(by, "").strip() for by in BY)) for _, row in read
    ]


def read_variant(given: str, wanted: Sequence[str]) -> Variant:
    """Return the answers behind NAME=PATH, PATH a submission file or the folder that holds it with its details."""
    name, _, where = given.partition("=")
    if not name or not where:
        raise Fault(f"{given}: write NAME=PATH, PATH a submission.csv or its folder")
    path = Path(where) / "submission.csv" if Path(where).is_dir() else Path(where)
    details = path.with_name("detailed_results.csv")
    responses = (
        [row["response"] for _, row in submission.table(details, ["id", "response"])] if details.exists() else []
    )
    return Variant(name=name, answers=submission.answers(path, wanted, others=True), responses=responses)


@click.command(help=__doc__.partition("\n")[0])
@click.argument("key", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("variants", nargs=-1, required=True, metavar="NAME=SUBMISSION...")
def main(key: Path, out: Path, variants: tuple[str, ...]) -> None:
    """Score each NAME=SUBMISSION against KEY."""
    params = load("score", ScoreParams)
    keys = read_key(key)
    if isinstance(keys, str):
        figures = unscored([read_variant(given, ()) for given in variants], keys)
        rows.write_json(out, figures)
        click.echo(f"score: {keys}: nothing is scored; {len(variants)} variants have handed in")
        return
    wanted = [one.id for one in keys]
    figures = score(keys, [read_variant(given, wanted) for given in variants], params)
    rows.write_json(out, figures)
    for name, one in figures["variants"].items():
        low, high = one["wilson95"]
        click.echo(f"{name}: {one['accuracy']:.3f} [{low:.3f}, {high:.3f}]")
    for line in said(msgspec.convert(figures["pairs"], list[Pair])):
        click.echo(line)
    best = max(figures["variants"].items(), key=lambda item: item[1]["accuracy"])
    click.echo(f"score: {len(keys)} questions, {len(variants)} variants, best {best[0]} {best[1]['accuracy']:.3f}")


if __name__ == "__main__":
    main()
