"""Write the bank in the forms that trainers, competitions and people read.

train.jsonl, rollout.jsonl, validation.jsonl, test.jsonl (Record) → a folder, metrics:

    sft.reasoning.train.jsonl   sft.reasoning.validation.jsonl   Example: question, chosen parts of the chain
    sft.plain.train.jsonl       sft.plain.validation.jsonl       Example: question, the letter alone
    grpo.jsonl                                                   Prompt: question of the rollout side, its answer
    test.csv                                                     id, question, option_A … option_D; no answer
    key.csv                                                      id, answer, topic, difficulty, type
    bank.tsv                                                     all sides: question, options, answer, whole chain
    bank.parquet                                                 all sides: every field of a record, and its side
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import click
import msgspec
from msgspec import Meta

from curate import tsv
from curate.balance import orders
from schemas import chat, rows
from schemas.params import ChatPrompt, Count, Params, load
from schemas.record import LETTERS, Example, Prompt, Record

Part = Literal["think", "reasoning", "reflection", "adjustment", "output"]


class ConvertParams(Params, frozen=True):
    """What a model is trained on."""

    parts: tuple[Part, ...]
    """Of a chain."""
    orders: Annotated[int, Meta(ge=1, le=4)]
    """In how many orders of its options a training question is shown, the answer at another letter each time: a model
    that sees one learns the letter by heart instead of looking for the option."""
    seed: Count


class PromptsParams(Params, frozen=True):
    """How a question is put to the solver, for each way of training."""

    plain: ChatPrompt
    reasoning: ChatPrompt


def example(record: Record, prompt: ChatPrompt, parts: tuple[str, ...]) -> Example:
    """Return the chat in which the record's question is answered; with no parts, by the letter alone."""
    messages = (*chat.ask(prompt, record.question, record.options), chat.reply(record, parts))
    return Example(id=record.id, messages=messages)


def question(record: Record, prompt: ChatPrompt) -> Prompt:
    """Return the question to be answered in a rollout, with its reference."""
    return Prompt(id=record.id, prompt=chat.ask(prompt, record.question, record.options), answer=record.answer)


def test_table(records: Iterable[Record]) -> Iterable[tuple[str, ...]]:
    """Yield the test file as a competition hands it out: no answer, no topic."""
    yield ("id", "question", *(f"option_{letter}" for letter in LETTERS))
    for record in records:
        yield (record.id, record.question, *record.options)


def key_table(records: Iterable[Record]) -> Iterable[tuple[str, ...]]:
    """Yield the solution to the test file, and what a score is broken down by."""
    yield ("id", "answer", "topic", "difficulty", "type")
    for record in records:
        yield (record.id, record.answer, record.topic, record.difficulty, record.type)


def write_parquet(path: Path, sides: Mapping[str, list[Record]]) -> None:
    """Write every field of every record and a column `split`; the same bytes each time under one pyarrow version."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.list_(pa.string())
    types = {"options": texts, "steps": texts, "repairs": texts}
    names = [name for name in Record.__struct_fields__ if name != "id"]
    schema = pa.schema([(name, types.get(name, pa.string())) for name in ("id", "split", *names)])
    table = pa.Table.from_pylist(
        [{**msgspec.structs.asdict(record), "split": side} for side, records in sides.items() for record in records],
        schema=schema,
    )
    with rows.whole(path) as file:
        pq.write_table(table, file, compression="zstd", compression_level=3)


@click.command()
@click.argument("train", type=click.Path(path_type=Path))
@click.argument("rollout", type=click.Path(path_type=Path))
@click.argument("validation", type=click.Path(path_type=Path))
@click.argument("test", type=click.Path(path_type=Path))
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
def main(train: Path, rollout: Path, validation: Path, test: Path, out_dir: Path, metrics_file: Path) -> None:
    """Write the bank in the forms that trainers, competitions and people read."""
    params = load("convert", ConvertParams)
    prompts = load("prompts", PromptsParams)
    sides = {
        side: list(rows.read(path, Record))
        for side, path in (("train", train), ("rollout", rollout), ("validation", validation), ("test", test))
    }
    numbers: dict[str, int] = {}
    for side in ("train", "validation"):
        records = sides[side]
        if side == "train":
            records = [shown for record in records for shown in orders(record, params.orders, params.seed)]
        made = {
            f"sft.reasoning.{side}.jsonl": (example(record, prompts.reasoning, params.parts) for record in records),
            f"sft.plain.{side}.jsonl": (example(record, prompts.plain, ()) for record in records),
        }
        for name, examples in made.items():
            numbers[name] = rows.write(out_dir / name, examples)
    numbers["grpo.jsonl"] = rows.write(
        out_dir / "grpo.jsonl", (question(record, prompts.reasoning) for record in sides["rollout"])
    )
    everything = [record for records in sides.values() for record in records]
    for name, table, separator, count in (
        ("test.csv", test_table(sides["test"]), ",", len(sides["test"])),
        ("key.csv", key_table(sides["test"]), ",", len(sides["test"])),
        ("bank.tsv", tsv.bank(everything), "\t", len(everything)),
    ):
        with rows.whole(out_dir / name) as file:
            tsv.write(file, table, separator)
        numbers[name] = count
    write_parquet(out_dir / "bank.parquet", sides)
    numbers["bank.parquet"] = len(everything)
    rows.write_json(metrics_file, numbers)
    click.echo(f"convert: {len(everything):,} records in {len(numbers)} files of {out_dir}")


if __name__ == "__main__":
    main()
