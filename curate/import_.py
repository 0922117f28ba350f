"""Bring a user's own questions into the pipeline: TSV, CSV, JSONL or Parquet in, responses out.

FILE is what `convert` writes, or alike: a table with the columns of bank.tsv (id, difficulty and type may be columns
too), or items or records as JSONL or Parquet; text in UTF-8 or UTF-16, as spreadsheets save it. The reasoning of a
table is our XML, or plain prose, whose lines or numbered pieces become the steps as they are. Every row becomes a
response, which validate judges as it does a teacher's; a file that cannot be read is refused with its line and nothing
is written.

The responses stay in PLACE, under git or `dvc add`, beside what a teacher wrote to the same topic. They bear the name
of FILE: another file adds to them, the same file, imported again, replaces its own.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import click
import msgspec

from curate import foreign, tsv
from curate.validate import ids
from schemas import chain, rows
from schemas.faults import Fault
from schemas.params import Wording, load, topics
from schemas.record import LETTERS, Item, Response


class Own(Item, frozen=True, kw_only=True):
    """A line of a user's JSONL: an item, and whatever a record says beyond it; a chain may be its steps alone."""

    think: str = ""
    reflection: str = ""
    adjustment: str | None = None
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


def import_table(path: Path, separator: str) -> Iterator[Question]:
    """Yield the questions of a table; Fault with the line for a file that cannot be read."""
    for line in tsv.read(path, foreign.lines(path), separator):
        fields = line.fields
        said = chain.output(fields["reasoning"])
        if said and said != fields["correct_answer"].strip():
            raise Fault(
                f"{path}:{line.number}: correct_answer is '{fields['correct_answer']}', the chain says '{said}'; "
                "make them agree"
            )
        options = "".join(f"<{a}>{_escape(fields[f'option_{a}'])}</{a}>" for a in LETTERS)
        reasoning = fields["reasoning"].strip()
        if not MARKUP.search(reasoning):
            pieces = "".join(f"<step>{_escape(step)}</step>" for step in steps(reasoning))
            reasoning = f"<reasoning>{pieces}</reasoning>"
        output = "" if "<output>" in reasoning else f"<output>{_escape(fields['correct_answer'])}</output>"
        yield Question(
            line=line.number,
            id=fields.get("id") or None,
            topic=None,
            difficulty=fields.get("difficulty") or None,
            type=fields.get("type") or None,
            content=f"<item>\n<question>{_escape(fields['question'])}</question>\n<options>{options}</options>\n"
            f"{reasoning}\n{output}</item>",
        )


def steps(prose: str) -> list[str]:
    """Return prose cut into steps, its words unchanged: where it counts 1, 2, 3, else where its lines end.

    Of several ways to count, the one that comes furthest.
    """
    cuts: list[int] = []
    for pattern in NUMBERED:
        found: list[int] = []
        for number in pattern.finditer(prose):
            if _number(number["n"]) == len(found) + 1:
                found.append(number.start())
        cuts = max(cuts, found, key=len)
    if len(cuts) > 1:
        pieces = [prose[start:end] for start, end in pairwise([0, *cuts, len(prose)])]
    else:
        # Not splitlines, which would also cut at U+2028 and the like.
        pieces = re.split(r"\r\n|\r|\n", prose)
    return [piece.strip() for piece in pieces if piece.strip()]


def _number(text: str) -> int:
    if text.isdecimal():
        return int(text)
    if text in CIRCLED:
        return CIRCLED.index(text) + 1
    tens, ten, ones = text.rpartition("十")
    return (DIGITS.index(tens) if tens else 1) * 10 * bool(ten) + (DIGITS.index(ones) if ones else 0)


def import_jsonl(path: Path) -> Iterator[Question]:
    """Yield the questions of a JSONL file, blank lines passed over; Fault with the line for one that holds no item."""
    decode = msgspec.json.Decoder(Own).decode
    empty = True
    for number, line in enumerate(foreign.lines(path, newline="\n"), 1):
        if not line.strip():
            continue
        if empty and line.lstrip().startswith("["):
            raise Fault(f"{path}:{number}: a JSON array; write an object a line, as `jq -c '.[]'` does")
        empty = False
        try:
            own = decode(line)
        except msgspec.DecodeError as error:
            raise Fault(f"{path}:{number}: {_complaint(line, error)}") from None
        yield _question(number, own)
    if empty:
        raise Fault(f"{path}:1: the file is empty; a line is a JSON object with the fields of an item")


def import_parquet(path: Path) -> Iterator[Question]:
    """Yield the questions of a Parquet file, as `convert` writes it; Fault with the row for one that holds no item."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(1000):
            for row in batch.to_pylist():
                number += 1
                yield _question(number, msgspec.convert(row, Own))
    except msgspec.ValidationError as error:
        raise Fault(f"{path}:{number}: {error}; a row has the fields of an item") from None
    except OSError as error:
        raise Fault(f"{path}: {error.strerror or error}; name a file that can be read") from None
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise Fault(f"{path}: {' '.join(str(error).split())}; write it again as Parquet") from None
    if not number:
        raise Fault(f"{path}:1: no rows; a row has the fields of an item")


def _question(number: int, own: Own) -> Question:
    return Question(number, own.id, own.topic, own.difficulty, own.type, chain.write(own))


def _complaint(line: str, error: Exception) -> str:
    try:
        json.dumps(json.loads(line), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "half a surrogate pair (\\ud800 to \\udfff); write the character itself"
    except ValueError:
        pass
    return f"{error}; a line is a JSON object with the fields of an item"


def responses(
    path: Path,
    topic: str,
    difficulty: str | None,
    type_: str | None,
    known: Mapping[str, Collection[str]],
    taken: Mapping[str, str],
) -> Iterator[Response]:
    """Yield a response for each question, of the given difficulty and type if it names none.

    Fault for a row of another topic, without a difficulty and a type that are `known`, or with another's id; `taken`
    are those of other imports, each with its file.
    """
    seen: dict[str, int] = {}
    copies: Counter[bytes] = Counter()
    for number, question in enumerate(FORMS[path.suffix.lower()](path)):
        at = f"{path}:{question.line}"
        if question.topic not in (None, topic):
            raise Fault(f"{at}: topic '{question.topic}', not '{topic}'; import each topic's rows by themselves")
        level, kind = question.difficulty or difficulty, question.type or type_
        if level is None or kind is None:
            raise Fault(f"{at}: no difficulty or type; add the columns, or say --difficulty and --type for all rows")
        for section, key in (("difficulties", level), ("types", kind)):
            if key not in known[section]:
                raise Fault(f"{at}: '{key}' is none of the {section} {', '.join(known[section])}; name one, or add it")
        what = hashlib.sha256("\0".join((topic, level, kind, question.content)).encode()).digest()
        id_ = question.id or _made(what, copies, taken)
        if where := f"line {seen[id_]}" if id_ in seen else taken.get(id_):
            raise Fault(f"{at}: id '{id_}' is that of {where} too; give every row its own, or none")
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


def _made(what: bytes, copies: Counter[bytes], taken: Mapping[str, str]) -> str:
    """Return an id for the next copy of the same question that no other import has."""
    while True:
        id_ = hashlib.sha256(what + str(copies[what]).encode()).hexdigest()[:16]
        copies[what] += 1
        if id_ not in taken:
            return id_


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("topic")
@click.option("--difficulty", help="For rows that name none; a key of params.yaml.")
@click.option("--type", "type_", help="For rows that name none; a key of params.yaml.")
def main(file: Path, topic: str, difficulty: str | None, type_: str | None) -> None:
    """Bring your own TSV, CSV, JSONL or Parquet questions into the pipeline.

    TOPIC must be one of params.yaml, where `samples: 0` asks no teacher for it. The questions go to curate/imported, in
    place of those of an earlier import of the same file name into the topic; `dvc repro` takes them from there.
    """
    if file.suffix.lower() not in FORMS:
        raise Fault(f"{file}: none of {', '.join(FORMS)}; name it by what it is")
    known = {section: load(section, dict[str, Wording]) for section in ("difficulties", "types")}
    for section, key, keys in (
        ("topics", topic, topics()),
        ("difficulties", difficulty, known["difficulties"]),
        ("types", type_, known["types"]),
    ):
        if key is not None and key not in keys:
            raise Fault(f"params.yaml: {section}.{key}: not there; add it, or name one of {', '.join(keys)}")
    out = PLACE / f"{topic}.{file.stem}.jsonl"
    instead = f", in place of {len(ids([out])):,} there" if out.exists() else ""
    taken = ids(path for path in PLACE.glob("*.jsonl") if path != out)
    count = rows.write(out, responses(file, topic, difficulty, type_, known, taken))
    click.echo(f"import: {count:,} questions of {topic} in {out}{instead}")


def _escape(text: str) -> str:
    # A carriage return as it is would be read as a line feed.
    return escape(text, {"\r": "&#13;"})


PLACE = Path("curate/imported")
MARKUP = re.compile(r"<(?:think|reasoning|step|reflection|adjustment|output)[ >]")

DIGITS = "零一二三四五六七八九"
CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳"
_CHINESE = "(?:[一二三四五六七八九]?十[一二三四五六七八九]?|[一二三四五六七八九])"
# What a number that counts stands after: a break, or the end of a sentence. 3.14, 2015年 and 前两步 count nothing.
_LEAD = r"(?:^|(?<=[\s。；;.!！?？:：]))"
NUMBERED = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_LEAD}步骤\s*(?P<n>\d{{1,2}}|{_CHINESE})",
        rf"{_LEAD}第\s*(?P<n>\d{{1,2}}|{_CHINESE})\s*步",
        rf"{_LEAD}[Ss]tep\s*(?P<n>\d{{1,2}})",
        rf"{_LEAD}(?P<n>\d{{1,2}})\s*[.．、:：)）](?!\d)",
        rf"{_LEAD}[（(](?P<n>\d{{1,2}}|{_CHINESE})[)）]",
        rf"{_LEAD}(?P<n>{_CHINESE})、",
        rf"(?P<n>[{CIRCLED}])",
    )
)

FORMS: dict[str, Any] = {
    ".tsv": lambda path: import_table(path, "\t"),
    ".csv": lambda path: import_table(path, ","),
    ".jsonl": import_jsonl,
    ".parquet": import_parquet,
}

if __name__ == "__main__":
    main()
