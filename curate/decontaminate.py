"""Drop rows that ask what a known test asks.

dedup.jsonl (Record), a test file or a folder of them (curate/exams.py), the user's own test (curate/paper.py) →
decontaminated.jsonl (Record), rejects (Reject), metrics. No order of rows matters, so each chunk is compared by itself
with all questions of the tests.

A row is contaminated by a test question when

- stem and options are as similar as the threshold, by the Jaccard similarity of their n-grams: candidates come from
  MinHash bands, as in curate/similar.py, and the exact similarity decides; or
- its stem holds the whole stem of the test question, and that one is long enough to be telling (TELLING): the same
  question with other options, or in a longer sentence.

Both compare folded texts, without width, spaces and punctuation. A row that differs from a test question by a negation
or a number is dropped with it: here it is the test that must be protected.
"""

from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click
import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from curate import paper
from curate.exams import Question, exams
from curate.fold import folded, keys
from curate.rejects import reject
from curate.shards import Chunk, WorkersParams, chunks, spread
from curate.similar import (
    Bytes,
    Hashes,
    Near,
    Rows,
    band_hashes,
    estimate,
    gram_hashes,
    least_estimate,
    ranges,
    similarities,
    sketch,
)
from schemas.params import Count, Params, Positive, Share, load
from schemas.record import Record
from schemas.rows import whole, write_json

TELLING = 48  # bytes of a folded stem in UTF-8: 16 Chinese characters, or nine English words without their spaces
WINDOW = 16  # characters with which such a stem begins, by which it is looked up
CROWD = 64  # questions of one band that a row is compared with
SHOWN = 60  # characters of a question in a reason


class DecontaminateParams(Params, frozen=True):
    """What the bank must not hold, and when a row holds it."""

    held: str
    """A file or a folder of test files; a stage argument as well, since DVC watches it."""
    ngram: Positive
    """Characters."""
    permutations: Positive
    """Of the MinHash sketch; its bands follow from the threshold."""
    threshold: Share
    """Jaccard similarity of the n-grams of question and options."""
    seed: Count

    def near(self) -> Near:
        """When a row and a test question are near."""
        return Near(ngram=self.ngram, permutations=self.permutations, threshold=self.threshold, seed=self.seed)


class Held(Struct, frozen=True):
    """The questions of the tests, made ready to be looked up; it goes to a worker with every chunk."""

    names: list[str]
    """Of each question its file and line and how it begins."""
    keys: list[str]
    sketches: Bytes
    ranked: list[Hashes]
    """Of each band, its hash and that of the next, sorted."""
    orders: list[NDArray[np.int32]]
    """The questions in that order."""
    windows: Hashes
    """Of the telling stems the hashes of their first characters, sorted."""
    telling: list[tuple[str, int]]
    """Those stems, and their questions, in that order."""


class Match(Struct, frozen=True):
    """The test question that a row asks."""

    held: int
    similarity: float | None
    """None where it is the stem that is held."""


class Part(Struct, frozen=True):
    """What a chunk comes to."""

    kept: bytes
    """Lines."""
    rejects: bytes
    topics: Counter[str]
    """Of the rows kept."""
    asked: list[int]
    """The test question of each row dropped."""


def hold(questions: list[Question], near: Near) -> Held:
    """Return the questions of the tests, made ready to be looked up."""
    texts, stems = keys(questions), folded([question.question for question in questions])
    sketches = sketch(texts, near)
    bands = _bands(sketches, near)
    orders = [np.argsort(band, kind="stable").astype(np.int32) for band in bands]
    telling = [(stem, row) for row, stem in enumerate(stems) if len(stem) >= WINDOW and len(stem.encode()) >= TELLING]
    windows, _ = gram_hashes([stem[:WINDOW] for stem, _ in telling], WINDOW)
    by_window = np.argsort(windows, kind="stable")
    return Held(
        names=[_name(question) for question in questions],
        keys=texts,
        sketches=sketches,
        ranked=[band[order] for band, order in zip(bands, orders, strict=True)],
        orders=orders,
        windows=windows[by_window],
        telling=[telling[at] for at in by_window.tolist()],
    )


def matches(records: list[Record], held: Held, near: Near) -> dict[int, Match]:
    """Return the test question that each contaminated record asks: the most similar, else the longest stem it holds."""
    if not held.keys:
        return {}
    found = _stems(records, held) | _similar(records, held, near)
    return {row: found[row] for row in sorted(found)}


def _similar(records: list[Record], held: Held, near: Near) -> dict[int, Match]:
    texts = keys(records)
    sketches = sketch(texts, near)
    codes = np.unique(
        np.concatenate(
            [_candidates(*band) for band in zip(_bands(sketches, near), held.ranked, held.orders, strict=True)]
        )
    )
    rows, tests = np.divmod(codes, len(held.keys))
    passed = estimate(sketches[rows], held.sketches[tests]) >= least_estimate(near)
    rows, tests = rows[passed], tests[passed]
    mine, rows_at = np.unique(rows, return_inverse=True)
    theirs, tests_at = np.unique(tests, return_inverse=True)
    both = [texts[row] for row in mine.tolist()] + [held.keys[test] for test in theirs.tolist()]
    similarity = similarities(both, rows_at, tests_at + len(mine), near.ngram)
    # The most similar, of equals the first.
    order = np.lexsort((tests, -similarity, rows))
    best = order[np.unique(rows[order], return_index=True)[1]]
    best = best[similarity[best] >= near.threshold]
    columns = (rows[best].tolist(), tests[best].tolist(), similarity[best].tolist())
    return {row: Match(test, value) for row, test, value in zip(*columns, strict=True)}


def _candidates(bands: Hashes, ranked: Hashes, order: NDArray[np.int32]) -> Rows:
    """Return row × questions + question of the pairs that share a band, of a crowd those nearest in the next band."""
    low = np.searchsorted(ranked, bands >> np.uint64(32) << np.uint64(32), "left")
    high = np.searchsorted(ranked, bands | np.uint64(0xFFFFFFFF), "right")
    crowd = np.flatnonzero(high - low > CROWD)
    at = np.searchsorted(ranked, bands[crowd], "left")
    low[crowd] = np.maximum(low[crowd], at - CROWD // 2)
    high[crowd] = np.minimum(high[crowd], at + CROWD // 2)
    rows = np.repeat(np.arange(len(bands)), high - low)
    return rows * len(order) + order[ranges(low, high - low)]


def _stems(records: list[Record], held: Held) -> dict[int, Match]:
    stems = folded([record.question for record in records])
    windows, counts = gram_hashes(stems, WINDOW)
    low, high = (np.searchsorted(held.windows, windows, side) for side in ("left", "right"))
    hits = np.flatnonzero(high > low)
    rows = np.repeat(np.arange(len(stems)), counts)
    found: dict[int, list[tuple[int, int]]] = {}
    for row, start, stop in zip(rows[hits].tolist(), low[hits].tolist(), high[hits].tolist(), strict=True):
        for stem, test in held.telling[start:stop]:
            if stem in stems[row]:
                found.setdefault(row, []).append((-len(stem), test))
    return {row: Match(min(ranked)[1], None) for row, ranked in found.items()}


def _bands(sketches: Bytes, near: Near) -> list[Hashes]:
    """Return, of each band, its hash above that of the next."""
    made = band_hashes(sketches, near)
    return [band << np.uint64(32) | after for band, after in zip(made, [*made[1:], made[0]], strict=True)]


def part(held: Held, near: Near, chunk: Chunk) -> Part:
    """Return what a chunk of records comes to."""
    records, lines = list(chunk.rows(Record)), chunk.lines()
    found = matches(records, held, near)
    rejects = [
        reject("decontaminate", records[row], lines[row], "contaminated", _detail(match, held))
        for row, match in found.items()
    ]
    return Part(
        kept=b"".join(line + b"\n" for row, line in enumerate(lines) if row not in found),
        rejects=msgspec.json.Encoder().encode_lines(rejects),
        topics=Counter(record.topic for row, record in enumerate(records) if row not in found),
        asked=[match.held for match in found.values()],
    )


def metrics(topics: Counter[str], asked: Counter[int], questions: list[Question]) -> dict[str, object]:
    """Return the counts: kept, by reason, by topic; of each test file its questions and the rows they cost."""
    kept, dropped = topics.total(), asked.total()
    files = Counter(question.file for question in questions)
    cost = Counter[str]()
    for test, count in asked.items():
        cost[questions[test].file] += count
    return {
        "records": kept + dropped,
        "kept": kept,
        "rejected": {"contaminated": dropped} if dropped else {},
        "tests": {file: {"questions": count, "rejected": cost[file]} for file, count in sorted(files.items())},
        "topics": dict(sorted(topics.items())),
    }


def own(exam: Path | None) -> list[Question]:
    """Return the questions of the user's own test, none if there is none in its folder."""
    found = paper.find(exam)
    return [Question(str(found), q.line, q.question, q.options) for q in paper.read(found)] if found else []


def _detail(match: Match, held: Held) -> str:
    how = "holds the stem of" if match.similarity is None else f"similarity {match.similarity:.2f} to"
    return f"{how} {held.names[match.held]}"


def _name(question: Question) -> str:
    text = question.question if len(question.question) <= SHOWN else question.question[:SHOWN] + "…"
    return f"{question.file}:{question.line} '{text}'"


@click.command()
@click.argument("records", metavar="IN", type=click.Path(path_type=Path))
@click.argument("held", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("rejects", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
@click.option("--exam", type=click.Path(path_type=Path), help="The folder of your own test file, which may be empty.")
def main(records: Path, held: Path, out: Path, rejects: Path, metrics_file: Path, exam: Path | None) -> None:
    """Drop rows that ask what a test asks; HELD is a test file or a folder of them."""
    near = load("decontaminate", DecontaminateParams).near()
    workers = load("workers", WorkersParams)
    questions = exams(held) + own(exam)
    topics, asked = Counter[str](), Counter[int]()
    with ExitStack() as files:
        kept, dropped = (files.enter_context(whole(path)) for path in (out, rejects))
        for found in spread(partial(part, hold(questions, near), near), chunks(records), workers):
            kept.write(found.kept)
            dropped.write(found.rejects)
            topics.update(found.topics)
            asked.update(found.asked)
    numbers = metrics(topics, asked, questions)
    write_json(metrics_file, numbers)
    click.echo(
        f"decontaminate: {numbers['kept']:,} of {numbers['records']:,} kept; {len(questions):,} questions of tests"
    )


if __name__ == "__main__":
    from curate.decontaminate import main as run  # workers find its functions under the module's own name

    run()
