"""Mix what the author learns from: questions to write, variations and improvements of some, and conversations.

author.jsonl (Record), vary.jsonl, improve.jsonl (Derived), judge.jsonl (Judged), chats (Example) → a folder, metrics:

    train.jsonl, validation.jsonl    Example: a cell, the question written for it; an item, what was made of it; chats
    prompts.jsonl                    Commission: some for each cell, for reinforcement
    README.md                        the card

Some of the questions are written after thoughts (`thinking`), which are the question and its solution, the others at
once, so that the author can do both. Chats keep it able to talk; they are a share of all rows, as many as there are. A
question held out for validation takes along what was made of it. A set of questions with solutions can be added, local
or of the Hub.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import click
from msgspec import Meta, Struct

from curate import card
from curate.checks import ValidateParams, reject_reason
from curate.convert import whole_folder
from schemas import chat, rows
from schemas.chat import Cell, Words
from schemas.faults import Fault
from schemas.params import AuthorPrompt, Count, Params, Positive, Share, load
from schemas.record import Commission, Derived, Example, Judged, Message, Record, Slug

FILES = ("train.jsonl", "validation.jsonl", "prompts.jsonl", "README.md")


class Source(Params, frozen=True):
    """A data set of questions with solutions, all for one cell: a name on the Hub or a local file or folder."""

    name: str
    config: str | None
    split: str
    revision: str | None
    """Of a set on the Hub: a commit, so that the same rows come every time."""
    question: str
    """The column."""
    solution: str
    """The column that is the author's thoughts."""
    topic: Slug
    difficulty: Slug
    type: Slug
    rows: Count


class MixParams(Params, frozen=True):
    """How much of what."""

    difficulties: tuple[Slug, ...]
    types: tuple[Slug, ...]
    """The cells of the author's topics that it learns to write for."""
    thinking: Share
    """Of the questions, those written after thoughts."""
    conversations: Annotated[float, Meta(ge=0, lt=1)]
    """Of all rows."""
    chats: str
    """The file they are drawn from."""
    commissions: Positive
    """Of each cell, for reinforcement, which draws among them and holds some out."""
    validation: Share
    """Of the bank's questions."""
    questions: Source | None
    """More questions to write, beside the bank's."""
    seed: Count


class Rows(Struct, frozen=True):
    """The rows of one sort, by where they go."""

    train: list[Example]
    validation: list[Example]


def below(share: float, *words: object) -> bool:
    """Whether what is drawn from these words lies in the first `share` of all."""
    return draw(*words) < share


def draw(*words: object) -> float:
    """Return a number from 0 up to 1 that these words decide."""
    text = ":".join(map(str, words))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64


def questions(records: Iterable[Record], words: Words, params: MixParams) -> Iterator[tuple[str, Example]]:
    """Yield for each record the chat in which it is written; each with the id that decides its side."""
    for record in records:
        asked = chat.commission(words.prompt, *words.of(_cell(record)))
        yield record.id, _example(record, asked, params)


def variations(
    records: Mapping[str, Record], derived: Iterable[Derived], words: Words, params: MixParams
) -> Iterator[tuple[str, Example]]:
    """Yield the chat in which each variation is made of its record."""
    for row in derived:
        if row.of in records:
            how: Any = row.how.partition(":")[2]
            names = words.of(_cell(row))
            yield row.of, _example(row, chat.variation(words.prompt, *names, records[row.of], how), params)


def improvements(
    records: Mapping[str, Record],
    derived: Iterable[Derived],
    feedback: Mapping[str, str],
    words: Words,
    params: MixParams,
) -> Iterator[tuple[str, Example]]:
    """Yield the chat in which each record is improved by what was said of it."""
    for row in derived:
        if row.of in records and row.of in feedback:
            names = words.of(_cell(row))
            asked = chat.improvement(words.prompt, *names, records[row.of], feedback[row.of])
            yield row.of, _example(row, asked, params)


def more(source: Source, table: Iterable[Mapping[str, Any]], words: Words, params: MixParams) -> Iterator[Example]:
    """Yield the chats of a set from elsewhere: its solution as thoughts, then its question as it stands."""
    asked = chat.commission(words.prompt, *words.of((source.topic, source.difficulty, source.type)))
    for number, row in enumerate(table):
        if number >= source.rows:
            return
        thoughts = (
            f"<think>\n{row[source.solution]}\n</think>\n\n" if below(params.thinking, params.seed, number) else ""
        )
        reply = Message(role="assistant", content=f"{thoughts}{row[source.question]}")
        yield Example(id=f"{source.name}:{number}", messages=(*asked, reply))


def conversations(chats: Iterable[Example], count: int, seed: int) -> list[Example]:
    """Return so many of the chats, spread over all, or all if they are fewer."""
    return sorted(chats, key=lambda row: draw(seed, row.id, row.messages[-2].content))[:count]


def commissions(cells: Iterable[Cell], words: Words, each: int) -> Iterator[Commission]:
    """Yield what the author is told for each cell, so many times."""
    for cell, n in product(cells, range(each)):
        topic, difficulty, type_ = cell
        prompt = chat.commission(words.prompt, *words.of(cell))
        yield Commission(id=f"{'/'.join(cell)}/{n}", topic=topic, difficulty=difficulty, type=type_, prompt=prompt)


def parted(found: Iterable[tuple[str, Example]], params: MixParams) -> Rows:
    """Return the chats by side: what is about one record stays together."""
    made = Rows([], [])
    for id_, example in found:
        (made.validation if below(params.validation, params.seed, "side", id_) else made.train).append(example)
    return made


def open_source(source: Source) -> Iterable[Mapping[str, Any]]:
    """Return the rows of a set of the Hub, or of a local one; Fault if it cannot be had as params.yaml says."""
    import datasets
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

    where = "params.yaml: mix.questions"
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    local = Path(source.name).exists()
    if not (local or source.revision):
        raise Fault(f"{where}.revision: null; name the commit of {source.name}, or other rows may come tomorrow")
    try:
        if local and Path(source.name).is_file():
            kind = Path(source.name).suffix.removeprefix(".").replace("jsonl", "json")
            table = datasets.load_dataset(kind, data_files=source.name, split=source.split)
        else:
            table = datasets.load_dataset(source.name, source.config, split=source.split, revision=source.revision)
    except (DatasetNotFoundError, DatasetGenerationError, OSError, ValueError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise Fault(f"{where}: {source.name} cannot be had: {said[:300]}; nothing is put in its place") from None
    for column in (source.question, source.solution):
        if column not in table.column_names:
            raise Fault(f"{where}: {source.name} has no column '{column}'; it has {', '.join(table.column_names)}")
    found: Iterable[Mapping[str, Any]] = table
    return found


def sound(derived: Iterable[Derived], validate: ValidateParams) -> tuple[list[Derived], int]:
    """Return the rows that the bank's checks would keep, and how many they would not."""
    every = list(derived)
    kept = [row for row in every if reject_reason(row, validate) is None]
    return kept, len(every) - len(kept)


def about(numbers: Mapping[str, Any], cells: Mapping[str, int]) -> str:
    """Return the card of the folder."""
    return card.text(
        "Questions to be written: what the author learns from",
        "Chats for supervised fine-tuning of a model that writes multiple-choice questions: a cell of the grid and the "
        "question for it, in some of them after its solution as thoughts; an item and a variation or an improvement of "
        "it; and conversations. prompts.jsonl holds what the author is told for each cell, for reinforcement.",
        {"train": "train.jsonl", **({"validation": "validation.jsonl"} if numbers["validation"] else {})},
        {
            "Rows": numbers["train"] + numbers["validation"],
            "Rows of training by sort": {name: {"rows": count} for name, count in numbers["sorts"].items()},
            "Questions by topic": {topic: {"questions": count} for topic, count in sorted(cells.items())},
        },
        tasks=("text-generation",),
        rows=numbers["train"] + numbers["validation"],
    )


def _example(row: Record, asked: Sequence[Message], params: MixParams) -> Example:
    thinking = below(params.thinking, params.seed, row.id)
    return Example(id=row.id, messages=(*asked, chat.authored(row, thinking)))


def _cell(record: Record) -> Cell:
    return record.topic, record.difficulty, record.type


def _check(prompt: AuthorPrompt) -> None:
    """Fault for a prompt that cannot be filled in."""
    fields: dict[str, tuple[str, ...]] = {"write": (), "vary": ("item", "variation"), "improve": ("item", "feedback")}
    for name, further in fields.items():
        try:
            getattr(prompt, name).format(**dict.fromkeys(("topic", "difficulty", "type", *further), ""))
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            takes = ", ".join(f"{{{word}}}" for word in ("topic", "difficulty", "type", *further))
            raise Fault(
                f"params.yaml: prompts.author.{name}: {error}; it takes {takes}, and any other brace is doubled"
            ) from None


@click.command()
@click.argument("author", type=click.Path(path_type=Path))
@click.argument("vary", type=click.Path(path_type=Path))
@click.argument("improve", type=click.Path(path_type=Path))
@click.argument("judge", type=click.Path(path_type=Path))
@click.argument("chats", type=click.Path(path_type=Path))
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
def main(author: Path, vary: Path, improve: Path, judge: Path, chats: Path, out_dir: Path, metrics_file: Path) -> None:
    """Mix what the author learns from: questions, variations, improvements and conversations."""
    params = load("mix", MixParams)
    _check(load("prompts.author", AuthorPrompt))
    words = chat.words()
    validate = load("validate", ValidateParams)
    own = [topic for topic in load("split.author", tuple[Slug, ...]) if topic in words.topics]
    cells = list(product(own, params.difficulties, params.types))
    for cell in cells:
        words.of(cell)
    records = {record.id: record for record in rows.read(author, Record) if _cell(record) in cells}
    varied, bad = sound(rows.read(vary, Derived), validate)
    improved, worse = sound(rows.read(improve, Derived), validate)
    feedback = {row.id: row.judgement.feedback for row in rows.read(judge, Judged) if row.judgement}
    sorts = {
        "questions": parted(questions(records.values(), words, params), params),
        "variations": parted(variations(records, varied, words, params), params),
        "improvements": parted(improvements(records, improved, feedback, words, params), params),
    }
    if params.questions:
        sorts["elsewhere"] = Rows(list(more(params.questions, open_source(params.questions), words, params)), [])
    written = sum(len(of.train) for of in sorts.values())
    if not written:
        raise Fault(
            f"{author}: no question for the author to learn from; see split.author, mix and topics in params.yaml"
        )
    wanted = round(written * params.conversations / (1 - params.conversations))
    sorts["conversations"] = Rows(conversations(rows.read(chats, Example), wanted, params.seed), [])
    train = [row for of in sorts.values() for row in of.train]
    validation = [row for of in sorts.values() for row in of.validation]
    talk = len(sorts["conversations"].train)
    numbers = {
        "train": len(train),
        "validation": len(validation),
        "sorts": {name: len(of.train) for name, of in sorts.items()},
        "share_of_conversations": round(talk / len(train), 4),
        "thinking": sum(row.messages[-1].content.startswith("<think>") for row in train),
        "refused": bad + worse,
        "commissions": len(cells) * params.commissions,
    }
    with whole_folder(out_dir, FILES) as made:
        rows.write(made / "train.jsonl", train)
        rows.write(made / "validation.jsonl", validation)
        rows.write(made / "prompts.jsonl", commissions(cells, words, params.commissions))
        (made / "README.md").write_text(about(numbers, Counter(r.topic for r in records.values())), encoding="utf-8")
    rows.write_json(metrics_file, numbers)
    short = f", {wanted - talk:,} conversations fewer than wanted" if talk < wanted else ""
    click.echo(
        f"mix: {len(train):,} rows to train on, {numbers['share_of_conversations']:.0%} of them conversations{short}; "
        f"{len(validation):,} held out"
    )


if __name__ == "__main__":
    main()
