"""Bring a user's own questions into the pipeline: TSV or JSONL in, a topic's responses out.

FILE is what `convert` writes, or alike: a TSV with the columns of bank.tsv (id, difficulty and type may be columns
too), or JSONL of items or records. Every row becomes a response, which validate judges as it does a teacher's; a file
that cannot be read is refused with its line and nothing is written.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import click
import msgspec

from curate import tsv
from schemas import chain, rows
from schemas.faults import Fault
from schemas.params import Wording, load, topics
from schemas.record import LETTERS, Item, Response


class Own(Item, frozen=True):
    """A line of a user's JSONL: an item, and whatever a record says beyond it."""

    id: str | None = None
    topic: str | None = None
    difficulty: str | None = None
    type: str | None = None
    teacher: str | None = None
    repairs: tuple[str, ...] = ()


class Question(msgspec.Struct, frozen=True):
    """A question as it was read, before it is numbered."""

    line: int
    id: str | None
    topic: str | None
    difficulty: str | None
    type: str | None
    content: str


def import_tsv(path: Path) -> Iterator[Question]:
    """Yield the questions of a TSV; Fault with the line for a file that cannot be read."""
    for line in tsv.read(path):
        fields = line.fields
        options = "".join(f"<{a}>{escape(fields[f'option_{a}'])}</{a}>" for a in LETTERS)
        output = "" if "<output>" in fields["reasoning"] else f"<output>{escape(fields['correct_answer'])}</output>"
        said = chain.output(fields["reasoning"])
        if said and said != fields["correct_answer"].strip():
            raise Fault(
                f"{path}:{line.number}: correct_answer is '{fields['correct_answer']}', the chain says '{said}'; "
                "make them agree"
            )
        yield Question(
            line=line.number,
            id=fields.get("id") or None,
            topic=None,
            difficulty=fields.get("difficulty") or None,
            type=fields.get("type") or None,
            content=f"<item>\n<question>{escape(fields['question'])}</question>\n<options>{options}</options>\n"
            f"{fields['reasoning'].strip()}\n{output}</item>",
        )


def import_jsonl(path: Path) -> Iterator[Question]:
    """Yield the questions of a JSONL file; Fault with the line for a row that is neither item nor record."""
    decode = msgspec.json.Decoder(Own).decode
    for number, line in enumerate(tsv.decode(path).rstrip("\n").split("\n"), 1):
        try:
            own = decode(line)
        except msgspec.DecodeError as error:
            raise Fault(f"{path}:{number}: {error}; a line is a JSON object with the fields of an item") from None
        yield Question(number, own.id, own.topic, own.difficulty, own.type, chain.write(own))


def responses(path: Path, topic: str, difficulty: str | None, type_: str | None) -> Iterator[Response]:
    """Yield a response for each question; Fault for a row of another topic, without a cell, or with another's id."""
    seen: dict[str, int] = {}
    copies: Counter[str] = Counter()
    for number, question in enumerate(import_tsv(path) if path.suffix == ".tsv" else import_jsonl(path)):
        at = f"{path}:{question.line}"
        if question.topic not in (None, topic):
            raise Fault(f"{at}: topic '{question.topic}', not '{topic}'; import each topic's rows by themselves")
        level, kind = question.difficulty or difficulty, question.type or type_
        if level is None or kind is None:
            raise Fault(f"{at}: no difficulty or type; add the columns, or say --difficulty and --type for all rows")
        what = "\0".join((topic, level, kind, question.content))
        id_ = question.id or hashlib.sha256(f"{what}\0{copies[what]}".encode()).hexdigest()[:16]
        copies[what] += 1
        if id_ in seen:
            raise Fault(f"{at}: id '{id_}' is that of line {seen[id_]} too; give every row its own, or none")
        seen[id_] = question.line
        yield Response(
            id=id_,
            topic=topic,
            difficulty=level,
            type=kind,
            sample=number,
            round=0,
            teacher=f"import {path.name}",
            content=question.content,
            fault=None,
        )


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("topic")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--difficulty", help="For rows that name none; a key of params.yaml.")
@click.option("--type", "type_", help="For rows that name none; a key of params.yaml.")
def main(file: Path, topic: str, out: Path, difficulty: str | None, type_: str | None) -> None:
    """Bring your own TSV or JSONL questions into the pipeline.

    OUT is the topic's file among the responses, data/responses/TOPIC.jsonl; TOPIC must be one of params.yaml.
    """
    if file.suffix not in (".tsv", ".jsonl"):
        raise Fault(f"{file}: neither .tsv nor .jsonl; name it by what it is")
    _known("topics", topic, topics())
    for section, key in (("difficulties", difficulty), ("types", type_)):
        if key is not None:
            _known(section, key, load(section, dict[str, Wording]))
    count = rows.write(out, responses(file, topic, difficulty, type_))
    click.echo(f"import: {count:,} questions of {topic}")


def _known(section: str, key: str, known: Iterable[str]) -> None:
    if key not in known:
        raise Fault(f"params.yaml: {section}.{key}: not there; add it, or name one of {', '.join(known)}")


if __name__ == "__main__":
    main()
