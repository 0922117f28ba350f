"""Write what became of the author as one page: questions after each training, variations, what its teacher says.

commissions, the bank's questions (JSONL), the models of its trainings, metrics of the distillation →
report/author.html, plots/author/*.csv, metrics/author_report.json. Each model is given the same commissions and the
same questions to vary, drawn in the same way, so that what differs is the model. Computer algebra says what is right;
the qualities are those that reinforcement rewards, a question being new if it is unlike those that the author was
taught.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

import click
from msgspec import Struct

from schemas import chat, rows
from schemas.faults import Fault
from schemas.interval import wilson
from schemas.page import Cell, Details, Facts, Part, Section, Table, Words, page
from schemas.params import Params, Positive, load
from schemas.plot import Bars, Lines
from schemas.record import Commission, Record, Variation
from train import author_grpo, ready, reinforce, watch
from train import model as models
from train.author import writing
from train.author.alike import Seen, text_of
from train.author.examine import VERDICTS, examine
from train.author.quality import QUALITIES
from train.author_grpo import judged
from train.generate import Held, Sampling
from train.model import Source
from train.progress import Answered, answered, qualities

SECTION = "author_report"
VARIATIONS: tuple[Variation, ...] = get_args(Variation)
SHOWN = 4
"""Questions of each verdict that are shown."""


class AuthorReportParams(Params, frozen=True):
    """How the authors are looked at."""

    dtype: Literal["float32", "bfloat16", "float16"]
    quantize: models.Quantize
    engine: Held
    thinking: tuple[bool, ...]
    questions: Positive
    """Written by each author, in each way."""
    originals: Positive
    """Questions of the bank that each author varies, in the three ways."""
    weights: dict[str, float]
    """Of the qualities in their sum."""
    sampling: Sampling
    seed: int


class Looked(Struct, frozen=True):
    """What an author wrote in one way, with thinking or without."""

    thinking: bool
    verdicts: dict[str, float]
    """Share of each."""
    confirmed95: tuple[float, float]
    qualities: dict[str, float]
    total: float
    by_topic: dict[str, float]
    """Share of confirmed questions."""
    samples: tuple[tuple[str, str, str], ...]
    """Id of the commission, verdict with its reason, reply."""


class Varied(Struct, frozen=True):
    """What an author made of the bank's questions, in one of the three ways."""

    n: int
    confirmed: int
    """Right by computer algebra, and another question than the original."""
    copied: int
    """The original's question once more."""


class Author(Struct, frozen=True):
    """An author after one of its trainings."""

    name: str
    looked: tuple[Looked, ...]
    varied: dict[str, Varied]
    way: tuple[Answered, ...]
    """Commissions that were given to it again and again in training."""


def look(
    network: Any,
    tokenizer: Any,
    params: AuthorReportParams,
    commissions: Sequence[Commission],
    seen: Seen,
    thinking: bool,
) -> Looked:
    """Return what an author writes for the commissions."""
    asked = list(islice(cycle(commissions), params.questions))
    made = writing.written(network, tokenizer, asked, params.sampling, thinking, params.engine)
    found = judged(asked, [one.reply for one in made], seen, params.weights)
    right = sum(one.verdict == "confirmed" for one in made)
    topics_ = sorted({one.topic for one in asked})
    samples = []
    for verdict in VERDICTS:
        some = [(a.id, f"{verdict} {b.why}".strip(), a.reply) for a, b in zip(made, found, strict=True)]
        samples += [one for one in some if one[1].startswith(verdict)][:SHOWN]
    return Looked(
        thinking=thinking,
        verdicts=writing.shares(made),
        confirmed95=wilson(right, len(made)),
        qualities={name: round(fmean(one.rewards[name] for one in found), 4) for name in params.weights},
        total=round(fmean(one.total for one in found), 4),
        by_topic={
            topic: round(
                fmean(a.verdict == "confirmed" for a, b in zip(made, asked, strict=True) if b.topic == topic), 4
            )
            for topic in topics_
        },
        samples=tuple(samples),
    )


def vary(
    network: Any,
    tokenizer: Any,
    params: AuthorReportParams,
    originals: Sequence[Record],
    told: Mapping[Variation, Sequence[Commission]],
) -> dict[str, Varied]:
    """Return how well an author varies questions, in the first way it is looked at."""
    found: dict[str, Varied] = {}
    for how, asked in told.items():
        made = writing.written(network, tokenizer, asked, params.sampling, params.thinking[0], params.engine)
        items = [examine(one.reply) for one in made]
        same = [
            one.item is not None and text_of(one.item) == text_of(original)
            for one, original in zip(items, originals, strict=True)
        ]
        right = sum(one.verdict == "confirmed" and not copy for one, copy in zip(items, same, strict=True))
        found[how] = Varied(len(made), right, sum(same))
    return found


def variations(originals: Sequence[Record], words: chat.Words) -> dict[Variation, list[Commission]]:
    """Return what an author is told for each original, by the way of varying it."""
    return {
        how: [
            Commission(
                id=one.id,
                topic=one.topic,
                difficulty=one.difficulty,
                type=one.type,
                prompt=chat.variation(
                    words.prompt, *words.of((one.topic, one.difficulty, one.type)), item=one, how=how
                ),
            )
            for one in originals
        ]
        for how in VARIATIONS
    }


def figures(authors: Sequence[Author], taught: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics."""
    return {
        one.name: {
            **{
                "thinking" if looked.thinking else "at_once": {
                    "verdicts": looked.verdicts,
                    "confirmed95": [round(end, 4) for end in looked.confirmed95],
                    "qualities": looked.qualities,
                    "total": looked.total,
                    "balance": balance(looked.qualities),
                }
                for looked in one.looked
            },
            "variations": {
                how: {"n": v.n, "confirmed": v.confirmed, "copied": v.copied} for how, v in one.varied.items()
            },
        }
        for one in authors
    } | ({"teacher": approval(taught)} if taught else {})


def balance(qualities: Mapping[str, float]) -> float:
    """Return the least of the qualities over the greatest: 1 where none is bought with another."""
    return round(min(qualities.values()) / (max(qualities.values()) or 1.0), 4)


def approval(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the teacher said, round by round, of the metrics of the distillation."""
    names = ("written", "sent", "approved", "mean", "marks")
    return [{name: one[name] for name in names if name in one} for one in metrics.get("rounds", ())]


def written(authors: Sequence[Author], taught: Mapping[str, Any]) -> str:
    """Return the page."""
    last = authors[-1]
    sections = [Section("Questions", tuple(_questions(authors)))]
    sections.append(Section("Variations", (_variations(authors),)))
    if rounds := approval(taught):
        sections.append(Section("The teacher", tuple(_teacher(rounds))))
    sections += [Section(f"What {one.name} writes", tuple(_samples(one))) for one in (last,)]
    return page("The author", f"{len(authors)} trainings, the last is {last.name}", sections)


def _questions(authors: Sequence[Author]) -> Iterator[Part]:
    first, last = authors[0], authors[-1]
    yield Facts(
        tuple(
            (
                f"right, {_way(looked)}",
                f"{looked.verdicts['confirmed']:.1%}",
                f"[{looked.confirmed95[0]:.1%}, {looked.confirmed95[1]:.1%}]; {before.verdicts['confirmed']:.1%} after "
                f"{first.name}",
            )
            for looked, before in zip(last.looked, first.looked, strict=True)
        )
    )
    every = [(one.name, looked) for one in authors for looked in one.looked]
    yield Table(
        "After each training, for the same commissions",
        ("author", "way", *VERDICTS),
        tuple((name, _way(looked), *(looked.verdicts[verdict] for verdict in VERDICTS)) for name, looked in every),
        ("", "", *["{:.1%}"] * len(VERDICTS)),
        note="Confirmed: computer algebra finds the answer right, and the only one. Unchecked: it cannot read the "
        "question. Refuted: it finds another answer, or a false step. Malformed: no item with four options.",
    )
    names = tuple(QUALITIES)
    yield Table(
        "Their qualities",
        ("author", "way", *names, "sum", "balance"),
        tuple(
            (
                *(name, _way(looked)),
                *(looked.qualities.get(quality) for quality in names),
                *(looked.total, balance(looked.qualities)),
            )
            for name, looked in every
        ),
        ("", "", *["{:.3f}"] * (len(names) + 2)),
        note="Means over all replies, of which a wrong one has next to nothing. A question that is one of those it was "
        "taught is not new. Balance: the least quality over the greatest.",
    )
    for one in authors:
        if len(one.way) > 1:
            few = "The commissions that are given to it again and again; few, so this shows a direction."
            right = {"confirmed": tuple((float(at.step), at.share) for at in one.way)}
            yield Lines(f"Right on the way: {one.name}", "step", "share of the questions", right, note=few)
            means = "Means over the same questions, before any weight."
            yield Lines(f"Qualities on the way: {one.name}", "step", "mean", qualities(one.way), note=means)
    topics_ = tuple(last.looked[0].by_topic)
    yield Bars(
        f"Right by topic, {_way(last.looked[0])}",
        topics_,
        {one.name: tuple(one.looked[0].by_topic.get(topic) for topic in topics_) for one in authors},
    )


def _variations(authors: Sequence[Author]) -> Table:
    return Table(
        "Questions of the bank, varied",
        ("author", "variation", "asked", "right and another question", "the same question"),
        tuple(
            (one.name, how, varied.n, varied.confirmed / varied.n, varied.copied / varied.n)
            for one in authors
            for how, varied in one.varied.items()
        ),
        ("", "", "{:,}", "{:.1%}", "{:.1%}"),
    )


def _teacher(rounds: Sequence[Mapping[str, Any]]) -> Iterator[Part]:
    marks = tuple(rounds[0].get("marks") or ())
    yield Table(
        "Its own questions, judged round by round",
        ("round", "written", "sent", "mean mark", "approved", *marks),
        tuple(
            (
                *(n, one.get("written"), one.get("sent"), one.get("mean"), one.get("approved")),
                *((one.get("marks") or {}).get(name) for name in marks),
            )
            for n, one in enumerate(rounds, 1)
        ),
        ("", "{:,}", "{:,}", "{:.2f}", "{:.1%}", *["{:.2f}"] * len(marks)),
        note="Five marks from 1 to 5; approved: a mean of 4 or more. What computer algebra refutes is not sent.",
    )


def _samples(author: Author) -> Iterator[Part]:
    for looked in author.looked:
        yield Words((_way(looked).capitalize() + ".",))
        for id_, verdict, reply in looked.samples:
            yield Details(f"{verdict}: {id_}", (Words(tuple(reply.splitlines())),))


def _way(looked: Looked) -> str:
    return "after thinking" if looked.thinking else "at once"


def write_plots(folder: Path, authors: Sequence[Author]) -> None:
    """Write the figures as CSV, for DVC's plots."""
    tables: dict[str, list[tuple[Cell, ...]]] = {
        "verdicts": [("author", "verdict", "share")],
        "qualities": [("author", "quality", "mean")],
        "variations": [("author", "variation", "share")],
    }
    for one in authors:
        looked = one.looked[0]
        tables["verdicts"] += [(one.name, name, looked.verdicts[name]) for name in VERDICTS]
        tables["qualities"] += [(one.name, name, value) for name, value in looked.qualities.items()]
        tables["variations"] += [(one.name, how, round(v.confirmed / v.n, 4)) for how, v in one.varied.items()]
    for name, table in tables.items():
        with rows.whole(folder / f"{name}.csv") as file:
            file.write("".join(",".join(map(str, row)) + "\n" for row in table).encode())


def named(pairs: Iterable[str]) -> dict[str, str]:
    """Return the folder of each model by its author's name; Fault for what is no NAME=MODEL."""
    found = {}
    for pair in pairs:
        name, _, folder = pair.partition("=")
        if not name or not folder:
            raise Fault(f"{pair}: write NAME=MODEL")
        found[name] = folder
    return found


def check(
    params: AuthorReportParams,
    authors: Sequence[ready.Start],
    commissions: ready.Rows[Commission],
    bank: ready.Rows[Record],
    words: chat.Words,
) -> Iterator[ready.Finding]:
    """Yield what is known of a report before a model is loaded."""
    yield from reinforce.known(f"{SECTION}.weights", params.weights, QUALITIES)
    yield from ready.some(commissions, "write for")
    yield from ready.some(bank, "vary")
    if bank.rows and len(bank.rows) < params.originals:
        yield ready.told(f"{len(bank.rows)} questions to vary, not {params.originals}")
    yield from author_grpo.wording([*(commissions.rows or ()), *(bank.rows or ())], words)
    yield from writing.levels(commissions.rows or ())
    for author in authors:
        yield from ready.model(author)
    where = f"params.yaml: {SECTION}.thinking"
    yield from dict.fromkeys(one for author in authors for one in writing.ways(author, params.thinking, where))


@click.command(help=__doc__.partition("\n")[0])
@click.argument("prompts", type=click.Path(path_type=Path))
@click.argument("author", type=click.Path(path_type=Path))
@click.argument("distilled", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("plots", type=click.Path(path_type=Path))
@click.argument("metrics", type=click.Path(path_type=Path))
@click.argument("authors", nargs=-1, required=True, metavar="NAME=MODEL...")
def main(
    prompts: Path, author: Path, distilled: Path, out: Path, plots: Path, metrics: Path, authors: tuple[str, ...]
) -> None:
    """Look at the models NAME=MODEL, in the order of their trainings; write the page OUT, PLOTS and METRICS."""
    params = load(SECTION, AuthorReportParams)
    folders = named(authors)
    commissions, bank, words = ready.read(prompts, Commission), ready.read(author, Record), chat.words()
    ready.insist(check(params, [ready.Start(folder) for folder in folders.values()], commissions, bank, words))
    with rows.opened(distilled) as file:
        taught = json.loads(file.read())
    every = bank.rows or ()
    originals = watch.chosen(every, params.originals, params.seed)
    told = variations(originals, words)
    seen = Seen(text_of(record) for record in every)
    given = watch.chosen(commissions.rows or (), len(commissions.rows or ()), params.seed)
    found = []
    for name, folder in folders.items():
        models.quiet(local=models.is_local(folder))
        held = Source(model=None, dtype=params.dtype, quantize=params.quantize, lora=None)
        network, tokenizer = models.load(held, folder, train=False)
        replies = rows.read(Path(folder) / watch.REPLIES, watch.Reply)
        found.append(
            Author(
                name=name,
                looked=tuple(look(network, tokenizer, params, given, seen, way) for way in params.thinking),
                varied=vary(network, tokenizer, params, originals, told),
                way=tuple(answered(replies)),
            )
        )
        right = ", ".join(f"{one.verdicts['confirmed']:.1%} {_way(one)}" for one in found[-1].looked)
        click.echo(f"{SECTION}: {name}: {right} of {params.questions} questions right")
    with rows.whole(out) as page_:
        page_.write(written(found, taught).encode())
    write_plots(plots, found)
    rows.write_json(metrics, figures(found, taught))


if __name__ == "__main__":
    main()
